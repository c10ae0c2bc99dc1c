"""How TensorRT-LLM spreads a model: its degrees, and over how many ranks each part is divided.

Sources: TensorRT-LLM tensorrt_llm/mapping.py, _torch/modules/embedding.py, _torch/models/modeling_deepseekv3.py,
_torch/models/modeling_glm.py, _torch/moe/fused_moe/interface.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import gcd

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.model import ModelSpec, MoeFfn, Role

WHOLE_TABLE = (
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "glm4_moe", "glm_moe_dsa", "kimi_k2", "kimi_k25", "mistral_large_3",
)  # fmt: skip
"""Model types built on DeepSeek's class or a copy of it: the input table is whole on every rank, and dense and shared
feed-forwards take the most ranks that whole quantiser blocks allow."""
MOE_TP = "moe_tensor_parallel_size"
BALANCER = "moe_config.load_balancer"
CONTEXT_RANKS = "--context_parallel_size"


def resolve_layout(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    """Tensor x pipeline x context parallel; experts over the tensor-parallel ranks, some as wholes, some by width.

    Attention is data-parallel over all tensor-parallel ranks, or not at all: `dp` is `tp` or 1. Without a stated split
    the first stages take one layer more (`tensor_split`). Raises InputError where degrees contradict each other.
    """
    stated_cp = stated.get(CONTEXT_RANKS)
    pp, cp = asked.pp or 1, asked.dcp or (stated_cp if isinstance(stated_cp, int) else 1)
    wanted = asked.dp if asked.dp is not None and asked.dp > 1 else None
    if asked.tp is None and wanted is None and num_devices is not None and num_devices % (pp * cp):
        raise InputError(
            f"{num_devices} GPUs do not divide over {pp} stages x {cp} context-parallel ranks",
            hint="say --tp too, or another number of GPUs",
        )
    tp = asked.tp or wanted or max(1, (num_devices or 1) // (pp * cp))
    if wanted is not None and asked.dp_attention is False:
        raise InputError(
            f"--dp {wanted} without attention data parallelism: TensorRT-LLM has no other",
            hint=f"leave --dp out, or run {wanted} servers",
        )
    if wanted is not None and wanted != tp:
        raise InputError(
            f"--dp {wanted}: TensorRT-LLM runs attention data-parallel over all {tp} tensor-parallel ranks, or over none",
            hint=f"say --dp {tp}, or leave it out",
        )
    dp_attention = bool(asked.dp_attention or wanted)
    moe_ranks = tp * cp
    return Layout(
        tp=tp,
        pp=pp,
        dp=tp if dp_attention else 1,
        ep=_expert_ranks(asked, moe_ranks, stated),
        dp_attention=dp_attention,
        dcp=cp,
        redundant_experts=_redundant(spec, asked, stated),
        pp_layers=asked.pp_layers or first_stages_take_more(len(spec.layers), pp),
        num_nodes=asked.num_nodes or 1,
        num_gpus=tp * pp * cp,
    )


def division(serving: Serving, settings: Settings) -> Division:
    """Attention over the tensor-parallel ranks, or whole with attention data parallelism, and so all that is dense.

    Tables are cut to ceil(rows / ranks) without other padding (LMHead, Embedding). Experts: `ep` ranks hold wholes,
    the rest of the tensor-parallel ranks share their width. Encoders of other modalities are taken as whole: assumed.
    """
    layout, spec = serving.layout, serving.spec
    # Context-parallel ranks are tensor-parallel ones outside attention (`repurpose_helix_cp_to_tp`).
    moe_ranks = layout.tp * layout.dcp
    ranks = 1 if layout.dp_attention else moe_ranks
    special = spec.model_type in WHOLE_TABLE
    dense = shared = ranks
    if special and ranks > 1:
        dense = _whole_blocks(serving, "dense_mlp", ranks)
        per_node = max(1, layout.num_gpus // layout.num_nodes)
        dense = gcd(dense, per_node) if dense > per_node else dense
        shared = _whole_blocks(serving, "shared_experts", ranks)
    return Division(
        attention=1 if layout.dp_attention else layout.tp,
        dense_mlp=dense,
        shared_experts=shared,
        embedding=1 if special else ranks,
        lm_head=ranks,
        expert_tp=max(1, moe_ranks // layout.ep),
        expert_ep=layout.ep,
        redundant_experts=layout.redundant_experts,
        vocabulary_padding=1,
        cache_tokens=layout.dcp,
        balancer=any(key.startswith(BALANCER) for key in serving.deployment.stated),
    )


def is_moe(spec: ModelSpec) -> bool:
    """True where any layer has routed experts."""
    return any(isinstance(ffn, MoeFfn) for layer in dict.fromkeys(spec.layers) for ffn in layer.ffns)


def _expert_ranks(asked: AskedLayout, moe_ranks: int, stated: Mapping[str, Value]) -> int:
    """`--ep_size`, or what `moe_tensor_parallel_size` leaves. Degrees that do not multiply up are left to `refusals`."""
    by_width = stated.get(MOE_TP)
    left = moe_ranks // by_width if isinstance(by_width, int) and by_width > 0 else None
    if asked.ep is not None:
        if left is not None and left != asked.ep:
            raise InputError(
                f"--ep_size {asked.ep} and {MOE_TP} {by_width} do not multiply up to the {moe_ranks} ranks of a stage",
                hint=f"leave out {MOE_TP}",
            )
        return asked.ep
    if left is not None:
        return max(1, left)
    return moe_ranks if asked.expert_parallel else 1


def _redundant(spec: ModelSpec, asked: AskedLayout, stated: Mapping[str, Value]) -> int:
    """Copies of experts: `num_slots` of the load balancer less the experts."""
    if asked.redundant_experts is not None:
        return asked.redundant_experts
    text = stated.get(BALANCER)
    try:
        config = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return 0
    slots = config.get("num_slots") if isinstance(config, dict) else stated.get(f"{BALANCER}.num_slots")
    experts = next((f.num_experts for layer in spec.layers for f in layer.ffns if isinstance(f, MoeFfn)), None)
    return max(0, slots - experts) if isinstance(slots, int) and experts is not None else 0


def first_stages_take_more(num_layers: int, pp: int) -> tuple[int, ...]:
    """Layers of each stage: what is left over goes to the first ones (mapping.py: `tensor_split`)."""
    each, left = divmod(num_layers, pp)
    return tuple(each + (stage < left) for stage in range(pp))


def _whole_blocks(serving: Serving, role: Role, ranks: int) -> int:
    """The most ranks among which the feed-forward's width divides in whole quantiser blocks."""
    for entry in serving.owned:
        weight = entry.weight
        if entry.part != "text" or weight.role != role or weight.split != "column" or len(weight.shape) != 2:
            continue
        name = entry.first_name
        group = serving.quantisation.format_of(name, role, linear=True).group
        block = group[1] if group is not None and group[0] in ("row", "block") else 1
        return gcd(weight.shape[0] // int(block), ranks)
    return ranks
