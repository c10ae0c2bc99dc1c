"""What TensorRT-LLM holds on one rank beside weights and cache: workspaces, activations, graphs, context.

All of it is in the peak of the profiling pass, so the cache gets a fraction of what it leaves. One public log holds
against the rules of activations and attention workspace (1.1.0rc3, GB10, gpt-oss-120b, 8192 tokens); nothing else
was measured.
"""

from __future__ import annotations

from typing import assert_never

from moeplan.core.deployment import Constant, Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import mixers_of, projected_elements
from moeplan.core.model import (
    CompressedAttention,
    DenseFfn,
    GroupedAttention,
    LatentAttention,
    MoeFfn,
)
from moeplan.core.placement import RankView
from moeplan.engines.trtllm.kernels import expert_backend
from moeplan.engines.trtllm.settings import TOKENS

ACTIVATION_ELEMENT_BYTES = 2
GRAPHS = "cuda_graph_config"
OFF = ("none", "null", "false")


def runtime_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank."""
    several = serving.layout.num_gpus > 1
    context = serving.constants.of("device_context_several_gpus_bytes" if several else "device_context_one_gpu_bytes")
    graphs = (settings.text(GRAPHS) or "").lower() not in OFF
    found = (
        _activations(serving, settings, rank),
        _expert_workspace(serving, settings, rank),
        _attention_workspace(serving, settings, rank),
        _all_reduce(serving, settings),
        _constant("cuda_graphs", "CUDA graphs", serving.constants.of("cuda_graphs_bytes")) if graphs else None,
        _constant("device_context", "CUDA context, libraries, collectives", context),
    )
    return tuple(entry for entry in found if entry is not None)


def _activations(serving: Serving, settings: Settings, rank: RankView) -> Line:
    """Residual streams with the widest mixer or dense feed-forward of one layer, over one batch of a rank.

    Logits are of the last token of each prompt alone: a few rows. Half to double, for what is alive at once was not read.
    """
    tokens = settings.count(TOKENS)
    widest = max([0, *(projected_elements(mixer, rank.division.attention) for mixer in mixers_of(rank.spec))])
    for ffn in dict.fromkeys(ffn for layer in rank.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn):
            widest = max(widest, (3 if ffn.gated else 2) * -(-ffn.width // rank.division.dense_mlp))
    size = ACTIVATION_ELEMENT_BYTES * tokens * (4 * serving.spec.hidden_size + widest)
    why = Why(
        "2 B x max_num_tokens x (4 h + widest mixer or dense feed-forward on this rank)",
        {"max_num_tokens": tokens, "hidden_size": serving.spec.hidden_size, "widest_elements": widest},
        "tensors alive in one layer of TensorRT-LLM _torch/models; with the experts' workspace 0.78 GiB where one public "
        "log has 0.85 (1.1.0rc3, gpt-oss-120b); not yet measured",
    )
    return line(
        "activations", "activations", size, "assumed", why, low_bytes=size / 2, high_bytes=2 * size,
    )  # fmt: skip


def _expert_workspace(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """rows x (max(h, I) + max(2 I, h)) x 2 B of the widest expert layer, whose buffers overlap in pairs.

    With attention data parallelism the experts see the tokens of all ranks, or at most `moe_config.max_num_tokens`; of
    these only the visits to local experts, evenly spread, are the low end.
    Source: TensorRT-LLM cpp/tensorrt_llm/kernels/cutlass_kernels/moe_gemm (workspace of the CUTLASS kernels).
    """
    batch = settings.count(TOKENS) * serving.layout.dp * serving.layout.dcp
    chunk = settings.count("moe_config.max_num_tokens") or batch
    tokens = min(batch, chunk)
    size = even = 0
    inputs: dict[str, int] = {}
    for ffn in dict.fromkeys(ffn for layer in rank.spec.layers for ffn in layer.ffns):
        if not isinstance(ffn, MoeFfn):
            continue
        local = -(-(ffn.num_experts + rank.division.redundant_experts) // rank.division.expert_ep)
        rows = tokens * min(ffn.experts_per_token, local)
        width, hidden = -(-ffn.expert_width // rank.division.expert_tp), ffn.latent_size or serving.spec.hidden_size
        columns = max(hidden, width) + max((2 if ffn.gated else 1) * width, hidden)
        if ACTIVATION_ELEMENT_BYTES * rows * columns > size:
            size = ACTIVATION_ELEMENT_BYTES * rows * columns
            even = size * ffn.experts_per_token // (rank.division.expert_ep * min(ffn.experts_per_token, local))
            inputs = {"rows": rows, "columns": columns}
    if not size:
        return None
    backend = expert_backend(serving, settings)
    why = Why(
        "tokens x experts_per_token x (max(h, I) + max(2 I, h)) x 2 B",
        inputs | {"backend": backend or "unknown"},
        "TensorRT-LLM cutlass_kernels/moe_gemm; other kernels are taken to need as much; not yet measured",
    )
    low = min(size, even) if backend == "CUTLASS" else min(size, even) / 4
    return line("expert_workspace", "experts' workspace", size, "assumed", why, low_bytes=low, high_bytes=1.5 * size)


def _attention_workspace(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """2 B x max_num_tokens x (queries + twice keys and values of a layer): 100,663,296 where a log has 100,738,816 B."""
    tokens, widest = settings.count(TOKENS), 0
    for mixer in mixers_of(rank.spec):
        if isinstance(mixer, GroupedAttention | LatentAttention | CompressedAttention):
            queries, keys_values = _attention_widths(mixer, rank.division.attention)
            widest = max(widest, queries + 2 * keys_values)
    if not widest:
        return None
    size = ACTIVATION_ELEMENT_BYTES * tokens * widest
    why = Why(
        "2 B x max_num_tokens x (queries + 2 x (keys + values)) on this rank",
        {"max_num_tokens": tokens, "elements": widest},
        "inferred from one public log (1.1.0rc3, gpt-oss-120b, 8192 tokens: 100,738,816 B); for latents not yet measured",
    )
    return line(
        "attention_workspace", "attention workspace", size, "assumed", why, low_bytes=size / 2, high_bytes=2 * size
    )


def _all_reduce(serving: Serving, settings: Settings) -> Line | None:
    """Buffers of the fused all-reduce: one of tp x size, and three for lamport.

    Allocated where ranks reach each other's memory. Attention data parallelism has no all-reduce in its layers.
    Source: TensorRT-LLM custom all-reduce helper (allocate_allreduce_fusion_workspace, max_workspace_size_auto).
    """
    tp, size = serving.layout.tp, serving.constants.of("allreduce_buffer_bytes")
    if tp == 1 or (settings.text("allreduce_strategy") or "").upper().startswith("NCCL"):
        return None
    linked = serving.hardware is None or serving.hardware.scale_up is not None
    used = linked and not serving.layout.dp_attention
    why = Why("4 x tp x buffer", {"tp": tp, "buffer_bytes": int(size.value)}, size.source)
    return line(
        "all_reduce_workspace", "all-reduce workspace", 4 * tp * size.value if used else 0, "assumed", why,
        low_bytes=4 * tp * size.low if used else 0, high_bytes=4 * tp * size.high,
    )  # fmt: skip


def _attention_widths(mixer: GroupedAttention | LatentAttention | CompressedAttention, ranks: int) -> tuple[int, int]:
    """Elements per token on one rank: queries, and keys with values."""
    match mixer:
        case GroupedAttention():
            kv = max(1, -(-mixer.num_kv_heads // ranks)) * (mixer.key_head_dim + mixer.value_head_dim)
            return -(-mixer.num_heads // ranks) * mixer.key_head_dim, kv
        case LatentAttention():
            heads, key = -(-mixer.num_heads // ranks), mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
            return heads * key, heads * (key + mixer.v_head_dim)
        case CompressedAttention():
            return -(-mixer.num_heads // ranks) * mixer.head_dim, 2 * mixer.head_dim
        case _:
            assert_never(mixer)


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
