"""Options of a load on the command line: what they print, what they refuse, and what they do to the exit code."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run

GPU = ["estimate", "mixtral", "--gpu", "4xh100-sxm", "--context", "8192"]
FITS_TIGHT = ["--concurrency", "8", "--input", "1000", "--output", "200"]


def speed_of(out: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(out)["speed"]
    return found


def test_concurrency_alone_asks_for_speed_and_context_alone_does_not(run: Run) -> None:
    assert speed_of(run(*GPU, "--concurrency", "8", "--json").out)
    assert speed_of(run(*GPU, "--json").out) is None
    assert speed_of(run(*GPU, "--speed", "--json").out)
    assert "first token" not in run(*GPU).out


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_the_figures_the_limits_and_the_parts_are_shown(run: Run, form: str) -> None:
    words = [*GPU, *FITS_TIGHT, "--ttft", "5s", "--tpot", "1ms", "--arrival", "1/min", "--format", form]
    out = run(*words).out
    for text in (
        "time to first token",
        "tokens/s per GPU",
        "5.00 s kept",
        "1.00 ms MISSED",
        "come in, kept",
        "binds:",
        "(asked)",
    ):
        assert text in out, text
    assert "decode step" not in out
    explained = run(*words, "--explain").out
    for text in ("decode step", "prefill step", "experts", "collectives", "one step takes at most"):
        assert text in explained, text


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_figure_is_cut_on_a_narrow_page(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = run(*GPU, *FITS_TIGHT, "--ttft", "5s", "--explain").out
    rows = out.partition("in flight")[2].splitlines()
    table = [row for row in out.splitlines() if " ms " in row or row.startswith(("8 (asked)", "time ", "tokens/s"))]
    assert rows
    assert len(table) > 4
    assert not any("…" in row for row in table)
    assert max(map(len, out.splitlines())) <= columns


def test_what_does_not_fit_has_the_speed_that_it_would_have(run: Run) -> None:
    out = run("estimate", "mixtral", "--gpu", "2xh100-sxm", "--concurrency", "2000").out
    assert "DOES NOT FIT" in out
    assert "Speed, if it fitted" in out
    assert "no room" in out


def test_output_is_a_length_or_a_file_and_dash_o_is_a_file(run: Run) -> None:
    assert speed_of(run(*GPU, "--output", "200", "--json").out)["load"]["output_tokens"] == 200  # type: ignore[index]
    for words in (["--output", "answer.json"], ["-o", "answer.json"], ["--output", "1k", "--output", "answer.json"]):
        done = run(*GPU, "--json", *words)
        assert (done.code, done.out) == (0, "")
    both = run(*GPU, "--json", "--output", "1k", "-o", "1024")
    assert (both.code, both.out) == (0, "")
    assert run(*GPU, "--json", "--output", "-").out.startswith("{")
    assert run(*GPU, "--output", "a.json", "-o", "b.json").code == 2
    assert run(*GPU, "--output", "1k", "--output", "2k").code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--input", "0"], "--input '0'"), (["--input", "many"], "--input 'many'"), (["--output", "0"], "--output '0'"),
        (["--output", "5x"], "--output '5x'"), (["--output", "1e12"], "--output"), (["--input", "40k"], "--input 40k"),
        (["--ttft", "0"], "--ttft '0'"), (["--ttft", "fast"], "--ttft 'fast'"), (["--tpot", "-30ms"], "--tpot '-30ms'"),
        (["--tpot", "2h"], "--tpot '2h'"), (["--arrival", "12/day"], "--arrival '12/day'"),
        (["--input", "8k", "--output", "1k"], "more than --context 8,192"), (["--workload", "none.yaml"], "none.yaml cannot be read"),
        (["--concurrency", "0"], "--concurrency '0'"),
    ],
)  # fmt: skip
def test_wrong_values_are_one_line_and_a_way_out(run: Run, words: list[str], said: str) -> None:
    done = run(*GPU, *words)
    assert (done.code, done.out) == (2, "")
    problem, hint = done.err.splitlines()
    assert said in problem
    assert hint.strip()


def test_require_fit_takes_a_missed_limit_as_a_finding(run: Run) -> None:
    assert run(*GPU, *FITS_TIGHT, "--ttft", "5s", "--require-fit", "--quiet").code == 0
    assert run(*GPU, *FITS_TIGHT, "--tpot", "1us", "--require-fit", "--quiet").code == 1
    assert run(*GPU, *FITS_TIGHT, "--tpot", "1us", "--quiet").code == 0
    assert run(*GPU, *FITS_TIGHT, "--arrival", "9000/s", "--require-fit", "--quiet").code == 1


def test_require_fit_with_a_limit_that_cannot_be_judged_could_not_find_out(run: Run) -> None:
    words = [*GPU, "--engine", "transformers", "--gpu", "h200", "--quant", "fp8", "--require-fit", "--quiet"]
    known = run(*words, "--speed").code
    assert known == 0
    assert run(*words, "--ttft", "2s").code == 3
