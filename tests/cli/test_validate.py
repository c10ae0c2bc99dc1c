"""`moeplan validate` on the command line: exit codes, streams, and logs that are not what they should be."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_layouts import said
from tests.report.test_validate_report import LOG


@pytest.fixture
def log(folder: Path) -> Path:
    path = folder / "vllm.log"
    path.write_text(LOG, encoding="utf-8")
    return path


WORDS = ("validate", "--gpu", "h100", "--offline")


def test_agreement_is_0_and_disagreement_1(run: Run, log: Path) -> None:
    assert run(*WORDS, "--log", str(log)).code == 0
    log.write_text(LOG.replace("56.88", "70.00"), encoding="utf-8")
    outcome = run(*WORDS, "--log", str(log))
    assert outcome.code == 1
    assert "BEYOND 5%" in outcome.out
    assert run(*WORDS, "--log", str(log), "--tolerance", "30%").code == 0
    assert run(*WORDS, "--log", str(log), "--tolerance", "0.3").code == 0


def test_json_and_markdown(run: Run, log: Path) -> None:
    found = json.loads(run(*WORDS, "--log", str(log), "--json").out)
    assert found["passed"] is True
    assert found["log"]["name"] == "vllm.log"
    assert run(*WORDS, "--log", str(log), "--format", "markdown").out.startswith("## vllm.log")


def test_a_log_on_standard_input(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(LOG))
    outcome = run(*WORDS, "--log", "-")
    assert outcome.code == 0
    assert outcome.out.startswith("standard input\n")


def test_what_is_missing_is_3_and_what_is_wrong_2(run: Run, log: Path, folder: Path) -> None:
    assert "which GPU" in said(run("validate", "--log", str(log), "--offline"), 3)[0]
    log.write_text(LOG.replace("'model': 'Qwen/Qwen3-30B-A3B', ", ""), encoding="utf-8")
    assert "which model" in said(run(*WORDS, "--log", str(log)), 3)[0]
    assert "--log FILE" in said(run(*WORDS))[0]
    assert "no-such.log" in said(run(*WORDS, "--log", "no-such.log"))[0]
    assert "five" in said(run(*WORDS, "--log", str(log), "--tolerance", "five"))[0]
    said(run(*WORDS, "--log", str(folder)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Traceback (most recent call last):\n  File x\nValueError: no\n",
        b"2026-01-01 nginx started\n" * 100,
        bytes(range(256)) * 400,
        b"\xff\xfe\x00\x00",
    ],
    ids=["empty", "another failure", "another program", "binary", "a mark alone"],
)
def test_a_log_of_another_program_is_one_line_and_a_way_out(content: bytes, run: Run, folder: Path) -> None:
    (folder / "other.log").write_bytes(content)
    what, _ = said(run(*WORDS, "mixtral", "--log", "other.log"))
    assert "other.log" in what


def test_a_cut_log_is_judged_as_far_as_it_goes(run: Run, log: Path) -> None:
    log.write_text("\n".join(LOG.splitlines()[:3]) + "\n", encoding="utf-8")
    outcome = run(*WORDS, "--log", str(log))
    assert outcome.code == 0
    assert "weights" in outcome.out
    assert "1 figure judged" in outcome.out


def test_learning_says_where_it_is_kept(run: Run, log: Path, folder: Path) -> None:
    (folder / "own").mkdir()
    outcome = run(*WORDS, "--log", str(log), "--learn", "my-h100", "--profiles", str(folder / "own"))
    assert outcome.code == 0
    assert "my-h100.yaml" in outcome.out
    assert (folder / "own" / "hardware" / "my-h100.yaml").exists()
    again = run("estimate", "qwen3-30b-a3b", "--gpu", "my-h100", "--profiles", str(folder / "own"), "--offline")
    assert "measured here beyond all this" in again.out


def test_flags_behind_the_dashes_are_the_engines(run: Run, log: Path) -> None:
    found = json.loads(run(*WORDS, "--log", str(log), "--json", "--", "--max-num-seqs", "16").out)
    assert found["command"].endswith("--max-num-seqs 16")
