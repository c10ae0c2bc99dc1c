"""The `speed` block of an estimate: result types, with the names of the JSON contract."""

from typing import Literal, NamedTuple

from moeplan.core.step_time import StepPart
from moeplan.core.workload import LoadAsked

SpeedBasis = Literal["measured", "carried", "assumed"]
"""`measured`: from kernels measured on such a device; `carried`: from those of the nearest that was; `assumed`: no kernel of
some part was measured anywhere."""


class Time(NamedTuple):
    """Seconds with a band."""

    value_s: float
    low_s: float
    high_s: float
    basis: SpeedBasis


class Rate(NamedTuple):
    """Tokens of answers per second, with a band."""

    value: float
    low: float
    high: float
    basis: SpeedBasis


class Rates(NamedTuple):
    """The rate as one user sees it, as each GPU brings it, and of the whole layout."""

    per_user: Rate
    per_gpu: Rate
    total: Rate


class Skew(NamedTuple):
    """How unevenly the router is taken to choose."""

    exponent: float
    """Of a Zipf law of the gates' weights; where a profile was counted, of the law that is nearest to it."""
    growth: float
    """Exponent b of distinct experts over n neighbouring tokens, k n^b."""
    basis: Literal["assumed", "stated", "measured"]
    why: str


class AtConcurrency(NamedTuple):
    """The middle of the band at another concurrency."""

    concurrency: int
    ttft_s: float
    tpot_s: float
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    fits: bool | None
    """Whether the cache holds so many sequences of the asked context; None where memory is not known."""


class Step(NamedTuple):
    """One step by its parts, each all of its kind in the model."""

    seconds: float
    low_s: float
    high_s: float
    parts: tuple[StepPart, ...]


class Meets(NamedTuple):
    """Whether limits are kept, by the middle of the band; None where none was stated."""

    ttft: bool | None
    tpot: bool | None
    arrival: bool | None
    """Whether as many requests are answered as come in."""

    @property
    def missed(self) -> bool:
        """True where any limit is not kept."""
        return False in self


class ClassSpeed(NamedTuple):
    """One class of requests, as if all requests in flight were of its kind."""

    name: str
    ttft: Time
    tpot: Time
    meets: Meets


class Speed(NamedTuple):
    """How fast the layout is under a load."""

    load: LoadAsked
    concurrency: int
    """Requests in flight, that all figures but those of `over_concurrency` are for."""
    step_tokens: int
    """New tokens of one step at most, by the engine's settings."""
    skew: Skew | None
    """None for a model without routed experts."""
    ttft: Time
    tpot: Time
    output_tokens_per_s: Rates
    over_concurrency: tuple[AtConcurrency, ...]
    decode_step: Step
    prefill_step: Step
    binding: str
    """What takes longest in a decode step, and what limits it."""
    regime: str
    extrapolated: tuple[str, ...]
    """What lies outside of what was measured."""
    classes: tuple[ClassSpeed, ...]
    """Empty where all requests are alike."""
    meets: Meets
    """Of all classes together."""
