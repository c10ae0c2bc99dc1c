"""Any result as JSON: result types carry the contract's names, so this is one fold for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moeplan.report.printable import json_escaped


def as_json(result: Any) -> str:
    """The result as indented JSON with a final newline; the same result gives the same bytes."""
    return json_escaped(json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def plain(value: Any) -> Any:
    """Records as objects, tuples as lists, mappings as objects; numbers, texts and None as they are."""
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
