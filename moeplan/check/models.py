"""Where the models of a check come from: a lock file alone, or the policy's paths, the catalogue and the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from moeplan.check.estimates import Find
from moeplan.core.policy import Policy
from moeplan.sources.deployments.gitignore import repository
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.stated_models import at_revision

LOCK = "moeplan.lock"


def find_models(policy: Policy) -> Find:
    """A way to read models as deployments state them; those that the policy names may be paths in its folder."""
    theirs = {text.partition("@")[0] for text in _named(policy)}
    folder = Path(policy.folder)

    def find(text: str, asked: Asked) -> LoadedModel:
        return at_revision(text, asked, folder if text in theirs else None)

    return find


def lock_path(named: str | Path | None, policy: Policy, paths: Sequence[str]) -> Path:
    """The lock file that is named; else that beside the policy, else the nearest above the first path, else of this folder."""
    if named is not None:
        return Path(named)
    if policy.path is not None:
        return Path(os.path.relpath(policy.folder)) / LOCK
    start = Path(os.path.abspath(paths[0] if paths[0] != "-" else "."))
    top = repository(str(start))
    for folder in (start, *start.parents):
        if (folder / LOCK).is_file():
            return Path(os.path.relpath(folder)) / LOCK
        if str(folder) == top:
            break
    return Path(LOCK)


def _named(policy: Policy) -> Iterator[str]:
    yield from policy.models.values()
    stead = [policy.terms.stead.model, *(each.terms.get("stead", {}).get("model") for each in policy.overrides)]
    yield from (text for text in stead if isinstance(text, str))
