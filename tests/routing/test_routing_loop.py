"""From a model that is trained here to a placement of its experts, with the commands alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moeplan import cli
from tests.report.schemas import Schema
from tests.routing.small_moe import EXPERTS, LAYERS, Language

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def go(*words: str) -> tuple[int, str, str]:
        code = cli._run(["routing", *words])
        return code, *capsys.readouterr()

    return go


def answer(run: Run, *words: str) -> Any:
    code, out, _ = run(*words, "--json")
    assert code == 0
    return json.loads(out)


def test_the_commands_follow_one_another(small_moe: Path, run: Run, tmp_path: Path) -> None:
    language = Language(3)
    rows = [("mixed", language.text(60, None)) for _ in range(12)] + [("rare", language.text(60, 7)) for _ in range(12)]
    rows.append(("mixed", "  "))
    prompts = "".join(json.dumps({"class": name, "text": text}) + "\n" for name, text in rows)
    (tmp_path / "prompts.jsonl").write_text(prompts, encoding="utf-8")

    asked = ["capture", str(small_moe), "--prompts", "prompts.jsonl", "--device", "cpu", "--max-new-tokens", "4"]
    captured = answer(run, *asked, "-o", "a.jsonl")
    assert Schema("routing-captured").complaints(json.dumps(captured)) == []
    assert (captured["captured"], captured["failed"], captured["complete"]) == (24, 1, True)
    code, out, _ = run(*asked, "-o", "a.jsonl")
    assert code == 0
    assert "0 of 25 prompts run, 0 tokens; 24 known already; 1 failed" in out

    report = answer(run, "report", "a.jsonl")
    assert Schema("routing-report").complaints(json.dumps(report)) == []
    assert report["uneven_layers"] == LAYERS
    for layer in report["layers"]:
        assert layer["load_cv"] > layer["load_cv_floor"]
        assert layer["overlap"][0]["fraction"] > 2 * layer["overlap"][0]["chance_fraction"]
        assert layer["in_sequence"][3]["distinct"] < layer["across"][3]["distinct"] < layer["across"][3]["uniform"]
    assert any("empty" in note["message"] for note in report["notes"])

    for name in ("mixed", "rare"):
        assert answer(run, "report", "a.jsonl", "--class", name)["selection"]["prompt_class"] == name
    assert run("profile", "a.jsonl", "-o", "a.yaml")[0] == 0

    # The same prompts in another precision: nearly all tokens keep their experts.
    assert answer(run, *asked, "--dtype", "bfloat16", "-o", "b.jsonl")["captured"] == 24
    drift = answer(run, "drift", "a.jsonl", "b.jsonl")
    assert Schema("routing-drift").complaints(json.dumps(drift)) == []
    assert drift["agreement"]["prompts"] == 24
    assert 0.8 < drift["agreement"]["equal_fraction"] < 1

    placed = answer(run, "place", "a.yaml", "--ranks", "4", "--redundant", "4", "--live", "b.jsonl")
    assert Schema("routing-placement").complaints(json.dumps(placed)) == []
    assert placed["live"]["mean"] > placed["live_before"]["mean"]
    for layer in placed["layers"]:
        assert {expert for rank in layer["experts_by_rank"] for expert in rank} == set(range(EXPERTS))
