"""What to go to where something fails: the conditions of each failure, under which the search is asked again."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moeplan.core.expert_use import ExpertUse
from moeplan.core.units import per_second
from moeplan.core.workload import Lengths, Workload

Failure = Literal["rank-lost", "skew-doubled", "context-p99"]
FAILURES: tuple[Failure, ...] = ("rank-lost", "skew-doubled", "context-p99")


class Conditions(NamedTuple):
    """What a plan is held against."""

    workload: Workload
    use: ExpertUse
    spare: int
    """Replicas that are lost."""
    told: str
    """What is taken to happen."""


def conditions(failure: Failure, workload: Workload, use: ExpertUse) -> Conditions:
    """A failure as conditions of a search."""
    match failure:
        case "rank-lost":
            told = "a GPU fails, and with it the replica that it belongs to; the others take its requests"
            return Conditions(workload, use, 1, told)
        case "skew-doubled":
            twice = use.doubled()
            told = (
                f"the gates choose twice as unevenly: exponent {per_second(twice.exponent)} where "
                f"{per_second(use.exponent)} was taken"
            )
            return Conditions(workload, twice, 0, told)
        case "context-p99":
            longest = at_p99(workload)
            alike = "fills its context" if _one_length(workload) else "is as long as one in a hundred"
            told = f"every request {alike}: {longest.context_p99_tokens:,} tokens"
            return Conditions(longest, use, 0, told)


def at_p99(workload: Workload) -> Workload:
    """The workload with all its requests at the 99th percentile; where one length was stated, as long as the context."""
    longest = workload.context_p99_tokens
    if _one_length(workload):
        longest = workload.context_tokens
    answer = max(1, round(workload.mean_output_tokens))
    prompt = max(1, longest - answer)
    one = workload.classes[0]._replace(
        name="p99",
        share_fraction=1.0,
        input_tokens=Lengths(prompt, prompt, prompt),
        output_tokens=Lengths(answer, answer, answer),
    )
    return workload._replace(classes=(one,))


def _one_length(workload: Workload) -> bool:
    return all(each.input_tokens.p50 == each.input_tokens.p99 for each in workload.classes)
