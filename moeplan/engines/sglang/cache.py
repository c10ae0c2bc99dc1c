"""SGLang's cache: what one entry and one state cost."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Serving, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRules, cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, LatentAttention, ModelSpec
from moeplan.engines.sglang.attention import page_tokens
from moeplan.engines.sglang.registry import (
    SECOND_POOL_SINCE,
    is_compressed,
    is_indexed,
    key_pool_tokens,
)

DTYPES = ("bfloat16", "fp8", "nvfp4")
SCALE_ELEMENTS = 128
"""Elements of latents and indexer keys that share one fp32 scale."""
COMPRESSED_SCALE_ELEMENTS = 64
"""Elements of a DeepSeek-V4 record that share one scale byte."""


def cache_rules(
    spec: ModelSpec,
    *,
    asked: str | None,
    scheme: str | None,
    weight_dtype: str,
    capability: str | None,
    stated: Mapping[str, Value] | None = None,
) -> CacheRules:
    """Cache dtype: what is asked for, else the checkpoint's own scheme, else the model's 16-bit dtype.

    Exceptions of `auto`: sparse latent attention takes fp8 from compute capability 10 on and 16 bit before, whatever the
    checkpoint says; DeepSeek-V4 keeps its packed fp8 record. Recurrent states are fp32 and convolutions 16 bit where the
    config does not say otherwise. Raises InputError for a dtype that is no cache dtype here.
    Sources: SGLang 0.5.23 srt/arg_groups/kv_cache_hook.py, srt/mem_cache/kv_cache_dtype.py,
    srt/mem_cache/memory_pool.py, srt/configs/mamba_utils.py, srt/environ.py.
    """
    if asked is not None and asked not in DTYPES:
        raise InputError(
            f"sglang has no cache dtype {asked!r}", hint=f"cache dtypes of sglang: auto, {', '.join(DTYPES)}"
        )
    generation = (capability or "").partition(".")[0]
    dtype = asked or scheme or weight_dtype
    if asked is None and is_compressed(spec):
        dtype = "fp8"
    elif asked is None and is_indexed(spec):
        dtype = "fp8" if generation.isdigit() and int(generation) >= 10 else "bfloat16"
    records: dict[str, int] = {}
    record_dtypes: dict[str, str] = {}
    for row in cache_rows(spec):
        if row.kind in ("indexer_keys", "compressed_indexer_keys"):
            head = _key_width(spec)
            records[row.kind] = -(-(head + 4 * -(-head // SCALE_ELEMENTS)) // key_pool_tokens(spec))
            record_dtypes[row.kind] = "fp8"
        elif row.kind == "latent" and dtype == "fp8" and is_indexed(spec) and _packed(spec, generation):
            latent = next(mixer for mixer in mixers_of(spec) if isinstance(mixer, LatentAttention))
            scales = 4 * -(-latent.kv_lora_rank // SCALE_ELEMENTS)
            records[row.kind] = latent.kv_lora_rank + scales + 2 * latent.qk_rope_head_dim
            record_dtypes[row.kind] = "fp8_ds_mla"
        elif row.kind in ("compressed", "compressed_window"):
            # fp8 without rope, 16-bit rope, one scale byte per 64 rounded up to eight, whatever was asked for.
            v4 = next(mixer for mixer in mixers_of(spec) if isinstance(mixer, CompressedAttention))
            plain = v4.head_dim - v4.rope_head_dim
            records[row.kind] = plain + 2 * v4.rope_head_dim + 8 * -(-plain // (8 * COMPRESSED_SCALE_ELEMENTS))
            record_dtypes[row.kind] = "fp8_ds_mla"
    return CacheRules(
        kv_dtype=dtype,
        state_dtype="float32",
        conv_dtype="bfloat16",
        accounting="ideal" if spec.model_type in SECOND_POOL_SINCE else "manager_off",
        records=records,
        record_dtypes=record_dtypes,
    )


def window_accountings(serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
    """Ideal, pages of a window pool, and all tokens in every layer."""
    return {
        "ideal": rules._replace(accounting="ideal"),
        "hybrid_manager": rules._replace(accounting="hybrid_manager", block_tokens=page_tokens(serving)),
        "manager_off": rules._replace(accounting="manager_off"),
    }


def _packed(spec: ModelSpec, generation: str) -> bool:
    """Whether fp8 latents are packed with their scales; plain fp8 where TensorRT-LLM's kernels read them."""
    return generation in ("", "9") or (generation == "12" and spec.model_type != "deepseek_v32")


def _key_width(spec: ModelSpec) -> int:
    """Width of one key of the indexer."""
    for mixer in mixers_of(spec):
        if isinstance(mixer, LatentAttention | CompressedAttention) and mixer.indexer is not None:
            return mixer.indexer.head_dim
    return 0
