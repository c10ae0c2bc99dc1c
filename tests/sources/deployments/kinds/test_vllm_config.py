"""vLLM's and SGLang's config files: which files are one, and the words that their keys become."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import PlainSecret, Spot
from moeplan.core.secret_words import HIDDEN
from moeplan.engines import flags_of
from moeplan.engines.command_line import read_command
from moeplan.engines.command_line.names import spelled
from moeplan.sources.deployments.kinds import sglang_config, vllm_config
from tests.sources.deployments.reading import line, lines_of, only, read, recognised

CONFIG = """\
model: org/M
tensor_parallel_size: 4
max-model-len: 16k
no-enable-prefix-caching: true
enable-chunked-prefill: false
enforce-eager: true
served-model-name: [first, second]
speculative-config:
  method: mtp
  num_speculative_tokens: 1
hf-overrides: '{"a": 1}'
max-num-seqs:
"""


def test_keys_become_words_with_their_places() -> None:
    deployed = only(read("vllm_config", CONFIG, "configs/prod.yaml"))
    assert (deployed.kind, deployed.name, deployed.engine) == ("vllm.config", "prod", "vllm")
    assert line(deployed.command) == (
        "--model org/M --tensor_parallel_size 4 --max-model-len 16k --no-enable-prefix-caching "
        "--no-enable-chunked-prefill --enforce-eager --served-model-name first second "
        """--speculative-config {"method":"mtp","num_speculative_tokens":1} --hf-overrides {"a": 1}"""
    )
    assert lines_of(deployed.command, "org/M", "4", "16k", "--enforce-eager", "second") == [1, 2, 3, 6, 7]
    assert lines_of(deployed.command, '{"method":"mtp","num_speculative_tokens":1}') == [9]
    assert [name.text for name in deployed.served_names] == ["first", "second"]


def test_the_words_are_those_of_the_engine() -> None:
    words = [word.text for word in only(read("vllm_config", CONFIG)).command]
    command = read_command(flags_of("vllm"), words)
    assert command.fields == {"model": "org/M", "tp": 4, "context_tokens": 16_000}
    assert command.settings["--enable-prefix-caching"] is False
    assert command.settings["--enable-chunked-prefill"] is False


def test_what_is_no_of_a_no_is_left_out() -> None:
    """vLLM 0.33.0 load_config_file: there is no `--no-no-enable-prefix-caching`."""
    text = "no-enable-prefix-caching: false\nmax-num-seqs: 4\n"
    assert line(only(read("vllm_config", text)).command) == "--max-num-seqs 4"


def test_a_key_of_access_is_told_and_hidden() -> None:
    found = read("vllm_config", "max-num-seqs: 4\nmax-model-len: 8\napi-key: sk-s3cretValue1234\n")
    assert line(only(found).command).endswith(f"--api-key {HIDDEN}")
    assert [(secret.name.lstrip("-"), secret.spot.line) for secret in found.secrets] == [("api-key", 3)]
    assert "s3cret" not in repr(found)


def test_sglang_reads_its_own_in_the_same_way() -> None:
    text = "model-path: org/M\ntp-size: 4\nmem-fraction-static: 0.8\nenable-dp-attention: false\nenable-metrics: true\n"
    deployed = only(read("sglang_config", text, "a.yaml"))
    assert (deployed.kind, deployed.engine) == ("sglang.config", "sglang")
    assert line(deployed.command) == "--model-path org/M --tp-size 4 --mem-fraction-static 0.8 --enable-metrics"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("max-model-len: 8\nmax-num-seqs: 4", "vllm_config"),
        ("max_model_len: 8\ngpu_memory_utilization: 0.9\nhost: a\nport: 80", "vllm_config"),
        ("model: org/M\nport: 80\nmax-model-len: 8", None),  # one of its own alone
        ("max-model-len: 8\nmax-num-seqs: 4\na: 1\nb: 2\nc: 3", None),  # mostly another program's
        ("kind: A\napiVersion: v1\nmax-model-len: 8\nmax-num-seqs: 4", None),
        ("model-path: m\ntensor-parallel-size: 4\nkv-cache-dtype: fp8_e5m2", "sglang_config"),
        ("mem-fraction-static: 0.8\na: 1\nb: 2", None),
        ("- max-model-len", None),
    ],
)
def test_which_files_are_one(text: str, kind: str | None) -> None:
    readers = ("sglang_config", "vllm_config")
    assert next((reader for reader in readers if recognised(reader, text)), None) == kind


def test_names_that_files_are_known_by_are_options() -> None:
    for engine, names in (("vllm", vllm_config.OWN | vllm_config.SHARED), ("sglang", sglang_config.OWN)):
        known = {spelled(name) for flag in flags_of(engine) for name in flag.spellings}
        assert {f"--{name}" for name in names} <= known


def test_places() -> None:
    found = read("vllm_config", "max-model-len: 8\nmax-num-seqs: 4\nhf-token: hf_s3cretValue1234\n")
    assert found.secrets == (PlainSecret(found.secrets[0].name, Spot(3, 11, "hf-token")),)
