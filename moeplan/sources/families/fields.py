"""A config read by field name: what was relied on, what was defaulted and what is missing are remembered.

Missing fields do not stop the reading, so that one error can name them all (`Fields.finish`). A null counts as
absent. Values of the wrong kind or of absurd size are errors that name the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moeplan.core.errors import ConfigError

# No published model comes near any of these; beyond them a value is a mistake or a joke, and sums would mislead.
MOST = 10_000_000_000
MOST_LAYERS = 10_000
MAX_DEPTH = 8


class Fields:
    """One JSON object of a config, and the record that it shares with its nested objects."""

    def __init__(
        self, values: Mapping[str, Any], *, where: str = "config", path: str = "", parent: Fields | None = None
    ):
        self.values = values
        self.where = where
        self.path = path
        self.used: dict[str, Any] = parent.used if parent else {}
        """Path to value of every field that was found and read."""
        self.defaulted: dict[str, Any] = parent.defaulted if parent else {}
        """Path to default of every field that was absent and has one in the family's row."""
        self.missing: list[str] = parent.missing if parent else []
        """Paths of fields that the answer needs and the config lacks."""
        if path.count(".") > MAX_DEPTH:
            raise self.wrong(path, "is nested too deeply")

    def wrong(self, name: str, problem: str) -> ConfigError:
        """The error for a field whose value cannot be meant."""
        return ConfigError(
            f"{self.where}: `{self.path}{name}` {problem}",
            hint="correct that field, or estimate the published model by its name (see `moeplan models`)",
        )

    def first(self, *names: str) -> tuple[str, Any] | None:
        """Name and value of the first field among `names` that is present and not null."""
        for name in names:
            value = self.values.get(name)
            if value is not None:
                self.used[f"{self.path}{name}"] = value
                return name, value
        return None

    def has(self, *names: str) -> bool:
        """True when any of `names` is present and not null; does not count as reading."""
        return any(self.values.get(name) is not None for name in names)

    def raw(self, name: str) -> Any:
        """The value as it stands, or None."""
        found = self.first(name)
        return found[1] if found else None

    def integer(self, *names: str, default: int | None = None, minimum: int = 1, maximum: int = MOST) -> int:
        """A whole number. Absent: the family's `default` (noted), or else the field is recorded as missing."""
        found = self.first(*names)
        if found is not None:
            return self._checked(*found, minimum, maximum)
        if default is not None:
            self.defaulted[f"{self.path}{names[0]}"] = default
            return default
        self.missing.append(" or ".join(f"{self.path}{name}" for name in names))
        return max(1, minimum)  # a stand-in; `finish` raises before anybody sees it

    def optional(self, *names: str, minimum: int = 0) -> int | None:
        """A whole number, or None where the field is absent or null."""
        found = self.first(*names)
        return None if found is None else self._checked(*found, minimum, MOST)

    def num_layers(self, *names: str, default: int | None = None) -> int:
        """A number of layers, within reason."""
        return self.integer(*names, default=default, maximum=MOST_LAYERS)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value; the family's `default` where absent (noted)."""
        found = self.first(name)
        if found is None:
            self.defaulted[f"{self.path}{name}"] = default
            return default
        if not isinstance(found[1], bool):
            raise self.wrong(name, f"is {_shown(found[1])}, not true or false")
        return found[1]

    def text(self, *names: str) -> str | None:
        """A string, or None where absent."""
        found = self.first(*names)
        if found is None:
            return None
        if not isinstance(found[1], str):
            raise self.wrong(found[0], f"is {_shown(found[1])}, not a string")
        return found[1]

    def integers(self, name: str, length: int | None = None) -> tuple[int, ...] | None:
        """A list of whole numbers (of `length`, where given), or None where absent."""
        found = self.first(name)
        if found is None:
            return None
        return tuple(self._checked(name, item, 0, MOST) for item in self._listed(name, found[1], length))

    def strings(self, name: str, length: int | None = None) -> tuple[str, ...] | None:
        """A list of strings (of `length`, where given), or None where absent."""
        found = self.first(name)
        if found is None:
            return None
        items = self._listed(name, found[1], length)
        for item in items:
            if not isinstance(item, str):
                raise self.wrong(name, f"holds {_shown(item)}, not only strings")
        return tuple(items)

    def per_layer(self, name: str, num_layers: int, default: int | None = None) -> tuple[int, ...]:
        """One whole number per layer, from a list or from one number for all."""
        if isinstance(self.values.get(name), list):
            return self.integers(name, num_layers) or ()
        return (self.integer(name, default=default, minimum=0),) * num_layers

    def sub(self, name: str) -> Fields | None:
        """A nested object, or None where absent; what is read there is recorded here."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"is {_shown(value)}, not an object")
        return Fields(value, where=self.where, path=f"{self.path}{name}.", parent=self)

    def need(self, name: str) -> None:
        """Record a field as missing whose absence only the family can see."""
        self.missing.append(f"{self.path}{name}")

    def finish(self) -> None:
        """Raise ConfigError that lists every missing field, if any is missing."""
        if self.missing:
            listed = ", ".join(dict.fromkeys(self.missing))
            raise ConfigError(
                f"{self.where}: the config does not determine the answer: missing {listed}",
                hint="add the missing fields, or estimate the published model by its name (see `moeplan models`)",
            )

    def _checked(self, name: str, value: Any, minimum: int, maximum: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, f"is {_shown(value)}, not a whole number")
        if not minimum <= value <= maximum:
            raise self.wrong(name, f"is {_shown(value)}; it must be between {minimum} and {maximum}")
        return value

    def _listed(self, name: str, value: Any, length: int | None) -> Sequence[Any]:
        if not isinstance(value, list | tuple):
            raise self.wrong(name, f"is {_shown(value)}, not a list")
        if length is not None and len(value) != length:
            raise self.wrong(name, f"has {len(value)} entries for {length} layers")
        return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
