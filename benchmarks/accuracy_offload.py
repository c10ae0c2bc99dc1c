"""The section of `docs/accuracy.md` on weights in host memory: bounds beside the best that was published of each machine."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks import offload

TEXT = """Tokens per second of `moeplan plan --ram`, of prompts where a row says prefill, against published runs with experts in host memory
(sources in `benchmarks/data/offload.csv`). `bound` is at most: it has to be at or above every published figure, and within a factor
of {factor:g} of the best of a machine; those are the rows here. The others, from the same machines by other programs or placements, from
sources that leave something open, or with nothing in host memory, stand in [experts in host
memory](offload.md#held-against-what-was-published), with those that are not predicted and why. `python benchmarks/offload.py` works
all of them out anew."""

DOUBTS = """- The share of the host's bandwidth that experts are read at comes from these same decode rows: the least, the middle and the
  most of them. The page named above says what it would be without each.
- A bound says nothing of a program that is not among them, or that is set otherwise; `likely` is a middle of few machines.
- With everything on the card, calls of kernels are those of engines that were measured, times the middle of eleven published runs of
  llama.cpp on cards of one maker."""


def heads() -> tuple[str, ...]:
    """Columns of the table."""
    return "row", "what", "published", "low", "likely", "bound", "bound / published", "likely / published"


def rows() -> Iterator[tuple[str, ...]]:
    """The best that was published of each machine and setting."""
    for each in _best():
        row = each.row
        yield (
            row.id, f"{row.model}, {row.gpu}, {row.host}", f"{row.published:g}", f"{each.low:.1f}", f"{each.likely:.1f}",
            f"{each.bound:.1f}", f"{each.ratio:.2f}", f"{each.likely / row.published:.2f}",
        )  # fmt: skip


def text() -> str:
    """What stands above the table."""
    return TEXT.format(factor=offload.FACTOR)


def summary() -> str:
    """How many bounds hold, and how far they and the middle are off."""
    found, best = offload.outcomes(), _best()
    held = sum(each.holds for each in found)
    ratios = [each.ratio for each in best]
    middle = [abs(each.likely / each.row.published - 1) for each in best]
    inside = sum(each.low <= each.row.published <= each.bound for each in best)
    return (
        f"{held} of {len(found)} rows keep their bound. Of the {len(best)} above the bound is {min(ratios):.2f} to {max(ratios):.2f} "
        f"times what was published, `likely` is off by {median(middle):.0%} in the middle and {max(middle):.0%} at most, and "
        f"{inside} lie between `low` and `bound`."
    )


def _best() -> list[offload.Outcome]:
    return [each for each in offload.outcomes() if each.row.judge == "best"]
