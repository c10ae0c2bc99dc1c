"""What to go to where something fails: the plan that is named holds under the failure, asked of `estimate` directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.errors import InputError
from moeplan.plan.result import Fallback, Plan, PlanResult

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "workload.yaml"
MOE = "qwen3-30b-a3b"


def plan(model: str = MOE, **asked: Any) -> PlanResult:
    known: dict[str, Any] = {"gpus": ["h100-sxm", "l40s"], "max_gpus": 8, "quants": ["stored"], "offline": True}
    return moeplan.plan(model, **(known | asked))


def only(found: PlanResult) -> Fallback:
    (each,) = found.fallback
    return each


def held(model: str, plan: Plan, concurrency: int, **load: Any) -> Any:
    """The estimate of one replica with so many requests, its engine started as the plan starts it."""
    pool = plan.pools[-1]
    return moeplan.estimate(
        model, gpu=f"{pool.layout.num_gpus}x{plan.profile}", engine=plan.engine, engine_args=pool.launch,
        concurrency=concurrency, offline=True, **load,
    )  # fmt: skip


@pytest.mark.parametrize("concurrency", [16, 100])
def test_with_a_replica_lost_the_others_hold_the_load(concurrency: int) -> None:
    load: dict[str, Any] = {"context": "16k", "tpot": "40ms", "input": 1000, "output": 500}
    found = plan(concurrency=concurrency, fallback=["rank-lost"], **load)
    each = only(found)
    assert each.failure == "rank-lost"
    assert each.plan is not None
    assert each.plan.pooling == "together"
    (pool,) = each.plan.pools
    assert pool.replicas >= 2
    share = -(-concurrency // (pool.replicas - 1))
    assert pool.sequences >= share
    told = held(found.model.id, each.plan, share, **load)
    assert told.verdict.fits is True
    assert told.speed.meets.tpot is True


def test_a_plan_of_one_replica_does_not_survive_and_one_with_a_spare_does() -> None:
    alone = plan(gpus=["h100-sxm"], concurrency=4, fallback=["rank-lost"], context="4k")
    assert alone.best is not None
    assert alone.best.pools[0].replicas == 1
    each = only(alone)
    assert (each.survives, each.why) == (False, "its only replica is lost")
    assert each.plan is not None
    assert each.plan.num_gpus > alone.best.num_gpus


def test_a_replica_for_each_request_survives_the_loss_of_one() -> None:
    # Seven replicas take two requests each at most, as four would: the search looks at the four alone.
    load: dict[str, Any] = {"context": "4k", "input": 1000, "output": 500}
    model = "granite-3.1-1b-a400m-instruct"
    found = plan(
        model, gpus=["l40s"], engines=["vllm"], rank="latency", pools="together", concurrency=8,
        fallback=["rank-lost"], **load,
    )  # fmt: skip
    assert found.best is not None
    (pool,) = found.best.pools
    assert (pool.replicas, pool.sequences) == (8, 1)
    assert held(model, found.best, 2, **load).verdict.fits is True
    each = only(found)
    assert each.survives is True
    assert each.plan is not None
    assert (each.plan.pools[0].replicas, each.plan.pools[0].sequences) == (8, 2)


def test_a_load_that_takes_all_gpus_has_no_spare() -> None:
    found = plan(gpus=["l40s"], max_gpus=2, concurrency=1, fallback=["rank-lost"], context="4k")
    assert found.best is not None
    each = only(found)
    assert (each.survives, each.plan) == (False, None)


def test_doubled_skew_is_survived_or_another_plan_is_named() -> None:
    found = plan(concurrency=32, skew=0.5, tpot="15ms", context="8k", fallback=["skew-doubled"])
    each = only(found)
    assert "1" in each.told
    assert "0.5" in each.told
    assert found.best is not None
    assert each.plan is not None
    assert each.plan.speed is not None
    assert each.plan.speed.tpot.value_s <= 0.015
    if each.survives:
        assert each.plan.pools[0].layout == found.best.pools[0].layout
        assert found.best.speed is not None
        # The same plan again, under a load that is harder or, where experts are few, easier on memory.
        assert each.plan.speed.tpot != found.best.speed.tpot


def test_a_dense_model_does_not_mind_the_skew() -> None:
    found = plan("llama-3.1-8b", concurrency=8, context="4k", fallback=["skew-doubled"])
    each = only(found)
    assert each.survives is True
    assert each.plan == found.best


def test_context_at_its_99th_percentile() -> None:
    found = plan(workload=EXAMPLE, fallback=["context-p99"], max_gpus=8)
    each = only(found)
    # The longest class of the file: 28k in and 2,500 out.
    assert "30,500 tokens" in each.told
    assert each.survives is False
    if each.plan is not None:
        assert each.plan.meets is True
    where_one_length_is_stated = plan(concurrency=8, context="16k", input=1000, fallback=["context-p99"])
    assert "16,000 tokens" in only(where_one_length_is_stated).told


def test_the_dense_alternative_is_planned_for_the_same_load() -> None:
    load: dict[str, Any] = {"concurrency": 32, "context": "8k", "tpot": "40ms"}
    found = plan(dense="qwen3-8b", **load)
    each = only(found)
    assert (each.failure, each.survives) == ("dense", None)
    assert "Qwen3-8B" in each.told
    other = plan("qwen3-8b", **{**load, "quants": []})
    assert each.plan == other.best


def test_a_dense_alternative_that_nothing_serves_is_said() -> None:
    found = plan(
        concurrency=1, context="4k", gpus=["l40s"], max_gpus=2, dense="llama-3.1-405b-instruct", engines=["vllm"]
    )
    each = only(found)
    assert each.plan is None
    assert "GiB" in each.why


def test_all_is_all_three_in_their_order() -> None:
    found = plan(concurrency=8, context="4k", fallback=["context-p99", "all"])
    assert sorted(each.failure for each in found.fallback) == ["context-p99", "rank-lost", "skew-doubled"]
    with pytest.raises(InputError, match="unknown failure"):
        plan(concurrency=8, fallback=["fire"])
