"""Section `models`: whole models with random weights through transformers, and their bytes after every step.

A model is loaded, runs one prefill of all prompts and some steps of decoding with the library's own cache. After each
step: what torch has allocated and reserved and what the device says is used (GPUs), what tensors are alive (everywhere,
see `live_tensors`), and the resident size of the process (the CPU). Peaks count from the begin of their step. Layers are
left out until the rest fits; `layers` of the point says how many ran. Routing of random weights is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch  # noqa: TID253

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.core.units import MIB
from moeplan.measure.live_tensors import LiveTensors, storage_bytes, tensor_bytes
from moeplan.measure.model_build import (
    Needs,
    Shapes,
    build,
    built_config,
    cache_tensors,
    layers_that_fit,
    load_transformers,
    num_layers_of,
    prefill,
    room_of,
)
from moeplan.measure.resident import ResidentPeak, resident_bytes
from moeplan.measure.session import NotMeasuredError, Session, reason

BACKEND = "transformers"
STEPS = ("start", "load", "prefill", "decode")
"""Names that values begin with, in order: `load_allocated_bytes`, `prefill_peak_bytes`."""

_HOST_MOST_BYTES = 256 * MIB
"""Of weights in a planned case on the CPU, where drawing them is slow."""

_LEAST_TOKENS = 16
_SEARCH_S = 20.0
"""A shorter length that fits is looked for no longer: shapes of models that go token by token take long."""


class Fit(NamedTuple):
    """Whether a model has room with its prompts, before anything of it is built; bytes are those of the device."""

    layers_of_model: int
    layers_asked: int
    layers: int
    """Of those that were asked for, how many fit; 0 where not even one does."""
    needed_bytes: int
    """Of all that were asked for: weights, the cache, and what a prefill has alive beside them."""
    least_bytes: int
    """The same of one layer."""
    room_bytes: int
    tokens: int | None
    """A length of each sequence at which all that were asked for fit, not the longest; None where none was found."""
    fewer: tuple[int, int] | None
    """Layers and a length that fit together, where neither alone makes room."""
    most_tokens: int | None
    """Rows of a learned table of positions: beyond them nothing runs. None where positions are computed."""


def model_task(
    name: str,
    config: Mapping[str, Any] | str,
    batch: int,
    prompt_tokens: int,
    decode_tokens: int,
    num_layers: int | None = None,
    *,
    dtype: str = "bfloat16",
) -> Task:
    """One model, by its config as a mapping or as JSON; `num_layers` None asks for all of its layers."""
    text = config if isinstance(config, str) else json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    case: dict[str, CaseValue] = {
        "model": name,
        "batch": batch,
        "prompt_tokens": prompt_tokens,
        "decode_tokens": decode_tokens,
        "num_layers": num_layers,
        "config": text,
    }
    return Task("models", BACKEND, dtype, case, expected_s=15.0)


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Two layers of each shape between plain attention: none when quick, the first by default, all when full."""
    on_host = device.kind == "cpu"
    dtype = next((each for each in dtypes or ("bfloat16",) if each in ("bfloat16", "float16", "float32")), None)
    if effort == "quick" or dtype is None:
        return
    prompt_tokens = 128 if on_host else 2048
    for shape in shapes[:1] if effort == "default" else shapes:
        weights = 2 * 2 * 3 * shape.num_experts * shape.hidden_size * shape.expert_width
        if not on_host or weights <= _HOST_MOST_BYTES:
            yield model_task(f"2 layers of {shape.name}", shape_config(shape), 1, prompt_tokens, 8, dtype=dtype)


def shape_config(shape: MoeShape) -> dict[str, Any]:
    """A Qwen3-MoE config of two layers with the experts of a shape."""
    heads = max(1, shape.hidden_size // 128)
    return {
        "model_type": "qwen3_moe",
        "vocab_size": 32_000,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.expert_width,
        "moe_intermediate_size": shape.expert_width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": 128,
        "num_experts": shape.num_experts,
        "num_experts_per_tok": shape.experts_per_token,
        "tie_word_embeddings": False,
    }


def fit(task: Task, session: Session) -> Fit:
    """Whether the model of a task fits what is free now. Raises NotMeasuredError for a config that cannot be built, and
    what the library raises for one that it does not accept."""
    batch, tokens = _size(task)
    shapes, dtype = str(task.case["config"]), session.torch_dtype(task.dtype)
    wanted = _needs(shapes, dtype, batch, tokens)
    whole = len(wanted.layer_bytes)
    asked = min(int(task.case["num_layers"] or whole), whole)
    free = session.free_bytes()
    layers, until = _fitting(wanted, asked, free), time.monotonic() + _SEARCH_S

    def shorter(num_layers: int) -> int | None:
        """Half the length, again and again, until as many layers fit."""
        half = tokens // 2
        while half >= _LEAST_TOKENS and time.monotonic() < until:
            if _fitting(_needs(shapes, dtype, batch, half), num_layers, free) == num_layers:
                return half
            half //= 2
        return None

    found = tokens if layers == asked else None
    if found is None and wanted.weights_bytes(asked) < free:
        found = shorter(asked)
    one = shorter(1) if not layers and found is None else None
    fewer = None if one is None else (_fitting(_needs(shapes, dtype, batch, one), asked, free), one)
    sizes = wanted.of(asked), wanted.of(1), room_of(wanted, free)
    return Fit(whole, asked, layers, *sizes, found, fewer, _shapes(shapes, dtype).most_positions())


def _fitting(wanted: Needs, num_layers: int, free_bytes: int) -> int:
    """As `layers_that_fit`; 0 where not even one does."""
    try:
        return layers_that_fit(wanted, num_layers, free_bytes)
    except NotMeasuredError:
        return 0


@lru_cache(maxsize=1)
def _shapes(config: str, dtype: torch.dtype) -> Shapes:
    return Shapes(_read(config), dtype)


@lru_cache(maxsize=32)
def _needs(config: str, dtype: torch.dtype, batch: int, tokens: int) -> Needs:
    """As `Shapes.needs`, once for each question: who asks what fits runs the model next."""
    return _shapes(config, dtype).needs(batch, tokens)


def _size(task: Task) -> tuple[int, int]:
    """Sequences, and tokens of each at the end."""
    case = task.case
    return int(case["batch"] or 0), int(case["prompt_tokens"] or 0) + int(case["decode_tokens"] or 0)


def measure(task: Task, session: Session) -> Point:
    """One model. What was read before something failed stays in the point beside its `problem`."""
    point = session.attempt(task, lambda: _measured(task, session))
    session.release()
    return point


def _measured(task: Task, session: Session) -> Point:
    case = task.case
    batch, prompt_tokens, decode_tokens = (int(case[name] or 0) for name in ("batch", "prompt_tokens", "decode_tokens"))
    if batch < 1 or prompt_tokens < 1 or decode_tokens < 0:
        raise NotMeasuredError(f"nothing to run: {batch} prompts of {prompt_tokens} tokens, then {decode_tokens} more")
    config = _read(case["config"])
    dtype = session.torch_dtype(task.dtype)
    library = load_transformers()
    whole = num_layers_of(config)
    most = _shapes(str(case["config"]), dtype).most_positions()
    if most is not None and most < prompt_tokens + decode_tokens:
        raise NotMeasuredError(f"the model's table of positions ends at {most:,} tokens")
    wanted = _needs(str(case["config"]), dtype, *_size(task))
    layers = layers_that_fit(wanted, int(case["num_layers"] or whole), session.free_bytes())
    session.release()
    torch.manual_seed(session.seed)
    steps = _Steps(session)
    steps.values.update({"layers": layers, "layers_of_model": whole})
    session.remark(f"models: transformers {library.__version__}")
    problem = None
    try:
        _run(steps, built_config(config, layers), dtype, batch, prompt_tokens, decode_tokens)
    except Exception as error:  # noqa: BLE001 - what was read so far is worth keeping
        problem = reason(error)
    return Point(*task[:4], values=steps.values, problem=problem)


def _read(text: object) -> dict[str, Any]:
    try:
        config = json.loads(str(text))
    except ValueError as error:
        raise NotMeasuredError(f"the model's config is no JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise NotMeasuredError("the model's config names no model_type")
    return config


def _run(
    steps: _Steps,
    config: dict[str, Any],
    dtype: torch.dtype,
    batch: int,
    prompt_tokens: int,
    decode_tokens: int,
) -> None:
    """Load, prefill, decode; the model and its cache are gone when it ends."""
    session, values = steps.session, steps.values
    with steps.live:
        with steps.step("load"):
            model = build(config, dtype, session.torch_device)
        values["eager_attention"] = float(getattr(model.config, "_attn_implementation", None) == "eager")
        values["grouped_experts"] = float(getattr(model.config, "_experts_implementation", None) == "grouped_mm")
        stored, buffers = model.state_dict(), dict(model.named_buffers())
        values["parameter_bytes"] = tensor_bytes(model.parameters())
        values["buffer_bytes"] = tensor_bytes(buffers[name] for name in buffers if name in stored)
        values["scratch_buffer_bytes"] = tensor_bytes(buffers[name] for name in buffers if name not in stored)
        del stored, buffers
        vocabulary = model.get_input_embeddings().num_embeddings
        ids = torch.randint(
            0, vocabulary, (batch, prompt_tokens), device=session.torch_device, generator=session.generator("prompts")
        )
        with steps.step("prefill"):
            result = prefill(model, ids)
        cache, token = result.past_key_values, result.logits[:, -1:].argmax(-1)
        steps.cache("prefill", cache)
        with steps.step("decode"):
            for _ in range(decode_tokens):
                result = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token = result.logits[:, -1:].argmax(-1)
        steps.cache("decode", cache)


class _Steps:
    """Readings of one model, step by step, under the names of the point's values."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.values: dict[str, float] = {}
        self.live = LiveTensors(session.torch_device.type)
        self._read("start")

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Runs a step from fresh peaks, and reads levels and peaks at its end."""
        device = self.session.torch_device
        self.live.begin()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with ResidentPeak() as resident:
            yield
            self.session.synchronize()
        self._read(name)
        self.values[f"{name}_peak_tensor_bytes"] = self.live.peak_bytes
        if device.type == "cuda":
            self.values[f"{name}_peak_bytes"] = torch.cuda.max_memory_allocated(device)
            self.values[f"{name}_peak_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
        elif device.type == "cpu" and resident.peak_bytes is not None:
            self.values[f"{name}_peak_resident_bytes"] = resident.peak_bytes

    def cache(self, name: str, cache: Any) -> None:
        """Bytes of what the cache holds for later, and of the storages that this keeps alive."""
        tensors = cache_tensors(cache)
        self.values[f"{name}_cache_bytes"] = tensor_bytes(tensors)
        self.values[f"{name}_cache_storage_bytes"] = storage_bytes(tensors)

    def _read(self, name: str) -> None:
        device, values = self.session.torch_device, self.values
        values[f"{name}_tensor_bytes"] = self.live.now_bytes
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            values[f"{name}_allocated_bytes"] = torch.cuda.memory_allocated(device)
            values[f"{name}_reserved_bytes"] = torch.cuda.memory_reserved(device)
            values[f"{name}_device_bytes"] = total - free
        elif device.type == "mps":  # untested: no such device was at hand
            values[f"{name}_allocated_bytes"] = torch.mps.current_allocated_memory()
            values[f"{name}_device_bytes"] = torch.mps.driver_allocated_memory()
        elif (resident := resident_bytes()) is not None:
            values[f"{name}_resident_bytes"] = resident
