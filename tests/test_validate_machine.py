"""Models that ran beside their estimates: exact where the library stores what the estimate counts, by hand elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.ledger import total_bytes
from moeplan.core.measurement import CaseValue, Point
from moeplan.estimate import Estimate, estimate
from moeplan.validate import machine
from moeplan.validate.machine import MachineRun, compare_machine, run_model
from moeplan.validate.result import Comparison
from tests.measure.tiny_models import TINY

EXACT = ["mixtral", "qwen3_moe", "gpt_oss", "olmoe", "deepseek_v2"]
CONTEXT, BATCH = 27, 2


def estimated(config: Mapping[str, Any], folder: Path, **asked: Any) -> Estimate:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    wanted: dict[str, Any] = {"engine": "transformers", "gpu": "h100", "context": CONTEXT, "concurrency": BATCH}
    return estimate(folder, **wanted | asked)


def run(name: str, **asked: Any) -> MachineRun:
    return run_model(name, TINY[name], batch=BATCH, context_tokens=CONTEXT, decode_tokens=3, device="cpu", **asked)


def by_quantity(rows: tuple[Comparison, ...]) -> dict[str, Comparison]:
    assert len({row.quantity for row in rows}) == len(rows)
    return {row.quantity: row for row in rows}


@pytest.fixture(scope="module")
def mixtral() -> MachineRun:
    return run("mixtral")


@pytest.mark.parametrize("name", EXACT)
def test_weights_and_cache_are_exact(name: str, tmp_path: Path) -> None:
    ran = run(name)
    assert [note for note in ran.notes if note.severity == "warning"] == []
    rows = by_quantity(compare_machine(ran.points, estimated(ran.config, tmp_path)))
    for quantity in ("weights_bytes", "kv_bytes"):
        assert (rows[quantity].error, rows[quantity].judged, rows[quantity].within) == (0, True, True)
        assert rows[quantity].observed > 0
    # Tensors are counted here, and other kernels run than on a GPU: shown.
    assert not rows["peak_bytes"].judged
    assert not rows["activations_bytes"].judged
    assert "context_bytes" not in rows
    assert "loaded_bytes" not in rows


def test_layers_that_were_left_out_are_left_out_of_the_estimate(tmp_path: Path) -> None:
    ran = run("gpt_oss", num_layers=3)
    assert ran.config["num_hidden_layers"] == len(ran.config["layer_types"]) == 3
    rows = by_quantity(compare_machine(ran.points, estimated(ran.config, tmp_path)))
    assert (rows["weights_bytes"].error, rows["kv_bytes"].error) == (0, 0)
    assert ["3 of 4 layers ran" in note.message for note in ran.notes if note.code == "layers-left-out"] == [True]
    whole = estimated(TINY["gpt_oss"] | {"dtype": "bfloat16"}, tmp_path)
    rows = by_quantity(compare_machine(ran.points, whole))
    assert rows["weights_bytes"].why_not == "the estimate is of 4 layers, and 3 ran"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"context": 28}, "the estimate is for 2 x 28 tokens, and 2 x 27 ran"),
        ({"concurrency": 1}, "the estimate is for 1 x 27 tokens, and 2 x 27 ran"),
        ({"engine": "vllm"}, "the estimate is for vllm, and transformers ran"),
    ],
)
def test_an_estimate_of_something_else_is_not_compared(
    mixtral: MachineRun, asked: dict[str, Any], told: str, tmp_path: Path
) -> None:
    rows = compare_machine(mixtral.points, estimated(mixtral.config, tmp_path, **asked))
    assert {row.why_not for row in rows} == {told}
    assert {(row.predicted, row.error, row.judged, row.within) for row in rows} == {(None, None, False, None)}
    assert rows[0].observed > 0


def test_without_a_gpu_weights_and_cache_are_still_compared(mixtral: MachineRun, tmp_path: Path) -> None:
    rows = by_quantity(compare_machine(mixtral.points, estimated(mixtral.config, tmp_path, gpu=None)))
    assert (rows["weights_bytes"].error, rows["kv_bytes"].error) == (0, 0)
    assert rows["peak_bytes"].why_not == "no GPU was named, so memory was not estimated line by line"


def of_a_gpu(found: Estimate, *, weights: float = 1, peak: float = 1) -> tuple[Point, ...]:
    """Points of a card that held what was estimated, times these factors, beside 1,000 bytes of others."""
    (rank,) = found.ranks
    beside = total_bytes(rank.lines) - next(line.bytes for line in rank.lines if line.code == "device_context")
    values = {
        "layers": 2.0,
        "layers_of_model": 2.0,
        "parameter_bytes": rank.weights_bytes * weights,
        "buffer_bytes": 0.0,
        "start_allocated_bytes": 1000.0,
        "start_reserved_bytes": 2000.0,
        "start_device_bytes": 5000.0,
        "load_allocated_bytes": 1000 + rank.weights_bytes * weights,
        "prefill_peak_bytes": 1000 + beside * peak,
        "decode_peak_bytes": 1000 + beside / 2,
        "decode_tensor_bytes": 1.0,
        "decode_cache_bytes": float(rank.kv_cache_bytes),
        "decode_reserved_bytes": 2000 + beside * 2,
        "decode_device_bytes": 5000 + beside * 4,
    }
    case: dict[str, CaseValue] = {
        "model": "m",
        "batch": BATCH,
        "prompt_tokens": CONTEXT - 3,
        "decode_tokens": 3,
        "num_layers": None,
    }
    context = {"context_bytes": 600e6, "first_kernel_bytes": 1.0}
    return (
        Point("memory", "torch", "any", {"what": "context"}, values=context),
        Point("memory", "loop", "bfloat16", {"what": "workspace"}, values={"workspace_bytes": 7.0}),
        Point("models", "transformers", "bfloat16", case, values=values),
    )


def test_a_gpus_figures_by_hand(tmp_path: Path) -> None:
    found = estimated(TINY["mixtral"] | {"dtype": "bfloat16"}, tmp_path)
    (rank,) = found.ranks
    context = next(line.bytes for line in rank.lines if line.code == "device_context")
    whole = total_bytes(rank.lines) - context
    rows = by_quantity(compare_machine(of_a_gpu(found), found))
    assert {name: row.observed for name, row in rows.items()} == {
        "context_bytes": 600e6,
        "weights_bytes": rank.weights_bytes,
        "loaded_bytes": rank.weights_bytes,
        "kv_bytes": rank.kv_cache_bytes,
        "activations_bytes": whole - rank.weights_bytes - rank.kv_cache_bytes,
        "peak_bytes": whole,
        "reserved_bytes": 2 * whole,
        "device_bytes": 4 * whole,
    }
    assert rows["context_bytes"].error == pytest.approx(context / 600e6 - 1)
    assert rows["reserved_bytes"].error == -0.5
    assert rows["device_bytes"].error == -0.75
    assert {name for name, row in rows.items() if row.judged} == {
        "weights_bytes", "loaded_bytes", "kv_bytes", "peak_bytes",
    }  # fmt: skip
    assert all(row.within for row in rows.values() if row.judged)


@pytest.mark.parametrize(
    ("weights", "peak", "tolerance", "failed"),
    [
        (1.0009, 1, None, set()),
        (1.0012, 1, None, {"weights_bytes", "loaded_bytes"}),
        (1, 1.029, None, set()),
        (1, 1.032, None, {"peak_bytes"}),
        (1, 0.96, None, {"peak_bytes"}),
        (1.0012, 0.96, 0.05, set()),
        (1.06, 1, 0.05, {"weights_bytes", "loaded_bytes"}),
    ],
)
def test_bars_and_a_stated_tolerance(
    weights: float, peak: float, tolerance: float | None, failed: set[str], tmp_path: Path
) -> None:
    found = estimated(TINY["mixtral"] | {"dtype": "bfloat16"}, tmp_path)
    rows = compare_machine(of_a_gpu(found, weights=weights, peak=peak), found, tolerance)
    assert {row.quantity for row in rows if row.within is False} == failed
    low = next(row for row in rows if row.quantity == "weights_bytes")
    assert low.error == pytest.approx(1 / weights - 1)


def test_a_model_that_stopped_in_its_prefill_shows_its_weights(tmp_path: Path) -> None:
    found = estimated(TINY["mixtral"] | {"dtype": "bfloat16"}, tmp_path)
    *others, point = of_a_gpu(found)
    left = {name: value for name, value in point.values.items() if not name.startswith(("prefill", "decode"))}
    stopped = point._replace(values=left, problem="out of memory")
    rows = compare_machine((*others, stopped), found)
    assert [row.quantity for row in rows] == ["context_bytes", "weights_bytes", "loaded_bytes"]


def test_a_model_that_cannot_be_built_has_a_way_out() -> None:
    with pytest.raises(UnknownError, match="odd could not be run here") as caught:
        run_model(
            "odd", {"model_type": "never_heard_of", "num_hidden_layers": 1}, batch=1, context_tokens=4, device="cpu"
        )
    assert "a smaller model" in caught.value.hint


def test_devices_by_name() -> None:
    with pytest.raises(InputError, match="none that can be measured"):
        run_model("mixtral", TINY["mixtral"], batch=1, context_tokens=4, device="abacus")


def test_torch_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    with pytest.raises(UnknownError, match="torch is not installed") as caught:
        run("mixtral")
    assert "moeplan[capture]" in caught.value.hint


def test_transformers_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UnknownError, match="needs transformers") as caught:
        run("mixtral")
    assert caught.value.hint == machine.CAPTURE
