"""Speculation in an estimate: what is drafted, what that holds in memory, what it costs and gives, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import moeplan
from benchmarks.speculation import outcomes
from moeplan.core.errors import InputError
from moeplan.core.launch import Launch
from moeplan.core.layout import Layout
from moeplan.core.speculation import Drafts
from moeplan.core.units import gib
from moeplan.engines import ENGINES
from moeplan.engines.command_line.writing import launch_words
from moeplan.estimate import Estimate
from moeplan.estimate.speculation import PUBLISHED
from moeplan.estimate.speed_result import Speculation, Speed
from moeplan.report.speculation_words import load_columns, step_columns

MTP = ["--speculative-config", '{"method":"mtp","num_speculative_tokens":2}']
EAGLE = ["--speculative-config", '{"method":"eagle3","model":"org/head","num_speculative_tokens":3}']
TREE = (
    "EAGLE3 --speculative-draft-model-path o/d --speculative-num-steps 3 --speculative-eagle-topk 4 "
    "--speculative-num-draft-tokens 6"
)
NGRAM = ["--speculative-config", '{"method":"ngram","num_speculative_tokens":3}']


def asked(model: str = "deepseek-v3", **options: Any) -> Estimate:
    given: dict[str, Any] = {"gpu": "8xh200", "context": 8192, "concurrency": 16} | options
    found = moeplan.estimate(model, offline=True, **given)
    assert isinstance(found, Estimate)
    return found


def fast(model: str = "deepseek-v3", **options: Any) -> tuple[Speed, Speculation]:
    found = asked(model, **options).speed
    assert found is not None
    assert found.speculation is not None
    return found, found.speculation


def told(found: Estimate, code: str) -> list[str]:
    return [note.message for note in found.notes if note.code == code]


def cache(found: Estimate) -> dict[str, int]:
    return {entry.code: entry.bytes for entry in found.ranks[0].lines if entry.code.startswith("kv_cache")}


# What it costs and gives ------------------------------------------------------------------------------------


def test_the_speed_up_is_tokens_over_the_longer_step() -> None:
    speed, found = fast(draft_tokens=2, acceptance=0.8)
    assert (found.draft_tokens, found.verify_tokens, found.draft_kind, found.in_figures) == (2, 3, "own_layers", True)
    assert found.tokens_per_step == pytest.approx(2.44)
    assert found.draft is not None
    assert found.speed_up is not None
    assert found.draft_budget_s is not None
    longer = found.verify.time.value_s + found.draft.value_s
    assert found.speed_up.value == pytest.approx(2.44 * found.plain.time.value_s / longer)
    assert found.speed_up.low < found.speed_up.value < found.speed_up.high
    # A draft that takes all of its budget gains nothing.
    assert found.verify.time.value_s + found.draft_budget_s == pytest.approx(2.44 * found.plain.time.value_s)
    assert speed.decode_step.seconds == pytest.approx(longer)
    assert (found.pays, found.why.split(" at ")[0]) == (True, "pays")


@pytest.mark.parametrize("acceptance", [0.25, 0.5])
def test_what_pays_is_the_load_that_was_asked_and_not_its_steps_of_decode(acceptance: float) -> None:
    """30,000 tokens in and 100 out: nearly all of the time goes into prompts, and drafts lose what their layers take there."""
    load: dict[str, Any] = {"context": "32k", "input": 30_000, "output": 100}
    plain = asked(speed=True, **load).speed
    speed, found = fast(draft_tokens=1, acceptance=acceptance, **load)
    assert plain is not None
    assert found.speed_up is not None
    assert found.speed_up.value > 1
    assert speed.output_tokens_per_s.total.value < plain.output_tokens_per_s.total.value
    assert found.pays is False
    assert found.why.startswith("does not pay at 16 in flight: under this load 0.9")
    assert "since no draft shortens the reading of prompts, and the draft layers read them too" in found.why
    assert f"steps of decode alone are {found.speed_up.value:.2f} times as fast" in found.why


def test_the_load_without_drafts_stands_beside_the_figures() -> None:
    load: dict[str, Any] = {"concurrency": 64, "input": 2000, "output": 500}
    plain = asked(speed=True, **load).speed
    speed, found = fast(draft_tokens=1, acceptance=0.8, **load)
    assert plain is not None
    assert found.without == (plain.ttft, plain.tpot, plain.output_tokens_per_s)
    gain = found.under_load
    assert gain is not None
    before, now = plain.output_tokens_per_s.total.value, speed.output_tokens_per_s.total.value
    assert gain.output_tokens_per_s.value == pytest.approx(now / before)
    assert gain.tpot.value == pytest.approx(speed.tpot.value_s / plain.tpot.value_s)
    assert gain.ttft.value == pytest.approx(speed.ttft.value_s / plain.ttft.value_s)
    assert all(each.low <= each.value <= each.high for each in gain)
    (row,) = (row for row in found.over_concurrency if row.concurrency == 64)
    assert row.tokens_gain == pytest.approx(gain.output_tokens_per_s.value)
    # The first token comes later, and the sentence says so.
    assert gain.ttft.value > 1.05
    assert f"the first token {(gain.ttft.value - 1) * 100:.0f} % later" in found.why
    rows = list(zip(*(column.cells for column in load_columns(speed, found)), strict=True))
    assert [row[0] for row in rows] == ["time to first token", "time per further token", "tokens/s in all"]
    assert rows[2][3] == f"{now / before:.2f} x"


def test_bands_say_what_they_cover_and_how_far_off_published_runs_were() -> None:
    """The words are those of the rows of the benchmark."""
    off: dict[str, list[float]] = {}
    for each in outcomes():
        if each.published_ratio is not None:
            off.setdefault(each.found.draft_kind, []).append(each.published_ratio / each.ratio)
    ((own,), others) = off["own_layers"], off["other_model"]
    assert PUBLISHED["own_layers"].endswith(f"took steps {own - 1:.0%} longer than is said".replace("%", " %"))
    assert f"up to {max(others):.1f} times as long" in PUBLISHED["other_model"]
    assert "lookup" not in off
    _, found = fast(draft_tokens=2)
    assert PUBLISHED["own_layers"] in found.band_covers
    assert found.band_covers.startswith("how many more experts")
    _, dense = fast("llama-3.1-8b", gpu="h100", concurrency=1, draft_tokens=4)
    assert dense.band_covers.startswith("nothing: a dense model")


def test_steps_are_those_of_the_estimate_without() -> None:
    """The plain step is untouched by draft layers that are loaded; times are without where nobody says what is taken."""
    plain = asked(speed=True).speed
    speed, found = fast(draft_tokens=2)
    assert plain is not None
    assert plain.speculation is None
    assert found.plain.time.value_s == pytest.approx(plain.decode_step.seconds)
    assert (speed.tpot, speed.ttft) == (plain.tpot, plain.ttft)
    assert (found.in_figures, found.speed_up, found.tokens_per_step, found.pays) == (False, None, None, None)
    assert told(asked(draft_tokens=2), "speed-without-speculation")


def test_times_and_rates_are_with_speculation_where_acceptance_is_known() -> None:
    plain = asked(speed=True).speed
    speed, found = fast(draft_tokens=2, acceptance=0.8)
    assert plain is not None
    assert speed.tpot.value_s < plain.tpot.value_s
    assert speed.output_tokens_per_s.total.value > plain.output_tokens_per_s.total.value
    assert plain.tpot.value_s / speed.tpot.value_s == pytest.approx(
        found.speed_up.value if found.speed_up else 0, rel=0.2
    )
    assert not told(asked(draft_tokens=2, acceptance=0.8), "speed-without-speculation")


def test_at_the_break_even_acceptance_the_load_gains_nothing() -> None:
    _, found = fast(draft_tokens=3)
    needed = found.break_even_acceptance
    assert needed.value is not None
    assert needed.low is not None
    assert needed.high is not None
    assert needed.low < needed.value < needed.high
    _, even = fast(draft_tokens=3, acceptance=needed.value)
    assert even.under_load is not None
    assert even.under_load.output_tokens_per_s.value == pytest.approx(1, abs=1e-6)
    assert even.pays is None
    for before, after in ((needed.value - 0.01, False), (needed.value + 0.01, True)):
        _, near = fast(draft_tokens=3, acceptance=before)
        assert near.under_load is not None
        assert (near.under_load.output_tokens_per_s.value > 1) is after
    _, vain = fast(draft_tokens=3, acceptance=needed.low / 2)
    assert (vain.pays, vain.why.startswith("does not pay")) == (False, True)
    for row in found.over_concurrency:
        assert row.break_even_acceptance is not None
        _, there = fast(draft_tokens=3, acceptance=row.break_even_acceptance, concurrency=row.concurrency)
        assert there.under_load is not None
        assert there.under_load.output_tokens_per_s.value == pytest.approx(1, abs=1e-6)


def test_small_batches_gain_less_than_saturated_ones_and_computing_ones_less_again() -> None:
    _, found = fast("mixtral-8x7b", gpu="4xh100", draft_tokens=2, acceptance=0.7)
    gains = {row.concurrency: row.speed_up or 0 for row in found.over_concurrency}
    assert gains[1] < gains[16] > gains[1024]


def test_experts_of_a_step_are_those_of_its_sequences() -> None:
    _, found = fast(draft_tokens=2, concurrency=1)
    assert found.plain.experts == pytest.approx(8)
    assert found.growth is not None
    assert found.verify.experts == pytest.approx(8 * 3**found.growth)
    low, high = found.verify.experts_low, found.verify.experts_high
    assert low == pytest.approx(8 * 3 ** (found.growth_low or 0))
    assert high == pytest.approx(8 * 3 ** (found.growth_high or 0))


def test_a_published_growth_has_its_own_band() -> None:
    _, found = fast("glm-4.7-flash", gpu="h100", concurrency=1, draft_tokens=1)
    prior = 0.8
    assert found.growth == pytest.approx(prior, abs=0.01)
    assert found.growth_low is not None
    assert found.growth_high is not None
    assert 0.57 < found.growth_low < prior < found.growth_high < 0.91


def test_a_dense_model_has_no_experts_and_verifies_cheaply() -> None:
    _, found = fast("llama-3.1-8b", gpu="h100", concurrency=1, draft_tokens=4, acceptance=0.5)
    assert found.growth is found.plain.experts is found.verify.experts is None
    assert found.speed_up is not None
    assert found.tokens_per_step is not None
    assert found.speed_up.value == pytest.approx(found.tokens_per_step, rel=0.02)


def test_a_model_without_draft_layers_is_told_what_a_free_draft_gives() -> None:
    found = asked("gpt-oss-120b", gpu="2xh100", draft_tokens=3, acceptance=0.6)
    assert found.speed is not None
    assert found.speed.speculation is not None
    assert found.speed.speculation.draft_kind == "lookup"
    assert found.speed.speculation.draft == (0, 0, 0, "assumed")
    assert "costs nothing" in told(found, "draft-lookup")[0]


def test_another_draft_model_is_a_bound_and_no_part_of_the_figures() -> None:
    found = asked("gpt-oss-120b", gpu="2xh100", engine_args=EAGLE, acceptance=0.6)
    plain = asked("gpt-oss-120b", gpu="2xh100", speed=True)
    assert found.speed is not None
    assert plain.speed is not None
    assert found.speed.speculation is not None
    block = found.speed.speculation
    assert (block.draft_kind, block.draft_model, block.draft, block.pays) == ("other_model", "org/head", None, None)
    assert block.speed_up is not None
    assert "at most" in block.why
    assert found.speed.tpot == plain.speed.tpot
    assert "org/head" in told(found, "draft-not-modelled")[0]
    assert "what the draft takes is not known" in told(found, "speed-without-speculation")[0]


def test_of_a_draft_that_is_not_read_only_what_does_not_pay_is_told() -> None:
    """A draft that takes time needs a higher acceptance than the bound, and gives less."""
    _, unsaid = fast("gpt-oss-120b", gpu="2xh100", engine_args=EAGLE, speed=True)
    _, found = fast("gpt-oss-120b", gpu="2xh100", engine_args=EAGLE, acceptance=0.9)
    for each in (unsaid, found):
        assert not each.why.startswith("pays")
        assert "the draft's own time left out" in each.why
    _, dense = fast("qwen3-8b", gpu="h100", concurrency=1, engine_args=EAGLE, speed=True)
    assert dense.why.startswith("does not pay at 1 in flight under this load below an acceptance of")
    rows = dict(zip(*(column.cells for column in step_columns(found)[:2]), strict=True))
    assert "steps of decode, at most" in rows
    assert "load pays from acceptance, at least" in rows


def test_the_reason_names_the_part_and_what_it_is_bound_by() -> None:
    crowd: dict[str, Any] = {"concurrency": 4096, "context": 128, "input": 64, "output": 64, "draft_tokens": 3}
    _, dense = fast("qwen3-8b", gpu="h100", **crowd)
    assert "what grows most is what every token goes through, bound by compute" in dense.why
    _, sparse = fast("mixtral-8x7b", gpu="8xh100", **crowd)
    assert "what grows most is experts, bound by compute" in sparse.why
    _, full = fast("mixtral-8x7b", gpu="4xh100", tp=2, dp=2, concurrency=33, draft_tokens=3)
    assert "8 of 8 experts of a layer are read anyway" in full.why


def test_copies_of_an_expert_are_no_other_experts() -> None:
    spread: dict[str, Any] = {"gpu": "8xh200", "tp": 1, "dp": 8, "ep": 8, "concurrency": 64, "draft_tokens": 2}
    _, plain = fast(**spread)
    _, copied = fast(**spread, redundant_experts=32, engine_args=["--enable-eplb"])
    for step, before in ((copied.plain, plain.plain), (copied.verify, plain.verify)):
        assert step.experts == pytest.approx(before.experts)
    assert [row.verify_experts for row in copied.over_concurrency] == [
        row.verify_experts for row in plain.over_concurrency
    ]
    assert "of 288" not in copied.why


@pytest.mark.parametrize("said", ["0.8", "80%", "80 %"])
def test_an_acceptance_may_be_said_as_a_share(said: str) -> None:
    assert fast(draft_tokens=2, acceptance=said)[1].acceptance == pytest.approx(0.8)
    for ends, value in (("0%", 0), ("100%", 1), ("1", 1)):
        assert fast(draft_tokens=2, acceptance=ends)[1].acceptance == value


def test_where_no_times_are_known_what_is_known_of_drafts_is_told() -> None:
    plain, found = asked(gpu=None), asked(gpu=None, draft_tokens=2)
    more = found.weights.resident_bytes - plain.weights.resident_bytes
    (note,) = told(found, "drafts-left-open")
    assert note.startswith(
        f"2 tokens drafted a step: draft layers are {gib(more)} of the weights; what drafts cost and give"
    )
    assert note.endswith("is told with --gpu")
    (unmeasured,) = told(asked("glm-4.5-air", engine="llamacpp", draft_tokens=1, speed=True), "drafts-left-open")
    assert unmeasured.startswith("1 token drafted a step: draft layers are")
    assert unmeasured.endswith("what they cost and give is not known where times are not")
    assert not told(asked(draft_tokens=2), "drafts-left-open")


def test_a_length_says_the_acceptance() -> None:
    _, found = fast(draft_tokens=2, accept_length=2.44)
    assert found.acceptance == pytest.approx(0.8)
    assert fast(draft_tokens=2, accept_length=1)[1].acceptance == 0
    assert fast(draft_tokens=2, accept_length=3)[1].acceptance == pytest.approx(1)


# Memory -----------------------------------------------------------------------------------------------------


def test_draft_layers_take_weights_and_cache() -> None:
    plain, found = asked(), asked(draft_tokens=2)
    assert found.weights.resident_bytes > plain.weights.resident_bytes
    assert not any("only with speculation" in each.what for each in found.weights.left_out)
    assert any("only with speculation" in each.what for each in plain.weights.left_out)
    mine, before = cache(found), cache(plain)
    assert {code: size for code, size in mine.items() if code != "kv_cache_drafts"} == before
    # One layer more of 61, for the same sequences in the same blocks.
    assert mine["kv_cache_drafts"] == pytest.approx(sum(before.values()) / 61, rel=0.01)


def test_a_recurrent_state_is_kept_for_each_drafted_token() -> None:
    sizes = {}
    for tokens in (1, 2, 3):
        found = asked("qwen3-next-80b", gpu="4xh100", concurrency=64, draft_tokens=tokens)
        sizes[tokens] = cache(found)["kv_cache_drafts"]
        assert found.ranks[0].kv_cache_bytes == sum(cache(found).values())
    assert sizes[2] - sizes[1] == pytest.approx(sizes[3] - sizes[2], rel=0.2)
    assert sizes[3] > 1.8 * sizes[1]
    # SGLang's pool shares itself out between states and tokens: its drafts outgrow the cache of 64 sequences.
    lines = cache(asked("qwen3-next-80b", gpu="4xh100", engine="sglang", concurrency=64, draft_tokens=3))
    assert lines["kv_cache_drafts"] > lines["kv_cache"]


# Engines' own words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ("vllm", '--speculative-config {"method":"mtp","num_speculative_tokens":2}'),
        (
            "sglang",
            "--speculative-algorithm NEXTN --speculative-num-steps 2 --speculative-eagle-topk 1 --speculative-num-draft-tokens 3",
        ),
        ("trtllm", 'speculative_config {"decoding_type":"MTP","num_nextn_predict_layers":2}'),
    ],
)
def test_options_become_settings_of_the_engine_and_are_read_back(engine: str, flags: str) -> None:
    found = asked(engine=engine, draft_tokens=2, acceptance=0.8)
    assert flags in told(found, "draft-settings")[0]
    words = flags.split(" ")
    stated = {option.flag: str(option.value) for option in found.layout.options}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        assert stated[flag] == value
    if engine != "trtllm":  # whose speculation stands in a file
        same = asked(engine=engine, engine_args=words, acceptance=0.8)
        assert same.speed is not None
        assert found.speed is not None
        assert same.speed.speculation == found.speed.speculation
        assert same.ranks == found.ranks


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "llamacpp"])
@pytest.mark.parametrize("own_layers", [True, False])
def test_a_command_says_it_too(engine: str, own_layers: bool) -> None:
    from importlib import import_module

    module = import_module(f"moeplan.engines.{ENGINES[engine]}.speculation")
    settings = module.speculate(2, own_layers=own_layers)
    assert module.drafted(settings) == Drafts(2, 3, "own_layers" if own_layers else "lookup")
    assert module.drafted({}) is None
    words = launch_words(Launch(engine, "org/name", Layout(pp_layers=(32,)), 8192, settings=settings))
    if engine == "trtllm":
        return
    for flag, value in settings.items():
        assert words[words.index(flag) + 1] == str(value)


@pytest.mark.parametrize(
    ("flags", "drafts"),
    [
        (TREE, (3, 6, "other_model", "o/d")),
        ("NEXTN", (3, 4, "own_layers", None)),
        ("NGRAM --speculative-num-draft-tokens 9", (8, 9, "lookup", None)),
        ("EAGLE --speculative-num-steps 1 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4",
         (1, 2, "own_layers", None)),
    ],
)  # fmt: skip
def test_sglang_counts_the_tokens_that_are_verified(flags: str, drafts: tuple[object, ...]) -> None:
    _, found = fast(engine="sglang", engine_args=["--speculative-algorithm", *flags.split()], speed=True)
    assert (found.draft_tokens, found.verify_tokens, found.draft_kind, found.draft_model) == drafts


def test_flags_alone_speculate_and_only_a_load_has_a_speed() -> None:
    _, found = fast(engine_args=NGRAM, speed=True)
    assert (found.draft_tokens, found.draft_kind, found.acceptance) == (3, "lookup", None)
    assert asked(engine_args=NGRAM).speed is None


def test_the_same_may_be_said_twice() -> None:
    assert fast(engine_args=MTP, draft_tokens=2, acceptance=0.8)[1] == fast(engine_args=MTP, acceptance=0.8)[1]


def test_engines_whose_kernels_were_not_measured_count_the_memory_alone() -> None:
    found = asked("glm-4.5-air", gpu="8xh200", engine="llamacpp", draft_tokens=2)
    assert found.speed is None
    assert found.weights.resident_bytes > asked("glm-4.5-air", gpu="8xh200", engine="llamacpp").weights.resident_bytes


# Bad input --------------------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draft_tokens": 2, "acceptance": 1.01}, "--acceptance 1.01"),
        ({"draft_tokens": 2, "acceptance": -0.1}, "--acceptance -0.1"),
        ({"draft_tokens": 2, "acceptance": NAN}, "--acceptance nan"),
        ({"draft_tokens": 2, "acceptance": "most"}, "--acceptance most"),
        ({"draft_tokens": 2, "acceptance": True}, "--acceptance True"),
        ({"draft_tokens": 2, "acceptance": "120%"}, "--acceptance 120%"),
        ({"draft_tokens": 2, "acceptance": "-1%"}, "--acceptance -1%"),
        ({"draft_tokens": 2, "acceptance": "nan"}, "--acceptance nan"),
        ({"draft_tokens": 2, "accept_length": 3.5}, "--accept-length 3.5"),
        ({"draft_tokens": 2, "accept_length": 0.5}, "--accept-length 0.5"),
        ({"draft_tokens": 2, "accept_length": NAN}, "--accept-length nan"),
        ({"draft_tokens": 2, "accept_length": float("inf")}, "--accept-length inf"),
        ({"draft_tokens": 2, "accept_length": 2, "acceptance": 0.5}, "--acceptance 0.5 and --accept-length 2"),
        ({"draft_tokens": 0}, "--draft-tokens 0"),
        ({"draft_tokens": -1}, "--draft-tokens -1"),
        ({"draft_tokens": 65}, "--draft-tokens 65"),
        ({"draft_tokens": 2.5}, "--draft-tokens 2.5"),
        ({"draft_tokens": True}, "--draft-tokens True"),
        ({"acceptance": 0.5}, "--acceptance 0.5: nothing is drafted"),
        ({"accept_length": 2}, "--accept-length 2: nothing is drafted"),
        ({"draft_tokens": 3, "engine_args": MTP}, "--draft-tokens 3 and 2 of --speculative-config"),
        ({"draft_tokens": 2, "engine": "transformers"}, "--draft-tokens 2: a transformers script"),
        (
            {
                "acceptance": 0.5,
                "engine_args": ["--speculative-config", '{"method":"mtp","num_speculative_tokens":9999}'],
            },
            "9,999 drafted tokens",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        asked(**options)
    assert words in caught.value.message
    assert caught.value.hint
