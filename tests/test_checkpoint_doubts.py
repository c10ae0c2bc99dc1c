"""What a checkpoint may hide: tensors beyond the config, tensors that are missing, quantisers nobody knows, other dtypes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.errors import ConfigError
from moeplan.estimate import Estimate

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "max_position_embeddings": 4096,
}  # fmt: skip

# Names and shapes of a Llama layer as meta-llama publishes them.
TENSORS: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (128, 64),
    "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.0.post_attention_layernorm.weight": (64,),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.self_attn.v_proj.weight": (32, 64),
    "model.layers.0.self_attn.o_proj.weight": (64, 64),
    "model.layers.0.mlp.gate_proj.weight": (128, 64),
    "model.layers.0.mlp.up_proj.weight": (128, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 128),
    "model.norm.weight": (64,),
    "lm_head.weight": (128, 64),
}
NUM_BYTES = {"BF16": 2, "F32": 4, "U32": 4}


def elements(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def written(folder: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str = "BF16", **config: Any) -> str:
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + elements(shape) * NUM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return str(folder)


def asked(folder: str, **given: Any) -> Estimate:
    return moeplan.estimate(folder, gpu="h100", context=1024, **given)


def test_a_whole_checkpoint_is_exact(tmp_path: Path) -> None:
    found = asked(written(tmp_path, TENSORS))
    assert (found.model.source_kind, found.weights.basis) == ("headers", "exact")
    assert found.weights.resident_bytes == 2 * sum(map(elements, TENSORS.values()))


def test_what_only_the_headers_know_stays_whatever_format_is_asked_for(tmp_path: Path) -> None:
    tower = {"vision_tower.patch.weight": (512, 512)}
    folder = written(tmp_path, TENSORS | tower)
    text_bytes = 2 * sum(map(elements, TENSORS.values()))
    assert asked(folder).weights.resident_bytes == text_bytes + 2 * 512 * 512
    smaller = asked(folder, quant="fp8")
    assert smaller.weights.by_role["towers"] == 2 * 512 * 512
    assert smaller.weights.resident_bytes < text_bytes + 2 * 512 * 512


def test_a_checkpoint_that_lacks_tensors_gives_no_certain_verdict(tmp_path: Path) -> None:
    part = {name: shape for name, shape in TENSORS.items() if "mlp" not in name}
    found = asked(written(tmp_path, part))
    assert found.weights.basis == "derived"
    assert found.verdict.certain is False
    assert {"tensors-missing", "checkpoint-incomplete"} <= {note.code for note in found.notes}


@pytest.mark.parametrize(("stored", "given", "bytes_each"), [("F32", {}, 2), ("BF16", {"dtype": "float32"}, 4)])
def test_weights_in_another_dtype_than_stored_are_not_exact(
    tmp_path: Path, stored: str, given: dict[str, str], bytes_each: int
) -> None:
    found = asked(written(tmp_path, TENSORS, stored), **given)
    total = sum(map(elements, TENSORS.values()))
    assert found.weights.checkpoint_bytes == NUM_BYTES[stored] * total
    assert (found.weights.resident_bytes, found.weights.basis) == (bytes_each * total, "derived")


def test_headers_count_where_nobody_knows_the_quantiser(tmp_path: Path) -> None:
    method = {"quantization_config": {"quant_method": "nobody-knows", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | method))
    with pytest.raises(ConfigError, match="nobody-knows"):
        moeplan.estimate(str(tmp_path))
    found = asked(written(tmp_path, TENSORS, "U32", **method))
    assert found.weights.checkpoint_bytes == 4 * sum(map(elements, TENSORS.values()))
    assert found.parameters.total == sum(map(elements, TENSORS.values()))
    assert (found.parameters.basis, found.verdict.certain) == ("derived", False)


def test_a_tied_head_that_is_stored_is_no_difference(tmp_path: Path) -> None:
    found = asked(written(tmp_path, TENSORS, tie_word_embeddings=True))
    codes = {note.code for note in found.notes}
    assert "headers-differ" not in codes
    assert found.weights.checkpoint_bytes - found.weights.resident_bytes == 2 * 128 * 64
