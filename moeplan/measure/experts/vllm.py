"""vLLM's own Triton kernels for experts, where vLLM is installed. Letters as in `tensors`.

Called as vLLM 0.33.0 has it (model_executor/layers/fused_moe/fused_moe.py, `fused_experts`); not yet run.
"""
# ruff: noqa: N803 - names end in the letters of their shapes

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure.experts.tensors import ExpertWeights, Routing, input_width


class Prepared(NamedTuple):
    """vLLM takes both matrices as checkpoints have them."""

    weights: ExpertWeights
    kernel: Callable[..., Tensor]
    activation: Any


def available(device: MeasuredDevice, dtype: str) -> str | None:
    """Where vLLM is installed, on CUDA and ROCm. Whether it loads shows when it is prepared: that takes many seconds."""
    if find_spec("vllm") is None:
        return "vllm is not installed"
    if dtype not in ("bfloat16", "float16", "float32"):
        return f"not measured through vllm: {dtype}"
    if device.kind not in ("cuda", "rocm"):
        return "vllm's fused experts need a CUDA or ROCm device"
    return None


def captures(device: MeasuredDevice, dtype: str) -> bool:
    """vLLM runs them in graphs itself."""
    return True


def workspace_bytes(shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
    """Both intermediate caches, for every assignment."""
    into, width = input_width(shape), shape.expert_width
    return num_tokens * shape.experts_per_token * (max(into, 2 * width) + width + 32) * value_bytes


def prepare(weights: ExpertWeights, dtype: str) -> Prepared:
    """As they are, with the activation in vLLM's words."""
    return Prepared(weights, _kernel(), _activation(weights.gated))


def run(prepared: Prepared, x_TD: Tensor, routing: Routing) -> Tensor:
    """y_TD."""
    return prepared.kernel(
        x_TD,
        prepared.weights.w13_EGD,
        prepared.weights.w2_EDF,
        routing.gate_TK,
        routing.experts_TK.to(torch.int32),
        activation=prepared.activation,
    )


def _kernel() -> Callable[..., Tensor]:
    from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts  # type: ignore[import-not-found]

    return fused_experts  # type: ignore[no-any-return]


def _activation(gated: bool) -> Any:
    """A member of vLLM's enum; before it had one, a word."""
    word = "silu" if gated else "relu2_no_mul"
    try:
        from vllm.model_executor.layers.fused_moe.activation import MoEActivation  # type: ignore[import-not-found]
    except ImportError:
        return word
    return MoEActivation(word)
