"""Dynamo's graphs, in both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.deployed import Quote, Spot
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

ALPHA = """\
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata:
  name: graph
  annotations:
    moeplan/gpu: h100-sxm
spec:
  envs:
    - {name: LEVEL, value: low}
    - {name: SIZE, value: "4"}
  services:
    Frontend:
      componentType: frontend
      replicas: 1
      extraPodSpec:
        mainContainer:
          image: example/runtime:1
    Worker:
      componentType: worker
      subComponentType: prefill
      replicas: 3
      envs:
        - {name: LEVEL, value: high}
      multinode:
        nodeCount: 2
      resources:
        limits:
          gpu: "8"
      extraPodSpec:
        nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
        mainContainer:
          image: example/runtime:1
          command: [python3, -m, dynamo.sglang]
          args:
            - --model-path
            - org/model
            - --tp
            - $(SIZE)
            - --dp=2
"""


def test_a_component_of_v1alpha1_has_its_pod_spread_over_it() -> None:
    found = read("dynamo", ALPHA)
    worker = only(found)
    assert found.passed_over == ("Frontend",)
    assert (worker.kind, worker.name, worker.engine, worker.role) == ("dynamo.v1alpha1", "Worker", "sglang", "prefill")
    assert line(worker.command) == "python3 -m dynamo.sglang --model-path org/model --tp 4 --dp=2"
    assert lines_of(worker.command, "--tp", "4", "--dp=2") == [37, 38, 39]
    assert worker.variables["LEVEL"].text == "high"
    assert worker.gang.gpus_per_pod == Quote("8", Spot(28, 16, "spec.services.Worker.resources.limits.gpu"))
    assert worker.gang.pods_per_engine is not None
    assert worker.gang.pods_per_engine.spot.line == 25
    assert worker.gang.gpus_per_engine == 16
    assert worker.gang.replicas is not None
    assert worker.gang.replicas.text == "3"
    assert worker.gpu is not None
    assert "H200" in worker.gpu.text
    assert worker.annotations["moeplan/gpu"].text == "h100-sxm"
    # Dynamo's images carry an engine under a version of their own.
    assert worker.engine_version is None


BETA = """\
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  env:
    - {name: TP, value: "2"}
  components:
    - name: Planner
      type: planner
      podTemplate: {spec: {containers: [{name: main, image: x, command: [python3, -m, dynamo.planner]}]}}
    - name: Decode
      type: decode
      multinode: {}
      podTemplate:
        metadata: {annotations: {moeplan/ignore: FIT001}}
        spec:
          containers:
            - name: proxy
              image: proxy:1
              args: [--data-parallel-size=8]
            - name: main
              image: example/runtime:1
              command: [/bin/sh, -c]
              args:
                - |
                  exec python3 -m dynamo.vllm \\
                    --model org/model \\
                    --tensor-parallel-size ${TP}
              resources: {limits: {nvidia.com/gpu: "1"}}
    - name: Off
      type: worker
      replicas: 0
"""


def test_the_main_container_of_v1beta1_is_the_engine() -> None:
    found = read("dynamo", BETA)
    decode = only(found)
    assert found.passed_over == ("Planner", "Off")
    assert (decode.kind, decode.name, decode.engine, decode.role) == ("dynamo.v1beta1", "Decode", "vllm", "decode")
    assert says(decode.command, "--model org/model", "--tensor-parallel-size 2")
    assert lines_of(decode.command, "--tensor-parallel-size", "2") == [28, 28]
    assert decode.annotations["moeplan/ignore"].text == "FIT001"
    # `nodeCount` is 2 where it is left out.
    assert decode.gang.pods_per_engine is not None
    assert (decode.gang.pods_per_engine.text, decode.gang.pods_per_engine.origin) == ("2", "default")


def test_a_component_that_stands_alone() -> None:
    found = read(
        "dynamo",
        """\
apiVersion: nvidia.com/v1beta1
kind: DynamoComponentDeployment
metadata: {name: alone}
spec:
  type: worker
  podTemplate:
    spec:
      containers:
        - {name: main, image: x, command: [python3, -m, dynamo.vllm], args: [--model, org/model]}
""",
    )
    assert only(found).name == "alone"


# Roles ---------------------------------------------------------------------------------------------------------


def graph(*workers: str) -> str:
    head = "apiVersion: nvidia.com/v1beta1\nkind: DynamoGraphDeployment\nspec:\n  components:\n"
    part = (
        "    - name: w{place}\n      type: worker\n      podTemplate: {{spec: {{containers: [{{name: main, image: x,"
        " command: [python3, -m, dynamo.vllm], args: [--model, org/m{more}],"
        " resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]}}}}\n"
    )
    return head + "".join(part.format(place=place, more=more) for place, more in enumerate(workers))


@pytest.mark.parametrize(
    ("workers", "roles"),
    [
        (["", ", --max-num-seqs, 8"], ["aggregate", "aggregate"]),
        ([", --disaggregation-mode, prefill", ", --disaggregation-mode, decode"], ["prefill", "decode"]),
        # A worker that says nothing decodes beside one that only prefills.
        ([", --is-prefill-worker", ""], ["prefill", "decode"]),
        ([", --disaggregation-mode, prefill_and_decode"], ["aggregate"]),
    ],
)
def test_roles_follow_from_flags_and_from_each_other(workers: list[str], roles: list[str]) -> None:
    assert [each.role for each in read("dynamo", graph(*workers)).deployments] == roles


def test_an_encoder_holds_no_language_model() -> None:
    assert read("dynamo", graph(", --disaggregation-mode, encode")).passed_over == ("w0",)


def test_a_worker_with_gpus_and_no_known_engine_is_told() -> None:
    text = graph("").replace("dynamo.vllm", "my_server")
    found = read("dynamo", text)
    assert [remark.code for remark in found.remarks] == ["engine-unknown"]
    assert found.remarks[0].spot.line == 5


# Engine files --------------------------------------------------------------------------------------------------

ENGINE_FILE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  other.yaml: |
    max_batch_size: 1
  engine.yaml: |
    # of the engine
    tensor_parallel_size: 4
    kv_cache_config:
      free_gpu_memory_fraction: 0.8
---
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  services:
    W:
      componentType: worker
      resources: {limits: {gpu: "4"}}
      extraPodSpec:
        volumes:
          - {name: disk, persistentVolumeClaim: {claimName: c}}
          - {name: config, configMap: {name: settings}}
        mainContainer:
          image: x
          volumeMounts:
            - {name: disk, mountPath: /opt}
            - {name: config, mountPath: /opt/configs/}
          command: [python3, -m, dynamo.trtllm]
          args: [--model-path, org/model, --extra-engine-args, /opt/configs/engine.yaml, --max-batch-size, "8"]
"""


def test_an_engine_file_of_a_config_map_becomes_words_behind_the_command() -> None:
    worker = only(read("dynamo", ENGINE_FILE))
    # The file is laid over the command line, so that it comes last.
    assert line(worker.command) == (
        "python3 -m dynamo.trtllm --model-path org/model --max-batch-size 8 "
        "--tensor_parallel_size 4 --kv_cache_config.free_gpu_memory_fraction 0.8"
    )
    assert lines_of(worker.command, "--tensor_parallel_size", "0.8") == [9, 11]
    assert worker.command[-1].why == "ConfigMap settings"
    assert worker.command[-1].spot.column == 33
    assert not worker.remarks


def test_the_key_may_be_laid_under_another_name() -> None:
    text = ENGINE_FILE.replace("{name: settings}}", "{name: settings, items: [{key: other.yaml, path: engine.yaml}]}}")
    assert says(only(read("dynamo", text)).command, "--max_batch_size 1")


def test_one_key_may_be_mounted_as_a_file() -> None:
    text = ENGINE_FILE.replace("mountPath: /opt/configs/}", "mountPath: /opt/configs/engine.yaml, subPath: other.yaml}")
    assert says(only(read("dynamo", text)).command, "--max_batch_size 1")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("metadata: {name: settings}", "metadata: {name: elsewhere}", "ConfigMap settings"),
        ("  engine.yaml: |", "  absent.yaml: |", "the key engine.yaml of ConfigMap settings"),
    ],
)
def test_an_engine_file_that_is_not_there_is_told(old: str, new: str, told: str) -> None:
    worker = only(read("dynamo", ENGINE_FILE.replace(old, new)))
    (remark,) = worker.remarks
    assert remark.code == "config-map-missing"
    assert told in remark.message
    assert says(worker.command, "--extra-engine-args /opt/configs/engine.yaml")


def test_a_file_of_the_image_or_a_disk_stays_a_word() -> None:
    worker = only(read("dynamo", ENGINE_FILE.replace("/opt/configs/engine.yaml", "/opt/engine.yaml")))
    assert not worker.remarks
    assert says(worker.command, "--extra-engine-args /opt/engine.yaml")


def test_a_broken_engine_file_is_told_with_its_line() -> None:
    worker = only(read("dynamo", ENGINE_FILE.replace("    tensor_parallel_size: 4", "    tensor_parallel_size: [4")))
    (remark,) = worker.remarks
    assert remark.code == "file-broken"
    assert remark.spot.line in (9, 10, 11)


def test_overrides_in_the_command_come_last() -> None:
    text = ENGINE_FILE.replace('"8"]', '"8", --override-engine-args, \'{"tensor_parallel_size": 2}\']')
    command = only(read("dynamo", text)).command
    assert line(command).endswith("--kv_cache_config.free_gpu_memory_fraction 0.8 --tensor_parallel_size 2")
    assert not says(command, "--override-engine-args")


def test_vllm_lays_its_command_over_the_file() -> None:
    text = ENGINE_FILE.replace("dynamo.trtllm", "dynamo.vllm").replace("--extra-engine-args", "--config")
    text = text.replace("--model-path", "--model").replace("--max-batch-size", "--max-num-seqs")
    text = text.replace("    kv_cache_config:\n      free_gpu_memory_fraction: 0.8\n", "    max-num-seqs: 4\n")
    assert line(only(read("dynamo", text)).command) == (
        "python3 -m dynamo.vllm --tensor_parallel_size 4 --max-num-seqs 4 --model org/model --max-num-seqs 8"
    )


# What is recognised --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\n", True),
        ("apiVersion: example.com/v1\nkind: DynamoGraphDeployment\n", False),
        ("apiVersion: nvidia.com/v1\nkind: ClusterPolicy\n", False),
    ],
)
def test_it_is_recognised_by_kind_and_group(text: str, expected: bool) -> None:
    assert recognised("dynamo", text) is expected


def test_an_empty_graph_has_nothing() -> None:
    assert not read("dynamo", "apiVersion: nvidia.com/v1beta1\nkind: DynamoGraphDeployment\n").deployments


# Examples ------------------------------------------------------------------------------------------------------


def test_gpt_oss_on_trtllm(shared: Path) -> None:
    text, facts = example(shared, "dynamo-gpt-oss-120b-trtllm-agg.yaml")
    found = read("dynamo", text)
    worker, (expected,) = only(found), facts["deployments"]
    assert list(found.passed_over) == facts["not_a_model_server"]
    assert (worker.name, worker.engine, worker.role) == (expected["name"], expected["engine"], "aggregate")
    assert model_of(worker) == expected["model"]
    assert worker.revision is not None
    assert worker.revision.text == expected["revision"]
    assert worker.gpu is None
    assert worker.gang.gpus_per_engine == expected["gpus_per_engine"]
    assert says(worker.command, "--tensor-parallel-size 4", "--expert-parallel-size 4", "--max-batch-size 800")
    assert says(worker.command, "--free-gpu-memory-fraction 0.9", "--enable_attention_dp")
    assert not says(worker.command, "--extra-engine-args")
    assert lines_of(worker.command, "--tensor-parallel-size", "--enable_attention_dp") == [77, 9]


def test_deepseek_on_sglang(shared: Path) -> None:
    text, facts = example(shared, "dynamo-deepseek-r1-sglang-disagg-16gpu.yaml")
    found = named(read("dynamo", text))
    assert [(each.name, each.role) for each in found.values()] == [
        (each["name"], each["role"]) for each in facts["deployments"]
    ]
    for expected in facts["deployments"]:
        worker = found[expected["name"]]
        assert (worker.engine, model_of(worker)) == (expected["engine"], expected["model"])
        # The manifest counts 8 GPUs and a path: those of a sister file. This one has two nodes of 8, and a Hub id.
        assert worker.gang.gpus_per_engine == 16
        assert says(worker.command, "--tp 16", "--ep-size 16")
        assert says(worker.command, "--enable-dp-attention", "--dp 16") is expected["dp_attention"]


def test_gpt_oss_split_on_vllm(shared: Path) -> None:
    text, facts = example(shared, "dynamo-v1beta1-gpt-oss-120b-vllm-disagg.yaml")
    found = read("dynamo", text)
    assert list(found.passed_over) == facts["not_a_model_server"]
    workers = named(found)
    for expected in facts["deployments"]:
        worker = workers[expected["name"]]
        assert (worker.role, worker.engine, model_of(worker)) == (
            expected["role"],
            expected["engine"],
            expected["model"],
        )
        assert worker.gpu is not None
        assert expected["gpu"] in worker.gpu.text
        assert worker.gang.gpus_per_engine == expected["gpus_per_engine"]
        assert worker.gang.replicas is not None
        assert worker.gang.replicas.whole_number() == expected["replicas"]
        assert says(worker.command, f"--tensor-parallel-size {expected['tp']}")
    assert says(workers["PrefillWorker"].command, "--max-num-batched-tokens 32768")
    decode = workers["DecodeWorker"].command
    assert says(decode, "--enable-expert-parallel", "--kv-cache-dtype fp8")
    assert '"num_speculative_tokens":3' in line(decode)
    assert sum((each.gang.gpus_per_engine or 0) * (each.gang.replicas.whole_number() or 1 if each.gang.replicas else 1)
               for each in workers.values()) == facts["total_gpus"]  # fmt: skip
