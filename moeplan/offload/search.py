"""The fewest layers in host memory with which the cards hold the rest: searched on the ledger of `estimate`.

`--n-cpu-moe N` moves the experts of the first N layers, which on one card is as good as any N. Several cards are stages of
layers, so that each has to give some of its own: those are named by `--override-tensor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.capacity import largest
from moeplan.core.deployment import Value
from moeplan.core.ledger import Line, band_bytes, total_bytes
from moeplan.core.model import ModelSpec, MoeFfn
from moeplan.core.units import GIB
from moeplan.engines.llamacpp.offload import DENSE, EXPERTS
from moeplan.estimate.judge import verdict
from moeplan.estimate.ledger import Ledger, RankLedger, host_lines, ledger
from moeplan.estimate.question import Question
from moeplan.estimate.result import MEMORY_REASONS, Verdict
from moeplan.offload.questions import with_settings
from moeplan.offload.result import Sort

MARGIN_BYTES = GIB
"""What is left free on every card where that can be: as llama.cpp's own `--fit-target` leaves (common/common.h), since a card
that is filled beyond its memory decodes at a third of its speed."""
KEEPS_PROMPTS, NO_MMAP = "--cache-ram", "--no-mmap"
COUNTING = ("--n-cpu-moe", "--n-cpu-ffn")
"""Flags that keep experts, or dense feed-forwards, of the first layers of the model in host memory."""


class Placed(NamedTuple):
    """Some layers in host memory, held against the cards."""

    question: Question
    settings: Mapping[str, Value]
    host_layers: tuple[int, ...]
    found: Ledger
    verdict: Verdict
    lines: tuple[Line, ...]
    """Of host memory."""

    @property
    def host_bytes(self) -> int:
        """What stays there."""
        return total_bytes(self.lines)

    @property
    def host_high_bytes(self) -> int:
        """What may come to stay there."""
        return band_bytes(self.lines)[1]

    @property
    def device_bytes(self) -> int:
        """On the fullest card."""
        return total_bytes(self.found.worst.lines)

    @property
    def flag_layers(self) -> int | None:
        """What the flag says that counts layers from the first; None where there is none."""
        counts = (self.settings.get(flag) for flag in COUNTING)
        return next((count for count in counts if isinstance(count, int)), None)

    @property
    def refused(self) -> str | None:
        """Why the engine would not start, where it is not memory."""
        return next((each.message for each in self.verdict.reasons if each.code not in MEMORY_REASONS), None)


def sort_of(spec: ModelSpec) -> Sort:
    """What goes to host memory: experts, or the feed-forwards of a dense model."""
    sparse = any(isinstance(ffn, MoeFfn) for layer in spec.layers for ffn in layer.ffns)
    return "experts" if sparse else "feed_forwards"


def movable_layers(spec: ModelSpec) -> tuple[int, ...]:
    """Layers that have some of it."""
    experts = sort_of(spec) == "experts"
    return tuple(
        number
        for number, layer in enumerate(spec.layers)
        if (any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) if experts else layer.ffns)
    )


def settings_of(question: Question, host_layers: Sequence[int]) -> dict[str, Value]:
    """The flag that keeps what these layers have in host memory."""
    if not host_layers:
        return {}
    experts = sort_of(question.spec) == "experts"
    movable = movable_layers(question.spec)
    if question.deployment.layout.pp == 1 and tuple(host_layers) == movable[: len(host_layers)]:
        return {COUNTING[0] if experts else COUNTING[1]: host_layers[-1] + 1}
    # Stages of several cards each give some: their layers have to be named.
    numbers = "|".join(map(str, host_layers))
    return {"--override-tensor": rf"blk\.({numbers}){EXPERTS if experts else DENSE}=CPU"}


def placed(question: Question, host_layers: Sequence[int], more: Mapping[str, Value] | None = None) -> Placed:
    """These layers in host memory, with `more` settings."""
    settings = {**settings_of(question, host_layers), **(more or {})}
    asked = with_settings(question, settings)
    memory = asked.serving.memory
    assert memory is not None
    found = ledger(asked, memory)
    return Placed(
        asked, settings, tuple(host_layers), found, verdict(asked, memory, found), host_lines(asked, found.settings)
    )


def fewest(question: Question, more: Mapping[str, Value] | None = None) -> Placed:
    """The fewest layers in host memory with room to spare on every card: for the margin and all that is guessed if it can be.

    Where not even all of them there make room, all of them.
    """
    parts = _parts(question)
    everything = placed(question, _joined(parts, [len(part) for part in parts]), more)
    needs = next((level for level in (_roomy, _sure, _likely) if all(map(level, everything.found.ranks))), None)
    if needs is None:
        return everything
    nothing = placed(question, (), more)
    if all(map(needs, nothing.found.ranks)):
        return nothing
    counts = []
    for stage, part in enumerate(parts):

        def holds(on_device: int, stage: int = stage, part: tuple[int, ...] = part) -> bool:
            tried = [len(each) for each in parts]
            tried[stage] = len(part) - on_device
            settings = {**settings_of(question, _joined(parts, tried)), **(more or {})}
            return all(needs(rank) for rank in _ledger(with_settings(question, settings)).ranks if _is_of(rank, stage))

        # Each layer takes as much as another, nearly: where room ends on a line from none of them to all.
        room, lack = (
            min(rank.free_bytes for rank in each.found.ranks if _is_of(rank, stage)) for each in (everything, nothing)
        )
        near = round(len(part) * room / (room - lack)) if room > lack else 1
        counts.append(len(part) - largest(holds, len(part), near=min(len(part), max(1, near))) if part else 0)
    return placed(question, _joined(parts, counts), more)


def first_layers(question: Question, count: int) -> tuple[int, ...]:
    """So many layers, of all stages in proportion, the first of each."""
    parts = _parts(question)
    every = sum(map(len, parts))
    counts = [count * len(part) // every if every else 0 for part in parts]
    for stage in range(len(parts)):
        if sum(counts) < count and counts[stage] < len(parts[stage]):
            counts[stage] += 1
    return _joined(parts, counts)


def _parts(question: Question) -> list[tuple[int, ...]]:
    """Layers that can be moved, by stage."""
    movable, first, found = movable_layers(question.spec), 0, []
    for count in question.deployment.layout.pp_layers or (len(question.spec.layers),):
        found.append(tuple(layer for layer in movable if first <= layer < first + count))
        first += count
    return found


def _joined(parts: Sequence[tuple[int, ...]], counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(layer for part, count in zip(parts, counts, strict=True) for layer in part[:count])


def _ledger(question: Question) -> Ledger:
    memory = question.serving.memory
    assert memory is not None
    return ledger(question, memory)


def _is_of(rank: RankLedger, stage: int) -> bool:
    return rank.view.place.stage.number == stage


def _roomy(rank: RankLedger) -> bool:
    return rank.free_bytes >= MARGIN_BYTES and _sure(rank)


def _sure(rank: RankLedger) -> bool:
    return rank.free_band_bytes[0] >= 0


def _likely(rank: RankLedger) -> bool:
    return rank.free_bytes >= 0
