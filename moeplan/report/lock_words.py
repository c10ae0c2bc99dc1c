"""Sentences about a lock file."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.lock import Lock


def lock_lines(lock: Lock) -> Iterator[str]:
    """A line for each model, each that cannot be locked, and the file."""
    for model in lock.models:
        at = model.commit[:12] if model.commit is not None else f"from the {model.source_kind}"
        size = "" if model.checkpoint_bytes is None else f"  {model.checkpoint_bytes:,} B"
        yield f"{model.change:<8} {model.model}{f'@{model.revision}' if model.revision else ''}  {at}{size}"
    for gone in lock.removed:
        yield f"removed  {gone}"
    for each in lock.unlocked:
        yield f"not locked: {each.model}: {each.problem}; {each.hint}"
    if lock.not_known:
        yield f"{lock.not_known} deployments name no model that is known; `moeplan check` tells which"
    yield f"{lock.path} is {'written' if lock.written else 'as it was'}: {len(lock.models)} models"
