"""Tensors of a GGUF file and the weights that they are, worked by hand."""

from __future__ import annotations

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.model import Role, Weight
from moeplan.core.role_matching import match_by_role
from moeplan.core.weights import Owned

UP = Weight("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight", "routed_experts", (8, 32), count=2)
DOWN = Weight("model.layers.{layer}.mlp.experts.{expert}.down_proj.weight", "routed_experts", (32, 8), count=2)
NORM_1 = Weight("model.layers.{layer}.input_layernorm.weight", "norm", (32,))
NORM_2 = Weight("model.layers.{layer}.post_attention_layernorm.weight", "norm", (32,))


def stored(name: str, dtype: str, shape: tuple[int, ...], num_bytes: int) -> StoredTensor:
    return StoredTensor(name, dtype, shape, num_bytes, "model.gguf")


def matched(
    tensors: list[StoredTensor], owned: tuple[Owned, ...], role: Role
) -> dict[tuple[str, str, tuple[int, ...]], int]:
    roles: dict[str, Role | None] = dict.fromkeys((tensor.name for tensor in tensors), role)
    checkpoint = Checkpoint(tuple(tensors), ("model.gguf",), {}, ())
    found = match_by_role(checkpoint, owned, roles, ())
    return {(each.weight.name, each.format, each.layers): each.num_bytes for each in found.holdings}


def test_a_tensor_goes_to_the_weight_that_its_name_tells() -> None:
    # The mix keeps down projections of layer 1 in a wider type.
    owned = (Owned(UP, "text", (0, 1)), Owned(DOWN, "text", (0, 1)))
    tensors = [
        stored("blk.0.ffn_up_exps.weight", "Q4_0", (2, 8, 32), 288),
        stored("blk.0.ffn_down_exps.weight", "Q4_0", (2, 32, 8), 300),
        stored("blk.1.ffn_up_exps.weight", "Q4_0", (2, 8, 32), 288),
        stored("blk.1.ffn_down_exps.weight", "Q8_0", (2, 32, 8), 544),
    ]
    assert matched(tensors, owned, "routed_experts") == {
        (UP.name, "gguf q4_0", (0, 1)): 576,
        (DOWN.name, "gguf q4_0", (0,)): 300,
        (DOWN.name, "gguf q8_0", (1,)): 544,
    }


def test_a_merged_tensor_is_shared_out() -> None:
    gate = UP._replace(name=UP.name.replace("up_proj", "gate_proj"))
    owned = (Owned(gate, "text", (0,)), Owned(UP, "text", (0,)), Owned(DOWN, "text", (0,)))
    tensors = [stored("blk.0.ffn_gate_up_exps.weight", "Q4_0", (2, 16, 32), 576)]
    assert matched(tensors, owned, "routed_experts") == {
        (gate.name, "gguf q4_0", (0,)): 288,
        (UP.name, "gguf q4_0", (0,)): 288,
    }


def test_names_that_tell_no_weight_are_shared_out_by_role() -> None:
    owned = (Owned(NORM_1, "text", (0,)), Owned(NORM_2, "text", (0,)))
    tensors = [stored("blk.0.attn_norm.weight", "F32", (32,), 128)]
    assert matched(tensors, owned, "norm") == {
        (NORM_1.name, "gguf f32", (0,)): 64,
        (NORM_2.name, "gguf f32", (0,)): 64,
    }
