"""What each word of a command line belongs to: for messages about one of them, and for words that are not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from moeplan.core.programs import take_program
from moeplan.engines.command_line.flag import Field, Flag
from moeplan.engines.command_line.names import tells_a_place
from moeplan.engines.command_line.walk import Piece, pieces, row_of

Part = Literal["program", "variable", "flag", "value", "model", "unknown"]


class Owner(NamedTuple):
    """What one word is, and the flag that it belongs to."""

    part: Part
    """`program` starts the engine, or says nothing; `variable` sets one of the environment; `flag` is a flag, with its
    value where that is attached; `value` stands behind its flag; `model` is the positional model; `unknown` is a flag
    that the table lacks, its value, or a word without a place."""
    name: str = ""
    """The canonical name of the flag or variable; as it was written where the table lacks it."""
    field: Field | None = None
    """What it sets, where all engines have such a thing."""
    matters: bool = True
    """False where nothing that stands there changes memory: ports, names, logging."""


def find_owners(flags: Mapping[str, Flag], words: Sequence[str]) -> tuple[Owner, ...]:
    """One owner for each word; `flags` are rows by spelling. Raises InputError for a program that serves nothing."""
    program = take_program(words)
    found: list[Owner] = []
    variables = list(program.variables)
    named = False
    for word in words[: len(words) - len(program.words)]:
        if variables and word == "=".join(variables[0]):
            name, _ = variables.pop(0)
            flag = flags.get(name)
            named = named or (flag is not None and flag.field == "model")
            matters = not tells_a_place(name)
            found.append(Owner("variable", name, matters=matters) if flag is None else _of(flag, "variable"))
        else:
            found.append(Owner("program", matters=False))
    for piece in pieces(flags, program.words, named=named):
        found += _owners(flags, piece)
    return tuple(found)


def _owners(flags: Mapping[str, Flag], piece: Piece) -> list[Owner]:
    """One for each word of a piece."""
    match piece.part:
        case "nothing":
            return [Owner("program", matters=False)]
        case "model":
            return [Owner("model", field="model")]
        case "stray":
            return [Owner("unknown")]
        case "flag":
            if piece.flag is None:
                return [Owner("unknown", piece.typed)] * len(piece.words)
            flag = _nearest_row(flags, piece.flag, piece.key)
            return [_of(flag, "flag"), *[_of(flag, "value")] * (len(piece.words) - 1)]


def _nearest_row(flags: Mapping[str, Flag], flag: Flag, key: str) -> Flag:
    """The row of a key, else that of the longest path above it, else that of the flag itself."""
    path = key.removesuffix("+")
    while path:
        row = row_of(flags, flag, path)
        if row is not None:
            return row
        path = path.rpartition(".")[0]
    return flag


def _of(flag: Flag, part: Part) -> Owner:
    return Owner(part, flag.name, flag.field, flag.matters)
