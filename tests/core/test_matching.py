"""Matching of tensors by name: fused, stacked, packed and renamed ones, leftovers, and what is not known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.matching import Matched, match
from moeplan.core.model import ModelSpec
from moeplan.core.quant import BF16, Quantisation, fold_bytes
from moeplan.core.weights import count_parameters, inventory, parameters
from moeplan.sources.families import read_config
from moeplan.sources.quantisation import read_quantisation
from tests.checkpoint_stubs import checkpoint, tensor

HIDDEN, WIDTH, LAYERS, EXPERTS, VOCABULARY, KV = 64, 96, 2, 4, 100, 32
CONFIG: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "moe_intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}
PLAIN = Quantisation("bf16", BF16)


def bf16(name: str, *shape: int) -> StoredTensor:
    return tensor(name, "BF16", shape)


def attention(layer: int) -> list[StoredTensor]:
    under = f"model.layers.{layer}.self_attn."
    return [
        bf16(f"{under}q_proj.weight", HIDDEN, HIDDEN),
        bf16(f"{under}k_proj.weight", KV, HIDDEN),
        bf16(f"{under}v_proj.weight", KV, HIDDEN),
        bf16(f"{under}o_proj.weight", HIDDEN, HIDDEN),
        bf16(f"{under}q_norm.weight", 16),
        bf16(f"{under}k_norm.weight", 16),
    ]


def experts(layer: int) -> list[StoredTensor]:
    under = f"model.layers.{layer}.mlp.experts."
    made = []
    for expert in range(EXPERTS):
        made += [
            bf16(f"{under}{expert}.gate_proj.weight", WIDTH, HIDDEN),
            bf16(f"{under}{expert}.up_proj.weight", WIDTH, HIDDEN),
            bf16(f"{under}{expert}.down_proj.weight", HIDDEN, WIDTH),
        ]
    return made


def rest() -> list[StoredTensor]:
    made = [
        bf16("model.embed_tokens.weight", VOCABULARY, HIDDEN),
        bf16("model.norm.weight", HIDDEN),
        bf16("lm_head.weight", VOCABULARY, HIDDEN),
    ]
    for layer in range(LAYERS):
        made += [
            bf16(f"model.layers.{layer}.mlp.gate.weight", EXPERTS, HIDDEN),
            bf16(f"model.layers.{layer}.input_layernorm.weight", HIDDEN),
            bf16(f"model.layers.{layer}.post_attention_layernorm.weight", HIDDEN),
        ]
    return made


def all_layers(make: Any) -> list[StoredTensor]:
    return [each for layer in range(LAYERS) for each in make(layer)]


def whole() -> list[StoredTensor]:
    return rest() + all_layers(attention) + all_layers(experts)


def sort(tensors: list[StoredTensor], quantisation: dict[str, Any] | None = None, **changes: Any) -> Matched:
    config = {**CONFIG, **changes}
    spec = read_config(config)
    read = read_quantisation({**config, "quantization_config": quantisation}) if quantisation else PLAIN
    assert read is not None
    return match(checkpoint(tensors), inventory(spec), read, tied_embedding=spec.tied_embedding)


def agrees(matched: Matched, spec: ModelSpec | None = None) -> None:
    """Nothing is left over on either side, and every count is that of the config."""
    spec = spec or read_config(CONFIG)
    assert matched.unmatched == ()
    assert matched.missing == ()
    assert count_parameters(spec, matched.counted, "derived") == parameters(spec)


def test_names_as_they_are_published() -> None:
    matched = sort(whole())
    agrees(matched)
    assert matched.recognised == ()


@pytest.mark.parametrize("front", ["language_model.", "model.language_model.", "transformer."])
def test_wrappers_in_front_do_not_matter(front: str) -> None:
    agrees(sort([each._replace(name=front + each.name.removeprefix("model.")) for each in whole()]))


# Fused and stacked -----------------------------------------------------------------------------------------


def test_queries_keys_and_values_in_one_tensor() -> None:
    def fused(layer: int) -> list[StoredTensor]:
        under = f"model.layers.{layer}.self_attn."
        return [bf16(f"{under}qkv_proj.weight", HIDDEN + 2 * KV, HIDDEN), *attention(layer)[3:]]

    agrees(sort(rest() + all_layers(fused) + all_layers(experts)))


@pytest.mark.parametrize("names", [("gate_up_proj", "down_proj"), ("w13_weight", "w2_weight")])
def test_all_experts_of_a_layer_in_two_tensors(names: tuple[str, str]) -> None:
    def stacked(layer: int) -> list[StoredTensor]:
        under = f"model.layers.{layer}.mlp.experts."
        return [
            bf16(f"{under}{names[0]}", EXPERTS, 2 * WIDTH, HIDDEN),
            bf16(f"{under}{names[1]}", EXPERTS, HIDDEN, WIDTH),
        ]

    agrees(sort(rest() + all_layers(attention) + all_layers(stacked)))


def test_stacked_and_packed_experts_count_as_parameters() -> None:
    def packed(layer: int) -> list[StoredTensor]:
        under = f"model.layers.{layer}.mlp.experts."
        return [
            tensor(f"{under}gate_up_proj_blocks", "U8", (EXPERTS, 2 * WIDTH, HIDDEN // 32, 16)),
            tensor(f"{under}gate_up_proj_scales", "U8", (EXPERTS, 2 * WIDTH, HIDDEN // 32)),
            tensor(f"{under}down_proj_blocks", "U8", (EXPERTS, HIDDEN, WIDTH // 32, 16)),
            tensor(f"{under}down_proj_scales", "U8", (EXPERTS, HIDDEN, WIDTH // 32)),
        ]

    stored = all_layers(packed)
    matched = sort(rest() + all_layers(attention) + stored, {"quant_method": "mxfp4"})
    agrees(matched)
    assert fold_bytes(matched.holdings).by_format["mxfp4"] == sum(each.num_bytes for each in stored)


# Quantisers ------------------------------------------------------------------------------------------------


def test_fp8_with_scales_of_weights_inputs_and_cache() -> None:
    def quantised(layer: int) -> list[StoredTensor]:
        made = []
        for each in attention(layer)[:4]:
            module = each.name.removesuffix(".weight")
            made += [
                tensor(each.name, "F8_E4M3", each.shape),
                tensor(f"{module}.weight_scale", "F32", ()),
                tensor(f"{module}.input_scale", "F32", ()),
            ]
        under = f"model.layers.{layer}.self_attn."
        return [
            *made,
            *attention(layer)[4:],
            tensor(f"{under}k_proj.k_scale", "F32", ()),
            tensor(f"{under}attn.v_scale", "F32", ()),
        ]

    stored = all_layers(quantised)
    modelopt = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["*experts*", "lm_head", "*gate"]}
    matched = sort(rest() + stored + all_layers(experts), modelopt)
    agrees(matched)
    folded = fold_bytes(matched.holdings)
    assert folded.by_role["attention"] == sum(each.num_bytes for each in stored)
    assert folded.by_format["fp8 per tensor"] + folded.by_format["bf16"] == folded.total_bytes


def test_bitsandbytes_keeps_a_flat_tensor_and_its_tables() -> None:
    def quantised(layer: int) -> list[StoredTensor]:
        made = []
        for each in experts(layer):
            size = math.prod(each.shape)
            made += [
                tensor(each.name, "U8", (size // 2, 1)),
                tensor(f"{each.name}.absmax", "F32", (size // 64,)),
                tensor(f"{each.name}.quant_map", "F32", (16,)),
                tensor(f"{each.name}.quant_state.bitsandbytes__nf4", "U8", (81,)),
            ]
        return made

    stored = all_layers(quantised)
    nf4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    matched = sort(rest() + all_layers(attention) + stored, nf4)
    agrees(matched)
    folded = fold_bytes(matched.holdings)
    assert folded.by_role["routed_experts"] == sum(each.num_bytes for each in stored)
    assert folded.by_format["bitsandbytes nf4"] == folded.by_role["routed_experts"]


def test_words_that_are_filled_up_hold_no_more_parameters() -> None:
    """Rows of 20 values of 4 bits take three words of 32, which could hold 24."""
    tensors = [each for each in whole() if "q_proj" not in each.name]
    config = {"hidden_size": 20, "head_dim": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    packed = [tensor(f"model.layers.{layer}.self_attn.q_proj.weight_packed", "I32", (16, 3)) for layer in range(LAYERS)]
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": True}}
    scheme = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group}}
    matched = sort(tensors + packed, scheme, **config)
    (counted,) = [params for entry, params in matched.counted if "q_proj" in entry.weight.name]
    assert counted == LAYERS * 16 * 20


def test_the_headers_decide_what_is_quantised() -> None:
    """A config that claims fp8 for all matrices, and a checkpoint that has one of them in bf16."""
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    quantised = [
        each if "layers.0." in each.name else tensor(each.name, "F8_E4M3", each.shape)
        for each in all_layers(attention)
        if "norm" not in each.name
    ]
    folded = fold_bytes(sort(quantised, fp8).holdings)
    by_dtype = {
        dtype: sum(each.num_bytes for each in quantised if each.dtype == dtype) for dtype in ("BF16", "F8_E4M3")
    }
    assert folded.by_format == {"bf16": by_dtype["BF16"], "fp8 128x128 block": by_dtype["F8_E4M3"]}


def test_a_format_that_no_config_names_is_called_by_its_dtype() -> None:
    stored = [tensor(each.name, "F8_E4M3", each.shape) for each in experts(0)]
    assert set(fold_bytes(sort(stored).holdings).by_format) == {"fp8 e4m3"}


# Beyond the inventory --------------------------------------------------------------------------------------


def test_tables_that_models_compute_hold_no_parameters() -> None:
    tables = [tensor(f"model.layers.{layer}.self_attn.rotary_emb.inv_freq", "F32", (8,)) for layer in range(LAYERS)]
    matched = sort(whole() + tables)
    agrees(matched)
    assert [(each.kind, each.num_tensors, each.num_bytes) for each in matched.recognised] == [("computed", 2, 64)]


def test_more_than_a_module_should_hold_is_told() -> None:
    """Weights that the config does not name, in a module of one role: counted there, and told."""
    extra = [bf16(f"model.layers.{layer}.mlp.experts.lora.weight", 8, HIDDEN) for layer in range(LAYERS)]
    matched = sort(whole() + extra)
    assert matched.unmatched == ()
    assert [(each.kind, each.num_tensors, each.num_bytes) for each in matched.recognised] == [
        ("surplus", 2, 2 * 8 * HIDDEN * 2)
    ]


def test_a_matrix_among_the_norms_of_a_layer_is_not_taken_for_one() -> None:
    matched = sort([*whole(), bf16("model.layers.0.projector.weight", 8, HIDDEN)])
    assert [each.name for each in matched.unmatched] == ["model.layers.0.projector.weight"]
    assert fold_bytes(matched.holdings).by_role["norm"] == fold_bytes(sort(whole()).holdings).by_role["norm"]


def test_layers_beyond_the_last_are_drafts_only_if_they_say_so() -> None:
    plain = bf16("model.layers.2.self_attn.q_proj.weight", HIDDEN, HIDDEN)
    assert [each.name for each in sort([*whole(), plain]).unmatched] == [plain.name]
    draft = [plain, bf16("model.layers.2.eh_proj.weight", HIDDEN, 2 * HIDDEN)]
    matched = sort(whole() + draft)
    agrees(matched._replace(counted=tuple(each for each in matched.counted if each[0].part != "mtp")))
    assert fold_bytes(matched.holdings).mtp_bytes == sum(each.num_bytes for each in draft)


def test_a_table_stored_once_more_is_a_duplicate() -> None:
    twice = bf16("model.decoder.embed_tokens.weight", VOCABULARY, HIDDEN)
    folded = fold_bytes(sort([*whole(), twice]).holdings)
    assert folded.mtp_duplicate_bytes == twice.num_bytes


def test_other_names_of_experts_and_attention() -> None:
    """As mistral-inference writes a mixture of experts."""
    words = {
        "model.": "",
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
        "self_attn.": "attention.",
        "q_proj": "wq",
        "k_proj": "wk",
        "v_proj": "wv",
        "o_proj": "wo",
        "mlp.": "feed_forward.",
        "gate_proj": "w1",
        "down_proj": "w2",
        "up_proj": "w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    renamed = []
    for each in whole():
        name = each.name
        for ours, theirs in words.items():
            name = name.replace(ours, theirs)
        renamed.append(each._replace(name=name))
    matched = sort(renamed)
    agrees(matched)
    assert [each.kind for each in matched.recognised] == ["other_names"]


def test_an_empty_checkpoint_lacks_everything() -> None:
    matched = sort([])
    assert matched.holdings == ()
    assert "model.embed_tokens.weight" in matched.missing
    assert "model.layers.{0-1} (whole layers)" in matched.missing
