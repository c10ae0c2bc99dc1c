"""Measured figures of a hardware profile: the newest of each name, beside the specification; worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.hardware import DenseRates, Hardware, Pcie, ScaleUp
from moeplan.core.profiled_figures import MEANINGS, meaning, newest_figures, newest_kernels

CARD = Hardware(
    "mine",
    "Mine",
    memory_bandwidth_bytes_per_s=4_000,
    dense_flops_per_s=DenseRates(bf16=1_000, fp32=100),
    scale_up=ScaleUp("wire", 500, 8),
    pcie=Pcie(5, 16),
)


def block(date: str, figures: Any, **more: Any) -> dict[str, Any]:
    device = {"name": "Mine", "torch_version": f"torch of {date}", "driver_version": None}
    known = {"kind": "profile", "date": date, "tool": "moeplan 0", "method": "moeplan profile, effort full"}
    return {**known, "device": device, "figures": figures, **more}


def figure(value: Any, unit: str = "bytes/s", **ends: Any) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "unit": unit, "source": "torch", **ends}


def test_the_newest_block_that_has_a_figure_counts_for_it() -> None:
    card = CARD._replace(
        measured=(
            {"kind": "engine_residual", "date": "2999-01-01", "figures": {"copy_bytes_per_s": figure(1)}},
            block("2026-03-02", {"copy_bytes_per_s": figure(3_000, low=2_900, high=3_050)}),
            block("2026-03-01", {"copy_bytes_per_s": figure(2_000), "context_bytes": figure(77, "bytes")}),
            block("2026-03-02", {"layer_fixed_s": figure(2e-5, "s"), "copy_bytes_per_s": figure(3_600)}),
        )
    )
    found = {each.name: each for each in newest_figures(card)}
    assert list(found) == ["layer_fixed_s", "copy_bytes_per_s", "context_bytes"]
    # Of two blocks of one date the last in the file is the newer.
    assert (found["copy_bytes_per_s"].value, found["copy_bytes_per_s"].fraction_of_nominal) == (3_600, 0.9)
    assert (found["context_bytes"].date, found["context_bytes"].torch_version) == ("2026-03-01", "torch of 2026-03-01")
    assert (found["context_bytes"].nominal, found["context_bytes"].driver_version) == (None, None)


@pytest.mark.parametrize(
    ("name", "nominal"),
    [
        ("read_bytes_per_s", 4_000),
        ("attention_bytes_per_s", 4_000),
        ("experts_float8_e4m3fn_bytes_per_s", 4_000),
        ("experts_bfloat16_flops_per_s", 1_000),
        ("matmul_bfloat16_flops_per_s", 1_000),
        ("matmul_float32_flops_per_s", 100),
        ("matmul_float8_e4m3fn_flops_per_s", None),  # the specification is silent
        ("matmul_float13_flops_per_s", None),
        ("link_bytes_per_s", 500),
        ("all_reduce_bytes_per_s", None),  # of the message, which no specification tells
        # 32 GT/s x 16 lanes x 128 / 130 bits, 8 bits a byte.
        ("host_to_device_pinned_bytes_per_s", 32 * 10**9 * 16 * 128 // 130 // 8),
        ("host_read_bytes_per_s", None),
        ("router_softmax_topk_64_tokens_s", None),
        ("of_a_later_version", None),
    ],
)
def test_what_a_figure_is_held_against(name: str, nominal: float | None) -> None:
    (found,) = newest_figures(CARD._replace(measured=(block("2026-01-01", {name: figure(50)}),)))
    assert found.nominal == nominal
    assert found.fraction_of_nominal == (None if nominal is None else 50 / nominal)
    (bare,) = newest_figures(Hardware("x", "X", measured=(block("2026-01-01", {name: figure(50)}),)))
    assert (bare.nominal, bare.value) == (None, 50)


def test_a_card_without_its_own_link_is_joined_by_the_hosts() -> None:
    (found,) = newest_figures(
        CARD._replace(scale_up=None, measured=(block("2026-01-01", {"link_bytes_per_s": figure(5)}),))
    )
    assert found.nominal == 63_015_384_615


@pytest.mark.parametrize(
    "figures",
    [
        None, [], "many", {"copy_bytes_per_s": None}, {"copy_bytes_per_s": 5}, {"copy_bytes_per_s": {}},
        {"copy_bytes_per_s": figure("fast")}, {"copy_bytes_per_s": figure(float("inf"))},
        {"copy_bytes_per_s": figure(float("nan"))}, {"copy_bytes_per_s": figure(True)}, {"copy_bytes_per_s": figure(-1)},
    ],
)  # fmt: skip
def test_what_is_no_figure_is_left_out(figures: Any) -> None:
    older = block("2026-01-01", {"copy_bytes_per_s": figure(7)})
    (found,) = newest_figures(CARD._replace(measured=(block("2026-02-01", figures, device=None), older)))
    assert (found.value, found.date) == (7, "2026-01-01")


def test_ends_that_are_no_numbers_are_the_value() -> None:
    broken = figure(7, low="slow", high=float("inf"))
    (found,) = newest_figures(CARD._replace(measured=(block("2026-01-01", {"copy_bytes_per_s": broken}),)))
    assert (found.low, found.high) == (7, 7)


def test_runs_of_one_day_are_told_apart_by_their_time() -> None:
    late = block("2026-03-01", {"copy_bytes_per_s": figure(3)}, time="18:00:00Z")
    early = block("2026-03-01", {"copy_bytes_per_s": figure(2)}, time="09:00:00Z")
    for blocks in ((late, early), (early, late)):
        (found,) = newest_figures(CARD._replace(measured=blocks))
        assert (found.value, found.time) == (3, "18:00:00Z")


def test_kernels_are_the_newest_of_each_backend_and_dtype() -> None:
    fit = {
        "backend": "loop",
        "dtype": "bfloat16",
        "num_fitted": 40,
        "num_held": 9,
        "median_error": 0.05,
        "worst_error": 0.5,
    }
    card = CARD._replace(
        measured=(
            block("2026-02-01", {}, kernels=[fit | {"median_error": 0.1}, {"dtype": "x"}, 3]),
            block("2026-03-01", {}, kernels=[fit | {"median_error": float("nan")}]),
            block("2026-01-01", {}, kernels=[fit, fit | {"dtype": "int8", "r_squared_distinct": 0.99}]),
            block("2025-01-01", {}, kernels="none"),
        )
    )
    bf16, int8 = newest_kernels(card)
    assert (bf16.dtype, bf16.date, bf16.median_error, bf16.worst_error) == ("bfloat16", "2026-03-01", None, 0.5)
    assert (bf16.num_fitted, bf16.num_held, bf16.r_squared_distinct) == (40, 9, None)
    assert (int8.dtype, int8.date, int8.r_squared_distinct) == ("int8", "2026-01-01", 0.99)


def test_names_have_words_and_si_units() -> None:
    assert meaning("router_sigmoid_bias_groups_64_tokens_s").label == "route 64 tokens: sigmoid_bias_groups"
    assert meaning("experts_tf32_bytes_per_s").label == "experts, tf32: weights read"
    assert meaning("model_a-b_peak_bytes").label == "a-b: peak"
    assert meaning("model_a-b_peak_estimate_bytes").label == "a-b: peak, estimated"
    assert meaning("of_a_later_version").label == "of_a_later_version"
    assert all(name.endswith(("_s", "_bytes")) for name in MEANINGS)


def test_a_device_that_was_not_measured_has_none() -> None:
    assert (newest_figures(CARD), newest_kernels(CARD)) == ((), ())
