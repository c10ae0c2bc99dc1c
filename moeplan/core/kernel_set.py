"""Measured constants of the latency model, one set for each kernel, and which set is nearest to a device.

A device that was not measured borrows: first from its own architecture, then from the one that is built most alike,
then from another backend, then from a format that moves like the one asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from moeplan.core.hardware import Hardware
from moeplan.core.latency import Band, KernelConstants

NEAREST = {
    "7": ("8.0", "8.9", "9.0", "10.0"),
    "8.0": ("9.0", "8.9", "10.0"),
    "8": ("8.9", "8.0", "9.0", "10.0"),
    "9": ("10.0", "8.0", "8.9"),
    "10": ("9.0", "8.0", "8.9"),
    "11": ("10.0", "9.0", "8.9", "8.0"),
    "12": ("8.9", "10.0", "9.0", "8.0"),
}
"""Capabilities that were measured, the most alike first, by capability or by its first number. GeForce-like cards (8.6 to
8.9, 12.0) share warp-level matrix units and GDDR memory with the L40S, whatever their generation; data centre cards
from Hopper on share asynchronous copies and matrix units that read shared memory."""

SAME = {"10.3": "10.0"}
"""Capabilities whose kernels are those of another: from a B200 to a GB300 the error grows no more than to a new shape."""

OTHER_VENDORS = ("9.0", "10.0", "8.0", "8.9")

ALIKE = {
    "fp8": ("fp8_block", "bfloat16"),
    "fp8_block": ("fp8", "bfloat16"),
    "nvfp4": ("fp8_block", "fp8", "bfloat16"),
    "int4_wo": ("w4a16_mxfp4", "bfloat16"),
    "w4a16_mxfp4": ("int4_wo", "bfloat16"),
    "bfloat16": (),
}
"""Formats whose kernels are the next best guess. The bytes stay those of the format asked for."""

HOSTS = ("x86-64",)
"""Architectures whose kernels have nothing in common with those of an accelerator."""


class KernelSet(NamedTuple):
    """Constants of one kernel on one device, with what they were fitted to and how far off they are."""

    hardware: str
    """Name of the hardware profile that was measured."""
    architecture: str
    compute_capability: str
    backend: str
    version: str
    kernel: str
    """As the collector of the measurements names it."""
    dtype: str
    expert_parallel: bool | None
    """True or False where the engine runs this kernel with or without expert parallelism alone."""
    constants: KernelConstants
    bands: tuple[Band, ...]
    rows: Mapping[str, int]
    """Measured rows by model shape."""
    mean_error: float
    median_error: float
    judged: str
    """What the errors were taken on."""
    source: str


class Placed(Protocol):
    """Anything that was measured on a device."""

    @property
    def hardware(self) -> str:
        """Name of the hardware profile."""

    @property
    def compute_capability(self) -> str:
        """Of that device."""


Of = TypeVar("Of", bound=Placed)


def choose(
    sets: Sequence[KernelSet], hardware: Hardware, backend: str, dtype: str, *, expert_parallel: bool = False
) -> tuple[KernelSet, tuple[str, ...]] | None:
    """The nearest of `sets`, and which kinds of borrowing lie between it and the device.

    The format is given up last and the backend before it: kernels of one format differ more between backends than
    between architectures only where one of them is broken (kernels of MXFP4 by 2.3, others by 1.2 to 1.6).
    """
    if dtype not in ALIKE:
        dtype = "bfloat16"
    around = tuple(places(sets, hardware))
    for kind in (dtype, *ALIKE[dtype]):
        for engines in ((backend,), tuple(sorted({each.backend for each in sets} - {backend}))):
            for place, held in around:
                fits = [each for each in held if each.dtype == kind and each.backend in engines]
                if fits:
                    best = next((each for each in fits if each.expert_parallel == expert_parallel), fits[0])
                    other = (place, "other_backend" * (best.backend != backend), "other_dtype" * (kind != dtype))
                    return best, tuple(name for name in other if name)
    return None


def places(sets: Sequence[Of], hardware: Hardware) -> Iterable[tuple[str, list[Of]]]:
    """Sets in the order in which a device asks for them: its own, its architecture's, and on to the most foreign."""
    yield "", [each for each in sets if each.hardware == hardware.profile]
    capability = hardware.compute_capability
    if capability is None:
        for near in OTHER_VENDORS:
            yield "other_vendor", [each for each in sets if each.compute_capability == near]
        return
    kin = (capability, SAME.get(capability))
    yield "same_architecture", [each for each in sets if each.compute_capability in kin]
    for near in NEAREST.get(capability) or NEAREST.get(capability.partition(".")[0]) or OTHER_VENDORS:
        yield "other_architecture", [each for each in sets if each.compute_capability == near]
