"""`moeplan compare` as a user sees it: tables of every width, Markdown, JSON held to its schema, golden outputs, errors.

To write the golden files anew after a wanted change: `UPDATE_GOLDEN=1 python -m pytest tests/compare/test_compare_output.py`,
and read the difference before you commit it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import moeplan
from moeplan import cli
from moeplan.compare import result
from moeplan.compare.told import ratio_words
from moeplan.core.hardware import Price
from moeplan.report.as_json import as_json
from moeplan.report.compare_html import compare_html
from moeplan.report.compare_markdown import compare_markdown
from moeplan.report.compare_table import compare_table
from moeplan.report.compare_words import sections
from tests.report.read_pages import read
from tests.report.schemas import Schema, changed, without

GOLDEN = Path(__file__).resolve().parent / "golden"
SCHEMA = Schema("compare")
TWO = ["mixtral-8x7b", "llama-3.1-70b-instruct", "--gpu", "h100-sxm", "--concurrency", "64", "--context", "8k"]
FOUR = ["qwen3-30b-a3b", "qwen3-30b-a3b:fp8", "qwen3-8b", "deepseek-v3", "--concurrency", "64", "--context", "8k"]
OUTPUTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "two-pipe.txt": (TWO, {}),
    "two-60-columns.txt": (TWO, {"COLUMNS": "60"}),
    "two.md": ([*TWO, "--format", "markdown"], {}),
    "four-no-gpu.txt": (FOUR, {}),
    "four-no-gpu-80-columns.txt": (FOUR, {"COLUMNS": "80"}),
}
QUESTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "no GPU": (["mixtral-8x7b", "qwen3-8b"], {}),
    "a GPU": (["mixtral-8x7b", "llama-3.1-70b-instruct"], {"gpu": "h100-sxm", "concurrency": 64, "context": "8k"}),
    "one that does not fit": (["deepseek-v3", "qwen3-8b"], {"gpu": "2xl40s", "kv_dtype": "fp8"}),
    "refused by the engine": (["switch-base-8", "qwen3-8b"], {"gpu": "l4", "context": 512}),
    "formats": (["qwen3-30b-a3b", "qwen3-30b-a3b:nvfp4", "qwen3-8b"], {"gpu": "b200", "engine": "sglang"}),
    "memory not known to the byte": (["qwen3-8b", "qwen3-14b"], {"gpu": "intel-gaudi3"}),
}

Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `moeplan compare --offline` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def go(*words: str, **environment: str) -> Said:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = cli._run(["compare", *words, "--offline"])
        return code, *capsys.readouterr()

    return go


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_the_golden_one(name: str, run: Run) -> None:
    words, environment = OUTPUTS[name]
    code, out, err = run(*words, **environment)
    assert (code, err) == (0, "")
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(out, encoding="utf-8")
    assert out == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_golden_file_has_its_command() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(OUTPUTS)


# Looks -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers() -> dict[str, result.Comparison]:
    return {name: moeplan.compare(models, offline=True, **asked) for name, (models, asked) in QUESTIONS.items()}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_page_and_no_figure_is_cut(
    name: str, width: int, answers: dict[str, result.Comparison]
) -> None:
    found = answers[name]
    text = compare_table(found, width=width, color=False, unicode=True)
    assert max(map(len, text.splitlines())) <= width
    for model in found.models:
        assert f"{model.vocabulary:,}" in text
    assert compare_table(found, width=width, color=False, unicode=False).isascii()


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_has_a_page_with_all_figures(name: str, answers: dict[str, result.Comparison]) -> None:
    found = answers[name]
    page = read(compare_html(found))
    assert page.told == json.loads(as_json(found))
    for section in sections(found):
        rows = page.tables[section.title or "the models"]
        assert [row[0] for row in rows] == [line.label for line in section.lines]
        for row, line in zip(rows, section.lines, strict=True):
            assert [cell.removeprefix("* ") for cell in row[1:]] == list(line.cells)
            assert [place for place, cell in enumerate(row[1:]) if cell.startswith("* ")] == list(line.marked)
    reads = next(marks for title, marks in page.charts.items() if title.startswith("Bytes that a step reads"))
    assert len(reads) == len(found.models) * len(found.request.batches)
    speeds = [model for model in found.models if model.speed is not None]
    assert len(page.charts.get("Time per further token", [])) == len(speeds)


def test_a_turn_is_drawn_where_it_lies_among_the_batches() -> None:
    found = moeplan.compare(["qwen3-30b-a3b", "qwen3-8b"], concurrency=8, context=1024, offline=True)
    (pair,) = found.pairs
    assert 1 < pair.turns[0].batch < 256
    # At longer sequences the order turns twice: a chart with the first turn alone would be wrong beyond the second.
    twice = (*pair.turns[:1], pair.turns[0]._replace(batch=100, less=1 - pair.turns[0].less))
    page = compare_html(found._replace(pairs=(pair._replace(turns=twice),)))
    for turn in twice:
        assert f">from {turn.batch:,} on {found.models[turn.less].label} reads less<" in page
    still = found._replace(pairs=(pair._replace(turns=()),))
    assert f"from {pair.turns[0].batch:,} on" not in compare_html(still)


def test_a_model_without_a_speed_is_not_told_of_among_speeds(answers: dict[str, result.Comparison]) -> None:
    found = answers["a GPU"]
    first, second = found.models
    page = read(compare_html(found._replace(models=(first, second._replace(speed=None)))))
    told = re.search(r"each on the fewest GPUs that hold it \(([^)]*)\)", page.words)
    assert told is not None
    assert told[1].startswith(f"{first.label} ")
    assert second.label not in told[1]


def test_a_small_ratio_is_no_zero() -> None:
    assert [ratio_words(ratio) for ratio in (3.24, 1.0, 0.66, 0.0036)] == [
        "3.2 times", "1.00 times", "0.66 times", "0.0036 times",
    ]  # fmt: skip


def test_no_two_of_many_models_share_their_mark_and_round_figures_are_named() -> None:
    found = moeplan.compare(["qwen3-30b-a3b", "qwen3-8b"], concurrency=8, context=1024, offline=True)
    many = tuple(found.models[place % 2]._replace(label=f"model {place}") for place in range(10))
    page = compare_html(found._replace(models=many, pairs=()))
    marks = re.findall(r'aria-label="(model \d), batch [^>]* d="([^"]*)" fill="([^"]*)"', page)
    assert {name for name, *_ in marks} == {model.label for model in many}
    assert len({tuple(look) for _, *look in marks}) == len(many)
    drawn = page[page.index("<svg") : page.index("</svg>")]
    assert {"2", "5", "10"} <= set(re.findall(r">([\d.,]+)</text>", drawn))


@pytest.mark.parametrize(("count", "width", "beside"), [(2, 80, True), (4, 100, True), (4, 80, False), (2, 40, False)])
def test_models_are_columns_where_there_is_room(count: int, width: int, beside: bool) -> None:
    models = ["qwen3-30b-a3b", "qwen3-30b-a3b:fp8", "qwen3-8b", "qwen3-32b"][:count]
    found = moeplan.compare(models, gpu="h100-sxm", concurrency=64, context="8k", offline=True)
    lines = compare_table(found, width=width, color=False, unicode=True).splitlines()
    (vocabulary,) = (number for number, line in enumerate(lines) if line.startswith("vocabulary"))
    assert lines[vocabulary].count("151,936") == (count if beside else 0)
    if not beside:
        assert sum("151,936" in line for line in lines[vocabulary + 1 : vocabulary + 1 + count]) == count


def test_colour_repeats_the_marks_and_no_more(answers: dict[str, result.Comparison]) -> None:
    found = answers["a GPU"]
    plain = compare_table(found, width=100, color=False, unicode=True)
    coloured = compare_table(found, width=100, color=True, unicode=True)
    import re

    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == plain.splitlines()


def test_names_from_outside_stay_in_their_place(answers: dict[str, result.Comparison]) -> None:
    found = answers["no GPU"]
    bad = found.models[0]._replace(label="evil\x1b[31m|\n<b>`x`", license="<script>")
    text = compare_table(found._replace(models=(bad, found.models[1])), width=100, color=False, unicode=True)
    assert "\x1b" not in text
    page = compare_markdown(found._replace(models=(bad, found.models[1])))
    assert "<b>" not in page
    assert "<script>" not in page
    assert len({line.count("|") - line.count("\\|") for line in page.splitlines() if line.startswith("|")}) == 1


def test_unknown_figures_are_dashes_with_their_reason(answers: dict[str, result.Comparison]) -> None:
    text = compare_table(answers["one that does not fit"], width=100, color=False, unicode=True)
    assert "none up to 2" in text
    assert "DeepSeek-V3: does not fit on 1, 2 GPUs" in text
    refused = compare_table(answers["refused by the engine"], width=100, color=False, unicode=True)
    assert "switch-base-8: would not start" in refused
    assert "refused" in refused


def test_what_no_model_has_takes_no_line(answers: dict[str, result.Comparison]) -> None:
    text = compare_table(answers["memory not known to the byte"], width=100, color=False, unicode=True)
    assert "USD" not in text.replace("prices", "")
    assert "cost is not known: the profile intel-gaudi3 states no price" in text
    assert compare_table(answers["no GPU"], width=100, color=False, unicode=True).count("tokens/s per") == 0


# JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUESTIONS)
def test_json_fits_its_schema(name: str, answers: dict[str, result.Comparison]) -> None:
    assert SCHEMA.complaints(as_json(answers[name])) == []


RECORDS: dict[tuple[str, ...], type[NamedTuple]] = {
    (): result.Comparison,
    ("request",): result.Asked,
    ("hardware",): result.Card,
    ("models", "*"): result.Compared,
    ("models", "*", "parameters"): result.ParameterCounts,
    ("models", "*", "parameters", "active_by_card"): result.ActiveByCard,
    ("models", "*", "reads", "*"): result.Reads,
    ("models", "*", "kv_cache"): result.Cache,
    ("models", "*", "gpus"): result.Needed,
    ("models", "*", "speed"): result.Speed,
    ("models", "*", "cost"): result.Cost,
    ("models", "*", "operations"): result.Operations,
    ("pairs", "*"): result.Pair,
    ("pairs", "*", "turns", "*"): result.Turn,
    ("pairs", "*", "resident"): result.ResidentTurn,
    ("marks", "*"): result.Mark,
}


@pytest.mark.parametrize("path", RECORDS)
def test_the_schema_describes_every_record(path: tuple[str, ...]) -> None:
    SCHEMA.must_describe(path, RECORDS[path])


def test_the_schema_knows_every_row() -> None:
    assert tuple(SCHEMA.at("marks", "*")["properties"]["row"]["enum"]) == result.Row.__args__  # type: ignore[attr-defined]
    assert Price._fields == ("low_usd_per_hour", "high_usd_per_hour", "as_of", "sources")  # the schema of gpus has it


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("winner",), "mixtral"),
        (("models", 0, "resident_bytes"), 1.5),
        (("models", 0, "kind"), "sparse"),
        (("models", 0, "reads", 0, "batch"), 0),
        (("hardware", "price", "as_of"), None),
        (("models", 0, "speed", "tpot", "value_s"), 0),
        (("models", 0, "operations", "replicas"), 0),
        (("schema",), "moeplan.compare/2"),
    ],
)
def test_the_schema_refuses_what_is_wrong(
    path: tuple[str | int, ...], value: Any, answers: dict[str, result.Comparison]
) -> None:
    text = as_json(answers["a GPU"])
    assert SCHEMA.complaints(changed(text, path, value))
    assert SCHEMA.complaints(without(text, "notes"))


def test_the_command_writes_the_same_json_as_python(run: Run, tmp_path: Path) -> None:
    code, out, err = run(*TWO, "--json", "-o", "answer.json")
    assert (code, out, err) == (0, "", "")
    models, asked = QUESTIONS["a GPU"]
    whole = moeplan.compare(models, offline=True, **asked)
    assert json.loads((tmp_path / "answer.json").read_text(encoding="utf-8")) == json.loads(as_json(whole))


# Errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "no model was named", "moeplan compare"),
        (["qwen3-8b"], "takes two or more", "moeplan estimate qwen3-8b"),
        (["qwen3-8b", "qwen3-14b", "--rank"], "compare ranks by no single figure", "moeplan plan"),
        (["qwen3-8b", "qwen3-14b", "--sort", "tpot"], "compare ranks by no single figure", "its own least"),
        (["qwen3-8b", "qwen3-14b:fp9"], "'fp9' is not a known weight format", "fp8"),
        (["qwen3-8b", "qwen3-14b", "--gpu", "h1000"], "h1000", "h100"),
        (["qwen3-8b", "qwen3-14b", "--output", "1x"], "--output", "32k"),
        (["qwen3-8b", "qwen3-14b", "--ttft", "soon"], "--ttft", "2s"),
    ],
)
def test_errors_are_one_line_and_a_way_out(words: list[str], message: str, hint: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith(" hint: ")
    assert hint in second
