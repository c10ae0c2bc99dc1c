"""The sum of `docs/plan.md` is computed again, its words are looked up; its commands are run by test_docs_commands.py."""

from __future__ import annotations

import re
from pathlib import Path

from moeplan.core.network import FOR_EACH_DEVICE, NODE_BYTES_PER_S, NODE_HIGH_BYTES_PER_S, NODE_LOW_BYTES_PER_S
from moeplan.plan.failures import FAILURES
from moeplan.plan.pools import MOST_LOAD
from moeplan.plan.search import WORTH
from moeplan.report.plan_words import TERMS
from moeplan.sources.deployments.written import KINDS
from tests.test_docs_method import computed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plan.md"
SUM = re.compile(r"^[^:=\n`]+: ([^=\n]+) = ([\d,]+)$", flags=re.MULTILINE)


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_sums_are_right() -> None:
    found = SUM.findall(text())
    assert len(found) == 1
    for left, right in found:
        assert computed(left) == int(right.replace(",", "")), left


def test_words_and_constants_are_those_of_the_code() -> None:
    page = text()
    for word in (*FAILURES, *KINDS, *(name for term, name in TERMS.items() if term != "kept")):
        assert word in page, word
    assert f"{WORTH:.0%}".replace("%", " %") in page
    assert f"{MOST_LOAD:.0%}".replace("%", " %") in page
    assert f"{FOR_EACH_DEVICE.bytes_per_s * 8 / 1e9:.0f} Gb/s for each GPU" in page
    assert f"{NODE_BYTES_PER_S * 8 / 1e9:.0f} Gb/s for each node" in page
    low, high = NODE_LOW_BYTES_PER_S * 8 / 1e9, NODE_HIGH_BYTES_PER_S * 8 / 1e9
    assert f"{low:.0f} to {high:.0f} Gb/s" in page
