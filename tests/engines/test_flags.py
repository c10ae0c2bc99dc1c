"""The flag tables: spellings are unique and lead to one place, and well-known flags lead where the engines say."""

from __future__ import annotations

import shlex

import pytest

from moeplan.engines.command_line import Command, read_command
from moeplan.engines.command_line.flag import Flag
from moeplan.engines.command_line.names import spelled
from moeplan.engines.llamacpp.flags import FLAGS as LLAMACPP
from moeplan.engines.sglang.flags import FLAGS as SGLANG
from moeplan.engines.trtllm.flags import FLAGS as TRTLLM
from moeplan.engines.trtllm.flags import own_settings
from moeplan.engines.vllm.flags import FLAGS as VLLM

TABLES: dict[str, tuple[Flag, ...]] = {"vllm": VLLM, "sglang": SGLANG, "trtllm": TRTLLM, "llamacpp": LLAMACPP}
VALUES = {
    "switch": "1", "count": "12", "counts": "12,13", "number": "0.5", "fraction": "0.5", "bytes": "3", "text": "abc",
    "json": '{"some": 1}', "file": "a.yaml",
}  # fmt: skip


def reads(engine: str, flag: Flag, name: str) -> tuple[object, ...]:
    """What one spelling of a flag says, its own name taken out of the notes."""
    value = VALUES[flag.kind]
    if not name.startswith("-"):
        words = [f"{name}={value}"]
    elif flag.kind == "switch":
        words = [name]
    else:
        words = [name, value]
    command = read_command(TABLES[engine], words)
    notes = [(note.code, note.message.replace(name, "")) for note in command.notes]
    return dict(command.fields), dict(command.settings), notes


@pytest.mark.parametrize("engine", TABLES)
def test_every_spelling_is_there_once(engine: str) -> None:
    names = [spelled(name) for flag in TABLES[engine] for name in flag.spellings]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("engine", TABLES)
def test_every_spelling_of_a_flag_says_the_same(engine: str) -> None:
    for flag in TABLES[engine]:
        expected = reads(engine, flag, flag.name)
        for name in (flag.name, *flag.aliases):
            if name.endswith("."):  # a prefix of keys
                continue
            assert reads(engine, flag, name) == expected
            if name.startswith("--") and "." not in name:
                assert reads(engine, flag, "--" + name.removeprefix("--").replace("-", "_")) == expected
                assert reads(engine, flag, "--" + name.removeprefix("--").replace("_", "-")) == expected


@pytest.mark.parametrize("engine", TABLES)
def test_a_flag_says_something_if_and_only_if_it_matters(engine: str) -> None:
    for flag in TABLES[engine]:
        assert (reads(engine, flag, flag.name) != ({}, {}, [])) is flag.matters


@pytest.mark.parametrize("engine", TABLES)
def test_opposites_turn_off(engine: str) -> None:
    for flag in TABLES[engine]:
        for name in flag.off:
            command = read_command(TABLES[engine], [name])
            found = [*command.fields.items(), *command.settings.items()]
            assert found == ([(flag.field or flag.name, False)] if flag.matters else [])


def test_a_key_with_a_row_belongs_to_an_object() -> None:
    kinds = {flag.name: flag.kind for flag in VLLM}
    parents = {flag.name.partition(".")[0] for flag in VLLM if "." in flag.name}
    assert {kinds[parent] for parent in parents} == {"json"}


# Where well-known flags lead -------------------------------------------------------------------------------------

WELL_KNOWN = {
    "vllm": """
        --model org/M                              model = org/M
        --revision abc                             revision = abc
        --dtype bfloat16                           dtype = bfloat16
        --quantization fp8                         quantization = fp8
        -q awq                                     quantization = awq
        --max-model-len 32768                      context_tokens = 32768
        --kv-cache-dtype fp8_e4m3                  kv_dtype = fp8_e4m3
        --gpu-memory-utilization 0.95              utilization_fraction = 0.95
        --tensor-parallel-size 8                   tp = 8
        -tp 8                                      tp = 8
        --pipeline-parallel-size 2                 pp = 2
        -pp 2                                      pp = 2
        --data-parallel-size 4                     dp = 4
        -dp 4                                      dp = 4
        --enable-expert-parallel                   expert_parallel = True
        -ep                                        expert_parallel = True
        --decode-context-parallel-size 4           dcp = 4
        -dcp 4                                     dcp = 4
        --nnodes 2                                 num_nodes = 2
        -n 2                                       num_nodes = 2
        --num-redundant-experts 32                 redundant_experts = 32
        --prefill-context-parallel-size 2          --prefill-context-parallel-size = 2
        --max-num-seqs 256                         --max-num-seqs = 256
        --max-num-batched-tokens 8192              --max-num-batched-tokens = 8192
        --enforce-eager                            --enforce-eager = True
        --block-size 64                            --block-size = 64
        --enable-chunked-prefill                   --enable-chunked-prefill = True
        --no-enable-prefix-caching                 --enable-prefix-caching = False
        --disable-hybrid-kv-cache-manager          --disable-hybrid-kv-cache-manager = True
        --no-disable-hybrid-kv-cache-manager       --disable-hybrid-kv-cache-manager = False
        --num-gpu-blocks-override 1000             --num-gpu-blocks-override = 1000
        --enable-eplb                              --enable-eplb = True
        --all2all-backend deepep_low_latency       --all2all-backend = deepep_low_latency
        --enable-dbo                               --enable-dbo = True
        --async-scheduling                         --async-scheduling = True
        --disable-custom-all-reduce                --disable-custom-all-reduce = True
        --enable-lora                              --enable-lora = True
        --max-lora-rank 64                         --max-lora-rank = 64
        --max-loras 4                              --max-loras = 4
        --mm-encoder-tp-mode data                  --mm-encoder-tp-mode = data
        --mamba-ssm-cache-dtype float32            --mamba-ssm-cache-dtype = float32
        --num-lookahead-slots 0                    --num-lookahead-slots = 0
        --runner pooling                           --runner = pooling
        --task generate                            --task = generate
        --load-format dummy                        --load-format = dummy
    """,
    "sglang": """
        --model-path org/M                         model = org/M
        --model org/M                              model = org/M
        --revision abc                             revision = abc
        --dtype float16                            dtype = float16
        --quantization w4afp8                      quantization = w4afp8
        --context-length 65536                     context_tokens = 65536
        --kv-cache-dtype fp8_e4m3                  kv_dtype = fp8_e4m3
        --mem-fraction-static 0.85                 utilization_fraction = 0.85
        --tp-size 16                               tp = 16
        --tensor-parallel-size 16                  tp = 16
        --tp 16                                    tp = 16
        --pp-size 2                                pp = 2
        --pipeline-parallel-size 2                 pp = 2
        --dp-size 8                                dp = 8
        --data-parallel-size 8                     dp = 8
        --dp 8                                     dp = 8
        --enable-dp-attention                      dp_attention = True
        --ep-size 8                                ep = 8
        --expert-parallel-size 8                   ep = 8
        --ep 8                                     ep = 8
        --dcp-size 2                               dcp = 2
        --ep-num-redundant-experts 32              redundant_experts = 32
        --nnodes 2                                 num_nodes = 2
        --moe-dense-tp-size 1                      --moe-dense-tp-size = 1
        --enable-dp-lm-head                        --enable-dp-lm-head = True
        --moe-a2a-backend deepep                   --moe-a2a-backend = deepep
        --deepep-mode low_latency                  --deepep-mode = low_latency
        --enable-eplb                              --enable-eplb = True
        --max-running-requests 128                 --max-running-requests = 128
        --max-total-tokens 65536                   --max-total-tokens = 65536
        --max-prefill-tokens 16384                 --max-prefill-tokens = 16384
        --chunked-prefill-size 8192                --chunked-prefill-size = 8192
        --page-size 64                             --page-size = 64
        --cuda-graph-max-bs 256                    --cuda-graph-max-bs-decode = 256
        --cuda-graph-max-bs-decode 256             --cuda-graph-max-bs-decode = 256
        --disable-cuda-graph                       --disable-cuda-graph = True
        --disable-radix-cache                      --disable-radix-cache = True
        --attention-backend fa3                    --attention-backend = fa3
        --moe-runner-backend flashinfer_trtllm     --moe-runner-backend = flashinfer_trtllm
        --speculative-algorithm EAGLE              --speculative-algorithm = EAGLE
        --speculative-num-steps 3                  --speculative-num-steps = 3
        --speculative-num-draft-tokens 4           --speculative-num-draft-tokens = 4
        --max-mamba-cache-size 82                  --max-mamba-cache-size = 82
        --mamba-ssm-dtype float32                  --mamba-ssm-dtype = float32
        --swa-full-tokens-ratio 0.8                --swa-full-tokens-ratio = 0.8
        --disable-shared-experts-fusion            --disable-shared-experts-fusion = True
    """,
    "trtllm": """
        org/M                                      model = org/M
        --revision abc                             revision = abc
        --hf_revision abc                          revision = abc
        --max_seq_len 8192                         context_tokens = 8192
        --kv_cache_dtype fp8                       kv_dtype = fp8
        --kv_cache_free_gpu_memory_fraction 0.8    utilization_fraction = 0.8
        --free_gpu_memory_fraction 0.8             utilization_fraction = 0.8
        --tp_size 8                                tp = 8
        --tensor_parallel_size 8                   tp = 8
        --pp_size 2                                pp = 2
        --pipeline_parallel_size 2                 pp = 2
        --ep_size 4                                ep = 4
        --moe_expert_parallel_size 4               ep = 4
        --enable_attention_dp                      dp_attention = True
        --max_batch_size 161                       --max_batch_size = 161
        --max_num_tokens 1160                      --max_num_tokens = 1160
        --max_beam_width 1                         --max_beam_width = 1
        --gpus_per_node 8                          --gpus_per_node = 8
        --cp_size 2                                --context_parallel_size = 2
        --cluster_size 1                           --moe_cluster_parallel_size = 1
        --enable_chunked_prefill                   --enable_chunked_prefill = True
        --backend pytorch                          --backend = pytorch
        --kv_cache_config.dtype fp8                kv_dtype = fp8
        --kv_cache_config.free_gpu_memory_fraction 0.8  utilization_fraction = 0.8
        --no-enable_attention_dp                   dp_attention = False
        --moe_tensor_parallel_size 2               --moe_tensor_parallel_size = 2
        --cuda_graph_config null                   --cuda_graph_config = null
        --moe_backend CUTLASS                      --moe_config = {"backend":"CUTLASS"}
        --kv_cache_config.max_tokens 8192          --kv_cache_config = {"max_tokens":8192}
    """,
    "llamacpp": """
        -m a.gguf                                  model = a.gguf
        --model a.gguf                             model = a.gguf
        -hf org/M:Q4_K_M                           model = org/M:Q4_K_M
        --hf-repo org/M                            model = org/M
        -c 16384                                   context_tokens = 16384
        --ctx-size 16384                           context_tokens = 16384
        -np 4                                      concurrency = 4
        --parallel 4                               concurrency = 4
        -ngl 30                                    --gpu-layers = 30
        --n-gpu-layers 30                          --gpu-layers = 30
        --gpu-layers 30                            --gpu-layers = 30
        -cmoe                                      --cpu-moe = True
        -ncmoe 20                                  --n-cpu-moe = 20
        --n-cpu-moe 20                             --n-cpu-moe = 20
        -ot exps=CPU                               --override-tensor = exps=CPU
        -ctk q8_0                                  --cache-type-k = q8_0
        -ctv q4_0                                  --cache-type-v = q4_0
        --cache-type-k f16                         --cache-type-k = f16
        -fa on                                     --flash-attn = on
        -b 4096                                    --batch-size = 4096
        -ub 1024                                   --ubatch-size = 1024
        -ts 3,1                                    --tensor-split = 3,1
        -sm row                                    --split-mode = row
        -mg 1                                      --main-gpu = 1
        -dev CUDA0,CUDA1                           --device = CUDA0,CUDA1
        -fit off                                   --fit = off
        -fitt 2048                                 --fit-target = 2048
        -kvu                                       --kv-unified = True
        -no-kvu                                    --kv-unified = False
        --swa-full                                 --swa-full = True
        -nkvo                                      --kv-offload = False
        --no-kv-offload                            --kv-offload = False
        --no-op-offload                            --op-offload = False
        -nr                                        --repack = False
        --no-mmap                                  --no-mmap = True
        --mmap                                     --no-mmap = False
        --mlock                                    --mlock = True
        -lm dio                                    --load-mode = dio
        --mmproj p.gguf                            --mmproj = p.gguf
        --no-mmproj                                --no-mmproj = True
        --no-mmproj-offload                        --mmproj-offload = False
        -md d.gguf                                 --spec-draft-model = d.gguf
        -ngld 99                                   --spec-draft-ngl = 99
        --cpu-moe-draft                            --spec-draft-cpu-moe = True
        --spec-type draft-mtp                      --spec-type = draft-mtp
        --draft-max 16                             --spec-draft-n-max = 16
        --rpc 10.0.0.2:50052                       --rpc = 10.0.0.2:50052
        -ctxcp 8                                   --ctx-checkpoints = 8
    """,
}
CASES = [
    (engine, line.strip().partition("  ")[0], line.strip().partition("  ")[2].strip())
    for engine, text in WELL_KNOWN.items()
    for line in text.strip().splitlines()
]


@pytest.mark.parametrize(("engine", "line", "leads"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_well_known_flags_lead_where_the_engine_says(engine: str, line: str, leads: str) -> None:
    command = read_command(TABLES[engine], shlex.split(line))
    target, _, value = leads.partition(" = ")
    found = command.settings if target.startswith("-") else command.fields
    assert {name: str(one) for name, one in found.items()} == {target: value}
    assert not command.notes
    assert read_command(TABLES[engine], []) == Command({}, {}, ())


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        # SGLang 0.5.23 arg_groups/parallel_hook.py, handle_deprecated_dp_attention: two ways to say the same.
        ("--tp 8 --dp 8 --enable-dp-attention", {"tp": 8, "dp": 8, "dp_attention": True}),
        ("--tp 8 --attn-dp-size 8", {"tp": 8, "dp": 8, "dp_attention": True}),
        ("--tp 8 --attn-dp-size 1 --dp-size 2", {"tp": 8, "dp": 2}),
        ("SGLANG_PP_LAYER_PARTITION=30,31 sglang serve m --pp 2", {"pp_layers": (30, 31), "model": "m", "pp": 2}),
    ],
)
def test_data_parallel_attention_of_sglang(line: str, fields: dict[str, object]) -> None:
    command = read_command(SGLANG, shlex.split(line))
    assert command.fields == fields
    assert not command.notes


def test_settings_of_a_file_have_the_names_of_their_keys() -> None:
    """TensorRT-LLM llmapi/llm_args.py: keys of KvCacheConfig, MoeConfig, CudaGraphConfig and LlmArgs."""
    line = """--backend pytorch --max_batch_size 64 --kv_cache_config.max_tokens 8192 --kv_cache_config.host_cache_size 1000
        --kv_cache_config.max_attention_window [128,4096] --kv_cache_config.enable_block_reuse false
        --kv_cache_config.dtype null --kv_cache_config.enable_partial_reuse true
        --moe_config.load_balancer.num_slots 288 --speculative_config.decoding_type MTP --enable_lora"""
    command = read_command(TRTLLM, shlex.split(line))
    assert not command.notes
    assert own_settings(command.settings) == {
        "--max_batch_size": 64,
        "kv_cache_config.max_tokens": 8192,
        "kv_cache_config.host_cache_size": 1000,
        "kv_cache_config.max_attention_window": "[128, 4096]",
        "kv_cache_config.enable_block_reuse": False,
        "moe_config.load_balancer": '{"num_slots": 288}',
        "speculative_config": '{"decoding_type":"MTP"}',
        "enable_lora": True,
    }
    old = read_command(TRTLLM, ["--no-use_cuda_graph", "--backend", "tensorrt"])
    assert own_settings(old.settings) == {"--backend": "tensorrt", "cuda_graph_config": "null"}
