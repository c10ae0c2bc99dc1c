"""A check as SARIF 2.1.0, for code scanning and for viewers in editors.

Every rule is described, whether it found something or not. What could not be verified has the kind `open`, whose level is
`none` by the standard (3.27.9, 3.27.10). Paths are relative, and the same check gives the same bytes. Each constraint that
is kept here names its paragraph of the OASIS standard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from moeplan.check.result import Check, Finding, Level
from moeplan.check.rules import Rule
from moeplan.check.summary import exit_code
from moeplan.report.check_words import STDIN, by_severity, entries, further_words, path_in_repository, rules
from moeplan.report.printable import json_escaped, printable, printable_record
from moeplan.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
"""What paths are relative to: the top of the repository."""
FINGERPRINT = "moeplan/v1"
MOST_RESULTS = 25_000
"""Code scanning refuses a run that has more."""
LEVELS: Mapping[Level, str] = {"error": "error", "warning": "warning", "info": "note", "unknown": "none"}
_LINK = re.compile(r"\](?=\()")


def check_sarif(check: Check) -> str:
    """SARIF as indented JSON with a final newline."""
    known = rules()
    places = {rule.code: place for place, rule in enumerate(known)}
    found = [finding for entry in entries(check) for finding in (*entry.findings, *entry.quiet)]
    found.sort(key=lambda each: (each.file, each.line, each.column, each.code, each.message, each.fingerprint))
    kept = found
    if len(found) > MOST_RESULTS:
        severest = {id(finding) for finding in by_severity(found)[:MOST_RESULTS]}
        kept = [finding for finding in found if id(finding) in severest]
    run = {
        "tool": {
            "driver": {
                "name": "moeplan",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in known],
            }
        },
        "invocations": [_invocation(check, len(found) - len(kept))],
        "columnKind": "unicodeCodePoints",
        "results": _results(kept, places, check.folder),
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_escaped(json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    """One rule; what it is worth by itself, before a policy says otherwise."""
    paragraphs = [" ".join(part.split()) for part in rule.text.split("\n\n")]
    ignore = f"Where it does not apply, say so with a reason: `# moeplan: ignore[{rule.code}] reason`."
    return {
        "id": rule.code,
        "name": "".join(map(str.capitalize, re.findall(r"\w+", rule.title))),
        "shortDescription": {"text": _sentence(rule.title[0].upper() + rule.title[1:])},
        "fullDescription": {"text": " ".join(paragraphs)},
        "help": {
            "text": "\n\n".join([*paragraphs, ignore]),
            "markdown": "\n\n".join([f"**{rule.code}: {rule.title}**", *paragraphs, ignore]),
        },
        # A rule is asked for its severity where a result has none of its own: what is unknown warns.
        "defaultConfiguration": {"level": "warning" if rule.level == "unknown" else LEVELS[rule.level]},
    }


def _invocation(check: Check, num_left_out: int) -> dict[str, Any]:
    """How the run ended, and what it has to say of itself."""
    told = [printable(note.message) for note in check.notes]
    if num_left_out:
        told.append(f"{num_left_out:,} findings are left out: a run holds {MOST_RESULTS:,}")
    made: dict[str, Any] = {"executionSuccessful": True, "exitCode": exit_code(check)}
    if told:
        made["toolExecutionNotifications"] = [{"level": "note", "message": {"text": _plain(text)}} for text in told]
    return made


def _results(findings: Sequence[Finding], places: Mapping[str, int], folder: str) -> list[dict[str, Any]]:
    """Where one result has a state, all of them have one (3.27.23 suppressions, 3.27.24 baselineState)."""
    suppressed = any(finding.state == "suppressed" for finding in findings)
    known = any(finding.state == "known" for finding in findings)
    made = []
    for finding in findings:
        result = _result(finding, places, folder)
        if suppressed:
            result["suppressions"] = [_suppression(finding)] if finding.state == "suppressed" else []
        if known:
            result["baselineState"] = "unchanged" if finding.state == "known" else "new"
        made.append(result)
    return made


def _result(finding: Finding, places: Mapping[str, int], folder: str) -> dict[str, Any]:
    file = path_in_repository(finding.file, folder)  # as it is: in a URI everything is escaped
    finding = printable_record(finding)
    about = "" if finding.deployment is None else f"{finding.deployment}: "
    more = [_sentence(text[0].upper() + text[1:]) for text in further_words(finding._replace(state="new"))]
    made: dict[str, Any] = {"ruleId": finding.code}
    if finding.code in places:
        made["ruleIndex"] = places[finding.code]
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": _artifact(file),
            "region": {"startLine": finding.line, "startColumn": finding.column},
        }
    }
    if finding.deployment is not None:
        name = {"name": finding.deployment} if finding.deployment else {}
        path = {"fullyQualifiedName": finding.key_path} if finding.key_path else {}
        if name or path:
            location["logicalLocations"] = [{**name, **path}]
    return made | {
        "kind": "open" if finding.level == "unknown" else "fail",
        "level": LEVELS[finding.level],
        "message": {"text": _plain(" ".join([_sentence(f"{about}{finding.message}"), *more]))},
        "locations": [location],
        "partialFingerprints": {FINGERPRINT: finding.fingerprint},
    }


def _artifact(file: str) -> dict[str, str]:
    """A URI of the name's bytes, escaped; outside of the root it is relative to nothing known."""
    if file == "-":
        return {"uri": STDIN}
    try:
        name = file.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        name = printable(file).encode()
    uri = quote(name, safe="/")
    return {"uri": uri} if file.startswith(("../", "/")) else {"uri": uri, "uriBaseId": ROOT}


def _suppression(finding: Finding) -> dict[str, str]:
    """A policy lies outside of the file; comments and annotations stand in it."""
    kind = "external" if finding.suppressed_by == "policy" else "inSource"
    return {"kind": kind, **({"justification": finding.state_reason} if finding.state_reason else {})}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _plain(text: str) -> str:
    """A plain message in which no text from outside is a link (3.11.6).

    Braces stay single: viewers undo doubled ones (3.11.5) only where a message has arguments, and ours have none.
    """
    return _LINK.sub("] ", text)
