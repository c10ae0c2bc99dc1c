"""TensorRT-LLM's rules worked by hand: layout, division, cache, budget, workspaces, refusals.

Sources are named as `TensorRT-LLM path`. THE LOG is a public one of `trtllm-serve` 1.1.0rc3 with gpt-oss-120b on a DGX
Spark (2025-12-20): "Use 63.32 GB for model weights" (divided by 2^30), "max_num_tokens=8192, max_batch_size=64", "Peak
memory during memory usage profiling (torch + non-torch): 113.65 GiB, available KV cache memory when calculating max
tokens: 5.95 GiB, fraction is set 0.8999999761581421, kv size is 73728. device total memory 119.70 GiB, , tmp kv_mem
0.56 GiB", then 86,711 tokens and "Allocated 5.95 GiB for max tokens in paged KV cache (86720)".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

import moeplan
from moeplan.core.deployment import Serving, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows
from moeplan.core.layout import AskedLayout
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.placement import RankView, places, rank_bytes, stage_spec
from moeplan.core.quant import BF16, FP8_BLOCK, NVFP4, Quantisation, Rule, WeightFormat, holdings
from moeplan.engines import trtllm
from moeplan.sources.models import find_model
from tests.engines.serving import serving as build

GIB = 2**30
MIB = 2**20


def model(*, heads: int = 8, kv_heads: int = 8, width: int = 256, experts: int = 8, layers: int = 4) -> ModelSpec:
    ffn = MoeFfn(experts, 2, width) if experts else DenseFfn(width)
    layer = Layer((GroupedAttention(heads, kv_heads, 16, 16),), (ffn,))
    return ModelSpec("llama", "test", 64, 100, (layer,) * layers, False, None, "bfloat16", True)


def serving(
    spec: ModelSpec | str,
    asked: AskedLayout = AskedLayout(),  # noqa: B008  # immutable
    *,
    gpu: str | None = "h100",
    formats: Quantisation | None = None,
    version: str = "1.3",
    num_nodes: int = 1,
    **rest: Any,
) -> Serving:
    """An engine about to serve a model of the catalogue, or one built by hand in bfloat16."""
    if isinstance(spec, str):
        found = find_model(spec)
        spec, formats = found.spec, formats or found.quantisation
    degrees = {name: value for name, value in asked._asdict().items() if value is not None}
    built = build(spec, "trtllm", gpu=gpu, quantisation=formats, version=version, **rest, **degrees)
    layout = built.layout._replace(num_nodes=num_nodes)
    return built._replace(deployment=built.deployment._replace(layout=layout))


def view(asked: Serving, *, number: int = 0) -> RankView:
    """One rank, the first that holds most unless said otherwise, with its weights by role."""
    division = trtllm.division(asked, trtllm.settle(asked))
    experts = max(
        (f.num_experts for layer in asked.spec.layers for f in layer.ffns if isinstance(f, MoeFfn)), default=0
    )
    place = places(asked.layout, division, len(asked.spec.layers), experts)[number]
    spec = stage_spec(asked.spec, place.stage)
    roles: dict[str, int] = {}
    for holding in holdings(asked.owned, asked.quantisation):
        if holding.part == "text":
            size = rank_bytes(holding, place, division)
            roles[holding.weight.role] = roles.get(holding.weight.role, 0) + size
    weights = tuple(
        line(f"weights.{role}", role, size, "derived", Why("", {}, ""), role=role) for role, size in roles.items()
    )
    return RankView(place, division, spec, cache_rows(spec), weights)


def role_bytes(asked: Serving, role: str) -> int:
    return sum(entry.bytes for entry in view(asked).weights if entry.role == role)


def rules_of(asked: Serving) -> CacheRules:
    card = asked.hardware
    return trtllm.cache_rules(
        asked.spec,
        asked=asked.deployment.kv_dtype,
        scheme=asked.quantisation.kv_cache_dtype,
        weight_dtype=asked.spec.dtype,
        capability=card.compute_capability if card else None,
    )


def token_bytes(asked: Serving) -> float:
    rank = view(asked)
    return cache_cost(rank.rows, rules_of(asked), 131_072, 0, rank.division.attention).bytes_per_token


def held_bytes(asked: Serving, context: int, sequences: int = 1) -> int:
    return trtllm.managed_cache_bytes(asked, trtllm.settle(asked), view(asked), rules_of(asked), context, sequences)


def lines_of(asked: Serving) -> dict[str, Line]:
    settings, rank = trtllm.settle(asked), view(asked)
    found = trtllm.weight_lines(asked, settings, rank) + trtllm.runtime_lines(asked, settings, rank)
    return {entry.code: entry for entry in found}


def codes(asked: Serving) -> set[str]:
    return {refusal.code for refusal in trtllm.refusals(asked, trtllm.settle(asked))}


def told(asked: Serving, code: str) -> str:
    return next(each.message for each in trtllm.refusals(asked, trtllm.settle(asked)) if each.code == code)


def everywhere(weight_format: WeightFormat) -> Quantisation:
    return Quantisation(weight_format.name, BF16, (Rule(weight_format),))


# Layout ----------------------------------------------------------------------------------------------------


def test_world_is_tensor_times_pipeline_and_experts_share_the_tensor_ranks() -> None:
    # TensorRT-LLM mapping.py: world_size = tp x pp x cp, moe_tp x moe_ep = tp.
    layout = trtllm.resolve_layout(model(), AskedLayout(tp=4, pp=2, ep=2), None, {})
    assert (layout.num_gpus, layout.ep, layout.dp, layout.dp_attention) == (8, 2, 1, False)


def test_gpus_that_nobody_divides_are_tensor_parallel() -> None:
    assert trtllm.resolve_layout(model(), AskedLayout(pp=2), 8, {}).tp == 4
    with pytest.raises(InputError, match="9 GPUs do not divide over 2 stages"):
        trtllm.resolve_layout(model(), AskedLayout(pp=2), 9, {})


def test_the_first_stages_take_the_layers_that_are_left_over() -> None:
    # TensorRT-LLM mapping.py:pp_layers, torch.tensor_split: 61 = 16 + 15 + 15 + 15 (vLLM gives the last but one more).
    spec = find_model("deepseek-v3").spec
    assert trtllm.resolve_layout(spec, AskedLayout(pp=4), None, {}).pp_layers == (16, 15, 15, 15)
    stated = AskedLayout(pp=2, pp_layers=(30, 31))
    assert trtllm.resolve_layout(spec, stated, None, {}).pp_layers == (30, 31)


@pytest.mark.parametrize("asked", [AskedLayout(tp=8, dp_attention=True), AskedLayout(tp=8, dp=8), AskedLayout(dp=8)])
def test_attention_is_data_parallel_over_all_tensor_ranks(asked: AskedLayout) -> None:
    # TensorRT-LLM mapping.py: dp_size is tp_size where enable_attention_dp.
    layout = trtllm.resolve_layout(model(), asked, None, {})
    assert (layout.tp, layout.dp, layout.dp_attention, layout.num_gpus) == (8, 8, True, 8)


@pytest.mark.parametrize("asked", [AskedLayout(tp=8, dp=4), AskedLayout(dp=2, dp_attention=False)])
def test_other_data_parallelism_is_an_error(asked: AskedLayout) -> None:
    with pytest.raises(InputError, match="--dp"):
        trtllm.resolve_layout(model(), asked, None, {})


def test_context_parallel_ranks_share_tokens_and_are_tensor_ranks_to_experts() -> None:
    # TensorRT-LLM mapping.py: moe_world_size = tp x cp under helix.
    asked = serving("deepseek-v3", AskedLayout(tp=4, ep=8), stated={"--context_parallel_size": 2})
    division = trtllm.division(asked, trtllm.settle(asked))
    assert asked.layout.num_gpus == 8
    assert (division.attention, division.cache_tokens, division.expert_ep, division.expert_tp) == (4, 2, 8, 1)


def test_experts_by_width_leave_the_rest_to_wholes() -> None:
    stated = {"moe_tensor_parallel_size": 2}
    assert trtllm.resolve_layout(model(), AskedLayout(tp=8), None, stated).ep == 4
    with pytest.raises(InputError, match="do not multiply up"):
        trtllm.resolve_layout(model(), AskedLayout(tp=8, ep=2), None, stated)


def test_slots_of_the_load_balancer_are_copies() -> None:
    # 288 slots for DeepSeek-V3's 256 experts are 32 copies.
    stated = {"moe_config.load_balancer": json.dumps({"num_slots": 288})}
    asked = serving("deepseek-v3", AskedLayout(tp=32, ep=32), stated=stated)
    assert asked.layout.redundant_experts == 32
    # 288 / 32 = 9 experts of 58 layers, 3 x 7168 x 2048 each, in fp8 with 4 B per 128 x 128.
    elements = 9 * 58 * 3 * 7168 * 2048
    assert role_bytes(asked, "routed_experts") == elements + elements // 128**2 * 4


# Division --------------------------------------------------------------------------------------------------


def test_tensor_and_expert_parallel_share_out_wholes_and_width() -> None:
    # Qwen3-235B, tp 8 and ep 4: 128 / 4 = 32 experts of width 1536 / 2 = 768 on each rank.
    asked = serving("qwen3-235b-a22b", AskedLayout(tp=8, ep=4))
    division = trtllm.division(asked, trtllm.settle(asked))
    assert (division.expert_tp, division.expert_ep, division.attention) == (2, 4, 8)
    assert role_bytes(asked, "routed_experts") == 94 * 32 * 3 * 4096 * 768 * 2


def test_attention_data_parallelism_keeps_all_but_the_experts_whole() -> None:
    # TensorRT-LLM modules/embedding.py ("Attention DP doesn't work with embedding parallelization"),
    # models/modeling_deepseekv3.py (shared and dense feed-forwards with one rank).
    asked = serving("deepseek-v3", AskedLayout(tp=8, ep=8, dp_attention=True))
    table = 129_280 * 7168 * 2
    assert role_bytes(asked, "embedding") == role_bytes(asked, "lm_head") == table
    division = trtllm.division(asked, trtllm.settle(asked))
    assert (division.attention, division.dense_mlp, division.shared_experts, division.expert_ep) == (1, 1, 1, 8)
    alone = serving("deepseek-v3")
    assert role_bytes(asked, "attention") == role_bytes(alone, "attention")
    assert role_bytes(asked, "shared_experts") == role_bytes(alone, "shared_experts")


def test_deepseek_keeps_its_input_table_whole_and_cuts_its_head() -> None:
    # TensorRT-LLM models/modeling_deepseekv3.py: Embedding without a mapping; LMHead in columns.
    asked = serving("deepseek-v3", AskedLayout(tp=8))
    assert role_bytes(asked, "embedding") == 129_280 * 7168 * 2
    assert role_bytes(asked, "lm_head") == 129_280 // 8 * 7168 * 2


def test_tables_are_cut_to_the_next_row_without_other_padding() -> None:
    # TensorRT-LLM modules/embedding.py: ceil(100 / 8) = 13 rows of 64.
    asked = serving(model(), AskedLayout(tp=8))
    assert role_bytes(asked, "embedding") == role_bytes(asked, "lm_head") == 13 * 64 * 2


@pytest.mark.parametrize(
    ("tp", "nodes", "dense", "shared"),
    # Dense 18,432 / 128 = 144 blocks, shared 2048 / 128 = 16: the greatest common divisors with tp, and for dense
    # layers no more than one node's ranks (models/modeling_deepseekv3.py:_compute_mlp_tp_size).
    [(8, 1, 8, 8), (16, 2, 8, 16), (32, 4, 8, 16)],
)
def test_deepseeks_feed_forwards_take_whole_blocks(tp: int, nodes: int, dense: int, shared: int) -> None:
    asked = serving("deepseek-v3", AskedLayout(tp=tp, ep=tp), num_nodes=nodes)
    division = trtllm.division(asked, trtllm.settle(asked))
    assert (division.dense_mlp, division.shared_experts) == (dense, shared)


def test_stages_hold_their_layers_and_the_ends_the_tables() -> None:
    asked = serving(model(layers=5), AskedLayout(pp=2))
    first, last = view(asked), view(asked, number=1)
    assert [len(rank.spec.layers) for rank in (first, last)] == [3, 2]
    assert [
        {entry.role for entry in rank.weights if entry.bytes} & {"embedding", "lm_head"} for rank in (first, last)
    ] == [
        {"embedding"},
        {"lm_head"},
    ]


# Cache -----------------------------------------------------------------------------------------------------


def test_bytes_per_token_as_logs_and_the_engines_own_tests_have_them() -> None:
    # THE LOG: 36 layers x 2 x 8 heads x 64 x 2 B, windows not honoured.
    assert token_bytes(serving("gpt-oss-120b")) == 36 * 2 * 8 * 64 * 2 == 73_728
    # A public log of DeepSeek on an H200 has "kv size is 35136": 61 latents in fp8.
    assert token_bytes(serving("deepseek-v3", AskedLayout(tp=8), kv_dtype="fp8")) == 61 * 576 == 35_136
    # TensorRT-LLM tests, GLM 5.2: 78 x 576 B latent and 21 x 132 B of the indexer.
    assert token_bytes(serving("glm-5.2-fp8", kv_dtype="fp8", gpu="b200")) == 78 * 576 + 21 * 132 == 47_700


def test_heads_are_replicated_beyond_their_number_and_whole_with_attention_data_parallelism() -> None:
    # Qwen3-30B-A3B: 48 layers, 4 key/value heads of 128.
    assert token_bytes(serving("qwen3-30b-a3b", AskedLayout(tp=8))) == 48 * 2 * 1 * 128 * 2
    assert token_bytes(serving("qwen3-30b-a3b", AskedLayout(tp=8, dp_attention=True))) == 48 * 2 * 4 * 128 * 2


@pytest.mark.parametrize(("dtype", "size"), [("fp8", 128), ("nvfp4", 72), (None, 256)])
def test_cache_dtypes(dtype: str | None, size: int) -> None:
    # 128 elements: 1 B each; half a byte and one byte of scale per 16; 2 B.
    asked = serving("qwen3-30b-a3b", AskedLayout(tp=4), kv_dtype=dtype, gpu="b200")
    assert token_bytes(asked) == 48 * 2 * size


def test_the_checkpoints_scheme_is_taken_on_auto_and_the_packed_record_when_asked() -> None:
    asked = serving("deepseek-v3.1-nvfp4", gpu="b200")
    assert asked.quantisation.kv_cache_dtype == "fp8"
    assert token_bytes(asked) == 61 * 576
    # 512 in fp8, 4 fp32 scales, 64 of the rope key in 16 bit; indexer keys 128 + 4.
    packed = serving("deepseek-v3.2", kv_dtype="fp8_ds_mla")
    assert token_bytes(packed) == 61 * (512 + 16 + 128 + 132)
    with pytest.raises(InputError, match="no cache dtype 'int8'"):
        rules_of(serving("deepseek-v3", kv_dtype="int8"))


@pytest.mark.parametrize(
    ("name", "gpu", "block"),
    [
        ("qwen3-30b-a3b", "h100", 32),
        ("deepseek-v3", "h100", 64),
        ("deepseek-v3", "b200", 32),
        ("deepseek-v3.2", "b200", 64),
    ],
)
def test_sequences_hold_whole_blocks(name: str, gpu: str, block: int) -> None:
    # 32 tokens; 64 for latents on Hopper (FlashMLA) and for sparse attention.
    asked = serving(name, gpu=gpu)
    assert held_bytes(asked, 1) == held_bytes(asked, block) == block * token_bytes(asked)
    assert held_bytes(asked, block + 1, 3) == 3 * 2 * block * token_bytes(asked)


def test_windows_are_kept_whole_unless_the_engine_is_told() -> None:
    # gpt-oss-20b: 12 full and 12 window layers of 128 tokens, 8 heads of 64. A window: 128 / 32 + 1 blocks, and the
    # 8192 tokens of one batch.
    entry = 2 * 8 * 64 * 2
    assert held_bytes(serving("gpt-oss-20b"), 131_072) == 24 * 131_072 * entry
    windowed = serving("gpt-oss-20b", stated={"kv_cache_config.max_attention_window": "[128, 131072]"})
    assert held_bytes(windowed, 131_072) == 12 * (131_072 + 5 * 32 + 8192) * entry
    second = serving("gpt-oss-20b", stated={"kv_cache_config.use_kv_cache_manager_v2": True})
    assert held_bytes(second, 131_072) == held_bytes(windowed, 131_072)


def test_recurrent_states_are_allocated_for_a_full_batch() -> None:
    # TensorRT-LLM mamba_cache_manager: max_batch_size x stages, and one slot for graphs. Qwen3-Next: 36 layers with
    # 32 x 128 x 128 states and 3 columns of 2 x 16 x 128 + 32 x 128 channels; 12 layers with 2 heads of 256.
    asked = serving("qwen3-next-80b-a3b-instruct", stated={"--max_batch_size": 16})
    state = 36 * (32 * 128 * 128 * 2 + 3 * 8192 * 2)
    attention = 12 * 2 * 2 * 256 * 2
    assert held_bytes(asked, 32) == 17 * state + 32 * attention
    assert held_bytes(asked, 32, 20) == 21 * state + 20 * 32 * attention
    by_default = serving("qwen3-next-80b-a3b-instruct")
    notes = trtllm.doubts(by_default, trtllm.settle(by_default))
    assert any("allocated for all 2048 sequences" in note.message for note in notes)


# Settings and budget ---------------------------------------------------------------------------------------


def test_defaults_and_origins() -> None:
    # TensorRT-LLM llmapi/llm_args.py; the memory share comes first.
    settings = trtllm.settle(serving(model(), AskedLayout(tp=2), stated={"--max_num_tokens": 4096}))
    assert [tuple(option) for option in settings.options[:5]] == [
        ("--kv_cache_free_gpu_memory_fraction", 0.9, "default"),
        ("--max_seq_len", 8192, "inferred"),
        ("--max_num_tokens", 4096, "stated"),
        ("--max_batch_size", 2048, "default"),
        ("kv_cache_config.tokens_per_block", 32, "default"),
    ]
    many = serving(model(), AskedLayout(tp=2, dp_attention=True), sequences=5000)
    assert trtllm.settle(many).count("--max_batch_size") == 2500  # shared out over two ranks


def used(size: float) -> tuple[Line, ...]:
    return (line("weights", "weights", size, "exact", Why("", {}, "")),)


def test_the_cache_gets_a_fraction_of_what_is_left() -> None:
    # THE LOG: (119.70 - 113.65 + 0.56) x 0.9 = 5.95 GiB; the 0.56 of the profiling pass are no line of ours.
    asked = serving("gpt-oss-120b", gpu="gb10", version="1.1")
    taken = (113.65 - 0.56) * GIB
    budget = trtllm.budget_bytes(asked, trtllm.settle(asked), int(119.70 * GIB), used(taken))
    assert (budget - taken) / GIB == pytest.approx(5.95, abs=0.005)


def test_a_fraction_of_its_own_and_caps() -> None:
    asked = serving("gpt-oss-120b", utilization=0.5)
    settings = trtllm.settle(asked)
    assert (settings.options[0].value, settings.options[0].origin) == (0.5, "stated")
    assert trtllm.budget_bytes(asked, settings, 100 * GIB, used(60 * GIB)) == 80 * GIB
    tokens = serving("gpt-oss-120b", stated={"kv_cache_config.max_tokens": 10_000})
    assert trtllm.budget_bytes(tokens, trtllm.settle(tokens), 100 * GIB, used(60 * GIB)) == 60 * GIB + 10_000 * 73_728
    capped = serving("gpt-oss-120b", stated={"kv_cache_config.max_gpu_total_bytes": GIB})
    assert trtllm.budget_bytes(capped, trtllm.settle(capped), 100 * GIB, used(60 * GIB)) == 61 * GIB


def test_what_does_not_fit_leaves_no_budget_of_its_own() -> None:
    asked = serving("gpt-oss-120b")
    assert trtllm.budget_bytes(asked, trtllm.settle(asked), 10 * GIB, used(60 * GIB)) == 10 * GIB


def test_the_engine_prints_whole_blocks() -> None:
    # THE LOG: 86,711 tokens become 86,720 = 2710 blocks of 32.
    asked = serving("gpt-oss-120b", gpu="gb10")
    found = trtllm.prints(asked, trtllm.settle(asked), view(asked), rules_of(asked), 86_711 * 73_728 + 100)
    assert found is not None
    assert (found.kv_tokens, found.concurrency) == (86_720, None)


# Copies, workspaces ----------------------------------------------------------------------------------------


def test_weights_of_a_log() -> None:
    # THE LOG: 63.32 GiB; without padding to 128 both ways it were 60.77.
    asked = serving("gpt-oss-120b", gpu="gb10", version="1.1")
    rank = view(asked)
    held = total_bytes(rank.weights) + total_bytes(trtllm.weight_lines(asked, trtllm.settle(asked), rank))
    assert held / GIB == pytest.approx(63.32, abs=0.005)
    assert trtllm.expert_backend(asked, trtllm.settle(asked)) == "CUTLASS"


def test_activations_and_workspaces_of_a_log() -> None:
    # THE LOG: "Memory dynamically allocated during inference (inside torch)": 0.85 GiB; "Attention workspace size is not
    # enough, increase the size from 0 bytes to 100738816 bytes".
    found = lines_of(serving("gpt-oss-120b", gpu="gb10", stated={"--max_batch_size": 64}, version="1.1"))
    assert (found["activations"].bytes + found["expert_workspace"].bytes) / GIB == pytest.approx(0.85, rel=0.1)
    # 2 B x 8192 x (64 + 2 x (8 + 8)) heads of 64.
    assert found["attention_workspace"].bytes == 2 * 8192 * 96 * 64
    assert found["attention_workspace"].bytes == pytest.approx(100_738_816, rel=0.001)


def test_gpt_oss_on_blackwell_pads_its_input_to_512() -> None:
    # 2880 as input to 3072, as output and width to 2944: (2 x 3072 + 2944) x 2944 over 3 x 2880 x 2880.
    asked = serving("gpt-oss-120b", gpu="b200")
    experts = role_bytes(asked, "routed_experts")
    added = lines_of(asked)["expert_padding"]
    assert trtllm.expert_backend(asked, trtllm.settle(asked)) == "TRTLLM"
    assert added.bytes == pytest.approx(experts * ((2 * 3072 + 2944) * 2944 / (3 * 2880**2) - 1), rel=1e-6)
    assert added.low_bytes == 0  # no log holds against it


def test_the_absorbed_projection_of_latents() -> None:
    # 61 layers x 16 heads x 512 x 128 keys in 16 bit; kv_b_proj (keys and values) of fp8 unpacked: a byte more.
    keys = 61 * 16 * 512 * 128
    asked = serving("deepseek-v3", AskedLayout(tp=8))
    assert lines_of(asked)["absorbed_projections"].bytes == 2 * keys + 2 * keys
    plain = serving("deepseek-v3", AskedLayout(tp=8), formats=Quantisation("none", BF16))
    assert lines_of(plain)["absorbed_projections"].bytes == 2 * keys
    # Before 1.3 it stayed in fp8 beside CUTLASS; Blackwell kept keys and values in 16 bit too.
    old = serving("deepseek-v3", AskedLayout(tp=8), version="1.0")
    assert lines_of(old)["absorbed_projections"].bytes == keys
    blackwell = serving("deepseek-v3", AskedLayout(tp=8), version="1.0", gpu="b200")
    assert lines_of(blackwell)["absorbed_projections"].bytes == keys + 2 * 2 * keys


def test_all_reduce_buffers_grow_with_the_ranks() -> None:
    # TensorRT-LLM: one buffer of tp x 64 MiB, three for lamport.
    assert lines_of(serving("qwen3-30b-a3b", AskedLayout(tp=8)))["all_reduce_workspace"].bytes == 4 * 8 * 64 * MIB
    assert "all_reduce_workspace" not in lines_of(serving("qwen3-30b-a3b"))
    apart = lines_of(serving("qwen3-30b-a3b", AskedLayout(tp=8, dp_attention=True)))["all_reduce_workspace"]
    assert (apart.bytes, apart.high_bytes) == (0, 4 * 8 * 64 * MIB)
    old = lines_of(serving("qwen3-30b-a3b", AskedLayout(tp=8), version="1.0"))["all_reduce_workspace"]
    assert old.bytes == 4 * 8 * 8_000_000


def test_experts_see_the_tokens_of_all_ranks_with_attention_data_parallelism() -> None:
    # Qwen3-30B-A3B: 8192 tokens x 8 ranks x 8 experts per token x (2048 + 2048) x 2 B; evenly spread an eighth of it.
    asked = serving("qwen3-30b-a3b", AskedLayout(tp=8, ep=8, dp_attention=True))
    found = lines_of(asked)["expert_workspace"]
    assert found.bytes == 8192 * 8 * 8 * (2048 + 2048) * 2
    assert found.low_bytes == found.bytes // 8
    chunked = serving(
        "qwen3-30b-a3b", AskedLayout(tp=8, ep=8, dp_attention=True), stated={"moe_config.max_num_tokens": 8192}
    )
    assert lines_of(chunked)["expert_workspace"].bytes == found.bytes // 8


def test_graphs_can_be_turned_off() -> None:
    assert "cuda_graphs" in lines_of(serving("qwen3-30b-a3b"))
    assert "cuda_graphs" not in lines_of(serving("qwen3-30b-a3b", stated={"cuda_graph_config": "null"}))


def test_host_memory_and_the_peak_while_loading() -> None:
    asked = serving("qwen3-30b-a3b", AskedLayout(tp=2), stated={"kv_cache_config.host_cache_size": 10 * GIB})
    found = {entry.code: entry for entry in trtllm.host_lines(asked, trtllm.settle(asked))}
    assert found["host.kv_cache"].bytes == 20 * GIB
    # Pull request 11119: about 120 GB for a checkpoint of 350.
    stored = sum(each.num_bytes for each in holdings(asked.owned, asked.quantisation))
    assert found["host.loading"].bytes == pytest.approx(120 / 350 * stored, rel=0.03)
    rank = view(asked)
    # The experts of one of 48 layers once more.
    peak = total_bytes(rank.weights) + role_bytes(asked, "routed_experts") // 48
    assert trtllm.load_peak_bytes(asked, trtllm.settle(asked), rank) == peak


@pytest.mark.parametrize(
    ("name", "gpu", "version", "stated", "backend"),
    [
        ("gpt-oss-20b", "h100", "1.3", {}, "TRITON"),
        ("gpt-oss-20b", "b200", "1.3", {}, "TRTLLM"),
        ("gpt-oss-20b", "b200", "1.1", {}, "CUTLASS"),
        ("deepseek-v3", "b200", "1.3", {}, "TRTLLM"),
        ("deepseek-v3", "h100", "1.3", {}, "CUTLASS"),
        ("qwen3-30b-a3b", "b200", "1.3", {}, "CUTLASS"),
        ("qwen3-30b-a3b", "b200", "1.3", {"moe_config.backend": "deepgemm"}, "DEEPGEMM"),
        ("llama-3.1-8b-instruct", "h100", "1.3", {}, None),
    ],
)
def test_kernels_of_experts(
    name: str, gpu: str, version: str, stated: Mapping[str, Value], backend: str | None
) -> None:
    # TensorRT-LLM _torch/model_config.py:resolve_moe_backend.
    asked = serving(name, gpu=gpu, version=version, stated=stated)
    assert trtllm.expert_backend(asked, trtllm.settle(asked)) == backend


# Refusals and doubts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "asked", "code"),
    [
        (model(heads=6), AskedLayout(tp=4), "heads-not-divisible"),
        (model(heads=12, kv_heads=6), AskedLayout(tp=4), "kv-heads-not-divisible"),
        (model(width=250), AskedLayout(tp=4), "width-not-divisible"),
        (model(experts=0, width=250), AskedLayout(tp=4), "width-not-divisible"),
        (model(experts=0), AskedLayout(tp=4, ep=2), "ep-on-dense"),
        (model(), AskedLayout(tp=4, ep=8), "ep-beyond-tp"),
        (model(heads=12, kv_heads=12), AskedLayout(tp=6, ep=4), "ep-not-dividing-tp"),
        (model(experts=4), AskedLayout(tp=8, ep=8), "ep-beyond-experts"),
        (model(), AskedLayout(tp=4, ep=4, redundant_experts=2), "experts-not-divisible"),
        (model(), AskedLayout(tp=4, redundant_experts=4), "redundancy-without-ep"),
        (model(layers=2), AskedLayout(pp=4), "stages-beyond-layers"),
    ],
)
def test_layouts_that_do_not_start(spec: ModelSpec, asked: AskedLayout, code: str) -> None:
    assert codes(serving(spec, asked)) == {code}
    assert code in codes(serving(spec, asked, gpu=None))


def test_a_layout_that_starts_is_not_refused() -> None:
    assert codes(serving(model(), AskedLayout(tp=4, ep=2, pp=2))) == set()
    # Heads need not divide where attention is data-parallel.
    assert codes(serving(model(heads=6, kv_heads=6), AskedLayout(tp=4, ep=4, dp_attention=True))) == set()


def test_uneven_experts_are_shared_since_1_3() -> None:
    # TensorRT-LLM fused_moe/interface.py:_compute_ep_partition: the first ranks take one more; before, all as many.
    asked = AskedLayout(tp=4, ep=4)
    assert codes(serving(model(experts=10), asked, version="1.2")) == {"experts-not-divisible"}
    newer = serving(model(experts=10), asked)
    assert codes(newer) == set()
    assert role_bytes(newer, "routed_experts") == 4 * 3 * 3 * 64 * 256 * 2  # 4 layers, 3 experts, 3 matrices


def test_fp8_blocks_must_stay_whole() -> None:
    # Qwen3-235B in fp8: 1536 / 8 = 192 is not a multiple of 128; as wholes on two ranks by width it is 768.
    formats = everywhere(FP8_BLOCK)
    broken = serving("qwen3-235b-a22b", AskedLayout(tp=8), formats=formats)
    assert codes(broken) == {"block-not-divisible"}
    assert "1536 / 8" in told(broken, "block-not-divisible")
    assert "; --tp 4 does, or --ep 8" in told(broken, "block-not-divisible")
    assert codes(serving("qwen3-235b-a22b", AskedLayout(tp=8, ep=4), formats=formats)) == set()


@pytest.mark.parametrize(
    ("name", "gpu", "code"),
    [
        ("qwen3-30b-a3b", "t4", "no-kernel"),  # compute capability 7.5
        ("qwen3-30b-a3b", "a100", None),
        ("gpt-oss-20b", "a100", "no-kernel"),
        ("gpt-oss-20b", "h100", None),
        ("gpt-oss-20b", "gb10", None),  # THE LOG ran
        ("deepseek-v3", "l40s", "no-kernel"),  # fp8 in blocks: 9.0, 10.x, 12.x
        ("deepseek-v3", "h100", None),
        ("qwen3-235b-a22b-nvfp4", "h100", "no-kernel"),
        ("qwen3-235b-a22b-nvfp4", "b200", None),
        ("qwen3-30b-a3b", "mi300x", "not-supported"),
        ("deepseek-v2-lite", "h100", "not-supported"),
        ("kimi-k2-thinking", "b200", "not-supported"),  # int4 of compressed-tensors
    ],
)
def test_cards_and_formats(name: str, gpu: str, code: str | None) -> None:
    # TensorRT-LLM fused_moe/MOE_DEVELOPER_GUIDE.md (capability matrix), _torch/models/_arch_index.py.
    assert codes(serving(name, gpu=gpu)) == ({code} if code else set())


def test_nvfp4_on_hopper_names_its_way_out() -> None:
    formats = everywhere(NVFP4)
    asked = serving(model(), formats=formats)
    assert "moe_config.backend MARLIN" in told(asked, "no-kernel")
    assert codes(serving(model(), formats=formats, stated={"moe_config.backend": "MARLIN"})) == set()


@pytest.mark.parametrize(
    ("dtype", "gpu", "refused"),
    [("fp8", "a100", True), ("fp8", "h100", False), ("nvfp4", "h100", True), ("nvfp4", "b200", False)],
)
def test_cache_dtypes_by_card(dtype: str, gpu: str, refused: bool) -> None:
    assert codes(serving(model(), gpu=gpu, kv_dtype=dtype)) == ({"no-kernel"} if refused else set())


def test_models_without_stages() -> None:
    assert codes(serving("kimi-linear-48b-a3b-instruct", AskedLayout(pp=2))) == {"pp-not-supported"}


def test_a_share_of_one_is_refused() -> None:
    # TensorRT-LLM resource_manager.py: "free_mem_fraction must be smaller than 1.0".
    assert codes(serving(model(), utilization=1.0)) == {"fraction-too-large"}


def test_nothing_here_was_measured() -> None:
    asked = serving("qwen3-30b-a3b")
    (note,) = trtllm.doubts(asked, trtllm.settle(asked))
    assert (note.code, note.severity) == ("not-yet-measured", "info")


@pytest.mark.parametrize(
    ("name", "stated", "words"),
    [
        ("deepseek-v3", {"speculative_config": '{"decoding_type": "MTP"}'}, "speculation"),
        ("deepseek-v3", {"enable_lora": True}, "LoRA"),
        ("deepseek-v3", {"--max_beam_width": 4}, "beams"),
        ("deepseek-v3", {"--context_parallel_size": 2}, "context parallelism"),
        ("deepseek-v4-flash", {}, "DeepSeek-V4"),
        ("glm-5.3-flash-bf16", {}, "is not known"),
        ("deepseek-v3.1-nvfp4", {}, "fp8_context_mla_kv_len_cap"),
    ],
)
def test_what_is_not_modelled_is_said(name: str, stated: Mapping[str, Value], words: str) -> None:
    asked = serving(name, stated=stated)
    assert any(words in note.message for note in trtllm.doubts(asked, trtllm.settle(asked)))


def test_draft_layers_are_loaded_with_mtp_alone() -> None:
    assert trtllm.loads_drafts({"speculative_config": '{"decoding_type": "MTP"}'})
    assert trtllm.loads_drafts({"speculative_config.decoding_type": "MTP"})
    assert not trtllm.loads_drafts({"speculative_config": '{"decoding_type": "Eagle"}'})
    assert not trtllm.loads_drafts({})


def test_the_estimate_stands_but_is_never_certain() -> None:
    found = moeplan.estimate("qwen3-30b-a3b", gpu="h200", engine="trtllm", context=32_768)
    assert (found.verdict.fits, found.verdict.certain) == (True, False)
