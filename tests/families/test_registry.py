"""The registry: every row names a reader, and no family swallows what it does not understand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import FAMILIES, read_config

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize("row", sorted(set(FAMILIES.values())))
def test_every_row_names_a_reader_with_a_docstring(row: str) -> None:
    module, function = row.rsplit(".", 1)
    assert getattr(import_module(f"moeplan.sources.families.{module}"), function).__doc__


def test_rows_are_in_order() -> None:
    assert list(FAMILIES) == sorted(FAMILIES)


@pytest.mark.parametrize("field", ["num_experts", "num_local_experts", "n_routed_experts"])
def test_a_dense_family_refuses_a_config_that_states_experts(field: str) -> None:
    assert read_config(LLAMA).layers
    with pytest.raises(ConfigError, match=rf"`{field}` is 8.*llama.*dense"):
        read_config(LLAMA | {field: 8})


def test_openmoe_is_known_by_its_architecture_where_it_calls_itself_llama() -> None:
    config = LLAMA | {
        "architectures": ["OpenMoeForCausalLM"],
        "num_experts": 8,
        "moe_layer_interval": 2,
        "router_topk": 2,
    }
    assert read_config(config).family == "openmoe"


def test_architectures_of_any_shape_do_not_stop_the_reading() -> None:
    shapes: list[Any] = [None, "LlamaForCausalLM", [1, None], {}]
    for broken in shapes:
        assert read_config(LLAMA | {"architectures": broken}).family == "llama"
