"""TensorRT-LLM's cache: what one entry and one state cost, and whether windows are honoured.

Sources: TensorRT-LLM _torch/pyexecutor/resource_manager.py (KVCacheManager.get_cache_size_per_token),
_torch/pyexecutor/_util.py, _torch/attention/backends/sparse/dsa, _torch/pyexecutor/config_utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Serving, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRules, cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import KimiDelta, LatentAttention, ModelSpec

DTYPES = ("bfloat16", "float16", "fp8", "fp8_ds_mla", "nvfp4")
BLOCK_TOKENS = 32
SECOND_MANAGER = (
    "deepseek_v4", "gemma4", "glm5_next", "kimi_k25", "kimi_linear", "minimax_m3", "nemotron_h", "qwen3_5",
    "qwen3_5_moe", "qwen3_next",
)  # fmt: skip
"""Model types whose class prefers the second cache manager (`use_kv_cache_manager_v2` auto), or needs it. It keeps
windows; the first keeps whole sequences in window layers too, unless `max_attention_window` is set."""


def cache_rules(
    spec: ModelSpec,
    *,
    asked: str | None,
    scheme: str | None,
    weight_dtype: str,
    capability: str | None,
    stated: Mapping[str, Value] | None = None,
) -> CacheRules:
    """Cache dtype: what is asked for, else the checkpoint's `kv_cache_quant_algo`, else the model's 16-bit dtype.

    Latents are kept once and whole on every rank; nvfp4 has one byte of scale per 16 elements. The sparse indexer's
    keys are fp8 with one fp32 scale per 128. `fp8_ds_mla` is the packed record of sparse attention: latent in fp8 with
    fp32 scales, rope key in 16 bit. Recurrent state is in the dtype that the config states, Kimi's in fp32.
    Raises InputError for a dtype that is no cache dtype here.
    """
    if asked is not None and asked not in DTYPES:
        raise InputError(
            f"trtllm has no cache dtype {asked!r}", hint=f"cache dtypes of trtllm: auto, {', '.join(DTYPES)}"
        )
    mixers = mixers_of(spec)
    dtype = asked or scheme or weight_dtype
    records: dict[str, int] = {}
    record_dtypes: dict[str, str] = {}
    for row in cache_rows(spec):
        if row.kind in ("indexer_keys", "compressed_indexer_keys"):
            records[row.kind] = row.elements + 4 * -(-row.elements // 128)
            record_dtypes[row.kind] = "fp8"
        elif row.kind == "latent" and dtype == "fp8_ds_mla":
            latent = next(m for m in mixers if isinstance(m, LatentAttention))
            scales = 4 * -(-latent.kv_lora_rank // 128)
            records[row.kind] = latent.kv_lora_rank + scales + 2 * latent.qk_rope_head_dim
            record_dtypes[row.kind] = "fp8_ds_mla"
    return CacheRules(
        kv_dtype="fp8" if dtype == "fp8_ds_mla" else dtype,
        state_dtype="float32" if any(isinstance(mixer, KimiDelta) for mixer in mixers) else weight_dtype,
        conv_dtype=weight_dtype,
        accounting="hybrid_manager" if spec.model_type in SECOND_MANAGER else "manager_off",
        records=records,
        record_dtypes=record_dtypes,
        block_tokens=BLOCK_TOKENS,
    )


def window_accountings(serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
    """Ideal, windows honoured in whole blocks, and whole sequences in window layers too."""
    return {
        "ideal": rules._replace(accounting="ideal", block_tokens=1),
        "hybrid_manager": rules._replace(accounting="hybrid_manager", block_tokens=BLOCK_TOKENS),
        "manager_off": rules._replace(accounting="manager_off"),
    }
