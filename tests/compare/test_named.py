"""Models and formats as they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.compare.named import Named, labels, read_names
from moeplan.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "model", "quant"),
    [
        ("mixtral-8x7b", "mixtral-8x7b", None),
        ("qwen3-8b:fp8", "qwen3-8b", "fp8"),
        ("qwen3-8b:Q4_K_M", "qwen3-8b", "q4_k_m"),
        ("Qwen/Qwen3-8B@main:int4", "Qwen/Qwen3-8B@main", "int4"),
        ("hf://Qwen/Qwen3-8B", "hf://Qwen/Qwen3-8B", None),
        ("hf://Qwen/Qwen3-8B:nvfp4", "hf://Qwen/Qwen3-8B", "nvfp4"),
        ("http://localhost:8080/Qwen/Qwen3-8B", "http://localhost:8080/Qwen/Qwen3-8B", None),
        ("C:\\models\\mine", "C:\\models\\mine", None),
        ("./folder:fp8", "./folder", "fp8"),
    ],
)
def test_a_format_stands_behind_a_colon(text: str, model: str, quant: str | None) -> None:
    assert read_names([text, "other"])[0] == Named(text, model, quant)


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine:fp8"
    path.mkdir()
    assert read_names([path, "other"])[0] == Named(str(path), str(path), None)


def test_the_common_format_is_that_of_models_which_name_none() -> None:
    found = read_names(["one", "two:int4"], "fp8")
    assert [each.quant for each in found] == ["fp8", "int4"]


@pytest.mark.parametrize(
    ("texts", "message", "hint"),
    [
        ([], "no model was named", "moeplan compare mixtral-8x7b"),
        (["one"], "one is one model", "moeplan estimate one"),
        (["one:fp8"], "one:fp8 is one model", "one one:fp8"),
        (["one", "one"], "one is named twice", "one:fp8"),
        (["one:fp8", "two", "ONE:FP8"], "ONE:FP8 is named twice", "ONE:int4"),
        (["one", "two:fp9"], "'fp9' is not a known weight format", "did you mean fp8"),
        (["one", "two:zzzzzz"], "'zzzzzz' is not a known weight format", "known are bf16"),
    ],
)
def test_what_cannot_be_compared_is_told_with_a_way_out(texts: list[str], message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        read_names(texts)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_labels_are_short_and_differ() -> None:
    assert labels([(None, "org/a"), ("fp8", "org/a")]) == ["a", "a:fp8"]
    assert labels([(None, "one/a"), (None, "two/a")]) == ["one/a", "two/a"]
    assert labels([(None, "/models/x/"), (None, "b")]) == ["x", "b"]
    assert labels([(None, "a"), (None, "a")]) == ["a (1)", "a (2)"]
