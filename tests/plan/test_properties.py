"""What has to hold whatever the constants are: more bandwidth, more GPUs, stricter limits, more requests; dense models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import moeplan
from moeplan.plan.result import Plan, PlanResult
from moeplan.report.as_json import as_json
from moeplan.report.plan_words import layout_words
from moeplan.sources.profile_folders import builtin_folder

MOE, DENSE = "olmoe", "llama-3.1-8b"


def plan(model: str = MOE, **asked: Any) -> PlanResult:
    known: dict[str, Any] = {
        "gpus": ["h100-sxm", "l40s"],
        "max_gpus": 4,
        "concurrency": 32,
        "context": "4k",
        "offline": True,
    }
    return moeplan.plan(model, **(known | asked))


def best(found: PlanResult) -> Plan:
    assert found.best is not None
    return found.best


def usd(found: PlanResult) -> float:
    cost = best(found).cost
    assert cost is not None
    return cost.usd_per_hour


def tpot_s(found: PlanResult) -> float:
    speed = best(found).speed
    assert speed is not None
    return speed.tpot.value_s


def profile_of_ones_own(folder: Path, name: str, times: int) -> Path:
    """A folder with a built-in card under another name, its bandwidth, rates and links so many times as fast."""
    card = yaml.safe_load((builtin_folder("hardware") / f"{name}.yaml").read_text(encoding="utf-8"))
    card |= {"name": "NVIDIA Example", "aliases": ["example"]}
    card.pop("shared_names", None)
    card.pop("default_for", None)
    card["memory_bandwidth_bytes_per_s"] *= times
    rates = card["dense_flops_per_s"]
    card["dense_flops_per_s"] = {each: rate and rate * times for each, rate in rates.items()}
    if card["links"]["scale_up"]:
        card["links"]["scale_up"]["bytes_per_s_per_direction"] *= times
    path = folder / "hardware" / "example.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return folder


@pytest.mark.parametrize("model", [MOE, DENSE])
@pytest.mark.parametrize("rank", ["cost", "latency"])
def test_more_bandwidth_never_makes_the_best_plan_slower(model: str, rank: str, tmp_path: Path) -> None:
    times = []
    for factor in (1, 2, 4):
        folder = profile_of_ones_own(tmp_path / str(factor), "nvidia-h100-sxm", factor)
        found = plan(model, gpus=["example"], profiles=folder, rank=rank, quants=["stored"])
        assert best(found).gpu == "NVIDIA Example"
        times.append(tpot_s(found))
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0]


def test_more_gpus_never_raise_the_cost_of_the_best() -> None:
    costs = [
        usd(plan("qwen3-30b-a3b", gpus=["l40s", "rtx-4090"], max_gpus=most, tpot="45ms", quants=["stored"]))
        for most in (4, 6, 8, 12)
    ]
    assert costs == sorted(costs, reverse=True)


def test_more_gpus_never_add_weights_to_a_rank() -> None:
    """Of layouts of one kind, by the room that is left for a fixed load."""
    room = {
        pool.layout.tp: pool.headroom_bytes
        for most in (1, 2, 4)
        for pool in best(plan(DENSE, gpus=["h100-sxm"], max_gpus=most, engines=["vllm"], pools="together", rank="latency",
                              concurrency=1, quants=["stored"])).pools
    }  # fmt: skip
    assert list(room) == [1, 2, 4]
    assert list(room.values()) == sorted(room.values())


def test_stricter_limits_never_make_it_cheaper() -> None:
    costs = [
        usd(plan("qwen3-30b-a3b", max_gpus=8, tpot=limit, quants=["stored"]))
        for limit in ("100ms", "20ms", "12ms", "9ms")
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    first = [usd(plan(max_gpus=8, input="3k", output=200, ttft=limit)) for limit in ("2s", "300ms", "100ms")]
    assert first == sorted(first)


def test_more_requests_never_make_it_cheaper() -> None:
    costs = [
        usd(plan("qwen3-30b-a3b", max_gpus=8, context="16k", concurrency=count, quants=["stored"]))
        for count in (1, 8, 64, 128)
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_rankings_put_their_own_first() -> None:
    found = {rank: plan("qwen3-30b-a3b", max_gpus=8, rank=rank) for rank in ("cost", "gpus", "latency", "throughput")}
    assert best(found["gpus"]).num_gpus == min(best(each).num_gpus for each in found.values())
    assert usd(found["cost"]) == min(map(usd, found.values()))
    assert tpot_s(found["latency"]) == min(map(tpot_s, found.values()))
    rates = [speed.tokens_per_s_per_gpu for each in found.values() if (speed := best(each).speed)]
    assert len(rates) == 4
    assert rates[3] == max(rates)


@pytest.mark.parametrize("model", [DENSE, "llama-3.1-70b-instruct"])
def test_a_dense_model_has_no_expert_terms(model: str) -> None:
    found = plan(model, gpus=["h200-sxm"], max_gpus=8)
    assert (found.model.num_experts, found.model.experts_per_token) == (None, None)
    assert found.frontier
    for each in (*found.frontier, *found.smaller_formats):
        for pool in each.pools:
            assert (pool.layout.dp, pool.layout.ep, pool.layout.dp_attention) == (1, 1, False)
            assert not any("expert" in word or "data" in word for word in pool.launch)
            assert "EP" not in layout_words(pool.layout)
        assert each.speed is not None
        assert "expert" not in each.speed.binding
    # How experts are chosen changes nothing.
    even = plan(model, gpus=["h200-sxm"], max_gpus=8, skew=0.0)
    assert even.frontier == found.frontier


def test_the_same_question_has_the_same_answer() -> None:
    asked: dict[str, Any] = {"fallback": ["all"], "tpot": "20ms"}
    assert as_json(plan(**asked)) == as_json(plan(**asked))


def test_a_number_before_a_card_is_the_most_of_it() -> None:
    found = plan(gpus=["2xh100-sxm"], max_gpus=8, rank="latency")
    assert max(each.num_gpus for each in found.frontier) == 2


def test_an_arrival_rate_is_turned_into_requests_in_flight() -> None:
    """Little's law, by hand: 4 per second, each 1 s + 200 x 20 ms."""
    found = plan(concurrency=None, arrival="4/s", ttft="1s", tpot="20ms", input=500, output=200)
    assert found.workload.concurrency == 4 * (1 + 200 * 0.02)
    assert found.workload.origins["concurrency"] == "inferred"
    assert [note.code for note in found.notes].count("arrival-concurrency") == 1
