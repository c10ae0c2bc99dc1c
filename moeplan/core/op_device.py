"""What times of plain operations need to know of a device, and how they join what runs side by side."""

from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware, pcie_bytes_per_s
from moeplan.core.latency import CACHE_STEEPNESS, rate
from moeplan.core.network import NODE_DEVICES, node_devices


class OpDevice(NamedTuple):
    """One device and its link to its peers."""

    bandwidth_bytes_per_s: float
    flops_per_s: float
    """Dense peak of the operands' type."""
    cache_bytes: float = 0.0
    """The last-level cache where an operation finds its operands there; 0 where other layers ran in between."""
    link_bytes_per_s: float = 0.0
    """Of one device in one direction, to all its peers together; 0 where nobody says."""
    domain_gpus: int = NODE_DEVICES
    """Devices that the link joins; beyond them lies what `core/network` has."""


def op_device(hardware: Hardware, dtype: str, *, cached: bool) -> OpDevice:
    """The device of a hardware profile for operands of a type; `cached` where the operation finds them in the cache.

    The link is `links.scale_up`, or PCIe where there is none. InputError names what the profile does not say, but for
    the link: it is asked for where devices are several.
    """
    bandwidth, flops_per_s = hardware.memory_bandwidth_bytes_per_s, rate(hardware, dtype)
    for key, value in (("memory_bandwidth_bytes_per_s", bandwidth), ("dense_flops_per_s.bf16", flops_per_s)):
        if value is None:
            raise InputError(
                f"{hardware.profile}: `{key}` is unknown, and times need it",
                hint="write it into a profile of your own, or take another device",
            )
    assert bandwidth is not None
    assert flops_per_s is not None
    link, domain = 0.0, NODE_DEVICES
    if hardware.scale_up is not None and hardware.scale_up.bytes_per_s_per_direction:
        link, domain = hardware.scale_up.bytes_per_s_per_direction, hardware.scale_up.domain_devices or NODE_DEVICES
    elif hardware.pcie is not None:
        link, domain = pcie_bytes_per_s(hardware.pcie), node_devices(hardware)
    return OpDevice(bandwidth, flops_per_s, (hardware.l2_bytes or 0) if cached else 0, link, domain)


def smooth_maximum(one: float, other: float, overlap: float) -> float:
    """(one^q + other^q)^(1/q) with q = 1 + overlap: from the sum (0) to the larger of both (large)."""
    more, less = (one, other) if one > other else (other, one)
    if less <= 0:
        return more
    q = 1 + overlap
    return float(more * (1 + (less / more) ** q) ** (1 / q))


def bytes_from_memory(num_bytes: float, cache_bytes: float, speedup: float, fraction: float) -> float:
    """Bytes at the speed of memory that reading `num_bytes` is worth: what the cache holds comes `speedup` times faster.

    The cache holds it up to about `fraction` of its size (`latency.CACHE_STEEPNESS`).
    """
    if not cache_bytes:
        return num_bytes
    found = 1 / (1 + (num_bytes / (fraction * cache_bytes)) ** CACHE_STEEPNESS)
    return num_bytes * (1 - found * (1 - 1 / speedup))
