"""Words of an engine's command line: those that a file's own keys stand for, and finding one among them.

Flags are compared without regard to `_` and `-`, as the engines' parsers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from moeplan.core.deployed import Quote
from moeplan.core.errors import InputError
from moeplan.core.programs import take_program
from moeplan.sources.deployments.nodes import Node


def listed(node: Node) -> tuple[Quote, ...]:
    """The scalars of a list as words, empty ones too; a lone scalar is one word."""
    items = node.items if node.kind == "list" else (node,)
    return tuple(Quote(item.text, item.spot) for item in items if item.is_scalar)


def stated(flag: str, node: Node) -> tuple[Quote, ...]:
    """A flag and the value that a key gives it; nothing where the key is absent or empty."""
    value = node.quote()
    return () if value is None else (Quote(flag, value.spot), value)


def switched(node: Node, on: str, off: str = "") -> tuple[Quote, ...]:
    """The word for a switch that a key turns on, or off; nothing where the key is absent, or no word says it."""
    word = on if node.on else off if node.off else ""
    return (Quote(word, node.spot),) if word else ()


def from_table(node: Node, table: Mapping[str, str]) -> tuple[Quote, ...]:
    """The words for keys of a mapping, in the order of the table: `{"maxModelLen": "--max-model-len"}`."""
    return tuple(word for key, flag in table.items() for word in stated(flag, node.at(key)))


def values_of(command: Sequence[Quote], *flags: str) -> tuple[Quote, ...]:
    """The values behind the last occurrence of a flag: what is attached (`--flag=value`), else all words up to the next flag."""
    found: tuple[Quote, ...] = ()
    for place in _places(command, flags):
        _, sign, attached = command[place].text.partition("=")
        if sign:
            found = (command[place]._replace(text=attached),)
        else:
            found = tuple(_values(command, place))
    return found


def value_of(command: Sequence[Quote], *flags: str) -> Quote | None:
    """The one value of a flag; None where the flag is absent, or stands alone."""
    return next(iter(values_of(command, *flags)), None)


def has_flag(command: Sequence[Quote], *flags: str) -> bool:
    """True where one of the flags is among the words."""
    return next(_places(command, flags), None) is not None


def without(command: Sequence[Quote], *flags: str) -> tuple[Quote, ...]:
    """The words without these flags and the one value of each."""
    dropped: set[int] = set()
    for place in _places(command, flags):
        dropped.add(place)
        if "=" not in command[place].text and next(_values(command, place), None) is not None:
            dropped.add(place + 1)
    return tuple(word for place, word in enumerate(command) if place not in dropped)


def program_length(command: Sequence[Quote]) -> int:
    """How many words start the engine: `python -m dynamo.vllm` is three; 0 where the words begin with flags."""
    try:
        return len(command) - len(take_program([word.text for word in command]).words)
    except InputError:
        return 0


def spelled(word: str) -> str:
    """A flag as it is compared: dashes for underscores, without an attached value."""
    name = word.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def _places(command: Sequence[Quote], flags: Sequence[str]) -> Iterator[int]:
    names = {spelled(flag) for flag in flags}
    return (place for place, word in enumerate(command) if spelled(word.text) in names)


def _values(command: Sequence[Quote], place: int) -> Iterator[Quote]:
    for word in command[place + 1 :]:
        if word.text.startswith("-"):
            return
        yield word
