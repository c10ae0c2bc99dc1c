"""Layouts that SGLang refuses, and the degrees that may be changed against that.

Sources: SGLang 0.5.23 srt/arg_groups/parallel_hook.py, srt/arg_groups/kv_cache_hook.py, srt/server_args.py,
srt/models/*.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from moeplan.core.deployment import Serving, Settings
from moeplan.core.divisibility import BlockSide
from moeplan.core.layout import Layout
from moeplan.core.mixers import mixers_of
from moeplan.core.model import KimiDelta, ModelSpec
from moeplan.core.remedies import Change, Problem, Ways, nearest
from moeplan.engines.sglang.attention import is_amd
from moeplan.engines.sglang.divisibility import misfits
from moeplan.engines.sglang.layout import attention_dp
from moeplan.engines.sglang.registry import DEEPSEEK, WITHOUT_STAGES, experts_of, key_pool_tokens

FEWER_EXPERTS_REFUSED = (
    *DEEPSEEK, "afmoe", "cohere2_moe", "deepseek", "ernie4_5_vl_moe", "exaone_moe", "glm4_moe", "glm4v_moe", "hunyuan",
    "hunyuan_v1_moe", "laguna", "lfm2_moe", "longcat_flash", "mimo_v2_flash", "minimax_m2", "qwen2_moe", "qwen3_moe",
    "qwen3_vl_moe", "qwen3_next", "qwen3_5_moe", "step3p5", "step3p7",
)  # fmt: skip
"""Models whose feed-forward wants at least one expert per tensor-parallel rank (`tp_size > n_routed_experts`)."""


def problems(serving: Serving, settings: Settings, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """Everything in the layout that stops the engine; `sides` are those of `core.divisibility.block_sides`."""
    layout = serving.layout
    found = [*_degrees(serving), *_context_parallel(serving.spec, layout), *_experts(serving)]
    if layout.tp % layout.ep == 0 and layout.tp % attention_dp(layout) == 0:  # else these degrees are refused as such
        found += misfits(serving, settings, sides)
    return found


def ways(problem: Problem, layout: Layout) -> Ways | None:
    """Changes that may take a problem away; None where what is told says them."""
    fewer_ep: Iterable[Change] = [{"ep": ep} for ep in range(layout.ep - 1, 0, -1)]
    match problem.code:
        case "heads-not-divisible" | "kv-heads-not-divisible" | "width-not-divisible" | "block-not-divisible":
            groups: list[Change] = [{"dp": dp} for dp in nearest(layout.dp, layout.tp)] if layout.dp_attention else []
            return Ways((_other_tp(layout, layout.tp - 1), [{"ep": layout.tp}]), [*groups, *_whole(layout)])
        case "dp-not-dividing-tp":
            return Ways(([{"dp": dp} for dp in nearest(layout.dp, layout.tp)],))
        case "dp-over-nodes":
            inside: list[Change] = [{"tp": layout.tp * layout.dp, "dp_attention": True}, {"dp_attention": True}]
            return Ways((inside,), [{"tp": layout.tp, "dp": 1}])
        case "pp-not-supported":
            return Ways(([{**change, "pp": 1} for change in _other_tp(layout, layout.tp * layout.pp)],))
        case "ep-on-dense":
            return Ways(([{"ep": 1}, {"redundant_experts": 0}, {"ep": 1, "redundant_experts": 0}],))
        case "stages-beyond-layers":
            return Ways(([{"tp": layout.tp, "pp": stages} for stages in range(layout.pp - 1, 0, -1)],))
        case "ep-beyond-tp" | "ep-not-dividing-tp":
            return Ways((fewer_ep,))
        case "ep-beyond-experts":
            return Ways((fewer_ep,), _other_tp(layout, layout.tp - 1))
        case "experts-not-divisible":
            more = range(layout.redundant_experts + 1, layout.redundant_experts + layout.ep + 1)
            none: Iterable[Change] = [{"redundant_experts": 0}] if layout.redundant_experts else fewer_ep
            return Ways(([{"redundant_experts": count} for count in more], none), fewer_ep)
        case code if code.startswith("dcp-"):
            return Ways(([{"dcp": count} for count in nearest(layout.dcp, layout.tp // attention_dp(layout))],))
    return None


def _other_tp(layout: Layout, most: int) -> Iterator[Change]:
    """Tensor-parallel ranks from `most` down; experts that lie whole on every rank go on doing so."""
    for tp in range(most, 0, -1):
        if layout.ep > 1 and (layout.ep == layout.tp or tp % layout.ep):
            yield {"tp": tp, "ep": tp}
        else:
            yield {"tp": tp}


def _whole(layout: Layout) -> Iterator[Change]:
    for tp in range(layout.tp - 1, 0, -1):
        yield {"tp": tp, "ep": tp}


def _degrees(serving: Serving) -> list[Problem]:
    """Groups, replicas and stages, and settings that only some of them allow."""
    spec, layout, stated, found = serving.spec, serving.layout, serving.deployment.stated, []
    if layout.dp_attention and layout.tp % layout.dp:
        told = f"--tp {layout.tp} does not divide by {layout.dp} groups of attention data parallelism"
        found.append(Problem("dp-not-dividing-tp", told))
    if layout.dp > 1 and not layout.dp_attention and layout.num_nodes > 1:
        told = f"{layout.dp} replicas over {layout.num_nodes} nodes: SGLang wants --dp-attention, or a server per node"
        found.append(Problem("dp-over-nodes", told))
    if stated.get("--enable-dp-lm-head") and not layout.dp_attention:
        found.append(Problem("dp-lm-head-without-dp", "--enable-dp-lm-head needs attention data parallelism"))
    dense = stated.get("--moe-dense-tp-size")
    if dense not in (None, 1, layout.tp):
        told = f"--moe-dense-tp-size {dense} is neither 1 nor --tp {layout.tp}: use 1, or leave it out"
        found.append(Problem("moe-dense-tp-size", told))
    if layout.pp > len(spec.layers):
        told = f"{layout.pp} pipeline stages outnumber the {len(spec.layers)} layers"
        found.append(Problem("stages-beyond-layers", told))
    if layout.pp > 1 and spec.model_type in WITHOUT_STAGES:
        told = f"SGLang 0.5.23 runs {spec.model_type} in one pipeline stage"
        found.append(Problem("pp-not-supported", told))
    return found


def _context_parallel(spec: ModelSpec, layout: Layout) -> list[Problem]:
    """Decode context parallelism lies inside the ranks of attention."""
    if layout.dcp == 1:
        return []
    ranks = layout.tp // attention_dp(layout)
    if ranks % layout.dcp:
        told = f"{ranks} attention ranks do not divide by decode context parallel {layout.dcp}"
        return [Problem("dcp-not-dividing-tp", told)]
    if key_pool_tokens(spec) > 1 or any(isinstance(mixer, KimiDelta) for mixer in mixers_of(spec)):
        told = f"SGLang runs {spec.model_type} without decode context parallelism"
        return [Problem("dcp-not-supported", told)]
    return []


def _experts(serving: Serving) -> list[Problem]:
    """Expert parallelism against ranks and experts."""
    spec, layout = serving.spec, serving.layout
    sparse = experts_of(spec)
    if not sparse:
        if layout.ep > 1:
            return [Problem("ep-on-dense", "expert parallelism needs experts, and this model has none")]
        if layout.redundant_experts:
            return [Problem("ep-on-dense", "redundant experts need experts, and this model has none")]
        return []
    if layout.ep > layout.tp:
        told = f"--ep {layout.ep} is more than --tp {layout.tp}: experts are shared out among tensor-parallel ranks"
        return [Problem("ep-beyond-tp", told)]
    if layout.tp % layout.ep:
        return [Problem("ep-not-dividing-tp", f"--tp {layout.tp} does not divide by --ep {layout.ep}")]
    found = []
    experts = max(ffn.num_experts for ffn in sparse)
    physical = experts + layout.redundant_experts
    if layout.ep > physical:
        found.append(Problem("ep-beyond-experts", f"--ep {layout.ep} is more than the {physical} experts"))
    elif physical % layout.ep:
        copies = f" + {layout.redundant_experts} redundant = {physical}" if layout.redundant_experts else ""
        told = f"{experts} experts{copies} do not divide over {layout.ep} ranks"
        found.append(Problem("experts-not-divisible", told))
    if layout.tp > experts and spec.model_type in FEWER_EXPERTS_REFUSED and not is_amd(serving):
        found.append(Problem("ep-beyond-experts", f"--tp {layout.tp} is more than the {experts} experts"))
    return found
