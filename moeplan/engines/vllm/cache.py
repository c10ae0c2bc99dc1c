"""vLLM's cache: what one entry costs, and what its block manager holds for it.

Sources: vLLM 0.33.0 v1/kv_cache_interface.py, v1/core/kv_cache_planning.py, config/vllm.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Constants, Deployment, Option
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRow, CacheRules, cache_rows, entry_bytes, state_bytes
from moeplan.core.model import CompressedAttention, KimiDelta, LatentAttention, Mamba2, Mixer, ModelSpec

LATENT_STEP_TOKENS = 128
"""Blocks of latent attention beside recurrent layers are whole multiples of this."""
DTYPES = ("bfloat16", "float16", "fp8", "nvfp4")
ALIGNED_STATES = 2
"""Recurrent states per sequence: prefix caching, on by default, keeps two (`mamba_cache_mode` align)."""
BATCHES_IN_FLIGHT = 2
"""Asynchronous scheduling, on by default, prepares one batch while another runs (config/vllm.py max_in_flight_tokens)."""


def cache_rules(
    spec: ModelSpec, *, asked: str | None, scheme: str | None, weight_dtype: str, capability: str | None
) -> CacheRules:
    """Cache dtype: what is asked for, else the checkpoint's own scheme, else the model's 16-bit dtype.

    Exceptions of `auto`: DeepSeek-V4 keeps its packed fp8 record, GLM-5 takes fp8 on compute capability 10, sparse
    latent attention its packed fp8 record on 12. Chunked attention (Llama 4) keeps the hybrid manager: the variable
    that allows it, VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE, is 1 where nobody sets it. Raises InputError
    for a dtype that is no cache dtype here.
    Sources: utils/torch_utils.py:resolve_kv_cache_dtype_string, models/deepseek_v4/attention.py,
    model_executor/models/config.py, model_executor/layers/mamba/mamba_utils.py, config/vllm.py, envs.py.
    """
    if asked is not None and asked not in DTYPES:
        raise InputError(f"vllm has no cache dtype {asked!r}", hint=f"cache dtypes of vllm: auto, {', '.join(DTYPES)}")
    mixers = mixers_of(spec)
    compressed = any(isinstance(mixer, CompressedAttention) for mixer in mixers)
    indexed = any(isinstance(mixer, LatentAttention) and mixer.indexer is not None for mixer in mixers)
    generation = (capability or "").partition(".")[0]
    dtype = asked or scheme
    if dtype is None and (
        compressed
        or (generation == "10" and spec.family in ("glm_moe_dsa", "glm5_next"))
        or (generation == "12" and indexed)
    ):
        dtype = "fp8"
    if dtype is None:
        dtype = weight_dtype
    records: dict[str, int] = {}
    record_dtypes: dict[str, str] = {}
    for row in cache_rows(spec):
        if row.kind in ("indexer_keys", "compressed_indexer_keys"):
            # fp8 keys with one fp32 scale per 128 (v1/attention/backends/mla/indexer.py).
            records[row.kind] = row.elements + 4 * -(-row.elements // 128)
            record_dtypes[row.kind] = "fp8"
        elif row.kind == "latent" and dtype == "fp8" and indexed and generation != "10":
            # fp8_ds_mla: latent in fp8, one fp32 scale per 128, rope key in 16 bit. On compute capability 10 the
            # preferred backend stores plain fp8 (platforms/cuda.py, layers/attention/mla_attention.py).
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


def managed_cache_bytes(
    rows: tuple[CacheRow, ...],
    rules: CacheRules,
    deployment: Deployment,
    options: tuple[Option, ...],
    constants: Constants,
) -> int:
    """Bytes that the block manager holds on one rank for all sequences at the asked context.

    Layers of one sort (full, window, recurrent) share block tables in groups of equal size, padded to whole groups;
    all groups draw blocks of one size from one pool. A sequence holds whole blocks, one more where a window
    straddles (a chunk never does), and two recurrent states; window layers also hold the tokens of the batches in
    flight. Beside recurrent layers the block of full attention grows until its page holds a state, in steps of 16
    tokens, or of 128 for latents (platforms/interface.py:_align_hybrid_block_size).
    """
    context, sequences, tp = deployment.context_tokens, deployment.concurrency, deployment.tp
    base = int(constants.of("block_tokens").value)
    batch = next((int(option.value or 0) for option in options if option.flag == "--max-num-batched-tokens"), 0)
    in_flight = min(BATCHES_IN_FLIGHT * batch, sequences * context)
    windowed = rules.accounting != "manager_off"
    full = [row for row in rows if row.elements and row.kind != "cross" and not (row.window_tokens and windowed)]
    windows = [row for row in rows if row.window_tokens and windowed]
    states = [row for row in rows if row.kind == "recurrent"]
    fixed = sum(
        row.count * entry_bytes(row, rules, tp) * deployment.encoder_tokens for row in rows if row.kind == "cross"
    )
    if any(row.tokens_per_entry > 1 for row in rows):
        return sequences * fixed + _compressed_bytes(rows, rules, context, sequences, in_flight, tp, base)
    # Bytes of one token in all layers of a sort, and of one state.
    token_bytes = sum(row.count * entry_bytes(row, rules, tp) for row in full)
    block, layer_bytes = base, max((entry_bytes(row, rules, tp) for row in full), default=0)
    if states and full:
        state = max(state_bytes(row, rules, tp) for row in states)
        step = max(base, LATENT_STEP_TOKENS) if any(row.kind == "latent" for row in full) else base
        block = -(-state // (layer_bytes * step)) * step
    counts = [sum(row.count for row in sort) for sort in (full, windows, states) if sort]
    size = _group_size(counts)
    total = sequences * -(-context // block) * block * token_bytes * _padded(full, size) // max(1, _layers(full))
    for row in windows:
        straddling = 0 if row.kind == "chunked" else 1
        kept = min(-(-min(row.window_tokens or 0, context) // base) + straddling, -(-context // base))
        most = sequences * (-(-context // base) + straddling)
        blocks = min(sequences * kept + -(-in_flight // base), most)
        share = _padded(windows, size) * row.count // max(1, _layers(windows))
        total += share * entry_bytes(row, rules, tp) * base * blocks
    for row in states:
        page = max(state_bytes(row, rules, tp), block * layer_bytes)
        share = _padded(states, size) * row.count // max(1, _layers(states))
        total += share * page * ALIGNED_STATES * sequences
    return total + sequences * fixed


def _group_size(counts: list[int]) -> int:
    """Layers per group: the rarest sort's count, or the commonest's where it is less than half as many again."""
    if len(counts) < 2:
        return 1
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _layers(rows: list[CacheRow]) -> int:
    return sum(row.count for row in rows)


def _padded(rows: list[CacheRow], size: int) -> int:
    return -(-_layers(rows) // size) * size


def _compressed_bytes(
    rows: tuple[CacheRow, ...], rules: CacheRules, context: int, sequences: int, in_flight: int, tp: int, base: int
) -> int:
    """DeepSeek-V4: windows in blocks of 64, entries in blocks of 256 tokens, and the compressors' fp32 states, which are
    windows of 8 or 128 tokens of their own (models/deepseek_v4/compressor.py). That all groups take blocks as wide
    as the widest is not modelled."""
    total = 0
    for row in rows:
        entry = entry_bytes(row, rules, tp)
        if row.window_tokens:
            tokens = min(sequences * min(row.window_tokens, context) + in_flight, sequences * context)
            kept = -(-(tokens + sequences * 64) // 64) * 64
            total += row.count * entry * kept
            continue
        total += row.count * entry * sequences * (-(-context // 256) * 256 // row.tokens_per_entry)
        # Overlapping entries (4 tokens) look back over two windows, the others over one.
        window = 2 * row.tokens_per_entry if row.recurrent_elements else row.tokens_per_entry
        kept = min(sequences * min(window, context) + in_flight, sequences * context) + sequences * base
        total += row.count * 4 * row.pending_elements * kept
    return total


def mixers_of(spec: ModelSpec) -> tuple[Mixer, ...]:
    """Every kind of mixer that the model has, once."""
    return tuple(dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers))
