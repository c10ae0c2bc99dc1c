"""YAML as a tree that knows where everything stands.

PyYAML's safe loaders throw lines away; its composed nodes keep them. This is the one place that walks those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from moeplan.core.deployed import FileRemark, Quote, Spot
from moeplan.sources.deployments.folded_texts import FoldedText

MOST_NODES = 200_000
"""A document with more values is no deployment; a handful of anchors can stand for billions."""
MOST_DEPTH = 100
MOST_OF_TEXT = 1_000_000
"""Values of a whole text."""
_LONG = 1024 * 1024
"""A shorter text has no more than that: nobody counts."""
_OF_DOCUMENT = 10
"""Values that a document counts for: each is shown to all readers."""

Kind = Literal["map", "list", "text", "number", "flag", "null"]

_TAGS: dict[str, Kind] = {
    "tag:yaml.org,2002:map": "map",
    "tag:yaml.org,2002:seq": "list",
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "flag",
    "tag:yaml.org,2002:null": "null",
}


class Node:
    """One value of a YAML document. Asking for what is not there gives an empty node, so that paths can be followed."""

    __slots__ = ("entries", "items", "key", "kind", "spot", "text")

    def __init__(
        self,
        kind: Kind,
        spot: Spot,
        text: str = "",
        entries: Mapping[str, Node] | None = None,
        items: Sequence[Node] = (),
        key: Spot | None = None,
    ) -> None:
        self.kind = kind
        self.spot = spot
        self.key = key or spot
        """Where the key stands that the value belongs to, or its dash in a list; of what has neither, where it stands
        itself."""
        self.text = text
        """A scalar as it is written, without quotes; block texts unfolded."""
        self.entries: Mapping[str, Node] = entries or {}
        self.items = tuple(items)

    def at(self, *path: str | int) -> Node:
        """The node below: `spec.at("template", "spec", "containers", 0)`; an empty one where there is none."""
        node = self
        for step in path:
            if isinstance(step, int):
                found = node.items[step] if -len(node.items) <= step < len(node.items) else None
            else:
                found = node.entries.get(step)
            if found is None:
                return Node("null", node.spot)
            node = found
        return node

    def first(self, *keys: str) -> Node:
        """The first of several spellings of a key that is there."""
        return next((self.entries[key] for key in keys if key in self.entries), Node("null", self.spot))

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)

    @property
    def there(self) -> bool:
        """False for a null and for what is absent."""
        return self.kind != "null"

    @property
    def is_scalar(self) -> bool:
        """A text, number or truth value."""
        return self.kind in ("text", "number", "flag")

    @property
    def on(self) -> bool:
        """True for a truth value, number or text that switches something on."""
        return self.is_scalar and self.text.lower() in ("true", "yes", "on", "1")

    @property
    def off(self) -> bool:
        """True for a value that switches something off; not for one that is absent."""
        return self.is_scalar and self.text.lower() in ("false", "no", "off", "0")

    def quote(self) -> Quote | None:
        """The scalar with its place; None where it is empty, or no scalar."""
        return Quote(self.text, self.spot) if self.is_scalar and self.text.strip() else None

    def word(self) -> str:
        """The scalar's text; empty where there is none."""
        return self.text if self.is_scalar else ""

    def plain(self) -> Any:
        """The value as JSON would hold it: for objects that are handed on as one text."""
        match self.kind:
            case "map":
                return {key: node.plain() for key, node in self.entries.items()}
            case "list":
                return [node.plain() for node in self.items]
            case "null":
                return None
            case "flag":
                return self.on
            case "number":
                return _number(self.text)
            case _:
                return self.text


class Composed:
    """The documents of one text, and what was wrong with it."""

    def __init__(self) -> None:
        self.documents: list[Node] = []
        self.remarks: list[FileRemark] = []
        self.folded: list[FoldedText] = []
        """Texts of several words that do not read as they are written."""


def compose(text: str, first_line: int = 1, path: str = "", first_column: int = 1) -> Composed:
    """All documents of a YAML text; of a broken one those before the break, and a remark `file-broken` with its place.

    `first_line`, `first_column` and `path` are where the text itself stands, for YAML inside of YAML.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = Composed()
    place = _Place(text, first_line, first_column, path)
    reader = None
    try:
        if len(text) > _LONG:
            _count(text, loader)
        reader = loader(text)
        while reader.check_node():
            found.documents.append(_Walk(place, found).document(reader.get_node()))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        spot = place.spot(mark.line, mark.column) if mark else _sign(text, error, place)
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed")
        found.remarks.append(FileRemark("file-broken", f"not valid YAML: {problem}", spot, "correct that line"))
    except _TooMuchError as error:
        hint = "leave its anchors out, or name the files of the deployments themselves"
        found.remarks.append(
            FileRemark("file-broken", str(error), place.spot(error.mark.line, error.mark.column), hint)
        )
    except (ValueError, RecursionError) as error:
        told = f"not valid YAML: {type(error).__name__}"
        found.remarks.append(FileRemark("file-broken", told, Spot(first_line, 1, path), "correct the file"))
    finally:
        if reader is not None:
            reader.dispose()
    return found


class _Place:
    """Where a text stands."""

    def __init__(self, text: str, first_line: int, first_column: int, path: str) -> None:
        self.text = text
        self.first_line = first_line
        self.first_column = first_column
        self.path = path
        self.lines: list[str] | None = None

    def spot(self, line: int, column: int, path: str | None = None) -> Spot:
        """From PyYAML's numbers, which begin at 0."""
        return Spot(line + self.first_line, column + self.first_column, self.path if path is None else path)

    def line(self, number: int) -> str:
        """A line of the text, from 0; empty where there is none."""
        if self.lines is None:
            self.lines = _BREAK.split(self.text)
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def indentation(self, line: int) -> int:
        """Of the first line with anything in it, from `line` on."""
        for number in range(line, line + _MOST_BLANK):
            each = self.line(number)
            if each.strip():
                return len(each) - len(each.lstrip(" "))
        return 0

    def dash(self, line: int, column: int, spot: Spot) -> Spot:
        """The dash before what begins at `spot`: in its column, on the line or above it; `spot` where there is none."""
        for number in range(line, line - _MOST_BLANK, -1):
            if self.line(number)[column : column + 1] == "-":
                return self.spot(number, column, spot.path)
            if number < line and self.line(number).strip() and not self.line(number).lstrip().startswith("#"):
                break
        return spot


_QUOTES = ("'", '"')
_MOST_BLANK = 100
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""Line breaks as YAML counts them."""


class _TooMuchError(Exception):
    """Anchors that stand for more than any deployment has, or that hold themselves."""

    def __init__(self, told: str, mark: Any) -> None:
        super().__init__(told)
        self.mark = mark


def _count(text: str, loader: Any) -> None:
    """Read past a long text, so that nothing is made of one that has too much in it."""
    import yaml

    number = 0
    for event in yaml.parse(text, Loader=loader):
        number += _OF_DOCUMENT if isinstance(event, yaml.DocumentStartEvent) else 1
        if number > 2 * MOST_OF_TEXT:  # ends are events too
            told = f"more than {MOST_OF_TEXT:,} values: no deployments have as many"
            raise _TooMuchError(told, event.start_mark)


def _sign(text: str, error: Any, place: _Place) -> Spot:
    """Where a sign stands that no YAML has; PyYAML counts bytes."""
    before = text.encode(errors="replace")[: getattr(error, "position", None) or 0]
    line = before.rpartition(b"\n")[2].decode(errors="replace")
    return place.spot(before.count(b"\n"), len(line))


class _Walk:
    """From PyYAML's nodes to ours: anchors followed, merge keys (`<<`) merged, keys given twice told."""

    def __init__(self, place: _Place, found: Composed) -> None:
        self.place = place
        self.remarks = found.remarks
        self.folded = found.folded
        self.num_nodes = 0
        self.top: Any = None
        """Where the value on top begins that is being read."""
        self.told: set[Spot] = set()

    def document(self, node: Any) -> Node:
        """One document."""
        return self.node(node, self.place.path, 0) if node is not None else Node("null", self.place.spot(0, 0))

    def node(self, node: Any, path: str, depth: int) -> Node:
        """A node and all below it."""
        self.one_more(node, depth)
        spot = self.spot(node, path)
        kind = _TAGS.get(node.tag, "text")
        if node.id == "mapping":
            return Node("map", spot, entries=self.entries(node, path, depth))
        if node.id == "sequence":
            return Node("list", spot, items=self.items(node, path, depth))
        several_lines = node.end_mark.line > node.start_mark.line and node.style != "|"
        if several_lines or (node.style in _QUOTES and " " in node.value):
            self.folded.append(self.fold(node, spot))
        # A custom tag on a scalar (`!env X`) is a text like another.
        return Node("text" if kind in ("map", "list") else kind, spot, text=node.value)

    def fold(self, node: Any, spot: Spot) -> FoldedText:
        """Where a text of several lines is written."""
        style = node.style or ""
        shift = 1 if style in _QUOTES else 0
        start = node.start_mark
        first = (start.line, start.column + shift)
        if style == ">":
            first = (start.line + 1, self.place.indentation(start.line + 1))
        return FoldedText(node.value, spot, first, node.end_mark.line, style)

    def one_more(self, node: Any, depth: int) -> None:
        """Count a value. Raises _TooMuchError where there are more than any deployment has."""
        if depth <= 1:
            self.top = node.start_mark
        self.num_nodes += 1
        if depth > MOST_DEPTH:
            told = f"more than {MOST_DEPTH} values inside of each other, as with an anchor that holds itself"
            raise _TooMuchError(told, self.top)
        if self.num_nodes > MOST_NODES:
            told = f"more than {MOST_NODES:,} values in one document, as with anchors that stand for each other"
            raise _TooMuchError(told, self.top)

    def items(self, node: Any, path: str, depth: int) -> list[Node]:
        """Values of a list, each with the place of its dash."""
        found = []
        for place, each in enumerate(node.value):
            item = self.node(each, f"{path}[{place}]", depth + 1)
            if not node.flow_style:
                item.key = self.place.dash(each.start_mark.line, node.start_mark.column, item.spot)
            found.append(item)
        return found

    def entries(self, node: Any, path: str, depth: int) -> dict[str, Node]:
        """Keys of a mapping: its own before those that it merges."""
        found: dict[str, Node] = {}
        merged: list[Any] = []
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                merged += value.value if value.id == "sequence" else [value]
                continue
            name = key.value if key.id == "scalar" else "?"
            if name in found:
                self.twice(name, self.spot(key, path))
            below = f"{path}.{name}" if path else name
            found[name] = self.node(value, below, depth + 1)
            found[name].key = self.spot(key, below)
        for each in merged:
            if each.id == "mapping":
                self.one_more(each, depth + 2)
                for name, value in self.entries(each, path, depth + 1).items():
                    found.setdefault(name, value)
        return found

    def twice(self, name: str, spot: Spot) -> None:
        """Once per place, however often an anchor repeats it."""
        if spot not in self.told:
            self.told.add(spot)
            told = f"the key `{name}` is given twice; programs keep the last one"
            self.remarks.append(FileRemark("key-twice", told, spot, "leave one of them out"))

    def spot(self, node: Any, path: str) -> Spot:
        mark = node.start_mark
        if node.id == "scalar" and node.style in ("|", ">"):
            # The text of a block begins on the line below its sign, without its indentation.
            return self.place.spot(mark.line + 1, self.place.indentation(mark.line + 1), path)
        return self.place.spot(mark.line, mark.column, path)


def _number(text: str) -> int | float | str:
    plain = text.replace("_", "")
    for read in (int, float):
        try:
            return read(plain)
        except ValueError:
            continue
    return text
