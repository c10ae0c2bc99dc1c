"""A page as a parser has it: its words, its tables by caption, its charts, and the JSON in it. For pages that need no browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any, NamedTuple

VOID = frozenset({"br", "col", "hr", "meta"})


class Read(NamedTuple):
    """What stands on a page."""

    told: Any
    """The JSON."""
    words: str
    """Of everything but drawings and scripts."""
    tables: dict[str, list[list[str]]]
    """Rows of the tables' bodies by their captions."""
    charts: dict[str, list[str]]
    """By their titles what their marks say."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.parts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.charts: dict[str, list[str]] = {}
        self.told = self.caption = self.chart = ""
        self.json = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.json = named.get("type") == "application/json"
        elif tag == "caption":
            self.caption = ""
        elif tag == "tr" and "tbody" in self.open:
            self.tables.setdefault(self.caption, []).append([])
        elif tag in {"td", "th"} and "tbody" in self.open:
            self.tables[self.caption][-1].append("")
        elif tag == "div" and named.get("class") == "chart":
            self.chart = str(named["aria-label"]).removeprefix("Chart: ")
            self.charts[self.chart] = []
        role = named.get("aria-roledescription", "")
        if named.get("role") == "graphics-symbol" and role not in {"axis", "legend", "title"}:
            self.charts[self.chart].append(str(named["aria-label"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.told += data if self.json else ""
        elif not {"svg", "style"} & set(self.open):
            self.parts.append(data)
            if "caption" in self.open:
                self.caption += data
            elif {"td", "th"} & set(self.open) and "tbody" in self.open:
                self.tables[self.caption][-1][-1] += data


def read(page: str) -> Read:
    """The page, whose elements all end where they should."""
    assert page.isascii()
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return Read(json.loads(reader.told), "".join(reader.parts), reader.tables, reader.charts)
