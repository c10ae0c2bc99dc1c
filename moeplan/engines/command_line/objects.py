"""Flags whose value is a JSON object, given as a whole or key by key."""

from __future__ import annotations

from typing import Any

from moeplan.core.secret_words import is_secret_name
from moeplan.engines.command_line.values import read_json_value


class Objects:
    """The objects of a command line, by the name of their flag.

    Keys of one flag make one object, which replaces an object that stands beside them: vLLM puts it last
    (0.33.0 utils/argparse_utils.py, FlexibleArgumentParser.parse_args). Flags of their own for a key (`--spec-method`)
    come on top.
    """

    def __init__(self) -> None:
        self._whole: dict[str, dict[str, Any]] = {}
        self._by_key: dict[str, dict[str, Any]] = {}
        self._on_top: dict[str, dict[str, Any]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Flags that something was said of, in order."""
        return tuple(dict.fromkeys((*self._whole, *self._by_key, *self._on_top)))

    def put(self, name: str, found: dict[str, Any]) -> bool:
        """Keeps a whole object. True where it replaces another one."""
        before = self._whole.get(name)
        self._whole[name] = found
        return before is not None and before != found

    def put_key(self, name: str, key: str, text: str) -> None:
        """Keeps one key, a path with dots; one that ends in `+` adds to a list."""
        place = self._by_key.setdefault(name, {})
        *path, last = key.removesuffix("+").split(".")
        for step in path:
            inner = place.get(step)
            if not isinstance(inner, dict):
                inner = place[step] = {}
            place = inner
        if key.endswith("+"):
            before = place.get(last)
            place[last] = [*(before if isinstance(before, list) else ()), *text.split(",")]
        else:
            place[last] = read_json_value(text)

    def put_on_top(self, name: str, key: str, value: object) -> None:
        """Keeps the value of a flag that stands for one key."""
        self._on_top.setdefault(name, {})[key] = value

    def is_twofold(self, name: str) -> bool:
        """True where a whole object and keys are given."""
        return name in self._whole and name in self._by_key

    def found(self, name: str) -> dict[str, Any]:
        """The object of a flag, without secrets."""
        base = self._by_key.get(name) or self._whole.get(name, {})
        shown: dict[str, Any] = _without_secrets({**base, **self._on_top.get(name, {})})
        return shown


def _without_secrets(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _without_secrets(value) for key, value in found.items() if not is_secret_name(key)}
    return [_without_secrets(value) for value in found] if isinstance(found, list) else found
