"""The table as people paste it: no cut figure, no wrapped cell, columns in line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import moeplan
from moeplan.core.errors import MoeplanError
from moeplan.core.ledger import total_bytes
from moeplan.core.units import GIB
from moeplan.estimate.result import Estimate
from moeplan.report.estimate_table import estimate_table
from moeplan.report.words import band_words, reach_words, verdict_words
from tests.golden.configs import BY_NAME


def asked(folder: Path, name: str, **options: object) -> Estimate:
    (folder / "config.json").write_text(json.dumps(BY_NAME[name]), encoding="utf-8")
    answer = moeplan.estimate(str(folder / "config.json"), **options)  # type: ignore[arg-type]
    assert isinstance(answer, Estimate)
    return answer


def table(estimate: Estimate, width: int = 80) -> str:
    return estimate_table(estimate, width=width, color=False, unicode=True)


def ledger(text: str) -> list[str]:
    """The rows of the ledger, with its head."""
    rows = text.splitlines()
    first = next(number for number, row in enumerate(rows) if row.rstrip().endswith("basis"))
    return rows[first : rows.index("", first)]


@pytest.mark.parametrize("gpu", ["h100-sxm", "8xh200", "rtx-4090", "16xl40s"])
@pytest.mark.parametrize("name", BY_NAME)
def test_no_cell_is_cut_or_wrapped_at_80_columns(name: str, gpu: str, tmp_path: Path) -> None:
    answer = asked(tmp_path, name, gpu=gpu, concurrency=1000)
    text = table(answer)
    rows = ledger(text)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    ends = {match.end() for row in rows[1:] if (match := re.search(r"\d (GiB|MiB|KiB|B)", row))}
    assert len(ends) == 1  # sizes stand under each other
    bases = [row for row in rows if row.endswith(("derived", "assumed", "measured", "exact", "basis"))]
    starts = {row.rindex(" ") for row in bases}
    assert len(starts) == 1
    # one row per line, needed, may use, left: nothing wrapped into a second row
    assert len(rows) <= 1 + len(answer.ranks[0].lines) + 3


@pytest.mark.parametrize("width", [40, 50, 60, 70])
@pytest.mark.parametrize("name", BY_NAME)
def test_figures_stay_whole_on_a_narrow_page(name: str, width: int, tmp_path: Path) -> None:
    answer = asked(tmp_path, name, gpu="2xh200")
    text = table(answer, width)
    assert max(map(len, text.splitlines())) <= width
    for row in ledger(text)[1:]:
        assert re.search(r"\d (GiB|MiB|KiB|B)( |$)", row), row


def test_tables_of_the_whole_corpus_fit_80_columns(shared: Path) -> None:
    for path in sorted((shared / "model-configs").glob("*.json")):
        try:
            answer = moeplan.estimate(str(path), gpu="8xh200", context=4096, concurrency=64)
        except MoeplanError:
            continue  # whether it can be read is another test's question
        text = table(answer)
        assert "…" not in text, path.name
        assert max(map(len, text.splitlines())) <= 80, path.name


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    rank = asked(tmp_path, "deepseek", gpu="8xh200").ranks[0]
    rows = ledger(table(asked(tmp_path, "deepseek", gpu="8xh200")))
    units = {"GiB": GIB, "MiB": 2**20, "KiB": 2**10, "B": 1}
    figures = [(row, re.search(r"([\d,]+\.?\d*) (GiB|MiB|KiB|B)", row)) for row in rows[1:]]
    sizes = [float(found[1].replace(",", "")) * units[found[2]] for _, found in figures if found]
    *lines, needed, budget, left = sizes
    assert needed == pytest.approx(total_bytes(rank.lines), abs=0.06 * GIB)
    assert sum(lines) == pytest.approx(needed, abs=0.06 * GIB * len(sizes))
    sign = 1 if any(row.startswith("free") for row in rows) else -1
    assert budget - needed == pytest.approx(sign * left, abs=0.2 * GIB)


def test_bars_are_as_long_as_their_share(tmp_path: Path) -> None:
    rows = ledger(table(asked(tmp_path, "mixtral", gpu="4xh200"), 100))
    bars = {row.split("  ")[0]: row.count("█") * 2 + row.count("▌") for row in rows}
    assert bars["weights: routed experts"] == max(bars.values())
    assert sum(bars.values()) <= 2 * 16 + len(bars) / 2  # all lines together fill at most the budget


def test_ascii_alone_where_the_terminal_knows_no_more(tmp_path: Path) -> None:
    answer = asked(tmp_path, "gpt-oss", gpu="rtx-4090")
    assert estimate_table(answer, width=80, color=False, unicode=False, explain=True).isascii()


def test_memory_that_is_missing_is_said_in_words(tmp_path: Path) -> None:
    text = table(asked(tmp_path, "mixtral", gpu="rtx-4090"))
    assert "DOES NOT FIT" in text
    assert "missing" in text
    assert "It fits with any one of" in text
    assert "room: for no sequence" in text
    assert "of 0 tokens" not in text


def test_memory_that_is_not_certain_is_said_in_words(tmp_path: Path) -> None:
    answer = asked(tmp_path, "gpt-oss", gpu="intel-gaudi3")
    assert answer.hardware is not None
    if answer.verdict.fits and not answer.verdict.certain:
        assert "FITS, PROBABLY" in table(answer)
    else:
        pytest.skip("the profile is certain by now")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 0, ""),
        (5 * GIB, 5 * GIB, ""),
        (GIB // 2, 2 * GIB, "0.5 – 2.0 GiB"),
        (60 * 2**20, 2 * GIB, "0.1 – 2.0 GiB"),  # 60 MiB is 0.06 GiB, not "60.0"
        (0, 50 * 2**20, "0.0 – 50.0 MiB"),
        (512, 2048, "0.5 – 2.0 KiB"),
        (GIB, GIB + 40 * 2**20, "about 1.0 GiB"),  # 1.04 GiB reads as 1.0 too
        (GIB, GIB + 60 * 2**20, "1.0 – 1.1 GiB"),
        (5 * 2**20, 5 * 2**20 + 1, "about 5.0 MiB"),
    ],
)
def test_band_is_in_one_unit(low: int, high: int, words: str) -> None:
    assert band_words(low, high) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (GIB, 3 * GIB, "FITS, PROBABLY: 2.0 GiB left (between 1.0 GiB and 3.0 GiB)"),
        (2 * GIB - 2**20, 2 * GIB + 2**20, "FITS, PROBABLY: about 2.0 GiB left"),
        (-GIB, 3 * GIB, "FITS, PROBABLY: 2.0 GiB left (between 1.0 GiB missing and 3.0 GiB)"),
    ],
)
def test_a_band_that_reads_alike_at_both_ends_is_one_value(low: int, high: int, words: str, tmp_path: Path) -> None:
    answer = asked(tmp_path, "gpt-oss", gpu="rtx-4090")
    rank = answer.ranks[0]._replace(free_bytes=2 * GIB, free_low_bytes=low, free_high_bytes=high)
    verdict = answer.verdict._replace(fits=True, certain=False)
    guess = answer._replace(ranks=(rank, *answer.ranks[1:]), verdict=verdict)
    assert verdict_words(guess) == words
    assert verdict_words(guess._replace(verdict=verdict._replace(certain=True))) == "FITS: 2.0 GiB left"


def test_three_truths_of_windows_are_named_and_one_is_used(tmp_path: Path) -> None:
    told = " ".join(reach_words(asked(tmp_path, "gpt-oss", gpu="rtx-4090")))
    for name in ("ideal", "engine's hybrid manager", "manager off", "the line KV cache is"):
        assert name in told
    # 24 layers, half of them windows, 2 x 8 heads x 64 x 2 B per layer and token
    assert f"{12 * 2 * 8 * 64 * 2:,} B per token" in told
    assert f"{24 * 2 * 8 * 64 * 2:,} B per token" in told


@pytest.mark.parametrize("width", [40, 60, 80, 99, 100, 101, 120])
def test_no_dot_stands_alone_or_begins_a_line(width: int) -> None:
    flags = ["--tensor-parallel-size", "8", "--enable-expert-parallel", "--max-model-len", "32K"]
    for answer in (
        moeplan.estimate("deepseek-v3", gpu="h200", engine_args=flags, offline=True),
        moeplan.estimate("qwen3-30b-a3b", gpu="h100", offline=True),
    ):
        head = table(answer, width).split("\n\n")[0].splitlines()
        assert not [line for line in head if line.lstrip().startswith("·")]
        assert max(map(len, head)) <= width
