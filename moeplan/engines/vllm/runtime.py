"""What vLLM holds on one rank beside weights and cache: activations, workspaces, graphs, context."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import mixers_of, projected_elements
from moeplan.core.model import DenseFfn, LatentAttention, ModelSpec, MoeFfn
from moeplan.core.placement import RankView
from moeplan.engines.vllm.kernels import expert_backend, expert_format
from moeplan.engines.vllm.layout import gathers_tokens, is_moe
from moeplan.engines.vllm.settings import captures_graphs

ACTIVATION_ELEMENT_BYTES = 2
"""Activations are 16-bit whatever the weights are stored in."""

LONG_CONTEXT_TOKENS = 256 * 1024
"""Beyond this the indexer's workspace holds fewer rows per token (config/vllm.py)."""
OWN_SCRATCH = ("flashinfer_trtllm", "flashinfer_cutlass", "cutlass")
"""Expert kernels that keep scratch of their own, in place of the shared workspace."""
KEEPS_WORKSPACE = "0.17"
"""Since this release the workspace of experts stays allocated; before it was freed after each layer."""


def runtime_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank."""
    generation = _generation(serving)
    latent = any(isinstance(mixer, LatentAttention) for mixer in mixers_of(serving.spec))
    constants = serving.constants
    found = (
        _activation(serving, settings, rank),
        _workspace(serving, settings, rank),
        _attention_workspace(serving, settings) if generation == "10" and not latent else None,
        _deepep(serving, settings),
        _constant("cuda_graphs", "CUDA graphs", constants.of("cuda_graphs_bytes"))
        if captures_graphs(settings)
        else None,
        _constant("device_context", _context_label(serving), constants.of(_non_torch(serving, settings))),
    )
    return tuple(entry for entry in found if entry is not None)


def _generation(serving: Serving) -> str:
    return ((serving.hardware.compute_capability if serving.hardware else None) or "").partition(".")[0]


def _context_label(serving: Serving) -> str:
    return "CUDA context and libraries" if serving.layout.num_gpus == 1 else "CUDA context, collectives"


def _non_torch(serving: Serving, settings: Settings) -> str:
    """Name of the constant for what is held outside torch: it depends on how many ranks talk over which link."""
    layout, hardware = serving.layout, serving.hardware
    if layout.num_gpus == 1:
        return "non_torch_one_gpu_bytes"
    # Experts are shared out over data-parallel ranks too, with or without expert parallelism: these ranks talk.
    if layout.tp == 1 and (layout.dp == 1 or not is_moe(serving.spec)):
        return "non_torch_pipeline_bytes"
    fast = hardware is None or hardware.scale_up is not None
    if not fast or settings.on("--disable-custom-all-reduce"):
        return "non_torch_pcie_bytes"
    return "non_torch_nodes_bytes" if layout.num_nodes > 1 else "non_torch_several_gpus_bytes"


def _attention_workspace(serving: Serving, settings: Settings) -> Line:
    """FlashInfer's buffer of VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE bytes (vLLM 0.33.0 envs.py)."""
    constant = serving.constants.of("flashinfer_workspace_bytes")
    stated = settings.count("VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE")
    if stated:
        constant = constant._replace(value=stated, low=stated, high=stated)
    return _constant("attention_workspace", "attention workspace", constant)


def _deepep(serving: Serving, settings: Settings) -> Line | None:
    """Buffers of DeepEP, where experts are spread as wholes over data-parallel ranks.

    Source: vLLM 0.33.0 fused_moe/config.py:use_all2all_kernels, distributed/device_communicators/all2all.py; the size is
    VLLM_DEEPEP_BUFFER_SIZE_MB.
    """
    backend, layout = settings.text("--all2all-backend") or "", serving.layout
    if not backend.startswith("deepep") or layout.ep == 1 or layout.dp == 1:
        return None
    buffer, stated = serving.constants.of("deepep_buffer_bytes"), settings.count("VLLM_DEEPEP_BUFFER_SIZE_MB")
    if stated:
        share = stated / buffer.value
        buffer = buffer._replace(value=stated, low=share * buffer.low, high=share * buffer.high)
    several = 2 if layout.num_nodes > 1 else 1
    entry = _constant("deepep_buffers", "DeepEP buffers", buffer)
    return entry._replace(
        bytes=several * entry.bytes,
        low_bytes=several * entry.low_bytes,
        high_bytes=several * entry.high_bytes,
        why=entry.why._replace(formula="NVLink buffer, and as much for RDMA across nodes", inputs={"buffers": several}),
    )


def _activation(serving: Serving, settings: Settings, rank: RankView) -> Line:
    """Peak of the profiling pass: the sampler over `max_num_seqs` rows hides a layer's transients, or they hide it.

    The sampler runs on the last stage. Before 0.17 the experts' scratch was freed after each layer, and so was one more
    of these transients.
    """
    batched_tokens, sequences = settings.count("--max-num-batched-tokens"), settings.count("--max-num-seqs")
    per_cell = serving.constants.of("sampler_bytes_per_sequence_and_token_id")
    cells = sequences * serving.spec.vocab_size if rank.place.stage.is_last else 0
    widest = max(_transient_width(rank.spec, rank.division.attention), 1)
    latent = _latent_prefill_bytes(serving, settings, rank)
    gathered = _gathered_elements(serving, settings, rank)
    transients = ACTIVATION_ELEMENT_BYTES * max(batched_tokens * widest, gathered) + latent
    scratch = 0 if serving.constants.at_least(KEEPS_WORKSPACE) else _expert_scratch(serving, settings, rank)[0]
    return line(
        "activations",
        "activations",
        max(per_cell.value * cells, transients, scratch),
        "assumed",
        Why(
            f"max({per_cell.value} B x max_num_seqs x vocabulary, "
            "2 B x max(max_num_batched_tokens x widest layer, gathered tokens) + latents projected up, scratch)",
            {
                "max_num_seqs": sequences,
                "vocab_size": serving.spec.vocab_size if cells else 0,
                "max_num_batched_tokens": batched_tokens,
                "widest_layer_elements": widest,
                "gathered_elements": gathered,
                "latent_prefill_bytes": latent,
                "expert_scratch_bytes": scratch,
            },
            per_cell.source,
        ),
        low_bytes=max(per_cell.low * cells, transients, scratch),
        high_bytes=max(per_cell.high * cells, 2 * transients, scratch),
    )


def _gathered_elements(serving: Serving, settings: Settings, rank: RankView) -> int:
    """Elements of a batch's residual streams with the tokens of all data-parallel ranks gathered beside them; 0 where
    none are (all2all.py:AgRsAll2AllManager.dispatch)."""
    copies = _ranks_gathered(serving, settings)
    if copies == 1 or not is_moe(rank.spec):
        return 0
    return settings.count("--max-num-batched-tokens") * (4 + copies) * serving.spec.hidden_size


def _latent_prefill_bytes(serving: Serving, settings: Settings, rank: RankView) -> int:
    """What the profiling pass sets aside for latents of earlier chunks, projected up to heads.

    Rows: 8 x max_model_len or 4 blocks for every sequence, whichever is more, up to a limit that was halved in 2025.
    Source: vLLM 0.33.0 layers/attention/mla_attention.py:determine_chunked_prefill_workspace_size and forward.
    """
    widths = [
        -(-mixer.num_heads // rank.division.attention) * (mixer.qk_nope_head_dim + mixer.v_head_dim)
        for mixer in mixers_of(rank.spec)
        if isinstance(mixer, LatentAttention)
    ]
    if not widths:
        return 0
    block = settings.count("--block-size") or int(serving.constants.of("block_tokens").value)
    wanted = max(8 * serving.deployment.context_tokens, 4 * settings.count("--max-num-seqs") * block)
    rows = min(wanted, int(serving.constants.of("latent_prefill_most_rows").value))
    return ACTIVATION_ELEMENT_BYTES * rows * max(widths)


def _transient_width(spec: ModelSpec, tp: int) -> int:
    """Elements per token alive in the widest layer: residual streams with the widest mixer's or feed-forward's own."""
    widest = 0
    for layer in dict.fromkeys(spec.layers):
        widest = max([widest, *(projected_elements(mixer, tp) for mixer in layer.mixers)])
        for ffn in layer.ffns:
            if isinstance(ffn, DenseFfn):
                widest = max(widest, 2 * -(-ffn.width // tp))
    return widest + 4 * spec.hidden_size


def _expert_scratch(serving: Serving, settings: Settings, rank: RankView) -> tuple[int, dict[str, int]]:
    """rows x (max(I, h) + max(2 I, h)) x 2 B of the widest expert layer; rows are tokens x experts per token.

    Tokens are those of a batch; of the batches of all data-parallel ranks where these are gathered. Before 0.17 larger
    batches were taken in chunks (PR 34086 removed that).
    Source: vLLM 0.33.0 fused_moe/modular_kernel.py (_allocate_buffers by the rows that dispatch hands over) and
    fused_moe/experts/triton_moe.py:workspace_shapes.
    """
    size, inputs = 0, {}
    tokens = settings.count("--max-num-batched-tokens") * _ranks_gathered(serving, settings)
    if not serving.constants.at_least(KEEPS_WORKSPACE):
        chunk = settings.count("VLLM_FUSED_MOE_CHUNK_SIZE") or int(serving.constants.of("expert_chunk_tokens").value)
        tokens = min(tokens, chunk)
    for ffn in dict.fromkeys(ffn for layer in rank.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, hidden = -(-ffn.expert_width // rank.division.expert_tp), ffn.latent_size or serving.spec.hidden_size
            rows = tokens * ffn.experts_per_token
            columns = max(width, hidden) + max((2 if ffn.gated else 1) * width, hidden)
            if ACTIVATION_ELEMENT_BYTES * rows * columns > size:
                size = ACTIVATION_ELEMENT_BYTES * rows * columns
                inputs = {"tokens": tokens, "rows": rows, "columns": columns}
    return size, inputs


def _ranks_gathered(serving: Serving, settings: Settings) -> int:
    """Data-parallel ranks whose tokens every rank's experts see at once."""
    return serving.layout.dp if gathers_tokens(serving.layout, settings.text("--all2all-backend")) else 1


def _workspace(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """The scratch buffer that expert kernels and the sparse indexer share: it grows to the larger request.

    Where tokens are sent to their experts alone (DeepEP and its like), a rank may be sent those of all data-parallel
    ranks: that is the high end.
    Sources: vLLM 0.33.0 v1/worker/workspace.py users fused_moe/modular_kernel.py and sparse_attn_indexer.py.
    """
    kept = serving.constants.at_least(KEEPS_WORKSPACE)
    experts, inputs = _expert_scratch(serving, settings, rank) if kept else (0, {})
    sent = serving.layout.dp if serving.layout.dp_attention and _ranks_gathered(serving, settings) == 1 else 1
    indexer = _indexer_workspace(serving, rank)
    if not experts and not indexer:
        return None
    # Triton's fused kernel, the one of Hopper's 16-bit experts, takes all of this; its mxfp4 kernels and those of
    # Blackwell keep scratch of their own, or none.
    kind, backend = expert_format(serving) or "", expert_backend(serving, settings)
    without = backend in OWN_SCRATCH or (kind.startswith("mxfp4") and backend == "triton")
    stated = settings.text("--moe-backend") not in (None, "auto")
    known = not without and sent == 1 and (stated or (_generation(serving) == "9" and kind in ("bf16", "fp16")))
    now = max(0 if without else experts, indexer)
    why = Why(
        "max(tokens x experts_per_token x (max(I, h) + max(2I, h)) x 2 B, indexer rows x record); tokens are "
        "max_num_batched_tokens of all data-parallel ranks whose tokens are gathered",
        inputs | {"indexer_bytes": indexer, "expert_format": kind, "backend": backend},
        "vLLM 0.33.0 fused_moe/modular_kernel.py and sparse_attn_indexer.py; none for mxfp4 through Triton "
        "(llm-d-planner report, gpt-oss-20b)",
    )
    low = now if known or not experts else indexer
    if sent > 1 and not without:
        low = now
    return line(
        "expert_workspace", "kernels' workspace", now, "derived" if known or not experts else "assumed", why,
        low_bytes=low, high_bytes=max(sent * experts, indexer),
    )  # fmt: skip


def _indexer_workspace(serving: Serving, rank: RankView) -> int:
    indexers = [m.indexer for m in mixers_of(rank.spec) if isinstance(m, LatentAttention) and m.indexer is not None]
    if not indexers:
        return 0
    context = serving.deployment.context_tokens
    long = context > LONG_CONTEXT_TOKENS
    rows = serving.constants.of(f"indexer_workspace_rows_per_{'long_' if long else ''}context_token").value
    keys = indexers[0].cached_elements
    return int(context * rows * (keys + 4 * -(-keys // 128)))


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
