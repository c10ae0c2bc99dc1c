"""`moeplan lock`: models of a repository's deployments, read once and kept for checks without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from moeplan.check import deployments_of, names_of
from moeplan.check.models import find_models, lock_path
from moeplan.core.errors import InputError, MoeplanError, UnknownError
from moeplan.sources.file_writing import replace_file
from moeplan.sources.loaded import Asked
from moeplan.sources.locked_models import Locked, lock_text, locked, read_lock

SCHEMA = "moeplan.lock-result/1"

Change = Literal["added", "changed", "same", "kept"]
"""`kept` for a model that could not be read now, and stays as it was locked."""
Key = tuple[str, str | None]
"""A model and its revision, as deployments state them."""


class LockedModel(NamedTuple):
    """One model, and how it stands to what was locked before."""

    model: str
    revision: str | None
    commit: str | None
    source_kind: str
    checkpoint_bytes: int | None
    change: Change


class Removed(NamedTuple):
    """A model of the old file that no deployment names any more."""

    model: str
    revision: str | None


class Unlocked(NamedTuple):
    """A model that cannot be read, and why."""

    model: str
    revision: str | None
    problem: str
    hint: str


class Lock(NamedTuple):
    """The answer of `moeplan lock`."""

    schema: str
    path: str
    stale: bool
    """True where the file is not what these deployments need; never after it was written."""
    written: bool
    models: tuple[LockedModel, ...]
    removed: tuple[Removed, ...]
    unlocked: tuple[Unlocked, ...]
    not_known: int
    """Deployments whose model is not known; `moeplan check` tells which and why."""


def lock(
    paths: str | Path | Sequence[str | Path] = ".",
    *,
    policy: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
    lock: str | Path | None = None,
    offline: bool = False,
    check_only: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
    stdin: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Lock:
    """Read every model that these deployments name, and write `moeplan.lock` beside the policy, or the file `lock`.

    With `check_only` nothing is written, and the result tells what would change. What was locked at a stated commit is not
    read again, and a model that cannot be read keeps what was locked of it before. `variables`, `policy` and `stdin` are
    those of `check`. Raises InputError for wrong usage.
    """
    subjects, terms = deployments_of(paths, policy, variables, stdin)
    path = lock_path(lock, terms, names_of(paths))
    old = read_lock(path, as_it_is=True) if path.exists() else ()
    before = {(each.model, each.revision): each for each in old}
    folders = tuple(Path(each) for each in ([profiles] if isinstance(profiles, str | Path) else profiles))
    wanted: dict[Key, None] = dict.fromkeys(
        (subject.model.text, subject.revision.text if subject.revision is not None else None)
        for subject in subjects
        if subject.model is not None
    )
    find = find_models(terms)
    entries: dict[Key, tuple[Locked, Change]] = {}
    unlocked: list[Unlocked] = []
    for place, (model, revision) in enumerate(wanted):
        if progress is not None:
            progress(place, len(wanted))
        known = before.get((model, revision))
        if known is not None and known.is_as_locked and known.commit is not None and known.commit == revision:
            entries[model, revision] = known, "same"  # a commit stays what it is
            continue
        try:
            loaded = find(model, Asked(revision, offline, profile_folders=folders))
            if any(remark.code == "revision-not-read" for remark in loaded.remarks):
                raise UnknownError(
                    f"revision {str(revision)[:12]} of {model} was not read",
                    hint="run `moeplan lock` where there is a network",
                )
            entry = _fuller(known, locked(model, revision, loaded))
            entries[model, revision] = entry, _change(known, entry)
        except MoeplanError as error:
            unlocked.append(Unlocked(model, revision, error.message, error.hint))
            if known is not None and known.is_as_locked:
                entries[model, revision] = known, "kept"
    if progress is not None:
        progress(len(wanted), len(wanted))
    removed = tuple(Removed(*key) for key in sorted(before, key=_by_name) if key not in wanted)
    stale = bool(removed) or any(change in ("added", "changed") for _, change in entries.values())
    # A row that was changed by hand and cannot be read anew goes, too.
    stale = stale or any(key not in entries for key in before)
    text = lock_text([entry for entry, _ in entries.values()])
    write = not check_only and (stale or (path.exists() and path.read_text(encoding="utf-8") != text))
    if write:
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror or error})", hint="name another file with --lock"
            ) from None
    return Lock(
        schema=SCHEMA,
        path=path.as_posix(),
        stale=stale and not write,
        written=write,
        models=tuple(_model(*entries[key]) for key in sorted(entries, key=_by_name)),
        removed=removed,
        unlocked=tuple(unlocked),
        not_known=sum(subject.model is None for subject in subjects),
    )


def _by_name(key: Key) -> tuple[str, str]:
    return key[0], key[1] or ""


def _model(entry: Locked, change: Change) -> LockedModel:
    return LockedModel(entry.model, entry.revision, entry.commit, entry.source_kind, entry.checkpoint_bytes, change)


def _fuller(before: Locked | None, now: Locked) -> Locked:
    """What was locked, where it is the same commit and its headers were read then and not now."""
    if before is None or not before.is_as_locked or now.headers_sha256 is not None:
        return now
    same = (before.commit, before.config_sha256) == (now.commit, now.config_sha256)
    return before if same and now.commit is not None else now


def _change(before: Locked | None, now: Locked) -> Change:
    return "added" if before is None else "same" if before == now else "changed"
