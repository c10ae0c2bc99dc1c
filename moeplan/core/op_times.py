"""Times of the plain operations of a step on one device under one engine: constants resolved once, arithmetic after that.

`sources/op_constants.op_times` makes them. Each answer is seconds with a band and a basis.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from moeplan.core.attention_latency import AttentionShape, decode_s, prefill_s
from moeplan.core.collective_latency import collective_s, engine_all_reduce_s, exchange_s
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.latency import VALUE_BYTES, ValueBytes
from moeplan.core.matmul_latency import matmul_s
from moeplan.core.model import Remark
from moeplan.core.network import Joins
from moeplan.core.op_device import OpDevice
from moeplan.core.op_set import OpBand, Operation

OpBasis = Literal["measured", "carried", "assumed"]
"""`measured`: constants of rows of this device, engine and format. `carried`: of the nearest that was measured."""

LATENT_BAND = (0.5, 2.0)
"""Assumed, on top of the band: public rows hold attention with 128 values a head alone, none whose keys are values too."""

DISPATCH_BYTES, COMBINE_BYTES = VALUE_BYTES["fp8_block"].operand, 2.0
"""DeepEP sends fp8 with a scale for 128 values, and brings bfloat16 back (its README, low-latency kernels)."""

SPREAD_BAND = (0.85, 2.0)
"""Assumed around such a time: DeepEP's kernels for prompts reach 43 to 58 of 50 GB/s, copies within a node counted
(deepseek-ai/DeepEP README, H800), and other libraries and networks reach less."""

MOST_KEPT = 4096
"""Products whose times are kept: stages of a pipeline, and layouts of one search, ask for the same ones."""


class OpTime(NamedTuple):
    """A prediction; nine of ten measurements lie between low and high."""

    seconds: float
    low_s: float
    high_s: float
    basis: OpBasis


class OpKernel(NamedTuple):
    """Constants of an operation up to a size, and their bands as wide as what was borrowed makes them."""

    most: float
    constants: Any
    bands: tuple[OpBand, ...]


class Resolved(NamedTuple):
    """An operation on a device: kernels by the size that they reach to, the last one without an end."""

    kernels: tuple[OpKernel, ...]
    device: OpDevice
    borrowed: tuple[str, ...]
    """Kinds of borrowing; empty for what was measured."""


NOTHING = OpTime(0.0, 0.0, 0.0, "measured")
"""What devices alone exchange."""


class OpTimes:
    """Seconds of operations. A model of many layers finds weights and cache in memory, and what a kernel just wrote in cache."""

    def __init__(
        self,
        profile: str,
        resolved: Mapping[Operation, Resolved],
        values: ValueBytes,
        cache_bytes: float,
        remarks: tuple[Remark, ...],
        joins: Joins,
    ) -> None:
        self.profile = profile
        self.resolved = resolved
        self.joins = joins
        """What lies beyond the link."""
        self.remarks = remarks
        """What was borrowed, one line for each."""
        self._values = values
        self._cache_bytes = cache_bytes
        own = resolved.get("engine_all_reduce")
        self._own = own.kernels[-1].constants if own is not None else None
        self._products: dict[tuple[float, float, float], OpTime] = {}

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Of the device's memory."""
        return self.resolved["matmul"].device.bandwidth_bytes_per_s

    @property
    def domain_gpus(self) -> int:
        """Devices that one link joins."""
        return self._linked("all_reduce").device.domain_gpus

    def num_nodes(self, gpus: int) -> int:
        """Nodes that so many devices fill."""
        return -(-gpus // self.joins.node_gpus)

    def send_bytes_per_s(self, gpus: int) -> float:
        """What joins so many devices: the slowest of what lies between them. InputError where the profile names no link."""
        device, joins = self._linked("all_reduce").device, self.joins
        if gpus <= device.domain_gpus:
            return device.link_bytes_per_s
        return joins.node_bytes_per_s if gpus <= joins.node_gpus else self.network_bytes_per_s

    @property
    def network_bytes_per_s(self) -> float:
        """Of one device to those of other nodes; assumed (`core/network`)."""
        return min(self._linked("all_reduce").device.link_bytes_per_s, self.joins.network.bytes_per_s)

    def between_nodes(self, gpus: int) -> str | None:
        """What is taken to join the nodes of so many devices, in words; None where all are in one."""
        if self.num_nodes(gpus) < 2:
            return None
        return f"the network between nodes: {self.joins.network.told}, which is assumed"

    def spread_s(self, gpus: int, across_bytes: float, within_bytes: float) -> OpTime:
        """A device's rows to experts on several nodes: a copy for each other node over the network, and from there on over the
        link. Both ways are busy at once; nothing of it was measured here."""
        link = self._linked("all_reduce").device.link_bytes_per_s
        seconds = max(across_bytes / self.send_bytes_per_s(gpus), within_bytes / link)
        return OpTime(seconds, seconds * SPREAD_BAND[0], seconds * SPREAD_BAND[1], "assumed")

    def fixed_s(self, operation: Literal["matmul", "attention_decode", "attention_prefill"]) -> float:
        """Time of an operation that has nothing to do."""
        return float(self.resolved[operation].kernels[-1].constants.fixed_s)

    def floor(self, operation: Literal["matmul", "attention_decode"]) -> tuple[float, float]:
        """Seconds of a call, and for each byte that it reads beside them, of whichever kernel takes least of either."""
        found = self.resolved[operation]
        rates = [found.device.bandwidth_bytes_per_s * each.constants.memory_fraction for each in found.kernels]
        startups = [getattr(each.constants, "startup_bytes", 0.0) for each in found.kernels]
        calls = [
            float(each.constants.fixed_s) + startup / rate
            for each, startup, rate in zip(found.kernels, startups, rates, strict=True)
        ]
        return min(calls), 1 / max(rates)

    def compute_over_memory(self, m: float) -> float:
        """How many times longer the operations of m rows take than reading the weights, at the shares that are reached."""
        found = self.resolved["matmul"]
        constants = _kernel(found, m).constants
        memory_s = self._values.weight / (found.device.bandwidth_bytes_per_s * constants.memory_fraction)
        return float(2 * m / (found.device.flops_per_s * constants.compute_fraction) / memory_s)

    def matmul_s(self, m: float, n: float, k: float) -> OpTime:
        """Rows (m x k) times weights (k x n) on one rank, in the format that was asked for."""
        told = self._products.get((m, n, k))
        if told is None:
            if len(self._products) >= MOST_KEPT:
                self._products.clear()
            told = self._products[m, n, k] = self._matmul(m, n, k)
        return told

    def _matmul(self, m: float, n: float, k: float) -> OpTime:
        found = self.resolved["matmul"]
        kernel = _kernel(found, m)
        seconds = matmul_s(kernel.constants, found.device, self._values.weight, self._values.operand, m, n, k)
        return _told(found, kernel, seconds, m)

    def attention_decode_s(
        self,
        batch: float,
        past_tokens: float,
        shape: AttentionShape,
        queries: float = 1,
        value_bytes: float | None = None,
    ) -> OpTime:
        """One token of each of `batch` sequences over `past_tokens` cached ones (their mean), on one rank's heads; or several
        `queries` of each, over one reading of its cache. `value_bytes` of each cached value, where an engine's entries are
        not those of the plain format."""
        found = self.resolved["attention_decode"]
        kernel = _kernel(found, batch * (past_tokens + 1))
        stored = self._cache_bytes if value_bytes is None else value_bytes
        seconds = decode_s(kernel.constants, found.device, stored, batch, past_tokens, shape, queries)
        return _told(found, kernel, seconds, batch * (past_tokens + 1), like_no_rows=shape.latent or queries > 1)

    def attention_prefill_s(
        self,
        batch: float,
        new_tokens: float,
        past_tokens: float,
        shape: AttentionShape,
        reach_tokens: float = math.inf,
        value_bytes: float | None = None,
    ) -> OpTime:
        """`new_tokens` of each of `batch` sequences, causal, after `past_tokens` cached ones of `value_bytes` each value; a query
        sees `reach_tokens` at most."""
        found = self.resolved["attention_prefill"]
        kernel = _kernel(found, batch * new_tokens)
        stored = self._cache_bytes if value_bytes is None else value_bytes
        seconds = prefill_s(kernel.constants, found.device, stored, batch, new_tokens, past_tokens, shape, reach_tokens)
        return _told(found, kernel, seconds, batch * new_tokens, like_no_rows=shape.latent)

    def all_reduce_s(self, gpus: int, num_bytes: float) -> OpTime:
        """As the engine runs it: its own kernel for small messages, NCCL's beyond. Bytes that one device holds."""
        if gpus <= 1:
            return NOTHING
        nccl = self._linked("all_reduce", gpus)
        if self._own is None or num_bytes >= self._own.most_bytes:
            seconds = collective_s(nccl.kernels[-1].constants, nccl.device, gpus, num_bytes, passes=2)
            return _told(nccl, nccl.kernels[-1], seconds, num_bytes)
        own = self.resolved["engine_all_reduce"]
        seconds = engine_all_reduce_s(self._own, nccl.kernels[-1].constants, nccl.device, gpus, num_bytes)
        return _told(own, own.kernels[-1], seconds, num_bytes)

    def all_gather_s(self, gpus: int, num_bytes: float) -> OpTime:
        """NCCL's; bytes that one device holds afterwards."""
        return self._collective("all_gather", gpus, num_bytes)

    def reduce_scatter_s(self, gpus: int, num_bytes: float) -> OpTime:
        """NCCL's; bytes that one device holds before."""
        return self._collective("reduce_scatter", gpus, num_bytes)

    def all_to_all_s(self, gpus: int, num_bytes: float) -> OpTime:
        """NCCL's; bytes that one device sends to all together, itself included."""
        return self._collective("all_to_all", gpus, num_bytes)

    def expert_dispatch_s(self, gpus: int, tokens: float, hidden: int, experts: int, experts_per_token: int) -> OpTime:
        """DeepEP's low-latency dispatch of `tokens` of each device, in fp8."""
        return self._exchange("expert_dispatch", DISPATCH_BYTES, gpus, tokens, hidden, experts, experts_per_token)

    def expert_combine_s(self, gpus: int, tokens: float, hidden: int, experts: int, experts_per_token: int) -> OpTime:
        """DeepEP's low-latency combine of `tokens` of each device, in 16 bit."""
        return self._exchange("expert_combine", COMBINE_BYTES, gpus, tokens, hidden, experts, experts_per_token)

    def _collective(self, operation: Operation, gpus: int, num_bytes: float) -> OpTime:
        if gpus <= 1:
            return NOTHING
        found = self._linked(operation, gpus)
        kernel = found.kernels[-1]
        return _told(found, kernel, collective_s(kernel.constants, found.device, gpus, num_bytes), num_bytes)

    def _exchange(self, operation: Operation, value_bytes: float, gpus: int, tokens: float, *shape: int) -> OpTime:
        if gpus <= 1:
            return NOTHING
        found = self._linked(operation)
        kernel = found.kernels[-1]
        seconds = exchange_s(kernel.constants, found.device, value_bytes, gpus, tokens, *shape)
        return _told(found, kernel, seconds, tokens)

    def _linked(self, operation: Operation, gpus: int = 0) -> Resolved:
        """The operation, if the device says what joins it to so many."""
        found = self.resolved[operation]
        if not found.device.link_bytes_per_s:
            raise InputError(
                f"{self.profile}: `links` name neither `scale_up` nor `pcie`, and times of several devices need one",
                hint="write it into a profile of your own, or take another device",
            )
        if gpus > found.device.domain_gpus:
            raise UnknownError(
                f"{self.profile}: {gpus} devices lie beyond the {found.device.domain_gpus} that one link joins, and NCCL over a "
                "network was not measured",
                hint=f"split over at most {found.device.domain_gpus} devices",
            )
        return found


def _kernel(found: Resolved, size: float) -> OpKernel:
    for kernel in found.kernels:
        if size <= kernel.most:
            return kernel
    return found.kernels[-1]


def _told(found: Resolved, kernel: OpKernel, seconds: float, size: float, *, like_no_rows: bool = False) -> OpTime:
    low, high = 1.0, 1.0
    for band in kernel.bands:
        if size <= band.most:
            low, high = band.low, band.high
            break
    if like_no_rows:
        low, high = low * LATENT_BAND[0], high * LATENT_BAND[1]
    return OpTime(seconds, seconds * low, seconds * high, "carried" if found.borrowed or like_no_rows else "measured")
