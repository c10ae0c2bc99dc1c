"""How fast a replica serves: what must hold whatever the constants are, and the published runs that have to be kept."""

from __future__ import annotations

import csv
import math
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.throughput import (
    LEAST_INSIDE,
    MAY_SPECULATE,
    POINTS,
    STAND_INS,
    STEP_TOKENS,
    TPOT_MEDIAN,
    TPOT_WORST,
    TTFT_MEDIAN,
    WIDEST,
    bounds,
    fitted_layer_s,
    fitted_widths,
    main,
    outcomes,
    pairs,
    passes,
)
from moeplan.core import serving_speed as limits
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.expert_use import EVEN, GateSkew
from moeplan.core.hardware import Hardware
from moeplan.core.layout import Division, Layout
from moeplan.core.model import ModelSpec
from moeplan.core.placement import even_stages
from moeplan.core.quant import BY_DTYPE, Holding, Quantisation, holdings
from moeplan.core.serving_speed import Figure, ServedLoad, serving_speed
from moeplan.core.step_time import StepLoad, StepModel, step_time
from moeplan.core.weights import inventory
from moeplan.sources.catalogue import list_entries
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.step_models import served_stages


@lru_cache(maxsize=32)
def read(name: str) -> tuple[ModelSpec, tuple[Holding, ...]]:
    loaded = find_model(name)
    quantisation = loaded.quantisation or Quantisation("bf16", BY_DTYPE[loaded.spec.dtype])
    return loaded.spec, tuple(each for each in holdings(inventory(loaded.spec), quantisation) if each.part == "text")


@lru_cache(maxsize=32)
def card(name: str) -> Hardware:
    return find_hardware(name)[0]


def stages(
    name: str,
    hardware: str | Hardware = "h100-sxm",
    *,
    tp: int = 1,
    dp: int = 1,
    pp: int = 1,
    wholes: bool = False,
    engine: str = "vllm",
) -> tuple[StepModel, ...]:
    spec, held = read(name)
    ranks = tp * dp
    division = Division(
        attention=tp, dense_mlp=tp, shared_experts=tp, embedding=tp, lm_head=tp,
        expert_tp=1 if wholes else ranks, expert_ep=ranks if wholes else 1,
    )  # fmt: skip
    layout = Layout(
        tp=tp, dp=dp, pp=pp, ep=division.expert_ep, dp_attention=dp > 1, pp_layers=even_stages(len(spec.layers), pp),
        num_gpus=ranks * pp,
    )  # fmt: skip
    on = card(hardware) if isinstance(hardware, str) else hardware
    found = served_stages(spec, held, on, engine, division, layout)
    assert found is not None
    return found


LOAD = ServedLoad(16, 2048, 512, 8192)


# Figures ---------------------------------------------------------------------------------------------------


@given(
    users=st.integers(1, 512),
    prompt=st.integers(1, 60_000),
    answer=st.integers(1, 4000),
    layout=st.sampled_from([{"tp": 2}, {"tp": 4, "wholes": True}, {"dp": 4, "wholes": True}, {"tp": 2, "pp": 3}]),
)
@settings(max_examples=60, deadline=None)
def test_bands_hold_their_value(users: int, prompt: int, answer: int, layout: dict[str, int]) -> None:
    found = serving_speed(stages("gpt-oss-120b", **layout), ServedLoad(users, prompt, answer, 8192))  # type: ignore[arg-type]
    for figure in (found.ttft_s, found.tpot_s, found.output_tokens_per_s):
        assert 0 < figure.low <= figure.value <= figure.high
        assert figure.basis in ("measured", "carried", "assumed")
    rate = users * answer / (found.ttft_s.value + (answer - 1) * found.tpot_s.value)
    assert found.output_tokens_per_s.value == pytest.approx(rate)


@given(
    users=st.integers(1, 300),
    more=st.integers(1, 300),
    prompt=st.integers(16, 40_000),
    answer=st.integers(2, 3000),
    layout=st.sampled_from([{"tp": 2}, {"dp": 2}, {"tp": 2, "wholes": True}]),
)
@settings(max_examples=80, deadline=None)
def test_more_users_are_no_faster_each(users: int, more: int, prompt: int, answer: int, layout: dict[str, int]) -> None:
    model = stages("gpt-oss-120b", **layout)  # type: ignore[arg-type]
    few = serving_speed(model, ServedLoad(users, prompt, answer, 8192))
    many = serving_speed(model, ServedLoad(users + more, prompt, answer, 8192))
    # Where steps are full, one more token of decode takes the place of one of a prompt, which may cost a trifle more.
    assert many.tpot_s.value >= few.tpot_s.value * (1 - 2e-3)
    assert many.output_tokens_per_s.value / (users + more) <= few.output_tokens_per_s.value / users * (1 + 1e-9)


@given(
    factor=st.floats(1.01, 4),
    users=st.integers(1, 256),
    prompt=st.integers(16, 20_000),
    answer=st.integers(2, 2000),
    name=st.sampled_from(["gpt-oss-120b", "qwen3-8b", "qwen3-next-80b-a3b-instruct"]),
)
@settings(max_examples=60, deadline=None)
def test_more_bandwidth_is_never_slower(factor: float, users: int, prompt: int, answer: int, name: str) -> None:
    plain = card("h100-sxm")
    assert plain.memory_bandwidth_bytes_per_s is not None
    quick = plain._replace(memory_bandwidth_bytes_per_s=round(plain.memory_bandwidth_bytes_per_s * factor))
    load = ServedLoad(users, prompt, answer, 8192)
    slow, fast = serving_speed(stages(name, tp=2), load), serving_speed(stages(name, quick, tp=2), load)
    assert fast.decode.seconds <= slow.decode.seconds
    assert fast.prefill.seconds <= slow.prefill.seconds
    assert fast.tpot_s.value <= slow.tpot_s.value
    assert fast.output_tokens_per_s.value >= slow.output_tokens_per_s.value * (1 - 1e-9)


@pytest.mark.parametrize("name", ["gpt-oss-120b", "deepseek-v3", "qwen3-8b"])
@pytest.mark.parametrize("wholes", [False, True])
def test_more_ranks_never_add_weights_to_a_rank(name: str, wholes: bool) -> None:
    sizes = []
    for ranks in (1, 2, 4, 8):
        (one,) = stages(name, tp=ranks, wholes=wholes and name != "qwen3-8b")
        dense = sum(each.columns * each.depth * each.count for each in one.products)
        experts = sum(each.experts_on_rank * each.width * each.hidden * each.count for each in one.experts)
        sizes.append((dense, experts))
    for less, more in zip(sizes[1:], sizes, strict=False):
        assert less[0] <= more[0]
        assert less[1] <= more[1]


def test_a_dense_model_has_no_term_of_experts() -> None:
    model = stages("qwen3-8b", tp=2)
    found = serving_speed(model, LOAD)
    assert {part.name for step in (found.decode, found.prefill) for part in step.parts} == {
        "dense", "attention", "collectives",
    }  # fmt: skip
    # Nothing of routing takes part: the figures are the same to the last bit under any skew.
    assert serving_speed(model, LOAD, EVEN) == serving_speed(model, LOAD, GateSkew(0.9)) == found
    assert "experts" not in found.regime


# Layouts ---------------------------------------------------------------------------------------------------


def test_a_pipeline_runs_stage_after_stage() -> None:
    whole, parted = stages("gpt-oss-120b"), stages("gpt-oss-120b", pp=4)
    assert sum(stage.num_layers for stage in parted) == whole[0].num_layers
    alone = ServedLoad(1, 512, 256, 8192)
    one, four = serving_speed(whole, alone), serving_speed(parted, alone)
    # A single user gains nothing: the same layers one after the other, and three sends.
    sends = next(part for part in four.decode.parts if part.name == "sends")
    assert four.tpot_s.value - sends.seconds == pytest.approx(one.tpot_s.value, rel=1e-6)
    assert four.tpot_s.basis == "assumed"
    assert four.ttft_s.value == pytest.approx(one.ttft_s.value, rel=0.02)
    # Many users keep all four busy.
    busy = ServedLoad(128, 512, 256, 8192)
    assert serving_speed(parted, busy).output_tokens_per_s.value > serving_speed(whole, busy).output_tokens_per_s.value


def test_llamacpp_runs_its_stages_in_turn() -> None:
    busy = ServedLoad(64, 512, 256, 512)
    in_turn = serving_speed(stages("gpt-oss-120b", pp=4, engine="llamacpp"), busy)
    at_once = serving_speed(stages("gpt-oss-120b", pp=4), busy)
    assert in_turn.output_tokens_per_s.value < at_once.output_tokens_per_s.value
    assert "engine llamacpp" in in_turn.extrapolated
    assert "pipeline stages" in in_turn.extrapolated


def test_data_parallel_attention_sees_one_ranks_sequences_and_experts_see_all() -> None:
    (shared,) = stages("deepseek-v3", dp=8, wholes=True)
    (alone,) = stages("deepseek-v3", wholes=True)
    eight, one = step_time(shared, StepLoad(64, 2048)), step_time(alone, StepLoad(8, 2048))
    parts = {part.name: part for part in eight.parts}
    same = {part.name: part for part in one.parts}
    assert parts["attention"] == same["attention"]
    assert parts["dense"] == same["dense"]
    assert parts["exchange"].binding == "link"
    (work,) = shared.experts
    assert work.experts_on_rank == 32
    # 65 sequences over eight ranks: the one with nine holds up the others.
    assert step_time(shared, StepLoad(65, 2048)).parts[1].seconds > parts["attention"].seconds


def test_copies_of_a_dense_model_are_replicas() -> None:
    spec, held = read("qwen3-8b")
    one, four = (Layout(dp=dp, pp_layers=(len(spec.layers),), num_gpus=dp) for dp in (1, 4))
    alone = served_stages(spec, held, card("h100-sxm"), "vllm", Division(), one)
    assert served_stages(spec, held, card("h100-sxm"), "vllm", Division(), four) == alone


def test_exchanges_carry_the_bytes_of_their_way() -> None:
    (gather,) = stages("deepseek-v3", dp=8, wholes=True)
    load = StepLoad(4096, 2048)
    seconds = {
        way: next(
            part.seconds for part in step_time(gather._replace(exchange=way), load).parts if part.name == "exchange"
        )
        for way in ("gather", "all_to_all", "low_latency")
    }
    # 512 tokens of a device, 7,168 values of 2 bytes of all 4,096 tokens, there and back in 58 layers over 450 GB/s: the least.
    assert seconds["gather"] > 58 * 2 * 4096 * 7168 * 2 * 7 / 8 / 450e9
    assert seconds["all_to_all"] < seconds["gather"]
    assert seconds["low_latency"] > 58 * 512 * 8 * 7168 * 3 * 7 / 8 / 450e9


def test_rows_of_other_ranks_are_handled_where_all_tokens_are_gathered() -> None:
    (gather,) = stages("deepseek-v3", dp=8, wholes=True)
    load = StepLoad(4096, 2048)
    experts = {
        way: next(
            part.seconds for part in step_time(gather._replace(exchange=way), load).parts if part.name == "experts"
        )
        for way in ("gather", "all_to_all", "low_latency")
    }
    assert experts["all_to_all"] == experts["low_latency"] < experts["gather"]


def test_beyond_one_link_only_what_was_measured_there() -> None:
    (wide,) = stages("deepseek-v3", dp=16, wholes=True)
    assert wide.exchange == "low_latency"
    found = serving_speed((wide,), ServedLoad(256, 2048, 512, 8192))
    assert any("low latency" in told for told in found.extrapolated)
    assert any("ranks 16" in told for told in found.extrapolated)
    with pytest.raises(UnknownError, match="16 devices lie beyond"):
        serving_speed(stages("deepseek-v3", tp=16), LOAD)


def test_prompts_go_to_each_node_once() -> None:
    """Two nodes of eight: nearly every token has an expert on both, so half of its copies cross the network."""
    (wide,) = stages("deepseek-v3", dp=16, wholes=True)
    step = step_time(wide, StepLoad(0.001, 2048, 2048, prompts=1, reading=1))
    (exchange,) = (part for part in step.parts if part.name == "exchange")
    touched = 2 * (1 - math.comb(128, 8) / math.comb(256, 8))
    rows = 2048 * touched / 2 * 7168
    by_hand = 58 * rows * (1 + 4 / 128 + 2) / 50e9  # fp8 with a scale for 128 values there, 16 bit back
    assert exchange.seconds == pytest.approx(by_hand, rel=0.01)
    assert exchange.basis == "assumed"
    decode = step_time(wide, StepLoad(2048, 2048))
    assert next(part.basis for part in decode.parts if part.name == "exchange") == "measured"


@pytest.mark.parametrize("name", [row.profile for row in list_entries()])
def test_every_model_of_the_catalogue_has_a_speed(name: str) -> None:
    found = serving_speed(stages(name, "h200", tp=1), LOAD)
    assert 0 < found.tpot_s.value < 10
    assert found.ttft_s.value > found.tpot_s.value


def test_what_is_not_modelled_is_said() -> None:
    told = serving_speed(stages("qwen3-next-80b-a3b-instruct"), ServedLoad(500, 100, 9000, 8192)).extrapolated
    for word in ("concurrency 500", "input length 100", "output length 9,000", "states of recurrent layers"):
        assert any(word in each for each in told), word
    assert any("an indexer's scan" in each for each in serving_speed(stages("deepseek-v3.2", tp=8), LOAD).extrapolated)
    assert any("card nvidia-l40s" in each for each in serving_speed(stages("qwen3-8b", "l40s"), LOAD).extrapolated)
    assert any("dense" in each for each in serving_speed(stages("qwen3-8b"), LOAD).extrapolated)


def test_binding_and_regime_are_words() -> None:
    few = serving_speed(stages("gpt-oss-120b", tp=2), ServedLoad(64, 1024, 1024, 8192))
    assert few.binding == "memory bandwidth (experts)"
    assert few.regime == "imbalance costs nothing here: the experts are bandwidth-bound"
    many = serving_speed(stages("mixtral-8x7b", tp=8, wholes=True), ServedLoad(8000, 64, 64, 32_768))
    assert many.binding == "compute (experts)"
    assert many.regime.endswith("the experts are compute-bound, all wait for the busiest of 8 ranks")
    long = serving_speed(stages("mixtral-8x7b", tp=2), ServedLoad(64, 30_000, 1024, 8192))
    assert long.binding == "memory bandwidth (attention)"
    assert long.regime.startswith("attention takes longest: bandwidth-bound")
    assert "imbalance costs nothing here" in long.regime
    one = serving_speed(stages("qwen3-30b-a3b", tp=8), ServedLoad(1, 512, 512, 8192))
    assert one.binding.startswith("fixed time")
    bus = serving_speed(stages("qwen3-8b", "l40s", tp=8), ServedLoad(256, 1024, 256, 8192))
    assert bus.binding == "link (collectives)"
    assert bus.regime.startswith("link-bound")


@pytest.mark.parametrize("field", ServedLoad._fields)
def test_a_load_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"a load with {field.replace('_', ' ')} 0"):
        serving_speed(stages("qwen3-8b"), LOAD._replace(**{field: 0}))


def test_a_cpu_has_no_stages() -> None:
    spec, held = read("mixtral-8x7b")
    layout = Layout(pp_layers=(len(spec.layers),))
    assert served_stages(spec, held, card("cpu-8ch-ddr5-4800"), "vllm", Division(), layout) is None


NAMES = {model: name for model, (name, _) in STAND_INS.items()}


# Published runs --------------------------------------------------------------------------------------------


def test_published_runs_are_within_the_bounds() -> None:
    found = outcomes()
    assert len(found) == 16
    assert [each.name for each in bounds(found) if not each.kept] == []
    assert (TPOT_MEDIAN, TPOT_WORST, TTFT_MEDIAN, LEAST_INSIDE, WIDEST) == (0.2, 0.5, 0.4, 13, 2.0)
    assert len(pairs(found)) == 2
    assert sum(each.may_speculate for each in found) == 3
    assert {each.run.model for each in found if find_model(NAMES.get(each.run.model, each.run.model)).spec.mtp} == set(
        MAY_SPECULATE
    )


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    out = capsys.readouterr().out
    assert out.count("may speculate\n") == 6
    assert out.count(": kept") == 6


def test_the_bounds_can_be_broken() -> None:
    found = outcomes()
    slow = Figure(1.0, 0.9, 1.1, "measured")
    wrong = [each._replace(speed=each.speed._replace(ttft_s=slow)) for each in found]
    assert not passes(wrong)
    assert not passes([each._replace(speed=each.speed._replace(tpot_s=slow)) for each in found])
    turned = [
        each._replace(speed=each.speed._replace(output_tokens_per_s=slow)) if each.run.card == "b200_sxm" else each
        for each in found
    ]
    assert [each.name for each in bounds(turned) if not each.kept] == [
        "pairs of cards ordered rightly by rate of a GPU"
    ]


def test_constants_are_those_of_the_fit() -> None:
    assert fitted_layer_s(range(16)) == pytest.approx(limits.PROMPT_LAYER_S)
    assert fitted_widths() == pytest.approx((limits.TPOT_WIDTH, limits.TTFT_WIDTH), abs=0.006)


def test_ranges_are_those_of_the_runs() -> None:
    with POINTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    for column, found in (
        ("concurrency", limits.MEASURED_USERS),
        ("isl", limits.MEASURED_INPUT),
        ("osl", limits.MEASURED_OUTPUT),
        ("tp", limits.MEASURED_RANKS),
    ):
        values = [int(row[column]) for row in rows]
        assert (min(values), max(values)) == found, column
    assert {row["engine"] for row in rows} == set(limits.MEASURED_ENGINES)
    inside = serving_speed(stages("gpt-oss-120b", tp=2), ServedLoad(16, 1024, 1024, STEP_TOKENS))
    assert not [told for told in inside.extrapolated if "measured:" in told]
