"""Named constants of an engine, from `profiles/engines/<engine>.yaml`."""

from __future__ import annotations

from moeplan.core.deployment import Constant, Constants
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import Block, load


def engine_constants(engine: str) -> Constants:
    """The constants of `engine`; raises InputError for a file that is not as it should be."""
    top = load(builtin_folder("engines") / f"{engine}.yaml")
    name, version, entries = top.text("engine"), top.text("version"), top.block("constants")
    top.done()
    if name != engine or version is None or entries is None:
        raise top.wrong("engine", f"must be {engine}, with a version and constants")
    named = {key: _constant(block) for key in entries.values if (block := entries.block(key))}
    return Constants(engine, version, named)


def _constant(block: Block) -> Constant:
    value, low, high = block.number("value"), block.number("low"), block.number("high")
    source = block.text("source")
    block.done()
    if value is None or low is None or high is None or source is None or not low <= value <= high:
        raise block.wrong("value", "needs value, low and high around it, and a source")
    return Constant(value, low, high, source)
