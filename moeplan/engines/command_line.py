"""An engine's own command line, read by a table of its flags.

Each engine has such a table (`FLAGS` of its module `flags`). Reading never guesses: a flag that is not in the table,
or a value that is none, becomes a note that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.model import Remark

Kind = Literal["switch", "count", "fraction", "bytes", "text", "json"]
"""`switch` takes no value (`--no-x` turns it off); `count` is a whole number as engines read it (`32K` is 32,768);
`bytes` a size in the engine's own unit, see `Flag.unit_bytes`."""

Field = Literal[
    "model", "revision", "dtype", "quantization", "context_tokens", "concurrency", "kv_dtype", "utilization_fraction",
    "tp", "pp", "dp", "ep", "expert_parallel", "dp_attention", "dcp", "redundant_experts", "pp_layers", "num_nodes",
]  # fmt: skip
"""What all engines share; the last ten are fields of `core.layout.AskedLayout`."""


class Flag(NamedTuple):
    """One flag of an engine."""

    name: str
    """The canonical spelling, with its dashes."""
    kind: Kind = "text"
    aliases: tuple[str, ...] = ()
    field: Field | None = None
    """What it sets, where all engines have such a thing; else it is a setting of this engine under its own name."""
    unit_bytes: int = 1
    """Bytes that a plain number stands for."""
    matters: bool = True
    """False for flags that change no memory (ports, names, logging): read, and passed over in silence."""


class Command(NamedTuple):
    """What a command line says."""

    fields: Mapping[Field, Value | tuple[int, ...]]
    """By what they set."""
    settings: Mapping[str, Value]
    """The engine's other flags that matter to memory, by canonical name."""
    notes: tuple[Remark, ...]
    """What was not understood, code `flag-unknown`; how numbers with a suffix were read, code `count-reading`."""
