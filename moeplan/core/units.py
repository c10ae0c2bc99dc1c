"""The one place where bytes become GiB and words become numbers.

GiB is 2**30 bytes and GB is 10**9; everything else in moeplan counts bytes and tokens as integers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from moeplan.core.errors import InputError

KIB = 2**10
MIB = 2**20
GIB = 2**30
GB = 10**9

_SIZE = re.compile(r"^\s*([0-9][0-9_,]*\.?[0-9]*(?:[eE][+]?[0-9]+)?)\s*([A-Za-z]*)\s*$")
# Engines read `k` as a thousand and `K` as 1024 (vLLM 0.33.0 engine/arg_utils.py:human_readable_int).
_TOKEN_SUFFIXES = {
    "": 1,
    "k": 10**3, "m": 10**6, "g": 10**9,
    "K": 2**10, "M": 2**20, "G": 2**30,
    "Ki": 2**10, "Mi": 2**20,
}  # fmt: skip
_BYTE_SUFFIXES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
MOST_TOKENS = 10**12
MOST_DIGITS = 18


class Count(NamedTuple):
    """A count as typed and as read."""

    value: int
    text: str
    suffix: str

    @property
    def reading(self) -> str | None:
        """How the suffix was read, where there was one: `32k = 32,000`."""
        return f"{self.text} = {self.value:,}" if self.suffix else None


def parse_count(text: str, what: str, minimum: int = 1) -> Count:
    """A number of tokens or sequences as engines read it: `32k` is 32,000 and `128K` is 131,072.

    Raises InputError for anything that is no positive whole number.
    """
    found = _SIZE.match(text)
    factor = _TOKEN_SUFFIXES.get(found.group(2)) if found else None
    if found is None or factor is None:
        raise InputError(
            f"{what} {text!r} is not a number", hint=f"write {what} as 32768, 32k (32,000) or 32K (32,768)"
        )
    exact = _exact(found.group(1), factor)
    if exact is None or not minimum <= exact <= MOST_TOKENS:
        raise InputError(
            f"{what} {text!r} must be a whole number from {minimum} to {MOST_TOKENS:,}",
            hint=f"write {what} as 16, 32768, 32k (32,000) or 32K (32,768)",
        )
    return Count(exact, text.strip(), found.group(2))


def parse_bytes(text: str, what: str) -> int:
    """A size in bytes: `40GiB`, `80 GB`, `1e9`. Raises InputError for anything else."""
    found = _SIZE.match(text)
    factor = _BYTE_SUFFIXES.get(found.group(2).lower()) if found else None
    if found is None or factor is None:
        raise InputError(f"{what} {text!r} is not a size", hint=f"write {what} as 40GiB, 80GB or a number of bytes")
    exact = _exact(found.group(1), factor)
    if exact is None:
        raise InputError(f"{what} {text!r} is no whole number of bytes", hint=f"write {what} as 40GiB or 80GB")
    return exact


def _exact(digits: str, factor: int) -> int | None:
    """The number times the factor where that is whole, computed without rounding."""
    plain = digits.replace(",", "").replace("_", "")
    if plain.isdigit():
        return int(plain) * factor if len(plain) <= MOST_DIGITS else None
    from decimal import Decimal, InvalidOperation

    try:
        exact = Decimal(plain) * factor
    except InvalidOperation:
        return None
    return int(exact) if abs(exact) < 10**MOST_DIGITS and exact == int(exact) else None


def gib(size_bytes: float, digits: int = 1) -> str:
    """Bytes as GiB with a unit: `86.9 GiB`; small sizes as MiB or KiB."""
    if abs(size_bytes) >= 0.1 * GIB or size_bytes == 0:
        return f"{size_bytes / GIB:,.{digits}f} GiB"
    if abs(size_bytes) >= MIB:
        return f"{size_bytes / MIB:,.1f} MiB"
    if abs(size_bytes) >= KIB:
        return f"{size_bytes / KIB:,.1f} KiB"
    return f"{size_bytes:,.0f} B"


def gib_floor(size_bytes: int, digits: int = 1) -> str:
    """Bytes as GiB, rounded down: for headroom, which must not be flattered by rounding."""
    scale = 10**digits
    return f"{(size_bytes * scale // GIB) / scale:,.{digits}f} GiB"


def params(count: float) -> str:
    """Parameters as `46.7B`, `880M`, `15k`."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            digits = 2 if abs(count) < 10 * size else 1
            return f"{count / size:.{digits}f}{suffix}"
    return f"{count:.0f}"
