"""Where the caller says one thing and the log another: told, and never learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from moeplan.core.deployment import version_key
from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.units import gib
from moeplan.estimate import Estimate
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.validate.buffers import devices_of
from moeplan.validate.named import id_of

CARD_TOLERANCE = 0.03
"""Reports of one card's memory differ by less: 79.14 to 79.25 GiB of an H100 80 GB, and a few slices by 0.25 GiB."""


def contradictions(
    told: EngineLog,
    found: Estimate,
    folders: Sequence[Path],
    *,
    version: str | None,
    count: int | None,
    model_given: bool,
) -> tuple[Remark, ...]:
    """One remark for each. `version` and `count` of cards are the caller's, None where nobody said them."""
    notes = [*_version(told, version), *_ranks(told, found), *_count(told, found, count), *_card(told, found, folders)]
    if model_given:
        notes += _model(told, found, folders)
    return tuple(notes)


def _version(told: EngineLog, stated: str | None) -> Iterator[Remark]:
    if told.version is not None and stated is not None and version_key(told.version) != version_key(stated):
        message = f"the log is of {told.engine} {told.version}, and the estimate of {stated}, as --engine-version says"
        yield Remark("log-other-version", "warning", message)


def _ranks(told: EngineLog, found: Estimate) -> Iterator[Remark]:
    ranks = [each.rank for each in told.readings if each.rank is not None]
    layout = found.layout
    for name, size, numbers in (
        ("TP", layout.tp, [rank.tp for rank in ranks]),
        ("PP", layout.pp, [rank.pp for rank in ranks]),
        ("DP", layout.dp, [rank.dp for rank in ranks]),
    ):
        last = max((number for number in numbers if number is not None), default=0)
        if last >= size:
            message = f"the log has lines of {name}{last}, and the estimate is of {name} {size}"
            yield Remark("log-other-ranks", "warning", message)


def _count(told: EngineLog, found: Estimate, count: int | None) -> Iterator[Remark]:
    uses = found.layout.num_gpus
    shown = len(devices_of(told)) if told.engine == "llamacpp" else 0
    if count is not None and shown and shown != uses:
        message = f"--gpu names {count} GPUs, and the log has buffers on {shown}: layers are shared out over {uses}"
        yield Remark("log-other-count", "warning", message)
    elif count is not None and uses > count:
        message = f"--gpu names {count} GPUs, and the layout of the log uses {uses}: that many are counted"
        yield Remark("log-other-count", "warning", message)


def _card(told: EngineLog, found: Estimate, folders: Sequence[Path]) -> Iterator[Remark]:
    """By the memory that the log prints; by the card's name only where it prints none (a slice has its card's name)."""
    usable = found.hardware.usable_bytes if found.hardware is not None else None
    if found.hardware is None or usable is None:
        return
    totals = [each.value for each in told.told("total_memory_bytes")]
    most_free = max((each.value for each in told.told("free_before_load_bytes")), default=0)
    off = next((each for each in totals if abs(each - usable) > CARD_TOLERANCE * usable), None)
    if off is None and not totals and most_free > (1 + CARD_TOLERANCE) * usable:
        off = most_free
    if off is not None:
        message = f"the log's card has {gib(off)}, and {found.hardware.name} has {gib(usable)}; is --gpu the card that it ran on?"
        yield Remark("log-other-card", "warning", message)
    elif not totals and told.gpu_name is not None:
        yield from _card_name(told.gpu_name, found, folders)


def _card_name(name: str, found: Estimate, folders: Sequence[Path]) -> Iterator[Remark]:
    assert found.hardware is not None
    try:
        theirs, _ = find_hardware(name, folders)
        mine, _ = find_hardware(found.hardware.profile, folders)
    except InputError:  # a card that nobody knows says nothing
        return
    kinds = [(each.nominal_bytes, each.architecture, each.vendor) for each in (theirs, mine)]
    if kinds[0] != kinds[1]:
        message = f"the log names its card {name}, and the estimate is of {mine.name}"
        yield Remark("log-other-card", "warning", message)


def _model(told: EngineLog, found: Estimate, folders: Sequence[Path]) -> Iterator[Remark]:
    if told.model is None or found.model.source_kind == "gguf":
        return
    theirs, mine = id_of(told.model, folders), found.model.id
    if theirs is None:
        return
    names = {name.rstrip("/").rpartition("/")[2].lower() for name in (theirs, mine)}
    if len(names) > 1:
        yield Remark(
            "log-other-model", "warning", f"the log names its model {told.model}, and the estimate is of {mine}"
        )
