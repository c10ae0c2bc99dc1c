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

_SIZE = re.compile(r"^\s*([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*$")
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
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}
_RATE = r"^\s*([0-9][0-9.eE+_,-]*)\s*(?:/\s*(s|sec|min|h))?\s*$"
"""Compiled when first asked for: most commands ask for no rate."""
_PERIODS_S = {"": 1.0, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
MOST_SECONDS = 86_400.0
"""No limit on a request is longer than a day."""
MOST_PER_S = 1e6
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


def parse_seconds(text: str, what: str) -> float:
    """A duration in seconds: `2s`, `30ms`, `0.5`. Raises InputError for anything else, for zero and for more than a day."""
    found = _SIZE.match(text.replace("µs", "us"))
    factor = _SECONDS.get(found.group(2)) if found else None
    hint = f"write {what} as 2s, 30ms or 0.5 (seconds)"
    if found is None or factor is None:
        raise InputError(f"{what} {text!r} is not a duration", hint=hint)
    seconds = _plain(found.group(1)) * factor
    if not 0 < seconds <= MOST_SECONDS:
        raise InputError(f"{what} {text!r} must be above 0 and at most a day", hint=hint)
    return seconds


def parse_rate(text: str, what: str) -> float:
    """A rate per second: `12/s`, `300/min`, `12`. Raises InputError for anything else, for zero and for an absurd one."""
    found = re.match(_RATE, text)
    hint = f"write {what} as 12/s, 300/min or 0.5 (per second)"
    if found is None:
        raise InputError(f"{what} {text!r} is not a rate", hint=hint)
    rate = _plain(found.group(1)) / _PERIODS_S[found.group(2) or ""]
    if not 0 < rate <= MOST_PER_S:
        raise InputError(f"{what} {text!r} must be above 0 and at most {MOST_PER_S:,.0f} per second", hint=hint)
    return rate


def parse_share(text: str, what: str, example: str = "5%") -> float:
    """`5%` or `0.05` as a fraction. Raises InputError for anything else, also for a `5` that was meant as per cent."""
    number = text.removesuffix("%").strip()
    try:
        value = float(number) / 100 if text.endswith("%") else float(number)
    except ValueError:
        raise InputError(f"{what} {text!r} is no share", hint=f"for instance {what} {example}") from None
    if not 0 < value < 1:
        meant = f"did you mean {number}%? " if 1 <= value < 100 and not text.endswith("%") else ""
        told = "as a share it must be above 0 and below 1 (or 100%)"
        raise InputError(f"{what} {text}: {told}", hint=f"{meant}for instance {what} {example}")
    return value


def parse_part(text: str, what: str, hint: str) -> float:
    """`80%` or `0.8` as a fraction, 0 and 1 among them. Raises InputError for anything else, also for an `80` that was meant as
    per cent."""
    number = text.removesuffix("%").strip()
    value = _number(number) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        meant = f"did you mean {number}%? " if 1 < value <= 100 and not text.endswith("%") else ""
        raise InputError(f"{what} {text} must be from 0 to 1, or 0% to 100%", hint=f"{meant}{hint}")
    return value


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _plain(digits: str) -> float:
    """The number; -1 for what only looks like one."""
    try:
        return float(digits.replace(",", "").replace("_", ""))
    except ValueError:
        return -1.0


def duration(seconds: float) -> str:
    """Seconds in three digits: `1.24 s`, `32.1 ms`, `850 µs`."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 1e-6)} µs"


def per_second(rate: float) -> str:
    """A rate in three digits: `31.2`, `4,310`, `0.85`."""
    return _three_digits(rate)


def _three_digits(value: float) -> str:
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}"


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
