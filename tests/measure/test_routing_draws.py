from __future__ import annotations

import math
import random

import pytest
import torch

# A machine with a GPU may have no more than what measuring needs (benchmarks/gpu.py).
pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.coverage import distinct_uniform
from moeplan.core.errors import InputError
from moeplan.measure.routing_draws import DISTRIBUTIONS, draw, parse_distribution

NAMES = (
    "balanced",
    "uniform",
    "zipf:0.7",
    "lognormal:1.8",
    "power_law:1",
    "power_law:1.2",
    "distinct:8",
    "distinct:8/zipf:1",
)


def loads(name: str, tokens: int, experts: int, top_k: int, seed: int = 0) -> torch.Tensor:
    return torch.bincount(draw(name, tokens, experts, top_k, seed).experts.flatten(), minlength=experts).double()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES), st.integers(1, 40), st.integers(8, 40), st.integers(1, 8), st.integers(0, 5)
)  # fmt: skip
def test_every_draw_is_a_routing_and_tells_what_it_is(
    name: str, tokens: int, experts: int, top_k: int, seed: int
) -> None:
    if name.startswith("distinct") and tokens * top_k < 8:
        return
    drawn = draw(name, tokens, experts, top_k, seed)
    assert drawn.experts.shape == (tokens, top_k)
    assert drawn.experts.dtype == torch.int64
    assert all(len(set(row)) == top_k and 0 <= min(row) <= max(row) < experts for row in drawn.experts.tolist())
    counts = [drawn.experts.flatten().tolist().count(each) for each in range(experts)]
    assert drawn.distinct == sum(each > 0 for each in counts)
    assert drawn.busiest == max(counts)
    assert (drawn.distribution, drawn.seed, drawn.num_experts) == (name, seed, experts)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides(name: str) -> None:
    first = draw(name, 32, 16, 4, 5).experts.clone()
    torch.rand(3)
    draw.cache_clear()
    assert torch.equal(draw(name, 32, 16, 4, 5).experts, first)
    assert not torch.equal(draw(name, 32, 16, 4, 6).experts, first)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 64, 8), (7, 64, 8), (64, 64, 8), (100, 48, 5)])
def test_balanced_is_dealt_round_robin(tokens: int, experts: int, top_k: int) -> None:
    drawn = draw("balanced", tokens, experts, top_k, 0)
    assert drawn.distinct == min(experts, tokens * top_k)
    assert drawn.busiest == math.ceil(tokens * top_k / experts)


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens", "want"), [(128, 8, 16, 82.4), (64, 8, 4, 26.5), (256, 8, 64, 222.4), (8, 2, 4, 5.47)]
)
def test_uniform_touches_as_many_as_the_closed_form(experts: int, top_k: int, tokens: int, want: float) -> None:
    # E (1 - (1 - k/E)^n): the table of published model shapes.
    assert distinct_uniform(experts, top_k, tokens) == pytest.approx(want, rel=2e-3)
    mean = sum(draw("uniform", tokens, experts, top_k, seed).distinct for seed in range(60)) / 60
    # The spread of one draw is below sqrt(E)/2, that of a mean of 60 below sqrt(E)/15; four times that.
    assert mean == pytest.approx(want, abs=4 * math.sqrt(experts) / 15)


@pytest.mark.parametrize(
    ("name", "cv", "busiest_over_mean"),
    [
        (
            "zipf:0.5",
            0.78,
            7.6,
        ),  # independent simulation of the same distributions with 256 experts, 8 a token, 4096 tokens
        ("zipf:0.7", 1.34, 14.0),
        ("power_law:1.01", 1.8, 8.0),
        ("lognormal:1.8", 1.97, None),
    ],
)
def test_skewed_draws_have_the_published_coefficient_of_variation(
    name: str, cv: float, busiest_over_mean: float | None
) -> None:
    seen = [loads(name, 4096, 256, 8, seed) for seed in range(3)]
    got = sum(float(each.std(correction=0) / each.mean()) for each in seen) / 3
    loose = 0.25 if name.startswith(("lognormal", "power_law")) else 0.03  # these draw their gates too
    assert got == pytest.approx(cv, rel=loose)
    if busiest_over_mean is not None:
        assert sum(float(each.max() / each.mean()) for each in seen) / 3 == pytest.approx(
            busiest_over_mean, rel=max(loose, 0.05)
        )


def test_tokens_draw_in_proportion_to_gates_without_repetition() -> None:
    # Two gates of weights 1 and 2^-1: one expert per token is the first with probability 2/3.
    first = loads("zipf:1", 6000, 2, 1).max() / 6000
    assert first == pytest.approx(2 / 3, abs=4 * math.sqrt(2 / 9 / 6000))
    # Weights 1, 1/2, 1/3 (of 11/6): two without repetition leave out the third, whose chance to be the one left out is
    # P(1 then 2) + P(2 then 1) = 6/11 x (1/2)/(5/6) + 3/11 x 1/(4/3) = 18/55 + 9/44 = 0.5318.
    left_out = 1 - loads("zipf:1", 6000, 3, 2).min() / 6000
    assert left_out == pytest.approx(0.5318, abs=4 * math.sqrt(0.25 / 6000))


@pytest.mark.parametrize("tokens", [64, 200, 1024])
@pytest.mark.parametrize("distinct", [8, 16, 32, 64])
@pytest.mark.parametrize("skew", ["", "/zipf:0.5", "/zipf:1", "/zipf:2"])
def test_forced_routings_vary_one_thing_at_a_time(tokens: int, distinct: int, skew: str) -> None:
    drawn = draw(f"distinct:{distinct}{skew}", tokens, 64, 8, 0)
    assert drawn.distinct == distinct
    even = math.ceil(tokens * 8 / distinct)
    # rank^-s of tokens x 8, never above all tokens.
    shares = [rank ** -float(skew[6:] or 0) for rank in range(1, distinct + 1)]
    wanted = min(tokens, tokens * 8 * shares[0] / sum(shares))
    assert even <= drawn.busiest <= tokens
    assert drawn.busiest >= int(wanted)


def test_forced_counts_are_those_of_the_ranks() -> None:
    # 6 tokens x 2 over 4 experts as 1/rank: 12 x (12, 6, 4, 3)/25 = 5.76, 2.88, 1.92, 1.44. Whole numbers 5, 2, 1, 1 leave
    # 3, which go to where most is missing: 1.92, 2.88, 5.76.
    assert sorted(loads("distinct:4/zipf:1", 6, 9, 2).int().tolist(), reverse=True)[:5] == [6, 3, 2, 1, 0]


@pytest.mark.parametrize(("tokens", "top_k", "distinct"), [(64, 8, 7), (64, 8, 65), (2, 4, 9)])
def test_impossible_numbers_of_distinct_experts_are_errors(tokens: int, top_k: int, distinct: int) -> None:
    most = min(64, tokens * top_k)
    with pytest.raises(InputError, match=f"cannot touch exactly {distinct}") as error:
        draw(f"distinct:{distinct}", tokens, 64, top_k, 0)
    assert error.value.hint == f"distinct:{top_k} to distinct:{most}"


def test_a_token_cannot_choose_more_experts_than_there_are() -> None:
    with pytest.raises(InputError, match="3 tokens cannot each choose 9 of 8 experts"):
        draw("uniform", 3, 8, 9, 0)
    with pytest.raises(InputError, match="0 tokens"):
        draw("uniform", 0, 8, 2, 0)


@pytest.mark.parametrize(
    "text",
    ["", "zipf", "zipf:", "zipf:x", "zipf:-1", "zipf:nan", "zipf:1e9", "uniform:1", "distinct:1.5", "distinct", "zipf:1/zipf:1",
     "distinct:8/zipf", "distinct:8/uniform", "gauss:1", "uniform/zipf:1", "distinct:8/zipf:0.5/zipf:1", "zipf:٣", "Uniform"],
)  # fmt: skip
def test_foreign_names_are_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(InputError, match="is not known") as error:
        parse_distribution(text)
    assert all(name in str(error.value.hint) for name in DISTRIBUTIONS)


def test_random_text_never_fails_otherwise() -> None:
    letters = random.Random(0)  # noqa: S311 - no secret
    for _ in range(300):
        text = "".join(letters.choice("zipfdsnct:/.0123") for _ in range(letters.randrange(12)))
        try:
            parse_distribution(text)
        except InputError:
            continue


def test_a_draw_moves_to_a_device() -> None:
    assert draw("uniform", 4, 8, 2, 0).to(torch.device("meta")).experts.device.type == "meta"
