"""What a prefill of transformers has alive at its peak beside weights and cache: tensors of one layer, at its widest step.

Read in transformers 5.23.0: `generate` runs whole prompts in one pass and asks for the last logits alone; layers are those
of models/llama and kin, experts those of integrations/moe.py (`grouped_mm`, its default), attention that of
integrations/sdpa_attention.py, or a model's own eager code where it has attention sinks.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from moeplan.core.kv_cache import CacheRow, CacheRules, entry_bytes, window_kept_tokens
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    DenseFfn,
    Ffn,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
    RoutedAttention,
    ShortConvolution,
)

TRACED = (
    "bailing_hybrid", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe", "gemma2", "glm4_moe", "glm4_moe_lite",
    "gpt_oss", "granitemoe", "hy_v3", "kimi_linear", "lfm2_moe", "llama", "llama4", "minimax_m2", "mistral", "mixtral",
    "olmoe", "phimoe", "qwen2", "qwen3", "qwen3_moe", "solar_open",
)  # fmt: skip
"""Model types whose tensors, traced on shapes alone, add up to this within 1 %."""

MODEL_DTYPE_ROUTING = (
    "deepseek_v4", "ernie4_5_moe", "gpt_oss", "granitemoe", "granitemoehybrid", "jamba", "lfm2_moe", "olmoe", "phimoe",
    "qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe",
)  # fmt: skip
"""Model types whose routing weights reach the experts in the model's dtype; in others they are float32, so that the
weighted rows of all experts are float32 too."""

EAGER_ATTENTION = ("deepseek_v4", "flint", "gemma2", "gpt_oss", "mimo_v2_flash")
"""Model types without a fused kernel: whole matrices of scores, of which the last stays alive through the feed-forward."""

SHARED_FIRST = ("ernie4_5_moe", "qwen2_moe", "qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text")
"""Model types whose shared experts run before the routed ones, so that their result is alive beside these."""

ALL_EXPERTS_ROWS = ("llama4", "llama4_text")
"""Model types that run every expert on every token (`Llama4TextExperts`)."""

INDEX_BYTES = 38
"""Of one row of the experts: choice, its sort, the order and its inverse (8 B each), a count (4 B), and 2 B as traced."""

SINK_SCORES = 3
"""Matrices of scores alive at once in eager attention with sinks: masked, joined with the sinks, and less their maximum."""


class Peak(NamedTuple):
    """Bytes of one prefill at its peak."""

    bytes: int
    step: str
    """The widest step: `experts`, `feed-forward`, `attention`, `logits`."""


def prefill_peak(spec: ModelSpec, sequences: int, prompt_tokens: int, value_bytes: int) -> Peak:
    """The widest step of any layer, for `sequences` prompts at once."""
    tokens, pairs = sequences * prompt_tokens, sequences * prompt_tokens**2
    h = spec.hidden_size * value_bytes
    eager = spec.model_type in EAGER_ATTENTION
    steps: list[Peak] = []
    for layer in dict.fromkeys(spec.layers):
        kept = 0
        for mixer in layer.mixers:
            # Embeddings, the layer's input and its norm are alive beside what the mixer makes.
            per_token, per_pair = _mixer(spec, mixer, value_bytes)
            steps.append(Peak(tokens * (3 * h + per_token) + pairs * per_pair, "attention"))
            if eager:
                kept = max(kept, getattr(mixer, "num_heads", 0) * value_bytes)
        for ffn in layer.ffns:
            # Embeddings, input, residual and norm; with eager attention also the scores that nobody asked for.
            step = "experts" if isinstance(ffn, MoeFfn) else "feed-forward"
            steps.append(Peak(tokens * (4 * h + _ffn(spec, ffn, value_bytes)) + pairs * kept, step))
    steps.append(Peak(sequences * spec.vocab_size * (value_bytes + 4), "logits"))
    widest = max(steps)
    # Sines and cosines of one prompt.
    rope = 2 * max((_rope(mixer) for layer in spec.layers for mixer in layer.mixers), default=0) * value_bytes
    masks = _mask_bytes(spec, sequences, prompt_tokens, value_bytes)
    return widest._replace(bytes=widest.bytes + prompt_tokens * rope + masks)


def held_window_bytes(rows: tuple[CacheRow, ...], rules: CacheRules, sequences: int, prompt_tokens: int) -> int:
    """What window layers hold beyond their window after a prompt: they cut it out of all keys and values as a view, which
    keeps these alive until one more token is joined to a copy (DynamicSlidingWindowLayer.update in cache_utils.py)."""
    return sequences * sum(
        row.count * entry_bytes(row, rules) * (prompt_tokens - window_kept_tokens(row, rules, prompt_tokens))
        for row in rows
        if row.kind in ("sliding", "chunked")
    )


def _mask_bytes(spec: ModelSpec, sequences: int, prompt_tokens: int, value_bytes: int) -> int:
    """Whole masks, one for each kind of window; fused attention over all tokens needs none."""
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    windows = {getattr(mixer, "window_tokens", None) for mixer in mixers} - {None}
    if spec.model_type in EAGER_ATTENTION:
        kinds = len(windows) + any(getattr(mixer, "window_tokens", 0) is None for mixer in mixers)
        return kinds * sequences * prompt_tokens * prompt_tokens * value_bytes
    narrow = [window for window in windows if window is not None and window <= prompt_tokens]
    return len(narrow) * prompt_tokens * prompt_tokens


def _ffn(spec: ModelSpec, ffn: Ffn, value_bytes: int) -> int:
    """Bytes for each token."""
    match ffn:
        case DenseFfn():
            return (3 if ffn.gated else 2) * ffn.width * value_bytes
        case MoeFfn():
            into, width = ffn.latent_size or spec.hidden_size, ffn.expert_width
            rows = ffn.num_experts if spec.model_type in ALL_EXPERTS_ROWS else ffn.experts_per_token
            weight_bytes = value_bytes if spec.model_type in MODEL_DTYPE_ROUTING else 4
            # Gate and up in one matrix, the activated gate, their product; gpt-oss adds biases and clamps both.
            between = (9 if ffn.expert_bias else 4) if ffn.gated else 3
            gate = (into + between * width) * value_bytes
            # Rows in, rows out, weighted, and back in order.
            out = (2 * value_bytes + 2 * weight_bytes) * into
            logits = (ffn.num_experts + ffn.num_zero_experts) * weight_bytes
            first = ffn.num_shared_experts and spec.model_type in SHARED_FIRST
            shared = spec.hidden_size * value_bytes if first else 0
            return rows * (max(gate, out) + INDEX_BYTES + 2 * weight_bytes) + logits + shared
        case _:
            assert_never(ffn)


def _mixer(spec: ModelSpec, mixer: Mixer, value_bytes: int) -> tuple[int, int]:
    """Bytes for each token, and for each pair of tokens of a prompt."""
    match mixer:
        case GroupedAttention():
            made = mixer.num_heads * (2 * mixer.key_head_dim + mixer.value_head_dim) * value_bytes
            if spec.model_type not in EAGER_ATTENTION:
                return made, 0
            # Gemma 2's softmax goes to float32 and back; those with sinks stay in the model's dtype.
            scores = value_bytes + 8 if spec.model_type == "gemma2" else SINK_SCORES * value_bytes
            return made, scores * mixer.num_heads
        case LatentAttention():
            # Queries, twice; what the latent is projected up to; keys put together from it; results, twice.
            key = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
            made = mixer.num_heads * (3 * key + mixer.qk_nope_head_dim + 3 * mixer.v_head_dim) * value_bytes
            # The indexer scores every pair in float32, head by head, and weights the scores.
            return made, 2 * 4 * mixer.indexer.num_heads if mixer.indexer is not None else 0
        case CompressedAttention():
            scores = SINK_SCORES * mixer.num_heads * value_bytes
            return 3 * mixer.num_heads * mixer.head_dim * value_bytes, scores
        case CrossAttention():
            return 3 * mixer.num_heads * mixer.head_dim * value_bytes, 0
        case RoutedAttention():
            return 3 * mixer.experts_per_token * mixer.num_kv_heads * mixer.head_dim * value_bytes, 0
        # The library's own code for recurrences, without the kernels that it would rather use, works in float32: so
        # many copies of the inner width, as traced.
        case GatedDelta():
            return 15 * 4 * mixer.num_value_heads * mixer.value_head_dim, 0
        case KimiDelta():
            return 200 * 4 * mixer.num_heads * mixer.head_dim, 0
        case Mamba1():
            return 14 * mixer.inner_size * mixer.state_size, 0
        case Mamba2():
            return 28 * 4 * mixer.num_heads * mixer.head_dim, 0
        case LightningAttention():
            return 8 * mixer.num_heads * mixer.head_dim * value_bytes, 0
        case ShortConvolution():
            return 4 * mixer.channels * value_bytes, 0
        case _:
            assert_never(mixer)


def _rope(mixer: Mixer) -> int:
    match mixer:
        case GroupedAttention():
            return mixer.key_head_dim
        case LatentAttention():
            return mixer.qk_rope_head_dim
        case _:
            return 0
