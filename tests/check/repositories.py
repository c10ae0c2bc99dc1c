"""Repositories of deployments in a folder of a test, with git where it is asked for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from moeplan.check.result import Check, Finding, Judged


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files by their names; folders between come with them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, without the settings of the person who runs the tests."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    names = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "init.defaultBranch=main"]
    run = ["git", *names, *words]
    return subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def commit(folder: Path, files: Mapping[str, str] | None = None, message: str = "x") -> str:
    """Commit everything in a folder, which becomes a repository where it is none; the commit's name."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    write(folder, files or {})
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD").strip()


def deployment(found: Check, name: str = "server") -> Judged:
    """The one deployment of this name."""
    (one,) = [each for each in found.deployments if each.name == name]
    return one


def findings(found: Check, code: str) -> list[Finding]:
    """Findings of one rule, in whatever state."""
    return [each for each in found.findings if each.code == code]


def setting(judged: Judged, name: str) -> tuple[str, str]:
    """A value that the verdict stands on, and where it comes from."""
    ((value, where),) = [(each.value, each.where) for each in judged.settings if each.name == name]
    return value, where
