"""Findings that are known already: a file of fingerprints, written once and read in every run after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from moeplan.check.result import Check
from moeplan.core.errors import InputError

SCHEMA = "moeplan.baseline/1"


def baseline_text(check: Check) -> str:
    """The baseline of a check: everything that it found and that nobody ignores, in a stable order."""
    rows = sorted(
        {
            (finding.file, finding.code, finding.deployment or "", finding.fingerprint, finding.message)
            for finding in check.findings
            if finding.state != "suppressed"
        }
    )
    known = [
        {"fingerprint": mark, "file": file, "code": code, "deployment": name or None, "message": message}
        for file, code, name, mark, message in rows
    ]
    return json.dumps({"schema": SCHEMA, "findings": known}, indent=2, ensure_ascii=False) + "\n"


def read_baseline(path: Path) -> frozenset[str]:
    """Fingerprints of a baseline file. Raises InputError for one that is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--baseline {path}: no such file", hint="make it with --write-baseline") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"--baseline {path} cannot be read: {error}", hint="make it anew with --write-baseline"
        ) from None
    if (
        not isinstance(content, Mapping)
        or content.get("schema") != SCHEMA
        or not isinstance(content.get("findings"), list)
    ):
        raise InputError(f"--baseline {path} is no baseline of moeplan", hint="make it with --write-baseline")
    marks = [each.get("fingerprint") for each in content["findings"] if isinstance(each, Mapping)]
    return frozenset(mark for mark in marks if isinstance(mark, str))
