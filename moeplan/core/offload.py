"""How long a step takes where part of the weights stays in host memory: bytes on either side of the link, over what each gives.

    computed on the host    t = device bytes / device rate + host bytes / host rate + layers on the host x wait
    read over the link      t = device bytes / device rate + host bytes / link rate
    a prompt                t = for each micro-batch: host bytes / link rate + device bytes / device rate + compute, one after the other;
                            as a bound the longest of them

Bytes are those of `core/step_bytes`: dense weights once, of experts the distinct ones that the step touches
(`core/expert_use`). A rate is a share of the nominal one, between low and high ends; the step at all the high ends is a
bound that no engine beats, as far as the shares' own rows tell (`profiles/host/offload.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

from moeplan.core.deployment import Constant
from moeplan.core.expert_use import ExpertUse, StepTokens
from moeplan.core.model import ModelSpec, Weight
from moeplan.core.quant import Holding
from moeplan.core.step_bytes import StepReads, step_reads


class Ends(NamedTuple):
    """A figure at its slowest, as it is likely, and at its best."""

    slow: float
    likely: float
    best: float

    def times(self, factor: float) -> Ends:
        """All three."""
        return Ends(*(end * factor for end in self))

    def plus(self, other: Ends) -> Ends:
        """End by end."""
        return Ends(*(mine + more for mine, more in zip(self, other, strict=True)))

    def at_most(self, limit: float) -> Ends:
        """None above the limit."""
        return Ends(*(min(end, limit) for end in self))


def rate(nominal: float, share: Constant) -> Ends:
    """What a share of a nominal rate gives."""
    return Ends(share.low, share.value, share.high).times(nominal)


class Parted(NamedTuple):
    """Weights by where they lie."""

    device: tuple[Holding, ...]
    host: tuple[Holding, ...]

    @property
    def host_layers(self) -> tuple[int, ...]:
        """Layers that have any weight on the host."""
        return tuple(sorted({layer for holding in self.host for layer in holding.layers}))


def parted(held: Iterable[Holding], on_host: Callable[[Weight, int | None], float] | None) -> Parted:
    """Weights as an engine's placement parts them (`Engine.host_share`); of a layer's experts a share may be on the host.

    Input tables count to the device: the host looks up a row of one, and where a head is tied to it a copy is on the device.
    """
    device, host = [], []
    for holding in held:
        if on_host is None or holding.weight.role == "embedding":
            device.append(holding)
            continue
        layers = holding.layers if holding.part == "text" else ()
        shares = {layer: on_host(holding.weight, layer) for layer in layers}
        there = sum(shares.values()) / len(shares) if layers else on_host(holding.weight, None)
        size = round(holding.num_bytes * there)
        mine = tuple(layer for layer, share in shares.items() if share > 0)
        rest = tuple(layer for layer, share in shares.items() if share < 1)
        if size:
            host.append(holding._replace(num_bytes=size, layers=mine or holding.layers))
        if size < holding.num_bytes:
            device.append(holding._replace(num_bytes=holding.num_bytes - size, layers=rest or holding.layers))
    return Parted(tuple(device), tuple(host))


class Reads(NamedTuple):
    """What a step reads on either side."""

    device: StepReads
    host: StepReads
    host_layers: int
    """That have any weight on the host."""


def reads_of(spec: ModelSpec, parts: Parted, cache_bytes: int) -> Reads:
    """The fold of `core/step_bytes` over each side; caches are on the device."""
    return Reads(step_reads(spec, parts.device, cache_bytes), step_reads(spec, parts.host, 0), len(parts.host_layers))


def bytes_at(reads: StepReads, tokens: StepTokens, use: ExpertUse) -> float:
    """Bytes of a step of decoding sequences, or of new tokens of a prompt, whose own cache is left out."""
    touched = sum(
        each.num_bytes * use.distinct(each.experts, each.chosen, each.on_rank, tokens) / each.on_rank
        for each in reads.experts
    )
    return reads.dense_bytes + tokens.all * reads.row_bytes + touched + tokens.decoding * reads.cache_bytes


class OffloadedStep(NamedTuple):
    """Seconds of one step, by where they go."""

    device_s: float
    host_s: float
    """Reading weights in host memory, or over the link."""
    wait_s: float
    """Handing activations over and back, layer by layer."""

    @property
    def seconds(self) -> float:
        """All of it: device and host take turns, layer by layer."""
        return self.device_s + self.host_s + self.wait_s


class Steps(NamedTuple):
    """A step at the low ends of all shares, as it is likely, and as the bound."""

    slow: OffloadedStep
    likely: OffloadedStep
    best: OffloadedStep


def steps(device_s: Ends, host_s: Ends, waits: float, wait_s: Ends) -> Steps:
    """Seconds, slowest first; `waits` is how often the device waits for the host, and each wait costs `wait_s`."""
    return Steps(
        *(
            OffloadedStep(device, host, waits * wait)
            for device, host, wait in zip(device_s, host_s, wait_s, strict=True)
        )
    )


def seconds_of(num_bytes: float, speed: Ends) -> Ends:
    """How long reading takes at each end."""
    return Ends(*(num_bytes / each for each in speed))


def prompt_seconds(parts: Iterable[Ends]) -> Ends:
    """Of one micro-batch, from seconds of copies, of reading on the device and of computing there.

    llama.cpp copies a layer's experts, waits, and computes (llama.cpp issue 25859): they add up. Were they all done side by
    side, the longest would be left: that is the bound.
    """
    slow, likely, best = zip(*parts, strict=True)
    return Ends(sum(slow), sum(likely), max(best))


def pipelined(seconds: Ends, batches: int, stages: int) -> Ends:
    """Micro-batches of that many seconds together, through stages that work on several at once, each on its own share."""
    return seconds.times((batches + stages - 1) / (batches * stages))


def micro_batches(prompt_tokens: float, most_tokens: int) -> list[float]:
    """Tokens of each graph that reads a prompt: whole ones, and what is left."""
    whole, left = divmod(prompt_tokens, most_tokens)
    return [float(most_tokens)] * int(whole) + ([left] if left >= 1 else [])


# Hot experts ------------------------------------------------------------------------------------------------------


class OnDevice(NamedTuple):
    """What a number of experts of each layer on the device serves, the mean of all layers."""

    traffic_fraction: float
    """Of the visits of tokens to experts."""
    all_fraction: float
    """Of the visits of tokens to layers: those that go to experts of the device alone, and wait for no host."""


def on_device(inclusions: Sequence[Sequence[float]], num_experts: int, *, hottest: bool) -> OnDevice:
    """`inclusions` of each layer: in which share of tokens an expert is chosen. `hottest` keeps the most chosen ones, else any.

    That a token needs no expert of the host is the product of missing each of them: choices of one token taken as independent.
    Any experts leave the host so many of the layer's, missed as one of them is on the (geometric) mean.
    """
    traffic = alone = 0.0
    for layer in inclusions:
        count = min(num_experts, len(layer))
        if hottest:
            order = sorted(layer, reverse=True)
            traffic += sum(order[:count]) / sum(order)
            alone += prod(max(0.0, 1 - share) for share in order[count:])
        else:
            share = count / len(layer)
            traffic += share
            alone += prod(max(0.0, 1 - each) for each in layer) ** (1 - share)
    return OnDevice(traffic / len(inclusions), alone / len(inclusions))
