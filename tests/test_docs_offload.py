"""Tables of `docs/offload.md` are worked out again, its constants looked up; its commands are run by test_docs_commands.py.

`python benchmarks/offload.py --write` writes the tables.
"""

from __future__ import annotations

from benchmarks.offload import PAGE, written
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS
from moeplan.offload.host import DESKTOP_BYTES
from moeplan.offload.search import MARGIN_BYTES
from moeplan.sources.host_constants import host_constants


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_benchmark() -> None:
    assert written(text()) == text()


def test_constants_are_those_of_the_code() -> None:
    page, constants = text(), host_constants()
    assert (
        f"89.6 GB/s x {constants['host_bandwidth_fraction'].value:g} = {89.6 * constants['host_bandwidth_fraction'].value:.0f} GB/s"
        in page
    )
    assert (
        f"31.5 GB/s x {constants['pinned_copy_fraction'].value:g} = {31.5 * constants['pinned_copy_fraction'].value:.0f} GB/s"
        in page
    )
    assert f"A second socket adds {100 * constants['second_socket_fraction'].high:.0f} % at most" in page
    assert f"{constants['system_bytes'].value / 2**30:.0f} GiB, assumed" in page
    assert f"keeps {MARGIN_BYTES / 2**30:.0f} GiB free" in page
    assert f"From {OFFLOADED_FROM_TOKENS} tokens on" in page
    assert f"up to {DESKTOP_BYTES / 2**30:.0f} GiB" in page
    assert f"1 - 0.8^8 = {100 * (1 - 0.8**8):.0f} %" in page
