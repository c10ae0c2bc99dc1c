"""What an engine's log tells: figures line by line, each with its rounding, and the settings that it ran with.

Values are bytes or tokens, whatever unit the engine printed; the words of the log stay in `Reading.text`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from moeplan.core.deployment import Value
from moeplan.core.model import Remark

LogEngine = Literal["vllm", "sglang", "llamacpp"]
"""Engines whose logs are read."""

LOG_ENGINES: tuple[LogEngine, ...] = get_args(LogEngine)

Quantity = Literal[
    # Weights.
    "weights_bytes", "load_peak_bytes", "model_file_bytes", "model_buffer_bytes", "lora_buffer_bytes", "offloaded_layers",
    # The device.
    "total_memory_bytes", "budget_bytes", "free_before_load_bytes", "free_after_load_bytes", "free_after_pool_bytes",
    "free_after_graphs_bytes", "free_when_ready_bytes",
    # The cache: memory set aside for it, its size as it was allocated, and what the engine makes of it.
    "kv_pool_bytes", "kv_bytes", "kv_key_bytes", "kv_value_bytes", "kv_buffer_bytes", "kv_tokens", "kv_cells",
    "num_blocks", "block_tokens", "max_concurrency", "concurrency_context_tokens",
    # Recurrent state.
    "conv_state_bytes", "ssm_state_bytes", "conv_intermediate_bytes", "ssm_intermediate_bytes", "state_slots",
    "recurrent_buffer_bytes",
    # Everything else.
    "activation_peak_bytes", "activation_and_graphs_bytes", "non_torch_bytes", "consumed_bytes", "collectives_bytes",
    "cuda_graphs_bytes", "cuda_graphs_estimate_bytes", "compute_buffer_bytes", "output_buffer_bytes",
    # The engine refused: what one request needs, and the longest one that fits.
    "kv_needed_bytes", "kv_max_context_tokens",
]  # fmt: skip
"""What a figure is. Those that do not speak for themselves:

* `kv_pool_bytes` is what is left for the cache, `kv_bytes` what was allocated (keys and values, or the latent pool);
* `consumed_bytes` is weights and all that is not torch's, in one figure (vLLM since 2026);
* `activation_and_graphs_bytes` is the activation peak with the estimate for CUDA graphs in it (the same lines);
* `collectives_bytes` is what went between a rank's start and the load of its weights;
* `kv_cells` and `*_buffer_bytes` are llama.cpp's words, with `Reading.device`.
"""

QUANTITIES: frozenset[str] = frozenset(get_args(Quantity))


class LogRank(NamedTuple):
    """Who told a figure, as far as the line says; None where it does not."""

    dp: int | None = None
    pp: int | None = None
    tp: int | None = None
    ep: int | None = None
    world: int | None = None
    """The rank over all degrees together."""
    process: str | None = None
    """The name of a worker whose rank is not told, to keep it apart from the others."""

    @property
    def label(self) -> str:
        """`DP0 PP1 TP3`: what is told, in one line."""
        degrees = (("DP", self.dp), ("PP", self.pp), ("TP", self.tp), ("EP", self.ep))
        told = " ".join(f"{name}{number}" for name, number in degrees if number is not None)
        if told:
            return told
        return f"rank {self.world}" if self.world is not None else str(self.process)


class Reading(NamedTuple):
    """One figure of a log."""

    quantity: Quantity
    value: int | float
    """Bytes, tokens, layers; a float only for `max_concurrency`."""
    resolution: float
    """The step between two figures that the engine could have printed, in the value's unit: rounding hides half."""
    rank: LogRank | None
    """None where the line speaks for the whole engine, or there is one rank."""
    device: str | None
    """`CUDA0`, `CPU_Mapped`; llama.cpp alone."""
    line_number: int
    """From 1, counted by line feeds."""
    text: str
    """The engine's own words."""
    part: str | None = None
    """Of which part where there are several: `full` and `window` caches, `draft`, `prefill` graphs, `vision`."""


FailureKind = Literal["memory", "busy", "other"]


class Failure(NamedTuple):
    """Why a start failed, by the line that says most of it."""

    kind: FailureKind
    """`memory` was too small for what was asked, `busy` was taken by others before; all the rest is `other`."""
    text: str
    line_number: int


class EngineLog(NamedTuple):
    """The last start of an engine that a log holds."""

    engine: LogEngine
    version: str | None
    model: str | None
    """As the engine was told it: a path or a Hub id."""
    arguments: Mapping[str, Value]
    """Flags that reproduce the run, by the engine's own spelling; without ports, names, and anything secret."""
    readings: tuple[Reading, ...]
    """In the order of the log."""
    started: bool | None
    """False where the engine refused or failed; None where the log does not tell."""
    gpu_name: str | None
    notes: tuple[Remark, ...]
    complete: bool
    """False for a log that stops before the figures are all told; then there is a note `log-cut`."""
    quantization: str | None = None
    """As the engine settled it. Not among `arguments`: most often it was the checkpoint that said so, not a flag."""
    failure: Failure | None = None
    """Where `started` is False."""

    def told(self, quantity: Quantity) -> tuple[Reading, ...]:
        """All figures of one quantity."""
        return tuple(reading for reading in self.readings if reading.quantity == quantity)
