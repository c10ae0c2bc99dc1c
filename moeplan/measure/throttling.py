"""Whether the device slowed down while it was measured: its clock under the same load, before and after."""

from __future__ import annotations

import subprocess
import time

import torch  # noqa: TID253

from moeplan.measure.device_facts import SMI_TIMEOUT_S, read_smi, smi_command
from moeplan.measure.session import Session

SLOWED_FRACTION = 0.1
"""A clock that is this much lower is told to the reader (kernels.md, section 6: the 10 % rule)."""


def loaded_clock_mhz(session: Session) -> int | None:
    """The clock of the multiprocessors while they multiply random matrices; None where nvidia-smi does not tell.

    An idle device clocks down, so a reading without load says nothing. Takes as long as nvidia-smi does, below a second.
    """
    if session.device.kind != "cuda":
        return None
    side = 4096
    load = session.random((side, side), "bfloat16", "load", scale=side**-0.5)
    torch.mm(load, load)
    session.synchronize()
    try:
        asked = subprocess.Popen(  # noqa: S603 - a fixed command
            smi_command(session.torch_device, "clocks.sm"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None
    with asked:
        deadline = time.monotonic() + SMI_TIMEOUT_S
        while asked.poll() is None and time.monotonic() < deadline:
            for _ in range(16):
                torch.mm(load, load)
            session.synchronize()
        if asked.poll() is None:
            asked.kill()
        (text,) = read_smi(asked.stdout.read() if asked.stdout else "", 1)
    return int(text) if text is not None and text.isdigit() else None


def slowed(before_mhz: int | None, after_mhz: int | None) -> str | None:
    """A sentence for the reader when the clock under load fell by a tenth or more; None otherwise."""
    if not before_mhz or not after_mhz or after_mhz > before_mhz * (1 - SLOWED_FRACTION):
        return None
    return f"the device slowed down while it was measured: {before_mhz} MHz under load before, {after_mhz} MHz after"
