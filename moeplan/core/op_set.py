"""Measured constants of plain operations, one set for each kernel, and which set is nearest to a device.

A device that was not measured borrows as experts do (`kernel_set`): first from its own architecture, then from the one
that is built most alike, then from another backend, then from a format that moves like the one asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from moeplan.core.hardware import Hardware
from moeplan.core.kernel_set import ALIKE, places
from moeplan.core.op_fit import Constants

Operation = Literal[
    "matmul", "attention_decode", "attention_prefill", "all_reduce", "all_gather", "reduce_scatter", "all_to_all",
    "engine_all_reduce", "expert_dispatch", "expert_combine",
]  # fmt: skip
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

SIZES: Mapping[Operation, tuple[str, tuple[float, ...]]] = {
    "matmul": ("rows", (16, 256)),
    "attention_decode": ("cached tokens of all sequences", (2**10, 2**15)),
    "attention_prefill": ("new tokens of all sequences", (2**10, 2**14)),
    "all_reduce": ("bytes", (2**16, 2**22)),
    "all_gather": ("bytes", (2**16, 2**22)),
    "reduce_scatter": ("bytes", (2**16, 2**22)),
    "all_to_all": ("bytes", (2**16, 2**22)),
    "engine_all_reduce": ("bytes", (2**16, 2**22)),
    "expert_dispatch": ("tokens of a device", (16, 128)),
    "expert_combine": ("tokens of a device", (16, 128)),
}
"""What the size of an operation is, and up to which sizes its bands reach; the last one has no end."""


ALONE: tuple[Operation, ...] = ("matmul", "attention_decode", "attention_prefill")
"""Operations of one device; all others ask for its link."""

CACHED: tuple[Operation, ...] = ("attention_decode", "attention_prefill")
"""Operations whose format is that of the cache."""

NEAR = ("", "same_architecture")
"""Where kernels are the device's own (`kernel_set.places`)."""

Link = Literal["scale_up", "host"]
"""What joins devices: a link of their own, or the bus of the host."""


class OpBand(NamedTuple):
    """Factors around a prediction between which nine of ten measurements lie, up to a size of the operation (`SIZES`)."""

    most: float
    low: float
    high: float


class OpSet(NamedTuple):
    """Constants of one kernel on one device, with what they were fitted to and how far off they are."""

    operation: Operation
    hardware: str
    """Name of the hardware profile that was measured."""
    architecture: str
    compute_capability: str
    backend: str
    """An engine, or the library that every engine calls: nccl, deepep."""
    version: str
    kernel: str
    """As the collector of the measurements names it."""
    dtype: str
    """Of the weights of a product, of the cache of attention; bfloat16 for what is sent."""
    operand_dtype: str
    """In which attention multiplies."""
    link: Link
    most: float
    """Size up to which the engine takes this kernel; infinity where it takes no other."""
    host_bound: bool
    """Measured at the pace of the host that launches it; lent to nobody, since a step runs in a graph."""
    constants: Constants
    bands: tuple[OpBand, ...]
    rows: Mapping[str, int]
    """Measured rows by what was left out in turn."""
    mean_error: float
    median_error: float
    judged: str
    """What the errors were taken on."""
    source: str


def choose_op(
    sets: Sequence[OpSet], operation: Operation, hardware: Hardware, backend: str, dtype: str
) -> tuple[tuple[OpSet, ...], tuple[str, ...]] | None:
    """The nearest sets for an operation, and which kinds of borrowing lie between them and the device.

    Several where the engine takes one kernel up to some size and another beyond, in that order. A link of the devices'
    own borrows from such a link and a bus from a bus, whatever the architecture. Attention over a cache of another format
    takes the device's own kernel before another device's in that format: the error grows half as much (`borrowing.yaml`,
    mean 27 % beside 51 % in decode, 18 % beside 45 % in prefill).
    """
    here = [each for each in sets if each.operation == operation and not each.host_bound]
    if operation not in ALONE:
        here = [each for each in here if each.link == link_of(hardware)] or here
    wanted = dtype if dtype in ALIKE else "bfloat16"
    strange = operation in CACHED and dtype not in (wanted, "float16")
    around = [(place, list(held)) for place, held in places(here, hardware)]
    others = tuple(sorted({each.backend for each in here} - {backend}))
    order = [
        (kind, engines, place, held)
        for kind in (wanted, *ALIKE[wanted])
        for engines in ((backend,), others)
        for place, held in around
    ]
    if operation in CACHED:
        order.sort(key=lambda each: each[1] != (backend,) or each[2] not in NEAR)
    for kind, engines, place, held in order:
        fits = [each for each in held if each.dtype == kind and each.backend in engines]
        if fits:
            best = _of_one_engine(fits)
            told = (place, "other_backend" * (best[0].backend != backend), "other_dtype" * (strange or kind != wanted))
            return best, tuple(name for name in told if name)
    return None


def link_of(hardware: Hardware) -> Link:
    """What joins several of a device."""
    return "scale_up" if hardware.scale_up is not None else "host"


def _of_one_engine(fits: Sequence[OpSet]) -> tuple[OpSet, ...]:
    """The first kernel without an end, and before it those that the same engine takes up to some size."""
    last = next((each for each in fits if each.most == float("inf")), fits[-1])
    kin = [
        each
        for each in fits
        if (each.hardware, each.backend) == (last.hardware, last.backend) and each.most < last.most
    ]
    return (*sorted(kin, key=lambda each: each.most), last)


def band_of(bands: Sequence[OpBand], size: float) -> OpBand:
    """The band of the first range that reaches to a size; the last one beyond all of them."""
    for band in bands:
        if size <= band.most:
            return band
    return bands[-1]
