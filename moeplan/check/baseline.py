"""Findings that are known already: a file of fingerprints, written once and read in every run after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from moeplan.check.result import Check
from moeplan.check.summary import NOTHING_THERE
from moeplan.core.errors import InputError

SCHEMA = "moeplan.baseline/1"
ANEW = "make it anew with --write-baseline"


def baseline_text(check: Check) -> str:
    """The baseline of a check: everything that it found and that nobody ignores, in a stable order.

    That a file holds nothing to judge is wrong usage, and is not known away.
    """
    rows = sorted(
        {
            (finding.file, finding.code, finding.deployment or "", finding.fingerprint, finding.message)
            for finding in check.findings
            if finding.state != "suppressed" and finding.code != NOTHING_THERE
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
    except OSError as error:
        told = error.strerror or type(error).__name__
        raise InputError(f"--baseline {path} cannot be read: {told}", hint="name the file of a baseline") from None
    except (ValueError, RecursionError):
        raise InputError(f"--baseline {path} is no baseline: it is no JSON", hint=ANEW) from None
    schema = content.get("schema") if isinstance(content, Mapping) else None
    if isinstance(schema, str) and schema.startswith("moeplan.baseline/") and schema != SCHEMA:
        raise InputError(f"--baseline {path} is a {schema}, and this moeplan reads {SCHEMA}", hint="update moeplan")
    if schema != SCHEMA or not isinstance(content.get("findings"), list):
        raise InputError(f"--baseline {path} is no baseline of moeplan", hint=ANEW)
    marks = [each.get("fingerprint") if isinstance(each, Mapping) else None for each in content["findings"]]
    known = frozenset(mark for mark in marks if isinstance(mark, str))
    if None in marks or len(known) < len(set(map(str, marks))):
        raise InputError(f"--baseline {path}: not all of its findings have a fingerprint", hint=ANEW)
    return known
