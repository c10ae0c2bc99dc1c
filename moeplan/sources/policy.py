"""The policy of a repository: `moeplan.yaml`, or `[tool.moeplan]` of its `pyproject.toml`; the nearest above wins.

Read strictly: unknown keys and values of the wrong type are errors with the nearest that is known. The JSON Schema
that editors use is `report/schemas/policy.schema.json`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.deployed import Severity
from moeplan.core.errors import InputError
from moeplan.core.policy import Allowed, Limits, Override, Policy, Required, Stead, Terms
from moeplan.core.units import parse_count
from moeplan.sources.strict_yaml import Block, load, shown

NAMES = ("moeplan.yaml", "moeplan.yml")
SCHEMA = 1
SEVERITIES: tuple[Severity, ...] = Severity.__args__  # type: ignore[attr-defined]


def find_policy(start: Path) -> Path | None:
    """The policy that holds for a folder: its own, or that of the nearest folder above it; None where there is none.

    A `pyproject.toml` counts where it has a table `[tool.moeplan]`.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        for name in NAMES:
            if (folder / name).is_file():
                return folder / name
        project = folder / "pyproject.toml"
        if project.is_file() and _table_of(project) is not None:
            return project
        if (folder / ".git").exists():
            return None
    return None


def read_policy(path: Path) -> Policy:
    """The policy of a file. Raises InputError that names file and key for everything that cannot be meant."""
    where = path.as_posix()
    if path.suffix == ".toml":
        table = _table_of(path, strict=True)
        if table is None:
            raise InputError(f"{where} has no table [tool.moeplan]", hint="name a moeplan.yaml, or add the table")
        top = Block(table, where, "tool.moeplan.")
    else:
        top = load(path, "docs/checks.md", may_be_empty=True)
    if (schema := top.integer("schema")) not in (None, SCHEMA):
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    severity = _severities(top)
    stead = Stead(**_stead(top.block("defaults")))
    policy = Policy(
        path=where,
        folder=str(path.resolve().parent),
        terms=Terms(
            stead=stead,
            limits=Limits(**_limits(top.block("limits"))),
            required=Required(**_required(top.block("require"))),
            allowed=Allowed(**_allowed(top.block("allow"))),
            severity=severity,
            select=_codes(top, "select"),
            ignore=_codes(top, "ignore"),
        ),
        models=_texts(top, "models"),
        gpus=_texts(top, "gpus"),
        variables=_texts(top, "variables"),
        prices=_prices(top),
        exclude=top.texts("exclude"),
        overrides=tuple(_override(block) for block in top.blocks("overrides")),
    )
    top.done()
    return policy


def _table_of(path: Path, *, strict: bool = False) -> Mapping[str, Any] | None:
    """`[tool.moeplan]` of a pyproject.toml; one that is broken has none, unless it was named or seems to have one."""
    import tomllib

    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError) as error:
        if strict or "tool.moeplan" in text:
            told = error.strerror if isinstance(error, OSError) else error
            shown_as = os.path.relpath(path).replace(os.sep, "/")
            raise InputError(f"{shown_as} cannot be read: {told}", hint="correct the file") from None
        return None
    tool = content.get("tool")
    table = tool.get("moeplan") if isinstance(tool, Mapping) else None
    return table if isinstance(table, Mapping) else None


def _stead(block: Block | None) -> dict[str, Any]:
    if block is None:
        return {}
    found: dict[str, Any] = {}
    for name in Stead._fields:
        if name in ("context", "concurrency"):
            value = block.raw(name)
            if value is not None:
                try:
                    parse_count(str(value), name)
                except InputError as error:
                    raise block.wrong(name, f"is {shown(value)}, not a number of 1 or more", error.hint) from None
                found[name] = str(value)
        elif (text := block.text(name)) is not None:
            found[name] = text
    block.done()
    return found


def _limits(block: Block | None) -> dict[str, Any]:
    if block is None:
        return {}
    found: dict[str, Any] = {}
    for name in Limits._fields:
        value = block.raw(name)
        if value is None:
            continue
        if name.endswith(("_gib", "_percent", "_per_gpu", "_per_hour")):
            found[name] = block.number(name)
            continue
        if isinstance(value, str):
            try:
                found[name] = parse_count(value, name).value
            except InputError as error:
                raise block.wrong(name, f"is {shown(value)}, not a whole number", error.hint) from None
        else:
            found[name] = block.integer(name, minimum=1)
    for low, high in (("min_context_tokens", "max_context_tokens"),):
        if found.get(low) and found.get(high) and found[low] > found[high]:
            raise block.wrong(low, f"is above {high}, so nothing can pass", "correct one of them")
    block.done()
    return found


def _required(block: Block | None) -> dict[str, Any]:
    if block is None:
        return {}
    found = {name: value for name in Required._fields if (value := block.flag(name)) is not None}
    block.done()
    return found


def _allowed(block: Block | None) -> dict[str, Any]:
    if block is None:
        return {}
    found = {name: block.texts(name) for name in Allowed._fields if block.raw(name) is not None}
    block.done()
    return found


def _severities(top: Block) -> dict[str, Severity]:
    found: dict[str, Severity] = {}
    for code, value in _texts(top, "severity").items():
        if value not in SEVERITIES:
            raise top.wrong(f"severity.{code}", f"is {shown(value)}", f"one of {', '.join(SEVERITIES)}")
        found[code.upper()] = value
    return found


def _codes(block: Block, key: str) -> tuple[str, ...]:
    return tuple(code.upper() for code in block.texts(key))


def _texts(block: Block, key: str) -> dict[str, str]:
    """A mapping of texts to texts; numbers are taken as they are written."""
    values = block.block(key)
    if values is None:
        return {}
    found = {}
    for name, value in values.values.items():
        if isinstance(value, bool | Mapping | list) or value is None:
            raise block.wrong(f"{key}.{name}", f"is {shown(value)}, not text", "put it in quotes")
        found[str(name)] = str(value)
    return found


def _prices(top: Block) -> dict[str, float]:
    values = top.block("prices")
    if values is None:
        return {}
    return {str(name): price for name in values.values if (price := values.number(name)) is not None}


def _override(block: Block) -> Override:
    found = Override(
        path=block.text("path") or "*",
        name=block.text("name") or "*",
        terms={
            "stead": _stead(block.block("defaults")),
            "limits": _limits(block.block("limits")),
            "required": _required(block.block("require")),
            "allowed": _allowed(block.block("allow")),
        },
        ignore=_codes(block, "ignore"),
        severity=_severities(block),
    )
    block.done()
    return found


def policy_variables(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=value` words of a command line as variables. Raises InputError for a word that is none."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise InputError(f"--set {pair}: no NAME=value", hint="for instance --set TP=8")
        found[name] = value
    return found
