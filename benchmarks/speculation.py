"""Speculation beside published runs: how much longer a step with drafts takes, and how much faster it is.

    python benchmarks/speculation.py    prints the tables; exit 1 where a bound is broken

With a published speed-up S, a step that brings L tokens took L / S times as long as a plain one: that is what is predicted, free
of what the text let through. Where no L was published, the L that the prediction asks for is told: it has to lie between 1 and
one more than all drafts. Machines of which no kernel was measured (Apple's) are compared in bytes that a step reads.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from moeplan.core.expert_use import StepTokens  # noqa: E402
from moeplan.core.quant import BY_DTYPE, Quantisation, holdings  # noqa: E402
from moeplan.core.speculation import acceptance_of  # noqa: E402
from moeplan.core.step_bytes import step_reads  # noqa: E402
from moeplan.core.weights import inventory  # noqa: E402
from moeplan.estimate import estimate  # noqa: E402
from moeplan.estimate.speed_result import Speculation  # noqa: E402
from moeplan.sources.expert_uses import read_use  # noqa: E402
from moeplan.sources.models import find_model  # noqa: E402
from moeplan.sources.quantisation import what_if  # noqa: E402

RUNS = ROOT / "benchmarks" / "data" / "speculation.csv"
MOST_OFF = 0.10
"""How far a predicted step may be off a published one with draft layers whose acceptance was published."""
DEPTH_KEPT = 0.10
"""How far the speed-ups of one model at two batches may be off each other, beside published ones."""


class Run(NamedTuple):
    """One published run."""

    id: str
    model: str
    gpu: str
    engine: str
    tp: int
    ep: int
    quant: str | None
    users: int
    input_tokens: int
    output_tokens: int
    flags: str
    length: float | None
    speed_up: float
    upto: float
    taken: str
    source: str


class Outcome(NamedTuple):
    """A run and what is said of it."""

    run: Run
    found: Speculation

    @property
    def ratio(self) -> float:
        """Of a step with drafts over a plain one; of a bound where the draft is another model."""
        return next(row.step_ratio for row in self.found.over_concurrency if row.concurrency == self.run.users)

    @property
    def published_ratio(self) -> float | None:
        """None where no acceptance was published."""
        return None if self.run.length is None else self.run.length / fmean((self.run.speed_up, self.run.upto))

    @property
    def needed_length(self) -> float:
        """Tokens of a step with which the prediction gives the published speed-up."""
        return fmean((self.run.speed_up, self.run.upto)) * self.ratio

    @property
    def is_bound(self) -> bool:
        """Whether the draft's own time is left out."""
        return self.found.draft is None


@lru_cache(maxsize=1)
def outcomes() -> tuple[Outcome, ...]:
    """Every run, in the order of the file."""
    return tuple(Outcome(run, _said(run)) for run in runs())


def runs() -> Iterator[Run]:
    """The rows of the file."""
    with RUNS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            yield Run(
                row["id"], row["model"], row["gpu"], row["engine"], int(row["tp"]), int(row["ep"]), row["quant"] or None,
                int(row["users"]), int(row["input"]), int(row["output"]), row["flags"],
                float(row["length"]) if row["length"] else None, float(row["speed_up"]),
                float(row["upto"] or row["speed_up"]), row["taken"], row["source"],
            )  # fmt: skip


def _said(run: Run) -> Speculation:
    found = estimate(
        run.model, gpu=f"{run.tp}x{run.gpu}", engine=run.engine, tp=run.tp, ep=run.ep, quant=run.quant, concurrency=run.users,
        input=run.input_tokens, output=run.output_tokens, context=8192, engine_args=run.flags.split(" "), offline=True,
    )  # fmt: skip
    assert found.speed is not None, run.id
    assert found.speed.speculation is not None, run.id
    return found.speed.speculation


# Bytes ------------------------------------------------------------------------------------------------------


class Bytes(NamedTuple):
    """A published ratio of steps, beside that of the bytes that they read."""

    id: str
    model: str
    quant: str
    verified: int
    published: tuple[float, float]
    what: str
    source: str


BYTES = (
    Bytes("glm47flash-verify2-step", "glm-4.7-flash", "int4", 2, (1.59, 1.59), "M3 Max, 4-bit", "ml-explore/mlx-lm pull request 1485"),
    Bytes(
        "glm52-verify2-step", "glm-5", "mxfp4", 2, (2.2, 2.2), "GLM-5.2, M3 Ultra, MXFP4, no fused gather of few rows",
        "jundot/omlx issue 2077",
    ),
    Bytes("cascade-verify, Mixtral", "mixtral-8x7b", "fp16", 4, (2, 3), "verification of 3 drafts", "Cascade, arXiv 2506.20675"),
    Bytes("cascade-verify, OLMoE", "olmoe-1b-7b-0924", "fp16", 4, (2, 3), "verification of 3 drafts", "Cascade, arXiv 2506.20675"),
)  # fmt: skip


def byte_ratio(row: Bytes) -> tuple[float, float, float]:
    """Bytes of a step that verifies over those of a plain one, one sequence and no cache; and with the band of the growth."""
    loaded = find_model(row.model)
    spec = loaded.spec
    plain = Quantisation(spec.dtype, BY_DTYPE[spec.dtype])
    held = tuple(
        each
        for each in holdings(inventory(spec), plain if row.quant == "fp16" else what_if(row.quant, spec))
        if each.part == "text"
    )
    reads = step_reads(spec, held, 0)
    use = read_use(spec, None, None, [], model=loaded.id)

    def size(tokens: float, growth: float) -> float:
        law = use.growing(growth)
        experts = sum(
            each.num_bytes
            * law.distinct(each.experts, each.chosen, each.experts, StepTokens(1, each=tokens))
            / each.experts
            for each in reads.experts
        )
        return reads.dense_bytes + experts

    middle, low, high = (
        size(row.verified, growth) / size(1, growth) for growth in (use.growth, use.growth_low, use.growth_high)
    )
    return middle, low, high


# The medium batch -------------------------------------------------------------------------------------------

MOESD = "qwen2-57b-a14b"
MOESD_SPEED_UP, MOESD_DRAFTED = 2.29, 4
"""Best speed-up that MoESD (arXiv 2505.19645) measured on this model, with a small model that drafts; it finds it at medium batches."""


@lru_cache(maxsize=1)
def medium_batch() -> Speculation:
    """Four drafts of a free draft on four H100."""
    found = estimate(
        MOESD,
        gpu="4xh100-sxm",
        concurrency=16,
        input=512,
        output=512,
        context=4096,
        draft_tokens=MOESD_DRAFTED,
        offline=True,
    )
    assert found.speed is not None
    assert found.speed.speculation is not None
    return found.speed.speculation


# What is printed --------------------------------------------------------------------------------------------


def passes(found: tuple[Outcome, ...]) -> bool:
    """Whether all bounds are kept."""
    return not list(broken(found))


def broken(found: tuple[Outcome, ...]) -> Iterator[str]:
    """The bounds that are not kept."""
    for each in found:
        published = each.published_ratio
        if published is not None and each.ratio > published * (1 + MOST_OFF):
            yield f"{each.run.id}: a step is said to take {each.ratio:.2f} times as long, {published:.2f} was published"
        if published is not None and not each.is_bound and each.ratio < published * (1 - MOST_OFF):
            yield f"{each.run.id}: a step is said to take {each.ratio:.2f} times as long, {published:.2f} was published"
        if published is None and not 1 < each.needed_length <= each.found.draft_tokens + 1:
            yield f"{each.run.id}: asks for {each.needed_length:.2f} tokens a step"
    by_id = {each.run.id: each for each in found}
    one, many = by_id["deepseek-v3-mtp3-sglang-1"], by_id["deepseek-v3-mtp3-sglang-32"]
    if abs(one.needed_length / many.needed_length - 1) > DEPTH_KEPT:
        yield f"one length cannot give both speed-ups: {one.needed_length:.2f} and {many.needed_length:.2f}"


def report(found: tuple[Outcome, ...]) -> Iterator[str]:
    """The tables."""
    yield "Steps with drafts over plain ones"
    heads = ("run", "users", "drafts", "L", "speed-up", "L / speed-up", "moeplan", "error", "needs L", "acceptance")
    rows: list[tuple[str, ...]] = [heads]
    for each in found:
        run, published = each.run, each.published_ratio
        speed_up = f"{run.speed_up:g}" + (f" to {run.upto:g}" if run.upto != run.speed_up else "")
        said = f"{each.ratio:.2f}" + (" (free draft)" if each.is_bound else "")
        needed = acceptance_of(each.needed_length, each.found.draft_tokens)
        rows.append((
            run.id, str(run.users), str(each.found.draft_tokens), "" if run.length is None else f"{run.length:g}", speed_up,
            "" if published is None else f"{published:.2f}", said,
            "" if published is None else f"{each.ratio / published - 1:+.0%}",
            f"{each.needed_length:.2f}", "none" if needed is None else f"{needed:.2f}",
        ))  # fmt: skip
    yield from _aligned(rows)
    yield ""
    yield "Bytes that a step of one sequence reads, several tokens over one"
    rows = [("row", "tokens", "published time", "moeplan bytes", "band", "setting")]
    for row in BYTES:
        middle, low, high = byte_ratio(row)
        told = f"{row.published[0]:g}" + (f" to {row.published[1]:g}" if row.published[1] != row.published[0] else "")
        rows.append((row.id, str(row.verified), told, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", row.what))
    yield from _aligned(rows)
    yield ""
    block = medium_batch()
    steps = {each.concurrency: each.step_ratio for each in block.over_concurrency}
    best = min(steps, key=lambda users: steps[users])
    yield (
        f"{MOESD}, {MOESD_DRAFTED} free drafts on 4 H100: a step takes "
        + ", ".join(f"{ratio:.2f} x at {users}" for users, ratio in steps.items())
    )
    yield f"cheapest at {best} in flight; MoESD's best {MOESD_SPEED_UP} x there asks for {MOESD_SPEED_UP * steps[best]:.2f} tokens a step"
    yield ""
    yield from (f"BROKEN {line}" for line in broken(found))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def main() -> int:
    """Print the tables; 1 where a bound is broken."""
    print(*report(outcomes()), sep="\n")
    return int(not passes(outcomes()))


if __name__ == "__main__":
    sys.exit(main())
