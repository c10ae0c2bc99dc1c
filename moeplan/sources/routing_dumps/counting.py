"""Counts of experts step by step, added up to layers: windows of bounded number, doubles found, nonsense refused."""

import math
from array import array
from collections.abc import Mapping, Sequence
from operator import add
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import Curve, LayerRouting
from moeplan.sources.routing_dumps.known import Known

MOST_WINDOWS = 64
"""Steps are kept as no more windows than this, of equally many steps each but the last. Even: pairs are joined."""

MOST_IN_A_STEP = 10**12
MOST_STEPS = 10**7

MULTIPLE_FROM = 64
"""Counts above zero from which it is no chance that all are multiples of one number."""

SLACK = 0.01
"""Share by which an expert's count may exceed the tokens: engines lose or double a few where recording starts and stops."""

AGAIN = "dump again; a file that was still being written is not whole"


class Counted(NamedTuple):
    """What the counts of a dump come to."""

    layers: tuple[LayerRouting, ...]
    notes: tuple[str, ...]


class StepSums:
    """Adds up steps of [rows, experts]. Memory does not grow with the steps."""

    def __init__(self, rows: int, num_experts: int, known: Known, where: str) -> None:
        self.rows = rows
        self.num_experts = num_experts
        self.known = known
        self.where = where
        self.steps = 0
        """That had tokens."""
        self._windows: list[array[int]] = []
        self._per_window = 1
        self._in_last = 0
        self._divisor = 0
        self._divided = 0
        self._touched: list[dict[int, list[int]]] = [{} for _ in range(rows)]

    def add(self, step: Sequence[int], what: str) -> None:
        """One step's counts [rows x experts] of logical experts. InputError, naming `what`, for counts that are none."""
        least, most = min(step), max(step)
        if least < 0 or most > MOST_IN_A_STEP:
            wrong = least if least < 0 else most
            row, expert = divmod(list(step).index(wrong), self.num_experts)
            raise InputError(f"{self.where}: {what}: layer {row}, expert {expert} has a count of {wrong}", hint=AGAIN)
        if most == 0:
            return  # recorders keep a ring of steps, zero where none was yet
        if self.steps == MOST_STEPS:
            raise InputError(f"{self.where}: more than {MOST_STEPS:,} steps", hint="dump more often")
        counts = array("q", step)
        self.steps += 1
        if self._divisor != 1:
            self._divisor = math.gcd(self._divisor, *counts)
            self._divided += len(counts) - counts.count(0)
        if self.known.phase == "decode":
            self._touch(counts)
        if self._windows and self._in_last < self._per_window:
            self._windows[-1] = array("q", map(add, self._windows[-1], counts))
            self._in_last += 1
            return
        if len(self._windows) == MOST_WINDOWS:
            pairs = zip(self._windows[::2], self._windows[1::2], strict=True)
            self._windows = [array("q", map(add, first, second)) for first, second in pairs]
            self._per_window *= 2
        self._windows.append(counts)
        self._in_last = 1

    def counted(self, numbers: Mapping[int, int], chosen: float | None = None) -> Counted:
        """The layers of `numbers` (row: layer); `chosen` is what the dump says of experts per token.

        InputError where nothing was counted, or an expert more often than there are tokens.
        """
        if not self._windows:
            raise InputError(
                f"{self.where}: nothing was counted in it",
                hint="start recording, send requests, and dump while they run",
            )
        notes = []
        divisor = self._divisor if self._divided >= MULTIPLE_FROM else 1
        if divisor > 1:
            notes.append(
                f"all counts are multiples of {divisor}: each token was counted by {divisor} ranks, and is taken once"
            )
        if self._per_window > 1:
            notes.append(f"each window adds up {self._per_window} steps; single steps are less even than windows")
        layers, idle = [], []
        for row, layer in sorted(numbers.items(), key=lambda pair: pair[1]):
            first, end = row * self.num_experts, (row + 1) * self.num_experts
            windows = tuple(tuple(count // divisor for count in window[first:end]) for window in self._windows)
            counts = tuple(map(sum, zip(*windows, strict=True)))
            if not any(counts):
                idle.append(layer)
                continue
            k = self.known.chosen(layer, self.where, chosen)
            layers.append(self._layer(row, layer, counts, windows, k, divisor))
        if not layers:
            raise InputError(
                f"{self.where}: no layer with experts was counted in it", hint="is it a dump of that model?"
            )
        if idle and self.known.model is not None:
            notes.append(f"no token was counted in {_named(idle)}")
        return Counted(tuple(layers), tuple(notes))

    def _layer(
        self,
        row: int,
        layer: int,
        counts: tuple[int, ...],
        windows: tuple[tuple[int, ...], ...],
        k: float,
        divisor: int,
    ) -> LayerRouting:
        total, most = sum(counts), max(counts)
        tokens = max(1, round(total / k))
        if most > tokens * (1 + SLACK) + 1:
            raise InputError(
                f"{self.where}: layer {layer}: expert {counts.index(most)} was chosen {most:,} times by {tokens:,} tokens of "
                f"{k:g} experts",
                hint="a token has fewer experts than that: name the model that was served, or say --experts-per-token",
            )
        across = tuple(
            (of_bin[1] / of_bin[0] / k / divisor, of_bin[2] / of_bin[0])
            for _, of_bin in sorted(self._touched[row].items())
        )
        return LayerRouting(
            layer,
            self.num_experts,
            total / tokens,
            tokens,
            counts,
            across=_ascending(across),
            windows=windows if len(windows) > 1 else (),
        )

    def _touch(self, counts: "array[int]") -> None:
        """A decode step has one token of each sequence: by size of step, how many experts it touched."""
        for row in range(self.rows):
            of_row = counts[row * self.num_experts : (row + 1) * self.num_experts]
            total = sum(of_row)
            if total:
                of_bin = self._touched[row].setdefault(total.bit_length(), [0, 0, 0])
                of_bin[0] += 1
                of_bin[1] += total
                of_bin[2] += self.num_experts - of_row.count(0)


def to_logical(counts: Sequence[int], homes: Sequence[int], num_experts: int) -> list[int]:
    """Counts of one layer's physical experts [slots] as counts of logical ones; `homes` has the logical expert of each slot."""
    found = [0] * num_experts
    for count, home in zip(counts, homes, strict=True):
        found[home] += count
    return found


def check_homes(homes: Sequence[int], num_experts: int | None, where: str) -> int:
    """How many logical experts one layer's slots hold; InputError unless each of them is in some slot.

    `num_experts` is what the model has, None where none was named.
    """
    there = set(homes)
    found = max(there, default=-1) + 1 if num_experts is None else num_experts
    if min(there, default=-1) < 0 or max(there) >= found or len(there) < found:
        raise InputError(
            f"{where}: its map of slots to experts does not hold each of {found} experts",
            hint="is it a dump of that model? dump again, with the map of the same moment",
        )
    return found


def _ascending(curve: Sequence[tuple[float, float]]) -> Curve:
    """Points of at least one token, each of more tokens than the one before."""
    found: list[tuple[float, float]] = []
    for tokens, distinct in curve:
        if tokens >= 1 and (not found or tokens > found[-1][0]):
            found.append((tokens, distinct))
    return tuple(found)


def _named(layers: Sequence[int]) -> str:
    shown = ", ".join(map(str, layers[:8]))
    return (
        f"layer {shown}" if len(layers) == 1 else f"{len(layers)} layers ({shown}{', ...' if len(layers) > 8 else ''})"
    )
