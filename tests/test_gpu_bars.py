"""Bars of the GPU run: kept, missed or not measured, from figures made up here; and what they do to its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_bars import DECODE, LINE, PEAK, PREFILL, UNUSED, WEIGHTS, Outcome, bar_lines, missed, outcomes
from moeplan.core.measurement import CaseValue, Point, Spread
from moeplan.profile.result import KernelFit
from moeplan.validate.result import Comparison

FIGURES = {"copy_bytes_per_s": 4e12, "matmul_bfloat16_flops_per_s": 800e12}


def expert(backend: str, tokens: int, shape: str = "fat", **values: float) -> Point:
    case: dict[str, CaseValue] = {"shape": shape, "tokens": tokens, "routing": "uniform", "part": "routed"}
    return Point("experts", backend, "bfloat16", case, Spread(1, 1, 1, 20), values)


def fit(median_error: float | None, r_squared: float | None) -> KernelFit:
    return KernelFit("torch.grouped_mm", "bfloat16", 4e12, 8e14, {}, 40, 100, median_error, 0.5, r_squared)


def compared(quantity: str, error: float) -> Comparison:
    blank: dict[str, Any] = dict.fromkeys(Comparison._fields)
    return Comparison(**blank | {"quantity": quantity, "error": error, "judged": True})


POINTS = (
    expert("torch.grouped_mm", 64, bytes_per_s=3.2e12),  # 0.8 of the copy
    expert("batched", 64, shape="thin", bytes_per_s=2e12),
    expert("torch.grouped_mm", 64, shape="thin", bytes_per_s=1e12),
    expert("vllm.fused_moe", 64, bytes_per_s=3.9e12),  # not torch's
    expert("torch.grouped_mm", 16_384, flops_per_s=480e12),  # 0.6 of the rate
    expert("torch.grouped_mm", 4096, flops_per_s=790e12),  # not so many tokens
)
MODELS = {
    "small": [compared("weights_bytes", 0.0002), compared("peak_bytes", -0.01), compared("kv_bytes", 0.5)],
    "large": [compared("loaded_bytes", -0.0009), compared("peak_bytes", -0.02)],
}


def found(kind: str = "cuda", **given: Any) -> dict[str, Outcome]:
    """By what the bar is of."""
    asked = {"figures": FIGURES, "points": POINTS, "kernels": [fit(0.05, 0.99)], "models": MODELS} | given
    return {each.bar.what: each for each in outcomes(kind, **asked)}


def test_every_bar_is_kept_by_figures_beyond_it() -> None:
    some = found()
    assert list(some) == [bar.what for bar in (DECODE, PREFILL, UNUSED, LINE, WEIGHTS, PEAK)]
    assert {each.kept for each in some.values()} == {"kept"}
    assert not missed(some.values())
    assert some[DECODE.what].reached == pytest.approx(0.8)
    assert some[DECODE.what].by == "torch.grouped_mm, fat, uniform; thin 0.50"
    assert some[PREFILL.what].reached == pytest.approx(0.6)
    # Of two models the one that is farther off, with its sign.
    assert some[WEIGHTS.what].reached == pytest.approx(-0.0009)
    assert some[PEAK.what].by == "large, the worst of 2"


@pytest.mark.parametrize(
    ("bar", "given"),
    [
        (DECODE, {"points": [expert("torch.grouped_mm", 64, bytes_per_s=2.9e12)]}),
        (DECODE, {"points": [expert("vllm.fused_moe", 64, bytes_per_s=3.9e12), expert("loop", 64, bytes_per_s=1e12)]}),
        (PREFILL, {"points": [expert("torch.grouped_mm", 16_384, flops_per_s=399e12)]}),
        (UNUSED, {"kernels": [fit(0.081, 0.99)]}),
        (LINE, {"kernels": [fit(0.05, 0.97)]}),
        (LINE, {"kernels": [fit(0.05, float("nan"))]}),
        (WEIGHTS, {"models": {"small": [compared("weights_bytes", 0.0), compared("loaded_bytes", 0.0011)]}}),
        (PEAK, {"models": {"small": [compared("peak_bytes", -0.031)]}}),
    ],
)
def test_every_bar_can_be_missed(bar: Any, given: dict[str, Any]) -> None:
    some = found(**given)
    assert some[bar.what].kept == "missed"
    assert missed(some.values())


@pytest.mark.parametrize(
    ("bar", "given"),
    [
        (DECODE, {"points": []}),
        (DECODE, {"figures": {}}),
        (DECODE, {"points": [POINTS[0]._replace(problem="wrong")]}),
        (PREFILL, {"points": POINTS[:4]}),
        (UNUSED, {"kernels": []}),
        (LINE, {"kernels": [fit(0.05, None)]}),
        (WEIGHTS, {"models": {}}),
        (PEAK, {"models": {"small": [compared("peak_bytes", -0.5)._replace(judged=False)]}}),
    ],
)
def test_what_was_not_measured_is_neither_kept_nor_missed(bar: Any, given: dict[str, Any]) -> None:
    some = found(**given)
    assert some[bar.what].kept == "not measured"
    assert not missed(some.values())


def test_each_kernel_is_judged() -> None:
    other = fit(0.3, 0.99)._replace(backend="torch.scaled_grouped_mm")
    some = [each for each in outcomes("cuda", FIGURES, POINTS, [fit(0.05, 0.99), other], MODELS) if each.bar == UNUSED]
    assert [(each.by, each.kept) for each in some] == [
        ("torch.grouped_mm, bfloat16", "kept"),
        ("torch.scaled_grouped_mm, bfloat16", "missed"),
    ]


def test_on_a_cpu_nothing_is_judged() -> None:
    some = found("cpu", kernels=[fit(0.9, 0.1)])
    assert {each.kept for each in some.values()} == {"not measured on a GPU"}
    assert not missed(some.values())
    *lines, counts = bar_lines(list(some.values()))
    assert all(line.startswith("not measured on a GPU: ") for line in lines)
    assert counts == "bars: 6 not measured on a GPU"


# The run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "bar", "code"),
    [
        ("well", "kept", 0),
        ("well", "missed", 1),
        ("well", "not measured", 0),
        ("raises", "kept", 1),
        ("no time", "kept", 0),
    ],
)
def test_the_exit_code_is_of_steps_and_bars(
    steps: str, bar: Any, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(clock: gpu.Clock, *_: object, **__: object) -> None:
        least_s = 1e9 if steps == "no time" else 0
        clock.step("something", least_s, lambda: 1 / 0 if steps == "raises" else 1)

    monkeypatch.setattr(gpu, "_steps", run)
    monkeypatch.setattr(gpu, "outcomes", lambda *_: (Outcome(UNUSED, 0.05, "a kernel", bar),))
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path), "--minutes", "1"])
    assert gpu.main() == code
    assert f"{bar}: {UNUSED.what}" in " ".join(capsys.readouterr().out.split())
    assert f"| {bar} | a kernel |" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert f"kept: {bar}" in (tmp_path / "gpu.yaml").read_text(encoding="utf-8")
