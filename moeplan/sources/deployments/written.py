"""Deployment files from a launch, by the code that reads them: each is read back before it is handed out.

Whatever a model is called, the file says it so that its reader finds the same words again, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from moeplan.core.deployed import Deployed
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import OPTIONS_FLAG, Command, CommandOf, Launch, Place
from moeplan.core.secret_words import HIDDEN, is_secret_value
from moeplan.sources.deployments.pods_written import LISTENING, OPTIONS_PATH, told
from moeplan.version import __version__

OTHER_WORDS = "its command would be read as other words"

Kind = Literal["k8s", "compose", "vllm-yaml"]
KINDS: tuple[Kind, ...] = ("k8s", "compose", "vllm-yaml")
FILE_NAMES: dict[Kind, str] = {"k8s": "deployment.yaml", "compose": "compose.yaml", "vllm-yaml": "vllm.yaml"}
"""What such a file is usually called."""


def written(
    kind: Kind, launch: Launch, gpu: Hardware, replicas: int, command_of: CommandOf, *, question: str = ""
) -> str:
    """The text of a deployment file of `replicas` copies of the launch, each on GPUs of `gpu`.

    `command_of` writes the engine's command (`engines.command_line.writing.launch_command`). `question` is told in a
    comment: what was asked. The same input gives the same bytes. Raises InputError for what the kind cannot say: a model
    that no cluster can fetch, several machines in a compose file, names that would be read back as others.
    """
    _check_model(launch)
    if replicas < 1:
        raise InputError(f"{replicas} replicas serve nothing", hint="ask for 1 or more")
    if kind == "k8s":
        from moeplan.sources.deployments.kinds.kubernetes_written import documents

        body: list[dict[str, Any]] = documents(launch, command_of, gpu, replicas)
        says: dict[str, str] = {}
    elif kind == "compose":
        from moeplan.sources.deployments.kinds.compose_written import document

        body = [document(launch, command_of, gpu, replicas)]
        says = {"gpu": gpu.profile, **told(launch)}
    else:
        from moeplan.sources.deployments.kinds.vllm_config_written import options

        body = [options(launch, command_of)]
        says = {"gpu": gpu.profile, **_version(launch), **told(launch)}
    text = "\n".join([*_comments(kind, launch, replicas, question), *_directive(says), _dumped(body)])
    _check_read_back(kind, launch, command_of, text)
    return text


def _check_model(launch: Launch) -> None:
    """A cluster fetches a model from the Hub; what lies on this machine is not there."""
    name = launch.model
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith(".gguf"):
        raise InputError(
            f"{name!r} is no repository of the Hub: where the file is deployed nobody finds it",
            hint="name the model as org/name",
        )


def _version(launch: Launch) -> dict[str, str]:
    return {} if launch.engine_version is None else {"engine_version": launch.engine_version}


def _comments(kind: Kind, launch: Launch, replicas: int, question: str) -> list[str]:
    lines = [f"Written by moeplan {__version__}."]
    if question:
        lines[0] = f"Written by moeplan {__version__} for: {_shown(question)}"
    if kind == "vllm-yaml":
        lines += _how_to_start(launch, replicas)
    return [f"# {line}" for line in lines]


def _how_to_start(launch: Launch, replicas: int) -> list[str]:
    copies = f", on each of {replicas} machines" if replicas > 1 else ""
    if launch.layout.num_nodes == 1:
        return [f"Start it with: vllm serve --config {FILE_NAMES['vllm-yaml']}{copies}"]
    address = " --data-parallel-address LEADER" if launch.layout.dp > 1 else ""
    start = f"vllm serve --config {FILE_NAMES['vllm-yaml']} --master-addr LEADER{address}"
    last = launch.layout.num_nodes - 1
    others = f"--node-rank {'1' if last == 1 else f'1 to {last}'} --headless"
    return [f"On the first node: {start} --node-rank 0", f"On the others: {start} {others}"]


def _shown(question: str) -> str:
    """A question in one line of a comment: without secrets, and without what would speak to moeplan or open a template."""
    words = [HIDDEN if is_secret_value(word) else word for word in question.replace("#", " ").split()]
    line = " ".join(words).replace("{{", "{ {").replace("{%", "{ %")
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:500]


def _directive(says: dict[str, str]) -> list[str]:
    if not says:
        return []
    for name, value in says.items():
        if '"' in value or not value.isprintable():
            raise InputError(f"{name} {value!r} cannot stand in a comment", hint="give the profile a plain name")
    stated = (f'{name}="{value}"' if " " in value else f"{name}={value}" for name, value in says.items())
    return [f"# moeplan: {' '.join(stated)}"]


def _dumped(body: Sequence[dict[str, Any]]) -> str:
    import yaml

    class Plain(yaml.SafeDumper):
        """Without references from one place of a document to another."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def as_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = "|" if text.endswith("\n") and text.isascii() else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Plain.add_representer(str, as_text)
    return "---\n".join(yaml.dump(each, Dumper=Plain, sort_keys=False, width=10**6) for each in body)


# Read back ----------------------------------------------------------------------------------------------------------


def _check_read_back(kind: Kind, launch: Launch, command_of: CommandOf, text: str) -> None:
    """Raises InputError where the readers would not find the launch again, word by word."""
    from moeplan.sources.deployments.read import read_file

    found = read_file(FILE_NAMES[kind], text)
    wrong = next((remark.message for remark in found.remarks), None)
    wrong = wrong or next((remark.message for each in found.deployments for remark in each.remarks), None)
    if wrong is None and found.secrets:
        wrong = "something in it looks like an access token"
    if wrong is None:
        wrong = None if found.deployments else "no engine is found in it"
    for deployed in found.deployments:
        wrong = wrong or _differs(kind, launch, command_of, deployed)
    if wrong is not None:
        raise InputError(
            f"no {kind} file can say this launch of {launch.model!r}: {wrong}",
            hint="give the model a plain name, as org/name, or leave --emit out",
        )


def _differs(kind: Kind, launch: Launch, command_of: CommandOf, deployed: Deployed) -> str | None:
    """What a reader finds that is not what was meant; None where all of it is."""
    if deployed.engine != launch.engine:
        return f"it would be read as {deployed.engine}"
    open_words = [word.text for word in deployed.command if not word.known]
    if open_words:
        return f"{open_words[0]} would be left open"
    found = [word.text for word in deployed.command]
    if kind == "vllm-yaml":
        return None if found == _options(command_of(launch, Place())) else OTHER_WORDS
    if deployed.engine_version is None:
        return "the version of its image would not be read"
    if deployed.gang.gpus_per_engine != launch.layout.num_gpus:
        return f"it would be read as an engine on {deployed.gang.gpus_per_engine} GPUs"
    # The address that readers put in for the leader's variable.
    leader = f"{deployed.name}-0.{deployed.name}.default"
    command = command_of(launch, Place(leader=leader, options_path=OPTIONS_PATH))
    # What a file of options says is read among the words, in its place.
    named = [word for word in command.words if not command.options or word not in (OPTIONS_FLAG, OPTIONS_PATH)]
    expected = [*command.program, *named, *LISTENING]
    return None if found[: len(expected)] == expected else OTHER_WORDS


def _options(command: Command) -> list[str]:
    """The words of a config file of vLLM: the model has a flag, and what differs from node to node is left out."""
    from moeplan.sources.deployments.kinds.vllm_config_written import OF_ONE_NODE

    words = ["--model", *command.words]
    of_node = {place + more for place, word in enumerate(words) if word in OF_ONE_NODE for more in (0, 1)}
    return [word for place, word in enumerate(words) if place not in of_node]
