"""Which kernels TensorRT-LLM runs experts with, on which cards, and what these make of sizes that they cannot take.

Sources: TensorRT-LLM _torch/moe/fused_moe/MOE_DEVELOPER_GUIDE.md (capability matrix), _torch/model_config.py
(resolve_moe_backend), _torch/moe/fused_moe/quantization.py (alignments of weights).
"""

from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings
from moeplan.core.model import MoeFfn

BACKEND = "moe_config.backend"
AUTO_SINCE = "1.2"
"""Since then `moe_config.backend` defaults to AUTO, before it was CUTLASS."""
TABLE_SINCE = "1.3"
"""Since then AUTO takes the format into account."""


class Padding(NamedTuple):
    """What a kernel rounds one rank's expert width up to, and the hidden size as input and as output."""

    width: int = 1
    hidden_in: int = 1
    hidden_out: int = 1


MXFP4_PADDING = {
    # A public log of trtllm-serve 1.1.0rc3 (gpt-oss-120b, DGX Spark, 2025-12-20) says "Use 63.32 GB for model weights":
    # 63.32 GiB with 128 both ways, 60.77 without.
    "CUTLASS": Padding(128, 128, 128),
    "TRTLLM": Padding(128, 512, 128),
    # Not read in the source: the swizzled layout of these kernels.
    "TRITON": Padding(128, 128, 128),
}

LEAST_BY_FORMAT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("bf16", ("8.", "9.", "10.", "12.")),
    ("fp16", ("8.", "9.", "10.", "12.")),
    ("fp8 per", ("8.9", "9.", "10.", "12.")),
    ("fp8 128x128", ("9.", "10.", "12.")),
    ("mxfp8", ("10.",)),
    # The matrix names 9.0 and 10.x; the log above ran on 12.1, and AUTO has a branch for 12.0.
    ("mxfp4", ("9.", "10.", "12.")),
    ("nvfp4", ("10.", "12.")),
)
"""Compute capabilities with kernels for experts, by how the name of their format begins."""
MARLIN_CAPABILITIES = ("8.9", "9.")
"""Where nvfp4 experts run through `moe_config.backend: MARLIN`, which has to be said."""


def expert_format(serving: Serving) -> str | None:
    """The format that the first layer's experts are in: it decides on their kernels. None for a dense model."""
    for entry in serving.owned:
        if entry.weight.role == "routed_experts" and entry.part == "text" and entry.weight.linear:
            name = entry.first_name
            weight = entry.weight
            return serving.quantisation.format_of(name, weight.role, linear=True).name
    return None


def expert_backend(serving: Serving, settings: Settings) -> str | None:
    """`moe_config.backend` where it is stated, else what AUTO makes of model, format and card.

    None for a dense model, and where the card is not known. Since 1.2 gpt-oss takes TRTLLM on compute capability 10 and
    TRITON on 9; since 1.3 fp8 in blocks and DeepSeek-V4 take TRTLLM on 10; all others CUTLASS.
    """
    experts = expert_format(serving)
    stated = (settings.text(BACKEND) or "AUTO").upper()
    if experts is None:
        return None
    if stated != "AUTO":
        return stated
    capability = serving.hardware.compute_capability if serving.hardware else None
    if capability is None:
        return None
    major, spec = capability.partition(".")[0], serving.spec
    if spec.model_type == "gpt_oss" and serving.constants.at_least(AUTO_SINCE):
        return {"9": "TRITON", "10": "TRTLLM"}.get(major, "CUTLASS")
    newer = serving.constants.at_least(TABLE_SINCE)
    if newer and major == "10" and (experts.startswith("fp8 128x128") or spec.model_type == "deepseek_v4"):
        return "TRTLLM"
    return "CUTLASS"


def runs_on(experts: str, capability: str, backend: str | None) -> bool | None:
    """Whether experts of this format have kernels on this compute capability; None for formats that are not listed."""
    for start, capabilities in LEAST_BY_FORMAT:
        if experts.startswith(start):
            marlin = start == "nvfp4" and backend == "MARLIN" and capability.startswith(MARLIN_CAPABILITIES)
            return marlin or capability.startswith(capabilities)
    return None


def padding(experts: str, backend: str | None) -> Padding:
    """What `backend` rounds sizes up to for experts of this format; no padding where that is not known."""
    return MXFP4_PADDING.get(backend or "", Padding()) if experts.startswith("mxfp4") else Padding()


def padded_share(ffn: MoeFfn, hidden: int, width_ranks: int, pad: Padding) -> float:
    """Bytes of padded experts over those of the checkpoint, on one of `width_ranks` ranks; 1 where nothing is added.

    The matrices into the expert (gate, up) take the hidden size as input, the one out of it (down) as output.
    """
    width, ways_in = -(-ffn.expert_width // width_ranks), 2 if ffn.gated else 1
    wide = -(-width // pad.width) * pad.width
    tall_in, tall_out = -(-hidden // pad.hidden_in) * pad.hidden_in, -(-hidden // pad.hidden_out) * pad.hidden_out
    return wide * (ways_in * tall_in + tall_out) / (width * (ways_in + 1) * hidden)
