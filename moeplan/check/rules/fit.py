"""Memory: does the fullest GPU hold what the engine needs."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.rules import Hit, Rule
from moeplan.check.ways import ways_in_words
from moeplan.core.units import gib
from moeplan.estimate.result import Estimate

REFUSED_ELSEWHERE = ("no-gpu", "memory-unknown", "gpus-too-few", "slices-apart")
"""Reasons of a verdict that other families tell."""


def too_little_memory(outcome: Outcome) -> Iterator[Hit]:
    """Weights, workspaces and one request of full length need more memory than a GPU has.

    The estimate is made for every rank; the fullest counts and is named. The gap is in GiB on that GPU. The ways out
    were tried with the same arithmetic, and are written in the file's own flags.
    """
    found = outcome.estimate
    for reason in _reasons(found, "does-not-fit"):
        assert found is not None
        yield Hit(
            reason,
            outcome.subject.spot("model"),
            reason="does-not-fit",
            gap_bytes=_gap(found),
            ways_out=ways_in_words(
                found.verdict.ways_out, found.layout.engine, outcome.subject.gpu.text if outcome.subject.gpu else None
            ),
        )


def cache_too_small(outcome: Outcome) -> Iterator[Hit]:
    """The weights fit, and what is left for the cache is smaller than one request of the length that is served.

    Engines stop at start with this. A shorter length, a larger share of the memory or a smaller cache dtype help.
    """
    found = outcome.estimate
    for reason in _reasons(found, "request-does-not-fit"):
        assert found is not None
        yield Hit(
            reason,
            outcome.subject.spot("context_tokens", "model"),
            reason="request-does-not-fit",
            gap_bytes=_gap(found),
        )


def host_too_small(outcome: Outcome) -> Iterator[Hit]:
    """What stays in host memory needs more of it than the profile of the machine tells of."""
    for reason in _reasons(outcome.estimate, "host-memory-too-small"):
        yield Hit(reason, outcome.subject.spot("--cpu-offload-gb", "model"), reason="host-memory-too-small")


def close_call(outcome: Outcome) -> Iterator[Hit]:
    """It fits by the middle of the band, and not at its upper end: assumed parts may be larger than assumed.

    `moeplan profile` and `moeplan validate --log --learn` on that machine turn assumed parts into measured ones.
    """
    found = outcome.estimate
    if found is None or not found.verdict.fits or found.verdict.headroom_low_bytes is None:
        return
    low = found.verdict.headroom_low_bytes
    if low < 0:
        middle = gib(found.verdict.headroom_bytes or 0)
        told = f"fits with {middle} to spare, but may lack {gib(-low)}: some parts are assumed"
        yield Hit(
            told, outcome.subject.spot("utilization_fraction", "model"), "leave more room, or measure the machine"
        )


def load_peak(outcome: Outcome) -> Iterator[Hit]:
    """While weights are loaded a rank needs more memory than its GPU has, though it would fit afterwards."""
    found = outcome.estimate
    if found is None or found.hardware is None or found.hardware.usable_bytes is None:
        return
    usable = found.hardware.usable_bytes
    over = max((rank.load_peak_bytes - usable for rank in found.ranks if rank.load_peak_bytes is not None), default=0)
    if over > 0 and found.verdict.fits:
        told = f"loading needs {gib(over)} more than a GPU has, before the cache is there"
        yield Hit(told, outcome.subject.spot("model"), "load a checkpoint of a smaller format", gap_bytes=over)


def load_too_large(outcome: Outcome) -> Iterator[Hit]:
    """The engine starts, and the load that the policy expects (`defaults: context, concurrency`) does not fit in its cache."""
    load, start = outcome.load, outcome.estimate
    if load is None or start is None or not start.verdict.fits or load.verdict.fits is not False:
        return
    asked = load.request
    what = f"{asked.concurrency:,} sequences of {asked.context_tokens:,} tokens"
    reach = load.capacity.max_concurrency
    told = f"{what} need {gib(_gap(load) or 0)} more on the fullest GPU"
    told = told if reach is None else f"{told}; {reach:,} fit at the same time"
    yield Hit(told, outcome.subject.spot("concurrency", "--max-num-seqs", "model"), reason="load", gap_bytes=_gap(load))


def _reasons(found: Estimate | None, code: str) -> list[str]:
    return [reason.message for reason in found.verdict.reasons if reason.code == code] if found is not None else []


def _gap(found: Estimate) -> int | None:
    headroom = found.verdict.headroom_bytes
    return None if headroom is None else max(0, -headroom)


RULES = (
    Rule("FIT001", "does not fit", "error", too_little_memory),
    Rule("FIT002", "cache smaller than one request", "error", cache_too_small),
    Rule("FIT003", "host memory too small", "error", host_too_small),
    Rule("FIT004", "fits only by the middle of the band", "warning", close_call),
    Rule("FIT005", "loading needs more than running", "warning", load_peak),
    Rule("FIT006", "expected load does not fit", "error", load_too_large),
)
