"""What SGLang holds on one rank beside weights and cache: context, communicators, activations, workspaces, graphs."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import projected_elements
from moeplan.core.model import DenseFfn, ModelSpec, MoeFfn
from moeplan.core.placement import RankView
from moeplan.core.units import GIB, MIB
from moeplan.engines.sglang.attention import is_amd, workspace
from moeplan.engines.sglang.fraction import MIB_PER_ACTIVATION_TOKEN, dp_padding_mib, graphs_mib, runs_towers
from moeplan.engines.sglang.graphs import prefill_graphs
from moeplan.engines.sglang.layout import ONE_RANK_PER_EXPERT, a2a_backend, attention_dp
from moeplan.engines.sglang.registry import is_recurrent
from moeplan.engines.sglang.settings import REQUESTS, graph_batch_of, requests_per_rank, step_tokens

ACTIVATION_ELEMENT_BYTES = 2
"""Activations are 16-bit whatever the weights are stored in."""
ACTIVATION_SPREAD = 3
TABLE_ENTRY_BYTES, TABLE_SPARE_TOKENS = 4, 4
FEWEST_REQUESTS = 2048
"""The fewest that run by default, where the pool holds few requests of the full length."""
DEEPEP_BACKENDS = ("deepep", "deepep_v2", "mooncake", "nixl", "mori", "pplx", "ascend_fuseep")
SYMMETRIC_BYTES_FLAG = "SGLANG_SYMM_MEM_PREALLOC_GB_SIZE"
TOWER_CACHE_FLAG = "SGLANG_VLM_CACHE_SIZE_MB"
WORKSPACE_FLAG = "SGLANG_FLASHINFER_WORKSPACE_SIZE"
ON_DEVICE_TRANSPORTS = ("cuda_ipc", "cuda_vmm")
"""Ways of `--mm-feature-transport` that keep a GiB of the device (mem_cache/kv_cache_configurator.py)."""


def runtime_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank."""
    found = (
        _constant("device_context", "device context and libraries", serving.constants.of("device_context_bytes")),
        _collectives(serving, settings),
        _symmetric_memory(serving, settings),
        _request_table(serving, settings),
        _activation(serving, settings, rank),
        _workspace(serving, settings),
        _deepep(serving),
        _graphs(serving, settings),
        _tower_cache(serving, settings),
    )
    return tuple(entry for entry in found if entry is not None)


def _collectives(serving: Serving, settings: Settings) -> Line | None:
    """NCCL and the custom all-reduce, which are there before memory is measured; less where the link is slow."""
    layout, hardware = serving.layout, serving.hardware
    if layout.tp * layout.pp == 1:
        return None
    fast = hardware is None or hardware.scale_up is not None
    slow = not fast or layout.tp == 1 or settings.on("--disable-custom-all-reduce") or is_amd(serving)
    name = "collectives_slow_bytes" if slow else "collectives_bytes"
    return _constant("collectives", "communicators", serving.constants.of(name))


def _symmetric_memory(serving: Serving, settings: Settings) -> Line | None:
    if not settings.on("--enable-symm-mem"):
        return None
    stated = settings.count(SYMMETRIC_BYTES_FLAG)
    constant = serving.constants.of("symmetric_memory_bytes")
    entry = _constant("symmetric_memory", "symmetric memory", constant)
    return entry._replace(bytes=stated, low_bytes=stated, high_bytes=stated) if stated else entry


def _request_table(serving: Serving, settings: Settings) -> Line:
    """Slots of the cache by request and position: (requests + 1) x (context + 4) x 4 B (mem_cache/memory_pool.py).

    Without a stated limit 2048 to 4096 requests may run, by how many of the full length the pool holds. With recurrent
    layers there are no more than the states allow, far fewer: then those that were asked for are counted.
    """
    width = TABLE_ENTRY_BYTES * (serving.deployment.context_tokens + TABLE_SPARE_TOKENS)
    most = requests_per_rank(serving, settings)
    stated = serving.deployment.stated.get(REQUESTS) is not None
    asked = serving.deployment.sequences_per_rank
    likely = asked if is_recurrent(serving.spec) and not stated else most
    fewest = likely if stated else min(likely, max(asked, FEWEST_REQUESTS))
    why = Why(
        "(max_running_requests + 1) x (context_tokens + 4) x 4 B",
        {"max_running_requests": likely, "context_tokens": serving.deployment.context_tokens},
        "SGLang 0.5.23 srt/mem_cache/memory_pool.py:ReqToTokenPool",
    )
    return line(
        "request_table", "table of requests", (likely + 1) * width, "derived" if stated else "assumed", why,
        low_bytes=(fewest + 1) * width, high_bytes=(most + 1) * width,
    )  # fmt: skip


def _activation(serving: Serving, settings: Settings, rank: RankView) -> Line:
    """Peak of a prefill step: the widest layer and the experts' scratch; or the logits of a decode step.

    The high end is three times that, but no more than what the engine's own formula sets aside for activations.
    """
    tokens, asked = step_tokens(serving, settings), serving.deployment.sequences_per_rank
    per_cell = serving.constants.of("logits_bytes_per_sequence_and_token_id")
    cells = asked * serving.spec.vocab_size if rank.place.stage.is_last else 0
    widest = _transient_width(rank.spec, rank.division.attention)
    transients = ACTIVATION_ELEMENT_BYTES * tokens * widest
    scratch = _expert_scratch_bytes(serving, rank, tokens)
    likely = max(transients + scratch, per_cell.value * cells)
    allowed = max(MIB_PER_ACTIVATION_TOKEN * MIB * tokens, likely)
    most = max(min(ACTIVATION_SPREAD * likely, allowed), per_cell.high * cells)
    return line(
        "activations", "activations", likely, "assumed",
        Why(
            f"max(2 B x tokens of a step x widest layer + experts' scratch, {per_cell.value:g} B x sequences x vocabulary)",
            {
                "step_tokens": tokens,
                "widest_layer_elements": widest,
                "expert_scratch_bytes": scratch,
                "sequences": asked,
                "vocab_size": serving.spec.vocab_size if cells else 0,
            },
            "not yet measured; the engine itself allows 1.5 MiB per token (SGLang 0.5.23 srt/arg_groups/memory_hook.py)",
        ),
        low_bytes=max(min(transients, likely), per_cell.low * cells), high_bytes=most,
    )  # fmt: skip


def _expert_scratch_bytes(serving: Serving, rank: RankView, tokens: int) -> int:
    """tokens x experts per token x (width after the gate + the larger of both products) x 2 B, of the widest layer.

    Experts see the tokens of all data-parallel groups (layers/moe/fused_moe_triton/fused_moe.py); where these are sent to
    the ranks that need them, each sees its share.
    """
    seen = tokens * attention_dp(serving.layout)
    if a2a_backend(serving.deployment.stated) in ONE_RANK_PER_EXPERT:
        seen = -(-seen // serving.layout.ep)
    size = 0
    for ffn in dict.fromkeys(ffn for layer in rank.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, hidden = -(-ffn.expert_width // rank.division.expert_tp), ffn.latent_size or serving.spec.hidden_size
            columns = width + max((2 if ffn.gated else 1) * width, hidden)
            size = max(size, ACTIVATION_ELEMENT_BYTES * seen * ffn.experts_per_token * columns)
    return size


def _transient_width(spec: ModelSpec, ranks: int) -> int:
    """Elements per token alive in the widest layer: residual streams with the widest mixer's or feed-forward's own."""
    widest = 0
    for layer in dict.fromkeys(spec.layers):
        widest = max([widest, *(projected_elements(mixer, ranks) for mixer in layer.mixers)])
        for ffn in layer.ffns:
            if isinstance(ffn, DenseFfn):
                widest = max(widest, (3 if ffn.gated else 2) * -(-ffn.width // ranks))
    return widest + 4 * spec.hidden_size


def _workspace(serving: Serving, settings: Settings) -> Line | None:
    name = workspace(serving)
    if name is None:
        return None
    entry = _constant("attention_workspace", "attention workspace", serving.constants.of(name))
    stated = settings.count(WORKSPACE_FLAG)
    return entry._replace(bytes=stated, low_bytes=stated, high_bytes=stated) if stated else entry


def _deepep(serving: Serving) -> Line | None:
    if a2a_backend(serving.deployment.stated) not in DEEPEP_BACKENDS or serving.layout.ep == 1:
        return None
    return _constant("deepep_buffers", "all-to-all buffers", serving.constants.of("deepep_buffer_bytes"))


def _graphs(serving: Serving, settings: Settings) -> Line | None:
    tokens, batch = step_tokens(serving, settings) * attention_dp(serving.layout), graph_batch_of(settings)
    reserve = graphs_mib(serving, tokens, batch, prefill=prefill_graphs(serving))
    if not reserve:
        return None
    factor = serving.constants.of("graphs_of_reserve")
    padded = reserve + dp_padding_mib(serving, batch)
    why = Why(
        "the engine's own reserve for its graphs: 2 MiB x largest decode batch + 8 MiB x sizes of prefill (latents: 1.5 GiB)",
        {"reserve_mib": reserve, "cuda_graph_max_bs": batch},
        factor.source,
    )
    return line(
        "cuda_graphs", "CUDA graphs", factor.value * reserve * MIB, "assumed", why,
        low_bytes=factor.low * reserve * MIB, high_bytes=max(factor.high * reserve, padded) * MIB,
    )  # fmt: skip


def _tower_cache(serving: Serving, settings: Settings) -> Line | None:
    """Embeddings of pictures that are kept, taken out of the share of weights and cache."""
    if not runs_towers(serving):
        return None
    entry = _constant("multimodal_cache", "cache of picture embeddings", serving.constants.of("multimodal_cache_bytes"))
    stated = settings.value(TOWER_CACHE_FLAG)
    size = stated if isinstance(stated, int) else entry.bytes
    if settings.text("--mm-feature-transport") in ON_DEVICE_TRANSPORTS:
        size += GIB
    return entry._replace(bytes=size, low_bytes=size, high_bytes=size)


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
