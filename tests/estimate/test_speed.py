"""The speed block: what it says under a load, what it leaves open and why, and that nobody pays for it unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.serving_speed import ServedLoad, serving_speed
from moeplan.estimate import Estimate
from moeplan.estimate.speed_result import Speed

ROOT = Path(__file__).resolve().parents[2]


def asked(model: str = "gpt-oss-120b", **options: Any) -> Estimate:
    given: dict[str, Any] = {"gpu": "2xh100-sxm", "context": 8192} | options
    found = moeplan.estimate(model, offline=True, **given)
    assert isinstance(found, Estimate)
    return found


def fast(model: str = "gpt-oss-120b", **options: Any) -> Speed:
    found = asked(model, **options)
    assert found.speed is not None, [note.message for note in found.notes]
    return found.speed


def told(found: Estimate, code: str) -> list[str]:
    return [note.message for note in found.notes if note.code == code]


def test_it_is_the_step_model_of_this_layout_at_this_load() -> None:
    from moeplan.core.deployment import Deployment, Serving, Settings
    from moeplan.core.layout import AskedLayout
    from moeplan.core.quant import BY_DTYPE, Quantisation, holdings
    from moeplan.core.weights import inventory
    from moeplan.engines import load
    from moeplan.engines.vllm.layout import division
    from moeplan.sources.engine_constants import read_constants
    from moeplan.sources.hardware_profiles import find_hardware
    from moeplan.sources.models import find_model
    from moeplan.sources.step_models import served_stages

    # Built here from the parts, without the estimate.
    loaded = find_model("mixtral-8x7b")
    spec, owned = loaded.spec, inventory(loaded.spec)
    layout = load("vllm").resolve_layout(spec, AskedLayout(tp=4), 4, {})
    plain = Quantisation("bf16", BY_DTYPE[spec.dtype])
    constants, _ = read_constants("vllm", None)
    hardware = find_hardware("h100-sxm")[0]
    serving = Serving(spec, owned, plain, Deployment("vllm", 8192, 16, layout=layout), hardware, None, constants)
    stages = served_stages(
        spec,
        holdings(owned, plain),
        hardware,
        "vllm",
        division(serving, Settings(())),
        layout,
        version=constants.version,
    )
    assert stages is not None
    found = fast("mixtral-8x7b", gpu="4xh100-sxm", concurrency=16, input=2000, output=500)
    expected = serving_speed(stages, ServedLoad(16, 2000, 500, found.step_tokens))
    assert found.ttft.value_s == pytest.approx(expected.ttft_s.value)
    assert found.tpot.value_s == pytest.approx(expected.tpot_s.value)
    assert found.output_tokens_per_s.total.value == pytest.approx(expected.output_tokens_per_s.value)
    assert found.output_tokens_per_s.per_gpu.value == pytest.approx(expected.output_tokens_per_s.value / 4)
    assert (found.binding, found.regime) == (expected.binding, expected.regime)
    assert found.decode_step.parts == expected.decode.parts


def test_a_narrower_cache_is_felt_and_said_where_no_kernel_was_timed_over_it() -> None:
    load: dict[str, Any] = {"context": "32k", "concurrency": 16, "input": 30_000, "output": 500}
    wide, narrow = (
        next(part for part in found.decode_step.parts if part.name == "attention")
        for found in (fast("qwen3-30b-a3b", kv_dtype=dtype, **load) for dtype in ("bfloat16", "fp8"))
    )
    assert 0.5 < narrow.seconds / wide.seconds < 0.7
    assert narrow.basis == "measured"
    words = {
        card: fast("qwen3-30b-a3b", gpu=card, kv_dtype="fp8", **load).extrapolated
        for card in ("2xh100-sxm", "2xa100-sxm-80gb")
    }
    said = "a cache in fp8: its bytes, with constants of kernels that read another format"
    assert said not in words["2xh100-sxm"]
    assert said in words["2xa100-sxm-80gb"]


def test_bands_hold_their_middle_and_rates_are_the_inverse_of_times() -> None:
    found = fast(concurrency=32, speed=True)
    for time in (found.ttft, found.tpot):
        assert 0 < time.low_s < time.value_s < time.high_s
    user = found.output_tokens_per_s.per_user
    assert (user.value, user.low, user.high) == pytest.approx(
        (1 / found.tpot.value_s, 1 / found.tpot.high_s, 1 / found.tpot.low_s)
    )
    assert found.output_tokens_per_s.total.value == pytest.approx(2 * found.output_tokens_per_s.per_gpu.value)


def test_over_concurrency_doubles_up_to_what_the_cache_holds() -> None:
    found = asked(concurrency=24, speed=True)
    assert found.speed is not None
    room = found.capacity.max_concurrency
    assert room is not None
    counts = [each.concurrency for each in found.speed.over_concurrency]
    assert counts[:6] == [1, 2, 4, 8, 16, 24]
    assert counts[-1] <= room < 2 * counts[-1]
    assert all(each.fits for each in found.speed.over_concurrency)
    (own,) = [each for each in found.speed.over_concurrency if each.concurrency == 24]
    assert own.tpot_s == found.speed.tpot.value_s
    times = [each.tpot_s for each in found.speed.over_concurrency]
    assert times == sorted(times)


def test_more_than_the_cache_holds_is_marked() -> None:
    found = asked(concurrency=4000, speed=True)
    assert found.verdict.fits is False
    assert found.speed is not None
    assert found.speed.over_concurrency[-1][::5] == (4000, False)


def test_without_a_load_there_is_no_speed() -> None:
    quiet: tuple[dict[str, Any], ...] = ({}, {"concurrency": 8})
    for options in quiet:
        found = asked(**options)
        assert found.speed is None
        assert not told(found, "speed-unknown") + told(found, "workload-default")


@pytest.mark.parametrize(
    "option", [{"input": 500}, {"output": 500}, {"ttft": "2s"}, {"tpot": 0.03}, {"arrival": "1/s"}, {"speed": True}]
)
def test_any_word_on_the_load_asks_for_speed(option: dict[str, Any]) -> None:
    assert fast(**option).over_concurrency


def test_limits_are_held_against_the_middle_of_the_band() -> None:
    free = fast(concurrency=32, input=2000)
    assert free.meets == (None, None, None)
    exact = fast(concurrency=32, input=2000, ttft=free.ttft.value_s * 1.01, tpot=free.tpot.value_s * 0.99)
    assert exact.meets == (True, False, None)
    found = asked(concurrency=32, input=2000, ttft=free.ttft.value_s * 1.01, tpot=free.tpot.value_s * 0.99)
    (missed,) = told(found, "limit-missed")
    assert "time per token" in missed


def test_an_arrival_rate_alone_makes_its_concurrency() -> None:
    found = asked(input=1000, output=200, arrival="3/s")
    speed = found.speed
    assert speed is not None
    # Little's law: so many are in flight as come in while one is served.
    in_system_s = speed.ttft.value_s + 199 * speed.tpot.value_s
    assert speed.concurrency == pytest.approx(3 * in_system_s, abs=1)
    assert speed.meets.arrival is True
    assert (found.request.concurrency, found.request.origins["concurrency"]) == (speed.concurrency, "inferred")
    assert f"keep {speed.concurrency} in flight" in told(found, "arrival-concurrency")[0]
    fewer = fast(input=1000, output=200, arrival="3/s", concurrency=speed.concurrency - 1)
    assert fewer.meets.arrival is False


def test_a_rate_that_nothing_keeps_up_with_is_missed() -> None:
    found = asked(input=8000, output=100, arrival="500/s")
    assert found.speed is not None
    assert found.speed.meets.arrival is False
    assert any("come in" in text for text in told(found, "limit-missed"))


def test_each_class_is_told_and_the_one_that_breaks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workload.yaml"
    path.write_text(
        "concurrency: 16\nttft: 10s\nclasses:\n"
        "  - {name: easy, share: 90%, input_tokens: 500, output_tokens: 200}\n"
        "  - {name: hasty, share: 10%, input_tokens: 6000, output_tokens: 200, ttft: 1ms}\n",
        encoding="utf-8",
    )
    found = asked(context=None, workload=path)
    assert found.speed is not None
    easy, hasty = found.speed.classes
    assert easy.ttft.value_s < found.speed.ttft.value_s < hasty.ttft.value_s
    assert (easy.meets.ttft, hasty.meets.ttft, found.speed.meets.ttft) == (True, False, False)
    (missed,) = told(found, "limit-missed")
    assert missed.startswith("class hasty: time to first token")
    alone = fast(context=6200, concurrency=16, input=6000, output=200)
    assert hasty.ttft.value_s == pytest.approx(alone.ttft.value_s)


def test_copies_of_a_dense_model_share_the_requests() -> None:
    one = fast("llama-3.1-8b", gpu="h100-sxm", concurrency=8, input=1000)
    two = fast("llama-3.1-8b", gpu="2xh100-sxm", dp=2, concurrency=16, input=1000)
    assert two.tpot.value_s == pytest.approx(one.tpot.value_s)
    assert two.output_tokens_per_s.total.value == pytest.approx(2 * one.output_tokens_per_s.total.value)
    assert two.output_tokens_per_s.per_gpu.value == pytest.approx(one.output_tokens_per_s.per_gpu.value)
    assert one.skew is None


@pytest.mark.parametrize(
    ("engine", "words", "tokens"),
    [
        ("vllm", "--max-num-batched-tokens 4096", 4096),
        ("sglang", "--chunked-prefill-size 2048", 2048),
        ("sglang", "--chunked-prefill-size -1 --max-prefill-tokens 5000", 5000),
        ("trtllm", "--max_num_tokens 3000", 3000),
    ],
)
def test_tokens_of_a_step_are_the_engines_setting(engine: str, words: str, tokens: int) -> None:
    assert fast(engine=engine, engine_args=words, speed=True).step_tokens == tokens


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "no GPU": ({"gpu": None}, "no GPU was named"),
    "an engine without kernels": (
        {"engine": "transformers", "gpu": "h200"},
        "kernels of transformers were not measured",
    ),
    "llama.cpp": ({"engine": "llamacpp", "gpu": "h200"}, "kernels of llamacpp were not measured"),
    "host memory": ({"engine_args": "--cpu-offload-gb 10"}, "host memory"),
    "what would not start": ({"tp": 3, "gpu": "3xh100-sxm"}, "would not start"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_null_and_says_why(name: str) -> None:
    options, why = UNKNOWN[name]
    found = asked(**options, speed=True)
    assert found.speed is None
    assert why in told(found, "speed-unknown")[0]
    assert not told(found, "limit-unknown")
    assert told(asked(**options, ttft="1s"), "limit-unknown")


def test_a_profile_that_lacks_a_bandwidth_names_it(tmp_path: Path) -> None:
    source = ROOT / "profiles" / "hardware" / "nvidia-h100-sxm.yaml"
    text = source.read_text(encoding="utf-8")
    key = "bandwidth_bytes_per_s:"
    assert key in text
    kept = [f"{line.split(key)[0]}{key} null" if key in line else line for line in text.splitlines()]
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "nvidia-h100-sxm.yaml").write_text("\n".join(kept) + "\n", encoding="utf-8")
    found = asked("mixtral-8x7b", gpu="4xh100-sxm", profiles=tmp_path, speed=True)
    assert found.speed is None
    assert "bandwidth" in told(found, "speed-unknown")[0]


def test_speculation_is_said_to_be_left_out() -> None:
    words = '--speculative-config {"method":"ngram","num_speculative_tokens":3}'
    assert told(asked(engine_args=words.split(), speed=True), "speed-without-speculation")
    assert not told(asked(speed=True), "speed-without-speculation")


def test_an_estimate_without_a_load_imports_none_of_it() -> None:
    run = "from moeplan.cli import _run; _run(['estimate', 'mixtral-8x7b', '--gpu', 'h100', '--offline', '--quiet'])"
    names = (
        "('speed', 'speed_result', 'workload', 'step_models', 'serving_speed', 'step_time', 'workloads', 'speed_words', "
        "'speculation', 'speculation_words', 'drafts')"
    )
    code = f"import sys; {run}; print([name for name in sys.modules if name.rpartition('.')[2] in {names}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
