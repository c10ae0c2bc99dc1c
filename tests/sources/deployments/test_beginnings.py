"""A deployment begins where its own key or dash stands, so that a comment above that is about it."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Deployed
from moeplan.sources.deployments.nodes import compose
from moeplan.sources.deployments.read import read_file

POD = "{containers: [{name: main, image: 'vllm/vllm-openai:v0.24.0', args: [--model, org/name]}]}"

COMPOSE = """\
services:
  # above one
  one: # ONE
    image: vllm/vllm-openai:v0.24.0
    command: --model org/one
  two: # TWO
    extends: one
    environment: {A: b}
  router: {image: nginx}
"""
DYNAMO = """\
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  services:
    Frontend: {componentType: frontend}
    Decode: # DECODE
      replicas: 1
      extraPodSpec: {mainContainer: {image: x, command: [python3, -m, dynamo.vllm, --model, org/name]}}
    Prefill: # PREFILL
      subComponentType: prefill
      extraPodSpec: {mainContainer: {image: x, command: [python3, -m, dynamo.vllm, --model, org/name]}}
"""
DYNAMO_BETA = """\
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  components:
  - # DECODE
    name: Decode
    type: worker
    podTemplate: {spec: {containers: [{name: main, command: [python3, -m, dynamo.vllm, --model, org/name]}]}}
  - name: Prefill # PREFILL
    type: prefill
    podTemplate: {spec: {containers: [{name: main, command: [python3, -m, dynamo.vllm, --model, org/name]}]}}
"""
LLM_D = """\
modelArtifacts: {name: org/name, uri: "hf://org/name"}
decode: # DECODE

  # above replicas
  replicas: 1
  containers: [{name: vllm, image: 'vllm/vllm-openai:v0.24.0', modelCommand: vllmServe}]
prefill: # PREFILL
  replicas: 1
  containers: [{name: vllm, image: 'vllm/vllm-openai:v0.24.0', modelCommand: vllmServe}]
"""
SCENARIO = """\
scenario:
- # ONE-DECODE
  name: one
  model: {name: org/name}
  decode:
    replicas: 1
  prefill: # ONE-PREFILL
    replicas: 1
"""
LLAMA_SWAP = """\
models:
  one: # ONE
    cmd: llama-server -m one.gguf
  # two is larger
  "two": # TWO
    cmd: llama-server -m two.gguf
"""
STACK = """\
servingEngineSpec:
  modelSpec:
  - # A

    # the first
    name: a
    modelURL: org/name
    replicaCount: 1
  -   name: b # B
      modelURL: org/name
      replicaCount: 1
"""
GROUP = f"""\
apiVersion: workloads.x-k8s.io/v1alpha1
kind: RoleBasedGroup
metadata: {{name: g}}
spec:
  roles:
    -
      # G-DECODE is the line above
      name: decode
      replicas: 1
      template: {{spec: {POD}}}
    - name: prefill # G-PREFILL
      replicas: 1
      template: {{spec: {POD}}}
"""
KSERVE = """\
apiVersion: serving.kserve.io/v1alpha2 # S-DECODE
kind: LLMInferenceService
metadata: {name: s}
spec:
  baseRefs: [{name: base}]
  model: {uri: "hf://org/name"}
  prefill: # S-PREFILL
    replicas: 3
---
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceServiceConfig
metadata: {name: base}
spec:
  prefill:
    replicas: 2
"""
RAY = """\
applications:
- import_path: ray.serve.llm:build_openai_app
  args:
    llm_configs:
    - # A
      model_loading_config: {model_id: a, model_source: org/a}
    - model_loading_config: {model_id: b, model_source: org/b} # B
"""
LIST = f"""\
apiVersion: v1
kind: List
items:
- # A
  apiVersion: v1
  kind: Pod
  metadata: {{name: a}}
  spec: {POD}
- apiVersion: v1 # B
  kind: Pod
  metadata: {{name: b}}
  spec: {POD}
"""
TWO_CONTAINERS = """\
apiVersion: v1 # P-ONE
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: one
    image: vllm/vllm-openai:v0.24.0
    args: [--model, org/one]
  - # P-TWO
    name: two
    image: vllm/vllm-openai:v0.24.0
    args: [--model, org/two]
"""
TEXTS = {
    "compose": COMPOSE, "dynamo-v1alpha1": DYNAMO, "dynamo-v1beta1": DYNAMO_BETA, "llm-d": LLM_D, "scenario": SCENARIO,
    "llama-swap": LLAMA_SWAP, "production-stack": STACK, "kserve": KSERVE, "ray": RAY, "list": LIST,
    "containers": TWO_CONTAINERS,
}  # fmt: skip


def engines(text: str) -> dict[str, Deployed]:
    return {each.name: each for each in read_file("values.yaml", text).deployments}


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_where_a_deployment_begins(kind: str) -> None:
    text = TEXTS[kind]
    marked = {
        line.rpartition("# ")[2].lower(): number
        for number, line in enumerate(text.split("\n"), 1)
        if line.rpartition("# ")[2].isupper()
    }
    assert {name.lower(): each.spot.line for name, each in engines(text).items()} == marked
    assert len(marked) == 2


def test_a_dash_alone_on_its_line() -> None:
    found = engines(GROUP)
    lines = GROUP.split("\n")
    assert lines[found["g-decode"].spot.line - 1] == "    -"
    assert "G-PREFILL" in lines[found["g-prefill"].spot.line - 1]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a:\n- x\n- - y\n  - z\n", [(2, 1), (3, 1)]),
        ("a:\n  -\n    # why\n\n    x: 1\n  -   y\n", [(2, 3), (6, 3)]),
        ("a: [x, {y: 1}]\n", [(1, 5), (1, 8)]),
        ("a:\n- |\n  x\n- >-\n\n  y\n", [(2, 1), (4, 1)]),
    ],
)
def test_the_dash_of_an_item(text: str, places: list[tuple[int, int]]) -> None:
    items = compose(text).documents[0].at("a").items
    assert [item.key[:2] for item in items] == places


def test_documents_and_objects_have_their_lines() -> None:
    pod = LIST.split("- apiVersion: v1 # B\n", maxsplit=1)[0].split("items:\n- # A\n")[1].replace("\n  ", "\n").strip()
    text = f"{LIST}---\n# above\n{pod}\n---\nkind: Other\n"
    found = read_file("a.yaml", text).deployments
    assert [(each.name, each.within.first) for each in found] == [("a", 4), ("b", 9), ("a", 15)]
    assert [each.within.last for each in found] == [8, 14, text.count("\n") - 1]
