"""Figures out of points: which case makes up a figure, by hand; and whole models beside their estimates."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from moeplan.core.measurement import MoeShape, Point, Spread
from moeplan.measure import models
from moeplan.measure.session import open_session
from moeplan.measure.shapes import shape_case
from moeplan.profile import summary
from moeplan.profile.result import Figure
from moeplan.profile.summary import figures
from tests.measure.tiny_models import TINY

SHAPE = MoeShape("one", 64, 32, 8, 2)


def routed(shape: MoeShape, part: str, tokens: int, median_us: float) -> Point:
    case = {**shape_case(shape), "part": part, "tokens": tokens}
    spread = Spread(median_us * 1e-6, median_us * 0.9e-6, median_us * 1.2e-6, 20)
    return Point("router", "torch", "bfloat16", case, spread)


def by_name(points: Any) -> dict[str, Figure]:
    found = figures(points)
    assert len({figure.name for figure in found}) == len(found)
    return {figure.name: figure for figure in found}


def test_routing_is_that_of_the_slowest_shape_of_each_function() -> None:
    other, groups = SHAPE._replace(name="two", num_experts=16), SHAPE._replace(name="v3", router="sigmoid_bias_groups")
    alone = SHAPE._replace(name="phi", router="sparsemixer")
    points = [
        *(routed(shape, "permute", tokens, 1) for shape in (SHAPE, other, groups) for tokens in (1, 64)),
        *(routed(SHAPE, "all", tokens, time) for tokens, time in ((1, 30), (64, 40), (1024, 900))),
        *(routed(other, "all", tokens, time) for tokens, time in ((1, 20), (64, 50))),
        routed(groups, "all", 64, 80),
        routed(groups, "route", 64, 60),
        routed(groups, "all", 1, 0)._replace(spread=None, problem="out of memory"),
        routed(alone, "all", 64, 500),  # of the functions that are measured beside the shapes: in the file of all cases
    ]
    found = by_name(points)
    assert {name: round(figure.value * 1e6) for name, figure in found.items()} == {
        "router_softmax_topk_1_tokens_s": 30,
        "router_softmax_topk_64_tokens_s": 50,
        "router_sigmoid_bias_groups_64_tokens_s": 80,
    }
    slowest = found["router_softmax_topk_64_tokens_s"]
    assert (slowest.unit, slowest.label) == ("s", "route 64 tokens: softmax_topk")
    assert (slowest.low, slowest.high) == pytest.approx((45e-6, 60e-6))
    assert "shape two" in slowest.source
    assert found["router_softmax_topk_1_tokens_s"].label == "route 1 token: softmax_topk"


def test_the_link_of_a_device_is_that_within_one_machine() -> None:
    def sent(what: str, nodes: int, rate: float) -> Point:
        values = {"bytes_per_s": rate, "bus_bytes_per_s": rate * 1.75}
        return Point("links", "nccl", "bfloat16", {"what": what, "nodes": nodes}, Spread(1, 1, 1, 9), values)

    found = by_name([sent("all_reduce", 1, 200e9), sent("all_gather", 1, 100e9)])
    assert (found["all_reduce_bytes_per_s"].value, found["link_bytes_per_s"].value) == (200e9, 350e9)
    assert "link_bytes_per_s" not in by_name([sent("all_reduce", 2, 30e9)])


@pytest.fixture(scope="module")
def ran() -> Point:
    point = models.measure(models.model_task("Tiny / Mixtral", TINY["mixtral"], 2, 24, 3), open_session("cpu", 0))
    assert point.problem is None
    return point


def on_a_gpu(point: Point, peak: float) -> Point:
    """The same as torch's allocator on a GPU would tell it."""
    seen = {"start_allocated_bytes": 0.0, "prefill_peak_bytes": peak, "decode_peak_bytes": peak / 2}
    return point._replace(values={**point.values, **seen})


def test_a_models_peak_is_beside_its_estimate(ran: Point) -> None:
    found = by_name([ran])
    peak, estimated = (found[f"model_tiny-mixtral_peak_{end}"] for end in ("bytes", "estimate_bytes"))
    assert peak.value == max(ran.values["prefill_peak_tensor_bytes"], ran.values["decode_peak_tensor_bytes"])
    assert peak.source == "transformers, bfloat16, 2 layers, 2 x 27 tokens, by its tensors"
    # The lines that are exact: weights, and a cache of 27 tokens of 2 sequences, 2 layers, 2 heads of 8, keys and values.
    assert "weights" in estimated.source
    assert f"cache of all sequences {2 * 27 * 2 * 2 * 2 * 8 * 2 / 1024:.1f} KiB" in estimated.source
    assert estimated.source.count("(+0.00%)") == 2
    assert estimated.low < estimated.value < estimated.high
    # What a GPU's allocator told is what counts where there is one; the error is that of the estimate, with its sign.
    for factor, sign in ((1.25, "-20.0%"), (0.8, "+25.0%")):
        again = by_name([on_a_gpu(ran, estimated.value * factor)])
        assert again["model_tiny-mixtral_peak_bytes"].value == pytest.approx(estimated.value * factor)
        assert again["model_tiny-mixtral_peak_bytes"].source.endswith("2 x 27 tokens")
        assert again["model_tiny-mixtral_peak_estimate_bytes"].label == f"tiny-mixtral: peak, estimated {sign}"


def test_a_model_that_stopped_early_has_no_peak(ran: Point) -> None:
    assert by_name([ran._replace(problem="out of memory")]) == {}
    early = {name: value for name, value in ran.values.items() if not name.startswith("decode")}
    assert by_name([ran._replace(values=early)]) == {}


def test_a_peak_that_cannot_be_estimated_is_kept(ran: Point, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "ANY_CARD", "no-such-card")
    assert list(by_name([ran])) == ["model_tiny-mixtral_peak_bytes"]
