"""Constants by version: rows hold from a release on, unknown releases are told, and no constant stands without a source."""

from __future__ import annotations

import pytest
import yaml

from moeplan.core.deployment import version_key
from moeplan.core.errors import InputError
from moeplan.engines import ENGINES
from moeplan.sources.engine_constants import engine_constants, read_constants
from moeplan.sources.profile_folders import builtin_folder


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.9.2", "0.11.0"),
        ("0.11.2", "0.33"),
        ("b5466", "b7000"),
        ("0.5.9", "0.5.23"),
        ("1.0.0rc1", "1.1"),
        ("0.1", "1"),
    ],
)
def test_versions_are_compared_by_their_numbers(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


def test_a_version_is_the_same_however_it_is_written() -> None:
    assert version_key("v0.33.0") == version_key("0.33") == (0, 33)
    assert version_key("latest") == ()


def test_a_row_holds_from_its_release_on() -> None:
    # vLLM took 0.90 of the card until 2026 and 0.92 since; its sampler's peak fell with 0.17.
    for version, share in (("0.8.5", 0.9), ("0.19.0", 0.9), ("0.20", 0.92), ("0.33.0", 0.92), ("1.0", 0.92)):
        assert engine_constants("vllm", version).of("utilization_fraction").value == share
    old, new = (
        engine_constants("vllm", version).of("sampler_bytes_per_sequence_and_token_id") for version in ("0.16", "0.17")
    )
    assert old.value > new.value == 15.2


@pytest.mark.parametrize(
    ("asked", "taken"), [("0.13.0", "0.12.0"), ("0.1", "0.8.5"), ("0.40.1", "0.33.0"), ("0.19.1", "0.19.0")]
)
def test_an_unknown_version_is_taken_as_the_nearest_known_and_said(asked: str, taken: str) -> None:
    constants, (note,) = read_constants("vllm", asked)
    assert constants.version == asked
    assert note.code == "engine-version"
    assert asked in note.message
    assert taken in note.message


def test_a_known_version_needs_no_note() -> None:
    assert read_constants("vllm", "0.11.2")[1] == ()
    assert read_constants("vllm", "v0.33")[1] == ()
    assert read_constants("vllm")[1] == ()


def test_a_version_that_is_none_is_an_error() -> None:
    with pytest.raises(InputError, match="'latest' is no version of vllm"):
        engine_constants("vllm", "latest")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_constant_has_a_band_and_a_source_and_a_fit_has_rows_and_error(engine: str) -> None:
    text = (builtin_folder("engines") / f"{engine}.yaml").read_text(encoding="utf-8")
    constants = yaml.safe_load(text)["constants"]
    assert constants
    for name, entry in constants.items():
        for row in entry if isinstance(entry, list) else [entry]:
            assert row["low"] <= row["value"] <= row["high"], name
            assert len(row["source"]) > 20, name
            assert bool(row.get("rows")) == bool(row.get("error")), name
            if not row.get("rows"):
                # Without rows it was read in a source, or it is a guess that says so and has a band.
                read = any(word in row["source"] for word in (".py", ".cpp", ".h", "sources", "share", "script"))
                guess = "not yet measured" in row["source"] and row["low"] < row["high"]
                assert read or guess, f"{engine} {name}: neither read, nor fitted, nor called a guess"


def test_a_file_that_is_broken_is_told(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "vllm.yaml").write_text(
        'engine: vllm\nversion: "1.0"\nconstants:\n  x: {value: 2, low: 3, high: 4, source: "nowhere"}\n',
        encoding="utf-8",
    )
    monkeypatch.setattr("moeplan.sources.engine_constants.builtin_folder", lambda _kind: folder)
    with pytest.raises(InputError, match="value, low and high around it"):
        engine_constants("vllm")
