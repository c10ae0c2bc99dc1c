"""Slots of LoRA adapters: A of rank x in and B of out x rank beside every linear module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moeplan.core.model import ModelSpec
from moeplan.core.placement import RankView, tensor_share, tensors_here
from moeplan.core.weights import Owned

ROLES = ("attention", "dense_mlp", "shared_experts", "recurrent")
"""Modules that adapters are made for; routed experts apart."""


def adapter_elements(
    owned: Iterable[Owned], rank: RankView, width: int, roles: Sequence[str] = ROLES
) -> tuple[int, int]:
    """Elements of one slot of rank `width` on this rank: of plain modules (those of `roles`), and of routed experts.

    Column splits keep A whole, row splits keep B whole. Sources: vLLM 0.33.0 lora/layers, SGLang 0.5.23
    srt/lora/mem_pool.py.
    """
    stage = rank.place.stage
    plain = experts = 0
    for entry in owned:
        weight = entry.weight
        if entry.part != "text" or not weight.linear or len(weight.shape) != 2 or not entry.layers:
            continue
        layers = sum(stage.first_layer <= layer < stage.end_layer for layer in entry.layers)
        tensors = layers * tensors_here(weight, rank.division, rank.place.expert_rank)
        out_features, in_features = weight.shape
        mine, of = tensor_share(weight, rank.division)
        if weight.split == "row":
            in_features = in_features * mine // of
        else:
            out_features = out_features * mine // of
        if weight.role == "routed_experts":
            experts += tensors * (in_features + out_features) * width
        elif weight.role in roles:
            plain += tensors * (in_features + out_features) * width
    return plain, experts


def table_elements(spec: ModelSpec, rank: RankView, width: int) -> int:
    """Elements of one slot of rank `width` for the input table and the head: both whole on every rank that has them.

    A of the table is vocabulary x rank and B hidden x rank; of the head the other way round. The table stands on the
    first stage, the head on the last. Source: vLLM 0.33.0 lora/layers/vocab_parallel_embedding.py, logits_processor.py.
    """
    stage = rank.place.stage
    return (stage.is_first + stage.is_last) * (spec.vocab_size + spec.hidden_size) * width
