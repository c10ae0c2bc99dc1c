"""What is called a bound is one: no assumption of its own lies above it, and a better machine never has a worse one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import moeplan
from moeplan.core.hardware import pcie_bytes_per_s
from moeplan.offload.result import Offload, Offloaded, OffloadSpeed
from moeplan.report.offload_words import detail_words, layers_title
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.host_constants import host_constants

OSS: dict[str, Any] = {
    "gpu": "rtx-4090",
    "ram": "128GiB",
    "host": "2ch-ddr5-5600",
    "context": "4k",
    "quants": ["stored"],
}


def ask(model: str, **asked: Any) -> Offload:
    return moeplan.offload(model, offline=True, **asked)


def best_of(answer: Offload) -> tuple[Offloaded, OffloadSpeed]:
    assert answer.best is not None, answer.missing
    assert answer.best.speed is not None
    return answer.best, answer.best.speed


def own_card(folder: Path, name: str, **changed: Any) -> str:
    """A profile like a built-in one but for some keys, in a file of its own."""
    hardware, _ = find_hardware(name)
    document = yaml.safe_load(Path(hardware.path).read_text(encoding="utf-8"))
    document = {**document, **changed, "name": "A card", "aliases": []}
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


# Copies in place of the host ---------------------------------------------------------------------------------------


def test_from_32_sequences_on_decoding_waits_for_copies_and_not_for_the_host() -> None:
    """llama.cpp computes a batch of 32 on the card, decoding or not: 28 layers of 128 experts, of which it copies those touched."""
    below, (best, speed) = (
        best_of(ask("gpt-oss-120b", concurrency=31, **OSS))[1],
        best_of(ask("gpt-oss-120b", concurrency=32, **OSS)),
    )
    copies = host_constants()["pageable_copy_bytes_per_s"]
    assert not below.host_copied
    assert speed.host_copied
    assert speed.likely.host_s == pytest.approx(speed.host_read_bytes / copies.value, rel=1e-6)
    assert speed.binding == "the link between GPU and host"
    assert speed.tokens_per_s.high < below.tokens_per_s.high
    answer = ask("gpt-oss-120b", concurrency=32, **OSS)
    assert "copying" in dict(detail_words(answer))["binds: "]
    assert "copied" in {note.code for note in answer.notes}
    gains = {each.change.split(":")[0]: each.tokens_per_s.high for each in answer.helps if each.tokens_per_s}
    assert gains["--no-op-offload"] > below.tokens_per_s.high
    # Pinned memory is what such copies gain from, faster memory is not.
    assert gains["--no-mmap"] > speed.tokens_per_s.high
    assert not any(change.startswith("host memory") for change in gains)
    assert best.host_layers


def test_copies_are_no_faster_than_the_memory_that_they_are_read_from() -> None:
    slow = {**OSS, "host": None, "ram_bandwidth": "5GB/s"}
    _, speed = best_of(ask("gpt-oss-120b", input=512, **slow))
    _, usual = best_of(ask("gpt-oss-120b", input=512, **OSS))
    assert speed.ttft is not None
    assert usual.ttft is not None
    assert speed.ttft.low_s == pytest.approx(
        usual.ttft.low_s * host_constants()["pageable_copy_bytes_per_s"].high / 5e9
    )


def test_copies_that_are_not_pinned_are_no_faster_than_those_that_are(tmp_path: Path) -> None:
    narrow = own_card(tmp_path, "rtx-4090", links={"scale_up": None, "pcie": {"generation": 3, "lanes": 8}})
    answer = ask("gpt-oss-120b", input=512, **{**OSS, "gpu": narrow})
    hardware, _ = find_hardware(narrow)
    assert hardware.pcie is not None
    link = pcie_bytes_per_s(hardware.pcie)
    _, speed = best_of(answer)
    assert link < host_constants()["pageable_copy_bytes_per_s"].value
    wide = best_of(ask("gpt-oss-120b", input=512, **OSS))[1].ttft
    assert speed.ttft is not None
    assert wide is not None
    assert speed.ttft.low_s == pytest.approx(wide.low_s * host_constants()["pageable_copy_bytes_per_s"].high / link)


# Experts that are touched ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_bound_holds_for_the_skew_that_was_published_of_the_model(concurrency: int) -> None:
    assumed = best_of(ask("gpt-oss-120b", concurrency=concurrency, **OSS))[1]
    published = best_of(ask("gpt-oss-120b", concurrency=concurrency, skew=1.24, **OSS))[1]
    assert assumed.tokens_per_s.high == pytest.approx(published.tokens_per_s.high)
    assert (assumed.tokens_per_s.value == pytest.approx(published.tokens_per_s.value)) == (concurrency == 1)


def test_the_bound_of_a_prompt_holds_for_the_fewest_experts_that_were_published() -> None:
    """72 of 128 experts of a layer in 512 tokens of code (llama.cpp pull request 15346): copies of those alone take this long."""
    best, speed = best_of(ask("gpt-oss-120b", input=512, **OSS))
    layer = 128 * (3 * 2880 * 2880 * 4.25 / 8 + 2 * (2 * 2880 + 2880))
    assert speed.ttft is not None
    assert speed.ttft.low_s <= best.host_layers * layer * 72 / 128 / host_constants()["pageable_copy_bytes_per_s"].high


# Prompts on cards alone --------------------------------------------------------------------------------------------


def test_a_model_on_its_card_needs_no_link_to_read_a_prompt(tmp_path: Path) -> None:
    card = own_card(tmp_path, "rtx-5090", links={"scale_up": None, "pcie": None})
    answer = ask("qwen3-30b-a3b", gpu=card, ram="32GiB", quants=["q4_k_m"], context="4k")
    assert best_of(answer)[1].prompt_tokens_per_s is not None
    assert "link-unknown" not in {note.code for note in answer.notes}


def test_what_a_card_computes_is_not_guessed_where_its_matrix_rate_is_not_known() -> None:
    answer = ask("gpt-oss-20b", gpu="gh200-96gb", ram="64GiB", context="4k")
    assert best_of(answer)[1].prompt_tokens_per_s is None
    assert "the matrix rate of the GPU is not" in dict(detail_words(answer))["prompt: "]
    there = ask("gpt-oss-20b", gpu="intel-arc-b580", ram="64GiB", context="4k")
    assert best_of(there)[1].prompt_tokens_per_s is not None
    assert "matrix-rate-unknown" in {note.code for note in there.notes}


def test_prompts_of_several_micro_batches_run_through_two_cards_at_once() -> None:
    """Two micro-batches and two stages: three turns of half the work, in place of four; chosen layers end that."""
    asked: dict[str, Any] = {"ram": "64GiB", "quants": ["q4_k_m"], "context": "4k"}
    one, two = (best_of(ask("qwen3-30b-a3b", gpu=gpu, **asked)) for gpu in ("rtx-3090", "2xrtx-3090"))
    assert one[0].host_layers == two[0].host_layers == 0
    assert one[1].ttft is not None
    assert two[1].ttft is not None
    assert two[1].ttft.value_s == pytest.approx(one[1].ttft.value_s * 3 / 4, rel=1e-6)
    assert two[1].ttft.low_s == pytest.approx(one[1].ttft.low_s * 3 / 4, rel=1e-6)


# A better machine --------------------------------------------------------------------------------------------------


def rates(answers: Sequence[Offload]) -> list[tuple[float, float, float, int]]:
    found = []
    for answer in answers:
        best, speed = best_of(answer)
        rate, prompt = speed.tokens_per_s, speed.prompt_tokens_per_s
        assert rate.low <= rate.value <= rate.high
        assert prompt is not None
        assert prompt.low <= prompt.value <= prompt.high
        found.append((rate.low, rate.value, rate.high, -best.host_layers))
    return found


WORSE_TO_BETTER: dict[str, list[dict[str, Any]]] = {
    "more host memory": [{"ram": ram} for ram in ("48GiB", "64GiB", "1TiB")],
    "faster host memory": [{"host": None, "ram_bandwidth": f"{rate}GB/s"} for rate in (20, 89.6, 400)],
    "another socket": [{"sockets": count} for count in (1, 2, 4)],
    "more cards": [{"gpu": gpu} for gpu in ("rtx-4090", "2xrtx-4090", "3xrtx-4090")],
    "less context": [{"context": context} for context in ("128k", "32k", "4k")],
    "a shorter answer": [{"output": output} for output in (2000, 500, 1)],
    "a smaller cache": [{"kv_dtype": name, "context": "64k"} for name in (None, "q8_0", "q4_0")],
}


@pytest.mark.parametrize("name", WORSE_TO_BETTER)
def test_a_better_machine_or_a_smaller_question_is_never_slower(name: str) -> None:
    found = rates([ask("gpt-oss-120b", **{**OSS, **change}) for change in WORSE_TO_BETTER[name]])
    assert all(all(a <= b for a, b in zip(worse, better, strict=True)) for worse, better in pairwise(found))


def test_more_memory_of_the_card_is_never_slower(tmp_path: Path) -> None:
    answers = []
    for gib in (12, 16, 24, 48):
        size = gib * 2**30
        memory = {"kind": "GDDR6X", "nominal_bytes": size, "visible_bytes": size, "usable_bytes": size,
                  "usable_low_bytes": size, "usable_high_bytes": size}  # fmt: skip
        card = own_card(tmp_path, "rtx-4090", memory=memory)
        answers.append(ask("gpt-oss-120b", **{**OSS, "gpu": card}))
    found = rates(answers)
    assert all(worse <= better for worse, better in pairwise(found))
    assert found[0] < found[-1]


def test_a_host_that_is_faster_than_the_card_is_told_and_no_layer_is_called_slower() -> None:
    asked: dict[str, Any] = {"gpu": "nvidia-t4", "ram": "64GiB", "quants": ["q8_0"], "context": "4k"}
    usual = ask("qwen3-30b-a3b", host="2ch-ddr5-5600", **asked)
    assert layers_title(usual) == "Layers in host memory: each one more is slower"
    assert "fast-host" not in {note.code for note in usual.notes}
    fast = ask("qwen3-30b-a3b", ram_bandwidth="1200GB/s", **asked)
    assert fast.layers[-1].tokens_per_s.value > best_of(fast)[1].tokens_per_s.value
    assert layers_title(fast) == "Layers in host memory"
    (told,) = [note.message for note in fast.notes if note.code == "fast-host"]
    assert f"likely {fast.layers[-1].tokens_per_s.value:.1f} and" in told


def test_the_best_is_no_slower_than_what_else_is_listed_of_its_format() -> None:
    for gpu in ("rtx-4090", "2xrtx-3090"):
        answer = ask("gpt-oss-120b", **{**OSS, "gpu": gpu})
        best, speed = best_of(answer)
        fitting = [point for point in answer.layers if point.fits and point.host_layers >= best.host_layers]
        assert max(point.tokens_per_s.high for point in fitting) == speed.tokens_per_s.high


def test_a_model_on_its_card_waits_for_calls_of_kernels_and_its_bound_does_not() -> None:
    """What a token reads of few active parameters is over before the kernels are called: as every engine, faster cards gain little."""
    asked: dict[str, Any] = {"ram": "64GiB", "context": "8k", "quants": ["q4_k_m"]}
    slow, fast = (best_of(ask("qwen3-30b-a3b", gpu=gpu, **asked))[1] for gpu in ("rtx-4090", "h100-sxm"))
    for speed in (slow, fast):
        assert speed.binding == "calls of kernels on the GPU, whatever they read"
        assert speed.bound.calls_s == 0
        assert speed.likely.device_s / 2 < speed.likely.calls_s < speed.likely.device_s
    assert fast.tokens_per_s.high > 2 * slow.tokens_per_s.high
    assert fast.tokens_per_s.value < 1.5 * slow.tokens_per_s.value


def test_calls_are_of_all_layers_and_of_those_experts_that_are_on_the_card() -> None:
    """Also where a card's profile does not tell its matrix rate, on which no call depends."""
    asked: dict[str, Any] = {"gpu": "nvidia-a10", "ram": "64GiB", "quants": ["q4_k_m"]}
    assert find_hardware("nvidia-a10")[0].dense_flops_per_s.bf16 is None
    short, long = (best_of(ask("qwen3-30b-a3b", context=context, **asked)) for context in ("4k", "96k"))
    assert short[0].host_layers == 0 < long[0].host_layers
    assert short[1].likely.calls_s > long[1].likely.calls_s > 0
    each = (short[1].likely.calls_s - long[1].likely.calls_s) / long[0].host_layers
    # Published of one call of experts inside a graph: 14 to 30 us (`profiles/kernels`), times what llama.cpp's take.
    factor = host_constants()["device_call_factor"]
    assert 10e-6 < each / factor.value < 40e-6
