"""Importance matrices in the layout of ggml-org/llama.cpp, tools/imatrix/imatrix.cpp at 006e7ef9 (`save_imatrix`), made by gguf-py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.imatrix import read_imatrix
from moeplan.sources.routing_dumps.known import Known, ModelLayers
from tests.sources.routing_dumps import choices
from tests.sources.routing_dumps.choices import Ids

LAYERS, EXPERTS, CHOSEN, TOKENS = (1, 2), 16, 4, 500
MODEL = ModelLayers("tests/moe", None, 3, dict.fromkeys(LAYERS, EXPERTS), dict.fromkeys(LAYERS, CHOSEN))


def matrix(
    path: Path,
    counted: Mapping[int, Ids],
    *,
    tokens: int = TOKENS,
    kind: str = "imatrix",
    endian: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
) -> Path:
    writer = gguf.GGUFWriter(path, "", endianess=endian)
    writer.add_key_value("general.type", kind, gguf.GGUFValueType.STRING)
    writer.add_key_value("imatrix.chunk_count", 16, gguf.GGUFValueType.UINT32)
    writer.add_key_value("imatrix.chunk_size", 512, gguf.GGUFValueType.UINT32)
    for layer, of_layer in counted.items():
        for part in ("down_exps", "gate_exps", "up_exps"):
            writer.add_tensor(f"blk.{layer}.ffn_{part}.weight.in_sum2", np.ones((EXPERTS, 32), dtype=np.float32))
            writer.add_tensor(f"blk.{layer}.ffn_{part}.weight.counts", of_layer.astype(np.float32).reshape(-1, 1))
        writer.add_tensor(f"blk.{layer}.attn_q.weight.in_sum2", np.ones((1, 32), dtype=np.float32))
        writer.add_tensor(f"blk.{layer}.attn_q.weight.counts", np.array([[tokens]], dtype=np.float32))
    writer.add_tensor("blk.0.ffn_down.weight.counts", np.array([[tokens]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def drawn() -> dict[int, Ids]:
    return dict(zip(LAYERS, choices.counts(choices.draw(2, EXPERTS, CHOSEN, TOKENS, seed=1), EXPERTS), strict=True))


@pytest.mark.parametrize("endian", list(gguf.GGUFEndian))
def test_counts_of_experts_and_their_number_per_token(tmp_path: Path, endian: gguf.GGUFEndian) -> None:
    counted = drawn()
    found = read_imatrix(matrix(tmp_path / "a.gguf", counted, endian=endian), Known())
    assert [layer.layer for layer in found.layers["all"]] == list(LAYERS)
    assert [layer.counts for layer in found.layers["all"]] == [tuple(of_layer) for of_layer in counted.values()]
    assert {layer.tokens for layer in found.layers["all"]} == {TOKENS}
    assert {layer.experts_per_token for layer in found.layers["all"]} == {float(CHOSEN)}
    assert set(found.layers) == {"all", "prefill"}
    assert read_imatrix(tmp_path / "a.gguf", Known(MODEL)).layers == found.layers


def test_experts_per_token_are_asked_for_where_tokens_do_not_tell(tmp_path: Path) -> None:
    path = matrix(tmp_path / "a.gguf", drawn(), tokens=TOKENS * 4 // 3)  # a ratio of 3
    with pytest.raises(InputError, match="was chosen"):
        read_imatrix(path, Known(experts_per_token=16))
    matrix(path, drawn(), tokens=570)  # 3.5
    with pytest.raises(InputError, match="does not say how many experts a token has"):
        read_imatrix(path, Known())


def test_other_matrices_and_models_are_refused(tmp_path: Path) -> None:
    path = matrix(tmp_path / "a.gguf", drawn())
    with pytest.raises(InputError, match="layer 1 has 16 experts in it, and tests/moe is dense"):
        read_imatrix(path, Known(MODEL._replace(experts={2: EXPERTS})))
    with pytest.raises(InputError, match="no counts of experts in it: 1 tensors"):
        read_imatrix(matrix(path, {}), Known())
    with pytest.raises(InputError, match="of the type model, no importance matrix"):
        read_imatrix(matrix(path, drawn(), kind="model"), Known())
    for wrong in (-1.0, np.nan, np.inf, 0.5, 1e13):
        counted = {layer: of_layer.astype(float) for layer, of_layer in drawn().items()}
        counted[2][3] = wrong
        with pytest.raises(InputError, match="has a count of"):
            read_imatrix(matrix(path, counted), Known())
    with pytest.raises(InputError, match="nothing was counted"):
        read_imatrix(matrix(path, {1: np.zeros(EXPERTS, dtype=int)}), Known())
    matrix(path, drawn())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="incomplete download"):
        read_imatrix(path, Known())
