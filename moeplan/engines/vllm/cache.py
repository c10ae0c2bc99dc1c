"""vLLM's cache: what one entry and one state cost, and how many states a sequence holds."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRules, cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, GatedDelta, KimiDelta, LatentAttention, Mamba2, ModelSpec
from moeplan.engines.vllm.settings import draft_tokens

DTYPES = ("bfloat16", "float16", "fp8", "nvfp4")
PREFIX_STATES = 2
"""Recurrent states per sequence with prefix caching, on by default (`mamba_cache_mode` align); one without."""
FLASHINFER_STEP_TOKENS = 64
"""Checkpoints of FlashInfer's gated delta rule lie on multiples of this (v1/attention/backends/gdn_attn.py)."""
DRAFT_COLUMNS_SINCE = "0.33"
"""Read in this release: a convolution keeps one more column for every drafted token; older ones were not read."""


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

    Exceptions of `auto`: DeepSeek-V4 keeps its packed fp8 record, GLM-5 takes fp8 on compute capability 10, sparse
    latent attention its packed fp8 record on 12. Chunked attention (Llama 4) keeps the hybrid manager: the variable
    that allows it, VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE, is 1 where nobody sets it. Where
    `stated` turns that manager off, windows beside full layers are charged as these are
    (v1/core/kv_cache_planning.py:unify_hybrid_kv_cache_specs). Raises InputError for a dtype that is no cache dtype here.
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
    rows = cache_rows(spec)
    for row in rows:
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
    off = bool((stated or {}).get("--disable-hybrid-kv-cache-manager"))
    beside = any(row.elements and not row.window_tokens and row.kind != "cross" for row in rows)
    return CacheRules(
        kv_dtype=dtype,
        accounting="manager_off" if off and beside else "ideal",
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


def keeps_windows(settings: Settings, rules: CacheRules) -> bool:
    """True where window layers keep their windows alone: the hybrid manager is on."""
    return rules.accounting != "manager_off" and not settings.on("--disable-hybrid-kv-cache-manager")


def states_per_sequence(serving: Serving, settings: Settings) -> int:
    """Recurrent states of one sequence: with prefix caching the running one and the one before, and a checkpoint where
    the layers write one in the midst of a prefill; one more for every drafted token.

    Sources: vLLM 0.33.0 v1/kv_cache_interface.py:MambaSpec.max_memory_usage_bytes, model_executor/layers/mamba/abstract.py.
    """
    drafted = draft_tokens(settings)
    if not _caches_prefixes(settings):
        return 1 + drafted
    most = int(serving.constants.of("prefill_checkpoint_states").value)
    return PREFIX_STATES + drafted + (most if _writes_checkpoints(serving) else 0)


def checkpoint_step_tokens(serving: Serving, settings: Settings) -> int:
    """Tokens that a block must be a multiple of for checkpoints in the midst of a prefill; 1 where any number does.

    Sources: vLLM 0.33.0 platforms/interface.py:_align_hybrid_block_size, which asks every recurrent layer, and
    model_executor/layers/mamba/abstract.py; layers that name no step (Mamba2, Kimi delta attention) leave blocks as
    they are.
    """
    if not serving.constants.of("prefill_checkpoint_states").value or not _caches_prefixes(settings):
        return 1
    return FLASHINFER_STEP_TOKENS if _prefills_by_flashinfer(serving) else 1


def draft_columns(serving: Serving, settings: Settings) -> int:
    """Columns that a convolution keeps beyond its own, one for every drafted token.

    Source: vLLM 0.33.0 model_executor/layers/mamba/mamba_utils.py, `conv_kernel - 1 + num_spec` of all mixers.
    """
    return draft_tokens(settings) if serving.constants.at_least(DRAFT_COLUMNS_SINCE) else 0


def _caches_prefixes(settings: Settings) -> bool:
    return settings.value("--enable-prefix-caching") is not False


def _writes_checkpoints(serving: Serving) -> bool:
    """Whether recurrent layers write their state in the midst of a prefill.

    Mamba2 always does (mamba_mixer2.py:get_kv_cache_spec), gated delta attention where FlashInfer runs its prefill,
    Kimi K3 where FlashKDA does (kda_checkpoint.py, models/kimi_k3/nvidia/kda.py:resolve_kda_prefill_backend: compute
    capability 9, 10 or 12, heads of 128, a bounded gate, which Kimi Linear lacks).
    """
    mixers = mixers_of(serving.spec)
    if any(isinstance(mixer, Mamba2) for mixer in mixers) or _prefills_by_flashinfer(serving):
        return True
    heads = [mixer.head_dim for mixer in mixers if isinstance(mixer, KimiDelta)]
    return serving.spec.family == "kimi_k3" and heads == [128] and _generation(serving) in ("9", "10", "12")


def _prefills_by_flashinfer(serving: Serving) -> bool:
    """Whether FlashInfer runs the prefill of gated delta attention: on Hopper, and on Blackwell for key heads of 128
    under CUDA 13, which the published builds are for, unless `--gdn-prefill-backend` names another.

    Source: vLLM 0.33.0 model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py:_resolve_gdn_prefill_backend.
    """
    keys = [mixer.key_head_dim for mixer in mixers_of(serving.spec) if isinstance(mixer, GatedDelta)]
    stated = str(serving.deployment.stated.get("--gdn-prefill-backend") or "auto").lower()
    if not keys or stated not in ("auto", "flashinfer") or serving.hardware is None:
        return False
    if serving.hardware.compute_capability == "9.0":
        return True
    return _generation(serving) in ("10", "12") and keys[0] == 128


def _generation(serving: Serving) -> str:
    """Major compute capability of the card; empty where it is not known."""
    return ((serving.hardware.compute_capability if serving.hardware else None) or "").partition(".")[0]
