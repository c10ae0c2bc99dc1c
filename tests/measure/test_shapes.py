from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape
from moeplan.measure.routers import ROUTERS
from moeplan.measure.shapes import LATENT, ROUTER_SHAPES, V3, builtin_shapes, fitted, is_builtin, shape_case, shape_of

EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")


def device_of(kind: str, free_bytes: int | None) -> MeasuredDevice:
    unknown: dict[str, Any] = dict.fromkeys(MeasuredDevice._fields)
    return MeasuredDevice(**{**unknown, "kind": kind, "free_bytes": free_bytes, "total_bytes": free_bytes})


@pytest.mark.parametrize("kind", ["cuda", "rocm", "mps", "cpu"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_builtin_shapes_are_layers_that_can_be(effort: Effort, kind: str) -> None:
    shapes = builtin_shapes(effort, device_of(kind, 10**11))
    assert is_builtin(shapes)
    assert len({shape.name for shape in shapes}) == len(shapes) > 1
    for shape in (*shapes, *ROUTER_SHAPES):
        assert shape.experts_per_token <= shape.num_experts
        assert shape.router in ROUTERS
    assert not is_builtin((*shapes, MoeShape("mine", 64, 64, 8, 2)))


def test_beyond_quick_every_routing_function_and_kind_of_layer_is_there() -> None:
    shapes = builtin_shapes("default", device_of("cuda", 10**11))
    assert {each.router for each in (*shapes, *ROUTER_SHAPES)} == set(ROUTERS)
    assert any(each.latent_size for each in shapes)
    assert any(each.shared_width for each in shapes)
    assert any(not each.gated for each in shapes)


def test_a_shape_too_large_loses_experts_and_says_so() -> None:
    # DeepSeek-V3's layer: 256 experts x 3 x 7168 x 2048 x 2 bytes = 22.5e9 bytes. Two fifths of 24e9 are 9.6e9: a quarter
    # of the experts, 5.6e9, fits; half, 11.3e9, does not, and half of 24e9... is not asked.
    small = fitted(V3, "default", 2, device_of("cuda", 24 * 10**9))
    assert (small.num_experts, small.name) == (64, "deepseek-v3 (64 of 256 experts)")
    assert fitted(V3, "default", 2, device_of("cuda", 140 * 10**9)) == V3
    # In one byte each, half fits.
    assert fitted(V3, "default", 1, device_of("cuda", 24 * 10**9)).num_experts == 128
    assert fitted(V3, "default", 2, device_of("cuda", None)) == V3  # nobody knows


def test_a_shape_keeps_at_least_the_experts_of_a_token() -> None:
    # 512, 256, 128, 64, 32: the next would be 16, fewer than the 22 that each token chooses.
    assert fitted(LATENT, "quick", 2, device_of("cuda", 10**6)).num_experts == 32


def test_a_shape_comes_back_from_its_case() -> None:
    for shape in (*builtin_shapes("full", device_of("cuda", 1)), *ROUTER_SHAPES):
        assert shape_of({**shape_case(shape), "tokens": 3, "part": "all"}) == shape
