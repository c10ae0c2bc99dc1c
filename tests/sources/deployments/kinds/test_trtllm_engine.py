"""TensorRT-LLM's engine file: which files are one, and the words that its keys become."""

from __future__ import annotations

import pytest

from moeplan.engines import flags_of
from moeplan.engines.command_line import read_command
from tests.sources.deployments.reading import line, lines_of, only, read, recognised

ENGINE = """\
# of one node
tensor_parallel_size: 8
enable_attention_dp: true
trust_remote_code: false
max_batch_size:
kv_cache_config:
  free_gpu_memory_fraction: 0.85
  dtype: fp8
  max_attention_window: [128, 4096]
  enable_block_reuse: false
  max_tokens: null
moe_config:
  load_balancer:
    num_slots: 288
speculative_config:
  decoding_type: MTP
  num_nextn_predict_layers: 2
cuda_graph_config: null
"""


def test_keys_become_words_with_their_places() -> None:
    deployed = only(read("trtllm_engine", ENGINE, "recipes/decode.yaml"))
    assert (deployed.kind, deployed.name, deployed.engine) == ("trtllm.engine", "decode", "trtllm")
    assert line(deployed.command) == (
        "--tensor_parallel_size 8 --enable_attention_dp --no-trust_remote_code "
        "--kv_cache_config.free_gpu_memory_fraction 0.85 --kv_cache_config.dtype fp8 "
        "--kv_cache_config.max_attention_window [128,4096] --kv_cache_config.enable_block_reuse false "
        "--moe_config.load_balancer.num_slots 288 --speculative_config.decoding_type MTP "
        "--speculative_config.num_nextn_predict_layers 2 --cuda_graph_config null"
    )
    words = ("8", "--enable_attention_dp", "0.85", "fp8", "[128,4096]", "288", "MTP", "2", "--cuda_graph_config")
    assert lines_of(deployed.command, *words) == [2, 3, 7, 8, 9, 14, 16, 17, 18]
    paths = {word.text: word.spot.path for word in deployed.command}
    assert paths["fp8"] == "kv_cache_config.dtype"
    assert paths["288"] == "moe_config.load_balancer.num_slots"


def test_the_words_are_those_of_the_engine() -> None:
    words = [word.text for word in only(read("trtllm_engine", ENGINE)).command]
    command = read_command(flags_of("trtllm"), words)
    assert command.fields == {"tp": 8, "dp_attention": True, "utilization_fraction": 0.85, "kv_dtype": "fp8"}
    assert not command.notes


def test_keys_below_an_older_one_are_lifted() -> None:
    """TensorRT-LLM 0.17 to 0.19: `pytorch_backend_config` held what stands on top since."""
    text = "tensor_parallel_size: 4\npytorch_backend_config:\n  enable_overlap_scheduler: true\n  kv_cache_dtype: fp8\n"
    deployed = only(read("trtllm_engine", text))
    assert line(deployed.command) == "--tensor_parallel_size 4 --enable_overlap_scheduler --kv_cache_dtype fp8"
    assert lines_of(deployed.command, "fp8") == [4]


def test_values_that_look_like_flags_are_attached() -> None:
    text = "kv_cache_config:\n  dtype: auto\n  secondary_offload_min_priority: -5\n"
    assert line(only(read("trtllm_engine", text)).command).endswith(
        "--kv_cache_config.secondary_offload_min_priority=-5"
    )


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("kv_cache_config: {free_gpu_memory_fraction: 0.5}", True),
        ("enable_attention_dp: true\ntensor_parallel_size: 8", True),
        ("print_iter_log: true\ncuda_graph_config: {max_batch_size: 8}", True),
        ("kv_cache_config: {size: 5}", False),
        ("tensor_parallel_size: 8\nmax_batch_size: 64", False),  # vLLM's, or anybody's
        ("kind: A\napiVersion: v1\nkv_cache_config: {dtype: fp8}", False),
        ("- kv_cache_config", False),
        ("trt_llm: {runtime: {max_seq_len: 5}}", False),
    ],
)
def test_which_files_are_one(text: str, is_one: bool) -> None:
    assert recognised("trtllm_engine", text) is is_one
