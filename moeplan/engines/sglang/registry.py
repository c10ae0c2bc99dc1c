"""What SGLang does by model: tables by `model_type`, and the questions that other files ask of a model.

Sources: SGLang 0.5.23 srt/models/*.py, srt/configs/model_config.py, srt/arg_groups/overrides.py,
srt/layers/attention/attention_registry.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.mixers import mixers_of
from moeplan.core.model import (
    CompressedAttention,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    ModelSpec,
    MoeFfn,
    ShortConvolution,
)

WHOLE_EMBEDDING = (
    "bailing_hybrid", "deepseek_v4", "exaone_moe",
    "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "step3p5", "step3p7",
)  # fmt: skip
"""Models whose input table is whole on every rank under attention data parallelism (`enable_tp=not dp_attention`);
all others divide it over the attention ranks (`use_attn_tp_group`)."""
DEEPSEEK = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm_moe_dsa", "glm4_moe_lite")
"""Models that SGLang runs with its DeepSeek classes."""
WITHOUT_DP_ATTENTION = (
    "afmoe", "cohere2_moe", "dbrx", "deepseek", "ernie4_5_moe", "ernie4_5_vl_moe", "gemma", "gemma2", "gemma3",
    "gemma3_text", "gemma4", "gemma4_text", "granitemoe", "granitemoehybrid", "granitemoeshared", "granitemoe_swa",
    "grok-1", "hunyuan", "hunyuan_v1_moe", "hy_v3", "lfm2_moe", "llama", "ministral", "mistral", "mixtral", "olmo2",
    "olmoe", "phi3", "qwen2",
)  # fmt: skip
"""Models whose file divides attention over all tensor-parallel ranks: nothing in it asks for the attention group."""
WITHOUT_STAGES = (
    "afmoe", "cohere2_moe", "dbrx", "deepseek", "ernie4_5_moe", "ernie4_5_vl_moe", "gemma", "gemma2", "gemma3",
    "gemma3_text", "granitemoe", "granitemoeshared", "grok-1", "hunyuan", "hunyuan_v1_moe", "hy_v3", "lfm2_moe", "llama4",
    "longcat_flash", "olmo2", "olmoe", "phimoe", "qwen3_next", "step3p7",
)  # fmt: skip
"""Models that run in one stage: `forward` of their class takes no `pp_proxy_tensors` (model_executor/model_runner.py)."""
NEVER = ("arctic", "minimax_m1", "minimax_text_01", "minimax", "nllb-moe", "openmoe", "switch_transformers")
"""Models without a class, which transformers' modules cannot serve either."""
BY_TRANSFORMERS = (
    "axk1", "dots1", "flex_olmo", "flint", "jamba", "jetmoe", "kolibri1", "mistral4", "mistral_large4", "olmo3",
    "solar_open",
)  # fmt: skip
"""Models without a class of their own, which may run through transformers' modules (models/transformers.py)."""
SECOND_POOL_SINCE = {
    "llama4": "0.4.6", "llama4_text": "0.4.6", "gpt_oss": "0.5.8", "mimo_v2_flash": "0.5.8", "step3p5": "0.5.9",
    "step3p7": "0.5.9", "gemma4": "0.5.13", "gemma4_text": "0.5.13", "laguna": "0.5.13", "deepseek_v4": "0.5.13",
    "mellum": "0.5.16", "granitemoe_swa": "0.5.23", "beam": "0.5.23",
}  # fmt: skip
"""Models whose window layers have a pool of their own, and since which release
(configs/model_config.py:get_hybrid_layer_ids). Those of all others hold every token."""
EXTRA_BUFFER = (
    "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "kimi_linear", "kimi_k3",
    "bailing_hybrid", "granitemoehybrid", "nemotron_h", "glm5_next",
)  # fmt: skip
"""Models whose recurrent layers keep track buffers beside the states where nobody says otherwise."""
EXTRA_BUFFER_SINCE = "0.5.15"
PREFILL_GRAPHS_WITH_TOWERS = (
    "glm5_next", "qwen3_5", "qwen3_5_moe", "kimi_k3", "kimi_k25", "minimax_m3", "qwen4_exp",
)  # fmt: skip
"""Models with towers that capture prefill graphs all the same."""
QWEN3_MOE = ("qwen3_moe", "qwen3_next", "qwen3_vl_moe", "qwen3_5_moe", "qwen3_omni_moe")


def experts_of(spec: ModelSpec) -> tuple[MoeFfn, ...]:
    """Every kind of routed feed-forward that the model has, once."""
    return tuple(dict.fromkeys(_sparse(spec)))


def is_latent(spec: ModelSpec) -> bool:
    """True for models whose cache is of latents (`use_mla_backend`), DeepSeek-V4 included."""
    return any(isinstance(mixer, LatentAttention | CompressedAttention) for mixer in mixers_of(spec))


def is_compressed(spec: ModelSpec) -> bool:
    """True for DeepSeek-V4."""
    return any(isinstance(mixer, CompressedAttention) for mixer in mixers_of(spec))


def is_indexed(spec: ModelSpec) -> bool:
    """True for sparse latent attention (DSA): DeepSeek-V3.2, GLM-5."""
    return any(isinstance(mixer, LatentAttention) and mixer.indexer is not None for mixer in mixers_of(spec))


def is_recurrent(spec: ModelSpec) -> bool:
    """True where some layers keep a state instead of tokens."""
    kinds = GatedDelta | KimiDelta | LightningAttention | Mamba1 | Mamba2 | ShortConvolution
    return any(isinstance(mixer, kinds) for mixer in mixers_of(spec))


def has_sinks(spec: ModelSpec) -> bool:
    """True for attention with learned sinks."""
    return any(isinstance(mixer, GroupedAttention) and mixer.sinks for mixer in mixers_of(spec))


def is_multimodal(spec: ModelSpec) -> bool:
    """True for models with an encoder for pictures or sound."""
    return any(tower.name not in ("talker", "code2wav") for tower in spec.towers)


def key_pool_tokens(spec: ModelSpec) -> int:
    """Tokens that share one key of the indexer (GLM-5.3); 1 for all others.

    The number of learned positions within a pool: rows of `index_kpool_compress_ape`.
    """
    for mixer in mixers_of(spec):
        if isinstance(mixer, LatentAttention) and mixer.indexer is not None and mixer.indexer.pooled:
            for weight in mixer.extras:
                if weight.name.endswith("index_kpool_compress_ape"):
                    return weight.shape[0]
    return 1


def _sparse(spec: ModelSpec) -> Iterator[MoeFfn]:
    for layer in dict.fromkeys(spec.layers):
        for ffn in layer.ffns:
            if isinstance(ffn, MoeFfn):
                yield ffn
