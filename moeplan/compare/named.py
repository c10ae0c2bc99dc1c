"""Models as they are named on a command line: `MODEL`, or `MODEL:FORMAT` for one in another weight format."""

from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.sources.quantisation import WHAT_IF_NAMES


class Named(NamedTuple):
    """A model, and the format that its weights are taken in."""

    text: str
    """As it was typed."""
    model: str
    """What `find_model` reads."""
    quant: str | None
    """None is the checkpoint's own."""


def read_names(texts: Sequence[str | Path], quant: str | None = None) -> tuple[Named, ...]:
    """Every model with its format; `quant` is that of models that name none.

    Raises InputError for fewer than two, for a format that is none, and for one model in one format named twice.
    """
    found = tuple(_named(str(text), quant) for text in texts)
    if len(found) == 1:
        raise InputError(
            f"{found[0].text} is one model, and a comparison takes two or more",
            hint=f"name a second, the same in another format too: {found[0].model} {found[0].model}:fp8; "
            f"`moeplan estimate {found[0].model}` tells of one",
        )
    if not found:
        raise InputError("no model was named", hint="name two or more: moeplan compare mixtral-8x7b llama-3.1-70b")
    seen: set[tuple[str, str | None]] = set()
    for each in found:
        key = each.model.lower(), each.quant
        if key in seen:
            raise _twice(each.text)
        seen.add(key)
    return found


def no_twins(named: Sequence[Named], found: Sequence[Hashable]) -> None:
    """Raise InputError where two names turn out to be one model in one format; `found` is what each of them holds."""
    seen: set[Hashable] = set()
    for each, holds in zip(named, found, strict=True):
        if holds in seen:
            raise _twice(each.text)
        seen.add(holds)


def labels(found: Sequence[tuple[str | None, str]]) -> list[str]:
    """A short name for each of (format asked for, id), and another for each: without the organisation where that will do."""
    short = [name.rstrip("/").rpartition("/")[2] or name for _, name in found]
    clash = len({(quant, name) for (quant, _), name in zip(found, short, strict=True)}) < len(found)
    names = [name for _, name in found] if clash else short
    told = [name if quant is None else f"{name}:{quant}" for name, (quant, _) in zip(names, found, strict=True)]
    return [f"{name} ({number})" if told.count(name) > 1 else name for number, name in enumerate(told, 1)]


def _twice(text: str) -> InputError:
    """The error for one model in one format that stands there a second time."""
    model = text.rpartition(":")[0] or text
    return InputError(
        f"{text} is named twice in the same format",
        hint=f"leave one out, or name a format for one of them: {model}:fp8, {model}:int4",
    )


def _named(text: str, quant: str | None) -> Named:
    model, colon, name = text.strip().rpartition(":")
    # A colon of an address, of a Windows drive or of a file that is there names no format.
    if not colon or not model or "/" in name or "\\" in name or Path(text).expanduser().exists():
        return Named(text, text.strip(), quant)
    if name.lower() not in WHAT_IF_NAMES:
        near = get_close_matches(name.lower(), WHAT_IF_NAMES, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(WHAT_IF_NAMES)}"
        raise InputError(f"{text}: {name!r} is not a known weight format", hint=meant)
    return Named(text, model, name.lower())
