"""GLM-4.5 to 4.7, 4.7 Flash, 4.5V, GLM-5 to 5.2 (sparse attention) and GLM-5.3 (with Kimi delta attention)."""

from __future__ import annotations

from moeplan.core.model import (
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
    ModelSpec,
    Mtp,
    Remark,
    Tower,
    Weight,
)
from moeplan.sources.families.blocks import decoder_norms, deepseek_mtp, dense_first, finish, grouped_attention
from moeplan.sources.families.deepseek import (
    MTP_LAYERS,
    biased_latent_attention,
    dense_or_sparse,
    experts,
    hyper_connections,
    indexer_owners,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.glm_vision import glm4v_tower, glm5_tower
from moeplan.sources.families.kimi import kimi_delta
from moeplan.sources.families.layer_types import need_kv_heads
from moeplan.sources.families.nested import inner, left_out, tied


def glm4_moe(fields: Fields) -> ModelSpec:
    """GLM-4.5, 4.6, 4.7 and Air: grouped attention with biases, per-head query/key norms where the config says so."""
    attention = _glm4_attention(fields, bias_default=False, normed=fields.flag("use_qk_norm", False))
    hidden, num_layers, sparse = _sparse_layer(fields, attention)
    mtp = _mtp(fields, hidden, sparse, num_layers, duplicates=True)
    remarks: tuple[Remark, ...] = ()
    if mtp is not None:
        message = (
            "the MTP layer's own copies of embedding and head are counted as in zai-org/GLM-4.5; "
            "checkpoints since GLM-4.6 leave them out"
        )
        remarks = (Remark("mtp-duplicates", "info", message),)
    return finish(
        fields,
        family="glm4_moe",
        defaults="transformers 5.23.0 Glm4MoeConfig",
        layers=dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=1)),
        tied_default=False,
        mtp=mtp,
        remarks=remarks,
    )


def glm4v_moe(fields: Fields) -> ModelSpec:
    """GLM-4.5V: GLM-4.5 Air under `model.language_model.`, with its vision tower."""
    text, vision = inner(fields), fields.sub("vision_config")
    _, num_layers, sparse = _sparse_layer(text, _glm4_attention(text, bias_default=True, normed=False))
    remarks = left_out(fields, "vision_config", "vision tower")
    if text.optional(*MTP_LAYERS):
        remarks += (Remark("mtp-left-out", "info", "no source gives the shapes of this family's MTP layers"),)
    return finish(
        text,
        family="glm4v_moe",
        defaults="transformers 5.23.0 Glm4vMoeConfig",
        layers=dense_or_sparse(text, sparse, dense_first(text, num_layers, default=1)),
        tied=tied(fields, text, default=False),
        outer=fields,
        towers=_towers(glm4v_tower(vision) if vision else None),
        remarks=remarks,
        prefix="model.language_model.",
    )


def glm4_moe_lite(fields: Fields) -> ModelSpec:
    """GLM-4.7 Flash: latent attention; the first layer is dense."""
    hidden, num_layers, sparse = _sparse_layer(fields, biased_latent_attention(fields))
    return finish(
        fields,
        family="glm4_moe_lite",
        defaults="transformers 5.23.0 Glm4MoeLiteConfig",
        layers=dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=1)),
        tied_default=False,
        mtp=_mtp(fields, hidden, sparse, num_layers, duplicates=True),
    )


def glm_moe_dsa(fields: Fields) -> ModelSpec:
    """GLM-5 to 5.2: latent attention, an indexer in every layer or (5.2) in some whose choice the next ones share."""
    indexed = biased_latent_attention(fields, indexed=True)
    hidden, num_layers, sparse = _sparse_layer(fields, indexed)
    by_ffn = dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=3))
    sharing = indexed._replace(indexer=None)
    layers = tuple(
        layer if owns else layer._replace(mixers=(sharing,))
        for layer, owns in zip(by_ffn, indexer_owners(fields, num_layers), strict=True)
    )
    return finish(
        fields,
        family="glm_moe_dsa",
        defaults="transformers 5.23.0 GlmMoeDsaConfig",
        layers=layers,
        tied_default=False,
        # The checkpoints store an indexer in the MTP layer (their lists of unquantised modules name it), and no
        # copies of embedding and head.
        mtp=_mtp(fields, hidden, sparse, num_layers, duplicates=False),
    )


def glm5_next(fields: Fields) -> ModelSpec:
    """GLM-5.3 Flash: Kimi delta attention, every fourth layer sparse latent attention without rotation whose indexer
    pools keys; hyper-connections in every layer but the MTP one; vision tower."""
    text, vision = inner(fields), fields.sub("vision_config")
    latent = _pooled_latent_attention(text)
    hidden, num_layers, indexed = _sparse_layer(text, latent)
    connected = indexed._replace(extras=indexed.extras + hyper_connections(hidden, text.integer("hc_mult", default=4)))
    by_ffn = dense_or_sparse(text, connected, dense_first(text, num_layers, default=3))
    sharing = latent._replace(indexer=None, extras=())
    delta = kimi_delta(text)
    layers = []
    owners = indexer_owners(text, num_layers)
    for layer, is_linear, owns in zip(by_ffn, _linear_layers(text, num_layers), owners, strict=True):
        mixer = delta if is_linear else latent if owns else sharing
        layers.append(layer._replace(mixers=(mixer,)))
    return finish(
        text,
        family="glm5_next",
        defaults="transformers 5.23.0 Glm5NextConfig",
        layers=tuple(layers),
        tied=tied(fields, text, default=False),
        outer=fields,
        towers=_towers(glm5_tower(vision) if vision else None),
        remarks=left_out(fields, "vision_config", "vision tower"),
        mtp=_mtp(text, hidden, indexed, num_layers, duplicates=False, prefix="model.language_model."),
        prefix="model.language_model.",
    )


def _glm4_attention(fields: Fields, *, bias_default: bool, normed: bool) -> GroupedAttention:
    need_kv_heads(fields)
    bias = fields.flag("attention_bias", bias_default)
    return grouped_attention(fields, qkv_bias=bias, qk_norm="head" if normed else "none")


def _sparse_layer(fields: Fields, mixer: GroupedAttention | LatentAttention) -> tuple[int, int, Layer]:
    hidden = fields.integer("hidden_size")
    routed = experts(fields, shared_default=1, correction_bias=True)
    return hidden, fields.num_layers("num_hidden_layers"), Layer((mixer,), (routed,), decoder_norms(hidden))


def _mtp(
    fields: Fields, hidden: int, sparse: Layer, num_layers: int, *, duplicates: bool, prefix: str = "model."
) -> Mtp | None:
    num_modules = fields.optional(*MTP_LAYERS) or 0
    mtp = deepseek_mtp(hidden, fields.integer("vocab_size"), sparse, num_modules, num_layers)
    if mtp is None:
        return None
    extras = tuple(weight._replace(name=prefix + weight.name.removeprefix("model.")) for weight in mtp.extras)
    return mtp._replace(extras=extras, duplicates=mtp.duplicates if duplicates else ())


def _pooled_latent_attention(fields: Fields) -> LatentAttention:
    hidden, bias = fields.integer("hidden_size"), fields.flag("attention_bias", False)
    indexer = Indexer(
        num_heads=fields.integer("index_n_heads"),
        head_dim=fields.integer("index_head_dim"),
        top_k=fields.integer("index_topk"),
        pooled=True,
    )
    pool = fields.integer("index_kpool", default=16)
    return LatentAttention(
        num_heads=fields.integer("num_attention_heads"),
        q_lora_rank=fields.integer("q_lora_rank"),
        kv_lora_rank=fields.integer("kv_lora_rank"),
        qk_nope_head_dim=fields.integer("qk_nope_head_dim"),
        qk_rope_head_dim=fields.integer("qk_rope_head_dim", default=0, minimum=0),
        v_head_dim=fields.integer("v_head_dim"),
        indexer=indexer,
        qkv_bias=bias,
        output_bias=bias,
        extras=(
            Weight("indexer.index_kpool_compress_ape", "indexer", (pool, indexer.head_dim)),
            Weight("indexer.index_kpool_compress_gate", "indexer", (indexer.head_dim, hidden)),
        ),
    )


def _linear_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    kinds = fields.strings("layer_types", num_layers)
    if kinds is None:
        fields.need("layer_types")
        return (True,) * num_layers
    known = {"linear_attention", "indexed_attention", "full_attention", "deepseek_sparse_attention"}
    unknown = sorted(set(kinds) - known)
    if unknown:
        raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return tuple(kind == "linear_attention" for kind in kinds)


def _towers(tower: Tower | None) -> tuple[Tower, ...]:
    return () if tower is None else (tower,)
