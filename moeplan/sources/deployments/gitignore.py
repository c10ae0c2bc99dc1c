"""Which files git would ignore, told from its files of patterns alone (git is not run).

Source: the pattern format of gitignore(5). A pattern is held against the parts of a path one by one, so that no name
makes the comparison slow.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

MOST_CHARACTERS = 1024 * 1024
"""Of one file of patterns."""
ANY_DEPTH = None
"""`**`: any number of folders."""

Part = Callable[[str], object] | None


class Pattern(NamedTuple):
    """One line of a `.gitignore`."""

    parts: tuple[Part, ...]
    negated: bool
    folders_only: bool


class Ignored:
    """What the `.gitignore` files of a folder and of those above it leave out."""

    def __init__(self, folder: str) -> None:
        self._patterns: dict[str, tuple[Pattern, ...]] = {}
        self._top = repository(folder) or os.path.abspath(folder)

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """True for a file or folder that git would not look at, in a folder that it does look at. `path` is absolute."""
        ignored = False
        for folder in self._folders(path):
            below = os.path.relpath(path, folder).split(os.sep)
            for pattern in self._of(folder):
                if (
                    ignored == pattern.negated
                    and (is_folder or not pattern.folders_only)
                    and fits(pattern.parts, below)
                ):
                    ignored = not pattern.negated
        return ignored

    def _folders(self, path: str) -> Iterator[str]:
        """From the top down to the folder that the path lies in."""
        inside = os.path.relpath(os.path.dirname(path), self._top)
        yield self._top
        if inside != os.curdir:
            folder = self._top
            for name in inside.split(os.sep):
                folder = os.path.join(folder, name)
                yield folder

    def _of(self, folder: str) -> tuple[Pattern, ...]:
        if folder not in self._patterns:
            files = [os.path.join(folder, ".gitignore")]
            if folder == self._top:
                files.insert(0, os.path.join(folder, ".git", "info", "exclude"))
            self._patterns[folder] = tuple(pattern for file in files for pattern in _read(file))
        return self._patterns[folder]


def parse(text: str) -> tuple[Pattern, ...]:
    """The patterns of a `.gitignore`."""
    return tuple(pattern for line in text.splitlines() if (pattern := _pattern(line)) is not None)


def fits(pattern: Sequence[Part], parts: Sequence[str]) -> bool:
    """True where the pattern stands for the whole path; `**` at its end stands for one part at least."""
    place = at = 0
    back_place = back_at = -1
    while at < len(parts):
        if place < len(pattern):
            part = pattern[place]
            if part is ANY_DEPTH:
                if place + 1 == len(pattern):
                    return True
                place += 1
                back_place, back_at = place, at
                continue
            if part(parts[at]):
                place += 1
                at += 1
                continue
        if back_place < 0:
            return False
        back_at += 1
        place, at = back_place, back_at
    return place == len(pattern)


def _pattern(line: str) -> Pattern | None:
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[negated:]
    folders_only = line.endswith("/")
    line = line.rstrip("/") if folders_only else line
    names = line.split("/")
    anchored = len(names) > 1
    if names and not names[0]:
        names = names[1:]
    if not names or not any(names):
        return None
    parts: list[Part] = [] if anchored else [ANY_DEPTH]
    for name in names:
        part = ANY_DEPTH if name == "**" else _part(name)
        if part is not ANY_DEPTH or not parts or parts[-1] is not ANY_DEPTH:
            parts.append(part)
    return Pattern(tuple(parts), negated, folders_only)


def _part(name: str) -> Part:
    escaped = re.sub(r"\\(.)", lambda found: f"[{found.group(1)}]" if found.group(1) in "*?[" else found.group(1), name)
    try:
        return re.compile(fnmatch.translate(escaped)).match
    except re.error:
        return name.__eq__


def _read(path: str) -> tuple[Pattern, ...]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse(file.read(MOST_CHARACTERS))
    except OSError:
        return ()


def repository(folder: str) -> str | None:
    """The nearest folder, this one or one above it, that is a repository's; None where there is none."""
    here = os.path.abspath(folder)
    while True:
        if os.path.exists(os.path.join(here, ".git")):
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above
