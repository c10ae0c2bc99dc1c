"""DeepSeek MoE, V2, V3, V3.2 and V4, and the parts that models built on them share (Kimi, GLM, Mistral)."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import (
    CompressedAttention,
    DenseFfn,
    Indexer,
    LatentAttention,
    Layer,
    ModelSpec,
    MoeFfn,
    Mtp,
    Remark,
    Weight,
)
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import (
    decoder_norms,
    deepseek_mtp,
    dense_first,
    finish,
    grouped_attention,
    latent_attention,
)
from moeplan.sources.families.fields import Fields

EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts")
MTP_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers")


def shared_experts(fields: Fields, *names: str, default: int | None = None) -> int:
    """Number of shared experts: null and 0 mean none, an absent field the family's default."""
    if any(name in fields.values for name in names):
        return fields.optional(*names) or 0
    return fields.integer(*names, default=default, minimum=0)


def experts(fields: Fields, *, shared_default: int | None, **differences: Any) -> MoeFfn:
    """Routed and shared experts by DeepSeek's names; shared ones together are as wide as their number times one."""
    width = fields.integer("moe_intermediate_size")
    num_shared = shared_experts(fields, "n_shared_experts", default=shared_default)
    shape: dict[str, Any] = {
        "num_experts": fields.integer(*EXPERTS),
        "experts_per_token": fields.integer("num_experts_per_tok"),
        "expert_width": width,
        "num_shared_experts": num_shared,
        "shared_width": num_shared * width,
    }
    return MoeFfn(**(shape | differences))


def biased_latent_attention(fields: Fields, **differences: Any) -> LatentAttention:
    """Latent attention whose two down-projections and output have a bias where `attention_bias` says so."""
    bias = fields.flag("attention_bias", False)
    return latent_attention(fields, qkv_bias=bias, output_bias=bias, **differences)


def dense_or_sparse(fields: Fields, sparse: Layer, sparse_layers: tuple[bool, ...]) -> tuple[Layer, ...]:
    """Layers that differ only in the feed-forward: `sparse`, or a dense one of `intermediate_size`."""
    if all(sparse_layers):
        return (sparse,) * len(sparse_layers)
    plain = sparse._replace(ffns=(DenseFfn(fields.integer("intermediate_size")),))
    return tuple(sparse if is_sparse else plain for is_sparse in sparse_layers)


def indexer_owners(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """Which layers run an indexer of their own, and do not share the choice of an earlier one.

    By `indexer_types`, else `index_topk_pattern` (letters F and S, or a list), else `index_topk_freq` and
    `index_skip_topk_offset`. Source: transformers 5.23.0 GlmMoeDsaConfig.
    """
    kinds = fields.strings("indexer_types", num_layers)
    name = "indexer_types"
    if kinds is None and fields.has("index_topk_pattern"):
        name = "index_topk_pattern"
        if isinstance(fields.values[name], str):
            letters = {"F": "full", "S": "shared"}
            pattern = tuple(letters.get(letter, letter) for letter in fields.text(name) or "")
            if len(pattern) != num_layers:
                raise fields.wrong(name, f"has {len(pattern)} letters for {num_layers} layers")
            kinds = pattern
        else:
            kinds = fields.strings(name, num_layers)
    if kinds is None:
        every = max(fields.optional("index_topk_freq") or 1, 1)
        offset = fields.integer("index_skip_topk_offset", default=2, minimum=0) if every > 1 else 2
        return tuple(max(number - offset + 1, 0) % every == 0 for number in range(num_layers))
    unknown = sorted(set(kinds) - {"full", "shared"})
    if unknown:
        raise fields.wrong(name, f"holds {unknown[0]!r}; known are full and shared")
    return tuple(kind == "full" for kind in kinds)


def deepseek(fields: Fields) -> ModelSpec:
    """DeepSeek-MoE 16B: plain attention; shapes as its own published model code builds them."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    bias = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    sparse = Layer((attention,), (experts(fields, shared_default=0),), decoder_norms(hidden))
    layers = dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=0))
    source = "shapes from the code published with deepseek-ai/deepseek-moe-16b-base; transformers does not build it"
    return finish(
        fields,
        family="deepseek",
        defaults="DeepseekConfig of deepseek-ai/deepseek-moe-16b-base",
        layers=layers,
        tied_default=False,
        verified=False,
        remarks=(Remark("not-verified", "info", source),),
    )


def deepseek_v2(fields: Fields) -> ModelSpec:
    """DeepSeek-V2, V2-Lite, Coder-V2: latent attention, softmax router without a correction bias."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    mlp_bias = fields.has("mlp_bias") and fields.flag("mlp_bias", False)
    if mlp_bias:
        raise fields.wrong("mlp_bias", "is true; no published DeepSeek-V2 has biases in its feed-forwards")
    sparse = Layer((biased_latent_attention(fields),), (experts(fields, shared_default=2),), decoder_norms(hidden))
    return finish(
        fields,
        family="deepseek_v2",
        defaults="transformers 5.23.0 DeepseekV2Config",
        layers=dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=0)),
        tied_default=False,
    )


def deepseek_v3(
    fields: Fields,
    *,
    family: str = "deepseek_v3",
    config_class: str = "DeepseekV3Config",
    indexed: bool = False,
    **differences: Any,
) -> ModelSpec:
    """DeepSeek-V3, R1, V3.1, Moonlight: latent attention, correction bias, dense layers first, MTP behind the last."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    attention = biased_latent_attention(fields, indexed=indexed or fields.has("index_topk"))
    sparse = Layer((attention,), (experts(fields, shared_default=1, correction_bias=True),), decoder_norms(hidden))
    return finish(
        fields,
        family=family,
        defaults=f"transformers 5.23.0 {config_class}",
        layers=dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=3)),
        tied_default=False,
        mtp=deepseek_mtp(hidden, fields.integer("vocab_size"), sparse, fields.optional(*MTP_LAYERS) or 0, num_layers),
        **differences,
    )


def deepseek_v32(fields: Fields) -> ModelSpec:
    """DeepSeek-V3.2: V3 with a lightning indexer in every layer, the MTP layer too."""
    return deepseek_v3(fields, family="deepseek_v32", config_class="DeepseekV32Config", indexed=True)


# DeepSeek-V4 -----------------------------------------------------------------------------------------------

V4_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def deepseek_v4(fields: Fields) -> ModelSpec:
    """DeepSeek-V4: compressed attention, hyper-connections, first layers routed by a table of token ids.

    Names follow the published checkpoint (`layers.N.ffn.experts.E.w1`, no `model.`). The MTP layer has the window
    alone and its own hyper-connection head. Sources: transformers 5.23.0 DeepseekV4ForCausalLM and its table of
    checkpoint names; for MTP the reference code published with deepseek-ai/DeepSeek-V4-Flash.
    """
    hidden = fields.integer("hidden_size")
    vocab = fields.integer("vocab_size")
    num_layers = fields.num_layers("num_hidden_layers")
    streams = fields.integer("hc_mult", default=4)
    mixers = _v4_mixers(fields, num_layers)
    routed = experts(fields, shared_default=1, name="ffn", correction_bias=True)
    lookup = Weight("gate.tid2eid", "router", (vocab, routed.experts_per_token), buffer=True)
    hashed = routed._replace(correction_bias=False, extras=(lookup,))
    extras = norms(hidden, "attn_norm", "ffn_norm") + hyper_connections(hidden, streams)
    layers = tuple(
        Layer((mixer,), (hashed if is_hashed else routed,), extras)
        for mixer, is_hashed in zip(mixers, _v4_hashed(fields, num_layers), strict=True)
    )
    window = mixers[0]._replace(tokens_per_entry=0, indexer=None)
    return finish(
        fields,
        family="deepseek_v4",
        defaults="transformers 5.23.0 DeepseekV4Config",
        layers=layers,
        tied_default=False,
        mtp=_v4_mtp(fields, Layer((window,), (routed,), extras), hidden, streams),
        prefix="",
        embedding_name="embed.weight",
        lm_head_name="head.weight",
        extras=norms(hidden, "norm") + _hyper_head("", hidden, streams),
        renames=(
            ("mtp.layers.", "mtp."),
            ("gate.e_score_correction_bias", "gate.bias"),
            (".gate_proj", ".w1"),
            (".up_proj", ".w3"),
            (".down_proj", ".w2"),
        ),
    )


def hyper_connections(hidden: int, streams: int) -> tuple[Weight, ...]:
    """The two mixers of a layer's residual streams: read, write and stream-to-stream weights per stream."""
    rows = streams * (2 + streams)
    weights: tuple[Weight, ...] = ()
    for part in ("hc_attn", "hc_ffn"):
        weights += (
            Weight(f"{part}_fn", "other", (rows, streams * hidden)),
            Weight(f"{part}_base", "other", (rows,)),
            Weight(f"{part}_scale", "other", (3,)),
        )
    return weights


def _hyper_head(stem: str, hidden: int, streams: int) -> tuple[Weight, ...]:
    return (
        Weight(f"{stem}hc_head_fn", "other", (streams, streams * hidden)),
        Weight(f"{stem}hc_head_base", "other", (streams,)),
        Weight(f"{stem}hc_head_scale", "other", (1,)),
    )


def _v4_mixers(fields: Fields, num_layers: int) -> tuple[CompressedAttention, ...]:
    indexer = Indexer(
        num_heads=fields.integer("index_n_heads"),
        head_dim=fields.integer("index_head_dim"),
        top_k=fields.integer("index_topk"),
    )
    attention = CompressedAttention(
        num_heads=fields.integer("num_attention_heads"),
        head_dim=fields.integer("head_dim"),
        rope_head_dim=fields.integer("qk_rope_head_dim", default=64),
        q_lora_rank=fields.integer("q_lora_rank"),
        o_groups=fields.integer("o_groups"),
        o_lora_rank=fields.integer("o_lora_rank"),
        window_tokens=fields.integer("sliding_window"),
        tokens_per_entry=0,
        name="attn",
    )
    if attention.num_heads % attention.o_groups:
        raise fields.wrong("o_groups", f"is {attention.o_groups}; it must divide {attention.num_heads} heads")
    kinds = _v4_kinds(fields, num_layers)
    stated = fields.sub("compress_rates")
    rates = {}
    for kind, legacy in (
        ("compressed_sparse_attention", "compress_rate_csa"),
        ("heavily_compressed_attention", "compress_rate_hca"),
    ):
        rate = fields.optional(legacy, minimum=1) or (stated.optional(kind, minimum=1) if stated else None)
        rates[kind] = rate or V4_RATIOS[kind]
    of_kind = {
        "sliding_attention": attention,
        "compressed_sparse_attention": attention._replace(
            tokens_per_entry=rates["compressed_sparse_attention"], indexer=indexer
        ),
        "heavily_compressed_attention": attention._replace(tokens_per_entry=rates["heavily_compressed_attention"]),
    }
    return tuple(of_kind[kind] for kind in kinds)


def _v4_kinds(fields: Fields, num_layers: int) -> tuple[str, ...]:
    stated = fields.strings("layer_types", num_layers)
    if stated is not None:
        unknown = sorted(set(stated) - set(V4_RATIOS))
        if unknown:
            raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are {', '.join(V4_RATIOS)}")
        return stated
    ratios = fields.integers("compress_ratios")
    if ratios is None:
        fields.need("compress_ratios")
        return ("sliding_attention",) * num_layers
    if len(ratios) < num_layers:
        raise fields.wrong("compress_ratios", f"has {len(ratios)} entries for {num_layers} layers")
    by_ratio = {ratio: kind for kind, ratio in V4_RATIOS.items()}
    # The list goes on with the MTP layers.
    ratios = ratios[:num_layers]
    unknown_ratio = next((ratio for ratio in ratios if ratio not in by_ratio), None)
    if unknown_ratio is not None:
        raise fields.wrong("compress_ratios", f"holds {unknown_ratio}; known are 0, 4 and 128")
    return tuple(by_ratio[ratio] for ratio in ratios)


def _v4_hashed(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    kinds = fields.strings("mlp_layer_types", num_layers)
    if kinds is None:
        first = fields.integer("num_hash_layers", default=3, minimum=0)
        return tuple(number < first for number in range(num_layers))
    unknown = sorted(set(kinds) - {"hash_moe", "moe"})
    if unknown:
        raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are hash_moe and moe")
    return tuple(kind == "hash_moe" for kind in kinds)


def _v4_mtp(fields: Fields, layer: Layer, hidden: int, streams: int) -> Mtp | None:
    num_modules = fields.optional(*MTP_LAYERS) or 0
    if not num_modules:
        return None
    extras: tuple[Weight, ...] = ()
    for number in range(num_modules):
        stem = f"mtp.{number}."
        extras += norms(hidden, f"{stem}enorm", f"{stem}hnorm", f"{stem}norm")
        extras += linear(f"{stem}e_proj", "other", hidden, hidden)
        extras += linear(f"{stem}h_proj", "other", hidden, hidden)
        extras += _hyper_head(stem, hidden, streams)
    return Mtp((layer,) * num_modules, extras)
