"""Shares of weights by stage, tensor-parallel and expert-parallel rank: by hand, and what must hold for all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.layout import Division, Layout, Stage
from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.placement import even_stages, local_experts, places, rank_bytes, rank_share, stages
from moeplan.core.quant import BF16, Holding, Quantisation, holdings
from moeplan.core.weights import inventory, norms

PLAIN = Quantisation("bf16", BF16)


def model(
    *, layers: int = 4, experts: int = 8, tied: bool = False, dense_first: int = 1, shared: int = 32
) -> ModelSpec:
    attention = GroupedAttention(num_heads=16, num_kv_heads=4, key_head_dim=8, value_head_dim=8)
    outer = norms(64, "input_layernorm", "post_attention_layernorm")
    dense = Layer((attention,), (DenseFfn(256),), outer)
    sparse = Layer((attention,), (MoeFfn(experts, 2, 64, shared_width=shared, correction_bias=True),), outer)
    stack = (dense,) * dense_first + (sparse,) * (layers - dense_first)
    return ModelSpec("test", "test", 64, 128, stack, tied, 4096, "bfloat16", True, extras=norms(64, "model.norm"))


def division(tp: int = 1, dp: int = 1, *, ep: bool = False, redundant: int = 0) -> Division:
    over = tp * dp
    return Division(
        attention=tp, dense_mlp=tp, shared_experts=tp, embedding=tp, lm_head=tp, redundant_experts=redundant,
        vocabulary_padding=64, expert_ep=over if ep else 1, expert_tp=1 if ep else over,
    )  # fmt: skip


def layout(tp: int = 1, pp: int = 1, dp: int = 1, layers: int = 4) -> Layout:
    return Layout(tp=tp, pp=pp, dp=dp, pp_layers=even_stages(layers, pp), num_gpus=tp * pp * dp)


def every_rank(spec: ModelSpec, spread: Layout, divided: Division) -> dict[int, dict[str, int]]:
    """Bytes by weight name of every single rank."""
    held = holdings(inventory(spec), PLAIN)
    experts = next(ffn.num_experts for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn))
    found: dict[int, dict[str, int]] = {}
    for place in places(spread, divided, len(spec.layers), experts):
        sizes: dict[str, int] = {}
        for each in held:
            size = rank_bytes(each, place, divided, tied_embedding=spec.tied_embedding)
            sizes[each.weight.name] = sizes.get(each.weight.name, 0) + size
        found |= dict.fromkeys(place.ranks, sizes)
    return found


# By hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_layers", "num_stages", "expected"),
    # vLLM 0.33.0 distributed/utils.py:get_pp_indices: what is left over goes to the stages before the last, last first.
    [
        (60, 2, (30, 30)),
        (61, 2, (31, 30)),
        (61, 4, (15, 15, 16, 15)),
        (62, 4, (15, 16, 16, 15)),
        (63, 4, (16, 16, 16, 15)),
        (4, 4, (1, 1, 1, 1)),
    ],
)
def test_layers_of_stages(num_layers: int, num_stages: int, expected: tuple[int, ...]) -> None:
    assert even_stages(num_layers, num_stages) == expected


def test_the_first_ranks_take_the_experts_that_are_left_over() -> None:
    # 10 experts on 4 ranks: 3, 3, 2, 2 (fused_moe/expert_map_manager.py:determine_expert_map).
    assert [local_experts(10, 4, rank) for rank in range(4)] == [3, 3, 2, 2]


def test_ranks_that_hold_the_same_are_named_together() -> None:
    spread, divided = layout(tp=4), division(4, ep=True)
    even = places(spread, divided, 4, 8)
    assert [place.ranks for place in even] == [(0, 1, 2, 3)]
    uneven = places(spread, divided, 4, 10)
    assert [place.ranks for place in uneven] == [(0, 1), (2, 3)]
    staged = places(layout(tp=2, pp=2, dp=2), division(2, 2, ep=True), 4, 8)
    # Tensor-parallel ranks count fastest, then stages, then data-parallel groups.
    assert [place.ranks for place in staged] == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_only_the_ends_of_a_pipeline_hold_tables() -> None:
    table, head = "model.embed_tokens.weight", "lm_head.weight"
    ranks = every_rank(model(), layout(pp=2), division())
    assert (ranks[0][table], ranks[1][table]) == (2 * 128 * 64, 0)
    assert (ranks[0][head], ranks[1][head]) == (0, 2 * 128 * 64)
    assert (ranks[0]["model.norm.weight"], ranks[1]["model.norm.weight"]) == (0, 2 * 64)
    tied = every_rank(model(tied=True), layout(pp=2), division())
    assert tied[0][table] == tied[1][table] == 2 * 128 * 64


def test_a_layer_is_in_the_stage_that_its_number_says() -> None:
    ranks = every_rank(model(layers=5, dense_first=1), layout(pp=2, layers=5), division())
    gate = "model.layers.{layer}.mlp.gate_proj.weight"
    expert = "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight"
    # Stages of 3 and 2 layers; the one dense layer is the first.
    assert (ranks[0][gate], ranks[1][gate]) == (2 * 256 * 64, 0)
    assert (ranks[0][expert], ranks[1][expert]) == (2 * 2 * 8 * 64 * 64, 2 * 2 * 8 * 64 * 64)


def test_without_expert_parallelism_every_rank_has_a_slice_of_every_expert() -> None:
    expert = "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight"
    whole = 3 * 8 * 64 * 64 * 2
    assert every_rank(model(), layout(tp=2, dp=2), division(2, 2))[3][expert] == whole // 4
    spread = every_rank(model(), layout(tp=2, dp=2), division(2, 2, ep=True))
    assert spread[3][expert] == whole // 4
    spare = every_rank(model(), layout(tp=2, dp=2), division(2, 2, ep=True, redundant=4))
    assert spare[3][expert] == whole * 12 // 8 // 4


def test_routers_and_their_biases_are_whole_everywhere() -> None:
    ranks = every_rank(model(), layout(tp=4), division(4, ep=True))
    assert ranks[2]["model.layers.{layer}.mlp.gate.weight"] == 3 * 8 * 64 * 2
    assert ranks[2]["model.layers.{layer}.mlp.gate.e_score_correction_bias"] == 3 * 8 * 4


def test_key_and_value_heads_are_copied_once_ranks_outnumber_them() -> None:
    name = "model.layers.{layer}.self_attn.k_proj.weight"
    one = 4 * (4 * 8) * 64 * 2
    for tp, share in ((2, 2), (4, 4), (8, 4), (16, 4)):
        assert every_rank(model(), layout(tp=tp), division(tp))[0][name] == one // share


def test_stages_of_a_single_one_are_the_model() -> None:
    assert stages(Layout(), 7) == (Stage(0, 0, 7, True, True),)


# What must hold --------------------------------------------------------------------------------------------

TWO_POWERS = st.sampled_from([1, 2, 4])


@given(TWO_POWERS, TWO_POWERS, st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.sampled_from([0, 4, 8]))
def test_shares_over_ranks_add_up(tp: int, dp: int, pp: int, ep: bool, tied: bool, redundant: int) -> None:
    spec = model(tied=tied)
    redundant = redundant if ep else 0
    divided = division(tp, dp, ep=ep, redundant=redundant)
    ranks = every_rank(spec, layout(tp, pp, dp), divided)
    assert sorted(ranks) == list(range(tp * pp * dp))
    whole: dict[str, int] = {}
    weights = {}
    for each in holdings(inventory(spec), PLAIN):
        whole[each.weight.name] = whole.get(each.weight.name, 0) + each.num_bytes
        weights[each.weight.name] = each.weight
    for name, size in whole.items():
        weight = weights[name]
        total = sum(rank[name] for rank in ranks.values())
        if weight.role == "routed_experts":
            assert total * 8 == size * (8 + redundant)
        elif weight.split == "replicated":
            assert total == size * tp * dp
        elif weight.role == "embedding" and tied and pp > 1:
            assert total == 2 * size * dp
        else:  # heads and columns divide; data-parallel ranks hold copies
            assert total == size * dp


@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.integers(1, 20))
def test_more_tensor_parallelism_never_adds_to_a_rank(tp: int, ep: bool, experts: int) -> None:
    spec = model(experts=experts)

    def fullest(ranks: int) -> int:
        return max(sum(rank.values()) for rank in every_rank(spec, layout(ranks), division(ranks, ep=ep)).values())

    assert fullest(2 * tp) <= fullest(tp)


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 16))
def test_whole_experts_are_all_somewhere(experts: int, ranks: int, redundant: int) -> None:
    held = [local_experts(experts + redundant, ranks, rank) for rank in range(ranks)]
    assert sum(held) == experts + redundant
    assert max(held) - min(held) <= 1
    assert held == sorted(held, reverse=True)


@given(st.data())
def test_bytes_are_rounded_up_and_never_lost(data: Any) -> None:
    spec = model(experts=data.draw(st.integers(1, 9)))
    tp = data.draw(st.integers(1, 9))
    divided = division(tp, ep=data.draw(st.booleans()))
    for place in places(layout(tp), divided, 4, 8)[:1]:
        for each in holdings(inventory(spec), PLAIN):
            units, of = rank_share(each.weight, divided, place.expert_rank)
            assert rank_bytes(each, place, divided) >= each.num_bytes * units / of - 1e-6


def test_layers_of_unequal_bytes_are_holdings_of_their_own() -> None:
    from moeplan.core.quant import by_layer

    weight = inventory(model())[1].weight
    found = by_layer({(weight, "text", "bf16"): {0: 10, 2: 10, 1: 7}})
    assert sorted((each.num_bytes, each.layers) for each in found) == [(7, (1,)), (20, (0, 2))]
    assert all(isinstance(each, Holding) for each in found)
