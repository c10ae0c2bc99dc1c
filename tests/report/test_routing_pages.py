"""Pages of routing: every layer and expert that counts, curves where the file has them, one layer as well as many."""

from __future__ import annotations

import json
from functools import cache

import pytest

from moeplan.report.as_json import as_json
from moeplan.report.routing_drift_html import routing_drift_html
from moeplan.report.routing_placement_html import routing_placement_html
from moeplan.report.routing_report_html import routing_report_html
from moeplan.routing.drift import drift
from moeplan.routing.placing import place
from moeplan.routing.report import report
from moeplan.routing.result import Drift, Report
from tests.report.read_pages import read
from tests.routing.synthetic import EXAMPLES

CAPTURE, FP8 = (str(EXAMPLES / name) for name in ("synthetic.jsonl", "synthetic-fp8.jsonl"))
PROFILE, LATER = (str(EXAMPLES / name) for name in ("synthetic.yaml", "synthetic-later.yaml"))


@cache
def reported(file: str, *layers: str) -> Report:
    return report(file, layers=layers)


@cache
def drifted(*files: str, bound: float | None = None) -> Drift:
    return drift(*files, bound=bound)


@pytest.mark.parametrize("found", [(CAPTURE,), (PROFILE,), (CAPTURE, "3")], ids=["capture", "profile", "one layer"])
def test_a_report_has_every_layer_in_its_map_and_its_tables(found: tuple[str, ...]) -> None:
    told = reported(*found)
    page = read(routing_report_html(told))
    assert page.told == json.loads(as_json(told))
    busiest = page.charts["Tokens of each expert over the mean of its layer"]
    assert len(busiest) == len(told.layers)
    for mark, layer in zip(busiest, told.layers, strict=True):
        most = layer.tokens_by_expert.index(max(layer.tokens_by_expert))
        assert mark == f"layer {layer.layer}: expert {most} has most, {layer.busiest_over_mean:.2f} times the mean"
    spread = page.charts["Spread of each layer beside what chance gives"]
    assert [mark.partition(":")[0] for mark in spread] == [f"layer {layer.layer}" for layer in told.layers]
    assert len(page.tables["How evenly experts are used"]) == len(told.layers)


def test_coverage_is_the_median_of_layers_beside_chance() -> None:
    told = reported(CAPTURE)
    page = read(routing_report_html(told))
    rows = {row[0]: row[1:] for row in page.tables["Share of a layer's experts that a batch touches"]}
    shares = sorted(
        each.distinct / layer.num_experts for layer in told.layers for each in layer.in_sequence if each.tokens == 8
    )
    middle = (shares[2] + shares[3]) / 2  # of six layers
    assert rows["8"][0] == f"{100 * middle:.1f} %"
    # 32 experts, 4 of them for each token, all alike: 32 (1 - (7/8)^8)
    assert rows["8"][-1] == f"{100 * (1 - (7 / 8) ** 8):.1f} %"
    assert rows["1"] == ["12.5 %"] * 4


def test_counts_alone_have_no_curves() -> None:
    told = reported(PROFILE)
    bare = told._replace(layers=tuple(layer._replace(in_sequence=(), across=()) for layer in told.layers))
    assert "Share of a layer's experts that a batch touches" not in read(routing_report_html(bare)).charts


def test_drift_tells_every_layer_the_bound_and_the_noise() -> None:
    told = drifted(PROFILE, LATER, bound=0.1)
    page = read(routing_drift_html(told))
    assert page.told == json.loads(as_json(told))
    marks = page.charts["Distance of each layer's use of experts"]
    assert len(marks) == len(told.layers)
    for mark, layer in zip(marks, told.layers, strict=True):
        assert mark == f"layer {layer.layer}: {layer.distance:.3f}, noise goes to {layer.noise:.3f}"
    assert "BEYOND THE BOUND" in page.words
    assert "The dashed line is the bound of 0.1" in page.words
    assert "Tokens of the same prompts in both files" not in page.charts


def test_two_captures_of_the_same_prompts_are_held_token_by_token() -> None:
    told = drifted(CAPTURE, FP8)
    page = read(routing_drift_html(told))
    assert told.agreement is not None
    assert len(page.charts["Tokens of the same prompts in both files"]) == 2 * len(told.layers)
    assert "The dashed line" not in page.words


def test_a_placement_has_its_ranks_before_and_after_and_every_number_of_copies() -> None:
    told = place(PROFILE, ranks=8, redundant=[0, 8, 16], live=LATER)
    page = read(routing_placement_html(told))
    assert page.told == json.loads(as_json(told))
    spare = [row.redundant_experts for row in told.sweep.spare]
    curves = page.charts["Balancedness over copies"]
    assert len(curves) == 3 * len(spare)  # planned on, single steps, live
    assert [row[0].split()[0] for row in page.tables["Numbers of copies"]] == ["by", *map(str, spare)]
    assert "What a step saves" not in page.charts  # no GPU, no times
    for title, placed in (
        ("Load of each rank, experts by number", False),
        ("Load of each rank, experts as placed", True),
    ):
        for mark, layer in zip(page.charts[title], told.layers, strict=True):
            loads = layer.live if placed else layer.live_before
            assert loads is not None
            assert mark.endswith(f"{loads.busiest_over_mean:.2f} times the mean")
    assert len(page.charts["Each layer before and after"]) == 2 * len(told.layers)


def test_a_law_has_no_layers_and_times_where_a_gpu_is_named() -> None:
    told = place(
        None, ranks=32, redundant=[0, 32], model="deepseek-v3", skew=0.65, gpu="h200", concurrency=2048, offline=True
    )
    page = read(routing_placement_html(told))
    assert set(page.charts) == {"Balancedness over copies", "What a step saves"}
    # One base for all, so that the curve compares its points: experts in their order.
    in_order, saved = told.sweep.in_order, page.charts["What a step saves"]
    expected = []
    for phase, base in (("decode", in_order.decode_s), ("prefill", in_order.prefill_s)):
        for row in told.sweep.spare:
            seconds = getattr(row, phase).seconds
            assert base is not None
            name = {"decode": "decode", "prefill": "prompts"}[phase]
            expected.append(f"{name}, {row.redundant_experts} copies: {100 - 100 * seconds / base:.2f} %")
    assert saved == expected
