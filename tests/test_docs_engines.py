"""`docs/engines.md` names every refusal that there is, and every engine; its commands are run by test_docs_commands.py."""

from __future__ import annotations

import re
from pathlib import Path

from moeplan.engines import ENGINES

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
CODE = re.compile(r'(?:Refusal|Problem)\(\s*"([a-z0-9-]+)"')


def refusals_in_code() -> set[str]:
    found: set[str] = set()
    for folder in ("engines", "estimate"):
        for path in (ROOT / "moeplan" / folder).rglob("*.py"):
            found |= set(CODE.findall(path.read_text(encoding="utf-8")))
    return found - {"no-gpu", "memory-unknown"}  # these leave the verdict open


def test_every_refusal_is_in_the_table() -> None:
    table = TEXT.partition("## Refusals")[2].partition("\n## ")[0]
    named = {
        code
        for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for code in re.findall(r"`([a-z0-9-]+)`", row)
    }
    assert named >= refusals_in_code()


def test_every_engine_has_its_column() -> None:
    table = TEXT.partition("## What each engine does")[2]
    head = next(line for line in table.splitlines() if line.startswith("| |")).lower().replace("-", "").replace(".", "")
    for engine, word in zip(ENGINES, ("vllm", "sglang", "tensorrtllm", "llamacpp", "transformers"), strict=True):
        assert word in head, engine
