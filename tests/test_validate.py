"""validate: a log beside the estimate, what passes and what does not, and what is learned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

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


# Learning --------------------------------------------------------------------------------------------------


def pool(gpu: str, folder: Path, version: str = "0.19.0", **asked: object) -> int:
    found = moeplan.estimate(
        "qwen3-30b-a3b", gpu=gpu, engine_version=version, utilization=0.95, context=8192, profiles=folder, offline=True,
        **asked,  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.capacity.kv_pool_bytes is not None
    return found.capacity.kv_pool_bytes


def test_what_was_learned_moves_the_next_estimate_onto_the_log(tmp_path: Path) -> None:
    log = VLLM.replace("memory: 15.41 GiB", "memory: 14.00 GiB")
    before = pool("h100", tmp_path)
    learned = validate(log, profiles=tmp_path, learn="my-h100").learned
    assert learned is not None
    assert learned.residual_bytes == before - 14 * GIB
    assert pool("my-h100", tmp_path) == 14 * GIB
    assert pool("h100", tmp_path) == before  # the built-in profile is as it was
    found = moeplan.estimate(
        "qwen3-30b-a3b", gpu="my-h100", engine_version="0.19.0", utilization=0.95, context=8192, profiles=tmp_path,
        offline=True,
    )  # fmt: skip
    line = next(entry for entry in found.ranks[0].lines if entry.code == "measured_residual")
    assert line.basis == "measured"
    assert "my-h100" in line.why.source
    # The same log once more teaches the same: what is known already is not counted twice.
    again = validate(log, gpu="my-h100", profiles=tmp_path, learn="my-h100").learned
    assert again is not None
    assert again.residual_bytes == learned.residual_bytes
    assert pool("my-h100", tmp_path) == 14 * GIB


def test_several_logs_give_a_median_and_a_band(tmp_path: Path) -> None:
    for printed in ("15.00", "14.00", "14.50"):
        validate(VLLM.replace("memory: 15.41 GiB", f"memory: {printed} GiB"), profiles=tmp_path, learn="my-h100")
    assert pool("my-h100", tmp_path) == round(14.5 * GIB)
    found = moeplan.estimate("qwen3-30b-a3b", gpu="my-h100", engine_version="0.19.0", profiles=tmp_path, offline=True)
    line = next(entry for entry in found.ranks[0].lines if entry.code == "measured_residual")
    assert line.high_bytes - line.low_bytes == GIB


def test_other_engines_and_degrees_learn_nothing_from_it(tmp_path: Path) -> None:
    validate(VLLM.replace("memory: 15.41 GiB", "memory: 14.00 GiB"), profiles=tmp_path, learn="my-h100")
    others: list[dict[str, Any]] = [{"engine": "transformers"}, {"tp": 2}]
    for asked in others:
        found = moeplan.estimate("qwen3-30b-a3b", gpu="my-h100", profiles=tmp_path, offline=True, **asked)
        assert not any(entry.code == "measured_residual" for rank in found.ranks for entry in rank.lines)


def test_the_profile_keeps_its_comments_and_what_stands_behind(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    path = tmp_path / "hardware" / "mine.yaml"
    text = (
        'schema: 1\nname: Mine\nvendor: nvidia\ncompute_capability: "9.0"\nmeasured: []  # nothing yet\n'
        "# the card in the corner\nmemory:\n  nominal_bytes: 85899345920\n  usable_bytes: 85029615043\n"
    )
    path.write_text(text, encoding="utf-8")
    for _ in range(2):
        validate(gpu="mine", profiles=tmp_path, learn="mine")
    written = path.read_text(encoding="utf-8")
    assert "# the card in the corner" in written
    loaded = yaml.safe_load(written)
    assert loaded["memory"]["usable_bytes"] == 85_029_615_043
    assert len(loaded["measured"]) == 2
    assert {block["kind"] for block in loaded["measured"]} == {"engine_residual"}
    assert pool("mine", tmp_path)


def test_a_log_without_a_pool_teaches_nothing(tmp_path: Path) -> None:
    short = "\n".join(VLLM.splitlines()[:4]) + "\n"
    with pytest.raises(InputError, match="nothing to learn"):
        validate(short, profiles=tmp_path, learn="my-h100")
    with pytest.raises(InputError, match="no name of a profile"):
        validate(profiles=tmp_path, learn="../evil")
    assert not list(tmp_path.rglob("*.yaml"))
