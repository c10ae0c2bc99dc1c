"""Counts of a check, and what its exit code says."""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.check.result import Check, Finding, Judged, Level, Summary
from moeplan.core.deployed import FileRead
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_INPUT, EXIT_UNKNOWN

RANK: dict[Level, int] = {"info": 0, "warning": 1, "error": 2}

NOTHING_THERE = "READ010"
"""The rule for a file that was named and that is none of ours."""

NOTHING_RECOGNISED = "nothing-recognised"
"""Code of the remark on such a file."""


def is_foreign(file: FileRead) -> bool:
    """True for a file of another program; one that cannot be read may be anybody's."""
    return not file.recognised and all(remark.code == NOTHING_RECOGNISED for remark in file.remarks)


def summary_of(files: Sequence[FileRead], deployments: Sequence[Judged], findings: Sequence[Finding]) -> Summary:
    """How many of each."""
    new = [finding.level for finding in findings if finding.state == "new"]
    verdicts = [each.verdict for each in deployments]
    return Summary(
        files=len(files),
        files_passed_over=sum(map(is_foreign, files)),
        deployments=len(deployments),
        passed=verdicts.count("pass"),
        failed=verdicts.count("fail"),
        cannot_verify=verdicts.count("cannot-verify"),
        errors=new.count("error"),
        warnings=new.count("warning"),
        infos=new.count("info"),
        unknown=new.count("unknown"),
        known=sum(finding.state == "known" for finding in findings),
        suppressed=sum(finding.state == "suppressed" for finding in findings),
    )


def fails(level: Level, fail_on: Level) -> bool:
    """True where a finding of this level fails a check."""
    return level != "unknown" and RANK[level] >= RANK[fail_on]


def exit_code(check: Check) -> int:
    """2 where something named holds nothing to judge, else 1 for findings, 3 for what could not be verified, 0."""
    new = [finding for finding in check.findings if finding.state == "new"]
    if any(finding.code == NOTHING_THERE for finding in new):
        return EXIT_INPUT
    if any(fails(finding.level, check.fail_on) for finding in new):
        return EXIT_FINDINGS
    if any(finding.level == "unknown" for finding in new):
        return EXIT_UNKNOWN
    return EXIT_DONE
