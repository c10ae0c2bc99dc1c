"""SGLang's rules worked by hand: layout, division, share of the card, pools, copies, refusals.

Sources are named as `SGLang 0.5.23 path`, without `srt/`. obs-d-… are rows of benchmarks/data/observed-memory.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moeplan
from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import DenseFfn, Ffn, GroupedAttention, Layer, Mamba2, Mixer, ModelSpec, MoeFfn
from moeplan.core.placement import RankView, rank_bytes
from moeplan.core.quant import BF16, FP8_CHANNEL, MXFP4, NVFP4, Quantisation, Rule, holdings
from moeplan.engines import sglang
from moeplan.engines.sglang.fraction import default_fraction
from moeplan.engines.sglang.settings import step_tokens
from moeplan.sources.engine_constants import engine_constants
from moeplan.sources.models import find_model
from tests.engines.serving import ranks, settings
from tests.engines.serving import serving as build

GIB = 2**30
MIB = 2**20
FULL = GroupedAttention(8, 2, 16, 16)
WINDOW = GroupedAttention(8, 2, 16, 16, window_tokens=128)
PLAIN = Quantisation("bf16", BF16)


def serving(name: str | ModelSpec, **asked: Any) -> Serving:
    """A model of the catalogue, in its own formats unless others are asked for."""
    if isinstance(name, ModelSpec):
        return build(name, "sglang", **asked)
    found = find_model(name)
    return build(found.spec, "sglang", quantisation=asked.pop("quantisation", found.quantisation), **asked)


def model(*mixers: Mixer, ffn: Ffn | None = None, model_type: str = "llama") -> ModelSpec:
    layers = tuple(Layer((mixer,), (ffn,) if ffn else ()) for mixer in mixers)
    return ModelSpec(model_type, "test", 64, 100, layers, False, None, "bfloat16", True)


def rules_of(of: Serving, asked: str | None = None) -> CacheRules:
    capability = of.hardware.compute_capability if of.hardware else None
    return sglang.cache_rules(
        of.spec,
        asked=asked,
        scheme=of.quantisation.kv_cache_dtype,
        weight_dtype=of.spec.dtype,
        capability=capability,
    )


def held(of: Serving, context: int, sequences: int = 1, rank: int = 0) -> int:
    """What the pools hold on one rank."""
    return sglang.managed_cache_bytes(of, settings(of), ranks(of)[rank], rules_of(of), context, sequences)


def printed(of: Serving, pool_bytes: int) -> int | None:
    found = sglang.prints(of, settings(of), ranks(of)[0], rules_of(of), pool_bytes)
    return found.kv_tokens if found else None


def weight_bytes(of: Serving, rank: RankView) -> int:
    """Bytes of the checkpoint's weights on a rank, draft layers left out."""
    on_host = sglang.host_share(of, settings(of))
    return sum(
        rank_bytes(each, rank.place, rank.division, tied_embedding=of.spec.tied_embedding, on_host=on_host)
        for each in holdings(of.owned, of.quantisation)
        if each.part not in ("mtp", "mtp_duplicate")
    )


def weight_lines(of: Serving) -> dict[str, Line]:
    """Lines beside the checkpoint's weights on the first rank."""
    rank = ranks(of)[0]
    experts = sum(
        rank_bytes(each, rank.place, rank.division)
        for each in holdings(of.owned, of.quantisation)
        if each.weight.role == "routed_experts" and each.part == "text"
    )
    why = Why("", {}, "")
    view = rank._replace(weights=(line("weights.routed_experts", "", experts, "exact", why, role="routed_experts"),))
    return {entry.code: entry for entry in sglang.weight_lines(of, settings(of), view)}


def runtime(of: Serving) -> dict[str, Line]:
    return {entry.code: entry for entry in sglang.runtime_lines(of, settings(of), ranks(of)[0])}


def options(of: Serving) -> dict[str, Value]:
    return {option.flag: option.value for option in settings(of).options}


def refused(of: Serving) -> dict[str, str]:
    return {refusal.code: refusal.message for refusal in sglang.refusals(of, settings(of))}


# Layout ----------------------------------------------------------------------------------------------------


def layout(
    num_devices: int | None, name: str = "deepseek-v3", stated: Mapping[str, Value] | None = None, **asked: Any
) -> Layout:
    return sglang.resolve_layout(find_model(name).spec, AskedLayout(**asked), num_devices, stated or {})


def test_all_devices_are_one_tensor_parallel_group() -> None:
    assert layout(8)._replace(pp_layers=()) == Layout(tp=8, num_gpus=8)
    assert layout(16, pp=2).tp == 8
    assert layout(None)._replace(pp_layers=()) == Layout()


def test_attention_data_parallelism_lies_inside_the_tensor_parallel_ranks() -> None:
    # SGLang 0.5.23 arg_groups/parallel_hook.py: attention ranks = tp / dp; without it every copy has tp x pp GPUs.
    inside = layout(8, dp=4, dp_attention=True)
    assert (inside.tp, inside.dp, inside.num_gpus, inside.dp_attention) == (8, 4, 8, True)
    copies = layout(8, dp=4)
    assert (copies.tp, copies.dp, copies.num_gpus, copies.dp_attention) == (2, 4, 8, False)
    assert not layout(8, dp=1, dp_attention=True).dp_attention


def test_left_over_layers_go_to_the_last_stages() -> None:
    # SGLang 0.5.23 distributed/utils.py get_pp_indices: 61 over 4 are 15, and the last takes the one left.
    assert layout(4, tp=1, pp=4).pp_layers == (15, 15, 15, 16)
    assert layout(3, "gpt-oss-20b", tp=1, pp=3).pp_layers == (8, 8, 8)
    assert layout(7, "gpt-oss-20b", tp=1, pp=7).pp_layers == (3, 3, 3, 3, 4, 4, 4)
    assert layout(4, tp=2, pp=2, pp_layers=(40, 21)).pp_layers == (40, 21)


@pytest.mark.parametrize("backend", ["deepep", "mooncake", "pplx", "megamoe", "flashinfer"])
def test_all_to_all_backends_force_a_rank_per_share_of_experts(backend: str) -> None:
    # SGLang 0.5.23 arg_groups/overrides.py _a2a_ep_size.
    assert layout(8, stated={"--moe-a2a-backend": backend}, ep=2).ep == 8
    assert layout(8, stated={"--moe-a2a-backend": "none"}, ep=2).ep == 2
    assert layout(8, expert_parallel=True).ep == 8


def test_devices_that_do_not_divide_are_told() -> None:
    with pytest.raises(InputError, match="7 GPUs do not divide over 2 stages"):
        layout(7, pp=2)
    with pytest.raises(InputError, match="6 GPUs do not divide over 1 stages x 4 replicas"):
        layout(6, dp=4)


# DeepSeek-V3: 61 layers, 3 of them dense (width 18,432), 256 experts of 2,048, one shared, h 7,168, 128 heads, latents of
# 1,536 and 512 + 64, heads of 128 + 64 and 128, vocabulary 129,280 (its config.json).
H, LAYERS, SPARSE, EXPERT = 7168, 61, 58, 3 * 7168 * 2048
REPLICATED = LAYERS * (H * 1536 + H * 576 + 1536 + 512) + LAYERS * 2 * H + H
BY_HEADS = LAYERS * (1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * H)
ROUTER = SPARSE * (256 * H + 2 * 256)  # its correction bias is fp32: two 16-bit elements each
SHARED, DENSE_MLP, TABLE = SPARSE * EXPERT, 3 * 3 * H * 18_432, 129_280 * H


def test_deepseek_v3_with_two_attention_ranks_and_redundant_experts() -> None:
    # tp 8, dp 4: attention and the input table over 2 ranks, (256 + 32) / 8 = 36 whole experts on each of 8; dense layers,
    # shared experts and the head over all 8 (SGLang 0.5.23 models/deepseek_v2.py, layers/vocab_parallel_embedding.py).
    asked = {"tp": 8, "dp": 4, "dp_attention": True, "ep": 8, "redundant_experts": 32}
    of = serving("deepseek-v3", quantisation=PLAIN, gpu="b300", **asked)
    common = REPLICATED + ROUTER + BY_HEADS // 2 + SPARSE * 36 * EXPERT
    whole = common + (SHARED + DENSE_MLP + TABLE) // 8 + TABLE // 2
    (rank,) = ranks(of)
    assert rank.place.ranks == tuple(range(8))
    assert weight_bytes(of, rank) == 2 * whole
    # DeepEP keeps shared experts whole, --moe-dense-tp-size 1 the dense layers, --enable-dp-lm-head the head over 2 ranks.
    stated = {"--moe-a2a-backend": "deepep", "--moe-dense-tp-size": 1, "--enable-dp-lm-head": True}
    of = serving("deepseek-v3", quantisation=PLAIN, gpu="b300", stated=stated, **asked)
    assert weight_bytes(of, ranks(of)[0]) == 2 * (common + SHARED + DENSE_MLP + 2 * TABLE // 2)


def test_experts_are_split_both_ways_where_fewer_ranks_share_them() -> None:
    # tp 8, ep 2: 128 experts each, of a quarter of the width.
    of = serving("deepseek-v3", quantisation=PLAIN, gpu="b300", tp=8, ep=2)
    everything_else = REPLICATED + ROUTER + (BY_HEADS + SHARED + DENSE_MLP + 2 * TABLE) // 8
    assert weight_bytes(of, ranks(of)[0]) == 2 * (everything_else + SPARSE * 128 * EXPERT // 4)


@pytest.mark.parametrize(
    ("name", "version", "embedding"),
    # SGLang 0.5.23 models/*.py: use_attn_tp_group, or enable_tp=not is_dp_attention_enabled(). 0.5.3: DeepSeek whole.
    [
        ("deepseek-v3", None, 2),
        ("deepseek-v3", "0.5.3", 1),
        ("qwen3-235b-a22b", None, 2),
        ("qwen3.5-122b-a10b", None, 1),
        ("deepseek-v4-flash", None, 1),
        ("step-3.7-flash", None, 1),
    ],
)
def test_who_has_the_whole_input_table(name: str, version: str | None, embedding: int) -> None:
    of = serving(name, tp=4, dp=2, dp_attention=True, version=version)
    split = sglang.division(of, settings(of))
    assert (split.attention, split.embedding, split.lm_head, split.towers) == (2, embedding, 4, 2)


def test_vocabularies_are_padded_to_64_rows_and_to_the_ranks() -> None:
    # SGLang 0.5.23 layers/vocab_parallel_embedding.py: 100 rows become 128, which 4 ranks divide; 3 do not, so 192.
    assert sglang.division(serving(model(FULL), tp=4), Settings(())).vocabulary_padding == 64
    assert sglang.division(serving(model(FULL), tp=3), Settings(())).vocabulary_padding == 192


# The share of the card ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "version", "asked", "share"),
    [
        # 512 + 1.5 x 8192 + 1024 / 8 + 2 x 256 + 8 MiB x 58 sizes = 13,904 of 81,559 MiB
        ("qwen3-30b-a3b-fp8", "h100", None, {}, 0.830),
        # 512 + 12,288 + 1024 + 2 x 512 = 14,848 of 143,771 MiB; a log of 0.5.3 says 0.897 (sgl-project/sglang issue 11716)
        ("llama-3.1-70b-instruct", "h200", "0.5.3", {"tp": 8}, 0.897),
        # latents: 1.5 GiB for prefill graphs; attention data parallelism 8: 4.5 x 512 x 8; 34,816 in all
        ("deepseek-v3", "h200", None, {"tp": 8, "dp": 8, "dp_attention": True}, 0.758),
        # that with DeepEP: 1 GiB more for prefill graphs, 2 GiB for its buffers
        ("deepseek-v3", "h200", None, {"tp": 8, "stated": {"--moe-a2a-backend": "deepep"}}, 0.865),
        # small reserves are raised to 10 GiB on cards of more than 60: (81,559 - 10,240) / 81,559
        ("qwen3-30b-a3b", "h100", None, {"stated": {"--chunked-prefill-size": 2048}}, 0.874),
        # 512 + 1.5 x 16,384 + 1024 + 2 x 512 + 1.5 GiB, though TensorRT-LLM's kernels turn those graphs off later
        ("deepseek-v3", "b200", None, {"tp": 8}, round((183_359 - 28_672) / 183_359, 3)),
        # no graphs: 512 + 12,288 + 128
        ("qwen3-30b-a3b", "h100", None, {"stated": {"--disable-cuda-graph": True}}, 0.841),
        # 24,564 MiB: 512 + 1.5 x 4096 + 128 + 2 x 48 + 8 x 50
        ("olmoe-1b-7b-0924", "rtx-4090", None, {}, 0.704),
        # 0.5.3: chunks of 2048, batches of 16, no prefill graphs: 512 + 3072 + 128 + 32
        ("olmoe-1b-7b-0924", "rtx-4090", "0.5.3", {}, 0.848),
        # 0.4.8 to 0.5.2 by card: (9.5 + 8 / 2) GiB
        ("llama-3.1-70b-instruct", "h100", "0.5.2", {"tp": 8}, 0.831),
        # until 0.4.7 by ranks; larger cards all but 13 GiB in 0.4.6
        ("llama-3.1-70b-instruct", "h100", "0.4.7", {"tp": 8}, 0.81),
        ("llama-3.1-70b-instruct", "h200", "0.4.6", {"tp": 8}, (143_771 - 13_312) / 143_771),
        # tower of 24 (its config says depth) x 1152: 0.95 x (1 - 0.1 x ((1152 / 1024)^2 - 1)); 27,728 of 183,359 MiB
        ("qwen3.5-397b-a17b", "b200", None, {"tp": 8}, 0.849 * 0.95 * (1 - 0.1 * ((1152 / 1024) ** 2 - 1))),
    ],
)
def test_the_default_share(name: str, gpu: str, version: str | None, asked: dict[str, Any], share: float) -> None:
    of = serving(name, gpu=gpu, version=version, **asked)
    first = settings(of).options[0]
    assert (first.flag, first.origin) == ("--mem-fraction-static", "default")
    assert first.value == pytest.approx(share, abs=1e-9)


def test_a_share_that_is_stated_is_kept() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100", utilization=0.7)
    assert settings(of).options[0] == ("--mem-fraction-static", 0.7, "stated")


def test_without_a_card_the_share_is_a_constant() -> None:
    # SGLang 0.5.23 arg_groups/memory_hook.py; 0.88 before 0.5.20.
    assert default_fraction(serving("qwen3-30b-a3b"), 8192, 256) == 0.95
    assert default_fraction(serving("qwen3-30b-a3b", version="0.5.9"), 8192, 256) == 0.88


@pytest.mark.parametrize(
    ("gpu", "tp", "version", "chunk", "batch"),
    # SGLang 0.5.23 arg_groups/memory_hook.py; server_args.py of the older ones.
    [
        ("rtx-4090", 1, None, 4096, 48),
        ("rtx-4090", 4, None, 4096, 160),
        ("rtx-4090", 1, "0.5.3", 2048, 16),
        ("l40s", 1, None, 4096, 32),
        ("h100", 2, None, 8192, 256),
        ("h200", 8, None, 8192, 512),
        ("b200", 1, None, 16384, 512),
        ("h100", 8, "0.5.1", 8192, 160),
        ("h200", 8, "0.5.1", 8192, 256),
        ("rtx-4090", 4, "0.4.7", 2048, 80),
    ],
)
def test_chunks_and_batches_follow_the_card(gpu: str, tp: int, version: str | None, chunk: int, batch: int) -> None:
    found = options(serving("llama-3.1-8b-instruct", gpu=gpu, tp=tp, version=version))
    flag = "--cuda-graph-max-bs-decode" if version is None else "--cuda-graph-max-bs"
    assert (found["--chunked-prefill-size"], found[flag]) == (chunk, batch)


def test_both_names_of_the_graph_batch_are_read() -> None:
    stated: list[dict[str, Value]] = [{"--cuda-graph-max-bs": 64}, {"--cuda-graph-max-bs-decode": 64}]
    for each in (*stated, {"--cuda-graph-bs-decode": "1,8,64,32"}):
        found = options(serving("qwen3-30b-a3b", gpu="h100", stated=each))
        assert found["--cuda-graph-max-bs-decode"] == 64
        # 13,904 - 2 x (256 - 64)
        assert found["--mem-fraction-static"] == round((81_559 - 13_520) / 81_559, 3)


def test_groups_share_the_chunk() -> None:
    of = serving("deepseek-v3", gpu="h200", tp=8, dp=4, dp_attention=True)
    assert step_tokens(of, settings(of)) == 8192 // 4
    off = serving("deepseek-v3", gpu="h200", tp=8, stated={"--chunked-prefill-size": -1})
    assert step_tokens(off, settings(off)) == 16384


@pytest.mark.parametrize(
    ("name", "gpu", "stated", "page"),
    # SGLang 0.5.23 arg_groups/overrides.py _mla_backend_page_constraints, _fa4_page_constraint, _page_size_default.
    [
        ("qwen3-30b-a3b", "h100", {}, 1),
        ("qwen3-30b-a3b", "h100", {"--page-size": 16}, 16),
        ("qwen3-30b-a3b", "b200", {}, 64),
        ("qwen3-30b-a3b", "b200", {"--page-size": 32}, 32),
        ("qwen3-30b-a3b", "b200", {"--page-size": 1}, 64),
        ("deepseek-v3", "b200", {}, 64),
        ("deepseek-v3.2", "h200", {}, 64),
        ("deepseek-v4-flash", "h200", {}, 256),
        ("mimo-v2-flash", "b200", {}, 128),
        ("glm-5.3-flash-bf16", "h200", {}, 64 * 16),
        ("deepseek-v3", "h200", {"--attention-backend": "flashmla"}, 64),
    ],
)
def test_pages_are_those_of_the_kernels(name: str, gpu: str, stated: dict[str, Value], page: int) -> None:
    assert options(serving(name, gpu=gpu, stated=stated))["--page-size"] == page


def test_more_sequences_than_run_by_default_are_asked_for() -> None:
    for sequences, expected in ((256, (256, "default")), (257, (257, "inferred"))):
        of = serving("deepseek-v4-flash", gpu="h200", sequences=sequences)
        found = next(option for option in settings(of).options if option.flag == "--max-running-requests")
        assert (found.value, found.origin) == expected


def test_draft_layers_run_without_a_draft_model_of_their_own() -> None:
    assert sglang.loads_drafts({"--speculative-algorithm": "NEXTN"})
    assert sglang.loads_drafts({"--speculative-algorithm": "EAGLE"})
    assert not sglang.loads_drafts({"--speculative-algorithm": "EAGLE", "--speculative-draft-model-path": "x/y"})
    assert not sglang.loads_drafts({"--speculative-algorithm": "NGRAM"})
    assert not sglang.loads_drafts({})


def test_dtypes_that_are_loaded() -> None:
    # SGLang 0.5.23 configs/model_config.py _get_and_verify_dtype; bfloat16 needs compute capability 8.0.
    assert sglang.loaded_dtype("float32", "9.0") == "float16"
    assert sglang.loaded_dtype("bfloat16", "7.5") == "float16"
    assert sglang.loaded_dtype("bfloat16", "8.9") == "bfloat16"


# How the cache is stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "asked", "dtype", "latent_bytes"),
    # Packed: 512 fp8 + 4 scales of 4 B + 64 rope elements of 2 B = 656 (SGLang 0.5.23 mem_cache/kv_cache_dtype.py,
    # mem_cache/memory_pool.py); TensorRT-LLM's kernels read plain fp8. `auto` of sparse latents: fp8 from 10 on.
    [
        ("deepseek-v3.2", "h200", None, "bfloat16", 1152),
        ("deepseek-v3.2", "h200", "fp8", "fp8", 656),
        ("deepseek-v3.2", "b200", None, "fp8", 576),
        ("glm-5-fp8", "b200", "bfloat16", "bfloat16", 1152),
        ("deepseek-v3", "h200", "fp8", "fp8", 576),
        ("deepseek-v3", "b200", "nvfp4", "nvfp4", 288 + 36),
    ],
)
def test_latents_by_card(name: str, gpu: str, asked: str | None, dtype: str, latent_bytes: int) -> None:
    of = serving(name, gpu=gpu)
    rules = rules_of(of, asked)
    rows = tuple(row for row in cache_rows(of.spec) if row.kind == "latent")
    assert rules.kv_dtype == dtype
    assert cache_cost(rows, rules, 1).bytes_per_token == latent_bytes * sum(row.count for row in rows)


def test_indexer_keys_are_fp8_with_a_scale_and_pooled_ones_are_one_of_sixteen() -> None:
    # 128 + 128 / 128 x 4 = 132; GLM-5.3 keeps one for 16 tokens, 8.25 bytes each.
    assert rules_of(serving("deepseek-v3.2", gpu="h200")).records["indexer_keys"] == 132
    assert rules_of(serving("glm-5.3-flash-bf16", gpu="h200")).records["indexer_keys"] == 9


def test_a_scheme_of_the_checkpoint_is_followed_unless_latents_are_sparse() -> None:
    scheme = Quantisation("fp8", BF16, kv_cache_dtype="fp8")
    assert rules_of(serving("qwen3-30b-a3b", gpu="h100", quantisation=scheme)).kv_dtype == "fp8"
    assert rules_of(serving("deepseek-v3.2", gpu="h200", quantisation=scheme)).kv_dtype == "bfloat16"


@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_other_cache_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=f"sglang has no cache dtype '{dtype}'"):
        rules_of(serving(model(FULL)), dtype)


# Pools ----------------------------------------------------------------------------------------------------


def test_obs_d_042_tokens_of_a_pool() -> None:
    # H100: 78.48 GiB free, 29.15 loaded, share 0.830: 78.48 - 29.15 - 78.48 x 0.17 = 35.99 GiB, 48 layers x 2 x 4 heads x
    # 128 x 2 B a token. Logged: 392,920 tokens, K and V 17.99 GiB each; free memory is known to 0.01 GiB, 109 tokens.
    of = serving("qwen3-30b-a3b-fp8", gpu="h100")
    cell = 48 * 2 * 4 * 128 * 2
    assert cell == 2 * 49_152
    pool = round((78.48 * 0.83 - 29.15) * GIB)
    assert printed(of, pool) == pool // cell
    assert abs((pool // cell) / 392_920 - 1) < 0.0005
    assert held(of, 392_920) == 392_920 * cell
    assert round(held(of, 392_920) / 2 / GIB, 2) == 17.99


def test_obs_d_042_end_to_end() -> None:
    # The same from the card's 79.19 GiB: context 0.72, weights 29.03 by the header's arithmetic (29.15 logged).
    of = serving("qwen3-30b-a3b-fp8", gpu="h100", context=40_960)
    assert of.memory is not None
    weights = line("weights.all", "", round(29.15 * GIB), "exact", Why("", {}, ""))
    lines = (weights, *sglang.runtime_lines(of, settings(of), ranks(of)[0]))
    budget = sglang.budget_bytes(of, settings(of), of.memory.bytes, lines)
    tokens = printed(of, budget - sum(entry.bytes for entry in lines))
    assert tokens is not None
    assert abs(tokens / 392_920 - 1) < 0.001


def test_obs_d_043_with_experts_on_the_host() -> None:
    # 32 of 128 experts of each layer stay: 16.41 GiB; 549,277 tokens of 98,304 B: K = V = 25.14 GiB.
    of = serving("qwen3-30b-a3b", gpu="h100", stated={"--kt-num-gpu-experts": 32})
    assert abs(weight_bytes(of, ranks(of)[0]) / GIB / 16.41 - 1) < 0.003
    share = sglang.host_share(of, settings(of))
    assert share is not None
    expert, other = (
        next(each.weight for each in of.owned if (each.weight.role == "routed_experts") is routed)
        for routed in (True, False)
    )
    assert (share(expert, 0), share(other, 0)) == (96 / 128, 0)
    assert round(held(of, 549_277) / 2 / GIB, 2) == 25.14


@pytest.mark.parametrize(
    ("name", "gpu", "asked", "tokens"),
    [
        # obs-d-043: 32 of 128 experts on the device, share 0.85.
        (
            "qwen3-30b-a3b",
            "h100",
            {"engine_args": ["--kt-num-gpu-experts", "32", "--mem-fraction-static", "0.85"]},
            549_277,
        ),
        # sgl-project/sglang issue 11716, eight H200, 0.5.3, default share 0.897.
        ("llama-3.1-70b-instruct", "8xh200", {"engine_version": "0.5.3"}, 2_795_207),
    ],
)
def test_tokens_of_public_logs(name: str, gpu: str, asked: dict[str, Any], tokens: int) -> None:
    found = moeplan.estimate(name, gpu=gpu, engine="sglang", offline=True, **asked)
    prints = found.capacity.engine_prints
    assert prints is not None
    assert prints.kv_tokens is not None
    assert abs(prints.kv_tokens / tokens - 1) < 0.003


def test_obs_d_039_latents_are_whole_on_every_rank() -> None:
    # GLM-4.7-Flash, tp 2: 383,872 tokens x 47 layers x 576 x 2 B = 19.36 GiB on each.
    of = serving("glm-4.7-flash", gpu="h100", tp=2)
    assert held(of, 383_872) == 383_872 * 47 * 1152
    assert round(held(of, 383_872) / GIB, 2) == 19.36


def test_obs_d_040_weights_of_glm_5() -> None:
    # 89.58 GiB on each of 8 ranks of a 288 GB card.
    of = serving("glm-5-fp8", gpu="b300", tp=8)
    absorbed = weight_lines(of)["absorbed_projections"].bytes
    # 78 layers x 512 x 64 / 8 heads x (192 + 256) x 2 B
    assert absorbed == 78 * 512 * 8 * (192 + 256) * 2
    assert abs((weight_bytes(of, ranks(of)[0]) + absorbed) / GIB / 89.58 - 1) < 0.01


def test_obs_d_044_states_and_tokens() -> None:
    # tp 2 before 0.5.13: 82 states by 0.9 to 1, one more allocated: 45 layers x 32 heads x 128 x 128 x 4 B and 3 columns
    # of 6,144 channels x 2 B each; 580,364 tokens x 15 layers x 2 x 256 x 2 B = 2 x 4.15 GiB.
    of = serving("qwen3.5-397b-a17b", gpu="rtx-4090", tp=2, version="0.5.9")
    state = 45 * (32 * 128 * 128 * 4 + 3 * 6144 * 2)
    assert [round(83 * 45 * size / GIB, 2) for size in (32 * 128 * 128 * 4, 3 * 6144 * 2)] == [7.29, 0.13]
    cell = 15 * 2 * 256 * 2
    assert round(580_364 * cell / 2 / GIB, 2) == 4.15
    # A pool that holds both, to the last token: 82 states come out of 0.9 / 1.9 of it.
    pool = 82 * state + 580_364 * cell
    assert int(pool * 0.9 / 1.9 // state) == 82
    assert printed(of, pool) == 580_364
    assert printed(of, pool - 1) == 580_363
    # A pool that surely holds so many: the smallest drops by a state whenever the ratio gives one more to the states.
    assert pool <= held(of, 580_364) <= pool + 1.9 * state


LING_STATE = 35 * (32 * 128 * 128 * 4 + 3 * 3 * 32 * 128 * 2)


def test_a_log_of_ling_3() -> None:
    # A public log of tp 1 with these 117 states: 8.07 GiB in fp32 for 118 (35 layers x 32 heads x 128 x 128 x 4 B), 0.28 GiB
    # of convolutions (3 columns of 3 x 32 x 128 channels), 1,226,984 tokens in 9.21 GiB (7 layers of 576 x 2 B).
    of = serving("ling-3.0-flash", gpu="h200", version="0.5.16")
    assert round(118 * 35 * 32 * 128 * 128 * 4 / GIB, 2) == 8.07
    assert round(118 * 35 * 3 * 3 * 32 * 128 * 2 / GIB, 2) == 0.28
    assert round(1_226_984 * 7 * 1152 / GIB, 2) == 9.21
    pool = 117 * LING_STATE + 1_226_984 * 7 * 1152
    assert int(pool * 0.9 / 1.9 // LING_STATE) == 117
    assert printed(of, pool) == 1_226_984


def test_the_padding_state_is_charged_since_0_5_17() -> None:
    # SGLang 0.5.23 mem_cache/kv_cache_configurator.py: (0.9 / 1.9 x pool - state) // state, and that and one are taken off.
    of = serving("ling-3.0-flash", gpu="h200")
    states, pool = 116, 118 * LING_STATE + 1_226_984 * 7 * 1152
    assert int((pool * 0.9 / 1.9 - LING_STATE) // LING_STATE) == states
    assert printed(of, pool) == (pool - 117 * LING_STATE) // (7 * 1152)
    # A request takes five states where a track buffer is kept: (5 x 20 + 1) x 1.9 / 0.9 of them in all.
    assert held(of, 1, 20) == pytest.approx(101 * LING_STATE * 1.9 / 0.9, abs=1)
    lazy = serving("ling-3.0-flash", gpu="h200", stated={"--mamba-radix-cache-strategy": "extra_buffer_lazy"})
    assert held(lazy, 1, 20) == pytest.approx(81 * LING_STATE * 1.9 / 0.9, abs=1)
    # Drafts of 4 tokens: 100 x (1 + 4 / 5) + 1 + 4.
    drafting: dict[str, Value] = {"--speculative-algorithm": "NEXTN", "--speculative-num-draft-tokens": 4}
    drafts = serving("ling-3.0-flash", gpu="h200", stated=drafting)
    assert held(drafts, 1, 20) == pytest.approx(185 * LING_STATE * 1.9 / 0.9, abs=1)


def test_states_that_are_stated() -> None:
    of = serving("ling-3.0-flash", gpu="h200", stated={"--max-mamba-cache-size": 60})
    assert held(of, 1000) == 61 * LING_STATE + 1000 * 7 * 1152
    assert printed(of, 61 * LING_STATE + 1000 * 7 * 1152) == 1000
    # Without the radix cache a request takes one state, and stated requests decide.
    stated: dict[str, Value] = {"--disable-radix-cache": True, "--max-running-requests": 12}
    of = serving("ling-3.0-flash", gpu="h200", stated=stated)
    assert held(of, 1000) == 13 * LING_STATE + 1000 * 7 * 1152


def test_groups_of_mamba_2_become_as_many_as_ranks() -> None:
    # SGLang 0.5.23 configs/mamba_utils.py: 2 groups over 4 ranks become 4: (4 x 16 + 2 x 4 x 16) / 4 channels, 3 columns.
    of = serving(model(Mamba2(4, 16, 16, 2, 4), FULL), tp=4, stated={"--max-mamba-cache-size": 3})
    state = 3 * (4 * 16 + 2 * 4 * 16) // 4 * 2 + 4 * 16 * 16 // 4 * 4
    assert held(of, 1) == (3 + 1) * state + 2 * 16 * 2


def test_gpt_oss_has_a_second_pool_of_eight_tenths() -> None:
    # 12 full and 12 window layers of 8 heads x (64 + 64) x 2 B: a token costs 12 x 2048 x (1 + 0.8).
    of = serving("gpt-oss-20b", gpu="h100")
    layer = 8 * 128 * 2
    assert held(of, 131_072) == -(-131_072 * 12 * layer * 18 // 10)
    assert printed(of, 10**10) == int(10**10 // (12 * layer * 1.8))
    off = serving("gpt-oss-20b", gpu="h100", stated={"--disable-hybrid-swa-memory": True})
    old = serving("gpt-oss-20b", gpu="h100", version="0.5.5")
    assert held(off, 131_072) == held(old, 131_072) == 131_072 * 24 * layer
    stated = serving("gpt-oss-20b", gpu="h100", stated={"--swa-full-tokens-ratio": 0.25})
    assert held(stated, 131_072) == 131_072 * 12 * layer * 5 // 4


def test_many_short_requests_need_room_in_the_window_pool() -> None:
    # 100 requests of 1000 tokens, ratio 0.25, page 1: each keeps 128 + 128 + 1 + 1 tokens of its windows, two chunks of
    # 8192 are in flight, and a page: 42,185 slots, so 168,740 of the first pool rather than 100,000.
    of = serving("gpt-oss-20b", gpu="h100", stated={"--swa-full-tokens-ratio": 0.25})
    slots = 100 * (128 + 128 + 2) + 2 * 8192 + 1
    assert slots == 42_185
    assert held(of, 1000, 100) == 4 * slots * 12 * 2048 * 5 // 4


def test_stated_requests_without_a_radix_cache_size_the_window_pool() -> None:
    # SGLang 0.5.23 model_executor/pool_configurator.py SWARequestCapPoolConfigurator.
    stated: dict[str, Value] = {"--disable-radix-cache": True, "--max-running-requests": 10}
    of = serving("gpt-oss-20b", gpu="h100", stated=stated)
    slots = 10 * (128 + 128 + 2) + 2 * 8192 + 1
    assert held(of, 50_000) == 12 * 2048 * (50_000 + slots)
    assert printed(of, 12 * 2048 * (50_000 + slots)) == 50_000


def test_obs_d_046_tokens_beside_states() -> None:
    # 12 full layers of 2 heads x 256: K 1.83 GiB for 159,552 tokens.
    of = serving(model(*[GroupedAttention(16, 2, 256, 256)] * 12), gpu="gb10")
    assert round(held(of, 159_552) / 2 / GIB, 2) == 1.83


def test_windows_of_other_models_hold_every_token() -> None:
    # 62 layers of gemma-3-27b, windows or not: 16 heads x 256 x 2 B each (SGLang 0.5.23 configs/model_config.py).
    of = serving("gemma-3-27b-it", gpu="h100")
    assert held(of, 8192) == 62 * 16 * (128 + 128) * 2 * 8192


def test_requests_take_whole_pages() -> None:
    # DeepSeek-V3.2 on Hopper: pages of 64, 61 layers of 1152 + 132 bytes.
    of = serving("deepseek-v3.2", gpu="h200", tp=8)
    assert held(of, 65, 3) == 3 * 128 * 61 * (1152 + 132)
    assert printed(of, 1000 * 61 * (1152 + 132)) == 1000 // 64 * 64


def test_decode_context_parallelism_shares_tokens_and_not_heads() -> None:
    # SGLang 0.5.23 mem_cache/memory_pool.py: heads over attention ranks / dcp; 8 heads over 8 / 2 ranks are 2 each, of
    # half the tokens.
    of = serving("llama-3.1-8b-instruct", gpu="h100", tp=8, dcp=2)
    assert held(of, 1000) == 500 * 32 * 2 * 256 * 2
    assert printed(of, 500 * 32 * 2 * 256 * 2) == 1000
    # Indexer keys are kept by every rank for all tokens: 61 x (1152 / 2 + 132), pages of 64 on each of two ranks.
    sparse = serving("deepseek-v3.2", gpu="h200", tp=8, dcp=2)
    assert held(sparse, 1000) == 512 * 61 * (1152 + 2 * 132)


def test_max_total_tokens_caps_what_is_printed() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100", stated={"--max-total-tokens": 5000})
    assert printed(of, 30 * GIB) == 5000


def test_deepseek_v4_has_pools_by_width() -> None:
    # SGLang 0.5.23 model_executor/pool_configurator.py. Pages of 256 tokens in records of 584 B, rounded up to 576: 585 B
    # a window token in 43 layers, and fp32 states of 21 compressors, rings of 8 per page: 31,875 B; a tenth of it.
    # Entries of 4 tokens: pages of 64 (585 B) and keys of 132 B; of 128: pages of 2 (1728 / 2 B).
    window = 43 * 149_760 / 256 + 21 * 8 / 256 * (4 * 512 + 4 * 128) * 4
    token = 0.1 * window + 21 * (585 + 132) / 4 + 20 * 864 / 128
    assert (window, token) == (31_875, 7086.75)
    # And one running fp32 state of 128 tokens for each of 256 + 1 requests, rows rounded up to 128.
    fixed = 20 * 2 * 512 * 4 * (-(-(257 * 128 + 129) // 128) * 128)
    of = serving("deepseek-v4-flash", gpu="h200", tp=4, version="0.5.20")
    assert held(of, 1_048_576) == 1_048_576 * 7086.75 + fixed
    assert printed(of, int(1_000_000 * 7086.75) + fixed) == 1_000_000 // 256 * 256
    stated = serving("deepseek-v4-flash", gpu="h200", tp=4, stated={"--swa-full-tokens-ratio": 0.1})
    assert held(stated, 1_048_576) == held(of, 1_048_576)
    # Since 0.5.21 requests decide on the window pool: 256 of 128 + 128 + 2 x 256 tokens, two chunks of 8192 and a page in
    # flight, and 4 x 256 windows of 128 + 256 that the radix cache may keep.
    slots = 256 * (128 + 128 + 512) + 2 * 8192 + 256 + 1024 * (128 + 256)
    newest = serving("deepseek-v4-flash", gpu="h200", tp=4)
    assert slots == 606_464
    assert held(newest, 1_048_576) == 1_048_576 * (7086.75 - 3187.5) + slots * 31_875 + fixed
    # Four groups share the 256 requests, and the chunk.
    fewer = 64 * 768 + 2 * 2048 + 256 + 256 * 384
    groups = serving("deepseek-v4-flash", gpu="h200", tp=4, dp=4, dp_attention=True)
    few_fixed = 20 * 2 * 512 * 4 * (-(-(65 * 128 + 129) // 128) * 128)
    assert held(groups, 1_048_576) == 1_048_576 * (7086.75 - 3187.5) + fewer * 31_875 + few_fixed


# What may be used -----------------------------------------------------------------------------------------

NOTHING = Why("", {}, "")


def test_the_share_is_of_what_is_free_before_weights() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100", utilization=0.8)
    lines = (
        line("weights.attention", "", 30 * GIB, "exact", NOTHING),
        line("device_context", "", 1 * GIB, "assumed", NOTHING),
        line("collectives", "", 1 * GIB, "assumed", NOTHING),
        line("activations", "", 3 * GIB, "assumed", NOTHING),
        line("multimodal_cache", "", 1 * GIB, "assumed", NOTHING),
    )
    # 0.8 x (80 - 2) = 62.4 for weights, cache and the cache of pictures; context, collectives and activations beside.
    assert sglang.budget_bytes(of, settings(of), 80 * GIB, lines) == int(0.8 * 78 * GIB) + 5 * GIB
    # The pool: 62.4 - 30 - 1.
    pool = sglang.budget_bytes(of, settings(of), 80 * GIB, lines) - 36 * GIB
    assert pool == pytest.approx(31.4 * GIB, abs=1)
    # Never more than the card has.
    graphs = line("cuda_graphs", "", 20 * GIB, "assumed", NOTHING)
    assert sglang.budget_bytes(of, settings(of), 80 * GIB, (*lines, graphs)) == 80 * GIB


def test_max_total_tokens_makes_the_pool_smaller() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100", utilization=0.8, stated={"--max-total-tokens": 1000})
    lines = (line("weights.attention", "", 30 * GIB, "exact", NOTHING),)
    assert sglang.budget_bytes(of, settings(of), 80 * GIB, lines) == 30 * GIB + 1000 * 98_304


# Lines beside weights and cache ---------------------------------------------------------------------------


def test_latent_attention_keeps_copies() -> None:
    # 61 layers x 512 x 16 heads x (128 + 128) x 2 B; with 4 groups of 2 attention ranks 64 heads each.
    assert (
        weight_lines(serving("deepseek-v3", gpu="h200", tp=8))["absorbed_projections"].bytes == 61 * 512 * 16 * 256 * 2
    )
    groups = serving("deepseek-v3", gpu="h200", tp=8, dp=4, dp_attention=True)
    assert weight_lines(groups)["absorbed_projections"].bytes == 61 * 512 * 64 * 256 * 2
    # fp8 with one scale per channel stays fp8 (models/deepseek_common/deepseek_weight_loader.py).
    channel = Quantisation("fp8", BF16, (Rule(FP8_CHANNEL),))
    narrow = serving("deepseek-v3", gpu="h200", tp=8, quantisation=channel)
    assert weight_lines(narrow)["absorbed_projections"].bytes == 61 * 512 * 16 * 256
    assert "absorbed_projections" not in weight_lines(serving("qwen3-30b-a3b", gpu="h100"))


@pytest.mark.parametrize(
    ("name", "gpu", "formats", "stated", "backend", "growth"),
    # SGLang 0.5.23 layers/quantization/mxfp4.py, unquant.py, modelopt_quant.py: what sizes are rounded up to.
    [
        ("gpt-oss-20b", "b200", None, {}, "flashinfer_mxfp4", (2944 * 3072) / 2880**2),
        ("gpt-oss-20b", "h100", None, {"--moe-runner-backend": "marlin"}, "marlin", (2944 * 3072) / 2880**2),
        ("gpt-oss-20b", "h100", None, {}, "triton_kernel", 1),
        ("qwen3-30b-a3b", "h100", None, {}, "triton", 1),
        ("qwen3-30b-a3b", "b200", None, {}, "flashinfer_trtllm", 1),
        ("qwen3-30b-a3b-fp8", "h100", None, {"--moe-a2a-backend": "deepep"}, "deep_gemm", 1),
        ("deepseek-v3.1-nvfp4", "h200", None, {}, "marlin", 1),
        ("deepseek-v3.1-nvfp4", "b200", None, {}, "flashinfer_trtllm", 1),
        ("minimax-m2", "b200", None, {}, "flashinfer_trtllm_routed", 1),
        ("kimi-k2-thinking", "h200", None, {}, "marlin", 1),
    ],
)
def test_expert_kernels_and_their_padding(
    name: str, gpu: str, formats: Quantisation | None, stated: dict[str, Value], backend: str, growth: float
) -> None:
    of = serving(name, gpu=gpu, stated=stated)
    assert sglang.expert_backend(of, settings(of)) == backend
    experts = sum(
        each.num_bytes
        for each in holdings(of.owned, of.quantisation)
        if each.weight.role == "routed_experts" and each.part == "text"
    )
    added = weight_lines(of).get("expert_padding")
    assert (added.bytes if added else 0) == pytest.approx(experts * (growth - 1), abs=2)


def test_a_dense_model_has_no_expert_kernels() -> None:
    of = serving("llama-3.1-8b-instruct", gpu="h100")
    assert sglang.expert_backend(of, settings(of)) is None
    assert sglang.expert_backend(serving("qwen3-30b-a3b"), Settings(())) is None


def test_slots_of_adapters() -> None:
    # One layer of 8 heads and 2 key/value heads of 16, h 64, gated width 96: q 128, k and v 32, o from 128; on 2 ranks
    # columns give (in + out / 2), rows (in / 2 + out). 8 slots of 32.
    of = serving(model(FULL, ffn=DenseFfn(96)), tp=2, stated={"--enable-lora": True, "--max-lora-rank": 32})
    columns = 3 * 64 + (128 + 2 * 32) // 2 + 2 * (64 + 96 // 2)
    rows = (128 // 2 + 64) + (96 // 2 + 64)
    assert weight_lines(of)["adapter_slots"].bytes == 8 * 32 * (columns + rows) * 2


def test_offloaded_weights_leave_the_device() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100", tp=2, stated={"--cpu-offload-gb": 4 * GIB})
    assert weight_lines(of)["offloaded_weights"].bytes == -4 * GIB
    (host,) = sglang.host_lines(of, settings(of))
    assert (host.code, host.bytes) == ("host.offloaded", 8 * GIB)


def test_the_hosts_part_of_the_cache() -> None:
    # Decimal gigabytes of each rank (mem_cache/pool_host/base.py).
    of = serving(
        "qwen3-30b-a3b", gpu="h100", tp=2, stated={"--enable-hierarchical-cache": True, "--hicache-size": 30 * 10**9}
    )
    (host,) = sglang.host_lines(of, settings(of))
    assert (host.code, host.bytes) == ("host.kv_cache", 60 * 10**9)


def test_experts_are_repacked_layer_by_layer() -> None:
    of = serving("qwen3-30b-a3b", gpu="h100")
    rank = ranks(of)[0]._replace(
        weights=(
            line("weights.routed_experts", "", 48_000, "exact", NOTHING, role="routed_experts"),
            line("weights.attention", "", 2000, "exact", NOTHING, role="attention"),
        )
    )
    assert sglang.load_peak_bytes(of, settings(of), rank) == 50_000 + 1000


def test_the_table_of_requests_explains_what_obs_d_042_lost_after_its_pool() -> None:
    # 78.48 - 29.15 - 35.98 = 13.35 GiB were free, 12.70 after the pool: 4097 x (40,960 + 4) x 4 B = 0.625 GiB.
    table = runtime(serving("qwen3-30b-a3b-fp8", gpu="h100", context=40_960))["request_table"]
    assert table.bytes == 4097 * 40_964 * 4
    assert abs(78.48 - 29.15 - 35.98 - 12.7 - table.bytes / GIB) < 0.05
    assert (table.low_bytes, table.high_bytes) == (2049 * 40_964 * 4, table.bytes)
    stated = serving("qwen3-30b-a3b-fp8", gpu="h100", context=1000, stated={"--max-running-requests": 64})
    assert runtime(stated)["request_table"].bytes == 65 * 1004 * 4


@pytest.mark.parametrize(
    ("name", "gpu", "stated", "mib"),
    # SGLang 0.5.23 environ.py (384 MiB), layers/attention/flashinfer_backend.py (512 for Qwen3), trtllm_mha_backend.py (512
    # beside it), trtllm_mla_backend.py (150 beside it). FlashAttention keeps none.
    [
        ("mixtral-8x7b", "a100-80gb", {}, 384),
        ("qwen3-8b", "a100-80gb", {}, 512),
        ("mixtral-8x7b", "h100", {}, None),
        ("mixtral-8x7b", "b200", {}, 384 + 512),
        ("deepseek-v3", "b200", {}, 384 + 150),
        ("deepseek-v3.2", "b200", {}, 384),
        ("mixtral-8x7b", "h100", {"--attention-backend": "flashinfer"}, 384),
        ("mixtral-8x7b", "a100-80gb", {"SGLANG_FLASHINFER_WORKSPACE_SIZE": 100 * MIB}, 100),
    ],
)
def test_attention_workspaces(name: str, gpu: str, stated: dict[str, Value], mib: int | None) -> None:
    found = runtime(serving(name, gpu=gpu, stated=stated)).get("attention_workspace")
    assert (found.bytes if found else None) == (mib * MIB if mib else None)


def test_communicators_are_there_before_memory_is_measured() -> None:
    assert "collectives" not in runtime(serving("mixtral-8x7b", gpu="h100"))
    fast = runtime(serving("mixtral-8x7b", gpu="h100", tp=2))["collectives"]
    slow = runtime(serving("mixtral-8x7b", gpu="rtx-4090", tp=2))["collectives"]
    assert fast.low_bytes > slow.high_bytes
    stages = runtime(serving("mixtral-8x7b", gpu="h100", tp=1, pp=2))["collectives"]
    assert stages.bytes == slow.bytes


def test_symmetric_memory_and_deepep() -> None:
    found = runtime(
        serving("deepseek-v3", gpu="h200", tp=8, stated={"--enable-symm-mem": True, "--moe-a2a-backend": "deepep"})
    )
    assert found["symmetric_memory"].bytes == 4 * GIB
    assert found["deepep_buffers"].bytes == 2 * GIB
    plain = runtime(serving("deepseek-v3", gpu="h200", tp=8))
    assert not {"symmetric_memory", "deepep_buffers", "multimodal_cache"} & set(plain)


def test_graphs_are_what_the_engine_sets_aside_for_them() -> None:
    # 2 MiB x 256 and 8 MiB x 58 sizes; latents 1.5 GiB; none without graphs.
    assert runtime(serving("qwen3-30b-a3b", gpu="h100"))["cuda_graphs"].bytes == (512 + 464) * MIB
    assert runtime(serving("deepseek-v3", gpu="h200", tp=8))["cuda_graphs"].bytes == (1024 + 1536) * MIB
    assert runtime(serving("deepseek-v3", gpu="b200", tp=8))["cuda_graphs"].bytes == 1024 * MIB
    assert "cuda_graphs" not in runtime(serving("qwen3-30b-a3b", gpu="h100", stated={"--disable-cuda-graph": True}))


def test_activations_of_a_chunk() -> None:
    # Qwen3-30B-A3B, 8192 tokens: 4 x 2048 residual elements and (32 + 2 x 4) heads x 128; 8 experts of 768: 768 + 2048.
    found = runtime(serving("qwen3-30b-a3b", gpu="h100"))["activations"]
    layer, scratch = 8192 * (4 * 2048 + 40 * 128) * 2, 8192 * 8 * (768 + 2048) * 2
    assert (found.bytes, found.low_bytes, found.basis) == (layer + scratch, layer, "assumed")


def test_pictures_cost_a_cache() -> None:
    assert runtime(serving("qwen3.5-122b-a10b", gpu="h200", tp=4))["multimodal_cache"].bytes == 100 * MIB
    alone: dict[str, Value] = {"--language-only": True}
    assert "multimodal_cache" not in runtime(serving("qwen3.5-122b-a10b", gpu="h200", tp=4, stated=alone))


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "code", "told"),
    [
        ("qwen3-30b-a3b", {"tp": 6}, "heads-not-divisible", "32 attention heads do not divide over 6 attention ranks; --tp 4 does"),
        ("mixtral-8x7b", {"tp": 32, "ep": 32}, "ep-beyond-experts", "--ep 32 is more than the 8 experts; --ep 8 does"),
        ("qwen1.5-moe-a2.7b-chat", {"tp": 8, "ep": 8}, "experts-not-divisible", "ranks; --redundant-experts 4 does, or --ep 4"),
        ("qwen3-next-80b-a3b-instruct", {"tp": 4, "pp": 2}, "pp-not-supported", "stage; --tp 8 --pp 1 does"),
        ("qwen3-next-80b-a3b-instruct", {"tp": 32, "dp": 1}, "heads-not-divisible", "16 attention heads do not divide over 32"),
        ("deepseek-v3", {"tp": 8, "ep": 16}, "ep-beyond-tp", "--ep 16 is more than --tp 8"),
        ("deepseek-v3", {"tp": 8, "ep": 3}, "ep-not-dividing-tp", "--ep 2 does"),
        ("deepseek-v3", {"tp": 8, "ep": 8, "redundant_experts": 30}, "experts-not-divisible", "8 ranks; --redundant-experts 32 does"),
        ("llama-3.1-8b-instruct", {"tp": 4, "ep": 4}, "ep-on-dense", "this model has none"),
        ("deepseek-v3", {"tp": 8, "dp": 3, "dp_attention": True}, "dp-not-dividing-tp", "--dp 2 does"),
        ("qwen3-235b-a22b", {"tp": 256}, "ep-beyond-experts", "--tp 256 is more than the 128 experts"),
        ("deepseek-v3", {"tp": 1, "pp": 62}, "stages-beyond-layers", "the 61 layers; --tp 1 --pp 61 does"),
        ("deepseek-v3", {"tp": 8, "dcp": 3}, "dcp-not-dividing-tp", "--dcp 2 does"),
        ("kimi-linear-48b-a3b-instruct", {"tp": 8, "dcp": 2}, "dcp-not-supported", "--dcp 1 does"),
        ("qwen3-30b-a3b", {"stated": {"--enable-dp-lm-head": True}}, "dp-lm-head-without-dp", "needs attention data"),
        ("deepseek-v3", {"tp": 8, "stated": {"--moe-dense-tp-size": 2}}, "moe-dense-tp-size", "neither 1 nor --tp 8"),
        ("qwen3-30b-a3b", {"stated": {"--page-size": 48}}, "chunk-not-in-pages", "the page of 48 tokens; 8160 is"),
        ("minimax-text-01", {"tp": 8}, "not-supported", "has no class for minimax_text_01"),
        ("deepseek-v3.2", {"gpu": "a100-80gb", "tp": 8}, "no-kernel", "needs compute capability 9, 10 or 12"),
        ("qwen3-30b-a3b", {"kv_dtype": "nvfp4"}, "no-kernel", "nvfp4 cache needs compute capability 10 or 12"),
        ("qwen3-30b-a3b", {"gpu": "v100-32gb"}, "no-kernel", "SGLang needs compute capability 7.5"),
    ],
)  # fmt: skip
def test_refusals_tell_the_arithmetic_and_a_way_out(name: str, asked: dict[str, Any], code: str, told: str) -> None:
    found = refused(serving(name, **{"gpu": "h100", **asked}))
    assert told in found[code]


def test_blocks_of_fp8_experts_are_never_cut() -> None:
    # 1536 / 8 = 192 is one and a half blocks of 128 (SGLang 0.5.23 layers/quantization/fp8.py); 4 ranks have 3 each.
    formats = find_model("qwen3-30b-a3b-fp8").quantisation
    of = serving("qwen3-235b-a22b", quantisation=formats, gpu="h200", tp=8)
    assert "1536 / 8 = 192" in refused(of)["block-not-divisible"]
    assert "--tp 4 does, or --ep 8" in refused(of)["block-not-divisible"]
    for asked in ({"tp": 4}, {"tp": 8, "ep": 8}):
        assert not refused(serving("qwen3-235b-a22b", quantisation=formats, gpu="h200", **asked))


@pytest.mark.parametrize(
    ("name", "gpu", "asked"),
    # Layouts of public logs and guides.
    [
        ("deepseek-v3", "h200", {"tp": 8}),
        ("deepseek-v3", "h100", {"tp": 16}),
        ("deepseek-v3", "h200", {"tp": 8, "dp": 8, "dp_attention": True, "ep": 8}),
        ("glm-5-fp8", "b300", {"tp": 8}),
        ("qwen3.5-397b-a17b", "rtx-4090", {"tp": 2}),
        ("gpt-oss-120b", "h100", {"tp": 4}),
        ("deepseek-v4-flash", "h200", {"tp": 4}),
        ("kimi-k2-instruct", "h200", {"tp": 16}),
        ("llama-4-maverick-17b-128e-instruct", "h200", {"tp": 8}),
        ("minimax-m2", "h100", {"tp": 4}),
    ],
)
def test_layouts_that_run_are_not_refused(name: str, gpu: str, asked: dict[str, Any]) -> None:
    assert not refused(serving(name, gpu=gpu, **asked))


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("dots.llm1.inst", {}, "no class for dots1"),
        ("deepseek-v4-flash", {}, "no log of its pools"),
        ("mixtral-8x7b", {"tp": 4, "dp": 2, "dp_attention": True}, "does not provide for it"),
        ("gpt-oss-20b", {"version": "0.5.5"}, "before 0.5.8 keeps all tokens"),
        ("qwen3-30b-a3b", {"gpu": "mi300x"}, "is not modelled"),
        ("qwen3-30b-a3b", {"stated": {"--attn-cp-size": 2}}, "--attn-cp-size is not modelled"),
        ("llama-3.1-8b-instruct", {"stated": {"--speculative-draft-model-path": "a/b"}}, "the draft model a/b"),
    ],
)
def test_doubts(name: str, asked: dict[str, Any], told: str) -> None:
    of = serving(name, **{"gpu": "h100", **asked})
    assert any(told in doubt.message for doubt in sglang.doubts(of, settings(of)))


def test_speech_parts_are_left_out() -> None:
    assert sglang.leaves_out("talker.model.layers.0.mlp.gate.weight")
    assert sglang.leaves_out("model.layers.0.mlp.gate.weight") is None


# Properties -----------------------------------------------------------------------------------------------

MIXERS: list[Mixer] = [FULL, WINDOW, Mamba2(4, 16, 16, 2, 4)]


@given(
    st.lists(st.sampled_from(MIXERS), min_size=1, max_size=5),
    st.sampled_from(["gpt_oss", "llama", "nemotron_h"]),
    st.integers(1, 3000),
    st.integers(1, 500),
    st.integers(1, 40),
    st.sampled_from([1, 2]),
)
def test_more_context_or_more_sequences_are_never_held_in_less(
    mixers: list[Mixer], model_type: str, context: int, more: int, sequences: int, tp: int
) -> None:
    of = serving(model(*mixers, model_type=model_type), tp=tp, stated={"--page-size": 16})
    now = held(of, context, sequences)
    assert now <= held(of, context + more, sequences)
    assert now <= held(of, context, sequences + 1)


@given(st.integers(1, 200), st.integers(1, 64))
def test_a_pool_holds_what_it_was_made_for(context: int, sequences: int) -> None:
    # What is held for sequences prints at least their tokens.
    for of in (serving(model(FULL, WINDOW, model_type="gpt_oss")), serving(model(FULL, Mamba2(4, 16, 16, 2, 4)))):
        tokens = printed(of, held(of, context, sequences))
        assert tokens is not None
        assert tokens >= context * sequences


def test_every_constant_has_its_place() -> None:
    constants = engine_constants("sglang")
    assert (constants.engine, constants.version) == ("sglang", "0.5.23")
    for constant in constants.by_name.values():
        assert constant.low <= constant.value <= constant.high
        assert bool(constant.rows) == (constant.error is not None)


def test_a_mix_of_formats_knows_its_experts() -> None:
    # nvfp4 below compute capability 10 runs through Marlin, on 12 through FlashInfer's CUTLASS kernels; mxfp4 on Hopper
    # through Triton's, whose padding of the hidden size is not known: a band.
    ffn = MoeFfn(8, 2, 96)
    for formats, gpu, backend in ((NVFP4, "h100", "marlin"), (NVFP4, "rtx-pro-6000", "flashinfer_cutlass")):
        of = serving(model(FULL, ffn=ffn), gpu=gpu, quantisation=Quantisation("x", BF16, (Rule(formats),)))
        assert sglang.expert_backend(of, settings(of)) == backend
    of = serving(model(FULL, ffn=ffn), gpu="h100", quantisation=Quantisation("x", BF16, (Rule(MXFP4),)))
    padded = weight_lines(of)["expert_padding"]
    # 96 wide becomes 128; hidden 64 may become 256.
    assert padded.low_bytes == 0
    assert padded.high_bytes == pytest.approx(padded.bytes / (128 / 96 - 1) * (128 * 256 / (96 * 64) - 1), rel=1e-3)
