"""Published configs and sidecars, and what-if answers, against sizes that others published."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError, InputError
from moeplan.core.quant import Quantisation, stored, tensor_bytes, weight_bytes
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model
from moeplan.sources.quantisation import WHAT_IF_NAMES, plain, read_quantisation, what_if


def quantisation(settings: dict[str, Any], **config: Any) -> Quantisation:
    found = read_quantisation({"quantization_config": settings, **config})
    assert found is not None
    return found


def from_sidecar(settings: dict[str, Any]) -> Quantisation:
    found = read_quantisation({"torch_dtype": "bfloat16"}, {"quantization": settings})
    assert found is not None
    return found


def format_name(q: Quantisation, name: str, role: str = "attention", linear: bool = True) -> str:
    return q.format_of(name, role, linear).name  # type: ignore[arg-type]


EXPERT = "model.layers.3.mlp.experts.0.up_proj.weight"
Q_PROJ = "model.layers.3.self_attn.q_proj.weight"


def test_a_plain_config_is_not_quantised() -> None:
    assert read_quantisation({"torch_dtype": "bfloat16"}) is None
    assert read_quantisation({"quantization_config": None}) is None
    assert format_name(plain("float16"), EXPERT, "routed_experts") == "fp16"


# quant_method ----------------------------------------------------------------------------------------------


def test_fp8_blocks_and_their_exceptions() -> None:
    q = quantisation({"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert format_name(q, Q_PROJ) == "fp8 128x128 block"
    assert format_name(q, "model.layers.3.mlp.gate.weight", "router") == "bf16"
    assert format_name(q, "model.layers.3.self_attn.indexer.wk.weight", "indexer") == "fp8 128x128 block"
    assert format_name(q, "model.layers.3.self_attn.indexer.weights_proj.weight", "indexer") == "bf16"
    assert [remark.code for remark in q.remarks] == ["exclusions-by-convention"]
    assert quantisation({"quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": []}).remarks == ()
    assert quantisation({"quant_method": "fp8"}).name == "fp8 per tensor"


def test_power_of_two_scales_take_one_byte_in_v4_and_four_in_v3_2() -> None:
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}
    v3_2 = quantisation(settings, model_type="deepseek_v32").format_of(Q_PROJ, "attention", linear=True)
    v4 = quantisation(settings, model_type="deepseek_v4").format_of(Q_PROJ, "attention", linear=True)
    assert tensor_bytes(v3_2, (256, 256)) == 256 * 256 + 4 * 4
    assert tensor_bytes(v4, (256, 256)) == 256 * 256 + 4 * 1


def test_expert_dtype_beside_the_quantisation_changes_experts_only() -> None:
    q = quantisation({"quant_method": "fp8", "weight_block_size": [128, 128]}, expert_dtype="fp4")
    assert format_name(q, EXPERT, "routed_experts") == "mxfp4"
    assert format_name(q, EXPERT.replace("experts.0", "shared_experts"), "shared_experts") == "fp8 128x128 block"
    with pytest.raises(ConfigError, match="int3"):
        quantisation({"quant_method": "fp8"}, expert_dtype="int3")


def test_mxfp4_takes_experts_alone() -> None:
    q = quantisation({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]})
    assert format_name(q, EXPERT, "routed_experts") == "mxfp4"
    assert format_name(q, Q_PROJ) == "bf16"
    assert format_name(q, "model.layers.3.mlp.up_proj.weight", "dense_mlp") == "bf16"


def compressed(weights: dict[str, Any], **settings: Any) -> Quantisation:
    group = {"weights": weights, "targets": settings.pop("targets", ["Linear"])}
    return quantisation({"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, **settings})


def test_compressed_tensors_schemes() -> None:
    int4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
    taken = compressed(int4, format="pack-quantized").format_of(Q_PROJ, "attention", linear=True)
    assert tensor_bytes(taken, (64, 128)) == 64 * 64 + 64 * 4 * 2 + 16
    asymmetric = compressed(int4 | {"symmetric": False, "actorder": "group"}, format="pack-quantized")
    taken = asymmetric.format_of(Q_PROJ, "attention", linear=True)
    assert tensor_bytes(taken, (64, 128)) == 64 * 64 + 64 * 4 * 2 + 16 + 4 * 64 // 2 + 128 * 4
    channel = compressed({"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True})
    assert format_name(channel, Q_PROJ) == "fp8 per channel"
    block = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    assert format_name(compressed(block), Q_PROJ) == "fp8 128x128 block"
    four = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
    assert format_name(compressed(four), Q_PROJ) == "nvfp4"
    assert format_name(compressed(four | {"group_size": 32}), Q_PROJ) == "mxfp4"
    with pytest.raises(ConfigError, match="num_bits"):
        compressed({"num_bits": 11, "type": "int"})


def test_compressed_tensors_targets_and_ignored_names() -> None:
    eight = {"num_bits": 8, "type": "float", "strategy": "channel"}
    q = compressed(eight, targets=["re:.*mlp.experts.*"], ignore=["re:.*layers[.]3[.].*"])
    assert format_name(q, EXPERT.replace(".3.", ".4."), "routed_experts") == "fp8 per channel"
    assert format_name(q, EXPERT, "routed_experts") == "bf16"
    assert format_name(q, Q_PROJ) == "bf16"
    # a head that nobody ignores is a Linear like any other
    assert format_name(compressed(eight), "lm_head.weight", "lm_head") == "fp8 per channel"
    assert format_name(compressed(eight, ignore=["lm_head"]), "lm_head.weight", "lm_head") == "bf16"


def test_a_quantiser_inside_the_text_model_leaves_towers() -> None:
    group = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}, "targets": ["Linear"]}
    settings = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    tower = "vision_tower.blocks.0.mlp.fc1.weight"
    assert format_name(quantisation(settings), tower, "towers") == "fp8 per channel"
    nested = read_quantisation({"text_config": {"quantization_config": settings}})
    assert nested is not None
    assert format_name(nested, tower, "towers") == "bf16"
    assert format_name(nested, Q_PROJ) == "fp8 per channel"


def test_kv_cache_schemes() -> None:
    eight = {"num_bits": 8, "type": "float", "strategy": "channel"}
    assert compressed(eight).kv_cache_dtype is None
    assert compressed(eight, kv_cache_scheme={"num_bits": 8, "type": "float"}).kv_cache_dtype == "fp8"
    assert compressed(eight, kv_cache_scheme={"num_bits": 8, "type": "int"}).kv_cache_dtype == "int8"
    assert from_sidecar({"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}).kv_cache_dtype == "nvfp4"
    stated_beside = read_quantisation(
        {"quantization_config": {"quant_method": "mxfp4"}}, {"quantization": {"kv_cache_quant_algo": "FP8"}}
    )
    assert stated_beside is not None
    assert stated_beside.kv_cache_dtype == "fp8"


def test_awq_and_gptq() -> None:
    awq = quantisation(
        {"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": ["gate", "self_attn"]}
    )
    assert format_name(awq, EXPERT, "routed_experts") == "awq int4 g64"
    assert format_name(awq, Q_PROJ) == "bf16"
    gptq = quantisation({
        "quant_method": "gptq", "bits": 4, "group_size": 128,
        "dynamic": {"-:.*self_attn.*": {}, r"+:.*experts\.0\..*": {"bits": 8, "group_size": 32}},
    })  # fmt: skip
    assert format_name(gptq, Q_PROJ) == "bf16"
    assert format_name(gptq, EXPERT, "routed_experts") == "gptq int8 g32"
    assert format_name(gptq, EXPERT.replace("experts.0", "experts.1"), "routed_experts") == "gptq int4 g128"
    whole = quantisation({"quant_method": "gptq", "bits": 4, "group_size": -1}).format_of(
        Q_PROJ, "attention", linear=True
    )
    # one group per row: 64 fp16 scales, 64 zero points of 4 bits, 128 group numbers
    assert tensor_bytes(whole, (64, 128)) == 64 * 64 + 64 * 2 + 32 + 128 * 4
    with pytest.raises(ConfigError, match="bits"):
        quantisation({"quant_method": "gptq"})


def test_bitsandbytes() -> None:
    four = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert format_name(quantisation(four), Q_PROJ) == "bitsandbytes nf4"
    double = quantisation(four | {"bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": ["mlp"]})
    assert format_name(double, Q_PROJ) == "bitsandbytes nf4, double"
    assert format_name(double, EXPERT, "routed_experts") == "bf16"
    eight = quantisation({"quant_method": "bitsandbytes", "load_in_8bit": True})
    assert format_name(eight, Q_PROJ) == "bitsandbytes int8"
    assert format_name(eight, "lm_head.weight", "lm_head") == "bf16"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8 per channel"),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 32}}},
            "hqq int4 g32",
        ),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}, "int8 per channel"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, "gptq int4 g128"),
    ],
)
def test_further_quantisers(settings: Any, expected: str) -> None:
    assert format_name(quantisation(settings), Q_PROJ) == expected


@pytest.mark.parametrize("method", ["aqlm", "dreamt-up", ""])
def test_an_unknown_method_is_named_beside_the_known(method: str) -> None:
    with pytest.raises(ConfigError, match="quant_method") as raised:
        quantisation({"quant_method": method, "bits": 2})
    assert (method or "missing") in raised.value.message
    assert "compressed-tensors" in raised.value.message


@pytest.mark.parametrize("settings", ["fp8", 8, ["fp8"]])
def test_a_quantisation_that_is_no_object_is_an_error(settings: Any) -> None:
    with pytest.raises(ConfigError, match="quantization_config"):
        read_quantisation({"quantization_config": settings})


SETTINGS: dict[str, dict[str, Any]] = {
    "fp8": {"weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"], "scale_fmt": "ue8m0"},
    "mxfp4": {"modules_to_not_convert": ["lm_head"]},
    "compressed-tensors": {
        "config_groups": {"group_0": {"weights": {"num_bits": 4}, "targets": ["Linear"]}}, "ignore": ["re:.*"],
        "format": "pack-quantized", "kv_cache_scheme": {"num_bits": 8},
    },
    "modelopt": {"quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head"], "quantized_layers": {}},
    "awq": {"bits": 4, "group_size": 128, "zero_point": True},
    "gptq": {"bits": 4, "group_size": 128, "dynamic": {"-:.*": {}}, "modules_in_block_to_quantize": [["q_proj"]]},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["lm_head"]},
    "hqq": {"quant_config": {"weight_quant_params": {"nbits": 4}}},
    "torchao": {"quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}}},
    "quark": {"global_quant_config": {"weight": {"dtype": "int4", "group_size": 32}}, "layer_quant_config": {"*": {}}},
    "auto-round": {"bits": 4, "group_size": 128, "extra_config": {"model.layers.3": {"bits": 16}}},
}  # fmt: skip
JUNK: tuple[Any, ...] = (
    0,
    -7,
    True,
    1.5,
    10**12,
    "junk",
    "re:(",
    [],
    ["re:("],
    [[]],
    {},
    {"junk": 1},
    {"junk": {"bits": "x"}},
)


def broken(settings: Any) -> list[Any]:
    """The settings with each value in turn, at every depth, replaced by each kind of junk."""
    found = list(JUNK)
    if isinstance(settings, dict):
        for key, value in settings.items():
            found += [settings | {key: other} for other in broken(value)]
    return found


@pytest.mark.parametrize("method", SETTINGS)
def test_junk_is_read_or_refused_and_nothing_else(method: str) -> None:
    assert isinstance(quantisation({"quant_method": method, **SETTINGS[method]}), Quantisation)
    refused = 0
    for settings in broken(SETTINGS[method]):
        if isinstance(settings, dict):
            try:
                q = quantisation({"quant_method": method, **settings})
            except ConfigError:
                refused += 1
            else:
                assert tensor_bytes(q.format_of(Q_PROJ, "attention", linear=True), (64, 128)) > 0
    assert refused


# ModelOpt --------------------------------------------------------------------------------------------------


def test_a_sidecar_alone_is_read_and_said() -> None:
    q = from_sidecar(
        {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head", "model.layers.3.self_attn*"]}
    )
    assert format_name(q, EXPERT, "routed_experts") == "nvfp4"
    assert format_name(q, Q_PROJ) == "bf16"
    assert [remark.code for remark in q.remarks] == ["quantisation-sidecar"]


def test_a_sidecar_without_exclusions_is_a_warning() -> None:
    q = from_sidecar({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"})
    assert format_name(q, Q_PROJ) == "fp8 per tensor"
    assert format_name(q, "lm_head.weight", "lm_head") == "bf16"
    assert ("exclusions-unknown", "warning") in {(remark.code, remark.severity) for remark in q.remarks}


def test_mixed_precision_names_its_modules() -> None:
    q = from_sidecar({
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {
            "model.layers.3.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16},
            "model.layers.3.self_attn.q_proj": {"quant_algo": "FP8"},
        },
    })  # fmt: skip
    assert format_name(q, EXPERT, "routed_experts") == "nvfp4"
    assert format_name(q, Q_PROJ) == "fp8 per tensor"
    assert format_name(q, Q_PROJ.replace("q_proj", "k_proj")) == "bf16"
    assert format_name(q, EXPERT.replace(".3.", ".4."), "routed_experts") == "bf16"


def test_an_unknown_algorithm_is_an_error() -> None:
    with pytest.raises(ConfigError, match="W1A1"):
        from_sidecar({"quant_algo": "W1A1"})
    with pytest.raises(ConfigError, match="quantized_layers"):
        from_sidecar({"quant_algo": "MIXED_PRECISION"})
    with pytest.raises(ConfigError, match="quantized_layers"):
        quantisation({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"})


# Published files -------------------------------------------------------------------------------------------


def published(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    folder = shared / "model-configs"
    sidecar = folder / f"{name}.hf_quant_config.json"
    return json.loads((folder / f"{name}.json").read_text()), json.loads(
        sidecar.read_text()
    ) if sidecar.exists() else None


def held(shared: Path, name: str, quant: str | None = None) -> Any:
    config, sidecar = published(shared, name)
    spec = read_config(config)
    q = what_if(quant, spec) if quant else read_quantisation(config, sidecar)
    assert q is not None
    return weight_bytes(inventory(spec), q)


# `total_size` of the index files of the repositories: the bytes of all tensors.
@pytest.mark.parametrize(
    ("name", "total_size"),
    [
        ("deepseek-ai--DeepSeek-V4-Flash", 159_609_485_896),
        ("zai-org--GLM-5-FP8", 756_162_687_872),
    ],
)
def test_checkpoints_are_met_to_the_byte(shared: Path, name: str, total_size: int) -> None:
    assert held(shared, name).checkpoint_bytes == total_size


GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "num_experts_per_tok": 4, "vocab_size": 201088, "attention_bias": True,
    "tie_word_embeddings": False, "sliding_window": 128,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("num_layers", "num_experts", "total_size"), [(24, 32, 13_761_264_768), (36, 128, 65_248_815_744)]
)
def test_gpt_oss_is_met_to_the_byte(num_layers: int, num_experts: int, total_size: int) -> None:
    kinds = ["sliding_attention", "full_attention"] * (num_layers // 2)
    config = GPT_OSS | {"num_hidden_layers": num_layers, "num_local_experts": num_experts, "layer_types": kinds}
    q = read_quantisation(config)
    assert q is not None
    assert weight_bytes(inventory(read_config(config)), q).checkpoint_bytes == total_size


def test_deepseek_v3_is_its_files_less_their_headers(shared: Path) -> None:
    # The weight files of the repository sum to 688,586,727,753 bytes. A safetensors header spends about 130 bytes
    # on each tensor: name, dtype, shape and offsets.
    config, _ = published(shared, "deepseek-ai--DeepSeek-V3")
    spec, q = read_config(config), read_quantisation(config)
    assert q is not None
    num_tensors = 0
    for entry in inventory(spec):
        for part in stored(entry, q):
            scales = 2 if part.format.group else 1
            num_tensors += scales * part.num_tensors * max(1, len(part.layers))
    headers = 688_586_727_753 - weight_bytes(inventory(spec), q).checkpoint_bytes
    assert 110 <= headers / num_tensors <= 150


def test_gguf_files_differ_from_each_other_by_their_tensors_alone(shared: Path) -> None:
    # Sizes of Qwen's own files; both carry the same tokenizer.
    metadata = {
        name: size - held(shared, "Qwen--Qwen3-30B-A3B", name).checkpoint_bytes
        for name, size in {"q4_k_m": 18_556_685_824, "q8_0": 32_483_931_648}.items()
    }
    assert metadata["q4_k_m"] == metadata["q8_0"]
    assert 4_000_000 < metadata["q8_0"] < 8_000_000


def test_gguf_types_of_qwen3_30b_as_llama_cpp_logs_them(shared: Path) -> None:
    # llama.cpp issue 14235: "type f32: 241 tensors, type q4_K: 289 tensors, type q6_K: 49 tensors". A file holds the
    # experts of a layer as one tensor.
    config, _ = published(shared, "Qwen--Qwen3-30B-A3B")
    spec = read_config(config)
    types: Counter[str] = Counter()
    for entry in inventory(spec):
        for part in stored(entry, what_if("q4_k_m", spec)):
            types[part.format.name] += max(1, len(part.layers))
    assert types == {"fp32": 241, "gguf q4_k": 289, "gguf q6_k": 49}


def test_gguf_of_gpt_oss_keeps_experts_in_mxfp4(shared: Path) -> None:
    # ggml-org/gpt-oss-20b-GGUF is 12,109,566,624 bytes; its tokenizer has 201,088 tokens and 446,189 merges.
    metadata = 12_109_566_624 - held(shared, "openai--gpt-oss-20b", "mxfp4_moe").checkpoint_bytes
    assert 10_000_000 < metadata < 16_000_000


@pytest.mark.parametrize(
    ("name", "num_ignored"),
    [
        ("zai-org--GLM-5-FP8", 712),
        ("zai-org--GLM-5.2-FP8", 541),
        ("Qwen--Qwen3-30B-A3B-FP8", 145),
        ("RedHatAI--Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", 449),
        ("nvidia--GLM-5-NVFP4", 471),
    ],
)
def test_long_ignore_lists_are_kept_whole(shared: Path, name: str, num_ignored: int) -> None:
    q = read_quantisation(*published(shared, name))
    assert q is not None
    config, sidecar = published(shared, name)
    settings = config.get("quantization_config") or (sidecar or {})["quantization"]
    listed = next(settings[key] for key in ("modules_to_not_convert", "ignore", "exclude_modules") if key in settings)
    assert len(listed) == num_ignored
    assert set(listed) <= set(q.ignored)


def formats_by_module(shared: Path, name: str) -> dict[str, set[str]]:
    """Last parts of the names of linear weights, and the formats they are stored in."""
    config, sidecar = published(shared, name)
    q = read_quantisation(config, sidecar)
    assert q is not None
    found: dict[str, set[str]] = {}
    for entry in inventory(read_config(config)):
        if entry.weight.linear and entry.part == "text":
            module = entry.weight.name.removesuffix(".weight").split("{layer}.")[-1]
            found.setdefault(module, set()).update(part.format.name for part in stored(entry, q))
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "moonshotai--Kimi-K2.5",
            {
                "mlp.experts.{expert}.down_proj": {"int4 g32"},
                "mlp.shared_experts.down_proj": {"bf16"},
                "mlp.down_proj": {"bf16"},
                "self_attn.o_proj": {"bf16"},
            },
        ),
        (
            "MiniMaxAI--MiniMax-M2.5",
            {
                "block_sparse_moe.experts.{expert}.w1": {"fp8 128x128 block"},
                "block_sparse_moe.gate": {"bf16"},
                "self_attn.q_proj": {"fp8 128x128 block"},
                "lm_head": {"bf16"},
            },
        ),
        (
            "nvidia--MiniMax-M2.5-NVFP4",
            {"block_sparse_moe.experts.{expert}.w1": {"nvfp4"}, "self_attn.q_proj": {"bf16"}},
        ),
        ("nvidia--DeepSeek-V3.1-NVFP4", {"self_attn.kv_b_proj": {"bf16"}, "self_attn.o_proj": {"nvfp4"}}),
        (
            "nvidia--DeepSeek-V4-Flash-NVFP4",
            {
                "ffn.experts.{expert}.w1": {"nvfp4"},
                "ffn.shared_experts.w1": {"fp8 128x128 block, ue8m0 scales"},
                "attn.wq_b": {"fp8 128x128 block, ue8m0 scales"},
                "attn.compressor.wkv": {"bf16"},
            },
        ),
        # six of its Mamba layers are left alone, and all of its attention
        (
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            {"mixer.in_proj": {"bf16", "nvfp4"}, "mixer.q_proj": {"bf16"}, "mixer.experts.{expert}.up_proj": {"nvfp4"}},
        ),
        (
            "RedHatAI--Llama-4-Scout-17B-16E-Instruct-FP8-dynamic",
            {
                "feed_forward.experts.{expert}.up_proj": {"fp8 per channel"},
                "self_attn.q_proj": {"bf16"},
                "language_model.lm_head": {"bf16"},
            },
        ),
    ],
)
def test_what_published_lists_leave_alone(shared: Path, name: str, expected: dict[str, set[str]]) -> None:
    found = formats_by_module(shared, name)
    assert {module: found[module] for module in expected} == expected


def test_cache_dtypes_of_published_files(shared: Path) -> None:
    stated = {
        name: q.kv_cache_dtype
        for name in ("nvidia--Kimi-K2.5-NVFP4", "nvidia--Llama-3.1-70B-Instruct-FP8", "deepseek-ai--DeepSeek-V3")
        if (q := read_quantisation(*published(shared, name))) is not None
    }
    assert stated == {
        "nvidia--Kimi-K2.5-NVFP4": "fp8",
        "nvidia--Llama-3.1-70B-Instruct-FP8": "fp8",
        "deepseek-ai--DeepSeek-V3": None,
    }


# What if ---------------------------------------------------------------------------------------------------

MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
    "vocab_size": 32000, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize("name", WHAT_IF_NAMES)
def test_every_what_if_name_gives_bytes_between_a_twentieth_and_all_of_fp32(name: str) -> None:
    spec = read_config(MIXTRAL)
    owned = inventory(spec)
    size = weight_bytes(owned, what_if(name, spec)).total_bytes
    whole = weight_bytes(owned, what_if("fp32", spec)).total_bytes
    assert whole / 20 < size <= whole
    if name not in {"fp32", "bf16", "fp16"}:
        assert size < whole / 2


def test_smaller_groups_cost_more_and_fewer_bits_less() -> None:
    spec = read_config(MIXTRAL)
    owned = inventory(spec)
    size = {name: weight_bytes(owned, what_if(name, spec)).total_bytes for name in WHAT_IF_NAMES}
    assert size["awq-g32"] > size["awq-g64"] > size["awq-g128"] == size["awq"]
    order = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k")
    assert sorted(order, key=size.__getitem__, reverse=True) == list(order)


LLAMA_BITS = {
    # llama.cpp tools/quantize/README.md: bits per weight of Llama-3.1-8B
    "iq1_s": 2.0042, "iq1_m": 2.1460, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294, "q2_k": 3.1593,
    "iq3_xxs": 3.2548, "iq3_s": 3.6606, "iq4_xs": 4.4597, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q5_k_m": 5.7036, "q6_k": 6.5633,
    "q8_0": 8.5008,
}  # fmt: skip
MIXTRAL_GB = {
    # bartowski/Mixtral-8x22B-v0.1-GGUF, sizes of files
    "iq3_s": 61.49, "iq4_xs": 76.35, "q2_k": 52.10, "q4_k_m": 85.58, "q5_k_m": 99.96,
}  # fmt: skip


@pytest.mark.parametrize("name", LLAMA_BITS)
def test_mixes_have_the_bits_of_llama_cpps_own_table(name: str) -> None:
    spec = find_model("meta-llama-3.1-8b", Asked(offline=True)).spec
    owned = inventory(spec)
    bits = 8 * weight_bytes(owned, what_if(name, spec)).total_bytes / parameters(spec, owned).total
    assert bits == pytest.approx(LLAMA_BITS[name], abs=2e-3)


@pytest.mark.parametrize("name", MIXTRAL_GB)
def test_mixes_of_eight_experts_have_the_sizes_of_published_files(name: str) -> None:
    spec = find_model("mixtral-8x22b-v0.1", Asked(offline=True)).spec
    size = weight_bytes(inventory(spec), what_if(name, spec)).total_bytes
    assert size / 1e9 == pytest.approx(MIXTRAL_GB[name], rel=0.01)


def test_iq_mixes_count_down_projections_and_not_layers() -> None:
    # 61 layers, three of them dense: seven tensors are 0, 1, 2, and experts and shared experts of 3 and 4
    q = what_if("iq1_s", find_model("deepseek-v3", Asked(offline=True)).spec)
    better = {"dense_mlp": [0, 1, 2], "routed_experts": [3, 4], "shared_experts": [3, 4]}
    for role, layers in better.items():
        part = {"dense_mlp": "mlp", "routed_experts": "mlp.experts.0", "shared_experts": "mlp.shared_experts"}[role]
        names = [f"model.layers.{layer}.{part}.down_proj.weight" for layer in range(61)]
        assert [n for n, name in enumerate(names) if format_name(q, name, role) == "gguf q2_k"] == layers
    assert format_name(q, "model.layers.9.mlp.experts.0.up_proj.weight", "routed_experts") == "gguf iq1_s"
    assert format_name(q, "model.embed_tokens.weight", "embedding") == "gguf q2_k"
    assert format_name(q, "lm_head.weight", "lm_head") == "gguf q5_k"


def test_llama_cpp_gives_eight_experts_better_attention() -> None:
    # TheBloke's Mixtral files, as listed by llama.cpp issue 4495: attn_k and attn_v q8_0
    q = what_if("q4_k_m", read_config(MIXTRAL))
    names = {
        part: format_name(q, f"model.layers.9.self_attn.{part}.weight")
        for part in ("q_proj", "k_proj", "v_proj", "o_proj")
    }
    assert names == {"q_proj": "gguf q4_k", "k_proj": "gguf q8_0", "v_proj": "gguf q8_0", "o_proj": "gguf q5_k"}
    assert format_name(q, "lm_head.weight", "lm_head") == "gguf q6_k"
    assert format_name(q, "model.embed_tokens.weight", "embedding") == "gguf q4_k"
    assert format_name(q, "model.layers.9.block_sparse_moe.gate.weight", "router") == "fp32"


def test_llama_cpp_gives_some_layers_more_bits() -> None:
    # 32 layers: the first four, the last four, and every third between, beginning with the sixth
    q = what_if("q4_k_m", read_config(MIXTRAL | {"num_local_experts": 16}))
    down = "model.layers.{}.block_sparse_moe.experts.0.w2.weight"
    better = [n for n in range(32) if format_name(q, down.format(n), "routed_experts") == "gguf q6_k"]
    assert better == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


def test_a_tied_table_is_stored_as_the_head() -> None:
    q = what_if("q4_k_m", read_config(MIXTRAL | {"tie_word_embeddings": True}))
    assert format_name(q, "model.embed_tokens.weight", "embedding") == "gguf q6_k"


@pytest.mark.parametrize(
    ("name", "near"), [("q4_km", "q4_k_m"), ("fp-8", "fp8"), ("awq-g16", "awq-g"), ("NVFP", "nvfp4")]
)
def test_unknown_names_get_the_nearest_known(name: str, near: str) -> None:
    with pytest.raises(InputError) as raised:
        what_if(name, read_config(MIXTRAL))
    assert name in raised.value.message
    assert near in raised.value.hint
