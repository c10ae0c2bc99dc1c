"""llama.cpp's names of weights, held against what gguf-py's own tables call the parameters of transformers' models."""

from __future__ import annotations

from math import prod

import pytest

from moeplan.core.gguf_names import gguf_names, gguf_stems, holds
from moeplan.core.model import Weight
from moeplan.core.weights import Owned, inventory
from moeplan.sources.families import read_config
from moeplan.sources.gguf.names import gguf_roles
from tests.sources.gguf_files import converted
from tests.sources.gguf_models import MODELS

NAMED = ("attention", "indexer", "routed_experts", "shared_experts", "dense_mlp", "recurrent", "moe_latent")
"""Roles whose tensors are told apart by name; of the others a layer has one, or vectors that vary."""


@pytest.mark.parametrize("name", MODELS)
def test_tensors_of_a_layer_are_told_apart_by_name(name: str) -> None:
    model = MODELS[name]
    shapes, _ = converted(model.config, model.architecture)
    roles = gguf_roles(shapes)
    spec = read_config(model.config)
    for layer in range(len(spec.layers)):
        groups: dict[tuple[Weight, ...], int] = {}
        for tensor, shape in shapes.items():
            if not tensor.startswith(f"blk.{layer}.") or roles[tensor] not in NAMED or tensor.endswith(".scale"):
                continue
            owners = [
                entry.weight
                for entry in inventory(spec)
                if entry.part == "text" and layer in entry.layers and entry.weight.role == roles[tensor]
            ]
            held = tuple(weight for weight in owners if holds(tensor, weight))
            if held:
                groups[held] = groups.get(held, 0) + prod(shape)
            else:
                assert not all(gguf_stems(weight) for weight in owners), f"nobody holds {tensor}"
        for held, elements in groups.items():
            assert elements == sum(weight.num_elements for weight in held), sorted(weight.name for weight in held)


def test_names_say_block_and_part() -> None:
    up = Weight("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight", "routed_experts", (8, 4), count=2)
    both = Weight("model.layers.{layer}.mlp.experts.gate_up_proj", "routed_experts", (2, 16, 4))
    bias = Weight("model.layers.{layer}.mlp.experts.gate_up_proj_bias", "routed_experts", (2, 16))
    latent = Weight("model.layers.{layer}.self_attn.kv_b_proj.weight", "attention", (8, 4))
    head = Weight("lm_head.weight", "lm_head", (8, 4))
    assert gguf_names(up, 3) == ("blk.3.ffn_up_exps.weight",)
    assert gguf_names(both, 0) == ("blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight")
    assert gguf_names(bias, 0) == ("blk.0.ffn_gate_exps.bias", "blk.0.ffn_up_exps.bias")
    assert gguf_names(latent, 1) == ("blk.1.attn_k_b.weight", "blk.1.attn_v_b.weight")
    assert gguf_names(head, None) == ("output.weight",)


def test_merged_gate_and_up_hold_both() -> None:
    gate = Weight("model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight", "routed_experts", (8, 4), count=2)
    down = gate._replace(name="model.layers.{layer}.mlp.experts.{expert}.down_proj.weight")
    assert holds("blk.2.ffn_gate_up_exps.weight", gate)
    assert not holds("blk.2.ffn_gate_up_exps.weight", down)
    assert not holds("blk.2.ffn_gate_exps.bias", gate)


def test_owned_weights_without_a_name_are_left_to_their_role() -> None:
    norm = Owned(Weight("model.layers.{layer}.input_layernorm.weight", "norm", (4,)), "text", (0,))
    assert gguf_stems(norm.weight) == ()
