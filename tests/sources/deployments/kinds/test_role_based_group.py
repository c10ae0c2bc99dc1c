"""Groups of roles: single pods and groups of pods, shared templates, sets of groups, AIBrix's services."""

from __future__ import annotations

import pytest

from tests.sources.deployments.reading import lines_of, named, only, read, recognised, says

GROUP = """\
apiVersion: workloads.x-k8s.io/v1alpha2
kind: RoleBasedGroup
metadata: {name: split}
spec:
  roleTemplates:
  - name: engine
    template:
      spec:
        nodeSelector: {nvidia.com/gpu.product: NVIDIA-H20}
        containers:
        - name: sglang
          image: lmsysorg/sglang:v0.5.3
          env: [{name: LEVEL, value: low}]
          resources: {limits: {nvidia.com/gpu: "8"}}
  roles:
  - name: router
    replicas: 1
    standalonePattern:
      template:
        spec:
          containers:
          - name: router
            image: lmsysorg/sglang-router:v0.2.0
            command: [python3, -m, sglang_router.launch_router, --pd-disaggregation]
  - name: prefill
    replicas: 2
    standalonePattern:
      templateRef:
        name: engine
        patch:
          spec:
            containers:
            - name: sglang
              args: [python3, -m, sglang.launch_server, --model-path=org/m, --tp=8, --disaggregation-mode=prefill]
  - name: decode
    replicas: 3
    leaderWorkerPattern:
      size: 2
      template:
        spec:
          containers:
          - name: sglang
            image: lmsysorg/sglang:v0.5.3
            command:
            - python3
            - -m
            - sglang.launch_server
            - --model-path=org/m
            - --tp-size=16
            - --nnodes=$(RBG_LWP_GROUP_SIZE)
            - --node-rank=$(RBG_LWP_WORKER_INDEX)
            resources: {limits: {nvidia.com/gpu: "8"}}
      leaderTemplatePatch:
        metadata: {annotations: {moeplan/gpu: h20}}
"""


def test_each_role_is_a_deployment() -> None:
    found = read("role_based_group", GROUP)
    engines = named(found)
    assert sorted(engines) == ["split-decode", "split-prefill"]
    prefill, decode = engines["split-prefill"], engines["split-decode"]
    assert (prefill.kind, prefill.role, prefill.engine) == ("rbg.rolebasedgroup", "prefill", "sglang")
    assert says(prefill.command, "--model-path=org/m", "--tp=8")
    assert lines_of(prefill.command, "--tp=8") == [34]
    assert prefill.gpu is not None
    assert (prefill.gpu.text, prefill.gang.gpus_per_engine) == ("NVIDIA-H20", 8)
    assert (prefill.spot.line, decode.spot.line) == (25, 35)
    assert decode.role == "decode"
    assert says(decode.command, "--tp-size=16", "--nnodes=2", "--node-rank=0")
    gang = decode.gang
    assert gang.pods_per_engine is not None
    assert gang.replicas is not None
    assert (gang.pods_per_engine.text, gang.pods_per_engine.spot.line, gang.gpus_per_engine) == ("2", 38, 16)
    assert (gang.replicas.text, gang.replicas.spot.line) == ("3", 36)
    assert decode.annotations["moeplan/gpu"].text == "h20"
    assert found.passed_over == ("split-router",)


def test_a_shared_template_that_is_not_there() -> None:
    found = read("role_based_group", GROUP.replace("  - name: engine\n", "  - name: other\n"))
    (remark,) = found.remarks
    assert (remark.code, remark.spot.line) == ("base-missing", 29)


OLDER = """\
apiVersion: workloads.x-k8s.io/v1alpha1
kind: RoleBasedGroup
metadata: {name: old}
spec:
  roles:
  - name: engine
    replicas: 2
    template:
      spec:
        containers:
        - name: c
          image: lmsysorg/sglang:v0.5.3
          command: [python3, -m, sglang.launch_server, --model-path=org/m, --tp=16]
          resources: {limits: {nvidia.com/gpu: 8}}
    leaderWorkerSet:
      size: 2
      patchLeaderTemplate:
        spec: {containers: [{name: c, env: [{name: A, value: "1"}]}]}
"""


def test_the_first_version_keeps_template_and_size_apart() -> None:
    engine = only(read("role_based_group", OLDER))
    assert (engine.name, engine.role, engine.gang.gpus_per_engine) == ("old-engine", "aggregate", 16)
    assert engine.variables["A"].text == "1"


def test_sets_multiply_their_groups() -> None:
    roles = OLDER.partition("spec:\n")[2]
    text = (
        "apiVersion: workloads.x-k8s.io/v1alpha1\nkind: RoleBasedGroupSet\nmetadata: {name: many}\nspec:\n  replicas: 3\n"
        "  template:\n" + "".join(f"  {each}\n" for each in roles.splitlines())
    )
    gang = only(read("role_based_group", text)).gang
    assert gang.replicas is not None
    # Three groups with two engines each.
    assert (gang.replicas.text, gang.replicas.origin) == ("6", "inferred")


STORM = """\
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: StormService
metadata: {name: storm}
spec:
  replicas: 1
  template:
    spec:
      roles:
      - name: prefill
        replicas: 2
        podGroupSize: 2
        template:
          spec:
            containers:
            - name: c
              image: aibrix/sglang:v0.4.9
              command: [sh, -c]
              args:
              - |
                python3 -m sglang.launch_server --model-path /models/Qwen3-8B --served-model-name qwen3-8B \\
                  --disaggregation-mode prefill --nnodes 2 --node-rank $POD_GROUP_INDEX --tp-size 2
              resources: {limits: {nvidia.com/gpu: 1}}
"""


def test_a_service_of_aibrix() -> None:
    engine = only(read("role_based_group", STORM))
    assert (engine.kind, engine.name, engine.role) == ("aibrix.stormservice", "storm-prefill", "prefill")
    assert says(engine.command, "--nnodes 2", "--node-rank 0")
    assert engine.gang.replicas is not None
    assert (engine.gang.gpus_per_engine, engine.gang.replicas.text) == (2, "2")
    # A path, and a served name that names no repository.
    assert (engine.model, [name.text for name in engine.served_names]) == (None, ["qwen3-8B"])


@pytest.mark.parametrize("text", [GROUP, OLDER, STORM])
def test_kinds_are_known_by_their_group(text: str) -> None:
    assert recognised("role_based_group", text)
    assert not recognised("role_based_group", text.replace("apiVersion: ", "apiVersion: x"))
