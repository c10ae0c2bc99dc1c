"""What TensorRT-LLM keeps beside the checkpoint's weights: the absorbed projection of latents, padding of kernels."""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import LatentAttention, MoeFfn
from moeplan.core.placement import RankView
from moeplan.engines.trtllm.kernels import (
    BACKEND,
    MXFP4_PADDING,
    Padding,
    expert_backend,
    expert_format,
    padded_share,
    padding,
)

COPY_ELEMENT_BYTES = 2
UNPACKS_SINCE = "1.3"
"""Since then `kv_b_proj` of fp8 checkpoints in blocks is unpacked to 16 bit whatever runs the experts."""


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank; they are in the engine's own "Memory used after loading model weights"."""
    found = (_absorbed(serving, settings, rank), _expert_padding(serving, settings, rank))
    return tuple(entry for entry in found if entry is not None)


def _absorbed(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """The transposed key part of `kv_b_proj`; its value part is a view into it.

    Where `kv_b_proj` is fp8 in blocks it is unpacked to 16 bit, and so is the copy. Before 1.3 only the TRTLLM backend
    did so: else both stayed in fp8, with 16-bit copies of key and value parts beside them on compute capability 10.
    Sources: TensorRT-LLM _torch/modules/mla.py:create_weights, _torch/model_config.py:load_hf_quant_config,
    models/modeling_deepseekv3.py (load_kv_b_proj_and_k_b_proj_trans).
    """
    keys = values = fp8 = 0
    for layer in rank.spec.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, LatentAttention):
                heads = -(-mixer.num_heads // rank.division.attention)
                keys += mixer.kv_lora_rank * heads * mixer.qk_nope_head_dim
                values += mixer.kv_lora_rank * heads * mixer.v_head_dim
    if not keys:
        return None
    if _latent_format(serving).startswith("fp8 128x128"):
        fp8 = keys + values
    capability = (serving.hardware.compute_capability if serving.hardware else None) or ""
    unpacked = serving.constants.at_least(UNPACKS_SINCE) or expert_backend(serving, settings) == "TRTLLM"
    if fp8 and not unpacked:
        size = keys + (COPY_ELEMENT_BYTES * (keys + values) if capability.startswith("10.") else 0)
        formula = "key part in fp8, and on compute capability 10 key and value parts in 16 bit"
    else:
        size = COPY_ELEMENT_BYTES * keys + fp8
        formula = "key part of kv_b_proj x 2 B, and 1 B more per element of kv_b_proj where the checkpoint has fp8"
    why = Why(
        formula,
        {"key_elements": keys, "value_elements": values, "fp8_elements": fp8},
        "TensorRT-LLM _torch/modules/mla.py, _torch/model_config.py",
    )
    return line("absorbed_projections", "latent attention, absorbed projection", size, "derived", why, role="attention")


def _latent_format(serving: Serving) -> str:
    for entry in serving.owned:
        weight = entry.weight
        if entry.part == "text" and "kv_b_proj" in weight.name and weight.linear:
            name = entry.first_name
            return serving.quantisation.format_of(name, weight.role, linear=True).name
    return ""


def _expert_padding(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """What kernels add to experts whose sizes they cannot take; a band where no log holds against the rule."""
    held = next((entry for entry in rank.weights if entry.role == "routed_experts"), None)
    ffn = next((ffn for layer in rank.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), None)
    experts = expert_format(serving)
    if held is None or ffn is None or experts is None:
        return None
    hidden, ranks = ffn.latent_size or rank.spec.hidden_size, rank.division.expert_tp
    backend = expert_backend(serving, settings)

    def added(pad: Padding) -> float:
        return held.bytes * (padded_share(ffn, hidden, ranks, pad) - 1)

    likely = added(padding(experts, backend))
    open_rule = experts.startswith("mxfp4") and backend != "CUTLASS"
    others = [0.0, *(added(pad) for pad in MXFP4_PADDING.values())] if open_rule else [likely]
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
        "TensorRT-LLM _torch/moe/fused_moe/quantization.py; the kernels were "
        + ("stated" if settings.text(BACKEND) else "inferred from card and format"),
    )
    return line(
        "expert_padding", "padding of expert kernels", likely, "assumed" if open_rule else "derived", why,
        role="routed_experts", low_bytes=min(likely, *others), high_bytes=max(likely, *others),
    )  # fmt: skip
