"""Speculation: tokens that a step brings, experts that verified tokens touch, and what a step that verifies takes."""

from __future__ import annotations

import random
from functools import lru_cache
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.coverage import distinct_of_batch, independent_tokens
from moeplan.core.expert_use import EVEN, LIGHT, GateSkew, MeasuredUse, StepTokens
from moeplan.core.serving_speed import ServedLoad, decode_step, serving_speed
from moeplan.core.speculation import Drafting, acceptance_of, draft_part, tokens_per_step
from moeplan.core.step_time import StepLoad, StepModel, StepTime, step_time
from tests.core.test_step_time import model

# Tokens of a step -------------------------------------------------------------------------------------------


def test_tokens_of_a_step_by_hand() -> None:
    assert tokens_per_step(0.8, 2) == pytest.approx(1 + 0.8 + 0.64)
    assert tokens_per_step(0.8, 2) == pytest.approx((1 - 0.8**3) / (1 - 0.8))
    assert (tokens_per_step(0, 5), tokens_per_step(1, 5)) == (1, 6)


def test_tokens_of_a_step_as_drawn() -> None:
    drawn = random.Random(1)  # noqa: S311 - a simulation

    def step() -> int:
        taken = 0
        while taken < 4 and drawn.random() < 0.7:
            taken += 1
        return taken + 1

    assert fmean(step() for _ in range(40_000)) == pytest.approx(tokens_per_step(0.7, 4), rel=0.01)


@given(acceptance=st.floats(0, 1), drafted=st.integers(1, 64))
def test_the_acceptance_of_a_length_is_the_inverse(acceptance: float, drafted: int) -> None:
    length = tokens_per_step(acceptance, drafted)
    found = acceptance_of(length, drafted)
    assert found is not None
    assert tokens_per_step(found, drafted) == pytest.approx(length)


def test_no_acceptance_brings_more_than_all_drafts() -> None:
    assert acceptance_of(3.01, 2) is None
    assert acceptance_of(3, 2) == pytest.approx(1)
    assert (acceptance_of(1, 2), acceptance_of(0.5, 2)) == (0, 0)


# Experts ----------------------------------------------------------------------------------------------------

EXPERTS, CHOSEN, VERIFIED, SEQUENCES = 64, 4, 3, 8


def drawn_batch(drawn: random.Random) -> tuple[int, list[int]]:
    """Distinct experts of a batch and of each of its sequences: each has favourites, from which its tokens choose."""
    touched: set[int] = set()
    sizes = []
    for _ in range(SEQUENCES):
        favourites = drawn.sample(range(EXPERTS), 8)
        mine = {expert for _ in range(VERIFIED) for expert in drawn.sample(favourites, CHOSEN)}
        sizes.append(len(mine))
        touched |= mine
    return len(touched), sizes


def test_sequences_of_several_tokens_add_up_as_independent_ones() -> None:
    """The growth is that of the drawn sequences; how batches add up is what is tested."""
    from math import log

    drawn = random.Random(2)  # noqa: S311 - a simulation
    batches = [drawn_batch(drawn) for _ in range(3000)]
    each = fmean(size for _, sizes in batches for size in sizes)
    growth = log(each / CHOSEN) / log(VERIFIED)
    found = GateSkew(0.0, growth).distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(SEQUENCES, each=VERIFIED))
    assert found == pytest.approx(fmean(size for size, _ in batches), rel=0.01)
    assert found == pytest.approx(distinct_of_batch(EXPERTS, each, SEQUENCES))


@pytest.mark.parametrize("use", [EVEN, LIGHT, GateSkew(0.9), MeasuredUse([[0.5] * 4 + [2 / 60] * 60], 4, 0.5, 0.7, "")])
def test_neighbours_touch_more_than_one_token_and_no_more_than_strangers(use: GateSkew | MeasuredUse) -> None:
    def touched(sequences: float, each: float) -> float:
        return use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(sequences, each=each))

    for sequences in (1, 4, 32):
        one, two, five = (touched(sequences, each) for each in (1, 2, 5))
        assert one < two < five <= EXPERTS
        assert five <= touched(5 * sequences, 1) * (1 + 1e-9)
        assert touched(sequences, 1) == use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(sequences))


def test_more_growth_touches_more() -> None:
    for use in (LIGHT, MeasuredUse([[4 / 64] * 64], 4, 0.0, 0.7, "")):
        less, more = (use.growing(growth) for growth in (0.6, 0.9))
        tokens = StepTokens(2, each=4)
        low, high = (each.distinct(EXPERTS, CHOSEN, EXPERTS, tokens) for each in (less, more))
        assert low < use.distinct(EXPERTS, CHOSEN, EXPERTS, tokens) < high


def test_independent_tokens_are_the_inverse_of_distinct_experts() -> None:
    for skew in (0.0, 0.3, 0.9):
        for tokens in (1.0, 2.5, 20.0):
            touched = GateSkew(skew).distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens))
            assert independent_tokens(EXPERTS, CHOSEN, touched, skew) == pytest.approx(tokens)
    assert independent_tokens(8, 8, 8.0) == independent_tokens(8, 2, 8.0) == float("inf")


def test_an_expert_model_whose_tokens_visit_all_experts_verifies_them_alike() -> None:
    assert LIGHT.distinct(8, 8, 8, StepTokens(1, each=4)) == pytest.approx(8)


# Steps ------------------------------------------------------------------------------------------------------


def verify(model_: StepModel, sequences: float, tokens: int, context: float = 2048) -> StepTime:
    return step_time(model_, StepLoad(sequences, context, each=tokens, sampled=tokens), LIGHT)


def ratio(model_: StepModel, sequences: float, tokens: int, context: float = 2048) -> float:
    return verify(model_, sequences, tokens, context).seconds / verify(model_, sequences, 1, context).seconds


def part(step: StepTime, name: str) -> float:
    return next(each.seconds for each in step.parts if each.name == name)


def test_a_step_of_one_token_each_is_a_plain_step() -> None:
    for name in ("mixtral-8x7b", "qwen3-8b", "qwen3-next-80b"):
        assert verify(model(name), 8, 1) == step_time(model(name), StepLoad(8, 2048), LIGHT)


def test_a_dense_model_verifies_for_nothing_while_memory_binds_and_pays_for_each_token_where_compute_does() -> None:
    assert ratio(model("qwen3-8b"), 1, 4) < 1.05
    assert ratio(model("qwen3-8b"), 4096, 4, context=64) > 2.8


def test_experts_make_small_batches_dear_saturated_ones_cheap_and_computing_ones_dear_again() -> None:
    found = [ratio(model("mixtral-8x7b"), sequences, 3, context=64) for sequences in (1, 32, 4096)]
    assert found[0] > 1.5
    assert found[1] < 1.2
    assert found[2] > 2


def test_attention_reads_a_cache_once_for_all_its_queries() -> None:
    plain, four = (verify(model("qwen3-8b"), 32, tokens, context=16384) for tokens in (1, 4))
    assert part(plain, "attention") < part(four, "attention") < 1.5 * part(plain, "attention")


def test_a_state_is_read_once_and_written_after_each_token() -> None:
    plain, three = (verify(model("qwen3-next-80b"), 16, tokens) for tokens in (1, 3))
    assert part(three, "states") / part(plain, "states") == pytest.approx((1 + 3) / 2)


def test_the_head_is_asked_for_every_token_that_is_verified() -> None:
    """At many sequences the head is bound by computing, so that one sampled token less in four is seen."""
    load = StepLoad(4096, 64, each=4, sampled=4)
    whole, one = (step_time(model("qwen3-8b"), load._replace(sampled=sampled)) for sampled in (4, 1))
    assert part(whole, "dense") > part(one, "dense")


# Drafts -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def small() -> StepModel:
    """A model that drafts: any will do."""
    return model("olmoe-1b-7b-0924")


def test_passes_of_the_draft_follow_each_other_and_the_first_has_all_tokens() -> None:
    drafting, load = Drafting(4, 2.5, 3, small()), StepLoad(8, 2048, each=4, sampled=4)
    first = step_time(small(), load._replace(sampled=1), LIGHT).seconds
    further = step_time(small(), StepLoad(8, 2048), LIGHT).seconds
    found = draft_part(drafting, load, LIGHT)
    assert found is not None
    assert found.seconds == pytest.approx(first + 2 * further)
    assert found.low_s < found.seconds < found.high_s
    assert draft_part(drafting._replace(layers=None), load, LIGHT) is None


def test_branches_are_tokens_of_the_passes() -> None:
    load = StepLoad(64, 2048, each=4, sampled=4)
    one, four = (draft_part(Drafting(4, 2.5, 3, small(), branches), load, LIGHT) for branches in (1, 4))
    assert one is not None
    assert four is not None
    assert four.seconds > one.seconds


LOAD = ServedLoad(16, 1000, 500, 8192)


def test_speed_of_serving_divides_the_step_by_its_tokens() -> None:
    stages = (model("mixtral-8x7b", ranks=4),)
    plain = serving_speed(stages, LOAD._replace(concurrency=1))
    free = serving_speed(stages, LOAD._replace(concurrency=1), drafting=Drafting(3, 2.0))
    step = decode_step(stages, LOAD._replace(concurrency=1), drafting=Drafting(3, 2.0))
    assert free.tpot_s.value == pytest.approx(step.seconds / 2)
    assert free.decode == step
    assert plain.ttft_s.value == pytest.approx(free.ttft_s.value)


def test_drafts_that_are_never_taken_only_cost() -> None:
    stages = (model("mixtral-8x7b", ranks=4),)
    plain, vain = serving_speed(stages, LOAD), serving_speed(stages, LOAD, drafting=Drafting(3, 1.0, 2, small()))
    assert vain.tpot_s.value > plain.tpot_s.value
    assert vain.output_tokens_per_s.value < plain.output_tokens_per_s.value
    assert "draft" in [each.name for each in vain.decode.parts]


def test_the_last_stage_of_a_pipeline_drafts() -> None:
    stage = model("mixtral-8x7b", ranks=4)
    alone = decode_step((stage, stage), LOAD, LIGHT, Drafting(3, 2.0))
    both = decode_step((stage, stage), LOAD, LIGHT, Drafting(3, 2.0, 2, small()))
    drafts = next(each.seconds for each in both.parts if each.name == "draft")
    assert both.seconds == pytest.approx(alone.seconds + drafts)
