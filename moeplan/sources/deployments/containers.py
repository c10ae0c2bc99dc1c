"""A container: its environment, its GPUs, and the engines that its command starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import FileRemark, PlainSecret, Quote
from moeplan.core.errors import InputError
from moeplan.core.programs import num_before, take_program
from moeplan.sources.deployments.engine_files import with_written_files
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.images import engine_of_image, parts_of_image, serves_first_word
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import hidden, is_plain_secret, without_secrets
from moeplan.sources.deployments.shell import ShellCommand, unwrapped
from moeplan.sources.deployments.shell_wrappers import SHELLS
from moeplan.sources.deployments.stream import Stream
from moeplan.sources.deployments.variables import expand_kubernetes, expand_substituted
from moeplan.sources.deployments.words import has_flag

_GPU_RESOURCE = re.compile(
    r"nvidia\.com/gpu(?:\.shared)?|amd\.com/gpu|nvidia\.com/mig-.+|amd\.com/(?:\w+_)?\w+_\w+|habana\.ai/gaudi"
    r"|gpu\.intel\.com/.+|google\.com/tpu|gpu"
)
GPU_RESOURCES: Mapping[str, str] = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
"""What a container asks for, by vendor; one of the names that `gpus_of` reads."""
SLICE_RESOURCE = "nvidia.com/mig-"
_SLICE_RESOURCE = re.compile(rf"{re.escape(SLICE_RESOURCE)}(.+)")
_NEEDS_SERVE = ("vllm", "sglang", "llama")
"""Programs that are something else without a word behind them; their names are those of folders, too."""
_OLLAMA_SERVES = ("serve", "run", "start")
BUILT_IN = {"vllm": ("vllm", "serve"), "llamacpp": ("llama-server",)}
"""What the own images of engines start."""
_TELLING_FLAGS = (
    "--tensor-parallel-size", "--pipeline-parallel-size", "--max-model-len", "--context-length",
    "--gpu-memory-utilization", "--mem-fraction-static", "--max-num-seqs", "--model-path", "--served-model-name",
    "--kv-cache-dtype", "--enable-expert-parallel", "--max-num-batched-tokens", "--tp-size",
)  # fmt: skip
"""Flags that only engines have: a container with one of them runs an engine, whatever its image is called. Side cars that
route requests have `--data-parallel-size`, too."""
_HUGGINGFACESERVER = {
    "--model-id": "--model",
    "--model-dir": "--model",
    "--model-revision": "--revision",
    "--model-name": "--served-model-name",
    "--max-length": "--max-model-len",
}
"""Flags of KServe's server that mean one of vLLM's (kserve/kserve: python/huggingfaceserver/huggingfaceserver/__main__.py)."""


class Environment(NamedTuple):
    """Variables of a container."""

    variables: Mapping[str, Quote]
    """Those that the file does not tell (secretKeyRef, fieldRef) are absent; tokens are `***`."""
    secrets: tuple[PlainSecret, ...]
    """Tokens in plain text."""
    remarks: tuple[FileRemark, ...] = ()
    """What it lacks."""


def environment(container: Node, stream: Stream, built_in: Mapping[str, Quote] | None = None) -> Environment:
    """`env` and `envFrom` of a Kubernetes container: values, ConfigMap references; `$(VAR)` in values expanded.

    `built_in` are variables that the kind of object sets itself (`LWS_GROUP_SIZE`).
    """
    # What stands in for open variables, then the kind's own, then the file's.
    variables: dict[str, Quote] = {**stream.variables, **(built_in or {})}
    secrets: list[PlainSecret] = []
    remarks: list[FileRemark] = []
    for source in container.at("envFrom"):
        prefix, reference = source.at("prefix").word(), source.at("configMapRef", "name")
        config_map = stream.config_map(reference.word())
        for key in config_map.texts if config_map is not None else ():
            text = config_map.text(key, reference.spot) if config_map is not None else None
            if text is None:
                continue
            if text.put_in and is_plain_secret(prefix + key, text.text):  # else it is found where it stands
                secrets.append(PlainSecret(prefix + key, text.spot))
            variables[prefix + key] = hidden(prefix + key, text)
        if config_map is not None and config_map.differs:
            remarks.append(config_map.unclear(reference.spot))
    for entry in container.at("env"):
        name = entry.at("name").word()
        value = _value_of(entry, stream, remarks)
        if not name:
            continue
        if value is None:
            # It is set by something that the file does not tell.
            variables.pop(name, None)
            if name in stream.variables:
                variables[name] = stream.variables[name]
            continue
        if is_plain_secret(name, value.text):
            secrets.append(PlainSecret(name, value.spot))
        variables[name] = hidden(name, expand_kubernetes(value, variables))
    return Environment(variables, tuple(secrets), tuple(remarks))


def _value_of(entry: Node, stream: Stream, remarks: list[FileRemark]) -> Quote | None:
    reference = entry.at("valueFrom", "configMapKeyRef")
    if reference.there:
        config_map = stream.config_map(reference.at("name").word())
        if config_map is None:
            return None
        if config_map.differs:
            remarks.append(config_map.unclear(entry.at("name").spot))
        return config_map.text(reference.at("key").word(), entry.at("name").spot)
    if entry.at("valueFrom").there:
        return None
    value = entry.at("value")
    return Quote(value.word(), value.spot)


def gpus_of(resources: Node) -> Quote | None:
    """The GPUs of `resources` (limits before requests): `nvidia.com/gpu`, `amd.com/gpu`, `nvidia.com/mig-...`, plain `gpu`."""
    for part in ("limits", "requests"):
        for key, node in resources.at(part).entries.items():
            quote = node.quote()
            if quote is not None and _GPU_RESOURCE.fullmatch(key):
                return quote
    return None


def slice_of(resources: Node) -> Quote | None:
    """The MIG slice that `resources` asks for (`nvidia.com/mig-1g.10gb: 1` gives `1g.10gb`); None for whole cards."""
    for part in ("limits", "requests"):
        for key, node in resources.at(part).entries.items():
            found = _SLICE_RESOURCE.fullmatch(key)
            if found is not None and node.is_scalar and node.text != "0":
                return Quote(found.group(1), node.spot)
    return None


def engine_runs(
    argv: Sequence[Quote],
    variables: Mapping[str, Quote],
    image: Quote | None,
    gpus: Quote | None = None,
    *,
    has_command: bool = True,
    entrypoint: str | None = None,
    files: Mapping[str, Quote] | None = None,
) -> tuple[Run, ...]:
    """The engines that a container's words start; empty for a container that serves no model.

    Shells and wrappers are looked through. With `has_command` False the words are arguments of the image's entrypoint, so
    an engine's own image decides (`vllm/vllm-openai` runs `vllm serve`). Routers, frontends, side cars are no engines.
    `entrypoint` is an engine that the kind of object is known to run, whatever the image is called. `files` are texts that
    were written where the words run. Tokens are `***`.
    """
    commands = (each._replace(files={**(files or {}), **each.files}) for each in unwrapped(argv, variables, gpus))
    found = tuple(run for command in commands for run in _runs_of(command))
    if found or has_command:
        return found
    started = entrypoint or _started_by(image, argv)
    if started is None:
        return ()
    if started == "llamacpp" and image is not None and parts_of_image(image.text).name == "ollama":
        return (Run(started, (), variables),)  # it is told over HTTP which model to serve
    place = argv[0] if image is None and argv else image
    names = BUILT_IN.get(started, ()) if place is not None else ()
    program = [Quote(name, place.spot, "default", (), "the image's entrypoint") for name in names] if place else []
    rest = argv[1:] if argv and argv[0].text == "serve" else argv
    return (Run(started, (*program, *without_secrets(rest).words), variables),)


def loose_words(words: Sequence[Quote], *, has_program: bool, gpus: Quote | None) -> tuple[Quote, ...]:
    """The words of a container where a flag among them says that they are an engine's; else none.

    A program of its own that asks for no GPU may be a client that knows such flags; of one that asks for some, the flags
    are kept.
    """
    if not has_flag(words, *_TELLING_FLAGS):
        return ()
    words = without_secrets(words).words
    if not has_program:
        return words
    if gpus is None:
        return ()
    first = next(place for place, word in enumerate(words) if word.text.startswith("--"))
    return words[first:]


def _started_by(image: Quote | None, argv: Sequence[Quote]) -> str | None:
    """The engine that an image starts with these arguments; None where it starts none, or that is not to be known."""
    if image is None:
        return None
    engine = engine_of_image(image.text)
    parts = parts_of_image(image.text)
    first = argv[0].text if argv else ""
    if parts.name == "ollama":
        return engine if first in ("", *_OLLAMA_SERVES) else None
    if parts.name == "llama.cpp":
        return engine if "server" in parts.tag or first.startswith("-") else None
    if first.startswith("-"):
        return engine
    # `vllm serve` takes the model as its first word; with no word at all it would serve its own small default.
    is_program = first.rpartition("/")[2] in SHELLS or first.endswith(".sh")
    return engine if engine == "vllm" and serves_first_word(image.text) and first and not is_program else None


def container_runs(
    container: Node, stream: Stream, built_in: Mapping[str, Quote] | None = None
) -> tuple[tuple[Run, ...], Environment]:
    """`engine_runs` of a Kubernetes container node, with `$(VAR)` expanded, and its environment."""
    found = environment(container, stream, built_in)
    command = words_of(container.at("command"), found.variables)
    argv = (*command, *words_of(container.at("args"), found.variables))
    image = container.at("image").quote()
    gpus = gpus_of(container.at("resources"))
    return engine_runs(argv, found.variables, image, gpus, has_command=bool(command)), found


def words_of(node: Node, variables: Mapping[str, Quote]) -> tuple[Quote, ...]:
    """`command` or `args` of a container, a list or one text, with `$(VAR)` expanded."""
    items = node.items if node.kind == "list" else (node,)
    return tuple(expand_kubernetes(Quote(item.text, item.spot), variables) for item in items if item.is_scalar)


def _runs_of(command: ShellCommand) -> Iterator[Run]:
    texts = [word.text for word in command.words]
    start = num_before(texts)
    words, texts = command.words[start:], texts[start:]
    if not words:
        return
    program = texts[0].replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
    after = texts[1] if len(texts) > 1 else ""
    if program == "ollama":
        if after in _OLLAMA_SERVES:
            yield Run("llamacpp", (), command.variables)
        return
    if program in _NEEDS_SERVE and after not in ("serve", "server"):
        return
    try:
        engine = take_program(texts).engine
    except InputError:  # another command of the program, which serves no model
        return
    if engine is None:
        return
    if "huggingfaceserver" in texts[:6]:
        yield _huggingfaceserver(words, command.variables)
        return
    filled = [expand_substituted(word, command.variables) for word in words]
    run = Run(engine, without_secrets(filled).words, command.variables)
    if command.files:
        run = with_written_files(run, command.files)
    yield run


def _huggingfaceserver(words: Sequence[Quote], variables: Mapping[str, Quote]) -> Run:
    """KServe's server in the words of the engine that it starts."""
    place = [word.text for word in words].index("huggingfaceserver") + 1
    return Run(*huggingfaceserver_words(words[place:]), variables)


def huggingfaceserver_words(words: Sequence[Quote]) -> tuple[str, tuple[Quote, ...]]:
    """The engine inside of KServe's server, and its flags for these of the server."""
    made: list[Quote] = []
    engine = "vllm"
    last = ""
    for word in without_secrets(words).words:
        flag, sign, value = word.text.partition("=")
        name = flag.replace("_", "-") if flag.startswith("--") else ""
        if (name == "--backend" and value == "huggingface") or (last == "--backend" and word.text == "huggingface"):
            engine = "transformers"
        if name in _HUGGINGFACESERVER:
            made.append(word._replace(text=f"{_HUGGINGFACESERVER[name]}{sign}{value}"))
        elif "--backend" not in (name, last):
            made.append(word)
        last = name if not sign else ""
    program = (
        [Quote(word, words[0].spot, "inferred", (), "huggingfaceserver") for word in ("vllm", "serve")] if words else []
    )
    return engine, (*program, *made) if engine == "vllm" else tuple(made)
