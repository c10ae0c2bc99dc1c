"""`docker run`: where its own options end, and what they say."""

from __future__ import annotations

import shlex

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.docker_run import Container, docker_run


def run(line: str) -> Container | None:
    return docker_run([Quote(word, Spot(1)) for word in shlex.split(line)])


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--rm -it",
        "-itd --name x",
        "-p 80:80 -p=81:81 -p82:82 --publish 83:83",
        "-itv /a:/b",
        "--gpus all --shm-size=16g --ipc host --network=host",
        "--env-file .env -e A -e B=1 --label x=y",
        "-d $GPU_FLAG -p 80:80 ${DOCKER_OPTS}",
        "--init --privileged --ulimit memlock=-1",
    ],
)
def test_where_the_image_stands(options: str) -> None:
    found = run(f"docker run {options} image:tag --model org/M")
    assert found is not None
    assert found.image.text == "image:tag"
    assert [word.text for word in found.argv] == ["--model", "org/M"]
    assert not found.has_command


@pytest.mark.parametrize(
    ("options", "gpus", "device_ids"),
    [
        ("", None, ()),
        ("--gpus all", None, ()),
        ("--gpus 2", "2", ()),
        ("--gpus=2", "2", ()),
        ("""--gpus '"device=0,2"'""", "2", ("0", "2")),
        ("--gpus device=GPU-3a23c669", "1", ("GPU-3a23c669",)),
        ("--gpus count=4,capabilities=utility", "4", ()),
        ("--device nvidia.com/gpu=all", None, ()),
        ("--device nvidia.com/gpu=1 --device=nvidia.com/gpu=3 --device /dev/fuse", "2", ("1", "3")),
    ],
)
def test_the_cards(options: str, gpus: str | None, device_ids: tuple[str, ...]) -> None:
    found = run(f"sudo podman run {options} image")
    assert found is not None
    assert (found.gpus.text if found.gpus else None, found.device_ids) == (gpus, device_ids)


def test_what_runs_and_with_which_variables() -> None:
    found = run("/usr/bin/docker container run -e A=1 --env B=x=y -e C --entrypoint vllm image serve org/M")
    assert found is not None
    assert [word.text for word in found.argv] == ["vllm", "serve", "org/M"]
    assert found.has_command
    assert {name: value.text for name, value in found.variables.items()} == {"A": "1", "B": "x=y"}


@pytest.mark.parametrize(("options", "detached"), [("-d", True), ("-itd", True), ("--detach", True), ("-it", False)])
def test_whether_the_shell_waits(options: str, detached: bool) -> None:
    found = run(f"docker run {options} image")
    assert found is not None
    assert found.detached is detached


@pytest.mark.parametrize(
    "line", ["", "docker", "docker build .", "vllm serve m", "docker run", "docker run --rm", "sudo"]
)
def test_what_starts_no_container(line: str) -> None:
    assert run(line) is None
