"""Templates in values, resolved from the same values."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.helm_values import left_open, resolved, resolved_node
from moeplan.sources.deployments.nodes import compose

VALUES = """\
a: {b: one, c: "{{ .Values.a.b }}!", n: 4, loop: "{{ .Values.a.loop }}x"}
words: ["{{ .Values.a.n }}", plain, {k: "{{ .Release.Name }}"}]
"""
(DOCUMENT,) = compose(VALUES).documents


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("hf://{{ .Values.a.b }}", "hf://one", ()),
        ("{{.Values.a.b}}-{{- .Values.a.n -}}", "one-4", ()),
        ("{{ .Values.a.b | quote }}", "one", ()),
        ("{{ .Values.a.c }}", "one!", ()),
        ("{{ .Values.a.x }}", "{{ .Values.a.x }}", ("{{ .Values.a.x }}",)),
        ("{{ .Values.a }}", "{{ .Values.a }}", ("{{ .Values.a }}",)),
        ('{{ include "x" . }} {{ .Values.a.b }}', '{{ include "x" . }} one', ('{{ include "x" . }}',)),
        ("plain", "plain", ()),
    ],
)  # fmt: skip
def test_paths_of_values_are_resolved_and_the_rest_is_named(text: str, expected: str, unknown: tuple[str, ...]) -> None:
    found = resolved(Quote(text, Spot(3)), DOCUMENT)
    assert (found.text, found.unknown, found.spot) == (expected, unknown, Spot(3))
    assert found.origin == ("unresolved" if unknown else "stated")


def test_values_that_hold_themselves_end() -> None:
    assert not resolved(Quote("{{ .Values.a.loop }}", Spot(1)), DOCUMENT).known


def test_whole_trees_keep_their_places() -> None:
    node = resolved_node(DOCUMENT.at("words"), DOCUMENT)
    assert [item.text for item in node.items[:2]] == ["4", "plain"]
    assert node.at(0).spot == DOCUMENT.at("words", 0).spot
    word = node.at(2, "k").quote()
    assert word is not None
    assert left_open(word).unknown == ("{{ .Release.Name }}",)
