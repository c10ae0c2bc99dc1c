"""Models side by side: figures by hand from their published shapes, where the order turns, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.compare.result import Compared, Comparison, Turn
from moeplan.core.errors import InputError, MoeplanError

CONTEXT = 8000


def compare(*models: str, **asked: Any) -> Comparison:
    return moeplan.compare(models, offline=True, **{"context": CONTEXT, **asked})


def at(model: Compared, batch: int) -> tuple[int, int, int]:
    """Dense, experts and cache of a step."""
    reads = next(each for each in model.reads if each.batch == batch)
    return reads.dense_bytes, reads.expert_bytes, reads.cache_bytes


# Shapes as their configs state them: parameters that every token goes through, of all experts, and bytes of a cached token.

MIXTRAL_DENSE = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 8 * 4096 + 2 * 4096) + 4096 + 32_000 * 4096
MIXTRAL_EXPERTS = 32 * 8 * 3 * 4096 * 14_336
MIXTRAL_CACHE = 32 * 2 * 8 * 128 * 2

LLAMA_70B_DENSE = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28_672 + 2 * 8192) + 8192 + 128_256 * 8192
LLAMA_70B_CACHE = 80 * 2 * 8 * 128 * 2

QWEN_30B_DENSE = 48 * (2 * 2048 * 4096 + 2 * 2048 * 512 + 128 * 2048 + 2 * 2048 + 2 * 128) + 2048 + 151_936 * 2048
QWEN_30B_EXPERTS = 48 * 128 * 3 * 2048 * 768
QWEN_30B_CACHE = 48 * 2 * 4 * 128 * 2

QWEN_8B_DENSE = (
    36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12_288 + 2 * 4096 + 2 * 128) + 4096 + 151_936 * 4096
)
QWEN_8B_CACHE = 36 * 2 * 8 * 128 * 2


def qwen_30b(batch: int) -> float:
    touched = QWEN_30B_EXPERTS * (1 - (120 / 128) ** batch)
    return 2 * (QWEN_30B_DENSE + batch * 2048 + touched) + batch * QWEN_30B_CACHE * CONTEXT


def qwen_8b(batch: int) -> float:
    return 2 * (QWEN_8B_DENSE + batch * 4096) + batch * QWEN_8B_CACHE * CONTEXT


# Figures ---------------------------------------------------------------------------------------------------


def test_mixtral_beside_llama_70b_by_hand() -> None:
    moe, dense = compare("mixtral-8x7b", "llama-3.1-70b-instruct", concurrency=64).models
    assert moe.resident_bytes == 2 * (MIXTRAL_DENSE + MIXTRAL_EXPERTS + 32_000 * 4096)
    assert dense.resident_bytes == 2 * (LLAMA_70B_DENSE + 128_256 * 8192)
    for batch in (1, 8, 64, 256):
        read, touched, cache = at(moe, batch)
        assert read == pytest.approx(2 * (MIXTRAL_DENSE / batch + 4096), abs=1)
        assert touched == pytest.approx(2 * MIXTRAL_EXPERTS * (1 - 0.75**batch) / batch, abs=1)
        assert cache == MIXTRAL_CACHE * CONTEXT
        read, touched, cache = at(dense, batch)
        assert read == pytest.approx(2 * (LLAMA_70B_DENSE / batch + 8192), abs=1)
        assert (touched, cache) == (0, LLAMA_70B_CACHE * CONTEXT)
    assert (moe.kind, moe.num_experts, moe.experts_per_token, dense.kind) == ("moe", 8, 2, "dense")
    assert (moe.vocabulary, dense.vocabulary, moe.license, dense.license) == (32_000, 128_256, "apache-2.0", None)
    assert (moe.max_context_tokens, dense.max_context_tokens) == (32_768, 131_072)
    assert moe.kv_cache.bytes_per_token == MIXTRAL_CACHE
    assert moe.parameters.active_by_card == (moe.parameters.active, "active")


def test_an_moe_is_resident_whole_and_active_in_part() -> None:
    for model in compare("mixtral-8x7b", "qwen3-30b-a3b").models:
        assert model.resident_bytes > 3 * 2 * model.parameters.active
        assert model.resident_bytes == 2 * model.parameters.total


def test_all_figures_are_those_of_estimate() -> None:
    found = compare("mixtral-8x7b", "llama-3.1-70b-instruct", gpu="h100-sxm", concurrency=64)
    for model, count in zip(found.models, (4, 8), strict=True):
        alone = moeplan.estimate(
            model.id, gpu=f"{count}xh100-sxm", context=CONTEXT, concurrency=64, offline=True, speed=True
        )
        half = moeplan.estimate(model.id, gpu=f"{count // 2}xh100-sxm", context=CONTEXT, concurrency=64, offline=True)
        assert model.gpus is not None
        assert model.gpus.num_gpus == count == model.gpus.tried[-1]
        assert model.gpus.headroom_bytes == alone.verdict.headroom_bytes
        assert half.verdict.fits is False
        assert model.resident_bytes == alone.weights.resident_bytes
        assert model.kv_cache.bytes_at_context == alone.kv_cache.bytes_at_context
        assert model.speed is not None
        assert alone.speed is not None
        assert model.speed.tpot == alone.speed.tpot
        assert model.speed.output_tokens_per_s == alone.speed.output_tokens_per_s


def test_quantised_beside_not() -> None:
    found = compare("qwen3-30b-a3b", "qwen3-30b-a3b:fp8", "qwen3-30b-a3b:int4", gpu="l40s", concurrency=8)
    plain, fp8, int4 = found.models
    assert [each.label for each in found.models] == ["Qwen3-30B-A3B", "Qwen3-30B-A3B:fp8", "Qwen3-30B-A3B:int4"]
    assert plain.parameters == fp8.parameters == int4.parameters
    # Embedding and head stay 16 bit; scales are a fraction of a percent of fp8 and an eighth of a bit of int4.
    wide = 2 * 2 * 151_936 * 2048
    assert fp8.resident_bytes == pytest.approx((plain.resident_bytes - wide) / 2 + wide, rel=2e-3)
    assert int4.resident_bytes == pytest.approx((plain.resident_bytes - wide) * 4.125 / 16 + wide, rel=2e-3)
    for batch in (1, 8, 64, 256):
        assert at(int4, batch)[1] < at(fp8, batch)[1] < at(plain, batch)[1]
        assert at(fp8, batch)[2] == at(plain, batch)[2]
    assert "tokenisers-differ" not in {note.code for note in found.notes}
    assert "moe-beside-dense" not in {note.code for note in found.notes}


def test_the_common_format_is_for_all_that_name_none() -> None:
    both, one = compare("qwen3-8b", "qwen3-14b:int4", quant="fp8").models
    assert (both.quant, one.quant) == ("fp8", "int4")


# Turns -----------------------------------------------------------------------------------------------------


def test_the_batch_where_an_moe_reads_more_than_a_dense_model_and_where_it_does_not_any_more() -> None:
    """Against every batch of the formulas above, which share no code with the folds."""
    (pair,) = compare("qwen3-30b-a3b", "qwen3-8b").pairs
    turns, now = [], 0
    for batch in range(1, pair.most_batch + 1):
        less = 1 if qwen_8b(batch) < qwen_30b(batch) else 0
        if less != now:
            turns.append(Turn(batch, less))
            now = less
    assert pair.less_at_one == 0
    assert pair.turns == tuple(turns)
    assert len(turns) == 2  # its smaller cache wins in the end
    assert pair.total_ratio == pytest.approx(30_532_122_624 / 8_190_735_360)
    assert pair.reads_ratio == pytest.approx(qwen_30b(64) / qwen_8b(64), rel=1e-6)


def test_no_turn_is_an_answer() -> None:
    for other in ("llama-3.1-70b-instruct", "qwen3-32b"):
        (pair,) = compare("mixtral-8x7b" if other.startswith("llama") else "qwen3-30b-a3b", other).pairs
        assert (pair.less_at_one, pair.turns, pair.most_batch) == (0, (), 4096)


def test_the_order_of_the_names_changes_nothing_but_places() -> None:
    one, other = compare("qwen3-30b-a3b", "qwen3-8b"), compare("qwen3-8b", "qwen3-30b-a3b")
    assert one.models == other.models[::-1]
    (first,), (second,) = one.pairs, other.pairs
    assert [(turn.batch, 1 - turn.less) for turn in first.turns] == [tuple(turn) for turn in second.turns]
    assert first.total_ratio == pytest.approx(1 / second.total_ratio)
    assert [note for note in one.notes if note.code == "moe-beside-dense"] == [
        note for note in other.notes if note.code == "moe-beside-dense"
    ]


def test_the_length_from_which_the_smaller_model_holds_more() -> None:
    """128 sequences: Qwen3-8B has 36.7 GB less of weights, and 48 KiB more of each cached token."""
    (pair,) = compare("qwen3-30b-a3b", "qwen3-8b", concurrency=128).pairs
    weights = [2 * (QWEN_30B_DENSE + QWEN_30B_EXPERTS + 151_936 * 2048), 2 * (QWEN_8B_DENSE + 151_936 * 4096)]
    more_each = 128 * (QWEN_8B_CACHE - QWEN_30B_CACHE)
    assert pair.resident.less_when_short == 1
    assert pair.resident.context_tokens == (weights[0] - weights[1]) // more_each + 1


# What is said ----------------------------------------------------------------------------------------------


def codes(found: Comparison) -> set[str]:
    return {note.code for note in found.notes}


def test_nothing_is_named_best() -> None:
    found = compare("mixtral-8x7b", "llama-3.1-70b-instruct")
    assert not {"winner", "best", "rank"} & set(found._fields)
    assert "quality-not-measured" in codes(found)
    assert {mark.row for mark in found.marks} >= {"resident_bytes", "bytes_per_token", "num_gpus"}


def test_marks_are_the_least_of_their_row_and_none_where_all_are_alike() -> None:
    found = compare("qwen3-30b-a3b", "qwen3-8b", "qwen3-30b-a3b:fp8")
    marks = {(mark.row, mark.batch): mark.models for mark in found.marks}
    assert marks["resident_bytes", None] == (1,)
    assert marks["bytes_per_token", 1] == (2,)
    assert marks["kv_bytes_per_token", None] == (0, 2)
    assert marks["num_gpus", None] == ()
    assert {mark.models for mark in compare("qwen3-8b", "qwen3-8b:fp8").marks if mark.row.startswith("kv_")} == {()}


def test_tokens_of_other_tokenisers_are_warned_of() -> None:
    (by_size,) = (note for note in compare("mixtral-8x7b", "qwen3-8b").notes if note.code == "tokenisers-differ")
    assert "32,000 and 151,936" in by_size.message
    (by_family,) = (note for note in compare("mixtral-8x7b", "jetmoe-8b").notes if note.code == "tokenisers-differ")
    assert "need not be the same" in by_family.message
    assert by_size.severity == by_family.severity == "warning"
    assert "tokenisers-differ" not in codes(compare("qwen3-8b", "qwen3-30b-a3b"))


def test_total_parameters_beside_bytes_of_a_step_are_a_computed_sentence() -> None:
    (told,) = (note.message for note in compare("qwen3-30b-a3b", "qwen3-8b").notes if note.code == "moe-beside-dense")
    assert f"{30_532_122_624 / 8_190_735_360:.1f} times the parameters" in told
    assert f"{qwen_30b(1) / qwen_8b(1):.2f} times as many bytes at batch 1" in told
    assert f"{qwen_30b(64) / qwen_8b(64):.1f} times as many at batch 64" in told


# GPUs, cost, running ---------------------------------------------------------------------------------------


def test_without_a_gpu_memory_and_bytes_alone_are_compared() -> None:
    found = compare("mixtral-8x7b", "qwen3-8b")
    assert found.hardware is None
    for model in found.models:
        assert (model.gpus, model.speed, model.cost, model.operations) == (None, None, None, None)
        assert model.speed_unknown == model.cost_unknown == "no GPU was named"


def test_a_model_that_fits_nowhere_tells_what_is_missing_and_the_others_go_on() -> None:
    found = compare("qwen3-8b", "deepseek-v3", gpu="2xl40s")
    small, large = found.models
    assert small.gpus is not None
    assert large.gpus is not None
    assert (small.gpus.num_gpus, large.gpus.num_gpus) == (1, None)
    assert large.gpus.fits is False
    assert large.gpus.headroom_bytes is not None
    assert large.gpus.headroom_bytes < -200 * 2**30
    assert large.gpus.reasons
    assert (large.operations, large.speed, large.cost) == (None, None, None)
    assert large.cost_unknown == "it does not fit"
    assert small.operations is not None
    assert (small.operations.replicas, small.operations.lost_fraction) == (2, 0.5)


def test_a_layout_that_estimate_finds_counts_too() -> None:
    """On 16 H100 tensor parallelism alone has no room for DeepSeek-V3 and 64 sequences: latents are whole on each rank."""
    _, model = compare("qwen3-8b", "deepseek-v3", gpu="h100-sxm", concurrency=64).models
    assert model.gpus is not None
    assert model.gpus.num_gpus == 16
    assert model.gpus.layout is not None
    assert model.gpus.layout.dp > 1


def test_a_price_is_shared_out_over_the_tokens_of_an_hour() -> None:
    found = compare("mixtral-8x7b", "llama-3.1-70b-instruct", gpu="h100-sxm", concurrency=64)
    assert found.hardware is not None
    price = found.hardware.price
    assert price is not None
    for model in found.models:
        assert model.cost is not None
        assert model.gpus is not None
        assert model.gpus.num_gpus is not None
        assert model.speed is not None
        assert model.cost.usd_per_hour_low == model.gpus.num_gpus * price.low_usd_per_hour
        per_hour = model.speed.output_tokens_per_s.total.value * 3600
        assert model.cost.usd_per_million_output_tokens_high == pytest.approx(
            model.gpus.num_gpus * price.high_usd_per_hour / per_hour * 1e6
        )


def test_a_card_without_a_price_has_no_cost(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    text = "name: Mine\narchitecture: hopper\nmemory: {nominal_bytes: 85899345920, usable_bytes: 85000000000}\n"
    (tmp_path / "hardware" / "mine.yaml").write_text(text, encoding="utf-8")
    found = compare("qwen3-8b", "qwen3-14b", gpu="mine", profiles=tmp_path)
    for model in found.models:
        assert model.gpus is not None
        assert model.gpus.num_gpus == 1
        assert model.cost is None
        assert model.cost_unknown == "the profile mine states no price"
        assert model.speed is None
        assert model.speed_unknown


@pytest.mark.parametrize(
    "pair", [("switch-base-8", "nllb-moe-54b"), ("jetmoe-8b", "jamba-v0.1"), ("deepseek-v3.2", "gemma-4-26b-a4b")]
)
def test_every_kind_of_model_has_its_column(pair: tuple[str, str]) -> None:
    found = compare(*pair, gpu="h200", concurrency=4, context=500)
    for model in found.models:
        assert model.kind == "moe"
        assert model.gpus is not None
        assert model.gpus.fits is not None
        one, many = at(model, 1), at(model, 256)
        assert 0 < one[1] < many[1] * 256 < model.resident_bytes


def test_a_default_context_is_one_that_all_can_have() -> None:
    found = moeplan.compare(["grok-1", "llama-3.1-8b-instruct"], offline=True)
    assert found.request.context_tokens == 8192
    assert found.request.origins["context_tokens"] == "default"
    beyond = moeplan.compare(["grok-1", "llama-3.1-8b-instruct"], context="32k", offline=True)
    assert beyond.request.context_tokens == 32_000
    assert [["context-beyond-maximum" in {note.code for note in model.notes}] for model in beyond.models] == [
        [True],
        [False],
    ]


# Refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "asked", "words"),
    [
        (["qwen3-8b"], {}, "moeplan estimate qwen3-8b"),
        (["qwen3-8b", "no-such-model"], {}, "catalogue"),
        (["qwen3-8b", "Qwen/Qwen3-8B"], {}, "named twice"),
        (["qwen3-8b", "qwen3-8b:bf16"], {}, "named twice"),
        (["qwen3-8b", "qwen3-14b"], {"gpu": "h1000"}, "h100"),
        (["qwen3-8b", "qwen3-14b"], {"engine": "vlmm"}, "known engines"),
        (["qwen3-8b", "qwen3-14b"], {"quant": "fp9"}, "fp8"),
        (["qwen3-8b", "qwen3-14b"], {"context": "0"}, "context"),
        (["qwen3-8b", "qwen3-14b"], {"arrival": "2/s"}, "--concurrency"),
    ],
)
def test_wrong_input_is_told_with_a_way_out(models: list[str], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(*models, **asked)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_a_model_of_the_hub_cannot_be_read_offline() -> None:
    with pytest.raises(MoeplanError) as caught:
        compare("qwen3-8b", "someone/something")
    assert caught.value.exit_code == 3


def test_folders_are_compared_as_well(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }  # fmt: skip
    for name, layers in (("a", 2), ("b", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(
            json.dumps(config | {"num_hidden_layers": layers}), encoding="utf-8"
        )
    first, second = compare(str(tmp_path / "a"), str(tmp_path / "b"), context=1000).models
    assert (first.license, first.vocabulary) == (None, 100)
    assert second.kv_cache.bytes_per_token == 2 * first.kv_cache.bytes_per_token == 2 * (2 * 2 * 2 * 16 * 2)
