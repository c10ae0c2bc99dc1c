"""The time of a step: sums of operations, and what must hold whatever their constants are."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.errors import UnknownError
from moeplan.core.expert_use import EVEN, GateSkew, StepTokens
from moeplan.core.latency import parts, work
from moeplan.core.layout import Division, Layout
from moeplan.core.quant import BY_DTYPE, Quantisation, holdings
from moeplan.core.step_time import StepLoad, StepModel, expert_load, step_time
from moeplan.core.weights import inventory
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.step_models import kernel_format, served_stages


@lru_cache(maxsize=16)
def model(name: str, card: str = "h100-sxm", ranks: int = 1, expert_ranks: int = 1) -> StepModel:
    loaded = find_model(name)
    spec = loaded.spec
    quantisation = loaded.quantisation or Quantisation("bf16", BY_DTYPE[spec.dtype])
    held = [each for each in holdings(inventory(spec), quantisation) if each.part == "text"]
    division = Division(
        attention=ranks, dense_mlp=ranks, shared_experts=ranks, lm_head=ranks, expert_tp=ranks // expert_ranks,
        expert_ep=expert_ranks,
    )  # fmt: skip
    layout = Layout(tp=ranks, ep=expert_ranks, num_gpus=ranks)
    found = served_stages(spec, held, find_hardware(card)[0], "vllm", division, layout)
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
