"""The fewest GPUs that a model needs for the workload, as `estimate` judges them."""

from collections.abc import Callable, Iterator, Mapping
from shlex import split
from typing import NamedTuple

from moeplan.compare.result import Needed, Operations
from moeplan.core.ledger import total_bytes
from moeplan.estimate.result import MEMORY_REASONS, Estimate
from moeplan.estimate.ways_out import BY_MODEL
from moeplan.estimate.ways_out.devices import GPU_COUNTS

Degrees = Mapping[str, int | bool]
"""Keywords of `estimate` that state a layout."""
DEGREES = {"--tp": "tp", "--pp": "pp", "--dp": "dp", "--ep": "ep", "--dcp": "dcp"}


class Placed(NamedTuple):
    """The estimate on the fewest GPUs, or on those that come nearest."""

    estimate: Estimate
    degrees: Degrees
    tried: tuple[int, ...]
    no_load: str | None = None
    """Why the model cannot be asked for the load, where it fits."""

    @property
    def num_gpus(self) -> int | None:
        """None where it fits none of those tried."""
        return self.estimate.layout.num_gpus if self.estimate.verdict.fits else None


def place(ask: Callable[[int, Degrees], Estimate], most: int | None) -> Placed:
    """Try 1, 2, 4 and so on up to 64 GPUs, or up to `most`: the engine's own layout, else one that `estimate` finds to fit.

    `ask` estimates the workload on so many GPUs, in a layout of these degrees.
    """
    counts = GPU_COUNTS if most is None else (*(count for count in GPU_COUNTS if count < most), most)
    tried: list[tuple[Estimate, Degrees]] = []
    for number, count in enumerate(counts, 1):
        found = ask(count, {})
        if found.verdict.fits is not False:
            return Placed(found, {}, counts[:number])
        tried.append((found, {}))
        for degrees in _layouts(found):
            other = ask(count, degrees)
            if other.verdict.fits:
                return Placed(other, degrees, counts[:number])
        if not {reason.code for reason in found.verdict.reasons}.isdisjoint(BY_MODEL):
            return Placed(found, {}, counts[:number])  # no number of GPUs takes that away
    nearest, degrees = max(tried, key=_nearness)
    return Placed(nearest, degrees, counts)


def needed(placed: Placed) -> Needed:
    """How many GPUs, or what is missing."""
    found = placed.estimate
    known = found.verdict.fits is not None
    return Needed(
        fits=found.verdict.fits,
        certain=found.verdict.certain,
        num_gpus=placed.num_gpus,
        layout=found.layout if known else None,
        headroom_bytes=found.verdict.headroom_bytes,
        max_concurrency=found.capacity.max_concurrency,
        reasons=found.verdict.reasons,
        tried=placed.tried,
    )


def operations(placed: Placed, budget_gpus: int) -> Operations | None:
    """What running it takes; None where it does not fit."""
    count = placed.num_gpus
    if count is None:
        return None
    replicas = budget_gpus // count
    hosts = (rank for rank in placed.estimate.ranks if rank.device == "host")
    return Operations(
        ranks=count,
        num_nodes=placed.estimate.layout.num_nodes,
        replicas=replicas,
        idle_gpus=budget_gpus - replicas * count,
        lost_fraction=1 / replicas,
        host_bytes=sum(total_bytes(rank.lines) for rank in hosts),
    )


def _layouts(found: Estimate) -> Iterator[Degrees]:
    """Layouts on the same GPUs that `estimate` names among its ways out."""
    for way in found.verdict.ways_out:
        degrees: dict[str, int | bool] = {}
        words = iter(split(way.change))
        for word in words:
            if word == "--dp-attention":
                degrees["dp_attention"] = True
            elif word in DEGREES:
                degrees[DEGREES[word]] = int(next(words))
            else:  # something else than a layout
                break
        else:
            yield degrees


def _nearness(tried: tuple[Estimate, Degrees]) -> tuple[int, int]:
    """What the engine refuses least comes nearest; then what lacks least memory."""
    verdict = tried[0].verdict
    refused = sum(reason.code not in MEMORY_REASONS for reason in verdict.reasons)
    return -refused, verdict.headroom_bytes or 0
