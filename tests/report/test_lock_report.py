"""What `moeplan lock` says: a line for each model, how the file stands, and the same as JSON by its schema."""

from __future__ import annotations

from typing import get_args

import pytest

from moeplan.lock import SCHEMA, Change, Lock, LockedModel, Removed, Unlocked
from moeplan.report.as_json import as_json
from moeplan.report.lock_markdown import lock_markdown
from moeplan.report.lock_table import lock_table
from tests.report.check_examples import COMMIT, EVIL
from tests.report.ci_logs import commands, foreign_commands
from tests.report.schemas import Schema, changed, without

RESULT = Schema("lock-result")


def lock(**other: object) -> Lock:
    values: dict[str, object] = {
        "schema": SCHEMA, "path": "moeplan.lock", "stale": False, "written": False, "models": (), "removed": (),
        "unlocked": (), "not_known": 0,
    }  # fmt: skip
    return Lock(**(values | other))  # type: ignore[arg-type]


MODELS = (
    LockedModel("org/large", COMMIT, COMMIT, "headers", 93_405_585_408, "added"),
    LockedModel("org/small", None, None, "catalogue", None, "kept"),
)
UNREAD = Unlocked("org/gone", "main", "org/gone: no such repository", "check the name with `moeplan models`")
ALL = lock(written=True, models=MODELS, removed=(Removed("org/old", None),), unlocked=(UNREAD,), not_known=1)


def shown(made: Lock, width: int = 100, *, color: bool = False) -> str:
    return lock_table(made, width=width, color=color, unicode=True)


def test_a_line_for_each_model_then_how_the_file_stands() -> None:
    assert shown(ALL, 200).splitlines() == [
        f"added    org/large@{COMMIT}  commit {COMMIT[:12]}, 93,405,585,408 B by its headers",
        "kept     org/small  from the catalogue",
        "removed  org/old",
        "not read org/gone@main: org/gone: no such repository; check the name with `moeplan models`",
        "1 deployment names no model that is known; `moeplan check` tells why",
        "moeplan.lock is written: 2 models",
    ]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lock(models=MODELS[:1]), "is as it should be: 1 model"),
        (lock(models=MODELS, stale=True), "is stale: `moeplan lock` writes it anew"),
        (lock(written=True), "is written: 0 models"),
        (lock(), "is not needed: nothing can be locked"),
    ],
)
def test_how_the_file_stands(made: Lock, told: str) -> None:
    assert shown(made).splitlines()[-1] == f"moeplan.lock {told}"
    assert lock_markdown(made).splitlines()[-1] == f"- moeplan.lock {told}"


@pytest.mark.parametrize("width", [40, 80])
def test_it_keeps_its_width_and_has_colour_where_asked(width: int) -> None:
    rows = shown(ALL, width).splitlines()
    # Words that are longer than a row have one of their own.
    assert all(len(row) <= width or " " not in row.strip() for row in rows)
    assert "\x1b[" not in shown(ALL, width)
    assert "\x1b[" in shown(ALL, width, color=True)


def test_names_break_out_of_nothing() -> None:
    evil = Unlocked(EVIL, EVIL, EVIL, EVIL)
    made = lock(path=EVIL, models=(MODELS[1]._replace(model=EVIL),), removed=(Removed(EVIL, EVIL),), unlocked=(evil,))
    for text in (shown(made), lock_markdown(made), as_json(made)):
        assert commands(text) == []
        assert foreign_commands(text) == []
    assert all(line.startswith("- ") for line in lock_markdown(made).splitlines())


@pytest.mark.parametrize("made", [ALL, lock(), lock(stale=True)])
def test_the_schema_describes_the_answer(made: Lock) -> None:
    assert RESULT.complaints(as_json(made)) == []


def test_it_has_the_fields_and_words_of_the_types() -> None:
    for path, record in (
        ((), Lock),
        (("models", "*"), LockedModel),
        (("removed", "*"), Removed),
        (("unlocked", "*"), Unlocked),
    ):
        RESULT.must_describe(path, record)
    assert RESULT.at("models", "*")["properties"]["change"]["enum"] == list(get_args(Change))


def test_it_refuses_what_is_not_so() -> None:
    text = as_json(ALL)
    assert RESULT.complaints(without(text, "stale"))
    for path, value in (
        (("models", 0, "change"), "moved"),
        (("models", 0, "checkpoint_bytes"), -1),
        (("not_known",), None),
        (("surprise",), 1),
    ):
        assert RESULT.complaints(changed(text, path, value)), path
