"""`moeplan validate` on the command line: exit codes, streams, and logs that are not what they should be."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
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
    assert "name of the log is empty" in said(run(*WORDS, "--log", ""))[0]


def test_a_tolerance_in_per_cent_without_the_sign_is_asked_about(run: Run, log: Path) -> None:
    what, hint = said(run(*WORDS, "--log", str(log), "--tolerance", "5"))
    assert "--tolerance 5" in what
    assert hint.startswith("did you mean 5%?")
    for wrong in ("0", "100%", "150", "-5%", "nan"):
        assert "did you mean" not in said(run(*WORDS, "--log", str(log), "--tolerance", wrong))[1]


def test_empty_input_is_told_alike_from_a_file_and_a_pipe(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "empty.log").write_bytes(b"")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    file, pipe = said(run(*WORDS, "--log", "empty.log")), said(run(*WORDS, "--log", "-"))
    assert file == ("empty.log: the log is empty", pipe[1])
    assert pipe[0] == "standard input: the log is empty"


def test_a_path_of_another_machine_is_3_with_the_command_to_type(run: Run, log: Path) -> None:
    log.write_text(LOG.replace("Qwen/Qwen3-30B-A3B", "/data/models/Qwen3-30B-A3B-FP8"), encoding="utf-8")
    what, hint = said(run(*WORDS, "--log", str(log)), 3)
    assert "/data/models/Qwen3-30B-A3B-FP8" in what
    assert f"moeplan validate qwen3-30b-a3b-fp8 --log {log}" in hint


def test_an_interrupt_says_that_nothing_is_kept(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Iterator[str]:
        yield LOG
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", interrupted())
    assert said(run(*WORDS, "--log", "-"), 130)[1] == "nothing was written; run it again"


def test_a_failed_start_that_was_not_foreseen_is_1(run: Run, log: Path) -> None:
    head = "".join(LOG.splitlines(keepends=True)[:2])
    oom = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 79.19 GiB\n"
    log.write_text(head + oom, encoding="utf-8")
    outcome = run(*WORDS, "--log", str(log))
    assert outcome.code == 1
    assert "CONTRADICTS: the engine did not start" in outcome.out
    assert run("validate", "--gpu", "l4", "--offline", "--log", str(log)).code == 0


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
    assert "learned from logs on this machine" in again.out
    for words in (("--color", "never"), ("--format", "markdown")):
        shown = run("gpus", "my-h100", "--profiles", str(folder / "own"), *words).out
        assert "vllm 0.19.0, TP 1: holds" in shown
        assert "Qwen/Qwen3-30B-A3B" in shown
        assert "to undo one" in shown
        assert "my-h100.yaml" in shown


def test_a_built_in_card_is_never_learned_into(run: Run, log: Path, folder: Path) -> None:
    (folder / "own").mkdir()
    for name in ("h100", "a100", "nvidia-h100-sxm"):
        what, hint = said(run(*WORDS, "--log", str(log), "--learn", name, "--profiles", str(folder / "own")))
        assert "built-in profile" in what
        assert f"my-{name}" in hint
    assert not list((folder / "own").rglob("*"))


def test_what_is_not_learned_says_why(run: Run, log: Path, folder: Path) -> None:
    (folder / "own").mkdir()
    words = (*WORDS, "--log", str(log), "--learn", "my-h100", "--profiles", str(folder / "own"))
    assert "learned: " in run(*words).out
    again = run(*words)
    assert again.code == 0
    assert "nothing was learned: my-h100 knows" in again.out


def test_flags_behind_the_dashes_are_the_engines(run: Run, log: Path) -> None:
    found = json.loads(run(*WORDS, "--log", str(log), "--json", "--", "--max-num-seqs", "16").out)
    assert found["command"].endswith("--max-num-seqs 16")
