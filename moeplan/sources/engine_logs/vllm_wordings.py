"""How vLLM words its figures.

Read in the source of 0.33.0 (v1/worker/gpu_worker.py, gpu_model_runner.py, v1/core/kv_cache_utils.py, kv_cache_planning.py,
utils/mem_utils.py) and, for older versions, in public logs. vLLM prints GiB; versions up to 0.8 called it GB and divided by
2**30 all the same. Two digits at least, but without zeros at the end.
"""

from __future__ import annotations

from moeplan.sources.engine_logs.starts import worded

WORDS = (
    b"iB", b"GB", b"KV cache size", b"Maximum concurrency", b" blocks: ", b"num_gpu_blocks", b"block size to",
    b"non-default args: ", b"args: Namespace(", b"LLM engine (v", b"server version", b"is assigned as", b"device_name=",
    b"max_num_batched_tokens=", b"startup complete", b"init engine (", b"No available memory for the cache",
    b"failed to start", b"max seq len", b"OutOfMemoryError", b"out of memory. Tried", b"Engine core initialization failed",
)  # fmt: skip
"""A line without any of these tells nothing. Long words are found faster than short ones."""

WORDINGS = (
    worded("took", r"(?:Model loading|Loading model weights) took <weights_bytes> Gi?B", "GiB", 2),
    worded("Peak GPU memory", r"Peak GPU memory after loading weights: <load_peak_bytes> GiB", "GiB", 2),
    worded("weights take", r"model weights take <weights_bytes>GiB", "GiB", 2),
    worded("non_torch_memory", r"non_torch_memory takes <non_torch_bytes>GiB", "GiB", 2),
    worded("activation peak", r"PyTorch activation peak memory takes <activation_peak_bytes>GiB", "GiB", 2),
    worded("reserved for KV", r"memory reserved for KV Cache is <kv_pool_bytes>GiB", "GiB", 2),
    worded("total_gpu_memory", r"total_gpu_memory \(<total_memory_bytes>GiB\) x .{0,200}? = <budget_bytes>GiB", "GiB", 2),
    # The profiler's own summary, at debug level; the older one tells torch and the rest apart.
    worded(
        "non-torch forward increase",
        r"torch peak memory increase: <activation_peak_bytes>GiB; non-torch forward increase memory: <non_torch_bytes>GiB; "
        r"weights memory: <weights_bytes>GiB",
        "GiB", 2,
    ),
    worded(
        "total consumed", r"total consumed \(.{0,200}?\): <consumed_bytes>GiB; weights memory: <weights_bytes>GiB", "GiB", 2
    ),
    worded(
        "Requested memory",
        r"Initial free memory: <free_before_load_bytes> GiB; Requested memory: \S+ \(util\), <budget_bytes> GiB", "GiB", 2,
    ),
    worded("requested memory: ", r"worker requested memory: <budget_bytes>GiB", "GiB", 2),
    worded("Available KV", r"Available KV cache memory: <kv_pool_bytes> GiB", "GiB", 2),
    worded(
        "as specified by kv_cache_memory_bytes",
        r"Initial free memory <free_before_load_bytes> GiB, reserved <kv_pool_bytes> GiB memory for KV Cache", "GiB", 2,
    ),
    worded("KV cache size", r"KV cache size: <kv_tokens> tokens"),
    worded(
        "Maximum concurrency",
        r"Maximum concurrency for <concurrency_context_tokens> tokens per request: <max_concurrency>x",
    ),
    worded(" blocks: ", r"# (?!CPU)\w+ blocks: <num_blocks>"),
    worded("num_gpu_blocks is", r"num_gpu_blocks is: <num_blocks>"),
    worded("num_gpu_blocks_override", r"num_gpu_blocks_override=<num_blocks>"),
    worded("block size to", r"Setting (?:attention|kv cache) block size to <block_tokens>"),
    worded("Graph capturing", r"Graph capturing finished in .{0,200}? took <cuda_graphs_bytes> GiB", "GiB", 2),
    worded(
        "Encoder graph", r"Encoder graph capturing finished in .{0,200}? took <cuda_graphs_bytes> GiB", "GiB", 2, "encoder"
    ),
    worded("Estimated CUDA graph", r"Estimated CUDA graph memory: <cuda_graphs_estimate_bytes> GiB", "GiB", 2),
    worded(
        "CUDA graph pool",
        r"CUDA graph pool memory: <cuda_graphs_bytes> GiB \(actual\), <cuda_graphs_estimate_bytes> GiB \(estimated\)",
        "GiB", 2,
    ),
    worded(
        "Free memory on device",
        r"Free memory on device[^(]*\(<free_before_load_bytes>/<total_memory_bytes> GiB\) on startup", "GiB", 2,
    ),
    worded("GPU memory utilization", r"GPU memory utilization (?:is )?\([\d.]+, <budget_bytes> GiB\)", "GiB", 2),
    worded(
        "for weight",
        r"Actual usage(?: is|:) <weights_bytes> GiB for weights?, <activation_peak_bytes> GiB for peak activation, "
        r"<non_torch_bytes> GiB for non-torch memory, (?:and )?<cuda_graphs_bytes> GiB for", "GiB", 2,
    ),
    # Since 2026 the estimate for graphs is in the activation peak of this line (gpu_worker.py: peak_activation_memory).
    worded(
        "for consumed memory",
        r"Actual usage is <consumed_bytes> GiB for consumed memory \(.{0,200}?\), <activation_and_graphs_bytes> GiB for peak "
        r"activation, and <cuda_graphs_bytes> GiB for", "GiB", 2,
    ),
    worded("in use is", r"kv cache memory in use is <kv_pool_bytes> GiB", "GiB", 2),
    worded("in use is", r"kv cache memory in use is <kv_pool_bytes> bytes"),
    worded(
        "KV cache is needed",
        r"max seq len \(\d+\), \(?<kv_needed_bytes> GiB KV cache is needed, which is larger than the available KV cache "
        r"memory \(<kv_pool_bytes> GiB\)", "GiB", 2,
    ),
    worded("estimated maximum model length", r"estimated maximum model length is <kv_max_context_tokens>"),
    worded("stored in KV cache", r"tokens that can be stored in KV cache \(<kv_tokens>\)"),
)  # fmt: skip
