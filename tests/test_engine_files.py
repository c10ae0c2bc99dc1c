"""Files of settings that an engine's command line names: what they say, and whether file or flag counts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import moeplan
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.estimate.stated import Stated, engine_of, read_stated

TRTLLM = """\
backend: pytorch
tensor_parallel_size: 2
enable_attention_dp: false
max_seq_len: 4096
kv_cache_config:
  dtype: fp8
  free_gpu_memory_fraction: 0.8
  tokens_per_block: 64
cuda_graph_config: null
"""
VLLM = """\
model: org/File
tensor-parallel-size: 2
max_model_len: 16k
enable-prefix-caching: false
enforce-eager: true
speculative-config: {method: mtp, num_speculative_tokens: 1}
"""


def read(line: str, folder: Path, text: str, *, engine_files: bool = True) -> Stated:
    path = folder / "settings.yaml"
    path.write_text(text)
    words = shlex.split(line.replace("FILE", str(path)))
    return read_stated(engine_of(words) or "vllm", {}, words, engine_files=engine_files)


def notes(stated: Stated, code: str = "flag-file") -> list[Remark]:
    return [note for note in stated.notes if note.code == code]


def test_keys_of_trtllm_are_settings(tmp_path: Path) -> None:
    stated = read("trtllm-serve org/M --config FILE", tmp_path, TRTLLM)
    assert stated.model == "org/M"
    assert stated.values == {"context_tokens": 4096, "kv_dtype": "fp8", "utilization_fraction": 0.8}
    assert (stated.layout.tp, stated.layout.dp_attention) == (2, False)
    assert stated.settings == {"kv_cache_config.tokens_per_block": 64, "cuda_graph_config": "null"}
    assert [note.severity for note in stated.notes] == ["info"]


@pytest.mark.parametrize("flag", ["--config", "--extra_llm_api_options"])
def test_the_file_of_trtllm_counts_before_its_flags(flag: str, tmp_path: Path) -> None:
    """TensorRT-LLM to 1.2, llmapi/llm_args.py, update_llm_args_with_extra_dict: `llm_args | llm_args_dict`."""
    line = f"trtllm-serve org/M {flag}=FILE --tp_size 8 --kv_cache_free_gpu_memory_fraction 0.5"
    stated = read(line, tmp_path, TRTLLM)
    assert stated.layout.tp == 2
    assert stated.values["utilization_fraction"] == 0.8
    assert "to 1.2" in notes(stated)[0].message
    assert len(notes(stated, "flag-repeated")) == 2


def test_flags_of_vllm_count_before_its_file(tmp_path: Path) -> None:
    """vLLM 0.33.0 utils/argparse_utils.py, _pull_args_from_config: the file's words stand before the command's own."""
    stated = read("vllm serve org/Typed --config FILE --tensor-parallel-size 8", tmp_path, VLLM)
    assert stated.model == "org/Typed"
    assert stated.layout.tp == 8
    assert stated.values == {"context_tokens": 16_000}
    assert stated.settings == {
        "--enable-prefix-caching": False,
        "--enforce-eager": True,
        "--speculative-config": '{"method":"mtp","num_speculative_tokens":1}',
    }
    assert [note.message.split(":")[0] for note in notes(stated, "flag-repeated")] == [
        "--tensor-parallel-size 8 comes after --tensor-parallel-size 2"
    ]


def test_the_model_may_stand_in_the_file_alone(tmp_path: Path) -> None:
    assert read("vllm serve --config FILE", tmp_path, VLLM).model == "org/File"
    assert read("vllm serve --model org/Typed --config FILE", tmp_path, VLLM).model == "org/Typed"
    assert read("--config FILE", tmp_path, VLLM).model == "org/File"


def test_switches_of_sglang_have_no_opposites(tmp_path: Path) -> None:
    """SGLang: `false` is left out, for `--no-enable-dp-attention` is no flag of it."""
    text = "model-path: org/M\ntp: 4\nenable-dp-attention: false\nenable-metrics: true\n"
    stated = read("python -m sglang.launch_server --config FILE --tp 2", tmp_path, text)
    assert (stated.model, stated.layout.tp, stated.layout.dp_attention) == ("org/M", 2, None)
    assert not notes(stated, "flag-unknown")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    stated = read("vllm serve m --config other.yaml", tmp_path, VLLM)
    assert stated.layout.tp is None
    assert [(note.severity, "no such file" in note.message) for note in stated.notes] == [("warning", True)]


def test_a_file_in_one_word_is_passed_over_as_vllm_does(tmp_path: Path) -> None:
    stated = read("vllm serve m --config=FILE", tmp_path, VLLM)
    assert stated.layout.tp is None
    assert [note.severity for note in notes(stated)] == ["warning"]


def test_a_command_for_another_machine_opens_nothing(tmp_path: Path) -> None:
    stated = read("vllm serve m --config FILE", tmp_path, VLLM, engine_files=False)
    assert stated.layout.tp is None
    assert "does not read this file" in notes(stated)[0].message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2\n", "line 2: not valid YAML"),
        ("- a\n- b\n", "holds no settings"),
        ("a: b\n" * 300_000, "too long"),
        ("tensor-parallel-size: many\n", "--tensor-parallel-size 'many' is no whole number"),
    ],
)
def test_what_is_no_file_of_settings_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as error:
        read("vllm serve m --config FILE", tmp_path, text)
    assert error.value.hint


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is no text"):
        read_stated("vllm", {}, ["--config", str(tmp_path / "a.yaml")])


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read("vllm serve m --config FILE", tmp_path, "# nothing yet\n").layout.tp is None


def test_an_estimate_heeds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(TRTLLM)
    line = f"trtllm-serve Qwen/Qwen3-30B-A3B --config {path}"
    found = moeplan.estimate(gpu="2xh100", engine_args=line)
    options = {option.flag: (option.value, option.origin) for option in found.layout.options}
    assert options["kv_cache_config.tokens_per_block"] == (64, "stated")
    assert options["cuda_graph_config"] == ("null", "stated")
    assert found.request.context_tokens == 4096
    assert not any(line.code == "cuda_graphs" for rank in found.ranks for line in rank.lines)
    assert not any(note.code in ("flag-not-modelled", "flag-unknown") for note in found.notes)
    elsewhere = moeplan.estimate(gpu="2xh100", engine_args=line, engine_files=False)
    assert [note.severity for note in elsewhere.notes if note.code == "flag-file"] == ["warning"]
