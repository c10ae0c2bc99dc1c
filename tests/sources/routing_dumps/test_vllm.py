"""Load statistics as the scripts and tests of vllm-project/vllm, pull request 41141, write and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.known import Known, ModelLayers
from moeplan.sources.routing_dumps.vllm import read_vllm
from tests.sources.routing_dumps import choices
from tests.sources.routing_dumps.choices import Ids

LAYERS, EXPERTS, CHOSEN = 2, 8, 2
MODEL = ModelLayers("tests/moe", "abc", 4, {1: EXPERTS, 3: EXPERTS}, {1: CHOSEN, 3: CHOSEN})
KNOWN = Known(MODEL)
HOMES = [[*range(EXPERTS), 0, 1], [7, 7, *range(EXPERTS)]]
META = {
    "record_type": "eplb_load_meta",
    "version": 1,
    "model": "test-model",
    "num_ranks": 2,
    "num_groups": 1,
    "num_nodes": 1,
    "num_layers": LAYERS,
    "num_redundant_experts": 2,
}


def stats(ids: Ids, step: int, homes: Any = HOMES) -> dict[str, Any]:
    physical = choices.slots(ids, homes, seed=step)
    loads = [np.bincount(physical[:, layer].ravel(), minlength=len(homes[0])).tolist() for layer in range(LAYERS)]
    return {"record_type": "eplb_load_stats", "version": 1, "step": step, "expert_load": loads, "p2l_map": homes}


def lines(path: Path, *words: Any, end: str = "\n") -> Path:
    path.write_text("\n".join(word if isinstance(word, str) else json.dumps(word) for word in words) + end)
    return path


def test_loads_of_slots_become_counts_of_experts(tmp_path: Path) -> None:
    steps = [choices.draw(LAYERS, EXPERTS, CHOSEN, 40 + at, seed=at) for at in range(3)]
    moved = [
        [*range(EXPERTS), 5, 5],
        [*range(EXPERTS), 2, 3],
    ]  # rearranged before the last step: the map is of each step
    records = [stats(steps[0], 0), stats(steps[1], 1), {"record_type": "bench_run_start"}, stats(steps[2], 2, moved)]
    found = read_vllm(lines(tmp_path / "eplb.jsonl", META, *records), KNOWN)
    assert (
        np.array([layer.counts for layer in found.layers["all"]]) == sum(choices.counts(ids, EXPERTS) for ids in steps)
    ).all()
    assert [layer.layer for layer in found.layers["all"]] == [1, 3]
    assert [layer.tokens for layer in found.layers["all"]] == [123, 123]
    assert found.layers["all"][1].windows[2] == tuple(choices.counts(steps[2], EXPERTS)[1])
    assert (found.model, found.revision) == ("tests/moe", "abc")


def test_the_example_of_its_own_test_is_read(tmp_path: Path) -> None:
    record = {
        "record_type": "eplb_load_stats",
        "version": 1,
        "step": 7,
        "num_ranks": 2,
        "expert_load": [[10, 1, 5, 2], [2, 8, 1, 3]],
        "p2l_map": [[0, 1, 2, 3], [0, 1, 2, 3]],
    }
    found = read_vllm(lines(tmp_path / "stats.jsonl", record), Known(experts_per_token=1))
    assert [layer.counts for layer in found.layers["all"]] == [(10, 1, 5, 2), (2, 8, 1, 3)]
    assert [layer.layer for layer in found.layers["all"]] == [0, 1]
    assert any("numbered among layers with experts" in note for note in found.notes)


def test_the_model_that_the_file_names_is_its_model(tmp_path: Path) -> None:
    ids = choices.draw(LAYERS, EXPERTS, CHOSEN, 40, seed=1)
    found = read_vllm(lines(tmp_path / "a.jsonl", META, stats(ids, 0)), Known(experts_per_token=CHOSEN))
    assert found.model == "test-model"


def test_a_server_that_was_killed_loses_a_line(tmp_path: Path) -> None:
    ids = choices.draw(LAYERS, EXPERTS, CHOSEN, 40, seed=1)
    path = lines(tmp_path / "a.jsonl", META, stats(ids, 0), json.dumps(stats(ids, 1))[:-20], end="")
    found = read_vllm(path, KNOWN)
    assert found.layers["all"][0].tokens == 40
    assert any("line 3, the last, was cut short" in note for note in found.notes)


def good(**changes: Any) -> dict[str, Any]:
    return {**stats(choices.draw(LAYERS, EXPERTS, CHOSEN, 9, seed=1), 0), **changes}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([META], "no line of the type eplb_load_stats"),
        ([good(version=2)], "version 2 of eplb_load_stats; 1 is read"),
        ([META, good(), {**META, "model": "draft"}, good()], "statistics of 2 models: draft, test-model"),
        ([good(expert_load=[[1] * 10])], "expert_load and p2l_map differ in size"),
        ([good(expert_load=[])], "`expert_load` is no list of layers"),
        ([good(expert_load=[[1.5] * 10] * 2)], "`expert_load` holds 1.5, not only whole numbers"),
        ([good(expert_load=[[True] * 10] * 2)], "`expert_load` holds True"),
        ([good(expert_load=[[1] * 9 + [-3]] * 2)], "line 1: layer 0, expert 1 has a count of -2"),
        ([good(p2l_map=[[*range(7), 8, 0, 1]] * 2)], "does not hold each of 8 experts"),
        ([good(p2l_map=[[-1] * 10] * 2)], "does not hold each of 8 experts"),
        ([good(), good(expert_load=[[1] * 10], p2l_map=[HOMES[0]])], "1 layers of 8 experts, unlike the lines before"),
        (['{"record_type": "eplb_load_stats", "version": 1, "expert_load": [[NaN]]}'], "NaN is no number"),
        (["{", good()], "not valid JSON"),
        (["[1]"], "not an object with keys"),
        ([good(expert_load=[[0] * 10] * 2)], "nothing was counted"),
        (
            [good(expert_load=[[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 2)],
            "expert 0 was chosen 9 times by 4 tokens of 2 experts",
        ),
    ],
)
def test_lines_that_are_no_statistics_are_refused(tmp_path: Path, words: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_vllm(lines(tmp_path / "a.jsonl", *words), KNOWN)
    assert caught.value.hint


def test_statistics_of_another_model_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", good())
    with pytest.raises(InputError, match="it has 2 layers, and other has 48, of which 47"):
        read_vllm(path, Known(ModelLayers("other", None, 48, dict.fromkeys(range(1, 48), EXPERTS), {})))
    with pytest.raises(InputError, match="map of slots to experts does not hold each of 16"):
        read_vllm(path, Known(MODEL._replace(experts={1: 16, 3: 16})))
