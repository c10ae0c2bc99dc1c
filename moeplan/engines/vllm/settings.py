"""vLLM's settings that steer memory, with their defaults by card, and the share of the card that they add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Option, Origin, Serving, Settings, Value
from moeplan.core.hardware import usable
from moeplan.core.ledger import Line, total_bytes
from moeplan.core.units import GIB

PASSED_ON = (
    "--block-size", "--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--enforce-eager",
    "--enable-prefix-caching", "--async-scheduling", "--disable-hybrid-kv-cache-manager", "--moe-backend",
    "--all2all-backend", "--attention-backend", "--cpu-offload-gb", "--swap-space", "--kv-offloading-size",
    "--enable-lora", "--max-loras", "--max-lora-rank", "--speculative-config", "--max-cudagraph-capture-size",
    "--disable-custom-all-reduce", "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
)  # fmt: skip
"""Settings without a default worth a row: shown when they are stated."""
GRAPHS_IN_BUDGET = "0.21"
"""Since this release the estimate of the graph pool is taken out of the share (v1/worker/gpu_worker.py)."""


def settle(serving: Serving) -> Settings:
    """The settings; batch limits by card as engine/arg_utils.py:get_batch_defaults has them.

    More sequences than the default limit are taken as asked for with `--max-num-seqs`: else they would wait.
    """
    deployment, stated = serving.deployment, serving.deployment.stated
    batched_tokens, sequences = _batch_defaults(serving)
    many = deployment.sequences_per_rank > sequences
    fraction = deployment.utilization_fraction
    options = [
        Option(
            "--gpu-memory-utilization",
            serving.constants.of("utilization_fraction").value if fraction is None else fraction,
            "default" if fraction is None else "stated",
        ),
        Option("--max-model-len", deployment.context_tokens, "inferred"),
        _settled("--max-num-batched-tokens", batched_tokens, "default", stated),
        _settled(
            "--max-num-seqs",
            deployment.sequences_per_rank if many else sequences,
            "inferred" if many else "default",
            stated,
        ),
        Option("--tensor-parallel-size", serving.layout.tp, "inferred"),
    ]
    options += [Option(flag, stated[flag], "stated") for flag in PASSED_ON if flag in stated]
    return Settings(tuple(options))


def draft_tokens(settings: Settings) -> int:
    """Tokens that a step drafts: `num_speculative_tokens` of `--speculative-config`; 0 without speculation."""
    config = speculation(settings)
    count = config.get("num_speculative_tokens")
    return int(count) if isinstance(count, int) else int(bool(config))


def speculation(settings: Settings) -> dict[str, Value]:
    """`--speculative-config` as a mapping; empty without one."""
    return _parsed(settings.value("--speculative-config"))


def _parsed(text: Value) -> dict[str, Value]:
    try:
        config = json.loads(str(text)) if text else {}
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def loads_drafts(stated: Mapping[str, Value]) -> bool:
    """True for the methods that run the model's own draft layers: `mtp` and its names by family."""
    method = str(_parsed(stated.get("--speculative-config")).get("method", ""))
    return "mtp" in method


def budget_bytes(serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...]) -> int:
    """The share of the card's total; or what `--kv-cache-memory-bytes` makes of it.

    Until 0.21 graphs came on top of the share, as far as the card has room: they are a line here, so the budget grows by
    them. Sources: vLLM 0.33.0 v1/worker/gpu_worker.py:determine_available_memory, v1/worker/utils.py:request_memory.
    """
    pool = settings.count("--kv-cache-memory-bytes")
    if pool:
        return min(memory_bytes, total_bytes(lines) + pool)
    requested = -int(-memory_bytes * settings.share("--gpu-memory-utilization") // 1)
    if graphs_in_budget(serving, settings):
        return requested
    graphs = sum(entry.bytes for entry in lines if entry.code == "cuda_graphs")
    return min(memory_bytes, requested + graphs)


def graphs_in_budget(serving: Serving, settings: Settings) -> bool:
    """Whether the engine takes its graph pool out of the share."""
    stated = settings.text("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    if stated is not None:
        return stated.lower() in ("1", "true")
    return serving.constants.at_least(GRAPHS_IN_BUDGET)


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """float32 is loaded in 16 bit; below compute capability 8.0 bfloat16 becomes float16.

    Source: vLLM 0.33.0 config/model.py:_resolve_auto_dtype and platforms/cuda.py:supported_dtypes.
    """
    loaded = "bfloat16" if dtype == "float32" else dtype
    old = capability is not None and int(capability.split(".")[0]) < 8
    return "float16" if old and loaded == "bfloat16" else loaded


def _batch_defaults(serving: Serving) -> tuple[int, int]:
    """Tokens of a batch and sequences, of the API server on this card."""
    memory = serving.memory or (usable(serving.hardware) if serving.hardware else None)
    size = memory.bytes if memory else 0
    hardware = serving.hardware
    is_a100 = hardware is not None and "a100" in hardware.name.lower()
    is_gb10 = hardware is not None and hardware.compute_capability == "12.1"
    if size >= 160 * GIB:
        return 16384, 1024
    if size >= 70 * GIB and not is_a100 and not is_gb10:
        return 8192, 1024
    return 2048, 256


def _settled(flag: str, value: Value, origin: Origin, stated: Mapping[str, Value]) -> Option:
    if stated.get(flag) is not None:
        return Option(flag, stated[flag], "stated")
    return Option(flag, value, origin)
