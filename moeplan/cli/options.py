"""Options that several commands share, and how they are read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from moeplan.core.errors import InputError

Format = Annotated[str, typer.Option("--format", "-f", help="table, json or markdown.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file and not to the screen.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors; the exit code tells.")]
Color = Annotated[str, typer.Option("--color", help="auto, always or never.", show_default=True)]
Profiles = Annotated[
    list[str] | None, typer.Option("--profiles", help="Folder with own hardware/ and models/ profiles; may be repeated.")
]

FORMATS = {"table": "table", "text": "table", "json": "json", "markdown": "markdown", "md": "markdown"}
PIPE_WIDTH = 100


class Page(NamedTuple):
    """What the output may look like."""

    width: int
    color: bool
    unicode: bool


def chosen_format(name: str, json: bool) -> str:
    """The format by its one name. Raises InputError for an unknown one."""
    if json:
        return "json"
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", hint="formats: table, json, markdown")
    return FORMATS[name]


def page(color: str, output: Path | None) -> Page:
    """Width, colour and character set: `--color` beats NO_COLOR and FORCE_COLOR, and they beat the terminal."""
    if color not in ("auto", "always", "never"):
        raise InputError(f"unknown colour mode {color!r}", hint="colour modes: auto, always, never")
    to_screen = output is None and sys.stdout.isatty()
    forced = os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE")
    coloured = to_screen and os.environ.get("TERM") != "dumb" if not forced else True
    if os.environ.get("NO_COLOR"):
        coloured = False
    if color != "auto":
        coloured = color == "always"
    return Page(_width(to_screen), coloured, output is not None or _speaks_unicode())


def deliver(text: str, output: Path | None, *, quiet: bool = False) -> None:
    """Print, or write a file in one piece: a reader never sees half of it."""
    if output is not None:
        _write(output, text)
    elif not quiet:
        sys.stdout.write(text)


def _write(path: Path, text: str) -> None:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", hint="give --output a file in a folder that exists") from None


def _width(to_screen: bool) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return max(40, int(columns))
    if to_screen:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns)
    return PIPE_WIDTH


def _speaks_unicode() -> bool:
    try:
        "█─…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
