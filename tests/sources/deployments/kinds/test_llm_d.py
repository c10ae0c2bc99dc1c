"""llm-d: values of the modelservice chart, and scenarios of its benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.llm_d_layout import spread_of
from moeplan.sources.deployments.nodes import compose
from tests.sources.deployments.reading import example, line, lines_of, model_of, named, only, read, recognised, says

VALUES = """\
multinode: true
modelArtifacts:
  name: org/model
  uri: "hf://{{ .Values.modelArtifacts.name }}"
decode:
  replicas: 2
  acceleratorTypes: {labelKey: nvidia.com/gpu.product, labelValues: [NVIDIA-H200]}
  parallelism: {tensor: 2, data: 8, dataLocal: 4}
  containers:
    - name: vllm
      image: vllm/vllm-openai:v0.10.0
      modelCommand: vllmServe
      args: ["--max-model-len", "4096"]
"""


def test_the_command_follows_from_layout_and_model() -> None:
    decode = only(read("llm_d", VALUES))
    assert (decode.kind, decode.name, decode.engine, decode.role) == (
        "helm.llm-d-modelservice",
        "decode",
        "vllm",
        "aggregate",
    )
    assert line(decode.command) == (
        "vllm serve org/model --tensor-parallel-size 2 --data-parallel-size 8 --data-parallel-size-local 4 "
        "--served-model-name org/model --max-model-len 4096"
    )
    assert lines_of(decode.command, "--tensor-parallel-size", "4096") == [8, 13]
    assert decode.gang.gpus_per_pod == Quote(
        "8", Spot(8, 25, "decode.parallelism.tensor"), "inferred", why="tensor 2 x dataLocal 4"
    )
    # Two pods of eight: 8 ranks of data parallelism, 4 of them in each.
    assert decode.gang.pods_per_engine is not None
    assert decode.gang.pods_per_engine.text == "2"
    assert decode.gang.replicas is not None
    assert decode.gang.replicas.text == "2"
    assert decode.gpu is not None
    assert "H200" in decode.gpu.text
    assert decode.engine_version is not None


@pytest.mark.parametrize(
    ("uri", "word", "model"),
    [
        ("hf://other/model", "other/model", "other/model"),
        ('hf://"{{ .Values.modelArtifacts.name }}"', "org/model", "org/model"),
        ("pvc://claim/folder/weights", "/model-cache/folder/weights", "org/model"),
        ("pvc+hf://claim/hub/other/model", "other/model", "other/model"),
    ],
)
def test_the_model_by_its_uri(uri: str, word: str, model: str) -> None:
    text = VALUES.replace('"hf://{{ .Values.modelArtifacts.name }}"', f"'{uri}'")
    decode = only(read("llm_d", text))
    assert decode.command[2].text == word
    assert model_of(decode) == model


def test_without_a_uri_the_chart_takes_the_name() -> None:
    text = VALUES.replace('  uri: "hf://{{ .Values.modelArtifacts.name }}"\n', "")
    decode = only(read("llm_d", text))
    assert (decode.command[2].text, decode.command[2].origin) == ("org/model", "default")


def test_a_template_that_the_file_does_not_tell_is_left_open() -> None:
    text = VALUES.replace(".Values.modelArtifacts.name", ".Values.global.model")
    decode = only(read("llm_d", text))
    assert decode.command[2].unknown == ("{{ .Values.global.model }}",)
    assert decode.command[2].origin == "unresolved"


def test_one_node_without_layout_has_one_gpu() -> None:
    text = VALUES.replace("multinode: true\n", "").replace("  parallelism: {tensor: 2, data: 8, dataLocal: 4}\n", "")
    decode = only(read("llm_d", text))
    assert (decode.gang.gpus_per_engine, decode.gang.pods_per_engine) == (1, None)
    assert not says(decode.command, "--tensor-parallel-size")


def test_resources_say_how_many_gpus_before_the_layout_does() -> None:
    text = VALUES.replace("      modelCommand:", "      resources: {limits: {nvidia.com/gpu: 4}}\n      modelCommand:")
    decode = only(read("llm_d", text))
    assert decode.gang.gpus_per_pod is not None
    assert (decode.gang.gpus_per_pod.text, decode.gang.gpus_per_pod.spot.line) == ("4", 12)


def test_several_cards_leave_the_card_open() -> None:
    decode = only(read("llm_d", VALUES.replace("[NVIDIA-H200]", "[NVIDIA-H200, NVIDIA-B200]")))
    assert decode.gpu is not None
    assert decode.gpu.origin == "unresolved"
    assert len(decode.gpu.unknown) == 2


def test_prefill_beside_decode() -> None:
    prefill = """\
prefill:
  replicas: 3
  containers:
    - image: vllm/vllm-openai:v0.10.0
      modelCommand: imageDefault
      args: [--enforce-eager]
"""
    found = named(read("llm_d", VALUES + prefill))
    assert {each.name: each.role for each in found.values()} == {"decode": "decode", "prefill": "prefill"}
    assert says(found["prefill"].command, "--model org/model", "--served-model-name org/model", "--enforce-eager")


def test_values_of_a_subchart_stand_below_its_name() -> None:
    lines = "".join(f"  {each}\n" for each in VALUES.splitlines())
    decode = only(read("llm_d", f"infra: {{x: 1}}\nms:\n{lines}"))
    assert (decode.name, decode.command[2].text) == ("ms-decode", "org/model")
    assert read("llm_d", f"ms:\n  enabled: false\n{lines}").passed_over == ("ms-decode",)


@pytest.mark.parametrize("prefill", ["{create: false, replicas: 2}", "{replicas: 0}", "{containers: []}"])
def test_a_role_that_is_not_created_is_passed_over(prefill: str) -> None:
    found = read("llm_d", f"{VALUES}prefill: {prefill}\n")
    assert found.passed_over == ("prefill",)
    assert only(found).role == "aggregate"


def test_a_command_of_ones_own_sees_what_the_chart_sets() -> None:
    text = VALUES.replace("modelCommand: vllmServe", "modelCommand: custom\n      command: [/bin/bash, -c]")
    text = text.replace(
        'args: ["--max-model-len", "4096"]',
        "args:\n        - |\n          exec vllm serve org/model --tensor-parallel-size $TP_SIZE \\\n"
        "            --data-parallel-size $((LWS_GROUP_SIZE * DP_SIZE_LOCAL)) --node-rank $LWS_WORKER_INDEX",
    )
    decode = only(read("llm_d", text))
    assert line(decode.command).endswith(
        "vllm serve org/model --tensor-parallel-size 2 --data-parallel-size 8 --node-rank 0"
    )
    assert lines_of(decode.command, "org/model", "--data-parallel-size") == [16, 17]


def test_a_layout_that_the_chart_refuses_is_told() -> None:
    decode = only(read("llm_d", VALUES.replace("data: 8, dataLocal: 4", "data: 7, workers: 2")))
    assert [(remark.code, remark.spot.line) for remark in decode.remarks] == [("chart-refuses", 8)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # tensor, data, dataLocal, workers: the chart's helpers, worked out by hand.
        ("{}", ("1", "1", "1", "1")),
        ("{tensor: 4}", ("4", "1", "1", "1")),
        ("{data: 8}", ("1", "8", "8", "1")),
        ("{data: 8, workers: 2}", ("1", "8", "4", "2")),
        ("{data: 8, dataLocal: 2}", ("1", "8", "2", "4")),
        ("{dataLocal: 8, workers: 2}", ("1", "16", "8", "2")),
        ("{dataLocal: 8}", ("1", "8", "8", "1")),
    ],
)
def test_degrees_follow_from_each_other(text: str, expected: tuple[str, ...]) -> None:
    (node,) = compose(text).documents
    spread = spread_of(node)
    assert tuple(quote.text for quote in spread[:4]) == expected


# Scenarios -----------------------------------------------------------------------------------------------------

SCENARIO = """\
scenario:
  - name: big
    common:
      multinode: {enabled: true}
      images: {vllm: {repository: vllm/vllm-openai, tag: v0.20.0}}
      affinity: {enabled: true, nodeSelector: {cloud.google.com/gke-accelerator: nvidia-h100-80gb}}
      model:
        name: org/served
        huggingfaceId: org/model
        path: served
        maxModelLen: 32768
        maxNumSeq: 5
    prefill: {enabled: false, replicas: 0}
    decode:
      replicas: 1
      parallelism: {tensor: 8, data: 1, dataLocal: 1, workers: 4}
      accelerator: {count: 8}
      vllm:
        customCommand: |
          . /shared/env.sh
          exec vllm serve $MODEL_SERVE_REF \\
            --tensor-parallel-size $TP_SIZE \\
            --pipeline-parallel-size $PP_SIZE \\
            --max-model-len $VLLM_MAX_MODEL_LEN \\
            --gpu-memory-utilization $VLLM_ACCELERATOR_MEM_UTIL
      extraEnvVars:
        - {name: PP_SIZE, value: "4"}
        - {name: VLLM_PP_LAYER_PARTITION, value: "24,23,23,23"}
"""


def test_a_scenario_with_a_command_of_its_own() -> None:
    found = read("llm_d", SCENARIO)
    decode = only(found)
    assert (decode.kind, decode.name, decode.engine, decode.role) == (
        "llm-d.scenario",
        "big-decode",
        "vllm",
        "aggregate",
    )
    assert found.passed_over == ("big-prefill",)
    assert says(decode.command, "--tensor-parallel-size 8", "--pipeline-parallel-size 4", "--max-model-len 32768")
    # What the scenario leaves out comes from the benchmark's defaults.
    assert says(decode.command, "--gpu-memory-utilization 0.95")
    assert model_of(decode) == "org/model"
    assert decode.gang.gpus_per_engine == 32
    assert decode.variables["VLLM_PP_LAYER_PARTITION"].text == "24,23,23,23"
    assert decode.gpu is not None
    assert decode.image is not None
    assert decode.image.text == "vllm/vllm-openai:v0.20.0"
    assert lines_of(decode.command, "--tensor-parallel-size", "--max-model-len") == [22, 24]


def test_a_scenario_without_one_gets_the_benchmarks_command() -> None:
    text = """\
scenario:
  - name: small
    model: {name: org/model, path: models/org/model, maxModelLen: 16000, blockSize: 128}
    vllmCommon: {flags: {noPrefixCaching: true}, kvTransfer: {enabled: true, connector: NixlConnector}}
    prefill: {enabled: true, replicas: 1, parallelism: {tensor: 2}}
    decode: {replicas: 2, parallelism: {tensor: 4}}
"""
    found = named(read("llm_d", text))
    assert {each.name: each.role for each in found.values()} == {"small-decode": "decode", "small-prefill": "prefill"}
    assert says(
        found["small-decode"].command,
        "/model-cache/models/org/model --block-size 128 --max-model-len 16000 --gpu-memory-utilization 0.95",
        "--tensor-parallel-size 4 --no-enable-prefix-caching --kv-transfer-config",
    )
    assert model_of(found["small-decode"]) == "org/model"
    assert found["small-prefill"].gang.gpus_per_engine == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VALUES, True),
        (SCENARIO, True),
        ("modelArtifacts: {name: x}\n", False),
        ("decode: {}\n", False),
        ("scenario: [{name: x}]\n", False),
        (f"kind: Values\n{VALUES}", False),
    ],
)
def test_it_is_recognised_by_its_keys(text: str, expected: bool) -> None:
    assert recognised("llm_d", text) is expected


def test_qwen3_example(shared: Path) -> None:
    text, facts = example(shared, "llm-d-modelservice-values-qwen3-235b.yaml")
    found = read("llm_d", text)
    decode, (expected,) = only(found), facts["deployments"]
    assert (decode.name, decode.engine, model_of(decode)) == (expected["name"], expected["engine"], expected["model"])
    assert (decode.gpu, decode.role) == (None, "aggregate")
    assert decode.gang.gpus_per_pod is not None
    assert decode.gang.gpus_per_pod.whole_number() == expected["gpus_per_pod"]
    assert decode.gang.pods_per_engine is not None
    assert decode.gang.pods_per_engine.whole_number() == expected["pods"]
    assert decode.gang.gpus_per_engine == expected["gpus_per_engine"]
    assert decode.gang.replicas is not None
    assert decode.gang.replicas.whole_number() == expected["replicas"]
    assert says(decode.command, "--tensor-parallel-size 4", "--data-parallel-size 4", "--data-parallel-size-local 2")
    assert says(decode.command, "--enable-expert-parallel", "--max-model-len 32768", "--gpu-memory-utilization=0.92")
    assert lines_of(decode.command, "--tensor-parallel-size", "--data-parallel-size", "32768") == [14, 15, 22]
