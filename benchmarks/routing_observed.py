"""Published figures of how routers use experts, each beside what moeplan says without a profile.

    python benchmarks/routing_observed.py    prints the table; exit 1 where the window of 128 tokens lies outside of the default band

The prediction takes the light skew and the growth that hold for every model, its band half of it and twice of it: gates from even to
twice the light skew, growth as observed anywhere. Figures of one model that became its prior (`profiles/routing`) are not
predicted from that prior, which would be going round in a circle. What a row's `judge` compares is told by `JUDGES`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import comb, inf
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.throughput import Run, stages_of  # noqa: E402
from moeplan.core.coverage import (  # noqa: E402
    SEQUENCE_GROWTH,
    SEQUENCE_GROWTH_HIGH,
    SEQUENCE_GROWTH_LOW,
    inclusion_of,
    rows_deviation,
    zipf,
)
from moeplan.core.expert_placement import balance, place  # noqa: E402
from moeplan.core.expert_use import EVEN, LIGHT, GateSkew, StepTokens  # noqa: E402
from moeplan.core.routing_metrics import gini as gini_of  # noqa: E402
from moeplan.core.serving_speed import ServedLoad, decode_step  # noqa: E402
from moeplan.core.step_time import StepModel  # noqa: E402

OBSERVED = ROOT / "benchmarks" / "data" / "routing.csv"
UNPREDICTED = ROOT / "benchmarks" / "data" / "routing-unpredicted.csv"

BAR = "qwen35-35b-window128"
"""The row that has to lie inside of the default band."""
BAND = tuple(
    GateSkew(exponent, growth)
    for exponent, growth in product(
        (EVEN.exponent, LIGHT.exponent, LIGHT.doubled().exponent),
        (SEQUENCE_GROWTH_LOW, SEQUENCE_GROWTH, SEQUENCE_GROWTH_HIGH),
    )
)
"""Uses of experts that the default band spans."""
STATED = {"oss-distinct16-zipf0.3": GateSkew(0.3, basis="stated")}
"""Rows whose source forced a skew: their band is how far off the closed form may be."""
FORM_ERROR = 0.015
"""Largest error of distinct experts from gates' weights (`core/coverage.py:inclusion_of`)."""
FORCED = tuple(step / 10 for step in range(13))
"""Exponents that a batch is routed with, for steps over distinct experts."""
BALANCER_LOADS = {
    "eplb-readme-layer0": (90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86),
    "eplb-readme-layer1": (20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27),
}
"""Loads of the balancer's example (deepseek-ai/EPLB:README.md): 4 groups, 2 nodes, 8 GPUs, 16 slots."""


class Row(NamedTuple):
    """One published figure."""

    id: str
    judge: str
    model: str
    experts: int
    experts_per_token: int
    tokens: int
    """Of the step or window; of two neighbours where a token and the next one are compared."""
    ranks: int
    """That share the experts; as many as experts where experts themselves are meant."""
    value: float
    upto: float
    """The other end where a range was published, else `value`."""
    setting: str
    taken: str
    """What the source leaves open, and how it was taken."""
    source: str

    @property
    def mean_rows(self) -> float:
        """Of a rank."""
        return self.tokens * self.experts_per_token / self.ranks


class Outcome(NamedTuple):
    """A figure and what moeplan says of it."""

    row: Row
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Predicted / observed - 1; against the middle of a range."""
        return self.predicted / fmean((self.row.value, self.row.upto)) - 1

    @property
    def inside(self) -> bool:
        """Whether all that was published lies in the band, which says no more than its printed digits."""
        return round(self.low, 3) <= self.row.value and self.row.upto <= round(self.high, 3)


# What is compared -------------------------------------------------------------------------------------------


def distinct_in_sequence(row: Row, use: GateSkew) -> float:
    """Distinct experts of so many neighbouring tokens of one sequence."""
    return use.distinct(row.experts, row.experts_per_token, row.experts, StepTokens(0, row.tokens))


def distinct_across(row: Row, use: GateSkew) -> float:
    """Distinct experts of so many sequences, one token each."""
    return use.distinct(row.experts, row.experts_per_token, row.experts, StepTokens(row.tokens))


def shared_by_next(row: Row, use: GateSkew) -> float:
    """Share of a token's experts that the next one takes too: 2 k less the distinct ones of both, over k."""
    return 2 - distinct_in_sequence(row, use) / row.experts_per_token


def next_shares_one(row: Row, use: GateSkew) -> float:
    """Probability that the next token takes at least one expert of a token."""
    return at_least_one(row.experts, row.experts_per_token, shared_by_next(row, use))


def busiest_rows(row: Row, use: GateSkew) -> float:
    """Rows of the busiest rank."""
    return use.rows(row.experts, row.experts_per_token, StepTokens(row.tokens), row.ranks)


def busiest_over_mean(row: Row, use: GateSkew) -> float:
    """Rows of the busiest rank over the mean."""
    return busiest_rows(row, use) / row.mean_rows


def busiest_excess(row: Row, use: GateSkew) -> float:
    """(max - mean) / mean of rows: TensorRT-LLM's imbalance ratio, and MaxVio where ranks are experts."""
    return busiest_over_mean(row, use) - 1


def deviation(row: Row, use: GateSkew) -> float:
    """Standard deviation of the rows of ranks."""
    return rows_deviation(row.experts, row.experts_per_token, row.tokens, row.ranks, use.exponent)


def variation(row: Row, use: GateSkew) -> float:
    """Standard deviation over mean."""
    return deviation(row, use) / row.mean_rows


def gini(row: Row, use: GateSkew) -> float:
    """Gini coefficient of the experts' loads, without the noise of a sample: it is below 0.01 for so many tokens."""
    return gini_of(inclusion_of(zipf(row.experts, use.exponent), row.experts_per_token))


def step_off_line(row: Row, use: GateSkew) -> float:
    """Largest distance of decode steps, routed with one skew after the other, from a line over distinct experts; per cent."""
    points = forced_steps(row)
    slope, start = line_through(points)
    return max(abs(start + slope * distinct - seconds) / seconds for distinct, seconds in points) * 100


def forced_steps(row: Row) -> list[tuple[float, float]]:
    """Distinct experts and seconds of decode steps, by exponent of the skew they are routed with."""
    return [(distinct_across(row, each), step_s(row.tokens, each)) for each in map(GateSkew, FORCED)]


def step_slope_s(row: Row) -> float:
    """Seconds that one more distinct expert of every layer takes."""
    return line_through(forced_steps(row))[0]


def balancedness(row: Row, use: GateSkew) -> float:
    """Mean over maximum of the ranks' loads, as the balancer places them."""
    loads = BALANCER_LOADS[row.id]
    placed = place(loads, row.ranks, 2 * row.ranks - row.experts, num_nodes=2, num_groups=4)
    found = balance(placed, loads).balancedness
    assert found is not None
    return found


JUDGES: dict[str, Callable[[Row, GateSkew], float]] = {
    "distinct_in_sequence": distinct_in_sequence,
    "distinct_across": distinct_across,
    "shared_by_next": shared_by_next,
    "next_shares_one": next_shares_one,
    "busiest_rows": busiest_rows,
    "busiest_over_mean": busiest_over_mean,
    "busiest_excess": busiest_excess,
    "rows_deviation": deviation,
    "variation": variation,
    "gini": gini,
    "step_off_line": step_off_line,
    "balancedness": balancedness,
}


def at_least_one(experts: int, chosen: int, shared: float) -> float:
    """Probability that two choices of k share an expert, where on average they share `shared` k of them.

    Fisher's noncentral hypergeometric law: by chance C(k, j) C(E - k, k - j) ways to share j, each weighted by w^j such that
    the mean is right. By chance alone (w = 1) it is exact.
    """
    ways = [comb(chosen, j) * comb(experts - chosen, chosen - j) for j in range(chosen + 1)]

    def mean(weight: float) -> float:
        weights = [count * weight**j for j, count in enumerate(ways)]
        return sum(j * each for j, each in enumerate(weights)) / sum(weights)

    weight = solved(mean, shared * chosen, 1e-9, 1e9)
    return 1 - ways[0] / sum(count * weight**j for j, count in enumerate(ways))


def solved(rising: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a function that never falls reaches a value, by halving; an end where it does not."""
    for _ in range(100):
        middle = (low + high) / 2
        if rising(middle) < value:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def line_through(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and start of the line of least squares."""
    at_x, at_y = (fmean(axis) for axis in zip(*points, strict=True))
    slope = sum((x - at_x) * (y - at_y) for x, y in points) / sum((x - at_x) ** 2 for x, _ in points)
    return slope, at_y - slope * at_x


@lru_cache(maxsize=1)
def _stages() -> tuple[StepModel, ...]:
    return stages_of(Run("openai/gpt-oss-120b", "b200_sxm", "vllm", 1, 1, 1024, 1024, 16, None, inf, inf), "0.15.1")


def step_s(sequences: int, use: GateSkew) -> float:
    """Seconds of a decode step of gpt-oss-120b under vLLM on a B200."""
    return decode_step(_stages(), ServedLoad(sequences, 1024, 1024, 8192), use).seconds


# Rows -------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table whose first lines are comments."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """All that are predicted, in the order of the file."""
    return tuple(
        Row(
            each["id"], each["judge"], each["model"], int(each["experts"]), int(each["experts_per_token"] or 0),
            int(each["tokens"] or 0), int(each["ranks"] or 1), float(each["value"]), float(each["upto"] or each["value"]),
            each["setting"], each["taken"], each["source"],
        )
        for each in lines_of(OBSERVED)
    )  # fmt: skip


def unpredicted() -> dict[str, list[str]]:
    """Ids of the figures that nothing predicts, by the reason."""
    found: dict[str, list[str]] = {}
    for each in lines_of(UNPREDICTED):
        found.setdefault(each["why"], []).append(each["id"])
    return found


def outcome(row: Row, band: Sequence[GateSkew] = BAND) -> Outcome:
    """A figure and its prediction; `band` are the uses between which the default's lies."""
    judge = JUDGES[row.judge]
    if row.id in STATED:
        found = judge(row, STATED[row.id])
        return Outcome(row, found, found * (1 - FORM_ERROR), found * (1 + FORM_ERROR))
    if row.judge == "step_off_line":  # steps lie on the line as closely as was published, or closer
        return Outcome(row, found := judge(row, LIGHT), found, inf)
    ends = [judge(row, use) for use in band]
    return Outcome(row, judge(row, LIGHT), min(ends), max(ends))


@lru_cache(maxsize=1)
def outcomes() -> tuple[Outcome, ...]:
    """Every row."""
    return tuple(map(outcome, rows()))


def passes(found: Sequence[Outcome]) -> bool:
    """Whether the window of 128 tokens lies in the default band."""
    return any(each.row.id == BAR and each.inside for each in found)


# What is printed ----------------------------------------------------------------------------------------------

HEADS = ("row", "model", "what", "published", "moeplan", "error", "default band", "inside", "setting")
WORDS = {
    "distinct_in_sequence": "distinct experts, neighbours",
    "distinct_across": "distinct experts, strangers",
    "shared_by_next": "share the next token takes too",
    "next_shares_one": "next token shares at least one",
    "busiest_rows": "rows of the busiest",
    "busiest_over_mean": "max / mean",
    "busiest_excess": "(max - mean) / mean",
    "rows_deviation": "deviation of rows",
    "variation": "deviation / mean",
    "gini": "Gini",
    "step_off_line": "steps off a line, %",
    "balancedness": "mean / max, as placed",
}


def cells(each: Outcome) -> tuple[str, ...]:
    """A row in words, under `HEADS`."""
    row = each.row
    published = f"{row.value:g}" if row.upto == row.value else f"{row.value:g} to {row.upto:g}"
    band = f"{each.low:.4g} to {each.high:.4g}" if each.high < inf else f"{each.low:.4g} or more"
    error = f"{each.error:+.0%}".replace("-0%", "+0%")
    said = f"{each.predicted:.4g}", error, band, "yes" if each.inside else "no"
    return row.id, row.model, WORDS[row.judge], published, *said, row.setting


def summary(found: Sequence[Outcome]) -> str:
    """How many lie inside, how many are left out."""
    left = sum(map(len, unpredicted().values()))
    inside = sum(each.inside for each in found)
    return f"{inside} of {len(found)} figures lie inside of the default band; {left} more are predicted by nothing here"


def report(found: Sequence[Outcome]) -> Iterator[str]:
    """The table, what is not predicted, and the bar."""
    table = [HEADS, *map(cells, found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
    yield ""
    for each in found:
        if each.row.taken:
            yield f"{each.row.id}: taken are {each.row.taken}"
    yield ""
    yield "Not predicted"
    for why, ids in unpredicted().items():
        yield f"{len(ids):>3}  {why}: {', '.join(ids)}"
    yield ""
    yield summary(found)
    yield f"{BAR} inside of the default band: {'kept' if passes(found) else 'BROKEN'}"


def main() -> int:
    """Print the table; 1 where the bar is broken."""
    print(*report(outcomes()), sep="\n")
    return int(not passes(outcomes()))


if __name__ == "__main__":
    sys.exit(main())
