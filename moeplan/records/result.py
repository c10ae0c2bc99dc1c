"""What two records say beside each other, with the names of the JSON (`moeplan.record-diff/1`)."""

from typing import Literal, NamedTuple

from moeplan.core.model import Remark
from moeplan.core.record_figures import Better, Head, Unit

SCHEMA = "moeplan.record-diff/1"

Of = Literal["model", "load", "run", "estimate"]
"""What a setting belongs to: the model, the load, the way it is run, or only the way in which estimates were made."""
Verdict = Literal["better", "worse", "same", "not comparable", "not in A", "not in B"]
Known = Literal["measured", "estimated", "scored"]
"""`scored`: a score of quality, which somebody measured."""


class Sided(NamedTuple):
    """One of the two records, shortly."""

    file: str
    model: str
    engine: str
    """With its version."""
    hardware: str | None
    """With their number; None where none was named."""
    date: str
    tool_version: str


class Change(NamedTuple):
    """One setting of both; None is not set, or not known."""

    path: str
    """Where it stands in a record."""
    label: str
    of: Of
    before: str | None
    after: str | None


class Compared(NamedTuple):
    """One figure of both."""

    head: Head
    name: str
    label: str
    unit: Unit
    better: Better
    known: Known
    before: float | None
    after: float | None
    before_low: float | None
    """Ends of the band of an estimate, of the runs, or of a score's own noise; None where there is none."""
    before_high: float | None
    after_low: float | None
    after_high: float | None
    change_fraction: float | None
    """(after - before) / |before|; None where one is missing or `before` is 0, or next to it."""
    verdict: Verdict
    gated: bool
    """Whether getting worse fails."""
    fails: bool
    counted: bool
    """False for an estimate where both records measured the same."""
    why: str | None
    """Why it is not comparable, or why it is the same although the figures are not."""


class RecordDiff(NamedTuple):
    """The answer of `moeplan record diff`."""

    schema: str
    a: Sided
    b: Sided
    tolerance: float
    quality_tolerance: float
    settings: tuple[Change, ...]
    """What was chosen otherwise: model, load and run."""
    follows: tuple[Change, ...]
    """What is otherwise because of that: defaults and what engines infer."""
    unknown: tuple[Change, ...]
    """Settings that one of the two does not tell, so that they may have changed."""
    estimated_otherwise: tuple[Change, ...]
    """What changes estimates and no run: moeplan's version, prices, the skew that was assumed."""
    cause: str | None
    """The one setting that changed, by its path; None where none did, more than one, or one may have."""
    figures: tuple[Compared, ...]
    passed: bool | None
    """False where a gated figure got worse or it no longer fits; None where the records cannot be judged."""
    fits_before: bool | None
    fits_after: bool | None
    not_judged: tuple[str, ...]
    """Why `passed` is None, a sentence each."""
    notes: tuple[Remark, ...]
