"""Every remark that a reader makes has its line in the table of remarks, and every line is made by some reader."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import moeplan
from moeplan.core.deployed import REMARKS

MAKERS = {"FileRemark": 0, "_without": 1}
"""Functions that take a code, and the place of the code among their arguments."""


def strings(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    """All that an expression may stand for: a text, one of two, the name of a constant."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body, constants)
        yield from strings(node.orelse, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from strings(constants[node.id], constants)
    else:
        # A parameter: whoever hands it on is a maker itself.
        assert isinstance(node, ast.Name), ast.dump(node)
        assert node.id == "code", ast.dump(node)


def made(path: Path) -> Iterator[str]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: each.value
        for each in module.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
            yield from strings(node.args[MAKERS[node.func.id]], constants)


def test_the_table_is_complete() -> None:
    package = Path(moeplan.__file__).parent
    assert {code for path in package.rglob("*.py") for code in made(path)} == set(REMARKS)


def test_every_code_says_what_it_means() -> None:
    assert list(REMARKS) == sorted(REMARKS)
    for kind in REMARKS.values():
        assert kind.meaning
        assert kind.meaning == kind.meaning.strip().rstrip(".")
