"""How a model is spread over devices: the degrees of a layout, and over how many ranks each part is divided."""

from typing import NamedTuple


class AskedLayout(NamedTuple):
    """The degrees that somebody stated, in the words that all engines share; None where nobody did."""

    tp: int | None = None
    """Tensor-parallel ranks."""
    pp: int | None = None
    """Pipeline stages."""
    dp: int | None = None
    """Data-parallel ranks, of attention where `dp_attention`, else of what the engine divides by it."""
    ep: int | None = None
    """Expert-parallel ranks; 1 is off."""
    expert_parallel: bool | None = None
    """Expert parallelism without a number: over all ranks of a stage (vLLM `--enable-expert-parallel`)."""
    dp_attention: bool | None = None
    """Attention whole on each data-parallel rank while experts are shared out (SGLang `--enable-dp-attention`)."""
    dcp: int | None = None
    """Decode context parallelism: ranks that share the tokens of one sequence's cache."""
    redundant_experts: int | None = None
    """Further copies of experts, over all ranks together."""
    pp_layers: tuple[int, ...] | None = None
    """Layers of each pipeline stage."""
    num_nodes: int | None = None


class Layout(NamedTuple):
    """The degrees as the engine would run them."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    """Expert-parallel ranks; 1 where every rank holds a part of every expert."""
    dp_attention: bool = False
    dcp: int = 1
    redundant_experts: int = 0
    pp_layers: tuple[int, ...] = ()
    """Layers of each stage, in order."""
    num_nodes: int = 1
    num_gpus: int = 1
    """Devices that the layout uses."""


class Division(NamedTuple):
    """Over how many ranks of one stage each part is divided; 1 is whole on every rank that has it."""

    attention: int = 1
    """Heads: attention, recurrent layers, their cache."""
    dense_mlp: int = 1
    shared_experts: int = 1
    embedding: int = 1
    lm_head: int = 1
    expert_tp: int = 1
    """The width of each routed expert."""
    expert_ep: int = 1
    """Routed experts as wholes."""
    redundant_experts: int = 0
    towers: int = 1
    vocabulary_padding: int = 1
    """Rows of embedding and head are padded to a multiple of this."""
    cache_tokens: int = 1
    """Ranks that share the tokens of a sequence (decode context parallelism)."""
    balancer: bool = False
    """Whether experts are placed by their load while they serve; with copies they always are."""


class Stage(NamedTuple):
    """One pipeline stage: its layers, and what only the ends have."""

    number: int = 0
    first_layer: int = 0
    end_layer: int = 0
    """One past the last."""
    is_first: bool = True
    is_last: bool = True


class Place(NamedTuple):
    """Ranks that hold the same: a stage, and a place among its expert-parallel ranks."""

    ranks: tuple[int, ...]
    stage: Stage
    expert_rank: int = 0
    """One of the expert-parallel ranks that `ranks` are; where experts divide evenly any stands for all."""
