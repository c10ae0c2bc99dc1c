"""Published speeds with experts in host memory: no bound lies below one, none above twice the best, constants are theirs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import median

import pytest
import yaml

from benchmarks import offload
from benchmarks.offload import (
    FACTOR,
    Outcome,
    call_factors,
    host_share,
    implied,
    outcomes,
    pageable_rate,
    parts,
    predicted,
    rows,
    wait_seconds,
    without_each,
)
from moeplan.core.expert_use import LIGHT, StepTokens
from moeplan.offload.least_use import LEAST_GROWTH, STEEPEST_SKEW
from moeplan.sources.host_constants import host_constants
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.routing_priors import read_prior

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "routing-observed.yaml"
OFFLOADS = ("oss-ncmoe", "oss-prefill", "oss-lru", "kt-", "fiddler-", "tt-", "expert-copy-")


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome]:
    return {each.row.id: each for each in outcomes()}


@pytest.mark.parametrize("name", [row.id for row in predicted()])
def test_no_bound_lies_below_what_was_published(name: str, found: dict[str, Outcome]) -> None:
    each = found[name]
    assert each.low <= each.likely <= each.bound
    assert each.bound >= each.row.published


@pytest.mark.parametrize("name", [row.id for row in predicted() if row.judge == "best"])
def test_no_bound_lies_above_twice_the_best(name: str, found: dict[str, Outcome]) -> None:
    assert found[name].bound <= FACTOR * found[name].row.published


def test_what_is_likely_is_near_the_best_that_was_published(found: dict[str, Outcome]) -> None:
    """Within a third of each; farthest off are those of a desktop whose memory's speed is not stated."""
    off = [each.likely / each.row.published for each in found.values() if each.row.judge == "best"]
    assert min(off) > 2 / 3
    assert max(off) < 4 / 3


def test_a_machine_has_one_best_row_of_each_setting() -> None:
    keys = [
        (row.model, row.gpu, row.sockets, row.host_layers, row.device_fraction, row.quantity)
        for row in predicted()
        if row.judge == "best"
    ]
    assert len(keys) == len(set(keys))
    for row in predicted():
        if row.judge == "second":
            alike = (
                each for each in predicted() if each.judge == "best" and (each.model, each.gpu) == (row.model, row.gpu)
            )
            assert any(each.published > row.published for each in alike if each.device_fraction == row.device_fraction)


def test_the_shares_are_those_of_the_rows() -> None:
    share, found = host_constants()["host_bandwidth_fraction"], host_share(implied())
    assert share.low == pytest.approx(found.slow, abs=0.01)
    assert share.low <= found.slow
    assert share.value == pytest.approx(found.likely, abs=0.01)
    assert share.high == pytest.approx(found.best, abs=0.001)
    assert share.high >= found.best
    assert set(share.rows) == {each.row.id for each in implied() if each.row.judge == "best" or "random" not in each.row.id} - {
        "kt-gpuexperts-0-uniform", "kt-gpuexperts-0-frequency", "kt-gpuexperts-0-dynamic",
    }  # fmt: skip
    other = dict(without_each())["oss-ncmoe24-tg"].best
    assert f"{other:.2f}" in (share.error or "")
    (row,) = [row for row in predicted() if row.id == "oss-ncmoe24-tg"]
    mine = parts(row)
    bound = 1 / (mine.device_s.best + mine.host_bytes / (other * mine.timing.host.used.bandwidth_bytes_per_s))
    assert f"its bound too low by {100 * (1 - bound / row.published):.0f} %" in (share.error or "")
    ratios = [each.ratio for each in outcomes() if each.row.judge == "best"]
    assert f"{100 * min(ratios) - 100:.0f} to {100 * max(ratios) - 100:.0f} %" in (share.error or "")


def test_calls_are_those_of_the_rows() -> None:
    factor, found = host_constants()["device_call_factor"], call_factors()
    assert set(factor.rows) == set(found)
    assert factor.value == pytest.approx(median(found.values()), abs=0.05)
    assert factor.low == 0 < max(found.values()) <= factor.high
    without = [median([each for name, each in found.items() if name != left]) for left in found]
    assert f"the middle would be {min(without):.2f} to {max(without):.2f}" in (factor.error or "")
    likely = [each.likely / each.row.published for each in outcomes() if each.row.id in found]
    assert f"{min(likely):.2f} to {max(likely):.2f} of what was published" in (factor.error or "")


def test_the_wait_of_a_layer_and_copies_are_those_of_the_rows() -> None:
    constants = host_constants()
    assert constants["host_layer_s"].value == pytest.approx(wait_seconds(), rel=0.02)
    pageable = constants["pageable_copy_bytes_per_s"]
    assert pageable.value == pytest.approx((10e9 + pageable_rate()) / 2, rel=0.02)
    assert pageable.low < 10e9
    assert pageable_rate() < pageable.high
    (prompt,) = [each for each in outcomes() if each.row.id == "oss-prefill-ub512"]
    off = f"{100 - 100 * prompt.likely / prompt.row.published:.0f} % too slow for that row; its bound is {100 * prompt.ratio - 100:.0f} %"
    assert off in (pageable.error or "")
    (copy,) = [row for row in rows() if row.id == "expert-copy-pcie5"]
    reached = 9.0 * 2**20 / (copy.published * 1e-6)
    assert constants["pinned_copy_fraction"].value == pytest.approx(reached / (32e9 * 16 / 8 * 128 / 130), abs=0.005)
    (numa,) = [row for row in rows() if row.id == "kt-numa"]
    assert constants["second_socket_fraction"].high == numa.published / 100


def test_a_bound_that_does_not_hold_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offload.main([]) == 0
    monkeypatch.setattr(offload, "outcomes", lambda: [each._replace(bound=0.5 * each.bound) for each in outcomes()])
    assert offload.main([]) == 1
    assert "bounds that do not hold" in capsys.readouterr().out


def test_what_bounds_take_of_routing_is_the_most_extreme_that_was_published() -> None:
    highs = []
    for path in sorted(builtin_folder("routing").glob("*.yaml")):
        prior = read_prior(path)
        highs += [prior.exponent.high] if prior.exponent is not None else []
        if prior.growth is not None:
            assert prior.growth.low >= LEAST_GROWTH
    assert max(highs) == STEEPEST_SKEW
    # 72 of 128 experts of gpt-oss-120b, four for a token, by 512 tokens of code.
    assert math.log(72 / 4) / math.log(512) == pytest.approx(LEAST_GROWTH, abs=0.005)
    assert LIGHT.growing(LEAST_GROWTH).distinct(128, 4, 128, StepTokens(0, 512)) <= 72


@pytest.mark.skipif(not CORPUS.is_file(), reason="the corpus of observations is not here")
def test_the_rows_are_those_of_the_corpus_and_none_is_passed_over() -> None:
    """Further rows are those of public threads that were found later: each names its own."""
    corpus = {each["id"]: each for each in yaml.safe_load(CORPUS.read_text(encoding="utf-8"))["observations"]}
    mine = {row.id: row for row in rows()}
    assert {name for name in corpus if name.startswith(OFFLOADS)} <= set(mine)
    for name in set(mine) - set(corpus):
        assert re.match(r"ggml-org/llama\.cpp pull request \d+, ", mine[name].source)
    for name, row in ((name, row) for name, row in mine.items() if name in corpus):
        value = corpus[name]["value"]
        assert row.value == (" to ".join(map(str, value)) if isinstance(value, list) else str(value)), name
        assert row.unit == corpus[name]["unit"]
