"""`moeplan lock`: models of a repository's deployments, read once and kept for checks without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.check import deployments_of
from moeplan.core.errors import InputError, MoeplanError
from moeplan.sources.file_writing import replace_file
from moeplan.sources.loaded import Asked
from moeplan.sources.locked_models import Locked, lock_text, locked, read_lock
from moeplan.sources.stated_models import at_revision

SCHEMA = "moeplan.lock-result/1"
NAME = "moeplan.lock"


class LockedModel(NamedTuple):
    """One model, and how it stands to what was locked before."""

    model: str
    revision: str | None
    commit: str | None
    source_kind: str
    checkpoint_bytes: int | None
    change: str
    """`added`, `changed` or `same`."""


class Unlocked(NamedTuple):
    """A model that cannot be locked, and why."""

    model: str
    revision: str | None
    problem: str
    hint: str


class Lock(NamedTuple):
    """The answer of `moeplan lock`."""

    schema: str
    path: str
    written: bool
    models: tuple[LockedModel, ...]
    removed: tuple[str, ...]
    """Models of the old file that no deployment names any more."""
    unlocked: tuple[Unlocked, ...]
    not_known: int
    """Deployments whose model is not known; `moeplan check` tells which and why."""


def lock(
    paths: str | Path | Sequence[str | Path] = ".",
    *,
    policy: str | Path | None = None,
    output: str | Path | None = None,
    offline: bool = False,
    check_only: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Lock:
    """Read every model that these deployments name, and write `moeplan.lock` beside the policy, or to `output`.

    With `check_only` nothing is written, and the result tells what would change. A model that cannot be read keeps what was
    locked of it before. Raises InputError for wrong usage.
    """
    subjects, folder = deployments_of(paths, policy)
    path = Path(output) if output is not None else folder / NAME
    before = {(each.model, each.revision): each for each in (read_lock(path) if path.exists() else ())}
    folders = tuple(Path(each) for each in ([profiles] if isinstance(profiles, str | Path) else profiles))
    wanted = dict.fromkeys(
        (subject.model.text, subject.revision.text if subject.revision is not None else None)
        for subject in subjects
        if subject.model is not None
    )
    entries: list[Locked] = []
    unlocked: list[Unlocked] = []
    for place, (model, revision) in enumerate(wanted):
        if progress is not None:
            progress(place, len(wanted))
        try:
            loaded = at_revision(model, Asked(revision, offline, profile_folders=folders))
            entries.append(locked(model, revision, loaded))
        except MoeplanError as error:
            unlocked.append(Unlocked(model, revision, error.message, error.hint))
            if (model, revision) in before:
                entries.append(before[model, revision])
    if progress is not None:
        progress(len(wanted), len(wanted))
    text = lock_text(entries)
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    if changed and not check_only and entries:
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror or error})", hint="name another file with --output"
            ) from None
    return Lock(
        schema=SCHEMA,
        path=str(path),
        written=changed and not check_only and bool(entries),
        models=tuple(
            LockedModel(
                each.model,
                each.revision,
                each.commit,
                each.source_kind,
                each.checkpoint_bytes,
                _change(before.get((each.model, each.revision)), each),
            )
            for each in entries
        ),
        removed=tuple(sorted(model for model, revision in before if (model, revision) not in wanted)),
        unlocked=tuple(unlocked),
        not_known=sum(subject.model is None for subject in subjects),
    )


def _change(before: Locked | None, now: Locked) -> str:
    return "added" if before is None else "same" if before == now else "changed"
