"""An engine's own command line, read by a table of its flags.

Each engine has such a table (`FLAGS` of its module `flags`). Reading never guesses: what is not in the table becomes a
note that names it, and a value that is none is an error.

flag          one row of a table
names         spellings
values        values by kind
objects       flags whose value is a JSON object
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.programs import Program, take_program
from moeplan.core.secret_words import HIDDEN, is_secret_name, is_secret_value
from moeplan.engines.command_line.flag import Field, Flag, Kind, quiet
from moeplan.engines.command_line.names import is_flag, nearest, spelled
from moeplan.engines.command_line.objects import Objects
from moeplan.engines.command_line.values import count_reading, read_object, read_value

__all__ = ["Command", "Field", "Flag", "Kind", "read_command"]

_SWITCH_WORDS = ("true", "false")

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
    reader = _Reader((*flags, *VARIABLES))
    for name, value in program.variables:
        reader.variable(name, value)
    reader.read(program.words)
    return reader.command(program)


class _Reader:
    """What was read so far."""

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self.flags = {spelled(name): flag for flag in flags for name in flag.spellings}
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
        told = f"{name}: moeplan does not know this variable of the environment; what it does to memory is left out"
        self._note("flag-unknown", "warning", told)

    def read(self, words: Sequence[str]) -> None:
        """The words behind the program."""
        left = deque(words)
        while left:
            word = left.popleft()
            if word in ("\\", "--"):  # a line that goes on, and the end of a command's own flags
                continue
            if not is_flag(word):
                self._positional(word)
                continue
            typed, sign, attached = self._parted(word)
            flag, key = self._find(typed)
            values = self._take(flag, left, attached if sign else None)
            self._show(word, typed, values)
            if flag is None:
                self._unknown(typed, values)
            elif key:
                text = _joined(flag, typed, values)
                if flag.matters:
                    self.objects.put_key(flag.name, key, text)
            elif flag.kind == "switch":
                self._switch(flag, typed, values)
            else:
                self._value(flag, typed, _joined(flag, typed, values))

    def _parted(self, word: str) -> tuple[str, str, str]:
        """Flag, sign, and what is attached: `-tp=8`, or `-O3` where a flag takes its value without a sign."""
        short = self.flags.get(word[:2])
        if short is not None and short.glued and word[2:3] not in ("", "=", "."):
            return word[:2], "=", word[2:]
        return word.partition("=")

    def _find(self, typed: str) -> tuple[Flag | None, str]:
        """The flag, and the key behind its dot where it is a JSON flag."""
        head, dot, key = spelled(typed).partition(".")
        parent = self.flags.get(f"{head}.") or self.flags.get(head)
        if dot and parent is not None and parent.kind == "json":
            return parent, key
        return self.flags.get(spelled(typed)), ""

    def _take(self, flag: Flag | None, left: deque[str], attached: str | None) -> list[str]:
        """The values of a flag: what is attached, else the next word or words that are no flags."""
        if attached is not None:
            return [attached]
        values: list[str] = []
        most = 1 if flag is None or not flag.many else len(left)
        if flag is None or flag.kind != "switch":
            while left and len(values) < most and not is_flag(left[0]):
                values.append(left.popleft())
        return values

    def _positional(self, word: str) -> None:
        self.shown.append(HIDDEN if is_secret_value(word) else word)
        if word.lower() not in _SWITCH_WORDS and "model" not in self.said and word.split() == [word]:
            self._set(Flag("MODEL", field="model"), "MODEL", word, word)
            return
        shown = _shown_value(word) or "''"
        told = f"{shown}: no value of a flag, and moeplan knows no other use of it here; it is left out"
        self._note("flag-unknown", "warning", told)

    def _switch(self, flag: Flag, typed: str, values: list[str]) -> None:
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
        if flag.kind == "json":
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
            row = self.flags.get(spelled(name))
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

    def _unknown(self, typed: str, values: list[str]) -> None:
        told = " ".join((typed, *(HIDDEN if is_secret_name(typed) else _shown_value(value) for value in values)))
        near = nearest(self.flags, typed)
        meant = f" Did you mean {near}?" if near else ""
        message = f"{told}: moeplan does not know this flag; what it does to memory is left out.{meant}"
        self._note("flag-unknown", "warning", message)

    def _show(self, word: str, typed: str, values: list[str]) -> None:
        hidden = is_secret_name(typed)
        if word != typed:  # the value is attached
            self.shown.append(f"{typed}={HIDDEN}" if hidden or is_secret_value(values[0]) else word)
        else:
            self.shown += [typed, *(HIDDEN if hidden or is_secret_value(value) else value for value in values)]

    def _note(self, code: str, severity: Literal["info", "warning"], message: str) -> None:
        self.notes.append(Remark(code, severity, message))


def _joined(flag: Flag, typed: str, values: list[str]) -> str:
    if (not values and flag.bare is None) or (values == [""] and flag.matters):
        raise InputError(f"{typed} has no value", hint=f"write {typed} VALUE, or leave {typed} out")
    return ",".join(values) if values else str(flag.bare)


def _shown_value(text: str) -> str:
    if is_secret_value(text):
        return HIDDEN
    return text if len(text) <= 60 else f"{text[:59]}…"
