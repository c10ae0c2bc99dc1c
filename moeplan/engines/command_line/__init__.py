"""An engine's own command line, read by a table of its flags.

Each engine has such a table (`FLAGS` of its module `flags`). Reading never guesses: what is not in the table becomes a
note that names it, and a value that is none is an error.

flag          one row of a table
names         spellings
values        values by kind
objects       flags whose value is a JSON object
walk          the one walk over the words; `owners` tells what each of them belongs to
writing       the other way: an engine's command from what is to be started
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.programs import Program, take_program
from moeplan.core.secret_words import HIDDEN, is_secret_name, is_secret_value
from moeplan.engines.command_line.flag import Field, Flag, Kind, quiet
from moeplan.engines.command_line.names import nearest, spelled, tells_a_place
from moeplan.engines.command_line.objects import Objects
from moeplan.engines.command_line.owners import Owner, find_owners
from moeplan.engines.command_line.values import count_reading, read_object, read_value
from moeplan.engines.command_line.walk import Piece, pieces, row_of

__all__ = ["Command", "Field", "Flag", "Kind", "Owner", "owners", "read_command"]

VARIABLES: tuple[Flag, ...] = (
    Flag("CUDA_VISIBLE_DEVICES", aliases=("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")),
    *quiet(
        "HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_HUB_ENABLE_HF_TRANSFER HF_ENDPOINT "
        "TRANSFORMERS_CACHE TRANSFORMERS_OFFLINE TOKENIZERS_PARALLELISM OMP_NUM_THREADS CUDA_DEVICE_ORDER NCCL_DEBUG "
        "NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME NCCL_IB_HCA PYTHONUNBUFFERED PYTHONPATH LD_LIBRARY_PATH PATH"
    ),
)
"""Variables of the environment that every engine reads."""


class Command(NamedTuple):
    """What a command line says."""

    fields: Mapping[Field, Value | tuple[int, ...]]
    """By what they set; None where the user leaves the choice to the engine (`--max-model-len auto`)."""
    settings: Mapping[str, Value]
    """The engine's other flags that matter to memory, by canonical name. Sizes are bytes, JSON objects are compact text
    without the keys that have flags of their own, several values are joined by commas."""
    notes: tuple[Remark, ...]
    """What was not understood, code `flag-unknown`; a flag that takes back another, `flag-repeated`; a file that is not
    read, `flag-file`; how numbers with a suffix were read, `count-reading`."""
    engine: str | None = None
    """The engine whose program the line begins with (`vllm serve`), where it begins with one."""
    shown: tuple[str, ...] = ()
    """The words without program and secrets, for ways out in the user's own words."""


def read_command(flags: tuple[Flag, ...], words: Sequence[str]) -> Command:
    """A command line as the engine of this table would read it; each word is one argument, as a shell hands them over.

    Accepted: leading `NAME=value` of the environment and the engine's program; `--flag value`, `--flag=value`, `-tp 8`,
    `-tp=8`, underscores for dashes, `--no-flag`, keys of JSON flags behind a dot, one positional word for the model. The
    last of several counts. Abbreviations are not guessed.
    Raises InputError for a value that is none, a missing one, and a program that serves nothing.
    """
    program = take_program(words)
    reader = _Reader(flags)
    for name, value in program.variables:
        reader.variable(name, value)
    reader.read(program.words)
    return reader.command(program)


def owners(flags: tuple[Flag, ...], words: Sequence[str]) -> tuple[Owner, ...]:
    """What each word of a command line belongs to, as `read_command` reads it: one owner for each word.

    Values are not looked at, so that words whose variables are open can be asked about. Raises InputError for a program
    that serves nothing.
    """
    return find_owners(_by_spelling(flags), words)


@lru_cache(maxsize=8)
def _by_spelling(flags: tuple[Flag, ...]) -> Mapping[str, Flag]:
    """Rows by all that somebody may type; each engine has one table, which a check asks for hundreds of times."""
    return {spelled(name): flag for flag in (*flags, *VARIABLES) for name in flag.spellings}


class _Reader:
    """What was read so far."""

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self.flags = _by_spelling(flags)
        self.fields: dict[Field, Value | tuple[int, ...]] = {}
        self.settings: dict[str, Value] = {}
        self.notes: list[Remark] = []
        self.shown: list[str] = []
        self.said: dict[str, str] = {}
        self.objects = Objects()

    def command(self, program: Program) -> Command:
        """All of it."""
        for name in self.objects.names:
            try:
                self._object(self.flags[spelled(name)])
            except RecursionError:
                raise InputError(f"{name} is nested too deeply", hint=f"state fewer levels in {name}") from None
        return Command(self.fields, self.settings, tuple(self.notes), program.engine, tuple(self.shown))

    def variable(self, name: str, value: str) -> None:
        """One variable of the environment. Its value is never shown: it may be a secret."""
        flag = self.flags.get(name)
        self.shown.append(f"{name}={HIDDEN if is_secret_name(name) or is_secret_value(value) else value}")
        if flag is not None:
            self._value(flag, name, value)
            return
        if tells_a_place(name):
            return
        told = f"{name}: moeplan does not know this variable of the environment; what it does to memory is left out"
        self._note("flag-unknown", "warning", told)

    def read(self, words: Sequence[str]) -> None:
        """The words behind the program."""
        for piece in pieces(self.flags, words, named="model" in self.said):
            match piece.part:
                case "flag":
                    self._flag(piece)
                case "model" | "stray":
                    self._positional(piece)
                case "nothing":
                    continue

    def _flag(self, piece: Piece) -> None:
        flag, typed, values = piece.flag, piece.typed, piece.values
        self._show(piece.words[0], typed, values)
        if flag is None:
            self._unknown(typed, values)
        elif piece.key:
            text = _joined(flag, typed, values)
            if flag.matters:
                self.objects.put_key(flag.name, piece.key, text)
        elif flag.kind == "switch":
            self._switch(flag, typed, values)
        else:
            self._value(flag, typed, _joined(flag, typed, values))

    def _positional(self, piece: Piece) -> None:
        word = piece.words[0]
        self.shown.append(HIDDEN if is_secret_value(word) else word)
        if piece.part == "model":
            self._set(Flag("MODEL", field="model"), "MODEL", word, word)
            return
        shown = _shown_value(word) or "''"
        told = f"{shown}: no value of a flag, and moeplan knows no other use of it here; it is left out"
        self._note("flag-unknown", "warning", told)

    def _switch(self, flag: Flag, typed: str, values: tuple[str, ...]) -> None:
        if values:
            raise InputError(f"{typed} takes no value, not {_shown_value(values[0])}", hint=f"write {typed} alone")
        if flag.stands_for:
            shown = self.shown.copy()
            self.read(flag.stands_for.split())
            self.shown = shown
            return
        self._set(flag, typed, "", spelled(typed) not in map(spelled, flag.off))

    def _value(self, flag: Flag, typed: str, text: str) -> None:
        if not flag.matters:
            return
        if flag.kind == "json" and text not in flag.words:
            if self.objects.put(flag.name, read_object(typed, text)):
                self._repeated(typed, f"another {typed}", "the last one")
            return
        value = read_value(flag, typed, text)
        if flag.kind == "file":
            told = f"{typed} {text}: moeplan does not read this file; state what it sets as flags"
            self._note("flag-file", "warning", told)
            return
        if reading := count_reading(flag, typed, text, value):
            self._note("count-reading", "info", reading)
        parent, dot, key = flag.name.partition(".")
        if dot and flag.field is None:
            self.objects.put_on_top(parent, key, value)
        else:
            self._set(flag, typed, text, value)

    def _object(self, flag: Flag) -> None:
        """What the object of a JSON flag sets: keys that have rows of their own, and the rest as one text."""
        if self.objects.is_twofold(flag.name):
            self._repeated(f"{flag.name}.KEY", flag.name, "the keys alone")
        rest = {}
        for key, value in self.objects.found(flag.name).items():
            name = f"{flag.name}.{key.replace('-', '_')}"
            row = row_of(self.flags, flag, key)
            if row is not None and not row.matters:
                continue
            if row is None or value is None or isinstance(value, dict):
                rest[key] = value
                continue
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            if row.name == name and row.field is None:
                rest[key] = read_value(row, name, text)
            else:
                self._value(row, name, text)
        if rest:
            text = json.dumps(rest, separators=(",", ":"))
            self._set(flag, flag.name, text, text)

    def _set(self, flag: Flag, typed: str, text: str, value: Value | tuple[int, ...]) -> None:
        if not flag.matters or (flag.implies and value in (1, False)):
            return
        if flag.field is None and isinstance(value, tuple):
            value = ",".join(map(str, value))
        target = flag.field or flag.name
        stated = f"{typed} {text}".rstrip()
        before = self.fields.get(flag.field) if flag.field else self.settings.get(flag.name)
        if flag.gathers and before is not None:
            value = f"{before},{value}"
        elif target in self.said and before != value:
            self._repeated(stated, self.said[target], "the last one")
        self.said[target] = stated
        if flag.field is not None:
            self.fields[flag.field] = value
        elif not isinstance(value, tuple):
            self.settings[flag.name] = value
        for field, implied in flag.implies:
            self.fields[field] = implied

    def _repeated(self, stated: str, before: str, counts: str) -> None:
        told = f"{stated} comes after {before}: engines keep {counts}"
        self._note("flag-repeated", "warning", told)

    def _unknown(self, typed: str, values: tuple[str, ...]) -> None:
        told = " ".join((typed, *(HIDDEN if is_secret_name(typed) else _shown_value(value) for value in values)))
        near = nearest(self.flags, typed)
        meant = f" Did you mean {near}?" if near else ""
        message = f"{told}: moeplan does not know this flag; what it does to memory is left out.{meant}"
        self._note("flag-unknown", "warning", message)

    def _show(self, word: str, typed: str, values: tuple[str, ...]) -> None:
        hidden = is_secret_name(typed)
        if word != typed:  # the value is attached
            self.shown.append(f"{typed}={HIDDEN}" if hidden or is_secret_value(values[0]) else word)
        else:
            self.shown += [typed, *(HIDDEN if hidden or is_secret_value(value) else value for value in values)]

    def _note(self, code: str, severity: Literal["info", "warning"], message: str) -> None:
        self.notes.append(Remark(code, severity, message))


def _joined(flag: Flag, typed: str, values: tuple[str, ...]) -> str:
    if (not values and flag.bare is None) or (values == ("",) and flag.matters):
        raise InputError(f"{typed} has no value", hint=f"write {typed} VALUE, or leave {typed} out")
    return ",".join(values) if values else str(flag.bare)


def _shown_value(text: str) -> str:
    if is_secret_value(text):
        return HIDDEN
    return text if len(text) <= 60 else f"{text[:59]}…"
