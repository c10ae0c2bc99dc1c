"""llama.cpp's log and its relatives', in the wording of each generation; figures of public observations (`obs-d-NNN`)."""

from __future__ import annotations

import pytest

from moeplan.core.engine_log import EngineLog, Quantity
from moeplan.sources.engine_logs import read_log_lines

MIB = 2**20
GIB = 2**30

# obs-d-018: Qwen3-30B-A3B with 30 of 49 layers on the GPU, build 5466 of May 2025.
MAY_2025 = """\
ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4070, compute capability 8.9, VMM: yes
build: 5466 (d74e94c1) with MSVC for x64
llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 4070) - 11094 MiB free
llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from C:\\models\\Qwen3-30B-A3B-UD-Q4_K_XL.gguf \
(version GGUF V3 (latest))
print_info: file size   = 17.28 GiB (4.86 BPW)
print_info: general.name     = Qwen3-30B-A3B
load_tensors: offloading 30 repeating layers to GPU
load_tensors: offloaded 30/49 layers to GPU
load_tensors:        CUDA0 model buffer size = 10750.86 MiB
load_tensors:   CPU_Mapped model buffer size =  6940.48 MiB
llama_context: constructing llama_context
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 4096
llama_context: n_ctx_per_seq = 4096
llama_context: n_batch       = 2048
llama_context: n_ubatch      = 512
llama_context: causal_attn   = 1
llama_context: flash_attn    = 0
llama_context: n_ctx_per_seq (4096) < n_ctx_train (40960) -- the full capacity of the model will not be utilized
llama_context:        CPU  output buffer size =     0.58 MiB
llama_kv_cache_unified:      CUDA0 KV buffer size =   240.00 MiB
llama_kv_cache_unified:        CPU KV buffer size =   144.00 MiB
llama_kv_cache_unified: size =  384.00 MiB (  4096 cells,  48 layers,  1 seqs), K (f16):  192.00 MiB, V (f16):  192.00 MiB
llama_context:      CUDA0 compute buffer size =   544.18 MiB
llama_context:  CUDA_Host compute buffer size =    12.01 MiB
main: server is listening on http://127.0.0.1:8080 - starting the main loop
"""


def read(text: str) -> EngineLog:
    return read_log_lines(text.splitlines(keepends=True), "llama.log")


def by_device(log: EngineLog, quantity: Quantity, part: str | None = None) -> dict[str | None, float]:
    """In MiB."""
    return {
        reading.device: reading.value / MIB
        for reading in log.told(quantity)
        if reading.part == part
    }  # fmt: skip


def one(log: EngineLog, quantity: Quantity, part: str | None = None) -> float:
    (value,) = [reading.value for reading in log.told(quantity) if reading.part == part]
    return value


def near(**mib: float) -> object:
    """Sizes in MiB, to the byte that rounding leaves."""
    return pytest.approx(mib, abs=1 / MIB)


def test_every_figure_of_a_log_of_may_2025() -> None:
    log = read(MAY_2025)
    assert (log.engine, log.version, log.model) == ("llamacpp", "b5466", "C:\\models\\Qwen3-30B-A3B-UD-Q4_K_XL.gguf")
    assert by_device(log, "model_buffer_bytes") == near(CUDA0=10750.86, CPU_Mapped=6940.48)
    assert by_device(log, "kv_buffer_bytes") == near(CUDA0=240.0, CPU=144.0)
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=544.18, CUDA_Host=12.01)
    assert by_device(log, "output_buffer_bytes") == near(CPU=0.58)
    assert by_device(log, "free_before_load_bytes") == near(CUDA0=11094)
    assert one(log, "kv_bytes") == 384 * MIB
    assert one(log, "kv_key_bytes") == 192 * MIB
    assert one(log, "kv_value_bytes") == 192 * MIB
    assert one(log, "kv_cells") == 4096
    assert one(log, "offloaded_layers") == 30
    assert one(log, "model_file_bytes") == round(17.28 * GIB)
    assert log.gpu_name == "NVIDIA GeForce RTX 4070"
    assert log.started is True
    assert log.notes == ()
    assert log.told("model_buffer_bytes")[0].resolution == pytest.approx(MIB / 100)
    assert log.told("model_buffer_bytes")[0].line_number == 10


def test_arguments_are_what_the_context_was_made_with() -> None:
    assert read(MAY_2025).arguments == {
        "--parallel": 1,
        "--ctx-size": 4096,
        "--batch-size": 2048,
        "--ubatch-size": 512,
        "--flash-attn": "off",
        "--gpu-layers": 30,
        "--cache-type-k": "f16",
        "--cache-type-v": "f16",
    }


# obs-d-013: gpt-oss-120b, 2 sequences of 131072 tokens; wording of 2026 with its time stamps and colours.
SPRING_2026 = """\
\x1b[34m0.00.100.000\x1b[0m \x1b[32mI \x1b[0mggml_cuda_init: found 2 ROCm devices (Total VRAM: 131072 MiB):
  Device 0: AMD Radeon 8060S, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 98304 MiB
  Device 1: AMD Radeon 8060S, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 32768 MiB
0.00.200.000 I llama_prepare_model_devices: using device ROCm0 (AMD Radeon 8060S) (0000:c5:00.0) - 98000 MiB free
0.00.300.000 I llama_model_loader: loaded meta data with 35 key-value pairs and 687 tensors from \
/m/gpt-oss-120b-mxfp4-00001-of-00002.gguf (version GGUF V3 (latest))
0.01.000.000 I load_tensors: offloaded 37/37 layers to GPU
0.01.000.000 I load_tensors:        ROCm0 model buffer size = 30000.25 MiB
0.01.000.000 I load_tensors:        ROCm0 model buffer size = 29000.50 MiB
0.02.000.000 I llama_context: n_seq_max             = 2
0.02.000.000 I llama_context: n_ctx                 = 262144
0.02.000.000 I llama_context: n_ctx_seq             = 131072
0.02.000.000 I llama_context: n_ubatch              = 1024
0.02.000.000 I llama_context: flash_attn            = enabled
0.02.000.000 I llama_context: kv_unified            = false
0.02.000.000 I llama_context:  ROCm_Host  output buffer size =     1.53 MiB
0.02.000.000 I llama_kv_cache_iswa: creating non-SWA KV cache, size = 131072 cells
0.02.000.000 I llama_kv_cache:      ROCm0 KV buffer size =  9216.00 MiB
0.02.000.000 I llama_kv_cache: size = 9216.00 MiB (131072 cells,  18 layers,  2/2 seqs), K (f16): 4608.00 MiB, V (f16): 4608.00 MiB
0.02.000.000 I llama_kv_cache_iswa: creating     SWA KV cache, size = 1280 cells
0.02.000.000 I llama_kv_cache:      ROCm0 KV buffer size =    90.00 MiB
0.02.000.000 I llama_kv_cache: size =   90.00 MiB (  1280 cells,  18 layers,  2/2 seqs), K (f16):   45.00 MiB, V (f16):   45.00 MiB
0.03.000.000 I sched_reserve:      ROCm0 compute buffer size =   404.12 MiB
0.03.000.000 I sched_reserve:  ROCm_Host compute buffer size =   263.15 MiB
0.04.000.000 I srv  llama_server: model loaded
"""


def test_full_and_window_caches_of_2026() -> None:
    log = read(SPRING_2026)
    assert by_device(log, "kv_buffer_bytes", "full") == near(ROCm0=9216.0)
    assert by_device(log, "kv_buffer_bytes", "window") == near(ROCm0=90.0)
    assert one(log, "kv_cells", "full") == 131_072
    assert one(log, "kv_cells", "window") == 1280
    assert one(log, "kv_bytes", "window") == 90 * MIB
    assert by_device(log, "compute_buffer_bytes") == near(ROCm0=404.12, ROCm_Host=263.15)
    assert by_device(log, "total_memory_bytes") == near(ROCm0=98304, ROCm1=32768)
    assert log.arguments["--kv-unified"] is False
    assert log.arguments["--flash-attn"] == "on"
    assert log.started is True
    assert log.notes == ()


def test_buffers_of_one_device_add_up() -> None:
    (buffer,) = read(SPRING_2026).told("model_buffer_bytes")
    assert buffer.value == pytest.approx(59000.75 * MIB, abs=1)
    assert buffer.resolution == pytest.approx(2 * MIB / 100)  # two figures, each rounded


# obs-d-008: DeepSeek-R1 under ik_llama.cpp, March to May 2025: other words, and a latent cache.
IK = """\
llama_model_loader: loaded meta data with 52 key-value pairs and 1147 tensors from /m/R1-00001-of-00010.gguf (version GGUF V3 (latest))
llm_load_print_meta: model size       = 402.0 GiB (5.14 BPW)
Tensor blk.3.ffn_gate_exps.weight buffer type overriden to CPU
Tensor blk.3.ffn_down_exps.weight buffer type overriden to CPU
Tensor blk.60.ffn_up_exps.weight buffer type overriden to CPU
Tensor blk.60.ffn_norm.weight buffer type overriden to CUDA1
llm_load_tensors: offloaded 62/62 layers to GPU
llm_load_tensors:        CPU buffer size = 392428.85 MiB
llm_load_tensors:        CPU buffer size =   938.98 MiB
llm_load_tensors:      CUDA0 buffer size = 17744.02 MiB
llama_new_context_with_model: n_ctx      = 32768
llama_new_context_with_model: n_batch    = 1024
llama_new_context_with_model: n_ubatch   = 1024
llama_new_context_with_model: flash_attn = 1
llama_new_context_with_model: mla_attn   = 3
llama_kv_cache_init:      CUDA0 KV buffer size =  1166.65 MiB
llama_new_context_with_model: KV self size  = 1166.62 MiB, c^KV (q8_0): 1166.62 MiB, kv^T: not used
llama_new_context_with_model:  CUDA_Host  output buffer size =     0.99 MiB
llama_new_context_with_model:      CUDA0 compute buffer size =  3650.00 MiB
llama_new_context_with_model:  CUDA_Host compute buffer size =   352.01 MiB
INFO [                    main] model loaded | tid="136521606795264" timestamp=1748008022
"""


def test_the_words_of_ik_llama() -> None:
    log = read(IK)
    # obs-d-008 gives the sum for the host: 393367.83
    assert by_device(log, "model_buffer_bytes") == near(CPU=393367.83, CUDA0=17744.02)
    assert by_device(log, "kv_buffer_bytes") == near(CUDA0=1166.65)
    assert one(log, "kv_bytes") == round(1166.62 * MIB)
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=3650.0, CUDA_Host=352.01)
    assert log.arguments == {
        "--gpu-layers": "all",
        "--ctx-size": 32768,
        "--batch-size": 1024,
        "--ubatch-size": 1024,
        "--flash-attn": "on",
        "--cache-type-k": "q8_0",
        "--cache-type-v": "q8_0",
        # the tensors that went to the host, and no others: of layer 60 the norm went to a card
        "--override-tensor": r"blk\.(3)\.ffn_gate_exps\.=CPU,blk\.(3)\.ffn_down_exps\.=CPU,blk\.(60)\.ffn_up_exps\.=CPU",
    }
    (note,) = log.notes
    assert note.code == "log-experts-on-host"
    assert "2 layers, from 3 to 60" in note.message
    assert log.started is True


def test_grouped_cache_of_ik_llama_tells_keys_and_values() -> None:
    # obs-d-014
    log = read(
        "llama_kv_cache_init:      CUDA0 KV buffer size =  3196.00 MiB\n"
        "llama_new_context_with_model: KV self size  = 3196.00 MiB, K (q8_0): 1598.00 MiB, V (q8_0): 1598.00 MiB\n"
    )
    assert one(log, "kv_bytes") == 3196 * MIB
    assert one(log, "kv_key_bytes") == 1598 * MIB
    assert one(log, "kv_value_bytes") == 1598 * MIB


def test_recurrent_state() -> None:
    log = read(
        "llama_kv_cache:        CPU KV buffer size =  4608.00 MiB\n"
        "llama_kv_cache:      CUDA0 KV buffer size =  3584.00 MiB\n"
        "llama_kv_cache: size = 8192.00 MiB (131072 cells,  16 layers,  1/1 seqs), K (f16): 4096.00 MiB, V (f16): 4096.00 MiB\n"
        "llama_memory_recurrent:        CPU RS buffer size =    93.52 MiB\n"
        "llama_memory_recurrent:      CUDA0 RS buffer size =    56.11 MiB\n"
        "llama_memory_recurrent: size =  149.62 MiB (     4 cells,  64 layers,  4 seqs  2 rs_seq), R (f32):    5.62 MiB, "
        "S (f32):  144.00 MiB, P (f32):    0.00 MiB\n"
    )
    assert by_device(log, "kv_buffer_bytes") == near(CPU=4608.0, CUDA0=3584.0)
    assert by_device(log, "recurrent_buffer_bytes") == near(CPU=93.52, CUDA0=56.11)
    assert one(log, "conv_state_bytes") == round(5.62 * MIB)
    assert one(log, "ssm_state_bytes") == 144 * MIB
    assert one(log, "state_slots") == 4


def test_a_second_cache_without_a_name_is_not_taken_for_the_first() -> None:
    # Terse logs (-lv 4) leave the lines out that name the caches.
    log = read(
        "llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB\n"
        "llama_kv_cache:      CUDA0 KV buffer size =    12.00 MiB\n"
    )
    assert [(reading.part, reading.value / MIB) for reading in log.readings] == [(None, 512), ("cache 2", 12)]


def test_a_benchmark_makes_several_contexts_and_the_last_is_read() -> None:
    contexts = "".join(
        f"llama_context: n_ctx         = {tokens}\n"
        f"llama_kv_cache:      CUDA0 KV buffer size =  {size}.00 MiB\n"
        f"llama_context:      CUDA0 compute buffer size =  {size}.00 MiB\n"
        for tokens, size in ((512, 100), (4096, 200))
    )
    log = read(contexts)
    assert by_device(log, "kv_buffer_bytes") == near(CUDA0=200)
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=200)
    assert log.arguments["--ctx-size"] == 4096


@pytest.mark.parametrize(
    "announced",
    [
        (
            'INFO [              load_model] loading draft model | tid="1" timestamp=1 model="/m/draft.gguf"\n'
            "llama_model_loader: loaded meta data with 30 key-value pairs and 291 tensors from /m/draft.gguf (version GGUF V3)\n"
            "load_tensors:        CUDA0 model buffer size =   500.00 MiB\n"
        ),
        "srv    load_model: creating MTP draft context against the target model '/m/x.gguf'\n",
    ],
    ids=["model", "context"],
)
def test_a_draft_is_a_part_of_its_own(announced: str) -> None:
    log = read(
        MAY_2025 + announced + "llama_context: n_ctx         = 1024\n"
        "llama_kv_cache:      CUDA0 KV buffer size =    40.00 MiB\n"
        "llama_context:      CUDA0 compute buffer size =    30.00 MiB\n"
    )
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=544.18, CUDA_Host=12.01)
    assert by_device(log, "kv_buffer_bytes", "draft") == near(CUDA0=40)
    assert by_device(log, "compute_buffer_bytes", "draft") == near(CUDA0=30)
    assert log.arguments["--ctx-size"] == 4096
    assert log.model == "C:\\models\\Qwen3-30B-A3B-UD-Q4_K_XL.gguf"
    assert "log-restarts" not in {note.code for note in log.notes}


def test_a_vision_tower_is_a_part_of_its_own() -> None:
    log = read(MAY_2025 + "reserve_compute_meta:      CUDA0 compute buffer size =   248.10 MiB\n")
    assert by_device(log, "compute_buffer_bytes", "vision") == near(CUDA0=248.10)
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=544.18, CUDA_Host=12.01)


OLLAMA = """\
time=2026-05-05T01:30:33.795+08:00 level=INFO source=server.go:432 msg="starting runner" cmd="/usr/bin/ollama runner --model \
/root/.ollama/models/blobs/sha256-60e05f2100071479 --port 44344"
time=2026-05-05T01:30:33.796+08:00 level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="18.5 GiB"
time=2026-05-05T01:30:33.796+08:00 level=INFO source=device.go:245 msg="model weights" device=CPU size="11.7 GiB"
time=2026-05-05T01:30:33.796+08:00 level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="1.9 GiB"
time=2026-05-05T01:30:33.796+08:00 level=INFO source=device.go:262 msg="compute graph" device=CUDA0 size="190.5 MiB"
time=2026-05-05T01:30:33.796+08:00 level=INFO source=device.go:272 msg="total memory" size="33.5 GiB"
"""


def test_ollamas_own_engine() -> None:
    log = read(
        OLLAMA
        + 'time=2026-05-05T01:30:40 level=INFO source=server.go:1388 msg="llama runner started in 9.49 seconds"\n'
    )
    assert by_device(log, "model_buffer_bytes") == near(CUDA0=18.5 * 1024, CPU=11.7 * 1024)
    assert by_device(log, "kv_buffer_bytes") == near(CUDA0=1.9 * 1024)
    assert by_device(log, "compute_buffer_bytes") == near(CUDA0=190.5)
    assert log.told("model_buffer_bytes")[0].resolution == pytest.approx(GIB / 10)
    assert log.started is True


def test_where_llama_cpp_runs_below_ollama_its_buffers_stand_above_the_forecast() -> None:
    log = read(
        OLLAMA + MAY_2025.replace("C:\\models\\Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "/root/.ollama/models/blobs/sha256-60e0")
    )
    assert by_device(log, "model_buffer_bytes") == near(CUDA0=10750.86, CPU_Mapped=6940.48)
    assert log.model == "Qwen3-30B-A3B"  # a blob has no name of its own
    assert log.notes == ()


def test_a_failed_allocation_is_a_start_that_failed() -> None:
    # obs-d-014: the request that failed there
    log = read(
        IK.replace(IK.splitlines()[-1], "")
        + "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 360757.13 MiB on device 0: cudaMalloc failed: out of memory\n"
    )
    assert log.started is False
    assert log.failure is not None
    assert (log.failure.kind, log.failure.line_number) == ("memory", 22)


def test_a_failure_without_a_figure_is_a_log_and_its_reason_the_one_that_says_most() -> None:
    # The words of b11312: ggml-cuda.cu, ggml-alloc.c, llama-model.cpp, llama.cpp.
    log = read(
        "llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from /m/x.gguf (version GGUF V3)\n"
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 17000.00 MiB on device 0: cudaMalloc failed: out of memory\n"
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 17825792000\n"
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
        "llama_model_load_from_file_impl: failed to load model\n"
    )
    assert (log.readings, log.started, log.complete) == ((), False, True)
    assert log.failure is not None
    assert (log.failure.kind, log.failure.line_number) == ("memory", 2)
    assert "cudaMalloc failed" in log.failure.text


def test_a_try_that_failed_before_the_start_came_up_is_no_failure() -> None:
    retried = MAY_2025.replace(
        "main: server is", "graph_reserve: failed to allocate compute buffers\nmain: server is"
    )  # fmt: skip
    log = read(retried)
    assert (log.started, log.failure) == (True, None)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("build: 5466 (d74e94c1) with MSVC for x64", "b5466"),
        ("0.00.100.000 I version: 0.3.1 (build 11312, commit d74e94c1)", "b11312"),
        ("build: d74e94c1 (5466)", "b5466"),  # llama-bench
        ("main: build_info: b6895-d74e94c1", "b6895"),
        (
            'INFO [ main] build info | tid="1" timestamp=1 build=3700 commit="d74e94c1"',
            None,
        ),  # ik_llama.cpp's own count
        ("build: 0 (unknown) with cc", None),
    ],
)
def test_builds(line: str, version: str | None) -> None:
    assert read(f"{line}\n" + MAY_2025.replace("build: 5466 (d74e94c1) with MSVC for x64\n", "")).version == version


def test_the_share_of_each_card_is_that_of_its_free_memory() -> None:
    def using(number: int, free: int) -> str:
        return f"llama_model_load_from_file_impl: using device CUDA{number} (NVIDIA H100) - {free} MiB free\n"

    def holds(number: int) -> str:
        return f"load_tensors:        CUDA{number} model buffer size =   100.00 MiB\n"

    two = read(using(0, 20480) + using(1, 4096) + holds(0) + holds(1))
    assert two.arguments == {"--tensor-split": "20480,4096"}
    one_of_two = read(using(0, 20480) + using(1, 4096) + holds(0))
    assert one_of_two.arguments == {}


def test_a_server_that_listens_has_not_loaded_yet() -> None:
    head = "main: HTTP server is listening, hostname: 127.0.0.1, port: 8080, http threads: 15\nmain: loading model\n"
    log = read(head + "".join(MAY_2025.splitlines(keepends=True)[:-1]))
    assert log.started is None
    assert log.complete
    assert log.notes == ()


def test_of_several_loads_the_last_is_read() -> None:
    log = read(IK + MAY_2025)
    assert by_device(log, "model_buffer_bytes") == near(CUDA0=10750.86, CPU_Mapped=6940.48)
    assert [note.code for note in log.notes] == ["log-restarts"]
