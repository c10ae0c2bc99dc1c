"""Flags whose value is a JSON object, given as a whole or key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeplan.engines.flag_values import read_json_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moeplan.core.deployment import Value


class Objects:
    """The objects of a command line, by the name of their flag.

    Keys of one flag make one object, which replaces an object that stands beside them: vLLM puts it last
    (0.33.0 utils/argparse_utils.py, FlexibleArgumentParser.parse_args).
    """

    def __init__(self) -> None:
        self._whole: dict[str, dict[str, Any]] = {}
        self._by_key: dict[str, dict[str, Any]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Flags that something was said of, in order."""
        return tuple(dict.fromkeys((*self._whole, *self._by_key)))

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

    def is_twofold(self, name: str) -> bool:
        """True where a whole object and keys are given."""
        return name in self._whole and name in self._by_key

    def values(self, name: str) -> Iterator[tuple[str, Value]]:
        """The values of a flag's object by their path; lists are joined by commas."""
        return _leaves(self._by_key.get(name) or self._whole.get(name, {}), "")


def _leaves(found: Mapping[str, Any], above: str) -> Iterator[tuple[str, Value]]:
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}", ",".join(str(item) for item in value)
        else:
            yield f"{above}{key}", value
