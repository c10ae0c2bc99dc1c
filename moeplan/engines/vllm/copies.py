"""What vLLM keeps beside the checkpoint's weights: 16-bit copies, padding of kernels, adapter slots; less what it offloads."""

from __future__ import annotations

from moeplan.core.adapters import adapter_elements
from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import absorbed_elements
from moeplan.core.model import MoeFfn
from moeplan.core.placement import RankView
from moeplan.engines.vllm.kernels import MXFP4_PADDING, Padding, expert_backend, expert_format, padded_share, padding

COPY_ELEMENT_BYTES = 2


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank; they count as weights, as in the engine's own `Model loading took`."""
    found = (
        _absorbed(rank),
        _expert_padding(serving, settings, rank),
        _adapters(serving, settings, rank),
        _offloaded(settings, rank),
    )
    return tuple(entry for entry in found if entry is not None)


def _absorbed(rank: RankView) -> Line | None:
    elements = absorbed_elements(rank.spec, rank.division.attention)
    if not elements:
        return None
    why = Why(
        "layers x kv_lora_rank x heads / tp x (qk_nope_head_dim + v_head_dim) x 2 B",
        {"elements": elements},
        "vLLM 0.33.0 layers/attention/mla_attention.py: W_UK and W_UV stay beside kv_b_proj",
    )
    size = COPY_ELEMENT_BYTES * elements
    return line("absorbed_projections", "latent attention, 16-bit copies", size, "derived", why, role="attention")


def _expert_padding(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """What kernels add to experts whose sizes they cannot take; a band where it was not stated which kernels run."""
    held = next((entry for entry in rank.weights if entry.role == "routed_experts"), None)
    ffn = next((ffn for layer in rank.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), None)
    experts = expert_format(serving)
    if held is None or ffn is None or experts is None:
        return None
    hidden = ffn.latent_size or rank.spec.hidden_size
    backend = expert_backend(serving, settings)
    ranks = rank.division.expert_tp

    def added(pad: Padding) -> float:
        return held.bytes * (padded_share(ffn, hidden, ranks, pad) - 1)

    likely = added(padding(experts, backend, hidden))
    stated = settings.text("--moe-backend") not in (None, "auto")
    others = [likely]
    if experts.startswith("mxfp4"):
        amd = serving.hardware is not None and serving.hardware.vendor == "amd"
        others = [0.0, *(added(pad) for name, pad in MXFP4_PADDING.items() if (name == "aiter") == amd)]
    if not any((likely, *others)):
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
        "vLLM 0.33.0 fused_moe/oracle/*.py, quantization/utils/marlin_utils*.py; "
        + ("the kernels were stated" if stated else "the kernels were inferred from card and format"),
    )
    return line(
        "expert_padding", "padding of expert kernels", likely, "derived" if stated else "assumed", why,
        role="routed_experts",
        low_bytes=likely if stated else min(likely, *others),
        high_bytes=likely if stated else max(likely, *others),
    )  # fmt: skip


def _adapters(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """Slots of LoRA adapters, allocated whole at start; experts have slots where the model's class takes adapters on them."""
    if not settings.on("--enable-lora"):
        return None
    slots = settings.count("--max-loras") or 1
    width = settings.count("--max-lora-rank") or 16
    plain, experts = adapter_elements(serving.owned, rank, width)
    sizes = [COPY_ELEMENT_BYTES * slots * elements for elements in (plain, plain + experts)]
    why = Why(
        "max_loras x max_lora_rank x (in + out features of every linear module on this rank) x 2 B",
        {"max_loras": slots, "max_lora_rank": width},
        "vLLM 0.33.0 lora/layers; the high end has slots for routed experts too",
    )
    return line(
        "adapter_slots", "LoRA adapter slots", sizes[0], "derived", why, low_bytes=sizes[0], high_bytes=sizes[1]
    )


def _offloaded(settings: Settings, rank: RankView) -> Line | None:
    asked = settings.count("--cpu-offload-gb")
    size = min(asked, sum(entry.bytes for entry in rank.weights))
    if not size:
        return None
    why = Why("cpu_offload_gb per GPU, whole parameters", {"cpu_offload_bytes": asked}, "vLLM 0.33.0 config/offload.py")
    return line("offloaded_weights", "weights kept in host memory", -size, "derived", why)
