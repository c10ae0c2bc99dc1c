"""What vLLM's ranks hold beside weights, by layout and flags: gathered tokens, adapters, drafts, towers, offloading, loading."""

from __future__ import annotations

import pytest

import moeplan
from moeplan.core.ledger import Line
from moeplan.engines import vllm
from moeplan.estimate import Estimate
from moeplan.sources.models import find_model
from tests.engines.serving import ranks, serving, settings

GIB = 2**30


def estimate(name: str, gpu: str, flags: str = "", **asked: object) -> Estimate:
    return moeplan.estimate(name, gpu=gpu, offline=True, engine_args=flags.split(), **asked)  # type: ignore[arg-type]


def lines(name: str, gpu: str, flags: str = "", rank: int = 0, **asked: object) -> dict[str, Line]:
    return {entry.code: entry for entry in estimate(name, gpu, flags, **asked).ranks[rank].lines}


# Data parallelism: every rank's experts see the tokens of all of them -----------------------------------------


def test_experts_scratch_is_of_the_tokens_of_all_data_parallel_ranks() -> None:
    # vLLM 0.33.0: the default all2all gathers (config/parallel.py:220, all2all.py:AgRsAll2AllManager), and the workspace
    # is sized by what it hands over (modular_kernel.py). Qwen3-235B: 8 of 128 experts, h 4096, I 1536, 8192 tokens.
    found = lines("qwen3-235b-a22b", "8xh200", tp=1, dp=8, ep=8)["expert_workspace"]
    assert found.bytes == 8 * 8192 * 8 * (4096 + 4096) * 2 == 8 * GIB
    # Without expert parallelism they are gathered all the same (all2all_utils.py: "Falling back to AllGather").
    assert lines("qwen3-235b-a22b", "8xh200", tp=1, dp=8)["expert_workspace"].bytes == 8 * GIB
    # Two groups of four ranks: the tokens of two.
    assert lines("qwen3-235b-a22b", "8xh200", tp=4, dp=2, ep=8)["expert_workspace"].bytes == 2 * GIB
    assert lines("qwen3-235b-a22b", "8xh200", tp=8, ep=8)["expert_workspace"].bytes == GIB


def test_backends_that_send_tokens_to_their_experts_hold_between_one_ranks_tokens_and_all() -> None:
    found = lines("qwen3-235b-a22b", "8xh200", "--all2all-backend deepep_high_throughput", tp=1, dp=8, ep=8)
    band = found["expert_workspace"]
    assert (band.low_bytes, band.bytes, band.high_bytes) == (GIB, GIB, 8 * GIB)
    # config/parallel.py: `naive` and `pplx` fall back to the default.
    naive = lines("qwen3-235b-a22b", "8xh200", "--all2all-backend naive", tp=1, dp=8, ep=8)
    assert naive["expert_workspace"].bytes == 8 * GIB


def test_gathered_tokens_are_activations_too() -> None:
    # 16 ranks of 8192 tokens beside four streams of 8192, h 7168, 16 bit; one sequence samples little.
    asked = serving(
        find_model("deepseek-v3").spec, gpu="h200", tp=1, dp=16, ep=16, context=128, stated={"--max-num-seqs": 8}
    )
    found = next(e for e in vllm.runtime_lines(asked, settings(asked), ranks(asked)[0]) if e.code == "activations")
    assert found.why.inputs["gathered_elements"] == 8192 * (4 + 16) * 7168
    assert found.bytes >= 2 * 8192 * 20 * 7168


@pytest.mark.parametrize(("version", "flags", "tokens"), [
    ("0.9.2", "", 32_768),  # envs.py of 2025: 32768
    ("0.12.0", "", 16_384),  # envs.py of winter 2025: 16 * 1024
    ("0.12.0", "VLLM_FUSED_MOE_CHUNK_SIZE=4096", 4096),
    ("0.33.0", "", 8 * 8192),  # PR 34086: no chunks
])  # fmt: skip
def test_older_releases_take_experts_in_chunks(version: str, flags: str, tokens: int) -> None:
    stated = dict([flags.split("=")]) if flags else {}
    asked = serving(
        find_model("qwen3-235b-a22b").spec, gpu="h200", version=version, tp=1, dp=8, ep=8,
        stated={name: int(value) for name, value in stated.items()},
    )  # fmt: skip
    of_lines = vllm.runtime_lines(asked, settings(asked), ranks(asked)[0])
    code, name = ("expert_workspace", "rows") if version == "0.33.0" else ("activations", "expert_scratch_bytes")
    told = next(entry for entry in of_lines if entry.code == code).why.inputs[name]
    assert told == tokens * 8 * (1 if name == "rows" else (4096 + 4096) * 2)


def test_deepep_holds_buffers_between_data_parallel_ranks_alone() -> None:
    # fused_moe/config.py:use_all2all_kernels needs dp, pcp or sequence parallelism (which needs dp).
    flags = "--all2all-backend deepep_low_latency"
    assert "deepep_buffers" not in lines("qwen3-235b-a22b", "8xh200", flags, tp=8, ep=8)
    assert lines("qwen3-235b-a22b", "8xh200", flags, tp=1, dp=8, ep=8)["deepep_buffers"].bytes == GIB
    # all2all.py: VLLM_DEEPEP_BUFFER_SIZE_MB x 1024 x 1024.
    stated = f"VLLM_DEEPEP_BUFFER_SIZE_MB=512 vllm serve {flags}"
    assert lines("qwen3-235b-a22b", "8xh200", stated, tp=1, dp=8, ep=8)["deepep_buffers"].bytes == 512 * 2**20


def test_flashinfers_workspace_is_as_stated() -> None:
    stated = "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE=1073741824 vllm serve"
    assert lines("mixtral-8x7b", "b200", stated)["attention_workspace"].bytes == GIB


@pytest.mark.parametrize(
    "flags", ["--max-cudagraph-capture-size 0", '--compilation-config {"cudagraph_capture_sizes":[]}', "-O0"]
)
def test_no_size_to_capture_is_no_graphs(flags: str) -> None:
    found = estimate("qwen3-30b-a3b", "h100", f"{flags} --max-model-len 4096")
    assert "cuda_graphs" not in {entry.code for entry in found.ranks[0].lines}
    assert not [note for note in found.notes if note.code == "flag-not-modelled"]


# Adapters ----------------------------------------------------------------------------------------------------


def test_adapters_have_slots_on_routed_experts_router_and_tables() -> None:
    # lora/utils.py:get_supported_lora_modules adds every MoERunner, lora/layers/fused_moe.py allocates A and B of each
    # expert; qwen3_moe.py:embedding_modules names both tables. Qwen3-30B: 48 layers, 128 experts of 768, h 2048, 32 and 4
    # heads of 128, vocabulary 151,936; 4 slots of rank 64.
    flags = "--enable-lora --max-loras 4 --max-lora-rank 64 --max-model-len 4096"
    found = lines("qwen3-30b-a3b", "h100", flags)["adapter_slots"]
    attention = 48 * (2048 + 4096 + 2 * (2048 + 512) + 4096 + 2048)
    experts, router, tables = 48 * 128 * 3 * (2048 + 768), 48 * (2048 + 128), 2 * (151_936 + 2048)
    per = 4 * 64 * 2
    assert found.low_bytes == per * attention
    assert found.bytes == found.high_bytes == per * (attention + experts + router + tables)
    assert round(per * attention / GIB, 2) == 0.40
    assert round(per * (attention + experts) / GIB, 2) == 25.15


def test_experts_had_no_slots_before_their_kernels_took_adapters() -> None:
    # PR 21229 (October 2025).
    flags = "--enable-lora --max-model-len 4096"
    before = lines("qwen3-30b-a3b", "h100", flags, engine_version="0.11.0")["adapter_slots"]
    after = lines("qwen3-30b-a3b", "h100", flags, engine_version="0.12.0")["adapter_slots"]
    assert before.high_bytes == after.bytes
    assert after.bytes - before.bytes == 16 * 2 * 48 * 128 * 3 * (2048 + 768)


def test_expert_slots_follow_whole_experts() -> None:
    # lora/layers/fused_moe.py: local experts under expert parallelism, width of one rank without.
    flags = "--enable-lora --max-model-len 4096"
    by_width = lines("qwen3-30b-a3b", "2xh100", flags)["adapter_slots"]
    whole = lines("qwen3-30b-a3b", "2xh100", flags, ep=2)["adapter_slots"]
    assert by_width.why.inputs["routed_expert_bytes"] == 16 * 2 * 48 * 128 * 3 * (2048 + 384)
    assert whole.why.inputs["routed_expert_bytes"] == 16 * 2 * 48 * 64 * 3 * (2048 + 768)


# Draft layers and towers -------------------------------------------------------------------------------------


def test_drafts_have_their_own_table_on_the_last_of_several_stages() -> None:
    # llm_base_proposer.py:1424: shared with the model's at one stage alone. 129,280 x 7168 / 8 ranks x 2 B.
    flags = '--max-model-len 4096 --speculative-config {"method":"mtp","num_speculative_tokens":1}'
    first, last = (lines("deepseek-v3", "16xh200", flags, rank, tp=8, pp=2) for rank in (0, 1))
    assert "draft_embedding" not in first
    assert last["draft_embedding"].bytes == 129_280 // 8 * 7168 * 2
    assert round(last["draft_embedding"].bytes / GIB, 3) == 0.216
    assert "draft_embedding" not in lines("deepseek-v3", "16xh200", flags, tp=16)
    assert "draft_embedding" not in lines("deepseek-v3", "16xh200", "--max-model-len 4096", 1, tp=8, pp=2)


def test_towers_are_split_like_layers_unless_asked_to_be_whole() -> None:
    # config/multimodal.py:385; Column- and RowParallelLinear in qwen3_vl.py. 27 layers of 1152 with 4304 and 4608: what is
    # split is 16 heads and widths; patches, positions, norms and biases behind a row split are whole.
    flags = "--max-model-len 4096"
    one, four = (lines("qwen3-vl-30b-a3b-instruct", gpu, flags)["weights.towers"].bytes for gpu in ("h200", "4xh100"))
    block = 3 * 1152 * 1152 + 3 * 1152 + 1152 * 1152 + 4304 * 1152 + 4304 + 1152 * 4304
    merger = 4608 * 4608 + 4608 + 2048 * 4608
    split = 2 * (27 * block + 4 * merger)
    assert one - four == split * 3 // 4
    data = lines("qwen3-vl-30b-a3b-instruct", "4xh100", f"{flags} --mm-encoder-tp-mode data")
    assert data["weights.towers"].bytes == one
    # gemma3_mm.py has no supports_encoder_tp_data: config/model.py falls back.
    ways = ("", "--mm-encoder-tp-mode data")
    gemma = [lines("gemma-3-27b-it", "2xh100", f"{flags} {way}")["weights.towers"].bytes for way in ways]
    assert gemma[0] == gemma[1]


def test_a_language_model_alone_loads_no_towers() -> None:
    flags = "--max-model-len 4096 --language-model-only"
    found = estimate("qwen3-vl-30b-a3b-instruct", "h200", flags)
    of = {entry.code: entry.bytes for entry in found.ranks[0].lines}
    assert of["towers_left_out"] == -of["weights.towers"]
    whole = estimate("qwen3-vl-30b-a3b-instruct", "h200", "--max-model-len 4096")
    assert whole.ranks[0].weights_bytes - found.ranks[0].weights_bytes == of["weights.towers"]


# Offloading and loading --------------------------------------------------------------------------------------


def test_only_layers_are_offloaded_and_host_and_device_agree() -> None:
    # offloader/uva.py wraps what models/utils.py:make_layers builds: tables and final norm stay.
    found = estimate("qwen3-30b-a3b", "rtx-4090", "--cpu-offload-gb 400 --max-model-len 4096")
    gpu, host = found.ranks
    of = {entry.code: entry.bytes for entry in gpu.lines}
    assert gpu.weights_bytes == 2 * (2 * 151_936 * 2048 + 2048)
    on_host = sum(entry.bytes for entry in host.lines if entry.code == "host.offloaded")
    assert on_host == -of["offloaded_weights"]
    assert round(on_host / GIB, 1) == 55.7
    several = estimate("qwen3-30b-a3b", "2xrtx-4090", "--cpu-offload-gb 400 --max-model-len 4096")
    moved = [entry.bytes for entry in several.ranks[0].lines if entry.code == "offloaded_weights"]
    assert sum(e.bytes for e in several.ranks[1].lines if e.code == "host.offloaded") == -2 * moved[0]


@pytest.mark.parametrize(
    ("name", "gpu", "flags"),
    [
        ("gpt-oss-120b", "h100", ""),
        ("qwen3-30b-a3b", "h200", "--enable-lora --max-loras 4 --max-lora-rank 64"),
        ("qwen3-30b-a3b", "rtx-5090", "--cpu-offload-gb 40"),
        ("deepseek-v3", "8xh200", "-ep"),
    ],
)
def test_loading_needs_at_least_what_stays(name: str, gpu: str, flags: str) -> None:
    rank = estimate(name, gpu, f"{flags} --max-model-len 4096").ranks[0]
    assert rank.load_peak_bytes is not None
    assert rank.load_peak_bytes >= rank.weights_bytes


def test_offloaded_layers_were_never_on_the_card() -> None:
    rank = estimate("qwen3-30b-a3b", "rtx-5090", "--cpu-offload-gb 40 --max-model-len 4096").ranks[0]
    one_layer = 128 * 3 * 2048 * 768 * 2
    assert rank.load_peak_bytes == rank.weights_bytes + one_layer
    assert rank.load_peak_bytes < 31 * GIB


def test_padded_experts_are_repacked_padded() -> None:
    rank = estimate("gpt-oss-120b", "a100-80gb", "--moe-backend marlin --max-model-len 4096").ranks[0]
    of = {entry.code: entry.bytes for entry in rank.lines}
    one_layer = (of["weights.routed_experts"] + of["expert_padding"]) // 36
    assert rank.load_peak_bytes == rank.weights_bytes + one_layer
