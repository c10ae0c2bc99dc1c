"""Published figures of routers stand beside the predictions; the one that has to lie in the default band does."""

from __future__ import annotations

import random
from math import comb, inf
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from benchmarks import routing_observed
from benchmarks.routing_observed import (
    BALANCER_LOADS,
    BAND,
    BAR,
    JUDGES,
    WORDS,
    Outcome,
    Row,
    at_least_one,
    cells,
    line_through,
    main,
    outcome,
    outcomes,
    passes,
    rows,
    step_slope_s,
    unpredicted,
)
from moeplan.core.coverage import distinct_uniform
from moeplan.core.expert_use import GateSkew

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "data" / "routing-observed.yaml"


@pytest.fixture(scope="module")
def by_id() -> dict[str, Outcome]:
    return {each.row.id: each for each in outcomes()}


def row(name: str) -> Row:
    return next(each for each in rows() if each.id == name)


# The bar ----------------------------------------------------------------------------------------------------


def test_the_window_of_128_tokens_lies_in_the_default_band(by_id: dict[str, Outcome]) -> None:
    found = by_id[BAR]
    assert (found.row.experts, found.row.experts_per_token, found.row.tokens) == (256, 8, 128)
    assert found.low <= 131 <= found.high
    # independent tokens touch 252 (facts on routing, 2c), and the band reaches no further
    assert found.high == pytest.approx(distinct_uniform(256, 8, 128)) == pytest.approx(252, abs=0.5)
    assert passes(outcomes())


def test_the_bar_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    higher = [use for use in BAND if use.growth >= 0.6]
    assert not passes([outcome(row(BAR), higher)])
    assert not passes([])
    monkeypatch.setattr(routing_observed, "outcomes", lambda: (outcome(row(BAR), higher),))
    assert main() == 1


def test_the_band_goes_from_even_gates_to_twice_the_light_skew() -> None:
    assert {use.exponent for use in BAND} == {0.0, 0.3, 0.6}
    assert {use.growth for use in BAND} == {0.57, 0.7, 0.91}


# Rows -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of observations does not lie beside the checkout")
def test_every_observation_is_predicted_or_says_why_not() -> None:
    corpus = {each["id"]: each for each in yaml.safe_load(CORPUS.read_text(encoding="utf-8"))["observations"]}
    left = [name for ids in unpredicted().values() for name in ids]
    mine = {each.id for each in rows() if not each.id.startswith("eplb-readme")}
    assert len(left) == len(set(left))
    assert not mine & set(left)
    assert mine | set(left) == set(corpus)
    for each in rows():
        if each.id in mine:
            theirs = corpus[each.id]
            ends = theirs["value"] if isinstance(theirs["value"], list) else [theirs["value"]]
            if each.id == "qwen3-30b-reuse-n2":  # published as 1 - distinct / 2k
                ends = [round(16 * (1 - ends[0]), 2)]
            assert (each.value, each.upto) == (ends[0], ends[-1]), each.id
            assert (each.experts, each.experts_per_token) == (theirs["experts"], theirs["top_k"]), each.id


def test_every_row_names_model_setting_and_source_and_none_is_passed_over() -> None:
    for each in rows():
        assert each.model, each.id
        assert each.setting, each.id
        assert each.source, each.id
    assert {each.judge for each in rows()} <= set(JUDGES) == set(WORDS)
    assert len(rows()) == 37
    assert sum(map(len, unpredicted().values())) == 105


def test_errors_have_a_sign_and_a_range_lies_inside_only_as_a_whole() -> None:
    one = Outcome(row("olmoe-16k-rows-max"), 542.25, 900.0, 1300.0)
    assert one.error == pytest.approx(542.25 / 1084.5 - 1) == pytest.approx(-0.5)
    assert one.inside
    assert not one._replace(high=1204.0).inside
    assert not one._replace(low=965.0).inside
    assert cells(one)[4:8] == ("542.2", "-50%", "900 to 1300", "yes")


# Predictions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "cv", "expert", "rank"), [(0.5, 0.78, 7.6, 1.81), (0.6, 1.04, 10.5, 2.17), (0.7, 1.34, 14.0, 2.64)]
)
def test_busiest_and_spread_are_those_of_draws(skew: float, cv: float, expert: float, rank: float) -> None:
    """Simulated with 256 experts, 8 a token, 4,096 tokens, 32 ranks (facts on routing, 3c); inclusions are a tenth off."""
    use, experts, ranks = GateSkew(skew), row("trt-r1-expert-std-none"), row("trt-r1-rank-imb-none")
    assert JUDGES["variation"](experts, use) == pytest.approx(cv, rel=0.1)
    assert JUDGES["busiest_over_mean"](experts, use) == pytest.approx(expert, rel=0.1)
    assert JUDGES["busiest_over_mean"](ranks, use) == pytest.approx(rank, rel=0.1)
    assert JUDGES["busiest_excess"](ranks, use) == pytest.approx(JUDGES["busiest_over_mean"](ranks, use) - 1)


def test_the_heavy_skew_that_was_published_gives_the_figures_without_a_balancer(by_id: dict[str, Outcome]) -> None:
    for name in ("trt-r1-rank-imb-none", "trt-r1-expert-imb-none", "trt-r1-rank-std-none", "trt-r1-expert-std-none"):
        assert not by_id[name].inside, name
        # Inclusions of single experts are off by a tenth and more (core/coverage.py:inclusion_of).
        assert JUDGES[row(name).judge](row(name), GateSkew(0.68)) == pytest.approx(row(name).value, rel=0.12), name


def test_sharing_an_expert_by_chance_is_exact_and_grows_with_what_is_shared() -> None:
    assert at_least_one(8, 2, 0.25) == pytest.approx(1 - comb(6, 2) / comb(8, 2))  # 0.464, as Mixtral's paper has it
    assert at_least_one(64, 4, 4 / 64) == pytest.approx(1 - comb(60, 4) / comb(64, 4))
    assert [round(at_least_one(8, 2, each), 3) for each in (0.0, 1.0)] == [0.0, 1.0]
    assert at_least_one(8, 2, 0.4) > at_least_one(8, 2, 0.3)


def test_sharing_an_expert_is_that_of_weighted_draws() -> None:
    """Pairs drawn by chance, kept with odds of 3 for each shared expert: the law's own making, from draws."""
    chance, kept = random.Random(5), []  # noqa: S311 - no secret
    for _ in range(40_000):
        shared = len(set(chance.sample(range(8), 2)) & {0, 1})
        if chance.random() < 3.0**shared / 9:
            kept.append(shared)
    share = fmean(kept) / 2
    assert at_least_one(8, 2, share) == pytest.approx(fmean(each > 0 for each in kept), abs=0.015)


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("eplb-readme-layer0", (121.5, 86.5, 125, 113, 147.5, 131.5, 156, 152)),
        ("eplb-readme-layer1", (173, 179.5, 120.5, 172, 123, 152, 118.5, 117.5)),
    ],
)
def test_the_balancer_reaches_what_its_example_publishes(
    by_id: dict[str, Outcome], name: str, loads: tuple[float, ...]
) -> None:
    assert sum(loads) == sum(BALANCER_LOADS[name])
    assert by_id[name].predicted == pytest.approx(fmean(loads) / max(loads))
    assert by_id[name].inside


def test_steps_lie_on_a_line_over_distinct_experts(by_id: dict[str, Outcome]) -> None:
    found = by_id["oss-step-linear"]
    assert 0 < found.predicted < found.row.value == 1.5
    assert found.high == inf
    assert step_slope_s(found.row) > 0
    assert line_through([(0, 1), (1, 3), (2, 5)]) == pytest.approx((2, 1))


def test_distinct_experts_under_a_forced_skew_are_those_that_the_source_computed(by_id: dict[str, Outcome]) -> None:
    found = by_id["oss-distinct16-zipf0.3"]
    assert found.inside
    assert found.high / found.low == pytest.approx(1.015 / 0.985)


# What is printed ----------------------------------------------------------------------------------------------


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    out = capsys.readouterr().out
    for each in rows():
        assert f"\n{each.id} " in out
    for why, ids in unpredicted().items():
        assert f"{len(ids):>3}  {why}: {', '.join(ids)}" in out
    assert out.strip().endswith(f"{BAR} inside of the default band: kept")


def test_the_page_has_every_row() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    section = page[page.index("\n## Routing\n") : page.index("\n## Not yet measured\n")]
    assert all(f"| {each.id} |" in section for each in rows())
    assert all(name in section for ids in unpredicted().values() for name in ids)
