"""Ways out when it does not fit: changes that were themselves judged, as if the user had typed them.

change       what is changed, judged, and written in the user's own words
layouts      other layouts on the same GPUs
devices      other numbers of GPUs, other engines
limits       a larger share, smaller formats, experts on the host, shorter or fewer sequences
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.estimate.question import Question
from moeplan.estimate.result import Capacity, WayOut
from moeplan.estimate.ways_out.change import Change, Trial, asked, given_up, tried, words
from moeplan.estimate.ways_out.devices import GPU_COUNTS, other_counts, other_engines
from moeplan.estimate.ways_out.layouts import plain, repairs, spreads
from moeplan.estimate.ways_out.limits import (
    fewer_sequences,
    host_experts,
    larger_share,
    shorter_context,
    smaller_caches,
    smaller_formats,
)

MOST_WAYS = 8
BY_MODEL = ("not-supported", "no-kernel", "no-backend", "no-gguf-format")
"""Refusals that no layout and no number of GPUs takes away."""
BY_LIMITS = (
    "context-beyond-model",
    "sequences-too-many",
    "host-memory-too-small",
    "does-not-fit",
    "request-does-not-fit",
)
"""Reasons that limits alone may take away; all others want another layout."""


class Found(NamedTuple):
    """A change that makes it fit."""

    change: Change
    trial: Trial
    room_bytes: int


def ways_out(question: Question, gpu: str, capacity: Capacity) -> tuple[WayOut, ...]:
    """Changes that make it fit, at most one of each sort, with the headroom that each leaves; `gpu` is as the user wrote it.

    What takes least comes first: a degree put right, another layout on the same GPUs, a larger share of the memory; then
    more GPUs, smaller formats, a smaller cache, experts on the host, less context, fewer sequences. Only where none of
    these helps are two things changed at once.
    """
    if question.serving.memory is None:
        return ()
    now = tried(question, Change())
    codes = {reason.code for reason in now.verdict.reasons}
    by_model, by_limits = not codes.isdisjoint(BY_MODEL), codes <= set(BY_LIMITS)
    found: list[Found | None] = []
    if not by_model:
        found += [_first(question, sort) for sort in repairs(question)]
        found += _spread(question)
        found += [_first(question, larger_share(question))] if by_limits else []
        found += [_first(question, other_counts(question))]
    found += [_first(question, smaller_formats(question, any_size=by_model))]
    found += [_first(question, smaller_caches(question))]
    if by_limits:
        limits = host_experts(question), shorter_context(question, capacity), fewer_sequences(question, capacity)
        found += [_first(question, sort) for sort in limits]
    if by_model or "one-device" in codes:
        found += [_first(question, other_engines(question))]
    if not any(found):
        found += _two_at_once(question, any_layout=not by_model)
    ways: dict[frozenset[tuple[str, object]], WayOut] = {}
    for change, _, room in filter(None, found):
        # Not one that states all of another, and more, for no more room.
        if not any(parts <= change.parts and way.headroom_bytes >= room for parts, way in ways.items()):
            ways[change.parts] = WayOut(words(question, gpu, change), room, given_up(question, change))
    return tuple(ways.values())[:MOST_WAYS]


def _two_at_once(question: Question, *, any_layout: bool) -> list[Found | None]:
    """A plainer layout, or more GPUs in another layout; and smaller formats on another number of GPUs."""
    named = question.num_devices or question.deployment.layout.num_gpus
    counts = (None, *(count for count in GPU_COUNTS if count > named))
    starts = [(change, count) for change in (plain(question), Change()) for count in counts if any_layout]
    spread = (_spread(question, count, change) for change, count in starts if change.layout or count is not None)
    formats = smaller_formats(question, any_size=not any_layout)
    smaller = (change for each in formats for change in other_counts(question, each.quant))
    return [*next((found for found in spread if any(found)), []), _first(question, smaller)]


def _spread(question: Question, num_gpus: int | None = None, first: Change | None = None) -> list[Found | None]:
    """The roomiest layout with experts as wholes over groups, and one with stages: the roomiest of few, else the fewest.

    `first` is a change that all of them start from.
    """
    start = first or Change()
    try:
        base = asked(question, start)
    except InputError:  # degrees that stay do not go with it
        return []
    wholes, few, many = (
        (change._replace(layout={**start.layout, **change.layout}) for change in sort)
        for sort in spreads(base, num_gpus)
    )
    return [_roomiest(question, wholes), _roomiest(question, few) or _first(question, many)]


def _trials(question: Question, changes: Iterable[Change]) -> Iterator[Found]:
    """Changes that fit."""
    for change in changes:
        try:
            trial = tried(question, change)
        except InputError:  # degrees that stay do not go with it
            continue
        if (room := trial.room_bytes) is not None:
            yield Found(change, trial, room)


def _first(question: Question, changes: Iterable[Change]) -> Found | None:
    return next(_trials(question, changes), None)


def _roomiest(question: Question, changes: Iterable[Change]) -> Found | None:
    """The one that leaves most; layouts that make a doubt which the question did not have are no way out."""
    found = sorted(_trials(question, changes), key=lambda each: -each.room_bytes)
    return next((each for each in found if not _new_doubts(question, each.trial)), None)


def _new_doubts(question: Question, trial: Trial) -> bool:
    other = trial.question
    doubts = other.engine.doubts(other.serving, trial.ledger.settings)
    return any(doubt not in question.doubts for doubt in doubts)
