"""Files as they were at a revision of git, in a copy of the folders that they lie in.

They are read as git keeps them: nothing is checked out, so no filter of a repository runs, and no attribute leaves a file
out. Links that lead out of the repository are left out.
"""

from __future__ import annotations

import os
import posixpath
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.sources.deployments.files import is_beside, is_candidate

LINK = "120000"
FILES = ("100644", "100755")
_WAY_OUT = "name a branch, tag or commit that was fetched, or a folder with the files as they were"


class Entry(NamedTuple):
    """A file of a commit."""

    mode: str
    blob: str


def unpack_revision(revision: str, paths: Sequence[str], room: Path, beside: Sequence[str] = ()) -> Path:
    """Write what `paths` held at a branch, tag or commit below `room`; the folder there that stands for the working folder.

    Of folders those files are written that may be deployments, and what is read with them; `beside` are further files.
    Paths that were not there yet are left out. Raises InputError for a revision that is none, without git, and for paths
    outside of the repository.
    """
    if revision.startswith("-"):
        raise InputError(f"--diff {revision}: no revision begins so", hint=_WAY_OUT)
    git = _Git(revision, _folder(paths[0]))
    top = os.path.realpath(git.run("rev-parse", "--show-toplevel").rstrip("\n"))
    commit = git.run("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    tree = _tree(git.run("ls-tree", "-r", "-z", "--full-tree", commit))
    wanted = [_inside(path, top) for path in paths]
    more = {_relative(_real(path), top) for path in beside}
    chosen = {name for name in tree if name in more or _chosen(name, wanted)}
    copy = room / "tree"
    place = Path(_below(copy, top))
    place.mkdir(parents=True)
    # Which files are ignored is told from the top of a repository on.
    (place / ".git").mkdir()
    _write(git, tree, chosen, place)
    here = Path(_below(copy, os.getcwd()))
    here.mkdir(parents=True, exist_ok=True)
    for path in paths:
        _link(Path(_below(copy, os.path.abspath(path))), Path(_below(copy, os.path.realpath(path))))
    return here


def _folder(path: str) -> str:
    """The nearest folder that is there: the path itself, or one above it."""
    here = os.path.abspath(path)
    while not os.path.isdir(here):
        here = os.path.dirname(here)
    return here


def _real(path: str) -> str:
    """The path with the links on the way to it followed, and not the last one."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _below(copy: Path, folder: str) -> str:
    """Where a folder's copy lies: at its whole path, so that ways up from the working folder lead where they do here."""
    return os.path.join(copy, os.path.splitdrive(folder)[1].lstrip("/\\"))


def _link(path: Path, place: Path) -> None:
    """A way to the copy for a path that leads into the repository over a link of the machine."""
    if path != place and place.exists() and not os.path.lexists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(place)


def _inside(path: str, top: str) -> str:
    """A path as the repository calls it; `.` for its top."""
    for place in (_real(path), os.path.realpath(path)):
        inside = _relative(place, top)
        if not _leads_out(inside):
            return inside
    raise InputError(f"{path} lies outside of the repository", hint="name files and folders of one repository")


def _relative(path: str, top: str) -> str:
    return os.path.relpath(path, top).replace(os.sep, "/")


def _leads_out(path: str) -> bool:
    return path.startswith(("../", "/")) or path == ".."


def _tree(listing: str) -> dict[str, Entry]:
    """The files of a commit by their names; names that no file can have are left out."""
    found = {}
    for row in listing.split("\0"):
        told, _, name = row.partition("\t")
        mode, _, rest = told.partition(" ")
        parts = name.split("/")
        if mode in (*FILES, LINK) and not {"", ".", "..", ".git"} & {part.lower() for part in parts}:
            found[name] = Entry(mode, rest.rpartition(" ")[2])
    return found


def _chosen(name: str, wanted: Iterable[str]) -> bool:
    base = posixpath.basename(name)
    if base == ".gitignore":
        return True
    for path in wanted:
        if name == path or ((path == "." or name.startswith(f"{path}/")) and (is_candidate(base) or is_beside(base))):
            return True
        # What a file that is named itself may refer to.
        if (is_candidate(base) or is_beside(base)) and posixpath.dirname(path) == posixpath.dirname(name):
            return True
    return False


def _write(git: _Git, tree: Mapping[str, Entry], chosen: Iterable[str], place: Path) -> None:
    """Write files, then links, and what the links lead to."""
    waiting, done, links = set(chosen), set[str](), dict[str, str]()
    while waiting:
        names = sorted(waiting)
        done |= waiting
        waiting = set()
        for name, data in zip(names, git.blobs([tree[name].blob for name in names]), strict=True):
            if data is None:
                continue
            if tree[name].mode != LINK:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), os.fsdecode(data)))
            if not _leads_out(target):
                links[name] = os.fsdecode(data)
                waiting |= {each for each in tree if each == target or each.startswith(f"{target}/")} - done
    for name, target in links.items():
        with suppress(OSError):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(target)


class _Git:
    """The user's own git, in a folder of theirs."""

    def __init__(self, revision: str, folder: str) -> None:
        self.revision = revision
        self.folder = folder

    def run(self, *words: str) -> str:
        """What git says. Raises InputError where it fails."""
        done = self._process(words, b"")
        if done.returncode == 0:
            return os.fsdecode(done.stdout)
        told = os.fsdecode(done.stderr).strip().splitlines()
        if any("not a git repository" in line for line in told):
            raise InputError(
                f"--diff {self.revision}: no such folder, and no git repository in which it could be a revision",
                hint="name a folder with the files as they were, or files of a repository",
            )
        if not told:
            raise InputError(f"--diff {self.revision}: no such revision, and no such folder", hint=_WAY_OUT)
        ownership = next((line.strip() for line in told if "safe.directory" in line), None)
        raise InputError(
            f"--diff {self.revision}: git says: {told[0].removeprefix('fatal: ')}",
            hint=f"say `{ownership}`" if ownership else _WAY_OUT,
        )

    def blobs(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The contents of these, in their order; None for one that is not there, as in a partial clone."""
        if not names:
            return
        out = self._process(("cat-file", "--batch"), "".join(f"{name}\n" for name in names).encode()).stdout
        place = 0
        for _ in names:
            end = out.find(b"\n", place)
            head = out[place:end].split()
            if end < 0 or len(head) != 3:
                place = end + 1 if end >= 0 else len(out)
                yield None
                continue
            size = int(head[2])
            yield out[end + 1 : end + 1 + size]
            place = end + 1 + size + 1

    def _process(self, words: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603 - the user's own git
                ["git", "-C", self.folder, *words],  # noqa: S607
                input=given,
                capture_output=True,
                check=False,
                env={**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            )
        except FileNotFoundError:
            raise InputError(
                f"--diff {self.revision}: there is no git to read a revision with",
                hint="name a folder with the files as they were",
            ) from None
