"""Expert statistics of TensorRT-LLM: a folder with meta_info.json and a file of counts per rank.

Source: NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/expert_statistic.py at 0fccc5b9, and how its own
examples/ep_load_balancer/utils.py at 9546c992 reads them: EXPERT_STATISTIC_PATH holds meta_info.json {"num_experts",
"num_experts_per_token"} and rank<n>.safetensors with a tensor of counts [num_experts] named <iteration>_<layer>; ranks are added up.
Other files there (cooccurrence_rank*, rank*_raw) are left out. With a load balancer counts are of slots (`num_slots`), and no file
says which expert is in which: such folders are refused where a model is named.
"""

from __future__ import annotations

import re
import sys
from array import array
from operator import add
from pathlib import Path
from typing import IO

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import MOST_LAYERS
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.routing_dumps.counting import AGAIN, StepSums
from moeplan.sources.routing_dumps.known import Known, by_phase, check_experts, check_size, provenance
from moeplan.sources.routing_files.facts import json_object, read_bytes
from moeplan.sources.safetensors_headers import LENGTH_BYTES, header_length, parse_header
from moeplan.sources.strict_json import unreadable

META = "meta_info.json"
MOST_META_BYTES = 1 << 20
MOST_ENTRIES = 1 << 20
_RANK = re.compile(r"rank\d{1,6}\.safetensors")
_KEY = re.compile(r"(\d{1,9})_(\d{1,4})")
_CODES = {"I64": "q", "I32": "i"}


def read_trtllm(path: Path, known: Known) -> RoutingProfile:
    """A folder of statistics, or its meta_info.json. InputError for what is none, or is of another model."""
    folder = path if path.is_dir() else path.parent
    meta = json_object(read_bytes(folder / META, MOST_META_BYTES), str(folder / META))
    experts, chosen = meta.raw("num_experts"), meta.raw("num_experts_per_token")
    if type(experts) is not int or type(chosen) is not int or not 0 < chosen <= experts:
        raise InputError(
            f"{folder / META}: it needs num_experts and num_experts_per_token, whole numbers, the second no larger",
            hint="count again with EXPERT_STATISTIC_ITER_RANGE set, to the end of the range",
        )
    check_size(1, experts, str(folder / META))
    files = sorted(one for one in folder.iterdir() if _RANK.fullmatch(one.name))
    if not files:
        raise InputError(
            f"{folder}: no rank*.safetensors in it",
            hint="files are written when the last iteration of the range is reached",
        )
    found: dict[tuple[int, int], array[int]] = {}
    for file in files:
        _add_file(file, experts, found)
    if not found:
        raise InputError(f"{folder}: nothing was counted in it", hint="let the range begin when requests run")
    layers = sorted({layer for _, layer in found})
    model = known.model
    for layer in layers:
        if model is not None and experts > model.experts.get(layer, experts):
            raise InputError(
                f"{folder}: {experts} counts per layer, and layer {layer} of {model.name} has {model.experts[layer]} experts",
                hint="with a load balancer TensorRT-LLM counts slots: count without moe_load_balancer; or name the model served",
            )
        check_experts(layer, experts, known, str(folder))
    rows = {layer: row for row, layer in enumerate(layers)}
    sums = StepSums(len(layers), experts, known, str(folder))
    iterations = sorted({iteration for iteration, _ in found})
    holes = 0
    for iteration in iterations:
        step = array("q", bytes(8 * len(layers) * experts))
        for layer, row in rows.items():
            counts = found.get((iteration, layer))
            if counts is None:
                holes += 1
            else:
                step[row * experts : (row + 1) * experts] = counts
        sums.add(step, f"iteration {iteration}")
    counted = sums.counted(dict(enumerate(layers)), chosen)
    notes = [*counted.notes]
    if holes:
        notes.append(f"{holes} counts of a layer in an iteration are missing: the files are not of one whole run")
    if model is None:
        notes.append(
            "TensorRT-LLM's statistics do not name the model; with a load balancer they count slots, not experts"
        )
    return RoutingProfile(
        known.name(),
        known.revision,
        provenance("trtllm", folder),
        by_phase(counted.layers, known),
        notes=tuple(notes),
    )


def _add_file(path: Path, experts: int, found: dict[tuple[int, int], array[int]]) -> None:
    where = str(path)
    try:
        with path.open("rb") as file:
            file_bytes = path.stat().st_size
            length = header_length(file.read(LENGTH_BYTES), where, file_bytes)
            tensors, _ = parse_header(file.read(length), where, data_bytes=file_bytes - LENGTH_BYTES - length)
            for tensor in tensors:  # in the order of their data, without holes
                key = _KEY.fullmatch(tensor.name)
                code = _CODES.get(tensor.dtype)
                if key is None or code is None or tensor.shape != (experts,):
                    raise InputError(
                        f"{where}: tensor {tensor.name[:60]!r} is {tensor.dtype} {list(tensor.shape)}, no counts of "
                        f"{experts} experts named iteration_layer",
                        hint="give the folder as TensorRT-LLM wrote it",
                    )
                counts = _read(file, code, tensor.num_bytes, where)
                place = int(key[1]), int(key[2])
                if place[1] >= MOST_LAYERS or len(found) > MOST_ENTRIES:
                    raise InputError(
                        f"{where}: more layers or iterations than any run has", hint="count fewer iterations"
                    )
                if min(counts) < 0:
                    raise InputError(f"{where}: tensor {tensor.name!r} has a count of {min(counts)}", hint=AGAIN)
                there = found.get(place)
                found[place] = counts if there is None else array("q", map(add, there, counts))
    except OSError as error:
        raise unreadable(path, error) from error
    except OverflowError as error:
        raise InputError(f"{where}: counts beyond any run", hint=AGAIN) from error


def _read(file: IO[bytes], code: str, num_bytes: int, where: str) -> array[int]:
    data = file.read(num_bytes)
    if len(data) != num_bytes:
        raise InputError(f"{where}: it ends before its counts do", hint=AGAIN)
    counts = array(code, data)
    if sys.byteorder == "big":
        counts.byteswap()
    return array("q", counts)
