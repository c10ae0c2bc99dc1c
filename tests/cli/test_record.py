"""`moeplan record`: the short form, the file and the screen, exit codes, and errors in two lines."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import moeplan
from moeplan.cli.estimate import estimate
from moeplan.cli.record import NO_ESTIMATE_OPTION, make
from moeplan.sources.records import read_record
from tests.cli.conftest import Run
from tests.cli.test_bad_input import said
from tests.records.result_files import VLLM, written

LOAD = ("--gpu", "2xh100", "--concurrency", "16", "--context", "8k", "--input", "2k", "--output", "500")
ASKED = ("qwen3-30b-a3b", *LOAD, "--date", "2026-11-22")


def test_the_file_is_the_record_and_the_screen_shows_it(run: Run, folder: Path) -> None:
    written(folder, "result.json", VLLM)
    done = run(
        "record", *ASKED, "--measured", "result.json", "--quality", "mmlu=0.7", "-o", "r.json", "--", "--enforce-eager"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Qwen/Qwen3-30B-A3B\n")
    kept = read_record(folder / "r.json")
    assert {option.flag for option in kept.engine.options} >= {"--enforce-eager"}
    again = run(
        "record",
        "make",
        *ASKED,
        "--measured",
        "result.json",
        "--quality",
        "mmlu=0.7",
        "--json",
        "--",
        "--enforce-eager",
    )
    assert again.out == (folder / "r.json").read_text(encoding="utf-8")
    shown = run("record", "show", "r.json")
    assert (shown.code, shown.out) == (0, done.out)
    assert run("record", "show", "r.json", "--json").out == again.out


def test_options_may_stand_before_the_model_and_the_screen_is_a_file_too(run: Run, folder: Path) -> None:
    first = run("record", *LOAD, "--date", "2026-11-22", "qwen3-30b-a3b", "-o", "-")
    assert json.loads(first.out)["schema"] == "moeplan.record/1"
    assert run("record", *ASKED, "--quiet").out == ""
    assert run("record", *ASKED, "--format", "markdown").out.startswith("## Qwen/Qwen3-30B-A3B\n")


def test_exit_codes_of_a_comparison(run: Run, folder: Path) -> None:
    def keep(name: str, *words: str) -> None:
        assert run("record", *ASKED, *words, "-o", name, "--quiet").code == 0

    keep("a.json", "--set", "ttft_p95=160ms", "--set", "ttft_mean=150ms")
    keep("worse.json", "--set", "ttft_p95=180ms", "--set", "ttft_mean=120ms")
    keep("bare.json")
    for after, code in (("a.json", 0), ("worse.json", 1), ("bare.json", 3)):
        done = run("record", "diff", "a.json", after)
        assert (done.code, done.err) == (code, ""), after
        assert run("record", "diff", "a.json", after, "--quiet")[:2] == (code, "")
    assert run("record", "diff", "a.json", "worse.json", "--tolerance", "15%").code == 0
    done = run("record", "diff", "a.json", "worse.json", "--json", "-o", "diff.json")
    assert (done.code, done.out) == (1, "")
    assert json.loads((folder / "diff.json").read_text(encoding="utf-8"))["passed"] is False
    assert "although the mean improves" in run("record", "diff", "a.json", "worse.json", "--format", "markdown").out


def test_nothing_is_written_where_anything_is_wrong(run: Run, folder: Path) -> None:
    (folder / "other.json").write_text("{}", encoding="utf-8")
    (folder / "kept.json").write_text("kept", encoding="utf-8")
    for words in (
        ("--measured", "other.json"), ("--measured", "nowhere.json"), ("--set", "ttft_p95"), ("--quality", "mmlu=good"),
        ("--date", "tomorrow"), ("--log", "other.json"), ("--driver", " "), ("--set", "usd_per_hour=-1"), ("--color", "red"),
    ):  # fmt: skip
        said(run("record", *ASKED, *words, "-o", "kept.json"))
        assert (folder / "kept.json").read_text(encoding="utf-8") == "kept"
    said(run("record", *ASKED, "-o", "nowhere/r.json"))


def test_what_is_no_record_is_refused_in_two_lines(run: Run, folder: Path) -> None:
    run("record", *ASKED, "-o", "r.json", "--quiet")
    run("estimate", "qwen3-30b-a3b", "--json", "-o", "estimate.json")
    (folder / "cut.json").write_text((folder / "r.json").read_text(encoding="utf-8")[:999], encoding="utf-8")
    later = (folder / "r.json").read_text(encoding="utf-8").replace("moeplan.record/1", "moeplan.record/2")
    (folder / "later.json").write_text(later, encoding="utf-8")
    for name, told in (
        ("estimate.json", "moeplan.estimate/1"), ("cut.json", "not valid JSON"), ("later.json", "moeplan.record/2"),
        ("none.json", "cannot be read"), (".", "no record"),
    ):  # fmt: skip
        for words in (("diff", name, "r.json"), ("diff", "r.json", name), ("show", name)):
            what, _ = said(run("record", *words))
            assert told in what, what


def test_a_tolerance_of_nothing_is_one(run: Run, folder: Path) -> None:
    run("record", *ASKED, "--set", "ttft_p95=160ms", "-o", "a.json", "--quiet")
    run("record", *ASKED, "--set", "ttft_p95=161ms", "-o", "b.json", "--quiet")
    assert run("record", "diff", "a.json", "b.json", "--quiet").code == 0
    for nothing in ("0", "0%", "0.0", "0.0%", " 0 %"):
        assert run("record", "diff", "a.json", "b.json", "--quiet", "--tolerance", nothing).code == 1, nothing
    for none in ("-1", "nan", "", ".", "0.0.0", "%", "100%"):
        said(run("record", "diff", "a.json", "b.json", "--tolerance", none))


def test_what_is_read_is_not_written_over(run: Run, folder: Path) -> None:
    result = written(folder, "result.json", VLLM)
    before = result.read_text(encoding="utf-8")
    (folder / "link.json").symlink_to(result)
    for output in ("result.json", "./result.json", str(result), "link.json"):
        what, _ = said(run("record", *ASKED, "--measured", "result.json", "-o", output))
        assert "would write over a file that is read" in what
    assert result.read_text(encoding="utf-8") == before
    run("record", *ASKED, "-o", "a.json", "--quiet")
    said(run("record", "diff", "a.json", "a.json", "-o", "a.json"))
    said(run("record", "show", "a.json", "-o", "a.json"))
    assert run("record", "show", "a.json").code == 0


def test_a_model_that_is_called_like_a_command(run: Run, folder: Path) -> None:
    from tests.golden.configs import MIXTRAL

    for name in ("diff", "make", "show"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
        for words in ((f"./{name}",), ("make", name)):
            done = run("record", *words, "--date", "2026-11-22", "--json")
            assert (done.code, json.loads(done.out)["model"]["id"]) == (0, name)
        what, _ = said(run("record", name))
        assert "needs" in what


def test_usage(run: Run, folder: Path) -> None:
    what, _ = said(run("record", "--gpu", "h100"))
    assert what == "error: moeplan record needs MODEL"
    what, _ = said(run("record", "diff", "a.json"))
    assert what == "error: moeplan record diff needs B"
    what, way_out = said(run("record", "mixtral-8x7b", "--tensor-parallel-size", "2"))
    assert "--tensor-parallel-size" in what
    assert "behind `--`" in way_out
    what, _ = said(run("record", "diff", "a.json", "b.json", "--tolerance", "5"))
    assert "--tolerance" in what
    assert run("record").code == 2
    assert "make" in run("record", "--help").out


@pytest.mark.parametrize(
    "name", [name for name in inspect.signature(estimate).parameters if name not in NO_ESTIMATE_OPTION]
)
def test_records_take_every_option_of_estimate(name: str) -> None:
    assert name in inspect.signature(make).parameters
    # What the command line hands on, the verb of estimate takes by the same name.
    if name not in ("context_of_call", "output_file"):
        assert name in inspect.signature(moeplan.estimate).parameters
