"""The rules: small functions, each with a code, a title and a docstring that is its page in `docs/checks.md`.

fit        memory of every rank
engine     what the engine refuses
topology   GPUs asked and needed, engines that share a card
limits     what the policy demands
hygiene    pins, names, secrets, words that nobody understands
reading    what could not be read or is not known
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from moeplan.check.estimates import Outcome
from moeplan.check.result import Level
from moeplan.core.deployed import FileRead, FileRemark, Spot
from moeplan.estimate.result import WayOut


class Hit(NamedTuple):
    """What a rule found, before it is known whether somebody ignores it."""

    message: str
    spot: Spot
    hint: str = ""
    reason: str | None = None
    gap_bytes: int | None = None
    ways_out: tuple[WayOut, ...] = ()
    deployment: str | None = None
    """Of rules about files: the deployment that it is about."""


class FileSeen(NamedTuple):
    """One file with the outcomes of its deployments."""

    file: FileRead
    outcomes: tuple[Outcome, ...]

    def remarks(self) -> Iterator[tuple[FileRemark, str | None]]:
        """Those on the file, then those on its deployments with their names."""
        yield from ((remark, None) for remark in self.file.remarks)
        for deployed in (outcome.subject.deployed for outcome in self.outcomes):
            yield from ((remark, deployed.name) for remark in deployed.remarks)

    identity: str = ""
    """The file's name in its repository, whatever folder the check runs in."""


class Rule(NamedTuple):
    """One rule: about a deployment (`judge`) or about a file with all of its deployments (`judge_file`)."""

    code: str
    title: str
    level: Level
    judge: Callable[[Outcome], Iterator[Hit]] | None = None
    judge_file: Callable[[FileSeen], Iterator[Hit]] | None = None

    @property
    def text(self) -> str:
        """The rule's page: the docstring of its function."""
        from inspect import getdoc

        return getdoc(self.judge or self.judge_file) or ""


Family = Literal["fit", "engine", "topology", "limits", "hygiene", "reading"]
FAMILIES: tuple[Family, ...] = Family.__args__  # type: ignore[attr-defined]


def all_rules() -> tuple[Rule, ...]:
    """Every rule, by family and code."""
    from importlib import import_module

    return tuple(rule for family in FAMILIES for rule in import_module(f"moeplan.check.rules.{family}").RULES)


def selected(code: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """True where a rule is asked: `select` empty is all; the longer of two prefixes that meet it counts."""
    chosen = max((len(prefix) for prefix in select if code.startswith(prefix)), default=-1 if select else 0)
    left_out = max((len(prefix) for prefix in ignore if code.startswith(prefix)), default=-1)
    return chosen >= 0 and chosen >= left_out


def unknown_code(code: str) -> str | None:
    """The way out for a code that is no rule and no beginning of one; None for one that is."""
    known = [rule.code for rule in all_rules()]
    if any(each.startswith(code.upper()) for each in known):
        return None
    from difflib import get_close_matches

    near = get_close_matches(code.upper(), known, n=1)
    return f"{f'did you mean {near[0]}? ' if near else ''}docs/checks.md lists the codes"
