"""The value behind a flag: text to number, size, share or object, or one line of what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, assert_never

from moeplan.core.errors import InputError
from moeplan.core.units import MOST_DIGITS, parse_count

if TYPE_CHECKING:
    from moeplan.core.deployment import Value
    from moeplan.engines.command_line.flag import Flag

SWITCHED_ON = ("1", "true", "on", "yes", "enabled")
SWITCHED_OFF = ("0", "false", "off", "no", "disabled", "")

_SIZE = re.compile(r"(\d+)(\.\d+)?([kKmMgGtT]?)")
_SUFFIX_BYTES = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
# SGLang 0.5.23 utils/common.py, human_readable_int: the suffixes of `parse_count` that mean the same.
_DECIMAL_SUFFIXES = {"": "", "k": "k", "M": "m", "G": "g", "Ki": "Ki", "Mi": "Mi"}
_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
_PAIRS = re.compile(r"\w+=[^,={}]+(,\w+=[^,={}]+)*")
_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")')
_BARE_SUFFIX = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")


def read_value(flag: Flag, typed: str, text: str) -> Value | tuple[int, ...]:
    """What `text` behind the flag means; `typed` is the flag as the user wrote it. None where the engine chooses.

    Raises InputError for a value that is none. A JSON object is read by `read_object`.
    """
    if text in flag.auto:
        return None
    if text in flag.words:
        return text
    match flag.kind:
        case "switch":
            return _switch(typed, text)
        case "count":
            return _count(flag, typed, text)
        case "counts":
            return tuple(_count(flag, typed, part) for part in text.split(","))
        case "number" | "fraction":
            return _number(flag, typed, text)
        case "bytes":
            return _size_bytes(flag, typed, text)
        case "text" | "file" | "json":
            return text
        case _:
            assert_never(flag.kind)


def count_reading(flag: Flag, typed: str, text: str, value: Value | tuple[int, ...]) -> str | None:
    """How a suffix was read, where there was one: `--max-model-len 32K = 32,768 (...)`."""
    if flag.kind != "count" or not isinstance(value, int) or not text[-1:].isalpha():
        return None
    rule = (
        "k is 1000, Ki is 1024, as this engine reads them"
        if flag.decimal
        else "k is 1000, K is 1024, as engines read them"
    )
    return f"{typed} {text} = {value:,} ({rule})"


def read_object(typed: str, text: str) -> dict[str, Any]:
    """A JSON object as engines accept it: also with `80m` for a number, or as `image=2,video=1`.

    Source: vLLM 0.33.0 engine/arg_utils.py, _expand_json_human_readable_numbers. Raises InputError for anything else.
    """
    if _PAIRS.fullmatch(text):
        return {key: read_json_value(value) for key, value in (pair.split("=") for pair in text.split(","))}
    try:
        found = _loads(_with_plain_numbers(text))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{typed} {_short(text)!r} is no JSON object",
            hint=f"""write {typed} '{{"key": "value"}}', in single quotes so that the shell keeps the double ones""",
        )
    return found


def read_json_value(text: str) -> Any:
    """The value of one key: JSON where it is, a number with a suffix, else a text."""
    try:
        return _loads(text)
    except (ValueError, RecursionError):
        return _expanded(text) if _BARE_SUFFIX.fullmatch(text) else text


def _switch(typed: str, text: str) -> bool:
    if text.lower() in SWITCHED_ON:
        return True
    if text.lower() in SWITCHED_OFF:
        return False
    raise InputError(f"{typed} {_short(text)!r} is neither on nor off", hint=f"write {typed} as 1 or 0")


def _count(flag: Flag, typed: str, text: str) -> int:
    if re.fullmatch(r"-\d{1,9}", text) and int(text) >= flag.minimum:
        return int(text)
    plain = text
    suffixed = _SUFFIXED.fullmatch(text)
    if suffixed and "." in suffixed.group(1) and suffixed.group(2)[:1] in ("K", "M", "G") and not flag.decimal:
        plain = "?"  # vLLM takes no fraction with a suffix of 1024
    elif suffixed and flag.decimal:
        plain = suffixed.group(1) + _DECIMAL_SUFFIXES.get(suffixed.group(2), "?")
    try:
        return parse_count(plain, typed, max(flag.minimum, 0)).value
    except InputError:
        example = "32768" if flag.field == "context_tokens" else str(max(flag.minimum, 8))
        further = " or ".join((*flag.words, *(word for word in flag.auto if word.isalpha())))
        suffixes = "; k is 1000 and Ki is 1024" if flag.decimal else ""
        raise InputError(
            f"{typed} {_short(text)!r} is no whole number from {flag.minimum}{suffixes}",
            hint=f"write {typed} {example}{f', or {further}' if further else ''}, or leave it out",
        ) from None


def _number(flag: Flag, typed: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if flag.kind == "fraction" and not 0 < value <= 1:
        raise InputError(
            f"{typed} {_short(text)!r} is no share above 0 and up to 1", hint=f"write {typed} 0.9 for nine tenths"
        )
    if not 0 <= value < math.inf:
        raise InputError(f"{typed} {_short(text)!r} is no number from 0", hint=f"write {typed} 0.5, or leave it out")
    return value


def _size_bytes(flag: Flag, typed: str, text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    suffix = found.group(3) if found else ""
    # Units of a flag that counts GiB have no suffix; a broken number has no capital one.
    if found is None or (suffix and (flag.unit_bytes > 1 or (found.group(2) and suffix.isupper()))):
        example = "8g (8,000,000,000) or 8G (8 GiB)" if flag.unit_bytes == 1 else "8"
        raise InputError(f"{typed} {_short(text)!r} is no size", hint=f"write {typed} {example}, or leave it out")
    from decimal import Decimal

    size = Decimal((found.group(1) + (found.group(2) or ""))[:MOST_DIGITS]) * _SUFFIX_BYTES[suffix] * flag.unit_bytes
    if len(found.group(1)) > MOST_DIGITS or size >= 10**MOST_DIGITS:
        raise InputError(f"{typed} {_short(text)!r} is no size of a memory", hint=f"write {typed} 8, or leave it out")
    return int(size)


def _loads(text: str) -> Any:
    def refuse(constant: str) -> float:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def _with_plain_numbers(text: str) -> str:
    parts = _QUOTED.split(text)
    parts[::2] = [_BARE_SUFFIX.sub(lambda found: str(_expanded(found.group())), part) for part in parts[::2]]
    return "".join(parts)


def _expanded(text: str) -> int:
    from decimal import Decimal

    return int(Decimal(text[:-1]) * _SUFFIX_BYTES[text[-1]])


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
