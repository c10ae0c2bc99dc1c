"""From outcomes to findings and verdicts: which rules are asked, how severe they are, and what somebody ignores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from moeplan.check.cost import usd_per_hour
from moeplan.check.estimates import Outcome
from moeplan.check.gangs import replicas_of, total_gpus
from moeplan.check.result import Finding, Judged, Level, Memory, Setting, State, Verdict
from moeplan.check.rules import FileSeen, Hit, Rule, selected
from moeplan.check.settings import settings_of
from moeplan.check.spoken import ignored_by
from moeplan.check.subject import directives_for
from moeplan.check.summary import fails
from moeplan.core.ledger import total_bytes
from moeplan.core.policy import Policy, Terms

By = Literal["comment", "annotation", "policy", "baseline"] | None

DEMANDED: Mapping[str, str] = {
    "HYG001": "pinned_revision",
    "HYG002": "pinned_image",
    "HYG003": "engine_version_stated",
}
"""Rules that are errors where the policy requires what they are about."""


class Judging:
    """The rules of one run."""

    def __init__(
        self, rules: Sequence[Rule], select: Sequence[str], ignore: Sequence[str], known: frozenset[str] | None
    ) -> None:
        self.rules = rules
        self.select = tuple(select)
        self.ignore = tuple(ignore)
        self.known = known

    def file(self, seen: FileSeen, policy: Policy, path: str, fail_on: Level) -> tuple[list[Judged], list[Finding]]:
        """Verdicts and findings of one file, in the order of its lines."""
        whole = policy.terms_of(path, "")
        found = [
            self._finding(seen, rule, hit, self._terms(seen, hit, whole), None)
            for rule in self.rules
            if rule.judge_file is not None and self._asked(rule, whole)
            for hit in rule.judge_file(seen)
        ]
        judged = []
        for outcome in seen.outcomes:
            mine = [
                self._finding(seen, rule, hit, outcome.subject.terms, outcome)
                for rule in self.rules
                if rule.judge is not None and self._asked(rule, outcome.subject.terms)
                for hit in rule.judge(outcome)
            ]
            name = outcome.subject.deployed.name
            about = [*mine, *(finding for finding in found if finding.deployment in (name, None))]
            open_still = self._leaves_open(seen, outcome)
            judged.append(_judged(outcome, _verdict(outcome, about, fail_on, open_still=open_still)))
            found += mine
        found = _unlike(found)
        found.sort(key=lambda each: (each.line, each.column, each.code, each.message))
        return judged, found

    def _leaves_open(self, seen: FileSeen, outcome: Outcome) -> bool:
        """True where a rule that nobody asks finds something that is not known: nothing passes by not being asked."""
        for rule in self.rules:
            if rule.level != "unknown" or self._asked(rule, outcome.subject.terms):
                continue
            if rule.judge is not None and any(rule.judge(outcome)):
                return True
            hits = rule.judge_file(seen) if rule.judge_file is not None else ()
            if any(hit.deployment in (outcome.subject.deployed.name, None) for hit in hits):
                return True
        return False

    def _asked(self, rule: Rule, terms: Terms) -> bool:
        select = self.select or terms.select
        return selected(rule.code, select, self.ignore)

    def _terms(self, seen: FileSeen, hit: Hit, whole: Terms) -> Terms:
        return next(
            (each.subject.terms for each in seen.outcomes if each.subject.deployed.name == hit.deployment), whole
        )

    def _finding(self, seen: FileSeen, rule: Rule, hit: Hit, terms: Terms, outcome: Outcome | None) -> Finding:
        name = outcome.subject.deployed.name if outcome is not None else hit.deployment
        fingerprint = _fingerprint(seen.identity or seen.file.path, rule.code, name, hit)
        about = outcome or next((each for each in seen.outcomes if each.subject.deployed.name == name), None)
        state, by, reason = self._state(seen, rule, hit, terms, about, fingerprint)
        return Finding(
            code=rule.code,
            level=_level(rule, terms),
            message=hit.message,
            hint=hit.hint,
            file=seen.file.path,
            line=hit.spot.line,
            column=hit.spot.column,
            key_path=hit.spot.path,
            deployment=name,
            deployment_line=about.subject.deployed.spot.line if about is not None else None,
            reason=hit.reason,
            gap_bytes=hit.gap_bytes,
            ways_out=hit.ways_out,
            fingerprint=fingerprint,
            state=state,
            suppressed_by=by,
            state_reason=reason,
        )

    def _state(
        self, seen: FileSeen, rule: Rule, hit: Hit, terms: Terms, outcome: Outcome | None, fingerprint: str
    ) -> tuple[State, By, str]:
        """Whether somebody ignores it: on its line, for its deployment, by an annotation, by the policy."""
        for codes, by, reason in _ignored(seen, hit, outcome):
            if any(rule.code.startswith(code.upper()) for code in codes):
                return "suppressed", by, reason
        if any(rule.code.startswith(code) for code in terms.ignore):
            return "suppressed", "policy", ""
        if self.known is not None and fingerprint in self.known:
            return "known", "baseline", ""
        return "new", None, ""


def _ignored(seen: FileSeen, hit: Hit, outcome: Outcome | None) -> Iterator[tuple[Sequence[str], By, str]]:
    for directive in seen.file.directives:
        here = hit.spot.line in (directive.spot.line, directive.about_line) or directive.whole_file
        if directive.ignored and here:
            yield directive.ignored, "comment", directive.reason
    if outcome is None:
        return
    deployed = outcome.subject.deployed
    for directive in directives_for(seen.file, deployed):
        # On the line where a deployment or its document begins, or above it, a comment is about all of it.
        if directive.ignored and directive.about_line in (deployed.spot.line, deployed.within.first):
            yield directive.ignored, "comment", directive.reason
    annotation = deployed.annotations.get("moeplan/ignore")
    if annotation is not None:
        codes, reason = ignored_by(annotation.text)
        yield codes, "annotation", reason


def _level(rule: Rule, terms: Terms) -> Level:
    """The policy's by the longest prefix, else that of a requirement, else the rule's own. What is unknown stays so."""
    if rule.level == "unknown":
        return "unknown"
    prefixes = sorted((code for code in terms.severity if rule.code.startswith(code)), key=len)
    if prefixes:
        return terms.severity[prefixes[-1]]
    demanded = DEMANDED.get(rule.code)
    return "error" if demanded is not None and getattr(terms.required, demanded) else rule.level


def _verdict(outcome: Outcome, findings: Sequence[Finding], fail_on: Level, *, open_still: bool) -> Verdict:
    """Three verdicts, kept apart: a failure is one whatever else is unknown; nothing unknown passes.

    That a failure is known does not make it pass, though it does not end the check; that somebody ignores it does.
    """
    if any(fails(finding.level, fail_on) for finding in findings if finding.state != "suppressed"):
        return "fail"
    found = outcome.estimate
    # Somebody may ignore what is unknown; it is not verified by that.
    open_still = open_still or any(finding.level == "unknown" for finding in findings)
    unknown = found is None or found.verdict.fits is None or open_still
    return "cannot-verify" if unknown else "pass"


def _fingerprint(path: str, code: str, name: str | None, hit: Hit) -> str:
    """The same after lines moved and figures changed: what it is about, without numbers."""
    about = "".join(character for character in hit.message if not character.isdigit())
    text = "\n".join((path, code, name or "", hit.spot.path, hit.reason or about))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _unlike(found: Sequence[Finding]) -> list[Finding]:
    """Equal findings once; fingerprints that several share are told apart by their order."""
    seen: dict[str, int] = {}
    unlike = []
    for finding in dict.fromkeys(found):
        number = seen.get(finding.fingerprint, 0)
        seen[finding.fingerprint] = number + 1
        unlike.append(finding if not number else finding._replace(fingerprint=f"{finding.fingerprint}-{number + 1}"))
    return unlike


def _judged(outcome: Outcome, verdict: Verdict) -> Judged:
    subject, found = outcome.subject, outcome.estimate
    deployed, layout = subject.deployed, found.layout if found is not None else None
    price = usd_per_hour(outcome)
    return Judged(
        file=subject.file,
        line=deployed.spot.line,
        kind=deployed.kind,
        name=deployed.name,
        role=deployed.role,
        verdict=verdict,
        fits=found.verdict.fits if found is not None else None,
        engine=subject.engine.text if subject.engine is not None else None,
        engine_version=layout.engine_version if layout is not None else None,
        model=found.model.id if found is not None else subject.model.text if subject.model is not None else None,
        revision=subject.revision.text if subject.revision is not None else None,
        gpu=outcome.cards.profile if outcome.cards is not None else None,
        tp=layout.tp if layout is not None else None,
        pp=layout.pp if layout is not None else None,
        dp=layout.dp if layout is not None else None,
        ep=layout.ep if layout is not None else None,
        gpus_per_engine=subject.gpus_per_engine or (layout.num_gpus if layout is not None else None),
        replicas=replicas_of(subject),
        total_gpus=total_gpus(outcome),
        usd_per_hour=round(price.usd_per_hour, 2) if price is not None else None,
        price_source=price.source if price is not None else None,
        memory=_memory(outcome),
        settings=tuple(_settings(outcome)),
        notes=tuple(note for note in found.notes if note.severity == "warning") if found is not None else (),
    )


def _settings(outcome: Outcome) -> Sequence[Setting]:
    return settings_of(outcome)


def _memory(outcome: Outcome) -> Memory | None:
    found = outcome.estimate
    if found is None or found.hardware is None:
        return None
    worst = next(
        (rank for rank in found.ranks if found.verdict.worst_rank in rank.ranks and rank.device == "gpu"), None
    )
    needed, headroom = total_bytes(worst.lines) if worst is not None else None, found.verdict.headroom_bytes
    return Memory(
        usable_bytes=found.hardware.usable_bytes,
        budget_bytes=None if needed is None or headroom is None else needed + headroom,
        needed_bytes=needed,
        headroom_bytes=headroom,
        headroom_low_bytes=found.verdict.headroom_low_bytes,
        weights_bytes=worst.weights_bytes if worst is not None else None,
        worst_rank=found.verdict.worst_rank,
        context_tokens=found.request.context_tokens,
        concurrency=found.request.concurrency,
        kv_tokens=found.capacity.kv_tokens,
        max_concurrency=found.capacity.max_concurrency,
        certain=found.verdict.certain,
    )
