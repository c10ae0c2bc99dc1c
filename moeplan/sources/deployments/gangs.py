"""Engines that span pods: how many, which of several commands leads, and the GPUs of all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, Gang, Quote
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.words import has_flag, value_of

_DEGREES = (
    ("--tensor-parallel-size", "-tp"),
    ("--pipeline-parallel-size", "-pp"),
    ("--data-parallel-size", "-dp"),
)
_RANKS = ("--node-rank", "--data-parallel-start-rank", "--data-parallel-rank")


def counted(number: int, like: Quote, why: str) -> Quote:
    """A number that follows from what stands at `like`."""
    return Quote(str(number), like.spot, "inferred", why=why)


def times(number: Quote | None, groups: Quote | None) -> Quote | None:
    """So many of each of so many; None is one."""
    if groups is None or groups.whole_number() == 1:
        return number
    if number is None:
        return groups
    one, other = number.whole_number(), groups.whole_number()
    if one is None or other is None:
        return number
    return counted(one * other, number, f"{groups.text} groups of {number.text}")


def follows(command: Sequence[Quote]) -> bool:
    """True for the command of a node that only helps another one: `--headless`, or a rank above 0."""
    if has_flag(command, "--headless"):
        return True
    ranks = (value_of(command, flag) for flag in _RANKS)
    return any(rank is not None and (rank.whole_number() or 0) > 0 for rank in ranks)


def leading(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs without those that follow another; all of them where each follows."""
    return tuple(run for run in runs if not follows(run.command)) or tuple(runs)


def nodes_of(command: Sequence[Quote]) -> Quote | None:
    """The nodes that the command says its engine spans: `--nnodes`, or all ranks of data parallelism over those of one node.

    None where it says nothing, or one.
    """
    stated = value_of(command, "--nnodes")
    if stated is not None:
        return None if stated.whole_number() in (0, 1) else stated
    groups = value_of(command, "--data-parallel-size", "-dp")
    local = value_of(command, "--data-parallel-size-local", "-dpl")
    if groups is None or local is None:
        return None
    all_ranks, own = groups.whole_number(), local.whole_number()
    if not all_ranks or not own or all_ranks % own or all_ranks == own:
        return None
    return counted(all_ranks // own, groups, "--data-parallel-size / --data-parallel-size-local")


def ranks_of(command: Sequence[Quote]) -> int | None:
    """GPUs that vLLM's layout needs: tensor x pipeline x data parallel; None where a degree is not known."""
    needed = 1
    for flags in _DEGREES:
        quote = value_of(command, *flags)
        number = 1 if quote is None else quote.whole_number()
        if not number:
            return None
        needed *= number
    return needed


def _ray_nodes(deployed: Deployed) -> Quote | None:
    """The pods that a layout reaches over by Ray, which takes GPUs wherever its cluster has them."""
    backend = value_of(deployed.command, "--distributed-executor-backend")
    gpus = deployed.gang.gpus_per_pod
    each = gpus.whole_number() if gpus is not None else None
    needed = ranks_of(deployed.command)
    if backend is None or backend.text != "ray" or not each or needed is None or needed <= each or needed % each:
        return None
    return counted(needed // each, backend, "--distributed-executor-backend ray")


def spread(deployed: Deployed) -> Deployed:
    """A workload whose command says that its engine spans nodes: so many of its pods are one engine.

    Where the other nodes are objects of their own, this one has one pod and stands for all.
    """
    nodes = nodes_of(deployed.command) or _ray_nodes(deployed)
    if nodes is None:
        return deployed
    gang = deployed.gang
    pods = 1 if gang.replicas is None else gang.replicas.whole_number()
    num_nodes = nodes.whole_number()
    if pods is None:
        return deployed._replace(gang=gang._replace(pods_per_engine=nodes, replicas=None))
    if num_nodes is None:
        if gang.replicas is None or pods < 2:
            return deployed
        whole = counted(pods, gang.replicas, "all pods are one engine: --nnodes")
        return deployed._replace(gang=gang._replace(pods_per_engine=whole, replicas=None))
    if gang.replicas is not None and pods >= num_nodes and pods % num_nodes == 0:
        engines = counted(pods // num_nodes, gang.replicas, f"{pods} pods, {num_nodes} for each engine")
        gang = gang._replace(replicas=engines, max_replicas=_fewer(gang.max_replicas, num_nodes))
    elif gang.replicas is not None and pods > 1:
        whole = counted(pods, gang.replicas, "all pods are one engine: --nnodes")
        return deployed._replace(gang=gang._replace(pods_per_engine=whole, replicas=None))
    why = nodes.why or "--nnodes"
    return deployed._replace(gang=gang._replace(pods_per_engine=counted(num_nodes, nodes, why)))


def _fewer(pods: Quote | None, num_nodes: int) -> Quote | None:
    """Engines among the pods that an autoscaler may run."""
    number = pods.whole_number() if pods is not None else None
    return pods if pods is None or number is None else counted(number // num_nodes, pods, f"{num_nodes} pods for each")


class PodGroup(NamedTuple):
    """Pods of one engine that are alike: a head or leader, or its workers."""

    gpus: Quote | None
    """Of each pod."""
    number: int
    where: Quote
    """What the number stands at."""


def num_gpus(groups: Sequence[PodGroup]) -> int | None:
    """GPUs of all pods together; None where a pod leaves its own open."""
    each = [0 if group.gpus is None else group.gpus.whole_number() for group in groups]
    told = [number for number in each if number is not None]
    return (
        sum(gpus * group.number for gpus, group in zip(told, groups, strict=True)) if len(told) == len(each) else None
    )


def gang_of(gang: Gang, groups: Sequence[PodGroup]) -> Gang:
    """The gang with the GPUs of these pods; those without any do not count as pods of the engine.

    Where pods have different numbers of GPUs, all of them are stated as those of one.
    """
    holders = [(each.gpus, each) for each in groups if each.number and each.gpus and each.gpus.whole_number() != 0]
    if not holders:
        return gang._replace(gpus_per_pod=next((each.gpus for each in groups if each.gpus is not None), None))
    gpus, first = holders[0]
    if len({quote.text for quote, _ in holders}) == 1:
        number = sum(each.number for _, each in holders)
        if number == 1:
            return gang._replace(gpus_per_pod=gpus, pods_per_engine=None)
        exact = first.where if first.where.whole_number() == number else None
        pods = exact or counted(number, holders[-1][1].where, "pods with GPUs")
        return gang._replace(gpus_per_pod=gpus, pods_per_engine=pods)
    total = num_gpus(groups)
    if total is None:
        return gang._replace(gpus_per_pod=gpus)
    told = " + ".join(f"{each.number} x {quote.text}" for quote, each in holders)
    return gang._replace(gpus_per_pod=counted(total, gpus, told), pods_per_engine=None)
