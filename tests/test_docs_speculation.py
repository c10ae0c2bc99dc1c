"""`docs/speculation.md` is held against the code: its sums, its tables, its words; its command is run by `test_docs_commands`.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_speculation.py` writes the published table into the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from benchmarks.speculation import broken, outcomes, report
from moeplan.estimate.drafts import MOST_DRAFT_TOKENS
from moeplan.estimate.speculation import CONCURRENCIES
from moeplan.estimate.speed_result import Speculation
from tests.test_docs_method import computed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "speculation.md"
SUM = re.compile(r"^[^:=\n`]+: ([^=\n]+) = ([\d.]+)$", flags=re.MULTILINE)
PUBLISHED = "which one the published speed-up asks for.\n\n```text\n"


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def held(before: str, out: str) -> None:
    """The block behind `before` shows `out`."""
    page = text()
    start = page.index(before) + len(before)
    end = page.index("```", start)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(page[:start] + out + page[end:], encoding="utf-8")
    else:
        assert page[start:end] == out


def test_sums_are_right() -> None:
    found = SUM.findall(text())
    assert len(found) == 3
    for left, right in found:
        assert round(float(computed(left)), len(right.partition(".")[2])) == float(right), left


def test_published_runs_stand_beside_what_is_said() -> None:
    held(PUBLISHED, "\n".join(report(outcomes())).rstrip() + "\n")


def test_published_runs_keep_their_bounds() -> None:
    assert list(broken(outcomes())) == []


def test_a_bound_can_be_broken() -> None:
    """A step said to be half as long again, or a third shorter, than it is breaks one."""

    def scaled(factor: float) -> list[str]:
        found = []
        for each in outcomes():
            rows = tuple(row._replace(step_ratio=row.step_ratio * factor) for row in each.found.over_concurrency)
            found.append(each._replace(found=each.found._replace(over_concurrency=rows)))
        return list(broken(tuple(found)))

    assert scaled(1.5)
    assert scaled(0.67)


def test_fields_and_numbers_are_those_of_the_code() -> None:
    page = text()
    told = {"draft_tokens", "verify_tokens", "draft_model", "acceptance"}
    for name in set(Speculation._fields) - told:
        assert f"`{name}`" in page, name
    assert f"1 to {MOST_DRAFT_TOKENS}" in page
    for count in CONCURRENCIES:
        assert f"{count:,}" in page
