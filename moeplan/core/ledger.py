"""The ledger: memory as lines, each with its basis, its band and its reason.

Totals are sums of lines and nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

Basis = Literal["exact", "derived", "measured", "assumed"]
"""How a figure is known: read from headers, computed from the config, measured, or a named constant."""


class Why(NamedTuple):
    """Where a figure comes from."""

    formula: str
    inputs: Mapping[str, Any]
    source: str


class Line(NamedTuple):
    """One line of the ledger; `low_bytes` and `high_bytes` equal `bytes` where the figure is no guess."""

    code: str
    label: str
    role: str | None
    bytes: int
    low_bytes: int
    high_bytes: int
    basis: Basis
    why: Why


def line(
    code: str,
    label: str,
    size_bytes: float,
    basis: Basis,
    why: Why,
    *,
    role: str | None = None,
    low_bytes: float | None = None,
    high_bytes: float | None = None,
) -> Line:
    """A line; without a band the figure stands for itself. Fractions of bytes are rounded up."""
    size = _up(size_bytes)
    low = size if low_bytes is None else int(low_bytes)
    high = size if high_bytes is None else _up(high_bytes)
    return Line(code, label, role, size, low, high, basis, why)  # fmt: skip


def total_bytes(lines: Iterable[Line]) -> int:
    """Sum of the lines."""
    return sum(entry.bytes for entry in lines)


def band_bytes(lines: Iterable[Line]) -> tuple[int, int]:
    """Sum of the low and of the high ends. All guesses erring one way at once: wide on purpose."""
    low = high = 0
    for entry in lines:
        low, high = low + entry.low_bytes, high + entry.high_bytes
    return low, high


def _up(size: float) -> int:
    return size if isinstance(size, int) else -int(-size // 1)
