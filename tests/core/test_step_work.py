"""What a step computes: folds over the one inventory, held against shapes that models' authors publish."""

from __future__ import annotations

import pytest

from moeplan.core.layout import Division, Stage
from moeplan.core.model import ModelSpec
from moeplan.core.quant import BY_DTYPE, Holding, Quantisation, holdings
from moeplan.core.step_bytes import cache_reads
from moeplan.core.step_time import shape_of
from moeplan.core.step_work import (
    DENSE_ROLES,
    NEVER_QUANTISED,
    Product,
    attention_work,
    experts_work,
    products,
    states_work,
)
from moeplan.core.weights import inventory, parameters
from moeplan.engines import load
from moeplan.sources.models import find_model

MODELS = ("mixtral-8x7b", "gpt-oss-120b", "deepseek-v3", "qwen3-next-80b-a3b-instruct", "qwen3-8b", "jamba-v0.1")


def read(name: str) -> tuple[ModelSpec, tuple[Holding, ...], Stage]:
    """A model of the catalogue without its draft layers, as one stage."""
    loaded = find_model(name)
    spec = loaded.spec
    quantisation = loaded.quantisation or Quantisation("plain", BY_DTYPE[spec.dtype])
    held = tuple(each for each in holdings(inventory(spec), quantisation) if each.part == "text")
    return spec, held, Stage(0, 0, len(spec.layers), True, True)


def elements(found: tuple[Product, ...]) -> int:
    return sum(each.columns * each.depth * each.count for each in found)


def test_matrices_with_one_input_run_as_one_product() -> None:
    spec, held, stage = read("mixtral-8x7b")
    assert products(held, Division(), stage) == (
        Product("attention", 4096 + 2 * 1024, 4096, "bf16", 32),  # 32 heads and 2 x 8 of 128
        Product("attention", 4096, 4096, "bf16", 32),
        Product("router", 8, 4096, "bf16", 32),
        Product("lm_head", 32_000, 4096, "bf16", 1),
    )
    (experts,) = experts_work(spec.layers, spec.hidden_size, Division())
    assert (experts.hidden, experts.width, experts.experts_on_rank, experts.experts_per_token, experts.count) == (
        4096, 14_336, 8, 2, 32,
    )  # fmt: skip


def test_a_table_of_experts_by_token_id_is_not_multiplied() -> None:
    # DeepSeek-V4 chooses the experts of its first layers by a table of 129,280 ids, six experts each (config: vocab_size).
    spec, held, stage = read("deepseek-v4-flash")
    assert {each.format for each in held if each.weight.shape == (129_280, 6)} == {"int64"}
    found = products(held, Division(), stage)
    assert [(each.role, each.depth) for each in found if each.columns == 129_280] == [("lm_head", spec.hidden_size)]
    assert "int64" not in {each.format for each in found}


@pytest.mark.parametrize("name", MODELS)
def test_products_are_the_inventory_and_nothing_else(name: str) -> None:
    spec, held, stage = read(name)
    mine = [
        owned
        for owned in inventory(spec)
        if owned.part == "text" and owned.weight.role in DENSE_ROLES and len(owned.weight.shape) == 2
        and (owned.weight.linear or owned.weight.role in NEVER_QUANTISED)
    ]  # fmt: skip
    tied = not any(owned.weight.role == "lm_head" for owned in mine)
    head = spec.vocab_size * spec.hidden_size if tied else 0
    wanted = sum(owned.num_elements for owned in mine) + head
    assert elements(products(held, Division(), stage, tied_embedding=tied)) == wanted


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gpt-oss-120b", "deepseek-v3"])
def test_products_and_visited_experts_are_the_active_parameters(name: str) -> None:
    """All but norms, biases and sinks, which are no products: less than a thousandth."""
    spec, held, stage = read(name)
    dense = elements(products(held, Division(), stage))
    visited = sum(
        (3 if each.gated else 2) * each.hidden * each.width * each.experts_per_token * each.count
        for each in experts_work(spec.layers, spec.hidden_size, Division())
    )
    active = parameters(spec, inventory(spec)).active_without_embedding
    assert dense + visited <= active
    assert dense + visited == pytest.approx(active, rel=2e-3)


@pytest.mark.parametrize("ranks", [2, 8])
def test_ranks_share_every_product_but_what_is_whole_on_each(ranks: int) -> None:
    spec, held, stage = read("deepseek-v3")
    division = Division(
        attention=ranks, dense_mlp=ranks, shared_experts=ranks, lm_head=ranks, expert_tp=1, expert_ep=ranks
    )
    whole, mine = products(held, Division(), stage), products(held, division, stage)
    assert len(mine) == len(whole)
    for one, other in zip(whole, mine, strict=True):
        shared = one.role != "router" and (one.columns, one.depth) != (1536 + 576, 7168)  # latents are whole
        assert one.columns * one.depth == other.columns * other.depth * (ranks if shared else 1)
    (experts,) = experts_work(spec.layers, spec.hidden_size, division)
    assert experts.experts_on_rank == 256 // ranks
    assert experts.width == 2048


def test_a_dense_model_has_no_experts() -> None:
    spec, _, _ = read("qwen3-8b")
    assert experts_work(spec.layers, spec.hidden_size, Division()) == ()


def test_attention_tells_windows_and_latents_apart() -> None:
    spec, _, _ = read("gpt-oss-120b")
    windowed, full = attention_work(spec.layers, 8, spec.hidden_size)
    assert (windowed.window_tokens, full.window_tokens) == (128, None)
    assert windowed.heads == full.heads == 8
    assert windowed.kv_heads == 1
    spec, _, _ = read("deepseek-v3")
    (latent,) = attention_work(spec.layers, 8, spec.hidden_size)
    assert (latent.kind, latent.heads, latent.kv_heads, latent.key_dim, latent.value_dim) == ("latent", 16, 1, 576, 512)
    spec, _, _ = read("jamba-v0.1")
    (some,) = attention_work(spec.layers, 1, spec.hidden_size)
    assert some.count == 4  # one layer in eight; the others hold states


def test_states_and_scanned_keys_are_bytes() -> None:
    spec, _, _ = read("qwen3-next-80b-a3b-instruct")
    # 36 of 48 layers, 32 value heads of 128 x 128, and 3 columns of 2 x 16 x 128 + 32 x 128 channels; 2 bytes, read and written.
    state = 32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128)
    assert states_work(spec.layers, spec.hidden_size, 1) == (36 * 2 * 2 * state, 0)
    assert states_work(spec.layers, spec.hidden_size, 8).sequence_bytes == 36 * 2 * 2 * state // 8
    spec, _, _ = read("deepseek-v3.2")
    assert states_work(spec.layers, spec.hidden_size, 8) == (0, 61 * 128 * 2)  # a key of 128 values in each layer
    spec, _, _ = read("mixtral-8x7b")
    assert states_work(spec.layers, spec.hidden_size, 1) == (0, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8", "nvfp4"])
@pytest.mark.parametrize(
    "name",
    [
        "mixtral-8x7b",
        "qwen3-8b",
        "deepseek-v3",
        "deepseek-v3.2",
        "jamba-v0.1",
        "qwen3-next-80b-a3b-instruct",
        "gpt-oss-120b",
    ],
)
def test_attention_and_states_read_what_the_cache_holds(name: str, dtype: str) -> None:
    """The step's bytes of a sequence are those of the roofline, to the byte: both are folds over the cache's own rows."""
    spec, _, _ = read(name)
    rules = load("vllm").cache_rules(spec, asked=dtype, scheme=None, weight_dtype="bfloat16", capability="9.0")
    context = 10_000
    states = states_work(spec.layers, spec.hidden_size, 1, rules)
    read_bytes = states.sequence_bytes / 2 + states.token_bytes * context
    for work in attention_work(spec.layers, 1, spec.hidden_size, rules):
        seen = min(context, work.window_tokens or context, work.chosen_tokens or context)
        read_bytes += work.count * seen * work.kv_heads * shape_of(work).entry_values * work.value_bytes
    assert read_bytes == pytest.approx(cache_reads(spec, rules, context), rel=1e-6)


def test_a_record_of_an_engine_counts_with_its_scales() -> None:
    # vLLM's fp8_ds_mla: 512 values in fp8, 4 scales of 4 bytes, 64 of the rotated key in 16 bit; 576 values together.
    spec, _, _ = read("deepseek-v3.2")
    rules = load("vllm").cache_rules(spec, asked="fp8", scheme=None, weight_dtype="bfloat16", capability="9.0")
    (latent,) = attention_work(spec.layers, 8, spec.hidden_size, rules)
    assert latent.value_bytes * 576 == 512 + 4 * 4 + 2 * 64
    # Its indexer's keys are fp8 with a scale of 4 bytes, whatever the rest is in.
    assert states_work(spec.layers, spec.hidden_size, 8, rules) == (0, 61 * (128 + 4))


def test_what_more_ranks_share_sees_the_tokens_of_their_groups() -> None:
    _, held, stage = read("deepseek-v3")
    # Attention of each of eight ranks alone, dense layers and head over all eight, shared experts whole.
    division = Division(attention=1, dense_mlp=8, shared_experts=1, lm_head=8, expert_ep=8)
    groups = {each.role: each.groups for each in products(held, division, stage)}
    assert groups == {"attention": 1, "router": 1, "shared_experts": 1, "dense_mlp": 8, "lm_head": 8}
