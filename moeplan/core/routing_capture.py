"""Captured choices of experts, folded prompt by prompt into a routing profile; memory does not grow with the tokens."""

import random
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import and_, or_
from typing import NamedTuple

from moeplan.core.routing_profile import Curve, LayerRouting, Phase, Provenance, RoutingProfile

NO_EXPERT = 65535
"""Fills the places of a token that has fewer experts than the widest layer gives."""

NOT_HERE = 65534
"""Fills all places of a token that never comes to a layer: decoded tokens in an encoder, prompts in its decoder."""

MOST_EXPERTS = 4096
MOST_LAYERS = 1024
MOST_CLASSES = 32
MOST_ROW_BYTES = 1 << 16
"""Bounds of one model: a file that says more is none of a real one. `MOST_ROW_BYTES` is of one token, all layers."""

WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Tokens n at which distinct experts are counted; each doubles the one before."""

DISTANCES = (1, 2, 4, 8, 16)
"""Distances in tokens at which overlap is measured."""

SEED = 20
"""Of the reservoirs and of what is drawn from them: the same capture gives the same profile."""

SAMPLED_SEQUENCES = 512
SAMPLED_TOKENS = 8
SAMPLED_BYTES = 4 << 20
"""A reservoir keeps so many sequences, so many tokens of each, and never more bytes than this."""

DRAWN_TOKENS = 4096
MOST_ROUNDS = 256
"""Tokens drawn from a reservoir for the curve across sequences, in no more rounds than this; a round has one token of each
sequence. The error of the draws is around 1 %."""

LISTED_PROBLEMS = 20
"""Prompts that failed are named in notes up to this many; the others are counted."""


class CapturedLayer(NamedTuple):
    """One MoE layer whose router was watched."""

    layer: int
    num_experts: int
    experts_per_token: int
    """The most that a token has: places in a row."""


class CaptureHeader(NamedTuple):
    """What holds for all prompts of a capture."""

    model: str
    revision: str | None
    layers: tuple[CapturedLayer, ...]
    provenance: Provenance

    @property
    def places(self) -> int:
        """K, the places of each layer in a token's row: those of the layer with most."""
        return max((layer.experts_per_token for layer in self.layers), default=0)

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's choices over all layers."""
        return 2 * len(self.layers) * self.places


class CapturedPrompt(NamedTuple):
    """The choices of one sequence, without its text."""

    prompt: str
    """SHA-256 of the text, in hex."""
    prompt_class: str
    prefill_tokens: int
    decode_tokens: int
    """Tokens that were run one at a time, after the prompt."""
    experts: bytes = b""
    """Logical experts, uint16 little endian [tokens, layers, K], prefill first; `NO_EXPERT` where a token has fewer,
    `NOT_HERE` where a phase never comes to a layer.

    What the router chose: a choice that a capacity cuts stands here, and is counted in `dropped`.
    """
    margins: tuple[float | None, ...] | None = None
    """Share of the sequence's tokens that are near ties, by layer."""
    dropped: tuple[int, ...] | None = None
    """Choices that a capacity cut, by layer."""
    problem: str | None = None
    """Why there are no choices; None where all went well."""


class RoutingFold:
    """Adds up captured prompts; `profile` may be asked at any time.

    `add` raises ValueError where a prompt's choices are not those of the header's layers; the fold is then of no use.
    """

    def __init__(self, header: CaptureHeader) -> None:
        wrong = header_problem(header)
        if wrong is not None:
            raise ValueError(wrong)
        self.header = header
        self.sequences = 0
        self._phases: dict[Phase, _Sums] = {"prefill": _Sums(header), "decode": _Sums(header)}
        self._classes: dict[str, _Sums] = {}
        self._samples: dict[Phase, _Reservoir] = {}
        self._class_samples: dict[str, _Reservoir] = {}
        self._problems: list[str] = []
        self._failed = 0

    def add(self, prompt: CapturedPrompt) -> None:
        """Fold one sequence in."""
        if prompt.problem is not None:
            self._failed += 1
            if len(self._problems) < LISTED_PROBLEMS:
                self._problems.append(f"prompt {prompt.prompt[:12]} is not in these figures: {prompt.problem}")
            return
        header = self.header
        tokens = prompt.prefill_tokens + prompt.decode_tokens
        wrong = prompt_problem(header, prompt)
        if wrong is not None:
            raise ValueError(wrong)
        if prompt.prompt_class not in self._classes:
            if len(self._classes) == MOST_CLASSES:
                raise ValueError(f"more than {MOST_CLASSES} classes of prompts")
            self._classes[prompt.prompt_class] = _Sums(header)
            self._class_samples[prompt.prompt_class] = _Reservoir(header.row_bytes)
        flat = _unpacked(prompt.experts)
        of_class = self._classes[prompt.prompt_class]
        row = len(header.layers) * header.places
        here = [0] * len(header.layers)
        spans: tuple[tuple[Phase, int, int], ...] = (
            ("prefill", 0, prompt.prefill_tokens),
            ("decode", prompt.prefill_tokens, tokens),
        )
        for phase, first, end in spans:
            if first == end:
                continue
            sums = self._phases[phase]
            for place, layer in enumerate(header.layers):
                start = first * row + place * header.places
                columns = [flat[start + k : end * row : row] for k in range(header.places)]
                if flat[start] == NOT_HERE:
                    _check_absent(layer, columns)
                    continue
                seen = _seen(layer, columns)
                sums.layers[place].add(seen)
                of_class.layers[place].add(seen)
                here[place] += end - first
        # A decode step holds one token of a sequence, which no capacity cuts: what was cut was cut in the prompt.
        of_phase = self._phases["prefill" if prompt.prefill_tokens else "decode"]
        for sums in (of_phase, of_class):
            for place, dropped in enumerate(prompt.dropped or ()):
                sums.layers[place].dropped += dropped
        for place, share in enumerate(prompt.margins or ()):
            if share is not None:
                of_class.layers[place].ties += share * here[place]
                of_class.layers[place].judged += here[place]
        self._sample(prompt, tokens)
        self.sequences += 1

    def profile(self) -> RoutingProfile:
        """All that was added. Phases without tokens are absent, and of a phase those layers that none of its tokens comes to.
        Near ties are known for both phases together alone."""
        header = self.header
        layers: dict[Phase, tuple[LayerRouting, ...]] = {}
        everything = _Sums(header)
        for sums in self._classes.values():
            everything.take(sums)
        layers["all"] = everything.folded(header, self._samples.get("all"))
        for phase, sums in self._phases.items():
            if any(layer.tokens for layer in sums.layers):
                layers[phase] = sums.folded(header, self._samples.get(phase))
        classes = {name: sums.folded(header, self._class_samples[name]) for name, sums in sorted(self._classes.items())}
        notes = list(self._problems)
        if self._failed > len(self._problems):
            notes.append(f"{self._failed - len(self._problems)} more prompts are not in these figures")
        return RoutingProfile(header.model, header.revision, header.provenance, layers, classes, tuple(notes))

    def _sample(self, prompt: CapturedPrompt, tokens: int) -> None:
        row = self.header.row_bytes
        spans: dict[Phase, tuple[int, int]] = {
            "all": (0, tokens),
            "prefill": (0, prompt.prefill_tokens),
            "decode": (prompt.prefill_tokens, tokens),
        }
        for phase, (first, end) in spans.items():
            if first < end:
                self._samples.setdefault(phase, _Reservoir(row)).add(prompt.experts, first, end)
        if tokens:
            self._class_samples[prompt.prompt_class].add(prompt.experts, 0, tokens)


def header_problem(header: CaptureHeader) -> str | None:
    """What is wrong with a header, for a sentence; None where it can be."""
    if not header.layers:
        return "there is no layer with experts"
    if len(header.layers) > MOST_LAYERS:
        return f"{len(header.layers)} layers; no more than {MOST_LAYERS} are read"
    numbers = [layer.layer for layer in header.layers]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        return "its layers do not ascend"
    for layer in header.layers:
        if not 1 <= layer.num_experts <= MOST_EXPERTS:
            return f"layer {layer.layer} has {layer.num_experts} experts; between 1 and {MOST_EXPERTS} are read"
        if not 1 <= layer.experts_per_token <= layer.num_experts:
            return f"layer {layer.layer} chooses {layer.experts_per_token} of {layer.num_experts} experts"
    if header.row_bytes > MOST_ROW_BYTES:
        return f"one token has {header.row_bytes} bytes of choices; no more than {MOST_ROW_BYTES} are read"
    return None


def prompt_problem(header: CaptureHeader, prompt: CapturedPrompt) -> str | None:
    """What is wrong with the sizes and shares of a captured prompt, for a sentence; ids are looked at by `RoutingFold.add`."""
    tokens, layers = prompt.prefill_tokens + prompt.decode_tokens, len(header.layers)
    if prompt.prefill_tokens < 0 or prompt.decode_tokens < 0:
        return "it has a negative number of tokens"
    if len(prompt.experts) != tokens * header.row_bytes:
        return (
            f"{tokens} tokens of {layers} layers have {tokens * header.row_bytes} bytes of choices, "
            f"and {len(prompt.experts)} are there"
        )
    if prompt.margins is not None:
        if len(prompt.margins) != layers:
            return f"{len(prompt.margins)} shares of near ties for {layers} layers"
        if any(share is not None and not 0 <= share <= 1 for share in prompt.margins):
            return "a share of near ties is not between 0 and 1"
    if prompt.dropped is not None:
        if len(prompt.dropped) != layers:
            return f"{len(prompt.dropped)} counts of dropped choices for {layers} layers"
        if any(not 0 <= cut <= tokens * header.places for cut in prompt.dropped):
            return "more choices were dropped than made"
    return None


def distinct_by_windows(masks: Sequence[int]) -> list[tuple[int, int, int]]:
    """Of each size in `WINDOWS`: how many whole windows of neighbouring tokens there are, their distinct experts, summed, and those
    of their halves; of single tokens, which have none, 0.

    `masks` has one bit per chosen expert, for each token in turn. Windows do not overlap.
    """
    found = []
    level: Sequence[int] = masks
    halves = 0
    for _ in WINDOWS:
        if not level:
            break
        distinct = sum(map(int.bit_count, level))
        found.append((len(level), distinct, halves))
        halves = distinct - (level[-1].bit_count() if len(level) % 2 else 0)
        level = list(map(or_, level[0::2], level[1::2]))
    return found


def growth_curve(windows: Sequence[Sequence[int]], num_experts: int) -> Curve:
    """Mean distinct experts by size of window, from sums of `distinct_by_windows` over sequences.

    Long windows are of long sequences alone, whose texts may be of another kind. So each size is the one before it times the
    growth of its own windows over their halves: never falling, never beyond all experts, and about the plain mean where all
    sequences are as long.
    """
    found: list[tuple[float, float]] = []
    for n, (number, distinct, halves) in zip(WINDOWS, windows, strict=True):
        if not number:
            break
        if not found:
            value = distinct / number
        else:
            value = min(float(num_experts), found[-1][1] * distinct / halves * 2) if halves else found[-1][1]
        found.append((float(n), value))
    return tuple(found)


def chosen_masks(header: CaptureHeader, prompt: CapturedPrompt, tokens: int) -> list[list[int]]:
    """The choices of a prompt's first `tokens`, by layer: a number for each token, with one bit per chosen expert."""
    row = len(header.layers) * header.places
    flat = _unpacked(prompt.experts)
    return [
        _masks(layer, [flat[place * header.places + k : tokens * row : row] for k in range(header.places)])
        for place, layer in enumerate(header.layers)
    ]


class _Seen(NamedTuple):
    """One layer of one sequence and phase."""

    tokens: int
    counts: Counter[int]
    windows: list[tuple[int, int, int]]
    kept: list[tuple[int, int]]
    """By distance: experts of the earlier tokens, and those of them that the later token has too."""


def _seen(layer: CapturedLayer, columns: Sequence["array[int]"]) -> _Seen:
    counts: Counter[int] = Counter()
    for column in columns:
        counts.update(column)
    counts.pop(NO_EXPERT, None)
    highest = max(counts, default=0)
    if highest >= layer.num_experts:
        raise ValueError(f"layer {layer.layer} has experts 0 to {layer.num_experts - 1}, and {highest} was chosen")
    masks = _masks(layer, columns)
    windows = distinct_by_windows(masks)
    if windows[0][1] != counts.total():
        raise ValueError(f"layer {layer.layer}: a token has the same expert twice")
    if counts.total() > len(masks) * layer.experts_per_token:
        raise ValueError(f"layer {layer.layer}: a token has more than {layer.experts_per_token} experts")
    kept = []
    for distance in DISTANCES:
        earlier = masks[:-distance]
        both = sum(map(int.bit_count, map(and_, earlier, masks[distance:])))
        kept.append((sum(map(int.bit_count, earlier)), both))
    return _Seen(len(masks), counts, windows, kept)


def _check_absent(layer: CapturedLayer, columns: Sequence["array[int]"]) -> None:
    if any(column.count(NOT_HERE) != len(column) for column in columns):
        raise ValueError(f"layer {layer.layer}: some tokens of a phase come to it, and some never do")


def _masks(layer: CapturedLayer, columns: Sequence["array[int]"]) -> list[int]:
    """One bit per chosen expert, for each token; `columns` are the first, second, ... choices of all tokens."""
    bits = _bits(layer.num_experts)
    masks = list(map(bits.__getitem__, columns[0]))
    for column in columns[1:]:
        masks = list(map(or_, masks, map(bits.__getitem__, column)))
    return masks


class _LayerSums:
    """What is added up of one layer."""

    __slots__ = ("counts", "dropped", "judged", "kept", "ties", "tokens", "windows")

    def __init__(self, num_experts: int) -> None:
        self.tokens = 0
        self.counts = array("Q", bytes(8 * num_experts))
        self.windows = [[0, 0, 0] for _ in WINDOWS]
        self.kept = [[0, 0] for _ in DISTANCES]
        self.dropped = 0
        self.ties = 0.0
        self.judged = 0

    def add(self, seen: _Seen) -> None:
        self.tokens += seen.tokens
        for expert, count in seen.counts.items():
            self.counts[expert] += count
        _add_rows(self.windows, seen.windows)
        _add_rows(self.kept, seen.kept)

    def take(self, other: "_LayerSums") -> None:
        self.tokens += other.tokens
        self.counts = array("Q", map(int.__add__, self.counts, other.counts))
        _add_rows(self.windows, other.windows)
        _add_rows(self.kept, other.kept)
        self.dropped += other.dropped
        self.ties += other.ties
        self.judged += other.judged


def _add_rows(sums: list[list[int]], more: Iterable[Sequence[int]]) -> None:
    for there, those in zip(sums, more, strict=False):
        for place, one in enumerate(those):
            there[place] += one


class _Sums:
    """What is added up of a phase or a class: each layer."""

    def __init__(self, header: CaptureHeader) -> None:
        self.layers = [_LayerSums(layer.num_experts) for layer in header.layers]

    def take(self, other: "_Sums") -> None:
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.take(theirs)

    def folded(self, header: CaptureHeader, sample: "_Reservoir | None") -> tuple[LayerRouting, ...]:
        across = sample.curves(header) if sample is not None else [()] * len(header.layers)
        return tuple(
            LayerRouting(
                layer=layer.layer,
                num_experts=layer.num_experts,
                experts_per_token=sum(sums.counts) / sums.tokens,
                tokens=sums.tokens,
                counts=tuple(sums.counts),
                in_sequence=growth_curve(sums.windows, layer.num_experts),
                across=curve,
                overlap=tuple((float(d), both / of) for d, (of, both) in zip(DISTANCES, sums.kept, strict=True) if of),
                near_ties=sums.ties / sums.judged if sums.judged else None,
                dropped=sums.dropped,
            )
            for layer, sums, curve in zip(header.layers, self.layers, across, strict=True)
            if sums.tokens
        )


class _Reservoir:
    """Some tokens of some sequences, each sequence alike likely: what a step of many sequences is drawn from."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        fitting = SAMPLED_BYTES // (row_bytes * SAMPLED_TOKENS)
        self.most = max(WINDOWS[-1], min(SAMPLED_SEQUENCES, fitting))
        self.tokens = max(1, min(SAMPLED_TOKENS, SAMPLED_BYTES // (row_bytes * self.most)))
        self.chance = random.Random(SEED)  # noqa: S311 - no secret
        self.offered = 0
        self.rows: list[list[bytes]] = []

    def add(self, experts: bytes, first: int, end: int) -> None:
        """Offer the tokens `first` to `end` of a sequence; each sequence so far stays with the same chance."""
        self.offered += 1
        place = len(self.rows) if len(self.rows) < self.most else self.chance.randrange(self.offered)
        if place >= self.most:
            return
        taken = self.chance.sample(range(first, end), min(self.tokens, end - first))
        rows = [experts[token * self.row_bytes : (token + 1) * self.row_bytes] for token in taken]
        if place == len(self.rows):
            self.rows.append(rows)
        else:
            self.rows[place] = rows

    def curves(self, header: CaptureHeader) -> list[Curve]:
        """By layer: mean distinct experts of n tokens, each of another sequence; up to as many n as there are sequences."""
        chance = random.Random(SEED)  # noqa: S311 - no secret
        rounds = []
        for _ in range(min(MOST_ROUNDS, -(-DRAWN_TOKENS // len(self.rows)))):
            order = chance.sample(range(len(self.rows)), len(self.rows))
            rounds.append([(sequence, chance.randrange(len(self.rows[sequence]))) for sequence in order])
        flats = [[_unpacked(row) for row in rows] for rows in self.rows]
        curves: list[Curve] = []
        for place, layer in enumerate(header.layers):
            bits, start, end = _bits(layer.num_experts), place * header.places, (place + 1) * header.places
            masks = [
                [None if flat[start] == NOT_HERE else _mask(bits, flat[start:end]) for flat in rows] for rows in flats
            ]
            sums = [[0, 0, 0] for _ in WINDOWS]
            for drawn in rounds:
                found = [masks[sequence][token] for sequence, token in drawn]
                _add_rows(sums, distinct_by_windows([mask for mask in found if mask is not None]))
            curves.append(growth_curve(sums, layer.num_experts))
        return curves


def _mask(bits: Sequence[int], chosen: Iterable[int]) -> int:
    mask = 0
    for expert in chosen:
        mask |= bits[expert]
    return mask


@lru_cache(maxsize=4)
def _bits(num_experts: int) -> list[int]:
    """One bit per expert, none for ids that are no expert's: looked up for each choice, so a list, not a shift."""
    return [1 << expert for expert in range(num_experts)] + [0] * (NO_EXPERT + 1 - num_experts)


def _unpacked(experts: bytes) -> "array[int]":
    flat = array("H", experts)
    if sys.byteorder == "big":
        flat.byteswap()
    return flat
