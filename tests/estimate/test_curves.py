"""The curves that pages draw, beside sums by hand and beside the same questions asked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.estimate import Estimate
from moeplan.estimate.curves_result import Curves, OperatingPoint, Roofline
from tests.pages.routing_counts import CHOSEN, EXPERTS, LAYERS, counts_file

# Mixtral-8x7B by hand, from its config.json.
NUM_LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, WIDTH, VOCABULARY = 32, 4096, 32, 8, 128, 14336, 32000
ATTENTION = 2 * HIDDEN * HEADS * HEAD + 2 * HIDDEN * KV_HEADS * HEAD
ROUTER, EXPERT, TABLE = 8 * HIDDEN, 3 * HIDDEN * WIDTH, VOCABULARY * HIDDEN
NORMS = (2 * NUM_LAYERS + 1) * HIDDEN
INPUT, OUTPUT = 1000, 500
CONTEXT = INPUT + OUTPUT // 2


def asked(model: str = "mixtral-8x7b", **options: Any) -> Estimate:
    given: dict[str, Any] = {"gpu": "h200", "context": 8192, "input": INPUT, "output": OUTPUT} | options
    found = moeplan.estimate(model, offline=True, **given)
    assert isinstance(found, Estimate)
    return found


def curves(model: str = "mixtral-8x7b", **options: Any) -> Curves:
    found = asked(model, **options).curves
    assert found is not None
    return found


def roofline(**options: Any) -> Roofline:
    found = curves(**options).roofline
    assert found is not None
    return found


def point(found: Roofline, kind: str, sequences: int = 1) -> OperatingPoint:
    return next(each for each in found.points if (each.kind, each.sequences) == (kind, sequences))


def test_a_step_of_decode_by_hand() -> None:
    one = point(roofline(concurrency=1), "decode")
    seen = NUM_LAYERS * HEADS * 2 * HEAD * (CONTEXT + 1)
    assert one.operations == 2 * (NUM_LAYERS * (ATTENTION + ROUTER + 2 * EXPERT) + TABLE + seen)
    weights = (
        NUM_LAYERS * (ATTENTION + ROUTER + 2 * EXPERT) + TABLE + NORMS + HIDDEN
    )  # one row of the table is looked up
    cache = NUM_LAYERS * 2 * KV_HEADS * HEAD * CONTEXT
    assert one.bytes == pytest.approx(2 * (weights + cache), rel=1e-9)
    assert (one.tokens, one.operations_per_byte) == (1, one.operations / one.bytes)


def test_reading_a_prompt_by_hand() -> None:
    one = point(roofline(concurrency=1), "prefill")
    assert one.tokens == INPUT
    seen = NUM_LAYERS * HEADS * 2 * HEAD * INPUT * INPUT / 2
    # The head computes the next token of the prompt's last one alone.
    assert one.operations == pytest.approx(2 * (INPUT * NUM_LAYERS * (ATTENTION + ROUTER + 2 * EXPERT) + TABLE + seen))
    whole = NUM_LAYERS * (ATTENTION + ROUTER + 8 * EXPERT) + TABLE + NORMS
    assert one.bytes == pytest.approx(2 * whole)


def test_ranks_share_the_operations_of_a_step() -> None:
    one = point(roofline(concurrency=64), "decode", 64)
    four = point(roofline(concurrency=64, gpu="4xh200"), "decode", 64)
    # What is divided is a quarter; nothing here is whole on every rank but the router.
    router = 2 * 64 * NUM_LAYERS * ROUTER
    assert four.operations - router == pytest.approx((one.operations - router) / 4)


def test_the_asked_point_takes_as_long_as_the_step_that_is_told() -> None:
    found = asked(concurrency=48)
    assert found.speed is not None
    assert found.curves is not None
    assert found.curves.roofline is not None
    assert point(found.curves.roofline, "decode", 48).seconds == pytest.approx(found.speed.decode_step.seconds)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 64},
        {"model": "deepseek-v3", "gpu": "8xh200", "tp": 1, "dp": 8, "ep": 8, "concurrency": 64},
        {"model": "gpt-oss-120b", "gpu": "2xh100", "pp": 2, "tp": 1, "concurrency": 64},
        {"model": "llama-3.1-8b", "gpu": "h100", "concurrency": 64},
    ],
    ids=lambda options: options.get("model", "mixtral"),
)
def test_points_lie_under_the_roofs_and_rise_with_the_batch(options: dict[str, Any]) -> None:
    found = roofline(**options)
    rates = [roof.flops_per_s for roof in found.roofs]
    assert rates == sorted(rates)
    decode = [each for each in found.points if each.kind == "decode"]
    assert [each.sequences for each in decode] == sorted({each.sequences for each in decode})
    for each in found.points:
        assert 0 < each.of_roof_fraction < 1
        allowed = min(rates[-1], found.bandwidth_bytes_per_s * each.operations_per_byte)
        assert each.operations_per_s / allowed == pytest.approx(each.of_roof_fraction)
    assert decode[-1].operations > decode[0].operations
    assert point(found, "prefill").operations_per_byte > decode[-1].operations_per_byte


def test_coverage_is_the_closed_form_between_even_and_twice_the_skew() -> None:
    found = curves(concurrency=12).coverage
    assert found is not None
    assert (found.num_experts, found.experts_per_token, found.num_layers, found.basis) == (8, 2, 32, "assumed")
    assert 12 in [each.tokens for each in found.points]
    for each in found.points:
        assert each.even == pytest.approx(8 * (1 - (1 - 2 / 8) ** each.tokens))
        assert each.doubled is not None
        assert each.doubled - 1e-9 <= each.experts <= each.even + 1e-9


def test_counts_are_drawn_and_not_guessed_at(tmp_path: Path) -> None:
    found = curves("deepseek-v3", gpu="8xh200", concurrency=4, routing=counts_file(tmp_path))
    assert len(found.loads) == LAYERS
    for layer in found.loads:
        assert len(layer.loads) == EXPERTS
        assert sum(layer.loads) / EXPERTS == pytest.approx(1, abs=1e-3)
    # The busiest expert of the first counted layer is its first, by the law that the counts were made by.
    assert max(range(EXPERTS), key=found.loads[0].loads.__getitem__) == 0
    assert found.coverage is not None
    assert found.coverage.basis == "measured"
    assert {each.doubled for each in found.coverage.points} == {None}
    assert found.coverage.points[0].experts == pytest.approx(CHOSEN, rel=1e-4)


def test_what_is_not_known_is_left_open() -> None:
    assert curves("llama-3.1-8b", concurrency=4).coverage is None
    assert curves(concurrency=4, engine="llamacpp").roofline is None
    assert curves(concurrency=4, engine="llamacpp").coverage is not None
    plain = moeplan.estimate("mixtral-8x7b", gpu="h200", offline=True)
    assert plain.curves is None


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("mixtral-8x7b", {"gpu": "2xh100", "context": 8000}),
        ("gpt-oss-120b", {"gpu": "h100", "engine": "llamacpp"}),
        ("deepseek-v3", {"gpu": "8xh200", "tp": 1, "dp": 8, "ep": 8, "concurrency": 24}),
        ("qwen3-next-80b-a3b-instruct", {"gpu": "2xh200", "engine": "sglang"}),
    ],
)
def test_room_over_the_context_is_what_each_context_says_by_itself(model: str, options: dict[str, Any]) -> None:
    found = moeplan.estimate(model, offline=True, **options)
    points = found.capacity.over_context
    contexts = [each.context_tokens for each in points]
    assert contexts == sorted(set(contexts))
    assert found.request.context_tokens in contexts
    assert found.model.max_context_tokens == contexts[-1]
    rooms = [each.max_concurrency for each in points]
    assert rooms == sorted(rooms, reverse=True)
    assert rooms[0] > 0
    for each in points[:: max(1, len(points) // 4)]:
        alone = moeplan.estimate(model, offline=True, **(options | {"context": each.context_tokens}))
        assert alone.capacity.max_concurrency == each.max_concurrency, each


def test_no_room_is_known_without_a_device() -> None:
    assert moeplan.estimate("mixtral-8x7b", offline=True).capacity.over_context == ()
