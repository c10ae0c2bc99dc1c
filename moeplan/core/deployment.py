"""What is asked of a model: engine, limits and layout, each value with its origin."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from moeplan.core.hardware import Hardware, Usable
from moeplan.core.layout import Layout
from moeplan.core.model import ModelSpec
from moeplan.core.quant import Quantisation
from moeplan.core.weights import Owned

Origin = Literal["stated", "default", "inferred", "unresolved"]
Value = str | int | float | bool | None


class Option(NamedTuple):
    """One setting of the engine as it will run; a row of `layout.options` in JSON."""

    flag: str
    value: Value
    origin: Origin


class Settings(NamedTuple):
    """All settings of an engine that matter to memory, as it would run them."""

    options: tuple[Option, ...]

    def value(self, flag: str) -> Value:
        """The value of `flag`; None where it is not set, or not among the settings."""
        for option in self.options:
            if option.flag == flag:
                return option.value
        return None

    def count(self, flag: str) -> int:
        """The value as a whole number; 0 where it is not set."""
        value = self.value(flag)
        return int(value) if isinstance(value, int | float) else 0

    def share(self, flag: str) -> float:
        """The value as a number; 0 where it is not set."""
        value = self.value(flag)
        return float(value) if isinstance(value, int | float) else 0.0

    def on(self, flag: str) -> bool:
        """True where the switch is on."""
        return bool(self.value(flag))

    def text(self, flag: str) -> str | None:
        """The value as a text; None where it is not set."""
        value = self.value(flag)
        return None if value is None else str(value)


class Deployment(NamedTuple):
    """One engine serving one model."""

    engine: str
    context_tokens: int
    concurrency: int
    """Sequences at the same time, over all data-parallel ranks together."""
    encoder_tokens: int = 0
    encoder_follows: bool = False
    """True where nobody stated the encoder's length, so that it is the context's."""
    kv_dtype: str | None = None
    """As asked for; None is the engine's `auto`."""
    layout: Layout = Layout()
    utilization_fraction: float | None = None
    """Share of the device's memory that the engine may use; None is the engine's default."""
    stated: Mapping[str, Value] = {}
    """Settings of the engine that somebody stated, by its own flag."""
    flags: Mapping[str, str] = {}
    """What was stated behind `--`, by what it sets (`context_tokens`, `tp`), with the engine's own flag for it: ways out
    are written in the user's own words."""

    def with_context(self, context_tokens: int) -> "Deployment":
        """The same at another context, as if the user had typed it."""
        encoder_tokens = context_tokens if self.encoder_follows else self.encoder_tokens
        return self._replace(context_tokens=context_tokens, encoder_tokens=encoder_tokens)

    @property
    def sequences_per_rank(self) -> int:
        """Sequences that one rank serves: data-parallel ranks share them out."""
        return -(-self.concurrency // self.layout.dp)


class Constant(NamedTuple):
    """A number that was not computed: value, band and where it comes from."""

    value: float
    low: float
    high: float
    source: str
    rows: tuple[str, ...] = ()
    """Observations that it was fitted to; empty where it was read in the engine's source."""
    error: str | None = None
    """How far off the rows it is."""


class Constants(NamedTuple):
    """The named constants of one engine at one version."""

    engine: str
    version: str
    by_name: Mapping[str, Constant]

    def of(self, name: str) -> Constant:
        """The constant called `name`."""
        return self.by_name[name]

    def at_least(self, version: str) -> bool:
        """True where the engine's version is `version` or newer."""
        return version_key(self.version) >= version_key(version)

    def asked_after(self, version: str) -> bool:
        """True where the engine's version is of a later release than `version`, whose patches count as itself."""
        last = version_key(version)
        return version_key(self.version)[: len(last)] > last


@lru_cache(maxsize=1024)
def version_key(version: str) -> tuple[int, ...]:
    """`0.11.2rc1` as (0, 11, 2) and `b5466` as (5466,): numbers that can be compared; what follows a number is dropped."""
    numbers = []
    for part in version.lower().removeprefix("v").removeprefix("b").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class Serving(NamedTuple):
    """An engine about to serve a model on some hardware: all that its rules may look at."""

    spec: ModelSpec
    owned: tuple[Owned, ...]
    quantisation: Quantisation
    deployment: Deployment
    hardware: Hardware | None
    memory: Usable | None
    constants: Constants

    @property
    def layout(self) -> Layout:
        """The deployment's layout."""
        return self.deployment.layout


class Refusal(NamedTuple):
    """Why an engine would not start; `verdict.reasons` in JSON."""

    code: str
    message: str
