"""The step-time model against published serving runs: milliseconds per output token.

    python benchmarks/throughput.py    prints the table; exit 1 where a bound is broken

Nothing is fitted to these runs: constants are those of single operations (`profiles/kernels`). A request's tokens come
one per step; in the time of its output the other sequences of the batch are each replaced once, and their prompts are read
beside its steps. Routing is taken with the light skew of `SKEW`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from moeplan.core.layout import Division, Place, Stage  # noqa: E402
from moeplan.core.quant import BY_DTYPE, Quantisation, holdings  # noqa: E402
from moeplan.core.step_time import StepLoad, StepModel, StepTime, step_time  # noqa: E402
from moeplan.core.weights import inventory  # noqa: E402
from moeplan.sources.hardware_profiles import find_hardware  # noqa: E402
from moeplan.sources.models import find_model  # noqa: E402
from moeplan.sources.step_models import step_model  # noqa: E402

POINTS = ROOT / "benchmarks" / "data" / "throughput.csv"
SKEW = 0.3
"""A light skew of the gates (facts on routing, section 3c); without any the errors are alike."""
MOST_MEDIAN, MOST_WORST = 0.20, 0.50
CARDS = {"h100_sxm": "h100-sxm", "h200_sxm": "h200", "b200_sxm": "b200"}
STAND_INS = {"Qwen/Qwen3-235B-A22B-FP8": ("Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-30B-A3B-FP8")}
"""Checkpoints that the catalogue lacks: the model of the same shapes, and one of the same family in that format."""


class Outcome(NamedTuple):
    """One run and what the model says of it."""

    model: str
    card: str
    engine: str
    tp: int
    ep: int
    input_tokens: int
    concurrency: int
    measured_s: float
    predicted_s: float
    step: StepTime

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1


def outcomes() -> Iterator[Outcome]:
    """Every run, in the order of the file."""
    with POINTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    for row in rows:
        model = _model(row)
        batch, prompt, answer = int(row["concurrency"]), int(row["isl"]), int(row["osl"])
        context = prompt + answer / 2
        step = step_time(model, StepLoad(batch, context), SKEW)
        beside = step_time(model, StepLoad(batch - 1, context, prompt), SKEW).seconds - step.seconds
        predicted_s = step.seconds + (batch - 1) / answer * beside
        yield Outcome(
            row["model"],
            row["system"],
            row["engine"],
            int(row["tp"]),
            int(row["moe_ep"]),
            prompt,
            batch,
            float(row["tpot_ms"]) / 1e3,
            predicted_s,
            step,
        )


def _model(row: dict[str, str]) -> StepModel:
    name, format_of = STAND_INS.get(row["model"], (row["model"], row["model"]))
    spec = find_model(name).spec
    quantisation = find_model(format_of).quantisation or Quantisation("bf16", BY_DTYPE[spec.dtype])
    held = (each for each in holdings(inventory(spec), quantisation) if each.part == "text")
    tp, ep = int(row["tp"]), int(row["moe_ep"])
    division = Division(
        attention=tp,
        dense_mlp=tp,
        shared_experts=tp,
        embedding=tp,
        lm_head=tp,
        expert_tp=tp // ep,
        expert_ep=ep,
    )
    place = Place((0,), Stage(0, 0, len(spec.layers), True, True))
    hardware = find_hardware(CARDS[row["system"]])[0]
    found = step_model(spec, held, hardware, row["engine"], division, place, version=row["engine_version"])
    assert found is not None
    return found


def report(found: list[Outcome]) -> Iterator[str]:
    """The table, a row for each run."""
    yield f"{_left('model', 'card', 'engine')} {'tp':>2} {'ep':>2} {'input':>6} {'users':>5} {_times('measured', 'predicted')}"
    for each in found:
        parts = {part.name: part.seconds * 1e3 for part in each.step.parts}
        sizes = f"{each.tp:>2} {each.ep:>2} {each.input_tokens:>6} {each.concurrency:>5}"
        times = _times(f"{each.measured_s * 1e3:.2f} ms", f"{each.predicted_s * 1e3:.2f} ms")
        shares = ", ".join(f"{name} {time:.2f}" for name, time in parts.items())
        yield f"{_left(each.model, each.card, each.engine)} {sizes} {times} {each.error:>+5.0%}  {shares}"
    errors = [abs(each.error) for each in found]
    kept = "kept" if median(errors) <= MOST_MEDIAN and max(errors) <= MOST_WORST else "broken"
    yield (
        f"{len(found)} runs: median error {median(errors):.1%} (at most {MOST_MEDIAN:.0%}), worst {max(errors):.0%} "
        f"(at most {MOST_WORST:.0%}): {kept}"
    )


def _left(model: str, card: str, engine: str) -> str:
    return f"{model[-24:]:<24} {card:<9} {engine:<7}"


def _times(measured: str, predicted: str) -> str:
    return f"{measured:>9} {predicted:>9}"


def main() -> int:
    """Print the table; exit 1 when a bound is broken."""
    found = list(outcomes())
    print(*report(found), sep="\n")
    errors = [abs(each.error) for each in found]
    return int(median(errors) > MOST_MEDIAN or max(errors) > MOST_WORST)


if __name__ == "__main__":
    sys.exit(main())
