"""Sentences about a lock file."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.lock import Lock
from moeplan.report.check_words import count

NOT_READ = "not read"


def lock_lines(lock: Lock) -> Iterator[str]:
    """A line for each model, each that cannot be locked, and the file."""
    for model in lock.models:
        at = f"commit {model.commit[:12]}" if model.commit is not None else f"from the {model.source_kind}"
        size = "" if model.checkpoint_bytes is None else f", {model.checkpoint_bytes:,} B by its headers"
        yield f"{model.change:<8} {_named(model.model, model.revision)}  {at}{size}"
    for gone in lock.removed:
        yield f"removed  {_named(gone.model, gone.revision)}"
    for each in lock.unlocked:
        yield f"{NOT_READ} {_named(each.model, each.revision)}: {each.problem}; {each.hint}"
    if lock.not_known:
        told = "1 deployment names" if lock.not_known == 1 else f"{lock.not_known:,} deployments name"
        yield f"{told} no model that is known; `moeplan check` tells why"
    yield f"{lock.path} {_state(lock)}"


def _state(lock: Lock) -> str:
    held = count(len(lock.models), "model")
    if lock.written:
        return f"is written: {held}"
    if lock.stale:
        return "is stale: `moeplan lock` writes it anew"
    return f"is as it should be: {held}" if lock.models else "is not needed: nothing can be locked"


def _named(model: str, revision: str | None) -> str:
    return f"{model}@{revision}" if revision else model
