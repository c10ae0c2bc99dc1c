"""Units of systemd, and Quadlet's containers."""

from __future__ import annotations

import pytest

from moeplan.sources.deployments.kinds.systemd_unit import read_text, recognises_text
from moeplan.sources.deployments.stream import Found, Stream
from tests.sources.deployments.reading import line, lines_of, only


def read(text: str, name: str = "units/qwen.service") -> Found:
    return read_text(name, text, Stream(name, ()))


def test_a_service() -> None:
    text = """\
[Unit]
Description=vllm serve something
[Service]
Environment="CUDA_VISIBLE_DEVICES=0,1" 'NAME=a b' LEN=8192
ExecStartPre=/bin/sleep 5
ExecStart=-/opt/venv/bin/vllm serve org/M --max-model-len ${LEN} \\
    # a comment
    --port 80%i --served-model-name %%x
Restart=always
"""
    deployed = only(read(text))
    assert (deployed.kind, deployed.engine, deployed.name) == ("systemd", "vllm", "%x")
    assert line(deployed.command) == (
        "/opt/venv/bin/vllm serve org/M --max-model-len 8192 --port 80%i --served-model-name %x"
    )
    assert lines_of(deployed.command, "org/M", "8192", "80%i") == [6, 6, 8]
    assert deployed.command[0].spot.column == 12
    assert [word.unknown for word in deployed.command if not word.known] == [("%i",)]
    assert deployed.device_ids == ("0", "1")
    assert deployed.variables["NAME"].text == "a b"


def test_a_container_of_quadlet() -> None:
    text = """\
[Container]
Image=docker.io/vllm/vllm-openai:v0.23.0
AddDevice=nvidia.com/gpu=all
Exec=--model org/M --max-model-len 8192
"""
    deployed = only(read(text, "qwen.container"))
    assert (deployed.name, deployed.engine) == ("qwen", "vllm")
    assert line(deployed.command).endswith("--model org/M --max-model-len 8192")
    assert lines_of(deployed.command, "org/M") == [4]
    assert deployed.image is not None
    assert deployed.image.spot.line == 2


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("a.service", "ExecStart=vllm serve m", True),
        ("a.container", "Image=vllm/vllm-openai", True),
        ("a.service", "ExecStart=/bin/true", False),
        ("a.timer", "ExecStart=vllm serve m", False),
    ],
)
def test_which_files_are_one(name: str, text: str, is_one: bool) -> None:
    assert recognises_text(name, text) is is_one
