"""vLLM's cache: what one entry and one state cost."""

from __future__ import annotations

from moeplan.core.deployment import Serving
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRules, cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, KimiDelta, LatentAttention, Mamba2, ModelSpec

DTYPES = ("bfloat16", "float16", "fp8", "nvfp4")


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


def window_accountings(serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
    """Ideal, hybrid manager (whole blocks, one more for a window that straddles), and manager off."""
    block = int(serving.constants.of("block_tokens").value)
    return {
        "ideal": rules._replace(accounting="ideal"),
        "hybrid_manager": rules._replace(accounting="hybrid_manager", block_tokens=block),
        "manager_off": rules._replace(accounting="manager_off"),
    }
