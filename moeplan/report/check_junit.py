"""A check as JUnit XML: one suite for each file, one case for each deployment, one for what is wrong with a file itself.

What fails is a `failure`; what could not be verified is an `error` of the type `cannot-verify`, so that no dashboard counts
it as passed. A case has one of them at most, with everything that was found in its text. The same check gives the same
bytes: times are zero, and there are no timestamps. Held to the schema of Jenkins' xUnit plugin (`junit-10.xsd`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from moeplan.check.result import Check, Finding
from moeplan.report.check_words import (
    LEVELS,
    Entry,
    borrowed_words,
    by_severity,
    entries,
    further_words,
    memory_words,
    place_words,
    settings_words,
    shown_path,
    what_words,
)
from moeplan.report.printable import printable_record

FILE = "file"
"""The case of a file itself."""
CANNOT_VERIFY = "cannot-verify"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold even as an entity (production `Char`)."""


def check_junit(check: Check) -> str:
    """JUnit XML with a final newline."""
    check = printable_record(check)
    root = ET.Element("testsuites", name="moeplan check")
    for file, found in groupby(entries(check), key=lambda entry: entry.file):
        _suite(root, file, list(found))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", "0")
    ET.indent(root)
    # A log that is printed must hold no command of a CI machine.
    text = ET.tostring(root, encoding="unicode").replace("##", "#&#35;")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: ET.Element, file: str, found: Sequence[Entry]) -> None:
    verdicts = [entry.verdict for entry in found]
    suite = ET.SubElement(
        root, "testsuite", name=_xml(shown_path(file)), tests=str(len(found)), failures=str(verdicts.count("fail")),
        errors=str(verdicts.count("cannot-verify")), skipped="0", time="0",
    )  # fmt: skip
    for entry, name in zip(found, _names(found), strict=True):
        _case(suite, entry, name)


def _names(found: Sequence[Entry]) -> list[str]:
    """Names of cases, told apart by line where several deployments of a file have one name."""
    names = [FILE if entry.judged is None else entry.name for entry in found]
    often = Counter(names)
    return [
        name if often[name] == 1 or entry.judged is None else f"{name} (line {entry.line})"
        for name, entry in zip(names, found, strict=True)
    ]


def _case(suite: ET.Element, entry: Entry, name: str) -> None:
    case = ET.SubElement(suite, "testcase", name=_xml(name), classname=_xml(shown_path(entry.file)), time="0")
    found = by_severity((*entry.findings, *entry.reasons))
    text = _xml("\n".join(_lines(entry, found)))
    if entry.verdict == "pass":
        if found:
            ET.SubElement(case, "system-out").text = text
        return
    first = _first(entry, found)
    message = first.message if first is not None else borrowed_words(entry)
    if entry.verdict == "fail":
        made = ET.SubElement(case, "failure", type=first.code if first is not None else FILE, message=_xml(message))
    else:
        told = f"{first.code} {message}" if first is not None else message
        made = ET.SubElement(case, "error", type=CANNOT_VERIFY, message=_xml(told))
    made.text = text


def _first(entry: Entry, found: Sequence[Finding]) -> Finding | None:
    """The finding that the verdict stands on; None where it stands on what was found of the file."""
    if borrowed_words(entry):
        return None
    wanted = "unknown" if entry.verdict == "cannot-verify" else None
    return next((finding for finding in found if wanted in (None, finding.level)), None)


def _lines(entry: Entry, found: Sequence[Finding]) -> Iterator[str]:
    """What it is, then everything that was found; each line begins with a word of ours."""
    if entry.judged is not None:
        yield f"deployment: {' · '.join([*what_words(entry.judged), *memory_words(entry.judged)])}"
    for finding in found:
        yield f"{finding.code} {LEVELS[finding.level]} at {place_words(finding)}: {finding.message}"
        for sentence in further_words(finding):
            yield f"- {sentence}"
    if entry.judged is not None and entry.verdict != "pass" and entry.judged.settings:
        yield f"stands on: {', '.join(settings_words(entry.judged))}"


def _xml(text: str) -> str:
    """Text that XML can hold; the few characters that it cannot are written as escapes."""
    return _NO_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
