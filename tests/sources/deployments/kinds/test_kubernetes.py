"""Workloads of Kubernetes: pods, copies, patches, nodes that are one engine, and what runs no engine."""

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

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat
  annotations:
    moeplan/gpu: h100-sxm
    other/note: x
spec:
  replicas: 3
  template:
    metadata:
      annotations:
        moeplan/ignore: FIT001
      labels:
        llm-d.ai/role: decode
    spec:
      nodeSelector:
        nvidia.com/gpu.product: NVIDIA-H200
      initContainers:
        - name: fetch
          image: busybox
          command: [sh, -c, "echo"]
      containers:
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          args:
            - --model=org/model
            - --tensor-parallel-size
            - $(DEGREE)
            - --served-model-name=small
          env:
            - {name: DEGREE, value: "2"}
            - {name: VLLM_USE_V1, value: "1"}
          resources:
            limits: {nvidia.com/gpu: "2"}
        - name: routing-proxy
          image: ghcr.io/llm-d/llm-d-routing-sidecar:v0.2.0
          args: ["--port=8000", "--data-parallel-size=8"]
"""


def workload(kind: str, spec: str, pod: str, name: str = "x") -> str:
    """An object of one container; `spec` stands beside the template, `pod` inside the container."""
    api = "batch/v1" if kind == "Job" else "apps/v1"
    own = "".join(f"  {each}\n" for each in spec.strip().splitlines())
    inside = "".join(f"        {each}\n" for each in pod.strip().splitlines())
    head = f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{own}  template:\n    spec:\n"
    return f"{head}      containers:\n      - name: main\n{inside}"


def test_a_deployment_with_side_cars() -> None:
    found = read("kubernetes", DEPLOYMENT)
    engine = only(found)
    assert (engine.kind, engine.name, engine.spot.line) == ("k8s.deployment", "chat", 1)
    assert (engine.engine, engine.role, engine.host, engine.remarks) == ("vllm", "decode", "", ())
    assert engine.engine_version is not None
    assert engine.image is not None
    assert (engine.engine_version.text, engine.image.spot.line) == ("0.11.0", 25)
    assert says(engine.command, "--model=org/model", "--tensor-parallel-size 2")
    assert lines_of(engine.command, "--model=org/model", "--tensor-parallel-size", "2") == [27, 28, 29]
    assert engine.gpu is not None
    assert (engine.gpu.text, engine.gpu.spot.line) == ("NVIDIA-H200", 18)
    gang = engine.gang
    assert gang.gpus_per_pod is not None
    assert gang.replicas is not None
    assert (gang.gpus_per_pod.text, gang.gpus_per_pod.spot.line) == ("2", 35)
    assert (gang.replicas.text, gang.replicas.spot.line) == ("3", 9)
    assert (gang.pods_per_engine, gang.max_replicas, gang.gpus_per_engine) == (None, None, 2)
    assert engine.variables["VLLM_USE_V1"].text == "1"
    assert {name: quote.text for name, quote in engine.annotations.items()} == {
        "moeplan/gpu": "h100-sxm",
        "moeplan/ignore": "FIT001",
    }
    assert [name.text for name in engine.served_names] == ["small"]
    assert found.passed_over == ("routing-proxy", "fetch")


@pytest.mark.parametrize(
    ("api", "kind", "expected"),
    [
        ("apps/v1", "Deployment", True),
        ("apps/v1", "StatefulSet", True),
        ("apps/v1", "DaemonSet", True),
        ("batch/v1", "Job", True),
        ("batch/v1", "CronJob", True),
        ("v1", "Pod", True),
        ("argoproj.io/v1alpha1", "Rollout", True),
        ("apps.kruise.io/v1alpha1", "CloneSet", True),
        ("apps.kruise.io/v1beta1", "StatefulSet", True),
        ("serving.knative.dev/v1", "Service", True),
        ("batch.volcano.sh/v1alpha1", "Job", False),  # its tasks are no pod template
        ("v1", "Service", False),
        ("serving.kserve.io/v1beta1", "InferenceService", False),
    ],
)
def test_kinds_are_known_by_their_group(api: str, kind: str, *, expected: bool) -> None:
    assert recognised("kubernetes", f"apiVersion: {api}\nkind: {kind}\nspec: {{}}\n") is expected


def test_what_runs_no_engine_is_passed_over_by_its_name() -> None:
    found = read("kubernetes", workload("Deployment", "replicas: 1", "image: nginx:1.27", "web"))
    assert (found.deployments, found.passed_over, found.remarks) == ((), ("web",), ())
    # Whatever asks for GPUs may train, or draw: it is no engine that is known.
    trains = "image: pytorch/pytorch:2.9.0\ncommand: [python, train.py]\nresources: {limits: {nvidia.com/gpu: 8}}"
    found = read("kubernetes", workload("Deployment", "replicas: 1", trains, "training"))
    assert (found.deployments, found.passed_over, found.remarks) == ((), ("training",), ())


def test_a_patch_without_an_image_says_what_it_lacks() -> None:
    found = read("kubernetes", workload("Deployment", "replicas: 4", 'command: [vllm, serve, org/model, "-tp=8"]'))
    engine = only(found)
    assert engine.kind == "k8s.deployment-patch"
    (remark,) = engine.remarks
    assert (remark.code, remark.spot.line) == ("patch-incomplete", 9)
    assert "kustomize build" in remark.hint


def test_flags_of_an_engine_without_its_name_are_kept() -> None:
    pod = "image: registry.local/team/llm:7\nargs: [org/model, --max-model-len=4096]"
    engine = only(read("kubernetes", workload("Deployment", "replicas: 1", pod)))
    assert (engine.engine, engine.engine_version) == (None, None)
    assert line(engine.command) == "org/model --max-model-len=4096"


def test_copies_of_jobs_daemons_and_pods() -> None:
    pod = "image: vllm/vllm-openai:v0.11.0\nargs: [--model=org/model]"
    job = only(read("kubernetes", workload("Job", "parallelism: 2", pod)))
    assert job.gang.replicas is not None
    assert job.gang.replicas.text == "2"
    daemon = only(read("kubernetes", workload("DaemonSet", "minReadySeconds: 1", pod)))
    assert daemon.gang.replicas is not None
    assert (daemon.gang.replicas.known, daemon.gang.replicas.whole_number()) == (False, None)
    single = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec:\n  containers:\n  - name: c\n    image: vllm/vllm-openai\n"
    assert only(read("kubernetes", f"{single}    args: [--model=org/model]\n")).gang.replicas is None
    cron = (
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec:\n  jobTemplate:\n    spec:\n"
        "      parallelism: 3\n      template:\n        spec:\n          containers:\n          - name: c\n"
        "            image: vllm/vllm-openai:v0.11.0\n            args: [--model=org/model]\n"
    )
    nightly = only(read("kubernetes", cron))
    assert (nightly.kind, nightly.name) == ("k8s.cronjob", "nightly")
    assert nightly.gang.replicas is not None
    assert (nightly.gang.replicas.text, nightly.gang.replicas.spot.line) == ("3", 7)


AUTOSCALED = """\
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 1
  maxReplicas: 7
"""
KEDA = """\
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: k}
spec:
  scaleTargetRef: {name: chat}
"""


def test_autoscalers_of_the_same_stream() -> None:
    engine = only(read("kubernetes", DEPLOYMENT + AUTOSCALED))
    assert engine.gang.max_replicas is not None
    # 38 lines of the deployment, and the eighth of the autoscaler.
    assert (engine.gang.max_replicas.text, engine.gang.max_replicas.spot.line) == ("7", 38 + 8)
    assert (
        only(read("kubernetes", DEPLOYMENT + AUTOSCALED.replace("name: chat", "name: talk"))).gang.max_replicas is None
    )
    # KEDA runs up to 100 where nobody says less.
    keda = only(read("kubernetes", DEPLOYMENT + KEDA)).gang.max_replicas
    assert keda is not None
    assert (keda.text, keda.origin) == ("100", "default")


TWO_ENGINES = """\
apiVersion: v1
kind: Pod
metadata: {name: both}
spec:
  containers:
  - name: large
    image: vllm/vllm-openai:v0.11.0
    args: [--model=org/large]
    resources: {limits: {nvidia.com/gpu: 4}}
  - name: small
    image: lmsysorg/sglang:v0.5.3
    command: [python3, -m, sglang.launch_server, --model-path, org/small]
    resources: {limits: {nvidia.com/gpu: 1}}
"""


def test_two_engines_of_one_pod_share_its_machine() -> None:
    found = named(read("kubernetes", TWO_ENGINES))
    assert sorted(found) == ["both-large", "both-small"]
    assert {each.host for each in found.values()} == {"both"}
    assert [found[name].engine for name in sorted(found)] == ["vllm", "sglang"]
    assert [found[name].gang.gpus_per_engine for name in sorted(found)] == [4, 1]
    # Comments between the two belong to the first.
    assert [found[name].spot.line for name in sorted(found)] == [1, 10]


ONE_SCRIPT = """\
image: vllm/vllm-openai:v0.11.0
command: [bash, -c]
args:
- |
  CUDA_VISIBLE_DEVICES=0 vllm serve org/a --port 8001 &
  CUDA_VISIBLE_DEVICES=1,2 vllm serve org/b --port 8002 -tp 2
resources: {limits: {nvidia.com/gpu: 3}}
"""


def test_engines_of_one_script_have_their_own_cards() -> None:
    found = read("kubernetes", workload("Deployment", "replicas: 1", ONE_SCRIPT))
    first, second = found.deployments
    assert (first.device_ids, second.device_ids) == (("0",), ("1", "2"))
    assert (first.gang.gpus_per_engine, second.gang.gpus_per_engine) == (1, 2)
    assert first.host == second.host == "x"
    assert (first.not_at_once, second.not_at_once) == ("", "")


BRANCHES = """\
image: vllm/vllm-openai:v0.11.0
command: [sh, -c]
args:
- |
  if [ "$MODE" = fast ]; then vllm serve org/a --max-model-len 1024
  else vllm serve org/a --max-model-len 2048
  fi
"""


def test_branches_at_one_port_never_run_at_once() -> None:
    found = read("kubernetes", workload("Deployment", "replicas: 1", BRANCHES))
    assert len(found.deployments) == 2
    assert len({each.not_at_once for each in found.deployments}) == 1
    assert found.deployments[0].not_at_once


def sglang(rank: str, nodes: str = "2") -> str:
    words = f"--model-path org/m --tp 16 --nnodes {nodes} --node-rank {rank}"
    return (
        "image: lmsysorg/sglang:v0.5.3\ncommand: [sh, -c]\nargs: ["
        f'"python3 -m sglang.launch_server {words}"]\nresources: {{limits: {{nvidia.com/gpu: "8"}}}}'
    )


def test_nodes_of_one_engine_among_the_pods_of_a_set() -> None:
    # Four pods, two for each engine.
    engine = only(read("kubernetes", workload("StatefulSet", "replicas: 4", sglang("${HOSTNAME##*-}"))))
    gang = engine.gang
    assert gang.pods_per_engine is not None
    assert gang.replicas is not None
    assert (gang.pods_per_engine.text, gang.pods_per_engine.origin) == ("2", "inferred")
    assert (gang.replicas.text, gang.replicas.origin, gang.gpus_per_engine) == ("2", "inferred", 16)


def test_nodes_that_the_file_leaves_open_are_all_pods() -> None:
    engine = only(read("kubernetes", workload("Job", "parallelism: 3", sglang("$RANK", "$NODES"))))
    assert engine.gang.pods_per_engine is not None
    assert (engine.gang.pods_per_engine.text, engine.gang.pods_per_engine.spot.line) == ("3", 5)
    assert (engine.gang.replicas, engine.gang.gpus_per_engine) == (None, 24)


def test_nodes_that_are_objects_of_their_own() -> None:
    first = workload("Deployment", "replicas: 1", sglang("0"), "node-a")
    second = workload("Deployment", "replicas: 1", sglang("1"), "node-b")
    found = read("kubernetes", f"{first}---\n{second}")
    engine = only(found)
    assert (engine.name, engine.gang.gpus_per_engine) == ("node-a", 16)
    assert found.passed_over == ("node-b",)


def test_ranks_of_data_parallelism_over_pods() -> None:
    pod = (
        "image: vllm/vllm-openai:v0.11.0\nargs: [org/m, --data-parallel-size=16, --data-parallel-size-local=8]\n"
        'resources: {limits: {nvidia.com/gpu: "8"}}'
    )
    engine = only(read("kubernetes", workload("StatefulSet", "replicas: 2", pod)))
    assert engine.gang.pods_per_engine is not None
    assert (engine.gang.pods_per_engine.text, engine.gang.gpus_per_engine) == ("2", 16)


@pytest.mark.parametrize(
    ("more", "pods", "copies"),
    [
        # Sixteen ranks over pods of eight: by Ray each engine takes two of the four pods.
        ("--distributed-executor-backend=ray", "2", "2"),
        ("", None, "4"),
    ],
)
def test_ray_reaches_over_pods(more: str, pods: str | None, copies: str) -> None:
    words = f"ray start --head; vllm serve org/m -tp 8 -pp 2 {more}"
    pod = (
        f"image: vllm/vllm-openai:v0.11.0\ncommand: [sh, -c, '{words}']\n"
        'resources: {limits: {nvidia.com/gpu: "8"}}'
    )
    gang = only(read("kubernetes", workload("StatefulSet", "replicas: 4", pod))).gang
    assert gang.replicas is not None
    assert (gang.pods_per_engine.text if gang.pods_per_engine else None, gang.replicas.text) == (pods, copies)


HEADLESS = """\
image: vllm/vllm-openai:v0.11.0
command: [bash, -c]
args:
- |
  if [ "$POD_INDEX" = "0" ]; then
    vllm serve org/m -tp 8 -pp 2 --nnodes 2 --node-rank 0
  else
    vllm serve org/m -tp 8 -pp 2 --nnodes 2 --node-rank 1 --headless
  fi
resources: {limits: {nvidia.com/gpu: "8"}}
"""


def test_the_command_of_a_helping_node_is_no_engine() -> None:
    engine = only(read("kubernetes", workload("StatefulSet", "replicas: 2", HEADLESS)))
    assert "--headless" not in line(engine.command)
    assert (engine.name, engine.gang.gpus_per_engine) == ("x", 16)


LIST = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: s}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: chat}
  spec:
    replicas: 2
    template:
      spec:
        containers:
        - name: c
          image: vllm/vllm-openai:v0.11.0
          args: [--model=org/model]
- apiVersion: autoscaling/v2
  kind: HorizontalPodAutoscaler
  metadata: {name: h}
  spec: {scaleTargetRef: {kind: Deployment, name: chat}, maxReplicas: 9}
"""


def test_objects_of_a_list() -> None:
    engine = only(read("kubernetes", LIST))
    assert (engine.name, engine.spot.line) == ("chat", 7)
    assert engine.gang.max_replicas is not None
    assert engine.gang.max_replicas.text == "9"


CLAIMED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: claimed}
spec:
  template:
    spec:
      resourceClaims:
      - {name: cards, resourceClaimTemplateName: four}
      containers:
      - name: c
        image: vllm/vllm-openai:v0.11.0
        args: [--model=org/model]
        resources: {claims: [{name: cards}]}
"""
TEMPLATE = """\
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: four}
spec:
  spec:
    devices:
      requests:
      - {name: gpu, exactly: {deviceClassName: gpu.nvidia.com, count: 4}}
      - {name: nic, exactly: {deviceClassName: rdma.example.com, count: 2}}
"""


def test_gpus_by_resource_claims() -> None:
    engine = only(read("kubernetes", CLAIMED + TEMPLATE))
    assert engine.gang.gpus_per_pod is not None
    assert (engine.gang.gpus_per_pod.text, engine.gang.gpus_per_pod.spot.line) == ("4", 8)
    (remark,) = only(read("kubernetes", CLAIMED)).remarks
    assert (remark.code, remark.spot.line) == ("claim-missing", 8)


DOWNLOADED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: local}
spec:
  template:
    spec:
      initContainers:
      - name: fetch
        image: python:3.12
        command: [sh, -c]
        args: ["pip install -U hf && hf download org/weights --revision abc123 --local-dir /models/w"]
      containers:
      - name: c
        image: vllm/vllm-openai:v0.11.0
        args: [--model=/models/w]
"""


def test_weights_that_an_init_container_fetches() -> None:
    engine = only(read("kubernetes", DOWNLOADED))
    assert engine.model is not None
    assert engine.revision is not None
    assert (engine.model.text, engine.model.origin, engine.model.spot.line) == ("org/weights", "inferred", 11)
    assert engine.revision.text == "abc123"


MOUNTED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: with-file}
spec:
  template:
    spec:
      volumes: [{name: settings, configMap: {name: flags}}]
      containers:
      - name: c
        image: vllm/vllm-openai:v0.11.0
        command: [vllm, serve, org/model, --config, /etc/flags/vllm.yaml, --max-num-seqs=4]
        volumeMounts: [{name: settings, mountPath: /etc/flags}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: flags}
data:
  vllm.yaml: |
    tensor-parallel-size: 2
    max-num-seqs: 8
"""


def test_an_engine_file_stands_behind_the_words_of_the_command() -> None:
    engine = only(read("kubernetes", MOUNTED))
    assert line(engine.command) == ("vllm serve org/model --tensor-parallel-size 2 --max-num-seqs 8 --max-num-seqs=4")
    assert lines_of(engine.command, "--tensor-parallel-size", "--max-num-seqs") == [19, 20]
    missing = only(read("kubernetes", MOUNTED.partition("---")[0]))
    assert [remark.code for remark in missing.remarks] == ["config-map-missing"]


SCRIPT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: scripted}
spec:
  template:
    spec:
      volumes: [{name: scripts, configMap: {name: launch, defaultMode: 0755}}]
      containers:
      - name: c
        image: registry.local/llm:1
        command: [/bin/bash, /scripts/start.sh]
        args: [--max-num-seqs, "4"]
        env: [{name: TP, value: "2"}]
        volumeMounts: [{name: scripts, mountPath: /scripts}]
        resources: {limits: {nvidia.com/gpu: 2}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: launch}
data:
  start.sh: |
    set -e
    exec vllm serve org/model -tp $TP "$@"
"""


def test_a_script_that_a_config_map_holds() -> None:
    engine = only(read("kubernetes", SCRIPT))
    assert line(engine.command) == "vllm serve org/model -tp 2 --max-num-seqs 4"
    assert lines_of(engine.command, "serve", "2", "--max-num-seqs") == [23, 23, 12]
    missing = read("kubernetes", SCRIPT.partition("---")[0])
    assert [remark.code for remark in missing.remarks] == ["config-map-missing"]
    # The flags behind the script are an engine's all the same.
    assert (only(missing).engine, line(only(missing).command)) == (None, "--max-num-seqs 4")


def test_a_token_is_told_and_not_kept() -> None:
    pod = (
        "image: vllm/vllm-openai:v0.11.0\nargs: [--model=org/model]\n"
        "env: [{name: HF_TOKEN, value: hf_abcdefghijklmnop}]"
    )
    found = read("kubernetes", workload("Deployment", "replicas: 1", pod))
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 12)]
    assert "hf_abcdefghijklmnop" not in repr(found)


# Examples ---------------------------------------------------------------------------------------------------------


def test_a_deployment_without_flags(shared: Path) -> None:
    text, facts = example(shared, "k8s-deployment-gpt-oss-120b-vllm.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("kubernetes", text))
    assert (engine.kind, engine.name, engine.engine) == ("k8s.deployment", fact["name"], fact["engine"])
    assert model_of(engine) == fact["model"]
    assert engine.engine_version is not None
    assert engine.engine_version.text == fact["engine_version"].removeprefix("v")
    assert (engine.gpu, engine.revision, engine.gang.gpus_per_engine) == (None, None, fact["gpus_per_engine"])
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.whole_number() == fact["replicas"]
    assert line(engine.command) == "vllm serve openai/gpt-oss-120b"


def test_an_overlay_without_its_base(shared: Path) -> None:
    text, facts = example(shared, "llm-d-gpt-oss-overlay/patch-vllm.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("kubernetes", text))
    assert (engine.kind, engine.name, engine.engine) == ("k8s.deployment-patch", fact["name"], fact["engine"])
    assert (model_of(engine), engine.role) == (fact["model"], "aggregate")
    assert says(engine.command, f"--tensor-parallel-size={fact['tp']}", f"--block-size={fact['block_size']}")
    assert engine.gang.gpus_per_engine == fact["gpus_per_engine"]
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.whole_number() == fact["replicas"] == facts["total_gpus"]
    assert [remark.code for remark in engine.remarks] == ["patch-incomplete"]


def test_a_patch_that_decodes(shared: Path) -> None:
    text, facts = example(shared, "llm-d-gpt-oss-120b-sglang-decode.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("kubernetes", text))
    assert (engine.name, engine.role, engine.engine) == (fact["name"], fact["role"], fact["engine"])
    assert says(engine.command, f"--model-path={fact['model']}", f"--tensor-parallel-size={fact['tp']}")
    assert engine.gang.gpus_per_engine == fact["gpus_per_engine"]
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.whole_number() == fact["replicas"]
