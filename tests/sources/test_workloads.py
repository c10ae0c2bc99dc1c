"""Workload files: what they say, and one line with file, line and key for what they cannot mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from moeplan.core.errors import InputError
from moeplan.core.workload import Lengths, LoadAsked, RequestClass
from moeplan.report.as_json import as_json
from moeplan.sources.workloads import read_workload
from tests.report.schemas import Schema, changed

WHOLE = """\
schema: moeplan.workload/1
context: 32k
concurrency: 64
arrival: 300/min
ttft: 2s
tpot: 40ms
classes:
  - name: easy
    share: 60%
    input_tokens: {p50: 400, p95: 1200, p99: 2k}
    output_tokens: 200
  - name: average
    share: 30%
    input_tokens: 2000
    output_tokens: {p50: 400, p95: 800, p99: 1200}
  - name: high-value
    share: 10%
    input_tokens: 4K
    output_tokens: 500
    ttft: 0.5
    tpot: 20ms
"""
ONE = "classes:\n  - name: all\n    input_tokens: 1000\n    output_tokens: 200\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workload.yaml"


def read(path: Path, text: str):  # type: ignore[no-untyped-def]
    path.write_text(text, encoding="utf-8")
    return read_workload(path)


def refused(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_workload(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.message.startswith(str(path))
    return caught.value.message.removeprefix(str(path))


def test_a_whole_file(path: Path) -> None:
    found = read(path, WHOLE)
    assert (found.context_tokens, found.concurrency, found.arrival_per_s) == (32_000, 64, 5.0)
    assert (found.ttft_s, found.tpot_s) == (2.0, 0.04)
    easy, average, high = found.classes
    assert [each.share_fraction for each in found.classes] == pytest.approx([0.6, 0.3, 0.1])
    assert (easy.input_tokens, easy.output_tokens) == (Lengths(400, 1200, 2000), Lengths(200, 200, 200))
    assert (easy.ttft_s, easy.tpot_s) == (None, None)
    assert average.output_tokens == Lengths(400, 800, 1200)
    assert (high.input_tokens.p50, high.ttft_s, high.tpot_s) == (4096, 0.5, 0.02)
    assert set(found.origins.values()) == {"stated"}


def test_a_file_without_context_holds_its_longest_class(path: Path) -> None:
    found = read(path, ONE)
    assert (found.context_tokens, found.origins["context_tokens"]) == (1200, "inferred")
    assert found.classes[0].share_fraction == 1
    assert found.concurrency is None
    assert "concurrency" not in found.origins


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (("60%", "40%"), (0.6, 0.4)), (("0.6", "0.4"), (0.6, 0.4)), (("60", "40"), (0.6, 0.4)), (("60%", "0.4"), (0.6, 0.4)),
        (("33.3%", "66.6%"), (1 / 3, 2 / 3)),
    ],
)  # fmt: skip
def test_shares_are_percentages_or_numbers(path: Path, shares: tuple[str, str], expected: tuple[float, float]) -> None:
    rows = [
        f"  - {{name: {name}, share: {share}, input_tokens: 10, output_tokens: 5}}"
        for name, share in zip("ab", shares, strict=True)
    ]
    found = read(path, "\n".join(["classes:", *rows]))
    assert [each.share_fraction for each in found.classes] == pytest.approx(expected)
    assert sum(each.share_fraction for each in found.classes) == pytest.approx(1)


# Each: what is changed in the whole file, and what the message says behind the file's name.
WRONG = {
    "unknown key": ("arrival: 300/min", "arival: 300/min", ":4: `arival` is not a known key"),
    "unknown key of a class": ("    ttft: 0.5", "    tfft: 0.5", ":20: `classes.tfft` is not a known key"),
    "unknown percentile": ("p50: 400, p95: 1200, p99: 2k", "p50: 400, p90: 1200, p99: 2k", ":10: `classes.input_tokens.p90`"),
    "no percentile": ("p50: 400, p95: 1200, p99: 2k", "p50: 400, p99: 2k", ":10: `classes.input_tokens.p95` is missing"),
    "out of order": ("p95: 1200, p99: 2k", "p95: 3000, p99: 2k", ":10: `classes.input_tokens.p99` is 2,000, below p95 of 3,000"),
    "zero length": ("output_tokens: 200", "output_tokens: 0", ":11: `classes.output_tokens` is 0"),
    "absurd length": ("output_tokens: 200", "output_tokens: 1e9", ":11: `classes.output_tokens` is 1,000,000,000"),
    "negative length": ("output_tokens: 200", "output_tokens: -5", ":11: `classes.output_tokens` is -5"),
    "no length": ("    output_tokens: 200\n", "", ":8: `classes.output_tokens` is missing"),
    "no number": ("output_tokens: 200", "output_tokens: [1]", ":11: `classes.output_tokens` is [1], not a number"),
    "no share": ("    share: 30%\n", "", ":12: `classes.share` of average is missing"),
    "shares beyond all": ("share: 30%", "share: 40%", ":17: `classes.share` is the last one, and all of them sum to 110 %"),
    "zero share": ("share: 30%", "share: 0%", ":13: `classes.share` of average is '0%'"),
    "no name": ("  - name: easy\n    share", "  - share", ":8: `classes.name` is missing"),
    "name twice": ("name: average", "name: easy", ":12: `classes.name` easy is given twice"),
    "zero limit": ("ttft: 2s", "ttft: 0", ":5: `ttft` is 0: it must be above 0"),
    "negative limit": ("tpot: 40ms", "tpot: -40ms", ":6: `tpot` is '-40ms': it is not a duration"),
    "no rate": ("300/min", "often", ":4: `arrival` is 'often': it is not a rate"),
    "zero context": ("context: 32k", "context: 0", ":2: `context` is 0"),
    "beyond the context": ("context: 32k", "context: 4k", ":18: `classes.input_tokens` and `output_tokens` are 4,096 and 500"),
    "another schema": ("workload/1", "workload/2", ":1: `schema` is 'moeplan.workload/2'"),
    "key twice": ("ttft: 2s", "tpot: 2s", ":6: not valid YAML: the key `tpot` is given twice"),
    "broken": ("concurrency: 64", "concurrency: [64", ":4: not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_one_line_with_its_place(path: Path, name: str) -> None:
    before, after, said = WRONG[name]
    assert before in WHOLE
    assert refused(path, WHOLE.replace(before, after, 1)).startswith(said)


def test_plain_shares_that_sum_to_neither(path: Path) -> None:
    rows = [f"  - {{name: {name}, share: 3, input_tokens: 1, output_tokens: 1}}" for name in "ab"]
    assert "sum to 6, not to 1 or 100" in refused(path, "\n".join(["classes:", *rows]))


def test_a_file_without_classes_and_one_without_anything(path: Path) -> None:
    assert "no `classes`" in refused(path, "context: 8k\n")
    assert "no keys and values" in refused(path, "")


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_workload(path)


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "workload.yaml"


def test_the_example_is_read_and_fits_the_schema_that_editors_use() -> None:
    found = read_workload(EXAMPLE)
    assert [each.name for each in found.classes] == ["easy", "average", "long-context", "high-value"]
    assert sum(each.share_fraction for each in found.classes) == pytest.approx(1)
    assert not Schema("workload-file").complaints(json.dumps(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "name", ["unknown key", "unknown percentile", "no percentile", "no length", "another schema", "no name"]
)
def test_the_schema_of_files_refuses_what_the_reader_refuses(name: str) -> None:
    before, after, _ = WRONG[name]
    assert not Schema("workload-file").complaints(json.dumps(yaml.safe_load(WHOLE)))
    assert Schema("workload-file").complaints(json.dumps(yaml.safe_load(WHOLE.replace(before, after, 1))))


def test_a_workload_is_repeated_as_its_schema_says(path: Path) -> None:
    repeated = read(path, WHOLE).echo()
    schema = Schema("workload")
    assert not schema.complaints(as_json(repeated))
    schema.must_describe((), LoadAsked)
    schema.must_describe(("classes", "*"), RequestClass)
    schema.must_describe(("classes", "*", "input_tokens"), Lengths)
    assert schema.complaints(changed(as_json(repeated), ("classes", 0, "share_fraction"), 0))
    assert schema.complaints(changed(as_json(repeated), ("surplus",), 1))
