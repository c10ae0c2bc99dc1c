"""The resident size of this process follows what it touches."""

from __future__ import annotations

import time

import pytest

from moeplan.measure import resident

SIZE = 64 * 2**20


def test_a_peak_outlives_what_made_it() -> None:
    before = resident.resident_bytes()
    if before is None:
        pytest.skip("no /proc here")
    with resident.ResidentPeak() as peak:
        block = bytearray(SIZE)
        block[::4096] = b"x" * len(block[::4096])  # pages that nobody writes to are not resident
        held = resident.resident_bytes()
        assert held is not None
        assert peak.peak_bytes is not None
        # Sampled: held until the sampler has come by, however busy the machine is.
        deadline = time.monotonic() + 30
        while peak.peak_bytes < held - 2**20 and time.monotonic() < deadline:
            time.sleep(0.005)
        del block
    assert peak.peak_bytes >= held - 2**20 >= before + SIZE // 2


def test_systems_without_it_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "resident_bytes", lambda: None)
    with resident.ResidentPeak() as peak:
        pass
    assert peak.peak_bytes is None
