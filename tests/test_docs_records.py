"""`docs/records.md` and `examples/records` are held against the code: records made again, names and constants looked up.

`tests/test_docs_commands.py` runs the page's commands and compares what they show. `UPDATE_GOLDEN=1 python -m pytest
tests/test_docs_records.py` writes the example records, which say moeplan's version and hold its estimates.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from moeplan import cli
from moeplan.core.record import Record
from moeplan.core.record_figures import FIGURES, LOWER_IS_BETTER, STATISTICS, TIMES
from moeplan.records.diff import DEFAULT_TOLERANCE
from moeplan.sources.records import read_record
from tests.docs_blocks import ROOT, blocks, commands

PAGE = ROOT / "docs" / "records.md"
EXAMPLES = ROOT / "examples" / "records"
MADE = {"before.json": "synthetic-bf16.json", "after.json": "synthetic-fp8.json"}
"""What the page's commands write, and the example that is the same."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_examples_are_what_the_commands_of_the_page_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "records")
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE):
        for command in commands(block) if block.language == "sh" else ():
            if command.words[1] not in ("diff", "show"):
                assert cli._run(list(command.words)) == 0, capsys.readouterr().err
    for name, example in MADE.items():
        made = (tmp_path / name).read_text(encoding="utf-8")
        if os.environ.get("UPDATE_GOLDEN"):
            (EXAMPLES / example).write_text(made, encoding="utf-8")
        assert made == (EXAMPLES / example).read_text(encoding="utf-8"), example
        assert read_record(EXAMPLES / example).schema == "moeplan.record/1"


def test_results_of_the_examples_say_that_they_are_made_up() -> None:
    results = sorted(EXAMPLES.glob("*.result.json"))
    assert len(results) == len(MADE)
    for path in results:
        assert path.name.startswith("synthetic-")
        assert "made up" in json.loads(path.read_text(encoding="utf-8"))["note"]


def test_the_page_names_every_figure_part_and_option() -> None:
    page = text()
    times = {f"{time}_{statistic}_s" for time in TIMES for statistic in STATISTICS}
    assert all(f"`_{statistic}_s`" in page for statistic in STATISTICS)
    for name in (*TIMES, *(FIGURES.keys() - times), *LOWER_IS_BETTER):
        assert f"`{name}`" in page, name
    for part in Record._fields:
        assert f"`{part}`" in page or part == "schema", part


def test_the_tolerance_and_the_sum_are_those_of_the_code() -> None:
    page = text()
    assert f"`--tolerance` ({DEFAULT_TOLERANCE * 100:g} %)" in page
    hourly, rate, shown = re.findall(r"([\d.]+) / \(([\d,]+) x 3600\) x 10\^6 = ([\d.]+) USD", page)[0]
    assert float(hourly) / (float(rate.replace(",", "")) * 3600) * 1e6 == pytest.approx(float(shown), abs=0.005)
    made = read_record(EXAMPLES / MADE["before.json"])
    told = {figure.name: figure.value for figure in made.measured.figures}
    assert f"{told['usd_per_million_output_tokens']:.2f}" == shown
