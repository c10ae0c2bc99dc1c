"""Comments that speak to moeplan: `# moeplan: ignore[FIT001] reason`, `# moeplan: gpu=h200 model=org/name`."""

from __future__ import annotations

import re
from typing import NamedTuple

from moeplan.core.deployed import Directive, FileRemark, Spot

SETTINGS = ("gpu", "model", "revision", "engine", "engine_version", "context", "concurrency")
"""What a comment may state in the file's stead."""
MOST_LINE = 4000
"""Characters of a line in which a comment is looked for."""

_SIGN = re.compile(r"#[ \t]*moeplan:[ \t]*")
_NOTHING = re.compile(r"\s*(?:#.*)?|---\s*(?:\s#.*)?|\.\.\.\s*")
"""A line that says nothing itself: what a comment on it is about comes behind."""
_IGNORE = re.compile(r"ignore[ \t]*\[([^\]]*)\][ \t:]*(.*)")
_CODE = re.compile(r"[A-Za-z]+[0-9]*")
_SETTING = re.compile(r"([A-Za-z][\w-]*)[ \t]*=[ \t]*(\"[^\"]*\"|'[^']*'|[^\s\"']\S*)?")
_BEFORE_QUOTE = " \t[{(,:=-"
_HOW = "write `# moeplan: ignore[FIT001] reason` or `# moeplan: gpu=h200 model=org/name`"


class Directives(NamedTuple):
    """The comments of a text, and what is wrong with some."""

    found: tuple[Directive, ...] = ()
    remarks: tuple[FileRemark, ...] = ()


def read_directives(text: str) -> Directives:
    """Every comment that begins with `moeplan:`, on a line of its own or behind something.

    One above the first line that is no comment is about the whole file. What cannot be meant is a remark
    `directive-broken`.
    """
    if "moeplan:" not in text:
        return Directives()
    found: list[Directive] = []
    remarks: list[FileRemark] = []
    begun = False
    waiting = 0
    """How many of the last ones found stand above the line that they are about."""
    for number, line in enumerate(text.split("\n"), 1):
        says = not _NOTHING.fullmatch(line)
        if says and waiting:
            found[-waiting:] = [each._replace(about_line=number) for each in found[-waiting:]]
            waiting = 0
        begun = begun or (says and not line.startswith("%YAML"))
        place = _comment(line[:MOST_LINE])
        if place is None:
            continue
        directive, wrong = _directive(line[place:], Spot(number, place + 1), whole_file=not begun)
        remarks += wrong
        if directive is not None:
            found.append(directive)
            waiting += not says
    return Directives(tuple(found), tuple(remarks))


def _comment(line: str) -> int | None:
    """Where the comment begins; None where there is none: `#` counts behind a blank, and outside of quotes."""
    for sign in _SIGN.finditer(line):
        place = sign.start()
        if (place == 0 or line[place - 1] in " \t") and not _is_quoted(line, place):
            return place
    return None


def _is_quoted(line: str, place: int) -> bool:
    """True inside quotes, as far as one line tells: an apostrophe in a word opens none."""
    quote = ""
    number = 0
    while number < place:
        sign = line[number]
        if quote == '"' and sign == "\\":
            number += 1
        elif sign == quote:
            quote = ""
        elif not quote and sign in "\"'" and (number == 0 or line[number - 1] in _BEFORE_QUOTE):
            quote = sign
        number += 1
    return bool(quote)


def _directive(comment: str, spot: Spot, *, whole_file: bool) -> tuple[Directive | None, list[FileRemark]]:
    begin = _SIGN.match(comment)
    body = comment[begin.end() :].strip() if begin is not None else ""
    if re.match(r"ignore\b(?![ \t]*=)", body):
        found = _IGNORE.match(body)
        codes = [code.strip() for code in found.group(1).split(",")] if found is not None else []
        wrong = next((code for code in codes if not _CODE.fullmatch(code)), None)
        if found is None or wrong is not None:
            told = "names no rule to ignore" if not wrong else f"{wrong!r} is no code of a rule"
            return None, [_broken(told, spot, "write the codes in brackets: `# moeplan: ignore[FIT001,TOP] reason`")]
        upper = tuple(code.upper() for code in codes)
        return Directive(spot, spot.line, upper, found.group(2).strip(), {}, whole_file), []
    settings: dict[str, str] = {}
    remarks: list[FileRemark] = []
    place = 0
    while place < len(body):
        found = _SETTING.match(body, place)
        if found is None:
            word = body[place:].split(None, 1)[0]
            return _kept(settings, spot, whole_file), [*remarks, _broken(f"{word[:40]!r} is no setting", spot, _HOW)]
        name, value = found.group(1).lower().replace("-", "_"), (found.group(2) or "").strip("\"'")
        if name not in SETTINGS:
            remarks.append(_broken(f"{name[:40]!r} is no setting", spot, _near(name)))
        elif not value:
            remarks.append(_broken(f"{name}= has no value", spot, f"write {name}=VALUE"))
        else:
            settings[name] = value
        place = found.end()
        while place < len(body) and body[place] in " \t,;":
            place += 1
    if not body:
        remarks.append(_broken("says nothing", spot, _HOW))
    return _kept(settings, spot, whole_file), remarks


def _kept(settings: dict[str, str], spot: Spot, whole_file: bool) -> Directive | None:
    return Directive(spot, spot.line, settings=settings, whole_file=whole_file) if settings else None


def _near(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, (*SETTINGS, "ignore"), n=1)
    known = f"settings: {', '.join(SETTINGS)}"
    return f"did you mean {near[0]}? {known}" if near else known


def _broken(told: str, spot: Spot, hint: str) -> FileRemark:
    return FileRemark("directive-broken", f"the comment `# moeplan:` {told}", spot, hint)
