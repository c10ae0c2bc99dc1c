"""The usable-memory rule, held to hand arithmetic and to totals that engines printed."""

from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.hardware import Hardware, Pcie, pcie_bytes_per_s, usable

GIB = 1024**3


def device(**facts: Any) -> Hardware:
    return Hardware(profile="card", name="A card", **facts)


def test_what_engines_report_comes_first_and_is_not_an_assumption() -> None:
    # An H100: vLLM logs 79.19 GiB, nvidia-smi shows 81559 MiB.
    found = usable(
        device(nominal_bytes=80 * GIB, visible_bytes=81559 * 1024**2, reported_bytes=85_029_616_000),
    )
    assert found is not None
    assert found.bytes == 85_029_616_000
    assert (found.basis, found.certain) == ("measured", True)
    # 0.1 GiB is 107374182 bytes to either side.
    assert (found.low_bytes, found.high_bytes) == (84_922_241_818, 85_136_990_182)
    assert found.why.inputs == {"usable_bytes": 85_029_616_000}


def test_a_report_keeps_the_band_of_its_file() -> None:
    found = usable(device(reported_bytes=500, reported_low_bytes=400, reported_high_bytes=510))
    assert found is not None
    assert (found.low_bytes, found.bytes, found.high_bytes) == (400, 500, 510)


def test_the_band_of_a_report_does_not_pass_what_the_card_has() -> None:
    # 191.98 of 192 GiB: 0.1 GiB more would be more than there is.
    found = usable(device(nominal_bytes=192 * GIB, reported_bytes=206_136_955_000))
    assert found is not None
    assert found.high_bytes == 192 * GIB == 206_158_430_208


def test_without_a_report_it_is_the_nvidia_smi_total_less_what_cuda_hides() -> None:
    # An A10: 23028 MiB = 24146608128 bytes; 0.55 GiB = 590558003; 0.4 and 0.8 GiB = 429496730 and 858993459.
    found = usable(device(nominal_bytes=24 * GIB, visible_bytes=24_146_608_128))
    assert found is not None
    assert found.bytes == 23_556_050_125
    assert (found.low_bytes, found.high_bytes) == (23_287_614_669, 23_717_111_398)
    assert (found.basis, found.certain) == ("assumed", True)


def test_from_the_nominal_size_alone_it_is_a_guess_and_says_so() -> None:
    # 64 GiB = 68719476736 bytes; 0.93, 0.965 and 1.0 of it.
    found = usable(device(nominal_bytes=68_719_476_736))
    assert found is not None
    assert (found.low_bytes, found.bytes, found.high_bytes) == (63_909_113_364, 66_314_295_050, 68_719_476_736)
    assert (found.basis, found.certain) == ("assumed", False)
    assert "nobody's report" in found.why.formula


def test_memory_that_the_cpu_shares_is_a_wide_band_and_never_certain() -> None:
    # 96 GiB: llama.cpp issue 3213 prints a recommended working set of 73728 MiB there, three quarters.
    guessed = usable(device(unified_memory=True, nominal_bytes=96 * GIB))
    assert guessed is not None
    assert guessed.bytes == 73728 * 1024**2
    assert (guessed.basis, guessed.certain) == ("assumed", False)
    # 32 GiB: ollama issue 434 prints 21845.34 MiB, two thirds.
    small = usable(device(unified_memory=True, nominal_bytes=32 * GIB))
    assert small is not None
    assert small.low_bytes / 1024**2 == pytest.approx(21845.34, abs=0.01)
    reported = usable(device(unified_memory=True, nominal_bytes=128 * GIB, reported_bytes=121 * GIB))
    assert reported is not None
    assert (reported.bytes, reported.basis, reported.certain) == (121 * GIB, "measured", False)


@pytest.mark.parametrize("unified", [False, True])
def test_nothing_known_gives_nothing(unified: bool) -> None:
    assert usable(device(unified_memory=unified)) is None


@pytest.mark.parametrize(
    ("link", "gb_per_s"),
    # One direction of x16 as PCI-SIG states it: 15.754, 31.508 and 63.015 GB/s; x8 is half.
    [(Pcie(3, 16), 15.754), (Pcie(4, 16), 31.508), (Pcie(5, 16), 63.015), (Pcie(5, 8), 31.508)],
)
def test_pcie_rates(link: Pcie, gb_per_s: float) -> None:
    assert pcie_bytes_per_s(link) / 1e9 == pytest.approx(gb_per_s, abs=0.001)
