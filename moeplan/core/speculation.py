"""Speculation: drafts of the next tokens, verified in one step of the model, and what that gives.

Symbols: g drafted tokens, one after the other; v tokens of a sequence that a step verifies, its last one and all drafts (g + 1
unless drafts branch); a the acceptance, the probability that a drafted token is taken where all before it were.

    tokens per step    A = 1 + a + ... + a^g = (1 - a^(g+1)) / (1 - a): the drafts that are taken, and one of the model's own
    speed-up           A plain / (verify + draft), seconds of steps of the same sequences
    break-even         the a at which what is gained is 1; none where even a = 1 does not reach it

The verify step is a step of `core/step_time` with v tokens of each sequence, the draft step the same of the draft layers: a
first pass over all verified tokens, whose entries the drafts' cache lacks, and g - 1 passes over one token (or one for
each branch), each with the head (NVIDIA/TensorRT-LLM docs/source/blogs/tech_blog/blog2_DeepSeek_R1_MTP_Implementation_and_Optimization.md,
MTP Eagle; vLLM v1/spec_decode). Acceptance is taken as one number: drafts further ahead are accepted less often in truth, so a
number that was measured with other g is too good or too bad (Leviathan et al. 2023, arXiv 2211.17192, for the formulas).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from moeplan.core.expert_use import ExpertUse
from moeplan.core.step_time import StepLoad, StepModel, StepPart, StepTime, step_time

DraftKind = Literal["own_layers", "lookup", "other_model"]
"""`own_layers`: the checkpoint's draft layers (MTP); `lookup`: n-grams or suffixes of the text, on the host, taken as free;
`other_model`: weights that nobody reads here."""


class Drafts(NamedTuple):
    """How an engine is set to speculate."""

    tokens: int
    """Drafted one after the other: most that a step may take."""
    verify_tokens: int
    """Of each sequence in a step that verifies."""
    kind: DraftKind
    branches: int = 1
    """Tokens of each sequence in the passes of a draft that branches."""
    model: str | None = None
    """Of the draft, as the engine is told it."""


class Drafting(NamedTuple):
    """Speculation as a step model sees it."""

    verify_tokens: int
    tokens_per_step: float
    """Of a sequence, on average."""
    passes: int = 0
    """Of the draft layers in a step; 0 for drafts that cost nothing."""
    layers: StepModel | None = None
    """The layer of one pass and the head, on a rank; None for drafts that cost nothing."""
    branches: int = 1


class Speculating(NamedTuple):
    """Speculation with the times of the draft's operations."""

    drafts: Drafts
    acceptance: float | None
    layers: StepModel | None
    """One draft layer with the head; None where drafts cost nothing, or nobody knows what."""
    cost_known: bool

    @property
    def counts(self) -> bool:
        """Whether times and rates of the speed are those with speculation."""
        return self.acceptance is not None and self.cost_known

    @property
    def tokens_per_step(self) -> float | None:
        """None without an acceptance."""
        return None if self.acceptance is None else tokens_per_step(self.acceptance, self.drafts.tokens)

    @property
    def drafting(self) -> Drafting:
        """As a step model sees it; one token a step where nobody says how many."""
        tokens, verify, _, branches, _ = self.drafts
        return Drafting(verify, self.tokens_per_step or 1.0, tokens if self.layers else 0, self.layers, branches)


def tokens_per_step(acceptance: float, drafted: int) -> float:
    """Tokens that a step brings a sequence: 1 + a + ... + a^g, at most g + 1."""
    return sum((float(acceptance) ** taken for taken in range(drafted + 1)), 0.0)


def acceptance_of(tokens: float, drafted: int) -> float | None:
    """The acceptance with which a step brings so many tokens: the inverse, by halving. 0 for one token and less, None for more
    than g + 1, which no acceptance brings."""
    if tokens > drafted + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):  # neighbours among floats
            break
        if tokens_per_step(middle, drafted) < tokens:
            low = middle
        else:
            high = middle
    return 0.0 if tokens <= 1 else high


def least_tokens(gain: Callable[[float], float], most: float) -> float | None:
    """Tokens of a step, from 1 to `most`, from which on `gain` is 1 or more; None where `most` is not enough.

    `gain` grows with them. Seconds of an answer are all but linear in the inverse of the tokens, so that a false position there
    (Illinois: an end that stays counts half) is near after a few tries.
    """

    def off(inverse: float) -> float:
        return 1 - 1 / gain(1 / inverse)

    low, high = 1 / most, 1.0  # as inverses: `low` has most tokens
    at_low, at_high = off(low), off(high)
    if at_high >= 0:
        return 1.0
    if at_low < 0:
        return None
    for _ in range(60):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        found = off(middle)
        if abs(found) < 1e-9 or high - low < 1e-12:
            return 1 / middle
        if found > 0:
            low, at_low, at_high = middle, found, at_high / 2
        else:
            high, at_high, at_low = middle, found, at_low / 2
    return 1 / low


def draft_part(drafting: Drafting, load: StepLoad, use: ExpertUse) -> StepPart | None:
    """Seconds of all passes of the draft layers, for the sequences and prompts of a step that verifies; None where drafts cost
    nothing."""
    if drafting.layers is None or not drafting.passes:
        return None
    steps = [step_time(drafting.layers, load._replace(sampled=1), use)]
    if drafting.passes > 1 and load.decoding:
        further = StepLoad(load.decoding, load.context_tokens, each=drafting.branches, sampled=drafting.branches)
        steps += [step_time(drafting.layers, further, use)] * (drafting.passes - 1)
    # Passes are alike, so their errors add up.
    return StepPart(
        "draft",
        sum(step.seconds for step in steps),
        sum(step.low_s for step in steps),
        sum(step.high_s for step in steps),
        StepTime(tuple(part for step in steps for part in step.parts)).basis,
        steps[0].slowest.binding,
    )
