"""Arguments as engines print them: Python's spelling of a dict or a call, often with objects in it that nobody can read.

Logs travel; so a value that may be a secret never leaves this file.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from moeplan.core.deployment import Value

MOST_TEXT = 4000
_PIECE = re.compile(r"""'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$)|[\[\](){},]""", re.DOTALL)
_PAIR = re.compile(r"""\s*(?:(?P<quote>['"])(?P<key>\w+)(?P=quote)\s*:|(?P<name>\w+)\s*=)\s*(?P<value>.*)""", re.DOTALL)
_WORD = re.compile(r"[\w.+/:@-]+")
_OPEN, _CLOSE = "([{", ")]}"
# Parts of a name, between dashes and underscores. "tokens" counts tokens; a "token" opens doors.
_SECRET_PARTS = frozenset({
    "apikey", "auth", "authkey", "authorization", "cookie", "credential", "credentials", "env", "environment",
    "header", "headers", "key", "passwd", "password", "secret", "secrets", "ssl", "token", "watermark",
})  # fmt: skip
_SECRET_VALUE = re.compile(r"\b(?:hf_|sk-|ghp_|glpat-|nvapi-|xox[bp]-|AKIA)[A-Za-z0-9_-]{8,}")
_LOGIN_IN_URL = re.compile(r"://[^/\s@]+@")


class Unreadable(Exception):  # noqa: N818 - it is no error of the user's
    """A value that is no plain text, number or switch."""


def pairs(text: str, start: int) -> Iterator[tuple[str, str]]:
    """Name and spelling of each argument from `start` on: `'a': 1, 'b': [2]}` as well as `a=1, b=[2])`.

    Ends with the bracket that was open before `start`, or with the text; a last value that is cut off is left out.
    """
    depth, begin = 0, start
    for found in _PIECE.finditer(text, start):
        piece = found.group()
        if piece in _OPEN:
            depth += 1
        elif piece in _CLOSE and depth:
            depth -= 1
        elif piece in _CLOSE or (piece == "," and not depth):
            pair = _PAIR.fullmatch(text, begin, found.start())
            if pair is not None:
                yield pair["key"] or pair["name"], pair["value"].strip()
            begin = found.end()
            if piece != ",":
                return
    pair = _PAIR.fullmatch(text, begin) if not depth else None
    if pair is not None and _WORD.fullmatch(pair["value"].strip()):
        yield pair["key"] or pair["name"], pair["value"].strip()


def is_secret(name: str) -> bool:
    """True for a name whose value may be a key, a password or the like."""
    return not _SECRET_PARTS.isdisjoint(re.split(r"[_.-]", name.lower()))


def value_of(spelling: str) -> Value:
    """The value of an argument: a list as words with spaces between, a dict as JSON without its secrets.

    Raises Unreadable for objects and for what looks like a secret.
    """
    if len(spelling) > MOST_TEXT:
        raise Unreadable
    try:
        with warnings.catch_warnings():  # an escape that Python does not know is no matter of the user's
            warnings.simplefilter("ignore")
            read = ast.literal_eval(spelling)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if not _WORD.fullmatch(spelling):
            raise Unreadable from None
        read = spelling.removeprefix("torch.")  # a dtype, or an enum as vLLM's config prints it
    return _plain(read)


def safe_text(text: str) -> str | None:
    """A text that may be shown: without the login of an address; None where it looks like a secret."""
    return None if _SECRET_VALUE.search(text) else _LOGIN_IN_URL.sub("://", text)


def flag_of(name: str) -> str:
    """`max_model_len` as `--max-model-len`."""
    return "--" + name.strip("_").replace("_", "-")


def _plain(read: Any) -> Value:
    match read:
        case float() if not math.isfinite(read):
            raise Unreadable
        case bool() | int() | float() | None:
            return read
        case str():
            text = safe_text(read)
            if text is None:
                raise Unreadable
            return text
        case list() | tuple() if all(isinstance(part, str | int | float) for part in read):
            text = safe_text(" ".join(str(part) for part in read))
            if text is None:
                raise Unreadable
            return text
        case dict():
            text = safe_text(json.dumps(_without_secrets(read), default=str))
            if text is None:
                raise Unreadable
            return text
        case _:
            raise Unreadable


def _without_secrets(read: Any) -> Any:
    if isinstance(read, Mapping):
        return {str(key): _without_secrets(value) for key, value in read.items() if not is_secret(str(key))}
    if isinstance(read, list | tuple):
        return [_without_secrets(value) for value in read]
    return read
