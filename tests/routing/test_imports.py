"""`import_dump`: the kind is found, the model is held against the dump, and what comes out is a file of counts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from moeplan.core.errors import InputError
from moeplan.routing.imports import import_dump
from moeplan.sources.routing_files import read_routing, write_counts, write_profile
from tests.sources.routing_dumps import choices

# Qwen3-30B-A3B of the catalogue: 48 layers with experts, 128 of them, 8 a token.
LAYERS, EXPERTS, CHOSEN, MODEL = 48, 128, 8, "qwen3-30b-a3b"
IDS = choices.draw(LAYERS, EXPERTS, CHOSEN, 20, seed=1)
COUNTS = choices.counts(IDS, EXPERTS)


def sglang(folder: Path) -> Path:
    logical = torch.from_numpy(COUNTS)[None].int()
    torch.save({"rank": 0, "logical_count": logical, "average_utilization_rate_over_window": None}, folder / "dump.pt")
    return folder / "dump.pt"


def vllm(folder: Path) -> Path:
    maps = [list(range(EXPERTS))] * LAYERS
    record = {
        "record_type": "eplb_load_stats",
        "version": 1,
        "step": 0,
        "expert_load": COUNTS.tolist(),
        "p2l_map": maps,
    }
    (folder / "eplb.jsonl").write_text(json.dumps(record) + "\n")
    return folder / "eplb.jsonl"


def trtllm(folder: Path) -> Path:
    (folder / "meta_info.json").write_text(json.dumps({"num_experts": EXPERTS, "num_experts_per_token": CHOSEN}))
    save_file(
        {f"5_{layer}": torch.from_numpy(COUNTS[layer].copy()) for layer in range(LAYERS)}, folder / "rank0.safetensors"
    )
    return folder


def returned(folder: Path) -> Path:
    np.save(folder / "routed.npy", IDS)
    return folder / "routed.npy"


@pytest.mark.parametrize("write", [sglang, vllm, trtllm, returned])
def test_every_kind_is_found_and_gives_the_same_counts(tmp_path: Path, write: Any) -> None:
    found = import_dump(write(tmp_path), model=MODEL, offline=True)
    assert [layer.counts for layer in found.layers["all"]] == [tuple(of_layer) for of_layer in COUNTS]
    assert {(layer.num_experts, layer.experts_per_token, layer.tokens) for layer in found.layers["all"]} == {
        (128, 8.0, 20)
    }
    assert found.model == "Qwen/Qwen3-30B-A3B"
    assert found.provenance.tool == "moeplan routing import"
    write_counts(tmp_path / "counts.json", found)
    assert read_routing(tmp_path / "counts.json") == found
    write_profile(tmp_path / "profile.yaml", found)
    assert read_routing(tmp_path / "profile.yaml").layers["all"][0].counts == found.layers["all"][0].counts


def test_a_stated_phase_is_kept(tmp_path: Path) -> None:
    found = import_dump(sglang(tmp_path), model=MODEL, phase="decode", offline=True)
    assert set(found.layers) == {"all", "decode"}


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 48 layers, and .* has 61, of which 58 have experts"):
        import_dump(sglang(tmp_path), model="deepseek-v3", offline=True)
    with pytest.raises(InputError, match="has no experts"):
        import_dump(tmp_path / "dump.pt", model="llama-3.1-70b-instruct", offline=True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a", b"", "is empty"),
        ("a.pt", pickle.dumps({"a": 1}, protocol=4), "refused: a pickle"),
        ("a.txt", b"hello\n", "no dump of routing that is known"),
        ("a.json", b'{"a": 1}', "no dump of routing that is known: 'a'"),
        ("a.json", b'{"schema":"moeplan.routing-counts/1"}', "needs no import"),
        ("a.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "counts of one rank"),
        (
            "a.log",
            b"EPLB step: 7 for model m: avg_tokens=1.00, max_tokens=2, balancedness=0.5000, steps\n",
            r"1 lines of vLLM's .*median 0\.50",
        ),
        ("a.bin", bytes(range(256)) * 40, "no dump of routing that is known"),
        ("a.gguf", b"GGUF", "broken GGUF"),
        ("a.npy", b"\x93NUMPY", "cut short"),
        ("a.pt", b"PK\x03\x04", "no file that torch.save wrote"),
    ],
)
def test_files_that_are_no_dump_are_told_from_each_other(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        import_dump(tmp_path / name, model=MODEL, offline=True)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_what_is_asked_wrongly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        import_dump(tmp_path / "none")
    with pytest.raises(InputError, match=r"neither meta_info\.json nor files \.pt"):
        import_dump(tmp_path)
    with pytest.raises(InputError, match="unknown kind of dump 'tgi'"):
        import_dump(tmp_path, kind="tgi")
    with pytest.raises(InputError, match="unknown phase 'both'"):
        import_dump(tmp_path, phase="both")
    with pytest.raises(InputError, match="must be above 0"):
        import_dump(tmp_path, experts_per_token=0)
    sglang(tmp_path)
    with pytest.raises(InputError, match=r"no array that numpy saved|not valid JSON|not UTF-8"):
        import_dump(tmp_path / "dump.pt", kind="returned", model=MODEL, offline=True)
