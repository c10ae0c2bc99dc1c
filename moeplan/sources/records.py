"""Records read back: `moeplan.record/1`, checked to the last key."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.record import SCHEMA, Figure, Record
from moeplan.core.record_figures import FIGURES, SIGNED, below_a_lower_percentile
from moeplan.sources.strict_json import json_object, read_ordinary
from moeplan.sources.strict_yaml import shown
from moeplan.sources.typed_json import typed

PAGE = "docs/records.md"
MOST_BYTES = 8 << 20
"""A record of 600B parameters under a load has some 30 KiB."""

_MAKE = "make one with `moeplan record MODEL ... -o FILE`"
_ANEW = "was it changed by hand, or cut short? make it anew with `moeplan record MODEL ... -o FILE`"


def read_record(path: str | Path) -> Record:
    """The record in a file. Raises InputError for whatever is none, is of another version, or is not as it was written."""
    path = Path(path)
    if not str(path).strip(" ."):
        raise InputError("no record was named", hint=_MAKE)
    data = read_ordinary(path, MOST_BYTES, hint=_MAKE, large_hint="name a record of moeplan")
    where = str(path)
    block = json_object(data, where, PAGE)
    schema = block.raw("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("moeplan.record/"):
            raise InputError(f"{where} is a {schema[:40]}, and this moeplan reads {SCHEMA}", hint="update moeplan")
        what = "has no `schema`" if schema is None else f"is of the schema {shown(schema)}"
        raise InputError(f"{where} is no record: it {what}", hint=_MAKE)
    record = typed(Record, block.values, where, _ANEW)
    _check(record, where)
    return record


def _check(record: Record, where: str) -> None:
    """What types do not tell."""
    if not is_date(record.date):
        raise _wrong(where, "date", f"is {shown(record.date)}, no year, month and day")
    for part, figures in (("estimates", record.estimates.figures), ("measured", record.measured.figures)):
        seen: set[str] = set()
        for figure in figures:
            _check_figure(figure, f"{part}.figures", seen, where)
        wrong = below_a_lower_percentile({figure.name: figure.value for figure in figures})
        if wrong is not None:
            raise _wrong(where, f"{part}.figures", f"has {wrong[0]} below {wrong[1]}")
    names = [score.name for score in record.quality]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _wrong(where, "quality", f"has the score {shown(twice)} twice")
    if record.price is not None and not 0 < record.price.low_usd_per_hour <= record.price.high_usd_per_hour:
        raise _wrong(where, "price", "has no lowest and highest price above 0")
    layout = record.layout
    if min(layout.tp, layout.pp, layout.dp, layout.ep, layout.dcp, layout.num_nodes, layout.num_gpus) < 1:
        raise _wrong(where, "layout", "has a degree below 1")


def _check_figure(figure: Figure, key: str, seen: set[str], where: str) -> None:
    if figure.name not in FIGURES:
        raise _wrong(where, key, f"has {shown(figure.name)}, which is no figure that moeplan knows")
    if figure.name in seen:
        raise _wrong(where, key, f"has {figure.name} twice")
    seen.add(figure.name)
    if figure.value < 0 and figure.name not in SIGNED:
        raise _wrong(where, key, f"has {figure.name} below zero: {figure.value:g}")
    if FIGURES[figure.name].unit == "fraction" and figure.value > 1:
        raise _wrong(where, key, f"has {figure.name} above 1: {figure.value:g}")
    if (figure.low is None) != (figure.high is None):
        raise _wrong(where, key, f"has one end of the band of {figure.name}")
    if figure.low is not None and figure.high is not None and not figure.low <= figure.value <= figure.high:
        raise _wrong(where, key, f"has {figure.name} outside of its own band")


def _wrong(where: str, key: str, problem: str) -> InputError:
    return InputError(f"{where}: `{key}` {problem}", hint=_ANEW)


def is_date(text: str) -> bool:
    """True for a year, month and day with dashes."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
