"""What is asked of a model: engine, limits and layout, each value with its origin."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Origin = Literal["stated", "default", "inferred", "unresolved"]


class Option(NamedTuple):
    """One setting of the engine as it will run; a row of `layout.options` in JSON."""

    flag: str
    value: str | int | float | None
    origin: Origin


class Deployment(NamedTuple):
    """One engine serving one model."""

    engine: str
    context_tokens: int
    concurrency: int
    encoder_tokens: int = 0
    encoder_follows: bool = False
    """True where nobody stated the encoder's length, so that it is the context's."""
    kv_dtype: str | None = None
    """As asked for; None is the engine's `auto`."""
    tp: int = 1
    """Tensor-parallel ranks, one per GPU."""
    utilization_fraction: float | None = None
    """Share of the device's memory that the engine may use; None is the engine's default."""

    def with_context(self, context_tokens: int) -> "Deployment":
        """The same at another context, as if the user had typed it."""
        encoder_tokens = context_tokens if self.encoder_follows else self.encoder_tokens
        return self._replace(context_tokens=context_tokens, encoder_tokens=encoder_tokens)


class Constant(NamedTuple):
    """A number that was not computed: value, band and where it comes from."""

    value: float
    low: float
    high: float
    source: str


class Constants(NamedTuple):
    """The named constants of one engine at one version."""

    engine: str
    version: str
    by_name: Mapping[str, Constant]

    def of(self, name: str) -> Constant:
        """The constant called `name`."""
        return self.by_name[name]


class Refusal(NamedTuple):
    """Why an engine would not start; `verdict.reasons` in JSON."""

    code: str
    message: str
