"""DeepSeek beside transformers: counts, tensor names, MTP, V4's published names and its quantiser's lists."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import CompressedAttention
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests import oracle
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, our_tensors

V2: dict[str, Any] = {
    "model_type": "deepseek_v2",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "n_shared_experts": 2,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 12,
    "q_lora_rank": 14,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "first_k_dense_replace": 1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
V3 = V2 | {"model_type": "deepseek_v3"}
V32 = V2 | {"model_type": "deepseek_v32", "index_topk": 16, "index_head_dim": 8, "index_n_heads": 3}
V4: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "vocab_size": 97,
    "hidden_size": 48,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 16,
    "qk_rope_head_dim": 4,
    "q_lora_rank": 14,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_hash_layers": 1,
    "hc_mult": 3,
    "sliding_window": 8,
    "o_groups": 2,
    "o_lora_rank": 10,
    "index_n_heads": 3,
    "index_head_dim": 8,
    "index_topk": 4,
    "compress_ratios": [0, 4, 128, 4, 0],
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
# deepseek-ai/DeepSeek-V3
V3_PUBLISHED: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "num_nextn_predict_layers": 1,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
# deepseek-ai/DeepSeek-V4-Flash
V4_PUBLISHED: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "vocab_size": 129280,
    "hidden_size": 4096,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 43,
    "num_attention_heads": 64,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "q_lora_rank": 1024,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "hc_mult": 4,
    "sliding_window": 128,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "index_topk": 512,
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": False,
}
# deepseek-ai/deepseek-moe-16b-base
V1_PUBLISHED: dict[str, Any] = {
    "model_type": "deepseek",
    "vocab_size": 102400,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_shared_experts": 2,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
LOOSE: list[dict[str, Any]] = [
    {},
    {"q_lora_rank": None},
    {"attention_bias": True},
    {"tie_word_embeddings": True},
    {"first_k_dense_replace": 0, "n_shared_experts": 1},
]


@pytest.mark.parametrize("change", LOOSE, ids=str)
@pytest.mark.parametrize("config", [V2, V3], ids=lambda config: str(config["model_type"]))
def test_counts(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert_counts_agree(config | change)


@pytest.mark.parametrize(
    "change", [{}, {"attention_bias": True}, {"mlp_layer_types": ["sparse", "dense", "sparse"]}], ids=str
)
def test_v32_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(V32 | change)


V4_TYPES = ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention", "sliding_attention"]
V4_CHANGES: list[dict[str, Any]] = [
    {},
    {"num_hash_layers": 0, "hc_mult": 2},
    {"tie_word_embeddings": True},
    {"compress_ratios": None, "layer_types": V4_TYPES, "compress_rates": {V4_TYPES[1]: 64, V4_TYPES[2]: 8}},
    {"mlp_layer_types": ["moe", "hash_moe", "moe", "moe"]},
]


@pytest.mark.parametrize("change", V4_CHANGES, ids=str)
def test_v4_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(V4 | change)


@pytest.mark.parametrize("config", [V3_PUBLISHED, V4_PUBLISHED], ids=lambda config: str(config["model_type"]))
def test_published_counts(config: dict[str, Any]) -> None:
    assert_counts_agree(config)


@pytest.mark.parametrize("config", [V2, V3, V32], ids=lambda config: str(config["model_type"]))
def test_tensor_names_and_sizes(config: dict[str, Any], tmp_path: Path) -> None:
    assert_checkpoint_agrees(config, tmp_path)


def test_deepseek_moe_has_the_parameters_that_its_checkpoint_states() -> None:
    counts = parameters(read_config(V1_PUBLISHED))
    # The Hub's count of the tensors of deepseek-ai/deepseek-moe-16b-base; its paper says 2.8 billion active.
    assert counts.total == 16_375_728_128
    assert round(counts.active / 1e9, 1) == 2.8


def test_transformers_spelling_of_expert_numbers() -> None:
    renamed = {name: value for name, value in V3.items() if name != "n_routed_experts"} | {"num_local_experts": 6}
    assert parameters(read_config(renamed)) == parameters(read_config(V3))


# MTP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_modules", [1, 2])
def test_v3_mtp_equals_what_transformers_builds(num_modules: int) -> None:
    import torch
    from transformers.modeling_layers import MtpModel

    config = V3 | {"num_nextn_predict_layers": num_modules}
    model = oracle.build(config)
    with torch.device("meta"):
        built = MtpModel(model, num_modules).layers
    counts = parameters(read_config(config))
    assert counts.mtp_unique == sum(tensor.numel() for tensor in built.parameters())
    assert counts.mtp_duplicate == num_modules * 2 * config["vocab_size"] * config["hidden_size"]
    assert counts.total == parameters(read_config(V3)).total


def test_v3_with_mtp_is_the_whole_checkpoint() -> None:
    # The Hub's count of the tensors of deepseek-ai/DeepSeek-V3 by dtype; one FP32 scale per 128 x 128 block of FP8.
    by_dtype = {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}
    ours = dict.fromkeys(by_dtype, 0)
    for entry in inventory(read_config(V3_PUBLISHED)):
        weight, elements = entry.weight, entry.num_elements
        if weight.buffer:
            ours["F32"] += elements
        elif weight.linear and weight.role not in ("router", "embedding", "lm_head", "other"):
            rows, columns = weight.shape
            ours["F8_E4M3"] += elements
            ours["F32"] += -(-rows // 128) * -(-columns // 128) * (elements // (rows * columns))
        else:
            ours["BF16"] += elements
    assert ours == by_dtype


def test_v3_mtp_names_are_those_of_the_checkpoint() -> None:
    names = mtp_tensors(V3_PUBLISHED)
    assert all(name.startswith("model.layers.61.") for name in names)
    # README_WEIGHTS.md of deepseek-ai/DeepSeek-V3.
    published = ["eh_proj", "enorm", "hnorm", "shared_head.norm", "shared_head.head", "embed_tokens"]
    assert {f"model.layers.61.{name}.weight" for name in published} <= names


def mtp_tensors(config: dict[str, Any]) -> set[str]:
    """Names of every tensor of the MTP modules."""
    names = set()
    for entry in inventory(read_config(config)):
        if not entry.part.startswith("mtp"):
            continue
        for layer in entry.layers or (0,):
            for expert in range(entry.weight.count):
                names.add(entry.weight.name.replace("{layer}", str(layer)).replace("{expert}", str(expert)))
    return names


# V4 as published -------------------------------------------------------------------------------------------


def test_v4_names_are_the_published_ones() -> None:
    names = set(our_tensors(read_config(V4_PUBLISHED)))
    # Tensor names of deepseek-ai/DeepSeek-V4-Flash: layer 2 compresses by 4, layer 3 by 128; layer 0 is hashed.
    assert {
        "embed.weight",
        "head.weight",
        "norm.weight",
        "hc_head_fn",
        "layers.0.ffn.gate.tid2eid",
        "layers.0.attn.attn_sink",
        "layers.2.attn.compressor.ape",
        "layers.2.attn.indexer.compressor.ape",
        "layers.3.ffn.gate.bias",
        "layers.3.hc_attn_base",
        "layers.3.ffn.experts.255.w2.weight",
        "layers.3.ffn.shared_experts.w3.weight",
    } <= names
    assert "layers.0.ffn.gate.bias" not in names
    assert "layers.3.attn.indexer.compressor.ape" not in names


def test_v4_quantiser_lists_take_experts_and_leave_the_rest() -> None:
    quantised = [f"layers.{layer}.ffn.experts" for layer in range(43)]
    ignored = ["*.attn.*", "*.ffn.shared_experts.*", "head", "mtp.*"]
    for entry in inventory(read_config(V4_PUBLISHED)):
        weight = entry.weight
        for layer in entry.layers or (0,):
            module = weight.name.replace("{layer}", str(layer)).removesuffix(".weight")
            taken = any(module.startswith(f"{prefix}.") for prefix in quantised)
            assert taken == (weight.role == "routed_experts" and entry.part == "text"), module
            if weight.role in ("attention", "indexer", "shared_experts", "lm_head") or entry.part == "mtp":
                assert any(fnmatchcase(module, pattern) for pattern in ignored), module


def test_v4_mtp_has_as_many_tensors_as_the_checkpoint() -> None:
    # The checkpoint holds 1,575 tensors under `mtp.0.`: each quantised matrix comes with a scale.
    scaled = 0
    for entry in inventory(read_config(V4_PUBLISHED)):
        if entry.part == "mtp" and entry.weight.linear and entry.weight.role != "router":
            scaled += entry.weight.count
    names = mtp_tensors(V4_PUBLISHED)
    assert all(name.startswith("mtp.0.") for name in names)
    assert len(names) + scaled == 1575


def test_v4_layer_kinds_are_those_of_transformers() -> None:
    import transformers

    values = {name: value for name, value in V4.items() if name != "model_type"}
    ours = []
    for layer in read_config(V4).layers:
        (mixer,) = layer.mixers
        assert isinstance(mixer, CompressedAttention)
        if not mixer.tokens_per_entry:
            ours.append("sliding_attention")
        else:
            ours.append("compressed_sparse_attention" if mixer.indexer else "heavily_compressed_attention")
    assert ours == transformers.AutoConfig.for_model("deepseek_v4", **values).layer_types


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"compress_ratios": [0, 4, 32, 4]}, "compress_ratios"),
        ({"compress_ratios": [0, 4]}, "compress_ratios"),
        ({"layer_types": ["full_attention"] * 4}, "layer_types"),
        ({"mlp_layer_types": ["dense"] * 4}, "mlp_layer_types"),
        ({"o_groups": 3}, "o_groups"),
    ],
)
def test_v4_refuses_what_it_does_not_know(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(V4 | change)


@pytest.mark.parametrize("name", ["kv_lora_rank", "n_routed_experts", "num_experts_per_tok", "hidden_size"])
def test_a_missing_size_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_config({key: value for key, value in V3.items() if key != name})
