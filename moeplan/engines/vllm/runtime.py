"""What vLLM holds on one rank beside weights and cache: activations, workspaces, graphs, context."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Serving, Settings
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import mixers_of, projected_elements
from moeplan.core.model import DenseFfn, LatentAttention, ModelSpec, MoeFfn
from moeplan.core.placement import RankView
from moeplan.engines.vllm.kernels import expert_backend, expert_format
from moeplan.engines.vllm.layout import is_moe
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
        _constant("attention_workspace", "attention workspace", constants.of("flashinfer_workspace_bytes"))
        if generation == "10" and not latent
        else None,
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


def _deepep(serving: Serving, settings: Settings) -> Line | None:
    backend = settings.text("--all2all-backend") or ""
    if not backend.startswith("deepep") or serving.layout.ep == 1:
        return None
    buffer = serving.constants.of("deepep_buffer_bytes")
    several = 2 if serving.layout.num_nodes > 1 else 1
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
    transients = ACTIVATION_ELEMENT_BYTES * batched_tokens * widest + latent
    scratch = 0 if serving.constants.at_least(KEEPS_WORKSPACE) else _expert_scratch(serving, settings, rank)[0]
    return line(
        "activations",
        "activations",
        max(per_cell.value * cells, transients, scratch),
        "assumed",
        Why(
            f"max({per_cell.value} B x max_num_seqs x vocabulary, "
            "2 B x max_num_batched_tokens x widest layer + latents projected up, scratch)",
            {
                "max_num_seqs": sequences,
                "vocab_size": serving.spec.vocab_size if cells else 0,
                "max_num_batched_tokens": batched_tokens,
                "widest_layer_elements": widest,
                "latent_prefill_bytes": latent,
                "expert_scratch_bytes": scratch,
            },
            per_cell.source,
        ),
        low_bytes=max(per_cell.low * cells, transients, scratch),
        high_bytes=max(per_cell.high * cells, 2 * transients, scratch),
    )


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
    """rows x (max(I, h) + max(2 I, h)) x 2 B of the widest expert layer; rows are those of one batch, with its copies.

    With data-parallel attention every rank's experts see the tokens of all ranks.
    Source: vLLM 0.33.0 fused_moe/modular_kernel.py.
    """
    size, inputs = 0, {}
    batched_tokens = settings.count("--max-num-batched-tokens")
    for ffn in dict.fromkeys(ffn for layer in rank.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, hidden = -(-ffn.expert_width // rank.division.expert_tp), ffn.latent_size or serving.spec.hidden_size
            rows = batched_tokens * ffn.experts_per_token
            columns = max(width, hidden) + max((2 if ffn.gated else 1) * width, hidden)
            if ACTIVATION_ELEMENT_BYTES * rows * columns > size:
                size = ACTIVATION_ELEMENT_BYTES * rows * columns
                inputs = {"rows": rows, "columns": columns}
    return size, inputs


def _workspace(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """The scratch buffer that expert kernels and the sparse indexer share: it grows to the larger request.

    Sources: vLLM 0.33.0 v1/worker/workspace.py users fused_moe/modular_kernel.py and sparse_attn_indexer.py.
    """
    kept = serving.constants.at_least(KEEPS_WORKSPACE)
    experts, inputs = _expert_scratch(serving, settings, rank) if kept else (0, {})
    indexer = _indexer_workspace(serving, rank)
    if not experts and not indexer:
        return None
    # Triton's fused kernel, the one of Hopper's 16-bit experts, takes all of this; its mxfp4 kernels and those of
    # Blackwell keep scratch of their own, or none.
    kind, backend = expert_format(serving) or "", expert_backend(serving, settings)
    without = backend in OWN_SCRATCH or (kind.startswith("mxfp4") and backend == "triton")
    stated = settings.text("--moe-backend") not in (None, "auto")
    known = not without and (stated or (_generation(serving) == "9" and kind in ("bf16", "fp16")))
    now = max(0 if without else experts, indexer)
    why = Why(
        "max(max_num_batched_tokens x experts_per_token x (max(I, h) + max(2I, h)) x 2 B, indexer rows x record)",
        inputs | {"indexer_bytes": indexer, "expert_format": kind, "backend": backend},
        "vLLM 0.33.0 fused_moe/modular_kernel.py and sparse_attn_indexer.py; none for mxfp4 through Triton "
        "(llm-d-planner report, gpt-oss-20b)",
    )
    return line(
        "expert_workspace", "kernels' workspace", now, "derived" if known or not experts else "assumed", why,
        low_bytes=now if known or not experts else indexer, high_bytes=max(experts, indexer),
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
