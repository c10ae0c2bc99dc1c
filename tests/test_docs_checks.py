"""The page of rules says what the rules say."""

from __future__ import annotations

import os
from pathlib import Path

from moeplan.report.checks_page import BEGIN, END, rules_page

PAGE = Path(__file__).parents[1] / "docs" / "checks.md"


def test_the_page_has_every_rule_as_its_docstring_says_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{rules_page()}{after}"
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "run it with UPDATE_GOLDEN=1"
