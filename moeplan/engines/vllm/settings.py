"""vLLM's settings that steer memory, with their defaults by card."""

from __future__ import annotations

from moeplan.core.deployment import Constants, Deployment, Option
from moeplan.core.hardware import Hardware, usable
from moeplan.core.units import GIB

VOCABULARY_PADDING = 64
"""Rows of embedding and head are padded to a multiple of this (model_executor/layers/vocab_parallel_embedding.py)."""


def settle(deployment: Deployment, hardware: Hardware, constants: Constants) -> tuple[Option, ...]:
    """The settings; batch limits by card as engine/arg_utils.py:get_batch_defaults has them.

    More sequences than the default limit are taken as asked for with `--max-num-seqs`: else they would wait.
    """
    fraction = deployment.utilization_fraction
    memory = usable(hardware)
    total_bytes = memory.bytes if memory else 0
    is_a100 = "a100" in hardware.name.lower()
    is_gb10 = hardware.compute_capability == "12.1"
    if total_bytes >= 160 * GIB:
        batched_tokens, sequences = 16384, 1024
    elif total_bytes >= 70 * GIB and not is_a100 and not is_gb10:
        batched_tokens, sequences = 8192, 1024
    else:
        batched_tokens, sequences = 2048, 256
    many = deployment.concurrency > sequences
    return (
        Option(
            "--gpu-memory-utilization",
            constants.of("utilization_fraction").value if fraction is None else fraction,
            "default" if fraction is None else "stated",
        ),
        Option("--max-model-len", deployment.context_tokens, "inferred"),
        Option("--max-num-batched-tokens", batched_tokens, "default"),
        Option(
            "--max-num-seqs",
            deployment.concurrency if many else sequences,
            "inferred" if many else "default",
        ),
        Option("--tensor-parallel-size", deployment.tp, "inferred"),
    )


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """float32 is loaded in 16 bit; below compute capability 8.0 bfloat16 becomes float16.

    Source: vLLM 0.33.0 config/model.py:_resolve_auto_dtype and platforms/cuda.py:supported_dtypes.
    """
    loaded = "bfloat16" if dtype == "float32" else dtype
    old = capability is not None and int(capability.split(".")[0]) < 8
    return "float16" if old and loaded == "bfloat16" else loaded
