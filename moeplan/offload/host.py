"""The machine around the card: its memory, how fast that is, and what the system keeps of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.deployment import Constant
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware, pcie_bytes_per_s
from moeplan.core.offload import Ends, rate
from moeplan.core.profiled_figures import NewestFigure, newest_figures
from moeplan.core.units import GB, GIB, gib, parse_bytes
from moeplan.offload.result import HostBasis, HostUsed
from moeplan.sources.hardware_profiles import MOST_CHARACTERS, find_hardware

DESKTOP, SERVER = "cpu-2ch-ddr5-5600", "cpu-8ch-ddr5-4800"
"""What is assumed where nobody says: a desktop up to what desktop boards take, a server beyond it."""
DESKTOP_BYTES = 256 * GIB
"""Four modules of 64 GiB, the most that boards of two channels take."""
BANDS = {DESKTOP: (51_200_000_000, 102_400_000_000), SERVER: (204_800_000_000, 576_000_000_000)}
"""Two channels of DDR4-3200 to DDR5-6400; eight of DDR4-3200 to twelve of DDR5-6000."""
LEAST_RAM_BYTES = GIB
"""A machine has no less: --ram 64 forgot its unit."""
MOST_RAM_BYTES = 64 * 2**40
MOST_BYTES_PER_S = 10**13
MOST_SOCKETS = 8


class Host(NamedTuple):
    """Host memory with what it gives to experts, and the link to the card."""

    used: HostUsed
    constants: Mapping[str, Constant]
    pinned: Ends | None
    """Bytes per second that the link to a card takes; None where it is not known."""
    pageable: Ends | None
    """The same from memory that is not pinned."""

    @property
    def room_bytes(self) -> int:
        """What engines may fill."""
        return self.used.ram_bytes - self.used.system_bytes

    def rate(self, factor: float = 1.0) -> Ends:
        """Bytes per second that reading experts reaches, with a memory `factor` times as fast.

        A second socket adds as much as engines were seen to gain from it. A bandwidth that was measured is what streaming
        reaches already: it is the bound, and the other ends lie below it as they do below the bound of a nominal one.
        """
        share, more = self.constants["host_bandwidth_fraction"], self.constants["second_socket_fraction"]
        nominal = factor * self.used.bandwidth_bytes_per_s
        if self.used.basis == "measured":
            nominal /= share.high
        sockets = [1 + each * (self.used.sockets - 1) for each in (more.low, more.value, more.high)]
        return Ends(*(end * gain for end, gain in zip(rate(nominal, share), sockets, strict=True)))

    def copies(self, factor: float = 1.0, *, pinned: bool) -> Ends | None:
        """Bytes per second of copies to a card, which are read from a memory `factor` times as fast; None where the link is not
        known."""
        link = self.pinned if pinned else self.pageable
        return None if link is None else link.at_most(factor * self.used.bandwidth_bytes_per_s)


def read_host(
    hardware: Hardware,
    constants: Mapping[str, Constant],
    *,
    ram: int | str,
    host: str | None,
    bandwidth: float | str | None,
    sockets: int,
    folders: Sequence[Path],
) -> Host:
    """What `--ram`, `--host`, `--ram-bandwidth` and `--sockets` say, the rest measured or assumed.

    Raises InputError for values that are none, and for a host that is no host.
    """
    ram_bytes = _ram(ram)
    if not 1 <= sockets <= MOST_SOCKETS:
        raise InputError(f"--sockets {sockets} must be from 1 to {MOST_SOCKETS}", hint="for instance --sockets 2")
    if host is not None and bandwidth is not None:
        raise InputError(
            f"--host {host} and --ram-bandwidth {bandwidth} both say how fast host memory is",
            hint="leave one of them out",
        )
    figures = {each.name: each for each in newest_figures(hardware)}
    name: str | None = None
    basis: HostBasis
    if bandwidth is not None:
        value = low = high = _bandwidth(bandwidth)
        basis, source = "stated", "--ram-bandwidth"
    elif host is not None:
        name, value = _profile(host, folders)
        low = high = value
        basis, source = "profile", "channels x 8 bytes x transfers per second, of one socket"
    elif "host_read_bytes_per_s" in figures:
        figure = figures["host_read_bytes_per_s"]
        value, low, high = round(figure.value), round(figure.low), round(figure.high)
        basis, source = "measured", f"host memory as profiled {figure.date}"
    else:
        name = None
        assumed = DESKTOP if ram_bytes <= DESKTOP_BYTES else SERVER
        _, value = _profile(assumed, ())
        low, high = BANDS[assumed]
        why = "desktops" if assumed == DESKTOP else f"servers: desktops take no more than {gib(DESKTOP_BYTES, 0)}"
        basis, source = "assumed", f"{assumed.removeprefix('cpu-')}, usual in {why}"
    system = constants["system_bytes"]
    used = HostUsed(
        name, ram_bytes, round(system.value), round(system.low), round(system.high), sockets, value, low, high, basis, source
    )  # fmt: skip
    return Host(used, constants, *_copies(hardware, figures, constants))


def _copies(
    hardware: Hardware, figures: Mapping[str, NewestFigure], constants: Mapping[str, Constant]
) -> tuple[Ends | None, Ends | None]:
    """Pinned and pageable copies to the card: as measured on it, else a share of its link, and no more than a buffer gives."""
    nominal = None if hardware.pcie is None else pcie_bytes_per_s(hardware.pcie)
    pinned = _measured(figures, "pinned")
    if pinned is None and nominal is not None:
        pinned = rate(nominal, constants["pinned_copy_fraction"])
    pageable = _measured(figures, "pageable")
    if pageable is None and pinned is not None:
        buffer = constants["pageable_copy_bytes_per_s"]
        pageable = Ends(*map(min, pinned, (buffer.low, buffer.value, buffer.high)))
    return pinned, pageable


def _measured(figures: Mapping[str, NewestFigure], kind: str) -> Ends | None:
    figure = figures.get(f"host_to_device_{kind}_bytes_per_s")
    return None if figure is None else Ends(figure.low, figure.value, figure.high)


def _ram(ram: int | str) -> int:
    size = parse_bytes(str(ram), "--ram")
    if not LEAST_RAM_BYTES <= size <= MOST_RAM_BYTES:
        raise InputError(
            f"--ram {ram} is {gib(size)}, and must be from {gib(LEAST_RAM_BYTES, 0)} to {gib(MOST_RAM_BYTES, 0)}",
            hint="say how much memory the machine has, for instance --ram 64GiB; without --ram nothing stays in host memory",
        )
    return size


def _bandwidth(text: float | str) -> int:
    example = "for instance --ram-bandwidth 80GB/s"
    found = re.fullmatch(r"\s*(.*?)\s*(?:/\s*s|ps)?\s*", str(text), re.IGNORECASE)
    size = found[1] if found else ""
    if re.search(r"\d\s*[kMGT]i?b$", size):
        raise InputError(
            f"--ram-bandwidth {text!r} says bits: a small b", hint=f"memory is told in bytes, with a large B, {example}"
        )
    try:
        value = parse_bytes(size, "--ram-bandwidth")
    except InputError:
        raise InputError(f"--ram-bandwidth {text!r} is no rate", hint=example) from None
    if not GB // 10 <= value <= MOST_BYTES_PER_S:
        raise InputError(
            f"--ram-bandwidth {text} must be from 0.1 to {MOST_BYTES_PER_S // GB:,} GB/s",
            hint=example,
        )
    return value


def _profile(text: str, folders: Sequence[Path]) -> tuple[str, int]:
    """A host profile by its name, with or without `cpu-` in front."""
    found, count = _find(text, folders)
    if found.vendor != "cpu" or count is not None:
        raise InputError(
            f"--host {text} is no profile of a host", hint="say --gpu for cards, and --sockets for several sockets"
        )
    if found.memory_bandwidth_bytes_per_s is None:
        raise InputError(f"--host {text}: its profile tells no bandwidth", hint="say --ram-bandwidth 80GB/s")
    return found.profile, found.memory_bandwidth_bytes_per_s


def _find(text: str, folders: Sequence[Path]) -> tuple[Hardware, int | None]:
    for name in (f"cpu-{text.strip()}", text, re.sub(r"^\s*(\d+)\s*x\s*", r"\1xcpu-", text)):
        if len(name) > MOST_CHARACTERS:
            continue
        try:
            return find_hardware(name, folders)
        except InputError:
            if name.endswith((".yaml", ".yml")) and Path(name).is_file():
                raise
    known = "2ch-ddr5-5600, 8ch-ddr5-4800, 12ch-ddr5-6000"
    raise InputError(
        f"unknown host {text[:MOST_CHARACTERS]!r}",
        hint=f"--host takes {known}, or a profile of your own; or say --ram-bandwidth 80GB/s",
    )
