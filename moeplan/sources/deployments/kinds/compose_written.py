"""A compose file, as `compose` reads it: one service for each replica, each with cards of its own on one machine."""

from __future__ import annotations

from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import Command, CommandOf, Launch, Place
from moeplan.sources.deployments.compose_devices import CDI
from moeplan.sources.deployments.containers import BUILT_IN
from moeplan.sources.deployments.pods_written import (
    CACHE,
    HEALTH,
    LISTENING,
    OPTIONS_PATH,
    PORT,
    TOKEN,
    Machine,
    homes,
    machine_of,
    name_of,
    options_text,
)

_SHARED_MEMORY = "16gb"
_CACHE, _OPTIONS = "cache", "engine-options"


def document(launch: Launch, command_of: CommandOf, gpu: Hardware, replicas: int) -> dict[str, Any]:
    """The whole file. Raises InputError for more than one machine has, and for slices of cards, which have no numbers."""
    machine = machine_of(launch, gpu)
    _check_one_machine(launch, gpu, replicas)
    command = command_of(launch, Place(options_path=OPTIONS_PATH))
    name = name_of(launch)
    names = [name] if replicas == 1 else [f"{name}-{number}" for number in range(1, replicas + 1)]
    whole: dict[str, Any] = {
        "name": name,
        "services": {
            each: _service(machine, launch, command, number) for number, each in enumerate(names)
        },
        "volumes": {_CACHE: {}},
    }  # fmt: skip
    if command.options:
        whole["configs"] = {_OPTIONS: {"content": in_file(options_text(command))}}
    return whole


def in_file(text: str) -> str:
    """A text as compose hands it on: it would expand `$NAME`."""
    return text.replace("$", "$$")


def _check_one_machine(launch: Launch, gpu: Hardware, replicas: int) -> None:
    if gpu.slice:
        raise InputError(
            f"compose names cards by their number, and {gpu.name} is a slice, which has none",
            hint="say --emit k8s, or leave --emit out",
        )
    if launch.layout.num_nodes > 1:
        raise InputError(
            f"compose runs on one machine, and the layout spans {launch.layout.num_nodes}", hint="say --emit k8s"
        )
    most, needed = max(gpu.node_sizes, default=0), replicas * launch.layout.num_gpus
    if most and needed > most:
        raise InputError(
            f"compose runs on one machine, which has {most} of {gpu.name}: {replicas} replicas need {needed}",
            hint="say --emit k8s, or ask for fewer replicas",
        )


def _service(machine: Machine, launch: Launch, command: Command, number: int) -> dict[str, Any]:
    """One replica: its number says which cards and which port of the machine are its own."""
    first = number * machine.num_gpus
    cards = [str(card) for card in range(first, first + machine.num_gpus)]
    program = () if BUILT_IN.get(launch.engine) == command.program else command.program
    found: dict[str, Any] = {
        "image": machine.image,
        "command": [in_file(word) for word in (*program, *command.words, *LISTENING)],
        "environment": {TOKEN: f"${{{TOKEN}:-}}", **{key: in_file(value) for key, value in homes(command).items()}},
        "ports": [f"{PORT + number}:{PORT}"],
        "shm_size": _SHARED_MEMORY,
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "volumes": [f"{_CACHE}:{CACHE}"],
        "healthcheck": {
            "test": ["CMD", "curl", "--fail", "--silent", f"http://localhost:{PORT}{HEALTH}"],
            "interval": "10s",
            "start_period": "1h",
        },
    }
    if command.options:
        found["configs"] = [{"source": _OPTIONS, "target": OPTIONS_PATH}]
    if machine.vendor == "nvidia":
        device = {"driver": "nvidia", "device_ids": cards, "capabilities": ["gpu"]}
        found["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    else:
        found["devices"] = [f"{CDI[machine.vendor]}{card}" for card in cards]
    return found
