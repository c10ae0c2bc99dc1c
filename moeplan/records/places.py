"""Files of a machine by their names alone: a record says nothing of the folders of the one that it was made on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

_PLACE = re.compile(
    r"(?<![\w:/.~-])~?/(?:[^\s/:;,'\"()`]+/)+(?=[^\s/:;,'\"()`])|(?<!\w)[A-Za-z]:\\(?:[^\s\\:;,'\"()`]+\\)*"
)
"""The folders of a place: `/home/me/` of `/home/me/vllm.log`; an address (`https://...`) has none."""


def without_folders(text: str, known: Iterable[object] = ()) -> str:
    """A sentence that names its files without their folders; `known` are places whole, blanks in them too."""
    for path in sorted({str(each) for each in known if each is not None}, key=len, reverse=True):
        if os.path.isabs(path):
            text = text.replace(path, Path(path).name)
    return _PLACE.sub("", text)


def name_of(model: str | None) -> str | None:
    """A model by its name, where it was named by its place on the machine that ran it."""
    if model is None:
        return None
    return PurePath(model.replace("\\", "/")).name or model if is_place(model) else model


def is_place(name: str) -> bool:
    """True for `/models/a`, `./a`, `../a`, `~/a` and a drive of Windows; `org/name` may be a name."""
    return os.path.isabs(name) or name.startswith(("./", "../", "~")) or name in (".", "..") or name[1:3] == ":\\"
