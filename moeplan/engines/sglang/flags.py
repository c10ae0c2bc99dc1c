"""SGLang's flags: what each sets, which of the others matter to memory, and which do not.

Read from SGLang 0.5.23 srt/arg_groups/fields/ and srt/server_args.py; spellings of 0.4.6 to 0.5.18 that are gone since
are kept. Its parser takes abbreviations; only the common ones are read here: `--tp`, `--dp`, `--pp`, `--speculative-algo`.
"""

from __future__ import annotations

from moeplan.core.units import GB, GIB
from moeplan.engines.command_line.flag import Flag, negatable, quiet, rows

_MODEL = (
    Flag("--model-path", aliases=("--model",), field="model"),
    Flag("--revision", field="revision"),
    Flag("--dtype", field="dtype", auto=("auto",)),
    Flag("--quantization", field="quantization"),
    Flag("--context-length", "count", field="context_tokens", decimal=True),
    *rows("--json-model-override-args", "json"),
    *rows("--load-format --model-impl --modelopt-quant --torchao-config --rl-quant-profile --startup-weight-load-mode"),
    *rows(
        "--is-embedding --enable-fp32-lm-head --enable-memory-saver --enable-weights-cpu-backup "
        "--enable-draft-weights-cpu-backup --quantize-and-serve --weight-loader-disable-mmap "
        "--enable-return-hidden-states --enable-return-aux-hidden-states --enable-return-routed-experts "
        "--enable-return-indexer-topk --prefill-only-disable-kv-cache",
        "switch",
    ),
)

_LAYOUT = (
    Flag("--tp-size", "count", ("--tensor-parallel-size", "--tp"), field="tp"),
    Flag("--pp-size", "count", ("--pipeline-parallel-size", "--pp"), field="pp"),
    Flag("SGLANG_PP_LAYER_PARTITION", "counts", field="pp_layers"),
    # `--dp-size N --enable-dp-attention` is the older way to say `--attn-dp-size N`
    # (arg_groups/parallel_hook.py, handle_deprecated_dp_attention): N groups inside the tensor-parallel ranks.
    Flag("--dp-size", "count", ("--data-parallel-size", "--dp"), field="dp"),
    Flag("--enable-dp-attention", "switch", field="dp_attention"),
    Flag(
        "--attn-dp-size",
        "count",
        ("--attention-data-parallel-size",),
        field="dp",
        implies=(("dp_attention", True),),
    ),
    Flag("--ep-size", "count", ("--expert-parallel-size", "--ep"), field="ep"),
    Flag("--dcp-size", "count", ("--decode-context-parallel-size",), field="dcp"),
    Flag("--nnodes", "count", field="num_nodes"),
    Flag("--ep-num-redundant-experts", "count", field="redundant_experts", minimum=0),
    *rows(
        "--attn-cp-size/--attention-context-parallel-size --moe-dp-size/--moe-data-parallel-size --dwdp-size "
        "--moe-dense-tp-size --shared-experts-tp-size --elastic-ep-initial-size --max-ep-size --n-share-experts-fusion "
        "--pp-max-micro-batch-size/--max-micro-batch-size",
        "count",
    ),
    *rows("--pp-async-batch-depth", "count", minimum=0),
    *rows("--dcp-comm-backend --cp-strategy --prefill-cp-mode/--dsa-prefill-cp-mode/--nsa-prefill-cp-mode"),
    *rows("--moe-a2a-backend --deepep-mode --elastic-ep-backend --deepep-config"),
    *negatable(rows("--dcp-replicate-q-proj --enable-tp-lm-head-all-to-all", "switch")),
    *rows(
        "--enable-prefill-cp/--enable-prefill-context-parallel/--enable-dsa-prefill-context-parallel"
        "/--enable-nsa-prefill-context-parallel --enable-dsa-cache-layer-split --enable-cp-decode-attn-tp "
        "--enable-kv-cache-sharding --enable-dp-lm-head --enable-attn-tp-input-scattered "
        "--enable-shared-experts-attn-tp --enable-dense-mlp-attn-tp --disable-attn-tp-gather --enable-layernorm-sp "
        "--enable-megamoe-for-layernorm-sp --enable-eplb --disable-shared-experts-fusion "
        "--enforce-shared-experts-fusion --enable-deepep-moe --enable-ep-moe --enable-elastic-expert-backup "
        "--enable-symm-mem --enable-torch-symm-mem --enable-nccl-nvls --enable-mscclpp --disable-custom-all-reduce "
        "--pre-warm-nccl --enable-two-batch-overlap --enable-single-batch-overlap",
        "switch",
    ),
)

_CACHE = (
    Flag("--mem-fraction-static", "fraction", field="utilization_fraction"),
    Flag("--kv-cache-dtype", field="kv_dtype", auto=("auto",), says=(("fp8", "fp8_e4m3"),)),
    Flag("--max-total-tokens", "count", decimal=True),
    *rows("--max-running-requests --page-size --c128-page-size --max-mamba-cache-size --swa-prefix-tails", "count"),
    *rows("--swa-full-tokens-ratio --mamba-full-memory-ratio", "number"),
    Flag("--hybrid-kvcache-ratio", "number", bare="0.5"),
    *rows("--mamba-ssm-dtype --qsa-indexer-dtype --prefill-kv-cache-dequant-dtype --radix-cache-backend"),
    *rows("--mamba-radix-cache-strategy/--mamba-scheduler-strategy"),
    *rows("--mamba-max-states-per-path", "count", minimum=-1),
    *rows("--int8-mamba-ckpt-size --linear-replayssm-cache-len", "count"),
    *rows(
        "--disable-radix-cache --disable-hybrid-swa-memory --enable-page-major-kv-layout --enable-unified-memory "
        "--enable-deepseek-v4-fp4-indexer --enable-int8-mamba-checkpoint --enable-linear-replayssm "
        "--enable-linear-replayssm-spec/--enable-gdn-replayssm-spec --enable-encoder-swa-bounded-replay "
        "--enable-double-sparsity --enable-hisparse --enable-mis",
        "switch",
    ),
    *negatable(rows("--enable-decoder-swa-bounded-replay", "switch")),
    *rows("--hisparse-config/--hierarchical-sparse-attention-extra-config", "json"),
)

_HOST = (
    *rows("--cpu-offload-gb", "bytes", unit_bytes=GIB),
    *rows("--hicache-size", "bytes", unit_bytes=GB),  # times 1e9: mem_cache/pool_host/base.py
    *rows("--hicache-ratio --hicache-host-memory-fraction", "number"),
    *rows("--hicache-host-memory-mode --hicache-mem-layout --offload-mode --ple-offload-backend"),
    *rows("--offload-group-size --offload-num-in-group --offload-prefetch-step", "count", minimum=-1),
    *rows("--paged-experts-num-resident --kt-num-gpu-experts", "count", minimum=0),
    *rows("--kt-weight-path/--kt-amx-weight-path --kt-method/--kt-amx-method"),
    *negatable(rows("--ple-offload-embedding", "switch")),
    *rows(
        "--enable-hierarchical-cache/--enable-hicache --enable-lmcache --enable-flexkv --enable-paged-experts "
        "--disaggregation-decode-enable-offload-kvcache",
        "switch",
    ),
)

_BATCH = (
    # -1 turns chunking off.
    Flag("--chunked-prefill-size", "count", minimum=-1),
    Flag("--max-prefill-tokens", "count", decimal=True),
    *rows("--prefill-max-requests --num-continuous-decode-steps", "count"),
    *rows("--num-reserved-decode-tokens --disaggregation-decode-extra-slots", "count", minimum=0),
    *rows("--disaggregation-mode --decoupled-spec-role"),
    *rows("--enable-mixed-chunk --disable-overlap-schedule --enable-dynamic-chunking --enable-pdmux", "switch"),
)

_GRAPHS_AND_KERNELS = (
    *rows("--cuda-graph-config", "json"),
    *rows("--cuda-graph-backend-decode --cuda-graph-backend-prefill"),
    *rows("--cuda-graph-max-bs-decode/--cuda-graph-max-bs --cuda-graph-max-bs-prefill", "count"),
    *rows("--cuda-graph-max-seq-len-prefill --piecewise-cuda-graph-max-tokens --torch-compile-max-bs", "count"),
    Flag("--cuda-graph-prefill-max-context", "count", ("--context-bucket",), decimal=True),
    *rows(
        "--cuda-graph-bs-decode/--cuda-graph-bs --cuda-graph-bs-prefill --piecewise-cuda-graph-tokens",
        "counts",
        many=True,
    ),
    *rows(
        "--disable-cuda-graph --disable-decode-cuda-graph --disable-prefill-cuda-graph --disable-cuda-graph-padding "
        "--enable-torch-compile --enable-piecewise-cuda-graph --enforce-piecewise-cuda-graph "
        "--disable-piecewise-cuda-graph --enable-breakable-cuda-graph",
        "switch",
    ),
    *rows(
        "--attention-backend --prefill-attention-backend --decode-attention-backend --dsa-prefill-backend/"
        "--nsa-prefill-backend --dsa-decode-backend/--nsa-decode-backend --dsv4-attn-backend --dsv4-prefill-backend "
        "--moe-runner-backend --sampling-backend --flashinfer-allreduce-fusion-backend --flashinfer-mxfp4-moe-precision"
    ),
    *rows("--fp4-gemm-backend/--fp4-gemm-runner-backend --fp8-gemm-backend/--fp8-gemm-runner-backend"),
    *rows(
        "--enable-flashinfer-allreduce-fusion --enforce-disable-flashinfer-allreduce-fusion "
        "--enable-flashinfer-moe --enable-flashinfer-cutlass-moe --enable-flashinfer-trtllm-moe "
        "--enable-flashinfer-mxfp4-moe --enable-triton-kernel-moe --enable-flashinfer-mla --enable-flashmla "
        "--enable-deterministic-inference --enable-w4a4-mxfp4-megamoe",
        "switch",
    ),
)

_SPECULATION = (
    *rows(
        "--speculative-algorithm/--speculative-algo --speculative-draft-model-path/--speculative-draft-model "
        "--speculative-draft-model-quantization --speculative-draft-kv-cache-dtype --speculative-draft-load-format "
        "--speculative-token-map --speculative-attention-mode --speculative-draft-attention-backend "
        "--speculative-moe-runner-backend --speculative-moe-a2a-backend"
    ),
    *rows(
        "--speculative-num-steps --speculative-eagle-topk --speculative-num-draft-tokens "
        "--speculative-draft-window-size/--speculative-dflash-draft-window-size --speculative-draft-sink-size "
        "--speculative-dflash-block-size --speculative-dspark-block-size --speculative-domino-candidate-pool-size",
        "count",
        minimum=0,
    ),
    *rows("--enable-multi-layer-eagle --speculative-adaptive", "switch"),
    *negatable(rows("--speculative-enable-w4a4-mxfp4-megamoe", "switch")),
)

_TOWERS = (
    *rows("--limit-mm-data-per-request --mm-process-config", "json"),
    *rows("--mm-preprocess-cache-size-mb", "bytes", unit_bytes=2**20),
    *rows("--mm-attention-backend --mm-feature-transport"),
    *negatable(rows("--mm-enable-dp-encoder", "switch")),
    *rows(
        "--enable-multimodal --language-only --language-model-only --encoder-only --keep-mm-feature-on-device",
        "switch",
    ),
)

_ADAPTERS = (
    *rows("--enable-lora --enable-lora-overlap-loading --lora-use-virtual-experts", "switch"),
    *negatable(rows("--experts-shared-outer-loras", "switch")),
    *rows("--max-lora-rank --max-loras-per-batch --max-loaded-loras --max-lora-chunk-size", "count"),
    *(flag._replace(bare="") for flag in rows("--lora-paths --lora-target-modules", many=True)),
    *rows("--lora-backend --uno-lora-path"),
)

_VARIABLES = (
    *rows(
        "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING SGLANG_USE_AITER SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN "
        "SGLANG_ENABLE_JIT_DEEPGEMM SGLANG_FORCE_FP8_MARLIN SGLANG_MOE_PADDING SGLANG_DSV4_FP4_EXPERTS "
        "SGLANG_DSV4_UNIFIED_KV_FP8 SGLANG_OPT_MINIMAX_M3_FP8_INDEX_CACHE SGLANG_ENABLE_DSV41_ENGRAM_HOST_TABLE",
        "switch",
    ),
    *rows("SGLANG_MAMBA_CONV_DTYPE SGLANG_MAMBA_SSM_DTYPE SGLANG_DSV4_COMPRESS_STATE_DTYPE"),
    *rows("SGLANG_FLASHINFER_WORKSPACE_SIZE", "bytes"),
    *rows("SGLANG_SYMM_MEM_PREALLOC_GB_SIZE", "bytes", unit_bytes=GIB),
    *rows("SGLANG_VLM_CACHE_SIZE_MB SGLANG_EMBEDDING_POOL_SIZE_MB", "bytes", unit_bytes=2**20),
    *rows("SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK SGLANG_MORI_NUM_MAX_DISPATCH_TOKENS_PER_RANK", "count"),
    *quiet(
        "SGLANG_USE_MODELSCOPE SGLANG_PORT SGLANG_TORCH_PROFILER_DIR SGLANG_LOG_MS SGLANG_CACHE_DIR "
        "SGLANG_WARMUP_TIMEOUT SGLANG_JIT_DEEPGEMM_PRECOMPILE SGLANG_JIT_DEEPGEMM_FAST_WARMUP "
        "SGLANG_DG_CACHE_DIR SGLANG_SET_CPU_AFFINITY "
        "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT SGLANG_DISAGGREGATION_WAITING_TIMEOUT"
    ),
)

_WITHOUT_EFFECT = (
    # Names, text and templates.
    *quiet(
        "--tokenizer-path --tokenizer-mode --tokenizer-backend --tokenizer-worker-num --detokenizer-worker-num "
        "--served-model-name --weight-version --chat-template --hf-chat-template-name --completion-template "
        "--reasoning-parser --tool-call-parser --tool-server --sampling-defaults --preferred-sampling-params "
        "--default-chat-template-kwargs --model-config-parser --model-loader-extra-config --quantization-param-path "
        "--modelopt-checkpoint-restore-path --modelopt-checkpoint-save-path --modelopt-export-path --download-dir "
        "--decrypted-config-file --decrypted-draft-config-file --speculative-draft-model-revision --grammar-backend "
        "--constrained-json-whitespace-pattern --constrained-json-max-whitespace-cnt --random-seed --device "
        "--return-hidden-states-mode --watermark-config --dllm-algorithm --dllm-algorithm-config "
        "--rl-on-policy-target --sampling-mask-max-tokens --multi-item-scoring-delimiter --impl "
        "--ds-channel-config-path --ds-heavy-channel-num --ds-heavy-channel-type --ds-heavy-token-num "
        "--ds-sparse-decode-threshold"
    ),
    *quiet("--model-checksum", bare=""),
    *quiet("--custom-weight-loader", many=True, bare=""),
    *quiet("--return-aux-hidden-state-layer-ids --allowed-media-domains", many=True),
    *quiet(
        "--trust-remote-code --skip-tokenizer-init --trust-request-chat-template --delete-ckpt-after-loading "
        "--weight-loader-prefetch-checkpoints --weight-loader-drop-cache-after-load "
        "--checkpoint-engine-wait-weights-before-ready --constrained-json-disable-any-whitespace "
        "--enable-custom-logit-processor --enable-watermark --disable-outlines-disk-cache --allow-auto-truncate "
        "--strip-thinking-cache --enable-strict-thinking --enable-precise-embedding-interpolation --return-input-ids "
        "--return-output-ids --disable-fast-image-processor --trust-mm-content-hashes",
        "switch",
    ),
    *negatable(quiet("--dllm-fdfo --lora-strict-loading --enable-tf32-matmul --record-nolora-graph", "switch")),
    # The server.
    *quiet(
        "--host --port --grpc-port --grpc-response-timeout-secs --smg-http-sidecar-port/--grpc-http-sidecar-port "
        "--fastapi-root-path --sidecar --sidecar-args --warmups --http2-max-concurrent-streams "
        "--http2-initial-connection-window-size --ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-keyfile-password "
        "--api-key --admin-api-key --file-storage-path --max-queued-requests --stream-interval --batch-notify-size "
        "--asr-max-buffer-seconds --asr-max-concurrent-sessions --dynamic-batch-tokenizer-batch-size "
        "--dynamic-batch-tokenizer-batch-timeout --watchdog-timeout --soft-watchdog-timeout --custom-sigquit-handler "
        "--pdlb-url --load-watch-interval"
    ),
    *quiet(
        "--smg-grpc-mode --grpc-mode --enable-http-worker-reuseport --skip-server-warmup --enable-http2 "
        "--enable-ssl-refresh --enable-cache-report --enable-response-store --stream-output "
        "--stream-response-default-include-usage --incremental-streaming-output --enable-streaming-session "
        "--enable-dynamic-batch-tokenizer --enable-tokenizer-batch-encode --disable-tokenizer-batch-decode "
        "--sleep-on-idle --use-ray --mlx-enable-sampling",
        "switch",
    ),
    # Ranks, nodes and weights from elsewhere: who is who, not what they hold.
    *quiet(
        "--dist-init-addr/--nccl-init-addr --nccl-port --dist-timeout --gated-launch-port --node-rank --base-gpu-id "
        "--gpu-id-step --load-balance-method --elastic-ep-join-rank-offset/--ep-join-rank-offset "
        "--elastic-ep-join-mode/--ep-join-mode --elastic-ep-scale-timeout --mooncake-ib-device "
        "--disaggregation-transfer-backend --disaggregation-bootstrap-port --disaggregation-ib-device "
        "--disaggregation-decode-allocation-policy --disaggregation-decode-retraction-backup "
        "--disaggregation-decode-polling-interval --disaggregation-decode-host-receive-threshold "
        "--disaggregation-decode-tp --disaggregation-decode-dp --disaggregation-prefill-pp "
        "--optimistic-prefill-attempts --encoder-transfer-backend --encoder-bootstrap-port --pdmux-config-path "
        "--sm-group-num --decoupled-spec-bind-endpoint --decoupled-spec-connect-endpoints --decoupled-spec-rank "
        "--weight-cache-mode --weight-cache-socket --weight-cache-timeout --modelexpress-config "
        "--engine-info-bootstrap-port --weight-loader-prefetch-num-threads "
        "--remote-instance-weight-loader-seed-instance-ip --remote-instance-weight-loader-seed-instance-service-port "
        "--remote-instance-weight-loader-send-weights-group-ports --remote-instance-weight-loader-backend"
    ),
    *quiet("--encoder-urls --encoder-register-urls --numa-node --gc-threshold", many=True),
    *quiet(
        "--elastic-ep-rejoin --enable-p2p-check --enable-dp-attention-local-control-broadcast "
        "--disaggregation-enable-kv-checksum --disaggregation-decode-enable-radix-cache "
        "--disaggregation-decode-enable-fake-auto --enable-pd-role-switch --enable-adaptive-dispatch-to-encoder "
        "--remote-instance-weight-loader-start-seed-via-transfer-engine",
        "switch",
    ),
    # Order of work, and kernels that hold nothing.
    *quiet(
        "--schedule-policy --schedule-conservativeness --prefill-decode-interval --prefill-decode-interval-min-bs "
        "--default-priority-value --priority-scheduling-preemption-threshold --retraction-policy "
        "--scheduler-recv-interval --prefill-delayer-max-delay-passes --prefill-delayer-token-usage-low-watermark "
        "--prefill-delayer-queue-min-ratio --prefill-delayer-max-delay-ms --min-free-slots-delay "
        "--radix-eviction-policy --radix-eviction-policy-config --hicache-write-policy --hicache-io-backend "
        "--hicache-storage-backend --hicache-storage-prefetch-policy --hicache-storage-backend-extra-config "
        "--hicache-storage-prefetch-retry-poll-interval --hicache-storage-prefetch-retry-max-attempts "
        "--unified-cache-external-linker-backend --unified-cache-external-linker-config --lora-eviction-policy "
        "--lora-drain-wait-threshold --tbo-token-distribution-threshold --mm-processor-worker-num --mm-io-worker-num "
        "--mm-max-concurrent-calls --mm-per-request-timeout --media-url-max-file-size-mb --image-processor-backend "
        "--mm-global-cache-backend --mamba-backend --mamba-cache-philox-rounds --mamba-track-interval "
        "--linear-attn-backend --linear-attn-decode-backend --linear-attn-prefill-backend "
        "--linear-attn-verify-backend --triton-attention-num-kv-splits --triton-attention-split-tile-size "
        "--bf16-gemm-backend --dsa-triton-union --dsa-paged-mqa-logits-backend --dsa-topk-backend "
        "--speculative-dsa-topk-backend --boundary-reduction --deepep-v2-mode --fuseep-mode "
        "--deepep-dispatcher-output-dtype --flashinfer-a2a-dispatch-type --ep-dispatch-algorithm "
        "--init-expert-location --eplb-algorithm --eplb-rebalance-num-iterations --eplb-rebalance-layers-per-chunk "
        "--eplb-min-rebalancing-utilization-threshold --kt-cpuinfer --kt-threadpool-count "
        "--kt-max-deferred-experts-per-token --ple-offload-dir --cuda-graph-tc-compiler "
        "--piecewise-cuda-graph-compiler --monokernel-backend --speculative-accept-threshold-single "
        "--speculative-accept-threshold-acc --speculative-dspark-sps-table-path "
        "--speculative-dspark-confidence-sts-path --speculative-adaptive-config --spec-trace-dir "
        "--speculative-ngram-min-bfs-breadth --speculative-ngram-max-bfs-breadth --speculative-ngram-match-type "
        "--speculative-ngram-max-trie-depth --speculative-ngram-capacity --speculative-ngram-external-corpus-path "
        "--speculative-ngram-external-sam-budget --speculative-ngram-external-corpus-max-tokens "
        "--speculative-ngram-branch-length --speculative-ngram-min-match-window-size "
        "--speculative-ngram-max-match-window-size"
    ),
    *quiet(
        "--flashinfer-autotune-skip-ops --prefill-delayer-forward-passes-buckets "
        "--prefill-delayer-wait-seconds-buckets",
        many=True,
    ),
    *quiet(
        "--enable-priority-scheduling --disable-priority-preemption --abort-on-priority-when-disabled "
        "--schedule-low-priority-values-first --enable-prefill-delayer --prefill-round-robin-balance "
        "--disable-chunked-prefix-cache --enable-session-radix-cache --enable-unified-cache-external-linker "
        "--enable-linker-mla-dedup --disable-hicache-numa-detect --enable-broadcast-mm-inputs-process "
        "--enable-prefix-mm-cache --enable-mm-global-cache --enable-lean-attention --enable-nvidia-megakernel "
        "--enable-amd-monokernel --disable-flashinfer-autotune --triton-attention-reduce-in-fp32 "
        "--flashinfer-mla-disable-ragged --enable-mamba-cache-stochastic-rounding --disable-overlap-cg-plan "
        "--enable-profile-cuda-graph --enable-cudagraph-gc --debug-cuda-graph --enable-torch-compile-debug-mode "
        "--enable-layerwise-nvtx-marker --enable-scattered-sconv --enable-quant-communications "
        "--enable-aiter-allreduce-fusion --disable-aiter-allreduce-fusion-in-prefill "
        "--disable-aiter-allreduce-fusion-in-decode --enable-fused-moe-sum-all-reduce --enable-waterfill "
        "--enable-deepep-waterfill --disable-flashinfer-cutlass-moe-fp4-allgather "
        "--speculative-use-rejection-sampling --speculative-use-block-verification --speculative-skip-dp-mlp-sync "
        "--speculative-dspark-align-verify-tokens-to-graph-tier",
        "switch",
    ),
    *negatable(quiet("--enable-fused-qk-norm-rope --enable-dsa-fused-indexer", "switch")),
    # Watching.
    *quiet(
        "--log-level --log-level-http --log-requests-level --log-requests-format --crash-dump-folder "
        "--load-snapshot-publish-interval --tokenizer-metrics-custom-labels-header --extra-metric-labels "
        "--gc-warning-threshold-secs --decode-log-interval --kv-events-config --load-publish-endpoint "
        "--forward-pass-metrics-worker-id --forward-pass-metrics-ipc-name --trace-modules --otlp-traces-endpoint "
        "--otlp-service-name --export-metrics-to-file-dir --stat-loggers --kv-canary --kv-canary-real-data "
        "--kv-canary-sweep-interval --debug-tensor-dump-output-folder --debug-tensor-dump-input-file "
        "--debug-tensor-dump-inject --forward-hooks --msprobe-dump-config --expert-distribution-recorder-mode "
        "--expert-distribution-recorder-buffer-size --expert-balancedness-report-mode"
    ),
    *quiet("--uvicorn-access-log-exclude-prefixes", many=True, bare=""),
    *quiet(
        "--log-requests-target --tokenizer-metrics-allowed-custom-labels --bucket-time-to-first-token "
        "--bucket-inter-token-latency --bucket-e2e-request-latency --prompt-tokens-buckets "
        "--generation-tokens-buckets --debug-tensor-dump-layers",
        many=True,
    ),
    *quiet(
        "--log-requests --show-time-cost --enable-metrics --enable-mfu-metrics --enable-metrics-for-all-schedulers "
        "--enable-request-time-stats-logging --enable-forward-pass-metrics --enable-trace --export-metrics-to-file "
        "--collect-tokens-histogram --enable-expert-distribution-metrics --enable-nan-detection "
        "--debug-tensor-dump-prefill-only",
        "switch",
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
    *rows("--config --lmcache-config-file --flexkv-config-file", "file"),
    *_WITHOUT_EFFECT,
)
