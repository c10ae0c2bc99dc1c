"""An accelerator as moeplan knows it, and how much of its memory an engine can count on.

Every figure is that of one device, as an engine sees it (one die of a card with two). None is unknown.

A vendor's "GB" is read as 2**30 bytes: memory chips have binary sizes, and every device here whose visible total is
known shows more than the decimal reading allows (an H100 "80 GB" shows 81559 MiB, 85.5 x 10**9 bytes).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from moeplan.core.ledger import Basis, Why
from moeplan.core.profiled import total_bytes

GIB = 2**30

REPORT_SPREAD_BYTES = round(0.1 * GIB)
"""How far drivers differ in the total that they report for one card: A100 and H100 80 GB print 79.14 to 79.25 GiB."""

HIDDEN_BYTES = round(0.55 * GIB)
"""What nvidia-smi shows as total and CUDA does not offer. Assumed, from the cards where both are known: T4 0.25 GiB,
RTX 3090 0.31 to 0.42, H100 0.46, RTX 5090 0.48, L40S 0.60, RTX PRO 6000 0.62, H200 0.68, B200 0.71, A100 80GB 0.75.
The band leaves out the T4 and the best RTX 3090, whose own report is known."""
HIDDEN_LOW_BYTES = round(0.4 * GIB)
HIDDEN_HIGH_BYTES = round(0.8 * GIB)

NOMINAL_LOW, NOMINAL_HIGH = 0.93, 1.0
"""Share of the nominal memory that engines report: MI300X 191.98 of 192 GiB at the top, most
cards above 0.93. GDDR6 cards that give 1/16 to ECC lie a little below (L40S 0.925, L4 0.918); their report is known."""

UNIFIED_LOW, UNIFIED_MIDDLE, UNIFIED_HIGH = 2 / 3, 3 / 4, 0.95
"""Share of the memory that a device may use where the CPU lives in it too. Metal recommends two thirds of 32 GB
(ollama issue 434) and three quarters of 96 GB (llama.cpp issue 3213); a DGX Spark reports 0.95 of its 128 GB."""


class DenseRates(NamedTuple):
    """Peak matrix rates without sparsity, operations per second; fp32 is the vector rate."""

    fp32: int | None = None
    tf32: int | None = None
    bf16: int | None = None
    fp16: int | None = None
    fp8: int | None = None
    int8: int | None = None
    fp4: int | None = None


class ScaleUp(NamedTuple):
    """The fast link between devices of one domain."""

    kind: str
    bytes_per_s_per_direction: int | None
    """Of one device, to all its peers together."""
    domain_devices: int | None


class Pcie(NamedTuple):
    """The link to the host."""

    generation: int
    lanes: int


class Price(NamedTuple):
    """Public list prices of one device for one hour, in US dollars: an example, prices move."""

    low_usd_per_hour: float
    high_usd_per_hour: float
    as_of: str
    sources: tuple[str, ...] = ()


class Hardware(NamedTuple):
    """One device: its specification with sources, and what was measured on it."""

    profile: str
    """Name of the file without its ending."""
    name: str
    vendor: str | None = None
    architecture: str | None = None
    compute_capability: str | None = None
    memory_kind: str | None = None
    slice: bool = False
    """True for a part of a card (MIG): slices do not reach each other's memory, so they form no group."""
    unified_memory: bool = False
    """True where the CPU uses the same memory."""
    nominal_bytes: int | None = None
    visible_bytes: int | None = None
    """What nvidia-smi prints as total."""
    reported_bytes: int | None = None
    """What engines report as total (`usable_bytes` of the file); `usable` falls back where it is None."""
    reported_low_bytes: int | None = None
    reported_high_bytes: int | None = None
    memory_bandwidth_bytes_per_s: int | None = None
    l2_bytes: int | None = None
    dense_flops_per_s: DenseRates = DenseRates()
    scale_up: ScaleUp | None = None
    pcie: Pcie | None = None
    power_w: int | None = None
    node_sizes: tuple[int, ...] = ()
    """Devices in a usual node."""
    devices_per_card: int = 1
    host_bytes: int | None = None
    """Memory of the host, where the profile describes a machine."""
    price: Price | None = None
    aliases: tuple[str, ...] = ()
    shared_names: tuple[str, ...] = ()
    """Names that several devices answer to."""
    default_for: tuple[str, ...] = ()
    """Those of the shared names that mean this device unless more is said."""
    sources: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Citations by block: `specification`, `memory_visible`, `memory_usable`."""
    notes: tuple[str, ...] = ()
    """Remarks of the file on its figures."""
    measured: tuple[Mapping[str, Any], ...] = ()
    """Blocks that a profiler appended, as they stand in the file."""
    path: str = ""
    reading: tuple[str, ...] = ()
    """How the name was read where that was not plain: defaults taken, files that replace others."""


class Usable(NamedTuple):
    """Memory of one device that an engine may divide up: what the driver reports as total."""

    bytes: int
    low_bytes: int
    high_bytes: int
    basis: Basis
    certain: bool
    """False where it was inferred from the nominal size alone, or where a CPU uses the same memory."""
    why: Why


def usable(hardware: Hardware) -> Usable | None:
    """Bytes of one device that engines see as its total, with a band; None where even the nominal size is unknown.

    The first rule that applies:

    0. the total that the runtime reported to `moeplan profile` on this very device (basis `measured`);
    1. the total that engines or PyTorch report for this device (`reported_bytes`; basis `measured`: it was read in
       logs), with the file's band or else plus and minus `REPORT_SPREAD_BYTES`;
    2. memory shared with the CPU: three quarters of the nominal size, from two thirds to 0.95 (`assumed`);
    3. what nvidia-smi shows less `HIDDEN_BYTES`, 0.4 to 0.8 GiB (`assumed`);
    4. the middle of 0.93 to 1.0 of the nominal size (`assumed`, and not certain).

    This is the total, before an engine's own share of it and before what other processes hold.
    """
    profiled = total_bytes(hardware.measured)
    if profiled is not None:
        why = Why("total that the device reported", {"total_bytes": profiled.bytes}, profiled.source)
        certain = not hardware.unified_memory
        return Usable(profiled.bytes, profiled.low_bytes, profiled.high_bytes, "measured", certain, why)
    nominal, visible, reported = hardware.nominal_bytes, hardware.visible_bytes, hardware.reported_bytes
    if reported is not None:
        low, high = hardware.reported_low_bytes, hardware.reported_high_bytes
        low = reported - REPORT_SPREAD_BYTES if low is None else low
        high = reported + REPORT_SPREAD_BYTES if high is None else high
        ceiling = max(reported, visible or nominal or high)
        source = "; ".join(hardware.sources.get("memory_usable", ())) or hardware.path
        why = Why("total that engines report", {"usable_bytes": reported}, source)
        return Usable(reported, low, min(high, ceiling), "measured", not hardware.unified_memory, why)
    specified = "; ".join(hardware.sources.get("specification", ())) or hardware.path
    if hardware.unified_memory:
        if nominal is None:
            return None
        why = Why("nominal x 3/4; memory is shared with the CPU", {"nominal_bytes": nominal}, specified)
        low, high = round(nominal * UNIFIED_LOW), round(nominal * UNIFIED_HIGH)
        return Usable(round(nominal * UNIFIED_MIDDLE), low, high, "assumed", False, why)
    if visible is not None:
        shown = "; ".join(hardware.sources.get("memory_visible", ())) or hardware.path
        why = Why("total of nvidia-smi - 0.55 GiB", {"visible_bytes": visible, "hidden_bytes": HIDDEN_BYTES}, shown)
        low, high = visible - HIDDEN_HIGH_BYTES, visible - HIDDEN_LOW_BYTES
        return Usable(visible - HIDDEN_BYTES, low, high, "assumed", True, why)
    if nominal is None:
        return None
    middle = (NOMINAL_LOW + NOMINAL_HIGH) / 2
    why = Why(f"nominal x {middle:.3f}; nobody's report is known", {"nominal_bytes": nominal}, specified)
    low, high = round(nominal * NOMINAL_LOW), round(nominal * NOMINAL_HIGH)
    return Usable(round(nominal * middle), low, high, "assumed", False, why)


def pcie_bytes_per_s(link: Pcie) -> int:
    """Peak bytes per second of one direction: transfers per second x lanes x share of the bits that carry data.

    PCI-SIG base specifications: 8, 16 and 32 GT/s coded 128b/130b in generations 3 to 5; 64 GT/s in generation 6,
    where 236 of the 256 bytes of a flit carry packets. KeyError for other generations.
    """
    coding = {3: (8, 128, 130), 4: (16, 128, 130), 5: (32, 128, 130), 6: (64, 236, 256)}
    transfers, data, coded = coding[link.generation]
    return transfers * 10**9 * link.lanes * data // (coded * 8)
