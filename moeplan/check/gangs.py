"""How many engines run, and how many GPUs they take together."""

from __future__ import annotations

from moeplan.check.estimates import Outcome
from moeplan.check.subject import Subject


def replicas_of(subject: Subject) -> int | None:
    """Copies of the engine, the most that an autoscaler may run; None where the file leaves it open."""
    gang = subject.deployed.gang
    most = gang.max_replicas or gang.replicas
    return 1 if most is None else most.whole_number()


def total_gpus(outcome: Outcome) -> int | None:
    """GPUs of all copies; None where the file does not say and nothing was estimated."""
    each = outcome.subject.gpus_per_engine
    if each is None and outcome.estimate is not None:
        each = outcome.estimate.layout.num_gpus
    copies = replicas_of(outcome.subject)
    return None if each is None or copies is None else each * copies
