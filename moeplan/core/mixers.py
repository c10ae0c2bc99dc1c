"""What kinds of mixers ask of a layout: units that must divide over ranks, and how wide they are while they run."""

from __future__ import annotations

from typing import assert_never

from moeplan.core.kept import Kept
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    RoutedAttention,
    ShortConvolution,
)

_kept = Kept(16)


def mixers_of(spec: ModelSpec) -> tuple[Mixer, ...]:
    """Every kind of mixer that the model has, once."""

    def found() -> tuple[Mixer, ...]:
        return tuple(dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers))

    return _kept.of((spec,), (), found)


def divided_units(mixer: Mixer) -> tuple[tuple[str, int], ...]:
    """Units that must divide over the ranks that share attention, by what they are; key/value heads have a rule of their
    own, and groups of state-space layers are copied."""
    match mixer:
        case GroupedAttention() | LatentAttention() | CrossAttention():
            return (("attention heads", mixer.num_heads),)
        case CompressedAttention():
            return (("attention heads", mixer.num_heads), ("output groups", mixer.o_groups))
        case GatedDelta():
            return (("linear key heads", mixer.num_key_heads), ("linear value heads", mixer.num_value_heads))
        case KimiDelta() | LightningAttention():
            return (("linear heads", mixer.num_heads),)
        case Mamba2():
            return (("state-space heads", mixer.num_heads),)
        case RoutedAttention():
            return (("key/value heads", mixer.num_kv_heads),)
        case Mamba1():
            return (("state-space channels", mixer.inner_size),)
        case ShortConvolution():
            return (("convolution channels", mixer.channels),)
        case _:
            assert_never(mixer)


def projected_elements(mixer: Mixer, ranks: int) -> int:
    """Elements per token that a mixer projects to, on one of `ranks`: queries with keys and values, or its channels."""
    match mixer:
        case GroupedAttention():
            heads = -(-mixer.num_heads // ranks) + 2 * max(1, mixer.num_kv_heads // ranks)
            return heads * mixer.key_head_dim
        case CrossAttention():
            return 3 * -(-mixer.num_heads // ranks) * mixer.head_dim
        case RoutedAttention():
            return (mixer.experts_per_token + 2) * -(-mixer.num_kv_heads // ranks) * mixer.head_dim
        case LatentAttention():
            head = 2 * (mixer.qk_nope_head_dim + mixer.qk_rope_head_dim) + mixer.v_head_dim
            return -(-mixer.num_heads // ranks) * head
        case CompressedAttention():
            return -(-mixer.num_heads // ranks) * mixer.head_dim + 2 * mixer.head_dim
        case GatedDelta():
            key = -(-mixer.num_key_heads // ranks) * mixer.key_head_dim
            return 2 * key + 2 * -(-mixer.num_value_heads // ranks) * mixer.value_head_dim
        case KimiDelta() | LightningAttention():
            return 4 * -(-mixer.num_heads // ranks) * mixer.head_dim
        case Mamba1():
            return 2 * -(-mixer.inner_size // ranks)
        case Mamba2():
            return 2 * -(-mixer.num_heads // ranks) * mixer.head_dim + 2 * mixer.num_groups * mixer.state_size
        case ShortConvolution():
            return 3 * -(-mixer.channels // ranks)
        case _:
            assert_never(mixer)


def absorbed_elements(spec: ModelSpec, ranks: int) -> int:
    """Elements of the two matrices that latent attention keeps beside the projection that they come from, all layers."""
    return sum(
        mixer.kv_lora_rank * -(-mixer.num_heads // ranks) * (mixer.qk_nope_head_dim + mixer.v_head_dim)
        for layer in spec.layers
        for mixer in layer.mixers
        if isinstance(mixer, LatentAttention)
    )
