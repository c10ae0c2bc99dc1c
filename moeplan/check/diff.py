"""`moeplan check --diff BASE`: what a change does to every deployment, figure by figure."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moeplan.check import check, policy_of
from moeplan.check.models import lock_path
from moeplan.check.result import Check, Finding, Judged, Verdict
from moeplan.core.errors import InputError
from moeplan.sources.deployments.files import STDIN
from moeplan.sources.git_revisions import unpack_revision

SCHEMA = "moeplan.check-diff/1"

Change = Literal["added", "removed", "changed", "same"]


class Figure(NamedTuple):
    """One figure before and after; None where it is not known, or there is no such deployment."""

    name: str
    """`weights_bytes`, `needed_bytes`, `headroom_bytes`, `context_tokens`, `kv_tokens`, `max_concurrency`,
    `gpus_per_engine`, `replicas`, `total_gpus`, `usd_per_hour`."""
    base: int | float | None
    head: int | float | None


class Moved(NamedTuple):
    """A text that is another: engine, version, model, revision, GPU, layout."""

    name: str
    base: str | None
    head: str | None


class Changed(NamedTuple):
    """One deployment on both sides."""

    file: str
    line: int
    name: str
    role: str
    change: Change
    base_verdict: Verdict | None
    head_verdict: Verdict | None
    figures: tuple[Figure, ...]
    """All of them, also those that are the same."""
    moved: tuple[Moved, ...]


class Diff(NamedTuple):
    """The answer of `moeplan check --diff`."""

    schema: str
    base: str
    deployments: tuple[Changed, ...]
    findings: tuple[Finding, ...]
    """New ones that the base does not have."""
    gone: tuple[Finding, ...]
    """Those of the base that are there no more."""
    head: Check


MEMORY = ("weights_bytes", "needed_bytes", "headroom_bytes", "context_tokens", "kv_tokens", "max_concurrency")
NUMBERS = ("gpus_per_engine", "replicas", "total_gpus", "usd_per_hour")
TEXTS = ("engine", "engine_version", "model", "revision", "gpu")
DEGREES = ("tp", "pp", "dp", "ep")


def diff(base: str, paths: Sequence[str], **asked: Any) -> Diff:
    """Check `paths` as they are and as they were at `base`, a folder or a revision of git; `asked` as for `check`.

    A folder counts first; it stands for the working folder. Both sides are judged by the policy of today, so that what
    differs is the deployments'; a lock file that the base has tells of the models that it names. Raises InputError for a
    base that is neither.
    """
    if STDIN in paths:
        raise InputError("--diff reads files, not standard input", hint="name the files or folders")
    head = check(paths, **asked)
    policy = policy_of(asked.get("policy"), paths)
    lock = lock_path(asked.get("lock"), policy, paths)
    with tempfile.TemporaryDirectory() as room:
        if Path(base).is_dir():
            root = Path(base)
            if not any(os.path.lexists(_below(root, path)) for path in paths):
                raise InputError(
                    f"--diff {base}: this folder holds none of {', '.join(paths)}",
                    hint="name the folder in which they lie as they do here",
                )
        else:
            root = unpack_revision(base, paths, Path(room), [str(lock)])
        theirs = Path(_below(root, str(lock)))
        before = check(
            paths,
            **{
                **asked,
                "root": root,
                "lock": theirs if asked.get("locked") and theirs.is_file() else asked.get("lock"),
            },
        )
    old, new = dict(_named(before)), dict(_named(head))
    known = {finding.fingerprint for finding in before.findings}
    now = {finding.fingerprint for finding in head.findings}
    return Diff(
        schema=SCHEMA,
        base=base,
        deployments=tuple(_changed(old.get(key), new.get(key)) for key in dict.fromkeys((*new, *old))),
        findings=tuple(each for each in head.findings if each.state == "new" and each.fingerprint not in known),
        gone=tuple(each for each in before.findings if each.state == "new" and each.fingerprint not in now),
        head=head,
    )


def _below(root: Path, path: str) -> str:
    return os.path.join(root, os.path.relpath(path))


def _named(side: Check) -> Iterator[tuple[tuple[str, str, str, int], Judged]]:
    """Deployments by what they are called; those of one name by their order."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for each in side.deployments:
        key = (each.file, each.name, each.role)
        seen[key] += 1
        yield (*key, seen[key]), each


def _changed(old: Judged | None, new: Judged | None) -> Changed:
    there = new or old
    assert there is not None
    figures, moved = tuple(_figures(old, new)), tuple(_moved(old, new))
    differs = bool(moved) or any(each.base != each.head for each in figures)
    change: Change = "added" if old is None else "removed" if new is None else "changed" if differs else "same"
    return Changed(
        there.file,
        there.line,
        there.name,
        there.role,
        change,
        old.verdict if old is not None else None,
        new.verdict if new is not None else None,
        figures,
        moved,
    )


def _figures(old: Judged | None, new: Judged | None) -> Iterator[Figure]:
    for name in MEMORY:
        yield Figure(name, _memory(old, name), _memory(new, name))
    for name in NUMBERS:
        yield Figure(name, getattr(old, name, None), getattr(new, name, None))


def _memory(judged: Judged | None, name: str) -> int | None:
    return None if judged is None or judged.memory is None else getattr(judged.memory, name)


def _moved(old: Judged | None, new: Judged | None) -> Iterator[Moved]:
    if old is None or new is None:
        return
    for name in TEXTS:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Moved(name, before, after)
    before, after = _layout(old), _layout(new)
    if before != after:
        yield Moved("layout", before, after)


def _layout(judged: Judged) -> str | None:
    degrees = [(name, getattr(judged, name)) for name in DEGREES]
    if all(value is None for _, value in degrees):
        return None
    return " ".join(f"{name} {value}" for name, value in degrees if value not in (None, 1)) or "one GPU"
