"""Options and a workload file as one: defaults are named, contradictions name both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.workload import Lengths, Workload
from moeplan.estimate.workload import make_workload
from moeplan.sources.models import find_model

FILE = """\
context: 16k
concurrency: 8
ttft: 2s
classes:
  - {name: easy, share: 80%, input_tokens: {p50: 500, p95: 2k, p99: 4k}, output_tokens: 200}
  - {name: long-context, share: 20%, input_tokens: 8k, output_tokens: 500, ttft: 5s}
"""


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return find_model("mixtral-8x7b").spec  # at most 32,768 tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "workload.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def made(spec: ModelSpec, **asked: Any) -> tuple[Workload, dict[str, str]]:
    notes: list[Remark] = []
    return make_workload(spec, notes, **asked), {note.code: note.message for note in notes}


def test_nothing_stated_gives_defaults_that_are_named(spec: ModelSpec) -> None:
    notes: list[Remark] = []
    found = make_workload(spec, notes)
    (only,) = found.classes
    assert (found.context_tokens, found.concurrency, found.arrival_per_s) == (32_768, 1, None)
    assert only.input_tokens == only.output_tokens == Lengths(1024, 1024, 1024)
    assert set(found.origins) == {"context_tokens", "concurrency", "input_tokens", "output_tokens"}
    assert set(found.origins.values()) == {"default"}
    told = [note.message for note in notes if note.code == "workload-default"]
    assert any("concurrency 1" in text and "--concurrency" in text for text in told)
    assert any("input 1,024 and output 1,024" in text and "--input and --output" in text for text in told)


def test_all_stated_needs_no_default(spec: ModelSpec) -> None:
    found, notes = made(
        spec, context="8k", concurrency="16", input="2k", output=500, ttft="2s", tpot="30ms", arrival="120/min"
    )
    assert (found.context_tokens, found.concurrency, found.arrival_per_s) == (8000, 16, 2.0)
    assert (found.ttft_s, found.tpot_s) == (2.0, 0.03)
    assert (found.mean_input_tokens, found.mean_output_tokens) == (2000, 500)
    assert set(found.origins.values()) == {"stated"}
    assert set(notes) == {"count-reading"}


def test_an_arrival_rate_alone_leaves_the_concurrency_open(spec: ModelSpec) -> None:
    found, _ = made(spec, arrival=0.5)
    assert found.concurrency is None
    assert found.arrival_per_s == 0.5


@pytest.mark.parametrize(
    ("asked", "lengths"),
    [
        ({"context": 1000}, (500, 500)),
        ({"context": 1500, "input": 1400}, (1400, 100)),
        ({"context": 1500, "output": 1400}, (100, 1400)),
        ({"context": 1}, (1, 1)),
        ({"input": 30_000}, (30_000, 1024)),
    ],
)
def test_default_lengths_leave_room_in_the_context(
    spec: ModelSpec, asked: dict[str, int], lengths: tuple[int, int]
) -> None:
    only = made(spec, **asked)[0].classes[0]
    assert (only.input_tokens.p50, only.output_tokens.p50) == lengths


def test_a_default_context_grows_to_what_prompt_and_answer_need() -> None:
    wide = find_model("deepseek-v3").spec
    found, notes = made(wide, input=60_000, output=2000)
    assert found.context_tokens == 62_000
    assert "a prompt and its answer" in notes["context-default"]


def test_a_file_says_all_of_it(spec: ModelSpec, file: Path) -> None:
    found, notes = made(spec, file=file)
    assert (found.context_tokens, found.concurrency, found.ttft_s) == (16_000, 8, 2.0)
    assert [each.name for each in found.classes] == ["easy", "long-context"]
    assert not notes


def test_options_beside_a_file_fill_what_it_leaves_open_or_agree(spec: ModelSpec, file: Path) -> None:
    found, _ = made(spec, file=file, tpot="30ms", arrival="2/s", context="16000", concurrency=8, ttft=2.0)
    assert (found.tpot_s, found.arrival_per_s) == (0.03, 2.0)
    assert found.classes[1].ttft_s == 5.0


def test_a_file_without_context_takes_its_longest_class_and_says_so(spec: ModelSpec, file: Path) -> None:
    file.write_text(FILE.replace("context: 16k\n", ""), encoding="utf-8")
    found, notes = made(spec, file=file)
    assert found.context_tokens == 8500
    assert found.origins["context_tokens"] == "inferred"
    assert "8,500" in notes["workload-default"]
    assert made(spec, file=file, context=12_000)[0].context_tokens == 12_000


def test_a_tail_beyond_the_context_is_a_warning(spec: ModelSpec, file: Path) -> None:
    file.write_text(FILE.replace("16k", "8500").replace("p99: 4k", "p99: 8400"), encoding="utf-8")
    _, notes = made(spec, file=file)
    assert "easy" in notes["workload-beyond-context"]
    assert "8,600" in notes["workload-beyond-context"]


def test_a_length_behind_the_dashes_is_named_as_it_was_typed(spec: ModelSpec, file: Path) -> None:
    with pytest.raises(InputError, match=r"--max-model-len 4096 and `context`"):
        make_workload(spec, [], file=file, context=4096, flags={"context_tokens": "--max-model-len"})


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "zero input": ({"input": 0}, ("--input", "0")),
    "negative output": ({"output": "-1"}, ("--output", "-1")),
    "words": ({"input": "long"}, ("--input", "long")),
    "zero ttft": ({"ttft": "0s"}, ("--ttft", "0s")),
    "negative tpot": ({"tpot": "-30ms"}, ("--tpot", "-30ms")),
    "no rate": ({"arrival": "12/day"}, ("--arrival", "12/day")),
    "zero rate": ({"arrival": "0/s"}, ("--arrival", "0/s")),
    "beyond the model": ({"input": "40k"}, ("--input 40k", "32,768")),
    "absurd": ({"output": 10**9}, ("--output", "100,000,000")),
    "beyond the context": ({"context": "4k", "input": "3k", "output": "2k"}, ("3,000", "2,000", "--context 4,000")),
    "no room for an answer": ({"context": 4096, "input": 4096}, ("4,096", "--context 4,096")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_one_line_and_a_way_out(spec: ModelSpec, name: str) -> None:
    asked, words = WRONG[name]
    with pytest.raises(InputError) as caught:
        make_workload(spec, [], **asked)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


CONTRADICTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "context": ({"context": "8k"}, ("--context 8k", "`context` 16,000")),
    "concurrency": ({"concurrency": 4}, ("--concurrency 4", "`concurrency` 8")),
    "ttft": ({"ttft": "1s"}, ("--ttft 1s", "`ttft` 2")),
    "lengths": ({"input": 500}, ("--input 500", "`input_tokens`")),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_an_option_against_the_file_names_both(spec: ModelSpec, file: Path, name: str) -> None:
    asked, words = CONTRADICTIONS[name]
    with pytest.raises(InputError) as caught:
        make_workload(spec, [], file=file, **asked)
    assert all(word in caught.value.message for word in (*words, str(file))), caught.value.message


def test_a_class_beyond_the_model_or_the_context(spec: ModelSpec, file: Path) -> None:
    file.write_text(FILE.replace("p99: 4k", "p99: 40k"), encoding="utf-8")
    with pytest.raises(InputError, match="easy, 40,000, is beyond the model's maximum of 32,768"):
        make_workload(spec, [], file=file)
    file.write_text(FILE.replace("context: 16k\n", ""), encoding="utf-8")
    with pytest.raises(InputError, match="long-context has 8,500 tokens at the median"):
        make_workload(spec, [], file=file, context="8k")
