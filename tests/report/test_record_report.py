"""Records and their comparison by their schemas, on the screen and as Markdown; hostile names stay text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

import moeplan
from moeplan.core import record as core
from moeplan.core.record_figures import FIGURES, Head, Unit
from moeplan.records import result
from moeplan.report.as_json import as_json
from moeplan.report.record_diff_markdown import record_diff_markdown
from moeplan.report.record_diff_table import record_diff_table
from moeplan.report.record_markdown import record_markdown
from moeplan.report.record_table import record_table
from moeplan.report.record_words import amount
from tests.records.result_files import VLLM, written
from tests.report.check_examples import EVIL
from tests.report.ci_logs import commands, foreign_commands
from tests.report.schemas import Schema, changed, without

RECORD, DIFF = Schema("record"), Schema("record-diff")
LOAD: dict[str, Any] = {"gpu": "2xh100", "concurrency": 16, "context": "8k", "input": "2k", "output": 500}


def made(folder: Path, **other: Any) -> core.Record:
    asked = {
        "quality": ["mmlu=0.712"],
        "measured": written(folder, "r.json", VLLM),
        "date": "2026-11-22",
        **LOAD,
        **other,
    }
    record = moeplan.record(asked.pop("model", "qwen3-30b-a3b"), **asked)
    assert isinstance(record, core.Record)
    return record


@pytest.fixture
def pair(tmp_path: Path) -> tuple[core.Record, core.Record]:
    worse = written(tmp_path, "worse.json", VLLM | {"p95_ttft_ms": 240.0, "p99_ttft_ms": 250.0, "mean_ttft_ms": 120.0})
    return made(tmp_path), made(tmp_path, measured=worse, kv_dtype="fp8", driver="580.65", quality=["mmlu=0.70"])


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"gpu": None},
        {"engine": "sglang", "gpu": "8xh200", "dp": 8, "dp_attention": True, "ep": 8},
        {"engine": "transformers", "measured": ()},
        {"model": "deepseek-v3", "gpu": "8xh200", "draft_tokens": 1, "acceptance": 0.8},
        {"engine": "llamacpp", "gpu": "rtx-4090", "quality": ()},
        {"gpu": "4xh100", "pp": 4, "engine_args": "--enforce-eager"},
        {"workload": "examples/workload.yaml", "gpu": "4xh100", "input": None, "output": None, "concurrency": None, "context": None},
    ],
)  # fmt: skip
def test_output_fits_the_schema(asked: dict[str, Any], tmp_path: Path) -> None:
    if "workload" in asked:
        asked = asked | {"workload": Path(__file__).resolve().parents[2] / asked["workload"]}
    record = made(tmp_path, **asked)
    assert not RECORD.complaints(as_json(record))
    for text in (record_table(record, width=80, color=False, unicode=True), record_markdown(record)):
        assert record.model.id in text.replace("\\", "")


def test_a_comparison_fits_its_schema(pair: tuple[core.Record, core.Record]) -> None:
    for a, b in (pair, pair[::-1], (pair[0], pair[0])):
        assert not DIFF.complaints(as_json(moeplan.record_diff(a, b)))


def test_schemas_have_the_fields_of_the_types() -> None:
    parts: tuple[tuple[tuple[str, ...], Any], ...] = (
        ((), core.Record), (("model",), core.RecordedModel), (("precision",), core.Precision), (("engine",), core.RecordedEngine),
        (("engine", "other_flags", "*"), core.StatedFlag), (("hardware",), core.RecordedHardware),
        (("layout",), core.RecordedLayout), (("software",), core.Software), (("request",), core.RecordedRequest),
        (("skew",), core.RecordedSkew), (("speculation",), core.RecordedSpeculation),
        (("estimates",), core.Estimates), (("estimates", "figures", "*"), core.Figure),
        (("measured",), core.Measured), (("measured", "runs", "*"), core.Run), (("measured", "figures", "*"), core.Figure),
        (("quality", "*"), core.Score), (("assumptions", "*"), core.Assumption),
    )  # fmt: skip
    for path, kind in parts:
        RECORD.must_describe(path, kind)
    for path, kind in (
        ((), result.RecordDiff), (("a",), result.Sided), (("settings", "*"), result.Change), (("figures", "*"), result.Compared),
    ):  # fmt: skip
        DIFF.must_describe(path, kind)
    figure = DIFF.at("figures", "*")["properties"]
    assert figure["verdict"]["enum"] == list(get_args(result.Verdict))
    assert figure["head"]["enum"] == list(get_args(Head))
    assert RECORD.at("estimates", "figures", "*")["properties"]["name"]["enum"] == list(FIGURES)


def test_schemas_refuse_what_is_not_so(pair: tuple[core.Record, core.Record]) -> None:
    text, other = as_json(pair[0]), as_json(moeplan.record_diff(*pair))
    for name in ("schema", "quality", "measured"):
        assert RECORD.complaints(without(text, name))
    assert DIFF.complaints(without(other, "cause"))
    changes: tuple[tuple[tuple[str | int, ...], Any], ...] = (
        (("schema",), "moeplan.record/2"), (("date",), "today"), (("layout", "tp"), 0), (("surprise",), 1),
        (("estimates", "figures", 0, "name"), "speed"), (("estimates", "fits"), "yes"), (("quality", 0, "better"), "more"),
        (("assumptions", 0, "bytes"), -1), (("measured", "runs", 0, "sha256"), "abc"),
    )  # fmt: skip
    for path, value in changes:
        assert RECORD.complaints(changed(text, path, value)), path
    for path, value in ((("figures", 0, "verdict"), "fine"), (("passed",), "no"), (("tolerance",), 2)):
        assert DIFF.complaints(changed(other, path, value)), path


def test_the_screen_says_what_fails_and_why_in_words(pair: tuple[core.Record, core.Record]) -> None:
    text = record_diff_table(moeplan.record_diff(*pair), width=100, color=False, unicode=True)
    assert "FAILS: mmlu: worse, 0.712 -> 0.7 (-1.7 %)" in text
    assert (
        "p95 time to first token: worse, 180 ms -> 240 ms (+33.3 %), although the mean improves (-20.0 %)"
        in " ".join(text.split())
    )
    assert (
        "one setting changed: cache dtype bfloat16 -> fp8, and one may have (driver): no cause can be named"
        in " ".join(text.split())
    )
    for head in get_args(Head):
        assert f"\n{head} " in text
    assert "driver not told -> 580.65" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_keep_their_width(pair: tuple[core.Record, core.Record], width: int) -> None:
    diff = moeplan.record_diff(*pair)
    for text in (
        record_table(pair[1], width=width, color=False, unicode=True),
        record_diff_table(diff, width=width, color=False, unicode=True),
    ):
        assert max(map(len, text.splitlines())) <= width
    assert record_diff_table(diff, width=width, color=False, unicode=False).isascii()
    assert "\x1b[" in record_diff_table(diff, width=width, color=True, unicode=True)


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_a_narrow_page_has_short_labels_and_cuts_nothing(pair: tuple[core.Record, core.Record], width: int) -> None:
    diff = moeplan.record_diff(*pair)
    for text in (
        record_table(pair[1], width=width, color=False, unicode=True),
        record_diff_table(diff, width=width, color=False, unicode=True),
    ):
        rows = [line for line in text.splitlines() if line.startswith(tuple(kind.short for kind in FIGURES.values()))]
        assert len(rows) > 20
        assert "…" not in text
    # A and B stand beside each other from 60 columns on.
    assert (" 180 ms     240 ms   +33.3 %  worse: FAILS" in text) == (width >= 60)


def test_short_labels_are_short_and_told_apart() -> None:
    shorts = [kind.short for kind in FIGURES.values()]
    assert max(map(len, shorts)) <= 14
    assert len(set(shorts)) == len(shorts)


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_page_cuts_long_names_of_scores_and_no_figure(
    pair: tuple[core.Record, core.Record], width: int
) -> None:
    a, b = (
        record._replace(
            quality=tuple(score._replace(name="a score of a long name, and longer") for score in record.quality)
        )
        for record in pair
    )
    text = record_diff_table(moeplan.record_diff(a, b), width=width, color=False, unicode=True)
    (row,) = [line for line in text.splitlines() if "…" in line]
    assert row.startswith("a score of a ")
    assert row.endswith("-1.7 %  worse: FAILS")


def test_a_spread_stands_on_a_page_of_ascii(pair: tuple[core.Record, core.Record]) -> None:
    score = pair[0].quality[0]._replace(spread=0.004)
    text = record_table(pair[0]._replace(quality=(score,)), width=100, color=False, unicode=False)
    assert "+- 0.004" in text
    assert text.isascii()


def test_hostile_names_move_nothing(pair: tuple[core.Record, core.Record]) -> None:
    a, b = (_hostile(record) for record in pair)
    diff = moeplan.record_diff(a, b)._replace(notes=a.notes)
    tables = [
        record_table(a, width=100, color=False, unicode=True),
        record_diff_table(diff, width=100, color=False, unicode=True),
    ]
    papers = [record_markdown(a), record_diff_markdown(diff)]
    for text in (*tables, *papers, as_json(a), as_json(diff)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert commands(text) == []
        assert foreign_commands(text) == []
    for text in papers:
        assert "<script" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {row.replace("\\|", "").count("|") for row in rows} <= {5, 6, 7}


def _hostile(record: core.Record) -> core.Record:
    evil = f"\x1b[2J\u202e<script>a|b`{EVIL}"
    scores = tuple(score._replace(name=evil, how=evil, by=evil) for score in record.quality)
    runs = tuple(run._replace(file=evil, model=evil, kind=evil) for run in record.measured.runs)
    figures = tuple(figure._replace(source=evil) for figure in record.measured.figures)
    return record._replace(
        model=core.RecordedModel(evil, evil, evil, evil),
        engine=record.engine._replace(version=evil, other_flags=(core.StatedFlag(evil, evil),)),
        software=core.Software(evil, evil),
        measured=core.Measured(runs, figures),
        quality=scores,
        notes=tuple(note._replace(message=evil) for note in record.notes),
    )


def test_amounts_have_their_units() -> None:
    shown = {unit: amount(unit, 1234.5) for unit in get_args(Unit)}
    assert shown == {
        "s": "1,230 s", "per_s": "1,230", "bytes": "1.2 KiB", "tokens": "1,234.5", "sequences": "1,234.5",
        "fraction": "1.23e+05 %", "usd": "1,234.50", "score": "1,234.5",
    }  # fmt: skip
    assert amount("bytes", -(2**30)) == "1.0 GiB missing"
    assert amount("s", None) == "–"
