"""From paths to texts: files, folders, standard input; encodings, sizes, and what cannot be read.

A file that cannot be read is told as a remark on it; the others are read all the same.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.deployed import FileRemark, Spot
from moeplan.core.errors import InputError
from moeplan.sources.deployments.gitignore import Ignored

STDIN = "-"
ENV = ".env"
"""Variables of the compose files that lie beside it."""
MOST_BYTES = 20 * 1024 * 1024
"""A file of more is told, and not read: deployments have some thousand lines at most."""

_SKIPPED = frozenset(("node_modules", "vendor", "venv", "__pycache__", "site-packages", "third_party", "dist-packages"))
"""Folders of other people's files; hidden folders and files are skipped, too."""
_CANDIDATE = re.compile(
    r".+\.(?:ya?ml|json|sh|bash|service|mk|modelfile|dockerfile)|(?:dockerfile|containerfile|makefile|gnumakefile|modelfile)"
    r"(?:[._-].+)?",
    re.IGNORECASE,
)
_OF_ANOTHER_KIND = re.compile(
    r".+\.(?:md|markdown|rst|txt|adoc|html?|pdf|png|jpe?g|gif|svg|webp|dot|py|go|js|ts|patch|diff|lock|toml)",
    re.IGNORECASE,
)
"""`dockerfile-stages.png` and `Makefile.md` are about such files."""
_NEVER = frozenset((
    "moeplan.yaml", "moeplan.yml", "package.json", "package-lock.json", "pnpm-lock.yaml", "tsconfig.json", "composer.json",
    "mkdocs.yml", "codecov.yml",
))  # fmt: skip
"""Names that belong to other programs, and moeplan's policy."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class FoundFile(NamedTuple):
    """A file that is to be read."""

    path: str
    """As it is shown: relative to the working folder, with forward slashes; `-` for standard input."""
    place: str
    """As the system opens it."""
    named: bool
    """True where it was named itself; False where it was met in a folder."""


class FileText(NamedTuple):
    """A file's text, or why there is none."""

    path: str
    named: bool
    text: str | None
    """Lines end in `\\n`."""
    remarks: tuple[FileRemark, ...] = ()


def find_files(paths: Sequence[str], root: Path | None = None) -> tuple[FoundFile, ...]:
    """The files of these paths, in their order; those of a folder sorted by path.

    With `root` they are looked for below it, a copy of the working folder, and shown as they are called here.

    In folders only files count whose names may be those of deployments; hidden and vendored folders, what `.gitignore`
    leaves out, and links to other folders are left out. A file that is named is always read, and none is read twice.
    Raises InputError for a path that is not there.
    """
    found: dict[str, FoundFile] = {}
    for path in paths:
        if path == STDIN:
            found[STDIN] = FoundFile(STDIN, STDIN, named=True)
            continue
        place = path if root is None else os.path.join(root, shown(path))
        if not os.path.lexists(place):
            raise InputError(f"{path}: no such file or folder", hint="check the path, or name `-` for standard input")
        met = _walk(place, root) if os.path.isdir(place) else (FoundFile(shown(path), place, named=True),)
        for each in met:
            before = found.get(each.path)
            if before is None or not before.named:
                found[each.path] = each
    return tuple(found.values())


def read_text(file: FoundFile, stdin: str | None = None) -> FileText:
    """The text of a file; a remark instead where it is too large, binary, of an unknown encoding, or not to be opened.

    `stdin` is standard input where it was read already.
    """
    if file.path == STDIN and stdin is not None:
        if len(stdin) > MOST_BYTES:
            return _too_large(file)
        return FileText(STDIN, named=True, text=_lines(stdin.removeprefix("\ufeff")))
    try:
        data = _read(file.place)
    except OSError as error:
        loop = error.errno == errno.ELOOP
        told = "a link that leads to itself" if loop else f"cannot be read: {error.strerror or type(error).__name__}"
        hint = "correct the link" if loop else "check its permissions, or leave it out"
        return _without(file, "link-loop" if loop else "file-unreadable", told, hint)
    if len(data) > MOST_BYTES:
        return _too_large(file)
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    if encoding in ("utf-8", "utf-8-sig") and b"\0" in data:
        return _without(file, "file-binary", "a binary file: it is not read", "name text files")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _without(file, "file-encoding", f"not {encoding.upper()} from line {line} on", "save it as UTF-8", line)
    return FileText(file.path, file.named, _lines(text))


def shown(path: str, root: Path | None = None) -> str:
    """A path as it is shown: relative to the working folder, or to `root` in its place, with forward slashes."""
    try:
        path = os.path.relpath(path, root)
    except ValueError:  # another drive of Windows
        path = os.path.abspath(path)
    return path.replace(os.sep, "/")


def _walk(top: str, root: Path | None) -> Iterator[FoundFile]:
    ignored = Ignored(top)
    kept: list[str] = []
    links: list[str] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:
            kept.append(folder)  # it is told when it is read
            continue
        for entry in listed:
            place = os.path.abspath(entry.path)
            if entry.is_dir(follow_symlinks=False):
                skipped = entry.name in _SKIPPED or entry.name.startswith(".")
                if not skipped and not ignored.ignores(place, is_folder=True):
                    waiting.append(entry.path)
            elif is_candidate(entry.name):
                if entry.is_symlink():
                    links.append(entry.path)
                elif _is_regular(entry) and not ignored.ignores(place, is_folder=False):
                    kept.append(entry.path)
    real = {os.path.realpath(path) for path in kept}
    for link in links:
        target = os.path.realpath(link)
        if (
            target not in real
            and not os.path.isdir(link)
            and not ignored.ignores(os.path.abspath(link), is_folder=False)
        ):
            kept.append(link)
            real.add(target)
    for path in sorted(kept, key=lambda path: path.split(os.sep)):
        yield FoundFile(shown(path, root), path, named=False)


def is_beside(name: str) -> bool:
    """True for a file of variables, which a compose file may name: `.env`, `.env.gpu`, `vllm.env`."""
    return name == ENV or name.startswith(f"{ENV}.") or name.endswith(ENV)


def is_candidate(name: str) -> bool:
    """True for a name that a file of deployments may have."""
    if name.startswith(".") or name.lower() in _NEVER or _OF_ANOTHER_KIND.fullmatch(name):
        return False
    return _CANDIDATE.fullmatch(name) is not None


def _is_regular(entry: os.DirEntry[str]) -> bool:
    """False for pipes and devices."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def _read(place: str) -> bytes:
    """The bytes of a file, one more than is allowed at most."""
    if place == STDIN:
        import sys

        # Closed by the caller (`<&-`), there is nothing in it.
        return sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin is not None else b""
    if stat.S_ISDIR(os.stat(place).st_mode):
        with os.scandir(place):
            return b""
    with open(place, "rb") as file:
        return file.read(MOST_BYTES + 1)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _too_large(file: FoundFile) -> FileText:
    told = f"more than {MOST_BYTES // 1024**2} MiB: it is not read"
    return _without(file, "file-too-large", told, "name the files of the deployments themselves")


def _without(file: FoundFile, code: str, told: str, hint: str, line: int = 1) -> FileText:
    return FileText(file.path, file.named, None, (FileRemark(code, told, Spot(line), hint),))
