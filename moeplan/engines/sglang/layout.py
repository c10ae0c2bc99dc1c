"""How SGLang spreads a model: its degrees, and over how many ranks each part is divided.

Sources: SGLang 0.5.23 srt/arg_groups/parallel_hook.py, srt/distributed/parallel_state.py, srt/distributed/utils.py,
srt/layers/vocab_parallel_embedding.py, srt/models/*.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.model import ModelSpec
from moeplan.engines.sglang.registry import DEEPSEEK, WHOLE_EMBEDDING

VOCABULARY_PADDING = 64
"""Rows of embedding and head are padded to a multiple of this, and of this times the ranks where the ranks do not divide
the result (layers/vocab_parallel_embedding.py)."""
ONE_RANK_PER_EXPERT = (
    "deepep", "deepep_v2", "pplx", "mooncake", "nixl", "mori", "ascend_fuseep", "flashinfer", "megamoe",
    "flashinfer_megamoe",
)  # fmt: skip
"""All-to-all backends that force expert parallelism over all ranks of a stage (arg_groups/overrides.py:_a2a_ep_size);
with them shared experts are whole on every rank (models/deepseek_v2.py)."""
DEEPSEEK_DIVIDES_EMBEDDING = "0.5.10"
"""Since about this release DeepSeek's input table is divided over the attention ranks; in 0.5.3 each had all of it."""


def resolve_layout(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    """Tensor x pipeline parallel ranks, attention data parallelism inside them; without it `--dp` makes replicas.

    Raises InputError where the GPUs do not divide.
    """
    pp, dp = asked.pp or 1, asked.dp or 1
    dp_attention = bool(asked.dp_attention) and dp > 1
    copies = 1 if dp_attention else dp
    tp = asked.tp or max(1, (num_devices or 1) // (pp * copies))
    if asked.tp is None and num_devices is not None and num_devices % (pp * copies):
        replicas = f" x {copies} replicas" if copies > 1 else ""
        raise InputError(
            f"{num_devices} GPUs do not divide over {pp} stages{replicas}",
            hint="say --tp too, or another number of GPUs",
        )
    ep = asked.ep or (tp if asked.expert_parallel or stated.get("--enable-ep-moe") else 1)
    if a2a_backend(stated) in ONE_RANK_PER_EXPERT:
        ep = tp
    return Layout(
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        dp_attention=dp_attention,
        dcp=asked.dcp or 1,
        redundant_experts=asked.redundant_experts or 0,
        pp_layers=asked.pp_layers or last_stages_take_more(len(spec.layers), pp),
        num_nodes=asked.num_nodes or 1,
        num_gpus=tp * pp * copies,
    )


def last_stages_take_more(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Layers of each stage: what is left over goes to the last ones (distributed/utils.py:get_pp_indices)."""
    each, left = divmod(num_layers, num_stages)
    return tuple(each + (stage >= num_stages - left) for stage in range(num_stages))


def a2a_backend(stated: Mapping[str, Value]) -> str:
    """`--moe-a2a-backend`, or `none`; `--enable-deepep-moe` was its older spelling."""
    if stated.get("--enable-deepep-moe"):
        return "deepep"
    return str(stated.get("--moe-a2a-backend") or "none")


def attention_dp(layout: Layout) -> int:
    """Groups that attention runs in, data-parallel, inside the tensor-parallel ranks; 1 without."""
    return layout.dp if layout.dp_attention else 1


def division(serving: Serving, settings: Settings) -> Division:
    """Attention over the ranks of its own group; dense layers and experts over all of the stage.

    The head is divided over all ranks too, unless `--enable-dp-lm-head` says otherwise (layers/logits_processor.py).
    """
    layout, stated = serving.layout, serving.deployment.stated
    attention = max(1, layout.tp // attention_dp(layout))
    alone = a2a_backend(stated) in ONE_RANK_PER_EXPERT
    dense = 1 if stated.get("--moe-dense-tp-size") == 1 else layout.tp
    head = attention if stated.get("--enable-dp-lm-head") else layout.tp
    return Division(
        attention=attention,
        dense_mlp=dense,
        shared_experts=1 if alone else layout.tp,
        embedding=_embedding_ranks(serving, attention),
        lm_head=head,
        expert_tp=max(1, layout.tp // layout.ep),
        expert_ep=layout.ep,
        redundant_experts=layout.redundant_experts,
        towers=1 if stated.get("--mm-enable-dp-encoder") else attention,
        vocabulary_padding=_vocabulary_padding(serving.spec.vocab_size, head),
        cache_tokens=layout.dcp,
        balancer=bool(stated.get("--enable-eplb")),
    )


def _vocabulary_padding(vocab_size: int, num_ranks: int) -> int:
    rows = -(-vocab_size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    return VOCABULARY_PADDING * (num_ranks if rows % num_ranks else 1)


def _embedding_ranks(serving: Serving, attention: int) -> int:
    if not serving.layout.dp_attention:
        return serving.layout.tp
    model_type = serving.spec.model_type
    whole = model_type in WHOLE_EMBEDDING
    if model_type in DEEPSEEK and not serving.constants.at_least(DEEPSEEK_DIVIDES_EMBEDDING):
        whole = True
    return 1 if whole else attention
