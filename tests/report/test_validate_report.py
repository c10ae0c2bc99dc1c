"""A validation as JSON, table and Markdown: the schema describes it, tables stay within their width, words say the outcome."""

from __future__ import annotations

import json

import pytest

import moeplan
from moeplan.report.as_json import as_json
from moeplan.report.validate_markdown import validate_markdown
from moeplan.report.validate_table import validate_table
from moeplan.report.validate_words import figure, outcome_words, signed
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


def test_a_log_with_a_hostile_name_breaks_nothing() -> None:
    nasty = validation(engine_args=["--served-model-name", "x|`<b>\x1b[31m"])
    for text in (validate_table(nasty, width=80, color=False, unicode=True), validate_markdown(nasty)):
        assert "\x1b" not in text
    # In Markdown it stands in a code span, whose fence is longer than the backtick within.
    assert "``" in validate_markdown(nasty)
