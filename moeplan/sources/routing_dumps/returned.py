"""Choices that engines send back with a response: `routed_experts` of vLLM and SGLang, and arrays of them saved by numpy.

Sources: vllm-project/vllm, `CompletionOutput.routed_experts` (pull request 28284) and the field of its responses (44638, 51906): base64
of numpy.save, [tokens, layers, experts per token]; sgl-project/sglang, python/sglang/srt/layers/moe/routed_experts_capturer.py
(pull requests 12162, 17434): base64 of int32 without a shape, [tokens, layers, experts per token], in `meta_info` of /generate or
in `sgl_ext` of a choice. Tokens are all of the request but the last, which was not run. Layers are those of the config, dense ones
zero, or those with experts. Nothing else of a response is kept.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import LayerRouting, Phase, RoutingProfile
from moeplan.sources.routing_dumps.json_lines import json_lines
from moeplan.sources.routing_dumps.known import Known, ModelLayers, layer_numbers, provenance
from moeplan.sources.routing_dumps.numpy_arrays import MAGIC, Array, read_array
from moeplan.sources.routing_dumps.sequences import ChoiceFold
from moeplan.sources.routing_files.facts import read_bytes

MOST_ARRAY_BYTES = 1 << 30
HOW = "start the server with --enable-return-routed-experts, ask for them, and save one response per line"


class _Choices(NamedTuple):
    where: str
    engine: str
    payload: str
    prompt_tokens: int | None
    sent_before: bool
    """Whether another choice of this response has the prompt already."""


def read_returned(path: Path, known: Known) -> RoutingProfile:
    """Responses as JSON lines, or one array (.npy). InputError for what is none, or is of another model."""
    model = known.model
    if model is None:
        raise InputError(
            f"{path}: choices do not say how many experts there are to choose from", hint="name the model (--model)"
        )
    reader = _Reader(model, known)
    notes: list[str] = []
    engines: set[str] = set()
    told = True
    if path.suffix.lower() == ".npy":
        reader.add(read_array(read_bytes(path, MOST_ARRAY_BYTES), str(path)), None, sent_before=False, where=str(path))
        told = False
    else:
        for choices in _payloads(path, notes):
            engines.add(choices.engine)
            told = told and choices.prompt_tokens is not None
            reader.add(_array(choices, model), choices.prompt_tokens, choices.sent_before, choices.where)
    fold = reader.fold
    if fold is None:
        raise InputError(f"{path}: no response in it has routed_experts", hint=HOW)
    layers: Mapping[Phase, tuple[LayerRouting, ...]] = fold.layers(known)
    if not told and known.phase == "all":
        layers = {"all": layers["all"]}
        notes.append("it is not known which tokens are of prompts: phases are not told apart")
    engine = engines.pop() if len(engines) == 1 else "vllm or sglang"
    return RoutingProfile(known.name(), known.revision, provenance(engine, path), layers, notes=tuple(notes))


class _Reader:
    """Arrays [tokens, layers, k], folded as sequences."""

    def __init__(self, model: ModelLayers, known: Known) -> None:
        self.fold: ChoiceFold | None = None
        self._model = model
        self._known = known
        self._shape: tuple[int, ...] = ()

    def add(self, found: Array, prompt_tokens: int | None, sent_before: bool, where: str) -> None:
        if len(found.shape) != 3:
            raise InputError(
                f"{where}: an array {list(found.shape)}, not tokens, layers and experts of a token", hint=HOW
            )
        tokens, rows, places = found.shape
        if tokens == 0:
            return
        experts = set(self._model.experts.values())
        if len(experts) != 1:
            raise InputError(
                f"{where}: layers of {self._model.name} have different numbers of experts", hint="capture it instead"
            )
        if self.fold is None:
            numbers = layer_numbers(rows, max(experts), self._known, where)
            self.fold = ChoiceFold(numbers, max(experts), places, where)
            self._shape = rows, places
        elif (rows, places) != self._shape:
            raise InputError(
                f"{where}: {rows} layers of {places} experts, and {self._shape[0]} of {self._shape[1]} before",
                hint="keep the responses of one model",
            )
        least, most = min(found.elements), max(found.elements)
        if least < 0 or most >= max(experts):
            raise InputError(
                f"{where}: a token chose expert {least if least < 0 else most}, and {self._model.name} has {max(experts)}",
                hint="name the model that was served",
            )
        ids = array("H", found.elements)
        step = rows * places
        columns = [[ids[row * places + place :: step] for place in range(places)] for row in self.fold.rows]
        prefill = tokens if prompt_tokens is None else min(tokens, prompt_tokens)
        packed = self.fold.packed(columns)
        if sent_before:
            packed, prefill, tokens = packed[prefill * self.fold.header.row_bytes :], 0, tokens - prefill
        if tokens:
            self.fold.add_prompt(packed, prefill, tokens - prefill, where)


def _payloads(path: Path, notes: list[str]) -> Iterator[_Choices]:
    for where, words in json_lines(path, notes):
        about = words.get("meta_info")
        if isinstance(about, Mapping):
            if isinstance(about.get("routed_experts"), str):
                yield _Choices(where, "sglang", about["routed_experts"], _count(about.get("prompt_tokens")), False)
            continue
        usage = words.get("usage")
        prompt = _count(usage.get("prompt_tokens")) if isinstance(usage, Mapping) else None
        several = words.get("choices")
        for place, choice in enumerate(several if isinstance(several, list) else []):
            if not isinstance(choice, Mapping):
                continue
            beside = choice.get("sgl_ext")
            if isinstance(choice.get("routed_experts"), str):
                yield _Choices(where, "vllm", choice["routed_experts"], prompt, place > 0 and prompt is not None)
            elif isinstance(beside, Mapping) and isinstance(beside.get("routed_experts"), str):
                yield _Choices(where, "sglang", beside["routed_experts"], prompt, place > 0 and prompt is not None)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _array(choices: _Choices, model: ModelLayers) -> Array:
    try:
        data = base64.b64decode(choices.payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{choices.where}: routed_experts are not base64: {error}", hint=HOW) from error
    if data.startswith(MAGIC):
        return read_array(data, choices.where)
    places = round(max(model.chosen.values()))
    size = model.num_layers * places
    if not data or len(data) % (4 * size):
        raise InputError(
            f"{choices.where}: routed_experts have {len(data):,} bytes, no multiple of {model.num_layers} layers x {places} "
            f"experts x 4 bytes of {model.name}",
            hint="name the model that was served",
        )
    ids = array("i", data)
    if sys.byteorder == "big":
        ids.byteswap()
    return Array((len(ids) // size, model.num_layers, places), ids)
