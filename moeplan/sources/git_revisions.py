"""Files as they were at a revision of git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from moeplan.core.errors import InputError


def unpack_revision(revision: str, paths: Sequence[str], room: Path) -> Path:
    """Unpack `paths` as they were at a branch, tag or commit into `room`; the folder there that stands for this one.

    Paths that were not there yet are left out. Raises InputError for a revision that is none, and without git.
    """
    if revision.startswith("-"):
        raise InputError(f"{revision!r} is no revision", hint="name a branch, tag or commit, or a folder")
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", what=revision).strip()
    inside = _git("rev-parse", "--show-prefix").strip()
    wanted = [os.path.normpath(os.path.join(inside, os.path.relpath(path))) for path in paths]
    there = [path for path in wanted if path == "." or _run("cat-file", "-e", f"{commit}:{path}").returncode == 0]
    tree = room / "tree"
    tree.mkdir()
    if there:
        top = _git("rev-parse", "--show-toplevel").strip()
        archive = room / "tree.tar"
        _git("-C", top, "archive", "--format=tar", "-o", str(archive), commit, "--", *there)
        import tarfile

        with tarfile.open(archive) as packed:
            packed.extractall(tree, filter="data")
    return tree / inside


def _git(*words: str, what: str | None = None) -> str:
    done = _run(*words)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no such revision"
        raise InputError(
            f"{what}: {told}" if what else f"git: {told}",
            hint="name a branch, tag or commit that was fetched, or a folder",
        )
    return done.stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 - the user's own git
    except FileNotFoundError:
        raise InputError(
            "there is no git to read a revision with", hint="name a folder with the files as they were"
        ) from None
