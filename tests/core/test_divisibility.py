"""Weights whose scales belong to blocks, and where ranks may cut them."""

from __future__ import annotations

from moeplan.core.deployment import Constants, Deployment, Serving
from moeplan.core.divisibility import BlockSide, block_sides
from moeplan.core.quant import BF16, Quantisation
from moeplan.core.weights import inventory
from moeplan.sources.models import find_model


def test_a_shard_is_whole_blocks_or_broken() -> None:
    # 1536 is 12 blocks of 128: 4 ranks have 3 each, 8 ranks one and a half; over 5 it does not divide at all.
    side = BlockSide("routed_experts", "experts.0.gate_proj", 1536, 128)
    assert [ranks for ranks in (1, 2, 3, 4, 5, 6, 8, 12, 16) if side.is_broken(ranks)] == [8, 16]
    assert side.told(8) == "1536 / 8 = 192 of experts.0.gate_proj is not a multiple of the 128 of its fp8 blocks"


def test_sides_of_a_checkpoint_in_blocks() -> None:
    # Qwen3-30B-A3B-FP8: queries 32 x 128 = 4096 rows, experts 768; routers and norms are no blocks.
    model = find_model("qwen3-30b-a3b-fp8")
    assert model.quantisation is not None
    of = Serving(
        model.spec, inventory(model.spec), model.quantisation, Deployment("", 1, 1), None, None, Constants("", "1", {})
    )
    found = {(side.role, side.module.rpartition(".")[2], side.size, side.block) for side in block_sides(of)}
    assert {("attention", "q_proj", 4096, 128), ("routed_experts", "gate_proj", 768, 128)} <= found
    assert {role for role, *_ in found} == {"attention", "routed_experts"}
    assert block_sides(of._replace(quantisation=Quantisation("bf16", BF16))) == ()
