"""What joins nodes, by the kind of node: rates worked by hand, and the part of a pipeline's step that they make."""

from __future__ import annotations

from typing import Any

import pytest

import moeplan
from moeplan.core.errors import UnknownError
from moeplan.core.hardware import Hardware, Pcie, ScaleUp
from moeplan.core.network import in_nodes, joins_of, network_of, node_devices
from moeplan.core.serving_speed import SENDS_BAND, ServedLoad, serving_speed
from moeplan.core.step_time import StepPart
from tests.core.test_serving_speed import card, stages

NVLINK = ScaleUp("NVLink", 400_000_000_000, 8)
PCIE = Pcie(4, 16)
PCIE_BYTES_PER_S = 16e9 * 16 * 128 / 130 / 8
PAIRS = ScaleUp("NVLink bridge", 56_000_000_000, 2)


def device(**told: Any) -> Hardware:
    return Hardware("x", "X", **told)


@pytest.mark.parametrize(
    ("hardware", "bytes_per_s", "exchanges"),
    [
        (device(scale_up=NVLINK, node_sizes=(4, 8)), 50e9, True),
        (device(scale_up=NVLINK._replace(domain_devices=72), node_sizes=(4, 72)), 50e9, True),
        (device(pcie=PCIE, node_sizes=(1, 2, 4, 8)), 100e9 / 8 / 8, False),
        (device(pcie=PCIE, node_sizes=(1, 2)), 100e9 / 8 / 2, False),
        (device(pcie=PCIE), 100e9 / 8 / 8, False),
        # Bridges of two in a node of eight are no link of the node.
        (device(scale_up=PAIRS, pcie=PCIE, node_sizes=(8,)), 100e9 / 8 / 8, False),
    ],
)
def test_the_network_follows_the_kind_of_node(hardware: Hardware, bytes_per_s: float, exchanges: bool) -> None:
    found = network_of(hardware)
    assert found.bytes_per_s == pytest.approx(bytes_per_s)
    assert found.low_bytes_per_s < found.bytes_per_s < found.high_bytes_per_s
    assert found.exchanges is exchanges


def test_within_a_node_the_slower_of_a_bridge_and_pcie() -> None:
    assert joins_of(device(scale_up=NVLINK, pcie=PCIE, node_sizes=(8,))).node_bytes_per_s == 400e9
    assert joins_of(device(pcie=PCIE, node_sizes=(8,))).node_bytes_per_s == pytest.approx(PCIE_BYTES_PER_S, rel=1e-3)
    bridged = joins_of(device(scale_up=PAIRS, pcie=PCIE, node_sizes=(8,)))
    assert bridged.node_bytes_per_s == pytest.approx(PCIE_BYTES_PER_S, rel=1e-3)
    assert bridged.node_gpus == 8


def test_nodes_that_are_stated_are_smaller_ones_but_for_racks() -> None:
    linked = device(scale_up=NVLINK, node_sizes=(8,))
    assert in_nodes(linked, 16, 2) is linked
    parted = in_nodes(linked, 8, 2)
    assert node_devices(parted) == 4
    assert parted.scale_up == NVLINK._replace(domain_devices=4)
    rack = device(scale_up=NVLINK._replace(domain_devices=72), node_sizes=(4, 72))
    assert in_nodes(rack, 72, 18) is rack


def sends(name: str, *, tp: int, pp: int) -> StepPart:
    found = serving_speed(stages("gpt-oss-120b", name, tp=tp, pp=pp), ServedLoad(pp, 1024, 256, 8192))
    (part,) = (part for part in found.prefill.parts if part.name == "sends")
    return part


def test_cards_without_a_link_send_over_the_network_that_their_node_shares() -> None:
    """Four stages of four: eight cards a node, so one hop of three leaves it; 1,024 tokens and one beside them, 2,880 values."""
    near_s = 2 * 1025 * 2880 * 2 / PCIE_BYTES_PER_S
    far_s = 1025 * 2880 * 2 / (12.5e9 / 8)
    part = sends("rtx-4090", tp=4, pp=4)
    assert part.seconds == pytest.approx(near_s + far_s, rel=0.01)
    # 25 to 400 Gb/s a node, where that is wider than the band of any send.
    assert part.low_s == pytest.approx(near_s * SENDS_BAND[0] + far_s / 4, rel=0.01)
    assert part.high_s == pytest.approx((near_s + far_s) * SENDS_BAND[1], rel=0.01)
    assert part.basis == "assumed"


def test_cards_with_a_link_send_over_a_network_of_their_own() -> None:
    tokens_bytes = 1025 * 2880 * 2
    assert sends("h100-sxm", tp=4, pp=4).seconds == pytest.approx(tokens_bytes * (2 / 450e9 + 1 / 50e9), rel=0.01)
    assert sends("h100-sxm", tp=4, pp=2).seconds == pytest.approx(tokens_bytes / 450e9, rel=0.01)


@pytest.mark.parametrize(("name", "told"), [("rtx-4090", "8 GPUs share it"), ("h100-sxm", "400 Gb/s for each GPU")])
def test_who_spans_nodes_says_what_is_assumed(name: str, told: str) -> None:
    load = ServedLoad(4, 1024, 256, 8192)
    within = serving_speed(stages("gpt-oss-120b", name, tp=4, pp=2), load)
    beyond = serving_speed(stages("gpt-oss-120b", name, tp=4, pp=4), load)
    assert not [each for each in within.extrapolated if "network" in each]
    (network,) = (each for each in beyond.extrapolated if "network" in each)
    assert told in network
    assert "assumed" in network


def test_experts_over_nodes_of_cards_without_a_link_were_measured_nowhere() -> None:
    with pytest.raises(UnknownError, match="a network card of its own"):
        stages("deepseek-v3", "rtx-4090", dp=16, wholes=True)
    assert stages("deepseek-v3", "h100-sxm", dp=16, wholes=True)


def test_eight_of_a_card_whose_nodes_hold_four_are_two_nodes() -> None:
    small = card("rtx-4090")._replace(node_sizes=(1, 2, 4))
    with pytest.raises(UnknownError, match="8 devices lie beyond the 4"):
        serving_speed(stages("gpt-oss-120b", small, tp=8), ServedLoad(4, 1024, 256, 8192))


def test_nodes_that_somebody_states_are_heard() -> None:
    asked: dict[str, Any] = {"gpu": "8xh100-sxm", "concurrency": 4, "input": 1024, "output": 256, "offline": True}
    one = moeplan.estimate("gpt-oss-120b", tp=4, pp=2, **asked).speed
    two = moeplan.estimate("gpt-oss-120b", tp=4, pp=2, nodes=2, **asked).speed
    assert one is not None
    assert two is not None
    assert not any("between nodes" in each for each in one.extrapolated)
    assert any("between nodes" in each for each in two.extrapolated)
    apart = moeplan.estimate("gpt-oss-120b", tp=8, nodes=2, **asked)
    assert apart.speed is None
    assert any("8 devices lie beyond the 4" in note.message for note in apart.notes)
