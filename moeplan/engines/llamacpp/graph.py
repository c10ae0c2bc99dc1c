"""Sizes of one graph of llama.cpp: elements alive per token in the widest place, and the masks of attention.

Read in llama.cpp b11312 src/llama-graph.cpp and src/models: what `ggml_gallocr` keeps at the same time. Held against the
graphs that b11312 itself reserves; how far off is in `profiles/engines/llamacpp.yaml` (`activations_factor`).
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from moeplan.core.deployment import Serving, Settings
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    DenseFfn,
    Ffn,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    Layer,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    MoeFfn,
    RoutedAttention,
    ShortConvolution,
)
from moeplan.engines.llamacpp.cache import WINDOWED, cells, layers_bytes, scratch_types, window_of
from moeplan.engines.llamacpp.layout import kv_on_host
from moeplan.engines.llamacpp.settings import chosen, flash_attention, ubatch_tokens

FLOAT_BYTES = 4
"""Activations are 32-bit floats."""
RESIDUAL_COPIES = 3
"""The residual stream, its norm and a sum, of `hidden_size` each; beside experts one more for their sum."""


class Graph(NamedTuple):
    """Bytes of one graph on one device."""

    activations: int
    scores: int
    """Scores of all heads, where attention runs without flash attention; else 16-bit copies of a quantised cache."""
    masks: int


def graph(serving: Serving, settings: Settings, layers: tuple[Layer, ...], num_ranks: int = 1) -> Graph:
    """The graph of `layers` for one `--ubatch-size` of tokens over the whole cache."""
    spec, deployment = serving.spec, serving.deployment
    context, sequences = deployment.context_tokens, deployment.sequences_per_rank
    tokens = ubatch_tokens(settings, context, sequences)
    sizes = cells(settings, window_of(spec), context, sequences)
    flash = flash_attention(spec, settings)
    keys, values = scratch_types(chosen(settings))
    windowed = spec.family in WINDOWED
    widest = Graph(0, 0, 0)
    masked: set[bool] = set()
    for layer in dict.fromkeys(layers):
        for ffn in layer.ffns:
            ffn_bytes = FLOAT_BYTES * tokens * ffn_elements(ffn, spec.hidden_size, num_ranks)
            widest = max(widest, Graph(ffn_bytes, 0, 0), key=_peak)
        for mixer in layer.mixers:
            in_window = windowed and isinstance(mixer, GroupedAttention) and mixer.window_tokens is not None
            size = sizes.window if in_window else sizes.full
            scores = 0
            if (heads := _heads(mixer)) is not None:
                masked.add(in_window)
                if flash:
                    # All streams are converted: the graph is reserved for as many sequences as there may be.
                    scores = 2 * size * sizes.streams * _converted(mixer, keys=keys, values=values) // num_ranks
                    if kv_on_host(chosen(settings)):  # the device computes with a copy of one layer's cache
                        scores += layers_bytes(serving, settings, (Layer((mixer,), ()),), context, sequences, num_ranks)
                else:
                    scores = FLOAT_BYTES * tokens * size * -(-heads // num_ranks)
            elements = mixer_elements(mixer, num_ranks) + RESIDUAL_COPIES * spec.hidden_size
            widest = max(widest, Graph(FLOAT_BYTES * tokens * elements, scores, 0), key=_peak)
    of_cell = serving.constants.of("mask_bytes_per_cell").value if flash else FLOAT_BYTES
    mask = sum(tokens * (sizes.window if in_window else sizes.full) for in_window in masked)
    if _indexed(layers):
        mask += tokens * sizes.full  # the indexer has a mask of its own
    return widest._replace(masks=int(mask * of_cell))


def ffn_elements(ffn: Ffn, hidden: int, num_ranks: int = 1) -> int:
    """Elements per token: gate, up and their product of every visited expert, then what these give back.

    The outputs of the experts go where gate and up were, if they are no larger.
    """
    match ffn:
        case DenseFfn():
            return (3 if ffn.gated else 2) * -(-ffn.width // num_ranks) + RESIDUAL_COPIES * hidden
        case MoeFfn():
            inner = ffn.experts_per_token * -(-ffn.expert_width // num_ranks)
            outer = ffn.experts_per_token * (ffn.latent_size or hidden)
            parts = 3 if ffn.gated else 2
            beside = 0 if (parts - 1) * inner >= outer else outer
            return parts * inner + beside + (RESIDUAL_COPIES + 1) * hidden
        case _:
            assert_never(ffn)


def mixer_elements(mixer: Mixer, num_ranks: int = 1) -> int:
    """Elements per token of queries, keys, values and outputs."""
    match mixer:
        case GroupedAttention():
            heads = -(-mixer.num_heads // num_ranks)
            keys = max(1, -(-mixer.num_kv_heads // num_ranks)) * (mixer.key_head_dim + mixer.value_head_dim)
            return heads * (mixer.key_head_dim + mixer.value_head_dim) + keys
        case CrossAttention():
            return 4 * -(-mixer.num_heads // num_ranks) * mixer.head_dim
        case RoutedAttention():
            return (2 * mixer.experts_per_token + 2) * mixer.num_kv_heads * mixer.head_dim
        case LatentAttention():
            # Queries before and after they are taken into the latent, and outputs before and after they come out of it.
            cached = mixer.kv_lora_rank + mixer.qk_rope_head_dim
            of_head = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim + cached + mixer.kv_lora_rank + mixer.v_head_dim
            return mixer.num_heads * of_head
        case CompressedAttention():
            return 2 * mixer.num_heads * mixer.head_dim + 2 * mixer.head_dim
        case GatedDelta():
            keys = mixer.num_key_heads * mixer.key_head_dim
            return 2 * (2 * keys + 2 * mixer.num_value_heads * mixer.value_head_dim)
        case KimiDelta() | LightningAttention():
            return 6 * mixer.num_heads * mixer.head_dim
        case Mamba1():
            return 4 * mixer.inner_size
        case Mamba2():
            return 4 * mixer.num_heads * mixer.head_dim + 2 * mixer.num_groups * mixer.state_size
        case ShortConvolution():
            return 4 * mixer.channels
        case _:
            assert_never(mixer)


def _heads(mixer: Mixer) -> int | None:
    """Heads that score cached tokens; None for mixers that score none."""
    match mixer:
        case GroupedAttention() | LatentAttention() | CrossAttention() | CompressedAttention():
            return mixer.num_heads
        case RoutedAttention():
            return mixer.experts_per_token * mixer.num_kv_heads
        case GatedDelta() | KimiDelta() | LightningAttention() | Mamba1() | Mamba2() | ShortConvolution():
            return None
        case _:
            assert_never(mixer)


def _converted(mixer: Mixer, *, keys: bool, values: bool) -> int:
    """Elements of a cell that flash attention reads as 16-bit floats though they are stored in another type.

    Values of a latent are a part of its keys. Source: llama.cpp b11312 ggml-cuda/fattn-common.cuh.
    """
    match mixer:
        case GroupedAttention():
            each = mixer.num_kv_heads
            return each * (mixer.key_head_dim * keys + mixer.value_head_dim * values)
        case LatentAttention():
            return (mixer.kv_lora_rank + mixer.qk_rope_head_dim) * keys
        case CompressedAttention():
            return mixer.head_dim * keys
        case _:
            return 0


def _indexed(layers: tuple[Layer, ...]) -> bool:
    return any(
        isinstance(mixer, LatentAttention) and mixer.indexer is not None
        for layer in dict.fromkeys(layers)
        for mixer in layer.mixers
    )


def _peak(size: Graph) -> int:
    return size.activations + size.scores
