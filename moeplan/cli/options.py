"""Options that every command shares, how they are read, and how a result is shown as they ask."""

import os
import sys
from errno import EISDIR
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from moeplan.core.errors import InputError
from moeplan.report.printable import printable, utf16_escape

Format = Annotated[str, typer.Option("--format", "-f", help="table, json or markdown.", show_default=True)]
PageFormat = Annotated[
    str,
    typer.Option(
        "--format", "-f", help="table, json, markdown or html (a page, with -o page.html).", show_default=True
    ),
]
"""Of commands that have a page."""
Json = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file and not to the screen; - is the screen.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors; the exit code tells.")]
Color = Annotated[str, typer.Option("--color", help="auto, always or never.", show_default=True)]
Profiles = Annotated[
    list[str] | None,
    typer.Option("--profiles", help="Folder with own hardware/ and models/ profiles; may be repeated."),
]

FORMATS = {"table": "table", "text": "table", "json": "json", "markdown": "markdown", "md": "markdown"}
PAGE = "html"
"""A format of its own kind: charts must be installed, and a terminal shows none."""
ENDINGS = {".html": PAGE, ".htm": PAGE, ".json": "json", ".md": "markdown"}
"""Formats that the names of files promise."""
STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of standard output."""
PIPE_WIDTH = 100
TERMINAL_WIDTH = 80
LEAST_WIDTH = 40


class Page(NamedTuple):
    """What a table may look like."""

    width: int
    color: bool
    unicode: bool


class Showing(NamedTuple):
    """How a result is shown, and where."""

    format: str
    page: Page
    output: Path | None
    quiet: bool


def showing(
    format: str,  # noqa: A002 - the option's name
    *,
    json: bool,
    output: Path | None,
    quiet: bool,
    color: str,
    also: tuple[str, ...] = (),
) -> Showing:
    """The shared options as they were given; `also` are formats that one command has beside those of all.

    Raises InputError for a value that is none and for a page that would go to a terminal, UnknownError where charts cannot be drawn.
    """
    # Standard output may be a file that somebody else writes to as well: it is written on, never replaced.
    output = None if output is not None and str(output) in STDOUT else output
    if output == Path():  # what an empty text becomes
        raise InputError(
            "--output is empty, or this folder: it cannot be written", hint="give --output a file: --output answer.txt"
        )
    name = "json" if json else _format(format, also)
    if name == PAGE:
        _check_page(output, quiet=quiet)
    return Showing(name, _page(color, output), output, quiet)


def show(result: object, report: str, how: Showing, **details: bool) -> None:
    """Print a verb's result, or write it to a file in one piece. Raises InputError when neither can be.

    JSON is the same for every result; a table or Markdown is drawn by the function of the module
    `moeplan.report.REPORT_FORMAT` that has the module's name. `details` are what only that report takes.
    """
    if how.format == "json":
        from moeplan.report.as_json import as_json

        text = as_json(result)
    else:
        name = f"{report}_{how.format}"
        page = how.page._asdict() if how.format == "table" else {}
        text = getattr(import_module(f"moeplan.report.{name}"), name)(result, **page, **details)
    write_out(text, how)
    _note_ending(report, how)


def write_out(text: str, how: Showing) -> None:
    """Print a text, or write it to a file in one piece. Raises InputError when neither can be."""
    if how.output is not None:
        write(how.output, text)
    elif not how.quiet:
        _print(text)


def _note_ending(report: str, how: Showing) -> None:
    """A line for whoever names a page, or JSON, and gets a table, where the command has the other too."""
    other = ENDINGS.get(how.output.suffix.lower()) if how.output is not None else None
    if how.format != "table" or how.quiet or other is None:
        return
    if other == "json" or find_spec(f"moeplan.report.{report}_{other}") is not None:
        sys.stderr.write(
            f"note: {printable(str(how.output))} holds a table; --format {other} writes what its name says\n"
        )


def leave_stdout() -> None:
    """Send what is left in the buffer nowhere: the reader went away (`| head`), or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _format(name: str, also: tuple[str, ...]) -> str:
    if name in also:
        return name
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", hint=f"formats: {', '.join(('table', 'json', 'markdown', *also))}")
    return FORMATS[name]


def _check_page(output: Path | None, *, quiet: bool) -> None:
    """Before anything is computed: nobody waits for an answer that cannot be shown."""
    if output is None and not quiet and sys.stdout.isatty():
        raise InputError(
            "a page is nothing to read on a terminal", hint="write it to a file: --format html -o page.html"
        )
    from moeplan.report.pages.charts import need_charts

    need_charts()


def _page(color: str, output: Path | None) -> Page:
    """Width, colour and character set: `--color` beats NO_COLOR, that beats FORCE_COLOR, and both beat the terminal.

    A file gets colour only from `--color always`.
    """
    if color not in ("auto", "always", "never"):
        raise InputError(f"unknown colour mode {color!r}", hint="colour modes: auto, always, never")
    to_screen = output is None and sys.stdout.isatty()
    coloured = to_screen and os.environ.get("TERM") != "dumb"
    if output is None and (os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE")):
        coloured = True
    if os.environ.get("NO_COLOR"):
        coloured = False
    if color != "auto":
        coloured = color == "always"
    return Page(_width(to_screen), coloured, output is not None or _speaks_unicode())


def _print(text: str) -> None:
    try:
        sys.stdout.write(_encodable(text, sys.stdout.encoding or "ascii"))
        sys.stdout.flush()
    except BrokenPipeError:
        leave_stdout()
    except OSError as error:
        leave_stdout()
        raise InputError(
            f"standard output cannot be written ({error.strerror})",
            hint="make room, or name another place with --output",
        ) from None


def _encodable(text: str, encoding: str) -> str:
    """The text with escapes for what `encoding` lacks; JSON reads them back as the characters they stand for."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "".join(character if character.isascii() else utf16_escape(character) for character in text)
    return text


def write(path: Path, text: str) -> None:
    """Replace a file, or write to a device or pipe. Raises InputError where that cannot be."""
    from moeplan.sources.file_writing import replace_file

    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "is a folder")
        if str(path).startswith("/dev/") or (
            path.exists() and not path.is_file()
        ):  # a stream, a pipe: nothing to replace
            with path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            return
        replace_file(path, text.encode())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error})",
            hint="give --output a file in a folder that you can write",
        ) from None


def _width(to_screen: bool) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and len(columns) <= 4 and int(columns) > 0:
        return max(LEAST_WIDTH, int(columns))
    if to_screen:
        # A terminal that does not know its own width says 0.
        return max(LEAST_WIDTH, os.get_terminal_size(sys.stdout.fileno()).columns or TERMINAL_WIDTH)
    return PIPE_WIDTH


def _speaks_unicode() -> bool:
    try:
        "█─…⠿".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
