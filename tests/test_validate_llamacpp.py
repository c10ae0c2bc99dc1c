"""validate with llama.cpp's logs: buffers device by device, the build, and how the model was placed."""

from __future__ import annotations

import pytest

import moeplan
from moeplan.core.errors import UnknownError
from moeplan.validate.result import Comparison, Validation
from tests.sources.engine_logs.test_llamacpp import IK, MAY_2025, SPRING_2026

MIB = 2**20


def validate(log: str, model: str, **asked: object) -> Validation:
    options: dict[str, object] = {"gpu": "h100", "offline": True} | asked
    return moeplan.validate(model, log=log.splitlines(keepends=True), **options)  # type: ignore[arg-type]


def line(found: Validation, label: str, device: str) -> Comparison:
    (one,) = [each for each in found.comparisons if each.label == label and each.device == device]
    return one


def mib(size: float | None) -> float:
    assert size is not None
    return round(size / MIB, 2)


@pytest.fixture(scope="module")
def partly_on_the_card() -> Validation:
    return validate(MAY_2025, "qwen3-30b-a3b", quant="q4_k_m")


def test_weights_on_card_and_host_agree_to_the_last_digit(partly_on_the_card: Validation) -> None:
    # obs-d-018: 30 of 49 layers on the card.
    for device, printed in (("CUDA0", 10750.86), ("CPU_Mapped", 6940.48)):
        found = line(partly_on_the_card, "model buffer", device)
        assert (mib(found.observed), mib(found.predicted)) == (printed, printed)
        assert (found.judged, found.within, found.error) == (True, True, 0)


def test_the_cache_is_where_its_layers_are(partly_on_the_card: Validation) -> None:
    # 4,096 cells x 2 x 4 heads x 128 x 2 B are 8 MiB per layer: 30 layers on the card and 18 on the host.
    for device, layers in (("CUDA0", 30), ("CPU", 18)):
        found = line(partly_on_the_card, "cache", device)
        assert (mib(found.observed), mib(found.predicted), found.within) == (8 * layers, 8 * layers, True)


def test_compute_buffers_of_cards_are_judged_and_small_ones_of_the_host_shown(partly_on_the_card: Validation) -> None:
    # The output stays on the host, and this build multiplies with it on the card.
    compute = line(partly_on_the_card, "compute buffer", "CUDA0")
    assert (mib(compute.observed), mib(compute.predicted), compute.judged) == (544.18, 544.18, True)
    assert not line(partly_on_the_card, "compute buffer", "CUDA_Host").judged
    logits = line(partly_on_the_card, "logits", "CPU")
    assert (logits.judged, mib(logits.predicted)) == (False, 0.58)  # 151,936 x 4 B


def test_the_build_is_the_version(partly_on_the_card: Validation) -> None:
    assert (partly_on_the_card.log.engine_version, partly_on_the_card.engine_version) == ("b5466", "b5466")


def test_the_engine_may_be_called_as_people_call_it() -> None:
    for name in ("llamacpp", "llama.cpp", "ollama"):
        assert validate(MAY_2025, "qwen3-30b-a3b", quant="q4_k_m", engine=name).log.engine == "llamacpp"


def test_eight_cards_agree_one_by_one() -> None:
    # obs-d-009: DeepSeek-R1 on 8 cards; how many layers each took was told by proportions.
    sizes = (35642.36, 52215.3, 51287.7, 52215.3, 52215.3, 51287.7, 46963.85, 43364.99)
    buffers = "".join(
        f"load_tensors:        ROCm{number} model buffer size = {size:8.2f} MiB\n" for number, size in enumerate(sizes)
    )
    log = (
        "llama_model_loader: loaded meta data with 42 key-value pairs and 1025 tensors from /m/x.gguf (version GGUF V3)\n"
        f"load_tensors: offloaded 62/62 layers to GPU\n{buffers}"
        "load_tensors:          CPU model buffer size =   497.11 MiB\n"
        "llama_init_from_model: n_seq_max     = 4\nllama_init_from_model: n_ctx         = 8192\n"
        "llama_init_from_model: n_ubatch      = 512\nllama_init_from_model: flash_attn    = 0\n"
    )
    found = validate(
        log, "deepseek-r1", quant="q4_k_m", gpu="mi250x", engine_args="--tensor-split 8,8,8,8,8,8,7,7"
    )  # fmt: skip
    for number, size in enumerate(sizes):
        each = line(found, "model buffer", f"ROCm{number}")
        assert mib(each.predicted) == size
        assert each.within is True
    assert mib(line(found, "model buffer", "CPU").predicted) == 497.11
    assert found.passed is True


def test_cards_share_layers_by_their_free_memory() -> None:
    # 49 units over 20 and 4 GiB free: bounds at 5/6 and 1, so units 0 to 40 go to the first card, 7 layers and the
    # output to the second.
    head = "".join(
        f"llama_model_load_from_file_impl: using device CUDA{number} (NVIDIA H100 80GB HBM3) - {free} MiB free\n"
        for number, free in enumerate((20480, 4096))
    )
    log = head + (
        "llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from x.gguf (version GGUF V3)\n"
        "load_tensors: offloaded 49/49 layers to GPU\n"
        "load_tensors:        CUDA0 model buffer size =   100.00 MiB\n"
        "load_tensors:        CUDA1 model buffer size =   100.00 MiB\n"
        "llama_context: n_seq_max     = 1\nllama_context: n_ctx         = 4096\n"
        "llama_kv_cache_unified:      CUDA0 KV buffer size =   328.00 MiB\n"
        "llama_kv_cache_unified:      CUDA1 KV buffer size =    56.00 MiB\n"
    )
    found = validate(log, "qwen3-30b-a3b", quant="q4_k_m", gpu=None)
    assert [mib(line(found, "cache", f"CUDA{number}").predicted) for number in (0, 1)] == [8 * 41, 8 * 7]
    assert "--tensor-split 20480,4096" in found.command


def test_another_number_of_cards_than_the_log_shows_is_told() -> None:
    found = validate(MAY_2025, "qwen3-30b-a3b", quant="q4_k_m", gpu="2xh100")
    (note,) = [note for note in found.notes if note.code == "log-other-count"]
    assert note.message.startswith("--gpu names 2 GPUs, and the log has buffers on 1")
    one = validate(MAY_2025, "qwen3-30b-a3b", quant="q4_k_m", gpu="1xh100")
    assert "log-other-count" not in {each.code for each in one.notes}


def test_full_and_window_caches_are_one_line() -> None:
    found = validate(SPRING_2026, "gpt-oss-120b", gpu="mi300x")
    cache = line(found, "cache", "ROCm0")
    # 18 layers of 131,072 cells and 18 of 1,280, two sequences, 8 heads x 64 x 2 x 2 B: 9216 + 90 MiB.
    assert (mib(cache.observed), mib(cache.predicted)) == (9306, 9306)


def test_keys_and_states_of_a_device_are_one_line() -> None:
    log = (
        "llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from x.gguf (version GGUF V3)\n"
        "load_tensors: offloaded 49/49 layers to GPU\n"
        "llama_context: n_seq_max     = 1\nllama_context: n_ctx         = 32768\n"
        "llama_kv_cache:      CUDA0 KV buffer size =   768.00 MiB\n"
        "llama_memory_recurrent:      CUDA0 RS buffer size =    75.38 MiB\n"
    )
    found = validate(log, "qwen3-next-80b-a3b-instruct", quant="q4_k_m")
    cache = line(found, "cache", "CUDA0")
    assert mib(cache.observed) == 843.38
    # Keys: 12 layers x 32,768 x 2 x 2 heads x 256 x 2 B = 768 MiB. States of 36 layers, 32 bit: 32 x 128 x 128 elements,
    # and 3 x (2 x 16 x 128 + 32 x 128) of the convolution: 72 + 3.375 MiB.
    assert mib(cache.predicted) == 843.38


def test_a_mapped_file_is_not_judged_where_some_of_its_tensors_went_elsewhere() -> None:
    log = IK.replace("        CPU buffer size", " CPU_Mapped buffer size")
    found = validate(log, "deepseek-r1", quant="q4_k_m", gpu="mi300x")
    mapped = line(found, "model buffer", "CPU_Mapped")
    assert not mapped.judged
    assert mapped.why_not is not None
    assert "between its tensors" in mapped.why_not
    assert line(validate(IK, "deepseek-r1", quant="q4_k_m", gpu="mi300x"), "model buffer", "CPU").judged


def test_the_cache_of_all_devices_is_a_line_where_no_other_tells_it() -> None:
    whole = "".join(row for row in MAY_2025.splitlines(keepends=True) if " KV buffer size" not in row)
    found = validate(whole, "qwen3-30b-a3b", quant="q4_k_m")
    (cache,) = [each for each in found.comparisons if each.label == "cache"]
    assert (mib(cache.observed), mib(cache.predicted), cache.within) == (384, 384, True)


def test_a_draft_model_is_told_apart() -> None:
    draft = (
        "srv    load_model: creating MTP draft context against the target model '/m/x.gguf'\n"
        "llama_context: n_ctx         = 1024\n"
        "llama_kv_cache:      CUDA0 KV buffer size =    40.00 MiB\n"
    )
    found = validate(MAY_2025 + draft, "qwen3-30b-a3b", quant="q4_k_m")
    (other,) = [each for each in found.comparisons if each.label == "cache (draft)"]
    assert other.predicted is None
    assert other.why_not is not None
    assert mib(line(found, "cache", "CUDA0").observed) == 240


def test_more_layers_than_there_are_mean_all() -> None:
    whole = MAY_2025.replace("offloaded 30/49", "offloaded 49/49")
    for log, layers, contradicts in ((whole, "99", False), (whole, "10", True), (MAY_2025, "20", True)):
        found = validate(log, "qwen3-30b-a3b", quant="q4_k_m", engine_args=["-ngl", layers])
        assert any(note.code == "log-other-flag" for note in found.notes) is contradicts


def test_the_file_of_another_machine_says_what_to_type() -> None:
    with pytest.raises(UnknownError) as unknown:
        moeplan.validate(log=MAY_2025.splitlines(), gpu="h100", offline=True)
    assert "moeplan validate qwen3-30b-a3b --quant q4_k_m --log" in unknown.value.hint


def test_a_card_that_nobody_knows_says_what_to_type() -> None:
    with pytest.raises(UnknownError) as unknown:
        moeplan.validate("qwen3-30b-a3b", log=MAY_2025.splitlines(), offline=True)
    assert "RTX 4070" in unknown.value.message
    assert "--gpu" in unknown.value.hint
