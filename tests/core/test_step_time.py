"""The time of a step: sums of operations, and what must hold whatever their constants are."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.attention_latency import decode_s, grouped
from moeplan.core.errors import UnknownError
from moeplan.core.expert_use import EVEN, GateSkew, StepTokens
from moeplan.core.kv_cache import CacheRules
from moeplan.core.latency import parts, work
from moeplan.core.layout import Division, Layout
from moeplan.core.quant import BY_DTYPE, Quantisation, holdings
from moeplan.core.step_bytes import cache_reads
from moeplan.core.step_time import StepLoad, StepModel, expert_load, floor_of, step_time
from moeplan.core.weights import inventory
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.step_models import kernel_format, served_stages


@lru_cache(maxsize=32)
def model(
    name: str,
    card: str = "h100-sxm",
    ranks: int = 1,
    expert_ranks: int = 1,
    cache: str = "bfloat16",
    engine: Literal["vllm", "sglang", "trtllm"] = "vllm",
) -> StepModel:
    loaded = find_model(name)
    spec = loaded.spec
    quantisation = loaded.quantisation or Quantisation("bf16", BY_DTYPE[spec.dtype])
    held = [each for each in holdings(inventory(spec), quantisation) if each.part == "text"]
    division = Division(
        attention=ranks, dense_mlp=ranks, shared_experts=ranks, lm_head=ranks, expert_tp=ranks // expert_ranks,
        expert_ep=expert_ranks,
    )  # fmt: skip
    layout = Layout(tp=ranks, ep=expert_ranks, num_gpus=ranks)
    rules = CacheRules(cache, "bfloat16", "bfloat16")
    found = served_stages(spec, held, find_hardware(card)[0], engine, division, layout, cache=rules)
    assert found is not None
    (whole,) = found
    return whole


def test_a_dense_model_has_no_part_for_experts() -> None:
    names = [part.name for part in step_time(model("qwen3-8b"), StepLoad(8, 2048)).parts]
    assert names == ["dense", "attention"]


def test_one_rank_waits_for_no_other() -> None:
    alone = step_time(model("mixtral-8x7b"), StepLoad(8, 2048))
    shared = step_time(model("mixtral-8x7b", ranks=2), StepLoad(8, 2048))
    assert [part.name for part in alone.parts] == ["dense", "attention", "experts"]
    assert [part.name for part in shared.parts] == ["dense", "attention", "experts", "collectives"]
    assert shared.parts[0].seconds < alone.parts[0].seconds


def test_parts_add_up_and_lie_in_their_bands() -> None:
    step = step_time(model("gpt-oss-120b", ranks=2), StepLoad(16, 1536))
    assert step.seconds == pytest.approx(sum(part.seconds for part in step.parts))
    assert step.low_s < step.seconds < step.high_s
    assert all(part.low_s <= part.seconds <= part.high_s for part in step.parts)
    assert step.slowest.name == "experts"


def test_experts_are_the_layers_of_the_latency_model() -> None:
    found = model("mixtral-8x7b")
    (experts,) = (part for part in step_time(found, StepLoad(64, 2048)).parts if part.name == "experts")
    kernel, (shape,) = found.kernel, found.experts
    assert kernel is not None
    from moeplan.core.latency import ExpertShape

    asked = expert_load(shape, StepTokens(64), 1, EVEN)
    one = ExpertShape(shape.hidden, shape.width, 8, 8, 2, kernel.values, gated=True)
    assert asked.distinct == pytest.approx(8, abs=1e-6)  # 64 tokens of two choices among eight touch all
    assert experts.seconds == pytest.approx(32 * parts(kernel.constants, kernel.device, work(one, asked)).total_s)


@given(decoding=st.integers(1, 256), context=st.integers(1, 100_000), more=st.integers(1, 4096))
def test_more_work_is_never_faster(decoding: int, context: int, more: int) -> None:
    found = model("gpt-oss-120b", ranks=2)
    less = step_time(found, StepLoad(decoding, context)).seconds
    assert step_time(found, StepLoad(decoding, context + more)).seconds >= less * (1 - 1e-9)
    assert step_time(found, StepLoad(decoding, context, more)).seconds > less


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("card", ["h100-sxm", "b200", "l40s"])
def test_a_cache_of_half_the_bytes_is_read_in_about_half_the_time(
    card: str, engine: Literal["vllm", "sglang", "trtllm"]
) -> None:
    """16 sequences of 30,000 tokens on one of two ranks; kernels of either format were measured on these cards. Their fixed times
    and operations do not halve."""
    load = StepLoad(16, 30_000)
    wide, narrow = (
        next(
            part
            for part in step_time(model("qwen3-30b-a3b", card, 2, cache=cache, engine=engine), load).parts
            if part.name == "attention"
        )
        for cache in ("bfloat16", "fp8")
    )
    assert (wide.basis, narrow.basis) == ("measured", "measured")
    assert 0.48 < narrow.seconds / wide.seconds < 0.76
    # 48 layers, 2 of 4 KV heads, key and value of 128: nothing is read faster than the memory gives it.
    read_bytes = 16 * 30_000 * 48 * 2 * 2 * 128
    assert narrow.seconds > read_bytes / find_hardware(card)[0].memory_bandwidth_bytes_per_s  # type: ignore[operator]


def test_a_format_that_was_not_measured_here_takes_this_cards_kernel_and_its_own_bytes() -> None:
    # No kernel of an A100 was timed over fp8: fixed times and operations stay, the memory's part follows the bytes.
    wide, narrow = (model("qwen3-30b-a3b", "a100-sxm-80gb", 2, cache=cache) for cache in ("bfloat16", "fp8"))
    (own,) = next(iter(wide.by_format.values())).resolved["attention_decode"].kernels
    assert narrow.cached is not None
    device = narrow.cached.resolved["attention_decode"].device
    for stages, value_bytes, basis in ((wide, 2, "measured"), (narrow, 1, "carried")):
        (attention,) = (part for part in step_time(stages, StepLoad(64, 30_000)).parts if part.name == "attention")
        seconds = decode_s(own.constants, device, value_bytes, 64, 30_000, grouped(16, 2, 128))
        assert attention.seconds == pytest.approx(48 * seconds)
        assert attention.basis == basis
    assert narrow.cached.resolved["attention_decode"].borrowed == ("other_dtype",)


def test_prompts_over_unpacked_latents_are_read_as_16_bit() -> None:
    load = StepLoad(0, 1, 4096)
    wide, narrow = (
        next(
            part
            for part in step_time(model("deepseek-v3", "h100-sxm", 8, cache=cache), load).parts
            if part.name == "attention"
        )
        for cache in ("bfloat16", "fp8")
    )
    assert narrow == wide


@pytest.mark.parametrize("cache", ["bfloat16", "fp8", "nvfp4"])
@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "deepseek-v3.2", "qwen3-next-80b-a3b-instruct"])
def test_no_step_is_faster_than_its_floor(name: str, cache: str) -> None:
    spec = find_model(name).spec
    served = model(name, "h100-sxm", 4, cache=cache)
    for context in (1, 30_000):
        reads = cache_reads(spec, CacheRules(cache, "bfloat16", "bfloat16"), context, num_ranks=4)
        step = step_time(served, StepLoad(64, context))
        cached = sum(part.seconds for part in step.parts if part.name in ("attention", "states"))
        floor = floor_of(served)
        assert cached >= 64 * reads * floor.cache_s_per_byte


@given(decoding=st.integers(1, 256))
def test_skew_touches_fewer_experts(decoding: int) -> None:
    found = model("gpt-oss-120b", ranks=2)
    (work_,) = found.experts
    tokens = StepTokens(decoding)
    even, skewed = (expert_load(work_, tokens, 1, use) for use in (EVEN, GateSkew(0.65)))
    assert skewed.distinct <= even.distinct + 1e-6
    assert skewed.rows == even.rows


def test_the_busiest_of_several_ranks_has_more_than_its_share() -> None:
    (work_,) = model("qwen3-30b-a3b", ranks=4, expert_ranks=4).experts
    asked = expert_load(work_, StepTokens(64), 4, EVEN)
    assert 64 * 8 / 4 < asked.rows < 64 * 8 / 4 * 1.5
    assert 125.9 / 4 < asked.distinct <= 32  # of 128 experts 64 tokens touch 125.9 (facts on routing, section 2a)


def test_formats_are_those_of_the_measurements() -> None:
    names = {
        "bf16": "bfloat16", "fp8 128x128 block, ue8m0 scales": "fp8_block", "fp8 per tensor": "fp8", "mxfp4": "w4a16_mxfp4",
        "int4 g128": "int4_wo", "fp16": "bfloat16", "fp32": "bfloat16",
    }  # fmt: skip
    assert {name: kernel_format(name) for name in names} == names


@pytest.mark.parametrize("name", ["int8 per channel", "gptq int8 g128", "q8_0", "bitsandbytes nf4"])
def test_formats_that_were_not_measured_have_no_times(name: str) -> None:
    # They read a half or a quarter of what 16 bits are, with kernels of their own: no more is known.
    with pytest.raises(UnknownError, match=f"kernels of {name} weights were not measured"):
        kernel_format(name)


def test_a_cpu_has_no_measured_kernels() -> None:
    spec = find_model("mixtral-8x7b").spec
    held = holdings(inventory(spec), Quantisation("bf16", BY_DTYPE[spec.dtype]))
    assert served_stages(spec, held, find_hardware("cpu-8ch-ddr5-4800")[0], "vllm", Division(), Layout()) is None
