"""validate: a log beside the estimate, line by line, what passes and what does not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import moeplan
from moeplan.core.errors import InputError, UnknownError
from moeplan.validate.result import Comparison, Validation

GIB = 2**30
# obs-d-047: Qwen3-30B-A3B, vLLM 0.19.0, H100, utilisation 0.95: 15.41 GiB for the cache. 48 layers x 2 x 4 heads x 128 x 2 B
# = 98,304 B per token: 15.41 GiB are 168,319 tokens, 10,519 blocks of 16, and 20.54 requests of 8,192.
VLLM = """
INFO 04-10 10:00:00 [api_server.py:1] vLLM API server version 0.19.0
INFO 04-10 10:00:00 [utils.py:1] non-default args: {'model': 'Qwen/Qwen3-30B-A3B', 'max_model_len': 8192, 'gpu_memory_utilization': 0.95}
(EngineCore pid=1) INFO 04-10 10:00:50 [gpu_model_runner.py:1] Model loading took 56.88 GiB memory and 40.2 seconds
(EngineCore pid=1) INFO 04-10 10:01:20 [gpu_worker.py:1] Available KV cache memory: 15.41 GiB
(EngineCore pid=1) INFO 04-10 10:01:21 [kv_cache_utils.py:1] GPU KV cache size: 168,304 tokens
(EngineCore pid=1) INFO 04-10 10:01:21 [kv_cache_utils.py:1] Maximum concurrency for 8,192 tokens per request: 20.54x
(EngineCore pid=1) INFO 04-10 10:01:40 [gpu_model_runner.py:1] Graph capturing finished in 12 secs, took 0.85 GiB
"""


def validate(log: str | Iterable[str] = VLLM, **asked: object) -> Validation:
    lines = log.splitlines(keepends=True) if isinstance(log, str) else log
    options: dict[str, object] = {"gpu": "h100", "offline": True} | asked
    return moeplan.validate(log=lines, **options)  # type: ignore[arg-type]


def row(found: Validation, quantity: str) -> Comparison:
    return next(each for each in found.comparisons if each.quantity == quantity)


def test_a_log_that_agrees_passes_line_by_line() -> None:
    found = validate()
    assert found.passed is True
    assert found.log.engine_version == "0.19.0"
    assert found.model == "Qwen/Qwen3-30B-A3B"
    weights = row(found, "weights_bytes")
    # 30,532,122,624 parameters in 16 bit.
    assert weights.predicted == 2 * 30_532_122_624
    assert weights.error is not None
    assert abs(weights.error) < 0.0002
    assert weights.line_number == 4
    assert row(found, "kv_tokens_of_pool").predicted == 15_41 * GIB // 100 // (16 * 98_304) * 16
    assert row(found, "kv_tokens_of_pool").within is True


def test_fixed_costs_are_shown_and_not_judged() -> None:
    graphs = row(validate(), "cuda_graphs_bytes")
    assert (graphs.judged, graphs.within) == (False, None)
    assert graphs.error is not None


def test_an_error_beyond_the_tolerance_fails_and_keeps_its_sign() -> None:
    heavier = validate(VLLM.replace("took 56.88 GiB", "took 62.00 GiB"))
    weights = row(heavier, "weights_bytes")
    assert heavier.passed is False
    assert weights.within is False
    assert weights.error is not None
    assert round(weights.error, 3) == round(56.87 / 62 - 1, 3)
    assert validate(VLLM.replace("took 56.88 GiB", "took 62.00 GiB"), tolerance=0.1).passed is True
    lighter = row(validate(VLLM.replace("took 56.88 GiB", "took 50.00 GiB")), "weights_bytes")
    assert lighter.error is not None
    assert lighter.error > 0


def test_what_rounding_hides_is_no_error() -> None:
    # 30,532,122,624 x 2 B are 56.8704 GiB: a figure printed as 56.87 says nothing against it.
    found = row(validate(VLLM.replace("took 56.88 GiB", "took 56.87 GiB")), "weights_bytes")
    assert found.error == 0


def test_flags_of_the_log_are_used_and_those_of_the_caller_win() -> None:
    found = validate()
    assert "--gpu-memory-utilization 0.95" in found.command
    smaller = validate(engine_args=["--gpu-memory-utilization", "0.9"])
    assert smaller.command.count("--gpu-memory-utilization") == 1
    pools = [row(each, "kv_pool_bytes").predicted for each in (found, smaller)]
    assert pools[0] is not None
    assert pools[1] is not None
    # A twentieth of the 79.19 GiB that an H100 reports.
    assert abs(pools[0] - pools[1] - 0.05 * 85_029_615_043) <= 1


def test_a_log_without_model_or_card_asks_for_it() -> None:
    nameless = VLLM.replace("'model': 'Qwen/Qwen3-30B-A3B', ", "")
    with pytest.raises(UnknownError, match="which model"):
        validate(nameless)
    assert validate(nameless, model="qwen3-30b-a3b").passed is True
    with pytest.raises(UnknownError, match="which GPU"):
        validate(gpu=None)


def test_an_engine_that_ran_where_the_estimate_says_no_is_told() -> None:
    found = validate(gpu="l4")
    assert any(note.code == "log-contradicts" for note in found.notes) or found.log.started is None
    assert found.passed is False


def test_nothing_of_a_secret_is_kept() -> None:
    secret = VLLM.replace("'max_model_len'", "'api_key': ['sk-secret'], 'max_model_len'")
    assert "sk-secret" not in repr(validate(secret))


def test_tolerance_is_a_share() -> None:
    for wrong in (0.0, 1.0, -0.1):
        with pytest.raises(InputError, match="tolerance"):
            validate(tolerance=wrong)
