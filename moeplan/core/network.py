"""What joins the nodes of a layout. No hardware profile tells it, so it is assumed, by the kind of node a card stands in.

Cards whose link joins all devices of their node (NVLink, Infinity Fabric) stand in nodes with a network card for each
device; cards on PCIe alone in nodes that share one.
"""

from typing import NamedTuple

from moeplan.core.hardware import Hardware, ScaleUp, pcie_bytes_per_s

NODE_DEVICES = 8
"""Devices of a node where the profile does not say how many."""


class Network(NamedTuple):
    """What one device gets of it in one direction; always assumed."""

    bytes_per_s: float
    low_bytes_per_s: float
    high_bytes_per_s: float
    told: str
    """Whose rate it is, as the field counts it."""
    exchanges: bool
    """Whether the exchange of expert parallelism was measured over such a network."""


FOR_EACH_DEVICE = Network(50e9, 12.5e9, 100e9, "400 Gb/s for each GPU", exchanges=True)
"""As nodes with H100, H200 and B200 have it (deepseek-ai/DeepEP README: CX7, 50 GB/s). The band: 100 Gb/s, as clouds without
InfiniBand give, to the 800 Gb/s of ConnectX-8."""

NODE_BYTES_PER_S, NODE_LOW_BYTES_PER_S, NODE_HIGH_BYTES_PER_S = 12.5e9, 3.125e9, 50e9
"""Of a whole node without such a link: 100 Gb/s, as the largest instances with T4, A10G and L4 have for eight of them; the
band is from the 25 Gb/s of an ordinary server to the 400 Gb/s of one with L40S (Amazon EC2 user guide, instance types:
g4dn.metal, g5.48xlarge, g6.48xlarge; g6e.48xlarge)."""


def node_devices(hardware: Hardware) -> int:
    """Devices of the largest usual node, or those that one link joins where these are more."""
    linked = hardware.scale_up.domain_devices if hardware.scale_up is not None else None
    return max((*hardware.node_sizes, linked or 0)) or NODE_DEVICES


class Joins(NamedTuple):
    """What devices of a layout reach each other over, where one link does not join them all."""

    node_gpus: int
    node_bytes_per_s: float
    """Between any two devices of a node; 0 where the profile names no link."""
    network: Network


def joins_of(hardware: Hardware) -> Joins:
    """Within a node its link, or PCIe where the link joins fewer; beyond it the network."""
    devices, link = node_devices(hardware), hardware.scale_up
    rates = []
    if link is not None and link.bytes_per_s_per_direction:
        rates.append(float(link.bytes_per_s_per_direction))
    if hardware.pcie is not None and (not rates or _joins_fewer(link, devices)):
        rates.append(float(pcie_bytes_per_s(hardware.pcie)))
    return Joins(devices, min(rates, default=0.0), network_of(hardware))


def in_nodes(hardware: Hardware, gpus: int, num_nodes: int) -> Hardware:
    """The device in nodes of fewer, where so many GPUs are said to stand in more of them than a usual node would make.

    A link that joins more devices than a machine holds reaches over machines, and stays what it is.
    """
    link, each = hardware.scale_up, -(-gpus // num_nodes)
    if num_nodes == 1 or each >= node_devices(hardware):
        return hardware
    if link is not None:
        domain = link.domain_devices or NODE_DEVICES
        if domain > NODE_DEVICES:
            return hardware
        link = link._replace(domain_devices=min(domain, each))
    return hardware._replace(scale_up=link, node_sizes=(each,))


def network_of(hardware: Hardware) -> Network:
    """What is taken to join nodes of a device."""
    devices, link = node_devices(hardware), hardware.scale_up
    if link is not None and not _joins_fewer(link, devices):
        return FOR_EACH_DEVICE
    rate, low, high = (each / devices for each in (NODE_BYTES_PER_S, NODE_LOW_BYTES_PER_S, NODE_HIGH_BYTES_PER_S))
    told = f"100 Gb/s for each node, {devices} GPUs share it" if devices > 1 else "100 Gb/s for each node"
    return Network(rate, low, high, told, exchanges=False)


def _joins_fewer(link: ScaleUp | None, devices: int) -> bool:
    return link is None or (link.domain_devices or NODE_DEVICES) < devices
