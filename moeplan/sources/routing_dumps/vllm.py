"""Expert load statistics of vLLM's load balancer: JSON lines, one per recorded step.

Source: vllm-project/vllm, pull request 41141 (its tools and tests; no release has it yet). A line of
{"record_type": "eplb_load_meta", "version": 1, "model", "num_ranks", "num_layers", "num_redundant_experts", ...}, then
{"record_type": "eplb_load_stats", "version": 1, "step", "expert_load": [layers][slots], "p2l_map": [layers][slots]}; in earlier
drafts without the first line and with `num_ranks` in each. Other types of lines are markers of its scripts. Layers are MoE layers,
slots physical experts: the map of the same step makes them logical ones. vLLM records tokens once per data-parallel rank where
ranks gather all tokens (vllm/distributed/eplb/eplb_state.py, `expert_load_window`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import MOST_EXPERTS
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.routing_dumps.counting import StepSums, check_homes, to_logical
from moeplan.sources.routing_dumps.json_lines import json_lines
from moeplan.sources.routing_dumps.known import Known, by_phase, layer_numbers, provenance

META, STATS = "eplb_load_meta", "eplb_load_stats"
VERSION = 1
AGAIN = "record again, with vLLM's expert_load_stats_path"


def read_vllm(path: Path, known: Known) -> RoutingProfile:
    """A file of statistics. InputError, with the line, for what is none, or is of another model."""
    notes: list[str] = []
    sums: StepSums | None = None
    numbers: dict[int, int] = {}
    said: str | None = None
    names: set[str] = set()
    for where, words in json_lines(path, notes):
        kind = words.get("record_type")
        if kind in (META, STATS) and words.get("version") != VERSION:
            raise InputError(
                f"{where}: version {str(words.get('version'))[:20]} of {kind}; {VERSION} is read",
                hint="a later moeplan may",
            )
        if kind == META:
            name = words.get("model")
            if isinstance(name, str) and name.strip():
                said = name.strip()[:200]
                names.add(said)
        if kind != STATS:
            continue
        if len(names) > 1:
            raise InputError(
                f"{where}: statistics of {len(names)} models: {', '.join(sorted(names))}",
                hint="keep the lines of one of them",
            )
        loads, maps = _table(words, "expert_load", where), _table(words, "p2l_map", where)
        if [len(row) for row in loads] != [len(row) for row in maps]:
            raise InputError(f"{where}: expert_load and p2l_map differ in size", hint=AGAIN)
        expected = None if known.model is None else max(known.model.experts.values(), default=0)
        experts = {check_homes(homes, expected, where) for homes in maps}
        if len(experts) > 1:
            raise InputError(f"{where}: layers of {' and '.join(map(str, sorted(experts)))} experts", hint=AGAIN)
        num_experts = experts.pop()
        if sums is None:
            numbers = layer_numbers(len(loads), num_experts, known, where)
            sums = StepSums(len(loads), num_experts, known, str(path))
        elif (len(loads), num_experts) != (sums.rows, sums.num_experts):
            raise InputError(
                f"{where}: {len(loads)} layers of {num_experts} experts, unlike the lines before",
                hint="keep the lines of one model",
            )
        step: list[int] = []
        for row, homes in zip(loads, maps, strict=True):
            step += to_logical(row, homes, num_experts)
        sums.add(step, f"line {where.rpartition(':')[2]}")
    if sums is None:
        raise InputError(f"{path}: no line of the type {STATS} in it", hint=AGAIN)
    counted = sums.counted(numbers)
    if known.model is None:
        notes.append("layers are numbered among layers with experts; name the model to number them as it does")
    return RoutingProfile(
        known.name(said),
        known.revision,
        provenance("vllm", path),
        by_phase(counted.layers, known),
        notes=(*counted.notes, *notes),
    )


def _table(words: Mapping[Any, Any], key: str, where: str) -> list[list[int]]:
    """Rows of whole numbers, at least one of each."""
    value = words.get(key)
    right = isinstance(value, list) and value and all(isinstance(row, list) and row for row in value)
    if not right or any(len(row) > 2 * MOST_EXPERTS for row in value or ()):
        raise InputError(f"{where}: `{key}` is no list of layers with a number per slot", hint=AGAIN)
    for row in value or ():
        for item in row:
            if type(item) is not int:
                raise InputError(f"{where}: `{key}` holds {str(item)[:40]}, not only whole numbers", hint=AGAIN)
    return list(value or ())
