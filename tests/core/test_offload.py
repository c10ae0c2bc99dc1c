"""A step with weights in host memory: bytes are parted and none is lost, times are sums, hot experts serve what draws say."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from moeplan.core.coverage import inclusion_of, zipf
from moeplan.core.deployment import Constant
from moeplan.core.expert_use import EVEN, LIGHT, StepTokens
from moeplan.core.model import ModelSpec, Weight
from moeplan.core.offload import (
    Ends,
    bytes_at,
    micro_batches,
    on_device,
    parted,
    pipelined,
    prompt_seconds,
    rate,
    reads_of,
    seconds_of,
    steps,
)
from moeplan.core.quant import Holding, holdings
from moeplan.core.weights import inventory
from moeplan.sources.models import find_model
from moeplan.sources.quantisation import what_if

SPEC = find_model("qwen3-30b-a3b").spec
CACHE_BYTES = 1_000_000


def held(spec: ModelSpec = SPEC) -> tuple[Holding, ...]:
    return holdings(inventory(spec), what_if("q4_k_m", spec))


def experts_of(layers: int, share: float = 1.0) -> object:
    def on_host(weight: Weight, layer: int | None) -> float:
        return share if weight.role == "routed_experts" and layer is not None and layer < layers else 0.0

    return on_host


@pytest.mark.parametrize(("layers", "share"), [(0, 1.0), (1, 1.0), (20, 1.0), (48, 1.0), (48, 0.25)])
@pytest.mark.parametrize("tokens", [1, 8])
def test_what_is_parted_is_read_once(layers: int, share: float, tokens: int) -> None:
    weights = held()
    parts = parted(weights, experts_of(layers, share))  # type: ignore[arg-type]
    whole = sum(each.num_bytes for each in weights)
    assert sum(each.num_bytes for each in (*parts.device, *parts.host)) == whole
    mine, all_there = reads_of(SPEC, parts, CACHE_BYTES), reads_of(SPEC, parted(weights, None), CACHE_BYTES)
    asked = StepTokens(tokens)
    together = bytes_at(mine.device, asked, LIGHT) + bytes_at(mine.host, asked, LIGHT)
    assert together == pytest.approx(bytes_at(all_there.device, asked, LIGHT), rel=1e-6)
    assert mine.host_layers == layers
    assert all_there.host.held_bytes == 0


def test_experts_on_the_host_are_read_by_the_distinct_ones_that_are_touched() -> None:
    """One token of one layer visits 8 of 128 experts, a token that all layers route likewise 8 of each."""
    weights = held()
    all_experts = sum(
        each.num_bytes for each in weights if each.weight.role == "routed_experts" and each.part == "text"
    )
    mine = reads_of(SPEC, parted(weights, experts_of(48)), 0)  # type: ignore[arg-type]
    assert bytes_at(mine.host, StepTokens(1), EVEN) == pytest.approx(all_experts * 8 / 128, rel=1e-6)
    touched = 128 * (1 - (1 - 8 / 128) ** 4)
    assert bytes_at(mine.host, StepTokens(4), EVEN) == pytest.approx(all_experts * touched / 128, rel=1e-6)


def test_a_step_is_the_sum_of_its_parts_at_each_end() -> None:
    share = Constant(0.5, 0.25, 1.0, "a test")
    assert rate(100.0, share) == Ends(25.0, 50.0, 100.0)
    device_s = seconds_of(10.0, rate(100.0, share))
    assert device_s == Ends(0.4, 0.2, 0.1)
    found = steps(device_s, seconds_of(30.0, rate(60.0, share)), 4, Ends(0.02, 0.01, 0.0))
    assert [step.seconds for step in found] == pytest.approx([0.4 + 2.0 + 0.08, 0.2 + 1.0 + 0.04, 0.1 + 0.5])
    assert found.best.wait_s == 0
    nothing = steps(device_s, seconds_of(0.0, rate(60.0, share)), 0, Ends(0.02, 0.01, 0.0))
    assert [step.seconds for step in nothing] == list(device_s)


def test_parts_of_a_prompt_follow_each_other_and_none_hides_the_longest() -> None:
    """Copies, reading and computing of one micro-batch; several of them on stages that work at once."""
    parts = [Ends(4.0, 2.0, 1.0), Ends(0.5, 0.3, 0.2), Ends(1.0, 0.5, 0.0)]
    found = prompt_seconds(parts)
    assert found == pytest.approx((5.5, 2.8, 1.0))
    assert pipelined(found, 1, 1) == found
    assert pipelined(found, 1, 4) == pytest.approx(found)
    assert pipelined(found.times(6.0), 6, 2) == pytest.approx(found.times(3.5))


@pytest.mark.parametrize(
    ("prompt", "most", "batches"),
    [(1024, 512, [512, 512]), (1000, 512, [512, 488]), (100, 512, [100]), (513, 512, [512, 1]), (0.4, 512, [])],
)
def test_a_prompt_is_read_in_micro_batches(prompt: float, most: int, batches: Sequence[float]) -> None:
    assert micro_batches(prompt, most) == pytest.approx(batches)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [0, 13, 32, 60, 64])
def test_hot_experts_serve_what_draws_say(exponent: float, count: int) -> None:
    """Draws of 8 of 64 experts a token, one after the other by their weights: visits within 2 %, whole tokens within 0.06."""
    chance = random.Random(7)  # noqa: S311 - no secret
    experts, chosen, tokens = 64, 8, 3000
    weights = zipf(experts, exponent)
    visits, alone = 0, 0
    for _ in range(tokens):
        order = sorted(range(experts), key=lambda expert: chance.expovariate(1.0) / weights[expert])[:chosen]
        here = sum(expert < count for expert in order)
        visits, alone = visits + here, alone + (here == chosen)
    found = on_device([inclusion_of(weights, chosen)], count, hottest=True)
    assert found.traffic_fraction == pytest.approx(visits / (tokens * chosen), abs=0.02)
    assert found.all_fraction == pytest.approx(alone / tokens, abs=0.06)
    some = on_device([inclusion_of(weights, chosen)], count, hottest=False)
    assert some.traffic_fraction == pytest.approx(count / experts)
    assert found.traffic_fraction >= some.traffic_fraction - 1e-9
    assert found.all_fraction >= some.all_fraction - 1e-9
