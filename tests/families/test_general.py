"""The general rules: known families read without their row, and configs that must not be read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention, LatentAttention, MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import FAMILIES, read_config
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.general import general
from tests import oracle

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 14}
UNKNOWN: dict[str, Any] = {"model_type": "never_heard_of", **SIZES, **EXPERTS, "intermediate_size": 50}
LATENT: dict[str, Any] = {
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 8,
}


def _without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def _codes(config: dict[str, Any]) -> list[str]:
    return [remark.code for remark in read_config(config).remarks]


# Families that the general rules read as well as the family's own row -----------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mixtral", **SIZES, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 30},
        {"model_type": "mistral", **SIZES, "intermediate_size": 50, "sliding_window": None},
        {"model_type": "llama", **SIZES, "intermediate_size": 50, "attention_bias": True, "mlp_bias": True},
        {"model_type": "solar_open", **SIZES, **EXPERTS, "head_dim": 10, "n_shared_experts": 2},
        {
            "model_type": "deepseek_v3",
            **SIZES,
            **EXPERTS,
            **LATENT,
            "intermediate_size": 50,
            "num_key_value_heads": 6,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
        },
        {"model_type": "deepseek_v2", **SIZES, **EXPERTS, **LATENT, "intermediate_size": 50, "q_lora_rank": None,
         "num_key_value_heads": 6, "n_shared_experts": 2, "first_k_dense_replace": 2},
        {"model_type": "qwen2_moe", **SIZES, **EXPERTS, "intermediate_size": 50, "qkv_bias": True,
         "shared_expert_intermediate_size": 20, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
        {"model_type": "dots1", **SIZES, **EXPERTS, "intermediate_size": 50, "n_shared_experts": 1,
         "first_k_dense_replace": 1, "qk_norm": True, "n_group": 1, "topk_group": 1},
    ],
    ids=lambda config: config["model_type"],
)  # fmt: skip
def test_a_known_family_counts_the_same_by_the_general_rules(config: dict[str, Any]) -> None:
    spelled = dict(config)
    if config["model_type"] in ("solar_open", "deepseek_v3", "deepseek_v2", "dots1"):
        spelled["n_routed_experts"] = spelled.pop("num_experts")
    counts = parameters(general(Fields(spelled)))
    built = oracle.build(spelled)
    assert counts.total == sum(oracle.by_role(built).values())
    ours = {role: count for role, count in counts.by_role.items() if count}
    assert ours == oracle.by_role(built)


@pytest.mark.parametrize(
    ("model_type", "missing_norms"),
    # transformers builds query and key norms that no field of the config speaks of
    [("qwen3_moe", 4 * 2 * 8), ("olmoe", 4 * (48 + 16))],
)
def test_norms_that_no_field_speaks_of_are_all_that_is_missing(model_type: str, missing_norms: int) -> None:
    config = _without(UNKNOWN, "moe_intermediate_size") if model_type == "olmoe" else UNKNOWN
    config = config | {"model_type": model_type, "head_dim": 8}
    counts = parameters(general(Fields(config)))
    assert oracle.by_role(oracle.build(config))["attention"] - counts.by_role["attention"] == missing_norms


def test_an_unknown_model_says_what_it_was_read_from() -> None:
    assert UNKNOWN["model_type"] not in FAMILIES
    spec = read_config(UNKNOWN)
    remark = spec.remarks[0]
    assert (remark.code, remark.severity) == ("family-unknown", "warning")
    assert "'never_heard_of'" in remark.message
    for name in ("hidden_size=48", "num_experts=6", "num_experts_per_tok=2", "moe_intermediate_size=14"):
        assert name in remark.message
    assert not spec.verified
    assert spec.model_type == "never_heard_of"


def test_no_model_type_at_all_is_read_by_the_general_rules() -> None:
    assert "family-unknown" in _codes(_without(UNKNOWN, "model_type"))


# Concepts and their cousins -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["num_local_experts", "n_routed_experts", "moe_num_experts"])
def test_the_number_of_experts_has_cousins(name: str) -> None:
    cousin = _without(UNKNOWN, "num_experts") | {name: 6}
    assert parameters(read_config(cousin)) == parameters(read_config(UNKNOWN))


@pytest.mark.parametrize(
    "name", ["num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts"]
)
def test_experts_per_token_has_cousins(name: str) -> None:
    cousin = _without(UNKNOWN, "num_experts_per_tok") | {name: 2}
    assert parameters(read_config(cousin)) == parameters(read_config(UNKNOWN))


def test_sampling_top_k_is_never_routing() -> None:
    assert parameters(read_config(UNKNOWN | {"top_k": 5})) == parameters(read_config(UNKNOWN))
    with pytest.raises(ConfigError, match="num_experts_per_tok"):
        read_config(_without(UNKNOWN, "num_experts_per_tok") | {"top_k": 5})


@pytest.mark.parametrize(
    ("fields", "sparse"),
    [
        ({}, [0, 1, 2, 3]),
        ({"first_k_dense_replace": 2}, [2, 3]),
        ({"moe_layer_freq": [0, 1, 0, 1]}, [1, 3]),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, [2]),
        ({"decoder_sparse_step": 2, "mlp_only_layers": []}, [1, 3]),
        ({"mlp_only_layers": [0, 2]}, [1, 3]),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "dense"]}, [1, 2]),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, [1, 3]),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 2, "moe_layer_interval": 1}, [1, 2]),
        ({"interleave_moe_layer_step": 2}, [1, 3]),
        ({"num_dense_layers": 3}, [3]),
        ({"moe_layers_enum": "1,3"}, [1, 3]),
        ({"num_dense_layers": 1, "first_k_dense_replace": 1}, [1, 2, 3]),
    ],
    ids=str,
)
def test_every_way_to_say_which_layers_are_sparse(fields: dict[str, Any], sparse: list[int]) -> None:
    layers = read_config(UNKNOWN | fields).layers
    assert [number for number, layer in enumerate(layers) if isinstance(layer.ffns[0], MoeFfn)] == sparse


def test_lists_per_layer_are_read_per_layer() -> None:
    spec = read_config(
        UNKNOWN | {"moe_topk": [1, 2, 3, 4], "num_experts_per_tok": None, "n_shared_experts": [0, 1, 1, 2]}
    )
    ffns = [layer.ffns[0] for layer in spec.layers]
    assert [(ffn.experts_per_token, ffn.shared_width) for ffn in ffns if isinstance(ffn, MoeFfn)] == [
        (1, 0),
        (2, 14),
        (3, 14),
        (4, 28),
    ]


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] * 2}, [None, 8, None, 8]),
        ({"sliding_window": 8, "sliding_window_pattern": 2}, [8, None, 8, None]),
        ({"sliding_window": 8, "use_sliding_window": False}, [None] * 4),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3}, [None, None, None, 8]),
        ({"sliding_window": 8}, [None] * 4),
    ],
    ids=str,
)
def test_windows_are_only_taken_where_a_field_gives_them_to_a_layer(
    fields: dict[str, Any], windows: list[int | None]
) -> None:
    spec = read_config(UNKNOWN | fields)
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    assert [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)] == windows
    undecided = fields == {"sliding_window": 8}
    assert undecided == any("sliding_window is set" in remark.message for remark in spec.remarks)


def test_latent_attention_with_an_indexer_is_read() -> None:
    indexer = {"index_topk": 64, "index_n_heads": 2, "index_head_dim": 16}
    mixer = read_config(UNKNOWN | LATENT | indexer).layers[0].mixers[0]
    assert isinstance(mixer, LatentAttention)
    assert mixer.indexer is not None
    assert mixer.indexer.top_k == 64


def test_what_is_left_open_in_form_is_a_warning() -> None:
    config = _without(UNKNOWN, "tie_word_embeddings", "hidden_act")
    extra = {"vision_config": {"hidden_size": 8}, "num_nextn_predict_layers": 1}
    messages = [remark.message for remark in read_config(config | extra).remarks if remark.severity == "warning"]
    for word in ("tie_word_embeddings", "vision_config", "num_nextn_predict_layers", "feed-forwards"):
        assert any(word in message for message in messages), word
    assert parameters(read_config(config)) == parameters(read_config(UNKNOWN))


# Nested configs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text_config", "language_config", "llm_config", "thinker_config"])
def test_a_nested_text_model_is_followed(name: str) -> None:
    nested = {"model_type": "never_heard_of_vl", name: _without(UNKNOWN, "model_type")}
    spec = read_config(nested)
    assert parameters(spec) == parameters(read_config(UNKNOWN))
    assert f"{name}.num_experts=6" in spec.remarks[0].message


def test_a_nested_model_of_a_known_type_is_read_by_its_family() -> None:
    inner = {
        "model_type": "solar_open",
        **SIZES,
        **_without(EXPERTS, "num_experts"),
        "n_routed_experts": 6,
        "head_dim": 8,
    }
    spec = read_config({"model_type": "never_heard_of_vl", "thinker_config": {"text_config": inner}})
    assert spec.family == "solar_open"
    assert spec.model_type == "never_heard_of_vl"
    assert spec.remarks[0].code == "family-unknown"
    assert parameters(spec) == parameters(read_config(inner))


def test_nesting_without_end_is_an_error() -> None:
    endless: dict[str, Any] = dict(UNKNOWN)
    endless["text_config"] = endless
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_config(endless)


# Configs that must not be read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"_class_name": "UNet2DConditionModel", "sample_size": 64}, "diffusion"),
        ({"_class_name": "FluxTransformer2DModel", **SIZES}, "diffusion"),
        ({"sample_size": 64, "in_channels": 4, "num_layers": 2}, "diffusion"),
        ({"model_type": "some_vit", "hidden_size": 8, "num_hidden_layers": 2, "image_size": 224}, "vision"),
        ({"model_type": "some_wav", "hidden_size": 8, "num_hidden_layers": 2, "feat_extract_norm": "layer"}, "audio"),
        (UNKNOWN | {"is_encoder_decoder": True}, "encoder-decoder"),
        (UNKNOWN | {"num_decoder_layers": 4}, "encoder-decoder"),
        (UNKNOWN | {"type_vocab_size": 2}, "encoder without a decoder"),
        (UNKNOWN | {"architectures": ["SomethingForMaskedLM"]}, "ForMaskedLM"),
        ({"logit_scale_init_value": 2.6, "text_config": UNKNOWN, "vision_config": {}}, "pair of encoders"),
        ({}, "not the config of a language model"),
        ({"hello": "world"}, "not the config of a language model"),
    ],
    ids=str,
)  # fmt: skip
def test_other_kinds_of_model_are_named(config: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        read_config(config)


@pytest.mark.parametrize(
    "field",
    [
        {"linear_num_key_heads": 4},
        {"linear_attn_config": {"head_dim": 8}},
        {"mamba_d_state": 16},
        {"ssm_state_size": 16},
        {"compress_ratios": [4, 4]},
        {"index_topk": 64},
        {"full_attention_interval": 4},
        {"hybrid_override_pattern": "M*"},
        {"layers_block_type": ["mamba", "attention"]},
        {"attention_chunk_size": 8192},
        {"num_kv_shared_layers": 2},
        {"hc_mult": 4},
        {"layer_types": ["full_attention", "linear_attention"] * 2},
        {"layer_types": ["conv"] * 4},
    ],
    ids=str,
)
def test_layers_that_the_rules_do_not_know_are_an_error_that_names_the_field(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(field))):
        read_config(UNKNOWN | field)


@pytest.mark.parametrize("value", [None, False, 0, [], {}])
def test_fields_of_unknown_layers_that_are_off_do_no_harm(value: Any) -> None:
    off = {"mamba_d_state": value, "linear_num_key_heads": value, "attention_chunk_size": value}
    assert parameters(read_config(UNKNOWN | off)) == parameters(read_config(UNKNOWN))


@pytest.mark.parametrize(
    "name",
    ["hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads", "num_experts_per_tok", "num_experts"],
)
def test_a_missing_size_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"missing .*{name}"):
        read_config(_without(UNKNOWN, name))


def test_experts_without_a_width_are_an_error() -> None:
    with pytest.raises(ConfigError, match="moe_intermediate_size"):
        read_config(_without(UNKNOWN, "moe_intermediate_size", "intermediate_size"))


def test_with_dense_layers_the_dense_width_is_not_the_width_of_an_expert() -> None:
    with pytest.raises(ConfigError, match="moe_intermediate_size"):
        read_config(_without(UNKNOWN, "moe_intermediate_size") | {"first_k_dense_replace": 1})


@pytest.mark.parametrize("hidden", [{"moe_args": {"num_experts": 8}}, {"moe_intermediate_size": 8}, {"expert_k": 2}])
def test_a_config_that_speaks_of_experts_is_not_read_as_dense(hidden: dict[str, Any]) -> None:
    dense = {"model_type": "never_heard_of", **SIZES, "intermediate_size": 50}
    assert parameters(read_config(dense)).by_role["routed_experts"] == 0
    with pytest.raises(ConfigError, match="num_experts"):
        read_config(dense | hidden)


@pytest.mark.parametrize(
    "field",
    [
        {"num_hidden_layers": -4},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 10**9},
        {"hidden_size": -1},
        {"vocab_size": 10**30},
        {"num_experts": -8},
        {"num_experts": "eight"},
        {"num_experts": True},
        {"num_experts_per_tok": 7},
        {"num_experts_per_tok": 0},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 4},
        {"hidden_size": 48.5},
        {"mlp_layer_types": ["sparse"] * 3},
        {"mlp_layer_types": ["dense"] * 4},
        {"mlp_layer_types": ["wet"] * 4},
        {"moe_layer_freq": [0, 1]},
        {"moe_layer_freq": [0, 1, 2, 1]},
        {"layer_types": ["full_attention"] * 5},
        {"moe_topk": [2, 2], "num_experts_per_tok": None},
        {"text_config": "text"},
        {"model_type": 7},
        {"num_local_experts": 9},
        {"experts_per_token": 3},
        {"first_k_dense_replace": 1, "num_dense_layers": 2},
        {"head_dim": None, "num_attention_heads": 5, "num_key_value_heads": 5},
        {"layer_types": ["sliding_attention"] * 4},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_errors(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_config(UNKNOWN | field)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = (*UNKNOWN, *LATENT, "layer_types", "mlp_layer_types", "moe_layer_freq", "text_config", "architectures", "moe_topk",
         "sliding_window", "n_shared_experts", "tie_word_embeddings", "head_dim", "mlp_only_layers")  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4))
def test_no_value_of_any_field_leads_to_anything_but_an_answer_or_a_config_error(changes: dict[str, Any]) -> None:
    try:
        spec = read_config(UNKNOWN | changes | {"model_type": "never_heard_of"})
    except ConfigError:
        return
    assert len(spec.layers) <= 10_000
    assert spec.hidden_size > 0
