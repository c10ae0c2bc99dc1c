"""The table of rules in `docs/checks.md`, from the rules' own docstrings."""

from __future__ import annotations

from moeplan.check.rules import all_rules
from moeplan.report.markdown import table

BEGIN = "<!-- rules: made from docstrings, held by tests/test_docs_checks.py -->"
END = "<!-- rules: end -->"
LEVELS = {"unknown": "cannot verify"}


def rules_page() -> str:
    """A table of all codes, then a section for each."""
    rules = all_rules()
    rows = [(f"[{rule.code}](#{rule.code.lower()})", rule.title, LEVELS.get(rule.level, rule.level)) for rule in rules]
    sections = [
        f"### {rule.code}\n\n**{rule.title}** ({LEVELS.get(rule.level, rule.level)}). {rule.text}" for rule in rules
    ]
    return "\n\n".join((BEGIN, table(["code", "what", "level"], "<<<", rows), *sections, END))
