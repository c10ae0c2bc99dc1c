"""The verb: ledgers that add up, verdicts that hold; ways out have a file of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moeplan
from moeplan.core.errors import InputError

GIB = 2**30


@pytest.mark.parametrize("gpu", ["h100", "4xh100", "mi300x", "gb10"])
@pytest.mark.parametrize(
    "model", ["mixtral-8x7b", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v3", "meta-llama/Meta-Llama-3.1-8B"]
)
def test_the_ledger_adds_up(model: str, gpu: str) -> None:
    found = moeplan.estimate(model, gpu=gpu, context="8k", concurrency=4)
    assert found.hardware is not None
    assert found.hardware.usable_bytes is not None
    rank = found.ranks[0]
    assert rank.free_bytes is not None
    assert rank.free_low_bytes is not None
    assert rank.free_high_bytes is not None
    used = sum(entry.bytes for entry in rank.lines)
    share = next(option.value for option in found.layout.options if option.flag == "--gpu-memory-utilization")
    assert isinstance(share, float)
    assert abs(rank.free_bytes + used - share * found.hardware.usable_bytes) <= 1
    assert rank.free_low_bytes <= rank.free_bytes <= rank.free_high_bytes
    assert found.verdict.fits == (rank.free_bytes >= 0 and not found.verdict.reasons)
    assert all(entry.low_bytes <= entry.bytes <= entry.high_bytes for entry in rank.lines)
    assert all(entry.why.formula and entry.why.source for entry in rank.lines)
    if found.layout.tp == 1:
        # Padding of the vocabulary is all that one rank adds to the checkpoint's own tensors; copies have their own lines.
        own = sum(entry.bytes for entry in rank.lines if entry.code.startswith("weights."))
        assert 0 <= own - found.weights.resident_bytes <= 2 * 64 * 2 * 20_000
        beside = [entry for entry in rank.lines if entry.code in ("absorbed_projections", "expert_padding")]
        assert rank.weights_bytes == own + sum(entry.bytes for entry in beside)
    assert sum(found.weights.by_role.values()) == found.weights.resident_bytes == sum(found.weights.by_format.values())


def test_the_verdict_turns_exactly_where_the_capacity_says() -> None:
    asked = {"gpu": "h100", "quant": "fp8"}
    found = moeplan.estimate("mixtral-8x7b", context="16K", concurrency=1, **asked)  # type: ignore[arg-type]
    most = found.capacity.max_concurrency
    assert most
    for sequences, fits in ((most, True), (most + 1, False)):
        assert moeplan.estimate("mixtral-8x7b", context="16K", concurrency=sequences, **asked).verdict.fits is fits  # type: ignore[arg-type]
    longest = moeplan.estimate("mixtral-8x7b", context="16K", concurrency=most + 5, **asked).capacity  # type: ignore[arg-type]
    tokens = longest.max_context_tokens
    assert tokens
    for length, fits in ((tokens, True), (tokens + 1, False)):
        assert moeplan.estimate("mixtral-8x7b", context=length, concurrency=most + 5, **asked).verdict.fits is fits  # type: ignore[arg-type]


@given(context=st.integers(1, 32_000), more=st.integers(1, 8_000), concurrency=st.integers(1, 64))
def test_more_context_or_more_sequences_never_leave_more_room(context: int, more: int, concurrency: int) -> None:
    def free(tokens: int, sequences: int) -> int:
        left = moeplan.estimate("gpt-oss-20b", gpu="h100", context=tokens, concurrency=sequences).ranks[0].free_bytes
        assert left is not None
        return left

    assert free(context + more, concurrency) <= free(context, concurrency)
    assert free(context, concurrency + 1) <= free(context, concurrency)


def test_without_a_gpu_nothing_is_judged() -> None:
    found = moeplan.estimate("mixtral-8x7b")
    assert found.hardware is None
    assert (found.verdict.fits, found.capacity.kv_pool_bytes, found.ranks) == (None, None, ())
    assert found.weights.resident_bytes == 93_405_585_408


def test_the_checkpoints_own_format_is_the_default_and_quant_asks_what_if() -> None:
    # 46,702,792,704 parameters of two bytes.
    assert moeplan.estimate("mixtral-8x7b").weights.by_format == {"bf16": 93_405_585_408}
    as_is = moeplan.estimate("gpt-oss-120b")
    assert max(as_is.weights.by_format, key=lambda name: as_is.weights.by_format[name]) == "mxfp4"
    assert moeplan.estimate("gpt-oss-120b", quant="bf16").weights.by_format == {"bf16": 2 * 116_829_156_672}


def test_the_cache_follows_the_engine_and_never_the_weights() -> None:
    assert moeplan.estimate("gpt-oss-120b").kv_cache.dtype == "bfloat16"
    assert moeplan.estimate("mixtral-8x7b", quant="int4").kv_cache.dtype == "bfloat16"
    assert moeplan.estimate("nvidia/Qwen3-235B-A22B-NVFP4").kv_cache.dtype == "fp8"
    halved = moeplan.estimate("mixtral-8x7b", kv_dtype="fp8").kv_cache
    assert halved.bytes_per_token * 2 == moeplan.estimate("mixtral-8x7b").kv_cache.bytes_per_token == 131_072


def test_the_dtype_that_runs_is_the_engines(tmp_path: Path) -> None:
    # vLLM loads float32 in 16 bit, and bfloat16 as float16 where the card knows no bfloat16; a script keeps both.
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": False, "torch_dtype": "float32",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    served, plain = (moeplan.estimate(str(tmp_path), engine=engine) for engine in ("vllm", "transformers"))
    assert served.weights.checkpoint_bytes == plain.weights.checkpoint_bytes == 4 * served.parameters.total
    assert (served.weights.resident_bytes, served.kv_cache.dtype) == (2 * served.parameters.total, "bfloat16")
    assert (plain.weights.resident_bytes, plain.kv_cache.dtype) == (4 * served.parameters.total, "float32")
    assert moeplan.estimate("mixtral-8x7b", gpu="t4").kv_cache.dtype == "float16"
    asked = moeplan.estimate(str(tmp_path), dtype="float32")
    assert asked.weights.resident_bytes == 4 * served.parameters.total


def test_a_dtype_that_nobody_stated_is_assumed(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = moeplan.estimate(str(tmp_path), gpu="h100")
    assert found.weights.basis == "assumed"
    assert {entry.basis for entry in found.ranks[0].lines if entry.code.startswith(("weights.", "kv_cache"))} == {
        "assumed"
    }
    assert moeplan.estimate("mixtral-8x7b").weights.basis == "derived"


def test_window_hybrids_name_three_truths_and_which_is_used() -> None:
    cache = moeplan.estimate("gpt-oss-120b", context=32_768).kv_cache
    assert set(cache.alternatives) == {"ideal", "hybrid_manager", "manager_off"}
    assert cache.accounting == "ideal"
    # 18 window layers of 128 tokens and 18 full ones, 8 heads of 64 + 64 elements in two bytes.
    assert (cache.bytes_per_token, cache.bytes_per_sequence) == (18 * 2048, 18 * 2048 * 128)
    assert cache.alternatives["manager_off"].bytes_per_token == 36 * 2048


def test_a_context_beyond_the_model_is_a_note_or_with_strict_an_error() -> None:
    found = moeplan.estimate("mixtral-8x7b", context=40_000)
    assert [note.severity for note in found.notes if note.code == "context-beyond-maximum"] == ["warning"]
    with pytest.raises(InputError, match=r"40,000.*32,768"):
        moeplan.estimate("mixtral-8x7b", context=40_000, strict=True)


def test_the_naive_sum_over_active_parameters_is_called_out() -> None:
    note = next(note for note in moeplan.estimate("mixtral-8x7b").notes if note.code == "naive-active")
    # 12,879,925,248 x 2 B = 24.0 GiB beside 46,702,792,704 x 2 B = 87.0 GiB.
    assert "24.0 GiB" in note.message
    assert "87.0 GiB" in note.message
    assert not [note for note in moeplan.estimate("meta-llama/Meta-Llama-3.1-8B").notes if note.code == "naive-active"]


def test_mtp_layers_are_left_out_by_name() -> None:
    found = moeplan.estimate("deepseek-ai/DeepSeek-V3")
    assert found.parameters.total == 671_026_404_352
    assert found.parameters.mtp_unique > 11e9
    assert found.weights.checkpoint_bytes - found.weights.resident_bytes == sum(
        each.bytes for each in found.weights.left_out
    )
    assert [each for each in found.weights.left_out if "MTP" in each.what]


@pytest.mark.parametrize(
    ("row", "model", "asked", "weights_gib"),
    [
        # obs-d-027, -026: public vLLM logs of bf16 weights per GPU under tensor parallelism.
        ("Qwen3-30B-A3B over 4", "Qwen/Qwen3-30B-A3B", {"gpu": "4xh100"}, 14.247),
        ("Qwen3-235B-A22B over 8", "Qwen/Qwen3-235B-A22B", {"gpu": "8xh100"}, 54.921),
        ("Qwen3-30B-A3B-FP8 on one", "Qwen/Qwen3-30B-A3B-FP8", {"gpu": "h100"}, 29.10),
    ],
)
def test_weights_per_gpu_agree_with_what_vllm_logged(
    row: str, model: str, asked: dict[str, str], weights_gib: float
) -> None:
    found = moeplan.estimate(model, **asked).ranks[0].weights_bytes / GIB  # type: ignore[arg-type]
    assert abs(found / weights_gib - 1) < 0.003, row


@pytest.mark.parametrize(
    ("model", "activations_gib"),
    # The public vLLM 0.19.0 report of llm-d-planner on one H100; the constant was fitted on its dense models, not on these.
    [
        ("Qwen/Qwen3-30B-A3B", 2.68),
        ("deepseek-ai/DeepSeek-V2-Lite", 1.93),
        ("Qwen/Qwen1.5-MoE-A2.7B-Chat", 2.47),
        ("openai/gpt-oss-20b", 2.87),
    ],
)
def test_activations_agree_with_a_report_that_they_were_not_fitted_on(model: str, activations_gib: float) -> None:
    lines = moeplan.estimate(model, gpu="h100").ranks[0].lines
    found = sum(entry.bytes for entry in lines if entry.code in ("activations", "expert_workspace"))
    assert abs(found / GIB - activations_gib) < 0.1


def test_python_takes_paths_and_refuses_other_types_by_name(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert moeplan.estimate(tmp_path).parameters.total == moeplan.estimate(str(tmp_path)).parameters.total
    for wrong in (
        {"model": 3},
        {"model": "mixtral-8x7b", "gpu": ["h100"]},
        {"model": "mixtral-8x7b", "utilization": "0.9"},
    ):
        with pytest.raises(InputError):
            moeplan.estimate(**wrong)


def test_the_active_parameters_alone_are_in_the_formats_that_they_are_in() -> None:
    # gpt-oss-120b: what is not an expert is 16 bit (2,127,557,952 parameters), the experts mxfp4, 4 of 128 visited.
    found = moeplan.estimate("gpt-oss-120b")
    experts = found.weights.by_role["routed_experts"]
    alone = found.weights.resident_bytes - experts * 124 // 128
    note = next(note for note in found.notes if note.code == "naive-active")
    assert f"would be {alone / GIB:.1f} GiB" in note.message
    assert alone > 2 * (found.parameters.total - found.parameters.by_role["routed_experts"])


def test_room_of_an_encoder_decoder_counts_the_encoder_that_follows() -> None:
    asked = {"gpu": "a10g", "engine": "transformers"}
    tokens = moeplan.estimate("switch-base-8", context="32k", **asked).capacity.max_context_tokens  # type: ignore[arg-type]
    assert tokens
    assert moeplan.estimate("switch-base-8", context=tokens, **asked).verdict.fits is True  # type: ignore[arg-type]
    assert moeplan.estimate("switch-base-8", context=tokens + 1, **asked).verdict.fits is False  # type: ignore[arg-type]


def test_wrong_words_are_refused_with_a_way_out() -> None:
    for wrong in (
        {"engine": "vlm"},
        {"utilization": 1.5},
        {"context": "0"},
        {"concurrency": "-3"},
        {"dtype": "bf17"},
        {"kv_dtype": "fp7"},
        {"quant": "int5"},
    ):
        with pytest.raises(InputError) as caught:
            moeplan.estimate("mixtral-8x7b", **wrong)
        assert caught.value.hint
