"""YAML that people write by hand, read strictly: every problem is an error that names the file and the key.

Unknown keys, keys given twice and values of the wrong type are refused; an absent key and a null are the same: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError

MOST_BYTES = 1 << 20
"""Files beyond this are refused unread: a profile has a few kilobytes."""


def load(
    path: Path,
    page: str = "docs/hardware-profiles.md",
    *,
    may_be_empty: bool = False,
    lines: bool = False,
    most_bytes: int = MOST_BYTES,
) -> Block:
    """The mapping at the top of a YAML file. InputError when it cannot be read, is no YAML or no mapping.

    `page` is where its keys are told; with `may_be_empty` a file without anything is an empty mapping; with `lines` errors
    name the line of the key. A file of more than `most_bytes` is refused unread.
    """
    try:
        state = path.stat()
        if state.st_size > most_bytes:
            raise InputError(f"{path} is larger than such a file can be", hint="name another file")
        value = _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}", hint="check the file and its permissions") from error
    if value is None and may_be_empty:
        value = {}
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: it holds no keys and values", hint=f"see {page} for the keys")
    return Block(value, str(path), file=path if lines else None)


def _line_of(path: Path, steps: Sequence[str | int]) -> int | None:
    """The line of a key: `steps` are the keys and places on the way to it. The last that is there, where one is absent."""
    import yaml

    # The file is parsed a second time, for an error alone.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    node, line = yaml.compose(path.read_text(encoding="utf-8"), Loader=loader), None
    for step in steps:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found = next((pair for pair in pairs if str(pair[0].value) == str(step)), None)
        if found is None:
            break
        node, line = found[1], found[0].start_mark.line + 1
    return line


@lru_cache(maxsize=256)
def _read(path: Path, mtime_ns: int, num_bytes: int) -> Any:
    """What a YAML file holds. A check asks for one card and one engine hundreds of times; nobody changes what is read."""
    import yaml

    text = path.read_text(encoding="utf-8")
    try:
        return _loader()(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise InputError(f"{where}: not valid YAML: {problem}", hint="correct that line") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML: {type(error).__name__}", hint="correct the file") from error


def _loader() -> Any:
    """The fast safe loader, or the slow one where libyaml is missing, that refuses a key given twice."""
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc, valid-type]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    problem = f"the key `{key.value}` is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


class Block:
    """One mapping of a file. Each key is asked for by type; `done` refuses the keys that nobody asked for."""

    def __init__(
        self,
        values: Mapping[Any, Any],
        where: str,
        path: str = "",
        *,
        file: Path | None = None,
        steps: tuple[str | int, ...] = (),
    ) -> None:
        self.values = values
        self.where = where
        self.path = path
        self.file = file
        """Where lines are looked up for errors; None where they name none."""
        self.steps = steps
        """Keys and places from the top of the file down to here."""
        self.asked: dict[str, None] = {}

    def wrong(self, key: str, problem: str, hint: str = "correct that key") -> InputError:
        """The error for a key whose value cannot be meant."""
        line = _line_of(self.file, (*self.steps, key)) if self.file is not None else None
        where = self.where if line is None else f"{self.where}:{line}"
        return InputError(f"{where}: `{self.path}{key}` {problem}", hint=hint)

    def raw(self, key: str) -> Any:
        """The value as it stands; None where absent or null."""
        self.asked[key] = None
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """A string that is not empty."""
        value = self.raw(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        raise self.wrong(key, f"is {shown(value)}, not text", "put it in quotes")

    def integer(self, key: str, minimum: int = 0, maximum: int = 10**18) -> int | None:
        """A whole number; 1.0e+12 counts as one."""
        value = self.raw(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"is {shown(value)}, not a whole number", "write it out in digits, without a unit")
        if not minimum <= value <= maximum:
            raise self.wrong(key, f"is {value}; it must be between {minimum} and {maximum}")
        return value

    def number(self, key: str) -> float | None:
        """A number that is not negative."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**18:
            raise self.wrong(key, f"is {shown(value)}, not a number of zero or more")
        return float(value)

    def flag(self, key: str) -> bool | None:
        """A truth value: true or false."""
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, f"is {shown(value)}, not true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where absent."""
        items = self._items(key)
        for item in items:
            if not isinstance(item, str) or not item.strip():
                raise self.wrong(key, f"holds {shown(item)}, not only text", "put each entry in quotes")
        return tuple(items)

    def integers(self, key: str, minimum: int = 1) -> tuple[int, ...]:
        """A list of whole numbers; empty where absent."""
        items = self._items(key)
        for item in items:
            if isinstance(item, bool) or not isinstance(item, int) or item < minimum:
                raise self.wrong(key, f"holds {shown(item)}, not only whole numbers of {minimum} or more")
        return tuple(items)

    def block(self, key: str) -> Block | None:
        """A mapping below this one."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"is {shown(value)}, not a block of keys")
        return self._below(value, key)

    def blocks(self, key: str) -> tuple[Block, ...]:
        """A mapping below this one, or a list of them; empty where absent."""
        value = self.raw(key)
        items = value if isinstance(value, list) else [] if value is None else [value]
        for item in items:
            if not isinstance(item, Mapping):
                raise self.wrong(key, f"is {shown(item)}, not a block of keys")
        if value is items:
            return tuple(self._below(item, key, place) for place, item in enumerate(items))
        return tuple(self._below(item, key) for item in items)

    def mappings(self, key: str) -> tuple[Mapping[str, Any], ...]:
        """A list of mappings, kept as they are; empty where absent."""
        items = self._items(key)
        for item in items:
            if not isinstance(item, Mapping):
                raise self.wrong(key, f"holds {shown(item)}, not only blocks of keys")
        return tuple(items)

    def done(self) -> None:
        """Raise InputError for the first key that was never asked for, with the nearest that is known."""
        for key in self.values:
            if key in self.asked:
                continue
            import difflib

            near = difflib.get_close_matches(str(key), self.asked, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(self.asked)}"
            raise self.wrong(str(key), "is not a known key", hint)

    def _below(self, values: Mapping[Any, Any], *steps: str | int) -> Block:
        return Block(values, self.where, f"{self.path}{steps[0]}.", file=self.file, steps=(*self.steps, *steps))

    def _items(self, key: str) -> Sequence[Any]:
        value = self.raw(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(key, f"is {shown(value)}, not a list")
        return value


def shown(value: Any) -> str:
    """A value as it may stand in a message: short."""
    import reprlib

    return reprlib.repr(value)
