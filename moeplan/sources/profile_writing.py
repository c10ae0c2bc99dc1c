"""Measured blocks written into hardware profiles of the user's: a file is replaced in one piece or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.sources.file_writing import replace_file
from moeplan.sources.hardware_profiles import INDEX, name_key, read_hardware
from moeplan.sources.profile_folders import builtin_folder, user_config_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KEY = re.compile(r"^measured:[^\n]*\n", re.MULTILINE)
_BLOCK_END = re.compile(r"^(?![\s#-])", re.MULTILINE)
_COUNTS = re.compile(r"^\d+x|x\d+$")
_ITEM = re.compile(r"^( *)-", re.MULTILINE)


def own_profile(name: str, hardware: Hardware, folders: Sequence[Path] = ()) -> Hardware | None:
    """The profile `name` that `append_measured` would add to; None where it would begin as a copy of `hardware`.

    Raises InputError for a name that is none, for one that a built-in profile answers to (it would take its place), and
    where the file of that name describes another card than `hardware`.
    """
    path = profile_path(name, folders)
    builtin = _builtin(name)
    if builtin is not None:
        raise InputError(
            f"{name!r} means the built-in profile {builtin}, which a profile of yours would replace",
            hint=f"give it a name of its own, for instance my-{_COUNTS.sub('', name)}",
        )
    if not path.exists():
        return None
    there = read_hardware(path)
    if there.path != hardware.path and _card(there) != _card(hardware):
        raise InputError(
            f"{path} is a profile of {there.name}, and the estimate is of {hardware.name}",
            hint=f"say --gpu {name} where it ran on that machine, or learn into another name",
        )
    return there


def append_measured(name: str, hardware: Hardware, block: Mapping[str, Any], folders: Sequence[Path] = ()) -> Path:
    """Append `block` to the profile `name` in the first of `folders`, else in the user's own; the path of the file.

    A profile that is not there yet begins as a copy of the file that `hardware` was read from. Comments stay. Raises
    InputError for a name that is none, and where nothing can be written.
    """
    path = profile_path(name, folders)
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else _copy_of(hardware, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, _with_block(text, block).encode())
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def begin_profile(name: str, text: str, folders: Sequence[Path] = ()) -> Hardware:
    """Write the text of a new profile, of a device that nobody described yet. Raises InputError where it cannot be."""
    path = profile_path(name, folders)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise _unwritable(path, error) from None
    return read_hardware(path)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error})",
        hint="name a folder that you can write with --profiles",
    )


def profile_path(name: str, folders: Sequence[Path] = ()) -> Path:
    """Where a profile of that name is written. Raises InputError for a name that is none."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a profile", hint="small letters, digits, dots and dashes: for instance my-h100"
        )
    return _folder(folders) / "hardware" / f"{name}.yaml"


def _builtin(name: str) -> str | None:
    """The built-in profile that `--gpu` would read `name` as, with or without a number of cards; None for no such."""
    index = json.loads((builtin_folder("hardware") / INDEX).read_text(encoding="utf-8"))
    shared = {key: profiles[0] for key, profiles in index["shared"].items()}
    known: dict[str, str] = shared | index["names"]
    bare = _COUNTS.sub("", name)
    keys = (name_key(name), re.sub(r"[^a-z0-9]", "", name), name_key(bare))
    return next((known[key] for key in keys if key in known), None)


def _card(hardware: Hardware) -> Hardware:
    """What a profile says of the card itself: what a copy under another name shares with it."""
    plain = hardware.name.removesuffix(f" ({hardware.profile})")
    return hardware._replace(
        name=plain, profile="", aliases=(), shared_names=(), default_for=(), notes=(), measured=(), path="", reading=()
    )


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
        raise InputError(
            "`measured` of that profile is written in one line", hint="write it as a list, an entry per line"
        )
    rest = text[found.end() :]
    end = _BLOCK_END.search(rest)
    cut = end.start() if end is not None else len(rest)
    others = _ITEM.search(rest, 0, cut)
    if others is not None:  # as far to the right as the entries that are there
        item = "".join(f"{others[1]}{row}" for row in item.splitlines(keepends=True))
    return head + rest[:cut] + item + rest[cut:]
