"""Markup that nothing breaks into, the shell around a report, charts, and where a page may go."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.cli import _run
from moeplan.core.model import Remark
from moeplan.report.as_json import as_json
from moeplan.report.page import Column
from moeplan.report.pages import charts
from moeplan.report.pages.charts import MOST_CHARACTERS, MOST_TICKS, drawn, figure, log_ticks, look_of
from moeplan.report.pages.markup import at_path, element, joined, listed, shown, text
from moeplan.report.pages.shell import Section, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list, rows_table
from tests.pages.pages_written import HOSTILE_TEXT


class Told(NamedTuple):
    schema: str
    name: str
    size_bytes: int
    share: float | None
    parts: tuple[str, ...]
    roles: dict[str, int]


RESULT = Told("moeplan.estimate/1", HOSTILE_TEXT, 2**60 + 1, 0.1, ("a", "é"), {"router": 7})


class Reader(html.parser.HTMLParser):
    """What a parser makes of markup: elements, attributes, text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


# Markup ----------------------------------------------------------------------------------------------------


VISIBLE = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cf", "Cn", "Cs", "Zl", "Zp"]))


@given(VISIBLE, VISIBLE)
def test_any_text_is_text_whether_as_child_or_as_attribute(told: str, named: str) -> None:
    made = element("p", told, element("b", told), f"{element('i', 'x')}{told}", title=named)
    read = Reader(made)
    assert [name for name, _ in read.elements] == ["p", "b"]
    assert read.elements[0][1] == {"title": named}
    assert read.words == f"{told}{told}<i>x</i>{told}"


def test_markup_stays_markup_and_what_is_joined_to_text_is_text() -> None:
    bold = element("b", "x")
    assert element("p", bold) == "<p><b>x</b></p>"
    assert element("p", f"{bold}!") == "<p>&lt;b&gt;x&lt;/b&gt;!</p>"
    assert joined([bold, "<"], ", ") == "<b>x</b>, &lt;"
    assert listed([]) == ""
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert (
        element("button", "go", hidden=True, disabled=False, class_="a", data_path=None)
        == '<button hidden class="a">go</button>'
    )


def test_control_and_bidi_characters_are_shown_and_not_obeyed() -> None:
    made = element("p", "a\u202eb\x1b[31m\u2028", title="\u200f\n")
    assert made == '<p title="\\u200f\\n">a\\u202eb\\x1b[31m\\u2028</p>'


def test_figures_stand_with_their_path_and_the_value_of_the_json() -> None:
    told = json.loads(as_json(RESULT))
    for path, value in (("size_bytes", told["size_bytes"]), ("share", 0.1), ("roles.router", 7)):
        (_, attributes), *_ = Reader(shown(RESULT, path, str)).elements
        assert attributes == {"value": json.dumps(value), "data-path": path}
    assert Reader(shown(RESULT, "parts.1", str.upper)).words == "É"
    assert at_path(RESULT, "parts.0") == "a"
    with pytest.raises(AttributeError):
        shown(RESULT, "nothing.here", str)


def test_tables_name_their_rows_and_columns() -> None:
    made = columns_table([Column("name", ("<a>",), right=False), Column("", ("1",))], "All & more")
    read = Reader(made)
    assert [name for name, _ in read.elements if name in {"th", "td"}] == ["th", "td", "th", "td"]
    assert [each.get("scope") for name, each in read.elements if name == "th"] == ["col", "row"]
    assert "<a>" in read.words
    assert "All & more" in read.words
    assert Reader(rows_table(("a", "b"), "<>", [], "none")).words == "noneab"


def test_warnings_are_told_in_words() -> None:
    made = notes_list([Remark("x", "warning", "too <large>"), Remark("y", "info", "fine", "config.json")])
    assert Reader(made).words == "Warning: too <large>fine (config.json)"


# The shell -------------------------------------------------------------------------------------------------


def page(result: object = RESULT, title: str = HOSTILE_TEXT) -> str:
    lead = [headline(f"FITS: {HOSTILE_TEXT}", "good", [HOSTILE_TEXT]), tiles([Tile("<b>", "1", "<i>")])]
    return page_html(
        title=title, lead=lead, sections=[Section("one", "One", [text("x")]), Section("two", "Two", [])], result=result
    )


def test_the_same_result_gives_the_same_ascii_bytes() -> None:
    assert page() == page()
    assert page().isascii()
    assert page().startswith("<!doctype html>\n<html")


def test_the_json_in_it_is_the_result_and_cannot_end_its_element() -> None:
    found = re.findall(r'<script type="application/json" id="moeplan-result">(.*?)</script>', page(), re.DOTALL)
    assert len(found) == 1
    assert json.loads(found[0]) == json.loads(as_json(RESULT))
    assert not set("<>&") & set(found[0])


def test_the_policy_allows_its_own_script_alone() -> None:
    read = Reader(page())
    policy = next(each["content"] for _, each in read.elements if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", page(), re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not [name for _, each in read.elements for name in each if name.startswith("on")]
    assert not [each for _, each in read.elements if {"src", "action", "formaction"} & set(each)]
    addresses = [each["href"] or "" for _, each in read.elements if "href" in each]
    assert addresses
    assert all(each.startswith("#") for each in addresses)


def test_sections_without_a_body_are_left_out() -> None:
    assert 'href="#one"' in page()
    assert "#two" not in page()


def test_nothing_of_a_hostile_name_becomes_an_element() -> None:
    names = [name for name, _ in Reader(page()).elements]
    assert names.count("script") == 2
    assert {"img", "plaintext"}.isdisjoint(names)
    assert HOSTILE_TEXT.partition("\u202e")[0] in Reader(page()).words


# Charts ----------------------------------------------------------------------------------------------------


def bars(names: list[str], **other: Any) -> dict[str, Any]:
    values = [{"name": name, "size": place + 1.123456, "told": f"{name}: {place}"} for place, name in enumerate(names)]
    encoding = {
        "y": {"field": "name", "type": "nominal", "sort": names, "title": names[0]},
        "x": {"field": "size", "type": "quantitative"},
        "color": {"field": "name", "type": "nominal", "scale": {"domain": names}},
        "description": {"field": "told"},
    }
    return {
        "height": 80,
        "data": {"values": values},
        "mark": {"type": "bar", "clip": True},
        "encoding": encoding,
    } | other


def test_a_chart_is_markup_of_its_own_names_in_colours_of_the_page() -> None:
    one, other = drawn(bars(["a", "b"]), "A chart"), drawn(bars(["a", "c"]), "A chart")
    assert one == drawn(bars(["a", "b"]), "A chart")
    names = [re.findall(r'\bid="([^"]+)"', each) for each in (one, other)]
    assert names[0]
    assert set(names[0]).isdisjoint(names[1])
    for name in re.findall(r"url\(#([^)]+)\)", one):
        assert name in names[0]
    assert "var(--c1)" in one
    assert "http" not in one.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r' d="[^"]*\.\d{3}', one)
    assert 'viewBox="0 0 ' in one


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.9, 15.2], [1, 2, 5, 10]),
        ([1, 700], [1, 10, 100]),
        ([140, 420], [200, 300, 400]),
        ([1.1, 1.42], [1.1, 1.2, 1.3, 1.4]),
        ([3.0, 3.0], [3.0]),
        ([3.14159], [3.14159]),
    ],
)
def test_axes_of_logarithms_name_round_figures(values: list[float], ticks: list[float]) -> None:
    assert log_ticks(values) == ticks


@given(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=9))
def test_ticks_lie_among_the_figures_and_are_few(values: list[float]) -> None:
    ticks = log_ticks(values)
    assert 1 <= len(ticks) <= MOST_TICKS
    assert ticks == sorted(set(ticks))
    assert min(values) <= ticks[0]
    assert ticks[-1] <= max(values)


def test_many_series_are_told_apart_by_colour_and_shape() -> None:
    assert len({look_of(place) for place in range(49)}) == 49


def test_hostile_names_are_words_of_a_chart() -> None:
    read = Reader(drawn(bars([HOSTILE_TEXT, "datum.x + alert(1)", "a'b\\"]), HOSTILE_TEXT))
    assert {"script", "img", "foreignobject", "a", "image"}.isdisjoint(name for name, _ in read.elements)
    told = [each["aria-label"] for _, each in read.elements if each.get("role") == "graphics-symbol"]
    assert "datum.x + alert(1): 1" in told
    assert any(str(each).startswith("</script></title></main><script>alert(1)<plaintext>") for each in told)
    assert "\u2028" not in "".join(map(str, told))


def test_no_character_of_a_name_ends_the_program() -> None:
    """The library measures labels, and aborts at what is none."""
    assert "a\\ufffe" in drawn(bars(["a\ufffe", "b\uffff", "\ufdd0"]), "A chart")


def test_a_very_long_name_does_not_hold_a_chart_up() -> None:
    started = time.monotonic()
    made = drawn(bars(["x" * 100_000, "y"]), "A chart")
    assert time.monotonic() - started < 5  # a minute, were it measured letter by letter
    assert f"{'x' * MOST_CHARACTERS}\N{HORIZONTAL ELLIPSIS}" in made
    assert "x" * (MOST_CHARACTERS + 1) not in made


def test_a_figure_has_its_words_and_its_table() -> None:
    made = figure(
        bars(["a"]), title="Sizes", description="One is all.", table=[Column("name", ("a",)), Column("size", ("1",))]
    )
    read = Reader(made)
    names = [name for name, _ in read.elements]
    assert names[0] == "figure"
    assert {"figcaption", "svg", "details", "table", "output"} <= set(names)
    label = next(each["aria-label"] for name, each in read.elements if name == "svg")
    assert label == "Sizes. One is all."


# The command line ------------------------------------------------------------------------------------------

WORDS = ["estimate", "mixtral-8x7b", "--format", "html"]


def test_a_page_goes_to_a_pipe_and_to_a_file_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert _run([*WORDS, "-o", str(path)]) == 0
    assert _run(WORDS) == 0
    assert capsys.readouterr().out == path.read_text(encoding="ascii")


def test_a_terminal_is_asked_for_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert _run(WORDS) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: a page is nothing to read on a terminal",
        " hint: write it to a file: --format html -o page.html",
    ]


@pytest.mark.parametrize("words", [WORDS, ["check", ".", "--format", "html"]], ids=lambda words: words[0])
def test_without_the_library_two_lines_say_what_to_install(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)
    path = tmp_path / "page.html"
    assert _run([*words, "-o", str(path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: vl-convert-python is not installed, so the page's charts cannot be drawn",
        " hint: pip install 'moeplan[page]', or take --format markdown",
    ]
    assert not path.exists()
