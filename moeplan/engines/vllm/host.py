"""vLLM's host memory, and the peak of a device while weights are loaded."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import Weight
from moeplan.core.placement import RankView
from moeplan.core.units import GIB
from moeplan.engines.vllm.copies import all_offloaded_bytes, weight_lines
from moeplan.engines.vllm.settings import SWAPS_UNTIL

SWAP_BYTES = 4 * GIB
"""Default of `--swap-space` per GPU in the V0 engine; the flag went away with it."""


def host_share(serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
    """All weights are on devices; what `--cpu-offload-gb` moves is a line of each rank."""
    return None


def host_lines(serving: Serving, settings: Settings) -> tuple[Line, ...]:
    """Offloaded weights, swap space, offloaded cache, and the files being read while loading, of all ranks together."""
    ranks = serving.layout.num_gpus
    found = []
    offloaded = all_offloaded_bytes(serving, settings)
    if offloaded:
        why = Why(
            "sum over GPUs of min(cpu_offload_gb, weights of its layers), pinned",
            {"num_gpus": ranks, "cpu_offload_bytes": settings.count("--cpu-offload-gb")},
            "vLLM 0.33.0 config/offload.py, model_executor/offloader/uva.py",
        )
        found.append(line("host.offloaded", "weights kept in host memory", offloaded, "derived", why))
    swap = settings.value("--swap-space")
    if not serving.constants.at_least(SWAPS_UNTIL):
        size = settings.count("--swap-space") if swap is not None else SWAP_BYTES
        why = Why("swap_space x GPUs", {"num_gpus": ranks}, "vLLM before 0.11: 4 GiB per GPU where nobody says another")
        found.append(line("host.swap", "swap space of the cache", ranks * size, "derived", why))
    shard = serving.constants.of("host_loading_shard_bytes")
    why = Why("one file of the checkpoint per rank, mapped while it is read", {"num_gpus": ranks}, shard.source)
    found.append(
        line(
            "host.loading", "files being read while loading", ranks * shard.value, "assumed", why,
            low_bytes=ranks * shard.low, high_bytes=ranks * shard.high,
        )
    )  # fmt: skip
    cache = settings.count("--kv-offloading-size")
    if cache:
        why = Why("kv_offloading_size, for all ranks", {}, "vLLM 0.33.0 config/cache.py")
        found.append(line("host.kv_cache", "cache kept in host memory", cache, "derived", why))
    return tuple(found)


def load_peak_bytes(serving: Serving, settings: Settings, rank: RankView) -> int | None:
    """What the rank holds once loaded, and once more the experts of one layer, padded as their kernels need them: these
    are repacked layer by layer. Adapter slots are made after that; offloaded weights were never on the device, but a
    layer is brought there to be repacked.

    Source: vLLM 0.33.0 model_executor/model_loader/utils.py:process_weights_after_loading, v1/worker/gpu_model_runner.py
    (load_lora_model after the model), model_executor/offloader/uva.py.
    """
    lines = rank.weights + weight_lines(serving, settings, rank)
    held = total_bytes(lines)
    slots = total_bytes(entry for entry in lines if entry.code == "adapter_slots")
    experts = total_bytes(entry for entry in lines if entry.role == "routed_experts")
    layers = sum(any(hasattr(ffn, "num_experts") for ffn in layer.ffns) for layer in rank.spec.layers)
    return max(held, held - slots + (experts // layers if layers else 0))
