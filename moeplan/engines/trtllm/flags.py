"""trtllm-serve's flags: what each sets, which of the others matter to memory, and which do not.

Read from TensorRT-LLM tensorrt_llm/commands/serve.py of 0.21 to 1.3, its `serve` and `grpc` commands. Most settings
of this engine have no flag: they stand in the file of `--config`.
"""

from __future__ import annotations

from moeplan.engines.command_line.flag import Flag, negatable, quiet, rows

_FIELDS = (
    Flag("--model", aliases=("--model_path",), field="model"),  # positional for trtllm-serve; Dynamo has the flag
    Flag("--hf_revision", aliases=("--revision",), field="revision"),
    Flag("--max_seq_len", "count", field="context_tokens"),
    Flag("--kv_cache_dtype", field="kv_dtype", auto=("auto",)),
    # Share of what weights and buffers leave free, not of the whole device.
    Flag(
        "--free_gpu_memory_fraction",
        "fraction",
        ("--kv_cache_free_gpu_memory_fraction",),
        field="utilization_fraction",
    ),
    Flag("--tensor_parallel_size", "count", ("--tp_size",), field="tp"),
    Flag("--pipeline_parallel_size", "count", ("--pp_size",), field="pp"),
    Flag("--moe_expert_parallel_size", "count", ("--ep_size", "--expert-parallel-size"), field="ep"),
    Flag("--enable_attention_dp", "switch", field="dp_attention"),
)

_SETTINGS = (
    *rows("--max_batch_size --max_num_tokens --max_beam_width --gpus_per_node", "count"),
    *rows("--context_parallel_size/--cp_size --moe_cluster_parallel_size/--cluster_size", "count"),
    *rows("--backend --server_role"),
    *rows("--video_pruning_rate", "number"),
    *rows("--enable_chunked_prefill", "switch"),
)

_WITHOUT_EFFECT = (
    *quiet(
        "--tokenizer --custom_tokenizer --host --port --log_level --num_postprocess_workers --reasoning_parser "
        "--tool_parser --served_model_name --chat_template --media_io_kwargs --otlp_traces_endpoint "
        "--metadata_server_config_file --disagg_cluster_uri --custom_module_dirs"
    ),
    *quiet("--trust_remote_code --fail_fast_on_attention_window_too_large --grpc", "switch"),
    *negatable(quiet("--telemetry", "switch")),
)

FLAGS: tuple[Flag, ...] = (
    *_FIELDS,
    *_SETTINGS,
    *rows("--config/--extra_llm_api_options/--extra-engine-args --visual_gen_args/--extra_visual_gen_options", "file"),
    *_WITHOUT_EFFECT,
)
