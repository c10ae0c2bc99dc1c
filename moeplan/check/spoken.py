"""What comments and annotations say to moeplan that cannot be meant: codes of no rule, settings that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from moeplan.check.rules import FileSeen, Hit, unknown_code
from moeplan.check.subject import SERVING, is_count
from moeplan.core.deployed import Spot
from moeplan.core.deployment import version_key
from moeplan.sources.deployments.directives import SETTINGS

CODE = "directive-broken"
PREFIX = "moeplan/"
VALUES: Mapping[str, tuple[Callable[[str], bool], str, str]] = {
    "engine": (lambda text: text in SERVING, "no engine that is known", f"engines: {', '.join(SERVING)}"),
    "engine_version": (lambda text: bool(version_key(text.removeprefix("v"))), "no version", "write it as 0.23.0"),
    "context": (is_count, "no number of tokens", "write it as 32768 or 32k"),
    "concurrency": (is_count, "no number of sequences", "write it as 64"),
}
"""Of settings whose values are told here: whether one can be meant, what it is otherwise, and the way out."""

_CODES = re.compile(r"\s*([A-Za-z]+\d*(?:\s*,\s*[A-Za-z]+\d*)*)\s*(?:,|:|$|(?=\s))")


def misspoken(seen: FileSeen) -> Iterator[Hit]:
    """Each thing that cannot be meant, once."""
    yield from dict.fromkeys((*_comments(seen), *_annotations(seen)))


def ignored_by(annotation: str) -> tuple[list[str], str]:
    """The codes in front of an annotation `moeplan/ignore`, and the reason behind them."""
    found = _CODES.match(annotation)
    if found is None:
        return [], annotation.strip()
    return re.split(r"\s*,\s*", found[1]), annotation[found.end() :].strip()


def _comments(seen: FileSeen) -> Iterator[Hit]:
    for directive in seen.file.directives:
        yield from _codes(directive.ignored, "the comment `# moeplan:`", directive.spot)
        for name, value in directive.settings.items():
            yield from _value(name, value, "the comment `# moeplan:`", directive.spot)


def _annotations(seen: FileSeen) -> Iterator[Hit]:
    for outcome in seen.outcomes:
        for key, quote in outcome.subject.deployed.annotations.items():
            who, name = f"the annotation {key}", key.removeprefix(PREFIX).replace("-", "_")
            if name == "ignore":
                codes, _ = ignored_by(quote.text)
                yield from _codes(codes, who, quote.spot)
                if not codes:
                    yield Hit(f"{who} names no rule to ignore", quote.spot, f"write {key}: FIT001 reason", CODE)
            elif name not in SETTINGS:
                near = get_close_matches(name, (*SETTINGS, "ignore"), n=1)
                known = f"annotations: {', '.join(f'{PREFIX}{each}' for each in (*SETTINGS, 'ignore'))}"
                hint = f"did you mean {PREFIX}{near[0]}? {known}" if near else known
                yield Hit(f"{who} is none that moeplan knows", quote.spot, hint, CODE)
            elif quote.known:
                yield from _value(name, quote.text, who, quote.spot)


def _codes(codes: tuple[str, ...] | list[str], who: str, spot: Spot) -> Iterator[Hit]:
    for code in codes:
        hint = unknown_code(code)
        if hint is not None:
            yield Hit(f"{who} ignores {code}, which is the code of no rule", spot, hint, CODE)


def _value(name: str, value: str, who: str, spot: Spot) -> Iterator[Hit]:
    if name in VALUES and not VALUES[name][0](value):
        _, told, hint = VALUES[name]
        yield Hit(f"{who} states {name}={value}: {told}", spot, hint, CODE)
