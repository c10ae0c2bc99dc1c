"""validate where the log tells more than figures: starts that failed, and a caller who says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.errors import UnknownError
from moeplan.report.validate_words import outcome_words, subject_words
from moeplan.validate.result import Validation
from tests.sources.engine_logs.test_sglang import AUGUST_2026
from tests.sources.engine_logs.test_vllm import LATE_2025
from tests.test_validate import VLLM, row, validate

TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 22.03 GiB of "
    "which 0.80 GiB is free.\n"
)
HEAD = VLLM.splitlines()[1] + "\n" + VLLM.splitlines()[2] + "\n"
SGLANG_HEAD = AUGUST_2026.splitlines()[0] + "\n"
LLAMA_HEAD = (
    "build: 11312 (abcdef12) with cc for x86_64-linux-gnu\n"
    "llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from x.gguf (version GGUF V3)\n"
)
CUDA_MALLOC = (
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 17000.00 MiB on device 0: cudaMalloc failed: out of memory\n"
    "alloc_tensor_range: failed to allocate CUDA0 buffer of size 17825792000\n"
    "common_init_from_params: failed to load model 'x.gguf'\n"
)


def codes(found: Validation) -> set[str]:
    return {note.code for note in found.notes}


def message(found: Validation, code: str) -> str:
    (one,) = [note.message for note in found.notes if note.code == code]
    return one


# Starts that failed -----------------------------------------------------------------------------------------

# One request of 131,072 tokens of Qwen3-30B-A3B is 12 GiB (98,304 B per token).
REFUSED = VLLM.replace("'max_model_len': 8192", "'max_model_len': 131072").replace(
    "(EngineCore pid=1) INFO 04-10 10:01:21 [kv_cache_utils.py:1] GPU KV cache size: 168,304 tokens",
    "(EngineCore_DP0 pid=9) ERROR 04-02 10:01:10 [core.py:708] ValueError: To serve at least one request with the model's "
    "max seq len (131072), (12.0 GiB KV cache is needed, which is larger than the available KV cache memory (7.49 GiB).",
)
REFUSED = "\n".join(REFUSED.splitlines()[:6]).replace("memory: 15.41 GiB", "memory: 7.49 GiB").replace("0.95", "0.85")


def test_a_refusal_that_was_foreseen_agrees() -> None:
    found = validate(REFUSED)
    assert found.log.started is False
    assert found.log.failure is not None
    assert found.log.failure.startswith("ValueError: To serve at least one request")
    assert found.start_agrees is True
    told = message(found, "log-failed")
    assert "the engine did not start" in told
    assert "the estimate agrees: " in told
    assert "and the estimate agrees" in outcome_words(found)


@pytest.mark.parametrize(
    ("head", "failure", "asked"),
    [
        (HEAD, TORCH, {}),
        (SGLANG_HEAD, f"[2026-08-01 10:00:30] Scheduler hit an exception: Traceback\n{TORCH}", {}),
        (LLAMA_HEAD, CUDA_MALLOC, {"model": "qwen3-30b-a3b", "quant": "q4_k_m"}),
    ],
    ids=["vllm", "sglang", "llamacpp"],
)
def test_a_log_that_ends_out_of_memory_is_judged_by_that(head: str, failure: str, asked: dict[str, object]) -> None:
    too_small = validate(head + failure, **({"gpu": "t4" if asked else "l4"} | asked))
    assert too_small.log.started is False
    assert (too_small.start_agrees, too_small.passed) == (True, True)
    assert outcome_words(too_small).startswith("AGREES: the engine did not start, and the estimate agrees")
    assert "memory" in (too_small.log.failure or "")
    large_enough = validate(head + failure, **({"gpu": "h200"} | asked))
    assert (large_enough.start_agrees, large_enough.passed) == (False, False)
    assert outcome_words(large_enough).startswith("CONTRADICTS: the engine did not start")
    assert "log-contradicts" in codes(large_enough)


def test_a_pool_that_sglang_found_too_small_is_said_beside_the_figures() -> None:
    cut = AUGUST_2026.splitlines(keepends=True)[:4]
    failure = "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: 0.3\n"
    found = validate("".join(cut).replace("0.837", "0.3") + failure)
    assert row(found, "weights_bytes").within is True
    # 0.3 of 79 GiB are less than the 29 GiB of weights.
    assert (found.passed, found.start_agrees) == (True, True)
    assert outcome_words(found).startswith("WITHIN 5%: 1 figure judged")
    assert outcome_words(found).endswith("the engine did not start, and the estimate agrees")
    wrong = validate("".join(cut) + failure)
    assert (wrong.passed, wrong.start_agrees) == (False, False)
    assert outcome_words(wrong).startswith("CONTRADICTS: the engine did not start, but the estimate says that it would")


def test_a_failure_for_another_reason_judges_nothing() -> None:
    found = validate(HEAD + "(EngineCore pid=1) ERROR 04-10 10:00:50 [core.py:1] EngineCore failed to start.\n")
    assert (found.start_agrees, found.passed) == (None, None)
    assert "does not say that memory was the reason" in message(found, "log-failed")
    assert outcome_words(found).startswith("NOT JUDGED")
    assert "`Available KV cache memory`" in message(found, "log-no-figures")
    assert "the engine did not start" in outcome_words(found)


def test_a_card_that_others_held_is_no_matter_of_the_estimate() -> None:
    busy = (
        "ValueError: Free memory on device cuda:0 (15.32/79.19 GiB) on startup is less than desired GPU memory utilization "
        "(0.95, 75.23 GiB). Decrease GPU memory utilization\n"
    )
    found = validate(HEAD + busy)
    assert found.start_agrees is None
    assert "others held memory" in message(found, "log-failed")


def test_an_engine_that_came_up_where_the_estimate_says_no_fails() -> None:
    found = validate(VLLM + "(APIServer pid=1) INFO:     Application startup complete.\n", gpu="l4", tolerance=0.99)
    assert (found.start_agrees, found.passed) == (False, False)
    assert "it would not" in message(found, "log-contradicts")


def test_sglang_starts_with_any_pool_however_long_a_request_may_be() -> None:
    # 0.39 of 78.5 GiB are 30.6, 1.5 more than the weights: less than one request of 40,960 tokens (3.75 GiB).
    found = validate(AUGUST_2026.replace("0.837", "0.39"), tolerance=0.99)
    assert found.log.started is True
    assert found.start_agrees is True
    assert "log-contradicts" not in codes(found)


def test_a_log_without_an_end_says_so() -> None:
    open_end = validate()
    assert open_end.log.started is None
    assert "ends before the engine says that it is up" in message(open_end, "log-open-end")
    whole = validate(VLLM + "(APIServer pid=1) INFO:     Application startup complete.\n")
    assert "log-open-end" not in codes(whole)


# A caller who says something else ---------------------------------------------------------------------------


def test_another_version_is_told_and_shown() -> None:
    found = validate(engine_version="0.33.0")
    assert "the log is of vllm 0.19.0, and the estimate of 0.33.0" in message(found, "log-other-version")
    assert subject_words(found).startswith("vllm 0.19.0 (estimated as 0.33.0)")
    assert "log-other-version" not in codes(validate(engine_version="0.19"))


def test_a_version_that_the_log_does_not_tell_is_said_to_be_the_callers_or_ours() -> None:
    stated = validate(AUGUST_2026, engine_version="0.5.23")
    assert subject_words(stated).startswith("sglang 0.5.23 (as was said; the log does not tell)")
    assert "(moeplan's default; the log does not tell)" in subject_words(validate(AUGUST_2026))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["-tp", "2"], "--tensor-parallel-size 2 was given, and the log says 8"),
        (["--tensor_parallel_size=2"], "--tensor-parallel-size 2 was given, and the log says 8"),
        (["--max-model-len", "16K"], "--max-model-len 16384 was given, and the log says 8192"),
    ],
)
def test_flags_against_those_of_the_log_are_told_in_whatever_spelling(given: list[str], told: str) -> None:
    found = validate(LATE_2025, gpu="h200", engine_args=given)
    assert message(found, "log-other-flag") == told
    assert "--tensor-parallel-size 8" not in found.command or "max-model-len" in told
    assert found.given in found.command


def test_flags_that_say_the_same_are_no_contradiction() -> None:
    found = validate(
        LATE_2025, gpu="h200", engine_args=["-tp", "8", "--max-model-len", "8K", "--kv-cache-dtype", "auto"]
    )
    assert "log-other-flag" not in codes(found)
    assert found.command.count("tensor-parallel-size") + found.command.count("-tp ") == 1


def test_lines_of_more_ranks_than_the_layout_has_are_told() -> None:
    nameless = "".join(
        f"(Worker_TP{rank} pid={rank}) INFO [x.py:1] Model loading took 79.74 GiB and 2 seconds\n" for rank in range(8)
    )
    found = validate(nameless, model="deepseek-v3", gpu="h200", engine_args="--tensor-parallel-size 2")
    assert "lines of TP7, and the estimate is of TP 2" in message(found, "log-other-ranks")


def test_fewer_cards_than_the_log_has_are_told_and_are_no_verdict() -> None:
    found = validate(LATE_2025, gpu="4xh200")
    assert "--gpu names 4 GPUs, and the layout of the log uses 8" in message(found, "log-other-count")
    assert "log-contradicts" not in codes(found)
    assert "log-other-count" not in codes(validate(LATE_2025, gpu="8xh200"))


def test_another_model_is_told() -> None:
    found = validate(model="qwen3-30b-a3b-fp8")
    told = message(found, "log-other-model")
    assert told == "the log names its model Qwen/Qwen3-30B-A3B, and the estimate is of Qwen/Qwen3-30B-A3B-FP8"
    for same in ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"):
        assert "log-other-model" not in codes(validate(model=same))
    local = VLLM.replace("Qwen/Qwen3-30B-A3B", "/data/models/Qwen3-30B-A3B-FP8")
    assert "log-other-model" in codes(validate(local, model="qwen3-30b-a3b"))
    assert "log-other-model" not in codes(validate(local, model="qwen3-30b-a3b-fp8"))


def test_another_card_is_told_by_its_memory_or_by_its_name() -> None:
    memory = VLLM + "INFO [x.py:1] Free memory on device (78.66/79.19 GiB) on startup.\n"
    assert "log-other-card" not in codes(validate(memory))
    assert "the log's card has 79.2 GiB, and NVIDIA H200" in message(validate(memory, gpu="h200"), "log-other-card")
    named = VLLM + "INFO [fused_moe.py:1] Config file not found at E=1,device_name=NVIDIA_H100_80GB_HBM3.json GiB\n"
    assert "log-other-card" not in codes(validate(named))
    assert "names its card NVIDIA H100 80GB HBM3" in message(validate(named, gpu="h200"), "log-other-card")
    # SGLang tells what was free at first: more than the card has is another card.
    assert "log-other-card" in codes(validate(AUGUST_2026, gpu="a100-40gb"))


def test_the_path_of_another_machine_says_what_to_type() -> None:
    local = VLLM.replace("Qwen/Qwen3-30B-A3B", "/data/models/Qwen3-30B-A3B-FP8")
    with pytest.raises(UnknownError) as unknown:
        validate(local)
    assert "/data/models/Qwen3-30B-A3B-FP8" in unknown.value.message
    assert "moeplan validate qwen3-30b-a3b-fp8 --log" in unknown.value.hint
    cached = "/root/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/0123abcd"
    with pytest.raises(UnknownError) as unknown:
        validate(VLLM.replace("Qwen/Qwen3-30B-A3B", cached))
    assert "moeplan validate gpt-oss-20b --log" in unknown.value.hint
    with pytest.raises(UnknownError) as unknown:
        validate(VLLM.replace("Qwen/Qwen3-30B-A3B", "/srv/model"))
    assert "moeplan validate MODEL --log" in unknown.value.hint


def test_a_path_that_is_here_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Exception, match=r"config\.json"):
        validate(VLLM.replace("Qwen/Qwen3-30B-A3B", str(tmp_path)))


def test_settings_of_a_list_reach_the_engine_as_words() -> None:
    found = validate(AUGUST_2026)
    assert "--cuda-graph-bs 1 2 4 8" in found.command


def test_settings_that_cannot_be_read_are_left_out_and_told() -> None:
    odd = VLLM.replace("'max_model_len': 8192", "'max_num_seqs': 'many', 'max_model_len': 8192")
    assert "--max-num-seqs many" in message(validate(odd), "log-flags-unread")


def test_pools_that_are_not_told_apart_are_not_judged() -> None:
    pools = (
        "[2026-08-01 10:00:00 TP0] Load weight end. type=X, avail mem=40.00 GB, mem usage=20.00 GB.\n"
        "[2026-08-01 10:00:00 TP0] SWAKVPool mem usage: 3.18 GB, swa size: 29664, full size: 37081\n"
    )
    found = validate(pools, model="gpt-oss-20b")
    tokens = {each.label: each.judged for each in found.comparisons if each.quantity == "kv_tokens"}
    assert tokens == {"tokens of the cache (window)": False, "tokens of the cache (full)": True}
