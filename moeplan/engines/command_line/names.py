"""Names of flags as people type them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeplan.engines.command_line.flag import Flag

_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")
_OF_A_PLACE = re.compile(
    r"(?:\w*_)?(?:PORT|HOST(?:NAME)?|IP|ADDR(?:ESS)?|IFNAME|URL|ENDPOINT|(?:LOG(?:GING)?_)?LEVEL|KEEP_ALIVE|TIMEOUT(?:_M?S|_SECONDS)?)"
)


def spelled(name: str) -> str:
    """Dashes for underscores up to a dot, as vLLM's parser and llama.cpp have it; short flags stay as they are."""
    if not name.startswith("--"):
        return name
    head, dot, key = name.partition(".")
    return head.replace("_", "-") + dot + key


def tells_a_place(variable: str) -> bool:
    """True for a variable whose name says that it holds a port, an address, a time or a level of logging, not memory."""
    return _OF_A_PLACE.fullmatch(variable) is not None


def is_flag(word: str) -> bool:
    """As argparse decides: a dash in front, and neither a negative number nor a text with spaces."""
    return len(word) > 1 and word[0] == "-" and not _NEGATIVE.fullmatch(word) and " " not in word.partition("=")[0]


def nearest(flags: Mapping[str, Flag], typed: str) -> str | None:
    """The known spelling that a typed one abbreviates, or that looks like it; None where nothing does."""
    name = spelled(typed)
    names = [known for known in flags if known.startswith("-")]
    longer = [known for known in names if name.startswith("--") and known.startswith(name)]
    if longer and len({flags[known].name for known in longer}) == 1:
        return longer[0]
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1, 0.75)), None)
