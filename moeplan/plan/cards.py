"""The cards that a search looks at, and those that it leaves out with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware, Usable, usable
from moeplan.core.kernel_set import HOSTS
from moeplan.plan.result import Term
from moeplan.sources.hardware_profiles import find_hardware, list_hardware


class Card(NamedTuple):
    """A device to plan with."""

    hardware: Hardware
    memory: Usable
    bandwidth_bytes_per_s: float
    node_gpus: int
    """Devices that a node holds at most, or that one link joins."""
    max_gpus: int


class LeftOut(NamedTuple):
    """A device that is not planned with."""

    profile: str
    term: Term
    why: str


def find_cards(
    asked: Sequence[str], max_gpus: int, folders: Sequence[Path], *, priced: bool
) -> tuple[list[Card], list[LeftOut]]:
    """The cards asked for by name (`h100`, `8xh100` for at most eight), or all profiles.

    `priced` leaves out cards whose price is not known. InputError for a name that is not known.
    """
    if asked:
        found = [find_hardware(name, folders) for name in asked]
        pairs = [(hardware, count or max_gpus) for hardware, count in found]
    else:
        pairs = [(row.hardware, max_gpus) for row in list_hardware(folders) if row.hardware is not None]
    broken = [] if asked else [row for row in list_hardware(folders) if row.hardware is None]
    left = [LeftOut(row.profile, "profile", row.problem or "cannot be read") for row in broken]
    cards: list[Card] = []
    for hardware, most in {hardware.profile: (hardware, most) for hardware, most in pairs}.values():
        card = _card(hardware, most, priced=priced)
        if isinstance(card, Card):
            cards.append(card)
        else:
            left.append(card)
    return cards, left


def _card(hardware: Hardware, most: int, *, priced: bool) -> Card | LeftOut:
    if hardware.architecture in HOSTS or hardware.vendor == "cpu":
        return LeftOut(hardware.profile, "profile", "a host without an accelerator is not planned with")
    memory, bandwidth = usable(hardware), hardware.memory_bandwidth_bytes_per_s
    missing = [
        name
        for name, value in (("memory.nominal_bytes", memory), ("memory_bandwidth_bytes_per_s", bandwidth))
        if value is None
    ]
    if memory is None or bandwidth is None:
        return LeftOut(hardware.profile, "profile", f"its profile lacks {' and '.join(missing)}")
    if priced and hardware.price is None:
        return LeftOut(hardware.profile, "price", "its price is not known")
    joined = hardware.scale_up.domain_devices if hardware.scale_up is not None else None
    node = 1 if hardware.slice else max((*hardware.node_sizes, joined or 1))
    return Card(hardware, memory, float(bandwidth), node, 1 if hardware.slice else most)


def check_priced(asked: Sequence[str], left: Sequence[LeftOut]) -> None:
    """InputError where a card was named and costs are asked for that nobody knows."""
    lacking = [each.profile for each in left if each.term == "price"]
    if asked and lacking:
        raise InputError(
            f"{', '.join(lacking)}: the price is not known, and plans are to be ranked by cost",
            hint="say --rank gpus (or latency, throughput), or write price_usd_per_hour into a profile of your own (--profiles)",
        )
