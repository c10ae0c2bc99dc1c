"""The fold of captured choices, against counting by sets, one token at a time."""

from __future__ import annotations

import random
import tracemalloc
from array import array
from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.coverage import distinct_kept, distinct_uniform
from moeplan.core.routing_capture import (
    DISTANCES,
    NO_EXPERT,
    NOT_HERE,
    WINDOWS,
    CapturedLayer,
    CapturedPrompt,
    CaptureHeader,
    RoutingFold,
)
from moeplan.core.routing_fit import kept_fraction
from moeplan.core.routing_profile import LayerRouting, Phase, Provenance, RoutingProfile

Rows = list[list[list[int]]]
"""Experts of [tokens][layers]."""

LAYERS = (CapturedLayer(1, 10, 3), CapturedLayer(2, 70, 2))
HEADER = CaptureHeader("m", None, LAYERS, Provenance())


def packed(rows: Rows, places: int) -> bytes:
    flat = [expert for row in rows for chosen in row for expert in (chosen + [NO_EXPERT] * places)[:places]]
    return b"".join(expert.to_bytes(2, "little") for expert in flat)


def prompt(number: int, rows: Rows, prefill: int, name: str = "code", header: CaptureHeader = HEADER) -> CapturedPrompt:
    return CapturedPrompt(f"{number:064x}", name, prefill, len(rows) - prefill, packed(rows, header.places))


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[Rows, int, str]]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        token = st.tuples(
            *(
                st.lists(st.integers(0, layer.num_experts - 1), max_size=layer.experts_per_token, unique=True)
                for layer in LAYERS
            )
        ).map(list)
        rows = draw(st.lists(token, min_size=1, max_size=12))
        found.append((rows, draw(st.integers(0, len(rows))), draw(st.sampled_from(("code", "long")))))
    return found


def by_sets(parts: list[Rows], place: int) -> LayerRouting:
    """The figures of a layer, with sets: windows and distances lie within each part, and windows grow from their halves."""
    sets = [[set(row[place]) for row in rows] for rows in parts]
    tokens = sum(map(len, sets))
    hits = Counter(expert for part in sets for chosen in part for expert in chosen)
    windows: list[tuple[float, float]] = []
    for n in WINDOWS:
        starts = [(part, i) for part in sets for i in range(0, len(part) - n + 1, n)]
        distinct = sum(len(set().union(*part[i : i + n])) for part, i in starts)
        halves = sum(len(set().union(*part[j : j + n // 2])) for part, i in starts for j in (i, i + n // 2))
        if starts and n == 1:
            windows.append((1.0, distinct / len(starts)))
        elif starts:
            value = windows[-1][1] * distinct / halves * 2 if halves else windows[-1][1]
            windows.append((float(n), min(value, float(LAYERS[place].num_experts))))
    kept = []
    for d in DISTANCES:
        pairs = [(part[i], part[i + d]) for part in sets for i in range(len(part) - d)]
        if of := sum(len(first) for first, _ in pairs):
            kept.append((float(d), sum(len(first & second) for first, second in pairs) / of))
    counts = tuple(hits[expert] for expert in range(LAYERS[place].num_experts))
    return LayerRouting(
        LAYERS[place].layer, len(counts), sum(counts) / tokens, tokens, counts, tuple(windows), (), tuple(kept)
    )


@settings(max_examples=30, deadline=None)
@given(sequences())
def test_counts_windows_and_overlap_are_those_of_sets(found: list[tuple[Rows, int, str]]) -> None:
    fold = RoutingFold(HEADER)
    for number, (rows, prefill, name) in enumerate(found):
        fold.add(prompt(number, rows, prefill, name))
    profile = fold.profile()
    prompts = [rows[:prefill] for rows, prefill, _ in found if prefill]
    decoded = [rows[prefill:] for rows, prefill, _ in found if rows[prefill:]]
    assert set(profile.layers) == {"all"} | ({"prefill"} if prompts else set()) | ({"decode"} if decoded else set())
    for place in range(2):
        by_phase: dict[Phase, list[Rows]] = {"all": prompts + decoded, "prefill": prompts, "decode": decoded}
        for phase, parts in by_phase.items():
            if parts:
                layer = profile.layers[phase][place]
                assert layer._replace(across=()) == by_sets(parts, place)
        for name in ("code", "long"):
            parts = [part for rows, cut, of in found if of == name for part in (rows[:cut], rows[cut:]) if part]
            assert bool(parts) == (name in profile.classes)
            if parts:
                assert profile.classes[name][place]._replace(across=()) == by_sets(parts, place)


def test_the_curve_across_sequences_is_that_of_all_choices_of_sequences() -> None:
    # Five sequences, each of one token: all subsets can be counted.
    tokens = [{0, 1, 2}, {0, 1, 3}, {0, 1, 2}, {4, 5, 6}, {7, 8, 0}]
    fold = RoutingFold(HEADER)
    for number, chosen in enumerate(tokens):
        fold.add(prompt(number, [[sorted(chosen), [number]]], 0))
    curve = dict(fold.profile().layers["decode"][0].across)
    assert set(curve) == {1, 2, 4}
    for n, distinct in curve.items():
        expected = fmean(len(set().union(*some)) for some in combinations(tokens, int(n)))
        assert distinct == pytest.approx(expected, rel=0.02), n
    assert dict(fold.profile().layers["decode"][1].across) == {1: 1, 2: 2, 4: 4}


def drawn(chance: random.Random, experts: int, chosen: int, tokens: int, kept: float | None) -> Rows:
    """Tokens that choose uniformly, or keep each expert of the token before with a probability and fill up with others."""
    rows: Rows = []
    for _ in range(tokens):
        if kept is None or not rows:
            row = chance.sample(range(experts), chosen)
        else:
            before = rows[-1][0]
            stay = [expert for expert in before if chance.random() < kept]
            row = stay + chance.sample([e for e in range(experts) if e not in before], chosen - len(stay))
        rows.append([row])
    return rows


def folded(kept: float | None, prompts: int, tokens: int) -> RoutingProfile:
    header = CaptureHeader("m", None, (CapturedLayer(0, 64, 4),), Provenance())
    fold, chance = RoutingFold(header), random.Random(8)  # noqa: S311 - no secret
    for number in range(prompts):
        fold.add(prompt(number, drawn(chance, 64, 4, tokens, kept), 0, header=header))
    return fold.profile()


def test_independent_tokens_follow_the_closed_form_along_and_across() -> None:
    layer = folded(None, 150, 64).layers["all"][0]
    assert [n for n, _ in layer.in_sequence] == [1, 2, 4, 8, 16, 32, 64]
    assert [n for n, _ in layer.across] == [1, 2, 4, 8, 16, 32, 64, 128]
    for n, distinct in layer.in_sequence + layer.across:
        assert distinct == pytest.approx(distinct_uniform(64, 4, n), rel=0.015), n
    for d, share in layer.overlap:
        assert share == pytest.approx(4 / 64, abs=0.006), d
    assert kept_fraction(layer.in_sequence, 64, 4) == pytest.approx(4 / 64, abs=0.01)


def test_tokens_that_keep_experts_follow_the_markov_form_along_and_the_uniform_one_across() -> None:
    layer = folded(0.4, 150, 64).layers["all"][0]
    for n, distinct in layer.in_sequence:
        # The form is within 0.9 % of draws (facts on routing, 2c); 150 x 64 tokens add a percent.
        assert distinct == pytest.approx(distinct_kept(64, 4, n, 0.4), rel=0.02), n
    for n, distinct in layer.across:
        assert distinct == pytest.approx(distinct_uniform(64, 4, n), rel=0.02), n
    assert dict(layer.overlap)[1] == pytest.approx(0.4, abs=0.01)
    assert kept_fraction(layer.in_sequence, 64, 4) == pytest.approx(0.4, abs=0.015)
    assert dict(layer.in_sequence)[8] < dict(layer.across)[8] * 0.9


def test_long_prompts_of_another_kind_do_not_bend_the_curve_down() -> None:
    """Short prompts spread over experts and long ones do not: sizes that only long ones have grow as these do."""
    header = CaptureHeader("m", None, (CapturedLayer(0, 64, 2),), Provenance())
    fold = RoutingFold(header)
    for number in range(90):
        start = number % 8 * 8
        fold.add(prompt(number, [[[start + 2 * t, start + 2 * t + 1]] for t in range(4)], 4, header=header))
    for number in range(90, 100):
        fold.add(prompt(number, [[[0, 1 + t // 8 % 2]] for t in range(64)], 64, header=header))
    curve = dict(fold.profile().layers["prefill"][0].in_sequence)
    values = [curve[n] for n in sorted(curve)]
    assert values == sorted(values)
    # From 8 to 16 tokens a long prompt has a third expert beside its two, and later none.
    assert curve[16] == pytest.approx(curve[8] * 1.5)
    assert curve[64] == curve[32] == curve[16]


def test_a_curve_never_has_more_than_all_experts() -> None:
    header = CaptureHeader("m", None, (CapturedLayer(0, 4, 2),), Provenance())
    fold = RoutingFold(header)
    for number in range(50):
        fold.add(prompt(number, [[[0, 1]], [[2, 3]]], 2, header=header))
    fold.add(prompt(50, [[[0, 1]], [[0, 1]], [[2, 3]], [[2, 3]]], 4, header=header))
    assert [value for _, value in fold.profile().layers["prefill"][0].in_sequence] == pytest.approx(
        [2, 3.92, 4], abs=0.01
    )


def test_the_same_capture_gives_the_same_profile() -> None:
    assert folded(0.4, 20, 10) == folded(0.4, 20, 10)


def test_margins_and_drops_are_weighed_by_tokens() -> None:
    fold = RoutingFold(HEADER)
    rows: Rows = [[[0], [1]]] * 4
    fold.add(prompt(0, rows[:1], 1)._replace(margins=(1.0, None), dropped=(1, 0)))
    fold.add(prompt(1, rows[:3], 2, "long")._replace(margins=(0.0, None)))
    fold.add(prompt(2, rows, 0)._replace(dropped=(0, 2)))
    profile = fold.profile()
    assert [layer.near_ties for layer in profile.layers["all"]] == [0.25, None]
    assert [layer.near_ties for layer in profile.classes["long"]] == [0, None]
    assert {phase: [layer.dropped for layer in layers] for phase, layers in profile.layers.items()} == {
        "all": [1, 2],
        "prefill": [1, 0],
        "decode": [0, 2],
    }
    assert profile.layers["prefill"][0].near_ties is None


def test_failures_stay_in_the_result() -> None:
    fold = RoutingFold(HEADER)
    fold.add(prompt(0, [[[0], [1]]], 1))
    for number in range(25):
        fold.add(CapturedPrompt(f"{number:064x}", "code", 0, 0, problem="it is empty"))
    notes = fold.profile().notes
    assert len(notes) == 21
    assert notes[0] == "prompt 000000000000 is not in these figures: it is empty"
    assert notes[-1] == "5 more prompts are not in these figures"
    assert fold.sequences == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([[10], [0]], "layer 1 has experts 0 to 9, and 10 was chosen"),
        ([[0], [70]], "layer 2 has experts 0 to 69, and 70 was chosen"),
        ([[0, 0], [1]], "layer 1: a token has the same expert twice"),
        ([[0], [1, 2, 3]], "layer 2: a token has more than 2 experts"),
    ],
)
def test_choices_of_another_model_are_refused(row: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RoutingFold(HEADER).add(prompt(0, [row], 1))


def test_headers_of_no_model_are_refused() -> None:
    for layers, said in (
        ((), "no layer"),
        ((CapturedLayer(0, 4, 5),), "chooses 5 of 4"),
        ((CapturedLayer(1, 4, 1), CapturedLayer(1, 4, 1)), "do not ascend"),
    ):
        with pytest.raises(ValueError, match=said):
            RoutingFold(HEADER._replace(layers=layers))


def test_classes_are_bounded() -> None:
    fold = RoutingFold(HEADER)
    for number in range(32):
        fold.add(prompt(number, [[[0], [1]]], 1, f"c{number}"))
    with pytest.raises(ValueError, match="more than 32 classes"):
        fold.add(prompt(32, [[[0], [1]]], 1, "one more"))


def test_memory_does_not_grow_with_tokens() -> None:
    header = CaptureHeader("m", None, tuple(CapturedLayer(n, 64, 8) for n in range(4)), Provenance())
    chance = random.Random(4)  # noqa: S311 - no secret
    tokens = [array("H", chance.sample(range(64), 8)).tobytes() for _ in range(200)]
    fold, held = RoutingFold(header), []
    tracemalloc.start()
    try:
        for number in range(1000):
            experts = b"".join(chance.choices(tokens, k=40))
            fold.add(CapturedPrompt(f"{number:064x}", "code", 8, 2, experts))
            if number in (599, 999):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] < held[0] * 1.02


def test_layers_that_a_phase_never_comes_to_have_no_tokens_of_it() -> None:
    # Two layers of an encoder-decoder model: the prompt's tokens come to the first alone, decoded ones to the second.
    absent = [NOT_HERE, NOT_HERE, NOT_HERE]
    rows: Rows = [[[0, 1], absent], [[0, 2], absent], [absent, [5]], [absent, [6]], [absent, [6]]]
    fold = RoutingFold(HEADER)
    fold.add(prompt(1, rows, 2)._replace(margins=(0.5, 0.0), dropped=(1, 0)))
    found = fold.profile().layers
    assert [layer.layer for layer in found["prefill"]] == [1]
    assert [layer.layer for layer in found["decode"]] == [2]
    encoder, decoder = found["all"]
    assert (encoder.tokens, encoder.experts_per_token, encoder.dropped, encoder.near_ties) == (2, 2.0, 1, 0.5)
    assert (decoder.tokens, decoder.experts_per_token, decoder.counts[6]) == (3, 1.0, 2)
    assert encoder.across[0] == (1.0, 2.0)  # no token counts that never came
    assert decoder.across[0] == (1.0, 1.0)
    assert decoder.overlap[0] == (1.0, 0.5)
    with pytest.raises(ValueError, match="layer 1: some tokens of a phase come to it, and some never do"):
        RoutingFold(HEADER).add(prompt(1, [[absent, [5]], [[0, 1], [5]]], 2))
