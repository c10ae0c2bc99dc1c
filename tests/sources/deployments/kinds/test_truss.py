"""Baseten's Truss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.deployments.reading import (
    example,
    line,
    lines_of,
    model_of,
    only,
    read,
    recognised,
    says,
)

SERVER = """\
model_name: served
base_image: {image: "vllm/vllm-openai:v0.10.0"}
environment_variables: {LENGTH: "8192"}
docker_server:
  start_command: |
    sh -c "vllm serve /models/x \\
      --max-model-len $LENGTH --served-model-name org/Served"
resources: {accelerator: "H100:4"}
"""


def test_a_server_of_ones_own() -> None:
    served = only(read("truss", SERVER))
    assert (served.kind, served.name, served.engine) == ("baseten.truss", "served", "vllm")
    assert line(served.command) == "vllm serve /models/x --max-model-len 8192 --served-model-name org/Served"
    assert lines_of(served.command, "/models/x") == [6]
    assert served.gpu is not None
    assert (served.gpu.text, served.gang.gpus_per_engine) == ("H100", 4)
    assert served.engine_version is not None
    assert served.gang.replicas is None


@pytest.mark.parametrize(
    ("more", "model", "revision"),
    [
        # Nothing but the served name.
        ("", "org/Served", None),
        ("weights: [{source: 'hf://org/real@abc', mount_location: /models/x}]\n", "org/real", "abc"),
        ("weights: [{source: 'hf://org/other', mount_location: /models}, {source: 'hf://org/real', mount_location: /models/x}]\n",
         "org/real", None),
        # A path that nothing is mounted at: what the metadata name, else the lone source.
        ("weights: [{source: 'hf://org/lone', mount_location: /elsewhere}]\n", "org/lone", None),
        ("model_metadata: {repo_id: org/meta}\n", "org/meta", None),
        ("model_cache: [{repo_id: org/cached, revision: def, volume_folder: y, use_volume: true}]\n", "org/cached", "def"),
    ],
)  # fmt: skip
def test_the_model_by_the_strongest_evidence(more: str, model: str, revision: str | None) -> None:
    served = only(read("truss", SERVER + more))
    assert served.model is not None
    assert (served.model.text, served.model.origin) == (model, "inferred")
    assert (served.revision.text if served.revision else None) == revision


def test_a_volume_of_the_model_cache_has_its_own_folder() -> None:
    cache = (
        "model_cache:\n  - {repo_id: org/a, revision: r1, volume_folder: one, use_volume: true}\n"
        "  - {repo_id: org/b, revision: r2, volume_folder: two, use_volume: true}\n"
    )
    served = only(read("truss", SERVER.replace("/models/x", "/app/model_cache/two") + cache))
    assert served.model is not None
    assert served.revision is not None
    assert (served.model.text, served.revision.text) == ("org/b", "r2")


@pytest.mark.parametrize(
    ("accelerator", "gpu", "number"),
    [("L4", "L4", 1), ("A10G:2", "A10G", 2), ("H100_40GB", "H100 MIG 3g.40gb", 1)],
)
def test_accelerators(accelerator: str, gpu: str, number: int) -> None:
    served = only(read("truss", SERVER.replace("H100:4", accelerator)))
    assert served.gpu is not None
    assert (served.gpu.text, served.gang.gpus_per_engine) == (gpu, number)


def test_several_nodes() -> None:
    served = only(read("truss", SERVER.replace('"H100:4"', '"H100:8", node_count: 2')))
    assert served.gang.gpus_per_engine == 16


# TensorRT-LLM --------------------------------------------------------------------------------------------------

BUILT = """\
model_name: built
resources: {accelerator: "H100:2"}
trt_llm:
  build:
    base_model: decoder
    checkpoint_repository: {source: HF, repo: org/model, revision: abc}
    max_seq_len: 4096
    tensor_parallel_count: 2
    quantization_type: fp8_kv
  runtime:
    kv_cache_free_gpu_mem_fraction: 0.62
    enable_chunked_context: true
"""


def test_the_first_stack_builds_an_engine() -> None:
    served = only(read("truss", BUILT))
    assert served.engine == "trtllm"
    assert line(served.command) == (
        "trtllm-serve org/model --hf_revision abc --max_batch_size 256 --max_num_tokens 8192 --max_seq_len 4096 "
        "--tp_size 2 --kv_cache_free_gpu_memory_fraction 0.62 --enable_chunked_prefill --kv_cache_dtype fp8"
    )
    assert {word.text for word in served.command if word.origin == "default"} == {"trtllm-serve", "256", "8192"}
    assert lines_of(served.command, "--max_seq_len", "2", "0.62") == [7, 8, 11]
    assert [(remark.code, remark.spot.line) for remark in served.remarks] == [("quantised-at-build", 9)]
    assert model_of(served) == "org/model"


def test_the_second_stack_runs_one() -> None:
    text = """\
resources: {accelerator: "B200:4"}
trt_llm:
  inference_stack: v2
  build: {checkpoint_repository: {source: HF, repo: org/model}}
  runtime:
    tensor_parallel_size: 4
    max_batch_size: 64
    served_model_name: org/served
    patch_kwargs:
      enable_attention_dp: true
      kv_cache_config: {free_gpu_memory_fraction: 0.8}
"""
    served = only(read("truss", text, "models/kimi/config.yaml"))
    assert served.name == "kimi"
    assert line(served.command) == (
        "trtllm-serve org/model --max_batch_size 64 --max_num_tokens 8192 --tp_size 4 --served_model_name org/served "
        "--enable_attention_dp --kv_cache_config.free_gpu_memory_fraction 0.8"
    )
    assert lines_of(served.command, "--enable_attention_dp", "0.8") == [10, 11]
    assert not served.remarks


def test_an_encoder_generates_nothing() -> None:
    found = read("truss", BUILT.replace("decoder", "encoder"))
    assert (found.deployments, found.passed_over) == ((), ("built",))


# vLLM ----------------------------------------------------------------------------------------------------------


def test_a_vllm_block() -> None:
    text = """\
model_name: m
resources: {accelerator: H100}
vllm:
  model: org/model
  tensor_parallel_size: 1
  trust_remote_code: true
  extra_args: ["--max-num-seqs 8", --enforce-eager]
  patch_kwargs: {kv_cache_dtype: fp8}
"""
    served = only(read("truss", text))
    assert line(served.command) == (
        "vllm serve org/model --tensor-parallel-size 1 --trust-remote-code --max-num-seqs 8 --enforce-eager "
        "--kv_cache_dtype fp8"
    )


def test_the_newer_stack_names_its_engine() -> None:
    text = """\
model_name: m
resources: {accelerator: "H100:2"}
bis_llm:
  config:
    engine_backend: vllm
    checkpoint_name: org/model
    model_name: served
    tensor_parallel_size: 2
    engine_config: {max_num_seqs: 16}
"""
    served = only(read("truss", text))
    assert line(served.command) == (
        "vllm serve org/model --served-model-name served --tensor-parallel-size 2 --max_num_seqs 16"
    )
    other = only(read("truss", text.replace("engine_backend: vllm", "engine_backend: trtllm")))
    assert (other.engine, says(other.command, "--tp_size 2", "--max_num_seqs 16")) == ("trtllm", True)


def test_a_model_in_python_is_passed_over() -> None:
    found = read("truss", "model_name: py\nresources: {accelerator: A10G}\nmodel_metadata: {repo_id: a/b}\n")
    assert (found.deployments, found.passed_over) == ((), ("py",))


def test_tokens_are_hidden() -> None:
    token = "hf_" + "d" * 24
    found = read("truss", SERVER.replace('{LENGTH: "8192"}', f'{{LENGTH: "8192", HF_TOKEN: {token}}}'))
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 3)]
    assert token not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SERVER, True),
        (BUILT, True),
        ("resources: {accelerator: L4}\nmodel_name: x\n", True),
        ("resources: {cpus: 2}\nmodel_name: x\n", False),
        ("resources: {accelerators: 'H100:8'}\nrun: x\n", False),
        ("docker_server: {}\n", False),
    ],
)
def test_it_is_recognised_by_its_keys(text: str, expected: bool) -> None:
    assert recognised("truss", text) is expected


# Examples ------------------------------------------------------------------------------------------------------


def test_deepseek_on_vllm(shared: Path) -> None:
    text, facts = example(shared, "truss-deepseek-v3.2-nvfp4-vllm.yaml")
    served, (expected,) = only(read("truss", text)), facts["deployments"]
    assert (served.engine, model_of(served)) == (expected["engine"], expected["model"])
    assert served.revision is not None
    assert served.revision.text == expected["revision"]
    assert [name.text for name in served.served_names] == [expected["served_as"]]
    assert served.gpu is not None
    assert (served.gpu.text, served.gang.gpus_per_engine) == (expected["gpu"], expected["gpus_per_engine"])
    assert says(served.command, "--tensor-parallel-size 8", "--max-model-len 131072", "--max-num-seqs 64")
    assert says(
        served.command, "--max-num-batched-tokens 131072", "--kv-cache-dtype fp8", "--gpu-memory-utilization 0.92"
    )
    # Nothing is open: the weights are known by where they are mounted.
    assert not served.remarks


def test_kimi_on_trtllm(shared: Path) -> None:
    text, facts = example(shared, "truss-kimi-k2-fp4-trtllm.yaml")
    served, (expected,) = only(read("truss", text)), facts["deployments"]
    assert (served.engine, model_of(served)) == (expected["engine"], expected["model"])
    assert says(served.command, f"--hf_revision {expected['revision']}", f"--tp_size {expected['tp']}")
    assert served.gpu is not None
    assert (served.gpu.text, served.gang.gpus_per_engine) == (expected["gpu"], expected["gpus_per_engine"])
    assert says(served.command, "--max_batch_size 64", "--max_num_tokens 8192", "--max_seq_len 98304")
    assert says(served.command, "--kv_cache_config.free_gpu_memory_fraction 0.8")
    assert lines_of(served.command, "--tp_size", "--max_seq_len", "0.8") == [27, 26, 34]
