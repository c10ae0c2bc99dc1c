"""Containers: environment, GPUs, and the engines that they start; images, GPUs and models by their names."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.containers import container_runs, engine_runs, environment, gpus_of, slice_of
from moeplan.sources.deployments.gpu_names import INSTANCES, gpu_name, gpu_of_label, gpu_of_pod
from moeplan.sources.deployments.images import engine_of_image, version_of_image
from moeplan.sources.deployments.model_names import is_local, trace_model
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.plain_secrets import is_plain_secret, secrets_in_yaml, without_secrets
from moeplan.sources.deployments.stream import Stream
from moeplan.sources.hardware_profiles import find_hardware

STREAM = Stream("deploy.yaml", ())


def node(text: str) -> Node:
    return compose(text).documents[0]


def words(*texts: str) -> list[Quote]:
    return [Quote(text, Spot(number)) for number, text in enumerate(texts, 1)]


def texts(quotes: object) -> list[str]:
    assert isinstance(quotes, list | tuple)
    return [quote.text for quote in quotes]


# Environment -----------------------------------------------------------------------------------------------------


def test_the_environment_of_a_container() -> None:
    container = node("""
envFrom:
- configMapRef: {name: shared}
- prefix: P_
  configMapRef: {name: shared}
- secretRef: {name: tokens}
env:
- {name: TP, value: "8"}
- {name: MODEL, valueFrom: {configMapKeyRef: {name: shared, key: model}}}
- {name: BOTH, value: "$(MODEL):$(TP):$(LATER)"}
- {name: LATER, value: x}
- {name: POD, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: HF_TOKEN, value: hf_abcdefghijklmnop}
- {name: OTHER_TOKEN, value: $(HF_TOKEN)}
- {name: EMPTY}
""")
    shared = compose("kind: ConfigMap\nmetadata: {name: shared}\ndata: {model: org/name, TP: '2'}\n")
    found = environment(container, Stream("deploy.yaml", shared.documents), {"SIZE": Quote("4", Spot(1))})
    held = {name: value.text for name, value in found.variables.items()}
    assert held == {
        "SIZE": "4",
        "model": "org/name",
        "TP": "8",
        "P_model": "org/name",
        "P_TP": "2",
        "MODEL": "org/name",
        # The kubelet knows those above only.
        "BOTH": "org/name:8:$(LATER)",
        "LATER": "x",
        "HF_TOKEN": "***",
        "OTHER_TOKEN": "***",
        "EMPTY": "",
    }
    assert found.variables["BOTH"].unknown == ("$(LATER)",)
    assert found.variables["MODEL"].why == "ConfigMap shared"
    assert [(each.name, each.spot.line) for each in found.secrets] == [("HF_TOKEN", 13)]
    assert "hf_abcdefghijklmnop" not in repr(found)


def test_a_variable_that_something_else_sets_is_not_known() -> None:
    container = node("{env: [{name: A, value: '1'}, {name: A, valueFrom: {fieldRef: {fieldPath: x}}}]}")
    assert "A" not in environment(container, STREAM).variables


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ('{limits: {nvidia.com/gpu: "4", cpu: 8}}', "4"),
        ("{limits: {nvidia.com/gpu: 4}, requests: {nvidia.com/gpu: 2}}", "4"),
        ("{requests: {amd.com/gpu: 2}}", "2"),
        ("{limits: {gpu: '8'}}", "8"),
        ("{limits: {nvidia.com/mig-3g.40gb: 1}}", "1"),
        ("{limits: {google.com/tpu: 4}}", "4"),
        ("{limits: {cpu: 1, memory: 2Gi, nvidia.com/gpumem: 3000}}", None),
        ("{}", None),
    ],
)
def test_gpus(resources: str, expected: str | None) -> None:
    found = gpus_of(node(resources))
    assert (found.text if found is not None else None) == expected


def test_slices() -> None:
    found = slice_of(node("{limits: {nvidia.com/mig-1g.10gb: 2}}"))
    assert found is not None
    assert found.text == "1g.10gb"
    assert slice_of(node("{limits: {nvidia.com/gpu: 1}}")) is None


# Engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "engine", "command"),
    [
        (["vllm", "serve", "m"], "vllm", ["vllm", "serve", "m"]),
        (["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"], "vllm", None),
        (["/bin/sh", "-c", "A=1 exec vllm serve m --tp 2"], "vllm", ["vllm", "serve", "m", "--tp", "2"]),
        (["/bin/bash", "-lc", "--", "cd x && python3 -m dynamo.sglang --tp 2 | tee log"], "sglang",
         ["python3", "-m", "dynamo.sglang", "--tp", "2"]),
        (["python3", "-m", "sglang.launch_server", "--model-path", "m"], "sglang", None),
        (["sglang", "serve", "--model-path", "m"], "sglang", None),
        (["trtllm-serve", "m"], "trtllm", None),
        (["mpirun", "-n", "4", "trtllm-llmapi-launch", "trtllm-serve", "m"], "trtllm", ["trtllm-serve", "m"]),
        (["python3", "-m", "dynamo.trtllm", "--model-path", "m"], "trtllm", None),
        (["/app/llama-server", "-m", "x.gguf"], "llamacpp", None),
        (["ollama", "serve"], "llamacpp", []),
        (
            ["python3", "-m", "huggingfaceserver", "--model_id=org/m", "--model_name", "n", "--dtype=half"],
            "vllm",
            ["vllm", "serve", "--model=org/m", "--served-model-name", "n", "--dtype=half"],
        ),
        (["python", "-m", "huggingfaceserver", "--model_id=org/m", "--backend", "huggingface"], "transformers", ["--model=org/m"]),
    ],
)  # fmt: skip
def test_engines(argv: list[str], engine: str, command: list[str] | None) -> None:
    (run,) = engine_runs(words(*argv), {}, None)
    assert run.engine == engine
    assert texts(run.command) == (argv if command is None else command)


@pytest.mark.parametrize(
    "argv",
    [
        ["python3", "-m", "dynamo.frontend", "--router-mode", "kv"],
        ["python3", "-m", "sglang_router.launch_router"],
        ["python3", "-m", "sglang.bench_serving", "--model", "m"],
        ["vllm", "bench", "serve"],
        ["vllm-router", "--data-parallel-size=8"],
        ["ollama", "pull", "m"],
        ["llm-d-routing-sidecar", "--data-parallel-size=8"],
        ["sh", "-c", "echo vllm serve m"],
        ["sh", "-c", "# vllm serve m"],
        ["vllm"],
        [],
    ],
)
def test_what_is_no_engine(argv: list[str]) -> None:
    assert engine_runs(words(*argv), {}, Quote("vllm/vllm-openai:v0.23.0", Spot(1))) == ()


@pytest.mark.parametrize(
    ("image", "argv", "engine", "command"),
    [
        ("vllm/vllm-openai:v0.23.0", ["--model", "m"], "vllm", ["vllm", "serve", "--model", "m"]),
        ("vllm/vllm-openai:v0.23.0", ["m", "--tp", "2"], "vllm", ["vllm", "serve", "m", "--tp", "2"]),
        ("vllm/vllm-openai:v0.23.0", ["serve", "m"], "vllm", ["vllm", "serve", "m"]),
        ("registry.local:5000/my/vllm-custom:1", ["--model=m"], "vllm", ["vllm", "serve", "--model=m"]),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b5466", ["-hf", "o/m"], "llamacpp", ["llama-server", "-hf", "o/m"]),
        ("ollama/ollama:0.11", [], "llamacpp", []),
        ("lmcache/vllm-openai:nightly", ["o/m", "--dtype=half"], "vllm", ["vllm", "serve", "o/m", "--dtype=half"]),
        ("lmsysorg/sglang:latest", ["python3", "-m", "sglang.launch_server"], "sglang", None),
        ("vllm/vllm-openai:latest", [], None, None),
        ("lmsysorg/sglang:latest", ["/start.sh"], None, None),
        ("nginx", ["--model", "m"], None, None),
    ],
)
def test_arguments_of_an_image(image: str, argv: list[str], engine: str | None, command: list[str] | None) -> None:
    found = engine_runs(words(*argv), {}, Quote(image, Spot(9)), has_command=False)
    assert [run.engine for run in found] == ([engine] if engine else [])
    if found:
        assert texts(found[0].command) == (argv if command is None else command)


def test_an_engine_that_is_known_to_run_needs_no_image() -> None:
    (run,) = engine_runs(words("--model", "m"), {}, None, has_command=False, entrypoint="vllm")
    assert texts(run.command) == ["vllm", "serve", "--model", "m"]


def test_several_engines_of_one_script() -> None:
    script = "CUDA_VISIBLE_DEVICES=0 vllm serve a &\nCUDA_VISIBLE_DEVICES=1 vllm serve b & wait"
    one, two = engine_runs(words("bash", "-c", script), {}, None)
    assert [one.command[2].text, two.command[2].text] == ["a", "b"]
    assert [run.variables["CUDA_VISIBLE_DEVICES"].text for run in (one, two)] == ["0", "1"]


def test_a_container_of_kubernetes() -> None:
    container = node("""
image: vllm/vllm-openai:v0.23.0
command: [/bin/sh, -c]
args:
- |
  exec vllm serve $(MODEL) --tensor-parallel-size $(nvidia-smi -L | wc -l) \\
    --data-parallel-size $((GROUP * 2)) --api-key sk-abcdefghijkl --host $(POD_IP)
env:
- {name: MODEL, value: org/name}
resources: {limits: {nvidia.com/gpu: "8"}}
""")
    (run,), _ = container_runs(container, STREAM, {"GROUP": Quote("2", Spot(1), "inferred")})
    assert texts(run.command) == [
        "vllm", "serve", "org/name", "--tensor-parallel-size", "8", "--data-parallel-size", "4", "--api-key", "***",
        "--host", "$(POD_IP)",
    ]  # fmt: skip
    assert run.command[-1].unknown == ("$(POD_IP)",)
    assert (run.command[4].origin, run.command[4].spot) == ("inferred", Spot(6, 51, "args[0]"))
    assert run.variables["MODEL"].text == "org/name"


# Images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "engine", "version"),
    [
        ("vllm/vllm-openai:v0.23.0", "vllm", "0.23.0"),
        ("docker.io/vllm/vllm-openai:v0.8.5.post1", "vllm", "0.8.5.post1"),
        ("registry:5000/mirror/vllm/vllm-openai:v0.10.1.1-x86_64", "vllm", "0.10.1.1"),
        ("vllm/vllm-openai:v0.23.0@sha256:" + "a" * 64, "vllm", "0.23.0"),
        ("vllm/vllm-openai@sha256:" + "a" * 64, "vllm", None),
        ("vllm/vllm-openai:latest", "vllm", None),
        ("vllm/vllm-openai:nightly-0123abc", "vllm", None),
        ("vllm/vllm-openai", "vllm", None),
        ("vllm/vllm-openai-rocm:v0.15.0", "vllm", "0.15.0"),
        ("public.ecr.aws/q9t5s3a7/vllm-release-repo:v0.11.0", "vllm", "0.11.0"),
        ("public.ecr.aws/deep-learning-containers/vllm:0.11-gpu-py312", "vllm", "0.11"),
        ("rocm/vllm:rocm6.4.1_vllm_0.9.1_20250715", "vllm", "0.9.1"),
        ("rocm/vllm-dev:nightly", "vllm", None),
        ("lmcache/vllm-openai:v0.3.1", "vllm", None),
        ("lmsysorg/sglang:v0.5.3-cu129", "sglang", "0.5.3"),
        ("lmsysorg/sglang:v0.5.3rc0-rocm630-mi30x", "sglang", "0.5.3rc0"),
        ("lmsysorg/sglang-router:v0.2.0", None, None),
        ("nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3", "trtllm", None),
        ("nvcr.io/nvidia/tritonserver:25.06-py3", None, None),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.0.0rc6", "trtllm", "1.0.0rc6"),
        ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.6.0", "vllm", None),
        ("nvcr.io/nvidia/ai-dynamo/sglang-runtime:0.6.0", "sglang", None),
        ("nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:0.6.0", "trtllm", None),
        ("nvcr.io/nvidia/vllm:25.09-py3", "vllm", None),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b5466", "llamacpp", "b5466"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", "llamacpp", None),
        ("ollama/ollama:0.11.4", "llamacpp", None),
        ("ghcr.io/open-webui/open-webui:main", None, None),
        ("ghcr.io/huggingface/text-generation-inference:3.3", None, None),
        ("kserve/huggingfaceserver:v0.15.0-gpu", "vllm", None),
        ("rayproject/ray-llm:2.52.0-py311-cu128", "vllm", None),
        ("ghcr.io/llm-d/llm-d-cuda:v0.3.1", "vllm", None),
        ("ghcr.io/llm-d/llm-d:v0.2.0", "vllm", None),
        ("ghcr.io/llm-d/llm-d-routing-sidecar:v0.3.0", None, None),
        ("ghcr.io/llm-d/llm-d-inference-scheduler:v0.3.0", None, None),
        ("docker:vllm/vllm-openai:v0.23.0", "vllm", "0.23.0"),
        ("nginx:1.27", None, None),
        ("", None, None),
    ],
)
def test_images(image: str, engine: str | None, version: str | None) -> None:
    assert engine_of_image(image) == engine
    found = version_of_image(Quote(image, Spot(3)))
    assert (found.text if found is not None else None) == version


# GPUs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3"),
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-SHARED", "NVIDIA-H100-80GB-HBM3"),
        ("nvidia.com/gpu.product", "NVIDIA-DGX-Spark", "NVIDIA-DGX-Spark"),
        ("cloud.google.com/gke-accelerator", "nvidia-h100-80gb", "nvidia-h100-80gb"),
        ("node.kubernetes.io/instance-type", "g5.8xlarge", "A10G"),
        ("node.kubernetes.io/instance-type", "Standard_ND96isr_H100_v5", "H100-SXM"),
        ("node.kubernetes.io/instance-type", "m5.large", None),
        ("karpenter.k8s.aws/instance-gpu-name", "l40s", "l40s"),
        ("karpenter.k8s.aws/instance-family", "p5en", "H200"),
        ("gpu.nvidia.com/class", "H100_NVLINK_80GB", "H100_SXM"),
        ("amd.com/gpu.product-name", "AMD_Instinct_MI300X_OAM", "AMD_Instinct_MI300X_OAM"),
        ("example.com/gpu-type", "h200", "h200"),
        ("accelerator", "nvidia", None),
        ("nvidia.com/gpu.present", "true", None),
        ("kubernetes.io/hostname", "h100-node-1", None),
    ],
)
def test_labels(key: str, value: str, expected: str | None) -> None:
    found = gpu_of_label(key, Quote(value, Spot(1)))
    assert (found.text if found is not None else None) == expected
    if expected is not None:
        assert find_hardware(expected)[0].name


def test_every_machine_type_names_a_gpu_that_has_a_profile() -> None:
    assert all(count > 0 and name == name.lower() for name, (_, count) in INSTANCES.items())
    for gpu in {gpu for gpu, _ in INSTANCES.values()}:
        hardware, count = find_hardware(gpu)
        assert count is None
        assert not hardware.reading, f"{gpu} could be several"


def test_gpu_names_are_left_as_they_are_where_profiles_know_them() -> None:
    for text in ("NVIDIA-H200", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia-l4", "MI300X"):
        assert gpu_name(text) == text


def test_the_gpu_of_a_pod() -> None:
    affinity = """
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions:
        - {key: nvidia.com/gpu.present, operator: In, values: ["true"]}
        - {key: nvidia.com/gpu.product, operator: In, values: [%s]}
        - {key: node.kubernetes.io/instance-type, operator: NotIn, values: [g5.xlarge]}
"""
    found = gpu_of_pod(node(affinity % "NVIDIA-H200"))
    assert found is not None
    assert (found.text, found.known, found.spot.line) == ("NVIDIA-H200", True, 8)
    several = gpu_of_pod(node(affinity % "NVIDIA-H200, NVIDIA-B200"))
    assert several is not None
    assert several.unknown == ("NVIDIA-H200", "NVIDIA-B200")
    # The selector holds whatever the affinity allows; a product says more than a machine type.
    chosen = (
        "nodeSelector: {node.kubernetes.io/instance-type: p5.48xlarge, nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}"
    )
    found = gpu_of_pod(node(affinity % "NVIDIA-H200" + chosen))
    assert found is not None
    assert found.text == "NVIDIA-H100-80GB-HBM3"
    assert gpu_of_pod(node("nodeSelector: {disktype: ssd}")) is None
    same = gpu_of_pod(node(affinity.replace("NotIn", "In").replace("nvidia.com/gpu.product", "x") % "a"))
    assert same is not None
    assert (same.text, same.origin) == ("A10G", "inferred")


# Models ----------------------------------------------------------------------------------------------------------

SHA = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"


@pytest.mark.parametrize(
    ("text", "model", "revision"),
    [
        ("org/name", "org/name", None),
        ("Qwen/Qwen3-30B-A3B@main", "Qwen/Qwen3-30B-A3B", "main"),
        ("hf://org/name", "org/name", None),
        ("hf://org/name@main", "org/name", "main"),
        ("hf://org/name:" + SHA, "org/name", SHA),
        ("pvc+hf://claim/cache/org/name", "org/name", None),
        ("https://huggingface.co/org/name", "org/name", None),
        ("https://huggingface.co/org/name/tree/v2", "org/name", "v2"),
        ("hf.co/org/name-GGUF:Q4_K_M", "org/name-GGUF:Q4_K_M", None),
        ("org/name-GGUF:Q4_K_M", "org/name-GGUF:Q4_K_M", None),
        (f"/m/hub/models--openai--gpt-oss-120b/snapshots/{SHA}", "openai/gpt-oss-120b", SHA),
        (f"/m/hub/models--a--b-c/snapshots/{SHA}/model.gguf", "a/b-c", SHA),
        ("/m/models--a--b", "a/b", None),
        ("/m/models--a--b/snapshots/main", "a/b", None),
    ],
)
def test_models(text: str, model: str, revision: str | None) -> None:
    found = trace_model(Quote(text, Spot(5)))
    assert found is not None
    assert (found.model.text, found.model.spot) == (model, Spot(5))
    assert (found.revision.text if found.revision is not None else None) == revision


@pytest.mark.parametrize(
    "text",
    ["/models/x", "./org/name", "../x/y", "~/x/y", "pvc://claim/x", "s3://bucket/name", "oci://r/x", "gs://b/x", "a/b/c",
     "C:\\x\\y", "F:/ai/x.gguf", "org/file.gguf", "file:///x/y"],
)  # fmt: skip
def test_local_models(text: str) -> None:
    assert is_local(text)
    assert trace_model(Quote(text, Spot(1))) is None


def test_what_names_no_model_on_the_hub() -> None:
    assert trace_model(Quote("gpt2", Spot(1))) is None
    assert not is_local("gpt2")
    assert trace_model(Quote("$ORG/name", Spot(1), "unresolved", ("$ORG",))) is None
    open_sha = Quote("/hub/models--a--b/snapshots/$SHA", Spot(1), "unresolved", ("$SHA",))
    found = trace_model(open_sha)
    assert found is not None
    assert (found.model.text, found.model.known, found.revision) == ("a/b", True, None)


# Tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HF_TOKEN", "hf_abcdefghijklmnop", True),
        ("ANYTHING", "hf_abcdefghijklmnop", True),
        ("--api-key", "correct horse", True),
        ("PASSWORD", "swordfish", True),
        ("HF_TOKEN", "$(HF_TOKEN)", False),
        ("HF_TOKEN", "${HF_TOKEN:-}", False),
        ("HF_TOKEN", "{{ .Values.token }}", False),
        ("HF_TOKEN", "<your token>", False),
        ("HF_TOKEN", "your-hf-token", False),
        ("HF_TOKEN", "hf_xxxxxxxxxxxx", False),
        ("HF_TOKEN", "", False),
        ("--api-key", "EMPTY", False),
        ("--api-key-file", "x", False),
        ("MAX_TOKENS", "256", False),
        ("API_KEY", "/run/secrets/key", False),
        ("envFromSecret", "hf-token-secret", False),
        ("auth_secret_name", "hf_access_token", False),
    ],
)
def test_tokens(name: str, value: str, *, expected: bool) -> None:
    assert is_plain_secret(name, value) is expected


def test_words_without_tokens() -> None:
    found = without_secrets(
        words(
            "vllm", "--api-key", "s3cret", "--api-key=s3cret", "HF_TOKEN=s3cret", "hf_abcdefghijklmnop", "--port", "80"
        )
    )
    assert texts(found.words) == ["vllm", "--api-key", "***", "--api-key=***", "HF_TOKEN=***", "***", "--port", "80"]
    assert [(each.name, each.spot.line) for each in found.secrets] == [
        ("api-key", 3), ("api-key", 4), ("HF_TOKEN", 5), ("a token", 6),
    ]  # fmt: skip
    assert "s3cret" not in repr(found)


def test_tokens_anywhere_in_yaml() -> None:
    document = node("""
env:
- name: HF_TOKEN
  value: hf_abcdefghijkl
- name: OTHER
  value: plain
- name: NGC_API_KEY
  valueFrom: {secretKeyRef: {name: ngc, key: api-key}}
environment:
  OPENAI_API_KEY: opensesame
  HF_TOKEN: ${HF_TOKEN}
values:
  hfToken: mellon
  existingSecret: my-secret
  tokenSecretName: my-secret
  key: nvidia.com/gpu
args: [--api-key, mellon, --model, org/name]
odd: [{x: [sk-abcdefghijklmn]}]
""")
    found = sorted((each.spot.line, each.name) for each in secrets_in_yaml(document))
    assert found == [(4, "HF_TOKEN"), (10, "OPENAI_API_KEY"), (13, "hfToken"), (17, "api-key"), (18, "a token")]


def test_variables_that_no_shell_sees_are_open_until_they_are_filled() -> None:
    argv = words("vllm", "serve", "${MODEL}", '--override={"a": "${X}"}')
    (run,) = engine_runs(argv, {}, None)
    assert [word.unknown for word in run.command[2:]] == [("${MODEL}",), ("${X}",)]
    (run,) = engine_runs(argv, {"MODEL": Quote("org/m", Spot(9)), "X": Quote("1", Spot(9))}, None)
    assert texts(run.command[2:]) == ["org/m", '--override={"a": "1"}']
    (run,) = engine_runs(words("sh", "-c", "vllm serve ${MODEL:-org/m} '{}'"), {}, None)
    assert texts(run.command[2:]) == ["org/m", "{}"]
