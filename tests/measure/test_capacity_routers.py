"""Routers with a capacity beside the modules of transformers that have one; the others beside what defines them."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from moeplan.measure.capacity_routers import (
    NOWHERE,
    Overflow,
    Routed,
    balanced_assignment,
    expert_choice,
    noisy_topk,
    places,
    switch_top1,
    top2_capacity,
)
from moeplan.measure.routers import ROUTERS, RouterOptions

TOKENS, EXPERTS = 96, 8
OVERFLOWS: tuple[Overflow, ...] = ("drop", "next_best", "spill")


def logits_of(seed: int = 0, skew: float = 1.5, tokens: int = TOKENS) -> Tensor:
    """Logits under which the last experts are wanted most, so that a capacity cuts."""
    noise = torch.randn(tokens, EXPERTS, generator=torch.Generator().manual_seed(seed))
    return 1.5 * noise + torch.linspace(0, skew, EXPERTS)


def dense(routed: Routed) -> Tensor:
    """[T, E] weights by expert, 0 where a token is not computed."""
    kept = routed.experts != NOWHERE
    assert routed.experts.dtype == torch.int64
    assert routed.weights.dtype == torch.float32
    assert bool((routed.weights[~kept] == 0).all())
    return torch.zeros(len(kept), EXPERTS).scatter_add(-1, routed.experts.clamp(min=0), routed.weights)


def loads(experts: Tensor) -> list[int]:
    return [int((experts == expert).sum()) for expert in range(EXPERTS)]


# Switch ------------------------------------------------------------------------------------------------------------------


def switch_module(capacity: int) -> Any:
    from transformers.models.switch_transformers.configuration_switch_transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersTop1Router

    config = SwitchTransformersConfig(hidden_size=EXPERTS, num_experts=EXPERTS, expert_capacity=capacity)
    module = SwitchTransformersTop1Router(config).eval()
    module.classifier.weight.data = torch.eye(EXPERTS)
    return module


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [1, 5, 12, 64])
def test_switch_top1_keeps_and_drops_as_its_module_does_sequence_by_sequence(seed: int, capacity: int) -> None:
    batch = torch.stack(
        [logits_of(seed), logits_of(seed + 10), torch.zeros(TOKENS, EXPERTS)]
    )  # the last: ties, or padding
    mask, probabilities, _ = switch_module(capacity)(batch)
    assert 0 < int(mask.sum()) <= 3 * EXPERTS * capacity
    for row, logits in enumerate(batch):
        got = switch_top1(logits, capacity)
        want = mask[row] * probabilities[row].detach()
        torch.testing.assert_close(dense(got), want, rtol=1e-5, atol=1e-5)
        assert got.dropped == TOKENS - int(mask[row].sum())
        assert torch.equal(got.wanted.squeeze(-1), logits.argmax(-1))


def test_places_are_those_of_the_paper_and_drops_those_of_the_binomial() -> None:
    # Figure 3 of arXiv 2101.03961: 6 tokens, 3 experts: 2 places at a factor of 1, 3 at 1.5.
    assert [places(6, 3, 1, factor) for factor in (1.0, 1.5)] == [2, 3]
    assert places(100, 8, 2, 1.25) == 32
    # Even routing, 8 experts, 256 tokens, c = 1: P(x > C) summed over the binomial (256, 1/8) gives this share.
    share, mean = 1 / 8, 32
    binomial = [math.comb(256, n) * share**n * (1 - share) ** (256 - n) for n in range(257)]
    expected = sum((n - mean) * p for n, p in enumerate(binomial) if n > mean) / mean
    generator = torch.Generator().manual_seed(0)
    runs = [switch_top1(torch.rand(256, 8, generator=generator), mean).dropped / 256 for _ in range(200)]
    assert sum(runs) / len(runs) == pytest.approx(expected, abs=0.003)  # 0.066 with a standard error of 0.0013


# NLLB and GShard ---------------------------------------------------------------------------------------------------------


def nllb_module(**fields: Any) -> Any:
    from transformers.models.nllb_moe.configuration_nllb_moe import NllbMoeConfig
    from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeTop2Router

    config = NllbMoeConfig(d_model=EXPERTS, num_experts=EXPERTS, **fields)
    module = NllbMoeTop2Router(config).eval()
    module.classifier.weight.data = torch.eye(EXPERTS)
    return module


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fraction", [0.03, 0.125, 0.25, 1.0])
@pytest.mark.parametrize("renormalize_first", [False, True])
@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_top2_capacity_is_nllbs(
    seed: int, fraction: float, renormalize_first: bool, prioritized: bool, padded: bool
) -> None:
    module = nllb_module(
        moe_eval_capacity_token_fraction=fraction, second_expert_policy="all", router_ignore_padding_tokens=False,
        normalize_router_prob_before_dropping=renormalize_first, batch_prioritized_routing=prioritized,
    )  # fmt: skip
    logits = logits_of(seed)
    padding = torch.arange(TOKENS) % 5 == 4 if padded else None
    with torch.no_grad():
        first_mask, want, _ = module(logits, padding)
    capacity = math.ceil(fraction * TOKENS)
    got = top2_capacity(logits, capacity, renormalize_first=renormalize_first, prioritized=prioritized, padding=padding)
    torch.testing.assert_close(dense(got), want.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(got.experts[:, 0] != NOWHERE, first_mask.sum(-1).bool())
    assert max(loads(got.experts)) <= capacity
    assert (got.dropped > 0) is (fraction < 0.5)
    if padding is not None:
        assert bool((got.wanted[padding] == NOWHERE).all())


@pytest.mark.parametrize("policy", ["sampling", "random"])
def test_second_experts_by_chance_are_nllbs_from_the_same_seed(policy: Any) -> None:
    module = nllb_module(
        moe_eval_capacity_token_fraction=0.2, second_expert_policy=policy, normalize_router_prob_before_dropping=False
    )
    logits = logits_of(3)
    torch.manual_seed(5)
    with torch.no_grad():
        _, want, _ = module(logits.clone())
    torch.manual_seed(5)
    got = top2_capacity(logits, math.ceil(0.2 * TOKENS), second=policy)
    torch.testing.assert_close(dense(got), want.float(), rtol=1e-5, atol=1e-5)
    plain = top2_capacity(logits, TOKENS)
    assert not torch.equal(got.wanted, plain.wanted)
    if policy == "random":  # left out on purpose is not dropped
        left_out = int((got.wanted[:, 1] == NOWHERE).sum())
        assert left_out > 0
        assert got.dropped == int((got.experts == NOWHERE).sum()) - left_out


def test_a_capacity_that_is_given_holds_where_no_fraction_does() -> None:
    module = nllb_module(moe_eval_capacity_token_fraction=-1.0, expert_capacity=20)
    with torch.no_grad():
        _, want, _ = module(logits_of())
    torch.testing.assert_close(dense(top2_capacity(logits_of(), 20)), want.float(), rtol=1e-5, atol=1e-5)


# Overflow ------------------------------------------------------------------------------------------------------------------


def test_where_overflow_goes_by_hand() -> None:
    # Three tokens want expert 0, which has one place; the second best of token 1 is 1, of token 2 also 1. Nobody wants 2.
    logits = torch.tensor([[5.0, 1.0, 0.0], [5.0, 3.0, 1.0], [5.0, 3.0, 2.0]])
    assert switch_top1(logits, 1).experts.flatten().tolist() == [0, NOWHERE, NOWHERE]
    assert switch_top1(logits, 1, overflow="next_best").experts.flatten().tolist() == [0, 1, 2]
    # With two places the third alone overflows: its next best is 1; the emptiest are 1 and 2, the lower number first.
    assert switch_top1(logits, 2, overflow="next_best").experts.flatten().tolist() == [0, 0, 1]
    busy = torch.tensor(
        [[5.0, 1.0, 0.0], [5.0, 3.0, 1.0], [0.0, 5.0, 1.0], [5.0, 3.0, 2.0]]
    )  # 1 has a token of its own
    assert switch_top1(busy, 2, overflow="next_best").experts.flatten().tolist() == [0, 0, 1, 1]
    assert switch_top1(busy, 2, overflow="spill").experts.flatten().tolist() == [0, 0, 1, 2]
    weights = switch_top1(busy, 2, overflow="spill").weights.flatten()
    assert weights[3] == pytest.approx(math.exp(2) / (math.exp(5) + math.exp(3) + math.exp(2)), rel=1e-5)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("ties", [False, True])
def test_capacity_is_kept_and_nothing_is_lost_while_there_is_room(
    overflow: Overflow, factor: float, ties: bool
) -> None:
    logits = torch.zeros(TOKENS, EXPERTS) if ties else logits_of(1, skew=4.0)
    for routed, top_k in (
        (switch_top1(logits, places(TOKENS, EXPERTS, 1, factor), overflow=overflow), 1),
        (top2_capacity(logits, places(TOKENS, EXPERTS, 2, factor), overflow=overflow), 2),
    ):
        capacity, room = places(TOKENS, EXPERTS, top_k, factor), EXPERTS * places(TOKENS, EXPERTS, top_k, factor)
        assert max(loads(routed.experts)) <= capacity
        pairs = [tuple(row) for row in routed.experts.tolist() if NOWHERE not in row]
        assert all(len(set(row)) == top_k for row in pairs)  # never twice the same expert
        assert bool(routed.weights.isfinite().all())
        if overflow == "drop":
            assert routed.dropped > 0
        elif top_k == 1:  # with two choices the last places may belong to experts that a token has already
            assert routed.dropped == max(0, TOKENS - room)
        else:
            lost = top2_capacity(logits, capacity).dropped
            assert max(0, 2 * TOKENS - room) <= routed.dropped < lost


# Experts that choose, balanced assignment, noise ---------------------------------------------------------------------------


def test_expert_choice_gives_every_expert_the_same_load_and_tokens_a_varying_one() -> None:
    logits, capacity = logits_of(skew=4.0), 2 * TOKENS // EXPERTS
    weights, tokens = expert_choice(logits, capacity)
    assert tokens.shape == weights.shape == (EXPERTS, capacity)
    scores = logits.softmax(-1)
    for expert in range(EXPERTS):
        column = scores[:, expert]
        assert set(tokens[expert].tolist()) == set(column.argsort(descending=True)[:capacity].tolist())
        torch.testing.assert_close(weights[expert], column[tokens[expert]])
    of_a_token = torch.bincount(tokens.flatten(), minlength=TOKENS)
    assert int(of_a_token.sum()) == 2 * TOKENS
    assert int(of_a_token.min()) < 2 < int(of_a_token.max())
    assert expert_choice(torch.zeros(4, 2), 2)[1].tolist() == [[0, 1], [0, 1]]  # ties: earlier tokens
    with pytest.raises(ValueError, match="5 places for 4 tokens"):
        expert_choice(torch.zeros(4, 2), 5)


@pytest.mark.parametrize("seed", range(4))
def test_balanced_assignment_is_the_best_of_all(seed: int) -> None:
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    best = max(
        sum(float(scores[token, expert]) for token, expert in enumerate(order))
        for order in set(permutations([0, 0, 1, 1, 2, 2]))
    )
    chosen = balanced_assignment(scores)
    assert loads(chosen)[:3] == [2, 2, 2]
    assert float(scores.gather(-1, chosen.unsqueeze(-1)).sum()) == pytest.approx(best, abs=1e-5)


def test_balanced_assignment_cannot_be_bettered_by_any_exchange_and_costs_score() -> None:
    scores = logits_of(skew=4.0)
    chosen = balanced_assignment(scores)
    assert loads(chosen) == [TOKENS // EXPERTS] * EXPERTS
    # The sum is the largest if no ring of experts gains by passing a token each: Floyd and Warshall find no such ring.
    own = scores.gather(-1, chosen.unsqueeze(-1))
    gain = torch.full((EXPERTS, EXPERTS), float("-inf"))
    for expert in range(EXPERTS):
        gain[expert] = (scores - own)[chosen == expert].amax(dim=0)
    for middle in range(EXPERTS):
        gain = torch.maximum(gain, gain[:, middle, None] + gain[None, middle, :])
    assert float(gain.diagonal().max()) <= 1e-4
    assert float(own.sum()) < float(scores.amax(dim=-1).sum())
    assert loads(balanced_assignment(torch.zeros(8, EXPERTS))) == [1] * EXPERTS
    with pytest.raises(ValueError, match="9 tokens are no multiple of 8 experts"):
        balanced_assignment(torch.zeros(9, EXPERTS))


def test_noise_moves_choices_as_far_as_its_width_and_nothing_without_it() -> None:
    logits, generator = logits_of(), torch.Generator().manual_seed(0)
    still = torch.full_like(logits, -60.0)  # softplus(-60) is 1e-26
    weights, experts = noisy_topk(logits, still, 2, generator=generator)
    want_weights, want_experts = ROUTERS["topk_softmax"](logits, RouterOptions(2))
    assert torch.equal(experts, want_experts)
    torch.testing.assert_close(weights, want_weights)
    # Two logits one apart, noise of width s on both: the lower wins with probability Phi(-1 / (s sqrt(2))).
    pair = torch.tensor([[0.0, 1.0]]).repeat(20_000, 1)
    width = math.log(1 + math.exp(0.5))
    _, chosen = noisy_topk(pair, torch.full_like(pair, 0.5), 1, generator=generator)
    expected = 0.5 * (1 + math.erf(-1 / (2 * width)))
    assert float((chosen == 0).float().mean()) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_out_in_float32(dtype: torch.dtype) -> None:
    for routed in (switch_top1(logits_of().to(dtype), 8), top2_capacity(logits_of().to(dtype), 16)):
        assert routed.weights.dtype == torch.float32
        assert dense(routed).isfinite().all()
