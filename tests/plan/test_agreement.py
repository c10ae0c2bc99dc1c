"""Each plan that is shown says what `estimate` says of the command that starts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.plan.result import Plan, PlanResult

LOAD: dict[str, Any] = {"context": "8k", "input": 2000, "output": 300}
MODELS: dict[str, dict[str, Any]] = {
    "qwen3-30b-a3b": {"gpus": ("h100-sxm", "l40s"), "max_gpus": 4},
    "deepseek-v2-lite": {"gpus": ("h200-sxm",), "max_gpus": 8},
    "llama-3.1-8b": {"gpus": ("h100-sxm", "rtx-4090"), "max_gpus": 4},
    "qwen3-8b": {"gpus": ("l40s",), "max_gpus": 2, "kv_dtype": "fp8"},
}


@pytest.fixture(scope="module", params=MODELS)
def found(request: pytest.FixtureRequest) -> PlanResult:
    return moeplan.plan(request.param, **MODELS[request.param], **LOAD, concurrency=48, offline=True)


def asked(found: PlanResult, plan: Plan, number: int = 0) -> Any:
    """The estimate of one replica of a pool, asked in the engine's own words."""
    pool = plan.pools[number]
    # What TensorRT-LLM reads from its file stands in no word of its command.
    kv_dtype = MODELS.get(found.model.id.rpartition("/")[2].lower(), {}).get("kv_dtype")
    return moeplan.estimate(
        found.model.id,
        gpu=f"{pool.layout.num_gpus}x{plan.profile}",
        engine=plan.engine,
        engine_args=pool.launch,
        quant=plan.format if plan.format_origin == "other checkpoint" else None,
        concurrency=pool.sequences,
        kv_dtype=kv_dtype if plan.engine == "trtllm" else None,
        offline=True,
        **LOAD,
    )


def together(found: PlanResult) -> list[Plan]:
    return [plan for plan in (*found.frontier, *found.smaller_formats) if plan.pooling == "together"]


def test_headroom_and_room_are_those_of_the_estimate(found: PlanResult) -> None:
    assert together(found)
    for plan in together(found):
        told, (pool,) = asked(found, plan), plan.pools
        assert told.verdict.fits is True
        assert pool.headroom_bytes == told.verdict.headroom_bytes, plan
        assert pool.headroom_low_bytes == told.verdict.headroom_low_bytes
        assert pool.certain == told.verdict.certain
        assert pool.layout.num_nodes == told.layout.num_nodes
        assert pool.max_concurrency == told.capacity.max_concurrency * pool.layout.dp


def test_times_are_those_of_the_estimate(found: PlanResult) -> None:
    for plan in together(found):
        told, (pool,) = asked(found, plan).speed, plan.pools
        assert plan.speed is not None
        assert plan.speed.ttft == pytest.approx(told.ttft)
        assert plan.speed.tpot == pytest.approx(told.tpot)
        assert plan.speed.output_tokens_per_s.value == pytest.approx(
            told.output_tokens_per_s.total.value * pool.replicas
        )
        assert (plan.speed.binding, plan.speed.regime) == (told.binding, told.regime)


def test_two_pools_fit_and_are_worked_out_of_their_estimates() -> None:
    found = moeplan.plan(
        "qwen3-30b-a3b",
        gpus=["h100-sxm"],
        max_gpus=8,
        pools="apart",
        quants=["stored"],
        concurrency=48,
        offline=True,
        **LOAD,
    )
    assert found.frontier
    for plan in found.frontier:
        assert plan.pooling == "apart"
        assert [pool.role for pool in plan.pools] == ["prefill", "decode"]
        assert plan.num_gpus == sum(pool.replicas * pool.layout.num_gpus for pool in plan.pools) <= 8
        prefill, decode = asked(found, plan, 0), asked(found, plan, 1)
        for pool, told in zip(plan.pools, (prefill, decode), strict=True):
            assert pool.headroom_bytes == told.verdict.headroom_bytes >= 0
        assert plan.speed is not None
        # No prompt is read between two tokens.
        assert plan.speed.tpot.value_s == pytest.approx(decode.speed.decode_step.seconds)
        assert plan.speed.tpot.value_s < decode.speed.tpot.value_s
        # A prompt alone, before it waits and its cache is sent.
        alone = moeplan.estimate(
            found.model.id, gpu=f"{plan.pools[0].layout.num_gpus}x{plan.profile}", engine=plan.engine,
            engine_args=plan.pools[0].launch, concurrency=1, context="8k", input=2000, output=1, offline=True,
        ).speed  # fmt: skip
        assert alone is not None
        alone_s = alone.ttft.value_s
        replicas = plan.pools[0].replicas
        requests_per_s = plan.speed.output_tokens_per_s.value / 300
        # As many prompts as are answered keep the prefill replicas at most as busy as they were counted for.
        assert requests_per_s * alone_s / replicas <= 0.7
        assert alone_s < plan.speed.ttft.value_s < 3 * alone_s
        # Little's law: in flight = rate x time in the system.
        time_s = plan.speed.ttft.value_s + 299 * plan.speed.tpot.value_s
        assert requests_per_s * time_s == pytest.approx(48)


CLASSES = """
schema: moeplan.workload/1
context: 12k
concurrency: 64
classes:
  - {name: easy, share: 70, input_tokens: 500, output_tokens: 300}
  - {name: long, share: 30, input_tokens: 10000, output_tokens: 500, ttft: LIMIT}
"""


@pytest.mark.parametrize(("limit_s", "some"), [(0.3, False), (0.4, True)])
def test_two_pools_keep_the_limits_of_each_class(limit_s: float, some: bool, tmp_path: Path) -> None:
    # Prompts are 3,350 tokens on average, which hides how long one of 10,000 takes on a single card: more than 0.3 s.
    file = tmp_path / "workload.yaml"
    file.write_text(CLASSES.replace("LIMIT", f"{limit_s}s"))
    found = moeplan.plan(
        "qwen3-30b-a3b", gpus=["h100-sxm"], max_gpus=16, pools="apart", quants=["stored"], workload=file, offline=True
    )
    assert bool(found.frontier) is some
    for plan in found.frontier:
        pool = plan.pools[0]
        alone = moeplan.estimate(
            found.model.id, gpu=f"{pool.layout.num_gpus}x{plan.profile}", engine=plan.engine, engine_args=pool.launch,
            concurrency=1, context="12k", input=10_000, output=1, offline=True,
        ).speed  # fmt: skip
        assert alone is not None
        assert alone.ttft.value_s < limit_s


def test_cost_is_price_times_gpus_and_tokens(found: PlanResult) -> None:
    prices = {each.profile: each.price for each in moeplan.gpus().gpus}
    for plan in together(found):
        price = prices[plan.profile]
        assert price is not None
        assert plan.cost is not None
        assert plan.speed is not None
        assert plan.cost.usd_per_hour == pytest.approx(price.high_usd_per_hour * plan.num_gpus)
        assert plan.cost.usd_per_hour_low == pytest.approx(price.low_usd_per_hour * plan.num_gpus)
        hourly = plan.speed.output_tokens_per_s.value * 3600 / 1e6
        assert plan.cost.usd_per_million_output_tokens == pytest.approx(plan.cost.usd_per_hour / hourly)
        assert plan.profile in plan.cost.source
        assert price.as_of in plan.cost.source
