"""What a row of an engine's flag table says, and short ways to write many such rows."""

from typing import Literal, NamedTuple

from moeplan.core.deployment import Value

Kind = Literal["switch", "count", "counts", "number", "fraction", "bytes", "text", "json", "file"]
"""`switch` takes no value; `count` is a whole number as engines read it (`32K` is 32,768) and `counts` several with
commas; `number` is zero or more; `fraction` lies above 0 and up to 1; `bytes` is a size in `Flag.unit_bytes`;
`json` an object; `file` a file of further settings, which is not read."""

Field = Literal[
    "model", "revision", "dtype", "quantization", "context_tokens", "concurrency", "kv_dtype", "utilization_fraction",
    "tp", "pp", "dp", "ep", "expert_parallel", "dp_attention", "dcp", "redundant_experts", "pp_layers", "num_nodes",
]  # fmt: skip
"""What all engines share; the last ten are fields of `core.layout.AskedLayout`."""


class Flag(NamedTuple):
    """One flag of an engine, or an environment variable that it reads."""

    name: str
    """The canonical spelling, with its dashes. A variable has none; a key of a JSON flag follows a dot
    (`--eplb-config.num_redundant_experts`)."""
    kind: Kind = "text"
    aliases: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    """Spellings that turn a switch off."""
    field: Field | None = None
    """What it sets, where all engines have such a thing; else it is a setting of this engine under its own name."""
    implies: tuple[tuple[Field, Value], ...] = ()
    """What it sets besides, unless its value is 1, which is off."""
    unit_bytes: int = 1
    """Bytes that a plain number stands for."""
    minimum: int = 1
    """Least value of a count."""
    auto: tuple[str, ...] = ()
    """Values with which the engine chooses by itself: read as None."""
    words: tuple[str, ...] = ()
    """Words that stand where a number could; kept as they are."""
    bare: str | None = None
    """What the flag means without a value; None where it must have one."""
    many: bool = False
    """Takes all words up to the next flag; they are joined by commas."""
    gathers: bool = False
    """Adds to what it said before, with a comma, where other flags replace it."""
    decimal: bool = False
    """Reads `k`, `M`, `G` as powers of 1000 and wants an `i` for those of 1024, as SGLang does."""
    glued: bool = False
    """May hold its value in the same word, without a sign between (`-O3`)."""
    stands_for: str = ""
    """The words that it is short for."""
    matters: bool = True
    """False for flags that change no memory (ports, names, logging): read, and passed over in silence."""
    says: tuple[tuple[str, str], ...] = ()
    """Values that moeplan calls otherwise than the engine: ours, then its own. For writing; both are read."""
    key: str = ""
    """Where the flag is not in all releases: the key of the engine's file of options that says the same in each of them,
    with dots. For writing."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that somebody may type for it."""
        return (self.name, *self.aliases, *self.off)


def rows(
    names: str, kind: Kind = "text", *, many: bool = False, minimum: int = 1, unit_bytes: int = 1
) -> tuple[Flag, ...]:
    """Settings of one kind, from names with spaces between; `--name/-n` has an alias."""
    spelled = (name.split("/") for name in names.split())
    return tuple(
        Flag(first, kind, tuple(more), many=many, minimum=minimum, unit_bytes=unit_bytes) for first, *more in spelled
    )


def quiet(names: str, kind: Kind = "text", *, many: bool = False, bare: str | None = None) -> tuple[Flag, ...]:
    """Flags that change no memory, from names with spaces between."""
    return tuple(flag._replace(bare=bare, matters=False) for flag in rows(names, kind, many=many))


def negatable(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """Switches that `--no-x` turns off."""
    return tuple(flag._replace(off=_negated(flag)) for flag in flags)


def both_ways(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """Switches that `--no-x` turns off, and `--disable-x` where their name is `--enable-x` and the reverse.

    Source: vLLM 0.33.0 utils/argparse_utils.py, EnableDisableAction.
    """
    return tuple(flag._replace(off=(*_negated(flag), *_inverse(flag))) for flag in flags)


def _negated(flag: Flag) -> tuple[str, ...]:
    long = (name for name in (flag.name, *flag.aliases) if name.startswith("--"))
    return tuple(f"--no-{name.removeprefix('--')}" for name in long)


def _inverse(flag: Flag) -> tuple[str, ...]:
    return tuple(
        other + flag.name.removeprefix(start)
        for start, other in (("--enable-", "--disable-"), ("--disable-", "--enable-"))
        if flag.name.startswith(start)
    )
