"""Choices that come back with responses: base64 of numpy.save (vllm-project/vllm, pull requests 28284 and 44638), base64 of int32
(sgl-project/sglang, pull requests 12162 and 17434), and arrays saved by numpy itself."""

from __future__ import annotations

import base64
import io
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.known import Known, ModelLayers
from moeplan.sources.routing_dumps.numpy_arrays import read_array
from moeplan.sources.routing_dumps.returned import read_returned
from tests.sources.routing_dumps import choices
from tests.sources.routing_dumps.choices import Ids

LAYERS, EXPERTS, CHOSEN, DENSE = 2, 16, 4, 1
MODEL = ModelLayers("tests/moe", None, 3, {1: EXPERTS, 2: EXPERTS}, {1: CHOSEN, 2: CHOSEN})
KNOWN = Known(MODEL)


def with_dense(ids: Ids) -> Ids:
    return np.concatenate([np.zeros((len(ids), DENSE, CHOSEN), dtype=ids.dtype), ids], axis=1)


def numpy_text(ids: Any) -> str:
    file = io.BytesIO()
    np.save(file, ids)
    return base64.b64encode(file.getvalue()).decode()


def plain_text(ids: Ids) -> str:
    return base64.b64encode(with_dense(ids).astype(np.int32).tobytes()).decode()


def vllm(*samples: Any, prompt: int) -> dict[str, Any]:
    made = [{"index": at, "text": "never kept", "routed_experts": numpy_text(ids)} for at, ids in enumerate(samples)]
    return {"id": "cmpl-1", "choices": made, "usage": {"prompt_tokens": prompt}, "prompt_token_ids": [123456]}


def lines(path: Path, *words: Any) -> Path:
    path.write_text("".join(json.dumps(word) + "\n" for word in words))
    return path


def counted(layers: Any) -> Ids:
    return np.array([layer.counts for layer in layers])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, ">i4"])
@pytest.mark.parametrize("dense", [True, False])
def test_responses_of_vllm(tmp_path: Path, dtype: Any, dense: bool) -> None:
    drawn = [choices.draw(LAYERS, EXPERTS, CHOSEN, n, seed=n) for n in (30, 20)]
    sent = [(with_dense(ids) if dense else ids).astype(dtype) for ids in drawn]
    found = read_returned(lines(tmp_path / "a.jsonl", vllm(sent[0], prompt=24), vllm(sent[1], prompt=12)), KNOWN)
    assert (
        counted(found.layers["prefill"])
        == choices.counts(drawn[0][:24], EXPERTS) + choices.counts(drawn[1][:12], EXPERTS)
    ).all()
    assert (
        counted(found.layers["decode"])
        == choices.counts(drawn[0][24:], EXPERTS) + choices.counts(drawn[1][12:], EXPERTS)
    ).all()
    layer = found.layers["all"][0]
    assert layer.layer == 1
    assert dict(layer.overlap)[1] == pytest.approx(
        # neighbours are those of one phase of one request
        np.average(
            [choices.kept(part, 0, 1) for part in (drawn[0][:24], drawn[0][24:], drawn[1][:12], drawn[1][12:])],
            weights=[23, 5, 11, 7],
        )
    )
    assert found.provenance.engine == "vllm"
    assert "never kept" not in repr(found)
    assert "123456" not in repr(found)


def test_samples_of_one_prompt_have_it_once(tmp_path: Path) -> None:
    drawn = choices.draw(LAYERS, EXPERTS, CHOSEN, 30, seed=1)
    other = choices.draw(LAYERS, EXPERTS, CHOSEN, 5, seed=2)
    second = np.concatenate([drawn[:20], other])
    found = read_returned(lines(tmp_path / "a.jsonl", vllm(drawn, second, prompt=20)), KNOWN)
    assert (counted(found.layers["prefill"]) == choices.counts(drawn[:20], EXPERTS)).all()
    assert (
        counted(found.layers["decode"]) == choices.counts(drawn[20:], EXPERTS) + choices.counts(other, EXPERTS)
    ).all()


def test_responses_of_sglang(tmp_path: Path) -> None:
    drawn = [choices.draw(LAYERS, EXPERTS, CHOSEN, n, seed=n) for n in (30, 20)]
    generate = {
        "text": "",
        "output_ids": [1],
        "meta_info": {"prompt_tokens": 24, "routed_experts": plain_text(drawn[0])},
    }
    chat = {"choices": [{"sgl_ext": {"routed_experts": plain_text(drawn[1])}}], "usage": {"prompt_tokens": 12}}
    found = read_returned(lines(tmp_path / "a.jsonl", generate, chat), KNOWN)
    assert (counted(found.layers["all"]) == sum(choices.counts(ids, EXPERTS) for ids in drawn)).all()
    assert found.layers["prefill"][0].tokens == 36
    assert found.provenance.engine == "sglang"


def test_an_array_alone(tmp_path: Path) -> None:
    drawn = choices.draw(LAYERS, EXPERTS, CHOSEN, 30, seed=1)
    np.save(tmp_path / "a.npy", drawn)
    found = read_returned(tmp_path / "a.npy", KNOWN)
    assert (counted(found.layers["all"]) == choices.counts(drawn, EXPERTS)).all()
    assert set(found.layers) == {"all"}
    assert any("not known which tokens are of prompts" in note for note in found.notes)
    assert set(read_returned(tmp_path / "a.npy", Known(MODEL, phase="decode")).layers) == {"all", "decode"}


DRAWN = choices.draw(LAYERS, EXPERTS, CHOSEN, 6, seed=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"choices": [{"text": "a"}]}, "no response in it has routed_experts"),
        (vllm(DRAWN + 100, prompt=1), "a token chose expert 1.., and tests/moe has 16"),
        (vllm(DRAWN - 100, prompt=1), "a token chose expert -100"),
        (vllm(DRAWN * 0, prompt=1), "layer 1: a token has the same expert twice"),
        (vllm(DRAWN[0], prompt=1), r"an array \[2, 4\], not tokens"),
        (vllm(np.concatenate([DRAWN] * 4, axis=1), prompt=1), "it has 8 layers, and tests/moe has 3"),
        (vllm(DRAWN.astype(float), prompt=1), "elements f8"),
        (vllm(np.array([{"a": 1}], dtype=object), prompt=1), "refused: it holds objects"),
        ({"choices": [{"routed_experts": "§"}]}, "are not base64"),
        (
            {"choices": [{"routed_experts": base64.b64encode(bytes(47)).decode()}]},
            "47 bytes, no multiple of 3 layers x 4",
        ),
        ({"choices": [{"routed_experts": numpy_text(DRAWN)[:200]}]}, "of the 384 bytes of an array|not base64"),
    ],
)
def test_responses_that_hold_no_choices_are_refused(tmp_path: Path, words: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_returned(lines(tmp_path / "a.jsonl", words), KNOWN)
    assert caught.value.hint


def test_a_model_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="how many experts there are to choose from"):
        read_returned(lines(tmp_path / "a.jsonl", vllm(DRAWN, prompt=1)), Known(experts_per_token=4))


def test_arrays_of_numpy_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311
    file = io.BytesIO()
    np.save(file, DRAWN.astype(np.uint16))
    data = file.getvalue()
    assert read_array(data, "a").shape == DRAWN.shape
    assert list(read_array(data, "a").elements) == DRAWN.ravel().tolist()
    later = io.BytesIO()
    np.lib.format.write_array(later, DRAWN, version=(2, 0))
    assert list(read_array(later.getvalue(), "a").elements) == DRAWN.ravel().tolist()
    columns = io.BytesIO()
    np.save(columns, np.asfortranarray(DRAWN))
    with pytest.raises(InputError, match="columns first"):
        read_array(columns.getvalue(), "a")
    for _ in range(500):
        changed = bytearray(data)
        changed[chance.randrange(140)] = chance.randrange(256)
        with suppress(InputError):
            read_array(bytes(changed[: chance.randrange(len(data)) if chance.random() < 0.5 else None]), "a")
