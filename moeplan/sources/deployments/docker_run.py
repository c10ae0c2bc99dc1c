"""`docker run` and `podman run` in a script: the container that they start.

Source of the options: docs.docker.com/reference/cli/docker/container/run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Quote
from moeplan.core.programs import holds_flags

_PROGRAMS = ("docker", "podman", "nerdctl", "nvidia-docker")
_SWITCHES = {
    "--rm", "--detach", "--interactive", "--tty", "--init", "--privileged", "--read-only", "--publish-all", "--quiet",
    "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "--disable-content-trust", "--no-hosts", "--replace",
}  # fmt: skip
"""Options without a value; all others take the next word."""
_SHORT_SWITCHES = frozenset("dtiPq")
_DETACHED = re.compile(r"-[dtiPq]*d[dtiPq]*|--detach(=true)?")
_DEVICES = re.compile(r"device=([\w,:.-]+)")
_GPU_DEVICE = re.compile(r"nvidia\.com/gpu=(\w+)")


class Container(NamedTuple):
    """A container that a command starts."""

    image: Quote
    argv: tuple[Quote, ...]
    has_command: bool
    """True where the words bring their own program (`--entrypoint`); else they are for the image's."""
    variables: Mapping[str, Quote]
    gpus: Quote | None
    """How many GPUs it gets; None where the command does not say, as for `all`."""
    device_ids: tuple[str, ...]
    detached: bool
    """True where the shell does not wait for it."""


def docker_run(words: Sequence[Quote]) -> Container | None:
    """The container that the words start; None for words that start none."""
    left = list(words[1:] if words and words[0].text == "sudo" else words)
    if len(left) < 2 or re.split(r"[/\\]", left[0].text)[-1].removesuffix(".exe") not in _PROGRAMS:
        return None
    left.pop(0)
    if left[0].text == "container":
        left.pop(0)
    if not left or left.pop(0).text != "run":
        return None
    entrypoint: list[Quote] = []
    variables: dict[str, Quote] = {}
    gpus: Quote | None = None
    device_ids: tuple[str, ...] = ()
    detached = False
    while left and (left[0].text.startswith("-") or holds_flags(left[0].text)):
        option = left.pop(0)
        if option.text.startswith("$"):
            continue
        detached = detached or _DETACHED.fullmatch(option.text) is not None
        name, value = _option(option, left)
        if value is None:
            continue
        if name in ("-e", "--env"):
            key, sign, text = value.text.partition("=")
            if sign:
                variables[key] = value._replace(text=text)
        elif name == "--entrypoint":
            entrypoint = [value] if value.text else []
        elif name == "--gpus":
            gpus, device_ids = _gpus(value)
        elif name == "--device" and (found := _GPU_DEVICE.fullmatch(value.text)) and found.group(1) != "all":
            device_ids = (*device_ids, found.group(1))
            gpus = Quote(str(len(device_ids)), value.spot, "inferred", why="devices")
    if not left:
        return None
    image, *argv = left
    return Container(
        image, (*entrypoint, *argv), bool(entrypoint), variables, gpus, device_ids, detached
    )  # fmt: skip


def _option(option: Quote, left: list[Quote]) -> tuple[str, Quote | None]:
    """Name and value of an option; the value is taken off the words where it stands behind."""
    name, sign, attached = option.text.partition("=")
    if sign:
        return name, option._replace(text=attached)
    if name.startswith("--"):
        return name, left.pop(0) if name not in _SWITCHES and left else None
    if set(name[1:]) <= _SHORT_SWITCHES:
        return name, None
    if len(name) > 2 and name[1] not in _SHORT_SWITCHES:
        return name[:2], option._replace(text=name[2:])
    # `-itv PATH`: the last of several letters takes the value.
    return f"-{name[-1]}", left.pop(0) if left else None


def _gpus(value: Quote) -> tuple[Quote | None, tuple[str, ...]]:
    """`2`, `"device=0,1"`, `all`: how many, and which."""
    text = value.text.strip("\"'")
    if text.isdecimal():
        return value._replace(text=text), ()
    found = _DEVICES.search(text)
    if found:
        picked = tuple(found.group(1).split(","))
        return Quote(str(len(picked)), value.spot, "inferred", why="devices"), picked
    count = re.search(r"count=(\d+)", text)
    return (value._replace(text=count.group(1)), ()) if count else (None, ())
