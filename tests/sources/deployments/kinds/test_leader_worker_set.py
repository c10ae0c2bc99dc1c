"""LeaderWorkerSet: a group of pods is one engine, and only the leader's command counts."""

from __future__ import annotations

from pathlib import Path

from tests.sources.deployments.reading import example, line, lines_of, model_of, only, read, recognised, says

LEADER_AND_WORKERS = """\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata:
  name: big
  namespace: serving
  annotations: {moeplan/gpu: h200}
spec:
  replicas: 3
  leaderWorkerTemplate:
    size: 4
    leaderTemplate:
      metadata:
        labels: {llm-d.ai/role: prefill}
      spec:
        containers:
        - name: leader
          image: lmsysorg/sglang:v0.5.3
          command:
          - python3
          - -m
          - sglang.launch_server
          - --model-path=org/model
          - --tp=32
          - --nnodes=$(LWS_GROUP_SIZE)
          - --node-rank=$(LWS_WORKER_INDEX)
          - --dist-init-addr=$(LWS_LEADER_ADDRESS):5000
          resources: {limits: {nvidia.com/gpu: "8"}}
    workerTemplate:
      spec:
        nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
        containers:
        - name: worker
          image: lmsysorg/sglang:v0.5.3
          command: [python3, -m, sglang.launch_server, --model-path=org/model, --tp=32, --nnodes=4]
          resources: {limits: {nvidia.com/gpu: "8"}}
"""


def test_a_group_is_one_engine() -> None:
    engine = only(read("leader_worker_set", LEADER_AND_WORKERS))
    assert (engine.kind, engine.name, engine.engine, engine.role) == ("k8s.leaderworkerset", "big", "sglang", "prefill")
    assert says(engine.command, "--tp=32", "--nnodes=4", "--node-rank=0", "--dist-init-addr=big-0.big.serving:5000")
    assert lines_of(engine.command, "--model-path=org/model", "--tp=32") == [22, 23]
    gang = engine.gang
    assert gang.pods_per_engine is not None
    assert gang.replicas is not None
    assert (gang.pods_per_engine.text, gang.pods_per_engine.spot.line, gang.pods_per_engine.origin) == (
        "4",
        10,
        "stated",
    )
    assert (gang.replicas.text, gang.replicas.spot.line, gang.gpus_per_engine) == ("3", 8, 32)
    # The card is said of the workers alone.
    assert engine.gpu is not None
    assert (engine.gpu.text, engine.gpu.spot.line) == ("NVIDIA-H200", 30)
    assert engine.annotations["moeplan/gpu"].text == "h200"
    assert all(word.known for word in engine.command)


RAY_IN_A_GROUP = """\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: ray}
spec:
  leaderWorkerTemplate:
    size: 3
    leaderTemplate:
      spec:
        containers:
        - name: leader
          image: vllm/vllm-openai:v0.11.0
          command: [sh, -c]
          args: ["ray start --head --num-gpus=0; vllm serve org/model -tp 8 -pp 2"]
    workerTemplate:
      spec:
        containers:
        - name: worker
          image: vllm/vllm-openai:v0.11.0
          command: [sh, -c, "ray start --address=$(LWS_LEADER_ADDRESS):6379 --block"]
          resources: {limits: {nvidia.com/gpu: "8"}}
"""


def test_a_leader_without_gpus_is_no_pod_of_its_engine() -> None:
    engine = only(read("leader_worker_set", RAY_IN_A_GROUP))
    gang = engine.gang
    assert gang.pods_per_engine is not None
    # Two workers of eight; the leader only leads.
    assert (gang.pods_per_engine.text, gang.gpus_per_engine, gang.replicas) == ("2", 16, None)


def test_a_leader_with_fewer_gpus_than_its_workers() -> None:
    text = RAY_IN_A_GROUP.replace('-pp 2"]\n', '-pp 2"]\n          resources: {limits: {nvidia.com/gpu: "4"}}\n')
    gang = only(read("leader_worker_set", text)).gang
    assert gang.gpus_per_pod is not None
    assert (gang.gpus_per_pod.text, gang.gpus_per_pod.origin, gang.pods_per_engine) == ("20", "inferred", None)
    assert gang.gpus_per_pod.why == "1 x 4 + 2 x 8"


def test_without_a_leader_of_its_own_the_worker_leads() -> None:
    text = LEADER_AND_WORKERS.replace("    leaderTemplate:\n", "    otherTemplate:\n")
    engine = only(read("leader_worker_set", text))
    assert (engine.role, engine.gang.gpus_per_engine) == ("aggregate", 32)
    assert lines_of(engine.command, "--nnodes=4") == [34]


def test_a_group_of_no_engine_is_passed_over() -> None:
    text = (
        "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: web}\nspec:\n"
        "  leaderWorkerTemplate:\n    workerTemplate:\n      spec: {containers: [{name: c, image: nginx}]}\n"
    )
    found = read("leader_worker_set", text)
    assert (found.deployments, found.passed_over) == ((), ("web",))
    assert recognised("leader_worker_set", text)
    assert not recognised("leader_worker_set", text.replace("leaderworkerset.x-k8s.io/v1", "apps/v1"))


DISAGGREGATED = """\
apiVersion: disaggregatedset.x-k8s.io/v1
kind: DisaggregatedSet
metadata: {name: pair, annotations: {moeplan/gpu: h200}}
spec:
  slices: 2
  roles:
  - name: prefill
    spec:
      replicas: 3
      leaderWorkerTemplate:
        size: 2
        workerTemplate: &pods
          spec:
            containers:
            - name: engine
              image: vllm/vllm-openai:v0.28.0
              command: [sh, -c, "vllm serve org/model -tp 1 -dp $((LWS_GROUP_SIZE * LOCAL)) -dpl $LOCAL"]
              env: [{name: LOCAL, value: "8"}]
              resources: {limits: {nvidia.com/gpu: "8"}}
  - name: decode
    metadata: {annotations: {moeplan/gpu: h100}}
    spec: {leaderWorkerTemplate: {size: 1, workerTemplate: *pods}}
  - name: router
    spec: {leaderWorkerTemplate: {size: 1, workerTemplate: {spec: {containers: [{name: c, image: nginx}]}}}}
"""


def test_a_set_of_sets_holds_its_roles_once_in_each_slice() -> None:
    found = read("leader_worker_set", DISAGGREGATED)
    prefill, decode = found.deployments
    assert [(each.kind, each.name, each.role, each.spot.line) for each in (prefill, decode)] == [
        ("k8s.disaggregatedset", "pair-prefill", "prefill", 7),
        ("k8s.disaggregatedset", "pair-decode", "decode", 20),
    ]
    assert says(prefill.command, "-dp 16", "-dpl 8")
    assert says(decode.command, "-dp 8")
    assert [each.gang.gpus_per_engine for each in (prefill, decode)] == [16, 8]
    assert [each.gang.replicas.text for each in (prefill, decode) if each.gang.replicas is not None] == ["6", "2"]
    assert [each.annotations["moeplan/gpu"].text for each in (prefill, decode)] == ["h200", "h100"]
    assert found.passed_over == ("pair-router",)


def test_data_parallelism_over_two_pods(shared: Path) -> None:
    text, facts = example(shared, "lws-vllm-deepseek-r1-dp16-ep.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("leader_worker_set", text))
    assert (engine.kind, engine.name, engine.engine) == ("k8s.leaderworkerset", fact["name"], fact["engine"])
    assert model_of(engine) == fact["model"]
    assert says(
        engine.command,
        f"--tensor-parallel-size {fact['tp']}",
        f"--data-parallel-size {fact['dp']}",
        f"--data-parallel-size-local {fact['dp_local']}",
        "--enable-expert-parallel",
        f'--eplb-config {{"num_redundant_experts": {fact["redundant_experts"]}}}',
        f"--max-model-len {fact['max_len']}",
        f"--max-num-seqs {fact['max_num_seqs']}",
    )
    assert all(word.known for word in engine.command)
    assert engine.gpu is not None
    assert engine.gpu.text == f"NVIDIA-{fact['gpu']}"
    assert engine.gang.gpus_per_pod is not None
    assert engine.gang.gpus_per_pod.whole_number() == fact["gpus_per_pod"]
    assert engine.gang.gpus_per_engine == fact["gpus_per_engine"]
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.whole_number() == fact["replicas"]
    assert line(engine.command).startswith("vllm serve ")
