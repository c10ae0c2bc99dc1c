"""Statistics as NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/expert_statistic.py at 0fccc5b9, saves them: by safetensors, a file per rank."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.known import Known, ModelLayers
from moeplan.sources.routing_dumps.trtllm import read_trtllm
from tests.sources.routing_dumps import choices
from tests.sources.routing_dumps.choices import Ids

LAYERS, EXPERTS, CHOSEN = (3, 4, 7), 16, 4
MODEL = ModelLayers("tests/moe", None, 8, dict.fromkeys(LAYERS, EXPERTS), dict.fromkeys(LAYERS, CHOSEN))
KNOWN = Known(MODEL)


def folder(path: Path, ranks: list[list[Ids]], dtype: torch.dtype = torch.int64, start: int = 100) -> Path:
    """Of each rank the choices of each iteration [tokens, layers, k]."""
    path.mkdir(exist_ok=True)
    (path / "meta_info.json").write_text(json.dumps({"num_experts": EXPERTS, "num_experts_per_token": CHOSEN}))
    for rank, iterations in enumerate(ranks):
        records = {
            f"{start + at}_{layer}": torch.bincount(torch.from_numpy(ids[:, row].ravel().copy()), minlength=EXPERTS).to(
                dtype
            )
            for at, ids in enumerate(iterations)
            for row, layer in enumerate(LAYERS)
        }
        save_file(records, path / f"rank{rank}.safetensors")
    return path


def drawn(rank: int, tokens: int = 30) -> list[Ids]:
    return [choices.draw(len(LAYERS), EXPERTS, CHOSEN, tokens + at, seed=10 * rank + at) for at in range(4)]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ranks_and_iterations_are_added_up(tmp_path: Path, dtype: torch.dtype) -> None:
    ranks = [drawn(rank) for rank in range(3)]
    path = folder(tmp_path / "expert_statistic", ranks, dtype)
    found = read_trtllm(path, Known())
    total = np.sum([choices.counts(ids, EXPERTS) for rank in ranks for ids in rank], axis=0)
    assert (np.array([layer.counts for layer in found.layers["all"]]) == total).all()
    assert [layer.layer for layer in found.layers["all"]] == list(LAYERS)
    assert found.layers["all"][0].tokens == 3 * (30 + 31 + 32 + 33)
    assert found.layers["all"][0].experts_per_token == CHOSEN
    third = np.sum([choices.counts(rank[2], EXPERTS) for rank in ranks], axis=0)
    assert found.layers["all"][1].windows[2] == tuple(third[1])
    assert found.provenance.source == "expert_statistic"
    assert read_trtllm(path / "meta_info.json", KNOWN).layers["all"] == found.layers["all"]


def test_ranks_with_the_same_tokens_count_once(tmp_path: Path) -> None:
    same = drawn(0)
    found = read_trtllm(folder(tmp_path / "a", [same] * 4), KNOWN)
    assert (
        np.array([layer.counts for layer in found.layers["all"]]) == sum(choices.counts(ids, EXPERTS) for ids in same)
    ).all()
    assert any("multiples of 4" in note for note in found.notes)


def test_other_files_there_are_left_alone(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    before = read_trtllm(path, KNOWN)
    save_file({"100_3": torch.ones((EXPERTS, EXPERTS), dtype=torch.int32)}, path / "cooccurrence_rank0.safetensors")
    save_file({"100_3": torch.ones((30, CHOSEN), dtype=torch.int32)}, path / "rank0_raw.safetensors")
    assert read_trtllm(path, KNOWN) == before


def test_missing_counts_are_told(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    save_file({"100_3": torch.ones(EXPERTS, dtype=torch.int64)}, path / "rank0.safetensors")
    save_file({"101_4": torch.ones(EXPERTS, dtype=torch.int64)}, path / "rank1.safetensors")
    found = read_trtllm(path, KNOWN)
    assert any("2 counts of a layer in an iteration are missing" in note for note in found.notes)


def test_slots_of_a_load_balancer_are_no_experts(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    with pytest.raises(InputError, match="16 counts per layer, and layer 3 of tests/moe has 12 experts") as caught:
        read_trtllm(path, Known(MODEL._replace(experts=dict.fromkeys(LAYERS, 12))))
    assert "without moe_load_balancer" in caught.value.hint


def test_statistics_of_another_model_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    with pytest.raises(InputError, match="layer 3 has 16 experts in it, and tests/moe is dense"):
        read_trtllm(path, Known(MODEL._replace(experts={4: EXPERTS})))
    with pytest.raises(InputError, match="layer 3 has 16 experts in it, and tests/moe has 32"):
        read_trtllm(path, Known(MODEL._replace(experts=dict.fromkeys(LAYERS, 32))))


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("{}", "needs num_experts and num_experts_per_token"),
        ('{"num_experts": 4, "num_experts_per_token": 5}', "needs num_experts"),
        ('{"num_experts": 1e99, "num_experts_per_token": 5}', "needs num_experts"),
        ('{"num_experts": 100000, "num_experts_per_token": 5}', "between 1 and 4096"),
        ("null", "not an object"),
        ("{", "not valid JSON"),
        ('{"num_experts": 8, "num_experts_per_token": 4}', r"tensor '100_3' is I64 \[16\], no counts of 8 experts"),
    ],
)
def test_a_broken_meta_info_is_refused(tmp_path: Path, meta: str, said: str) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    (path / "meta_info.json").write_text(meta)
    with pytest.raises(InputError, match=said):
        read_trtllm(path, KNOWN)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [drawn(0)])
    rank = path / "rank0.safetensors"
    data = rank.read_bytes()
    rank.write_bytes(data[:-100])
    with pytest.raises(InputError, match="truncated"):
        read_trtllm(path, KNOWN)
    save_file({"100_3": torch.full((EXPERTS,), -1)}, rank)
    with pytest.raises(InputError, match="tensor '100_3' has a count of -1"):
        read_trtllm(path, KNOWN)
    save_file({"weight": torch.ones(EXPERTS, dtype=torch.int64)}, rank)
    with pytest.raises(InputError, match="tensor 'weight' is I64"):
        read_trtllm(path, KNOWN)
    save_file({"100_3": torch.ones(EXPERTS)}, rank)
    with pytest.raises(InputError, match="is F32"):
        read_trtllm(path, KNOWN)
    save_file({"100_3": torch.full((EXPERTS,), 2**62)}, rank)
    save_file({"100_3": torch.full((EXPERTS,), 2**62)}, path / "rank1.safetensors")
    with pytest.raises(InputError, match="counts beyond any run"):
        read_trtllm(path, KNOWN)
    rank.unlink()
    (path / "rank1.safetensors").unlink()
    with pytest.raises(InputError, match=r"no rank\*\.safetensors"):
        read_trtllm(path, KNOWN)
