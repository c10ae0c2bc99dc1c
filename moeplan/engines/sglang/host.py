"""SGLang's host memory, and the peak of a device while weights are loaded."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import Weight
from moeplan.core.placement import RankView
from moeplan.engines.sglang.registry import experts_of

KT_FLAG, PAGED_FLAG, PAGED_SWITCH = "--kt-num-gpu-experts", "--paged-experts-num-resident", "--enable-paged-experts"


def host_share(serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
    """Routed experts beyond those that stay on devices, in every layer alike; None where all do.

    `--kt-num-gpu-experts` keeps so many of each layer on the device (SGLang 0.5.23 srt/layers/moe/kt_ep_wrapper.py),
    `--paged-experts-num-resident` as many as pages (srt/layers/moe/paged_experts).
    """
    resident = settings.value(KT_FLAG)
    if resident is None and settings.on(PAGED_SWITCH):
        resident = settings.value(PAGED_FLAG)
    if not isinstance(resident, int):
        return None
    of = max((ffn.num_experts for ffn in experts_of(serving.spec)), default=0)
    if not of or resident >= of:
        return None
    share = (of - resident) / of

    def stays(weight: Weight, layer: int | None) -> float:
        return share if weight.role == "routed_experts" else 0.0

    return stays


def host_lines(serving: Serving, settings: Settings) -> tuple[Line, ...]:
    """Offloaded weights and the host's part of the cache (HiCache), of all ranks together."""
    ranks = serving.layout.num_gpus
    found = []
    offloaded = settings.count("--cpu-offload-gb")
    if offloaded:
        why = Why("cpu_offload_gb x GPUs, pinned", {"num_gpus": ranks}, "SGLang 0.5.23 srt/utils/offloader.py")
        found.append(line("host.offloaded", "weights kept in host memory", ranks * offloaded, "derived", why))
    cache = settings.count("--hicache-size")
    if cache and settings.on("--enable-hierarchical-cache"):
        why = Why("hicache_size x GPUs, pinned", {"num_gpus": ranks}, "SGLang 0.5.23 srt/mem_cache/pool_host/base.py")
        found.append(line("host.kv_cache", "cache kept in host memory", ranks * cache, "derived", why))
    return tuple(found)


def load_peak_bytes(serving: Serving, settings: Settings, rank: RankView) -> int | None:
    """Weights, and once more the experts of one layer, which are repacked layer by layer once all are loaded.

    Source: SGLang 0.5.23 srt/model_loader/loader.py, process_weights_after_loading of each quantisation.
    """
    experts = sum(entry.bytes for entry in rank.weights if entry.role == "routed_experts")
    layers = sum(any(hasattr(ffn, "num_experts") for ffn in layer.ffns) for layer in rank.spec.layers)
    return total_bytes(rank.weights) + (experts // layers if layers else 0)
