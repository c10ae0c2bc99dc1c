"""A validation as JSON, table and Markdown: the schema describes it, tables stay within their width, words say the outcome."""

from __future__ import annotations

import json

import pytest

import moeplan
from moeplan.report.as_json import as_json
from moeplan.report.validate_markdown import validate_markdown
from moeplan.report.validate_table import validate_table
from moeplan.report.validate_words import figure, outcome_words, rows, signed
from moeplan.validate import result
from moeplan.validate.result import Validation
from tests.report.schemas import Schema, changed, without

SCHEMA = Schema("validate")
LOG = """INFO [api_server.py:1] vLLM API server version 0.19.0
INFO [utils.py:1] non-default args: {'model': 'Qwen/Qwen3-30B-A3B', 'max_model_len': 8192, 'gpu_memory_utilization': 0.95}
(EngineCore pid=1) INFO [gpu_model_runner.py:1] Model loading took 56.88 GiB memory and 40.2 seconds
(EngineCore pid=1) INFO [gpu_worker.py:1] Available KV cache memory: 15.41 GiB
(EngineCore pid=1) INFO [kv_cache_utils.py:1] GPU KV cache size: 168,304 tokens
"""


def validation(log: str = LOG, **asked: object) -> Validation:
    options: dict[str, object] = {"gpu": "h100", "offline": True} | asked
    return moeplan.validate(log=log.splitlines(keepends=True), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> Validation:
    return validation()


def test_the_schema_describes_the_answer(found: Validation) -> None:
    assert SCHEMA.complaints(as_json(found)) == []
    for path, record in (
        ((), result.Validation),
        (("log",), result.LogFacts),
        (("comparisons", "*"), result.Comparison),
        (("learned",), result.Learned),
    ):
        SCHEMA.must_describe(path, record)


def test_the_schema_refuses_what_is_not_so(found: Validation) -> None:
    text = as_json(found)
    assert SCHEMA.complaints(without(text, "passed"))
    assert SCHEMA.complaints(changed(text, ("surprise",), 1))
    assert SCHEMA.complaints(changed(text, ("comparisons", 0, "unit"), "GB"))
    assert SCHEMA.complaints(changed(text, ("tolerance",), 2))
    assert json.loads(text)["schema"] == "moeplan.validate/1"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_tables_stay_within_their_width(found: Validation, width: int) -> None:
    text = validate_table(found, width=width, color=False, unicode=True)
    assert max(map(len, text.splitlines())) <= width
    assert "WITHIN 5%" in text


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 100])
def test_a_narrow_page_cuts_no_figure_and_keeps_the_judgement(width: int) -> None:
    ranks = "".join(
        f"(Worker_DP0_PP0_TP{rank}_EP{rank} pid={rank}) INFO [x.py:1] Model loading took 56.88 GiB memory and 2 seconds\n"
        for rank in range(2)
    )
    several = validation(LOG + ranks, tolerance=0.1)
    text = validate_table(several, width=width, color=False, unicode=True)
    for row in rows(several):
        figures = tuple(cell for cell in (row[3], row[4], row[6]) if cell)
        assert all(cell in text for cell in figures), figures
    lines = [line for line in text.splitlines() if "GiB" in line and "%" in line]
    assert len(lines) == 3
    assert all(line.endswith(("ok", "BEYOND")) for line in lines)


def test_the_table_of_80_columns_says_line_and_judgement(found: Validation) -> None:
    text = validate_table(found, width=80, color=False, unicode=True)
    (weights,) = [line.split() for line in text.splitlines() if line.startswith("weights")]
    assert weights[:4] == ["weights", "3", "56.88", "GiB"]
    assert weights[-1] == "ok"


def test_signs_and_marks_are_explained(found: Validation) -> None:
    for text in (validate_table(found, width=200, color=False, unicode=True), validate_markdown(found)):
        assert "error is (moeplan - log) / log" in text
        assert "with + moeplan says more" in text.replace("\\", "")
    shown = validation(LOG + "INFO [x.py:1] Graph capturing finished in 12 secs, took 0.85 GiB\n")
    assert "shown: not judged" in validate_table(shown, width=200, color=False, unicode=True)
    assert "shown: not judged" not in validate_table(found, width=200, color=False, unicode=True)


def test_the_command_is_said_to_be_the_logs_and_yours() -> None:
    plain = validate_table(validation(), width=200, color=False, unicode=True)
    assert "flags, as the log tells them:\n  --max-model-len 8192" in plain
    mine = validation(engine_args="--max-num-seqs 16")
    assert "and yours (--max-num-seqs 16):" in validate_table(mine, width=200, color=False, unicode=True)
    assert "and yours" in validate_markdown(mine)


def test_the_band_of_what_is_left_is_shown_where_there_is_room(found: Validation) -> None:
    (left,) = [row for row in found.comparisons if row.quantity == "kv_pool_bytes"]
    assert left.predicted_low is not None
    assert left.predicted_high is not None
    assert left.predicted is not None
    assert left.predicted_low < left.predicted < left.predicted_high
    weights = next(row for row in found.comparisons if row.quantity == "weights_bytes")
    assert (weights.predicted_low, weights.predicted_high, weights.tolerance) == (None, None, 0.05)
    band = f"{left.predicted_low / 2**30:.2f}–{left.predicted_high / 2**30:.2f}"
    assert band in validate_markdown(found)
    for width in (40, 100):
        assert band in validate_table(found, width=width, color=False, unicode=True)
    # No column where every figure is exact.
    exact = found._replace(comparisons=tuple(row for row in found.comparisons if row.quantity == "weights_bytes"))
    assert "band" not in validate_table(exact, width=200, color=False, unicode=True)
    assert "band" not in validate_markdown(exact)


def test_reasons_and_their_labels_do_not_run_into_each_other(found: Validation) -> None:
    rows_ = tuple(row._replace(judged=False, why_not="it is so") for row in found.comparisons)
    text = validate_table(found._replace(comparisons=rows_), width=200, color=False, unicode=True)
    assert "not judged, because it is so: weights · left for the cache · tokens of the cache" in text


def test_ascii_tables_have_nothing_else(found: Validation) -> None:
    assert validate_table(found, width=80, color=False, unicode=False).isascii()


def test_markdown_has_a_row_for_every_figure(found: Validation) -> None:
    text = validate_markdown(found)
    assert text.startswith("## ")
    assert text.count("\n| ") == len(found.comparisons) + 1  # and the head
    assert "**WITHIN 5%" in text


def test_the_outcome_names_the_worst_figure() -> None:
    wrong = validation(LOG.replace("56.88", "70.00"))
    assert outcome_words(wrong).startswith("BEYOND 5%: 1 of ")
    assert "(weights)" in outcome_words(wrong)


def test_figures_are_written_in_their_units() -> None:
    assert figure(2**30 * 1.5, "bytes") == "1.50 GiB"
    assert figure(635_648, "tokens") == "635,648"
    assert figure(77.594, "sequences") == "77.59x"
    assert figure(None, "bytes") == "–"
    assert (signed(0.0123), signed(-0.5), signed(None)) == ("+1.23%", "-50.00%", "")
    assert (signed(0.0), signed(-0.00001)) == ("0.00%", "0.00%")


def test_a_log_with_a_hostile_name_breaks_nothing() -> None:
    nasty = validation(engine_args=["--served-model-name", "x|`<b>\x1b[31m"])
    for text in (validate_table(nasty, width=80, color=False, unicode=True), validate_markdown(nasty)):
        assert "\x1b" not in text
    # In Markdown it stands in a code span, whose fence is longer than the backtick within.
    assert "``" in validate_markdown(nasty)
