"""Named constants of an engine at one version, from `profiles/engines/<engine>.yaml`."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Constants, version_key
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import Block, load


def engine_constants(engine: str, version: str | None = None) -> Constants:
    """The constants of `engine` at `version`, or at the one whose sources were read.

    Raises InputError for a version that is none, and for a file that is not as it should be.
    """
    return read_constants(engine, version)[0]


def read_constants(engine: str, version: str | None = None) -> tuple[Constants, tuple[Remark, ...]]:
    """The constants, and a remark where nothing is known of that very version: then the nearest one's rules hold."""
    top = load(builtin_folder("engines") / f"{engine}.yaml")
    name, newest, known, entries = (
        top.text("engine"),
        top.text("version"),
        top.texts("versions"),
        top.block("constants"),
    )
    top.done()
    if name != engine or newest is None or entries is None:
        raise top.wrong("engine", f"must be {engine}, with a version and constants")
    asked = newest if version is None else version.strip().removeprefix("v")
    if not version_key(asked):
        raise InputError(f"{version!r} is no version of {engine}", hint=f"for instance --engine-version {newest}")
    named = {}
    for key in entries.values:
        rows = entries.blocks(key)
        row = _of_version(rows, asked)
        if row is not None:
            named[key] = row
    return Constants(engine, asked, named), _nearest(engine, asked, known, newest)


def _of_version(rows: tuple[Block, ...], version: str) -> Constant | None:
    """The last row that holds for the version; rows stand oldest first."""
    found = None
    for block in rows:
        since = block.text("from")
        constant = constant_of(block)
        if since is None or version_key(version) >= version_key(since):
            found = constant
    return found


def constant_of(block: Block) -> Constant:
    """Value, band, source, and for one that was fitted its rows and error. InputError where one of these is missing."""
    value, low, high = block.number("value"), block.number("low"), block.number("high")
    source, rows, error = block.text("source"), block.texts("rows"), block.text("error")
    block.done()
    if value is None or low is None or high is None or source is None or not low <= value <= high:
        raise block.wrong("value", "needs value, low and high around it, and a source")
    if bool(rows) != (error is not None):
        raise block.wrong("rows", "a constant that was fitted needs both rows and error")
    return Constant(value, low, high, source, tuple(rows), error)


def _nearest(engine: str, asked: str, known: tuple[str, ...], newest: str) -> tuple[Remark, ...]:
    keys = {version_key(version): version for version in (*known, newest)}
    if version_key(asked) in keys:
        return ()
    older = max((key for key in keys if key <= version_key(asked)), default=None)
    if older is None:
        told = f"rules and constants are those of {keys[min(keys)]}, the oldest that was read"
    else:
        told = f"rules and constants are those known up to it (last read: {keys[older]})"
    told = f"nothing was read of {engine} {asked} itself: {told}"
    return (Remark("engine-version", "warning", told),)
