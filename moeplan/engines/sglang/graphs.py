"""SGLang's CUDA graphs: whether decode and prefill steps are captured, and in how many sizes.

Source: SGLang 0.5.23 srt/arg_groups/cuda_graph_hook.py, srt/arg_groups/overrides.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving
from moeplan.core.mixers import mixers_of
from moeplan.core.model import KimiDelta
from moeplan.engines.sglang.attention import attention_backend
from moeplan.engines.sglang.layout import a2a_backend
from moeplan.engines.sglang.registry import (
    PREFILL_GRAPHS_WITH_TOWERS,
    is_compressed,
    is_indexed,
    is_latent,
    is_multimodal,
)

PREFILL_GRAPHS_SINCE, TURNED_OFF_SINCE = "0.5.10", "0.5.15"
LATENT_MOST_TOKENS = 8192
"""Latent attention captures no larger prefill."""
PREFILL_SIZES = (
    range(4, 33, 4), range(48, 257, 16), range(288, 513, 32), range(576, 1025, 64), range(1280, 4097, 256),
)  # fmt: skip
"""Sizes that are captured; every 512 beyond the last."""
DEEPSEEK_V3 = ("deepseek_v3", "kimi_k2")
"""Models of the class DeepseekV3ForCausalLM: with `trtllm_mla` they capture no prefill."""
WITH_A2A = ("none", "deepep", "megamoe", "flashinfer")


def decode_graphs(serving: Serving) -> bool:
    """Whether decode steps run as graphs."""
    stated = serving.deployment.stated
    off = stated.get("--disable-cuda-graph") or stated.get("--disable-decode-cuda-graph")
    prefill_only = stated.get("--disaggregation-mode") == "prefill"
    return not (off or prefill_only or stated.get("--cuda-graph-backend-decode") == "disabled")


def prefill_graphs(serving: Serving) -> bool:
    """Whether prefill steps do (piecewise graphs)."""
    without = attention_backend(serving) == "trtllm_mla" and serving.spec.model_type in DEEPSEEK_V3
    return prefill_graphs_planned(serving) and not (without and serving.constants.at_least(TURNED_OFF_SINCE))


def prefill_graphs_planned(serving: Serving) -> bool:
    """Whether they are counted when the share of the card is chosen: some are turned off after that."""
    stated, spec, layout = serving.deployment.stated, serving.spec, serving.layout
    if stated.get("--disaggregation-mode") == "decode":
        return False
    if stated.get("--enforce-piecewise-cuda-graph") or stated.get("--enable-piecewise-cuda-graph"):
        return True
    off = ("--disable-cuda-graph", "--disable-prefill-cuda-graph", "--disable-piecewise-cuda-graph")
    if any(stated.get(flag) for flag in off) or stated.get("--cuda-graph-backend-prefill") == "disabled":
        return False
    if not serving.constants.at_least(PREFILL_GRAPHS_SINCE):
        return False
    if serving.hardware is not None and serving.hardware.vendor not in (None, "nvidia"):
        return False
    if (
        layout.pp > 1
        or layout.dcp > 1
        or a2a_backend(stated) not in WITH_A2A
        or stated.get("--enable-two-batch-overlap")
    ):
        return False
    if is_compressed(spec) or (is_multimodal(spec) and spec.model_type not in PREFILL_GRAPHS_WITH_TOWERS):
        return False
    if _was_off(serving):
        return False
    return spec.model_type == "glm5_next" or not any(isinstance(mixer, KimiDelta) for mixer in mixers_of(spec))


def _was_off(serving: Serving) -> bool:
    """What earlier releases did not capture (server_args.py of 0.5.10 to 0.5.18)."""
    constants, spec, stated = serving.constants, serving.spec, serving.deployment.stated
    if constants.at_least("0.5.18"):
        return False
    if constants.at_least("0.5.15") and is_latent(spec):
        return True
    if not constants.at_least("0.5.15") and (is_indexed(spec) or spec.model_type in ("qwen3_next", "bailing_hybrid")):
        return True
    if constants.at_least("0.5.17"):
        return False
    alone = serving.layout.dp_attention or a2a_backend(stated) != "none" or is_multimodal(spec)
    return bool(alone or stated.get("--enable-lora"))


def prefill_graph_sizes(serving: Serving, chunk_tokens: int) -> int:
    """Number of sizes that prefill graphs are captured in."""
    stated = serving.deployment.stated
    most = stated.get("--cuda-graph-max-bs-prefill") or stated.get("--piecewise-cuda-graph-max-tokens")
    if not isinstance(most, int):
        most = min(LATENT_MOST_TOKENS, chunk_tokens) if is_latent(serving.spec) else chunk_tokens
        cap = stated.get("--max-total-tokens")
        most = min(most, cap) if isinstance(cap, int) else most
    return sum(size <= most for sizes in (*PREFILL_SIZES, range(4608, most + 1, 512)) for size in sizes)
