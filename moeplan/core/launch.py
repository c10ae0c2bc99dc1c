"""What it takes to start one replica of a model: plain data, from which an engine's command and deployment files are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.layout import Layout


class Launch(NamedTuple):
    """One replica: one engine with its whole layout."""

    engine: str
    """A name of `engines.ENGINES`."""
    model: str
    """As the engine is told: a Hub id, `org/name:Q4_K_M` for a GGUF file of llama.cpp, or a path."""
    layout: Layout
    """As the engine resolved it. `pp_layers` is written where the engine would not split so by itself; empty leaves the
    split to it."""
    context_tokens: int
    """The longest sequence, prompt and answer together."""
    sequences: int | None = None
    """Most at the same time, over all data-parallel ranks together; None leaves the limit to the engine."""
    engine_version: str | None = None
    """As `profiles/engines` counts them: `0.33.0`, `b11312`."""
    revision: str | None = None
    """Commit of the model."""
    kv_dtype: str | None = None
    """In moeplan's words (`fp8`); None is the engine's `auto`."""
    utilization_fraction: float | None = None
    """The engine's own share of memory; None leaves it to the engine."""
    quantization: str | None = None
    """What the engine makes of the weights while it loads them, in its own words (`fp8`); None takes them as stored."""
    settings: Mapping[str, Value] = {}
    """Further settings, by the engine's own flag as `Deployment.stated` has them; sizes are bytes."""


OPTIONS_FLAG = "--extra_llm_api_options"
"""TensorRT-LLM's flag for its file of options, as every release has it; since 1.1 also `--config`."""


class Place(NamedTuple):
    """Where among the nodes of one replica a command runs, and what it finds there."""

    rank: str = "0"
    """Number of the node; a text, because a variable may stand for it."""
    leader: str = "LEADER_ADDRESS"
    """Address of node 0."""
    follows: bool = False
    """True on every node but the first."""
    options_path: str = "engine-options.yaml"
    """Where the engine finds its file of options."""


class Command(NamedTuple):
    """An engine's own command."""

    variables: tuple[tuple[str, str], ...]
    """Environment that it needs."""
    program: tuple[str, ...]
    words: tuple[str, ...]
    """Model and flags; each word is one argument, without quotes."""
    options: Mapping[str, object]
    """What only the engine's file of options can say, as YAML holds it; empty where there is nothing. The words name the
    file by `Place.options_path`."""


CommandOf = Callable[[Launch, Place], Command]
"""`engines.command_line.writing.launch_command`, as writers of files take it."""
