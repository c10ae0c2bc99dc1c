"""Ollama's Modelfiles: FROM and PARAMETER lines as llama.cpp's words."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Spot
from moeplan.engines import flags_of
from moeplan.engines.command_line import read_command
from moeplan.sources.deployments.kinds.modelfile import read_text, recognises_text
from moeplan.sources.deployments.stream import Found, Stream
from tests.sources.deployments.reading import line, lines_of, only

FROM_HUB = '''\
# a model of the Hub
FROM hf.co/org/M-GGUF:Q5_K_S
PARAMETER num_ctx 16384
parameter num_gpu "40"
PARAMETER temperature 0.2
PARAMETER use_mmap false
SYSTEM """
FROM nothing
PARAMETER num_ctx 1
"""
TEMPLATE """{{ .Prompt }}"""
ADAPTER ./a.gguf
PARAMETER stop "<|x|>"
'''


def read(text: str, name: str = "models/Modelfile.mine") -> Found:
    return read_text(name, text, Stream(name, ()))


def test_a_model_of_the_hub() -> None:
    deployed = only(read(FROM_HUB))
    assert (deployed.kind, deployed.name, deployed.engine) == ("ollama.modelfile", "mine", "llamacpp")
    assert deployed.spot == Spot(2)
    expected = "-hf org/M-GGUF:Q5_K_S --lora ./a.gguf --ctx-size 16384 --gpu-layers 40 --no-mmap"
    assert line(deployed.command) == expected
    assert lines_of(deployed.command, "org/M-GGUF:Q5_K_S", "./a.gguf", "16384", "40", "--no-mmap") == [2, 12, 3, 4, 6]
    assert not deployed.remarks


def test_the_words_are_those_of_the_engine() -> None:
    command = read_command(flags_of("llamacpp"), [word.text for word in only(read(FROM_HUB)).command])
    assert command.fields == {"model": "org/M-GGUF:Q5_K_S", "context_tokens": 16384}
    assert command.settings == {"--lora": "./a.gguf", "--gpu-layers": 40, "--no-mmap": True}
    assert not command.notes


@pytest.mark.parametrize("path", ["./a.gguf", "/models/a.gguf", "a-Q4_K_M.gguf", "C:\\a.gguf", "."])
def test_a_file(path: str) -> None:
    assert line(only(read(f"FROM {path}\nPARAMETER num_ctx 8\n")).command) == f"-m {path} --ctx-size 8"


@pytest.mark.parametrize("name", ["qwen3:30b-a3b", "llama3.2", "someone/model:tag"])
def test_a_name_of_ollamas_library_is_no_id(name: str) -> None:
    deployed = only(read(f"FROM {name}\nPARAMETER num_ctx 8\n"))
    assert line(deployed.command) == "--ctx-size 8"
    assert deployed.model is None
    (remark,) = deployed.remarks
    assert (remark.code, remark.spot) == ("ollama-library", Spot(1, 6))
    assert name in remark.message


def test_a_length_that_nobody_stated_is_told() -> None:
    assert [remark.code for remark in only(read("FROM ./a.gguf\n")).remarks] == ["context-not-stated"]


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("Modelfile", "FROM a\n", True),
        ("qwen.Modelfile", "# x\n\nfrom a\n", True),
        ("sub\\Modelfile.a", "FROM a\n", True),
        ("Modelfile", "", False),
        ("Modelfile.md", "# A page\n\nText.\n", False),
        ("qwen.txt", "FROM a\nPARAMETER num_ctx 8\n", True),
        ("Dockerfile", "FROM a\nRUN b\n", False),
        ("a.txt", "FROM a\n", False),
    ],
)
def test_which_files_are_one(name: str, text: str, is_one: bool) -> None:
    assert recognises_text(name, text) is is_one


@pytest.mark.parametrize(
    ("path", "name"), [("Modelfile", "Modelfile"), ("a/Modelfile.b-c", "b-c"), ("a.Modelfile", "a"), ("b.txt", "b.txt")]
)
def test_what_it_is_called(path: str, name: str) -> None:
    assert only(read("FROM ./a.gguf", path)).name == name
