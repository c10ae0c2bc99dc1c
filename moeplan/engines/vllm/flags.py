"""vLLM's flags: what each sets, which of the others matter to memory, and which do not.

Read from vLLM 0.33.0 engine/arg_utils.py and entrypoints/common/cli_args.py; spellings of 0.8 to 0.29 that are gone
since are kept. Keys of a JSON flag that have a flag of their own are its aliases.
"""

from __future__ import annotations

from moeplan.core.units import GIB
from moeplan.engines.command_line.flag import Flag, both_ways, quiet, rows

_NONE = ("None",)

_MODEL = (
    Flag("--model", field="model"),
    Flag("--revision", field="revision"),
    Flag("--dtype", field="dtype", auto=("auto",)),
    Flag("--quantization", aliases=("-q",), field="quantization", auto=_NONE),
    Flag("--max-model-len", "count", field="context_tokens", auto=("-1", "auto")),
    *rows("--quantization-config --hf-overrides --rope-scaling", "json"),
    *rows("--hf-config-path --runner --convert --task --model-impl --load-format --safetensors-load-strategy"),
    *rows("--override-attention-dtype --qlora-adapter-name-or-path"),
    *rows("--rope-theta", "number"),
    Flag("--max-logprobs", "count", minimum=-1),
    *both_ways(
        rows(
            "--enforce-eager --disable-sliding-window --enable-prompt-embeds --enable-return-routed-experts "
            "--use-fp64-gumbel --enable-trace-replay --enable-sleep-mode --enable-cumem-allocator",
            "switch",
        )
    ),
    *rows("--max-parallel-loading-workers", "count"),
)

_LAYOUT = (
    Flag("--tensor-parallel-size", "count", ("-tp",), field="tp"),
    Flag("--pipeline-parallel-size", "count", ("-pp",), field="pp"),
    Flag("VLLM_PP_LAYER_PARTITION", "counts", field="pp_layers"),
    Flag("--data-parallel-size", "count", ("-dp",), field="dp"),
    *both_ways((Flag("--enable-expert-parallel", "switch", ("-ep",), field="expert_parallel"),)),
    Flag("--decode-context-parallel-size", "count", ("-dcp",), field="dcp"),
    Flag("--nnodes", "count", ("-n",), field="num_nodes"),
    Flag(
        "--eplb-config.num_redundant_experts",
        "count",
        ("--num-redundant-experts",),
        field="redundant_experts",
        minimum=0,
    ),
    Flag("--eplb-config", "json"),
    *rows("--prefill-context-parallel-size/-pcp --elastic-ep-max-dp-size", "count"),
    *rows("--ubatch-size", "count", minimum=0),
    Flag("--all2all-backend", aliases=("VLLM_ALL2ALL_BACKEND",)),
    *rows("--device-ids --dcp-comm-backend"),
    *both_ways(
        rows(
            "--enable-eplb --enable-elastic-ep --enable-dbo --enable-batch-sharded-sampling --enable-ep-weight-filter "
            "--dcp-q-replicate --disable-custom-all-reduce --enable-hc-sp",
            "switch",
        )
    ),
)

_CACHE = (
    Flag("--gpu-memory-utilization", "fraction", ("--device-memory-utilization",), field="utilization_fraction"),
    Flag("--kv-cache-dtype", field="kv_dtype", auto=("auto",)),
    *rows("--kv-cache-memory-bytes", "bytes"),
    *rows("--block-size --num-gpu-blocks-override --mamba-block-size --replayssm-buffer-len", "count"),
    *rows("--kv-cache-dtype-skip-layers", many=True),
    *rows("--mamba-cache-dtype --mamba-ssm-cache-dtype --mamba-cache-mode"),
    *both_ways(
        rows(
            "--enable-prefix-caching --disable-hybrid-kv-cache-manager --calculate-kv-scales --kv-sharing-fast-prefill "
            "--swa-bounded-replay --enable-mamba-shared-prefix-checkpoint --use-replayssm --use-v2-block-manager",
            "switch",
        )
    ),
    *rows("--kv-transfer-config --engram-config", "json"),
)

_HOST = (
    *rows("--cpu-offload-gb --kv-offloading-size --swap-space --mm-processor-cache-gb", "bytes", unit_bytes=GIB),
    *rows("--kv-offloading-backend --offload-backend --mm-processor-cache-type"),
    *rows("--cpu-offload-params --offload-params", many=True),
    *rows("--offload-group-size --offload-num-in-group --offload-prefetch-step", "count", minimum=0),
)

_BATCH = (
    *rows("--max-num-batched-tokens --max-num-seqs --max-num-scheduled-tokens --max-num-active-seqs", "count"),
    *rows("--num-lookahead-slots --max-seq-len-to-capture/--max-context-len-to-capture", "count", minimum=0),
    *rows("--num-scheduler-steps", "count"),
    *rows("--watermark", "number"),
    *both_ways(rows("--enable-chunked-prefill --async-scheduling", "switch")),
)

_GRAPHS_AND_KERNELS = (
    Flag(
        "--cudagraph-capture-sizes",
        "counts",
        ("--cuda-graph-sizes", "--compilation-config.cudagraph_capture_sizes"),
        many=True,
        words=("", "[]"),  # none, as an empty list in JSON reads
    ),
    Flag("--max-cudagraph-capture-size", "count", ("--compilation-config.max_cudagraph_capture_size",), minimum=0),
    Flag("--compilation-config", "json", ("-cc", "-O.")),
    # 0 compiles nothing and captures no graphs. Up to 0.11 the number was the level of `--compilation-config`.
    Flag("--optimization-level", "count", ("-O",), minimum=0, glued=True),
    Flag("--performance-mode"),
    Flag("--attention-backend", aliases=("--attention-config.backend", "VLLM_ATTENTION_BACKEND")),
    Flag("--moe-backend", aliases=("--kernel-config.moe_backend",)),
    Flag("--linear-backend", aliases=("--kernel-config.linear_backend",)),
    Flag("--attention-config", "json", ("-ac",)),
    Flag("--kernel-config", "json"),
)

_SPECULATION = (
    Flag("--speculative-config", "json", ("-sc",)),
    Flag("--speculative-config.method", aliases=("--spec-method",)),
    Flag("--speculative-config.model", aliases=("--spec-model", "--speculative-model")),
    Flag(
        "--speculative-config.num_speculative_tokens", "count", ("--spec-tokens", "--num-speculative-tokens")
    ),
    Flag(
        "--speculative-config.draft_tensor_parallel_size", "count", ("--speculative-draft-tensor-parallel-size",)
    ),
    Flag("--speculative-config.max_model_len", "count", ("--speculative-max-model-len",)),
    Flag("--speculative-config.quantization", aliases=("--speculative-model-quantization",)),
    *rows("--diffusion-config/-dc", "json"),
)  # fmt: skip

_TOWERS = (
    *rows("--limit-mm-per-prompt --mm-processor-kwargs", "json"),
    *both_ways(
        rows(
            "--language-model-only --enable-mm-embeds --mm-encoder-only --skip-mm-profiling "
            "--enable-multimodal-encoder-data-parallel",
            "switch",
        )
    ),
    *rows("--mm-encoder-tp-mode --mm-processor-device"),
    *rows("--video-pruning-rate", "number"),
    *rows("--mm-ipc-gpu-memory-gb", "bytes", unit_bytes=GIB),
)

_ADAPTERS = (
    *both_ways(
        rows(
            "--enable-lora --fully-sharded-loras --enable-lora-bias --enable-tower-connector-lora "
            "--specialize-active-lora --enable-mixed-moe-lora-format --enable-moe-shared-loras "
            "--enable-prompt-adapter",
            "switch",
        )
    ),
    *rows("--max-loras --max-lora-rank --max-cpu-loras --max-lora-cls-labels --lora-extra-vocab-size", "count"),
    *rows("--max-prompt-adapters --max-prompt-adapter-token", "count"),
    *rows("--lora-dtype --long-lora-scaling-factors"),
    *rows("--lora-target-modules", many=True),
)

_VARIABLES = (
    *rows(
        "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS VLLM_USE_V1 VLLM_MLA_DISABLE VLLM_USE_DEEP_GEMM VLLM_MOE_USE_DEEP_GEMM "
        "VLLM_BATCH_INVARIANT VLLM_REPLICATE_EMBED VLLM_ALLREDUCE_USE_SYMM_MEM VLLM_USE_NCCL_SYMM_MEM "
        "VLLM_USE_FLASHINFER_SAMPLER VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8 VLLM_USE_FLASHINFER_MOE_MXFP4_BF16 "
        "VLLM_USE_FLASHINFER_MOE_FP8 VLLM_USE_FLASHINFER_MOE_FP4 VLLM_USE_FLASHINFER_MOE_FP16 VLLM_USE_FLASHINFER_MOE_INT4 "
        "VLLM_MXFP4_USE_MARLIN VLLM_USE_TRITON_AWQ VLLM_ROCM_USE_AITER VLLM_ROCM_USE_AITER_MOE VLLM_ROCM_MOE_PADDING "
        "VLLM_ROCM_FP8_PADDING VLLM_ALLOW_LONG_MAX_MODEL_LEN VLLM_USE_SIMPLE_KV_OFFLOAD "
        "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY "
        "VLLM_MXFP4_EMULATION_DEQUANT_AT_LOAD VLLM_MXFP8_EMULATION_DEQUANT_AT_LOAD VLLM_USE_V2_MODEL_RUNNER "
        "VLLM_USE_BREAKABLE_CUDAGRAPH",
        "switch",
    ),
    *rows("VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE", "bytes"),
    *rows("VLLM_DEEPEP_BUFFER_SIZE_MB VLLM_SPARSE_INDEXER_MAX_LOGITS_MB", "bytes", unit_bytes=2**20),
    *rows("VLLM_CPU_KVCACHE_SPACE", "bytes", unit_bytes=GIB),
    *rows("VLLM_FUSED_MOE_CHUNK_SIZE VLLM_MOE_DP_CHUNK_SIZE VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE", "count"),
    *quiet(
        "VLLM_API_KEY VLLM_LOGGING_LEVEL VLLM_LOGGING_CONFIG_PATH VLLM_CONFIGURE_LOGGING VLLM_NO_USAGE_STATS "
        "VLLM_DO_NOT_TRACK VLLM_HOST_IP VLLM_PORT VLLM_CACHE_ROOT VLLM_WORKER_MULTIPROC_METHOD VLLM_USE_MODELSCOPE "
        "VLLM_ENGINE_READY_TIMEOUT_S VLLM_RPC_TIMEOUT VLLM_SERVER_DEV_MODE VLLM_LOG_STATS_INTERVAL "
        "VLLM_DISABLE_COMPILE_CACHE VLLM_SKIP_P2P_CHECK VLLM_NIXL_SIDE_CHANNEL_HOST VLLM_NIXL_SIDE_CHANNEL_PORT "
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS VLLM_RANDOMIZE_DP_DUMMY_INPUTS VLLM_DEEP_GEMM_WARMUP VLLM_DP_MASTER_IP "
        "VLLM_DP_MASTER_PORT VLLM_DP_RANK VLLM_DP_RANK_LOCAL VLLM_IMAGE_FETCH_TIMEOUT VLLM_VIDEO_FETCH_TIMEOUT "
        "VLLM_ENABLE_V1_MULTIPROCESSING VLLM_USE_RUST_FRONTEND VLLM_USE_FASTOKENS VLLM_VIDEO_LOADER_BACKEND "
        "VLLM_COMPUTE_NANS_IN_LOGITS VLLM_FLOAT32_MATMUL_PRECISION VLLM_KV_CACHE_LAYOUT VLLM_SSM_CONV_STATE_LAYOUT "
        "VLLM_MARLIN_USE_ATOMIC_ADD VLLM_USE_AOT_COMPILE VLLM_USE_MEGA_AOT_ARTIFACT VLLM_HAS_FLASHINFER_CUBIN "
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING VLLM_PREFIX_CACHE_RETENTION_INTERVAL VLLM_USE_OINK_OPS"
    ),
)

_WITHOUT_EFFECT = (
    # Names, text and templates.
    *quiet(
        "--tokenizer --tokenizer-mode --tokenizer-revision --code-revision --config-format --generation-config --seed "
        "--allowed-local-media-path --download-dir --pt-load-map-location --io-processor-plugin --chat-template "
        "--chat-template-content-format --response-role --tool-call-parser --tool-parser-plugin --tool-strict-level "
        "--tool-server --reasoning-parser --reasoning-parser-plugin --cohere-format --fingerprint-mode "
        "--fingerprint-value --anthropic-disabled-thinking-effort --logprobs-mode --logits-processor-pattern "
        "--guided-decoding-backend --renderer-num-workers --sleep-mode-backend --worker-cls --worker-extension-cls "
        "--scheduler-cls --tokenizer-pool-size --tokenizer-pool-type --device"
    ),
    *quiet("--hf-token", bare=""),
    *quiet(
        "--allowed-media-domains --served-model-name --logits-processors --ignore-patterns --lora-modules "
        "--prompt-adapters --sleep-preserve-parameter-names",
        many=True,
    ),
    *quiet(
        "--model-class-overrides --pooler-config --override-pooler-config --override-generation-config "
        "--override-neuron-config --model-loader-extra-config --default-chat-template-kwargs --reasoning-effort-map "
        "--structured-outputs-config --reasoning-config --tokenizer-pool-extra-config --media-io-kwargs "
        "--default-mm-loras --additional-config --aux-output-config",
        "json",
    ),
    *both_ways(
        quiet(
            "--trust-remote-code --skip-tokenizer-init --allow-deprecated-quantization --use-tqdm-on-load "
            "--return-sampling-mask --sleep-mode-offload-cudagraph --enable-nccl-comm-suspend --disable-cascade-attn "
            "--trust-request-chat-template --trust-request-mm-kwargs --return-tokens-as-token-ids "
            "--enable-auto-tool-choice --exclude-tools-when-tool-choice-none --cohere-is-reasoning-model "
            "--enable-tokenizer-info-endpoint --enable-reasoning --enable-flash-late-interaction --tokens-only "
            "--guided-decoding-disable-fallback --guided-decoding-disable-any-whitespace "
            "--guided-decoding-disable-additional-properties",
            "switch",
        )
    ),
    # The server.
    *quiet(
        "--host --port --grpc-port --uds --uvicorn-log-level --disable-access-log-for-endpoints --allowed-origins "
        "--allowed-methods --allowed-headers --ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-cert-reqs --ssl-ciphers "
        "--root-path --middleware --h11-max-incomplete-event-size --h11-max-header-count --api-server-count/-asc "
        "--data-parallel-supervisor-port --dp-supervisor-probe-interval-s --dp-supervisor-probe-timeout-s "
        "--dp-supervisor-probe-failure-threshold --sse-keep-alive-interval --shutdown-timeout --max-log-len "
        "--max-num-queued-reqs --max-num-queued-tokens --input-file/-i --output-file/-o --output-tmp-dir --url"
    ),
    *quiet("--api-key", many=True),
    *both_ways(
        quiet(
            "--headless --grpc --disable-uvicorn-access-log --allow-credentials --enable-ssl-refresh "
            "--enable-request-id-headers --disable-fastapi-docs --enable-offline-docs --enable-scale-out "
            "--disable-frontend-multiprocessing --enable-server-load-tracking --enable-force-include-usage "
            "--enable-prompt-tokens-details --enable-per-request-metrics",
            "switch",
        )
    ),
    # Ranks and nodes: who is who, not what they hold.
    *quiet(
        "--distributed-executor-backend --master-addr --master-port --node-rank/-r --distributed-timeout-seconds "
        "--cpu-distributed-timeout-seconds --data-parallel-rank/-dpn --data-parallel-start-rank/-dpr "
        "--data-parallel-address/-dpa --data-parallel-size-local/-dpl --data-parallel-rpc-port/-dpp "
        "--data-parallel-backend/-dpb --dp-sync-interval "
        "--dcp-kv-cache-interleave-size --cp-kv-cache-interleave-size --dbo-decode-token-threshold "
        "--dbo-prefill-token-threshold --expert-placement-strategy --eplb-window-size --eplb-step-interval"
    ),
    *quiet("--numa-bind-nodes --numa-bind-cpus", many=True),
    *quiet("--fault-tolerance-config --weight-transfer-config", "json"),
    *both_ways(
        quiet(
            "--numa-bind --data-parallel-hybrid-lb/-dph --data-parallel-external-lb/-dpe "
            "--data-parallel-multi-port-external-lb/-dpm --enable-shm-tensor-arena --ray-workers-use-nsight "
            "--disable-nccl-for-dp-synchronization --enable-fault-tolerance --eplb-log-balancedness "
            "--worker-use-ray --engine-use-ray",
            "switch",
        )
    ),
    # Order of work, and kernels that hold nothing.
    *quiet(
        "--scheduling-policy --long-prefill-token-threshold --prefill-schedule-interval --stream-interval "
        "--prefix-caching-hash-algo --prefix-cache-retention-interval --prefix-match-unit --scheduler-delay-factor "
        "--preemption-mode --max-num-partial-prefills --max-long-partial-prefills --mamba-backend "
        "--mamba-ssu-algorithm --mamba-cache-philox-rounds --gdn-prefill-backend --kda-prefill-backend "
        "--kda-decode-backend --sparse-indexer-topk-backend --mm-hasher-algorithm --mm-shm-cache-max-object-size-mb "
        "--mm-encoder-attn-backend --mm-encoder-attn-dtype --mm-encoder-fp8-scale-path "
        "--mm-encoder-fp8-scale-save-path --mm-encoder-fp8-scale-save-margin --video-pruning-method --mm-tensor-ipc "
        "--safetensors-prefetch-num-threads --safetensors-prefetch-block-size "
        "--kernel-config.enable_flashinfer_autotune"
    ),
    *quiet("--ec-transfer-config --ec-manager-config --ir-op-priority", "json"),
    *both_ways(
        quiet(
            "--long-prefill-token-threshold-adaptive --disable-chunked-mm-input --scheduler-reserve-full-isl "
            "--multi-step-stream-outputs --disable-async-output-proc --enable-mamba-cache-stochastic-rounding "
            "--interleave-mm-strings --mm-device-do-normalize --disable-mm-preprocessor-cache "
            "--enable-flashinfer-autotune --monokernel --enable-bf16x3-router-gemm",
            "switch",
        )
    ),
    # Watching.
    *quiet(
        "--log-level --log-config-file --show-hidden-metrics-for-version --otlp-traces-endpoint "
        "--per-request-spec-decode-metrics --kv-cache-metrics-sample --jit-monitor-mode"
    ),
    *quiet("--collect-detailed-traces", many=True),
    *quiet(
        "--logging-config --custom-histogram-buckets --kv-events-config --profiler-config --watchdog-config "
        "--watermark-config",
        "json",
    ),
    *both_ways(
        quiet(
            "--enable-log-requests --enable-log-outputs --enable-log-deltas --log-error-stack --disable-log-stats "
            "--aggregate-engine-logging --fail-on-environ-validation --kv-cache-metrics --cudagraph-metrics "
            "--enable-layerwise-nvtx-tracing --enable-mfu-metrics --enable-logging-iteration-details "
            "--jit-monitor-verbose --enable-metrics",
            "switch",
        )
    ),
)

FLAGS: tuple[Flag, ...] = (
    *_MODEL,
    *_LAYOUT,
    *_CACHE,
    *_HOST,
    *_BATCH,
    *_GRAPHS_AND_KERNELS,
    *_SPECULATION,
    *_TOWERS,
    *_ADAPTERS,
    *_VARIABLES,
    Flag("--config", "file"),
    *_WITHOUT_EFFECT,
)
