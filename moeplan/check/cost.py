"""What all copies of a deployment cost, where a price is known."""

from __future__ import annotations

from typing import NamedTuple

from moeplan.check.estimates import Outcome
from moeplan.check.gangs import total_gpus


class Cost(NamedTuple):
    """US dollars per hour, and whose price that is."""

    usd_per_hour: float
    source: str


def usd_per_hour(outcome: Outcome) -> Cost | None:
    """At the policy's price, else at the highest of the hardware profile; None where neither is known."""
    cards, total = outcome.cards, total_gpus(outcome)
    if cards is None or total is None:
        return None
    if outcome.usd_per_hour_of_gpu is not None:
        return Cost(outcome.usd_per_hour_of_gpu * total, f"policy: {outcome.usd_per_hour_of_gpu:g} per GPU")
    if cards.price is None:
        return None
    told = f"{cards.profile}: up to {cards.price.high_usd_per_hour:g} per GPU as of {cards.price.as_of}"
    return Cost(cards.price.high_usd_per_hour * total, told)
