"""vLLM's settings that steer memory, with their defaults by card."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Option, Origin, Serving, Settings, Value
from moeplan.core.hardware import usable
from moeplan.core.units import GIB

PASSED_ON = (
    "--block-size", "--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--enforce-eager",
    "--enable-prefix-caching", "--async-scheduling", "--disable-hybrid-kv-cache-manager", "--moe-backend",
    "--enable-eplb",
    "--all2all-backend", "--cpu-offload-gb", "--kv-offloading-size", "--enable-lora", "--max-loras",
    "--max-lora-rank", "--speculative-config", "--compilation-config", "--optimization-level",
    "--max-cudagraph-capture-size", "--disable-custom-all-reduce", "--mm-encoder-tp-mode",
    "--enable-multimodal-encoder-data-parallel", "--language-model-only",
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE", "VLLM_DEEPEP_BUFFER_SIZE_MB",
)  # fmt: skip
"""Settings without a default worth a row: shown when they are stated. All of them are heeded by the arithmetic; what is
stated beyond these is told in a note."""
AS_BY_DEFAULT: Mapping[str, Value] = {"--enable-chunked-prefill": True, "VLLM_USE_V1": "1"}
"""Settings that change nothing where they are stated as they are anyway, in every version that was read."""
NO_SIZES = ("", "[]")
"""Values of `--cudagraph-capture-sizes` that name no size."""
CHUNKS_EXPERTS_UNTIL = "0.17"
"""From this release on experts take a batch as a whole (PR 34086 of February 2026), before in chunks."""
SWAPS_UNTIL = "0.11"
"""From this release on there is no swap space (`--swap-space` went with the V0 engine)."""


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
    options += [Option(flag, value, "stated") for flag, value in AS_BY_DEFAULT.items() if stated.get(flag) == value]
    if "--swap-space" in stated and not serving.constants.at_least(SWAPS_UNTIL):
        options.append(Option("--swap-space", stated["--swap-space"], "stated"))
    if stated.get("--cudagraph-capture-sizes") in NO_SIZES:
        options.append(Option("--cudagraph-capture-sizes", stated["--cudagraph-capture-sizes"], "stated"))
    if "VLLM_FUSED_MOE_CHUNK_SIZE" in stated and not serving.constants.at_least(CHUNKS_EXPERTS_UNTIL):
        options.append(Option("VLLM_FUSED_MOE_CHUNK_SIZE", stated["VLLM_FUSED_MOE_CHUNK_SIZE"], "stated"))
    return Settings(tuple(options))


def captures_graphs(settings: Settings) -> bool:
    """False where CUDA graphs are off: eager, optimisation level 0, a compilation without graphs, or no batch size to
    capture.

    Source: vLLM 0.33.0 config/vllm.py:_set_cudagraph_sizes. That release asserts that there is a size to capture, so the
    last way stops it unless graphs are off by another one too.
    """
    mode = _parsed(settings.value("--compilation-config")).get("cudagraph_mode", "stated nowhere")
    off = (
        settings.on("--enforce-eager")
        or settings.value("--optimization-level") == 0
        or settings.value("--max-cudagraph-capture-size") == 0
        or settings.value("--cudagraph-capture-sizes") in NO_SIZES
    )
    return not off and str(mode).upper() not in ("NONE", "0", "FALSE")


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
