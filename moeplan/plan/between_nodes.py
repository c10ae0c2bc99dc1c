"""Plans over several nodes, and what is taken to join them: a note, since no profile tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moeplan.core.hardware import Hardware
from moeplan.core.model import Remark
from moeplan.core.network import network_of, node_devices
from moeplan.plan.result import Plan


def spans_nodes(plan: Plan, hardware: Hardware) -> bool:
    """Whether a replica lies on several nodes, or two pools do together."""
    return any(pool.layout.num_nodes > 1 for pool in plan.pools) or (
        plan.pooling == "apart" and plan.num_gpus > node_devices(hardware)
    )


def network_notes(plans: Iterable[Plan], cards: Mapping[str, Hardware]) -> list[Remark]:
    """One for each network that is assumed, with the cards in its nodes."""
    told: dict[str, dict[str, int]] = {}
    for plan in plans:
        hardware = cards[plan.profile]
        if plan.speed is not None and spans_nodes(plan, hardware):
            told.setdefault(network_of(hardware).told, {})[plan.profile] = node_devices(hardware)
    return [
        Remark(
            "network-assumed",
            "warning",
            f"plans over several nodes of {', '.join(names)} take a network of {rate}, which is assumed and was not measured; "
            f"--max-gpus {min(names.values())} leaves only plans of one node",
        )
        for rate, names in told.items()
    ]
