"""The best plan as a deployment file: what `check` reads in it is what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.errors import InputError
from moeplan.plan.result import PlanResult
from moeplan.sources.deployments.written import FILE_NAMES, KINDS

CASES: dict[str, dict[str, Any]] = {
    "one GPU": {"model": "olmoe", "gpus": ["l40s"], "max_gpus": 1},
    "tensor parallel": {"model": "qwen3-30b-a3b", "gpus": ["l40s"], "max_gpus": 4, "rank": "latency"},
    "replicas": {"model": "olmoe", "gpus": ["l40s"], "max_gpus": 4, "rank": "latency", "concurrency": 64},
    "data parallel": {"model": "deepseek-v2-lite", "gpus": ["h100-sxm"], "max_gpus": 2, "rank": "latency", "concurrency": 128},
    "dense": {"model": "llama-3.1-8b", "gpus": ["h100-sxm"], "max_gpus": 2, "rank": "latency"},
    "fp8 made on load": {"model": "qwen3-30b-a3b", "gpus": ["h100-sxm"], "max_gpus": 1, "quants": ["fp8"]},
}  # fmt: skip


def plan(model: str, **asked: Any) -> PlanResult:
    known: dict[str, Any] = {
        "quants": ["stored"],
        "engines": ["vllm"],
        "pools": "together",
        "concurrency": 16,
        "context": "4k",
    }
    return moeplan.plan(model, **(known | {"offline": True} | asked))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_file_passes_check_and_holds_what_was_planned(case: str, kind: str, tmp_path: Path) -> None:
    found = plan(**CASES[case], emit=kind)
    assert found.deployment is not None
    assert found.deployment.kind == kind
    path = tmp_path / FILE_NAMES[kind]  # type: ignore[index]
    path.write_text(found.deployment.text, encoding="utf-8")
    checked = moeplan.check(path, offline=True)
    assert [each.message for each in checked.findings if each.level in ("error", "unknown")] == []
    (judged,) = checked.deployments
    plan_ = found.best
    assert plan_ is not None
    (pool,) = plan_.pools
    assert (judged.verdict, judged.engine, judged.engine_version) == ("pass", plan_.engine, plan_.engine_version)
    assert (judged.gpu, judged.gpus_per_engine) == (plan_.profile, pool.layout.num_gpus)
    assert (judged.tp, judged.pp, judged.dp, judged.ep) == (
        pool.layout.tp, pool.layout.pp, pool.layout.dp, pool.layout.ep,
    )  # fmt: skip
    if kind != "vllm-yaml":  # one server of it; a comment says how many
        assert judged.replicas == pool.replicas
    memory = judged.memory
    assert memory is not None
    assert memory.max_concurrency is not None
    assert memory.max_concurrency * pool.layout.dp == pool.max_concurrency
    # `check` counts one sequence, which the engine needs to start; the plan all that a GPU is asked to hold.
    in_group = -(-pool.sequences // pool.layout.dp)
    told = moeplan.estimate(
        found.model.id, gpu=f"{pool.layout.num_gpus}x{plan_.profile}", engine=plan_.engine, engine_args=pool.launch,
        offline=True,
    )  # fmt: skip
    assert told.verdict.headroom_bytes == memory.headroom_bytes
    assert memory.headroom_bytes is not None
    cache_bytes = (memory.headroom_bytes - pool.headroom_bytes) / max(1, in_group - 1)
    assert cache_bytes == pytest.approx(told.kv_cache.bytes_at_context / pool.layout.tp, rel=0.01)


def test_the_command_writes_the_file_that_python_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from moeplan import cli

    words = ["plan", "olmoe", "--gpus", "l40s", "--max-gpus", "1", "--quant", "stored", "--engine", "vllm", "--pools",
             "together", "--concurrency", "16", "--context", "4k", "--offline", "--emit", "k8s"]  # fmt: skip
    assert cli._run([*words, "-o", str(tmp_path / "deployment.yaml")]) == 0
    assert capsys.readouterr() == ("", "")
    found = plan(**CASES["one GPU"], emit="k8s")
    assert found.deployment is not None
    assert (tmp_path / "deployment.yaml").read_text(encoding="utf-8") == found.deployment.text
    assert cli._run(words) == 0
    assert capsys.readouterr().out == found.deployment.text


@pytest.mark.parametrize(
    ("asked", "message", "way_out"),
    [
        ({"emit": "helm"}, "'helm'", "k8s, compose, vllm-yaml"),
        ({"emit": "k8s", "pools": "apart", "max_gpus": 4}, "prefill and decode apart", "--pools together"),
        ({"emit": "k8s", "quants": ["int4"]}, "checkpoint", "--quant stored"),
        ({"emit": "vllm-yaml", "engines": ["sglang"]}, "vllm", ""),
    ],
)
def test_what_no_file_can_say_is_refused_with_a_way_out(asked: dict[str, Any], message: str, way_out: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(**{"model": "olmoe", "gpus": ["l40s"], "max_gpus": 1, **asked})
    assert message in caught.value.message
    assert way_out in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_model_of_this_machine_is_in_no_file(tmp_path: Path) -> None:
    import json

    from tests.golden.configs import MIXTRAL

    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    with pytest.raises(InputError, match="no repository of the Hub"):
        plan(str(tmp_path), gpus=["h200-sxm"], max_gpus=2, emit="k8s", concurrency=1)


def test_where_nothing_fits_there_is_no_file() -> None:
    found = plan("deepseek-v3", gpus=["l40s"], max_gpus=2, emit="k8s")
    assert (found.best, found.deployment) == (None, None)
