"""The `speed` block of an estimate: result types, with the names of the JSON contract."""

from typing import Literal, NamedTuple

from moeplan.core.speculation import DraftKind
from moeplan.core.step_time import StepPart
from moeplan.core.workload import LoadAsked

SpeedBasis = Literal["measured", "carried", "assumed"]
"""`measured`: from kernels measured on such a device; `carried`: from those of the nearest that was; `assumed`: no kernel of
some part was measured anywhere. Times and rates of whole runs are `measured` only where runs of the card were published too."""


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


class Gain(NamedTuple):
    """How many times as fast, with a band."""

    value: float
    low: float
    high: float


class Needed(NamedTuple):
    """An acceptance from which on speculation pays, with a band; None where no acceptance is enough."""

    value: float | None
    low: float | None
    high: float | None


class DecodeStep(NamedTuple):
    """A step of the whole model, and the experts of a layer that it touches."""

    time: Time
    experts: float | None
    """Distinct ones over the whole expert group; None in a dense model."""
    experts_low: float | None
    experts_high: float | None


class LoadFigures(NamedTuple):
    """The load that was asked for, one way or another."""

    ttft: Time
    tpot: Time
    output_tokens_per_s: Rates


class LoadGain(NamedTuple):
    """The load with drafts over the same load without, each figure by itself."""

    output_tokens_per_s: Gain
    """Above 1 drafts gain."""
    tpot: Gain
    """Below 1 a further token comes sooner; so with the first."""
    ttft: Gain


class SpeculationAt(NamedTuple):
    """Speculation at another concurrency, the middle of its band."""

    concurrency: int
    plain_experts: float | None
    verify_experts: float | None
    step_ratio: float
    """Seconds of verifying and drafting over those of a plain step."""
    speed_up: float | None
    """Of steps of decode, as above."""
    tokens_gain: float | None
    """Tokens per second of the load with drafts over without."""
    break_even_acceptance: float | None
    fits: bool | None
    """As in `over_concurrency` of the speed."""


class Speculation(NamedTuple):
    """What drafts of the next tokens cost and give: in steps that decode and read no prompt, and under the load that was asked."""

    draft_tokens: int
    """Drafted one after the other: most that a step may take."""
    verify_tokens: int
    """Of each sequence in a step that verifies: its last one and all drafts."""
    draft_kind: DraftKind
    draft_model: str | None
    acceptance: float | None
    """Probability that a drafted token is taken where all before it were; None where nobody said."""
    tokens_per_step: float | None
    growth: float | None
    """Exponent b of distinct experts over the tokens of one sequence, k n^b, and its band; None in a dense model."""
    growth_low: float | None
    growth_high: float | None
    plain: DecodeStep
    verify: DecodeStep
    draft: Time | None
    """Of all passes of the draft layers in a step; 0 for drafts by lookup. None where it is not known: then what follows is that
    of a draft that takes no time, a bound."""
    speed_up: Gain | None
    """Of steps of decode. Its band is that of the growth: errors of kernels fall on both steps alike. None without an acceptance."""
    without: LoadFigures
    """The same load without drafts."""
    under_load: LoadGain | None
    """What drafts make of it; of a draft whose time is not known the most. None without an acceptance."""
    band_covers: str
    """What the bands of gains are made of, and how far off published runs were."""
    break_even_acceptance: Needed
    """From which on tokens per second of the load are more than without drafts."""
    draft_budget_s: float | None
    """What all drafts of a step may take at most for a step of decode to pay; None without an acceptance, negative where nothing
    helps."""
    over_concurrency: tuple[SpeculationAt, ...]
    pays: bool | None
    """Whether tokens per second of the load rise; None where the band has 1 in it, where the draft's time is not known, or without
    an acceptance."""
    why: str
    in_figures: bool
    """Whether times and rates of the speed are those with speculation."""


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
    speculation: Speculation | None
    """None where nothing is drafted."""
