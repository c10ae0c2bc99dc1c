"""What an engine held beyond an estimate on one machine: measured blocks of the kind `engine_residual`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moeplan.core.errors import InputError

KIND = "engine_residual"


class Residual(NamedTuple):
    """One such block of a hardware profile; docs/hardware-profiles.md has its keys."""

    engine: str
    engine_version: str
    tp: int
    residual_bytes: int
    """Pool as estimated less pool as printed; negative where the engine held less than was estimated."""
    model: str | None = None
    source: str | None = None
    """Name of the log."""
    date: str | None = None
    fingerprint: str | None = None
    """Tells logs apart by their figures and settings."""


def residuals(measured: Sequence[Mapping[str, Any]], path: str) -> tuple[Residual, ...]:
    """The blocks of this kind among `measured`, in their order; those of other kinds are passed over.

    Raises InputError for a block that lacks a key or whose value is none; `path` is the file that it names.
    """
    return tuple(
        _residual(block, f"{path}: `measured[{number}].")
        for number, block in enumerate(measured)
        if block.get("kind") == KIND
    )


def _residual(block: Mapping[str, Any], where: str) -> Residual:
    return Residual(
        engine=str(_value(block, "engine", str, where)),
        engine_version=str(_value(block, "engine_version", str, where)),
        tp=int(_value(block, "tp", int, where)),
        residual_bytes=int(_value(block, "residual_bytes", int, where)),
        **{
            key: None if block.get(key) is None else str(block[key])
            for key in ("model", "source", "date", "fingerprint")
        },
    )


def _value(block: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = block.get(key)
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    if value is None:
        raise InputError(f"{where}{key}` is missing", hint="write it, or delete the block")
    wanted = "a whole number, in digits and without a unit" if kind is int else "text: put it in quotes"
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:59]}…"
    raise InputError(f"{where}{key}` is {shown}", hint=f"it must be {wanted}; or delete the block")
