"""Step-3.5 and Step-3.7 beside transformers: text model, tower, MTP modules, both spellings."""

from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests import oracle
from tests.families.agreement import assert_counts_agree

TEXT: dict[str, Any] = {
    "hidden_size": 40,
    "vocab_size": 90,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "share_expert_dim": 18,
    "sliding_window": 8,
    "layer_types": ["full_attention", "sliding_attention"] * 2 + ["full_attention"],
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {
    "width": 24,
    "layers": 3,
    "heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "mlp_ratio": 2.5,
}
PUBLISHED_NAMES = {
    "n_routed_experts": "moe_num_experts",
    "num_experts_per_tok": "moe_top_k",
    "num_key_value_heads": "num_attention_groups",
}


def _wrapped(text: dict[str, Any], vision: dict[str, Any] | None = None, **outer: Any) -> dict[str, Any]:
    return {"model_type": "step3p7", "text_config": text, "vision_config": vision or VISION, **outer}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True},
        {"num_sliding_attention_heads": 6},
        {"attention_other_setting": {"num_attention_heads": 6, "num_attention_groups": 2, "head_dim": 12}},
        {"moe_layers_enum": "1,3,4"},
        {"mlp_layer_types": ["sparse", "dense", "sparse", "dense", "sparse"]},
        {"layer_types": None, "moe_layers_enum": [2]},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(_wrapped(TEXT | changes), "AutoModelForImageTextToText")


def test_the_projector_may_have_a_bias() -> None:
    assert_counts_agree(_wrapped(TEXT, projector_bias=True), "AutoModelForImageTextToText")


def test_the_published_tower_agrees() -> None:
    # stepfun-ai/Step-3.7-Flash vision_config
    vision = {"width": 1536, "layers": 47, "heads": 16, "image_size": 728, "patch_size": 14, "mlp_ratio": 8960 / 1536}
    assert_counts_agree(_wrapped(TEXT | {"hidden_size": 4096}, vision), "AutoModelForImageTextToText")


def test_the_published_text_model_agrees() -> None:
    # stepfun-ai/Step-3.5-Flash
    text = {
        "hidden_size": 4096,
        "vocab_size": 128896,
        "num_hidden_layers": 45,
        "num_attention_heads": 64,
        "num_attention_groups": 8,
        "head_dim": 128,
        "intermediate_size": 11264,
        "moe_num_experts": 288,
        "moe_top_k": 8,
        "moe_intermediate_size": 1280,
        "share_expert_dim": 1280,
        "sliding_window": 512,
        "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128},
        "moe_layers_enum": ",".join(str(number) for number in range(3, 45)),
        "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 12,
        "num_nextn_predict_layers": 3,
    }
    spec = assert_counts_agree(_wrapped(text), "AutoModelForImageTextToText")
    heads = [mixer.num_heads for layer in spec.layers for mixer in layer.mixers if isinstance(mixer, GroupedAttention)]
    assert heads[:5] == [64, 96, 96, 96, 64]


def test_published_names_give_the_same_model() -> None:
    renamed = {PUBLISHED_NAMES.get(name, name): value for name, value in TEXT.items()}
    assert read_config(_wrapped(renamed)).layers == read_config(_wrapped(TEXT)).layers


def test_a_flat_config_is_the_text_model_and_says_that_the_tower_is_missing() -> None:
    flat = read_config(TEXT | {"model_type": "step3p7"})
    assert flat.layers == read_config(_wrapped(TEXT)).layers == read_config(TEXT | {"model_type": "step3p5"}).layers
    assert not flat.towers
    assert "tower-left-out" in {remark.code for remark in flat.remarks}


def test_mtp_modules_equal_those_that_transformers_builds() -> None:
    import torch
    from transformers.modeling_layers import MtpModel

    text = TEXT | {
        "num_nextn_predict_layers": 2,
        "layer_types": [*TEXT["layer_types"], "full_attention", "full_attention"],
        "mlp_layer_types": ["dense", "dense", "sparse", "sparse", "sparse", "dense", "dense"],
    }
    config = _wrapped(text)
    main = oracle.build(config, "AutoModelForImageTextToText")
    with torch.device("meta"):
        built = MtpModel(main, 2)
    own = sum(tensor.numel() for name, tensor in built.layers.named_parameters())
    counts = parameters(read_config(config))
    assert counts.mtp_unique == own
    assert counts.mtp_duplicate == 2 * 90 * 40


def test_layer_numbers_that_are_none_are_an_error() -> None:
    with pytest.raises(ConfigError, match="moe_layers_enum"):
        read_config(_wrapped(TEXT | {"moe_layers_enum": "1,two"}))
