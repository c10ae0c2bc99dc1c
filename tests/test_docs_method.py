"""`docs/method.md` is held against the code: its tables are run, its sums computed again."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
import shlex
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from moeplan import estimate
from moeplan.core.quant import FORMATS, tensor_bytes
from moeplan.report.as_json import as_json
from moeplan.sources.engine_constants import engine_constants

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
MATRIX = (14336, 4096)
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def tables(first_cell: str) -> list[list[str]]:
    """Rows of all tables whose header begins with that cell, without code marks."""
    rows: list[list[str]] = []
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif inside and not set(line) <= set("|-"):
            rows.append(cells)
        elif cells[0] == first_cell:
            inside = True
    return rows


def sums() -> list[tuple[str, str]]:
    """Left and right sides of the lines `label: expression = number` in text blocks."""
    found = []
    for block in re.findall(r"^```text\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            left, equals, right = line.rpartition(" = ")
            if equals and re.fullmatch(r"[\d,.]+", right.strip()):
                found.append((left.partition(": ")[2] or left, right.strip()))
    return found


EXAMPLES = list(dict.fromkeys(map(tuple, tables("estimate"))))
SUMS = list(dict.fromkeys(sums()))

# Sums ------------------------------------------------------------------------------------------------------

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "ceil": math.ceil, "floor": math.floor}


def computed(expression: str) -> Fraction:
    """The value of a sum as the page writes it: `x` multiplies, commas group digits, `^` is a power."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", expression).replace(" x ", " * ").replace("^", "**")

    def value(node: ast.AST) -> Fraction:
        match node:
            case ast.Expression(body):
                return value(body)
            case ast.Constant(int() | float() as number):
                return Fraction(str(number))
            case ast.BinOp(left, sign, right):
                return Fraction(_OPERATORS[type(sign)](value(left), value(right)))
            case ast.Call(ast.Name(name), arguments):
                return Fraction(_FUNCTIONS[name](*map(value, arguments)))
        raise AssertionError(f"{expression!r} is no sum")

    return value(ast.parse(plain.strip(), mode="eval"))


@pytest.mark.parametrize(("left", "right"), SUMS)
def test_sums_are_right(left: str, right: str) -> None:
    digits = len(right.partition(".")[2])
    assert round(computed(left), digits) == Fraction(right.replace(",", ""))


DEGREES = ("tp", "pp", "dp", "ep", "dcp", "redundant_experts")

# Estimates -------------------------------------------------------------------------------------------------


@cache
def answer(command: str) -> Any:
    """The JSON of `moeplan estimate` with these arguments, offline."""
    model, *flags = shlex.split(command)
    options = {
        flag.removeprefix("--").replace("-", "_"): text for flag, text in zip(flags[::2], flags[1::2], strict=True)
    }
    asked: dict[str, Any] = {name: int(text) if name in DEGREES else text for name, text in options.items()}
    result: Callable[..., Any] = estimate
    return json.loads(as_json(result(model, offline=True, **asked)))


def at(value: Any, path: str) -> Any:
    """What stands at `a.b[0].c[code]`: brackets take a position, or the entry of that code or kind."""
    for name in re.findall(r"[^.\[\]]+|\[[^\]]+\]", path):
        if not name.startswith("["):
            value = value[name]
        elif name[1:-1].isdigit():
            value = value[int(name[1:-1])]
        else:
            key = "code" if "code" in value[0] else "kind"
            value = next(entry for entry in value if entry[key] == name[1:-1])
    return value


@pytest.mark.parametrize(("command", "path", "written"), EXAMPLES)
def test_examples_are_what_the_tool_says(command: str, path: str, written: str) -> None:
    said = at(answer(command), path)
    if isinstance(said, bool):
        assert written == json.dumps(said)
    elif isinstance(said, int | float):
        assert Fraction(written.replace(",", "")) == Fraction(str(said))
    else:
        assert written == said


# Formats and constants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", tables("format"), ids=lambda row: str(row[0]))
def test_formats_take_the_bits_and_bytes_of_the_table(row: list[str]) -> None:
    name, bits, size = row[:3]
    assert f"{FORMATS[name].bits_per_weight:g}" == bits
    assert f"{tensor_bytes(FORMATS[name], MATRIX):,}" == size


def test_constants_are_those_of_the_profile_and_all_of_them() -> None:
    written = {row[0]: tuple(float(cell.replace(",", "")) for cell in row[1:]) for row in tables("constant")}
    known = engine_constants("vllm").by_name
    assert written == {name: (constant.value, constant.low, constant.high) for name, constant in known.items()}


# Modules --------------------------------------------------------------------------------------------------

NO_FORMULA = {
    "deployed", "deployment", "engine_log", "errors", "kept", "launch", "own_words", "policy", "programs", "record",
    "secret_words",
}  # fmt: skip
"""Modules of types and words."""


def test_every_module_of_core_with_a_formula_is_explained_somewhere() -> None:
    explained = [name for row in tables("module of core") for name in re.findall(r"[a-z_]+", row[0].replace("`", " "))]
    modules = {path.stem for path in (ROOT / "moeplan" / "core").glob("*.py")} - {"__init__"}
    assert len(explained) == len(set(explained))
    assert modules - NO_FORMULA == set(explained)


# Nothing slips through -------------------------------------------------------------------------------------


def test_every_long_number_of_the_page_is_checked_somewhere() -> None:
    checked = {number for _, _, written in EXAMPLES for number in NUMBER.findall(written)}
    checked |= {number for sides in SUMS for side in sides for number in NUMBER.findall(side)}
    checked |= {
        number for first in ("format", "constant") for row in tables(first) for number in NUMBER.findall(" ".join(row))
    }
    stated = {number for number in NUMBER.findall(TEXT) if len(number) > len("131,072")}
    assert not stated - checked


def test_results_of_large_sums_are_what_the_tool_says_or_a_step_on_the_way() -> None:
    said = {written for _, _, written in EXAMPLES} | {row[2] for row in tables("format")}
    inputs = " ".join(left for left, _ in SUMS)
    loose = [right for _, right in SUMS if len(right) > len("131,072") and right not in said and right not in inputs]
    assert loose == ["684,489,830,400"]  # what the repository of DeepSeek-V3 holds in all
