"""The latency model keeps its bounds on shapes that it was not fitted to, and its files are what the fit says."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from benchmarks.collector_routing import Case, balanced, group_limited, power_law, routed
from benchmarks.fit_latency import SHARED
from benchmarks.latency import STARTS, Judged, by, by_range, counted, folds, judged, main, passes, score, starts
from benchmarks.latency_fits import Job, fitted, quantile
from benchmarks.latency_rows import PROFILES, ROWS, Group, groups, models_of, rows
from moeplan.core.latency import seconds
from moeplan.sources.kernel_constants import all_sets
from moeplan.sources.profile_folders import builtin_folder


@pytest.fixture(scope="module")
def found() -> list[Judged]:
    return counted()


def test_the_bounds_are_kept(found: list[Judged]) -> None:
    total = score(found)
    assert total.mean <= 0.19
    assert total.median <= 0.095
    assert 0.87 <= total.covered <= 0.93
    assert total.ratio <= 2
    assert passes(total)


def test_the_rows_that_count_are_all_of_kernels_with_three_shapes(found: list[Judged]) -> None:
    wide = {group: part for group, part in groups().items() if len(models_of(part)) >= 3}
    assert len(wide) == 29
    assert len(found) == sum(len(part) for part in wide.values()) == 11_980
    assert {each.row.ranks for each in found} == {1, 2, 4, 8}


def test_bands_hold_in_every_range_of_tokens(found: list[Judged]) -> None:
    for name, each in by_range(found).items():
        assert 0.85 <= each.covered <= 0.95, name
        assert each.ratio <= 2, name


def test_the_bounds_can_be_broken(found: list[Judged]) -> None:
    assert not passes(score([each._replace(predicted_s=each.predicted_s * 1.3) for each in found]))
    assert not passes(score([each._replace(low=0.9, high=1.1) for each in found]))
    assert not passes(score([each._replace(low=0.1, high=10) for each in found]))


def test_every_kernel_and_shape_has_a_fold_of_its_own() -> None:
    pairs = {
        (group, model) for group, part in groups().items() for model in models_of(part) if len(models_of(part)) > 1
    }
    assert set(folds()) == pairs
    assert len({fold.constants for fold in folds().values()}) == len(pairs)


FITTED_AGAIN = sorted(key for key in folds() if len(models_of(groups()[key[0]])) >= 3)[::12]


@pytest.mark.parametrize(
    ("group", "model"), FITTED_AGAIN, ids=lambda part: part if isinstance(part, str) else part.name[:40]
)
def test_a_fold_is_the_fit_without_that_shape(group: Group, model: str) -> None:
    others = tuple(each for each in models_of(groups()[group]) if each != model)
    again, stored = fitted(Job(group, others)), folds()[group, model].constants
    for row in groups()[group]:
        if row.model == model:
            once, twice = (seconds(constants, row.device, row.work) for constants in (stored, again))
            assert once == pytest.approx(twice, rel=5e-3)


def test_what_ships_is_the_fit_to_all_shapes() -> None:
    group = next(
        each for each in groups() if (each.system, each.backend, each.dtype) == ("h100_sxm", "trtllm", "bfloat16")
    )
    (kernel,) = [
        each
        for each in all_sets(builtin_folder("kernels"))
        if (each.hardware, each.backend, each.kernel, each.dtype)
        == (PROFILES[group.system], group.backend, group.kernel, group.dtype)
    ]
    models = models_of(groups()[group])
    assert kernel.rows == {model: sum(row.model == model for row in groups()[group]) for model in models}
    again = fitted(Job(group, tuple(models)))
    for row in groups()[group]:
        assert seconds(kernel.constants, row.device, row.work) == pytest.approx(
            seconds(again, row.device, row.work), rel=5e-3
        )


def test_errors_of_the_files_are_those_of_the_folds() -> None:
    told = {
        (each.hardware, each.backend, each.dtype, each.kernel): each for each in all_sets(builtin_folder("kernels"))
    }
    some = [each for each in judged() if each.row.ranks <= 8]
    for group in {each.row.group for each in some}:
        one = score([each for each in some if each.row.group == group])
        kernel = told[PROFILES[group.system], group.backend, group.dtype, group.kernel]
        assert (kernel.mean_error, kernel.median_error) == pytest.approx((one.mean, one.median), abs=1e-3), group.name


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.latency.carried", list)  # seconds of fits, shown and judged by nobody
    monkeypatch.setattr("benchmarks.latency.starts", list)
    assert main() == 0
    out = capsys.readouterr().out
    for name in ("1-8", "16-64", "80-512", "768-4096", "6144+", "16 expert ranks", "h100_sxm vllm 0.24.0 fp8_block"):
        assert name in out
    assert out.strip().endswith("kept")


def test_refits_gain_nothing_by_a_start_from_elsewhere() -> None:
    """Why `START` is where a machine's refit begins; whoever gains more than half a point of error may change that."""
    found = starts()
    assert {(each.kind, each.one_rank, each.points) for each in found} == {
        (kind, one_rank, points) for kind in STARTS for one_rank in (False, True) for points in (12, 24, 40)
    }
    for each in found:
        assert each.kernels >= 14
        assert each.borrowed[1] > each.generic[1] - 0.005, each


# Rows and routings --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.exists(), reason="the shared table does not lie beside the checkout")
def test_the_compact_rows_are_the_shared_ones() -> None:
    with SHARED.open(encoding="utf-8", newline="") as file:
        theirs = {
            (
                row["system"], row["backend"], row["backend_version"], row["dtype"], row["kernel"], row["model"],
                int(row["tp"]), int(row["ep"]), int(row["tokens"]), row["distribution"],
            ): float(row["latency_ms"]) * 1e-3
            for row in csv.DictReader(file)
        }  # fmt: skip
    ours = {(*row.group, row.model, row.tp, row.ranks, row.tokens, row.distribution): row.seconds for row in rows()}
    assert set(ours) == set(theirs)
    assert all(ours[key] == pytest.approx(theirs[key], rel=1e-4) for key in ours)


def test_attribution_stands_beside_the_rows() -> None:
    text = (Path(ROWS).parent / "moe-latency.md").read_text(encoding="utf-8")
    for word in ("ai-dynamo/aiconfigurator", "Apache License 2.0", "NVIDIA CORPORATION & AFFILIATES", "095f58a5"):
        assert word in text
    assert gzip.decompress(ROWS.read_bytes()).decode().startswith("model\t")


def test_balanced_routing_deals_experts_in_turn() -> None:
    # 8 experts, 2 each: token 0 takes 0 and 4, token 1 takes 1 and 5.
    assert balanced(4, 8, 2) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    # Two tokens over a stride of 4: the second one starts half a stride on.
    assert balanced(2, 8, 2) == [[0, 4], [2, 6]]
    # Expert counts: min(E, n k) distinct, over all ranks; a rank holds its share.
    for tokens, ranks, distinct, pairs in ((1, 1, 8, 8), (4, 4, 8, 8), (64, 2, 64, 256), (1024, 8, 16, 1024)):
        got = routed(Case(128, 8, "plain", ranks, tokens, "balanced"))
        assert (got.distinct, got.rows) == (distinct, pairs), (tokens, ranks)


def test_power_law_routing_keeps_every_pair_and_puts_the_busiest_rank_first() -> None:
    import random

    for exponent in (1.01, 1.2):
        for tokens in (1, 16, 512):
            case = Case(64, 8, "plain", 8, tokens, f"power_law_{exponent}")
            counts = power_law(case, exponent, random.Random(3))  # noqa: S311 - no secret
            assert sum(counts) == tokens * 8
            assert min(counts) >= 0
            assert max(counts) <= tokens
            parts = [sum(counts[first : first + 8]) for first in range(0, 64, 8)]
            assert parts[0] == max(parts)


def test_limited_groups_fill_up_with_the_first_experts() -> None:
    # One token with an expert in each of 8 groups of 32: groups 0 to 3 stay, and experts 1 to 4 fill up.
    counts = group_limited([[0, 32, 64, 96, 128, 160, 192, 224]], 256, 8)
    assert [expert for expert, count in enumerate(counts) if count] == [0, 1, 2, 3, 4, 32, 64, 96]
    got = routed(Case(256, 8, "grouped", 2, 64, "balanced"))
    # All of the first rank: half of the experts, every pair.
    assert (got.distinct, got.rows) == (128, 512)


def test_folded_routing_computes_pairs_of_other_ranks() -> None:
    # 4 experts on 2 ranks, 2 each: every token has one expert here and one elsewhere, which falls on expert 0.
    got = routed(Case(4, 2, "folded", 2, 2, "balanced"))
    assert (got.tokens, got.distinct, got.rows) == (2, 2, 4)


@pytest.mark.parametrize(("router", "others"), [("early", 7), ("unspread", 7)])
def test_earlier_draws_put_a_single_token_on_the_first_rank(router: str, others: int) -> None:
    # One token, 8 of 256 experts, 8 ranks: shares round to nothing, and the remainder falls on neighbours.
    early = routed(Case(256, 8, router, 8, 1, "power_law_1.01"))  # type: ignore[arg-type]
    assert early.distinct > others
    assert routed(Case(256, 8, "plain", 8, 1, "power_law_1.01")).distinct < 2
    # Every pair is somewhere: without ranks all of them are here.
    assert routed(Case(64, 4, router, 1, 100, "power_law_1.2")).rows == 400  # type: ignore[arg-type]


def test_routings_of_the_file_are_drawn_again_alike() -> None:
    import benchmarks.latency_rows as table

    stored = table._routing()
    some = [case for case in sorted(stored) if case.tokens <= 256][::40]
    assert len(some) > 15
    for case in some:
        assert routed(case) == pytest.approx(stored[case], rel=1e-6), case


def test_no_row_reads_weights_faster_than_its_memory_but_from_the_cache() -> None:
    # What gave the limited groups away: weights far beyond any cache, read at more than the bandwidth.
    for row in rows():
        if row.work.weight_bytes > 3 * row.device.warm_cache_bytes + 1e9:
            assert row.work.weight_bytes / row.seconds <= 1.02 * row.device.bandwidth_bytes_per_s, row


def test_scores_by_hand() -> None:
    row = rows()[0]
    some = [
        Judged(row._replace(seconds=1.0), predicted, low, high, 3)
        for predicted, low, high in ((1.1, 0.5, 2.0), (0.8, 0.9, 1.1), (1.3, 0.7, 1.4))
    ]
    total = score(some)
    # 10, 20 and 30 % off; 1 / 0.8 = 1.25 lies above its band of 0.9 to 1.1; ratios 4, 1.22, 2.
    assert total.rows == 3
    assert (total.mean, total.median) == pytest.approx((0.2, 0.2))
    assert total.covered == pytest.approx(2 / 3)
    assert total.ratio == pytest.approx(2.0)
    assert by(some, lambda _: "all")["all"] == total
    assert quantile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
