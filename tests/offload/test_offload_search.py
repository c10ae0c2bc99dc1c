"""What stays in host memory: no layer more than the cards need, the memory that `estimate` gives for the command, and its time."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import moeplan
from moeplan.core.coverage import distinct_uniform
from moeplan.core.errors import InputError
from moeplan.core.expert_use import EVEN, StepTokens
from moeplan.core.hardware import pcie_bytes_per_s, usable
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.estimate.workload import make_workload
from moeplan.offload.calls import measured_stages
from moeplan.offload.questions import Machine, Questions
from moeplan.offload.result import Offload
from moeplan.offload.search import MARGIN_BYTES, Placed, fewest, movable_layers, placed
from moeplan.report.offload_words import format_mark
from moeplan.sources.gguf.mixes import IQ_MIXES
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.host_constants import host_constants
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model
from moeplan.sources.routing_files import write_profile
from tests.sources.gguf_files import write
from tests.sources.gguf_models import MODELS

MACHINES: dict[str, tuple[str, dict[str, Any]]] = {
    "one card": ("qwen3-30b-a3b", {"gpu": "rtx-3090", "ram": "64GiB", "quants": ["q8_0"]}),
    "stored": ("gpt-oss-120b", {"gpu": "rtx-5090", "ram": "64GiB", "context": "8k"}),
    "two cards": ("gpt-oss-120b", {"gpu": "2xrtx-3090", "ram": "64GiB", "context": "8k"}),
    "a dense model": ("qwen3-32b", {"gpu": "rtx-4090", "ram": "64GiB", "quants": ["q6_k"]}),
    "dense layers first, four sequences": (
        "deepseek-v2-lite", {"gpu": "intel-arc-b580", "ram": "32GiB", "concurrency": 4, "context": "4k"},
    ),
    "all of it fits": ("qwen3-30b-a3b", {"gpu": "rtx-5090", "ram": "32GiB", "quants": ["q4_k_m"], "context": "8k"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Offload]:
    return {name: moeplan.offload(model, offline=True, **asked) for name, (model, asked) in MACHINES.items()}


def question(model: str, gpu: str, quant: str | None, **load: Any) -> Any:
    loaded = find_model(model, Asked(offline=True))
    hardware, count = find_hardware(gpu)
    memory = usable(hardware)
    assert memory is not None
    workload = make_workload(loaded.spec, [], **load)
    return Questions(loaded, workload, None, Machine(hardware, memory, count or 1)).question("llamacpp", quant)


# Memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_the_command_needs_what_was_said_by_the_ledger_of_estimate(name: str, found: dict[str, Offload]) -> None:
    answer = found[name]
    best = answer.best
    assert best is not None
    assert best.launch is not None
    # The command is of a file that is yet to be found or made: the model is named beside it.
    again = moeplan.estimate(
        answer.model.id, engine_args=list(best.launch), gpu=f"{answer.hardware.num_devices}x{answer.hardware.profile}", offline=True,
        quant=None if best.format_origin == "stored" else best.format,
    )  # fmt: skip
    assert again.verdict.fits
    assert again.verdict.headroom_bytes == best.headroom_bytes
    assert again.verdict.headroom_low_bytes == best.headroom_low_bytes
    (host,) = [rank for rank in again.ranks if rank.device == "host"]
    assert sum(line.bytes for line in host.lines) == best.host_bytes
    assert sum(line.high_bytes for line in host.lines) == best.host_high_bytes
    assert again.request.context_tokens == answer.workload.context_tokens
    assert again.request.concurrency == answer.workload.concurrency
    assert best.host_free_bytes == answer.host.ram_bytes - answer.host.system_bytes - best.host_bytes
    assert not [note for note in again.notes if note.code == "flag-unknown"]


@pytest.mark.parametrize(
    ("model", "gpu", "quant"), [("qwen3-30b-a3b", "rtx-3090", "q8_0"), ("qwen3-30b-a3b", "nvidia-t4", "q4_k_m")]
)
def test_no_layer_more_than_the_card_needs(model: str, gpu: str, quant: str) -> None:
    asked = question(model, gpu, quant, context=8192)
    movable = movable_layers(asked.spec)
    enough = [
        count for count in range(len(movable) + 1) if _leaves_room(placed(asked, movable[:count]))
    ]  # fmt: skip
    assert fewest(asked).host_layers == movable[: enough[0]]
    assert enough == list(range(enough[0], len(movable) + 1))


def test_no_layer_more_than_each_of_several_cards_needs() -> None:
    asked = question("gpt-oss-120b", "2xrtx-3090", None, context=8192)
    found = fewest(asked)
    assert _leaves_room(found)
    counts = asked.deployment.layout.pp_layers
    assert len(counts) == 2
    for stage in (
        (layer for layer in found.host_layers if layer < counts[0]),
        (layer for layer in found.host_layers if layer >= counts[0]),
    ):
        layers = list(stage)
        assert layers
        spared = tuple(layer for layer in found.host_layers if layer != layers[-1])
        assert not _leaves_room(placed(asked, spared))


def _leaves_room(found: Placed) -> bool:
    return all(rank.free_bytes >= MARGIN_BYTES and rank.free_band_bytes[0] >= 0 for rank in found.found.ranks)


def test_a_gguf_file_is_its_own_format(tmp_path: Path) -> None:
    model = MODELS["qwen3moe"]
    block = {
        "attn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
        "attn_q_norm": (16,), "attn_k_norm": (16,), "ffn_norm": (64,), "ffn_gate_inp": (8, 64), "ffn_gate_exps": (8, 32, 64),
        "ffn_up_exps": (8, 32, 64), "ffn_down_exps": (8, 64, 32),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (96, 64), "output_norm.weight": (64,), "output.weight": (96, 64),
        **{f"blk.{layer}.{name}.weight": shape for layer in range(4) for name, shape in block.items()},
    }  # fmt: skip
    path = tmp_path / "tiny.gguf"
    write(path, model.architecture, model.values, shapes)
    answer = moeplan.offload(path, gpu="rtx-4090", ram="8GiB", context=256, input=16, output=16, offline=True)
    assert [row.format_origin for row in answer.formats] == ["stored"]
    assert answer.best is not None
    assert answer.best.launch is not None
    assert answer.best.launch[:3] == ("llama-server", "--model", str(path))
    again = moeplan.estimate(engine_args=shlex.join(answer.best.launch), gpu="rtx-4090", offline=True)
    assert again.verdict.headroom_bytes == answer.best.headroom_bytes
    named = moeplan.offload(
        tmp_path, file="tiny.gguf", gpu="rtx-4090", ram="8GiB", context=256, input=16, output=16, offline=True
    )
    assert named.best is not None
    assert named.best.launch == answer.best.launch
    with pytest.raises(InputError, match="GGUF file has its own format"):
        moeplan.offload(path, gpu="rtx-4090", ram="8GiB", quants=["q4_k_m"], offline=True)


def test_what_is_missing_is_all_that_is_missing() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "context": "8k", "offline": True, "quants": ["q4_k_m"]}
    small = moeplan.offload("qwen3-235b-a22b", ram="64GiB", **asked)
    assert small.best is None
    (row,) = small.formats
    enough = small.host.ram_bytes + row.missing_host_bytes
    assert moeplan.offload("qwen3-235b-a22b", ram=enough, **asked).best is not None
    assert moeplan.offload("qwen3-235b-a22b", ram=enough - 1, **asked).best is None
    assert small.missing is not None
    assert f"{row.missing_host_bytes / 2**30:.1f} GiB of host memory" in small.missing
    assert small.way_out is not None
    ram = small.way_out.split("--ram ")[1].split()[0]
    assert moeplan.offload("qwen3-235b-a22b", ram=ram, **asked).best is not None


def test_a_card_that_is_too_small_without_any_expert_says_so() -> None:
    answer = moeplan.offload("deepseek-r1", gpu="nvidia-t4", ram="1TiB", context="128k", concurrency=8, offline=True)
    assert answer.best is None
    assert answer.missing is not None
    assert "GPU memory" in answer.missing
    assert answer.formats[-1].missing_device_bytes > 0


def test_kept_prompts_are_limited_where_there_is_no_room_for_them() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "context": "8k", "offline": True, "quants": ["q4_k_m"]}
    tight = moeplan.offload("qwen3-235b-a22b", ram="120GiB", **asked)
    assert tight.best is not None
    assert tight.best.launch is not None
    words = dict(zip(tight.best.launch, tight.best.launch[1:], strict=False))
    limit = int(words["--cache-ram"]) * 2**20
    assert 0 < limit <= tight.best.host_free_bytes
    assert {"prompts-limited", "host-tight"} <= {note.code for note in tight.notes}
    roomy = moeplan.offload("qwen3-235b-a22b", ram="192GiB", **asked)
    assert roomy.best is not None
    assert roomy.best.launch is not None
    assert "--cache-ram" not in roomy.best.launch


def test_no_format_is_passed_over_for_prompts_that_the_server_may_keep() -> None:
    """What it may keep, up to 8 GiB, is limited where that and all that is guessed do not fit side by side."""
    asked: dict[str, Any] = {"gpu": "rtx-4090", "ram": "14GiB", "context": "8k", "offline": True}
    answer = moeplan.offload("qwen3-30b-a3b", quants=["q6_k", "q5_k_m"], **asked)
    assert answer.best is not None
    assert answer.best.format == "q6_k"
    assert answer.best.launch is not None
    assert "--cache-ram" in answer.best.launch
    assert answer.best.has_margin
    assert 4 < answer.best.host_free_bytes / 2**30 < 8 + 2 + 1


# Formats -----------------------------------------------------------------------------------------------------------


def test_the_stored_format_comes_first_where_llamacpp_reads_it(found: dict[str, Offload]) -> None:
    stored = found["stored"]
    assert stored.best is not None
    assert stored.best.format_origin == "stored"
    assert stored.formats[0].format == "mxfp4"
    fp8 = moeplan.offload("deepseek-r1", gpu="rtx-4090", ram="512GiB", context="8k", offline=True)
    assert {row.format_origin for row in fp8.formats} == {"other file"}
    with pytest.raises(InputError, match="--quant stored"):
        moeplan.offload("deepseek-r1", gpu="rtx-4090", ram="512GiB", quants=["stored"], offline=True)


def test_mixes_of_fewer_bits_are_tried_where_none_of_the_others_has_room() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "context": "8k", "offline": True}
    answer = moeplan.offload("deepseek-v3", ram="192GiB", **asked)
    assert answer.best is not None
    assert answer.best.format == "iq2_m"
    marks = {row.format: format_mark(answer, row) for row in answer.formats}
    assert marks["q2_k"] == "too little"
    assert (marks["iq2_m"], marks["iq1_s"]) == ("best", "")
    assert format_mark(answer, answer.formats[-1]._replace(host_free_low_bytes=-1)) == "no margin"
    roomy = {row.format for row in moeplan.offload("deepseek-v3", ram="512GiB", **asked).formats}
    assert "q2_k" in roomy
    assert not roomy & set(IQ_MIXES)
    none = moeplan.offload("deepseek-v3", ram="96GiB", **asked)
    assert none.missing is not None
    assert none.way_out is not None
    assert "missing in iq1_s" in none.missing
    assert "mixed by hand" in none.way_out
    named = moeplan.offload("deepseek-v3", ram="192GiB", quants=["iq1_m", "iq4_xs"], **asked)
    assert named.best is not None
    assert named.best.format == "iq1_m"


def test_the_best_has_the_most_bits_of_those_with_room_for_all_that_is_guessed() -> None:
    answer = moeplan.offload(
        "deepseek-r1",
        gpu="rtx-4090",
        ram="512GiB",
        context="8k",
        quants=["q2_k", "q6_k", "q5_k_m", "q8_0"],
        offline=True,
    )
    assert answer.best is not None
    sizes = [row.host_bytes for row in answer.formats]
    assert sizes == sorted(sizes, reverse=True)
    before = answer.formats[: answer.formats.index(answer.best)]
    assert before
    assert all(not row.fits or min(row.headroom_low_bytes, row.host_free_low_bytes) < 0 for row in before)
    assert min(answer.best.headroom_low_bytes, answer.best.host_free_low_bytes) >= 0


# Time --------------------------------------------------------------------------------------------------------------


def test_the_bound_is_the_formula_by_hand() -> None:
    """Qwen3-30B-A3B in bf16, all experts in host memory, one token: 48 layers of 8 experts of 3 x 2048 x 768 x 2 B."""
    answer = moeplan.offload(
        "qwen3-30b-a3b",
        gpu="rtx-3090",
        ram="128GiB",
        quants=["stored"],
        ram_bandwidth="100GB/s",
        context=8192,
        skew=0,
        offline=True,
    )
    assert answer.best is not None
    assert answer.best.speed is not None
    every = answer.layers[-1]
    assert every.host_layers == 48
    constants = host_constants()
    experts = 48 * 8 * 3 * 2048 * 768 * 2
    device = answer.best.speed.device_read_bytes - (48 - answer.best.host_layers) * 8 * 3 * 2048 * 768 * 2
    seconds = device / 936e9 + experts / (100e9 * constants["host_bandwidth_fraction"].high)
    assert every.tokens_per_s.high == pytest.approx(1 / seconds, rel=1e-4)
    # Products into and out of attention, routers and head, and attention itself: no experts are called on the card.
    stages = measured_stages(question("qwen3-30b-a3b", "rtx-3090", None, context=8192))
    assert stages is not None
    (stage,) = stages
    matmul_s, attention_s = (
        stage.by_format["bf16"].floor("matmul")[0],
        stage.by_format["bf16"].floor("attention_decode")[0],
    )
    called = (48 * 3 + 1) * matmul_s + 48 * attention_s
    likely = (
        device / (936e9 * constants["device_bandwidth_fraction"].value)
        + experts / (100e9 * constants["host_bandwidth_fraction"].value)
        + 48 * constants["host_layer_s"].value
        + constants["device_call_factor"].value * called
    )
    assert every.tokens_per_s.value == pytest.approx(1 / likely, rel=1e-4)


def test_more_sequences_touch_more_experts_and_gain_less_than_their_number() -> None:
    asked: dict[str, Any] = {
        "gpu": "rtx-3090", "ram": "128GiB", "quants": ["q8_0"], "host": "2ch-ddr5-5600", "context": 2048, "skew": 0,
        "input": 512, "output": 512, "offline": True,
    }  # fmt: skip
    one, eight = (moeplan.offload("qwen3-30b-a3b", concurrency=count, **asked) for count in (1, 8))
    rates = []
    for answer in (one, eight):
        every = answer.layers[-1]
        assert every.host_layers == 48
        rates.append(every.tokens_per_s.high)
    grown = distinct_uniform(128, 8, 8) / 8
    assert 1 < rates[1] / rates[0] < 8
    assert rates[1] / rates[0] == pytest.approx(8 / grown, rel=0.15)


@pytest.mark.parametrize("name", MACHINES)
def test_each_layer_more_is_slower_and_the_band_is_a_band(name: str, found: dict[str, Offload]) -> None:
    answer = found[name]
    assert answer.best is not None
    assert answer.best.speed is not None
    rates = [point.tokens_per_s for point in answer.layers]
    assert [point.host_layers for point in answer.layers] == sorted({point.host_layers for point in answer.layers})
    assert all(a.high > b.high and a.value > b.value for a, b in pairwise(rates))
    for rate in (*rates, answer.best.speed.tokens_per_s, answer.best.speed.tokens_per_s_per_user):
        assert rate.low < rate.value < rate.high
    assert any(point.host_layers == answer.best.host_layers and point.fits for point in answer.layers)
    step = answer.best.speed.bound
    assert step.seconds == pytest.approx(step.device_s + step.host_s + step.wait_s)
    assert answer.best.speed.tokens_per_s.high == pytest.approx((answer.workload.concurrency or 1) / step.seconds)


def test_nothing_in_host_memory_is_bound_by_the_card_alone(found: dict[str, Offload]) -> None:
    answer = found["all of it fits"]
    assert answer.best is not None
    assert answer.best.speed is not None
    assert answer.best.host_layers == 0
    assert answer.best.launch is not None
    assert "--n-cpu-moe" not in answer.best.launch
    bandwidth = answer.hardware.memory_bandwidth_bytes_per_s
    assert answer.best.speed.tokens_per_s.high == pytest.approx(
        bandwidth / answer.best.speed.device_read_bytes, rel=1e-6
    )
    assert answer.helps == ()


def test_a_prompt_waits_for_its_experts_once_a_micro_batch() -> None:
    """2,048 tokens, four micro-batches of 512: likely all 128 experts of each layer through a buffer, then what the card reads and
    computes; at best the fewest that were published, 4 x 512^0.46 of them, at the most that such copies give."""
    answer = moeplan.offload(
        "gpt-oss-120b",
        gpu="rtx-5090",
        ram="64GiB",
        host="2ch-ddr5-5600",
        context="8k",
        input=2048,
        skew=0,
        offline=True,
    )
    assert answer.best is not None
    assert answer.best.speed is not None
    first = answer.best.speed.ttft
    assert first is not None
    layer = 128 * (3 * 2880 * 2880 * 4.25 / 8 + 2 * (2 * 2880 + 2880))
    host = answer.best.host_layers * layer
    copies, constants = host_constants()["pageable_copy_bytes_per_s"], host_constants()
    assert first.low_s == pytest.approx(4 * host * 4 * 512**0.46 / 128 / copies.high, rel=0.01)
    # 36 layers of attention, a head, a router, and the layers that are left; 4.19B parameters that a token passes.
    device = (36 - answer.best.host_layers) * layer + 36 * 2880 * (4096 * 2 + 512 * 2) * 2 + 201_088 * 2880 * 2
    bandwidth = answer.hardware.memory_bandwidth_bytes_per_s * constants["device_bandwidth_fraction"].value
    active = 36 * (4 * 3 * 2880 * 2880 + 2880 * (4096 * 2 + 512 * 2))
    computed = 2 * 512 * active / (209.5e12 * constants["device_matrix_fraction"].value)
    assert first.value_s == pytest.approx(4 * (host / copies.value + device / bandwidth + computed), rel=0.01)
    read = {
        each.change.split(":")[0]: each.prompt_tokens_per_s.high for each in answer.helps if each.prompt_tokens_per_s
    }
    now = answer.best.speed.prompt_tokens_per_s
    assert now is not None
    hardware, _ = find_hardware("rtx-5090")
    assert hardware.pcie is not None
    assert read["--no-mmap"] == pytest.approx(now.high * pcie_bytes_per_s(hardware.pcie) / copies.high, rel=0.01)
    assert read["--ubatch-size 2048"] > 2 * now.high


def test_helps_stand_by_what_they_give(found: dict[str, Offload]) -> None:
    answer = found["stored"]
    assert answer.best is not None
    assert answer.best.speed is not None
    gains = [each.tokens_per_s.high for each in answer.helps if each.tokens_per_s is not None]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > answer.best.speed.tokens_per_s.high
    two = moeplan.offload("gpt-oss-120b", gpu="2xrtx-5090", ram="64GiB", context="8k", offline=True, quants=["stored"])
    assert two.best is not None
    assert two.best.speed is not None
    assert gains[0] == pytest.approx(two.best.speed.tokens_per_s.high)


def test_the_next_smaller_format_is_told_with_its_own_bound() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-3090", "ram": "64GiB", "context": "8k", "offline": True}
    answer = moeplan.offload("qwen3-30b-a3b", quants=["q8_0", "q6_k", "q5_k_m"], **asked)
    assert answer.best is not None
    assert answer.best.format == "q8_0"
    (told,) = [each for each in answer.helps if each.change.startswith("a file in")]
    assert "q6_k" in told.change
    smaller = moeplan.offload("qwen3-30b-a3b", quants=["q6_k"], **asked)
    assert smaller.best is not None
    assert smaller.best.speed is not None
    assert told.tokens_per_s == smaller.best.speed.tokens_per_s


# The machine -------------------------------------------------------------------------------------------------------


def test_host_memory_is_said_by_profile_or_bandwidth_and_else_assumed() -> None:
    asked: dict[str, Any] = {"gpu": "rtx-4090", "quants": ["q4_k_m"], "context": "8k", "offline": True}
    named = moeplan.offload("qwen3-30b-a3b", ram="32GiB", host="8ch-ddr5-4800", **asked).host
    stated = moeplan.offload("qwen3-30b-a3b", ram="32GiB", ram_bandwidth="307.2GB/s", **asked).host
    assert named.bandwidth_bytes_per_s == stated.bandwidth_bytes_per_s == 307_200_000_000
    assert (named.basis, stated.basis, named.name) == ("profile", "stated", "cpu-8ch-ddr5-4800")
    desktop, server = (moeplan.offload("qwen3-235b-a22b", ram=ram, **asked) for ram in ("256GiB", "257GiB"))
    assert (desktop.host.bandwidth_bytes_per_s, server.host.bandwidth_bytes_per_s) == (89_600_000_000, 307_200_000_000)
    for answer in (desktop, server):
        assert answer.host.basis == "assumed"
        (note,) = [note for note in answer.notes if note.code == "host-assumed"]
        assert note.severity == "warning"
        assert f"{answer.host.bandwidth_low_bytes_per_s / 1e9:.1f} to" in note.message


def test_a_second_socket_adds_nothing_at_worst_and_as_much_as_was_published_at_best() -> None:
    asked: dict[str, Any] = {
        "gpu": "rtx-4090", "ram": "512GiB", "host": "8ch-ddr5-4800", "quants": ["q4_k_m"], "context": "8k", "offline": True,
    }  # fmt: skip
    one, two = (moeplan.offload("deepseek-r1", sockets=count, **asked) for count in (1, 2))
    assert one.best is not None
    assert two.best is not None
    assert one.best.speed is not None
    assert two.best.speed is not None
    assert two.best.speed.tokens_per_s.low == one.best.speed.tokens_per_s.low
    gain = host_constants()["second_socket_fraction"].high
    assert two.best.speed.bound.host_s == pytest.approx(one.best.speed.bound.host_s / (1 + gain))


def test_what_was_measured_on_the_machine_takes_the_place_of_shares(tmp_path: Path) -> None:
    """A profile of this card with its host's reading and its copies: the bound is what streaming reached, the link is no share."""
    hardware, _ = find_hardware("rtx-4090")
    profile = yaml.safe_load(Path(hardware.path).read_text(encoding="utf-8"))

    def figure(value: float) -> dict[str, Any]:
        return {"value": value, "unit": "bytes/s", "low": value, "high": value, "source": "a test"}

    profile["measured"] = [
        {
            "kind": "profile", "date": "2026-09-01", "tool": "moeplan", "method": "a test", "device": {"name": "RTX 4090"},
            "figures": {"host_read_bytes_per_s": figure(60e9), "host_to_device_pageable_bytes_per_s": figure(9e9)},
        }
    ]  # fmt: skip
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "nvidia-rtx-4090.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    asked: dict[str, Any] = {"ram": "64GiB", "quants": ["q8_0"], "context": "8k", "skew": 0, "offline": True}
    answer = moeplan.offload("qwen3-30b-a3b", gpu="rtx-4090", profiles=tmp_path, **asked)
    assert answer.host.basis == "measured"
    assert answer.best is not None
    assert answer.best.speed is not None
    speed = answer.best.speed
    assert speed.bound.host_s == pytest.approx(speed.host_read_bytes / 60e9, rel=1e-6)
    plain = moeplan.offload("qwen3-30b-a3b", gpu="rtx-4090", ram_bandwidth="60GB/s", **asked)
    assert plain.best is not None
    assert plain.best.speed is not None
    assert plain.best.speed.bound.host_s > speed.bound.host_s
    assert speed.ttft is not None
    # 1,024 tokens are two micro-batches of all experts, whose copies are what was measured.
    host = answer.best.host_layers * 128 * 3 * 2048 * 768 * 8.5 / 8
    assert speed.ttft.low_s == pytest.approx(2 * host / 9e9, rel=0.01)


# Other engines, and placement by frequency -------------------------------------------------------------------------


def test_other_engines_have_the_bound_of_their_own_way(found: dict[str, Offload]) -> None:
    answer = found["stored"]
    ways = {row.way: row for row in answer.others}
    assert set(ways) == {"computed_on_host", "read_over_link", "copied_over_link"}
    for row in answer.others:
        assert row.fits
        assert row.tokens_per_s is not None
        engine_args = row.setting.split()
        if row.way != "computed_on_host":
            fits = moeplan.estimate(
                "gpt-oss-120b", engine=row.engine, engine_args=engine_args, gpu="rtx-5090", context="8k", offline=True
            )
            assert fits.verdict.headroom_bytes is not None
            assert fits.verdict.headroom_bytes >= 0
            less = [engine_args[0], str(int(engine_args[1]) - 1)]
            more = moeplan.estimate(
                "gpt-oss-120b", engine=row.engine, engine_args=less, gpu="rtx-5090", context="8k", offline=True
            )
            assert more.verdict.headroom_bytes is not None
            assert more.verdict.headroom_bytes < 0
    copied, read = ways["copied_over_link"], ways["read_over_link"]
    assert copied.tokens_per_s is not None
    assert read.tokens_per_s is not None
    hardware, _ = find_hardware("rtx-5090")
    assert hardware.pcie is not None
    gib = int(copied.setting.split()[1]) * 2**30
    assert 1 / copied.tokens_per_s.high > gib / pcie_bytes_per_s(hardware.pcie)
    assert read.tokens_per_s.high > copied.tokens_per_s.high


def test_engines_that_need_nothing_in_host_memory_are_no_ways_of_it() -> None:
    answer = moeplan.offload("qwen3-30b-a3b", gpu="h100", ram="64GiB", context="8k", offline=True)
    assert answer.others == ()


def test_the_most_chosen_experts_serve_what_their_counts_say(tmp_path: Path) -> None:
    """Counts that fall from the first expert to the last: the hottest are the first, and serve their share of all counts."""
    counts = tuple(5 * (128 - place) for place in range(128))
    tokens = sum(counts) // 8
    layers = tuple(LayerRouting(number, 128, sum(counts) / tokens, tokens, counts, ()) for number in range(48))
    write_profile(tmp_path / "p.yaml", RoutingProfile("m", None, Provenance(), {"all": layers}))
    answer = moeplan.offload(
        "qwen3-30b-a3b",
        gpu="rtx-3090",
        ram="64GiB",
        quants=["q8_0"],
        context="8k",
        routing=tmp_path / "p.yaml",
        offline=True,
    )
    hot = answer.hot_experts
    assert hot is not None
    assert answer.best is not None
    fraction = (48 - answer.best.host_layers) / 48
    assert hot.experts_per_layer == int(fraction * 128)
    assert hot.here.traffic_layers_fraction == pytest.approx(fraction)
    assert hot.here.traffic_hottest_fraction == pytest.approx(sum(counts[: hot.experts_per_layer]) / sum(counts))
    assert [point.device_fraction for point in hot.curve] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    for point in hot.curve:
        assert point.traffic_hottest_fraction >= point.traffic_any_fraction - 1e-9
    assert hot.curve[0].tokens_per_s_hottest == hot.curve[0].tokens_per_s_any
    # That every layer waits for its slowest expert bends the curve: the last fifth gains most.
    gains = [b.tokens_per_s_any.value - a.tokens_per_s_any.value for a, b in pairwise(hot.curve)]
    assert gains == sorted(gains)
    assert answer.request.skew_basis == "measured"
    assert EVEN.distinct(128, 8, 128, StepTokens(1)) == pytest.approx(8)
