"""Layouts that TensorRT-LLM refuses, and the degrees that may be changed against that.

Sources: TensorRT-LLM mapping.py, llmapi/llm_args.py, _torch/modules/attention.py, _torch/modules/linear.py,
_torch/moe/fused_moe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from moeplan.core.deployment import Serving, Settings
from moeplan.core.divisibility import BlockSide
from moeplan.core.layout import Division, Layout
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import GroupedAttention, Mamba2, Mixer, ModelSpec, MoeFfn
from moeplan.core.remedies import Change, Problem, Ways
from moeplan.engines.trtllm.layout import division, is_moe
from moeplan.engines.trtllm.registry import ONE_STAGE

UNEVEN_SINCE = "1.3"
"""Since then the first expert-parallel ranks take one expert more (fused_moe/interface.py:_compute_ep_partition)."""


def problems(serving: Serving, settings: Settings, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """Everything in the layout that stops the engine; `sides` are those of `core.divisibility.block_sides`."""
    split = division(serving, settings)
    return [
        *_experts(serving),
        *_indivisible(serving.spec, split),
        *_broken_blocks(split, sides),
        *_stages(serving.spec, serving.layout),
    ]


def ways(problem: Problem, layout: Layout) -> Ways | None:
    """Changes that may take a problem away; None where what is told says them."""
    ranks = layout.tp * layout.dcp
    fewer_ep: Iterable[Change] = [{"ep": ep} for ep in range(min(layout.ep - 1, ranks), 0, -1)]
    match problem.code:
        case "heads-not-divisible" | "kv-heads-not-divisible" | "width-not-divisible" | "block-not-divisible":
            return Ways((_other_tp(layout, layout.tp - 1), [{"ep": ranks}]), _whole(layout))
        case "ep-beyond-tp" | "ep-not-dividing-tp":
            return Ways((fewer_ep,))
        case "ep-beyond-experts":
            return Ways((fewer_ep,), _other_tp(layout, layout.tp - 1))
        case "redundancy-without-ep":
            return Ways(([{"ep": ranks}], [{"redundant_experts": 0}]))
        case "experts-not-divisible":
            more = range(layout.redundant_experts + 1, layout.redundant_experts + layout.ep + 1)
            none: Iterable[Change] = [{"redundant_experts": 0}] if layout.redundant_experts else fewer_ep
            return Ways(([{"redundant_experts": count} for count in more], none), fewer_ep)
        case "pp-not-supported":
            return Ways(([{**change, "pp": 1} for change in _other_tp(layout, layout.tp * layout.pp)],))
        case "ep-on-dense":
            return Ways(([{"ep": 1}, {"redundant_experts": 0}, {"ep": 1, "redundant_experts": 0}],))
        case "stages-beyond-layers":
            return Ways(([{"tp": layout.tp, "pp": stages} for stages in range(layout.pp - 1, 0, -1)],))
    return None


def _other_tp(layout: Layout, most: int) -> Iterator[Change]:
    """Tensor-parallel ranks from `most` down; attention data parallelism is over all of them."""
    for tp in range(most, 0, -1):
        change: dict[str, int | bool] = {"tp": tp, "dp": tp} if layout.dp_attention else {"tp": tp}
        ranks, before = tp * layout.dcp, layout.tp * layout.dcp
        if layout.ep > 1 and (layout.ep == before or ranks % layout.ep):
            change["ep"] = ranks
        yield change


def _whole(layout: Layout) -> Iterator[Change]:
    return ({**change, "ep": change["tp"] * layout.dcp} for change in _other_tp(layout, layout.tp - 1))


def _experts(serving: Serving) -> list[Problem]:
    """Expert-parallel degrees against tensor-parallel ranks, experts and slots."""
    layout, ranks = serving.layout, serving.layout.tp * serving.layout.dcp
    if layout.ep == 1:
        if layout.redundant_experts:
            told = "the load balancer copies experts between --ep_size ranks, and there is one"
            return [Problem("redundancy-without-ep", told)]
        return []
    if not is_moe(serving.spec):
        return [Problem("ep-on-dense", f"--ep_size {layout.ep}: the model has no experts")]
    if layout.ep > ranks:
        return [Problem("ep-beyond-tp", f"--ep_size {layout.ep} is more than the {ranks} ranks of a stage (tp_size)")]
    if ranks % layout.ep:
        told = f"moe_tp x moe_ep must be tp_size: {ranks} ranks do not divide by --ep_size {layout.ep}"
        return [Problem("ep-not-dividing-tp", told)]
    found = []
    for experts in dict.fromkeys(
        f.num_experts for lay in serving.spec.layers for f in lay.ffns if isinstance(f, MoeFfn)
    ):
        slots = experts + layout.redundant_experts
        if experts < layout.ep:
            told = f"{experts} experts do not reach --ep_size {layout.ep} ranks"
            found.append(Problem("ep-beyond-experts", told))
        elif layout.redundant_experts and slots % layout.ep:
            told = f"num_slots {slots} ({experts} experts and {layout.redundant_experts} copies) must divide by {layout.ep}"
            found.append(Problem("experts-not-divisible", told))
        elif experts % layout.ep and not serving.constants.at_least(UNEVEN_SINCE):
            told = f"{experts} experts do not divide over --ep_size {layout.ep}, which TensorRT-LLM takes since {UNEVEN_SINCE}"
            found.append(Problem("experts-not-divisible", told))
    return found


def _indivisible(spec: ModelSpec, split: Division) -> list[Problem]:
    ranks, found = split.attention, []
    for mixer in mixers_of(spec):
        for what, units in _units(mixer):
            if units % ranks:
                found.append(Problem("heads-not-divisible", f"{units} {what} do not divide over {ranks} GPUs"))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % ranks and ranks % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {ranks} GPUs do not divide"
            found.append(Problem("kv-heads-not-divisible", told))
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, over, what = ffn.expert_width, split.expert_tp, "expert width"
        else:
            width, over, what = ffn.width, split.dense_mlp, "feed-forward width"
        if width % over:
            found.append(Problem("width-not-divisible", f"{what} {width} does not divide over {over} GPUs"))
    return found


def _units(mixer: Mixer) -> tuple[tuple[str, int], ...]:
    """Units that must divide over the ranks of attention; groups of state-space layers are not copied here."""
    if isinstance(mixer, Mamba2):
        return (*divided_units(mixer), ("state-space groups", mixer.num_groups))
    return divided_units(mixer)


def _broken_blocks(split: Division, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """Scales are cut by whole blocks, so the shard of a weight must be whole blocks; the first that is not."""
    by_role = {
        "attention": split.attention,
        "recurrent": split.attention,
        "dense_mlp": split.dense_mlp,
        "shared_experts": split.shared_experts,
        "routed_experts": split.expert_tp,
    }
    for side in sides:
        ranks = by_role.get(side.role, 1)
        if side.is_broken(ranks):
            return [Problem("block-not-divisible", side.told(ranks))]
    return []


def _stages(spec: ModelSpec, layout: Layout) -> list[Problem]:
    found = []
    if layout.pp > 1 and spec.model_type in ONE_STAGE:
        told = f"TensorRT-LLM runs {spec.model_type} without pipeline stages (--pp_size {layout.pp})"
        found.append(Problem("pp-not-supported", told))
    if layout.pp > len(spec.layers):
        told = f"{layout.pp} pipeline stages, and the model has {len(spec.layers)} layers"
        found.append(Problem("stages-beyond-layers", told))
    return found
