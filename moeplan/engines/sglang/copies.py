"""What SGLang keeps beside the checkpoint's weights: 16-bit copies, padding of kernels, adapter slots; less what it offloads."""

from __future__ import annotations

from moeplan.core.adapters import adapter_elements
from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import absorbed_elements
from moeplan.core.model import MoeFfn
from moeplan.core.placement import RankView
from moeplan.engines.sglang.kernels import (
    UNCERTAIN_PADDING,
    Padding,
    expert_backend,
    expert_format,
    padded_share,
    padding,
)

COPY_ELEMENT_BYTES = 2
CODES = ("absorbed_projections", "expert_padding", "adapter_slots", "offloaded_weights")
"""Lines that count as weights."""
ADAPTER_SLOTS, ADAPTER_WIDTH = 8, 16
"""`--max-loras-per-batch` by default, and the rank that is taken where none is stated."""


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank; they count as weights, as in the engine's own `mem usage` of the loaded model."""
    found = (
        _absorbed(serving, rank),
        _expert_padding(serving, settings, rank),
        _adapters(serving, settings, rank),
        _offloaded(settings, rank),
    )
    return tuple(entry for entry in found if entry is not None)


def _absorbed(serving: Serving, rank: RankView) -> Line | None:
    elements = absorbed_elements(rank.spec, rank.division.attention)
    if not elements:
        return None
    element_bytes = _copy_element_bytes(serving)
    why = Why(
        f"layers x kv_lora_rank x heads / ranks x (qk_nope_head_dim + v_head_dim) x {element_bytes} B",
        {"elements": elements, "attention_ranks": rank.division.attention},
        "SGLang 0.5.23 srt/models/deepseek_common/deepseek_weight_loader.py: w_kc and w_vc stay beside kv_b_proj",
    )
    size = element_bytes * elements
    return line("absorbed_projections", "latent attention, 16-bit copies", size, "derived", why, role="attention")


def _copy_element_bytes(serving: Serving) -> int:
    """Copies of fp8 weights with one scale per tensor or channel stay fp8; all others are made 16-bit."""
    for entry in serving.owned:
        if entry.part == "text" and entry.weight.name.endswith("kv_b_proj.weight"):
            name = entry.first_name
            stored = serving.quantisation.format_of(name, entry.weight.role, linear=True)
            if stored.name in ("fp8 per tensor", "fp8 per channel"):
                return 1
            break
    return COPY_ELEMENT_BYTES


def _expert_padding(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """What kernels add to experts whose sizes they cannot take; a band where it was not stated which kernels run."""
    held = next((entry for entry in rank.weights if entry.role == "routed_experts"), None)
    ffn = next((ffn for layer in rank.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), None)
    experts = expert_format(serving)
    if held is None or ffn is None or experts is None:
        return None
    hidden = ffn.latent_size or rank.spec.hidden_size
    backend, ranks = expert_backend(serving, settings), rank.division.expert_tp

    def added(pad: Padding) -> float:
        return held.bytes * (padded_share(ffn, hidden, ranks, pad) - 1)

    likely = added(padding(experts, backend, gated=ffn.gated))
    stated = settings.text("--moe-runner-backend") not in (None, "auto")
    sure = stated and backend != "triton_kernel"
    most = likely
    if not sure and experts.startswith("mxfp4"):
        most = max(likely, added(UNCERTAIN_PADDING))
    if not likely and not most:
        return None
    why = Why(
        "expert bytes x (width of one rank and hidden size as the kernels round them up, over their sizes - 1)",
        {
            "expert_bytes": held.bytes,
            "hidden_size": hidden,
            "expert_width": ffn.expert_width,
            "width_ranks": ranks,
            "backend": backend,
        },
        "SGLang 0.5.23 srt/layers/quantization; "
        + ("the kernels were stated" if stated else "the kernels were inferred from card, format and model"),
    )
    return line(
        "expert_padding", "padding of expert kernels", likely, "derived" if sure else "assumed", why,
        role="routed_experts", low_bytes=likely if sure else 0, high_bytes=likely if sure else most,
    )  # fmt: skip


def _adapters(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """Slots of LoRA adapters, allocated whole at start; experts have slots where adapters are on them."""
    if not settings.on("--enable-lora") and settings.value("--lora-paths") is None:
        return None
    slots = settings.count("--max-loras-per-batch") or ADAPTER_SLOTS
    width = settings.count("--max-lora-rank") or ADAPTER_WIDTH
    plain, experts = adapter_elements(serving.owned, rank, width)
    low, high = (COPY_ELEMENT_BYTES * slots * elements for elements in (plain, plain + experts))
    why = Why(
        "max_loras_per_batch x max_lora_rank x (in + out features of every linear module on this rank) x 2 B",
        {"max_loras_per_batch": slots, "max_lora_rank": width},
        "SGLang 0.5.23 srt/lora/mem_pool.py; the high end has slots for routed experts too",
    )
    return line("adapter_slots", "LoRA adapter slots", low, "derived", why, low_bytes=low, high_bytes=high)


def _offloaded(settings: Settings, rank: RankView) -> Line | None:
    asked = settings.count("--cpu-offload-gb")
    size = min(asked, sum(entry.bytes for entry in rank.weights))
    if not size:
        return None
    why = Why(
        "cpu_offload_gb per GPU, whole parameters", {"cpu_offload_bytes": asked}, "SGLang 0.5.23 srt/utils/offloader.py"
    )
    return line("offloaded_weights", "weights kept in host memory", -size, "derived", why)
