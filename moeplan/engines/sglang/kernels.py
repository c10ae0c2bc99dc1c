"""Which kernels SGLang runs experts with, and what these round sizes up to.

Sources: SGLang 0.5.23 srt/arg_groups/moe_hook.py, srt/arg_groups/overrides.py, srt/layers/quantization/*.py,
srt/layers/moe/fused_moe_triton/layer.py.
"""

from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings
from moeplan.core.model import MoeFfn
from moeplan.engines.sglang.attention import generation, is_amd
from moeplan.engines.sglang.layout import ONE_RANK_PER_EXPERT, a2a_backend
from moeplan.engines.sglang.registry import DEEPSEEK, QWEN3_MOE

GROUPED_INTEGERS = ("int4", "awq", "gptq", "int8 g")
PLAIN = ("bf16", "fp16")
TRTLLM: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DEEPSEEK, ("fp8", "nvfp4", *PLAIN)),
    **dict.fromkeys(("kimi_k2", "kimi_k25"), ("fp8", "nvfp4", "int4", *PLAIN)),
    **dict.fromkeys((*QWEN3_MOE, "nemotron_h"), ("fp8", "nvfp4", *PLAIN)),
    **dict.fromkeys(("glm4_moe", "cohere2_moe"), ("nvfp4", *PLAIN)),
    **dict.fromkeys(("llama4", "llama4_text", "mimo_v2_flash"), ("fp8",)),
    **dict.fromkeys(("beam", "gemma4", "gemma4_text"), ("nvfp4",)),
}
"""Models whose experts take TensorRT-LLM's kernels on compute capability 10, and in which formats."""


class Padding(NamedTuple):
    """What a kernel rounds one rank's expert width and the hidden size up to."""

    width: int = 1
    hidden: int = 1


MXFP4_PADDING = {
    "marlin": Padding(128, 256),
    "flashinfer_mxfp4": Padding(128, 256),
    "aiter": Padding(256, 256),
    # The width was read. Whether the swizzled layout of Hopper rounds the hidden size up too was not seen in a log.
    "triton_kernel": Padding(64),
}
"""For experts in mxfp4 (layers/quantization/mxfp4.py)."""
UNCERTAIN_PADDING = Padding(64, 256)
"""The most that the swizzled layout may take."""


def expert_format(serving: Serving) -> str | None:
    """The format of the first layer's experts: it decides on their kernels. None for a dense model."""
    for entry in serving.owned:
        weight = entry.weight
        if weight.role == "routed_experts" and entry.part == "text" and weight.linear:
            name = entry.first_name
            return serving.quantisation.format_of(name, weight.role, linear=True).name
    return None


def expert_backend(serving: Serving, settings: Settings) -> str | None:
    """`--moe-runner-backend` where it is stated, else what the engine takes for the card and the format.

    None for a dense model, and where the card is not known.
    """
    experts = expert_format(serving)
    if experts is None:
        return None
    stated = settings.text("--moe-runner-backend")
    if stated not in (None, "auto"):
        return stated
    if is_amd(serving):
        return "aiter" if experts.startswith("mxfp4") else "triton"
    if not generation(serving):
        return None
    a2a = a2a_backend(serving.deployment.stated)
    if a2a in ONE_RANK_PER_EXPERT:
        if "megamoe" in a2a:
            return "megamoe"
        if experts.startswith("fp8"):
            return "deep_gemm"
    if experts.startswith("mxfp4"):
        return _mxfp4_backend(serving)
    model_type = serving.spec.model_type
    if generation(serving) == 10:
        if model_type == "minimax_m2":
            return "flashinfer_trtllm_routed"
        if experts.startswith(TRTLLM.get(model_type, ())):
            return "flashinfer_trtllm"
    if experts.startswith("nvfp4"):
        return "marlin" if generation(serving) < 10 else "flashinfer_cutlass"
    return "marlin" if experts.startswith(GROUPED_INTEGERS) else "triton"


def padding(experts: str, backend: str | None, *, gated: bool) -> Padding:
    """What `backend` rounds sizes up to for experts of this format; nothing where that is not known."""
    if experts.startswith("mxfp4"):
        return MXFP4_PADDING.get(backend or "", Padding())
    if backend in ("flashinfer_trtllm", "flashinfer_trtllm_routed"):
        if experts.startswith("nvfp4"):
            return Padding(64 if gated else 128)
        return Padding(128)
    return Padding()


def padded_share(ffn: MoeFfn, hidden: int, width_ranks: int, pad: Padding) -> float:
    """Bytes of padded experts over those of the checkpoint, on one of `width_ranks` ranks; 1 where nothing is added."""
    width = -(-ffn.expert_width // width_ranks)
    wide, tall = -(-width // pad.width) * pad.width, -(-hidden // pad.hidden) * pad.hidden
    return wide * tall / (width * hidden)


def _mxfp4_backend(serving: Serving) -> str:
    major = generation(serving)
    if serving.spec.model_type == "deepseek_v4":
        return "flashinfer_mxfp4" if major in (9, 10, 12) else "marlin"
    if major in (10, 12):
        return "flashinfer_mxfp4"
    return "triton_kernel" if serving.layout.ep == 1 else "triton"
