"""Figures beside those of an older run: changed where the spreads do not meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import InputError
from moeplan.core.measurement import MeasuredDevice
from moeplan.profile.block import is_run
from moeplan.profile.changes import BAND, BANDS, against, changes, older_block
from moeplan.profile.result import Figure
from moeplan.sources.hardware_profiles import read_hardware

DEVICE = MeasuredDevice("cpu", "A CPU", "2.13.0", *(None,) * 12)
SPREAD = {"value": 100.0, "low": 90.0, "high": 110.0}


def block(figures: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "profile", "date": "2026-01-01", "device": {"name": "A CPU"}, "figures": figures, **more}


def rate(name: str, low: float, value: float, high: float) -> Figure:
    return Figure(name, name, "bytes/s", value, low, high, "")


@pytest.mark.parametrize(
    ("low", "value", "high", "changed"),
    [
        (95.0, 104.0, 112.0, False),
        (109.0, 115.0, 120.0, False),  # they overlap by a little: nothing to be said
        (110.0, 115.0, 120.0, False),  # they touch
        (110.1, 115.0, 120.0, True),
        (75.0, 80.0, 89.9, True),
        (75.0, 80.0, 90.0, False),
    ],
)
def test_changed_is_where_the_spreads_do_not_meet(low: float, value: float, high: float, changed: bool) -> None:
    (found,) = changes(block({"read": SPREAD}), [rate("read", low, value, high)])
    assert (found.beyond_noise, found.band_fraction) == (changed, None)
    assert found.change == pytest.approx(value / 100 - 1)


@pytest.mark.parametrize(("source", "same"), [("loop, tokens 1", True), ("loop, tokens 64", False), (None, False)])
def test_a_figure_of_another_case_says_so(source: str | None, same: bool) -> None:
    (found,) = changes(
        block({"read": SPREAD | {"source": source}}), [rate("read", 1.0, 2.0, 3.0)._replace(source="loop, tokens 1")]
    )
    assert found.same_case is same


@pytest.mark.parametrize(
    "old",
    [
        {"value": 100.0},
        {"value": 100.0, "low": 100.0, "high": 100.0},
        {"value": 100.0, "low": None, "high": 110.0},
        {"value": 100.0, "low": 120.0, "high": 130.0},  # nonsense of somebody's
        {"value": 100, "low": "90", "high": True},
    ],
)
def test_a_band_stands_for_a_spread_that_is_not_known(old: dict[str, Any]) -> None:
    within, beyond = 100 * (1 + BAND) - 0.5, 100 * (1 + BAND) + 0.5
    (found,) = changes(block({"read": old}), [rate("read", within, 115.0, 120.0)])
    assert (found.beyond_noise, found.band_fraction) == (False, BAND)
    (found,) = changes(block({"read": old}), [rate("read", beyond, 115.0, 120.0)])
    assert found.beyond_noise


@pytest.mark.parametrize(("value", "changed"), [(101.9e6, False), (102.1e6, True), (97.9e6, True)])
def test_bytes_that_are_read_once_have_a_narrow_band(value: float, changed: bool) -> None:
    # 1 % to each side of 100 MB ends at 101 MB, where 1 % below 102.02 MB begins.
    old = {"context_bytes": {"value": 100e6, "low": 100e6, "high": 100e6}}
    (found,) = changes(block(old), [Figure("context_bytes", "context", "bytes", value, value, value, "")])
    assert (found.beyond_noise, found.band_fraction) == (changed, BANDS["bytes"])


@pytest.mark.parametrize(
    "figures",
    [None, [], "text", {}, {"read": None}, {"read": {}}, {"read": {"value": 0}}, {"read": {"value": float("nan")}},
     {"read": {"value": float("inf")}}, {"read": {"value": "fast"}}, {"other": SPREAD}],
)  # fmt: skip
def test_what_is_no_figure_is_not_compared(figures: Any) -> None:
    assert changes(block(figures), [rate("read", 1.0, 2.0, 3.0)]) == ()


def test_the_older_run_is_named_and_counted() -> None:
    told = {"name": "A CPU", "torch_version": "2.9.0", "driver_version": "570.1"}
    older = block({"a": SPREAD, "b": SPREAD}, time="01:02:03Z", tool="moeplan 0") | {"device": told}
    found = against("mine", older, changes(older, [rate("a", 1.0, 2.0, 3.0), rate("b", 95.0, 100.0, 105.0)]))
    assert found == ("mine", "2026-01-01", "01:02:03Z", "moeplan 0", "2.9.0", "570.1", 1, 1)
    assert against("mine", block({}), ())[:6] == ("mine", "2026-01-01", None, None, None, None)


def test_an_older_profile_must_be_of_this_device(tmp_path: Path) -> None:
    path = tmp_path / "older.yaml"
    blocks = "- {kind: profile, date: '2026-01-01', time: 02:00:00Z, device: {name: A CPU}, tool: second}\n"
    blocks += "- {kind: profile, date: '2026-01-01', time: 01:00:00Z, device: {name: A CPU}, tool: first}\n"
    path.write_text(f"schema: 1\nname: A CPU\nmeasured:\n{blocks}", encoding="utf-8")
    assert older_block(read_hardware(path), DEVICE)["tool"] == "second"  # of one day the latest time
    with pytest.raises(InputError, match="was measured on A CPU, and this is B"):
        older_block(read_hardware(path), DEVICE._replace(name="B"))
    path.write_text("schema: 1\nname: A CPU\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no block"):
        older_block(read_hardware(path), DEVICE)


def test_a_run_is_known_by_its_time_or_by_its_very_figures() -> None:
    one = block({"read": SPREAD, "copy": SPREAD}, time="01:02:03Z")
    same, near = rate("read", 90.0, 100.0, 110.0), rate("copy", 90.0, 100.000001, 110.0)
    assert is_run(one, [near], "2026-01-01T01:02:03Z")
    assert is_run(one, [same], "2026-01-02T00:00:00Z")
    assert not is_run(one, [same, near], "2026-01-02T00:00:00Z")
    assert not is_run(one, [rate("other", 1.0, 2.0, 3.0)], "2026-01-02T00:00:00Z")
    assert not is_run(block(None), [], "2026-01-02T00:00:00Z")
