"""Backends that compute the experts of a layer: each a module with the functions of `Backend`, named by what it calls."""
# ruff: noqa: N803 - names end in the letters of their shapes

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor

    from moeplan.core.measurement import MeasuredDevice, MoeShape
    from moeplan.measure.experts.tensors import ExpertWeights, Routing

BACKENDS: dict[str, str] = {
    "loop": "reference",
    "batched": "batched",
    "torch.grouped_mm": "grouped",
    "torch.scaled_grouped_mm": "scaled",
    "vllm.fused_moe": "vllm",
}
"""Name of a backend, as points say it, to its module. Another engine's kernels: one more module and one more line."""


class Backend(Protocol):
    """What every module of a backend offers. Shapes by the letters of `tensors`."""

    def available(self, device: MeasuredDevice, dtype: str) -> str | None:
        """Why this backend cannot run this dtype on this device; None when it can. The device is not touched."""

    def captures(self, device: MeasuredDevice, dtype: str) -> bool:
        """Whether `run` never waits for the host, so that a CUDA graph can hold it."""

    def workspace_bytes(self, shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
        """Roughly what `run` allocates at most, for values of so many bytes and a routing of this greatest load."""

    def prepare(self, weights: ExpertWeights, dtype: str) -> Any:
        """Weights in the layout that the kernel wants; the same storage wherever that is possible."""

    def run(self, prepared: Any, x_TD: Tensor, routing: Routing) -> Tensor:
        """y_TD: the weighted sum of each token's experts, in the dtype of x."""


def load(name: str) -> Backend:
    """The backend of a name of `BACKENDS`. Raises ImportError where it needs what is not installed."""
    return cast(Backend, import_module(f"moeplan.measure.experts.{BACKENDS[name]}"))


def capability(device: MeasuredDevice) -> tuple[int, int]:
    """Compute capability of a CUDA device, such as (9, 0); (0, 0) of every other kind."""
    if device.kind != "cuda" or device.compute_capability is None:
        return 0, 0
    major, _, minor = device.compute_capability.partition(".")
    return int(major), int(minor or 0)
