"""JSON as a record's type has it: every field there, each of its type, nothing else. The types are the only description.

Read are texts, numbers, truth values, None, unions, literals, tuples of one type, mappings from text, and named tuples of these.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from moeplan.core.errors import InputError
from moeplan.sources.strict_yaml import shown

Kind = TypeVar("Kind")

MOST_NUMBER = 10**18
MOST_LETTERS = 20_000


def typed(kind: type[Kind], value: Any, where: str, hint: str) -> Kind:
    """`value` as `kind`. InputError names the file (`where`), the key and what is there instead."""
    return _Reader(where, hint).read(kind, value, "")  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _fields(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


class _Reader:
    def __init__(self, where: str, hint: str) -> None:
        self.where = where
        self.hint = hint

    def read(self, kind: Any, value: Any, path: str) -> Any:
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._union(kind, value, path)
        if origin is Literal:
            if isinstance(value, str) and value in get_args(kind):
                return value
            raise self._wrong(path, value, f"one of {', '.join(map(str, get_args(kind)))}")
        if origin is tuple:
            return self._tuple(kind, value, path)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(get_args(kind)[1], value, path)
        if hasattr(kind, "_fields"):
            return self._record(kind, value, path)
        return self._plain(kind, value, path)

    def _union(self, kind: Any, value: Any, path: str) -> Any:
        options = [option for option in get_args(kind) if option is not type(None)]
        if value is None and len(options) < len(get_args(kind)):
            return None
        if len(options) == 1:  # the error tells what that one lacks
            return self.read(options[0], value, path)
        for option in options:
            if _is_plain(option, value):
                return value
        raise self._wrong(path, value, "text or a number")

    def _tuple(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise self._wrong(path, value, "a list")
        item = get_args(kind)[0]
        return tuple(self.read(item, each, f"{path}[{place}]") for place, each in enumerate(value))

    def _mapping(self, item: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise self._wrong(path, value, "an object with keys")
        return {key: self.read(item, each, _below(path, key)) for key, each in value.items()}

    def _record(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise self._wrong(path, value, "an object with keys")
        missing = [name for name in kind._fields if name not in value]
        if missing:
            raise InputError(f"{self.where}: `{_below(path, missing[0])}` is missing", hint=self.hint)
        unknown = [str(key) for key in value if key not in kind._fields]
        if unknown:
            raise InputError(f"{self.where}: `{_below(path, unknown[0][:60])}` is not a known key", hint=self.hint)
        fields = _fields(kind)
        return kind(*(self.read(fields[name], value[name], _below(path, name)) for name in kind._fields))

    def _plain(self, kind: Any, value: Any, path: str) -> Any:
        if _is_plain(kind, value):
            return value
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise self._wrong(path, value, names.get(kind, "of a known type"))

    def _wrong(self, path: str, value: Any, wanted: str) -> InputError:
        return InputError(f"{self.where}: `{path or 'the file'}` is {shown(value)}, not {wanted}", hint=self.hint)


def _is_plain(kind: Any, value: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is str:
        return isinstance(value, str) and len(value) <= MOST_LETTERS
    if kind is int:
        return isinstance(value, int) and abs(value) < MOST_NUMBER
    if kind is float:  # a whole number is one too, and stays as it was written
        return isinstance(value, int | float) and abs(value) < MOST_NUMBER and math.isfinite(value)
    return False


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)
