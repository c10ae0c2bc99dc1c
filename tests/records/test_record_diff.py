"""Two records: what fails, which cause may be named, what is not comparable, and what is told of all that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moeplan
from moeplan.core.errors import InputError
from moeplan.core.record import Record
from moeplan.records.result import Compared, RecordDiff
from moeplan.report.as_json import as_json
from moeplan.report.record_diff_words import cause_words, change_words, verdict_words
from tests.records.result_files import SGLANG, VLLM, written

BASE: dict[str, Any] = {
    "gpu": "2xh100", "concurrency": 16, "context": "8k", "input": "2k", "output": 500, "date": "2026-11-22",
    "driver": "580.65", "torch": "2.9.1",
}  # fmt: skip


def made(**other: Any) -> Record:
    asked = BASE | other
    record = moeplan.record(asked.pop("model", "qwen3-30b-a3b"), **asked)
    assert isinstance(record, Record)
    return record


def figure(diff: RecordDiff, name: str, known: str = "measured") -> Compared:
    return next(each for each in diff.figures if each.name == name and each.known == known)


def compared(a: Record, b: Record, **asked: Any) -> RecordDiff:
    diff = moeplan.record_diff(a, b, **asked)
    assert isinstance(diff, RecordDiff)
    return diff


# What fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["ttft_p95", "tpot_p99", "e2e_p95", "itl_p99"])
def test_a_tail_that_gets_worse_fails_even_where_the_mean_improves(tail: str) -> None:
    mean = f"{tail.partition('_')[0]}_mean"
    diff = compared(made(figures=[f"{tail}=160ms", f"{mean}=150ms"]), made(figures=[f"{tail}=180ms", f"{mean}=120ms"]))
    assert diff.passed is False
    assert figure(diff, f"{tail}_s").fails
    assert figure(diff, f"{mean}_s").verdict == "better"
    assert "+12.5 %" in verdict_words(diff)
    assert "although the mean improves (-20.0 %)" in verdict_words(diff)


def test_a_mean_that_gets_worse_is_told_and_fails_nothing() -> None:
    diff = compared(
        made(figures=["ttft_p95=160ms", "ttft_mean=100ms"]), made(figures=["ttft_p95=160ms", "ttft_mean=150ms"])
    )
    assert diff.passed is True
    assert figure(diff, "ttft_mean_s").verdict == "worse"
    assert verdict_words(diff).startswith("PASSES")


@pytest.mark.parametrize(
    ("after", "tolerance", "passed"), [(163, 0.02, True), (164, 0.02, False), (175, 0.1, True), (161, 0.0, False)]
)
def test_the_tolerance_is_a_share_of_what_was_before(after: int, tolerance: float, passed: bool) -> None:
    diff = compared(made(figures=["ttft_p95=160ms"]), made(figures=[f"ttft_p95={after}ms"]), tolerance=tolerance)
    assert diff.passed is passed


def test_a_change_of_just_the_tolerance_is_none() -> None:
    """As floats 102 ms are a little more than 2 % above 100 ms."""
    for before, after in ((100, 102), (50, 51), (1000, 1020)):
        diff = compared(made(figures=[f"ttft_p95={before}ms"]), made(figures=[f"ttft_p95={after}ms"]))
        assert figure(diff, "ttft_p95_s").verdict == "same", (before, after)


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.01), (5e-324, 1e15)])
def test_what_was_nothing_before_has_no_share(before: float, after: float) -> None:
    a, b = (
        CACHED._replace(measured=CACHED.measured._replace(figures=(FIGURE._replace(value=value),)))
        for value in (before, after)
    )
    for pair, told in (((a, b), ("worse", None)), ((b, a), ("better", -1.0))):
        diff = compared(*pair)
        found = figure(diff, "ttft_p95_s")
        assert (found.verdict, found.change_fraction) == told
        assert json.loads(as_json(diff))["passed"] is not found.fails


def test_huge_changes_have_few_digits() -> None:
    a, b = (
        CACHED._replace(measured=CACHED.measured._replace(figures=(FIGURE._replace(value=value),)))
        for value in (1e-9, 1e9)
    )
    assert change_words(figure(compared(a, b), "ttft_p95_s")) == "+1e+20 %"


def test_quality_that_gets_worse_fails_in_its_own_direction() -> None:
    for before, after, passed in (
        ("mmlu=0.712", "mmlu=0.711", False), ("mmlu=0.712", "mmlu=0.713", True), ("ppl=6.1", "ppl=6.2", False),
        ("ppl=6.1", "ppl=6.0", True), ("mmlu=0.712+-0.004", "mmlu=0.706+-0.004", True),
        ("mmlu=0.712+-0.002", "mmlu=0.706+-0.002", False),
    ):  # fmt: skip
        assert compared(made(quality=[before]), made(quality=[after])).passed is passed, (before, after)
    assert compared(made(quality=["mmlu=0.712"]), made(quality=["mmlu=0.711"]), quality_tolerance=0.01).passed is True


def test_scores_of_other_harnesses_are_not_compared() -> None:
    diff = compared(made(quality=["mmlu=0.7"], quality_how="5-shot"), made(quality=["mmlu=0.6"], quality_how="0-shot"))
    assert diff.passed is None
    assert figure(diff, "mmlu", "scored").verdict == "not comparable"
    assert "5-shot" in verdict_words(diff)


def test_requests_that_fail_fail(tmp_path: Path) -> None:
    before = written(tmp_path, "a.json", VLLM | {"failed": 0, "completed": 200})
    diff = compared(made(measured=before), made(measured=written(tmp_path, "b.json", VLLM)))
    assert diff.passed is False
    assert figure(diff, "failed_fraction").fails


def test_what_does_not_fit_any_more_fails() -> None:
    diff = compared(made(gpu="2xh100", concurrency=64), made(gpu="2xl4", concurrency=64))
    assert (diff.fits_before, diff.fits_after, diff.passed) == (True, False, False)
    assert "does not fit any more" in verdict_words(diff)


def test_estimates_gate_nothing() -> None:
    diff = compared(made(), made(kv_dtype="fp8"))
    assert diff.passed is True
    assert verdict_words(diff).startswith("NOTHING FAILS: neither record")


def test_nothing_is_held_to_where_only_b_has_tails() -> None:
    diff = compared(made(), made(figures=["ttft_p95=180ms"]))
    assert diff.passed is True
    assert verdict_words(diff).startswith("NOTHING FAILS: A has no p95")


# Noise --------------------------------------------------------------------------------------------------------


def runs(folder: Path, name: str, times: list[float]) -> Path:
    return written(folder, name, [SGLANG | {"p99_ttft_ms": time} for time in times])


def test_runs_that_overlap_are_the_same_whatever_their_medians(tmp_path: Path) -> None:
    near = compared(
        made(measured=runs(tmp_path, "a.jsonl", [200, 210, 260])),
        made(measured=runs(tmp_path, "b.jsonl", [230, 250, 280])),
    )
    assert figure(near, "ttft_p99_s").verdict == "same"
    assert near.passed is True
    far = compared(
        made(measured=runs(tmp_path, "c.jsonl", [200, 210, 220])),
        made(measured=runs(tmp_path, "d.jsonl", [230, 250, 280])),
    )
    assert far.passed is False
    assert "one-run" not in {note.code for note in far.notes}


def test_single_runs_say_that_noise_is_not_excluded(tmp_path: Path) -> None:
    diff = compared(made(measured=runs(tmp_path, "a.jsonl", [200])), made(measured=runs(tmp_path, "b.jsonl", [250])))
    assert "one-run" in {note.code for note in diff.notes}


def test_what_neither_tells_may_have_changed_unseen() -> None:
    def told(**known: Any) -> list[str]:
        a, b = made(figures=["ttft_p95=1s"], **known), made(figures=["ttft_p95=2s"], **known)
        return [note.message for note in compared(a, b).notes if note.code == "not-recorded"]

    assert told(engine_version="0.33.0") == []
    assert told() == ["neither record tells the engine's version: it may have changed unseen"]
    assert told(torch=None) == ["neither record tells the torch nor the engine's version: it may have changed unseen"]


# Causes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "path", "words"),
    [
        ({"kv_dtype": "fp8"}, "precision.kv_cache", "cache dtype bfloat16 -> fp8"),
        ({"quant": "fp8"}, "precision.weights", "weights bf16 -> "),
        ({"gpu": "2xh200"}, "hardware.profile", "GPU nvidia-h100-sxm -> nvidia-h200-sxm"),
        ({"gpu": "4xh100"}, "layout.tp", "TP 2 -> 4"),
        ({"engine_version": "0.19.0"}, "engine.version", "engine version 0.33.0 -> 0.19.0"),
        ({"utilization": 0.85}, "engine.options.--gpu-memory-utilization", "--gpu-memory-utilization 0.92 -> 0.85"),
        ({"engine_args": "--enforce-eager"}, "engine.options.--enforce-eager", "--enforce-eager not set -> on"),
        ({"engine_args": "--max-num-seqs 8"}, "engine.options.--max-num-seqs", "--max-num-seqs 1,024 -> 8"),
        ({"engine_args": "--scheduling-policy priority"}, "engine.other_flags.--scheduling-policy", "not set -> priority"),
        ({"driver": "570.10"}, "software.driver", "driver 580.65 -> 570.10"),
    ],
)  # fmt: skip
def test_one_setting_is_named(other: dict[str, Any], path: str, words: str) -> None:
    known = {"engine_version": "0.33.0"}
    diff = compared(made(**known), made(**known | other))
    assert [each.path for each in diff.settings] == [path]
    assert diff.cause == path
    assert words in cause_words(diff)
    assert "what differs goes with it" in cause_words(diff)


def test_the_same_said_in_moeplans_words_or_the_engines_is_no_change() -> None:
    ours = made(engine_version="0.33.0", tp=2, kv_dtype="fp8")
    theirs = made(engine_version="0.33.0", engine_args="vllm serve -tp 2 --kv-cache-dtype=fp8 --port 8001")
    diff = compared(ours, theirs)
    assert not diff.settings
    assert not diff.unknown


def test_one_dtype_that_llama_cpp_says_in_two_flags_is_one_setting() -> None:
    alike = {"gpu": "2xrtx-4090", "engine_version": "b9000"}
    words = "llama-server -c 128000 -np 16"
    diff = compared(made(**alike, engine_args=f"{words} -ctk q8_0 -ctv q8_0"), made(**alike, engine_args=words))
    assert [each.path for each in diff.settings] == ["precision.kv_cache"]
    keys = compared(made(**alike, engine_args=f"{words} -ctk q8_0"), made(**alike, engine_args=words))
    assert [each.path for each in keys.settings] == ["engine.options.--cache-type-k"]


def test_drafts_are_one_setting_and_their_acceptance_only_an_estimate() -> None:
    asked = {"model": "deepseek-v3", "gpu": "8xh200", "engine_version": "0.33.0"}
    diff = compared(made(**asked), made(**asked, draft_tokens=1, acceptance=0.8))
    assert [each.path for each in diff.settings] == ["engine.options.--speculative-config"]
    other = compared(made(**asked, draft_tokens=1, acceptance=0.6), made(**asked, draft_tokens=1, acceptance=0.8))
    assert not other.settings
    assert [each.path for each in other.estimated_otherwise] == ["speculation.acceptance"]


@pytest.mark.parametrize(
    ("before", "after", "settings", "follows"),
    [
        ({"gpu": "8xh100"}, {"gpu": "8xh100", "pp": 2}, ["layout.pp"], ["layout.tp", "layout.pp_layers"]),
        ({"gpu": "8xh100", "tp": 8}, {"gpu": "8xh100", "tp": 4, "pp": 2}, ["layout.pp", "layout.tp"], ["layout.pp_layers"]),
        (
            {"gpu": "4xh100", "tp": 4}, {"gpu": "8xh100", "tp": 4, "dp": 2}, ["layout.dp"],
            ["layout.dp_attention", "hardware.num_devices"],
        ),
        ({"gpu": "8xh100"}, {"gpu": "16xh100"}, ["layout.tp"], ["layout.num_nodes", "hardware.num_devices"]),
        ({}, {"engine_args": "--cpu-offload-gb 4"}, ["engine.options.--cpu-offload-gb"], []),
    ],
)  # fmt: skip
def test_degrees_and_loads_that_follow_are_no_settings(
    before: dict[str, Any], after: dict[str, Any], settings: list[str], follows: list[str]
) -> None:
    """Also where nobody knows how fast one of the two is: 16 GPUs, weights in host memory."""
    model = {"model": "qwen3-235b-a22b", "engine_version": "0.33.0"}
    diff = compared(made(**model | before), made(**model | after))
    assert [each.path for each in diff.settings] == settings
    assert [each.path for each in diff.follows] == follows


def test_a_figure_by_hand_is_not_held_against_a_run_under_another_load(tmp_path: Path) -> None:
    by_hand = made(figures=["ttft_p95=180ms"])
    same, other = (
        made(measured=written(tmp_path, f"{users}.json", VLLM | {"max_concurrency": users})) for users in (16, 32)
    )
    assert figure(compared(by_hand, same), "ttft_p95_s").verdict == "same"
    diff = compared(by_hand, other)
    assert [each.path for each in diff.settings] == ["measured.runs.concurrency"]
    assert diff.passed is None


def test_costs_at_prices_of_other_kinds_are_not_compared() -> None:
    listed, mine = (
        made(figures=["output_tokens_per_s=1000"]),
        made(figures=["output_tokens_per_s=1000", "usd_per_hour=4"]),
    )
    assert figure(compared(listed, listed), "usd_per_million_output_tokens").verdict == "same"
    found = figure(compared(listed, mine), "usd_per_million_output_tokens")
    assert (found.verdict, found.why) == ("not comparable", "cost at the list price -> at a price given by hand")


def test_room_of_one_rank_is_not_held_against_that_of_several() -> None:
    asked = {"engine_version": "0.33.0", "gpu": "4xh100"}
    diff = compared(made(**asked, tp=4), made(**asked, tp=2, dp=2))
    assert figure(diff, "kv_tokens", "estimated").verdict == "not comparable"
    assert figure(diff, "needed_bytes", "estimated").verdict == "worse"


def test_two_settings_name_no_cause() -> None:
    diff = compared(made(), made(kv_dtype="fp8", engine_args="--enforce-eager"))
    assert len(diff.settings) == 2
    assert diff.cause is None
    assert cause_words(diff) == "2 settings changed: no cause can be named; change one at a time"


def test_a_setting_that_one_side_does_not_tell_may_have_changed() -> None:
    diff = compared(made(), made(kv_dtype="fp8", driver=None))
    assert [each.path for each in diff.unknown] == ["software.driver"]
    assert diff.cause is None
    assert "no cause can be named" in cause_words(diff)
    version = compared(made(engine_version="0.33.0"), made())
    assert [each.path for each in version.unknown] == ["engine.version"]


def test_nothing_changed_and_figures_did() -> None:
    diff = compared(made(figures=["ttft_p95=160ms"]), made(figures=["ttft_p95=180ms"]))
    assert "noise, or something that the records do not hold" in cause_words(diff)
    assert diff.cause is None
    assert cause_words(compared(made(), made())) == "no recorded setting changed"


def test_another_engine_is_told_with_the_flags_that_were_stated_for_either() -> None:
    diff = compared(made(), made(engine="sglang"))
    assert [each.path for each in diff.settings] == ["engine.name"]
    both = compared(made(engine_args="--enforce-eager"), made(engine="sglang"))
    assert [each.path for each in both.settings] == ["engine.name", "engine.options.--enforce-eager"]


def test_what_moves_estimates_alone_is_told_apart() -> None:
    diff = compared(made()._replace(tool_version="0.0.9"), made(kv_dtype="fp8"))
    assert diff.cause == "precision.kv_cache"
    assert [each.path for each in diff.estimated_otherwise] == ["tool_version"]
    assert "estimated-otherwise" in {note.code for note in diff.notes}


# Comparability ------------------------------------------------------------------------------------------------


def test_two_models_are_not_comparable() -> None:
    both = {"figures": ["ttft_p95=160ms"], "quality": ["mmlu=0.7"]}
    diff = compared(made(**both), made(model="gpt-oss-20b", **both))
    assert diff.passed is None
    assert {each.verdict for each in diff.figures} <= {"not comparable", "not in A", "not in B"}
    assert verdict_words(diff).startswith("NOT JUDGED")
    assert [each.path for each in diff.settings] == ["model.id"]
    assert "of two models no figure is comparable" in cause_words(diff)


@pytest.mark.parametrize("other", [{"concurrency": 32}, {"input": "4k"}, {"context": "16k"}, {"arrival": "2/s"}])
def test_two_loads_compare_in_quality_alone(other: dict[str, Any]) -> None:
    both = {"figures": ["ttft_p95=160ms"], "quality": ["mmlu=0.7"]}
    diff = compared(made(**both), made(**both | other))
    assert [each.of for each in diff.settings] == ["load"]
    assert diff.passed is None
    for each in diff.figures:
        assert (each.verdict == "not comparable") == (each.head != "quality"), each.name


def test_runs_under_other_loads_are_not_comparable(tmp_path: Path) -> None:
    diff = compared(
        made(measured=written(tmp_path, "a.json", VLLM)),
        made(measured=written(tmp_path, "b.json", VLLM | {"max_concurrency": 32})),
    )
    assert diff.passed is None
    assert figure(diff, "ttft_p95_s").verdict == "not comparable"


def test_measured_wins_and_estimates_stay() -> None:
    diff = compared(made(figures=["ttft_mean=150ms"]), made(figures=["ttft_mean=140ms"]))
    assert figure(diff, "ttft_mean_s").counted
    assert not figure(diff, "ttft_mean_s", "estimated").counted
    one = compared(made(figures=["ttft_mean=150ms"]), made())
    assert figure(one, "ttft_mean_s").verdict == "not in B"
    assert figure(one, "ttft_mean_s", "estimated").counted


def test_a_tail_or_score_that_b_lacks_leaves_it_open() -> None:
    for missing in ({"figures": ["ttft_p95=160ms"]}, {"quality": ["mmlu=0.7"]}):
        diff = compared(made(**missing), made())
        assert diff.passed is None
        assert "is in A and not in B" in verdict_words(diff)
        assert compared(made(), made(**missing)).passed is True


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.floats(0, 0.5))
def test_better_turned_around_is_worse(before: float, after: float, tolerance: float) -> None:
    a, b = (
        CACHED._replace(measured=CACHED.measured._replace(figures=(FIGURE._replace(value=value),)))
        for value in (before, after)
    )
    there = figure(compared(a, b, tolerance=tolerance), "ttft_p95_s")
    assert there.fails == (after > before * (1 + tolerance) and there.verdict == "worse")
    assert (there.verdict == "better") == (after < before and there.verdict != "same")
    exact = [figure(compared(*pair, tolerance=0), "ttft_p95_s").verdict for pair in ((a, b), (b, a))]
    assert exact in (["better", "worse"], ["worse", "better"], ["same", "same"])


CACHED = made(figures=["ttft_p95=1s"])
FIGURE = CACHED.measured.figures[0]


@pytest.mark.parametrize("asked", [{"tolerance": -0.1}, {"tolerance": 1.0}, {"quality_tolerance": float("nan")}])
def test_tolerances_are_shares(asked: dict[str, float]) -> None:
    with pytest.raises(InputError):
        moeplan.record_diff(CACHED, CACHED, **asked)
