"""Dumps of SGLang's expert distribution recorder: modes stat and stat_approx, per_pass, per_token.

Source: sgl-project/sglang, python/sglang/srt/eplb/expert_distribution.py at 02295fe5 (also dd780ab9), written by torch.save:

    stat        {"rank", "logical_count": [steps, layers, experts], "average_utilization_rate_over_window"}, summed over ranks
    per_pass    {"records": [{"forward_pass_id", "rank", "gatherer_key", "global_physical_count": [layers, slots]}],
                 "last_physical_to_logical_map": [layers, slots]}, a file per rank
    per_token   records with "topk_ids_of_layer": [layers, tokens, 8] of slots, -1 for none, "forward_mode", "extend_seq_lens",
                 and "input_ids" and "positions", which are left where they are

`layers` counts dense ones, whose counts are zero. A rank records what its own tokens chose; ranks of one tensor-parallel group
have the same tokens.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.routing_dumps.counting import StepSums, check_homes, to_logical
from moeplan.sources.routing_dumps.known import Known, by_phase, check_size, layer_numbers, provenance
from moeplan.sources.routing_dumps.sequences import ChoiceFold, table_of
from moeplan.sources.routing_dumps.torch_files import Tensor, TorchFile

EXTEND, DECODE, MIXED, IDLE = 1, 2, 3, 4
"""`forward_mode` of a record (python/sglang/srt/model_executor/forward_batch_info.py, `ForwardMode`)."""

MOST_FILES = 1024
_TIME = re.compile(r"expert_distribution_recorder_(\d{9,11})\.")
AGAIN = "dump again: POST /stop_expert_distribution_record, then /dump_expert_distribution_record"


class _Record(NamedTuple):
    file: TorchFile
    words: Mapping[str, Any]
    pass_id: int
    rank: int

    @property
    def what(self) -> str:
        return f"forward pass {self.pass_id} of rank {self.rank}"


def read_sglang(path: Path, known: Known) -> RoutingProfile:
    """A dump, or a folder of the files of all ranks. InputError for what is none, or is of another model."""
    paths = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if not 1 <= len(paths) <= MOST_FILES:
        raise InputError(
            f"{path}: {len(paths)} files .pt in it; between 1 and {MOST_FILES} are read",
            hint="name the folder of SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR, or one file",
        )
    files: list[TorchFile] = []
    try:
        for one in paths:
            files.append(TorchFile(one))
        kinds = {_kind(file) for file in files}
        if len(kinds) > 1:
            raise InputError(
                f"{path}: dumps of several modes: {', '.join(sorted(kinds))}", hint="give the files of one dump"
            )
        if kinds == {"stat"}:
            layers, notes = _stat(files, known)
        elif kinds == {"per_pass"}:
            layers, notes = _per_pass(files, known)
        else:
            layers, notes = _per_token(files, known)
    finally:
        for file in files:
            file.__exit__(None, None, None)
    times = [int(found[1]) for found in map(_TIME.match, (one.name for one in paths)) if found]
    date = datetime.fromtimestamp(max(times), UTC).date().isoformat() if times else None
    if known.model is None:
        notes.append("SGLang's dumps do not name the model")
    return RoutingProfile(known.name(), known.revision, provenance("sglang", path, date), layers, notes=tuple(notes))


def _kind(file: TorchFile) -> str:
    words = file.content
    if isinstance(words, dict) and isinstance(words.get("logical_count"), Tensor):
        return "stat"
    records = words.get("records") if isinstance(words, dict) else None
    if isinstance(records, list) and isinstance(words.get("last_physical_to_logical_map"), Tensor):
        first = records[0] if records else {}
        return "per_token" if isinstance(first, dict) and "topk_ids_of_layer" in first else "per_pass"
    keys = ", ".join(map(repr, list(words)[:5])) if isinstance(words, dict) else type(words).__name__
    raise InputError(
        f"{file.where}: no dump of SGLang's recorder: it holds {keys[:120]}",
        hint="start the server with --expert-distribution-recorder-mode, and dump what it recorded",
    )


# stat --------------------------------------------------------------------------------------------------------


def _stat(files: Sequence[TorchFile], known: Known) -> tuple[dict[Any, Any], list[str]]:
    sums: StepSums | None = None
    numbers: dict[int, int] = {}
    for file in files:
        tensor = file.content["logical_count"]
        if len(tensor.shape) != 3:
            raise file.broken(f"logical_count has {len(tensor.shape)} dimensions, not steps, layers and experts")
        steps, rows, experts = tensor.shape
        if sums is None:
            numbers = layer_numbers(rows, experts, known, file.where)
            sums = StepSums(rows, experts, known, file.where)
        elif (rows, experts) != (sums.rows, sums.num_experts):
            raise _differs(file, files[0], rows, experts)
        counts = file.whole_numbers(tensor)
        for step in range(steps):
            sums.add(counts[step * rows * experts : (step + 1) * rows * experts], f"step {step}")
    assert sums is not None
    counted = sums.counted(numbers)
    return by_phase(counted.layers, known), list(counted.notes)


def _differs(file: TorchFile, first: TorchFile, rows: int, experts: int) -> InputError:
    return InputError(
        f"{file.where}: {rows} layers of {experts} experts, unlike {first.where}", hint="give files of one model"
    )


# per_pass ----------------------------------------------------------------------------------------------------


def _per_pass(files: Sequence[TorchFile], known: Known) -> tuple[dict[Any, Any], list[str]]:
    rows, homes = _homes(files, known)
    experts = max(map(max, homes)) + 1
    numbers = layer_numbers(rows, experts, known, files[0].where)
    sums = StepSums(rows, experts, known, files[0].where)
    for records in _passes(files):
        step = array("q", bytes(8 * rows * len(homes[0])))
        for record in records:
            tensor = record.words.get("global_physical_count")
            if not isinstance(tensor, Tensor) or tensor.shape != (rows, len(homes[0])):
                raise record.file.broken(f"{record.what} has no global_physical_count [{rows}, {len(homes[0])}]")
            step = array("q", map(int.__add__, step, record.file.whole_numbers(tensor)))
        logical = []
        for row, of_row in enumerate(homes):
            logical += to_logical(step[row * len(of_row) : (row + 1) * len(of_row)], of_row, experts)
        sums.add(logical, f"forward pass {records[0].pass_id}")
    counted = sums.counted(numbers)
    return by_phase(counted.layers, known), [*counted.notes, *_map_notes(homes)]


def _homes(files: Sequence[TorchFile], known: Known) -> tuple[int, list[list[int]]]:
    """Number of rows, and the logical expert of each slot of each: the same in all files."""
    found: list[list[int]] = []
    for file in files:
        tensor = file.content["last_physical_to_logical_map"]
        if len(tensor.shape) != 2:
            raise file.broken(f"last_physical_to_logical_map has {len(tensor.shape)} dimensions, not layers and slots")
        rows, slots = tensor.shape
        check_size(rows, slots, file.where)
        flat = list(file.whole_numbers(tensor))
        homes = [flat[row * slots : (row + 1) * slots] for row in range(rows)]
        expected = None if known.model is None else max(known.model.experts.values(), default=0)
        for of_row in homes:
            check_homes(of_row, expected, file.where)
        if found and homes != found:
            raise InputError(
                f"{file.where}: its map of slots to experts is not that of {files[0].where}",
                hint="give the files of one dump, of all ranks",
            )
        found = homes
    return len(found), found


def _map_notes(homes: Sequence[Sequence[int]]) -> list[str]:
    if all(list(of_row) == list(range(len(of_row))) for of_row in homes):
        return []
    return ["slots are read by the last map of experts: counts from before a rebalancing may be of other experts"]


def _passes(files: Sequence[TorchFile]) -> list[list[_Record]]:
    """Records by forward pass, each with those of all ranks."""
    found: dict[int, list[_Record]] = {}
    for file in files:
        for place, words in enumerate(file.content["records"]):
            if not isinstance(words, dict):
                raise file.broken(f"record {place} is no dictionary")
            pass_id, rank = words.get("forward_pass_id"), words.get("rank")
            if not isinstance(pass_id, int) or not isinstance(rank, int):
                raise file.broken(f"record {place} has no forward_pass_id and rank")
            record = _Record(file, words, pass_id, rank)
            there = found.setdefault(pass_id, [])
            if any(
                other.rank == rank and other.words.get("gatherer_key") == words.get("gatherer_key") for other in there
            ):
                raise InputError(f"{file.where}: {record.what} is there twice", hint="give each rank's file once")
            there.append(record)
    if not found:
        raise InputError(f"{files[0].where}: no forward pass was recorded in it", hint=AGAIN)
    return [found[pass_id] for pass_id in sorted(found)]


# per_token ---------------------------------------------------------------------------------------------------


def _per_token(files: Sequence[TorchFile], known: Known) -> tuple[dict[Any, Any], list[str]]:
    rows, homes = _homes(files, known)
    experts = max(map(max, homes)) + 1
    numbers = layer_numbers(rows, experts, known, files[0].where)
    fold: ChoiceFold | None = None
    doubled = unknown = 0
    tables = [table_of(of_row) for of_row in homes]
    for records in _passes(files):
        seen: set[bytes] = set()
        decoding: list[bytes] = []  # of all ranks: they step together
        for record in records:
            tensor = record.words.get("topk_ids_of_layer")
            if not isinstance(tensor, Tensor) or len(tensor.shape) != 3 or tensor.shape[0] != rows:
                raise record.file.broken(f"{record.what} has no topk_ids_of_layer of {rows} layers")
            _, tokens, places = tensor.shape
            if tokens == 0 or record.words.get("forward_mode") == IDLE:
                continue
            ids = array("q", record.file.whole_numbers(tensor))
            digest = hashlib.sha256(ids).digest()
            if digest in seen:
                doubled += 1  # another rank of the same tensor-parallel group
                continue
            seen.add(digest)
            if min(ids) < -1 or max(ids) >= len(homes[0]):
                wrong = min(ids) if min(ids) < -1 else max(ids)
                raise InputError(
                    f"{record.file.where}: {record.what}: a token chose slot {wrong}, and there are {len(homes[0])}",
                    hint="shared experts that are fused are no slots: record with --disable-shared-experts-fusion",
                )
            if fold is None:
                used = {row: layer for row, layer in numbers.items() if _is_routed(ids, row, tokens * places)}
                if not used:
                    raise InputError(f"{record.file.where}: {record.what}: no layer chose an expert", hint=AGAIN)
                fold = ChoiceFold(used, experts, min(places, experts), record.file.where)
            if places < fold.places:
                raise record.file.broken(f"{record.what} has {places} experts per token, and others have {fold.places}")
            columns = []
            for row in fold.rows:
                flat = ids[row * tokens * places : (row + 1) * tokens * places]
                of_row = array("H", map(tables[row].__getitem__, flat))
                columns.append([of_row[place::places] for place in range(fold.places)])
            unknown += _add(fold, record, fold.packed(columns), tokens, decoding)
        if decoding and fold is not None:
            joined = b"".join(decoding)
            fold.add_step(joined, len(joined) // fold.header.row_bytes, f"forward pass {records[0].pass_id}")
    if fold is None:
        raise InputError(f"{files[0].where}: no token was recorded in it", hint=AGAIN)
    notes = _map_notes(homes)
    if doubled:
        notes.append(f"{doubled} records were of tokens that another rank recorded too, and are taken once")
    if unknown:
        notes.append(
            f"{unknown} forward passes verify drafts or are of no known kind: they are counted, without curves"
        )
    return dict(fold.layers(known)), notes


def _is_routed(ids: array[int], row: int, size: int) -> bool:
    return max(ids[row * size : (row + 1) * size]) >= 0


def _add(fold: ChoiceFold, record: _Record, experts: bytes, tokens: int, decoding: list[bytes]) -> int:
    """Take one record in, its decoded tokens into `decoding`; 1 where it is not known which of its tokens are neighbours."""
    mode, lengths = record.words.get("forward_mode"), record.words.get("extend_seq_lens")
    if mode == DECODE:
        decoding.append(experts)
        return 0
    known = isinstance(lengths, list) and all(type(length) is int and length >= 0 for length in lengths)
    if mode not in (EXTEND, MIXED) or not known or sum(lengths or ()) != tokens:
        fold.add_others(experts, tokens, record.what)
        return 1
    row, start = fold.header.row_bytes, 0
    for length in lengths or ():
        part = experts[start * row : (start + length) * row]
        start += length
        if mode == MIXED and length == 1:
            decoding.append(part)
        elif length:
            fold.add_prompt(part, length, 0, record.what)
    return 0
