"""llama.cpp's flags: what each sets, which of the others matter to memory, and which do not.

Read from llama.cpp common/arg.cpp and tools/server/server.cpp, as llama-cpp-python 0.3.36 vendors them. Flags of 2023 to
2025 that are gone since are kept; `LLAMA_ARG_X` in the environment says the same as its flag. What they say of context:

* `--ctx-size` is the context of all sequences together, 0 that of the model (src/llama-context.cpp). Each of N sequences
  has its N-th part, rounded up to 256 tokens; with `--kv-unified` all share the whole.
* Without `--parallel`, llama-server runs four sequences that share one context (tools/server/server.cpp); other programs
  run one.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Value
from moeplan.core.units import MIB
from moeplan.engines.command_line.flag import Field, Flag, quiet, rows
from moeplan.engines.llamacpp.cache_types import TYPE_NAMES


def _on_off(names: str, off: str, *, matters: bool = True) -> Flag:
    """A switch with its opposite, each with names that a slash parts."""
    first, *more = names.split("/")
    return Flag(first, "switch", tuple(more), tuple(off.split("/")), matters=matters)


_MODEL = (
    Flag("--model", aliases=("-m", "LLAMA_ARG_MODEL"), field="model"),
    Flag("--hf-repo", aliases=("-hf", "-hfr", "LLAMA_ARG_HF_REPO"), field="model"),
    *rows(
        "--hf-file/-hff/LLAMA_ARG_HF_FILE --model-url/-mu/LLAMA_ARG_MODEL_URL --docker-repo/-dr/LLAMA_ARG_DOCKER_REPO"
    ),
    *rows("--lora/--lora-base --lora-scaled --control-vector --control-vector-scaled"),
    *rows("--mmproj/-mm/LLAMA_ARG_MMPROJ --mmproj-url/-mmu/LLAMA_ARG_MMPROJ_URL --mmproj-device/-mmdev"),
    Flag("--no-mmproj", "switch", ("--no-mmproj-auto",), ("--mmproj-auto",)),
    _on_off("--mmproj-offload/LLAMA_ARG_MMPROJ_OFFLOAD", "--no-mmproj-offload"),
    *rows("--image-min-tokens --image-max-tokens --mtmd-batch-max-tokens", "count", minimum=0),
    *rows("--override-kv --rope-scaling --pooling"),
    *rows("--yarn-orig-ctx", "count", minimum=0),
    *rows("--rope-scale --rope-freq-base --rope-freq-scale", "number"),
    *rows("--embedding/--embeddings/LLAMA_ARG_EMBEDDINGS --rerank/--reranking/LLAMA_ARG_RERANKING", "switch"),
)

_CONTEXT = (
    Flag("--ctx-size", "count", ("-c", "LLAMA_ARG_CTX_SIZE"), field="context_tokens", auto=("0",)),
    Flag("--parallel", "count", ("-np", "LLAMA_ARG_N_PARALLEL"), field="concurrency", auto=("-1",)),
    _on_off("--kv-unified/-kvu/LLAMA_ARG_KV_UNIFIED", "--no-kv-unified/-no-kvu"),
    Flag("--kv-unified-per-slot", "count", ("LLAMA_ARG_KV_UNIFIED_PER_SLOT",), minimum=0),
    Flag("--batch-size", "count", ("-b", "LLAMA_ARG_BATCH")),
    Flag("--ubatch-size", "count", ("-ub", "LLAMA_ARG_UBATCH")),
    Flag("--cache-type-k", aliases=("-ctk", "LLAMA_ARG_CACHE_TYPE_K"), says=tuple(TYPE_NAMES.items())),
    Flag("--cache-type-v", aliases=("-ctv", "LLAMA_ARG_CACHE_TYPE_V"), says=tuple(TYPE_NAMES.items())),
    # Until 2025 a switch; since then it wants `on`, `off` or `auto`.
    Flag("--flash-attn", aliases=("-fa", "LLAMA_ARG_FLASH_ATTN"), bare="on"),
    *rows("--swa-full/LLAMA_ARG_SWA_FULL", "switch"),
    *rows(
        "--ctx-checkpoints/-ctxcp/--swa-checkpoints/LLAMA_ARG_CTX_CHECKPOINTS --checkpoint-min-step/-cms",
        "count",
        minimum=0,
    ),
    Flag("--cache-ram", "bytes", ("-cram", "LLAMA_ARG_CACHE_RAM"), unit_bytes=MIB, auto=("-1",)),
    *rows("--grp-attn-n/-gan --grp-attn-w/-gaw", "count"),
)

_DEVICES = (
    # `auto` and `all`; a number below zero is one of them.
    Flag(
        "--gpu-layers",
        "count",
        ("--n-gpu-layers", "-ngl", "LLAMA_ARG_N_GPU_LAYERS"),
        minimum=-999,
        words=("auto", "all"),
    ),
    Flag("--cpu-moe", "switch", ("-cmoe", "LLAMA_ARG_CPU_MOE")),
    Flag("--n-cpu-moe", "count", ("-ncmoe", "LLAMA_ARG_N_CPU_MOE"), minimum=0),
    Flag("--n-cpu-ffn", "count", ("-ncffn", "LLAMA_ARG_N_CPU_FFN"), minimum=0),
    # Its own patterns are parted by commas too.
    Flag("--override-tensor", aliases=("-ot", "LLAMA_ARG_OVERRIDE_TENSOR"), gathers=True),
    Flag("--split-mode", aliases=("-sm", "LLAMA_ARG_SPLIT_MODE")),
    Flag("--tensor-split", aliases=("-ts", "LLAMA_ARG_TENSOR_SPLIT")),
    Flag("--main-gpu", "count", ("-mg", "LLAMA_ARG_MAIN_GPU"), minimum=0),
    Flag("--device", aliases=("-dev", "LLAMA_ARG_DEVICE")),
    Flag("--rpc", aliases=("LLAMA_ARG_RPC",)),
    Flag("--fit", aliases=("-fit", "LLAMA_ARG_FIT")),
    Flag("--fit-target", aliases=("-fitt", "LLAMA_ARG_FIT_TARGET")),
    Flag("--fit-ctx", "count", ("-fitc", "LLAMA_ARG_FIT_CTX"), minimum=0),
    _on_off("--kv-offload/-kvo/LLAMA_ARG_KV_OFFLOAD", "--no-kv-offload/-nkvo"),
    _on_off("--op-offload", "--no-op-offload"),
    _on_off("--repack/LLAMA_ARG_REPACK", "--no-repack/-nr"),
    Flag("--no-host", "switch", ("LLAMA_ARG_NO_HOST",)),
    # How the file is read steers what stays in host memory.
    Flag("--load-mode", aliases=("-lm", "LLAMA_ARG_LOAD_MODE")),
    Flag("--lazy-mode", aliases=("-lzm", "LLAMA_ARG_LAZY_MODE")),
    Flag("--no-mmap", "switch", (), ("--mmap",)),
    *rows("--mlock", "switch"),
    _on_off("--direct-io/-dio", "--no-direct-io/-ndio"),
)

_SPECULATION = (
    Flag("--spec-type", aliases=("LLAMA_ARG_SPEC_TYPE",), gathers=True),
    *rows(
        "--spec-draft-model/-md/--model-draft/LLAMA_ARG_SPEC_DRAFT_MODEL "
        "--spec-draft-hf/-hfd/-hfrd/--hf-repo-draft/LLAMA_ARG_SPEC_DRAFT_HF_REPO "
        "--spec-draft-type-k/-ctkd/--cache-type-k-draft/LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K "
        "--spec-draft-type-v/-ctvd/--cache-type-v-draft/LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V "
        "--spec-draft-device/-devd/--device-draft"
    ),
    Flag("--spec-draft-override-tensor", aliases=("-otd", "--override-tensor-draft"), gathers=True),
    Flag(
        "--spec-draft-ngl",
        "count",
        ("-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft", "LLAMA_ARG_N_GPU_LAYERS_DRAFT"),
        minimum=-999,
        words=("auto", "all"),
    ),
    *rows("--spec-draft-cpu-moe/-cmoed/--cpu-moe-draft/LLAMA_ARG_SPEC_DRAFT_CPU_MOE --spec-default", "switch"),
    *rows(
        "--spec-draft-n-cpu-moe/--spec-draft-ncmoe/-ncmoed/--n-cpu-moe-draft --spec-draft-n-max/--draft/--draft-n/"
        "--draft-max --ctx-size-draft/-cd",
        "count",
        minimum=0,
    ),
)


def _preset(name: str, words: str) -> Flag:
    return Flag(name, "switch", stands_for=words)


_CODER = "-ub 1024 -b 1024 -c 0"
_GPT_OSS = "-ub 2048 -b 32768 -np 2 -c 262144"
_PRESETS = (
    _preset(
        "--embd-gemma-default",
        "-hf ggml-org/embeddinggemma-300M-qat-q4_0-GGUF -hff embeddinggemma-300M-qat-Q4_0.gguf -ub 2048 -b 2048 -np 32 "
        "-c 65536 --embedding",
    ),
    *(
        _preset(
            f"--fim-qwen-{size.lower()}-{kind}",
            f"-hf ggml-org/Qwen2.5-Coder-{size}-Q8_0-GGUF -hff qwen2.5-coder-{size.lower()}-q8_0.gguf {_CODER}"
            + (" --spec-draft-hf ggml-org/Qwen2.5-Coder-0.5B-Q8_0-GGUF" if kind == "spec" else ""),
        )
        for size, kind in (("1.5B", "default"), ("3B", "default"), ("7B", "default"), ("7B", "spec"), ("14B", "spec"))
    ),
    _preset(
        "--fim-qwen-30b-default",
        "-hf ggml-org/Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF -hff qwen3-coder-30b-a3b-instruct-q8_0.gguf " + _CODER,
    ),
    _preset("--gpt-oss-20b-default", f"-hf ggml-org/gpt-oss-20b-GGUF -hff gpt-oss-20b-mxfp4.gguf {_GPT_OSS}"),
    _preset("--gpt-oss-120b-default", f"-hf ggml-org/gpt-oss-120b-GGUF {_GPT_OSS}"),
    _preset("--vision-gemma-4b-default", "-hf ggml-org/gemma-3-4b-it-qat-GGUF -c 0"),
    _preset("--vision-gemma-12b-default", "-hf ggml-org/gemma-3-12b-it-qat-GGUF -c 0"),
)

_WITHOUT_EFFECT = (
    # Threads and processors.
    *quiet(
        "--threads/-t --threads-batch/-tb --cpu-mask/-C --cpu-range/-Cr --cpu-strict --prio --poll --cpu-mask-batch/-Cb "
        "--cpu-range-batch/-Crb --cpu-strict-batch --prio-batch --poll-batch --numa --threads-http "
        "--spec-draft-threads/-td/--threads-draft --spec-draft-threads-batch/-tbd/--threads-batch-draft "
        "--spec-draft-cpu-mask/-Cd/--cpu-mask-draft --spec-draft-cpu-range/-Crd/--cpu-range-draft "
        "--spec-draft-cpu-strict/--cpu-strict-draft --spec-draft-prio/--prio-draft --spec-draft-poll/--poll-draft "
        "--spec-draft-cpu-mask-batch/-Cbd/--cpu-mask-batch-draft "
        "--spec-draft-cpu-range-batch/-Crbd/--cpu-range-batch-draft "
        "--spec-draft-cpu-strict-batch/--cpu-strict-batch-draft --spec-draft-prio-batch/--prio-batch-draft "
        "--spec-draft-poll-batch/--poll-batch-draft"
    ),
    # Prompts, sampling, templates.
    *quiet(
        "--predict/-n/--n-predict --keep --chunks --prompt/-p --system-prompt/-sys --file/-f --system-prompt-file/-sysf "
        "--in-file --binary-file/-bf --print-token-count/-ptc --prompt-cache --reverse-prompt/-r --in-prefix "
        "--in-suffix --samplers --seed/-s --sampler-seq/--sampling-seq --temp/--temperature --top-k --top-p --min-p "
        "--top-nsigma/--top-n-sigma --xtc-probability --xtc-threshold --typical/--typical-p --repeat-last-n "
        "--repeat-penalty --presence-penalty --frequency-penalty --dry-multiplier --dry-base --dry-allowed-length "
        "--dry-penalty-last-n --dry-sequence-breaker --adaptive-target --adaptive-decay --dynatemp-range "
        "--dynatemp-exp --mirostat --mirostat-lr --mirostat-ent --logit-bias/-l --grammar --grammar-file "
        "--json-schema/-j --json-schema-file/-jf --attention --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow "
        "--yarn-beta-fast --image/--audio/--video --video-fps --video-timestamp-interval --video-ffmpeg-dir "
        "--chat-template --chat-template-file --chat-template-kwargs --reasoning-format --reasoning/-rea "
        "--reasoning-effort --reasoning-budget --reasoning-budget-message --defrag-thold/-dt --tfs"
    ),
    *quiet(
        "--ignore-eos --prompt-cache-all --prompt-cache-ro --special/-sp --single-turn/-st --interactive/-i "
        "--interactive-first/-if --multiline-input/-mli --in-prefix-bos --spm-infill --backend-sampling/-bs "
        "--verbose-prompt --penalize-nl",
        "switch",
    ),
    _on_off("--display-prompt", "--no-display-prompt", matters=False),
    _on_off("--escape/-e", "--no-escape", matters=False),
    _on_off("--conversation/-cnv", "--no-conversation/-no-cnv", matters=False),
    _on_off("--context-shift", "--no-context-shift", matters=False),
    _on_off("--cont-batching/-cb", "--no-cont-batching/-nocb", matters=False),
    _on_off("--warmup", "--no-warmup", matters=False),
    _on_off("--jinja", "--no-jinja", matters=False),
    _on_off("--reasoning-preserve", "--no-reasoning-preserve", matters=False),
    _on_off("--skip-chat-parsing", "--no-skip-chat-parsing", matters=False),
    _on_off("--prefill-assistant", "--no-prefill-assistant", matters=False),
    _on_off("--cache-prompt", "--no-cache-prompt", matters=False),
    _on_off("--cache-idle-slots", "--no-cache-idle-slots", matters=False),
    # The server.
    *quiet(
        "--host --port --path --cors-origins --cors-methods --cors-headers --api-prefix --ui-config/--webui-config "
        "--ui-config-file/--webui-config-file --tools --tools-runtime --mcp-servers-config --mcp-servers-json --api-key "
        "--api-key-file --ssl-key-file --ssl-cert-file --timeout/-to --sse-ping-interval --cache-reuse "
        "--slot-save-path --media-path --models-dir --models-preset --models-max --slot-prompt-similarity/-sps "
        "--sleep-idle-seconds --alias/-a --tags --hf-token/-hft --server-base --embd-normalize"
    ),
    *quiet("--reuse-port --metrics --props --lora-init-without-apply --offline", "switch"),
    _on_off("--cors-credentials", "--no-cors-credentials", matters=False),
    _on_off("--ui-mcp-proxy/--webui-mcp-proxy", "--no-ui-mcp-proxy/--no-webui-mcp-proxy", matters=False),
    _on_off("--agent/-ag", "--no-agent/-no-ag", matters=False),
    _on_off("--ui/--webui", "--no-ui/--no-webui", matters=False),
    _on_off("--slots", "--no-slots", matters=False),
    _on_off("--models-autoload", "--no-models-autoload", matters=False),
    # Drafts: how many are tried and when, not what they hold.
    *quiet(
        "--lookup-cache-static/-lcs --lookup-cache-dynamic/-lcd --spec-draft-n-min --draft-min/--draft-n-min "
        "--spec-synth-len --spec-synth-rates --spec-draft-p-split/--draft-p-split --spec-draft-p-min/--draft-p-min "
        "--spec-ngram-mod-n-min --spec-ngram-mod-n-max --spec-ngram-mod-n-match --spec-ngram-simple-size-n "
        "--spec-ngram-simple-size-m --spec-ngram-simple-min-hits --spec-ngram-map-k-size-n --spec-ngram-map-k-size-m "
        "--spec-ngram-map-k-min-hits --spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m "
        "--spec-ngram-map-k4v-min-hits --spec-ngram-size-n --spec-ngram-size-m --spec-ngram-min-hits"
    ),
    _on_off("--spec-draft-backend-sampling", "--no-spec-draft-backend-sampling", matters=False),
    *quiet(
        "LLAMA_ARG_HOST LLAMA_ARG_PORT LLAMA_ARG_THREADS LLAMA_ARG_ALIAS LLAMA_API_KEY LLAMA_CACHE LLAMA_ARG_JINJA "
        "LLAMA_ARG_ENDPOINT_METRICS LLAMA_ARG_ENDPOINT_SLOTS LLAMA_ARG_CHAT_TEMPLATE LLAMA_ARG_TIMEOUT LLAMA_ARG_NUMA "
        "LLAMA_ARG_LOG_VERBOSITY LLAMA_OFFLINE LLAMA_ARG_CONT_BATCHING LLAMA_ARG_N_PREDICT"
    ),
    # Watching.
    *quiet("--log-file --log-prompts-dir --log-colors --verbosity/-lv/--log-verbosity --color/-co --fit-print/-fitp"),
    *quiet(
        "--help/-h/--usage --version --cache-list/-cl --completion-bash --list-devices --check-tensors --log-disable "
        "--verbose/-v/--log-verbose --simple-io",
        "switch",
    ),
    _on_off("--log-jsonl", "--no-log-jsonl", matters=False),
    _on_off("--log-prefix", "--no-log-prefix", matters=False),
    _on_off("--log-timestamps", "--no-log-timestamps", matters=False),
    _on_off("--perf", "--no-perf", matters=False),
    _on_off("--show-timings", "--no-show-timings", matters=False),
    # Other programs of llama.cpp, which share the parser.
    *quiet("--control-vector-layer-range", many=True),
    *quiet(
        "--hellaswag-tasks --winogrande-tasks --multiple-choice-tasks --save-all-logits/--kl-divergence-base "
        "--ppl-stride --ppl-output-type --sequences/-ns --context-file --chunk-size --chunk-separator --junk --pos "
        "--output/-o/--output-file --output-frequency/-ofreq --output-format --save-frequency --chunk/--from-chunk "
        "-npp -ntg -npl --embd-output-format --embd-separator --cls-separator --positive-file --negative-file "
        "--pca-batch --pca-iter --method --tts-lang --tts-speaker-file --diffusion-steps --diffusion-eps "
        "--diffusion-algorithm --diffusion-alg-temp --diffusion-block-length --diffusion-cfg-scale "
        "--diffusion-add-gumbel-noise --learning-rate/-lr --learning-rate-min/-lr-min "
        "--learning-rate-decay-epochs/-decay-epochs --weight-decay/-wd --val-split/-val-split --epochs/-epochs "
        "--optimizer/-opt --logits-output-dir --tensor-filter"
    ),
    *quiet(
        "--hellaswag --winogrande --multiple-choice --kl-divergence --process-output --show-statistics --ids --stdin "
        "--no-bos --show-count -pps -tgs --diffusion-visual --check --save-logits --mtp --dflash --eagle3",
        "switch",
    ),
    _on_off("--ppl", "--no-ppl", matters=False),
    _on_off("--parse-special", "--no-parse-special", matters=False),
)

FLAGS: tuple[Flag, ...] = (
    *_MODEL,
    *_CONTEXT,
    *_DEVICES,
    *_SPECULATION,
    *_PRESETS,
    *_WITHOUT_EFFECT,
)


def common_fields(
    fields: Mapping[Field, Value | tuple[int, ...]], settings: Mapping[str, Value]
) -> Mapping[Field, Value | tuple[int, ...]]:
    """The fields as other engines mean them.

    `--ctx-size` is the context of all `--parallel` sequences together: here that of one. Cache types of keys and values
    that are the same are the cache's dtype.
    """
    found = dict(fields)
    context, sequences = fields.get("context_tokens"), fields.get("concurrency")
    if isinstance(context, int) and isinstance(sequences, int) and sequences > 1:
        found["context_tokens"] = -(-context // sequences)
    keys, values = settings.get("--cache-type-k"), settings.get("--cache-type-v")
    if keys is not None and keys == values:
        found["kv_dtype"] = keys
    return found


def own_fields(fields: Mapping[Field, Value], sequences: int) -> tuple[Mapping[Field, Value], Mapping[str, Value]]:
    """The reverse of `common_fields`: fields and settings as llama.cpp means them, for a command of so many sequences."""
    found = {**fields, "concurrency": sequences}
    context, kv_dtype = fields.get("context_tokens"), found.pop("kv_dtype", None)
    if isinstance(context, int):
        found["context_tokens"] = context * sequences
    return found, {} if kv_dtype is None else {"--cache-type-k": kv_dtype, "--cache-type-v": kv_dtype}
