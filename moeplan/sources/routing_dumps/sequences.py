"""Choices token by token, as engines record them, folded as captures are: prompts, decode steps, and what is neither."""

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import (
    NO_EXPERT,
    CapturedLayer,
    CapturedPrompt,
    CaptureHeader,
    RoutingFold,
    header_problem,
)
from moeplan.core.routing_profile import LayerRouting, Phase, Provenance
from moeplan.sources.routing_dumps.known import Known

CLASS = "requests"
"""Dumps do not tell what prompts were about: all are of one class, which no profile keeps."""


class ChoiceFold:
    """Adds up choices of tokens. Prompts tell how neighbours share experts; decode steps what tokens of many sequences touch."""

    def __init__(self, layers: Mapping[int, int], num_experts: int, places: int, where: str) -> None:
        """`layers` is row of the dump: layer of the model; `places` the most experts of a token."""
        self.rows = tuple(sorted(layers, key=layers.__getitem__))
        self.num_experts = num_experts
        self.places = places
        self.where = where
        self.header = CaptureHeader(
            CLASS, None, tuple(CapturedLayer(layers[row], num_experts, places) for row in self.rows), Provenance()
        )
        wrong = header_problem(self.header)
        if wrong is not None:
            raise InputError(f"{where}: {wrong}", hint="is it a dump of that model?")
        self._prompts = RoutingFold(self.header)
        self._steps = RoutingFold(self.header)
        self._others = RoutingFold(self.header)

    def packed(self, columns: Sequence[Sequence["array[int]"]]) -> bytes:
        """Choices [row][place] of arrays over tokens, uint16 with `NO_EXPERT`, as captures pack them."""
        tokens = len(columns[0][0])
        flat = array("H", bytes(2 * tokens * len(columns) * self.places))
        row = len(columns) * self.places
        for at, places in enumerate(columns):
            for place, column in enumerate(places):
                flat[at * self.places + place :: row] = column
        if sys.byteorder == "big":
            flat.byteswap()
        return flat.tobytes()

    def add_prompt(self, experts: bytes, prefill_tokens: int, decode_tokens: int, what: str) -> None:
        """One sequence, or a chunk of it: neighbouring tokens in order. InputError, naming `what`, for choices that are none."""
        self._add(self._prompts, experts, prefill_tokens, decode_tokens, what)

    def add_step(self, experts: bytes, tokens: int, what: str) -> None:
        """One decode step: a token of each of so many sequences."""
        self._add(self._steps, experts, 0, tokens, what)

    def add_others(self, experts: bytes, tokens: int, what: str) -> None:
        """Tokens of which it is not known whose neighbours they are: counted, and no more."""
        self._add(self._others, experts, 0, tokens, what)

    def layers(self, known: Known) -> Mapping[Phase, tuple[LayerRouting, ...]]:
        """What was added, by phase. InputError where nothing was."""
        prompts = dict(self._prompts.profile().layers) if self._prompts.sequences else {}
        found: dict[Phase, tuple[LayerRouting, ...]] = {
            phase: layers for phase, layers in prompts.items() if phase != "all"
        }
        parts = [prompts["all"]] if prompts else []
        if self._steps.sequences:
            # Rows of a step are of different sequences: what a capture calls neighbours are none here.
            steps = tuple(
                layer._replace(across=layer.in_sequence, in_sequence=(), overlap=())
                for layer in self._steps.profile().layers["decode"]
            )
            parts.insert(0, steps)
            there = found.get("decode")
            found["decode"] = steps if there is None else tuple(map(_joined, steps, there))
        if self._others.sequences:
            others = self._others.profile().layers["decode"]
            parts.append(tuple(layer._replace(across=(), in_sequence=(), overlap=()) for layer in others))
        if not parts:
            raise InputError(
                f"{self.where}: no token's choices are in it",
                hint="start recording, send requests, and dump while they run",
            )
        everything = parts[0]
        for part in parts[1:]:
            everything = tuple(map(_joined, everything, part))
        if known.phase != "all":
            return {"all": everything, known.phase: everything}
        return {"all": everything, **found}

    def _add(self, fold: RoutingFold, experts: bytes, prefill: int, decode: int, what: str) -> None:
        prompt = CapturedPrompt(hashlib.sha256(experts).hexdigest(), CLASS, prefill, decode, experts)
        try:
            fold.add(prompt)
        except ValueError as error:
            raise InputError(
                f"{self.where}: {what}: {error}", hint="is it a dump of that model, with the map of the same moment?"
            ) from error


def table_of(homes: Sequence[int]) -> list[int]:
    """Logical expert of each physical one, and `NO_EXPERT` behind them, which is where -1 looks."""
    return [*homes, NO_EXPERT]


def _joined(first: LayerRouting, second: LayerRouting) -> LayerRouting:
    """Both together; curves are the first's where it has any."""
    tokens = first.tokens + second.tokens
    counts = tuple(map(int.__add__, first.counts, second.counts))
    return first._replace(
        tokens=tokens,
        counts=counts,
        experts_per_token=sum(counts) / tokens,
        in_sequence=first.in_sequence or second.in_sequence,
        across=first.across or second.across,
        overlap=first.overlap or second.overlap,
    )
