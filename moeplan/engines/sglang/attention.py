"""Which attention kernels SGLang takes, the page that they want, and the workspace that they keep.

Source: SGLang 0.5.23 srt/arg_groups/attention_hook.py, srt/arg_groups/overrides.py, srt/layers/attention/*.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving
from moeplan.core.mixers import mixers_of
from moeplan.core.model import GroupedAttention
from moeplan.engines.sglang.registry import (
    DEEPSEEK,
    has_sinks,
    is_compressed,
    is_indexed,
    is_latent,
    key_pool_tokens,
)

COMPRESSED_PAGE_TOKENS = 256
INDEXED_PAGE_TOKENS = 64
FA4_PAGE_TOKENS = 128
PAGE_SIZES = {
    "trtllm_mha": (64, 16, 32, 128),
    "trtllm_mla": (64, 32),
    "cutedsl_mla": (64, 32),
    "flashmla": (64,),
    "hpc_ops": (64,),
    "cutlass_mla": (128,),
}
"""Pages that kernels take, the one that others become first; all other kernels take any."""
QUERY_HEAVY = ("qwen2", "qwen3", "qwen3_vl", "qwen3_vl_moe")
"""Models with FlashInfer's larger workspace (layers/attention/flashinfer_backend.py)."""


def generation(serving: Serving) -> int:
    """Major number of the compute capability; 0 where it is not known."""
    capability = serving.hardware.compute_capability if serving.hardware else None
    return int(capability.partition(".")[0]) if capability else 0


def is_amd(serving: Serving) -> bool:
    """Whether the cards are AMD's."""
    return serving.hardware is not None and serving.hardware.vendor == "amd"


def attention_backend(serving: Serving) -> str | None:
    """`--attention-backend` where it is stated, else what the engine takes; None where the card is not known."""
    stated, spec, major = serving.deployment.stated, serving.spec, generation(serving)
    if is_compressed(spec):
        return "dsv4"
    if is_indexed(spec):
        return "dsa"
    asked = stated.get("--attention-backend") or stated.get("--decode-attention-backend")
    if asked is not None:
        return str(asked)
    if is_amd(serving):
        return "aiter"
    if not major:
        return None
    if is_latent(spec):
        if major == 9:
            return "fa3"
        if major == 10:
            return "trtllm_mla" if spec.model_type in DEEPSEEK else "flashinfer"
        return "triton"
    if major == 10:
        return "fa4" if _uneven_heads(serving) else "trtllm_mha"
    if major == 9:
        return "fa3"
    simple = has_sinks(spec) or spec.model_type in ("llama4", "llama4_text", "gemma4", "gemma4_text")
    return "triton" if simple else "flashinfer"


def page_tokens(serving: Serving) -> int:
    """Tokens of a page: what kernels force, else `--page-size`, else one."""
    backend = attention_backend(serving)
    stated = serving.deployment.stated.get("--page-size")
    if backend == "dsv4":
        return COMPRESSED_PAGE_TOKENS
    if backend == "dsa" and not is_amd(serving):
        return INDEXED_PAGE_TOKENS * key_pool_tokens(serving.spec)
    if backend == "fa4" and generation(serving) == 10 and not is_latent(serving.spec):
        return FA4_PAGE_TOKENS
    tokens = stated if isinstance(stated, int) else 1
    taken = PAGE_SIZES.get(backend or "", (tokens,))
    return tokens if tokens in taken else taken[0]


def workspace(serving: Serving) -> str | None:
    """Name of the constant for what the attention kernels keep; None where they keep nothing."""
    backend = attention_backend(serving)
    if backend == "flashinfer":
        return f"flashinfer_{'large_' if serving.spec.model_type in QUERY_HEAVY else ''}workspace_bytes"
    if backend in ("trtllm_mha", "trtllm_mla"):
        return f"{backend}_workspace_bytes"
    if backend == "dsa" and generation(serving) >= 10:
        return "flashinfer_workspace_bytes"
    return None


def _uneven_heads(serving: Serving) -> bool:
    """Keys and values of unequal width (MiMo-V2)."""
    return any(
        isinstance(mixer, GroupedAttention) and mixer.key_head_dim != mixer.value_head_dim
        for mixer in mixers_of(serving.spec)
    )
