"""Where profiles lie: the user's folders first, then those that come with moeplan.

Each folder may hold `hardware/`, `models/` and `routing/`. In order: folders given with `--profiles`, those in the environment
variable `MOEPLAN_PROFILES`, the user's configuration folder, and the built-in ones.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from moeplan.core.errors import InputError

ENVIRONMENT = "MOEPLAN_PROFILES"

Kind = Literal["hardware", "models", "engines", "kernels", "routing", "host"]
Origin = Literal["option", "environment", "user", "built-in"]


class ProfileFolder(NamedTuple):
    """An existing folder of profiles of one kind, and who named it."""

    path: Path
    origin: Origin


def user_config_folder() -> Path | None:
    """The folder of the user's own profiles on this platform; it need not exist. None for a user without a home."""
    try:
        home = Path("~").expanduser()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        if not base.is_absolute():  # unset, or relative: the XDG specification has that ignored
            base = home / ".config"
    return base / "moeplan" / "profiles"


def builtin_folder(kind: Kind) -> Path:
    """The built-in profiles of a kind: inside the package when installed, beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for parent in (package, package.parent):
        folder = parent / "profiles" / kind
        if _is_folder(folder):
            return folder
    raise InputError(
        f"the built-in {kind} profiles are missing from {package}",
        hint="reinstall moeplan, or name a folder of profiles with --profiles",
    )


def user_folders(kind: Kind, extra_dirs: str | Path | Sequence[str | Path] = ()) -> list[ProfileFolder]:
    """Existing folders of the user's profiles of a kind, the one that wins first.

    InputError when a folder that was named (by option or environment) does not exist; one that lacks the subfolder
    is passed over.
    """
    found: list[ProfileFolder] = []
    given = [extra_dirs] if isinstance(extra_dirs, str | Path) else extra_dirs
    named: list[tuple[Path, Origin]] = [(Path(folder), "option") for folder in given]
    listed = os.environ.get(ENVIRONMENT, "").split(os.pathsep)
    named += [(Path(folder), "environment") for folder in listed if folder]
    for folder, origin in named:
        if not _is_folder(folder):
            where = "--profiles" if origin == "option" else ENVIRONMENT
            raise InputError(
                f"{where}: {folder} is not a folder",
                hint="name a folder that holds hardware/, models/ or routing/",
            )
        found.append(ProfileFolder(folder / kind, origin))
    own = user_config_folder()
    if own is not None:
        found.append(ProfileFolder(own / kind, "user"))
    return [entry for entry in found if _is_folder(entry.path)]


def profile_folders(kind: Kind, extra_dirs: str | Path | Sequence[str | Path] = ()) -> list[ProfileFolder]:
    """All folders of profiles of a kind, the one that wins first; the built-in one is last. Errors as above."""
    return [*user_folders(kind, extra_dirs), ProfileFolder(builtin_folder(kind), "built-in")]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a home that this user may not enter
        return False
