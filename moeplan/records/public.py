"""A record as anybody may see it: without access tokens and passwords, wherever in it they would stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from moeplan.core.secret_words import HIDDEN, is_secret_value
from moeplan.sources.deployments.plain_secrets import scrubbed

Kept = TypeVar("Kept")

_IN_ADDRESS = re.compile(r"(?<=://)[^\s/?#@:]*:[^\s/?#]+(?=@)")
"""`user:password` before the name of a host; `hf://org/name@revision` has none."""
_IN_QUERY = re.compile(
    r"([?&](?:[\w.-]*[._-])?(?:token|keys?|signature|sig|secrets?|passwords?|credentials?)=)[^&\s\"']+", re.IGNORECASE
)
_BEARER = re.compile(r"(\bBearer\s+)[\w.~+/=-]+")


def without_secrets(value: Kept) -> Kept:
    """The same record, tuple, mapping or text without what looks like a token, and without passwords of addresses."""
    return _masked(scrubbed(value))  # type: ignore[no-any-return]


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        if is_secret_value(value):
            return HIDDEN
        value = _IN_QUERY.sub(rf"\1{HIDDEN}", _IN_ADDRESS.sub(HIDDEN, value))
        return _BEARER.sub(rf"\1{HIDDEN}", value)
    if isinstance(value, Mapping):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, tuple):
        items = map(_masked, value)
        return tuple(items) if type(value) is tuple else type(value)(*items)
    return value
