"""An engine's own command, written from the tables that read it.

What is written is read back before it is handed out: a model name, a length or a setting that would come out as something
else is an error, and never a command that says something other than what was planned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from moeplan.core.deployment import Value, version_key
from moeplan.core.errors import InputError
from moeplan.core.launch import OPTIONS_FLAG, Command, Launch, Place
from moeplan.core.layout import Layout
from moeplan.core.own_words import OPTIONS
from moeplan.core.placement import even_stages
from moeplan.engines import flags_of
from moeplan.engines.command_line import Command as Read
from moeplan.engines.command_line import read_command
from moeplan.engines.command_line.flag import Field, Flag
from moeplan.engines.command_line.names import spelled

RENDEZVOUS_PORT = 20000
"""Where SGLang's nodes meet (docs/references/multi_node_deployment of sgl-project/sglang)."""
NODES_SINCE = "0.11.2"
"""The oldest vLLM whose sources were read that has `--nnodes` (engine/arg_utils.py); before, nodes were joined by Ray."""
ALL_LAYERS = 999
"""llama.cpp's `--gpu-layers` for all there are: `all` is younger than this habit."""


class _Engine(NamedTuple):
    """What is peculiar to one engine's command."""

    program: tuple[str, ...]
    limit: str
    """The flag for the most sequences at once; empty where it is a field."""
    own_stages: Callable[[int, int], tuple[int, ...]] | None
    """Layers and stages to the split that it makes by itself; None where that depends on more."""
    model_flag: str = ""
    """Empty where the model is a word of its own."""


def _last_take_more(num_layers: int, num_stages: int) -> tuple[int, ...]:
    from moeplan.engines.sglang.layout import last_stages_take_more

    return last_stages_take_more(num_layers, num_stages)


def _first_take_more(num_layers: int, num_stages: int) -> tuple[int, ...]:
    from moeplan.engines.trtllm.layout import first_stages_take_more

    return first_stages_take_more(num_layers, num_stages)


_ENGINES = {
    "vllm": _Engine(("vllm", "serve"), "--max-num-seqs", even_stages),
    "sglang": _Engine(
        ("python3", "-m", "sglang.launch_server"), "--max-running-requests", _last_take_more, "--model-path"
    ),
    "trtllm": _Engine(("trtllm-serve",), "--max_batch_size", _first_take_more),
    "llamacpp": _Engine(("llama-server",), "", None, "--hf-repo"),
}
_SAME_WORDS: Mapping[Field, str] = {"quantization": "--quantization"}


def launch_words(launch: Launch, place: Place = Place()) -> tuple[str, ...]:  # noqa: B008 - a tuple, which nobody changes
    """The command of one node as one line of words: variables, program, model, flags. Raises as `launch_command` does."""
    command = launch_command(launch, place)
    return (*(f"{name}={value}" for name, value in command.variables), *command.program, *command.words)


def launch_command(launch: Launch, place: Place = Place()) -> Command:  # noqa: B008
    """The command of one node. Engines over several nodes are started by one such command on each.

    Raises InputError for an engine without a command line, for what the engine has no word for, for a layout that it
    would not resolve so, and for texts that no command can hold.
    """
    engine = _ENGINES.get(launch.engine)
    if engine is None:
        known = ", ".join(_ENGINES)
        raise InputError(
            f"{launch.engine} has no command that serves a model", hint=f"say --engine with one of {known}"
        )
    _check_text("the model's name", launch.model)
    table = flags_of(launch.engine)
    fields, settings = _asked(launch, engine)
    writer = _Writer(launch.engine, table)
    for field, value in fields.items():
        writer.field(field, value)
    for name, value in settings.items():
        writer.setting(name, value)
    writer.words += _node_words(launch, place)
    if writer.options:
        writer.words += [OPTIONS_FLAG, place.options_path]
    flag = engine.model_flag
    if launch.engine == "llamacpp" and _is_file(launch.model):
        flag = "--model"
    model = (flag, launch.model) if flag else (launch.model,)
    if launch.model.startswith("-"):
        raise InputError(
            f"the model's name {launch.model!r} begins like a flag", hint="give it as org/name, or as ./path"
        )
    program = engine.program
    if launch.engine == "trtllm" and launch.layout.num_nodes > 1:
        program = ("trtllm-llmapi-launch", *program)
    command = Command(tuple(writer.variables), program, (*model, *writer.words), writer.options)
    _check_read_back(launch, command, fields, table)
    return command


# What is said -------------------------------------------------------------------------------------------------------


def _asked(launch: Launch, engine: _Engine) -> tuple[Mapping[Field, Value], Mapping[str, Value]]:
    """The fields that the command states, in the order in which people write them, and its settings."""
    layout = launch.layout
    degrees, settings = _degrees(launch, engine)
    fields: dict[Field, Value] = {}
    if launch.revision is not None and launch.engine != "llamacpp":  # which fetches what is newest
        fields["revision"] = launch.revision
    fields |= degrees
    fields["context_tokens"] = launch.context_tokens
    stated: tuple[tuple[Field, Value], ...] = (
        ("kv_dtype", launch.kv_dtype),
        ("utilization_fraction", launch.utilization_fraction),
        ("quantization", launch.quantization),
    )
    fields |= {name: value for name, value in stated if value is not None}
    if launch.sequences is not None:
        settings |= sequence_limit(launch.engine, layout, launch.sequences)
    if launch.engine == "llamacpp":
        from moeplan.engines.llamacpp.flags import own_fields

        fields, more = own_fields(fields, launch.sequences or 1)  # type: ignore[assignment]
        settings = {"--gpu-layers": ALL_LAYERS, **more, **settings}
    return fields, {**settings, **launch.settings}


def sequence_limit(engine: str, layout: Layout, sequences: int) -> dict[str, Value]:
    """The setting that limits a replica to so many sequences at once, as the engine counts them: of a data-parallel rank,
    or (SGLang) of all; none for an engine whose limit is a field of its own."""
    flag = _ENGINES[engine].limit
    shared = layout.dp if engine != "sglang" or not layout.dp_attention else 1
    return {flag: -(-sequences // shared)} if flag else {}


def _degrees(launch: Launch, engine: _Engine) -> tuple[dict[Field, Value], dict[str, Value]]:
    layout, name = launch.layout, launch.engine
    found: dict[Field, Value] = {} if name == "llamacpp" else {"tp": layout.tp}
    settings: dict[str, Value] = {}
    if name == "llamacpp":
        _check_llamacpp(launch)
        if layout.tp > 1:
            settings["--split-mode"] = "tensor"
        return found, settings
    if layout.pp > 1:
        found["pp"] = layout.pp
    if name == "trtllm":
        if layout.dp not in (1, layout.tp if layout.dp_attention else 1):
            raise _no_word(launch, "data-parallel ranks", str(layout.dp), "all tensor-parallel ranks, or none")
        if layout.dp_attention:
            found["dp_attention"] = True
        if layout.dcp > 1:
            settings["--context_parallel_size"] = layout.dcp
    elif layout.dp > 1:
        found["dp"] = layout.dp
        if name == "sglang" and layout.dp_attention:
            found["dp_attention"] = True
    if layout.ep > 1:
        _check_experts(launch)
        found |= {"expert_parallel": True} if name == "vllm" else {"ep": layout.ep}
    if layout.dcp > 1 and name != "trtllm":
        found["dcp"] = layout.dcp
    if layout.redundant_experts:
        if name == "trtllm":
            raise _no_word(launch, "redundant experts", str(layout.redundant_experts), "moe_config.load_balancer")
        found["redundant_experts"] = layout.redundant_experts
        settings["--enable-eplb"] = True
    layers = layout.pp_layers
    if layers and engine.own_stages is not None and layers != engine.own_stages(sum(layers), len(layers)):
        found["pp_layers"] = ",".join(map(str, layers))
    if layout.num_nodes > 1 and name != "trtllm":
        found["num_nodes"] = layout.num_nodes
    return found, settings


def _check_experts(launch: Launch) -> None:
    layout = launch.layout
    if launch.engine == "vllm" and layout.ep != layout.tp * layout.dp:
        told = f"all {layout.tp * layout.dp} ranks of a stage (tp x dp), or none"
        raise _no_word(launch, "expert-parallel ranks", str(layout.ep), told)


def _check_llamacpp(launch: Launch) -> None:
    layout = launch.layout
    for what, value in (
        ("data-parallel ranks", layout.dp), ("expert-parallel ranks", layout.ep), ("nodes", layout.num_nodes),
        ("ranks that share a cache", layout.dcp),
    ):  # fmt: skip
        if value > 1:
            raise _no_word(launch, what, str(value), "1")
    placed = ("--tensor-split", "--gpu-layers", "--n-cpu-moe", "--device")
    layers = layout.pp_layers
    # Its own split is even but for the output, and for draft layers that a file may hold, which count to the last device.
    if layers and max(layers) - min(layers) > MOST_UNEVEN and not any(name in launch.settings for name in placed):
        told = ",".join(map(str, layers))
        raise InputError(
            f"llamacpp splits layers evenly, not as {told}", hint="add --tensor-split to the launch's settings"
        )


MOST_UNEVEN = 4
"""Layers by which llama.cpp's own split may differ between devices: one by rounding, the output, draft layers."""


def _no_word(launch: Launch, what: str, value: str, known: str) -> InputError:
    return InputError(
        f"{launch.engine} has no command for {value} {what}", hint=f"what it has: {known}; or take another engine"
    )


def _node_words(launch: Launch, place: Place) -> list[str]:
    """What a node must be told where the replica has several."""
    layout = launch.layout
    if layout.num_nodes < 2:
        return []
    if layout.num_gpus % layout.num_nodes:
        raise InputError(
            f"{layout.num_gpus} GPUs do not divide over {layout.num_nodes} nodes", hint="say --nodes with a divisor"
        )
    match launch.engine:
        case "vllm":
            return _vllm_node(launch, place)
        case "sglang":
            return ["--node-rank", place.rank, "--dist-init-addr", f"{place.leader}:{RENDEZVOUS_PORT}"]
        case _:
            return ["--gpus_per_node", str(layout.num_gpus // layout.num_nodes)]


def _vllm_node(launch: Launch, place: Place) -> list[str]:
    """Source: vLLM 0.33.0 engine/arg_utils.py:create_engine_config, entrypoints/cli/serve.py:run_headless, and
    docs/serving/parallelism_scaling.md of vllm-project/vllm; ranks of data parallelism follow from the node's."""
    version = launch.engine_version
    if version is not None and version_key(version) < version_key(NODES_SINCE):
        raise InputError(
            f"vllm {version} joins nodes by Ray alone: it has no --nnodes",
            hint=f"say --engine-version {NODES_SINCE} or newer, or a layout of one node",
        )
    words = ["--node-rank", place.rank, "--master-addr", place.leader]
    words += ["--data-parallel-address", place.leader] if launch.layout.dp > 1 else []
    return [*words, "--headless"] if place.follows else words


# How it is said -----------------------------------------------------------------------------------------------------


class _Writer:
    """Words, variables and options of one command."""

    def __init__(self, engine: str, table: Sequence[Flag]) -> None:
        self.engine = engine
        self.by_field = {flag.field: flag for flag in reversed(table) if flag.field is not None}
        self.by_name = {spelled(name): flag for flag in reversed(table) for name in (*flag.spellings, flag.name)}
        self.words: list[str] = []
        self.variables: list[tuple[str, str]] = []
        self.options: dict[str, Any] = {}

    def field(self, field: Field, value: Value) -> None:
        """What all engines share."""
        flag = self.by_field.get(field)
        if flag is None:
            option = OPTIONS.get(field) or _SAME_WORDS[field]
            raise InputError(
                f"{self.engine} has no flag for {option} {value}", hint=f"leave {option} out, or take another engine"
            )
        if flag.key:
            self.option(flag.key, _own_word(flag, value) if isinstance(value, str) else value)
        else:
            self.flag(flag, value)

    def setting(self, name: str, value: Value) -> None:
        """A setting of this engine alone."""
        flag = self.by_name.get(spelled(name))
        if flag is None and self.engine == "trtllm" and not name.startswith("-"):
            self.option(name, _from_json(value))
        elif flag is None:
            raise InputError(f"{self.engine} has no flag {name}", hint=f"leave {name} out of the settings")
        else:
            self.flag(flag, value)

    def option(self, key: str, value: object) -> None:
        """One key of the engine's file, with dots between the levels."""
        *path, last = key.split(".")
        place = self.options
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value

    def flag(self, flag: Flag, value: Value) -> None:
        """A flag with its value; a variable stands in front of the program."""
        if value is None:
            return
        if flag.kind == "switch" and flag.name.startswith("-"):
            name = flag.name if value else next(iter(flag.off), "")
            self.words += [name] if name else []
            return
        text = _own_word(flag, _text(flag, value))
        _check_text(flag.name, text)
        if not flag.name.startswith("-"):
            self.variables.append((flag.name, text))
        elif flag.many:
            self.words += [flag.name, *text.split(",")]
        elif text.startswith("-"):
            self.words.append(f"{flag.name}={text}")
        else:
            self.words += [flag.name, text]


def _text(flag: Flag, value: Value) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if flag.kind == "bytes" and isinstance(value, int):
        return format((Decimal(value) / flag.unit_bytes).normalize(), "f")
    return repr(value) if isinstance(value, float) else str(value)


def _own_word(flag: Flag, text: str) -> str:
    return dict(flag.says).get(text, text)


def _from_json(value: Value) -> object:
    """Objects of TensorRT-LLM's file are kept as compact text (`trtllm.flags.own_settings`)."""
    if not isinstance(value, str):
        return value
    try:
        found: object = json.loads(value)
    except ValueError:
        return value
    return found


def _check_text(what: str, text: str) -> None:
    if not text or not text.isprintable():
        raise InputError(
            f"{what} {text!r} cannot stand in a command", hint="use printable characters, and some of them"
        )


# Read back ----------------------------------------------------------------------------------------------------------


def _check_read_back(launch: Launch, command: Command, fields: Mapping[Field, Value], table: tuple[Flag, ...]) -> None:
    """Raises InputError where the engine would read another model, another value, or a word that nobody knows."""
    names = [f"{name}={value}" for name, value in command.variables]
    read = read_command(table, (*names, *command.program, *command.words))
    if read.fields.get("model") != launch.model:
        raise InputError(
            f"the model's name {launch.model!r} cannot be told to {launch.engine}: it would read something else",
            hint="give the model as org/name, or as a path without blanks",
        )
    unknown = next((note.message for note in read.notes if note.code in ("flag-unknown", "flag-repeated")), None)
    wrong = unknown or _changed(fields, read, table)
    if wrong is not None:
        raise InputError(f"{launch.engine} would not read its own command: {wrong}", hint="check the launch's settings")


def _changed(fields: Mapping[Field, Value], read: Read, table: tuple[Flag, ...]) -> str | None:
    """The first field that comes back as something else."""
    rows = {flag.field: flag for flag in reversed(table) if flag.field is not None}
    for field, value in fields.items():
        flag = rows[field]
        back = read.fields.get(field)
        back = ",".join(map(str, back)) if isinstance(back, tuple) else back
        if not flag.key and back != (_own_word(flag, value) if isinstance(value, str) else value):
            return f"{flag.name} {value} comes back as {back}"
    return None


def _is_file(model: str) -> bool:
    """True for a path to a GGUF file; `org/name` and `org/name:Q4_K_M` are repositories."""
    return model.endswith(".gguf") or model.startswith((".", "/", "~")) or model.count("/") > 1
