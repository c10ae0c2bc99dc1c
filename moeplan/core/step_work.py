"""What one step of a model computes on one rank, free of any device: folds over the one inventory.

A step takes a number of tokens through the layers of a stage. Every token goes through every dense matrix, through the
experts that its router chooses, and through attention over what its sequence remembers. Matrices with one input run as
one product, as engines merge them: queries, keys and values; gate and up.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from moeplan.core.kv_cache import CacheRules, entry_bytes, mixer_cache, owning, state_bytes, value_bytes
from moeplan.core.layout import Division, Stage
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    GroupedAttention,
    LatentAttention,
    Layer,
    MoeFfn,
    Role,
    RoutedAttention,
)
from moeplan.core.placement import layers_here, local_experts, tensor_share
from moeplan.core.quant import Holding

DENSE_ROLES: tuple[Role, ...] = (
    "attention", "indexer", "recurrent", "router", "moe_latent", "shared_experts", "dense_mlp", "lm_head",
)  # fmt: skip
"""Roles whose matrices every token goes through (the head: every token that a next one is sampled for)."""

NEVER_QUANTISED: tuple[Role, ...] = ("router", "lm_head", "embedding")
"""Roles of matrices that are no linear weights to a quantiser. Other two-dimensional weights that are none (decay rates
of states) are multiplied element by element."""


class Product(NamedTuple):
    """Equal matrix products of a step: (tokens x depth) times (depth x columns), in `count` layers."""

    role: Role
    columns: int
    """Of all merged matrices together, on this rank."""
    depth: int
    format: str
    """Of the weights, as `core.quant` names it."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which no record needs
    groups: int = 1
    """Times as many ranks share it as share attention: so many groups' tokens go through it under attention data parallelism."""


class AttentionWork(NamedTuple):
    """Attention of `count` equal layers on one rank."""

    kind: str
    """`grouped`, `latent`, `cross`."""
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window_tokens: int | None
    """Tokens that a query sees at most; None sees all."""
    chosen_tokens: int | None
    """Tokens that an indexer leaves to attention; None leaves all."""
    unpacked: tuple[int, int] | None
    """Width of the key and of the value of each head that latents are unpacked to where a prompt is read; None reads all as
    it is cached."""
    value_bytes: float
    """Of each value of a cached entry, its scales included (`core/kv_cache`)."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which no record needs


class ExpertsWork(NamedTuple):
    """Routed experts of `count` equal layers on one rank of their expert group."""

    hidden: int
    """Width of the experts' input: the model's, or that of the latent that tokens are projected to."""
    width: int
    """Columns of one expert on this rank."""
    experts: int
    """Of the layer, copies included."""
    experts_on_rank: int
    experts_per_token: int
    """That compute something: the mean where some of the chosen compute nothing."""
    gated: bool
    count: int  # type: ignore[assignment]  # hides tuple.count, which no record needs
    copies: int = 0
    """Of busy experts, among `experts`."""


class StatesWork(NamedTuple):
    """Bytes of one rank that a step reads beside weights and attention: fixed states, and keys that an indexer scans."""

    sequence_bytes: int
    """Read and written for each decoding sequence."""
    token_bytes: float
    """Read for each token that a decoding sequence remembers."""


PLAIN_CACHE = CacheRules("bfloat16", "bfloat16", "bfloat16")
"""Everything in 16 bit, where no engine's rules are named."""


def products(
    held: Iterable[Holding], division: Division, stage: Stage, *, tied_embedding: bool = False
) -> tuple[Product, ...]:
    """The dense matrix products of a stage on one rank, equal ones counted together.

    A tied table is the head's matrix on the last stage. Matrices of towers and encoders take no part in a step of text.
    """
    merged: dict[tuple[Product, tuple[object, ...]], int] = {}
    for holding in held:
        weight = holding.weight
        is_head = tied_embedding and weight.role == "embedding" and stage.is_last
        if holding.part not in ("text", "mtp") or not (weight.linear or weight.role in NEVER_QUANTISED):
            continue
        if (weight.role not in DENSE_ROLES and not is_head) or len(weight.shape) != 2 or weight.buffer:
            continue  # a buffer of two dimensions is a table: experts by token id
        layers = 1 if is_head else layers_here(holding, stage)
        if not layers:
            continue
        rows, depth = weight.shape
        units, of_units = tensor_share(weight, division)
        if weight.split == "row":
            depth = -(-depth * units // of_units)
        else:
            rows = -(-rows * units // of_units)
        role: Role = "lm_head" if is_head else weight.role
        # What is whole on every rank is not merged with what is cut, and row splits add up on their own.
        block = weight.name.rpartition(".weight")[0].rpartition(".")[0] or weight.name
        alone = weight.name if weight.split == "row" else ""
        beside = (block, alone, weight.split == "replicated", holding.layers)
        key = Product(role, 0, depth, holding.format, layers, groups_of(role, division)), beside
        merged[key] = merged.get(key, 0) + rows * weight.count
    counts: dict[Product, int] = {}
    for (product, _), columns in merged.items():
        one = product._replace(columns=columns, count=1)
        counts[one] = counts.get(one, 0) + product.count
    return tuple(each._replace(count=count) for each, count in counts.items())


def groups_of(role: Role, division: Division) -> int:
    """How many attention groups share a dense matrix; 1 where it is divided as attention is, or less."""
    ranks = {
        "dense_mlp": division.dense_mlp,
        "shared_experts": division.shared_experts,
        "lm_head": division.lm_head,
    }.get(role, division.attention)
    return max(1, ranks // division.attention)


def attention_work(
    layers: Iterable[Layer], ranks: int, hidden: int, rules: CacheRules = PLAIN_CACHE
) -> tuple[AttentionWork, ...]:
    """Attention of a stage's layers, its heads shared out over `ranks` and its cache stored by `rules`; recurrent mixers hold
    no tokens and are left out."""
    counts: dict[AttentionWork, int] = {}
    for mixer, times in Counter(mixer for layer in layers for mixer in layer.mixers).items():
        entries = next((row for row in mixer_cache(owning(mixer), hidden) if row.elements), None)
        stored = 0.0 if entries is None else value_bytes(entries, rules)
        match mixer:
            case GroupedAttention():
                one = AttentionWork(
                    "grouped",
                    -(-mixer.num_heads // ranks),
                    max(1, -(-mixer.num_kv_heads // ranks)),
                    mixer.key_head_dim,
                    mixer.value_head_dim,
                    mixer.window_tokens,
                    None,
                    None,
                    stored,
                    1,
                )
            case RoutedAttention():
                # Each token's query heads are those of its chosen experts.
                heads = mixer.experts_per_token * mixer.num_kv_heads
                kv_heads = max(1, -(-mixer.num_kv_heads // ranks))
                one = AttentionWork(
                    "grouped", -(-heads // ranks), kv_heads, mixer.head_dim, mixer.head_dim, None, None, None, stored, 1
                )
            case LatentAttention():
                chosen = mixer.indexer.top_k if mixer.indexer is not None else None
                width = mixer.kv_lora_rank + mixer.qk_rope_head_dim
                heads = -(-mixer.num_heads // ranks)
                # An indexer's choice differs from token to token, so that nothing is unpacked once for many.
                key = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
                unpacked = (key, mixer.v_head_dim) if chosen is None else None
                one = AttentionWork("latent", heads, 1, width, mixer.kv_lora_rank, None, chosen, unpacked, stored, 1)
            case CompressedAttention():
                chosen = mixer.indexer.top_k if mixer.indexer is not None else None
                heads = -(-mixer.num_heads // ranks)
                one = AttentionWork(
                    "latent", heads, 1, mixer.head_dim, mixer.head_dim, mixer.window_tokens, chosen, None, stored, 1
                )
            case CrossAttention():
                heads = -(-mixer.num_heads // ranks)
                one = AttentionWork("cross", heads, heads, mixer.head_dim, mixer.head_dim, None, None, None, stored, 1)
            case _:
                continue
        counts[one] = counts.get(one, 0) + times
    return tuple(each._replace(count=count) for each, count in counts.items())


def experts_work(
    layers: Iterable[Layer], hidden: int, division: Division, expert_rank: int = 0
) -> tuple[ExpertsWork, ...]:
    """Routed experts of a stage's layers on one rank; empty for a dense model."""
    counts: dict[ExpertsWork, int] = {}
    for ffn, times in Counter(ffn for layer in layers for ffn in layer.ffns).items():
        if not isinstance(ffn, MoeFfn):
            continue
        physical = ffn.num_experts + division.redundant_experts
        visited = ffn.experts_per_token * ffn.num_experts // (ffn.num_experts + ffn.num_zero_experts)
        one = ExpertsWork(
            ffn.latent_size or hidden,
            -(-ffn.expert_width // division.expert_tp),
            physical,
            local_experts(physical, division.expert_ep, expert_rank),
            visited,
            ffn.gated,
            1,
            division.redundant_experts,
        )
        counts[one] = counts.get(one, 0) + times
    return tuple(each._replace(count=count) for each, count in counts.items())


def states_work(layers: Iterable[Layer], hidden: int, ranks: int, rules: CacheRules = PLAIN_CACHE) -> StatesWork:
    """States of recurrent layers, shared out over `ranks`, and keys of indexers, which every rank holds whole, by `rules`."""
    fixed, scanned = 0, 0.0
    for mixer, times in Counter(mixer for layer in layers for mixer in layer.mixers).items():
        for row in mixer_cache(mixer, hidden):
            if row.kind == "recurrent":
                fixed += times * 2 * state_bytes(row, rules, ranks)
            elif row.kind in ("indexer_keys", "compressed_indexer_keys"):
                scanned += times * entry_bytes(row, rules) / row.tokens_per_entry
    return StatesWork(fixed, scanned)
