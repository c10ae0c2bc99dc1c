"""Values of vLLM's production-stack, and its operator's object."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.deployments.reading import (
    example,
    line,
    lines_of,
    model_of,
    named,
    only,
    read,
    recognised,
    says,
)

VALUES = """\
servingEngineSpec:
  modelSpec:
    - name: one
      annotations: {moeplan/ignore: FIT001}
      repository: vllm/vllm-openai
      tag: v0.10.0
      modelURL: org/model
      modelRevision: abc
      replicaCount: 2
      requestGPU: 4
      enableLoRA: true
      vllmConfig:
        gpuMemoryUtilization: 0.8
        tensorParallelSize: 4
        maxModelLen: 1024
        enableChunkedPrefill: false
        enablePrefixCaching: true
        extraArgs:
          - --gpu-memory-utilization
          - "0.5"
      env:
        - {name: VLLM_ATTENTION_BACKEND, value: FLASHMLA}
"""


def values(spec: str) -> str:
    lines = "\n".join(f"      {each}" for each in spec.strip().splitlines())
    return (
        "servingEngineSpec:\n  modelSpec:\n    - name: one\n      repository: vllm/vllm-openai\n      tag: v0.10.0\n"
        f"      modelURL: org/model\n{lines}\n"
    )


def test_keys_become_words_in_the_order_of_the_chart_so_that_extra_arguments_win() -> None:
    one = only(read("production_stack", VALUES))
    assert (one.kind, one.name, one.engine, one.role) == ("helm.vllm-production-stack", "one", "vllm", "aggregate")
    assert line(one.command) == (
        "vllm serve org/model --enable-lora --no-enable-chunked-prefill --enable-prefix-caching --max-model-len 1024 "
        "--tensor-parallel-size 4 --gpu-memory-utilization 0.8 --gpu-memory-utilization 0.5 --revision abc"
    )
    assert lines_of(one.command, "org/model", "1024", "--tensor-parallel-size", "0.8", "0.5", "abc") == [
        7, 15, 14, 13, 20, 8,
    ]  # fmt: skip
    assert one.image is not None
    assert (one.image.text, one.image.spot.line) == ("vllm/vllm-openai:v0.10.0", 6)
    assert one.engine_version is not None
    assert one.engine_version.text.lstrip("v") == "0.10.0"
    assert one.variables["VLLM_ATTENTION_BACKEND"].text == "FLASHMLA"
    assert one.annotations["moeplan/ignore"].text == "FIT001"
    assert (one.gang.gpus_per_engine, one.gpu) == (4, None)
    assert one.gang.gpus_per_pod is not None
    assert one.gang.gpus_per_pod.spot.line == 10


def test_the_chart_switches_prefix_caching_off_where_nobody_switches_it_on() -> None:
    one = only(read("production_stack", values("vllmConfig: {dtype: half}")))
    word = next(word for word in one.command if word.text == "--no-enable-prefix-caching")
    assert word.origin == "default"
    # Without `vllmConfig` the template is passed over as a whole.
    assert line(only(read("production_stack", values("requestGPU: 1"))).command) == "vllm serve org/model"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("      modelURL:", "      enabled: false\n      modelURL:"),
        ("replicaCount: 2", "replicaCount: 0"),
        ("servingEngineSpec:\n", "servingEngineSpec:\n  enableEngine: false\n"),
    ],
)
def test_what_is_switched_off_is_passed_over(old: str, new: str) -> None:
    found = read("production_stack", VALUES.replace(old, new))
    assert (found.deployments, found.passed_over) == ((), ("one",))


def test_values_of_a_subchart_stand_below_its_name() -> None:
    lines = "".join(f"  {each}\n" for each in VALUES.splitlines())
    assert only(read("production_stack", f"router: {{}}\nstack:\n{lines}")).name == "one"


def test_keda_says_how_many_may_run() -> None:
    spec = "replicaCount: 0\nkeda: {enabled: true, minReplicaCount: 1, maxReplicaCount: 5}"
    gang = only(read("production_stack", values(spec))).gang
    assert gang.replicas is not None
    assert gang.max_replicas is not None
    assert (gang.replicas.text, gang.max_replicas.text) == ("1", "5")


# GPUs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "gpu"),
    [
        ("requestGPU: 1\nrequestGPUType: nvidia.com/mig-4g.71gb", "MIG 4g.71gb"),
        ("requestGPU: 1\nrequestGPUType: nvidia.com/gpu", None),
        ("resources: {limits: {nvidia.com/mig-1g.10gb: 2}}", "MIG 1g.10gb"),
    ],
)
def test_slices_are_asked_for_by_the_name_of_the_resource(spec: str, gpu: str | None) -> None:
    one = only(read("production_stack", values(spec)))
    assert (one.gpu.text if one.gpu is not None else None) == gpu
    assert one.gang.gpus_per_engine == (2 if "resources" in spec else 1)


SELECTED = "{{matchExpressions: [{{key: nvidia.com/gpu.product, operator: In, values: [{}]}}]}}"


def test_an_affinity_counts_before_node_selector_terms() -> None:
    terms = f"nodeSelectorTerms: [{SELECTED.format('NVIDIA-L40S')}]"
    one = only(read("production_stack", values(terms)))
    assert one.gpu is not None
    assert "L40S" in one.gpu.text
    required = (
        f"requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{SELECTED.format('NVIDIA-H200')}]}}"
    )
    other = only(read("production_stack", values(f"{terms}\naffinity: {{nodeAffinity: {{{required}}}}}")))
    assert other.gpu is not None
    assert "H200" in other.gpu.text


def test_parts_of_a_cards_memory_are_told() -> None:
    one = only(read("production_stack", values('requestGPU: 1\nrequestGPUMem: "3000"')))
    assert [(remark.code, remark.spot.line) for remark in one.remarks] == [("gpu-shared", 8)]


@pytest.mark.parametrize(
    ("spec", "pods", "gpus"),
    [
        # The head has as many as each of two workers.
        ("replicaCount: 2\nrequestGPU: 4\nraySpec: {enabled: true, headNode: {requestGPU: 4}}", "3", 12),
        ("replicaCount: 2\nrequestGPU: 4\nraySpec: {enabled: true, headNode: {requestCPU: 1}}", "2", 8),
        # 1 + 2 x 4, which no equal pods make.
        ("replicaCount: 2\nrequestGPU: 4\nraySpec: {enabled: true, headNode: {requestGPU: 1}}", None, 9),
        ("replicaCount: 2\nrequestGPU: 4\nraySpec: {enabled: false}", None, 4),
    ],
)
def test_a_ray_cluster_is_one_engine(spec: str, pods: str | None, gpus: int) -> None:
    one = only(read("production_stack", values(f"{spec}\nvllmConfig: {{pipelineParallelSize: 2}}")))
    assert one.gang.gpus_per_engine == gpus
    assert (one.gang.pods_per_engine.text if one.gang.pods_per_engine else None) == pods
    is_ray = "enabled: true" in spec
    assert (one.gang.replicas is None) is is_ray
    # A plain Deployment's template has no word for the key.
    assert says(one.command, "--pipeline-parallel-size 2") is is_ray


def test_a_leader_worker_set_has_a_stage_in_each_pod() -> None:
    spec = "replicaCount: 3\nrequestGPU: 8\nlwsSpec: {enabled: true, size: 2}\nvllmConfig: {tensorParallelSize: 8}"
    one = only(read("production_stack", values(spec)))
    assert says(one.command, "--tensor-parallel-size 8", "--pipeline-parallel-size 2", "--nnodes 2")
    assert one.gang.gpus_per_engine == 16
    assert one.gang.replicas is not None
    assert one.gang.replicas.text == "3"


@pytest.mark.parametrize(
    ("kv", "role"), [("kv_producer", "prefill"), ("kv_consumer", "decode"), ("kv_both", "aggregate")]
)
def test_the_role_follows_from_the_caches(kv: str, role: str) -> None:
    one = only(read("production_stack", values(f"lmcacheConfig: {{enabled: true, kvRole: {kv}}}")))
    assert one.role == role
    assert f'"kv_role":"{kv}"' in one.command[-1].text


# Secrets -------------------------------------------------------------------------------------------------------


def test_tokens_in_plain_text_are_told_and_not_kept() -> None:
    token = "hf_" + "a" * 20
    text = values(f"hf_token: {token}").replace(
        "servingEngineSpec:\n", "servingEngineSpec:\n  vllmApiKey: open-sesame\n"
    )
    found = read("production_stack", text)
    assert {(secret.name, secret.spot.line) for secret in found.secrets} == {("hf_token", 8), ("vllmApiKey", 2)}
    assert token not in repr(found)
    assert not read("production_stack", values("hf_token: {secretName: s, secretKey: k}")).secrets
    assert not read("production_stack", values("hf_token: <your token>")).secrets


# VLLMRuntime ---------------------------------------------------------------------------------------------------

RUNTIME = """\
apiVersion: production-stack.vllm.ai/v1alpha1
kind: VLLMRuntime
metadata: {name: runtime}
spec:
  model: {modelURL: org/model, maxModelLen: 4096, dtype: bfloat16, maxNumSeqs: 32}
  vllmConfig:
    enablePrefixCaching: true
    tensorParallelSize: 2
    gpuMemoryUtilization: "0.85"
    extraArgs: [--enforce-eager]
    env: [{name: VLLM_USE_DEEP_GEMM, value: "1"}]
  deploymentConfig:
    replicas: 2
    resources: {cpu: "8", gpu: "2"}
    image: {registry: docker.io, name: "vllm/vllm-openai:v0.11.0"}
"""


def test_the_operators_object() -> None:
    one = only(read("production_stack", RUNTIME))
    assert (one.kind, one.name, one.engine) == ("k8s.vllmruntime", "runtime", "vllm")
    assert line(one.command) == (
        "vllm serve org/model --no-enable-chunked-prefill --enable-prefix-caching --max-model-len 4096 --dtype bfloat16 "
        "--tensor-parallel-size 2 --max-num-seqs 32 --gpu-memory-utilization 0.85 --enforce-eager"
    )
    assert lines_of(one.command, "4096", "0.85") == [5, 9]
    assert one.image is not None
    assert one.image.text == "docker.io/vllm/vllm-openai:v0.11.0"
    assert one.gang.gpus_per_engine == 2
    assert one.variables["VLLM_USE_DEEP_GEMM"].text == "1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RUNTIME, True),
        (RUNTIME.replace("production-stack.vllm.ai", "example.com"), False),
        ("servingEngineSpec: {modelSpec: []}\n", True),
        ("servingEngineSpec: {}\n", False),
        ("modelSpec: []\n", False),
    ],
)
def test_it_is_recognised_by_its_keys(text: str, expected: bool) -> None:
    assert recognised("production_stack", text) is expected


# Examples ------------------------------------------------------------------------------------------------------


def test_qwen_on_v100(shared: Path) -> None:
    text, facts = example(shared, "production-stack-values-dense-qwen14b-tp4.yaml")
    one, (expected,) = only(read("production_stack", text)), facts["deployments"]
    assert (one.name, one.engine, model_of(one)) == (expected["name"], expected["engine"], expected["model"])
    assert (one.gpu, one.gang.gpus_per_engine) == (None, expected["gpus_per_engine"])
    assert one.gang.replicas is not None
    assert one.gang.replicas.whole_number() == expected["replicas"]
    assert says(one.command, f"--tensor-parallel-size {expected['tp']}", f"--max-model-len {expected['max_len']}")
    assert says(one.command, f"--dtype {expected['dtype']}", "--gpu-memory-utilization 0.9", "--enforce-eager")
    assert lines_of(one.command, "--tensor-parallel-size", "--max-model-len", "--enforce-eager") == [45, 46, 50]
    assert one.variables["VLLM_USE_V1"].text == "0"


def test_qwen3_moe(shared: Path) -> None:
    text, facts = example(shared, "production-stack-values-moe.yaml")
    found = read("production_stack", text)
    assert list(found.passed_over) == facts["skipped"]
    one, (expected,) = named(found)["qwen3-moe"], facts["deployments"]
    assert (one.engine, model_of(one), one.revision) == (expected["engine"], expected["model"], expected["revision"])
    assert one.gpu is not None
    assert expected["gpu"] in one.gpu.text
    assert one.gang.gpus_per_engine == expected["gpus_per_engine"]
    assert one.gang.replicas is not None
    assert one.gang.replicas.whole_number() == expected["replicas"]
    assert says(one.command, "--tensor-parallel-size 2", "--enable-expert-parallel", "--max-model-len 32768")
    assert says(one.command, "--max-num-seqs 64", "--kv-cache-dtype fp8", "--gpu-memory-utilization 0.9")
