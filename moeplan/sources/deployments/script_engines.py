"""Engines that commands start, as records: what shell scripts, Makefiles and units of systemd have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, Gang, PlainSecret, Quote
from moeplan.sources.deployments.containers import engine_runs
from moeplan.sources.deployments.docker_run import docker_run
from moeplan.sources.deployments.plain_secrets import without_secret_values, without_secrets
from moeplan.sources.deployments.record import own_gang, recorded, visible_devices
from moeplan.sources.deployments.stream import Found
from moeplan.sources.deployments.words import program_length, value_of

STARTS_ENGINE = re.compile(
    r"\bvllm[ \t]+serve\b|vllm\.entrypoints|\bsglang\.launch_server|\bsglang[ \t]+serve\b|\btrtllm-serve\b|\bllama-server\b|"
    r"\bllama_cpp\.server\b|\bdynamo\.(?:vllm|sglang|trtllm)\b|\bhuggingfaceserver\b|vllm/vllm-openai|"
    r"lmsysorg/sglang|/llama\.cpp:|tensorrt-llm/release"
)
"""A text without any of these starts no engine."""


_GIVEN = ("$@", "$*", "${@}", "${*}")


class Command(NamedTuple):
    """One command of a script."""

    words: Sequence[Quote]
    variables: Mapping[str, Quote]
    waits: bool = True
    """False where the script goes on beside it (`&`)."""
    image: Quote | None = None
    """Of the container that the command runs in."""
    has_command: bool = True
    """False where the words are arguments of the image's program."""
    files: Mapping[str, Quote] = {}
    """Texts of files that the script writes before."""


def engines_of(kind: str, name: str, commands: Iterable[Command]) -> Found:
    """A record for each engine, called by its served name, else `name`.

    Engines that run beside each other share the machine: those that the script does not wait for, and the next one.
    """
    found: list[tuple[Deployed, bool]] = []
    secrets: list[PlainSecret] = []
    wrappers: list[str] = []
    for command in commands:
        deployed, waits, told = _engines(kind, name, command)
        if any(is_wrapper(each) for each in deployed):
            wrappers.append(name)
            continue
        found += [(each, waits) for each in deployed]
        secrets += told
    beside = _beside([waits for _, waits in found])
    deployments = [
        each._replace(host=name) if shared else each for (each, _), shared in zip(found, beside, strict=True)
    ]
    return Found(_named(deployments), secrets=tuple(dict.fromkeys(secrets)), passed_over=tuple(wrappers[:1]))


def is_wrapper(deployed: Deployed) -> bool:
    """True for a command that starts an engine with nothing but what it is given itself: `exec vllm serve "$@"`.

    What it deploys is said where it is called; an image's own entrypoint is such a one.
    """
    if deployed.model is not None or any(name.startswith("LLAMA_ARG_") for name in deployed.variables):
        return False
    return all(word.text in _GIVEN for word in deployed.command[program_length(deployed.command) :])


def _engines(kind: str, name: str, command: Command) -> tuple[tuple[Deployed, ...], bool, tuple[PlainSecret, ...]]:
    words, in_words = without_secrets(command.words)
    variables, in_variables = without_secret_values(command.variables)
    image: Quote | None
    container = docker_run(words)
    if container is not None:
        image, gpus, waits = container.image, container.gpus, command.waits and not container.detached
        runs = engine_runs(container.argv, container.variables, image, gpus, has_command=container.has_command)
        device_ids = container.device_ids
    else:
        image, gpus, waits, device_ids = command.image, None, command.waits, ()
        runs = engine_runs(words, variables, image, has_command=command.has_command, files=command.files)
    found: list[Deployed] = []
    for run in runs:
        base = Deployed(
            kind,
            name,
            words[0].spot if words else run.command[0].spot,
            image=image,
            gang=own_gang(Gang(gpus), run.variables),
            device_ids=device_ids or visible_devices(run.variables),
        )
        found += recorded(base, (run,))
    return tuple(found), waits, (*in_words, *in_variables) if found else ()


def _beside(waits: Sequence[bool]) -> list[bool]:
    """Which engines run beside another one."""
    groups: list[list[int]] = [[]]
    for place, wait in enumerate(waits):
        groups[-1].append(place)
        if wait:
            groups.append([])
    several = {place for group in groups if len(group) > 1 for place in group}
    return [place in several for place in range(len(waits))]


def _named(deployments: Sequence[Deployed]) -> tuple[Deployed, ...]:
    """Each called by its served name where it has one, and no two alike."""
    names = [_served(each) or each.name for each in deployments]
    total = Counter(names)
    seen: Counter[str] = Counter()
    found = []
    for each, name in zip(deployments, names, strict=True):
        seen[name] += 1
        found.append(each._replace(name=name if total[name] == 1 else f"{name}-{seen[name]}"))
    return tuple(found)


def _served(deployed: Deployed) -> str:
    alias = value_of(deployed.command, "--alias", "-a") if deployed.engine == "llamacpp" else None
    names = (*deployed.served_names, *((alias,) if alias is not None else ()))
    return next((name.text for name in names if name.known), "")
