"""A failing and a passing deployment for every rule of `moeplan check`.

Whether one fails is known from outside: figures of the field (an 80 GB card holds no 93 GB of bf16 weights), engines' own
refusals (issues named in `docs/engines.md`), or what the policy beside it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Example(NamedTuple):
    """One file, and what stands beside it."""

    text: str
    name: str = "deploy.yaml"
    policy: str = ""
    options: Mapping[str, object] = {}
    beside: Mapping[str, str] = {}
    """Further files, by name."""


class Pair(NamedTuple):
    failing: Example
    passing: Example


def pod(
    *words: str,
    model: str = "mistralai/Mixtral-8x7B-v0.1",
    gpus: int | None = 2,
    card: str | None = "NVIDIA-H100-80GB-HBM3",
    image: str = "vllm/vllm-openai:v0.24.0",
    replicas: int = 1,
    command: str = "",
    above: str = "",
    env: str = "",
) -> str:
    """A Kubernetes Deployment of one engine."""
    args = "".join(f'\n            - "{word}"' for word in ((model, *words) if not command else words))
    selector = f"\n      nodeSelector: {{nvidia.com/gpu.product: {card}}}" if card else ""
    resources = f'\n          resources: {{limits: {{nvidia.com/gpu: "{gpus}"}}}}' if gpus is not None else ""
    entry = f"\n          command: {command}" if command else ""
    return f"""{above}apiVersion: apps/v1
kind: Deployment
metadata:
  name: server
spec:
  replicas: {replicas}
  template:
    spec:{selector}
      containers:
        - name: engine
          image: {image}{entry}
          args:{args}{env}{resources}
"""


TP2 = ("--tensor-parallel-size", "2", "--max-model-len", "8192", "--revision", COMMIT)


def modelservice(data: int, workers: int) -> str:
    """Values of llm-d's chart."""
    return f"""multinode: true
modelArtifacts: {{name: Qwen/Qwen3-30B-A3B, uri: "hf://Qwen/Qwen3-30B-A3B"}}
decode:
  replicas: 1
  parallelism: {{tensor: 1, data: {data}, workers: {workers}}}
  containers:
    - name: vllm
      image: vllm/vllm-openai:v0.24.0
      modelCommand: vllmServe
      args: ["--max-model-len", "4096"]
"""


SCOUT = ("--max-model-len", "2048", "--enforce-eager", "--max-num-batched-tokens", "2048", "--max-num-seqs", "16")
GOOD = Example(pod(*TP2))


def card(gib: int, host_gib: int | None = None) -> dict[str, str]:
    """A hardware profile of one's own."""
    host = f"host_bytes: {host_gib * 2**30}\n" if host_gib is not None else ""
    memory = f"memory: {{nominal_bytes: {gib * 2**30}, usable_bytes: {gib * 2**30}}}\n"
    return {"card.yaml": f"schema: 1\nname: A card of ours\nvendor: nvidia\ncompute_capability: '9.0'\n{memory}{host}"}


def limits(text: str) -> str:
    return f"limits: {{{text}}}\n"


def compose(second_device: str, share: str = "0.6", image: str = "vllm/vllm-openai:v0.24.0") -> str:
    """Two engines of one machine."""

    def service(name: str, device: str) -> str:
        return f"""  {name}:
    image: {image}
    command: --model Qwen/Qwen3-30B-A3B --max-model-len 4096 --gpu-memory-utilization {share} --revision {COMMIT}
    deploy:
      resources:
        reservations:
          devices:
            - {{driver: nvidia, device_ids: ["{device}"], capabilities: [gpu]}}
"""

    return "services:\n" + service("one", "0") + service("two", second_device)


RULES: dict[str, Pair] = {
    # 93 GB of bf16 weights on one card of 80 GB.
    "FIT001": Pair(Example(pod("--max-model-len", "8192", gpus=1)), GOOD),
    # gpt-oss-120b on one H100 leaves a few GiB: not enough for one request where the share is cut.
    "FIT002": Pair(
        Example(
            pod("--tensor-parallel-size", "2", "--max-model-len", "32768", "--kv-cache-memory-bytes", "1000000000")
        ),
        Example(pod("--tensor-parallel-size", "2", "--max-model-len", "4096", "--kv-cache-memory-bytes", "1000000000")),
    ),
    # 64 GiB of weights stay in the memory of a host that has 16.
    "FIT003": Pair(
        Example(
            pod("--cpu-offload-gb", "64", "--max-model-len", "4096", gpus=1, card=None),
            options={"gpu": "card.yaml"},
            beside=card(80, 16),
        ),
        Example(
            pod("--cpu-offload-gb", "24", "--max-model-len", "4096", gpus=1, card=None),
            options={"gpu": "card.yaml"},
            beside=card(80, 64),
        ),
    ),
    # The share leaves less than what the bands of activations and graphs may take.
    "FIT004": Pair(
        Example(pod("--tensor-parallel-size", "2", "--max-model-len", "8192", "--gpu-memory-utilization", "0.62")), GOOD
    ),
    # 201 GiB of weights and 0.5 beside them fit in 99 % of 204 GiB; while loading, the 3.75 GiB of one layer's experts are
    # there twice.
    "FIT005": Pair(
        Example(
            pod(
                *SCOUT,
                "--gpu-memory-utilization",
                "0.99",
                model="meta-llama/Llama-4-Scout-17B-16E-Instruct",
                gpus=1,
                card=None,
            ),
            options={"gpu": "card.yaml"},
            beside=card(204),
        ),
        Example(
            pod(*SCOUT, model="meta-llama/Llama-4-Scout-17B-16E-Instruct", gpus=1, card=None),
            options={"gpu": "card.yaml"},
            beside=card(240),
        ),
    ),
    "FIT006": Pair(
        Example(pod(*TP2), policy="defaults: {context: 8192, concurrency: 100000}\n"),
        Example(pod(*TP2), policy="defaults: {context: 8192, concurrency: 2}\n"),
    ),
    # 32 attention heads over 3 GPUs.
    "ENG001": Pair(Example(pod("--tensor-parallel-size", "3", "--max-model-len", "8192", gpus=3)), GOOD),
    # 768 / 4 = 192, no multiple of the block of 128: vllm-project/vllm issue 25292.
    "ENG002": Pair(
        Example(
            pod(
                "--tensor-parallel-size",
                "4",
                "--max-model-len",
                "8192",
                model="Qwen/Qwen3-30B-A3B-FP8",
                gpus=4,
                image="vllm/vllm-openai:v0.9.2",
            )
        ),
        Example(pod("--tensor-parallel-size", "2", "--max-model-len", "8192", model="Qwen/Qwen3-30B-A3B-FP8")),
    ),
    "ENG003": Pair(
        Example(pod("--tensor-parallel-size", "2", "--enable-eplb", "--max-model-len", "8192")),
        Example(pod("--tensor-parallel-size", "2", "--enable-expert-parallel", "--max-model-len", "8192")),
    ),
    "ENG004": Pair(
        Example(pod("--pipeline-parallel-size", "64", "--max-model-len", "8192", gpus=64)),
        Example(pod("--pipeline-parallel-size", "2", "--max-model-len", "8192")),
    ),
    "ENG005": Pair(Example(pod("--tensor-parallel-size", "2", "--max-model-len", "131072")), GOOD),
    # MXFP4 experts need compute capability 8.0: none on a V100.
    "ENG006": Pair(
        Example(pod("--max-model-len", "4096", model="openai/gpt-oss-20b", gpus=1, card="Tesla-V100-SXM2-32GB")), GOOD
    ),
    "ENG007": Pair(
        Example(
            "#!/bin/sh\nllama-server -m mixtral-8x7b -ngl 99 -ctk f16 -ctv q8_0 -fa off -c 4096\n",
            "serve.sh",
            "models: {mixtral-8x7b: mistralai/Mixtral-8x7B-v0.1}\n",
            {"gpu": "2xh100"},
        ),
        Example(
            "#!/bin/sh\nllama-server -m mixtral-8x7b -ngl 99 -c 4096\n",
            "serve.sh",
            "models: {mixtral-8x7b: mistralai/Mixtral-8x7B-v0.1}\n",
            {"gpu": "2xh100"},
        ),
    ),
    "ENG008": Pair(
        Example(
            pod(
                "--max_seq_len",
                "8192",
                "--tp_size",
                "2",
                image="nvcr.io/nvidia/tensorrt-llm/release:1.1.0",
                card="AMD-Instinct-MI300X-OAM",
                command='["trtllm-serve", "mistralai/Mixtral-8x7B-v0.1"]',
            )
        ),
        GOOD,
    ),
    "ENG009": Pair(Example(pod("--tensor-parallel-size", "two")), GOOD),
    "TOP001": Pair(Example(pod("--tensor-parallel-size", "4", "--max-model-len", "8192", gpus=2)), GOOD),
    "TOP002": Pair(Example(pod(*TP2, gpus=8)), GOOD),
    "TOP003": Pair(Example(pod(*TP2, gpus=None)), GOOD),
    "TOP004": Pair(
        Example(compose("0"), "compose.yaml", options={"gpu": "h200"}),
        Example(compose("1"), "compose.yaml", options={"gpu": "h200"}),
    ),
    # 3 ranks over 2 workers.
    "TOP005": Pair(Example(modelservice(3, 2), "values.yaml"), Example(modelservice(4, 2), "values.yaml")),
    "LIM001": Pair(
        Example(pod(*TP2), policy=limits("min_headroom_gib: 60")),
        Example(pod(*TP2), policy=limits("min_headroom_gib: 1")),
    ),
    "LIM002": Pair(
        Example(pod(*TP2), policy=limits("min_kv_tokens: 100M")),
        Example(pod(*TP2), policy=limits("min_kv_tokens: 10k")),
    ),
    "LIM003": Pair(
        Example(pod(*TP2), policy=limits("min_concurrency: 10000")),
        Example(pod(*TP2), policy=limits("min_concurrency: 2")),
    ),
    "LIM004": Pair(
        Example(pod(*TP2), policy=limits("min_context_tokens: 16k")),
        Example(pod(*TP2), policy=limits("min_context_tokens: 8k")),
    ),
    "LIM005": Pair(
        Example(pod(*TP2), policy=limits("max_weights_gib_per_gpu: 40")),
        Example(pod(*TP2), policy=limits("max_weights_gib_per_gpu: 60")),
    ),
    "LIM006": Pair(
        Example(pod(*TP2, replicas=4), policy=limits("max_total_gpus: 6")),
        Example(pod(*TP2, replicas=3), policy=limits("max_total_gpus: 6")),
    ),
    "LIM007": Pair(
        Example(pod(*TP2, replicas=2), policy=limits("max_usd_per_hour: 9") + "prices: {h100-sxm: 2.5}\n"),
        Example(pod(*TP2, replicas=2), policy=limits("max_usd_per_hour: 10") + "prices: {h100-sxm: 2.5}\n"),
    ),
    "LIM008": Pair(
        Example(pod(*TP2), policy="allow: {gpus: ['h200*']}\n"), Example(pod(*TP2), policy="allow: {gpus: ['h100*']}\n")
    ),
    "LIM009": Pair(
        Example(pod(*TP2), policy="allow: {engines: [sglang]}\n"),
        Example(pod(*TP2), policy="allow: {engines: [vllm]}\n"),
    ),
    "LIM010": Pair(
        Example(pod(*TP2), policy="allow: {models: ['Qwen/*']}\n"),
        Example(pod(*TP2), policy="allow: {models: ['mistralai/*']}\n"),
    ),
    "LIM011": Pair(
        Example(pod(*TP2), policy="allow: {formats: ['fp8*']}\n"),
        Example(pod(*TP2), policy="allow: {formats: [bf16]}\n"),
    ),
    "HYG001": Pair(Example(pod("--tensor-parallel-size", "2", "--max-model-len", "8192")), GOOD),
    "HYG002": Pair(Example(pod(*TP2, image="vllm/vllm-openai:latest")), GOOD),
    "HYG003": Pair(Example(pod(*TP2, image="vllm/vllm-openai:latest")), GOOD),
    "HYG004": Pair(
        Example(pod(*TP2, "--served-model-name", "mistralai/Mixtral-8x7B-v0.1-AWQ")),
        Example(pod(*TP2, "--served-model-name", "mistralai/Mixtral-8x7B-v0.1")),
    ),
    "HYG005": Pair(Example(pod(*TP2, "--max-modle-len", "4096")), GOOD),
    "HYG006": Pair(Example(pod(*TP2, "--max-model-len", "4096")), GOOD),
    "HYG007": Pair(
        Example(pod(*TP2, env='\n          env: [{name: HF_TOKEN, value: "hf_abcdefghijklmnopqrstuvwx"}]')),
        Example(
            pod(
                *TP2,
                env="\n          env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}]",
            )
        ),
    ),
    "HYG008": Pair(Example(pod(*TP2).replace("replicas: 1", "replicas: 1\n  replicas: 2")), GOOD),
    "HYG009": Pair(
        Example(pod(*TP2, card=None), policy="defaults: {gpu: h100}\nrequire: {gpu_stated: true}\n"),
        Example(pod(*TP2), policy="defaults: {gpu: h100}\nrequire: {gpu_stated: true}\n"),
    ),
    "READ001": Pair(Example(pod(*TP2) + "  broken: [\n"), GOOD),
    "READ002": Pair(Example(pod(*TP2).replace("replicas: 1", "replicas: {{ .Values.replicas }}")), GOOD),
    "READ003": Pair(
        Example(
            "apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nmetadata: {name: server}\nspec:\n"
            "  baseRefs: [{name: elsewhere}]\n  model: {uri: 'hf://mistralai/Mixtral-8x7B-v0.1'}\n"
            "  template:\n    containers:\n      - name: main\n        resources: {limits: {nvidia.com/gpu: '2'}}\n"
        ),
        GOOD,
    ),
    "READ004": Pair(Example(pod(*TP2, model="/models/ours")), GOOD),
    "READ005": Pair(Example(pod(*TP2, card=None)), GOOD),
    "READ006": Pair(
        Example(
            pod(
                "vllm serve mistralai/Mixtral-8x7B-v0.1 --max-model-len 8192 --tensor-parallel-size $TP",
                command='["/bin/sh", "-c"]',
            )
        ),
        Example(
            pod(
                "vllm serve mistralai/Mixtral-8x7B-v0.1 --max-model-len 8192 --tensor-parallel-size $TP",
                command='["/bin/sh", "-c"]',
            ),
            policy="variables: {TP: '2'}\n",
        ),
    ),
    "READ007": Pair(Example(pod(*TP2, model="nobody/no-such-model")), GOOD),
    # The catalogue's entry says of itself that it is no published config.
    "READ008": Pair(
        Example(
            pod(
                "--tensor-parallel-size", "16", "--max-model-len", "8192", model="deepseek-ai/DeepSeek-R1-0528", gpus=16
            )
        ),
        Example(pod("--tensor-parallel-size", "2", "--max-model-len", "8192")),
    ),
    "READ009": Pair(GOOD, Example(pod("--tensor-parallel-size", "2", "--max-model-len", "8192"))),
    # Ollama picks its own length by the card.
    "READ011": Pair(
        Example("FROM hf.co/unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M\n", "Modelfile"),
        Example("FROM hf.co/unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M\nPARAMETER num_ctx 8192\n", "Modelfile"),
    ),
    "READ010": Pair(Example("name: something\nelse: 1\n"), GOOD),
}
