"""An oracle from outside: the same config built by transformers on the meta device, its parameters sorted by name.

Nothing here knows moeplan. Roles are told by the module names that transformers gives, so that a weight which
our inventory forgets, doubles or puts under another role shows up as a difference.
"""

from __future__ import annotations

import re
from typing import Any

ROLES = (
    ("towers", r"visual|vision|audio_tower|mm_projector|multi_modal_projector|embed_vision|embed_audio|talker|code2wav|aligner|resampler"),
    ("lm_head", r"lm_head\."),
    ("embedding", r"embed_tokens\.|wte\.|word_embeddings\.|model\.shared\.|^shared\.|embed_in\.|model\.embeddings\."),
    ("moe_latent", r"latent_proj"),
    ("shared_experts", r"shared_expert|shared_mlp|share_expert"),
    ("other", r"\.(mlp|experts)\.bias$"),
    ("router", r"expert_bias|experts\.router"),
    ("routed_experts", r"experts\.|\.input_linear|\.output_linear"),
    ("router", r"\.gate\.|router"),
    ("other", r"_hc\.|hc_head"),
    ("norm", r"mamba\.(dt|b|c)_layernorm|\.post_attention_layernorm|(attn|attention|ff)_layer_?norm|linear_attn\.norm\."),
    ("recurrent", r"linear_attn|mamba|\.mixer\.(?!(q|k|v|o|up|down)_proj)|conv1d|A_log|dt_bias|\.conv\.|\.ssm"),
    ("attention", r"attn|[aA]ttention|\.mixer\.[qkvo]_proj"),
    ("norm", r"norm"),
    ("dense_mlp", r"mlp|\.mixer\.(up|down)_proj|feed_forward|ffn|DenseReluDense|\.fc[12]"),
)  # fmt: skip


def build(config: dict[str, Any], auto_class: str = "AutoModelForCausalLM") -> Any:
    """The transformers model of `config`, on the meta device: shapes without memory."""
    import torch
    import transformers

    values = dict(config)
    values.pop("quantization_config", None)
    values.pop("auto_map", None)
    model_type = values.pop("model_type")
    loaded = transformers.AutoConfig.for_model(model_type, **values)
    with torch.device("meta"):
        return getattr(transformers, auto_class).from_config(loaded)


def parameters_by_name(model: Any) -> dict[str, tuple[int, ...]]:
    """Name to shape of every parameter, tied ones once."""
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def by_role(model: Any) -> dict[str, int]:
    """Parameters summed by role; names that fit no pattern are `other`."""
    counts: dict[str, int] = {}
    for name, tensor in model.named_parameters():
        role = next((role for role, pattern in ROLES if re.search(pattern, name)), "other")
        counts[role] = counts.get(role, 0) + tensor.numel()
    return counts
