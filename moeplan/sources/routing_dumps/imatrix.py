"""Importance matrices of llama.cpp: how often each expert was used while the matrix was computed.

Source: ggml-org/llama.cpp, tools/imatrix/imatrix.cpp at 006e7ef9: a GGUF file of the type imatrix, with tensors
blk.<n>.ffn_*_exps.weight.counts [experts, 1] (F32) that hold the tokens of each expert, and blk.<n>.<others>.weight.counts [1, 1]
that hold all tokens. Files of the older format (.dat) have one count for all experts, which tells nothing of routing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import MOST_EXPERTS
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.gguf.bytes import Read
from moeplan.sources.gguf.part import Part, read_part
from moeplan.sources.routing_dumps.counting import StepSums
from moeplan.sources.routing_dumps.known import Known, check_experts, check_size, provenance
from moeplan.sources.strict_json import unreadable

_EXPERTS = re.compile(r"blk\.(\d{1,4})\.ffn_(gate|up|down|gate_up)_exps\.weight\.counts")
_OTHERS = re.compile(r"blk\.(\d{1,4})\.[^.]+\.weight\.counts")
MOST_COUNT = 1e12
EXACT = 2**24
"""Counts from here on are rounded: they are kept as 32-bit floats."""

NEAR = 0.02
"""How far the counts' sum over all tokens may be from a whole number of experts per token."""


def read_imatrix(path: Path, known: Known) -> RoutingProfile:
    """The counts of an importance matrix. InputError for a file that is none, of a dense model, or of another model."""
    where = str(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            part = read_part(read, size, where)
            if part.values.get("general.type") != "imatrix":
                raise InputError(
                    f"{where}: a GGUF file of the type {str(part.values.get('general.type', 'model'))[:40]}, no importance matrix",
                    hint="give what llama-imatrix wrote",
                )
            names = {tensor.name: place for place, tensor in enumerate(part.tensors)}
            counts: dict[int, list[int]] = {}
            tokens: dict[int, int] = {}
            for name, place in names.items():
                found = _EXPERTS.fullmatch(name)
                if found is not None and int(found[1]) not in counts:
                    counts[int(found[1])] = _numbers(part, place, read)
                elif found is None and (other := _OTHERS.fullmatch(name)) is not None:
                    seen = _numbers(part, place, read)
                    if len(seen) == 1:
                        tokens[int(other[1])] = max(tokens.get(int(other[1]), 0), seen[0])
    except OSError as error:
        raise unreadable(path, error) from error
    if not counts:
        raise InputError(
            f"{where}: no counts of experts in it: {len(names)} tensors",
            hint="is it the matrix of a model with experts?",
        )
    return _profile(path, counts, tokens, known)


def _profile(path: Path, counts: Mapping[int, list[int]], tokens: Mapping[int, int], known: Known) -> RoutingProfile:
    where = str(path)
    sizes = {len(of_layer) for of_layer in counts.values()}
    if len(sizes) > 1:
        raise InputError(
            f"{where}: layers of {' and '.join(map(str, sorted(sizes)))} experts",
            hint="matrices of models with equal layers are read",
        )
    experts = sizes.pop()
    check_size(len(counts), experts, where)
    layers = sorted(counts)
    for layer in layers:
        check_experts(layer, experts, known, where)
    sums = StepSums(len(layers), experts, known._replace(phase="prefill"), where)
    sums.add([count for layer in layers for count in counts[layer]], "the matrix")
    ratios = {sum(counts[layer]) / tokens[layer] for layer in layers if tokens.get(layer)}
    # All tokens of a layer, and the choices of its experts: as many times more as a token has experts.
    ratio = sorted(ratios)[len(ratios) // 2] if ratios else 0.0
    chosen = float(round(ratio)) if ratio and abs(ratio / max(1, round(ratio)) - 1) <= NEAR else None
    counted = sums.counted(dict(enumerate(layers)), chosen)
    notes = [*counted.notes]
    if max(map(max, counts.values())) >= EXACT:
        notes.append("counts above 16,777,216 are rounded in the file")
    if known.model is None:
        notes.append("importance matrices do not name the model")
    notes.append("prompts of a calibration text, run in chunks; no steps and no neighbours are kept")
    return RoutingProfile(
        known.name(),
        known.revision,
        provenance("llamacpp", path),
        {"all": counted.layers, "prefill": counted.layers},
        notes=tuple(notes),
    )


def _numbers(part: Part, place: int, read: Read) -> list[int]:
    """One tensor's counts. InputError for what is no whole number of 0 or more."""
    tensor = part.tensors[place]
    if tensor.dtype != "F32" or tensor.num_bytes > MOST_EXPERTS * 4:
        raise InputError(
            f"{part.where}: tensor {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, no counts",
            hint="give what llama-imatrix wrote",
        )
    order = ">" if part.big_endian else "<"
    values = struct.unpack(f"{order}{tensor.num_bytes // 4}f", read(part.starts[place], tensor.num_bytes))
    for value in values:
        if not 0 <= value < MOST_COUNT or value != int(value):  # NaN is not in between
            raise InputError(
                f"{part.where}: tensor {tensor.name!r} has a count of {value:g}", hint="compute the matrix again"
            )
    return [int(value) for value in values]
