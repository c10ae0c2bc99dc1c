"""The page around a report: head, contents, style, its small script, and the result as JSON that can be saved.

One file that asks for nothing: its policy forbids every request, and allows this one script by its hash. Without the script the
page reads the same; buttons appear with it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Literal, NamedTuple

from moeplan.report.as_json import as_json
from moeplan.report.pages.markup import Html, element, joined, text
from moeplan.report.pages.palette import variables
from moeplan.report.printable import utf16_escape
from moeplan.version import __version__

_UNFIT = re.compile("[<>&]|[^\x00-\x7f]")
"""Characters of JSON that a page holds as escapes."""
State = Literal["good", "bad", "open"]
"""How a verdict is coloured, beside its words."""


class Section(NamedTuple):
    """A part of the page that the contents lead to."""

    name: str
    """Its address in the page: small letters and dashes, one of its own."""
    title: str
    body: Sequence[Html]


class Tile(NamedTuple):
    """One of the main figures at the top."""

    label: str
    figure: str
    """Text or markup (`markup.shown`)."""
    detail: str = ""


def headline(words: str, state: State, further: Sequence[str] = ()) -> Html:
    """The verdict in words; what stands before the first colon is its sign. `further` are sentences below it."""
    sign, colon, rest = words.partition(": ")
    told = joined([element("strong", sign), element("span", rest)] if colon else [element("strong", words)], " ")
    return element(
        "div",
        element("p", told, class_="verdict"),
        *(element("p", sentence) for sentence in further),
        class_=f"headline {state}",
    )


def tiles(shown: Sequence[Tile]) -> Html:
    """The main figures side by side."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", tile.label),
                element("dd", tile.figure),
                *([element("dd", tile.detail, class_="quiet")] if tile.detail else []),
            )
            for tile in shown
        ),
        class_="tiles",
    )


def page_html(*, title: str, lead: Sequence[Html], sections: Sequence[Section], result: object) -> str:
    """The whole page as ASCII text with a final newline; the same input gives the same bytes.

    `lead` stands below the title: what was asked, the verdict, the main figures. Sections without a body are left out. `result` is
    the verb's result as the reports got it, not yet made printable.
    """
    sections = [section for section in sections if any(section.body)]
    script, kind = _packaged("page.js"), str(getattr(result, "schema", "moeplan"))
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    contents = element(
        "nav",
        element("p", "On this page"),
        element("ol", *(element("li", element("a", part.title, href=f"#{part.name}")) for part in sections)),
        aria_label="On this page",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"moeplan {__version__}"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · moeplan"),
        element("style", Html(f"\n{variables()}{_packaged('page.css')}")),
    )
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        element(
            "header",
            element("p", element("span", "moeplan", class_="name"), " ", kind.partition("/")[0].rpartition(".")[2]),
            element(
                "p",
                element("button", "Save the JSON", type="button", id="save", hidden=True),
                element("button", "Theme: automatic", type="button", id="theme", hidden=True),
                class_="tools",
            ),
        ),
        contents,
        element(
            "main",
            element("h1", title),
            *lead,
            *(
                element(
                    "section", element("h2", part.title, id=f"{part.name}-title"), *part.body,
                    id=part.name, aria_labelledby=f"{part.name}-title",
                )
                for part in sections
            ),
            element("footer", f"Written by moeplan {__version__}. The page holds its result as JSON, schema {kind}."),
            id="report", tabindex=-1,
        ),
        element("script", embedded(result), type="application/json", id="moeplan-result"),
        element("script", Html(script)),
    )  # fmt: skip
    page = f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
    # Whatever is made of the bytes on their way, letters beyond ASCII stay what they are.
    return page.encode("ascii", "xmlcharrefreplace").decode()


def embedded(result: object) -> Html:
    """The result's JSON, with escapes for what could end the element that it stands in; it reads as `--format json` does."""
    return Html(_UNFIT.sub(lambda found: utf16_escape(found[0]), as_json(result)))


def sentence(*parts: str) -> Html:
    """A paragraph of texts and markup."""
    return element("p", *map(text, parts))


@lru_cache
def _packaged(name: str) -> str:
    return files("moeplan.report.pages").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()
