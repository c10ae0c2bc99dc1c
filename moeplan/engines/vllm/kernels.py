"""Which kernels vLLM runs experts with, and what these make of sizes that they cannot take.

Sources: vLLM 0.33.0 model_executor/layers/fused_moe/oracle/*.py, quantization/utils/marlin_utils.py,
quantization/utils/marlin_utils_fp4.py.
"""

from math import lcm
from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings
from moeplan.core.model import MoeFfn
from moeplan.core.quant import FORMATS

MARLIN_TILE = 64


class Padding(NamedTuple):
    """What a kernel rounds one rank's expert width and the hidden size up to."""

    width: int = 1
    hidden: int = 1


MXFP4_PADDING = {
    "marlin": Padding(128, 256),
    "batched_marlin": Padding(128, 256),
    "flashinfer_trtllm": Padding(128, 256),
    "cutlass": Padding(128, 128),
    "flashinfer_cutlass": Padding(128, 128),
    "deep_gemm": Padding(128, 128),
    "aiter": Padding(256, 256),
    # The width is read in the source. That the swizzled layout of Hopper and Blackwell rounds the hidden size up was
    # inferred from two logs: gpt-oss-120b 64.38 GiB (obs-d-020), gpt-oss-20b 13.47 GiB (llm-d-planner's report).
    "triton": Padding(64, 256),
}
"""By `--moe-backend`; oracle/mxfp4.py:mxfp4_round_up_hidden_size_and_intermediate_size."""


def expert_format(serving: Serving) -> str | None:
    """The format that the first layer's experts are in: it decides on their kernels. None for a dense model."""
    for entry in serving.owned:
        if entry.weight.role == "routed_experts" and entry.part == "text" and entry.weight.linear:
            weight = entry.weight
            return serving.quantisation.format_of(entry.first_name, weight.role, linear=True).name
    return None


def expert_backend(serving: Serving, settings: Settings) -> str | None:
    """`--moe-backend` where it is stated, else the first of the engine's list that the card and the format allow.

    None for a dense model, and where the card is not known.
    """
    stated = settings.text("--moe-backend")
    experts = expert_format(serving)
    if stated not in (None, "auto") or experts is None:
        return stated if experts is not None else None
    capability = serving.hardware.compute_capability if serving.hardware else None
    if capability is None:
        return None
    major, number = int(capability.partition(".")[0]), float(capability)
    if experts.startswith("mxfp4"):
        return {9: "triton", 10: "flashinfer_trtllm"}.get(major, "marlin")
    if experts.startswith("nvfp4"):
        return {10: "flashinfer_trtllm", 12: "flashinfer_cutlass"}.get(major, "marlin")
    if experts.startswith(("int4", "awq", "gptq", "int8 g")):
        return "marlin"
    if experts.startswith("fp8"):
        if number < 8.9:
            return "marlin"
        if major == 10:
            return "flashinfer_trtllm"
        # Hopper takes Triton for blocks, but FlashInfer where experts are spread as wholes (oracle/fp8.py).
        return "flashinfer_cutlass" if major == 9 and ("block" not in experts or serving.layout.ep > 1) else "triton"
    return "flashinfer_trtllm" if major == 10 else "triton"


def padding(experts: str, backend: str | None, hidden: int) -> Padding:
    """What `backend` rounds sizes up to for experts of this format; no padding where that is not known."""
    if experts.startswith("mxfp4"):
        return MXFP4_PADDING.get(backend or "", Padding())
    if backend in ("marlin", "batched_marlin"):
        if experts.startswith("nvfp4"):
            return Padding(MARLIN_TILE if hidden % 128 == 0 else 2 * MARLIN_TILE, MARLIN_TILE)
        known = FORMATS.get(experts)
        group = known.group if known is not None else None
        if experts.startswith(("int4", "awq", "gptq", "int8 g")) and group is not None and group[0] == "row":
            return Padding(lcm(MARLIN_TILE, group[1]))
    if backend == "flashinfer_trtllm" and experts in ("bf16", "fp16"):
        return Padding(128)
    return Padding()


def padded_share(ffn: MoeFfn, hidden: int, width_ranks: int, pad: Padding) -> float:
    """Bytes of padded experts over those of the checkpoint, on one of `width_ranks` ranks; 1 where nothing is added."""
    width = -(-ffn.expert_width // width_ranks)
    wide, tall = -(-width // pad.width) * pad.width, -(-hidden // pad.hidden) * pad.hidden
    return wide * tall / (width * hidden)
