"""Constants that a profile refits, from points that the latency model itself made: they must come back, errors must be told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from moeplan.core.latency import VALUE_BYTES, Device, ExpertShape, Load, seconds, work
from moeplan.core.latency_fit import START
from moeplan.core.measurement import MoeShape, Point, Spread
from moeplan.profile import profile
from moeplan.profile.kernels import FEWEST, MOST_FITTED, kernel_fits, kernel_notes

DEVICE = Device(4e12, 8e14)
TRUTH = START._replace(fixed_s=30e-6, memory_fraction=0.7, compute_fraction=0.4, traffic_factor=3.0, routing_factor=0.0)
SHAPES = (MoeShape("fat", 4096, 14336, 8, 2), MoeShape("thin", 2048, 768, 128, 8))


def points(tokens: list[int], noise: float = 0.0) -> list[Point]:
    """Bandwidth and rate of the device, and experts of both shapes over tokens, and over distinct experts at 64 tokens."""
    drawn = random.Random(0)  # noqa: S311 - noise of a test
    found = [
        Point(
            "bandwidth",
            "torch.copy_",
            "float32",
            {"what": "copy", "bytes": 2**30},
            values={"bytes_per_s": DEVICE.bandwidth_bytes_per_s},
        ),
        Point("matmul", "torch.matmul", "bfloat16", {"m": 8192}, values={"flops_per_s": DEVICE.flops_per_s}),
    ]
    for shape in SHAPES:
        cases = [(count, "uniform", min(shape.num_experts, count * shape.experts_per_token)) for count in tokens]
        cases += [(64, f"distinct:{each}", each) for each in (2, 4, 8) if each >= shape.experts_per_token]
        cases += [(64, f"distinct:{each}", each) for each in (16, 64, 128) if each <= shape.num_experts]
        for count, routing, distinct in cases:
            experts = ExpertShape(
                shape.hidden_size,
                shape.expert_width,
                shape.num_experts,
                shape.num_experts,
                shape.experts_per_token,
                VALUE_BYTES["bfloat16"],
            )
            took = seconds(TRUTH, DEVICE, work(experts, Load(count, distinct, count * shape.experts_per_token)))
            took *= 1 + noise * drawn.uniform(-1, 1)
            case = {"shape": shape.name, **shape._asdict(), "tokens": count, "routing": routing, "part": "routed"}
            del case["name"]
            values = {"distinct": float(distinct)}
            found.append(Point("experts", "torch.grouped_mm", "bfloat16", case, Spread(took, took, took, 20), values))
    return found


def test_constants_come_back() -> None:
    (fit,) = kernel_fits(points([1, 4, 16, 64, 256, 1024, 4096, 16384]))
    assert fit.constants["memory_fraction"] == pytest.approx(0.7, rel=0.03)
    assert fit.constants["fixed_s"] == pytest.approx(30e-6, rel=0.1)
    assert fit.constants["compute_fraction"] == pytest.approx(0.4, rel=0.05)
    assert fit.median_error is not None
    assert fit.median_error < 0.02
    assert fit.r_squared_distinct is not None
    assert fit.r_squared_distinct > 0.98
    assert (fit.bandwidth_bytes_per_s, fit.flops_per_s) == DEVICE[:2]


def test_errors_are_those_of_points_that_took_no_part() -> None:
    tokens = [2**power for power in range(14)] + [3 * 2**power for power in range(12)]
    (fit,) = kernel_fits(points(tokens, noise=0.2))
    routed = len(points(tokens)) - 2
    assert fit.num_fitted == MOST_FITTED
    assert fit.num_held == routed - MOST_FITTED
    assert fit.median_error is not None
    assert 0.03 < fit.median_error < 0.2  # noise of up to 20 % cannot be foreseen


def test_too_few_points_are_not_fitted() -> None:
    assert kernel_fits(points([1])[: FEWEST + 1]) == ()


def test_without_a_bandwidth_nothing_is_fitted() -> None:
    assert kernel_fits([point for point in points([1, 64, 4096, 16384]) if point.section == "experts"]) == ()


TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384]


def notes(some: list[Point]) -> list[str]:
    found = kernel_notes(some)
    assert all(note.code == "kernels-not-fitted" for note in found)
    return [note.message for note in found]


def without(*sections: str) -> list[Point]:
    return [point for point in points(TOKENS) if point.section not in sections]


def test_nothing_is_told_where_everything_is_fitted_or_no_expert_was_timed() -> None:
    assert notes(points(TOKENS)) == []
    assert notes(without("experts")) == []
    # The loop waits for the host at every expert: nobody expects constants of it.
    assert notes([point._replace(backend="loop") for point in without("bandwidth", "matmul")]) == []


@pytest.mark.parametrize(
    ("missing", "what", "way_out"),
    [
        (
            ("bandwidth", "matmul"),
            "the bandwidth of its memory and its matrix rate",
            "--section bandwidth --section matmul",
        ),
        (("bandwidth",), "the bandwidth of its memory", "--section bandwidth"),
        (("matmul",), "its matrix rate", "--section matmul"),
    ],
)
def test_what_a_fit_lacks_is_told_with_a_way_out(missing: tuple[str, ...], what: str, way_out: str) -> None:
    some = without(*missing)
    assert kernel_fits(some) == ()
    (told,) = notes(some)
    assert told.endswith(f"without {what}: add {way_out}")


def test_a_backend_with_too_few_cases_is_told() -> None:
    more = [
        point._replace(backend="vllm.fused_moe")
        for point in points(TOKENS)
        if point.section == "experts" and point.case["routing"] == "uniform" and point.case["shape"] == "fat"
    ]
    some = points(TOKENS) + more + [more[0]._replace(dtype="float16", spread=None, problem="out of memory")]
    assert [fit.backend for fit in kernel_fits(some)] == ["torch.grouped_mm"]
    (told,) = notes(some)
    assert f"vllm.fused_moe in bfloat16 (8 timed cases): it takes {FEWEST}" in told
    # What could not run at all is among the problems already.
    assert "float16" not in told.replace("bfloat16", "")


def test_a_profile_of_experts_alone_says_why_it_has_no_constants(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shapes = Path(__file__).with_name("tiny-moe.json")
    found = profile(shapes, effort="quick", device="cpu", sections=("experts",), name="experts", profiles=tmp_path)
    assert found.kernels == ()
    (told,) = [note.message for note in found.notes if note.code == "kernels-not-fitted"]
    assert told.endswith("add --section bandwidth --section matmul")
