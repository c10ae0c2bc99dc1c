"""Ray: Serve configurations inside of objects and alone, clusters with a command, and how many GPUs one engine gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.deployments.reading import example, line, lines_of, model_of, named, only, read, recognised, says

SERVE = """\
applications:
- name: llms
  import_path: ray.serve.llm:build_openai_app
  runtime_env: {env_vars: {VLLM_USE_V1: "1"}}
  args:
    llm_configs:
    - model_loading_config: {model_id: small, model_source: org/small}
      accelerator_type: L4
      deployment_config: {autoscaling_config: {min_replicas: 1, max_replicas: 4}}
      runtime_env: {env_vars: {HF_TOKEN: hf_abcdefghijklmnop}}
      engine_kwargs:
        tensor_parallel_size: 2
        enable_prefix_caching: false
        trust_remote_code: true
        hf_overrides: {rope_theta: 1000}
        max_model_len: null
    - model_loading_config: {model_id: org/plain}
      deployment_config: {num_replicas: auto}
- name: other
  import_path: my.module:app
"""


def test_engine_arguments_are_flags() -> None:
    found = read("ray", SERVE)
    small, plain = found.deployments
    assert (small.kind, small.name, small.engine, small.role) == ("ray.serve", "small", "vllm", "aggregate")
    assert line(small.command) == (
        '--tensor-parallel-size 2 --no-enable-prefix-caching --trust-remote-code --hf-overrides {"rope_theta":1000}'
    )
    assert lines_of(small.command, "2", "--trust-remote-code") == [12, 14]
    assert small.model is not None
    assert small.gpu is not None
    assert (small.model.text, small.model.spot.line, small.gpu.text) == ("org/small", 7, "L4")
    assert [name.text for name in small.served_names] == ["small"]
    gang = small.gang
    assert gang.replicas is not None
    assert gang.max_replicas is not None
    assert (gang.replicas.text, gang.max_replicas.text, gang.gpus_per_engine) == ("1", "4", None)
    assert (small.variables["VLLM_USE_V1"].text, small.variables["HF_TOKEN"].text) == ("1", "***")
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 10)]
    # An id without a source is the model, too; `auto` runs up to 100.
    assert plain.model is not None
    assert plain.gang.max_replicas is not None
    assert (plain.model.text, plain.name, plain.gang.max_replicas.text) == ("org/plain", "org/plain", "100")
    assert (small.spot.line, plain.spot.line) == (7, 17)
    assert found.passed_over == ("other",)


SPLIT = """\
applications:
- import_path: ray.serve.llm:build_pd_openai_app
  args:
    prefill_config:
      model_loading_config: {model_id: m, model_source: org/m}
      placement_group_config: {bundles: [{CPU: 1}, {GPU: 1, CPU: 1}, {GPU: 1}]}
      engine_kwargs: {tensor_parallel_size: 2}
    decode_config:
      model_loading_config: {model_id: m, model_source: {bucket_uri: "s3://bucket/m"}}
      engine_kwargs: {tensor_parallel_size: 4}
"""


def test_prefill_and_decode_are_two_engines() -> None:
    engines = named(read("ray", SPLIT))
    assert {name: each.role for name, each in engines.items()} == {"m-prefill": "prefill", "m-decode": "decode"}
    assert engines["m-prefill"].gang.gpus_per_engine == 2
    # A bucket is no repository.
    assert engines["m-decode"].model is None
    assert says(engines["m-decode"].command, "--model s3://bucket/m", "--tensor-parallel-size 4")


def test_a_configuration_in_a_file_of_its_own() -> None:
    text = "applications:\n- import_path: ray.serve.llm:build_openai_app\n  args: {llm_configs: [./model.yaml]}\n"
    (remark,) = read("ray", text).remarks
    assert (remark.code, remark.spot.line) == ("config-elsewhere", 3)


SCALES = "enableInTreeAutoscaling: true"


def service(scaling: str, workers: str, *, more: str = "", degree: int = 8) -> str:
    """One LLM, and workers of eight GPUs each."""
    return f"""\
apiVersion: ray.io/v1
kind: RayService
metadata: {{name: s}}
spec:
  serveConfigV2: |
    applications:
    - import_path: ray.serve.llm:build_openai_app
      args:
        llm_configs:
        - model_loading_config: {{model_id: m, model_source: org/m}}
          deployment_config: {{{scaling}}}
          engine_kwargs: {{tensor_parallel_size: {degree}}}
  rayClusterConfig:
    {more}
    headGroupSpec:
      rayStartParams: {{num-gpus: "0"}}
      template:
        spec:
          containers: [{{name: head, image: "rayproject/ray-llm:2.50.0", resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]
    workerGroupSpecs:
    - {workers}
      template:
        spec:
          nodeSelector: {{nvidia.com/gpu.product: NVIDIA-H200}}
          containers: [{{name: w, resources: {{limits: {{nvidia.com/gpu: 8}}}}}}]
"""


@pytest.mark.parametrize(
    ("text", "gpus", "pods"),
    [
        # A fixed cluster with one engine: all of it is the engine's, idle cards too.
        (service("num_replicas: 1", "replicas: 2"), "8", "2"),
        # Two copies share it.
        (service("num_replicas: 2", "replicas: 2"), "8", None),
        (service("num_replicas: 2", "replicas: 4"), "8", "2"),
        # Whoever scales gets what the layout needs.
        (service("autoscaling_config: {min_replicas: 1, max_replicas: 4}", "replicas: 4"), "8", None),
        (service("num_replicas: 1", "replicas: 1\n      maxReplicas: 4", more=SCALES, degree=16), "8", "2"),
        (service("num_replicas: 1", "replicas: 2", more=SCALES, degree=4), "4", None),
        # It needs more than the cluster has: what the cluster has is told.
        (service("num_replicas: 1", "replicas: 1", more=SCALES, degree=16), "8", None),
        (service("num_replicas: 1", "numOfHosts: 2\n      replicas: 1", degree=16), "8", "2"),
    ],
)  # fmt: skip
def test_the_gpus_of_one_engine(text: str, gpus: str, pods: str | None) -> None:
    engine = only(read("ray", text))
    gang = engine.gang
    assert gang.gpus_per_pod is not None
    assert gang.gpus_per_pod.text == gpus
    assert (gang.pods_per_engine.text if gang.pods_per_engine else None) == pods
    assert engine.gpu is not None
    assert engine.image is not None
    assert (engine.kind, engine.gpu.text, engine.image.text) == (
        "ray.rayservice",
        "NVIDIA-H200",
        "rayproject/ray-llm:2.50.0",
    )
    # The version of Ray's image is no version of its engine.
    assert engine.engine_version is None


@pytest.mark.parametrize(("stated", "found"), [("H200", "NVIDIA-H200"), ("B200", "B200")])
def test_the_label_of_the_nodes_names_a_card_more_closely(stated: str, found: str) -> None:
    text = service("num_replicas: 1", "replicas: 1").replace(
        "          engine_kwargs", f"          accelerator_type: {stated}\n          engine_kwargs"
    )
    gpu = only(read("ray", text)).gpu
    assert gpu is not None
    assert gpu.text == found


def test_a_broken_configuration_is_told_where_it_breaks() -> None:
    text = (
        "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: s}\nspec:\n  serveConfigV2: |\n    a: [\n    b: }\n"
    )
    found = read("ray", text)
    assert [(remark.code, remark.spot.line) for remark in found.remarks] == [("file-broken", 7)]


FLEET = """\
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: RayClusterFleet
metadata: {name: fleet}
spec:
  replicas: 2
  template:
    metadata: {annotations: {moeplan/gpu: h20}}
    spec:
      headGroupSpec:
        template:
          spec:
            containers:
            - name: ray-head
              image: aibrix/vllm-openai:v0.7.3
              command: ["/bin/bash", "-lc", "--"]
              args: ["ulimit -n 65536; $KUBERAY_GEN_RAY_START_CMD; vllm serve org/m --tensor-parallel-size 16"]
              resources: {limits: {nvidia.com/gpu: 8}}
            - name: aibrix-runtime
              image: aibrix/runtime:v0.3.0
              command: [aibrix_runtime]
      workerGroupSpecs:
      - replicas: 1
        template:
          spec:
            containers:
            - name: worker
              image: aibrix/vllm-openai:v0.7.3
              command: ["/bin/bash", "-lc", "--"]
              args: ["$KUBERAY_GEN_RAY_START_CMD"]
              resources: {limits: {nvidia.com/gpu: 8}}
"""


def test_the_command_in_the_head_spans_the_cluster() -> None:
    found = read("ray", FLEET)
    engine = only(found)
    assert (engine.kind, engine.name, engine.engine) == ("aibrix.rayclusterfleet", "fleet", "vllm")
    assert says(engine.command, "vllm serve org/m", "--tensor-parallel-size 16")
    gang = engine.gang
    assert gang.pods_per_engine is not None
    assert gang.replicas is not None
    assert (gang.gpus_per_engine, gang.pods_per_engine.text, gang.replicas.text) == (16, "2", "2")
    assert engine.annotations["moeplan/gpu"].text == "h20"
    assert found.passed_over == ("aibrix-runtime",)


def test_a_cluster_without_a_command_is_passed_over() -> None:
    text = "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: bare}\nspec: {headGroupSpec: {template: {spec: {}}}}\n"
    assert read("ray", text).passed_over == ("bare",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(SERVE, True), (FLEET, True), ("applications: [{name: x}]", False), ("kind: RayCluster\napiVersion: x/v1", False)],
)
def test_what_is_rays(text: str, *, expected: bool) -> None:
    assert recognised("ray", text) is expected


def test_deepseek_over_two_workers(shared: Path) -> None:
    text, facts = example(shared, "kuberay-rayservice-deepseek-r1.yaml")
    (fact,) = facts["deployments"]
    engine = only(read("ray", text))
    assert (engine.kind, engine.name, engine.engine) == ("ray.rayservice", fact["name"], fact["engine"])
    assert engine.model is not None
    assert engine.gpu is not None
    assert (engine.model.text, engine.gpu.text) == (fact["model"], fact["gpu"])
    assert [name.text for name in engine.served_names] == [fact["served_as"]]
    assert says(
        engine.command,
        f"--tensor-parallel-size {fact['tp']}",
        f"--pipeline-parallel-size {fact['pp']}",
        f"--max-model-len {fact['max_len']}",
        f"--max-num-seqs {fact['max_num_seqs']}",
        f"--gpu-memory-utilization {fact['gpu_memory_utilization']}",
        f"--dtype {fact['dtype']}",
    )
    assert lines_of(engine.command, "--tensor-parallel-size", "--max-model-len") == [22, 27]
    assert engine.gang.gpus_per_engine == fact["gpus_per_engine"] == facts["cluster_gpus"]
    assert engine.gang.replicas is not None
    assert engine.gang.replicas.whole_number() == fact["replicas"]


def test_an_llm_in_a_file_of_its_own() -> None:
    text = """\
model_loading_config: {model_id: small, model_source: org/M}
accelerator_type: H100
deployment_config: {autoscaling_config: {min_replicas: 1, max_replicas: 3}}
engine_kwargs: {tensor_parallel_size: 4, gpu_memory_utilization: 0.9}
"""
    assert recognised("ray", text)
    engine = only(read("ray", text))
    assert (engine.kind, engine.name, model_of(engine)) == ("ray.llm", "small", "org/M")
    assert says(engine.command, "--tensor-parallel-size 4", "--gpu-memory-utilization 0.9")
    assert engine.gpu is not None
    assert (engine.gpu.text, engine.gpu.spot.line) == ("H100", 2)
