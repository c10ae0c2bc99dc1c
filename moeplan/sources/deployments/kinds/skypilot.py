"""SkyPilot tasks: a `run` script on machines with accelerators, and as a service several of them.

`num_nodes` machines together run one task, each with the accelerators that are stated. Source: docs.skypilot.co, SkyPilot
YAML (accelerators as a text, a set of choices or an ordered list; any_of, ordered; replica_policy) and environment
variables of a task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, Gang, PlainSecret, Quote, Spot
from moeplan.core.secret_words import HIDDEN
from moeplan.sources.deployments.containers import engine_runs
from moeplan.sources.deployments.gangs import leading
from moeplan.sources.deployments.gpu_names import INSTANCES
from moeplan.sources.deployments.images import version_of_image
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import is_plain_secret, without_secret_values
from moeplan.sources.deployments.record import recorded
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.variables import expand_shell

KIND = "skypilot"

_PACKAGES = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm"}
_PINNED = re.compile(r"(?<![\w/.-])(vllm|sglang|tensorrt[-_]llm)(?:\[[^\]\n]*\])?==([0-9][\w.!]*)")
_DOCKER = "docker:"


class _Choice(NamedTuple):
    """One kind of machine that the task may run on."""

    gpu: Quote
    """The accelerator's name."""
    number: Quote


def recognises(document: Node) -> bool:
    """A mapping with a `run` script beside `resources`, `num_nodes` or `service`."""
    if document.at("run").kind != "text" or document.at("kind").there or document.at("apiVersion").there:
        return False
    return any(key in document for key in ("resources", "num_nodes", "service"))


def read(document: Node, stream: Stream) -> Found:
    """The engines that the script starts; a file of several tasks is read one by one."""
    name = _name(document, stream)
    environment, secrets = _environment(document, stream)
    choices = list(_choices(document.at("resources"), environment))
    gpus = _one_number(choices)
    nodes = document.at("num_nodes").quote()
    variables = {**environment, **_built_in(document, gpus, nodes)}
    script = document.at("run").quote()
    image = _image(document.at("resources"), environment)
    if script is None:
        return Found(secrets=secrets, passed_over=(name,))
    shell = (Quote("bash", script.spot), Quote("-c", script.spot), script)
    runs = engine_runs(shell, variables, image, gpus)
    if nodes is not None and nodes.text != "1":
        # The other branches of the script join the head's engine.
        runs = leading(runs)
    if not runs:
        return Found(secrets=secrets, passed_over=(name,))
    version = version_of_image(image) if image is not None else None
    base = Deployed(
        KIND,
        name,
        document.key,
        engine_version=version
        or _pinned(document.at("setup"), runs[0].engine)
        or _pinned(document.at("run"), runs[0].engine),
        image=image,
        gpu=_one_gpu(choices),
        gang=_gang(document.at("service"), gpus, nodes),
    )
    return Found(recorded(base, runs), secrets=secrets)


def _name(document: Node, stream: Stream) -> str:
    """The task's name, else the file's; tasks of one file are counted."""
    stated = document.at("name").word()
    if stated:
        return stated
    tasks = [each for each in stream.documents if recognises(each)]
    stem = stream.stem.removesuffix(".sky")
    number = next((place for place, each in enumerate(tasks, 1) if each is document), 1)
    return f"{stem}-{number}" if len(tasks) > 1 else stem


def _gang(service: Node, gpus: Quote | None, nodes: Quote | None) -> Gang:
    policy = service.at("replica_policy")
    if policy.at("min_replicas").there:
        return Gang(gpus, nodes, policy.at("min_replicas").quote(), policy.at("max_replicas").quote())
    return Gang(gpus, nodes, service.at("replicas").quote())


# Machines -----------------------------------------------------------------------------------------------------


def _choices(resources: Node, environment: dict[str, Quote]) -> Iterator[_Choice]:
    """Every kind of machine that `resources` allows; alternatives keep what stands above them."""
    alternatives = [*resources.at("any_of"), *resources.at("ordered")]
    own = [each for each in alternatives if "accelerators" in each or "instance_type" in each]
    for node in own or (resources,):
        found = list(_accelerators(node.at("accelerators"), environment))
        yield from found or _of_instance(node.at("instance_type"))


def _accelerators(node: Node, environment: dict[str, Quote]) -> Iterator[_Choice]:
    """`H100:8`; `{H100: 8, A100: 8}`, also without spaces, are choices; so is a list."""
    if node.is_scalar:
        yield from _typed(Quote(node.text, node.spot), environment)
    for item in node.items:
        yield from _typed(Quote(item.word(), item.spot), environment)
    for name, value in node.entries.items():
        text = f"{name}:{value.text}" if value.is_scalar else name
        yield from _typed(Quote(text, value.spot), environment)


def _typed(quote: Quote, environment: dict[str, Quote]) -> Iterator[_Choice]:
    quote = expand_shell(quote, environment)
    name, _, number = quote.text.partition(":")
    if name.strip():
        count = quote._replace(
            text=number.strip() or "1", unknown=tuple(each for each in quote.unknown if each in number)
        )
        yield _Choice(
            quote._replace(text=name.strip(), unknown=tuple(each for each in quote.unknown if each in name)), count
        )


def _of_instance(node: Node) -> Iterator[_Choice]:
    """The GPUs inside a cloud's machine type."""
    known = INSTANCES.get(node.word().lower())
    if known is not None:
        gpu, number = known
        inside = Quote(gpu, node.spot, "inferred", why=f"inside {node.word()}")
        yield _Choice(inside, inside._replace(text=str(number)))


def _one_gpu(choices: Sequence[_Choice]) -> Quote | None:
    names = tuple(dict.fromkeys(choice.gpu.text for choice in choices))
    if len(names) > 1:
        return Quote(", ".join(names), choices[0].gpu.spot, "unresolved", names)
    return choices[0].gpu if choices else None


def _one_number(choices: Sequence[_Choice]) -> Quote | None:
    """GPUs of a node, where all choices have as many."""
    numbers = tuple(dict.fromkeys(choice.number.text for choice in choices))
    if len(numbers) > 1:
        return Quote(", ".join(numbers), choices[0].number.spot, "unresolved", numbers)
    return choices[0].number if choices else None


def _image(resources: Node, environment: dict[str, Quote]) -> Quote | None:
    """A container image; machine images of clouds are none."""
    image = resources.at("image_id").quote()
    if image is None or not image.text.startswith(_DOCKER):
        return None
    return expand_shell(image._replace(text=image.text.removeprefix(_DOCKER)), environment)


def _pinned(script: Node, engine: str) -> Quote | None:
    """The version that a script installs: `pip install vllm==0.10.1`."""
    for found in _PINNED.finditer(script.word()):
        if _PACKAGES[found.group(1)] == engine:
            line = script.spot.line + script.text.count("\n", 0, found.start())
            return Quote(found.group(2), Spot(line, 1, script.spot.path), why="installed by the script")
    return None


# Environment --------------------------------------------------------------------------------------------------


def _environment(document: Node, stream: Stream) -> tuple[dict[str, Quote], tuple[PlainSecret, ...]]:
    """`envs` and `secrets`; what is null there comes from outside."""
    kept, found = without_secret_values(_values(document.at("envs"), stream))
    private = _values(document.at("secrets"), stream)
    in_plain = [
        name for name, value in private.items() if name not in stream.variables and is_plain_secret("token", value.text)
    ]
    told = (*found, *(PlainSecret(name, private[name].spot) for name in in_plain))
    return {**kept, **{name: value._replace(text=HIDDEN) for name, value in private.items()}}, told


def _values(node: Node, stream: Stream) -> dict[str, Quote]:
    found: dict[str, Quote] = {}
    for name, value in node.entries.items():
        if value.is_scalar:
            found[name] = Quote(value.text, value.spot)
        elif name in stream.variables:
            found[name] = stream.variables[name]
    return found


def _built_in(document: Node, gpus: Quote | None, nodes: Quote | None) -> dict[str, Quote]:
    """Variables that SkyPilot sets for a task, as the head node sees them."""
    num_nodes = nodes if nodes is not None else Quote("1", document.spot, "default", why="num_nodes")
    found = {
        "SKYPILOT_NUM_NODES": num_nodes,
        "SKYPILOT_NODE_RANK": Quote("0", document.spot, "default", why="the head node"),
    }
    if gpus is not None and gpus.known:
        found["SKYPILOT_NUM_GPUS_PER_NODE"] = gpus
    return found
