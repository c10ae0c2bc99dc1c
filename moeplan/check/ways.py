"""Ways out in the words of a deployment: the engine's flags and numbers of GPUs, where an estimate has its own options."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moeplan.core.own_words import OPTIONS
from moeplan.engines import flags_of
from moeplan.estimate.result import WayOut

_CARDS = re.compile(r"(?:(\d+)\s*x\s*)?(.+)")


def ways_in_words(ways: tuple[WayOut, ...], engine: str, gpu: str | None) -> tuple[WayOut, ...]:
    """The same changes as somebody would write them into a file; `gpu` is the card that it has now."""
    return tuple(way._replace(change=", ".join(_parts(way.change, engine, gpu))) for way in ways)


def _parts(change: str, engine: str, gpu: str | None) -> Iterator[str]:
    ours, _, theirs = f" {change} ".partition(" -- ")
    words = ours.split()
    while words:
        option = words.pop(0)
        value = words.pop(0) if words and not words[0].startswith("-") else ""
        yield _said(option, value, engine, gpu)
    if theirs.strip():
        yield theirs.strip()


def _said(option: str, value: str, engine: str, gpu: str | None) -> str:
    if option == "--gpu":
        found = _CARDS.fullmatch(value)
        number, name = (found[1], found[2]) if found else (None, value)
        count = number or "1"
        return f"{count} GPUs" if name == gpu else f"{count} x {name}"
    if option == "--quant":
        return f"weights in {value}"
    for field, ours in OPTIONS.items():
        if ours != option:
            continue
        # vLLM has a switch for expert parallelism where others have a number.
        for flag in flags_of(engine):
            if flag.field == field and flag.name.startswith("-"):
                return flag.name if flag.kind == "switch" else f"{flag.name} {value}".rstrip()
    return f"{option} {value}".rstrip()
