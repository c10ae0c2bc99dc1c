"""KServe's InferenceService: flags of its server, runtimes of the same stream, workers, containers of its own."""

from __future__ import annotations

import pytest

from tests.sources.deployments.reading import line, lines_of, only, read, recognised, says

HUGGINGFACE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: llama
  annotations: {moeplan/gpu: l40s}
spec:
  transformer: {containers: [{name: t, image: example/t}]}
  predictor:
    minReplicas: 2
    maxReplicas: 5
    nodeSelector: {nvidia.com/gpu.product: NVIDIA-L40S}
    model:
      modelFormat: {name: huggingface}
      args:
      - --model_name=llama3
      - --model_id=org/model
      - --model_revision=abc123
      - --tensor_parallel_size=2
      - --max_model_len=4096
      - --backend=vllm
      env: [{name: VLLM_USE_V1, value: "1"}]
      resources: {limits: {nvidia.com/gpu: "2"}}
"""


def test_flags_of_kserves_server_are_those_of_its_engine() -> None:
    found = read("kserve_inference", HUGGINGFACE)
    engine = only(found)
    assert (engine.kind, engine.name, engine.engine) == ("kserve.inferenceservice", "llama", "vllm")
    assert says(engine.command, "--model=org/model", "--revision=abc123", "--served-model-name=llama3")
    assert says(engine.command, "--tensor_parallel_size=2", "--max_model_len=4096")
    assert "backend" not in line(engine.command)
    assert lines_of(engine.command, "--model=org/model", "--tensor_parallel_size=2") == [16, 18]
    gang = engine.gang
    assert gang.replicas is not None
    assert gang.max_replicas is not None
    assert engine.gpu is not None
    assert (gang.replicas.text, gang.max_replicas.text, gang.gpus_per_engine) == ("2", "5", 2)
    assert (engine.gpu.text, engine.annotations["moeplan/gpu"].text, engine.remarks) == ("NVIDIA-L40S", "l40s", ())
    assert engine.variables["VLLM_USE_V1"].text == "1"
    assert [name.text for name in engine.served_names] == ["llama3"]
    assert found.passed_over == ("transformer",)


def test_the_model_of_a_storage_uri() -> None:
    text = HUGGINGFACE.replace("      - --model_id=org/model\n      - --model_revision=abc123\n", "").replace(
        "      args:\n", "      storageUri: hf://org/stored:def456\n      args:\n"
    )
    engine = only(read("kserve_inference", text))
    assert engine.model is not None
    assert engine.revision is not None
    assert (engine.model.text, engine.revision.text, engine.model.spot.line) == ("org/stored", "def456", 14)
    # What the command names comes first.
    named = only(
        read("kserve_inference", HUGGINGFACE.replace("      args:\n", "      storageUri: hf://a/b\n      args:\n"))
    )
    assert named.model is None


RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: my-vllm}
spec:
  supportedModelFormats: [{name: vLLM, autoSelect: true}]
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB}
  containers:
  - name: kserve-container
    image: vllm/vllm-openai:v0.10.2
    command: [python, -m, vllm.entrypoints.openai.api_server]
    args: [--port=8080, --model=/mnt/models, "--served-model-name={{.Name}}", --max-num-seqs=8]
    env: [{name: KEPT, value: "1"}]
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: granite}
spec:
  predictor:
    model:
      modelFormat: {name: vLLM}
      runtime: my-vllm
      storageUri: hf://org/granite
      args: [--max-model-len=2048, --max-num-seqs=4]
      resources: {limits: {nvidia.com/gpu: "1"}}
"""


def test_a_runtime_of_the_same_stream_gives_the_command() -> None:
    engine = only(read("kserve_inference", RUNTIME))
    assert line(engine.command) == (
        "python -m vllm.entrypoints.openai.api_server --port=8080 --model=/mnt/models --served-model-name=granite"
        " --max-num-seqs=8 --max-model-len=2048 --max-num-seqs=4"
    )
    assert lines_of(engine.command, "--model=/mnt/models", "--max-model-len=2048") == [11, 23]
    assert engine.model is not None
    assert engine.engine_version is not None
    assert engine.gpu is not None
    assert (engine.model.text, engine.engine_version.text) == ("org/granite", "0.10.2")
    assert (engine.gpu.text, engine.gang.gpus_per_engine, engine.remarks) == ("NVIDIA-A100-SXM4-80GB", 1, ())
    assert engine.variables["KEPT"].text == "1"
    # Without its name the runtime is found by the format that it takes.
    unnamed = only(read("kserve_inference", RUNTIME.replace("      runtime: my-vllm\n", "")))
    assert says(unnamed.command, "--max-num-seqs=8")


def test_a_runtime_that_is_not_there_is_told() -> None:
    engine = only(read("kserve_inference", RUNTIME.partition("---\n")[2]))
    assert (engine.engine, line(engine.command)) == ("vllm", "--max-model-len=2048 --max-num-seqs=4")
    (remark,) = engine.remarks
    assert (remark.code, remark.spot.line) == ("runtime-missing", 8)
    runtime = RUNTIME.partition("---\n")[0]
    assert recognised("kserve_inference", runtime)
    assert read("kserve_inference", runtime).passed_over == ("my-vllm",)


SEVERAL_NODES = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: big}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      storageUri: pvc://claim/hf/70b
    workerSpec: {pipelineParallelSize: 2, tensorParallelSize: 8}
"""


def test_workers_are_stages_of_the_pipeline() -> None:
    engine = only(read("kserve_inference", SEVERAL_NODES))
    assert line(engine.command) == "--tensor-parallel-size 8 --pipeline-parallel-size 2"
    assert lines_of(engine.command, "8", "2") == [9, 9]
    gang = engine.gang
    assert gang.gpus_per_pod is not None
    assert gang.pods_per_engine is not None
    # The controller gives each node as many GPUs as tensor parallelism has ranks.
    assert (gang.gpus_per_pod.text, gang.gpus_per_pod.origin, gang.pods_per_engine.text) == ("8", "inferred", "2")
    assert gang.gpus_per_engine == 16


RAY_RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: kserve-huggingfaceserver-multinode}
spec:
  supportedModelFormats: [{name: huggingface, autoSelect: true}]
  containers:
  - name: kserve-container
    image: kserve/huggingfaceserver:v0.15.0-gpu
    command: [bash, -c]
    args:
    - |
      ray start --head
      python3 -m huggingfaceserver --model_dir=${MODEL_DIR} --tensor-parallel-size=${TENSOR_PARALLEL_SIZE} \\
        --pipeline-parallel-size=${PIPELINE_PARALLEL_SIZE}
  workerSpec: {pipelineParallelSize: 1, tensorParallelSize: 1}
---
"""


def test_degrees_fill_the_variables_of_a_runtime() -> None:
    engine = only(read("kserve_inference", RAY_RUNTIME + SEVERAL_NODES))
    assert says(engine.command, "--model=/mnt/models", "--tensor-parallel-size=8", "--pipeline-parallel-size=2")
    assert line(engine.command).count("parallel-size") == 2
    assert engine.gang.gpus_per_engine == 16


CUSTOM = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: own}
spec:
  predictor:
    containers:
    - name: kserve-container
      image: lmsysorg/sglang:v0.5.3
      command: [python3, -m, sglang.launch_server, --model-path=org/model, --tp=4]
      resources: {limits: {nvidia.com/gpu: "4"}}
"""


def test_containers_of_its_own() -> None:
    engine = only(read("kserve_inference", CUSTOM))
    assert (engine.kind, engine.name, engine.engine) == ("kserve.inferenceservice", "own", "sglang")
    assert engine.gang.gpus_per_engine == 4


@pytest.mark.parametrize("kind", ["sklearn", "onnx", "triton"])
def test_other_formats_are_passed_over(kind: str) -> None:
    text = HUGGINGFACE.replace("name: huggingface", f"name: {kind}")
    found = read("kserve_inference", text)
    assert (found.deployments, found.passed_over) == ((), ("llama", "transformer"))
