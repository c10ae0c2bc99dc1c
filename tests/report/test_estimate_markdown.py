"""Markdown: well-formed tables, and names that cannot break out of their place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import moeplan
from moeplan.estimate.result import Estimate
from moeplan.report.estimate_markdown import estimate_markdown
from moeplan.report.markdown import code, escaped
from moeplan.report.words import verdict_words
from tests.golden.configs import BY_NAME

EVIL = "a|b `c` <img src=x onerror=y> [t](http://u) *s* __d__ $x$ &amp; # \\ ~~z~~ \x1b[1m\u202e\nnew | line |"


def asked(folder: Path, name: str, **options: object) -> Estimate:
    (folder / "config.json").write_text(json.dumps(BY_NAME[name]), encoding="utf-8")
    answer = moeplan.estimate(str(folder / "config.json"), **options)  # type: ignore[arg-type]
    assert isinstance(answer, Estimate)
    return answer


def tables(text: str) -> list[list[list[str]]]:
    """Tables of rows of cells; a pipe behind a backslash is no border."""
    found: list[list[list[str]]] = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            found.append([re.split(r"(?<!\\)\|", row)[1:-1] for row in block.splitlines()])
    return found


def cells(text: str, label: str) -> list[str]:
    rows = [[cell.strip() for cell in row] for table in tables(text) for row in table]
    return next(row for row in rows if row[0] == label)


@pytest.mark.parametrize("name", BY_NAME)
def test_tables_have_as_many_cells_in_every_row(name: str, tmp_path: Path) -> None:
    for options in ({}, {"gpu": "rtx-4090"}, {"gpu": "8xh200", "concurrency": 64}):
        text = estimate_markdown(asked(tmp_path, name, **options), explain=True)
        assert len(tables(text)) == 2
        for table in tables(text):
            assert {len(row) for row in table} == {len(table[0])}


def test_it_says_what_the_estimate_says(tmp_path: Path) -> None:
    answer = asked(tmp_path, "mixtral", gpu="h100-sxm")
    text = estimate_markdown(answer)
    assert text.startswith("## ")
    assert f"**{verdict_words(answer)}**" in text.splitlines()
    # mistralai/Mixtral-8x7B-v0.1: sum of the sizes of the tensors in its safetensors headers
    assert cells(text, "total") == ["total", "46.7B", "46,702,792,704"]
    assert cells(text, "active per token")[2] == f"{answer.parameters.active:,}"
    assert cells(text, "weights: routed experts")[1] == "84.0 GiB"  # 32 x 8 x 3 x 4096 x 14336 x 2 B
    assert cells(text, "CUDA graphs")[2:] != ["", ""]
    assert cells(text, "**missing**")[1].startswith("**")
    for way in answer.verdict.ways_out:
        assert f"`{way.change}`" in text
    for note in answer.notes:
        assert escaped(note.message) in text


def test_cards_convention_is_marked(tmp_path: Path) -> None:
    answer = asked(tmp_path, "mixtral")
    counts = answer.parameters._replace(card_convention="active_without_embedding")
    text = estimate_markdown(answer._replace(parameters=counts))
    assert "| active, without the embedding table (what the model's card counts) |" in text


def test_mtp_stands_beside_the_total(tmp_path: Path) -> None:
    answer = asked(tmp_path, "deepseek")
    assert cells(estimate_markdown(answer), "MTP layers, beside the total")[2] == f"{answer.parameters.mtp_unique:,}"


def test_explain_adds_formulas_and_sources(tmp_path: Path) -> None:
    answer = asked(tmp_path, "mixtral", gpu="h100-sxm")
    plain, explained = estimate_markdown(answer), estimate_markdown(answer, explain=True)
    for entry in answer.ranks[0].lines:
        assert code(entry.why.formula) in explained
        assert f"source: {escaped(entry.why.source)}" in explained
    assert "source:" not in plain


def test_names_stay_in_their_place(tmp_path: Path) -> None:
    answer = asked(tmp_path, "mixtral", gpu="rtx-4090")
    note = answer.notes[0]._replace(message=EVIL)
    rank = answer.ranks[0]
    lines = tuple(entry._replace(label=EVIL) for entry in rank.lines)
    evil = answer._replace(
        model=answer.model._replace(id=EVIL, family=EVIL),
        notes=(note,),
        ranks=(rank._replace(lines=lines),),
        verdict=answer.verdict._replace(
            reasons=(answer.verdict.reasons[0]._replace(message=EVIL),),
            ways_out=(answer.verdict.ways_out[0]._replace(change=f"--gpu 2x{EVIL}"),),
        ),
    )
    text, plain = estimate_markdown(evil), estimate_markdown(answer)
    assert text.replace("\n", "").isprintable()
    assert "<img" not in re.sub(r"(`+).*?\1(?!`)", "", text)  # HTML stands in code spans alone
    assert [len(row) for table in tables(text) for row in table] == [
        len(row) for table in tables(plain) for row in table
    ]
    assert text.count("\n## ") + text.startswith("## ") == 1
