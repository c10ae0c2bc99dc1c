"""trtllm-serve's flags and the keys of its `--config` file: what each sets, what matters to memory, and what does not.

Read from TensorRT-LLM tensorrt_llm/commands/serve.py of 0.21 to 1.3, its `serve` and `grpc` commands. Most settings of
this engine have no flag: they stand in the file (llmapi/llm_args.py: TorchLlmArgs, KvCacheConfig, MoeConfig,
CudaGraphConfig). Here each key is a word like a flag, `--kv_cache_config.max_tokens 8192`, so that flags and file are read
by one table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Value
from moeplan.engines.command_line.flag import Flag, negatable, quiet, rows

_FIELDS = (
    Flag("--model", aliases=("--model_path",), field="model"),  # positional for trtllm-serve; Dynamo has the flag
    Flag("--hf_revision", aliases=("--revision",), field="revision", key="revision"),
    Flag("--dtype", field="dtype", auto=("auto",)),
    Flag("--max_seq_len", "count", field="context_tokens"),
    Flag(
        "--kv_cache_dtype",
        aliases=("--kv_cache_config.dtype",),
        field="kv_dtype",
        auto=("auto",),
        key="kv_cache_config.dtype",
    ),
    # Share of what weights and buffers leave free, not of the whole device.
    Flag(
        "--free_gpu_memory_fraction",
        "fraction",
        ("--kv_cache_free_gpu_memory_fraction", "--kv_cache_config.free_gpu_memory_fraction"),
        field="utilization_fraction",
    ),
    Flag("--tensor_parallel_size", "count", ("--tp_size",), field="tp"),
    Flag("--pipeline_parallel_size", "count", ("--pp_size",), field="pp"),
    Flag("--moe_expert_parallel_size", "count", ("--ep_size", "--expert-parallel-size"), field="ep"),
    *negatable((Flag("--enable_attention_dp", "switch", field="dp_attention", key="enable_attention_dp"),)),
)

_SETTINGS = (
    *rows("--max_batch_size --max_num_tokens --max_beam_width --gpus_per_node", "count"),
    *rows("--context_parallel_size/--cp_size --moe_cluster_parallel_size/--cluster_size", "count"),
    *rows("--backend --server_role"),
    *rows("--video_pruning_rate", "number"),
    *negatable(rows("--enable_chunked_prefill", "switch")),
)

_FILE = (
    *rows("--moe_tensor_parallel_size", "count"),
    *rows("--allreduce_strategy --attn_backend"),
    *negatable(rows("--enable_lm_head_tp_in_adp --enable_lora --use_cuda_graph", "switch")),
    Flag("--kv_cache_config", "json"),
    *rows("--kv_cache_config.tokens_per_block --kv_cache_config.max_tokens", "count"),
    *rows("--kv_cache_config.max_gpu_total_bytes --kv_cache_config.host_cache_size", "bytes"),
    Flag("--moe_config", "json"),
    # Up to 0.20 keys of their own.
    *rows("--moe_config.backend/--moe_backend --moe_config.load_balancer/--moe_load_balancer"),
    *rows("--moe_config.max_num_tokens/--moe_max_num_tokens", "count"),
    Flag("--cuda_graph_config", "json", words=("null",)),  # no graphs
    *rows(
        "--speculative_config --sparse_attention_config --lora_config --peft_cache_config --cache_transceiver_config "
        "--torch_compile_config --quant_config --cp_config --build_config --model_kwargs",
        "json",
    ),
    *rows("--cuda_graph_batch_sizes"),
    *rows("--cuda_graph_max_batch_size", "count"),
)

_WITHOUT_EFFECT = (
    *quiet(
        "--tokenizer --custom_tokenizer --host --port --log_level --num_postprocess_workers --reasoning_parser "
        "--tool_parser --served_model_name --chat_template --media_io_kwargs --otlp_traces_endpoint "
        "--metadata_server_config_file --disagg_cluster_uri --custom_module_dirs"
    ),
    *negatable(quiet("--trust_remote_code --fail_fast_on_attention_window_too_large --grpc --telemetry", "switch")),
    # Keys of the file.
    *quiet(
        "--tokenizer_mode --tokenizer_revision --postprocess_tokenizer_dir --guided_decoding_backend --checkpoint_format "
        "--load_format --sampler_type --orchestrator_type --batching_type --stream_interval --max_input_len "
        "--iter_stats_max_iterations --request_stats_max_iterations --perf_metrics_max_requests --mm_encoder_only "
        "--garbage_collection_gen0_threshold --batch_wait_timeout_ms --batch_wait_timeout_iters "
        "--batch_wait_max_tokens_ratio --moe_config.disable_finalize_fusion --moe_config.use_low_precision_moe_combine "
        "--kv_cache_config.enable_partial_reuse --kv_cache_config.copy_on_partial_reuse "
        "--kv_cache_config.event_buffer_max_size --kv_cache_config.attention_dp_events_gather_period_ms "
        "--kv_cache_config.secondary_offload_min_priority --kv_cache_config.onboard_blocks "
        "--cache_transceiver_config.backend --cache_transceiver_config.kv_transfer_timeout_ms"
    ),
    *quiet("--scheduler_config --attention_dp_config --calib_config", "json"),
    *negatable(
        quiet(
            "--print_iter_log --disable_overlap_scheduler --enable_overlap_scheduler --enable_autotuner --autotuner_enabled "
            "--enable_iter_perf_stats --enable_iter_req_stats --enable_layerwise_nvtx_marker --enable_trtllm_sampler "
            "--enable_mixed_sampler --enable_min_latency --skip_tokenizer_init --gather_generation_logits "
            "--normalize_log_probs --return_perf_metrics --enable_build_cache --cuda_graph_padding_enabled "
            "--fast_build",
            "switch",
        )
    ),
)

FLAGS: tuple[Flag, ...] = (
    *_FIELDS,
    *_SETTINGS,
    *_FILE,
    *rows("--config/--extra_llm_api_options/--extra-engine-args --visual_gen_args/--extra_visual_gen_options", "file"),
    *_WITHOUT_EFFECT,
)

_BY_KEY = ("--kv_cache_config", "--moe_config")
"""Objects whose keys are settings of their own."""
_MODELLED = {"--backend": "pytorch", "--attn_backend": "trtllm"}
"""What is modelled, and so says nothing."""


def own_settings(settings: Mapping[str, Value]) -> Mapping[str, Value]:
    """The settings as the arithmetic names them: a key that stands in the file alone by its path there
    (`kv_cache_config.max_tokens`), without the dashes of a flag."""
    keys = {flag.name for flag in _FILE}
    found: dict[str, Value] = {}
    for name, value in settings.items():
        key = name.removeprefix("--")
        if str(value).lower() == _MODELLED.get(name):
            continue
        if name in _BY_KEY and isinstance(value, str):
            for inner, held in json.loads(value).items():
                if held is not None:
                    found[f"{key}.{inner}"] = held if isinstance(held, Value) else json.dumps(held)
        elif name == "--use_cuda_graph":
            found["cuda_graph_config"] = "{}" if value else "null"
        else:
            found[key if name in keys else name] = value
    return found
