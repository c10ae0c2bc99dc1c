"""What a validation says, with the names of its JSON (`moeplan.validate/1`)."""

from typing import NamedTuple

from moeplan.core.model import Remark

SCHEMA = "moeplan.validate/1"


class Comparison(NamedTuple):
    """One figure of the log beside the estimate's."""

    quantity: str
    label: str
    unit: str
    """`bytes`, `tokens`, `sequences`."""
    rank: str | None
    """As the log names it; None where the figure is the whole engine's."""
    device: str | None
    observed: float
    predicted: float | None
    """None where moeplan has no figure for it; `why_not` says why."""
    predicted_low: float | None
    """Low end of the estimate's band; None where the figure is no guess."""
    predicted_high: float | None
    error: float | None
    """(predicted - observed) / observed, less what rounding of the printed figure hides."""
    judged: bool
    """Whether it counts for the outcome; small figures with a wide band are shown alone."""
    tolerance: float | None
    """The largest relative error that passes; None where it is not judged."""
    within: bool | None
    """None where it is not judged."""
    line_number: int
    why_not: str | None


class LogFacts(NamedTuple):
    """The log that was read."""

    name: str
    engine: str
    engine_version: str | None
    model: str | None
    started: bool | None
    complete: bool
    failure: str | None = None
    """The engine's own words where it did not start."""


class Learned(NamedTuple):
    """What was stored of this log for later estimates on this machine."""

    profile: str
    path: str
    residual_bytes: int
    """Pool as estimated less pool as printed: what the engine holds beyond the estimate."""


class Validation(NamedTuple):
    """The answer of `moeplan validate`."""

    schema: str
    log: LogFacts
    model: str
    hardware: str | None
    command: str
    """The engine's flags that the estimate was made with: those of the log, and those that were given."""
    tolerance: float
    """Of a log's figures; of a run on this machine the largest of its lines, each of which has its own."""
    comparisons: tuple[Comparison, ...]
    passed: bool | None
    """Whether all judged figures are within the tolerance and the start went as the estimate says; None where nothing
    could be judged."""
    worst_error: float | None
    learned: Learned | None
    notes: tuple[Remark, ...]
    engine_version: str = ""
    """That the estimate was made with; `log.engine_version` is the log's word for it."""
    version_stated: bool = False
    """False where neither log nor caller told it, so that moeplan's default was taken."""
    given: str = ""
    """The part of `command` that the caller gave; the rest was read from the log."""
    start_agrees: bool | None = None
    """Whether the estimate says of the start what became of it; None where that is open."""
