"""Sums of `docs/compare.md` are computed again; its commands are run by test_docs_commands.py."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_docs_method import computed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compare.md"
SUM = re.compile(r"^[^:=\n`]+: ([^=\n]+) = ([\d,]+)$", flags=re.MULTILINE)


def test_sums_are_right() -> None:
    found = SUM.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == 4
    for left, right in found:
        assert computed(left) == int(right.replace(",", "")), left
