"""What remarks of readers do to the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check
from moeplan.check.rules import FileSeen, reading
from moeplan.check.summary import exit_code
from moeplan.core.deployed import REMARKS, FileRead, FileRemark, Spot

MODEL = "Qwen/Qwen3-30B-A3B"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  volumes: [{name: v, configMap: {name: c}}]
  containers:
  - name: main
    command: [trtllm-serve, Qwen/Qwen3-30B-A3B, --config, /v/engine.yaml, --tp_size, "2"]
    resources: {limits: {nvidia.com/gpu: 2}}
    volumeMounts: [{name: v, mountPath: /v}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data:
  engine.yaml: |
    max_seq_len: 4096
"""
TRUSS = """\
resources: {accelerator: H100:2}
trt_llm:
  build:
    checkpoint_repository: {repo: Qwen/Qwen3-30B-A3B}
    max_seq_len: 4096
    tensor_parallel_count: 2
    quantization_type: fp8
"""
COMPOSE = """\
services:
  a:
    image: vllm/vllm-openai:v0.24.0
    command: --model Qwen/Qwen3-30B-A3B --max-model-len 4096
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}
    env_file: ../secret.env
"""
SWAP = """\
matrix: {sets: {}}
models: {a: {cmd: "llama-server -hf unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M -c 4096 -ngl 99"}}
"""
HAMI = """\
servingEngineSpec:
  modelSpec:
  - name: a
    modelURL: Qwen/Qwen3-30B-A3B
    replicaCount: 1
    requestGPU: 1
    requestGPUMem: 4000
    vllmConfig: {maxModelLen: 4096}
"""


def judged(text: str, name: str, folder: Path, **options: object) -> Check:
    (folder / name).write_text(text)
    return check(folder / name, offline=True, gpu="h100", **options)  # type: ignore[arg-type]


def codes(found: Check, *families: str) -> list[tuple[str, str, int]]:
    return [(each.code, each.level, each.line) for each in found.findings if each.code.startswith(families)]


@pytest.mark.parametrize(
    ("name", "text", "code", "level", "line", "verdict"),
    [
        ("engine.yaml", POD.replace("4096", "[4096"), "READ001", "error", 18, "fail"),
        ("engine.yaml", POD.replace("name: c}\ndata", "name: d}\ndata"), "READ003", "unknown", 8, "cannot-verify"),
        ("engine.yaml", POD + "    max_seq_len: 2048\n", "HYG008", "warning", 18, None),
        ("config.yaml", TRUSS, "READ011", "info", 7, None),
        ("compose.yaml", COMPOSE, "READ011", "info", 6, "pass"),
        ("swap.yaml", SWAP, "READ003", "unknown", 1, "cannot-verify"),
        ("values.yaml", HAMI, "READ003", "unknown", 7, "cannot-verify"),
        ("Modelfile", f"FROM hf.co/{MODEL}-GGUF:Q4_K_M\n", "READ011", "info", 1, None),
        ("Modelfile", "FROM llama3\n", "READ004", "unknown", 1, "cannot-verify"),
        ("serve.sh", f"vllm serve /m/x-fp8 --served-model-name {MODEL}\n", "READ004", "unknown", 1, "cannot-verify"),
    ],
)
def test_each_kind(name: str, text: str, code: str, level: str, line: int, verdict: str | None, tmp_path: Path) -> None:
    found = judged(text, name, tmp_path)
    assert (code, level, line) in codes(found, code)
    (deployment,) = found.deployments
    if verdict is not None:
        assert deployment.verdict == verdict
    if level == "info":
        assert not [each for each in found.findings if each.level == "unknown" and each.code in ("READ001", "READ003")]


def test_settings_of_a_file_with_a_key_twice_are_kept(tmp_path: Path) -> None:
    found = judged(POD + "    max_seq_len: 2048\n", "engine.yaml", tmp_path)
    settings = {each.name: each.value for each in found.deployments[0].settings}
    assert "2048" in map(str, settings.values())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Modelfile", "# moeplan: model=Qwen/Qwen3-30B-A3B\nFROM llama3\nPARAMETER num_ctx 4096\n"),
        (
            "serve.sh",
            "# moeplan: model=Qwen/Qwen3-30B-A3B context=4096\nvllm serve /m/x-fp8 --served-model-name Qwen/Qwen3-30B-A3B\n",
        ),
    ],
)
def test_a_model_that_is_stated_closes_what_was_open(name: str, text: str, tmp_path: Path) -> None:
    found = judged(text, name, tmp_path)
    assert not codes(found, "READ003", "READ004", "READ011")
    assert found.deployments[0].model == MODEL


def test_a_recipe_is_told_and_fails_nothing(tmp_path: Path) -> None:
    found = judged("meta: {}\nmodel: {model_id: org/name}\nvariants: {}\n", "recipe.yaml", tmp_path)
    assert codes(found, "READ") == [("READ011", "info", 2)]
    assert exit_code(found) == 0


EFFECTS: Mapping[str, str] = {"broken": "READ001", "unrendered": "READ002", "missing": "READ003", "told": "READ011"}


@pytest.mark.parametrize("code", sorted(REMARKS))
def test_one_rule_tells_each_remark(code: str) -> None:
    """None is lost, and none is told twice."""
    seen = FileSeen(FileRead("a.yaml", recognised=True, remarks=(FileRemark(code, "told", Spot(1)),)), ())
    rules = [rule for rule in reading.RULES if rule.judge_file is not None and rule.code != "READ010"]
    told = [rule.code for rule in rules if rule.judge_file is not None for _ in rule.judge_file(seen)]
    effect = REMARKS[code].effect
    assert told == ([EFFECTS[effect]] if effect in EFFECTS else [])
