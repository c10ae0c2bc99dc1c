"""HTML that nothing from outside can break into: a text becomes markup by escaping alone.

`Html` is markup; every other text that is put into an element is escaped, so what somebody forgets shows as it is and does
nothing. Control characters and those that reorder text are written as escapes before (`report.printable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from moeplan.report.printable import printable

VOID = frozenset({"br", "col", "hr", "meta"})
"""Elements without an end."""


class Html(str):
    """Markup. Made from texts by the functions below; joined to a plain text it is a plain text again."""

    __slots__ = ()


def text(told: str) -> Html:
    """`told` as markup that shows it as it is; markup stays what it is."""
    return told if isinstance(told, Html) else Html(escape(printable(told), quote=True))


def element(name: str, /, *children: str, **attributes: str | int | bool | None) -> Html:
    """`<name attribute="...">children</name>`; texts among the children are escaped.

    `class_` is `class`, `data_path` is `data-path`; an attribute that is None or False is left out, True stands alone.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{''.join(map(text, children))}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is markup; `between` as well."""
    return Html(text(between).join(map(text, parts)))


def paragraph(told: str, class_: str | None = None) -> Html:
    """A paragraph of text."""
    return element("p", told, class_=class_)


def listed(items: Iterable[str], class_: str | None = None) -> Html:
    """A list of items; nothing where there is none."""
    entries = [element("li", item) for item in items]
    return element("ul", *entries, class_=class_) if entries else Html()


def unfolding(summary: str, *children: str, class_: str | None = None) -> Html:
    """What opens at a click or a key, and in print."""
    return element("details", element("summary", summary), *children, class_=class_)


def shown(result: object, path: str, in_words: Callable[[Any], str]) -> Html:
    """A figure of the result, found by its path in the JSON (`ranks.0.free_bytes`) and shown in words.

    It stands as `<data value="..." data-path="...">`, so that whoever doubts the page can hold it against the JSON in it. The
    value is written as JSON writes it. KeyError or AttributeError for a path that leads nowhere.
    """
    import json

    value = at_path(result, path)
    told = value if isinstance(value, str) else json.dumps(value)
    return element("data", in_words(value), value=told, data_path=path)


def at_path(result: object, path: str) -> Any:
    """What stands at a path of names and places, joined by dots."""
    found: Any = result
    for step in path.split("."):
        if isinstance(found, Mapping):
            found = found[step]
        elif isinstance(found, list) or (isinstance(found, tuple) and not hasattr(found, "_fields")):
            found = found[int(step)]
        else:
            found = getattr(found, step)
    return found


def _attribute(key: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(printable(str(value)), quote=True)}"'
