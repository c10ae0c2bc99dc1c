"""`docs/offload.md` is held against the code: its commands are run, its tables worked out again, its constants looked up.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_offload.py` writes what the commands print into the page;
`python benchmarks/offload.py --write` the tables.
"""

from __future__ import annotations

import os
import re
import shlex

import pytest

from benchmarks.offload import PAGE, written
from moeplan import cli
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS
from moeplan.offload.host import DESKTOP_BYTES
from moeplan.offload.search import MARGIN_BYTES
from moeplan.sources.host_constants import host_constants

COMMAND = re.compile(r"^```sh\n(moeplan plan [^\n]*)\n```\n\n```text\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
CODES = (0, 1)
"""Exit codes of the page's commands, in their order."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(len(CODES)))
def test_a_command_prints_what_the_page_shows(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    command, shown = COMMAND.findall(text())[number]
    assert cli._run(shlex.split(command)[1:]) == CODES[number]
    out, err = capsys.readouterr()
    assert err == ""
    if os.environ.get("UPDATE_GOLDEN"):
        before = f"```sh\n{command}\n```\n\n```text\n"
        PAGE.write_text(text().replace(f"{before}{shown}```", f"{before}{out}```"), encoding="utf-8")
        shown = out
    assert out == shown


def test_the_page_has_all_its_commands() -> None:
    assert len(COMMAND.findall(text())) == len(CODES)


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
