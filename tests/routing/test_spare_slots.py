"""What `moeplan routing place` says of spare slots: against a simulation, against `estimate`, and where copies pay or cost."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.coverage import inclusion_of, zipf
from moeplan.core.errors import InputError
from moeplan.core.expert_use import GateSkew
from moeplan.core.layout import Division, Layout
from moeplan.core.quant import holdings
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.core.step_time import StepLoad, step_time
from moeplan.core.weights import inventory
from moeplan.report.as_json import as_json
from moeplan.report.routing_placement_table import routing_placement_table
from moeplan.report.routing_placement_words import skew_words
from moeplan.routing import place
from moeplan.routing.result import PlacementReport
from moeplan.routing.spare_result import SpareSlots
from moeplan.routing.spare_slots import BALANCED
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.routing_files import write_counts
from moeplan.sources.step_models import served_stages

LOAD: dict[str, Any] = {"gpu": "h200", "input": 2000, "output": 500, "context": 4000}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "routing.md"


@cache
def law(ranks: int, skew: float | None, **asked: Any) -> PlacementReport:
    """The placement of a law of DeepSeek-V3's gates."""
    return place(model="deepseek-v3", ranks=ranks, skew=skew, offline=True, **asked)


@cache
def timed(ranks: int, concurrency: int, redundant: int) -> PlacementReport:
    return law(ranks, 0.65, redundant=redundant, concurrency=concurrency, **LOAD)


def row(found: PlacementReport, copies: int) -> SpareSlots:
    (one,) = (each for each in found.sweep.spare if each.redundant_experts == copies)
    return one


# Balance and memory ------------------------------------------------------------------------------------------

# Zipf exponent, ranks -> balancedness in order; placed without copies: planned, one step; 32 spare slots: planned, one step.
# A simulation of 256 experts, 8 a token, 128 tokens a rank, in which an expert is in a token's choice with min(1, 8 x weight).
SIMULATED = [
    (0.3, 8, 0.89, 0.98, 0.95, 1.00, 0.96),
    (0.3, 32, 0.73, 0.87, 0.87, 1.00, 0.94),
    (0.6, 8, 0.74, 0.96, 0.95, 1.00, 0.96),
    (0.6, 32, 0.45, 0.53, 0.52, 1.00, 0.95),
    (0.6, 72, None, None, None, 0.96, 0.93),
    (0.6, 144, None, None, None, 0.73, 0.72),
    (1.0, 32, 0.20, 0.23, 0.23, 1.00, 0.95),
    (1.0, 144, None, None, None, 0.51, 0.50),
]


@pytest.mark.parametrize("simulated", SIMULATED, ids=lambda each: f"zipf-{each[0]}-ep{each[1]}")
def test_a_law_reaches_the_balance_of_the_simulation(simulated: tuple[float, ...]) -> None:
    """The law here is that of top-k choices, in which the hottest experts cannot be chosen twice: its head is flatter than the
    simulation's, by 0.07 of balancedness at most where no copy helps."""
    exponent, ranks, naive, alone, alone_step, spread, spread_step = simulated
    found = law(int(ranks), exponent, redundant=32)
    copies = row(found, 32)
    assert copies.balancedness.mean == pytest.approx(spread, abs=0.025)
    assert copies.step_balancedness == pytest.approx(spread_step, abs=0.025)
    if naive is not None:
        assert found.sweep.in_order.balancedness.mean == pytest.approx(naive, abs=0.065)
        for reached, told in ((row(found, 0).balancedness.mean, alone), (row(found, 0).step_balancedness, alone_step)):
            assert told - 0.02 <= reached <= told + 0.075


def test_without_copies_the_hottest_expert_bounds_the_balance() -> None:
    for exponent in (0.3, 0.65, 1.0):
        found = law(32, exponent, redundant=32)
        inclusion = inclusion_of(zipf(256, exponent), 8)
        assert found.sweep.most_without_copies == pytest.approx(min(1, 8 / (inclusion[0] * 32)))
        assert row(found, 0).balancedness.mean <= found.sweep.most_without_copies + 1e-9
        if exponent == 1:
            assert row(found, 32).balancedness.mean > 2 * found.sweep.most_without_copies


def test_each_slot_of_a_rank_is_one_more_expert_in_every_layer() -> None:
    # DeepSeek-V3 in FP8: 58 layers x 44.0 MB = 2.55 GB on each rank.
    found = law(32, 0.65)
    assert [(each.redundant_experts, each.slots_per_rank) for each in found.sweep.spare] == [
        (0, 8), (32, 9), (64, 10), (96, 11), (128, 12),
    ]  # fmt: skip
    for more, each in enumerate(found.sweep.spare):
        assert each.per_rank_bytes == pytest.approx(more * 2.55e9, rel=0.002)
        assert each.all_ranks_bytes == 32 * (each.per_rank_bytes or 0)
    halved = law(32, 0.65, quant="nvfp4")
    assert 0.5 < (row(halved, 32).per_rank_bytes or 0) / (row(found, 32).per_rank_bytes or 1) < 0.6


def test_slots_divide_over_the_ranks_or_are_refused() -> None:
    # 256 experts on 144 ranks take 32 copies at least, as DeepSeek's decode has it.
    assert [each.redundant_experts for each in law(144, 0.6).sweep.spare] == [32, 176, 320, 464, 608]
    assert [each.redundant_experts for each in law(144, 0.6, redundant=176).sweep.spare] == [32, 176]
    assert row(law(144, 0.6), 32).than == "in_order"
    # Two ranks and 8 experts: no more than a copy of each on both.
    few = place(model="mixtral-8x7b", skew=0.5, ranks=2, offline=True)
    assert [each.redundant_experts for each in few.sweep.spare] == [0, 2, 4, 6, 8]
    with pytest.raises(InputError, match="256 experts and 40 spare slots do not divide over 32 ranks") as caught:
        law(32, 0.65, redundant=40)
    assert caught.value.hint == "take 32 or 64 spare slots"


def test_what_was_published_of_a_model_is_its_law() -> None:
    found = law(32, None)
    assert found.skew is not None
    assert (found.skew.exponent, found.skew.low, found.skew.high, found.skew.basis) == (0.68, 0.64, 0.72, "published")
    assert "DeepSeek-R1" in found.skew.why
    # What the same source measured: ranks 2.56 times the mean without a balancer.
    assert 1 / found.before.mean == pytest.approx(2.56, rel=0.04)
    assert (found.source, found.layers, found.live) == (None, (), None)


def test_a_law_is_the_same_each_time() -> None:
    ask: dict[str, Any] = {"model": "mixtral-8x7b", "skew": 0.5, "ranks": 4, "offline": True}
    assert as_json(place(**ask)) == as_json(place(**ask))
    even = place(**ask | {"skew": 0.0})
    assert even.before.mean == pytest.approx(1)
    assert even.sweep.recommended == 0


def test_a_law_without_skew_is_told_in_words() -> None:
    even, skewed = (law(8, skew).skew for skew in (0.0, 0.65))
    assert even is not None
    assert skewed is not None
    assert skew_words(even) == "loads by a law, no counts: all experts are alike likely, as stated"
    assert skew_words(skewed).endswith("fall as rank^-0.65, as stated")


def test_a_step_has_noise_that_no_copy_removes() -> None:
    quiet, busy = (law(32, 0.65, redundant=32, step_tokens=tokens) for tokens in (64, 65_536))
    assert row(quiet, 32).balancedness == row(busy, 32).balancedness
    assert row(quiet, 32).step_balancedness < 0.7
    assert row(busy, 32).step_balancedness > 0.98
    assert (quiet.sweep.step_tokens, quiet.sweep.step_tokens_basis) == (64, "stated")
    assert law(32, 0.65).sweep.step_tokens == 32 * 128


# Counts of a file --------------------------------------------------------------------------------------------


def counted(path: Path, model: str, first: int, layers: int, experts: int, chosen: int, seed: int) -> Path:
    """Counts of a skewed router, experts of each layer in another order."""
    found = []
    for number in range(first, first + layers):
        shares = inclusion_of(zipf(experts, 0.65), chosen)
        random.Random(number + seed).shuffle(shares)  # noqa: S311 - no secret
        counts = [round(share * 40_000) for share in shares]
        counts[0] -= sum(counts) % chosen
        found.append(LayerRouting(number, experts, float(chosen), sum(counts) // chosen, tuple(counts)))
    write_counts(path, RoutingProfile(model, None, Provenance(), {"all": tuple(found)}))
    return path


def test_counts_of_the_law_say_what_the_law_does(tmp_path: Path) -> None:
    file = counted(tmp_path / "a.json", "deepseek-ai/DeepSeek-V3", 3, 58, 256, 8, 0)
    one, other = place(file, ranks=32, redundant=[0, 32]), law(32, 0.65, redundant=32)
    for copies in (0, 32):
        assert row(one, copies).balancedness.mean == pytest.approx(row(other, copies).balancedness.mean, abs=0.003)
        assert row(one, copies).step_balancedness == pytest.approx(row(other, copies).step_balancedness, abs=0.003)
    assert one.before.mean == pytest.approx(other.before.mean, abs=0.02)
    # The details are of the number that is advised.
    assert (one.sweep.recommended, one.redundant_experts, one.slots_per_rank) == (32, 32, 9)
    assert one.after == row(one, 32).balancedness
    assert {len(slots) for layer in one.layers for slots in layer.experts_by_rank} == {9}


def test_without_a_number_the_details_are_of_no_copies_and_others_stand_beside(tmp_path: Path) -> None:
    file = counted(tmp_path / "a.json", "m", 0, 2, 64, 4, 0)
    found = place(file, ranks=8)
    assert (found.redundant_experts, found.slots_per_rank) == (0, 8)
    assert [each.redundant_experts for each in found.sweep.spare] == [0, 8, 16, 24, 32]
    assert all(each.per_rank_bytes is None for each in found.sweep.spare)
    assert found.sweep.spare[1].decode.verdict == "unknown"
    assert "--gpu" in found.sweep.spare[1].decode.why


def test_advice_goes_by_live_counts_where_there_are_any(tmp_path: Path) -> None:
    planned = counted(tmp_path / "a.json", "m", 0, 4, 64, 4, 0)
    moved = counted(tmp_path / "b.json", "m", 0, 4, 64, 4, 100)
    stays, moves = place(planned, ranks=8, live=planned), place(planned, ranks=8, live=moved)
    assert stays.sweep.recommended == 8
    assert f"reach balancedness {BALANCED:g}" in stays.sweep.recommendation
    best = max(moves.sweep.spare, key=lambda each: each.live.mean if each.live else 0)
    assert best.live is not None
    assert best.live.mean < BALANCED < row(moves, 8).balancedness.mean
    assert moves.sweep.recommended == best.redundant_experts
    assert f"none reaches {BALANCED:g}" in moves.sweep.recommendation


# Time --------------------------------------------------------------------------------------------------------


def asked_of_estimate(copies: int, *, by_load: bool, **more: Any) -> tuple[float, float, float, float, int | None]:
    """Seconds of decode, of prefill and per token served, tokens per second, tokens of cache."""
    ask: dict[str, Any] = {"tp": 1, "dp": 32, "ep": 32, "skew": 0.65, "concurrency": 2048, **LOAD, **more}
    flags = ["--enable-eplb"] if by_load else []
    found = moeplan.estimate(
        "deepseek-v3", offline=True, redundant_experts=copies or None, engine_args=flags, engine="vllm", **ask
    )
    speed = found.speed
    assert speed is not None
    rate = speed.output_tokens_per_s.total.value
    steps = speed.decode_step.seconds, speed.prefill_step.seconds
    return *steps, speed.tpot.value_s, rate, found.capacity.kv_tokens


def test_times_and_cache_are_those_of_estimate() -> None:
    found = timed(32, 2048, 32)
    start = found.sweep.in_order
    told = (start.decode_s, start.prefill_s, start.tpot_s, start.output_tokens_per_s, start.kv_tokens)
    assert told == asked_of_estimate(0, by_load=False)
    for copies in (0, 32):
        each = row(found, copies)
        told = (each.decode.seconds, each.prefill.seconds, each.tpot_s, each.output_tokens_per_s, each.kv_tokens)
        assert told == asked_of_estimate(copies, by_load=not copies)
    assert found.sweep.served is not None
    assert (found.sweep.served.dp, found.sweep.served.context_tokens) == (32, 4000)


def test_times_of_counts_are_those_of_estimate_with_the_file(tmp_path: Path) -> None:
    file = counted(tmp_path / "a.json", "Qwen/Qwen3-30B-A3B", 0, 2, 128, 8, 0)
    load: dict[str, Any] = {"gpu": "h100-sxm", "concurrency": 512, "input": 1000, "output": 200, "context": 2000}
    found = place(file, ranks=4, redundant=4, model="qwen3-30b-a3b", offline=True, engine="sglang", tp=4, **load)
    whole = moeplan.estimate(
        "qwen3-30b-a3b", engine="sglang", tp=4, ep=4, redundant_experts=4, routing=file, offline=True, **load
    )
    assert whole.speed is not None
    assert row(found, 4).decode.seconds == whole.speed.decode_step.seconds
    assert row(found, 4).prefill.seconds == whole.speed.prefill_step.seconds
    assert "routing-layers-missing" in {note.code for note in found.notes}


def test_the_table_adds_up_by_the_time_per_token_that_is_served() -> None:
    """128 copies save 2 % of either step and bring 6 % more tokens: what users wait for are steps with prompts of several ranks."""
    found = law(32, 0.65, redundant=(0, 128), concurrency=2048, **LOAD)
    alone, copies = row(found, 0), row(found, 128)
    assert alone.tpot_s is not None
    assert copies.tpot_s is not None
    assert (copies.gained_fraction or 0) > 2 * max(
        copies.decode.saved_fraction or 0, copies.prefill.saved_fraction or 0
    )
    assert alone.tpot_s / copies.tpot_s - 1 == pytest.approx(copies.gained_fraction, abs=0.01)
    page = routing_placement_table(found, width=100, color=False, unicode=True)
    assert " TPOT  tokens/s" in page
    assert "goes by TPOT, so it may gain more than either step" in " ".join(page.split())


def test_the_first_words_name_their_row_where_another_is_advised() -> None:
    found = law(32, 0.65, concurrency=2048, **LOAD)
    assert (found.redundant_experts, found.sweep.recommended) == (0, 32)
    told = " ".join(routing_placement_table(found, width=100, color=False, unicode=True).split())
    first = told[: told.index("Spare slots")]
    assert "with no copies; advised are 32 copies, which reach 1.00" in first
    assert "by number: experts in the order of their numbers, without copies, as engines start" in first
    assert "drawn at random" in first
    same = law(32, 0.65, redundant=32, concurrency=2048, **LOAD)
    assert "advised are" not in routing_placement_table(same, width=100, color=False, unicode=True)


def test_copies_cost_a_small_decode_step_and_pay_a_large_one() -> None:
    """The rule: where reading weights takes longest a copy is only more to read; where experts compute it saves what ranks wait."""
    small, large = row(timed(32, 64, 32), 32), row(timed(32, 2048, 32), 32)
    assert small.decode.verdict == "costs"
    assert "bandwidth-bound" in small.decode.why
    assert "9 experts in the place of 8" in small.decode.why
    assert large.decode.verdict == "pays"
    assert "compute-bound" in large.decode.why
    assert large.prefill.verdict == "pays"
    assert "a rank reads what it holds, whoever is busy" in row(timed(32, 64, 32), 0).decode.why
    assert timed(32, 64, 32).sweep.recommended == 0
    assert "no copies pay" in timed(32, 64, 32).sweep.recommendation
    assert timed(32, 2048, 32).sweep.recommended == 32
    assert timed(32, 2048, 32).sweep.recommendation.startswith("32 copies: the fewest that reach balancedness 0.9")


def test_of_even_ones_the_fewest_copies_are_advised_and_a_gain_below_a_per_cent_is_none() -> None:
    wide = law(128, 0.5, concurrency=16_384, **LOAD | {"context": 2500})
    assert (row(wide, 256).gained_fraction or 0) > (row(wide, 128).gained_fraction or 0) > 0.2
    assert wide.sweep.recommended == 128
    between = timed(32, 256, 32)
    assert 0 < (row(between, 32).gained_fraction or 0) < 0.01
    assert (row(between, 32).decode.verdict, row(between, 32).prefill.verdict) == ("costs", "pays")
    assert between.sweep.recommended == 0
    # 256 experts on 72 ranks take 32 copies in any case.
    filled = law(72, 0.65, concurrency=9216, **LOAD | {"context": 2500})
    assert filled.sweep.recommended == 32
    assert "no further copies pay" in filled.sweep.recommendation


def test_where_placing_alone_is_even_copies_are_worthless() -> None:
    # Eight ranks have 32 experts each: placing reaches what copies do.
    found = timed(8, 256, 8)
    alone, copies = row(found, 0), row(found, 8)
    assert alone.prefill.verdict == "pays"
    assert alone.balancedness.mean > 0.95
    assert copies.prefill.verdict == "worthless"
    assert copies.decode.verdict in ("worthless", "costs")
    assert found.sweep.recommended == 0


def test_copies_take_cache() -> None:
    """One more expert in 58 layers, 2.55 GB of a rank, at 70,272 bytes of a token's latents in 61 layers."""
    each = row(timed(32, 2048, 32), 32)
    assert each.kv_tokens_lost is not None
    assert each.kv_tokens_lost == pytest.approx(2.555e9 / (61 * 576 * 2), rel=0.01)
    assert timed(32, 2048, 32).sweep.kv_tokens_per == "attention_dp_rank"


def test_what_is_not_known_is_named() -> None:
    without_load = law(8, 0.65, redundant=8, gpu="h200")
    assert without_load.sweep.times_unknown == "no load was stated; --concurrency says one"
    assert without_load.sweep.served is None
    assert row(without_load, 8).decode.verdict == "unknown"
    assert row(without_load, 8).kv_tokens_lost is not None
    without_kernel = law(8, 0.65, redundant=8, gpu="h200", concurrency=64, quant="int8")
    assert (without_kernel.sweep.times_unknown or "").startswith(
        "kernels of int8 per channel weights were not measured"
    )
    assert row(without_kernel, 8).prefill.verdict == "unknown"
    assert row(without_kernel, 8).prefill.why == f"times are not known: {without_kernel.sweep.times_unknown}"
    assert without_kernel.sweep.recommendation.endswith(without_kernel.sweep.times_unknown or "?")
    refused = law(32, 0.65, redundant=32, gpu="h100", engine="sglang", concurrency=64)
    assert (refused.sweep.times_unknown or "").startswith(
        "the engine would not start: 18432 / 32 = 576 of model.layers.0"
    )
    without_gpu = law(32, 0.65, concurrency=64)
    assert (without_gpu.sweep.step_tokens, without_gpu.sweep.step_tokens_basis) == (64, "concurrency")
    assert "--gpu" in (without_gpu.sweep.times_unknown or "")


def test_copies_that_leave_no_room_are_not_advised() -> None:
    """Sixteen H200 hold 96 sequences a rank of 9,000 tokens beside one more slot a layer, and not of 9,600."""
    load: dict[str, Any] = {"gpu": "h200", "concurrency": 1536, "input": 1500, "output": 500}
    roomy, tight = (law(16, 1.0, redundant=16, context=context, **load) for context in (9000, 9600))
    for found, fits in ((roomy, True), (tight, False)):
        assert (row(found, 0).fits, row(found, 16).fits) == (True, fits)
        assert row(found, 16).decode.verdict == "pays"
        assert found.sweep.recommended == (16 if fits else 0)
    assert "there is no room for them" in tight.sweep.recommendation


# Against a published service ---------------------------------------------------------------------------------


def prefill_of_a_node(copies: int, *, by_load: bool, skew: float) -> float:
    """Tokens per second of one of 4 nodes of 8 H100, 16,384 tokens on each device, prompts of 4,096."""
    loaded = find_model("deepseek-v3")
    assert loaded.quantisation is not None
    held = holdings(inventory(loaded.spec), loaded.quantisation)
    card, _ = find_hardware("h100-sxm")
    division = Division(expert_ep=32, redundant_experts=copies, balancer=by_load)
    layout = Layout(tp=32, dp=32, ep=32, dp_attention=True, num_gpus=32, num_nodes=4, pp_layers=(61,))
    stages = served_stages(loaded.spec, held, card, "sglang", division, layout, exchange="low_latency")
    assert stages is not None
    step = step_time(stages[0], StepLoad(0, 0, 16_384, 0, 4, 32), GateSkew(skew))
    return 16_384 * 8 / step.seconds


def test_the_page_says_what_sglangs_prefill_would_lose_here() -> None:
    found = {
        "even routing": prefill_of_a_node(0, by_load=False, skew=0.0),
        "skew 0.65, 32 copies": prefill_of_a_node(32, by_load=True, skew=0.65),
        "skew 0.65, placed without copies": prefill_of_a_node(0, by_load=True, skew=0.65),
        "skew 0.65, by number": prefill_of_a_node(0, by_load=False, skew=0.65),
    }
    told = dict(re.findall(r"^\| moeplan, ([^|]*?) \| ([\d,]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert told.keys() == found.keys()
    for name, rate in found.items():
        assert int(told[name].replace(",", "")) == pytest.approx(rate, rel=1e-3), name
    # Published: 59,337 with even routing, 50,302 with real routing and a balancer, which lies between copies and none.
    even = found["even routing"]
    assert even == pytest.approx(59_337, rel=0.3)
    assert found["skew 0.65, by number"] / even < found["skew 0.65, placed without copies"] / even
    assert found["skew 0.65, placed without copies"] / even < 50_302 / 59_337 < found["skew 0.65, 32 copies"] / even
