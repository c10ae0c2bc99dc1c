"""The section of `docs/accuracy.md` on drafts: steps that verify them beside published speed-ups."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import speculation
from moeplan.core.speculation import acceptance_of

TEXT = """How much longer a step takes that verifies drafts (`moeplan estimate --draft-tokens`), against published speed-ups (sources in
`benchmarks/data/speculation.csv`). A speed-up S with L tokens a step means that the step took L / S times as long as a plain one.
Where no L was published, `needs L` is the one with which the prediction gives the published speed-up: it has to lie between 1 and
one more than all drafts. Of a draft by another model its own time is left out, so that the step is longer than is said: `at least`.
What the rows tell, and bytes on machines without kernels here: [speculation](speculation.md#beside-published-runs). `python
benchmarks/accuracy.py speculation` prints all of it."""

DOUBTS = """- Runs with a published length and draft layers of the model itself: {judged}. That is no spread of errors.
- Speed-ups depend on the text, by way of the acceptance, which nothing here predicts.
- Sampling, accepting and the host are in no step, so that speed-ups are rather too good, those of small batches most."""


def heads() -> tuple[str, ...]:
    """Columns of the table."""
    return "run", "users", "drafts", "L", "speed-up", "L / speed-up", "moeplan", "error", "needs L", "acceptance"


def rows() -> Iterator[tuple[str, ...]]:
    """Every published run."""
    for each in speculation.outcomes():
        run, published = each.run, each.published_ratio
        upto = f" to {run.upto:g}" if run.upto != run.speed_up else ""
        needed = acceptance_of(each.needed_length, each.found.draft_tokens)
        yield (
            run.id, str(run.users), str(each.found.draft_tokens), "" if run.length is None else f"{run.length:g}",
            f"{run.speed_up:g}{upto}", "" if published is None else f"{published:.2f}",
            f"{each.ratio:.2f}{' at least' if each.is_bound else ''}",
            "" if published is None else f"{each.ratio / published - 1:+.0%}", f"{each.needed_length:.2f}",
            "none" if needed is None else f"{needed:.2f}",
        )  # fmt: skip


def doubts() -> str:
    """What to keep in mind of them."""
    judged = sum(each.published_ratio is not None and not each.is_bound for each in speculation.outcomes())
    return DOUBTS.format(judged=judged)
