"""What has to be said of an answer: what was assumed, what the words mean, what is tight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeplan.core.deployment import Constant
from moeplan.core.model import Remark
from moeplan.core.units import GB, gib, per_second
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS
from moeplan.offload.formats import Tried
from moeplan.offload.questions import Machine
from moeplan.offload.result import LayerPoint, Offloaded
from moeplan.offload.search import KEEPS_PROMPTS, Placed
from moeplan.offload.timing import Timing, call_ends, decode_rate, tells_matrix_rate

TIGHT_FRACTION = 0.9
"""Share of host memory beyond which pages of a mapped file are soon taken back: decoding then waits for the disk."""

Chosen = tuple[Tried, Placed, Offloaded]


def remarks(timing: Timing, machine: Machine, chosen: Chosen | None, points: Sequence[LayerPoint]) -> Iterator[Remark]:
    """On the host, then on the placement that was chosen; `points` are other numbers of layers."""
    yield from _of_host(timing, chosen)
    memory = machine.memory
    if not memory.certain:
        told = f"usable memory of {machine.hardware.name} is not certain: {memory.why.formula}"
        yield Remark("memory-uncertain", "warning", told)
    if chosen is not None:
        form, found, row = chosen
        yield from form.notes
        yield from _of_memory(timing, found, row)
        yield from _of_speed(timing, machine, found, row)
        yield from _of_fast_host(found, points)


def _of_host(timing: Timing, chosen: Chosen | None) -> Iterator[Remark]:
    used = timing.host.used
    if used.basis == "assumed":
        told = f"host memory of {used.bandwidth_bytes_per_s / GB:,.1f} GB/s is assumed: {used.source}"
        if chosen is not None and chosen[1].host_layers:
            ends = (used.bandwidth_low_bytes_per_s, used.bandwidth_high_bytes_per_s)
            rates = [decode_rate(chosen[1], timing, end / used.bandwidth_bytes_per_s).value for end in ends]
            told += f"; at {ends[0] / GB:,.1f} to {ends[1] / GB:,.1f} GB/s {per_second(rates[0])} to {per_second(rates[1])} tokens/s "
            told += "are likely"
        yield Remark("host-assumed", "warning", f"{told}; --host or --ram-bandwidth says what it is")
    if used.sockets > 1:
        told = "a second socket adds nothing unless each has its own slices of the experts; 63 % more is the most that was published"
        yield Remark("sockets", "info", told)


def _of_memory(timing: Timing, found: Placed, row: Offloaded) -> Iterator[Remark]:
    used = timing.host.used
    if row.headroom_low_bytes < 0:
        told = "the card may be too small by what is guessed: plan with fewer tokens of context"
        yield Remark("margin", "warning", told)
    if row.host_free_low_bytes < 0:
        told = (
            f"host memory may be too small by what is guessed: {gib(-row.host_free_low_bytes)} are missing where the system keeps "
            f"{gib(used.system_high_bytes)} and all buffers are as large as they may be"
        )
        yield Remark("host-margin", "warning", told)
    if row.host_bytes + used.system_bytes > TIGHT_FRACTION * used.ram_bytes and row.host_layers:
        told = (
            "host memory is nearly full: where the system takes pages of the mapped file back, decoding waits for the disk; close "
            "other programs, or say --quant with a smaller format"
        )
        yield Remark("host-tight", "warning", told)
    if KEEPS_PROMPTS in found.settings:
        told = (
            f"{KEEPS_PROMPTS} limits the prompts that the server keeps, for which there is no room beside the weights"
        )
        yield Remark("prompts-limited", "info", told)


def _of_speed(timing: Timing, machine: Machine, found: Placed, row: Offloaded) -> Iterator[Remark]:
    host, hardware = timing.host, machine.hardware
    card, memory = host.constants["device_bandwidth_fraction"], host.constants["host_bandwidth_fraction"]
    told = f"likely is {_share(card)} of the card's bandwidth"
    if call_ends(found.question, timing, 1.0).likely:
        factor = host.constants["device_call_factor"]
        told += f" and {factor.value:g} times ({factor.low:g} to {factor.high:g}) what measured kernels of such cards take per call"
    if found.host_layers:
        told += f", {_share(memory)} of host memory's bandwidth"
    told += ", as published runs had it: no promise of yours; at most leaves calls out"
    if row.sort == "experts" and timing.at_best is not None:
        told += " and takes the fewest distinct experts that were published of any model"
    yield Remark("rates", "info", told)
    if not found.host_layers:
        return
    if timing.sequences >= OFFLOADED_FROM_TOKENS:
        told = (
            f"from {OFFLOADED_FROM_TOKENS} sequences on llama.cpp computes with copies of the weights on the card: decoding waits for "
            "the link, not for the host"
        )
        yield Remark("copied", "warning", told)
    if row.sort == "feed_forwards":
        told = "a dense model reads all of its weights for every token, those in host memory too"
        yield Remark("dense-offload", "info", told)
    if host.pinned is None:
        told = f"the profile {hardware.profile} does not tell its link to the host (links.pcie): times of prompts are not known"
        yield Remark("link-unknown", "warning", told)
    elif not tells_matrix_rate(hardware):
        told = f"the profile {hardware.profile} does not tell its 16-bit matrix rate: of prompts, copies and reading alone are counted"
        yield Remark("matrix-rate-unknown", "warning", told)


def _of_fast_host(found: Placed, points: Sequence[LayerPoint]) -> Iterator[Remark]:
    here = next((point for point in points if point.host_layers == len(found.host_layers)), None)
    every = points[-1] if points else None
    if here is None or every is None or not every.fits or every.tokens_per_s.high <= here.tokens_per_s.high:
        return
    mine, there = here.tokens_per_s, every.tokens_per_s
    told = (
        f"host memory may be faster than this card's: with all {every.host_layers} layers there decoding is likely "
        f"{per_second(there.value)} and at most {per_second(there.high)} tokens/s, beside {per_second(mine.value)} and "
        f"{per_second(mine.high)}; prompts are slower then"
    )
    yield Remark("fast-host", "info", told)


def _share(share: Constant) -> str:
    low, value, high = (f"{100 * fraction:.0f}" for fraction in (share.low, share.value, share.high))
    return f"{value} % ({low} to {high})"
