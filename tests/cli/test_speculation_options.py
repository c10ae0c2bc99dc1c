"""Speculation on the command line: what is refused in two lines, and the block in every format."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.test_bad_input import said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--draft-tokens 2 --acceptance 1.5", "--acceptance 1.5"),
        ("--draft-tokens 2 --acceptance nan", "--acceptance nan"),
        ("--draft-tokens 2 --acceptance 101%", "--acceptance 101% must be from 0 to 1, or 0% to 100%"),
        ("--draft-tokens 0", "--draft-tokens 0"),
        ("--draft-tokens 2 --accept-length 4", "--accept-length 4 is more than 3"),
        ("--acceptance 0.5", "nothing is drafted"),
        ("--draft-tokens 3 -- --speculative-algorithm NEXTN --speculative-num-steps 1", "contradict"),
    ],
)
def test_two_lines_on_the_screen(run: Run, options: str, words: str) -> None:
    what, _ = said(
        run("estimate", "deepseek-v3", "--gpu", "8xh200", "--engine", "sglang", "--offline", *options.split())
    )
    assert words in what


def test_a_number_that_was_meant_as_per_cent_is_said_so(run: Run) -> None:
    _, hint = said(run("estimate", "deepseek-v3", "--gpu", "8xh200", "--draft-tokens", "2", "--acceptance", "80"))
    assert "did you mean 80%?" in hint


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_block_is_on_the_screen(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    options = "--gpu 8xh200 --context 8k --concurrency 16 --draft-tokens 2 --acceptance 0.8 --offline"
    out = run("estimate", "deepseek-v3", *options.split()).out
    block = out[out.index("speculation: 2 tokens drafted") :]
    for words in (
        "step that verifies",
        "steps of decode",
        "pays from",
        "16 (asked)",
        "under this load",
        "without drafts",
    ):
        assert words in block
    assert max(map(len, out.splitlines())) <= columns


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_where_the_cache_ends_is_told_on_any_screen(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    options = "--gpu 8xh200 --context 32k --concurrency 16 --draft-tokens 2 --offline"
    for more in ("", "--acceptance 0.8"):
        out = run("estimate", "deepseek-v3", *options.split(), *more.split()).out
        rows = [line for line in out[out.index("speculation: ") :].splitlines() if line.startswith("1,024")]
        assert [line.endswith("no room") for line in rows] == [True]
        assert max(map(len, out.splitlines())) <= columns


def test_markdown_and_json_say_the_same(run: Run) -> None:
    options = "--gpu 8xh200 --context 8k --draft-tokens 2 --offline --format"
    written = json.loads(run("estimate", "deepseek-v3", *options.split(), "json").out)["speed"]["speculation"]
    page = run("estimate", "deepseek-v3", *options.split(), "markdown").out
    assert "### Speculation" in page
    assert written["why"] in page
    assert f"| {written['over_concurrency'][-1]['break_even_acceptance']:.2f} |" in page
    assert written["under_load"] is None
    options = "--gpu 8xh200 --context 8k --draft-tokens 2 --acceptance 0.8 --offline --format"
    written = json.loads(run("estimate", "deepseek-v3", *options.split(), "json").out)["speed"]["speculation"]
    page = run("estimate", "deepseek-v3", *options.split(), "markdown").out
    assert written["band_covers"] in page
    assert f"| {written['under_load']['output_tokens_per_s']['value']:.2f} x |" in page
