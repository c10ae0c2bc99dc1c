"""How long devices take to exchange what they hold: sums of named parts.

A collective of NCCL over g devices:

    total = fixed + step x (g - 1) + moved / rate + filling
    rate = link x link_fraction x growth ^ log2(g / 8)
    filling = (startup_bytes / rate) x moved / (moved + startup_reach x startup_bytes)

moved    bytes that one device sends: (g - 1) / g of the message, twice that for an all-reduce (a ring; NCCL's own count of
         bus bandwidth, nccl-tests doc/PERFORMANCE.md)
growth   how the share changes where devices double: above 1 where links are a switch's, far below where they share a bus
filling  until the pipeline of pieces is full; small messages have no pipeline

An engine's own all-reduce for small messages: one shot, in which each device reads all others, or two, which cost one more
synchronisation and move what a ring does; from `most_bytes` on NCCL takes over.

DeepEP's low-latency dispatch and combine of expert parallelism: rows over the link to the devices of the domain and over
the network to all others; a time for each expert; rows of one expert queue up where experts are few.
"""

import math
from typing import Literal, NamedTuple

from moeplan.core.op_device import OpDevice, smooth_maximum

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]

REFERENCE_GPUS = 8
"""Devices at which shares of the link are stated."""


class CollectiveConstants(NamedTuple):
    """What NCCL makes of the link. All are positive."""

    fixed_s: float
    step_s: float
    """Time for each further device."""
    link_fraction: float
    """Share of the link at `REFERENCE_GPUS`. An all-reduce in the switch moves less than a ring does, so it may pass 1."""
    growth: float
    startup_bytes: float
    startup_reach: float


class OneShotConstants(NamedTuple):
    """What an engine's own all-reduce makes of the link. All are positive."""

    fixed_s: float
    step_s: float
    one_shot_fraction: float
    two_shot_fraction: float
    two_shot_s: float
    """Time of the second synchronisation."""
    growth: float
    most_bytes: float
    """From here on the engine calls NCCL."""


class ExchangeConstants(NamedTuple):
    """What a low-latency exchange of expert parallelism makes of link and network. All are positive."""

    fixed_s: float
    far_s: float
    """Time that the network adds, for the share of devices beyond the domain."""
    expert_s: float
    queue_s: float
    """Time for each token of a device and expert."""
    link_fraction: float
    network_bytes_per_s: float
    """Achieved, of one device: no profile tells it."""
    overlap: float


def collective_s(
    constants: CollectiveConstants, device: OpDevice, gpus: int, num_bytes: float, *, passes: int = 1
) -> float:
    """Seconds for a message of `num_bytes` over `gpus`; `passes` is 2 for an all-reduce. Nothing on one device.

    The message is what one device holds before an all-reduce, reduce-scatter or all-to-all and after an all-gather.
    """
    if gpus <= 1:
        return 0.0
    fixed_s, step_s, fraction, growth, startup_bytes, reach = constants
    rate = device.link_bytes_per_s * fraction * growth ** math.log2(gpus / REFERENCE_GPUS)
    moved = passes * (gpus - 1) / gpus * num_bytes
    filling = startup_bytes * moved / (moved + reach * startup_bytes)
    return float(fixed_s + step_s * (gpus - 1) + (moved + filling) / rate)


def one_shot_s(constants: OneShotConstants, device: OpDevice, gpus: int, num_bytes: float) -> float:
    """Seconds of an engine's own all-reduce, whatever the size. Nothing on one device."""
    if gpus <= 1:
        return 0.0
    fixed_s, step_s, one, two, two_shot_s, growth, _ = constants
    rate = device.link_bytes_per_s * growth ** math.log2(gpus / REFERENCE_GPUS)
    once = (gpus - 1) * num_bytes / (rate * one)
    twice = two_shot_s + 2 * (gpus - 1) / gpus * num_bytes / (rate * two)
    return float(fixed_s + step_s * (gpus - 1) + min(once, twice))


def engine_all_reduce_s(
    own: OneShotConstants, nccl: CollectiveConstants, device: OpDevice, gpus: int, num_bytes: float
) -> float:
    """Seconds of an all-reduce as an engine runs it: its own up to `most_bytes`, then NCCL's.

    Its own is taken to be no slower than NCCL where that takes over, so that more bytes are never faster.
    """
    if num_bytes >= own.most_bytes:
        return collective_s(nccl, device, gpus, num_bytes, passes=2)
    most = collective_s(nccl, device, gpus, own.most_bytes, passes=2)
    return min(one_shot_s(own, device, gpus, num_bytes), most)


def exchange_s(
    constants: ExchangeConstants,
    device: OpDevice,
    value_bytes: float,
    gpus: int,
    tokens: float,
    hidden: int,
    experts: int,
    experts_per_token: int,
) -> float:
    """Seconds of sending `tokens` of each device to their experts, or of bringing them back; `value_bytes` on the way."""
    if gpus <= 1:
        return 0.0
    fixed_s, far_s, expert_s, queue_s, fraction, network, overlap = constants
    near = min(gpus, device.domain_gpus)
    rows_bytes = tokens * experts_per_token * hidden * value_bytes
    wire_s = rows_bytes * (near - 1) / gpus / (device.link_bytes_per_s * fraction)
    wire_s += rows_bytes * (gpus - near) / gpus / network
    base_s = fixed_s + far_s * (gpus - near) / gpus + expert_s * experts
    return smooth_maximum(wire_s, base_s, overlap) + queue_s * tokens / experts
