"""What was asked, in moeplan's words and in the engine's own, as one: each value once, none against another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout
from moeplan.core.model import Remark
from moeplan.core.own_words import OPTIONS

if TYPE_CHECKING:  # only command lines pay for their tables
    from moeplan.engines.command_line import Command

MOST_RANKS = 65_536
"""No deployment has more ranks of a kind than the largest clusters have devices."""


class Stated(NamedTuple):
    """What somebody stated."""

    values: Mapping[str, object]
    """Context, concurrency, dtypes, share, revision; absent where nobody did."""
    layout: AskedLayout
    settings: Mapping[str, Value]
    """The engine's further settings, by its own flag."""
    model: str | None
    """As the engine's command line names it."""
    quantization: str | None
    """What `--quantization` of the engine says."""
    notes: tuple[Remark, ...]
    flags: Mapping[str, str]
    """The engine's own flag for each thing that was stated behind `--`."""
    left_open: frozenset[str]
    """What is left to the engine by name (`--max-model-len auto`)."""


def read_stated(engine: str, named: Mapping[str, object], words: Sequence[str], *, engine_files: bool = True) -> Stated:
    """Options of moeplan (`named`, None where not given) joined with the engine's command line.

    Files of settings that the command names (`--config`) are read with `engine_files`; without it nothing is opened, as for
    a command that is to run elsewhere. Raises InputError for values that are none, and where both state different values of one thing.
    """
    values = {name: value for name, value in named.items() if value is not None}
    _check_degrees(values)
    settings: Mapping[str, Value] = {}
    notes: list[Remark] = []
    quantization: str | None = None
    model: str | None = None
    flags: dict[str, str] = {}
    left_open: set[str] = set()
    if words:
        command, names = _read_command(engine, words, engine_files=engine_files)
        settings = command.settings
        if command.engine not in (None, engine):
            raise InputError(
                f"--engine {engine}, but the command behind `--` is one of {command.engine}",
                hint="leave --engine out, or name the engine whose command it is",
            )
        notes += command.notes
        for field, value in command.fields.items():
            if field == "model":
                model = str(value)
            elif field == "quantization":
                quantization = str(value)
            elif value in (None, "auto"):
                left_open.add(field)
            elif field in values and _differ(values[field], value):
                raise InputError(
                    f"{OPTIONS.get(field, field)} {values[field]} and {value} behind `--` contradict each other",
                    hint="leave one of them out",
                )
            else:
                values[field] = value
                flags[field] = names.get(field, "")
        _check_degrees(values)
    layout = AskedLayout(**{name: values.pop(name) for name in AskedLayout._fields if name in values})  # type: ignore[arg-type]
    return Stated(values, layout, settings, model, quantization, tuple(notes), flags, frozenset(left_open))


def _read_command(engine: str, words: Sequence[str], *, engine_files: bool) -> "tuple[Command, dict[str, str]]":
    """What the words say, and the engine's flag for each thing that all engines share."""
    from importlib import import_module

    if engine == "transformers":
        raise InputError(
            "a plain transformers script has no command line to read behind `--`",
            hint="name the engine whose flags these are, for instance --engine vllm",
        )
    from moeplan.engines import ENGINES, flags_of
    from moeplan.engines.command_line import read_command

    notes: tuple[Remark, ...] = ()
    if engine_files and any("--config" in word or "--extra" in word for word in words):
        from moeplan.estimate.engine_files import with_files

        words, notes = with_files(engine, words)
    flags = flags_of(engine)
    command = read_command(flags, words)
    command = command._replace(notes=(*notes, *command.notes))
    table = import_module(f"moeplan.engines.{ENGINES[engine]}.flags")
    # llama.cpp states one length for all sequences together, and types of keys and values apart.
    common = getattr(table, "common_fields", None)
    if common is not None:
        command = command._replace(fields=common(command.fields, command.settings))
    # TensorRT-LLM has settings that stand in a file alone.
    own = getattr(table, "own_settings", None)
    if own is not None:
        command = command._replace(settings=own(command.settings))
    return command, {flag.field: flag.name for flag in reversed(flags) if flag.field is not None}


def engine_of(words: Sequence[str]) -> str | None:
    """The engine whose program a command line begins with (`vllm serve ...`); None where it begins with flags."""
    if not words or words[0].startswith("-"):
        return None
    from moeplan.core.programs import take_program

    return take_program(words).engine


def _check_degrees(values: Mapping[str, object]) -> None:
    for name in ("tp", "pp", "dp", "ep", "dcp", "num_nodes", "redundant_experts"):
        value, least = values.get(name), 0 if name == "redundant_experts" else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            option = OPTIONS[name]
            raise InputError(
                f"{option} {value} must be a whole number of {least} or more", hint=f"for instance {option} 2"
            )
        if value is not None and value > MOST_RANKS:
            option = OPTIONS[name]
            raise InputError(f"{option} {value} is more than {MOST_RANKS:,}", hint=f"for instance {option} 8")


def _differ(mine: object, theirs: object) -> bool:
    """Whether two statements of one value differ; numbers may be written with a suffix."""
    from moeplan.core.units import parse_count

    if isinstance(theirs, int) and not isinstance(theirs, bool) and isinstance(mine, str):
        try:
            return parse_count(mine, "a count").value != theirs
        except InputError:
            return True
    return mine != theirs
