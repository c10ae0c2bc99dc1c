"""The metadata of a GGUF file beside the names and shapes of its tensors: what a config can be made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import ConfigError
from moeplan.sources.families.fields import MOST, MOST_LAYERS


class Unkept(NamedTuple):
    """A long text or array of which only the length was kept."""

    length: int
    what: str


Value = int | float | bool | str | tuple[int | float | bool, ...] | Unkept

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(.+)")


class Described:
    """One model: typed metadata of its architecture, and what its tensors show. Raises ConfigError on absurd values."""

    def __init__(
        self, values: Mapping[str, Value], tensors: Sequence[StoredTensor], architecture: str, where: str
    ) -> None:
        self.values = values
        self.architecture = architecture
        self.where = where
        self.shapes = {tensor.name: tensor.shape for tensor in tensors}
        self.from_tensors: list[str] = []
        """Fields that no metadata stated and that the tensors determine."""
        self.doubts: list[str] = []
        """Where metadata and tensors disagree."""
        self.varying: list[str] = []
        """Keys that were asked for as one number and differ from layer to layer."""
        self.parts: dict[int, set[str]] = {}
        """Number of each block to the names of its tensors within it."""
        for tensor in tensors:
            match = _BLOCK.fullmatch(tensor.name)
            if match:
                self.parts.setdefault(int(match[1]), set()).add(match[2])
        self.num_blocks = self._num_blocks()
        self.num_nextn_layers = self._num_nextn_layers()
        self.num_layers = self.num_blocks - self._nextn_blocks()

    # Metadata ----------------------------------------------------------------------------------------------

    def wrong(self, key: str, problem: str) -> ConfigError:
        """The error for a metadata key whose value cannot be meant."""
        return ConfigError(f"{self.where}: `{key}` {problem}", hint="convert the model again, or correct that key")

    def number(self, key: str, minimum: int = 0) -> int | None:
        """A whole number of the architecture; of one value per layer the one that all layers which have it share."""
        values = self.numbers(key)
        if values is None:
            return None
        present = sorted({value for value in values if value})
        if len(present) > 1:
            if key not in self.varying:
                self.varying.append(key)
            return None
        value = present[0] if present else 0
        if value < minimum:
            raise self.wrong(self._full(key), f"is {value}; it must be at least {minimum}")
        return value

    def numbers(self, key: str) -> tuple[int, ...] | None:
        """A whole number, or one per layer, as a tuple."""
        full = self._full(key)
        value = self.values.get(full)
        if value is None:
            return None
        if isinstance(value, Unkept):
            raise self.wrong(full, f"holds {value.length} {value.what}")
        items = value if isinstance(value, tuple) else (value,)
        checked = []
        for item in items:
            if not isinstance(item, int):
                raise self.wrong(full, f"holds {str(item)[:40]!r}, not whole numbers")
            if not 0 <= item <= MOST:
                raise self.wrong(full, f"holds {item}; it must be between 0 and {MOST}")
            checked.append(int(item))
        return tuple(checked)

    def per_layer(self, key: str) -> tuple[int, ...] | None:
        """One whole number per layer, where the file has an array of them or one number for all."""
        values = self.numbers(key)
        if values is None:
            return None
        if not isinstance(self.values[self._full(key)], tuple):
            return values * self.num_layers
        if len(values) < self.num_layers:
            raise self.wrong(self._full(key), f"has {len(values)} entries for {self.num_layers} layers")
        return values[: self.num_layers]

    def is_array(self, key: str) -> bool:
        """True where the file has one value per layer."""
        return isinstance(self.values.get(self._full(key)), tuple)

    def _full(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    # Tensors -----------------------------------------------------------------------------------------------

    def layers_with(self, *beginnings: str) -> tuple[bool, ...]:
        """Of each layer, whether it has a tensor whose name within the block begins so."""
        return tuple(
            any(part.startswith(beginnings) for part in self.parts.get(number, ())) for number in range(self.num_layers)
        )

    def any_layer(self, *beginnings: str) -> bool:
        """True where some layer has such a tensor."""
        return any(self.layers_with(*beginnings))

    def shape_in_layers(self, *parts: str) -> tuple[int, ...] | None:
        """Shape of the first tensor among the layers that is called one of `parts`."""
        for number in range(self.num_layers):
            for part in parts:
                if part in self.parts.get(number, ()):
                    return self.shapes[f"blk.{number}.{part}"]
        return None

    def told_by_tensors(self, field: str) -> None:
        """Remember that a field was taken from the tensors."""
        if field not in self.from_tensors:
            self.from_tensors.append(field)

    def _num_blocks(self) -> int:
        stated = self.number("block_count", minimum=1)
        if stated is None:
            self.told_by_tensors("block_count")
            stated = 1 + max(self.parts, default=-1)
            if not stated:
                raise self.wrong(self._full("block_count"), "is not stated, and no tensor is named blk.N")
        if not 1 <= stated <= MOST_LAYERS:
            raise self.wrong(self._full("block_count"), f"is {stated}; it must be between 1 and {MOST_LAYERS}")
        return stated

    def _num_nextn_layers(self) -> int:
        """Blocks that predict further tokens and are in the file."""
        return sum(any(part.startswith("nextn.") for part in parts) for parts in self.parts.values())

    def _nextn_blocks(self) -> int:
        """How many of the counted blocks are none of the model's layers: converters count those in that they keep."""
        stated = min(self.number("nextn_predict_layers") or 0, self.num_blocks - 1)
        last = range(self.num_blocks - stated, self.num_blocks)
        # A block without a tensor is one that somebody took out of the file.
        extra = [n for n in last if not self.parts.get(n) or any(p.startswith("nextn.") for p in self.parts[n])]
        return len(extra)
