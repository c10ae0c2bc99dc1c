"""vLLM, as read in its 0.33.0 sources; constants in `profiles/engines/vllm.yaml`."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Constants, Deployment, Option, Refusal
from moeplan.core.hardware import Hardware, usable
from moeplan.core.kv_cache import Accounting, CacheRules, cache_rows
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import (
    CompressedAttention,
    DenseFfn,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
)
from moeplan.core.units import GIB

ACTIVATION_ELEMENT_BYTES = 2
"""Activations are 16-bit whatever the weights are stored in."""


def settle(deployment: Deployment, hardware: Hardware, constants: Constants) -> tuple[Option, ...]:
    """Settings that steer memory. Batch limits by card: vLLM 0.33.0 engine/arg_utils.py:get_batch_defaults."""
    fraction = deployment.utilization_fraction
    memory = usable(hardware)
    total_bytes = memory.bytes if memory else 0
    is_a100 = "a100" in hardware.name.lower()
    if total_bytes >= 160 * GIB:
        batched_tokens, sequences = 16384, 1024
    elif total_bytes >= 70 * GIB and not is_a100 and not hardware.unified_memory:
        batched_tokens, sequences = 8192, 1024
    else:
        batched_tokens, sequences = 2048, 256
    return (
        Option(
            "--gpu-memory-utilization",
            constants.of("utilization_fraction").value if fraction is None else fraction,
            "default" if fraction is None else "stated",
        ),
        Option("--max-model-len", deployment.context_tokens, "inferred"),
        Option("--max-num-batched-tokens", batched_tokens, "default"),
        Option("--max-num-seqs", sequences, "default"),
        Option("--tensor-parallel-size", deployment.tp, "inferred"),
    )


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """float32 is loaded in 16 bit; below compute capability 8.0 bfloat16 becomes float16.

    Source: vLLM 0.33.0 config/model.py:_resolve_auto_dtype and platforms/cuda.py:supported_dtypes.
    """
    loaded = "bfloat16" if dtype == "float32" else dtype
    old = capability is not None and int(capability.split(".")[0]) < 8
    return "float16" if old and loaded == "bfloat16" else loaded


def cache_rules(
    spec: ModelSpec, *, asked: str | None, scheme: str | None, weight_dtype: str, capability: str | None
) -> CacheRules:
    """Cache dtype: what is asked for, else the checkpoint's own scheme, else the model's 16-bit dtype.

    Exceptions of `auto`: DeepSeek-V4 keeps its packed fp8 record, GLM-5 takes fp8 on compute capability 10.
    Sources: vLLM 0.33.0 utils/torch_utils.py:resolve_kv_cache_dtype_string, models/deepseek_v4/attention.py,
    model_executor/models/config.py, model_executor/layers/mamba/mamba_utils.py.
    """
    mixers = _mixers(spec)
    compressed = any(isinstance(mixer, CompressedAttention) for mixer in mixers)
    indexed = any(isinstance(mixer, LatentAttention) and mixer.indexer is not None for mixer in mixers)
    dtype = asked or scheme
    if dtype is None and compressed:
        dtype = "fp8"
    if dtype is None and spec.family == "glm_moe_dsa" and (capability or "").startswith("10."):
        dtype = "fp8"
    if dtype is None:
        dtype = weight_dtype
    records: dict[str, int] = {}
    record_dtypes: dict[str, str] = {}
    for row in cache_rows(spec):
        if row.kind in ("indexer_keys", "compressed_indexer_keys"):
            # fp8 keys with one fp32 scale per 128 (vLLM 0.33.0 v1/attention/backends/mla/indexer.py).
            records[row.kind] = row.elements + 4 * -(-row.elements // 128)
            record_dtypes[row.kind] = "fp8"
        elif row.kind == "latent" and dtype == "fp8" and indexed:
            # fp8_ds_mla: latent in fp8, one fp32 scale per 128, rope key in 16 bit.
            latent = next(m for m in mixers if isinstance(m, LatentAttention))
            scales = 4 * -(-latent.kv_lora_rank // 128)
            records[row.kind] = latent.kv_lora_rank + scales + 2 * latent.qk_rope_head_dim
            record_dtypes[row.kind] = "fp8_ds_mla"
        elif row.kind in ("compressed", "compressed_window") and dtype == "fp8":
            # DeepSeek-V4: fp8 without rope, 16-bit rope, one scale byte per 64 rounded up to eight.
            v4 = next(m for m in mixers if isinstance(m, CompressedAttention))
            plain = v4.head_dim - v4.rope_head_dim
            records[row.kind] = plain + 2 * v4.rope_head_dim + 8 * -(-plain // (8 * 64))
            record_dtypes[row.kind] = "fp8_ds_mla"
    # Recurrent state: Kimi delta attention and Nemotron-H keep fp32 on `auto`, the others the model's dtype.
    wide_state = any(isinstance(mixer, KimiDelta) for mixer in mixers) or (
        spec.family == "nemotron_h" and any(isinstance(mixer, Mamba2) for mixer in mixers)
    )
    return CacheRules(
        kv_dtype=dtype,
        state_dtype="float32" if wide_state else weight_dtype,
        conv_dtype=weight_dtype,
        records=records,
        record_dtypes=record_dtypes,
    )


def window_accountings(rules: CacheRules, constants: Constants) -> dict[Accounting, CacheRules]:
    """Ideal, hybrid manager (whole blocks, one more for a window that straddles), and manager off."""
    block = int(constants.of("block_tokens").value)
    return {
        "ideal": rules._replace(accounting="ideal"),
        "hybrid_manager": rules._replace(accounting="hybrid_manager", block_tokens=block),
        "manager_off": rules._replace(accounting="manager_off"),
    }


def runtime_lines(
    spec: ModelSpec,
    deployment: Deployment,
    options: tuple[Option, ...],
    hardware: Hardware,
    constants: Constants,
    expert_format: str | None,
) -> tuple[Line, ...]:
    """Copies, workspaces, activations, graphs and context of one rank."""
    settings = {option.flag: option.value for option in options}
    batched_tokens = int(settings["--max-num-batched-tokens"] or 0)
    sequences = int(settings["--max-num-seqs"] or 0)
    lines = []
    absorbed = _absorbed_elements(spec, deployment.tp)
    if absorbed:
        lines.append(
            line(
                "absorbed_projections",
                "latent attention, 16-bit copies",
                ACTIVATION_ELEMENT_BYTES * absorbed,
                "derived",
                Why(
                    "layers x kv_lora_rank x heads / tp x (qk_nope_head_dim + v_head_dim) x 2 B",
                    {"elements": absorbed},
                    "vLLM 0.33.0 layers/attention/mla_attention.py: W_UK and W_UV stay beside kv_b_proj",
                ),
                role="attention",
            )
        )
    lines.append(_activation(spec, deployment.tp, batched_tokens, sequences, constants))
    workspace = _moe_workspace(spec, deployment.tp, batched_tokens, expert_format)
    if workspace is not None:
        lines.append(workspace)
    keys = [m.indexer.head_dim for m in _mixers(spec) if isinstance(m, LatentAttention) and m.indexer is not None]
    if keys:
        rows = constants.of("indexer_workspace_rows_per_context_token")
        record = keys[0] + 4 * -(-keys[0] // 128)
        lines.append(
            line(
                "indexer_workspace",
                "sparse indexer workspace",
                deployment.context_tokens * rows.value * record,
                "derived",
                Why(
                    "context_tokens x 40 x indexer record bytes",
                    {"context_tokens": deployment.context_tokens, "record_bytes": record},
                    rows.source,
                ),
            )
        )
    if (hardware.compute_capability or "").startswith(("10.", "12.")):
        lines.append(
            _constant("attention_workspace", "attention workspace", constants.of("flashinfer_workspace_bytes"))
        )
    lines.append(_constant("cuda_graphs", "CUDA graphs", constants.of("cuda_graphs_bytes")))
    several = "non_torch_one_gpu_bytes" if deployment.tp == 1 else "non_torch_several_gpus_bytes"
    lines.append(_constant("device_context", "CUDA context and libraries", constants.of(several)))
    return tuple(lines)


def refusals(spec: ModelSpec, deployment: Deployment) -> tuple[Refusal, ...]:
    """Tensor-parallel divisibility. Source: vLLM 0.33.0 config/model.py:verify_with_parallel_config and model files."""
    found = []
    tp = deployment.tp
    for mixer in dict.fromkeys(_mixers(spec)):
        if isinstance(mixer, GroupedAttention | LatentAttention | CompressedAttention) and mixer.num_heads % tp:
            found.append(
                Refusal("heads-not-divisible", f"{mixer.num_heads} attention heads do not divide over {tp} GPUs")
            )
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % tp and tp % mixer.num_kv_heads:
            found.append(
                Refusal("kv-heads-not-divisible", f"{mixer.num_kv_heads} key/value heads and {tp} GPUs do not divide")
            )
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        width = ffn.expert_width if isinstance(ffn, MoeFfn) else ffn.width
        if width % tp:
            what = "expert width" if isinstance(ffn, MoeFfn) else "feed-forward width"
            found.append(Refusal("width-not-divisible", f"{what} {width} does not divide over {tp} GPUs"))
    return tuple(dict.fromkeys(found))


def _mixers(spec: ModelSpec) -> tuple[Mixer, ...]:
    return tuple(dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers))


def _absorbed_elements(spec: ModelSpec, tp: int) -> int:
    elements = 0
    for layer in spec.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, LatentAttention):
                heads = -(-mixer.num_heads // tp)
                elements += mixer.kv_lora_rank * heads * (mixer.qk_nope_head_dim + mixer.v_head_dim)
    return elements


def _activation(spec: ModelSpec, tp: int, batched_tokens: int, sequences: int, constants: Constants) -> Line:
    """Peak of the profiling pass: the sampler over `sequences` rows hides a layer's transients, or they hide it."""
    per_cell = constants.of("sampler_bytes_per_sequence_and_token_id")
    cells = sequences * spec.vocab_size
    widest = max(_transient_width(spec, tp), 1)
    transients = ACTIVATION_ELEMENT_BYTES * batched_tokens * widest
    return line(
        "activations",
        "activations",
        max(per_cell.value * cells, transients),
        "assumed",
        Why(
            "max(15.2 B x max_num_seqs x vocabulary, 2 B x max_num_batched_tokens x widest layer)",
            {
                "max_num_seqs": sequences,
                "vocab_size": spec.vocab_size,
                "max_num_batched_tokens": batched_tokens,
                "widest_layer_elements": widest,
            },
            per_cell.source,
        ),
        low_bytes=max(per_cell.low * cells, transients),
        high_bytes=max(per_cell.high * cells, 2 * transients),
    )


def _transient_width(spec: ModelSpec, tp: int) -> int:
    """Elements per token alive in the widest layer: residual streams, queries with keys and values, or a dense MLP."""
    widest = 0
    for layer in dict.fromkeys(spec.layers):
        for mixer in layer.mixers:
            if isinstance(mixer, GroupedAttention):
                heads = -(-mixer.num_heads // tp) + 2 * max(1, mixer.num_kv_heads // tp)
                widest = max(widest, heads * mixer.key_head_dim)
        for ffn in layer.ffns:
            if isinstance(ffn, DenseFfn):
                widest = max(widest, 2 * -(-ffn.width // tp))
    return widest + 4 * spec.hidden_size


def _moe_workspace(spec: ModelSpec, tp: int, batched_tokens: int, expert_format: str | None) -> Line | None:
    """Scratch of the fused expert kernels, one set for all layers: rows x (max(I, h) + max(2I, h)) x 2 B.

    Source: vLLM 0.33.0 model_executor/layers/fused_moe/modular_kernel.py and the experts' workspace shapes."""
    sizes = []
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width = -(-ffn.expert_width // tp)
            hidden = ffn.latent_size or spec.hidden_size
            rows = batched_tokens * ffn.experts_per_token
            columns = max(width, hidden) + max(2 * width, hidden)
            sizes.append((ACTIVATION_ELEMENT_BYTES * rows * columns, rows, columns))
    if not sizes:
        return None
    size, rows, columns = max(sizes)
    # The Triton kernels that take mxfp4 on Hopper and Blackwell hold no scratch of their own; Marlin's do.
    without = (expert_format or "").startswith("mxfp4")
    return line(
        "expert_workspace",
        "expert kernels' workspace",
        0 if without else size,
        "assumed" if without else "derived",
        Why(
            "max_num_batched_tokens x experts_per_token x (max(I, h) + max(2I, h)) x 2 B",
            {"rows": rows, "columns": columns, "expert_format": expert_format},
            "vLLM 0.33.0 fused_moe workspace shapes; none for mxfp4 through Triton (llm-d-planner report, gpt-oss-20b)",
        ),
        low_bytes=0 if without else size,
        high_bytes=size,
    )


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
