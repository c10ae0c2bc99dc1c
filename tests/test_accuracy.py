"""The accuracy page is what the code says now, its bounds are kept, and no observation is passed over."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.memory import BOUNDS, Outcome, not_judged, outcomes, passes, rows, summary
from moeplan.engines import ENGINES
from moeplan.sources.engine_constants import engine_constants

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "data" / "observed-memory.yaml"


@pytest.fixture(scope="module")
def found() -> list[Outcome]:
    return outcomes()


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/accuracy.py", "page", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_bound_is_kept(found: list[Outcome]) -> None:
    kept = {judge: (count, ok) for judge, count, *_, ok in summary(found)}
    assert kept == {"weights": (9, True), "cache": (5, True), "end": (6, True)}
    assert passes(found)
    assert BOUNDS["weights"][1:] == (0.003, 0.01)
    assert BOUNDS["cache"][1:] == (0.005, 0.005)
    assert BOUNDS["end"][1:] == (0.5, 1.5)


def test_the_rows_that_count_are_these() -> None:
    counted = {
        judge: [row["id"][-3:] for row in rows() if row["judge"] == judge and row.get("counted", True)]
        for judge in BOUNDS
    }
    assert counted["weights"] == ["003", "007", "022", "026", "027", "028", "040", "042", "043"]
    assert counted["cache"] == ["003", "032", "039", "042", "043"]
    assert counted["end"] == ["001", "001", "021", "047", "048", "049"]


def test_nothing_that_ran_is_called_impossible(found: list[Outcome]) -> None:
    assert [each.row["id"] for each in found if each.contradicts] == []


def test_the_bounds_can_be_broken(found: list[Outcome]) -> None:
    worse = [each._replace(error=each.error + 0.02) if each.row["judge"] == "cache" else each for each in found]
    assert not passes(worse)
    assert not passes([each._replace(contradicts=True) for each in found])
    assert not passes([each._replace(error=1.0) if each.row["judge"] == "refused" else each for each in found])


def test_every_row_has_a_source_and_a_reason_where_it_does_not_count() -> None:
    for row in rows():
        assert row["source"], row["id"]
        assert row.get("counted", True) or row["because"], row["id"]
    assert all(not_judged().values())


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of observations does not lie beside the checkout")
def test_every_observation_is_judged_or_says_why_not() -> None:
    corpus = {row["id"]: row for row in yaml.safe_load(CORPUS.read_text(encoding="utf-8"))["rows"]}
    assert {row["id"] for row in rows()} | set(not_judged()) == set(corpus)
    fields = {"weights_gib": "weights_gib", "pool_gib": "available_kv_gib", "tokens": "kv_tokens"}
    for row in rows():
        theirs = corpus[row["id"]]["observed"]
        theirs = theirs["other_rank"] if row.get("rank") == "last" else theirs
        for mine, field in fields.items():
            if mine in row["observed"] and field in theirs:
                assert row["observed"][mine] == theirs[field], (row["id"], mine)


def test_constants_that_were_fitted_name_rows_that_exist() -> None:
    known = {row["id"] for row in rows()} | set(not_judged())
    for engine in ENGINES:
        for name, constant in engine_constants(engine).by_name.items():
            for row in constant.rows:
                if re.match(r"obs-d-\d", row):
                    assert row in known, (engine, name)


def test_tensorrt_llm_is_called_not_yet_measured() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert "**TensorRT-LLM**: not yet measured" in page
    assert not any(row["engine"] == "trtllm" for row in rows())
