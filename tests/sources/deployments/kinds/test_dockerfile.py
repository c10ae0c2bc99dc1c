"""Dockerfiles: the last ENTRYPOINT and CMD of the last stage, in both forms."""

from __future__ import annotations

import pytest

from moeplan.sources.deployments.kinds.dockerfile import read_text, recognises_text
from moeplan.sources.deployments.stream import Found, Stream
from tests.sources.deployments.reading import line, lines_of, only


def read(text: str, name: str = "Dockerfile.prod") -> Found:
    return read_text(name, text, Stream(name, ()))


def test_arguments_of_the_engines_own_image() -> None:
    text = """\
# syntax=docker/dockerfile:1
ARG VERSION=v0.23.0
FROM vllm/vllm-openai:${VERSION}
ENV MODEL=org/M VLLM_USE_V1="1"
CMD ["--model", "org/M", \\
     # how long
     "--max-model-len", "8192"]
"""
    deployed = only(read(text))
    assert (deployed.kind, deployed.name, deployed.engine) == ("dockerfile", "prod", "vllm")
    assert deployed.engine_version is not None
    assert deployed.engine_version.text.removeprefix("v") == "0.23.0"
    assert line(deployed.command).endswith("--model org/M --max-model-len 8192")
    assert lines_of(deployed.command, "org/M", "--max-model-len", "8192") == [5, 7, 7]
    assert deployed.variables["VLLM_USE_V1"].text == "1"


def test_an_entrypoint_and_what_is_handed_to_it() -> None:
    text = """\
FROM python:3.12 AS base
ENV TP 2
ENTRYPOINT ["python", "-m"]
FROM base
CMD ["nothing"]
ENTRYPOINT ["vllm", "serve"]
CMD ["org/M"]
CMD ["org/N", "-tp", "2"]
"""
    deployed = only(read(text))
    assert line(deployed.command) == "vllm serve org/N -tp 2"
    assert lines_of(deployed.command, "vllm", "org/N") == [6, 8]
    assert deployed.variables["TP"].text == "2"


def test_the_form_of_a_shell() -> None:
    text = """\
FROM ubuntu
ENV MODEL=org/M LEN=4096
CMD exec vllm serve $MODEL \\
    --max-model-len ${LEN}
"""
    deployed = only(read(text))
    assert line(deployed.command).endswith("vllm serve org/M --max-model-len 4096")
    assert lines_of(deployed.command, "4096") == [4]


def test_only_the_last_stage_runs() -> None:
    assert not read('FROM ubuntu AS a\nCMD ["vllm", "serve", "m"]\nFROM alpine\nCMD ["true"]\n').deployments


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("Dockerfile", True),
        ("a/Dockerfile.gpu", True),
        ("x.dockerfile", True),
        ("Containerfile", True),
        ("a.sh", False),
    ],
)
def test_which_files_are_one(name: str, is_one: bool) -> None:
    assert recognises_text(name, "FROM a\nCMD vllm serve m") is is_one
    assert not recognises_text(name, "FROM a\nCMD true")


@pytest.mark.parametrize("text", ["", "CMD vllm serve m", "FROM\nCMD [", "FROM a\nENV\nCMD [1]", "FROM a\nCMD []"])
def test_what_is_broken_deploys_nothing(text: str) -> None:
    assert not read(text).deployments


def test_an_image_that_waits_for_its_arguments_deploys_nothing() -> None:
    found = read('FROM ubuntu\nENTRYPOINT ["vllm", "serve"]\n')
    assert (found.deployments, found.passed_over) == ((), ("prod",))
