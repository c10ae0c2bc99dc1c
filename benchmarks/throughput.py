"""The speed model against published serving runs: time to the first token, time per output token, rate of a GPU.

    python benchmarks/throughput.py    prints the table; exit 1 where a bound is broken

The constants of steps are those of single operations (`profiles/kernels`). What is in no table of operations was fitted to
these runs: see `fitted_layer_s` and `width_of`, which leave out one model after the other to tell how far off that is.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import exp, hypot, log, sqrt
from pathlib import Path
from statistics import fmean, median
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from moeplan.core import serving_speed as model_of  # noqa: E402
from moeplan.core.layout import Division, Layout  # noqa: E402
from moeplan.core.quant import BY_DTYPE, Quantisation, holdings  # noqa: E402
from moeplan.core.serving_speed import Figure, ServedLoad, ServingSpeed, serving_speed  # noqa: E402
from moeplan.core.step_time import StepModel  # noqa: E402
from moeplan.core.weights import inventory  # noqa: E402
from moeplan.engines import load  # noqa: E402
from moeplan.sources.hardware_profiles import find_hardware  # noqa: E402
from moeplan.sources.models import find_model  # noqa: E402
from moeplan.sources.step_models import served_stages  # noqa: E402

POINTS = ROOT / "benchmarks" / "data" / "throughput.csv"
STEP_TOKENS = 8192
"""New tokens of a step: no run states it. vLLM commands of the same benchmark do (InferenceMAX, README.md:
`--max-num-batched-tokens 8192`); SGLang and TensorRT-LLM are taken to read as many."""
CARDS = {"h100_sxm": "h100-sxm", "h200_sxm": "h200", "b200_sxm": "b200"}
STAND_INS = {"Qwen/Qwen3-235B-A22B-FP8": ("Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-30B-A3B-FP8")}
"""Checkpoints that the catalogue lacks: the model of the same shapes, and one of the same family in that format."""
MAY_SPECULATE = ("deepseek-ai/DeepSeek-R1",)
"""Models with draft layers: whether their runs used them is not stated. The others have none in their checkpoints."""

TPOT_MEDIAN, TPOT_WORST, TTFT_MEDIAN, LEAST_INSIDE, WIDEST = 0.20, 0.50, 0.40, 13, 2.0
"""What the runs have to keep: errors of times, runs inside of the band of TPOT, median of its high / low."""

NINE_OF_TEN = 1.645
"""Standard deviations on either side that hold nine of ten draws of a normal distribution."""


class Run(NamedTuple):
    """One published run."""

    model: str
    card: str
    engine: str
    tp: int
    ep: int
    input_tokens: int
    output_tokens: int
    concurrency: int
    kv_dtype: str | None
    """None where the engine's default is not changed, or nobody says."""
    ttft_s: float
    tpot_s: float

    @property
    def rate(self) -> float:
        """Output tokens per second and GPU, the concurrency always full."""
        return self.concurrency * self.output_tokens / (self.ttft_s + (self.output_tokens - 1) * self.tpot_s) / self.tp


class Outcome(NamedTuple):
    """A run and what the model says of it."""

    run: Run
    speed: ServingSpeed

    @property
    def tpot_error(self) -> float:
        """Predicted / measured - 1."""
        return self.speed.tpot_s.value / self.run.tpot_s - 1

    @property
    def ttft_error(self) -> float:
        """Predicted / measured - 1."""
        return self.speed.ttft_s.value / self.run.ttft_s - 1

    @property
    def rate(self) -> float:
        """Output tokens per second and GPU."""
        return self.speed.output_tokens_per_s.value / self.run.tp

    @property
    def may_speculate(self) -> bool:
        """Whether the run may have used draft layers without saying so."""
        return self.run.model in MAY_SPECULATE


def outcomes() -> list[Outcome]:
    """Every run, in the order of the file."""
    return [Outcome(run, serving_speed(stages, load)) for run, stages, load in asked_runs()]


@lru_cache(maxsize=1)
def asked_runs() -> tuple[tuple[Run, tuple[StepModel, ...], ServedLoad], ...]:
    """Every run with the replica and the load that it asks for, in the order of the file."""
    with POINTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found = []
    for row in rows:
        prompt, answer, users = int(row["isl"]), int(row["osl"]), int(row["concurrency"])
        run = Run(
            row["model"],
            row["system"],
            row["engine"],
            int(row["tp"]),
            int(row["moe_ep"]),
            prompt,
            answer,
            users,
            None if row["kv_dtype"] in ("auto", "unknown") else row["kv_dtype"],
            float(row["ttft_ms"]) / 1e3,
            float(row["tpot_ms"]) / 1e3,
        )
        found.append((run, stages_of(run, row["engine_version"]), ServedLoad(users, prompt, answer, STEP_TOKENS)))
    return tuple(found)


def stages_of(run: Run, version: str) -> tuple[StepModel, ...]:
    """A replica of a run, each pipeline stage its slowest rank."""
    name, format_of = STAND_INS.get(run.model, (run.model, run.model))
    spec = find_model(name).spec
    quantisation = find_model(format_of).quantisation or Quantisation("bf16", BY_DTYPE[spec.dtype])
    held = tuple(each for each in holdings(inventory(spec), quantisation) if each.part == "text")
    tp, ep = run.tp, run.ep
    division = Division(
        attention=tp,
        dense_mlp=tp,
        shared_experts=tp,
        embedding=tp,
        lm_head=tp,
        expert_tp=tp // ep,
        expert_ep=ep,
    )
    layout = Layout(tp=tp, ep=ep, pp_layers=(len(spec.layers),), num_gpus=tp)
    hardware = find_hardware(CARDS[run.card])[0]
    cache = load(run.engine).cache_rules(
        spec,
        asked=run.kv_dtype,
        scheme=quantisation.kv_cache_dtype,
        weight_dtype=spec.dtype,
        capability=hardware.compute_capability,
    )
    found = served_stages(spec, held, hardware, run.engine, division, layout, version=version, cache=cache)
    assert found is not None
    return found


# What is fitted --------------------------------------------------------------------------------------------


LAYER_STEPS = tuple(step * 5e-5 for step in range(61))
"""Values of `PROMPT_LAYER_S` that are tried: up to 3 ms."""
LOSS_SCALE = 0.3
"""Logarithm from which an error counts by its size and no more by its square."""


def fitted_layer_s(runs: Sequence[int]) -> float:
    """`PROMPT_LAYER_S` that fits these runs' TTFT best: a soft absolute loss on logarithms, so that no one run bends it."""

    def loss(layer_s: float) -> float:
        return sum(sqrt(1 + (_ttft_off(run, layer_s) / LOSS_SCALE) ** 2) - 1 for run in runs)

    return min(LAYER_STEPS, key=loss)


@lru_cache(maxsize=4096)
def _ttft_off(number: int, layer_s: float) -> float:
    """Logarithm of measured over predicted."""
    run, stages, load = asked_runs()[number]
    kept = model_of.PROMPT_LAYER_S
    try:
        model_of.PROMPT_LAYER_S = layer_s
        return log(run.ttft_s / serving_speed(stages, load).ttft_s.value)
    finally:
        model_of.PROMPT_LAYER_S = kept


def width_of(offs: Sequence[float], own: Sequence[Sides]) -> float:
    """Width that bands need beside their own: what the scatter of the runs has more than the kernels' bands say.

    `offs` are logarithms of measured over predicted. The excess of their mean square over the mean square that the bands
    claim, where nine of ten lie between, as a half width that nine of ten lie within.
    """
    claimed = fmean((side / NINE_OF_TEN) ** 2 for each in own for side in each)
    return NINE_OF_TEN * sqrt(max(0.0, fmean(off * off for off in offs) - claimed))


def left_out() -> list[list[int]]:
    """Numbers of the runs of each model."""
    models = [run.model for run, _, _ in asked_runs()]
    return [[at for at, each in enumerate(models) if each == model] for model in dict.fromkeys(models)]


What = Literal["tpot", "ttft"]


class Sides(NamedTuple):
    """How far a band reaches to either side, in logarithms."""

    low: float
    high: float


class LeftOut(NamedTuple):
    """What a run's figures are with constants that were fitted without its model."""

    layer_s: float
    ttft_off: float
    tpot_width: float
    ttft_width: float


def leave_one_model_out() -> list[LeftOut]:
    """For every run."""
    found: dict[int, LeftOut] = {}
    everyone = range(len(asked_runs()))
    shown = outcomes()
    for group in left_out():
        others = [number for number in everyone if number not in group]
        layer_s = fitted_layer_s(others)
        tpot = width_of([_tpot_off(shown[at]) for at in others], [_own(shown[at], "tpot") for at in others])
        ttft = width_of([_ttft_off(at, layer_s) for at in others], [_own(shown[at], "ttft") for at in others])
        for at in group:
            found[at] = LeftOut(layer_s, _ttft_off(at, layer_s), tpot, ttft)
    return [found[at] for at in everyone]


def fitted_widths() -> tuple[float, float]:
    """`TPOT_WIDTH` and `TTFT_WIDTH` of all runs."""
    shown = outcomes()
    tpot = width_of([_tpot_off(each) for each in shown], [_own(each, "tpot") for each in shown])
    ttft = width_of([-log(1 + each.ttft_error) for each in shown], [_own(each, "ttft") for each in shown])
    return tpot, ttft


def _tpot_off(each: Outcome) -> float:
    return -log(1 + each.tpot_error)


def _own(each: Outcome, what: What) -> Sides:
    """A band without the fitted width."""
    if what == "tpot":
        figure, width = each.speed.tpot_s, model_of.TPOT_WIDTH
    else:
        figure, width = each.speed.ttft_s, model_of.TTFT_WIDTH
    ends = log(figure.value / figure.low), log(figure.high / figure.value)
    return Sides(*(sqrt(max(0.0, end * end - width * width)) for end in ends))


def inside_left_out(what: What) -> tuple[int, float]:
    """Runs inside of bands whose width was fitted without their model, and the median high / low of these."""
    inside, ratios = 0, []
    for each, without in zip(outcomes(), leave_one_model_out(), strict=True):
        width = without.tpot_width if what == "tpot" else without.ttft_width
        low, high = (hypot(side, width) for side in _own(each, what))
        off = _tpot_off(each) if what == "tpot" else without.ttft_off
        inside += -low <= off <= high
        ratios.append(exp(low + high))
    return inside, median(ratios)


# What is kept ----------------------------------------------------------------------------------------------


class Bound(NamedTuple):
    """One thing that the runs have to keep."""

    name: str
    found: str
    asked: str
    kept: bool


def bounds(found: Sequence[Outcome]) -> list[Bound]:
    """All of them."""
    tpot = [abs(each.tpot_error) for each in found]
    sure = [abs(each.ttft_error) for each in found if not each.may_speculate]
    unsure = [abs(each.ttft_error) for each in found if each.may_speculate]
    both = [*sure, *unsure]
    inside = sum(_inside(each.run.tpot_s, each.speed.tpot_s) for each in found)
    ratio = median(each.speed.tpot_s.high / each.speed.tpot_s.low for each in found)
    ordered = pairs(found)
    right = sum((one.rate < other.rate) == (one.run.rate < other.run.rate) for one, other in ordered)
    return [
        Bound("TPOT, median error", f"{median(tpot):.1%}", f"at most {TPOT_MEDIAN:.0%}", median(tpot) <= TPOT_MEDIAN),
        Bound("TPOT, worst error", f"{max(tpot):.0%}", f"at most {TPOT_WORST:.0%}", max(tpot) <= TPOT_WORST),
        Bound(
            "TTFT, median error",
            f"{median(both):.1%}; {median(sure):.1%} without the {len(unsure)} runs that may speculate, {median(unsure):.1%} of these",
            f"at most {TTFT_MEDIAN:.0%}",
            max(median(both), median(sure)) <= TTFT_MEDIAN,
        ),
        Bound("TPOT, runs in band", f"{inside} of {len(found)}", f"at least {LEAST_INSIDE}", inside >= LEAST_INSIDE),
        Bound("TPOT, median high / low", f"{ratio:.2f}", f"at most {WIDEST:g}", ratio <= WIDEST),
        Bound(
            "pairs of cards ordered rightly by rate of a GPU",
            f"{right} of {len(ordered)}",
            f"all {len(ordered)}",
            right == len(ordered),
        ),
    ]


def pairs(found: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Runs of one model, lengths and concurrency on two cards."""
    by_question: dict[tuple[object, ...], list[Outcome]] = {}
    for each in found:
        run = each.run
        by_question.setdefault((run.model, run.input_tokens, run.output_tokens, run.concurrency), []).append(each)
    return [
        (some[0], some[1]) for some in by_question.values() if len(some) == 2 and some[0].run.card != some[1].run.card
    ]


def _inside(measured: float, figure: Figure) -> bool:
    return figure.low <= measured <= figure.high


def passes(found: Sequence[Outcome]) -> bool:
    """Whether every bound is kept."""
    return all(each.kept for each in bounds(found))


HEADS = ("model", "card", "engine", "tp", "ep", "input", "users")


def cells(run: Run) -> tuple[str, ...]:
    """A run in words, under `HEADS`."""
    name = run.model.rpartition("/")[2]
    return name, run.card, run.engine, *map(str, (run.tp, run.ep, run.input_tokens, run.concurrency))


def told(measured: float, figure: Figure) -> tuple[str, str, str, str, str]:
    """Measured, predicted, error, band and whether it holds, in milliseconds."""
    return (
        f"{measured * 1e3:.1f}",
        f"{figure.value * 1e3:.1f}",
        f"{figure.value / measured - 1:+.0%}",
        f"{figure.low * 1e3:.1f} to {figure.high * 1e3:.1f}",
        "yes" if _inside(measured, figure) else "no",
    )


def report(found: Sequence[Outcome]) -> Iterator[str]:
    """The tables: times, parts, bounds, and what was fitted."""
    figures: tuple[tuple[str, Callable[[Outcome], tuple[float, Figure]]], ...] = (
        ("TPOT", lambda each: (each.run.tpot_s, each.speed.tpot_s)),
        ("TTFT", lambda each: (each.run.ttft_s, each.speed.ttft_s)),
    )
    for name, of in figures:
        yield f"{name}, milliseconds"
        yield _line(HEADS, ("measured", "moeplan", "error", "band", "inside"))
        for each in found:
            yield _line(cells(each.run), told(*of(each))) + ("  may speculate" if each.may_speculate else "")
        yield ""
    yield "Parts of a step of decode, milliseconds, and what binds"
    for each in found:
        shares = ", ".join(f"{part.name} {part.seconds * 1e3:.2f}" for part in each.speed.decode.parts)
        yield _line(cells(each.run), ()) + f" {shares}; {each.speed.binding}"
    yield ""
    yield "Output tokens per second and GPU"
    for one, other in pairs(found):
        for each in (one, other):
            yield _line(cells(each.run), (f"{each.run.rate:,.0f}", f"{each.rate:,.0f}"))
    yield ""
    yield from fits()
    yield ""
    for bound in bounds(found):
        yield f"{bound.name}: {bound.found} ({bound.asked}): {'kept' if bound.kept else 'BROKEN'}"


def fits() -> Iterator[str]:
    """What was fitted, and how far off it is on models that were left out."""
    without = leave_one_model_out()
    everyone = range(len(without))
    sure = [at for at in everyone if not outcomes()[at].may_speculate]
    errors = [abs(exp(-each.ttft_off) - 1) for each in without]
    tpot, ttft = fitted_widths()
    yield (
        f"PROMPT_LAYER_S: {fitted_layer_s(everyone) * 1e3:.2f} ms of all runs; without one model after the other "
        f"{min(each.layer_s for each in without) * 1e3:.2f} to {max(each.layer_s for each in without) * 1e3:.2f} ms, "
        f"median error {median(errors):.1%} on the model left out, {median([errors[at] for at in sure]):.1%} without runs that "
        f"may speculate, worst {max(errors):.0%}"
    )
    widths: tuple[tuple[What, float], ...] = (("tpot", tpot), ("ttft", ttft))
    for name, width in widths:
        inside, ratio = inside_left_out(name)
        yield (
            f"{name.upper()}_WIDTH: {width:.3f} of all runs; fitted without one model after the other, {inside} of {len(without)} "
            f"runs lie inside, median high / low {ratio:.2f}"
        )


WIDTHS = (20, 9, 7, 3, 3, 6, 6)


def _line(left: Sequence[str], right: Sequence[str]) -> str:
    names = "".join(
        f"{text:<{width}}" if at < 3 else f"{text:>{width}}"
        for at, (text, width) in enumerate(zip(left, WIDTHS, strict=True))
    )
    return names + "".join(f"{text:>{16 if at == 3 else 10}}" for at, text in enumerate(right))


def main() -> int:
    """Print the tables; exit 1 when a bound is broken."""
    found = outcomes()
    print(*report(found), sep="\n")
    return int(not passes(found))


if __name__ == "__main__":
    sys.exit(main())
