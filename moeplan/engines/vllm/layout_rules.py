"""Layouts that vLLM refuses, and the degrees that may be changed against that.

Sources: vLLM 0.33.0 config/model.py:verify_with_parallel_config, config/parallel.py, model files,
utils/fp8_utils.py:validate_fp8_block_shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from moeplan.core.deployment import Serving
from moeplan.core.divisibility import BlockSide
from moeplan.core.layout import Layout
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import DenseFfn, GroupedAttention, Mamba2, ModelSpec, MoeFfn
from moeplan.core.remedies import Change, Problem, Ways, nearest

REFINES_EXPERT_BLOCKS = "0.18"
"""Since about this release shards of fp8 expert blocks are refined or padded (fused_moe/oracle/fp8.py); engines of 2025
refused them (validate_fp8_block_shape_moe). Between the two the release is not known."""


def problems(serving: Serving, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """Everything in the layout that stops the engine; `sides` are those of `core.divisibility.block_sides`."""
    spec, layout = serving.spec, serving.layout
    return [
        *_indivisible(spec, layout.tp),
        *_broken_blocks(serving, sides),
        *_experts(spec, layout),
        *_context_parallel(spec, layout),
        *_pipeline(spec, layout),
    ]


def ways(problem: Problem, layout: Layout) -> Ways | None:
    """Changes that may take a problem away; None where what is told says them."""
    match problem.code:
        case "heads-not-divisible" | "kv-heads-not-divisible" | "width-not-divisible" | "block-not-divisible":
            whole = [{"ep": layout.tp * layout.dp}] if layout.ep == 1 else []
            return Ways((_fewer_tp(layout, layout.ep > 1), whole), _fewer_tp(layout, True))
        case "redundancy-without-ep":
            return Ways(([{"ep": layout.tp * layout.dp}], [{"redundant_experts": 0}]))
        case "experts-not-divisible":
            copies = range(layout.redundant_experts + 1, layout.redundant_experts + layout.ep + 1)
            return Ways(([{"redundant_experts": count} for count in copies],), [{"redundant_experts": 0}])
        case "ep-beyond-experts":
            groups: Iterable[Change] = [
                {"tp": layout.tp, "dp": dp, "ep": layout.tp * dp} for dp in range(layout.dp - 1, 0, -1)
            ]
            return Ways(([{"ep": 1}], groups), _fewer_tp(layout, True))
        case "ep-on-dense":
            return Ways(([{"ep": 1}, {"redundant_experts": 0}, {"ep": 1, "redundant_experts": 0}],))
        case "stages-beyond-layers":
            return Ways(([{"tp": layout.tp, "pp": stages} for stages in range(layout.pp - 1, 0, -1)],))
        case code if code.startswith("dcp-"):
            return Ways(([{"dcp": count} for count in nearest(layout.dcp, layout.tp)],))
    return None


def _fewer_tp(layout: Layout, whole: bool) -> Iterator[Change]:
    """Fewer tensor-parallel ranks; experts that are spread as wholes go over all ranks of a stage."""
    for tp in range(layout.tp - 1, 0, -1):
        yield {"tp": tp, "ep": tp * layout.dp} if whole else {"tp": tp}


def _indivisible(spec: ModelSpec, tp: int) -> list[Problem]:
    """Heads and dense widths that do not divide over the ranks."""
    if tp == 1:
        return []
    found = []
    for mixer in mixers_of(spec):
        for what, units in divided_units(mixer):
            if units % tp:
                found.append(Problem("heads-not-divisible", f"{units} {what} do not divide over {tp} GPUs"))
        if isinstance(mixer, Mamba2) and mixer.num_groups > 1 and mixer.num_groups % tp:
            # model_executor/layers/mamba/mamba_mixer2.py: only a single group is copied to all ranks.
            told = f"{mixer.num_groups} state-space groups do not divide over {tp} GPUs"
            found.append(Problem("heads-not-divisible", told))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % tp and tp % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {tp} GPUs do not divide"
            found.append(Problem("kv-heads-not-divisible", told))
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn) and ffn.width % tp:
            told = f"feed-forward width {ffn.width} does not divide over {tp} GPUs"
            found.append(Problem("width-not-divisible", told))
    return found


def _broken_blocks(serving: Serving, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """The shard of every linear layer must be whole blocks, of experts too in older releases; the first that is not."""
    layout, strict = serving.layout, not serving.constants.at_least(REFINES_EXPERT_BLOCKS)
    expert_ranks = 1 if layout.ep > 1 else layout.tp * layout.dp
    for side in sides:
        routed = side.role == "routed_experts"
        ranks = expert_ranks if routed else layout.tp
        if (strict or not routed) and side.is_broken(ranks):
            return [Problem("block-not-divisible", side.told(ranks))]
    return []


def _experts(spec: ModelSpec, layout: Layout) -> list[Problem]:
    """Expert parallelism, redundancy, and the width of experts that are not spread as wholes."""
    sparse = [ffn for layer in dict.fromkeys(spec.layers) for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    found = []
    if not sparse:
        if layout.ep > 1:
            found.append(Problem("ep-on-dense", "expert parallelism needs experts, and this model has none"))
        if layout.redundant_experts:
            found.append(Problem("ep-on-dense", "redundant experts need experts, and this model has none"))
        return found
    experts, redundant = max(ffn.num_experts for ffn in sparse), layout.redundant_experts
    physical = experts + redundant
    if redundant and layout.ep == 1:
        told = f"{redundant} redundant experts need expert parallelism (--enable-expert-parallel --enable-eplb)"
        found.append(Problem("redundancy-without-ep", told))
    if redundant and layout.ep > 1 and physical % layout.ep:
        told = f"{experts} experts + {redundant} redundant = {physical} do not divide over {layout.ep} ranks"
        found.append(Problem("experts-not-divisible", told))
    if layout.ep > physical:
        told = f"{layout.ep} expert-parallel ranks outnumber {physical} experts"
        found.append(Problem("ep-beyond-experts", told))
    over = layout.tp * layout.dp
    if layout.ep == 1 and over > 1:
        for width in sorted({ffn.expert_width for ffn in sparse}):
            if width % over:
                told = f"expert width {width} does not divide over {over} ranks"
                found.append(Problem("width-not-divisible", told))
    return found


def _context_parallel(spec: ModelSpec, layout: Layout) -> list[Problem]:
    """Rules of config/parallel.py and config/model.py:verify_with_parallel_config."""
    dcp, tp = layout.dcp, layout.tp
    if dcp == 1:
        return []
    if tp % dcp:
        told = f"tensor parallel {tp} is not divisible by decode context parallel {dcp}"
        return [Problem("dcp-not-dividing-tp", told)]
    found = []
    for mixer in mixers_of(spec):
        if not isinstance(mixer, GroupedAttention):
            continue
        heads = mixer.num_kv_heads
        if mixer.window_tokens is not None:
            told = "decode context parallelism takes no sliding-window layers"
            found.append(Problem("dcp-with-windows", told))
        elif tp <= heads:
            told = f"decode context parallel {dcp} needs more tensor-parallel ranks ({tp}) than the {heads} key/value heads"
            found.append(Problem("dcp-too-few-ranks", told))
        elif dcp > tp // heads:
            told = f"decode context parallel {dcp} is more than {tp} ranks / {heads} key/value heads = {tp // heads}"
            found.append(Problem("dcp-too-many", told))
        elif mixer.num_heads // heads % dcp:
            told = f"{mixer.num_heads} / {heads} = {mixer.num_heads // heads} query heads per key/value head do not divide by {dcp}"
            found.append(Problem("dcp-too-many", told))
    return found


def _pipeline(spec: ModelSpec, layout: Layout) -> list[Problem]:
    if layout.pp > len(spec.layers):
        told = f"{layout.pp} pipeline stages outnumber the {len(spec.layers)} layers"
        return [Problem("stages-beyond-layers", told)]
    return []
