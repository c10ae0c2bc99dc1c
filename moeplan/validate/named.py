"""Model and card as a log names them, or the way out where it names none that can be found from here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.hardware import Hardware
from moeplan.sources.catalogue import find_entry
from moeplan.sources.gguf.mixes import MIXES
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.hub.address import HUB_ID
from moeplan.sources.local_models import exists
from moeplan.validate.buffers import devices_of

_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
_MIX = re.compile(r"(?:^|[-_.])(I?Q\d(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?)$", re.IGNORECASE)


def model_of(told: EngineLog, log: str, folders: Sequence[Path]) -> str:
    """The model of a log. Raises UnknownError where it names none, or a path that is of another machine."""
    if told.model is None:
        raise UnknownError(
            f"{log} does not tell which model it served", hint="name it: moeplan validate MODEL --log ..."
        )
    if exists(Path(told.model).expanduser()) or HUB_ID.match(told.model) or find_entry(told.model, folders):
        return told.model
    known = catalogue_name(told.model, folders)
    format_of_file = _mix(told.model) if known is not None else None
    more = "" if format_of_file is None else f" --quant {format_of_file}"
    raise UnknownError(
        f"{log} names its model {told.model}, which is not to be found from here",
        hint=f"name it: moeplan validate {known or 'MODEL'}{more} --log {log}",
    )


def catalogue_name(text: str, folders: Sequence[Path]) -> str | None:
    """The name in the catalogue of what a path or a file's name means, parts dropped from the end; None for none."""
    cached = _CACHED.search(text)
    name = cached[2] if cached is not None else _stem(text)
    parts = re.split(r"([-_.])", name)
    while parts:
        shorter = "".join(parts).lower()
        if find_entry(shorter, folders) is not None:
            return shorter
        parts = parts[:-2]
    return None


def id_of(text: str, folders: Sequence[Path]) -> str | None:
    """The id of the model that a log's word for it means; None where that is anybody's guess."""
    entry = find_entry(text, folders)
    if entry is not None:
        return entry.id
    if HUB_ID.match(text):
        return text
    known = catalogue_name(text, folders)
    entry = find_entry(known, folders) if known is not None else None
    return entry.id if entry is not None else None


class Card(NamedTuple):
    """What to ask for."""

    text: str
    """As `--gpu` takes it."""
    hardware: Hardware
    num_named: int | None
    """How many of them the caller named; None where nobody counted."""


def card_of(told: EngineLog, gpu: str | None, log: str, folders: Sequence[Path]) -> Card:
    """The card that the caller names, else the log.

    llama.cpp makes each device a stage, so of these as many are asked for as its log shows, unless the caller counts
    them. Raises UnknownError where neither log nor caller says which card it was.
    """
    card = gpu or told.gpu_name
    if card is None:
        raise UnknownError(
            f"{log} does not tell which GPU it ran on", hint="name it with --gpu, for instance --gpu h100"
        )
    try:
        hardware, count = find_hardware(card, folders)
    except InputError as error:
        if gpu is not None:
            raise
        raise UnknownError(
            f"{log} names its card {card!r}, which moeplan does not know",
            hint="say --gpu NAME; `moeplan gpus` lists the names, docs/hardware-profiles.md says how to add one",
        ) from error
    shown = len(devices_of(told)) if told.engine == "llamacpp" else 0
    if count is None and shown > 1:
        card = f"{shown}x{card}"
    return Card(card, hardware, count)


def _stem(text: str) -> str:
    name = re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return _SPLIT.sub("", name.removesuffix(".gguf"))


def _mix(text: str) -> str | None:
    """The mix that the name of a GGUF file tells; an XL is taken as the M that is closest to it."""
    found = _MIX.search(_stem(text))
    if found is None:
        return None
    name = found[1].lower().replace("_xl", "_m")
    return next((mix for mix in MIXES if name in (mix, mix.removesuffix("_moe"))), None)
