"""TensorRT-LLM's host memory, and the peak of a device while weights are loaded."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import MoeFfn, Weight
from moeplan.core.placement import RankView
from moeplan.core.quant import weight_bytes
from moeplan.engines.trtllm.copies import weight_lines

HOST_CACHE = "kv_cache_config.host_cache_size"


def host_share(serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
    """All weights are on devices."""
    return None


def host_lines(serving: Serving, settings: Settings) -> tuple[Line, ...]:
    """The second tier of the cache, of all ranks, and what loading takes: the tensors of files that are being read.

    Sources: TensorRT-LLM llmapi/llm_args.py (host_cache_size), pull request 11119 (host memory while loading).
    """
    ranks = serving.layout.num_gpus
    found = []
    cache = settings.count(HOST_CACHE)
    if cache:
        why = Why("host_cache_size x GPUs, pinned", {"num_gpus": ranks}, "TensorRT-LLM llmapi/llm_args.py")
        found.append(line("host.kv_cache", "cache kept in host memory", ranks * cache, "derived", why))
    share = serving.constants.of("host_loading_share")
    checkpoint = weight_bytes(serving.owned, serving.quantisation).checkpoint_bytes
    why = Why("share of the checkpoint, while loading", {"checkpoint_bytes": checkpoint}, share.source)
    found.append(
        line(
            "host.loading", "files in host memory while loading", share.value * checkpoint, "assumed", why,
            low_bytes=share.low * checkpoint, high_bytes=share.high * checkpoint,
        )
    )  # fmt: skip
    return tuple(found)


def load_peak_bytes(serving: Serving, settings: Settings, rank: RankView) -> int | None:
    """Weights, and once more the experts of one layer, which are shuffled for their kernels module by module.

    Source: TensorRT-LLM _torch/moe/fused_moe/quantization.py; not yet measured.
    """
    held = total_bytes(rank.weights) + total_bytes(weight_lines(serving, settings, rank))
    experts = sum(entry.bytes for entry in rank.weights if entry.role == "routed_experts")
    layers = sum(any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) for layer in rank.spec.layers)
    return held + (experts // layers if layers else 0)
