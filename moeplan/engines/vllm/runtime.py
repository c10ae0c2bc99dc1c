"""What vLLM holds on one rank beside weights and cache: copies, padding, workspaces, activations, graphs, context."""

from __future__ import annotations

from typing import assert_never

from moeplan.core.deployment import Constant, Constants, Deployment, Option
from moeplan.core.hardware import Hardware
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    DenseFfn,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
    RoutedAttention,
    ShortConvolution,
)
from moeplan.engines.vllm.cache import mixers_of

ACTIVATION_ELEMENT_BYTES = 2
"""Activations are 16-bit whatever the weights are stored in."""

LONG_CONTEXT_TOKENS = 256 * 1024
"""Beyond this the indexer's workspace holds fewer rows per token (config/vllm.py)."""


def runtime_lines(
    spec: ModelSpec,
    deployment: Deployment,
    options: tuple[Option, ...],
    hardware: Hardware,
    constants: Constants,
    weights: tuple[Line, ...],
) -> tuple[Line, ...]:
    """All such lines of one rank; `weights` are its weight lines, which decide on kernels and their padding."""
    settings = {option.flag: option.value for option in options}
    batched_tokens = int(settings["--max-num-batched-tokens"] or 0)
    sequences = int(settings["--max-num-seqs"] or 0)
    experts = next((entry for entry in weights if entry.role == "routed_experts"), None)
    expert_format = _main_format(experts) if experts else None
    generation = (hardware.compute_capability or "").partition(".")[0]
    several = "non_torch_one_gpu_bytes" if deployment.tp == 1 else "non_torch_several_gpus_bytes"
    found = (
        _absorbed(spec, deployment.tp),
        _expert_padding(spec, deployment.tp, experts, expert_format, generation),
        _activation(spec, deployment.tp, batched_tokens, sequences, constants),
        _workspace(spec, deployment, batched_tokens, expert_format, generation, constants),
        _constant("attention_workspace", "attention workspace", constants.of("flashinfer_workspace_bytes"))
        if generation == "10" and not any(isinstance(mixer, LatentAttention) for mixer in mixers_of(spec))
        else None,
        _constant("cuda_graphs", "CUDA graphs", constants.of("cuda_graphs_bytes")),
        _constant("device_context", "CUDA context and libraries", constants.of(several)),
    )
    return tuple(entry for entry in found if entry is not None)


def _main_format(experts: Line) -> str | None:
    """The format that most bytes of the routed experts are in: it decides on their kernels."""
    by_format: dict[str, int] = experts.why.inputs["bytes_by_format"]
    return max(by_format, key=lambda name: by_format[name], default=None)


def _absorbed(spec: ModelSpec, tp: int) -> Line | None:
    elements = 0
    for layer in spec.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, LatentAttention):
                heads = -(-mixer.num_heads // tp)
                elements += mixer.kv_lora_rank * heads * (mixer.qk_nope_head_dim + mixer.v_head_dim)
    if not elements:
        return None
    why = Why(
        "layers x kv_lora_rank x heads / tp x (qk_nope_head_dim + v_head_dim) x 2 B",
        {"elements": elements},
        "vLLM 0.33.0 layers/attention/mla_attention.py: W_UK and W_UV stay beside kv_b_proj",
    )
    size = ACTIVATION_ELEMENT_BYTES * elements
    return line("absorbed_projections", "latent attention, 16-bit copies", size, "derived", why, role="attention")


def _expert_padding(
    spec: ModelSpec, tp: int, experts: Line | None, expert_format: str | None, generation: str
) -> Line | None:
    """What kernels add to mxfp4 experts whose sizes they cannot take: hidden to 256, one rank's width to 64 or 128.

    Source: vLLM 0.33.0 fused_moe/oracle/mxfp4.py for Marlin (128) and for the width of Triton (64); that the Triton
    kernels of Hopper and Blackwell pad the hidden size too was inferred from two logs (gpt-oss-120b 64.38 GiB,
    gpt-oss-20b 13.47 GiB).
    """
    if experts is None or not (expert_format or "").startswith("mxfp4"):
        return None
    ffn = next(ffn for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn))
    hidden, width = ffn.latent_size or spec.hidden_size, -(-ffn.expert_width // tp)
    wider = -(-hidden // 256) * 256 / hidden
    triton, marlin = (wider * (-(-width // step) * step / width) for step in (64, 128))
    if marlin == 1:
        return None
    factor = triton if generation in ("9", "10") else marlin
    why = Why(
        "expert bytes x (hidden size padded to 256, and one rank's width to 64 or for Marlin 128, over their sizes - 1)",
        {"expert_bytes": experts.bytes, "hidden_size": hidden, "expert_width": width},
        "vLLM 0.33.0 fused_moe/oracle/mxfp4.py; which kernel runs was not chosen here",
    )
    sizes = [experts.bytes * (share - 1) for share in (factor, 1, marlin)]
    return line(
        "expert_padding", "padding of expert kernels", sizes[0], "assumed", why,
        role="routed_experts", low_bytes=sizes[1], high_bytes=sizes[2],
    )  # fmt: skip


def _activation(spec: ModelSpec, tp: int, batched_tokens: int, sequences: int, constants: Constants) -> Line:
    """Peak of the profiling pass: the sampler over `sequences` rows hides a layer's transients, or they hide it."""
    per_cell = constants.of("sampler_bytes_per_sequence_and_token_id")
    cells = sequences * spec.vocab_size
    widest = max(_transient_width(spec, tp), 1)
    transients = ACTIVATION_ELEMENT_BYTES * batched_tokens * widest
    return line(
        "activations",
        "activations",
        max(per_cell.value * cells, transients),
        "assumed",
        Why(
            "max(15.2 B x max_num_seqs x vocabulary, 2 B x max_num_batched_tokens x widest layer)",
            {
                "max_num_seqs": sequences,
                "vocab_size": spec.vocab_size,
                "max_num_batched_tokens": batched_tokens,
                "widest_layer_elements": widest,
            },
            per_cell.source,
        ),
        low_bytes=max(per_cell.low * cells, transients),
        high_bytes=max(per_cell.high * cells, 2 * transients),
    )


def _transient_width(spec: ModelSpec, tp: int) -> int:
    """Elements per token alive in the widest layer: residual streams with the widest mixer's or feed-forward's own."""
    widest = 0
    for layer in dict.fromkeys(spec.layers):
        widest = max([widest, *(_mixer_width(mixer, tp) for mixer in layer.mixers)])
        for ffn in layer.ffns:
            if isinstance(ffn, DenseFfn):
                widest = max(widest, 2 * -(-ffn.width // tp))
    return widest + 4 * spec.hidden_size


def _mixer_width(mixer: Mixer, tp: int) -> int:
    """Elements per token that a mixer projects to, on one rank: queries with keys and values, or its channels."""
    match mixer:
        case GroupedAttention():
            heads = -(-mixer.num_heads // tp) + 2 * max(1, mixer.num_kv_heads // tp)
            return heads * mixer.key_head_dim
        case CrossAttention():
            return 3 * -(-mixer.num_heads // tp) * mixer.head_dim
        case RoutedAttention():
            return (mixer.experts_per_token + 2) * -(-mixer.num_kv_heads // tp) * mixer.head_dim
        case LatentAttention():
            head = 2 * (mixer.qk_nope_head_dim + mixer.qk_rope_head_dim) + mixer.v_head_dim
            return -(-mixer.num_heads // tp) * head
        case CompressedAttention():
            return -(-mixer.num_heads // tp) * mixer.head_dim + 2 * mixer.head_dim
        case GatedDelta():
            key = -(-mixer.num_key_heads // tp) * mixer.key_head_dim
            return 2 * key + 2 * -(-mixer.num_value_heads // tp) * mixer.value_head_dim
        case KimiDelta() | LightningAttention():
            return 4 * -(-mixer.num_heads // tp) * mixer.head_dim
        case Mamba1():
            return 2 * -(-mixer.inner_size // tp)
        case Mamba2():
            return 2 * -(-mixer.num_heads // tp) * mixer.head_dim + 2 * mixer.num_groups * mixer.state_size
        case ShortConvolution():
            return 3 * -(-mixer.channels // tp)
        case _:
            assert_never(mixer)


def _workspace(
    spec: ModelSpec,
    deployment: Deployment,
    batched_tokens: int,
    expert_format: str | None,
    generation: str,
    constants: Constants,
) -> Line | None:
    """The scratch buffer that expert kernels and the sparse indexer share: it grows to the larger request.

    Sources: vLLM 0.33.0 v1/worker/workspace.py users fused_moe/modular_kernel.py (rows x (max(I, h) + max(2I, h)) x 2 B)
    and sparse_attn_indexer.py (rows of indexer keys per token of max_model_len).
    """
    size, inputs = 0, {}
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, hidden = -(-ffn.expert_width // deployment.tp), ffn.latent_size or spec.hidden_size
            rows = batched_tokens * ffn.experts_per_token
            columns = max(width, hidden) + max((2 if ffn.gated else 1) * width, hidden)
            if ACTIVATION_ELEMENT_BYTES * rows * columns > size:
                size = ACTIVATION_ELEMENT_BYTES * rows * columns
                inputs = {"rows": rows, "columns": columns}
    experts, indexer = size, _indexer_workspace(spec, deployment, constants)
    if not experts and not indexer:
        return None
    # Which kernel runs was not chosen here. Triton's fused kernel, the one of Hopper's 16-bit experts, takes all of
    # this; its mxfp4 kernels and the kernels of Blackwell keep scratch of their own, or none.
    without = (expert_format or "").startswith("mxfp4") or generation == "10"
    known = generation == "9" and expert_format in ("bf16", "fp16")
    now = max(0 if without else experts, indexer)
    why = Why(
        "max(max_num_batched_tokens x experts_per_token x (max(I, h) + max(2I, h)) x 2 B, indexer rows x record)",
        inputs | {"indexer_bytes": indexer, "expert_format": expert_format},
        "vLLM 0.33.0 fused_moe/modular_kernel.py and sparse_attn_indexer.py; none for mxfp4 through Triton "
        "(llm-d-planner report, gpt-oss-20b)",
    )
    return line(
        "expert_workspace", "kernels' workspace", now, "derived" if known or not experts else "assumed", why,
        low_bytes=now if known or not experts else indexer, high_bytes=max(experts, indexer),
    )  # fmt: skip


def _indexer_workspace(spec: ModelSpec, deployment: Deployment, constants: Constants) -> int:
    indexers = [m.indexer for m in mixers_of(spec) if isinstance(m, LatentAttention) and m.indexer is not None]
    if not indexers:
        return 0
    long = deployment.context_tokens > LONG_CONTEXT_TOKENS
    rows = constants.of(f"indexer_workspace_rows_per_{'long_' if long else ''}context_token").value
    keys = indexers[0].cached_elements
    return int(deployment.context_tokens * rows * (keys + 4 * -(-keys // 128)))


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
