"""What is said beside the answer holds when it is asked again: what would help, what is missing, ways out, layers of the command."""

from __future__ import annotations

from typing import Any

import pytest

import moeplan
from moeplan.offload.result import Offload
from moeplan.report.offload_words import detail_words, other_rows


def ask(model: str, **asked: Any) -> Offload:
    return moeplan.offload(model, offline=True, **asked)


# Layers of the command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "gpu", "told"),
    [
        ("deepseek-r1", "rtx-4090", "the command names the first 60 layers, of which 3 have no experts: 57 with"),
        ("llama-4-maverick-17b-128e-instruct", "rtx-4090", "the first 48 layers, of which 24 have no experts: 24 with"),
        ("kimi-k2-instruct", "rtx-pro-6000", "of which 1 has no experts"),
        ("gpt-oss-120b", "rtx-4090", None),
        ("qwen3-32b", "rtx-3090", None),
        ("gpt-oss-120b", "2xrtx-3090", None),
    ],
)
def test_a_command_that_counts_layers_without_experts_says_so(model: str, gpu: str, told: str | None) -> None:
    """`--n-cpu-moe N` counts from the first layer of the model (common/common.h), those without experts among them."""
    quants = ["stored"] if model.startswith("gpt") else ["q4_k_m"] if "32b" not in model else ["q6_k"]
    answer = ask(model, gpu=gpu, ram="768GiB", quants=quants, context="8k")
    best = answer.best
    assert best is not None
    assert best.launch is not None
    said = dict(detail_words(answer)).get("layers: ")
    assert (said is None) == (told is None)
    assert told is None or told in (said or "")
    flags = dict(zip(best.launch, best.launch[1:], strict=False))
    flag = flags.get("--n-cpu-moe") or flags.get("--n-cpu-ffn")
    assert (None if flag is None else int(flag)) == best.flag_layers


# What would help ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "gpu"), [("mixtral-8x7b", "rtx-4090"), ("qwen3-30b-a3b", "2xnvidia-t4")])
def test_what_would_help_is_what_asking_again_says(model: str, gpu: str) -> None:
    asked: dict[str, Any] = {"gpu": gpu, "ram": "64GiB", "context": "8k", "quants": ["q8_0", "q6_k"]}
    answer = ask(model, **asked)
    assert answer.best is not None
    mine = {**asked, "quants": [answer.best.format]}
    count = answer.hardware.num_devices + 1
    again = {
        "host memory": {**mine, "ram_bandwidth": f"{2 * answer.host.bandwidth_bytes_per_s / 1e9}GB/s"},
        "a second card": {**mine, "gpu": f"{count}x{answer.hardware.profile}"},
        "3 cards": {**mine, "gpu": f"{count}x{answer.hardware.profile}"},
        "a file in q6_k": {**asked, "quants": ["q6_k"]},
    }
    held = 0
    for told in answer.helps:
        other = next((ask(model, **change) for start, change in again.items() if told.change.startswith(start)), None)
        if other is None:
            continue
        assert other.best is not None
        assert other.best.speed is not None
        speed = other.best.speed
        assert told.tokens_per_s is None or told.tokens_per_s[:3] == pytest.approx(speed.tokens_per_s[:3])
        prompt = speed.prompt_tokens_per_s
        assert told.prompt_tokens_per_s is None or (
            prompt is not None and told.prompt_tokens_per_s[:3] == pytest.approx(prompt[:3])
        )
        held += 1
    assert held == 3


def test_a_slice_of_a_card_is_not_told_to_be_two() -> None:
    answer = ask("gpt-oss-120b", gpu="h100-sxm-mig-1g-10gb", ram="128GiB", context="8k", quants=["stored"])
    assert answer.best is not None
    assert answer.helps
    assert not any("card" in told.change for told in answer.helps)


# What is missing ---------------------------------------------------------------------------------------------------


def test_ways_out_are_those_that_there_are() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "ram": "256GiB", "concurrency": 4, "quants": ["q4_k_m"]}
    every = ask("qwen3-235b-a22b", context="40k", **asked)
    assert every.way_out == (
        "say a shorter --context, fewer --concurrency, --kv-dtype q8_0, a smaller --quant or another --gpu"
    )
    assert ask("qwen3-235b-a22b", context=512, input=256, output=256, **asked).best is not None
    few = ask("dots.llm1.inst", gpu="nvidia-t4", ram="256GiB", context="32k", kv_dtype="q8_0", quants=["q2_k"])
    assert few.way_out == "say a shorter --context, a smaller --quant or another --gpu"
    host = ask("qwen3-235b-a22b", gpu="rtx-4090", ram="64GiB", context="8k", quants=["q4_k_m"])
    assert host.way_out == "say --ram 116GiB at least, more cards or a smaller --quant"


def test_a_card_that_holds_no_part_of_it_is_not_told_to_take_a_shorter_context() -> None:
    answer = ask("deepseek-r1", gpu="a100-sxm-80gb-mig-1g-10gb", ram="1TiB", context="32k", quants=["q8_0"])
    assert answer.best is None
    assert answer.way_out == (
        "say a smaller --quant or another --gpu: not even a short context of one request fits"  # a slice
    )


def test_more_cards_are_a_way_out_where_a_machine_takes_enough_of_them() -> None:
    asked: dict[str, Any] = {"ram": "32GiB", "context": "8k", "quants": ["q2_k"]}
    few, many = (ask("deepseek-r1", gpu=gpu, **asked).way_out or "" for gpu in ("nvidia-t4", "rtx-pro-6000"))
    assert "more cards" not in few
    assert "more cards" in many


def test_what_both_lack_is_told_of_both() -> None:
    answer = ask("deepseek-r1", gpu="a100-sxm-80gb-mig-1g-10gb", ram="16GiB", context="32k", quants=["q2_k"])
    assert answer.missing is not None
    assert "of GPU memory are missing in q2_k" in answer.missing
    assert "of host memory are missing: " in answer.missing
    assert answer.way_out is not None
    assert "--ram 2" in answer.way_out


def test_what_other_engines_lack_is_all_that_they_lack() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "context": "8k", "quants": ["q4_k_m"]}
    small = ask("mixtral-8x7b", ram="64GiB", **asked)
    assert [row.engine for row in small.others] == ["sglang", "vllm", "sglang"]
    for place, row in enumerate(small.others):
        assert not row.fits
        assert row.missing_device_bytes == 0
        enough = small.host.ram_bytes + row.missing_host_bytes
        assert ask("mixtral-8x7b", ram=enough, **asked).others[place].fits
        assert not ask("mixtral-8x7b", ram=enough - 1, **asked).others[place].fits
    assert all("of host memory missing" in told for _, told in other_rows(small))


# Remarks -----------------------------------------------------------------------------------------------------------


def test_the_words_of_a_rate_are_explained_with_their_shares() -> None:
    answer = ask("gpt-oss-120b", gpu="rtx-4090", ram="64GiB", context="8k")
    (told,) = [note.message for note in answer.notes if note.code == "rates"]
    assert told.startswith(
        "likely is 80 % (50 to 100) of the card's bandwidth and 2 times (0 to 2.8) what measured kernels"
    )
    assert "43 % (19 to 68) of host memory's bandwidth" in told


def test_doubts_of_a_format_and_of_a_card_are_told() -> None:
    answer = ask("qwen3-30b-a3b", gpu="rx-7900-xtx", ram="64GiB", context="8k", quants=["q6_k"])
    codes = {note.code for note in answer.notes}
    assert "memory-uncertain" in codes
    assert any("without an importance matrix" in note.message for note in answer.notes)


def test_host_memory_that_guesses_may_fill_is_told() -> None:
    answer = ask("qwen3-30b-a3b", gpu="rtx-4090", ram=int(3.5 * 2**30), context="8k", quants=["q4_k_m"])
    assert answer.best is not None
    assert answer.best.host_free_low_bytes < 0
    (told,) = [note.message for note in answer.notes if note.code == "host-margin"]
    assert "4.0 GiB" in told
