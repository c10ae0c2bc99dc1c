"""Measured blocks written into hardware profiles of the user's: a file is replaced in one piece or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.sources.profile_folders import user_config_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KEY = re.compile(r"^measured:[^\n]*\n", re.MULTILINE)
_BLOCK_END = re.compile(r"^(?![\s#-])", re.MULTILINE)


def append_measured(
    name: str, hardware: Hardware, block: Mapping[str, Any], folders: Sequence[Path] = ()
) -> Path:
    """Append `block` to the profile `name` in the first of `folders`, else in the user's own; the path of the file.

    A profile that is not there yet begins as a copy of the file that `hardware` was read from. Comments stay. Raises
    InputError for a name that is none, and where nothing can be written.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a profile", hint="small letters, digits, dots and dashes: for instance my-h100"
        )
    path = _folder(folders) / "hardware" / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else _copy_of(hardware, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, _with_block(text, block))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error})", hint="name a folder that you can write with --profiles"
        ) from None
    return path


def _folder(folders: Sequence[Path]) -> Path:
    if folders:
        return folders[0]
    own = user_config_folder()
    if own is None:
        raise InputError("there is no folder for own profiles: no home", hint="name one with --profiles")
    return own


def _copy_of(hardware: Hardware, name: str) -> str:
    """The text of the profile that the figures came from; under another name it gives up names that would be taken."""
    path = Path(hardware.path)
    text = path.read_text(encoding="utf-8")
    if path.stem == name:
        return text
    for key in ("aliases", "shared_names", "default_for"):
        text = re.sub(rf"^{key}:[^\n]*\n(?:[ -][^\n]*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"^name:[^\n]*$", f"name: {hardware.name} ({name})", text, count=1, flags=re.MULTILINE)


def _with_block(text: str, block: Mapping[str, Any]) -> str:
    import yaml

    item = yaml.safe_dump([dict(block)], sort_keys=False, allow_unicode=True, width=1000)
    if not text.endswith("\n"):
        text += "\n"
    found = _KEY.search(text)
    if found is None:
        return f"{text}\nmeasured:\n{item}"
    if found[0].partition("#")[0].split() in (["measured:", "[]"], ["measured:", "null"], ["measured:"]):
        head = text[: found.start()] + "measured:\n"
    else:
        raise InputError("`measured` of that profile is written in one line", hint="write it as a list, an entry per line")
    rest = text[found.end() :]
    end = _BLOCK_END.search(rest)
    cut = end.start() if end is not None else len(rest)
    return head + rest[:cut] + item + rest[cut:]


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        file.write(text)
    os.replace(file.name, path)
