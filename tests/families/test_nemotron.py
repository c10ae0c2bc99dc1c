"""Nemotron-H beside transformers: every block kind, with and without experts, latent, biases and MTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention, Mamba2
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 48,
    "vocab_size": 102,
    "hybrid_override_pattern": "ME*-ME",
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 70,
    "mamba_num_heads": 6,
    "mamba_head_dim": 12,
    "ssm_state_size": 14,
    "n_groups": 3,
    "conv_kernel": 4,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 22,
    "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 26,
    "tie_word_embeddings": False,
}
# nvidia/NVIDIA-Nemotron-3-Super-120B-A12B
SUPER: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 4096,
    "vocab_size": 131072,
    "hybrid_override_pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
    "mtp_hybrid_override_pattern": "*E",
    "num_nextn_predict_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 2688,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "mamba_ssm_cache_dtype": "float32",
    "n_routed_experts": 512,
    "num_experts_per_tok": 22,
    "moe_intermediate_size": 2688,
    "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 5376,
    "moe_latent_size": 1024,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"moe_latent_size": 18},
        {"mlp_bias": True, "moe_latent_size": 18},
        {"mlp_bias": True},
        {"use_bias": True, "use_conv_bias": False},
        {"hybrid_override_pattern": "M-*-", "num_hidden_layers": 4},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_super_agrees() -> None:
    spec = assert_counts_agree(SUPER)
    mambas = [mixer for layer in spec.layers for mixer in layer.mixers if isinstance(mixer, Mamba2)]
    attentions = [mixer for layer in spec.layers for mixer in layer.mixers if isinstance(mixer, GroupedAttention)]
    assert (len(mambas), len(attentions)) == (40, 8)
    assert {mamba.state_dtype for mamba in mambas} == {"float32"}


@pytest.mark.parametrize("changes", [{}, {"moe_latent_size": 18}], ids=str)
def test_tensor_names_are_the_published_ones(changes: dict[str, Any], tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | changes, tmp_path)


def test_a_list_of_blocks_reads_like_the_letters() -> None:
    listed = {name: value for name, value in SMALL.items() if name != "hybrid_override_pattern"}
    names = ["mamba", "moe", "attention", "mlp", "linear_attention", "moe"]
    assert read_config(listed | {"layers_block_type": names}).layers == read_config(SMALL).layers


def test_mtp_holds_the_blocks_of_its_pattern_and_one_projection() -> None:
    with_mtp = SMALL | {"num_nextn_predict_layers": 2, "mtp_hybrid_override_pattern": "*E"}
    spec = read_config(with_mtp)
    plain, counts = parameters(read_config(SMALL)), parameters(spec)
    assert counts.total == plain.total
    one_layer = {
        kind: parameters(read_config(SMALL | {"hybrid_override_pattern": kind, "num_hidden_layers": 1})).total
        for kind in "*E"
    }
    frame = 2 * 102 * 48 + 48  # embedding, head and last norm of a model of one layer
    hidden = SMALL["hidden_size"]
    assert counts.mtp_unique == 2 * (sum(one_layer.values()) - 2 * frame + 2 * hidden * hidden + 3 * hidden)
    names = {entry.weight.name for entry in inventory(spec) if entry.part == "mtp"}
    assert "mtp.layers.{layer}.eh_proj.weight" in names
    assert "mtp.layers.{layer}.mixer.q_proj.weight" in names


def test_letters_that_are_not_known_are_named() -> None:
    with pytest.raises(ConfigError, match="'X'"):
        read_config(SMALL | {"hybrid_override_pattern": "MX"})


def test_a_config_without_a_pattern_says_so() -> None:
    broken = {name: value for name, value in SMALL.items() if name != "hybrid_override_pattern"}
    with pytest.raises(ConfigError, match="hybrid_override_pattern or layers_block_type"):
        read_config(broken)
