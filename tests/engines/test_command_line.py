"""How a command line is read: spellings, values, keys of objects, programs, variables, secrets, what is not understood."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.errors import InputError
from moeplan.engines import ENGINES, flags_of
from moeplan.engines.command_line import Command, Owner, owners, read_command
from moeplan.engines.command_line.flag import Flag
from moeplan.engines.llamacpp.flags import FLAGS as LLAMACPP
from moeplan.engines.sglang.flags import FLAGS as SGLANG
from moeplan.engines.trtllm.flags import FLAGS as TRTLLM
from moeplan.engines.vllm.flags import FLAGS as VLLM

TABLES: dict[str, tuple[Flag, ...]] = {"vllm": VLLM, "sglang": SGLANG, "trtllm": TRTLLM, "llamacpp": LLAMACPP}


def read(line: str, engine: str = "vllm") -> Command:
    return read_command(TABLES[engine], shlex.split(line))


def told(command: Command, code: str = "flag-unknown") -> list[str]:
    return [note.message for note in command.notes if note.code == code]


def test_the_example_of_the_issue() -> None:
    command = read("--tensor-parallel-size 8 --enable-expert-parallel --max-model-len 32K --kv-cache-dtype fp8")
    assert command.fields == {"tp": 8, "expert_parallel": True, "context_tokens": 32 * 1024, "kv_dtype": "fp8"}
    assert not command.settings
    assert [(note.code, note.severity) for note in command.notes] == [("count-reading", "info")]
    assert "--max-model-len 32K = 32,768" in command.notes[0].message


# Spellings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "--tensor-parallel-size 8",
        "--tensor-parallel-size=8",
        "--tensor_parallel_size 8",
        "--tensor_parallel-size=8",
        "-tp 8",
        "-tp=8",
        "-- --tensor-parallel-size 8",
    ],
)
def test_a_flag_in_every_form(line: str) -> None:
    command = read(line)
    assert command.fields == {"tp": 8}
    assert not command.notes


def test_a_backslash_that_was_to_join_lines_is_no_word() -> None:
    assert read_command(VLLM, ["-tp", "8", "\\", "-pp", "2"]).fields == {"tp": 8, "pp": 2}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("--enable-prefix-caching", True),
        ("--no-enable-prefix-caching", False),
        ("--disable-prefix-caching", False),
        ("--no_enable_prefix_caching", False),
        ("--no-enable-prefix-caching --enable-prefix-caching", True),
    ],
)
def test_switches_and_their_opposites(line: str, value: object) -> None:
    """vLLM 0.33.0 utils/argparse_utils.py, EnableDisableAction."""
    assert read(line).settings == {"--enable-prefix-caching": value}


def test_an_engine_without_opposites_has_none() -> None:
    """SGLang's switches are `store_true`: `--no-enable-dp-attention` is an error there."""
    assert told(read("--no-enable-dp-attention", "sglang"))
    assert read("--no-mm-enable-dp-encoder", "sglang").settings == {"--mm-enable-dp-encoder": False}


@pytest.mark.parametrize("line", ["-O3", "-O 3", "-O=3", "--optimization-level 3"])
def test_the_optimization_level(line: str) -> None:
    assert read(line).settings == {"--optimization-level": 3}


def test_keys_of_the_older_optimization_flag() -> None:
    """Up to vLLM 0.11 `-O.mode=3` was a key of `--compilation-config`."""
    assert read("-O.mode=3").settings == {"--compilation-config": '{"mode":3}'}


def test_the_last_of_several_counts_and_a_note_says_so() -> None:
    command = read("--tensor-parallel-size 4 -tp 8")
    assert command.fields == {"tp": 8}
    assert told(command, "flag-repeated") == ["-tp 8 comes after --tensor-parallel-size 4: engines keep the last one"]
    assert not read("-tp 8 --tensor-parallel-size 8").notes


def test_patterns_of_llama_cpp_gather() -> None:
    command = read('-ot "blk.1=CPU" --override-tensor "exps=CUDA1"', "llamacpp")
    assert command.settings == {"--override-tensor": "blk.1=CPU,exps=CUDA1"}
    assert not command.notes


def test_several_values_stop_at_the_next_flag() -> None:
    command = read("--cudagraph-capture-sizes 1 2 4 -tp 2 --kv-cache-dtype-skip-layers 0 sliding_window")
    assert command.settings == {
        "--cudagraph-capture-sizes": "1,2,4",
        "--kv-cache-dtype-skip-layers": "0,sliding_window",
    }
    assert command.fields == {"tp": 2}


def test_a_value_may_be_left_out_where_the_engine_allows_it() -> None:
    """llama.cpp: until 2025 `-fa` was a switch."""
    assert read("-fa -c 4096", "llamacpp").settings == {"--flash-attn": "on"}
    assert read("-fa off -c 4096", "llamacpp").settings == {"--flash-attn": "off"}


def test_a_preset_stands_for_its_flags() -> None:
    """llama.cpp common/arg.cpp: --gpt-oss-20b-default sets two slots of 131,072 tokens, ubatch 2048, batch 32768."""
    command = read("--gpt-oss-20b-default -np 1", "llamacpp")
    assert command.fields == {"model": "ggml-org/gpt-oss-20b-GGUF", "context_tokens": 2 * 131072, "concurrency": 1}
    assert command.settings["--ubatch-size"] == 2048
    assert command.shown == ("--gpt-oss-20b-default", "-np", "1")


# Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "engine", "tokens"),
    [
        # vLLM 0.33.0 engine/arg_utils.py: k is 1000, K is 1024, decimals with small suffixes alone.
        ("--max-model-len 16k", "vllm", 16_000),
        ("--max-model-len 128K", "vllm", 131_072),
        ("--max-model-len 25.6k", "vllm", 25_600),
        ("--max-model-len 1M", "vllm", 1_048_576),
        # SGLang 0.5.23 utils/common.py: k and M are powers of 1000, Ki and Mi of 1024.
        ("--context-length 16k", "sglang", 16_000),
        ("--context-length 1M", "sglang", 1_000_000),
        ("--context-length 128Ki", "sglang", 131_072),
    ],
)
def test_suffixes_as_each_engine_reads_them(line: str, engine: str, tokens: int) -> None:
    command = read(line, engine)
    assert command.fields == {"context_tokens": tokens}
    assert f"= {tokens:,}" in told(command, "count-reading")[0]


@pytest.mark.parametrize(
    ("line", "engine", "fields"),
    [
        ("--max-model-len auto", "vllm", {"context_tokens": None}),
        ("--max-model-len -1", "vllm", {"context_tokens": None}),
        ("--kv-cache-dtype auto", "vllm", {"kv_dtype": None}),
        ("-c 0 -np -1", "llamacpp", {"context_tokens": None, "concurrency": None}),
    ],
)
def test_what_the_engine_chooses_is_none(line: str, engine: str, fields: dict[str, object]) -> None:
    assert read(line, engine).fields == fields


@pytest.mark.parametrize(
    ("line", "engine", "settings"),
    [
        ("--kv-cache-memory-bytes 25.6g", "vllm", {"--kv-cache-memory-bytes": 25_600_000_000}),
        ("--kv-cache-memory-bytes 24G", "vllm", {"--kv-cache-memory-bytes": 24 * 2**30}),
        ("--cpu-offload-gb 1.5", "vllm", {"--cpu-offload-gb": 3 * 2**29}),  # x 1024**3, offloader/base.py
        ("--swap-space 4", "vllm", {"--swap-space": 4 * 2**30}),
        ("--hicache-size 30", "sglang", {"--hicache-size": 30 * 10**9}),  # x 1e9, mem_cache/pool_host/base.py
        ("-cram 8192", "llamacpp", {"--cache-ram": 8192 * 2**20}),
        ("--chunked-prefill-size -1", "sglang", {"--chunked-prefill-size": -1}),
        ("-ngl all", "llamacpp", {"--gpu-layers": "all"}),
        ("-ngl 99", "llamacpp", {"--gpu-layers": 99}),
        ("-ngl -1", "llamacpp", {"--gpu-layers": -1}),
        ("--mamba-full-memory-ratio 1.2", "sglang", {"--mamba-full-memory-ratio": 1.2}),
    ],
)
def test_sizes_and_numbers(line: str, engine: str, settings: dict[str, object]) -> None:
    assert read(line, engine).settings == settings


@pytest.mark.parametrize(
    ("line", "engine", "named"),
    [
        ("--tensor-parallel-size eight", "vllm", "--tensor-parallel-size 'eight'"),
        ("--tensor-parallel-size=", "vllm", "--tensor-parallel-size"),
        ("--tensor-parallel-size", "vllm", "--tensor-parallel-size"),
        ("-tp --enforce-eager", "vllm", "-tp"),
        ("-tp 0", "vllm", "-tp '0'"),
        ("-tp -2", "vllm", "-tp '-2'"),
        ("-tp 1.5", "vllm", "-tp '1.5'"),
        ("-tp 99999999999999999999", "vllm", "-tp '9999"),
        ("-tp nan", "vllm", "-tp 'nan'"),
        ("--max-model-len -2", "vllm", "--max-model-len '-2'"),
        ("--max-model-len 1.5K", "vllm", "--max-model-len '1.5K'"),
        ("--max-model-len 0", "vllm", "--max-model-len '0'"),
        ("--context-length 32K", "sglang", "--context-length '32K'"),  # neither SI nor IEC: SGLang refuses it
        ("--gpu-memory-utilization 1.2", "vllm", "--gpu-memory-utilization '1.2'"),
        ("--gpu-memory-utilization 0", "vllm", "--gpu-memory-utilization '0'"),
        ("--gpu-memory-utilization -0.5", "vllm", "--gpu-memory-utilization '-0.5'"),
        ("--mem-fraction-static nan", "sglang", "--mem-fraction-static 'nan'"),
        ("--free_gpu_memory_fraction 90%", "trtllm", "--free_gpu_memory_fraction '90%'"),
        ("--swap-space -4", "vllm", "--swap-space '-4'"),
        ("--cpu-offload-gb 10G", "vllm", "--cpu-offload-gb '10G'"),
        ("--kv-cache-memory-bytes 1.5G", "vllm", "--kv-cache-memory-bytes '1.5G'"),
        ("--watermark inf", "vllm", "--watermark 'inf'"),
        ("--speculative-config {method:mtp}", "vllm", "--speculative-config '{method:mtp}'"),
        ("--speculative-config [1]", "vllm", "--speculative-config '[1]'"),
        ("--speculative-config mtp", "vllm", "--speculative-config 'mtp'"),
        ("--spec-tokens few", "vllm", "--spec-tokens 'few'"),
        ("""--eplb-config '{"num_redundant_experts":"many"}'""", "vllm", "num_redundant_experts 'many'"),
        ("VLLM_PP_LAYER_PARTITION=10,x vllm serve m", "vllm", "VLLM_PP_LAYER_PARTITION 'x'"),
        ("--enforce-eager=true", "vllm", "--enforce-eager"),
        ("VLLM_USE_V1=perhaps", "vllm", "VLLM_USE_V1 'perhaps'"),
        ("vllm bench throughput", "vllm", "`vllm bench`"),
    ],
)
def test_a_value_that_is_none_is_named_with_a_way_out(line: str, engine: str, named: str) -> None:
    with pytest.raises(InputError) as caught:
        read(line, engine)
    assert named in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_an_object_as_deep_as_a_well_is_an_input_error() -> None:
    with pytest.raises(InputError, match="--hf-overrides"):
        read_command(VLLM, ["--hf-overrides." + ".".join("a" * 5000), "1"])
    with pytest.raises(InputError, match="--hf-overrides"):
        read_command(VLLM, ["--hf-overrides", '{"a":' * 800 + "1" + "}" * 800])


# Objects ---------------------------------------------------------------------------------------------------------


MTP = '{"method":"mtp","num_speculative_tokens":1}'


@pytest.mark.parametrize(
    "line",
    [
        """--speculative-config '{"method": "mtp", "num_speculative_tokens": 1}'""",
        """--speculative_config='{"method": "mtp", "num_speculative_tokens": "1"}'""",
        """-sc '{"method": "mtp",
                 "num_speculative_tokens": 1}'""",
        "--speculative-config.method mtp --speculative-config.num_speculative_tokens 1",
        "-sc.method=mtp -sc.num_speculative_tokens=1",
        "--spec-method mtp --spec-tokens 1",
        "--spec-method mtp --num-speculative-tokens 1",
    ],
)
def test_an_object_in_every_form(line: str) -> None:
    command = read(line)
    assert command.settings == {"--speculative-config": MTP}
    assert not command.notes


def test_keys_replace_an_object_beside_them_as_in_vllm() -> None:
    command = read(f"--speculative-config.model d --speculative-config '{MTP}'")
    assert command.settings == {"--speculative-config": '{"model":"d"}'}
    assert len(told(command, "flag-repeated")) == 1


@pytest.mark.parametrize(
    "line",
    [
        """--eplb-config '{"num_redundant_experts": 32}'""",
        """--eplb-config '{"num_redundant_experts": "32"}'""",
        "--eplb-config.num_redundant_experts 32",
        "--eplb_config.num_redundant_experts=32",
        "--num-redundant-experts 32",
    ],
)
def test_redundant_experts(line: str) -> None:
    command = read(line)
    assert command.fields == {"redundant_experts": 32}
    assert not command.settings


def test_keys_with_a_flag_of_their_own_are_that_flag() -> None:
    command = read("""--compilation-config '{"cudagraph_capture_sizes": [1, 2, 4], "mode": 3}'
                      --attention-config.backend FLASHINFER --kernel-config '{"moe_backend": "marlin"}'""")
    assert command.settings == {
        "--cudagraph-capture-sizes": "1,2,4",
        "--compilation-config": '{"mode":3}',
        "--attention-backend": "FLASHINFER",
        "--moe-backend": "marlin",
    }


def test_numbers_with_a_suffix_in_an_object() -> None:
    """vLLM 0.33.0 engine/arg_utils.py, _expand_json_human_readable_numbers: outside of quotes alone."""
    command = read("""--kv-transfer-config '{"cpu_bytes_to_use": 80m, "kv_role": "80m"}'""")
    assert command.settings == {"--kv-transfer-config": '{"cpu_bytes_to_use":80000000,"kv_role":"80m"}'}


def test_lists_by_key_and_pairs() -> None:
    """The older `--limit-mm-per-prompt image=2,video=0`, and `key+` of vLLM's parser."""
    assert read("--limit-mm-per-prompt image=2,video=0").settings == {"--limit-mm-per-prompt": '{"image":2,"video":0}'}
    assert read("--hf-overrides.architectures+ A,B --hf-overrides.architectures+ C").settings == {
        "--hf-overrides": '{"architectures":["A","B","C"]}'
    }


# Programs and variables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "engine"),
    [
        ("vllm serve org/M -tp 8", "vllm"),
        ("/opt/venv/bin/vllm serve org/M -tp 8", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server --model org/M -tp 8", "vllm"),
        ("python3.12 -u -m vllm.entrypoints.openai.api_server --model=org/M -tp 8", "vllm"),
        ("uv run vllm serve org/M -tp 8", "vllm"),
        ("exec vllm serve -tp 8 --model org/M", "vllm"),
        ("python3 -m sglang.launch_server --model-path org/M --tp 8", "sglang"),
        ("python3 -m dynamo.sglang --model-path org/M --tp 8", "sglang"),
        ("sglang serve org/M --tp-size 8", "sglang"),
        ("trtllm-serve org/M --tp_size 8", "trtllm"),
        ("trtllm-serve serve org/M --tp_size 8", "trtllm"),
        ("trtllm-llmapi-launch trtllm-serve org/M --tp_size 8", "trtllm"),
    ],
)
def test_programs_are_skipped(line: str, engine: str) -> None:
    command = read(line, engine)
    assert command.fields == {"model": "org/M", "tp": 8}
    assert command.engine == engine
    assert not command.notes


@pytest.mark.parametrize("program", ["llama-server", "./build/bin/llama-server", "llama-server.exe", "llama serve"])
def test_programs_of_llama_cpp(program: str) -> None:
    command = read(f"{program} -hf org/M-GGUF:Q4_K_M -c 32768", "llamacpp")
    assert command.fields == {"model": "org/M-GGUF:Q4_K_M", "context_tokens": 32768}
    assert command.engine == "llamacpp"


def test_flags_alone_name_no_engine() -> None:
    assert read("-tp 8").engine is None
    assert read("vllm -tp 8").fields == {"model": "vllm", "tp": 8}  # a folder of that name


def test_variables_in_front() -> None:
    command = read(
        "VLLM_PP_LAYER_PARTITION=22,23 VLLM_ATTENTION_BACKEND=FLASHMLA CUDA_VISIBLE_DEVICES=0,1 vllm serve m"
    )
    assert command.fields == {"pp_layers": (22, 23), "model": "m"}
    assert command.settings == {"--attention-backend": "FLASHMLA", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert not command.notes


def test_variables_of_llama_cpp_say_what_flags_say() -> None:
    command = read("LLAMA_ARG_CTX_SIZE=8192 LLAMA_ARG_KV_OFFLOAD=0 llama-server -m a.gguf", "llamacpp")
    assert command.fields == {"context_tokens": 8192, "model": "a.gguf"}
    assert command.settings == {"--kv-offload": False}


def test_an_unknown_variable_is_named_without_its_value() -> None:
    command = read("VLLM_SOMETHING_NEW=4711 HF_HUB_OFFLINE=1 vllm serve m")
    assert len(told(command)) == 1
    assert "VLLM_SOMETHING_NEW" in told(command)[0]
    assert "4711" not in told(command)[0]


# What is not understood ------------------------------------------------------------------------------------------


def test_an_unknown_flag_is_named_with_its_value_and_the_nearest_known_one() -> None:
    command = read("--tensor-paralel-size 8 -tp 4")
    assert command.fields == {"tp": 4}
    assert [(note.code, note.severity) for note in command.notes] == [("flag-unknown", "warning")]
    assert told(command)[0].startswith("--tensor-paralel-size 8: ")
    assert told(command)[0].endswith("Did you mean --tensor-parallel-size?")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--brand-new", "--brand-new: "),
        ("--brand-new 3 -tp 2", "--brand-new 3: "),
        ("--brand-new=a=b -tp 2", "--brand-new a=b: "),
        ("--brand-new -tp 2", "--brand-new: "),
        ("--brand-new -5", "--brand-new -5: "),
    ],
)
def test_the_value_of_an_unknown_flag_belongs_to_it(line: str, shown: str) -> None:
    command = read(line)
    assert told(command)[0].startswith(shown)
    assert "model" not in command.fields


def test_abbreviations_are_not_guessed() -> None:
    command = read("--tensor-par 8")
    assert not command.fields
    assert told(command)[0].endswith("Did you mean --tensor-parallel-size?")


def test_words_without_a_place_are_named() -> None:
    command = read("'' ' --port' org/M other --enforce-eager true")
    assert command.fields == {"model": "org/M"}
    assert [message.split(":")[0] for message in told(command)] == ["''", " --port", "other", "true"]


def test_flags_without_effect_on_memory_are_silent() -> None:
    command = read("--host 0.0.0.0 --port 8000 --served-model-name a b --trust-remote-code --disable-log-requests")
    assert command == Command({}, {}, (), None, command.shown)


def test_a_file_of_settings_is_not_read_and_a_note_says_so() -> None:
    for line, engine in (("--config a.yaml", "vllm"), ("--extra_llm_api_options a.yml", "trtllm")):
        command = read(line, engine)
        assert [(note.code, note.severity) for note in command.notes] == [("flag-file", "warning")]
        assert line in command.notes[0].message


# Secrets ---------------------------------------------------------------------------------------------------------

SECRET = "s3cret-Value"


@pytest.mark.parametrize(
    ("line", "engine"),
    [
        (f"--api-key {SECRET} {SECRET}2 --port 1", "vllm"),
        (f"--api_key={SECRET}", "vllm"),
        (f"--hf-token {SECRET}", "vllm"),
        (f"--hf_token={SECRET}", "vllm"),
        (f"--admin-api-key {SECRET}", "sglang"),
        (f"--ssl-keyfile-password {SECRET}", "sglang"),
        (f"-hft x --hf-token {SECRET}", "llamacpp"),
        (f"--api-key {SECRET}", "trtllm"),  # no flag of that engine
        (f"--apikey {SECRET}", "vllm"),
        (f"--wandb-token={SECRET}", "vllm"),
        (f"HF_TOKEN={SECRET} VLLM_API_KEY={SECRET} MY_PASSWORD={SECRET} vllm serve m", "vllm"),
        (f"""--model-loader-extra-config '{{"api_key":"{SECRET}"}}'""", "vllm"),
        ("--brand-new hf_s3cretValue1234", "vllm"),
        ("m sk-s3cretValue1234", "vllm"),
    ],
)
def test_secrets_are_never_shown(line: str, engine: str) -> None:
    command = read(line, engine)
    everything = repr((command.fields, command.settings, command.notes))
    assert "s3cret" not in everything
    if "extra-config" not in line:
        assert "s3cret" not in repr(command.shown)


def test_a_secret_key_of_an_object_is_no_setting() -> None:
    command = read(f"""--kv-transfer-config '{{"kv_connector":"A","extra":{{"token":"{SECRET}","b":1}}}}'""")
    assert command.settings == {"--kv-transfer-config": '{"kv_connector":"A","extra":{"b":1}}'}


def test_what_is_shown_is_what_was_typed() -> None:
    command = read("vllm serve org/M -tp=8 -O3 --api-key abc --max_model_len 32K --hf-token=abc")
    assert command.shown == (
        "org/M", "-tp=8", "-O3", "--api-key", "***", "--max_model_len", "32K", "--hf-token=***",
    )  # fmt: skip


def test_numbers_of_tokens_are_no_secrets() -> None:
    assert read("--max-num-batched-tokens 8192").shown == ("--max-num-batched-tokens", "8192")


# What each word belongs to -----------------------------------------------------------------------------------------


def owned(line: str, engine: str = "vllm") -> list[tuple[str, str, str]]:
    words = shlex.split(line)
    found = owners(TABLES[engine], words)
    assert len(found) == len(words)
    return [(word, owner.part, owner.name) for word, owner in zip(words, found, strict=True)]


def test_every_word_has_an_owner() -> None:
    assert owned("HF_HOME=/m NEW=1 vllm serve org/M -tp 8 --max_model_len=32K --port 80 -O3 --enforce-eager") == [
        ("HF_HOME=/m", "variable", "HF_HOME"),
        ("NEW=1", "variable", "NEW"),
        ("vllm", "program", ""),
        ("serve", "program", ""),
        ("org/M", "model", ""),
        ("-tp", "flag", "--tensor-parallel-size"),
        ("8", "value", "--tensor-parallel-size"),
        ("--max_model_len=32K", "flag", "--max-model-len"),
        ("--port", "flag", "--port"),
        ("80", "value", "--port"),
        ("-O3", "flag", "--optimization-level"),
        ("--enforce-eager", "flag", "--enforce-eager"),
    ]


def test_programs_of_windows() -> None:
    line = r"'C:\apps\llama-server.exe' --port 80 -m 'F:\models\a.gguf'"
    assert [part for _, part, _ in owned(line, "llamacpp")] == ["program", "flag", "value", "flag", "value"]


def test_words_before_a_program() -> None:
    """`env` and `exec` start another program; a variable is one only before it."""
    found = owned("env A=1 exec python3 -m sglang.launch_server --model-path m B=2", "sglang")
    assert [part for _, part, _ in found] == [
        "program", "variable", "program", "program", "program", "program", "flag", "value", "unknown",
    ]  # fmt: skip


def test_what_an_owner_sets_and_whether_it_matters() -> None:
    found = owners(
        VLLM,
        shlex.split(
            "NEW=1 NEW_PORT=$P CUDA_VISIBLE_DEVICES=0 vllm serve $M --max-model-len $LEN --port $PORT --new $X"
        ),
    )
    assert [(owner.field, owner.matters) for owner in found] == [
        (None, True),  # what an unknown variable does is not known
        (None, False),  # a port is none of memory
        (None, True),
        (None, False),
        (None, False),
        ("model", True),
        ("context_tokens", True),
        ("context_tokens", True),
        (None, False),
        (None, False),
        (None, True),
        (None, True),
    ]


def test_only_one_word_is_the_model() -> None:
    assert owned("vllm serve org/M other")[-2:] == [("org/M", "model", ""), ("other", "unknown", "")]
    assert owned("--model org/M other")[-1] == ("other", "unknown", "")
    assert owned("LLAMA_ARG_MODEL=m.gguf other", "llamacpp")[-1] == ("other", "unknown", "")
    assert owned("--gpt-oss-20b-default other", "llamacpp")[-1] == ("other", "unknown", "")
    assert owned("--fim-qwen-1.5b-default --jinja true", "llamacpp")[-1] == ("true", "unknown", "")


def test_keys_of_json_flags_are_owned_by_their_own_row() -> None:
    line = "--speculative-config.method mtp --speculative-config.num_speculative_tokens=2 --hf-overrides.rope.factor 4"
    assert owned(line) == [
        ("--speculative-config.method", "flag", "--speculative-config.method"),
        ("mtp", "value", "--speculative-config.method"),
        ("--speculative-config.num_speculative_tokens=2", "flag", "--speculative-config.num_speculative_tokens"),
        ("--hf-overrides.rope.factor", "flag", "--hf-overrides"),
        ("4", "value", "--hf-overrides"),
    ]
    found = owners(VLLM, ["--eplb-config.num_redundant_experts", "$N"])
    assert [owner.field for owner in found] == ["redundant_experts"] * 2


def test_several_values_and_what_says_nothing() -> None:
    assert owned("--served-model-name a b -- --new x y") == [
        ("--served-model-name", "flag", "--served-model-name"),
        ("a", "value", "--served-model-name"),
        ("b", "value", "--served-model-name"),
        ("--", "program", ""),
        ("--new", "unknown", "--new"),
        ("x", "unknown", "--new"),
        ("y", "model", ""),
    ]


def test_values_are_not_looked_at() -> None:
    with pytest.raises(InputError):
        read("-tp ${TP}")
    assert owned("-tp ${TP}")[1] == ("${TP}", "value", "--tensor-parallel-size")


def test_a_program_that_serves_nothing_owns_nothing() -> None:
    with pytest.raises(InputError, match="serves no model"):
        owners(VLLM, ["vllm", "bench", "latency"])


def test_the_tables_by_name() -> None:
    assert {name: flags_of(name) for name in ENGINES} == {**TABLES, "transformers": ()}


# Whatever comes --------------------------------------------------------------------------------------------------


WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "--",
            "-",
            "=",
            "--=",
            "-O",
            "-O.",
            "-O.a.b",
            "--a.b+",
            "-tp",
            "8",
            "-8",
            "--hf-overrides",
            "{}",
            "-sc.",
            "-sc.+",
        ]
    ),
    st.sampled_from([name for flags in TABLES.values() for flag in flags for name in flag.spellings]),
    st.builds("{}={}".format, st.sampled_from([flag.name for flag in VLLM]), st.text(max_size=6)),
)


@given(st.lists(WORDS, max_size=8), st.sampled_from(sorted(TABLES)))
def test_any_words_are_read_or_refused_in_one_line(words: list[str], engine: str) -> None:
    refused: tuple[str, ...] = ()
    command = Command({}, {}, ())
    try:
        command = read_command(TABLES[engine], words)
    except InputError as error:
        refused = (error.message, error.hint)
    assert all(refused)
    values = [*command.settings.values(), *command.fields.values()]
    assert all(value is None or isinstance(value, str | int | float | bool | tuple) for value in values)


@given(st.lists(WORDS, max_size=8), st.sampled_from(sorted(TABLES)))
def test_any_words_have_one_owner_each_and_the_model_is_the_one_that_is_read(words: list[str], engine: str) -> None:
    found: tuple[Owner, ...] = ()
    try:
        found = owners(TABLES[engine], words)
    except InputError:
        with pytest.raises(InputError):
            read_command(TABLES[engine], words)
        return
    assert len(found) == len(words)
    models = [word for word, owner in zip(words, found, strict=True) if owner.part == "model"]
    assert len(models) <= 1
    try:
        command = read_command(TABLES[engine], words)
    except InputError:
        return
    if models and not any(owner.field == "model" and owner.part != "model" for owner in found):
        assert command.fields["model"] == models[0]


@pytest.mark.parametrize("word", ["$@", "${EXTRA_ARGS}", "$VLLM_OPTS", "${FLAGS[@]}", "$(GPU_FLAG)"])
def test_a_variable_full_of_flags_is_no_model(word: str) -> None:
    assert owned(f"vllm serve {word} org/M")[-2:] == [(word, "unknown", ""), ("org/M", "model", "")]


@pytest.mark.parametrize("word", ["$MODEL", "${MODEL_NAME}", "$1"])
def test_another_variable_may_be_the_model(word: str) -> None:
    assert owned(f"vllm serve {word}")[-1][1] == "model"
