"""KServe's services for language models: keys become flags, bases are merged, the prefilling half is an engine of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.deployed import Quote
from tests.sources.deployments.reading import example, line, lines_of, named, only, read, recognised, says

SERVICE = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata:
  name: chat
  annotations: {moeplan/gpu: h200}
spec:
  model:
    uri: hf://org/model:abc123
    name: shown
  replicas: 2
  router: {scheduler: {}, route: {}}
  parallelism: {tensor: 4}
  template:
    nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
    containers:
    - name: proxy
      image: envoyproxy/envoy:v1.30
    - name: main
      args: [--max-num-seqs=16]
      env:
      - name: VLLM_ADDITIONAL_ARGS
        value: "--max-model-len 8192 --speculative-config '{\\"method\\": \\"mtp\\"}'"
      - {name: VLLM_LOGGING_LEVEL, value: INFO}
      resources: {limits: {nvidia.com/gpu: "4"}}
"""


def test_keys_variables_and_arguments_are_one_command() -> None:
    found = read("kserve_llm", SERVICE)
    engine = only(found)
    assert (engine.kind, engine.name, engine.engine, engine.role) == (
        "kserve.llminferenceservice",
        "chat",
        "vllm",
        "aggregate",
    )
    assert [word.text for word in engine.command] == [
        "--tensor-parallel-size",
        "4",
        "--max-model-len",
        "8192",
        "--speculative-config",
        '{"method": "mtp"}',
        "--max-num-seqs=16",
    ]
    assert [word.spot.line for word in engine.command] == [12, 12, 22, 22, 22, 22, 19]
    assert engine.model is not None
    assert engine.revision is not None
    assert (engine.model.text, engine.model.spot.line, engine.revision.text) == ("org/model", 8, "abc123")
    assert [name.text for name in engine.served_names] == ["shown"]
    assert engine.gpu is not None
    assert engine.gang.replicas is not None
    assert (engine.gpu.text, engine.gang.gpus_per_engine, engine.gang.replicas.text) == ("NVIDIA-H200", 4, "2")
    assert engine.gang.pods_per_engine is None
    # Its words stand in the command; said twice they would be read twice.
    assert sorted(engine.variables) == ["VLLM_LOGGING_LEVEL"]
    assert engine.annotations["moeplan/gpu"].text == "h200"
    assert found.passed_over == ("proxy", "scheduler")


def layout(keys: str, worker: str = "worker: {containers: [{name: main}]}") -> str:
    return (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nmetadata: {name: x}\nspec:\n"
        f"  model: {{uri: 'hf://org/model'}}\n  parallelism: {{{keys}}}\n  {worker}\n"
        "  template: {containers: [{name: main, resources: {limits: {nvidia.com/gpu: 8}}}]}\n"
    )


@pytest.mark.parametrize(
    ("keys", "words", "pods"),
    [
        # Pods of a group: ranks of data parallelism over those of one pod, else stages of the pipeline.
        ("data: 32, dataLocal: 8, expert: true", "--data-parallel-size 32 --data-parallel-size-local 8 --enable-expert-parallel", "4"),
        ("data: 2, tensor: 8", "--tensor-parallel-size 8 --data-parallel-size 2", "2"),
        ("pipeline: 3, tensor: 8", "--tensor-parallel-size 8 --pipeline-parallel-size 3 --nnodes 3", "3"),
    ],
)  # fmt: skip
def test_pods_of_one_engine(keys: str, words: str, pods: str) -> None:
    engine = only(read("kserve_llm", layout(keys)))
    assert line(engine.command) == words
    assert engine.gang.pods_per_engine is not None
    assert (engine.gang.pods_per_engine.text, engine.gang.gpus_per_engine) == (pods, 8 * int(pods))
    # Without workers the controller makes single pods.
    assert only(read("kserve_llm", layout(keys, "replicas: 1"))).gang.pods_per_engine is None


SPLIT = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: split}
spec:
  model: {uri: "pvc://claim/DeepSeek-R1-0528", name: deepseek-ai/DeepSeek-R1-0528}
  replicas: 1
  parallelism: {tensor: 2}
  speculativeDecoding:
    method: draft_model
    numSpeculativeTokens: 5
    speculator:
      model: {uri: "hf://org/draft"}
      tensorParallelSize: 1
  kvCacheOffloading: {cpu: {size: 2Gi}}
  template:
    containers: [{name: main, resources: {limits: {nvidia.com/gpu: 2}}}]
  prefill:
    replicas: 3
    parallelism: {tensor: 8}
    template:
      containers: [{name: main, resources: {limits: {nvidia.com/gpu: 8}}}]
"""


def test_a_service_that_prefills_apart_is_two_engines() -> None:
    engines = named(read("kserve_llm", SPLIT))
    assert sorted(engines) == ["split-decode", "split-prefill"]
    decode, prefill = engines["split-decode"], engines["split-prefill"]
    assert (decode.role, prefill.role) == ("decode", "prefill")
    assert (decode.spot.line, prefill.spot.line) == (1, 17)
    assert says(decode.command, "--tensor-parallel-size 2", "--model pvc://claim/DeepSeek-R1-0528")
    assert says(
        decode.command,
        "--speculative-config.method draft_model",
        "--speculative-config.num_speculative_tokens 5",
        "--speculative-config.model org/draft",
        "--speculative-config.draft_tensor_parallel_size 1",
    )
    # 2 GiB of the host.
    assert '"cpu_bytes_to_use":2147483648' in line(decode.command)
    assert says(prefill.command, "--tensor-parallel-size 8")
    assert "speculative" not in line(prefill.command)
    assert [each.gang.gpus_per_engine for each in (decode, prefill)] == [2, 8]
    # A claim names no repository; what it is served as does.
    assert decode.model is not None
    assert (decode.model.text, decode.model.origin) == ("deepseek-ai/DeepSeek-R1-0528", "inferred")


BASED = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceServiceConfig
metadata: {name: shared}
spec:
  model: {uri: "hf://org/old"}
  replicas: 5
  parallelism: {tensor: 2, expert: true}
  template:
    containers:
    - name: main
      image: vllm/vllm-openai:v0.11.0
      command: [bash, -c]
      args:
      - |-
        eval "exec vllm serve /mnt/models \\
          --served-model-name "{{ .Spec.Model.Name }}" \\
          {{- if .Spec.Parallelism.Expert -}}--enable-expert-parallel{{- end }} \\
          {{- if .Spec.Parallelism.Tensor -}}--tensor-parallel-size {{ .Spec.Parallelism.Tensor }}{{- end }} \\
          --data-parallel-size {{ or .Spec.Parallelism.Data 1 }} \\
          {{ if .GlobalConfig.EnableTLS }}--enable-ssl-refresh{{- end }} \\
          --seed {{ somethingElse .Spec.X }} \\
          ${VLLM_ADDITIONAL_ARGS} \\
          $@"
      - "--"
      env: [{name: KEPT, value: "1"}, {name: VLLM_ADDITIONAL_ARGS, value: --max-num-seqs 1}]
---
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: chat}
spec:
  baseRefs: [{name: shared}, {name: kserve-config-llm-template}, {name: absent}]
  model: {uri: "hf://org/new", name: new}
  parallelism: {tensor: 4}
  template:
    containers:
    - name: main
      env: [{name: VLLM_ADDITIONAL_ARGS, value: --max-num-seqs 2}]
      resources: {limits: {nvidia.com/gpu: 4}}
"""


def test_a_service_lies_over_its_bases() -> None:
    engine = only(read("kserve_llm", BASED))
    assert says(
        engine.command,
        "vllm serve /mnt/models",
        "--served-model-name new",
        "--enable-expert-parallel",
        "--tensor-parallel-size 4",
        "--data-parallel-size 1",
        "--max-num-seqs 2",
    )
    assert "ssl" not in line(engine.command)
    # Lines that a shell joins stand where the first of them begins.
    assert lines_of(engine.command, "serve", "--tensor-parallel-size") == [15, 15]
    # What is no value of the service stays open; `$@` is what stands behind the script: nothing.
    assert [unknown for word in engine.command for unknown in word.unknown] == ["{{somethingElse_.Spec.X}}"]
    assert engine.gang.replicas is not None
    assert (engine.gang.replicas.text, engine.gang.gpus_per_engine) == ("5", 4)
    assert engine.engine_version is not None
    assert engine.engine_version.text == "0.11.0"
    assert engine.model is not None
    assert (engine.model.text, engine.variables["KEPT"].text) == ("org/new", "1")
    # KServe's own presets are known; a base of somebody's that is not there is told.
    (remark,) = engine.remarks
    assert (remark.code, remark.spot.line) == ("base-missing", 31)
    assert "absent" in remark.message


def test_a_configuration_alone_runs_nothing() -> None:
    text = BASED.partition("---")[0]
    assert recognised("kserve_llm", text)
    found = read("kserve_llm", text)
    assert (found.deployments, found.passed_over) == ((), ("shared",))


ADAPTERS = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata:
  name: adapted
  annotations:
    serving.kserve.io/exp-dra-device-class: gpu.nvidia.com
    serving.kserve.io/exp-dra-device-count: "2"
spec:
  runtime: kserve-llm-sglang
  model:
    uri: hf://org/model
    lora: {adapters: [{name: a, uri: "hf://org/a"}, {name: b, uri: "hf://org/b"}], maxAdapters: 4}
  scaling: {minReplicas: 2, maxReplicas: 6}
"""


def test_adapters_managed_devices_scaling_and_another_runtime() -> None:
    engine = only(read("kserve_llm", ADAPTERS))
    assert engine.engine == "sglang"
    assert line(engine.command) == "--enable-lora --max-loras 4 --max-lora-rank 64"
    assert [word.origin for word in engine.command] == ["stated"] * 3 + ["default"] * 2
    gang = engine.gang
    numbers = [gang.gpus_per_pod, gang.replicas, gang.max_replicas]
    assert [quote.text for quote in numbers if isinstance(quote, Quote)] == ["2", "2", "6"]
    # The served name is the service's where the model has none.
    assert [(name.text, name.origin) for name in engine.served_names] == [("adapted", "default")]


def test_data_parallelism_over_two_pods(shared: Path) -> None:
    text, facts = example(shared, "kserve-llmisvc-deepseek-coder-v2-lite-dp16.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("kserve_llm", text))
    assert (engine.kind, engine.name, engine.engine) == ("kserve.llminferenceservice", fact["name"], fact["engine"])
    assert engine.model is not None
    assert (engine.model.text, engine.gpu, engine.revision) == (fact["model"], None, None)
    assert says(
        engine.command,
        f"--tensor-parallel-size {fact['tp']}",
        f"--data-parallel-size {fact['dp']}",
        f"--data-parallel-size-local {fact['dp_local']}",
        "--enable-expert-parallel",
        f"--gpu-memory-utilization {fact['gpu_memory_utilization']}",
        f"--max-model-len {fact['max_len']}",
        "--enforce-eager",
    )
    assert lines_of(engine.command, "--tensor-parallel-size", "--data-parallel-size", "--enforce-eager") == [18, 15, 38]
    assert engine.gang.gpus_per_pod is not None
    assert engine.gang.replicas is not None
    assert engine.gang.gpus_per_pod.whole_number() == fact["gpus_per_pod"]
    assert engine.gang.gpus_per_engine == fact["gpus_per_engine"]
    assert engine.gang.replicas.whole_number() == fact["replicas"]
