"""Sentences that all reports of a check share: verdicts, what a deployment is, its memory, findings, counts.

Texts are as they came; each report makes them printable and escapes them in its own way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from posixpath import normpath
from typing import NamedTuple

from moeplan.check.result import Check, Finding, Judged, Level, Verdict
from moeplan.check.rules import Rule, all_rules
from moeplan.check.summary import RANK, exit_code, fails
from moeplan.core.errors import EXIT_DONE, EXIT_FINDINGS, EXIT_INPUT
from moeplan.core.units import gib, gib_floor
from moeplan.report.words import NOTHING_HELPS, gib_signed

VERDICTS: Mapping[Verdict, str] = {"pass": "pass", "fail": "fail", "cannot-verify": "cannot verify"}
LEVELS: Mapping[Level, str] = {"error": "error", "warning": "warning", "info": "info", "unknown": "cannot verify"}
SEVEREST: tuple[Level, ...] = ("error", "unknown", "warning", "info")
"""From what ends a check to what is only told: nothing unknown passes, so it stands before a warning."""
STDIN = "stdin"
THE_FILE = "the file"
FITS_WITH = "it fits with any one of"


class Entry(NamedTuple):
    """One deployment, or a file as such, with everything that was found of it."""

    file: str
    line: int | None
    """None for the file."""
    name: str
    verdict: Verdict
    judged: Judged | None
    """None for the file."""
    findings: tuple[Finding, ...]
    """New ones."""
    quiet: tuple[Finding, ...]
    """Those that are known or suppressed."""
    of_file: Verdict = "pass"
    """The verdict of its file as such."""

    @property
    def where(self) -> str:
        """`deploy.yaml:34`; the name alone for the file."""
        return shown_path(self.file) if self.line is None else f"{shown_path(self.file)}:{self.line}"

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """Known and suppressed findings that the verdict stands on: nobody verifies by looking away."""
        if self.verdict != "cannot-verify":
            return ()
        return tuple(finding for finding in self.quiet if finding.level == "unknown")


def entries(check: Check) -> tuple[Entry, ...]:
    """Deployments by file and line; a file with findings of its own stands before its deployments."""
    named = {(each.file, each.name, each.line): place for place, each in enumerate(check.deployments)}
    belonging: dict[int, list[Finding]] = {place: [] for place in range(len(check.deployments))}
    files: dict[str, list[Finding]] = {}
    for finding in check.findings:
        owner = named.get((finding.file, finding.deployment or "", finding.deployment_line or 0))
        (files.setdefault(finding.file, []) if owner is None else belonging[owner]).append(finding)
    found = {}
    for file, about in files.items():
        new, quiet = _by_state(about)
        found[file] = Entry(file, None, THE_FILE, _verdict(new, quiet, check.fail_on), None, new, quiet)
    deployed = [
        Entry(each.file, each.line, each.name, each.verdict, each, *_by_state(belonging[place]), _of_file(found, each))
        for place, each in enumerate(check.deployments)
    ]
    return tuple(sorted((*found.values(), *deployed), key=lambda each: (each.file, each.line or 0, each.name)))


def _of_file(found: Mapping[str, Entry], judged: Judged) -> Verdict:
    return found[judged.file].verdict if judged.file in found else "pass"


def _by_state(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    new = tuple(finding for finding in findings if finding.state == "new")
    return new, tuple(finding for finding in findings if finding.state != "new")


def _verdict(new: Sequence[Finding], quiet: Sequence[Finding], fail_on: Level) -> Verdict:
    """A file's own verdict, as that of a deployment is made."""
    known = [finding for finding in quiet if finding.state == "known"]
    if any(fails(finding.level, fail_on) for finding in (*new, *known)):
        return "fail"
    return "cannot-verify" if any(finding.level == "unknown" for finding in (*new, *quiet)) else "pass"


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Most severe first, then by file and line."""
    return sorted(
        findings,
        key=lambda each: (SEVEREST.index(each.level), each.file, each.line, each.column, each.code, each.message),
    )


def rules() -> tuple[Rule, ...]:
    """Every rule, by family and code."""
    return all_rules()


def titles() -> dict[str, str]:
    """Titles of rules by their codes."""
    return {rule.code: rule.title for rule in all_rules()}


def shown_path(file: str) -> str:
    """A file's name; standard input has one too."""
    return STDIN if file == "-" else file


def path_in_repository(file: str, folder: str) -> str:
    """A file as its repository calls it, which is how code hosts know it; standard input is none of its files."""
    return file if file == "-" or folder == "." else normpath(f"{folder}/{file}")


def place_words(finding: Finding) -> str:
    """`deploy.yaml:34:11`."""
    return f"{shown_path(finding.file)}:{finding.line}:{finding.column}"


def outcome_words(check: Check) -> str:
    """The outcome in one word or two, as the exit code says it."""
    code = exit_code(check)
    if code == EXIT_DONE and not check.deployments and not check.findings:
        return "NOTHING TO JUDGE"
    if code == EXIT_DONE and check.summary.failed:
        # The baseline knows why, so that nothing ends the run.
        return "NOTHING NEW FAILS"
    if code == EXIT_DONE and check.summary.cannot_verify:
        # Somebody ignores that; it is not verified by it.
        return "NOT ALL VERIFIED"
    named = {EXIT_DONE: "PASSES", EXIT_FINDINGS: "FAILS", EXIT_INPUT: "NOTHING TO JUDGE"}
    return named.get(code, "CANNOT VERIFY")


def what_words(judged: Judged) -> list[str]:
    """What a deployment is, in parts: model, engine, GPUs, layout, copies, cost."""
    model = judged.model or "model not known"
    if judged.model is not None and judged.revision is not None:
        model = f"{model}@{judged.revision[:12]}"
    engine = " ".join(part for part in (judged.engine, judged.engine_version) if part) or "engine not known"
    parts = [model, engine, gpus_words(judged)]
    layout = layout_words(judged)
    if layout:
        parts.append(layout)
    if judged.replicas is not None and judged.replicas != 1:
        total = "" if judged.total_gpus is None else f", {judged.total_gpus:,} GPUs"
        parts.append(f"{judged.replicas:,} copies{total}")
    if judged.usd_per_hour is not None:
        source = f" ({judged.price_source})" if judged.price_source else ""
        parts.append(f"{judged.usd_per_hour:,.2f} USD per hour{source}")
    return parts


def gpus_words(judged: Judged) -> str:
    """`8 x h100-sxm`; what is not known is said."""
    if judged.gpus_per_engine is None:
        return judged.gpu or "GPU not known"
    if judged.gpu is None:
        return f"{count(judged.gpus_per_engine, 'GPU')} of a type not known"
    return f"{judged.gpus_per_engine:,} x {judged.gpu}"


def layout_words(judged: Judged) -> str:
    """`TP 8 x PP 2, EP 16`; empty for one rank, and where nothing is known."""
    degrees = (("TP", judged.tp), ("PP", judged.pp), ("DP", judged.dp))
    told = " x ".join(f"{name} {degree}" for name, degree in degrees if degree not in (None, 1))
    return ", ".join(part for part in (told, f"EP {judged.ep}" if judged.ep not in (None, 1) else "") if part)


def memory_words(judged: Judged) -> list[str]:
    """What is left on the fullest GPU or missing there, and how far the cache reaches; empty where nothing is known."""
    memory = judged.memory
    if memory is None:
        return []
    left = left_words(judged)
    parts = [f"{left} on the fullest GPU"] if left else []
    if memory.needed_bytes is not None and memory.budget_bytes is not None:
        parts.append(f"needs {gib(memory.needed_bytes)} of {gib(memory.budget_bytes)}")
    if memory.kv_tokens is not None and memory.kv_tokens > 0:
        parts.append(f"cache of {memory.kv_tokens:,} tokens")
    if memory.max_concurrency is not None:
        parts.append(f"{count(memory.max_concurrency, 'sequence')} of {memory.context_tokens:,} tokens")
    if not memory.certain:
        parts.append("not certain")
    return parts


def headroom_words(judged: Judged) -> str:
    """`10.2 GiB`, rounded down; `7.0 GiB missing`; empty where it is not known."""
    memory = judged.memory
    if memory is None or memory.headroom_bytes is None:
        return ""
    return gib_signed(memory.headroom_bytes, floor=True)


def left_words(judged: Judged) -> str:
    """`10.2 GiB left`, `7.0 GiB missing`; empty where it is not known."""
    told = headroom_words(judged)
    return told if not told or told.endswith("missing") else f"{told} left"


def settings_words(judged: Judged) -> list[str]:
    """What a verdict stands on: `tp=8 (deploy.yaml:34)`; what is not stated, together by where it comes from."""
    told = [f"{each.name}={each.value} ({_where(each.where)})" for each in judged.settings if each.origin == "stated"]
    others: dict[str, list[str]] = {}
    for each in judged.settings:
        if each.origin != "stated":
            others.setdefault(_where(each.where), []).append(f"{each.name}={each.value}")
    return [*told, *(f"{' '.join(values)} ({where})" for where, values in others.items())]


def _where(text: str) -> str:
    return f"{STDIN}{text[1:]}" if text.startswith("-:") else text


def gap_words(finding: Finding) -> str:
    """`gap: 7.0 GiB on the fullest GPU`; empty where it is not about memory."""
    return "" if not finding.gap_bytes else f"gap: {gib(finding.gap_bytes)} on the fullest GPU"


def ways_words(finding: Finding) -> list[tuple[str, str]]:
    """Changes that make it fit, and what each leaves on a GPU, rounded down."""
    return [
        (way.change, f"leaves {gib_floor(way.headroom_bytes)} per GPU" + (f": {way.gives_up}" if way.gives_up else ""))
        for way in finding.ways_out
    ]


def nothing_helps(finding: Finding) -> bool:
    """True where ways out were tried, and none was found."""
    return finding.reason == "does-not-fit" and bool(finding.gap_bytes) and not finding.ways_out


def further_words(finding: Finding) -> Iterator[str]:
    """What stands behind a message, each a sentence: the gap, ways out, the hint, why somebody ignores it."""
    gap = gap_words(finding)
    if gap:
        yield gap
    ways = ways_words(finding)
    if ways:
        yield f"{FITS_WITH}: {'; '.join(f'{change} ({left})' for change, left in ways)}"
    elif nothing_helps(finding):
        yield NOTHING_HELPS[0].lower() + NOTHING_HELPS[1:].rstrip(".")
    if finding.hint:
        yield finding.hint
    state = state_words(finding)
    if state:
        yield state


def state_words(finding: Finding) -> str:
    """`suppressed: not used any more`; `known: baseline`; empty for a new one."""
    if finding.state == "new":
        return ""
    return f"{finding.state}: {finding.state_reason or finding.suppressed_by}"


def borrowed_words(entry: Entry) -> str:
    """Why a deployment has a verdict that none of its own findings explains; empty where one does."""
    told = [finding.level for finding in (*entry.findings, *entry.reasons)]
    if entry.judged is None or entry.verdict == "pass":
        return ""
    if entry.verdict == entry.of_file and not any(level in ("error", "unknown") for level in told):
        return "because of what was found of its file"
    if entry.verdict == "cannot-verify" and "unknown" not in told:
        if entry.judged.memory is not None:
            return "something is not known, by a rule that is not asked"
        return "nothing could be held against a GPU"
    return ""


def summary_words(check: Check) -> Iterator[str]:
    """Counts: verdicts, findings by level, what is known or ignored, files."""
    summary = check.summary
    read = summary.files - summary.files_passed_over
    counts = [
        (summary.failed, "fails", "fail"),
        (summary.cannot_verify, "cannot be verified", "cannot be verified"),
        (summary.passed, "passes", "pass"),
    ]
    told = ", ".join(f"{number:,} {one if number == 1 else many}" for number, one, many in counts if number)
    where = f" in {count(read, 'file')}"
    yield f"{count(summary.deployments, 'deployment')}{where}{': ' if told else ''}{told}"
    levels = [
        (summary.errors, "error"), (summary.unknown, "not verified"), (summary.warnings, "warning"), (summary.infos, "info"),
        (summary.known, "known"), (summary.suppressed, "suppressed"),
    ]  # fmt: skip
    found = ", ".join(count(number, name, plain=" " in name or name in UNCOUNTED) for number, name in levels if number)
    yield f"findings: {found or 'none'}"
    if summary.files_passed_over:
        yield f"passed over: {count(summary.files_passed_over, 'file')} of other programs"
    if check.fail_on != "error":
        yield f"fails on: {' and '.join(level for level in RANK if RANK[level] >= RANK[check.fail_on])}"


UNCOUNTED = ("known", "suppressed")


def count(number: int, name: str, *, plain: bool = False) -> str:
    """`1 error`, `2 errors`; `plain` for words that have no plural."""
    return f"{number:,} {name}{'' if number == 1 or plain else 's'}"


def codes_words(findings: Sequence[Finding]) -> str:
    """`HYG001, HYG003 (2)`: codes in order, each once."""
    counts = Counter(finding.code for finding in findings)
    return ", ".join(code if number == 1 else f"{code} ({number:,})" for code, number in sorted(counts.items()))
