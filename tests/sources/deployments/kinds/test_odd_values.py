"""Whatever stands where another value is expected, a reader reads on: it never stops with an error of its own."""

from __future__ import annotations

import random
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.stream import Stream

TEXTS = {
    "dynamo": """\
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: g, annotations: {moeplan/gpu: x}}
spec:
  envs: [{name: A, value: b}]
  services:
    W:
      componentType: worker
      replicas: 1
      multinode: {nodeCount: 2}
      resources: {limits: {gpu: "4", custom: {rdma/ib: 1}}}
      extraPodSpec:
        nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
        volumes: [{name: v, configMap: {name: c, items: [{key: k, path: p}]}}]
        mainContainer:
          image: x
          volumeMounts: [{name: v, mountPath: /c}]
          command: [python3, -m, dynamo.trtllm]
          args: [--model-path, o/m, --extra-engine-args, /c/p]
""",
    "dynamo ": """\
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
spec:
  env: [{name: A, value: b}]
  components:
    - name: w
      type: worker
      podTemplate: {spec: {containers: [{name: main, image: x, command: [vllm, serve, o/m], resources: {limits: {a: 1}}}]}}
""",
    "production_stack": """\
servingEngineSpec:
  vllmApiKey: x
  modelSpec:
    - name: a
      repository: vllm/vllm-openai
      tag: v1
      modelURL: o/m
      replicaCount: 1
      requestGPU: 4
      requestGPUType: nvidia.com/mig-1g.10gb
      raySpec: {enabled: true, headNode: {requestGPU: 4}}
      lwsSpec: {enabled: true, size: 2}
      keda: {enabled: true, minReplicaCount: 1, maxReplicaCount: 2}
      lmcacheConfig: {enabled: true, kvRole: kv_both}
      vllmConfig: {maxModelLen: 1, extraArgs: [--x, y], enablePrefixCaching: true}
      env: [{name: A, value: b}]
      nodeSelectorTerms: [{matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [L40S]}]}]
""",
    "llm_d": """\
multinode: true
modelArtifacts: {name: o/m, uri: "hf://{{ .Values.modelArtifacts.name }}", mountPath: /x}
decode:
  create: true
  replicas: 1
  autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 2}
  parallelism: {tensor: 2, data: 4, dataLocal: 2, workers: 2}
  acceleratorTypes: {labelKey: nvidia.com/gpu.product, labelValues: [H200]}
  containers: [{image: vllm/vllm-openai, modelCommand: vllmServe, args: [--x], resources: {limits: {nvidia.com/gpu: 1}}}]
prefill: {create: true, replicas: 1, containers: [{image: x, command: [vllm], args: [serve, o/m]}]}
""",
    "llm_d ": """\
scenario:
  - name: s
    common: {multinode: {enabled: true}, affinity: {nodeSelector: {a: b}}, images: {vllm: {repository: r, tag: t}}}
    model: {name: o/m, huggingfaceId: o/m, path: p, maxModelLen: 1}
    vllmCommon: {flags: {enforceEager: true}, kvTransfer: {enabled: true}}
    decode: {replicas: 1, parallelism: {tensor: 1}, vllm: {additionalFlags: [--x y]}, extraEnvVars: [{name: A, value: b}]}
    prefill: {enabled: true, replicas: 1, vllm: {customCommand: vllm serve o/m}}
""",
    "compose": """\
services:
  a:
    image: vllm/vllm-openai:v1
    extends: {service: b}
    profiles: [p]
    env_file: [.env]
    environment: [A=b, C]
    command: --model o/m --tp ${TP:-2}
    gpus: [{count: 1}]
    labels: [moeplan/gpu=x]
  b:
    image: x
    entrypoint: [vllm, serve]
    command: [o/m]
    devices: [nvidia.com/gpu=0]
    environment: {CUDA_VISIBLE_DEVICES: "0,1"}
    deploy: {replicas: 1, resources: {reservations: {devices: [{device_ids: ["0"], capabilities: [gpu]}]}}}
""",
    "skypilot": """\
name: t
envs: {A: b, C: null}
secrets: {T: null}
resources: {image_id: docker:x, accelerators: {H100: 8}, any_of: [{instance_type: p5.48xlarge}], ordered: [{cpus: 1}]}
num_nodes: 2
setup: pip install vllm==1.0
run: vllm serve o/m -tp $SKYPILOT_NUM_GPUS_PER_NODE
service: {replicas: 1, replica_policy: {min_replicas: 1, max_replicas: 2}}
""",
    "truss": """\
model_name: t
base_image: {image: vllm/vllm-openai:v1}
environment_variables: {A: b}
resources: {accelerator: "H100:4", node_count: 2}
weights: [{source: hf://o/m@r, mount_location: /m}]
model_cache: [{repo_id: o/m, revision: r, volume_folder: f}]
model_metadata: {repo_id: o/m}
docker_server: {start_command: vllm serve /m}
trt_llm:
  inference_stack: v2
  build: {checkpoint_repository: {repo: o/m, revision: r}, quantization_type: fp8_kv}
  runtime: {max_batch_size: 1, patch_kwargs: {kv_cache_config: {dtype: fp8}}}
vllm: {model: o/m, extra_args: [--a b], patch_kwargs: {a: 1}}
bis_llm: {config: {engine_backend: vllm, checkpoint_name: o/m, engine_config: {a: 1}}}
""",
}
ODD = (
    Node("null", compose("a").documents[0].spot),
    *(
        compose(text).documents[0]
        for text in ("7", "-1", "true", "''", "[]", "{}", "[[1], {a: 2}]", "{a: {b: [c]}}", "a: b")
    ),
    *(compose(text).documents[0] for text in ("'$('", "'${A'", "'{{ x }}'", "'\"'", "'a:b:c'", "99999999999999999999")),
)


def changed(node: Node, chance: random.Random) -> Node:
    """The tree with some of its values replaced, and some of its keys gone."""
    if chance.random() < 0.06:
        return chance.choice(ODD)
    if node.kind == "map":
        kept = {key: changed(value, chance) for key, value in node.entries.items() if chance.random() > 0.03}
        return Node("map", node.spot, entries=kept)
    if node.kind == "list":
        return Node("list", node.spot, items=[changed(item, chance) for item in node.items])
    return node


@pytest.mark.parametrize("kind", TEXTS)
@given(chance=st.randoms(use_true_random=True))
def test_odd_values_are_read_past(kind: str, chance: random.Random) -> None:
    (document,) = compose(TEXTS[kind]).documents
    odd = changed(document, chance)
    reader = import_module(f"moeplan.sources.deployments.kinds.{kind.strip()}")
    if reader.recognises(odd):
        found = reader.read(odd, Stream("folder/file.yaml", (odd,)))
        assert all(isinstance(each.name, str) and each.spot.line >= 1 for each in found.deployments)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_texts_are_recognised(kind: str) -> None:
    (document,) = compose(TEXTS[kind]).documents
    assert import_module(f"moeplan.sources.deployments.kinds.{kind.strip()}").recognises(document)
