"""What llama.cpp keeps on a device beside weights and cache: compute buffers, copies, the device's context.

Source: llama.cpp b11312 src/llama-context.cpp:sched_reserve, ggml/src/ggml-backend.cpp (splits and their copies).
"""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.deployment import Constant, Serving, Settings
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import Layer
from moeplan.core.placement import RankView
from moeplan.core.quant import BF16, FP16, GGUF, WeightFormat, fitted, stored, tensor_bytes
from moeplan.core.weights import Owned
from moeplan.engines.llamacpp.graph import FLOAT_BYTES, graph
from moeplan.engines.llamacpp.layout import is_pipelined, placed
from moeplan.engines.llamacpp.offload import host_share
from moeplan.engines.llamacpp.settings import chosen, on_cpu, switched_off, ubatch_tokens

OFFLOADED_FROM_TOKENS = 32
"""Batches from this size on are computed on the device though their weights are on the host (ggml-cuda.cu)."""
INPUTS = {True: 1, False: 2}
"""Hidden states that a device receives from the one before it; the first the embeddings alone."""


def runtime_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """Compute buffer and device context; a processor has none of its own, and keeps the logits of all sequences."""
    if on_cpu(serving):
        return (_compute_line(serving, settings, rank), logits_line(serving))
    return (
        _compute_line(serving, settings, rank),
        _constant("device_context", "device context, libraries, matrix scratch", serving.constants.of("device_context_bytes")),
    )  # fmt: skip


def logits_line(serving: Serving) -> Line:
    """One row of logits for every sequence, in host memory."""
    sequences = serving.deployment.sequences_per_rank
    why = Why(
        "4 B x vocabulary x sequences",
        {"sequences": sequences},
        f"llama.cpp {serving.constants.version}, src/llama-context.cpp:output_reserve",
    )
    return line(
        "host.output", "logits of all sequences", FLOAT_BYTES * serving.spec.vocab_size * sequences, "derived", why
    )


def device_layers(serving: Serving, settings: Settings, rank: RankView) -> tuple[Layer, ...]:
    """Layers of a rank that are on its device."""
    skipped = max(0, placed(serving, chosen(settings)).host_layers - rank.place.stage.first_layer)
    return rank.spec.layers[skipped:]


def _compute_line(serving: Serving, settings: Settings, rank: RankView) -> Line:
    """Masks and inputs in as many copies as the pipeline has, then the wider of activations and logits.

    Beside weights that stay on the host, the largest of their tensors: the first device computes with a copy.
    """
    spec, deployment, constants = serving.spec, serving.deployment, serving.constants
    values, stage = chosen(settings), rank.place.stage
    sequences = deployment.sequences_per_rank
    tokens = ubatch_tokens(settings, deployment.context_tokens, sequences)
    layers = device_layers(serving, settings, rank)
    size = graph(serving, settings, layers, rank.division.attention)
    copies = int(constants.of("pipeline_copies").value) if is_pipelined(serving, values) else 1
    inputs = FLOAT_BYTES * tokens * spec.hidden_size * INPUTS[stage.is_first] * copies if copies > 1 else 0
    logits = lent = 0
    rows = tokens if constants.of("logits_of_all_tokens").value else min(tokens, sequences)
    if stage.is_first and not placed(serving, values).output and rows >= OFFLOADED_FROM_TOKENS:
        lent = _lent_output_bytes(serving, settings, tokens, rows)
    if stage.is_last and placed(serving, values).output:
        logits = FLOAT_BYTES * rows * -(-spec.vocab_size // rank.division.lm_head)
    moved = _moved_bytes(serving, settings) if stage.is_first and tokens >= OFFLOADED_FROM_TOKENS else 0
    factor = constants.of("activations_factor")
    fixed = copies * size.masks + inputs + moved

    def peak(share: float) -> float:
        return max(fixed + max(share * size.activations + size.scores, logits), lent)

    # Masks in 32 bit are cast to 16 bit first, in room that activations take later.
    cast = fixed + size.masks // 2 if constants.of("mask_bytes_per_cell").value > 2 else 0
    why = Why(
        "copies x (masks + inputs) + max(activations, logits) + largest tensor that is copied from the host; or what the "
        "output needs here, where it is kept on the host",
        {
            "ubatch_tokens": tokens,
            "copies": copies,
            "masks_bytes": size.masks,
            "inputs_bytes": inputs,
            "activations_bytes": size.activations,
            "scores_bytes": size.scores,
            "logits_bytes": logits,
            "copied_weights_bytes": moved,
            "lent_output_bytes": lent,
        },
        f"llama.cpp {constants.version}, src/llama-context.cpp:sched_reserve; {factor.source}",
    )
    now = max(peak(factor.value), cast)
    return line(
        "compute_buffer", "compute buffer", now, "assumed", why,
        low_bytes=min(now, peak(factor.low)), high_bytes=max(now, peak(factor.high)),
    )  # fmt: skip


def _moved_bytes(serving: Serving, settings: Settings) -> int:
    """The largest tensor that stays on the host and is multiplied with; 0 with `--no-op-offload`.

    Each is a split of its own, whose room the next one takes.
    """
    share = host_share(serving, settings)
    if share is None or switched_off(chosen(settings), "--op-offload"):
        return 0
    largest = 0
    for entry in serving.owned:
        if entry.part != "text" or not entry.weight.linear or entry.weight.role == "embedding" or not entry.layers:
            continue
        usual = tensor_bytes(fitted(usual_format(serving), entry.weight.shape), entry.weight.shape, entry.weight.count)
        for part in stored(entry, serving.quantisation):
            if any(share(entry.weight, layer) for layer in part.layers):
                size = usual if is_file(serving) else part.num_bytes // max(1, len(part.layers))
                largest = max(largest, size)
    return largest


def _lent_output_bytes(serving: Serving, settings: Settings, tokens: int, rows: int) -> int:
    """A copy of the output that is kept on the host, the logits and the hidden states that it is multiplied with.

    Builds that reserve logits of all tokens let the first device do that product: 243.43 + 296.75 + 4.00 MiB are the
    544.18 MiB that build 5466 printed for Qwen3-30B-A3B (obs-d-018).
    """
    share = host_share(serving, settings)
    if share is None or switched_off(chosen(settings), "--op-offload"):
        return 0
    spec = serving.spec
    role = "embedding" if spec.tied_embedding else "lm_head"
    head = next((entry.weight for entry in serving.owned if entry.weight.role == role), None)
    if head is None:
        return 0
    known = serving.quantisation.format_of(head.name, "lm_head", linear=True)
    return tensor_bytes(known, head.shape) + FLOAT_BYTES * (rows * spec.vocab_size + tokens * spec.hidden_size)


# Copies of weights -----------------------------------------------------------------------------------------


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """A tied table once more, as the output on its device; what the converter keeps in 32 bit."""
    return tuple(_copies(serving, settings, rank))


def _copies(serving: Serving, settings: Settings, rank: RankView) -> Iterator[Line]:
    spec = serving.spec
    if (
        not on_cpu(serving)
        and spec.tied_embedding
        and rank.place.stage.is_last
        and placed(serving, chosen(settings)).output
    ):
        table = next(entry.weight for entry in serving.owned if entry.weight.role == "embedding")
        known = serving.quantisation.format_of(table.name, "embedding", linear=True)
        why = Why(
            "vocabulary x hidden_size in the table's format; the table itself stays in host memory",
            {"shape": table.shape, "format": known.name},
            "llama.cpp b11312 src/models (TENSOR_DUPLICATED), src/llama-model.cpp:load_tensors",
        )
        size = tensor_bytes(known, table.shape)
        if not is_file(serving):
            yield line("tied_head", "tied table as the output", size, "derived", why, role="lm_head")
        else:  # the file's type of this one tensor is not known here; K-quant mixes keep it in q6_k
            plain = usual_format(serving) in (BF16, FP16)
            usual = size if plain else tensor_bytes(GGUF["q6_k"], table.shape)
            yield line(
                "tied_head", "tied table as the output", usual, "assumed", why, role="lm_head",
                low_bytes=usual if plain else tensor_bytes(GGUF["q4_k"], table.shape), high_bytes=size,
            )  # fmt: skip
    if serving.quantisation.base in (BF16, FP16) and not is_file(serving):
        share = host_share(serving, settings)
        stage = rank.place.stage
        extra = 0
        for entry in serving.owned:
            if not _in_32_bit(entry):
                continue
            mine = [layer for layer in entry.layers if stage.first_layer <= layer < stage.end_layer]
            kept = sum(1 - share(entry.weight, layer) for layer in mine) if share else len(mine)
            extra += int(2 * entry.weight.num_elements * kept)
        if extra:
            why = Why(
                "2 B more for every element of routers and vectors",
                {},
                "llama.cpp b11312 conversion/base.py: what stays F32 in a 16-bit file",
            )
            yield line("weights_32_bit", "routers and vectors in 32 bit", extra, "derived", why, role="router")


def is_file(serving: Serving) -> bool:
    """True where the model is a GGUF file, whose tensors state their types by themselves."""
    return serving.quantisation.name.startswith("gguf ") and not serving.quantisation.rules


def usual_format(serving: Serving) -> WeightFormat:
    """The format that the file's type names (`gguf q4_k_m`): that of most of its tensors."""
    name = serving.quantisation.name.removeprefix("gguf ").removeprefix("mostly_")
    known = [each for each in GGUF if name.startswith(each)] or [each for each in GGUF if each[:3] == name[:3]]
    return GGUF[max(known, key=len)] if known else serving.quantisation.base


def _in_32_bit(entry: Owned) -> bool:
    weight = entry.weight
    plain = entry.part == "text" and not weight.buffer
    return plain and (weight.role == "router" or len(weight.shape) == 1)


def load_peak_bytes(serving: Serving, settings: Settings, rank: RankView) -> int | None:
    """Weights go to the device tensor by tensor, through a few small buffers of the host."""
    return total_bytes(rank.weights)


def _constant(code: str, label: str, constant: Constant) -> Line:
    return line(
        code, label, constant.value, "assumed", Why("constant", {}, constant.source),
        low_bytes=constant.low, high_bytes=constant.high,
    )  # fmt: skip
