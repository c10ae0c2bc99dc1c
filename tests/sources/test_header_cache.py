"""What is kept of the Hub between runs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.model import Remark
from moeplan.sources.hub.cache import HeaderCache, user_cache_folder
from moeplan.sources.hub.requests import Listing

COMMIT = "0123456789abcdef0123456789abcdef01234567"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tensors = st.builds(
    StoredTensor,
    name=texts,
    dtype=st.sampled_from(["BF16", "U8", "F8_E4M3"]),
    shape=st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
    num_bytes=st.integers(0, 2**50),
    file=st.sampled_from(["a.safetensors", "b.safetensors"]),
)
checkpoints = st.builds(
    Checkpoint,
    tensors=st.lists(tensors, max_size=6).map(tuple),
    files=st.sampled_from([(), ("b.safetensors", "a.safetensors"), ("a.safetensors",)]),
    metadata=st.dictionaries(texts, texts, max_size=2),
    remarks=st.lists(
        st.builds(Remark, texts, st.sampled_from(["info", "warning"]), texts, st.none() | texts), max_size=2
    ).map(tuple),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeaderCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return HeaderCache("org/model")


@given(checkpoint=checkpoints)
def test_a_checkpoint_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> None:
    kept = HeaderCache("org/model")
    kept.folder = tmp_path_factory.mktemp("cache")
    kept.keep_checkpoint(COMMIT, checkpoint)
    assert kept.trouble is None
    assert kept.checkpoint(COMMIT) == checkpoint


@given(checkpoint=checkpoints, place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_never_changes_the_answer(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint, place: int, byte: int
) -> None:
    kept = HeaderCache("org/model")
    kept.folder = tmp_path_factory.mktemp("cache")
    kept.keep_checkpoint(COMMIT, checkpoint)
    (path,) = (kept.folder / COMMIT).iterdir()
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data)
    assert kept.checkpoint(COMMIT) in (None, checkpoint)
    path.write_bytes(data[: place % len(data)])
    assert kept.checkpoint(COMMIT) is None


def test_names_do_not_lead_out_of_the_folder_nor_meet(cache: HeaderCache, tmp_path: Path) -> None:
    names = ["../../x", "a/b", "a--b", "a%2Fb", "..", ".", "a:b", "CON ", "ü" * 20, "", "~x"]
    for name in names:
        cache.keep_file(COMMIT, name, name.encode())
        cache.remember(name or None, COMMIT)
    assert [cache.file(COMMIT, name) for name in names] == [name.encode() for name in names]
    assert cache.trouble is None
    assert cache.folder is not None
    inside = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in inside} == {cache.folder / COMMIT, cache.folder / "refs"}
    assert len([path for path in inside if path.parent.name == COMMIT]) == len(names)
    assert HeaderCache("org/other").file(COMMIT, "a/b") is None


def test_what_is_no_listing_is_absent(cache: HeaderCache) -> None:
    listing = Listing(COMMIT, {"config.json": 3, "model.safetensors": None})
    assert cache.listing(COMMIT) is None
    cache.keep_listing(listing)
    assert cache.listing(COMMIT) == listing
    assert cache.folder is not None
    path = cache.folder / COMMIT / "files.json"
    for wrong in ("[]", "3", '{"a": "b"}', '{"a": 1.5}', "{", "\udcff", "[" * 100_000):
        path.write_bytes(wrong.encode("utf-8", "surrogateescape"))
        assert cache.listing(COMMIT) is None


def test_a_reference_has_an_age(cache: HeaderCache) -> None:
    assert cache.recall(None) is None
    cache.remember(None, COMMIT)
    recalled = cache.recall("main")
    assert recalled is not None
    assert recalled.commit == COMMIT
    assert 0 <= recalled.age_s < 60
    assert cache.recall("v1") is None
    assert cache.folder is not None
    path = cache.folder / "refs" / "main.json"
    wrong: tuple[object, ...] = (
        {"commit": COMMIT, "asked_at_s": time.time() + 1000},  # the clock was set back
        {"commit": "main", "asked_at_s": 0},
        {"commit": None, "asked_at_s": 0},
        {"commit": COMMIT, "asked_at_s": "yesterday"},
        [],
    )
    for kept in wrong:
        path.write_text(json.dumps(kept))
        assert cache.recall(None) is None


def test_what_cannot_be_kept_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = HeaderCache("org/model")
    assert cache.remarks() == ()
    cache.keep_file(COMMIT, "a", b"")
    cache.remember(None, COMMIT)
    assert cache.file(COMMIT, "a") is None
    (remark,) = cache.remarks()
    assert remark.code == "cache-not-written"
    assert remark.severity == "info"


def test_the_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for platform in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        assert user_cache_folder() == tmp_path / "xdg" / "moeplan"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_folder() == tmp_path / "Library" / "Caches" / "moeplan"
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache_folder() == tmp_path / ".cache" / "moeplan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_folder() == tmp_path / ".cache" / "moeplan"
