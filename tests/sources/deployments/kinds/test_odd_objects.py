"""Whatever stands where another value is expected, readers of Kubernetes' objects read on: none stops with an error of its own."""

from __future__ import annotations

import random
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.stream import Stream

POD = """\
nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
resourceClaims: [{name: r, resourceClaimTemplateName: t}]
volumes: [{name: v, configMap: {name: c}}]
initContainers: [{name: i, image: x, command: [hf, download, o/m, --local-dir, /m]}]
containers:
- name: main
  image: vllm/vllm-openai:v0.11.0
  command: [bash, -c, "vllm serve /m --nnodes 2 --node-rank $RANK --port 1 & vllm serve o/n --port 1"]
  env: [{name: RANK, value: "0"}, {name: CUDA_VISIBLE_DEVICES, value: "0,1"}]
  volumeMounts: [{name: v, mountPath: /c}]
  resources: {limits: {nvidia.com/gpu: 8}, claims: [{name: r}]}
- {name: other, args: [--max-model-len=1]}
"""


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


TEXTS = {
    "kubernetes": f"""\
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: s, annotations: {{moeplan/gpu: x}}, labels: {{llm-d.ai/role: decode}}}}
spec:
  replicas: 4
  template:
    spec:
{indented(POD, 6)}---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
spec: {{scaleTargetRef: {{kind: StatefulSet, name: s}}, maxReplicas: 8}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {{name: t}}
spec: {{spec: {{devices: {{requests: [{{name: g, exactly: {{deviceClassName: gpu.x, count: 2}}}}]}}}}}}
---
apiVersion: v1
kind: List
items: [{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: vllm/vllm-openai}}]}}}}]
""",
    "leader_worker_set": f"""\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {{name: l}}
spec:
  replicas: 1
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      spec:
{indented(POD, 8)}
    workerTemplate:
      spec:
{indented(POD, 8)}""",
    "role_based_group": f"""\
apiVersion: workloads.x-k8s.io/v1alpha2
kind: RoleBasedGroupSet
metadata: {{name: r}}
spec:
  replicas: 2
  groupTemplate:
    spec:
      roleTemplates:
      - name: t
        template:
          spec:
{indented(POD, 12)}
      roles:
      - {{name: a, replicas: 1, standalonePattern: {{templateRef: {{name: t, patch: {{spec: {{containers: [{{name: main}}]}}}}}}}}}}
      - {{name: b, replicas: 1, leaderWorkerPattern: {{size: 2, templateRef: {{name: t}}, leaderTemplatePatch: {{spec: {{}}}}}}}}
      - {{name: c, leaderWorkerSet: {{size: 2}}, templateRef: {{name: t}}, templatePatch: {{spec: {{}}}}}}
      - {{name: d, customComponentsPattern: {{components: [{{name: x, size: 2, templateRef: {{name: t}}}}]}}}}
""",
    "kserve_llm": f"""\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceServiceConfig
metadata: {{name: b}}
spec: {{model: {{name: x}}, template: {{containers: [{{name: main, env: [{{name: VLLM_ADDITIONAL_ARGS, value: --x y}}]}}]}}}}
---
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {{name: k, annotations: {{serving.kserve.io/exp-dra-device-class: gpu.x}}}}
spec:
  baseRefs: [{{name: b}}]
  model: {{uri: "pvc://a/b", lora: {{adapters: [{{name: a}}]}}}}
  parallelism: {{data: 16, dataLocal: 8, expert: true}}
  speculativeDecoding: {{method: x, speculator: {{model: {{uri: "hf://a/b"}}}}}}
  kvCacheOffloading: {{cpu: {{size: 1Gi}}}}
  scaling: {{minReplicas: 1, maxReplicas: 2}}
  worker: {{}}
  template: {{containers: [{{name: main, args: ["{{{{ .Spec.Model.Name }}}}"], resources: {{limits: {{nvidia.com/gpu: 8}}}}}}]}}
  prefill:
    parallelism: {{pipeline: 2}}
    worker: {{}}
    template:
{indented(POD, 6)}""",
    "kserve_inference": """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: r}
spec:
  supportedModelFormats: [{name: vLLM, autoSelect: true}]
  workerSpec: {tensorParallelSize: 1}
  containers: [{name: kserve-container, command: [vllm, serve], args: [/mnt/models, "--served-model-name={{.Name}}"]}]
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: k}
spec:
  predictor:
    minReplicas: 1
    workerSpec: {pipelineParallelSize: 2, tensorParallelSize: 2}
    model: {modelFormat: {name: vLLM}, runtime: r, storageUri: "hf://a/b", args: [--x], resources: {limits: {nvidia.com/gpu: 1}}}
""",
    "ray": f"""\
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: RayClusterFleet
metadata: {{name: f}}
spec:
  replicas: 2
  template:
    spec:
      headGroupSpec:
        template:
          spec:
{indented(POD, 12)}
      workerGroupSpecs:
      - {{replicas: 1, numOfHosts: 2, template: {{spec: {{containers: [{{resources: {{limits: {{nvidia.com/gpu: 8}}}}}}]}}}}}}
""",
    "ray ": """\
apiVersion: ray.io/v1
kind: RayService
metadata: {name: s}
spec:
  serveConfigV2:
    applications:
    - import_path: x
      runtime_env: {env_vars: {A: b}}
      args:
        llm_configs:
        - model_loading_config: {model_id: m, model_source: {bucket_uri: "s3://x"}}
          accelerator_type: L4
          placement_group_config: {bundles: [{GPU: 1}]}
          deployment_config: {num_replicas: auto, autoscaling_config: {min_replicas: 1, max_replicas: 2}}
          engine_kwargs: {tensor_parallel_size: 2, a: [b], c: {d: e}}
        - model_loading_config: {model_id: a/b}
          engine_kwargs: {tensor_parallel_size: 8}
  rayClusterConfig:
    enableInTreeAutoscaling: true
    headGroupSpec: {rayStartParams: {num-gpus: "0"}, template: {spec: {containers: [{image: x}]}}}
    workerGroupSpecs:
    - {replicas: 1, maxReplicas: 3, template: {spec: {containers: [{resources: {limits: {nvidia.com/gpu: 4}}}]}}}
""",
}
ODD = tuple(
    compose(text).documents[0]
    for text in (
        "~", "7", "-1", "0", "true", "''", "[]", "{}", "[[1], {a: 2}, ~]", "{a: {b: [c]}}", "{name: [a]}", "[a, {name: ~}]",
        "'$('", "'${A'", "'{{ if .X }}'", "'\"'", "99999999999999999999", "'--nnodes 0 --node-rank -1'",
    )
)  # fmt: skip
KEPT = ("apiVersion", "kind")


def changed(node: Node, chance: random.Random, *, top: bool = True) -> Node:
    """The tree with some of its values replaced, and some of its keys gone; it stays an object of its kind."""
    if not top and chance.random() < 0.05:
        return chance.choice(ODD)
    if node.kind == "map":
        entries = {
            key: value if top and key in KEPT else changed(value, chance, top=False)
            for key, value in node.entries.items()
            if (top and key in KEPT) or chance.random() > 0.03
        }
        return Node("map", node.spot, entries=entries)
    if node.kind == "list":
        return Node("list", node.spot, items=[changed(item, chance, top=False) for item in node.items])
    return node


@pytest.mark.parametrize("kind", TEXTS)
@given(chance=st.randoms(use_true_random=True))
def test_odd_values_are_read_past(kind: str, chance: random.Random) -> None:
    documents = tuple(changed(document, chance) for document in compose(TEXTS[kind]).documents)
    reader = import_module(f"moeplan.sources.deployments.kinds.{kind.strip()}")
    for document in documents:
        if reader.recognises(document):
            found = reader.read(document, Stream("folder/file.yaml", documents))
            assert all(isinstance(each.name, str) and each.spot.line >= 1 for each in found.deployments)
            assert all(isinstance(name, str) for name in found.passed_over)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_texts_deploy_something(kind: str) -> None:
    documents = tuple(compose(TEXTS[kind]).documents)
    reader = import_module(f"moeplan.sources.deployments.kinds.{kind.strip()}")
    stream = Stream("folder/file.yaml", documents)
    assert any(reader.read(document, stream).deployments for document in documents if reader.recognises(document))
