"""llama.cpp's buffers, device by device: weights, cache and states, compute buffers.

Devices stand for ranks in their order; what is called CPU, and memory that is pinned for a device (`CUDA_Host`), is the
host. A buffer that is told in several pieces (full and window caches, keys and states) is one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from moeplan.core.engine_log import EngineLog, Quantity, Reading
from moeplan.estimate import Estimate
from moeplan.estimate.result import Rank
from moeplan.validate.pairs import PAIRINGS, PARTS, Pairing, band_of, cache_of, lines_of, row, weights_of
from moeplan.validate.result import Comparison

_HOST = re.compile(r"CPU\b|CPU_|\w*_Host\b|BLAS|AMX")
_NUMBER = re.compile(r"(\d+)")

_WEIGHTS = Pairing("model buffer", "bytes", True, weights_of)
_GPU_CACHE = Pairing("cache", "bytes", True, cache_of)
_HOST_CACHE = Pairing("cache", "bytes", True, lines_of("host.kv_cache"))
_GPU_COMPUTE = Pairing("compute buffer", "bytes", True, lines_of("compute_buffer"), band_of("compute_buffer"))
_HOST_COMPUTE = Pairing(
    "compute buffer", "bytes", False, lines_of("host.compute_buffer"), band_of("host.compute_buffer")
)
_HOST_OUTPUT = Pairing("logits", "bytes", False, lines_of("host.output"))

_BUFFERS: tuple[tuple[tuple[Quantity, ...], Pairing | None, Pairing], ...] = (
    # What is one line, how a device's is predicted, and how the host's is: its small buffers are shown, not judged.
    (("model_buffer_bytes",), _WEIGHTS, _WEIGHTS),
    (("kv_buffer_bytes", "recurrent_buffer_bytes"), _GPU_CACHE, _HOST_CACHE),
    (("compute_buffer_bytes",), _GPU_COMPUTE, _HOST_COMPUTE),
    (("output_buffer_bytes",), None, _HOST_OUTPUT),
)
_MOVES = ("--override-tensor", "--cpu-moe", "--n-cpu-moe", "--n-cpu-ffn")
_SPANS = "a mapped file counts whole, with what lies between its tensors"


def is_host(device: str | None) -> bool:
    """Whether a device of a log is the host's memory."""
    return device is not None and _HOST.match(device) is not None


def devices_of(told: EngineLog) -> tuple[str, ...]:
    """The devices that hold weights or cache, in their order."""
    holds = ("model_buffer_bytes", "kv_buffer_bytes", "recurrent_buffer_bytes")
    named = {
        _device(each): None
        for each in told.readings
        if each.quantity in holds and each.device and not is_host(each.device)
    }

    def number(device: str) -> int:
        found = _NUMBER.search(device)
        return int(found[1]) if found is not None else 0

    return tuple(sorted(named, key=number))


def compare_buffers(told: EngineLog, found: Estimate, tolerance: float) -> tuple[Comparison, ...]:
    """One line per buffer and device, in the order of the log."""
    devices = devices_of(told)
    rows = []
    for quantities, on_gpu, on_host in _BUFFERS:
        pieces: dict[str, list[Reading]] = {}
        for reading in told.readings:
            if reading.quantity not in quantities or reading.device is None:
                continue
            apart = PARTS.get((reading.part or "").partition(" ")[0]) if _is_other_model(reading) else None
            if apart is not None:
                rows.append(row(reading, on_gpu or on_host, None, tolerance)._replace(why_not=apart))
            else:
                pieces.setdefault("host" if is_host(reading.device) else _device(reading), []).append(reading)
        for device, told_pieces in pieces.items():
            rank = _rank(found, device, devices)
            pairing = on_host if device == "host" and (rank is None or rank.device == "host") else on_gpu
            if pairing is not None:
                rows.append(_line(told_pieces, pairing, rank, told, found, tolerance))
    cards = (
        row(each, PAIRINGS[each.quantity], found.hardware.usable_bytes if found.hardware else None, tolerance)
        for each in told.told("total_memory_bytes")
    )
    whole = () if any(each.label == "cache" for each in rows) else _whole_cache(told, found, tolerance)
    return tuple(sorted((*cards, *rows, *whole), key=lambda each: each.line_number))


def _line(
    pieces: Sequence[Reading], pairing: Pairing, rank: Rank | None, told: EngineLog, found: Estimate, tolerance: float
) -> Comparison:
    names = " + ".join(dict.fromkeys(str(each.device) for each in pieces))
    reading = pieces[-1]._replace(
        value=sum(each.value for each in pieces),
        resolution=sum(each.resolution for each in pieces),
        device=names,
        part=None,
    )
    if rank is None:
        why = "nothing was held against hardware" if not found.ranks else "the estimate keeps nothing there"
        return row(reading, pairing, None, tolerance)._replace(why_not=why)
    predicted = pairing.predict(found, rank, told)
    if pairing is _HOST_CACHE:
        predicted = predicted or 0.0
    if pairing is _WEIGHTS and _spans(found, pieces):
        return row(reading, pairing._replace(judged=False), predicted, tolerance)._replace(why_not=_SPANS)
    return row(reading, pairing, predicted, tolerance, rank)


def _whole_cache(told: EngineLog, found: Estimate, tolerance: float) -> list[Comparison]:
    """The cache of all devices together, where no line tells it of each."""
    pieces = [each for each in told.told("kv_bytes") if not _is_other_model(each)]
    if not pieces:
        return []
    host = lines_of("host.kv_cache")
    sizes = [rank.kv_cache_bytes + (host(found, rank, told) or 0) for rank in found.ranks]
    reading = pieces[-1]._replace(
        value=sum(each.value for each in pieces), resolution=sum(each.resolution for each in pieces), part=None
    )
    return [row(reading, _GPU_CACHE, sum(sizes) if sizes else None, tolerance)]


def _rank(found: Estimate, device: str, devices: tuple[str, ...]) -> Rank | None:
    if device == "host":  # where a processor serves alone, its memory is the one rank
        host = next((each for each in found.ranks if each.device == "host"), None)
        return host or (found.ranks[0] if found.ranks and not devices else None)
    number = devices.index(device) if device in devices else None
    return next((each for each in found.ranks if each.device == "gpu" and number in each.ranks), None)


def _spans(found: Estimate, pieces: Sequence[Reading]) -> bool:
    """Whether a mapped buffer holds more than its own tensors: others of the same layers went elsewhere.

    llama.cpp maps a file from the first to the last tensor of a buffer (src/llama-model.cpp, get_mapping_range).
    """
    names = {str(each.device) for each in pieces}
    mapped = any(name.endswith("_Mapped") for name in names)
    moved = any(option.flag in _MOVES and option.value for option in found.layout.options)
    return mapped and (moved or len(names) > 1)


def _is_other_model(reading: Reading) -> bool:
    return (reading.part or "").partition(" ")[0] in ("draft", "vision")


def _device(reading: Reading) -> str:
    return str(reading.device).removesuffix("_Mapped").removesuffix("_Split")
