"""What is wrong with a question is said in one line, with a line of a way out, and exit code 2; nothing is planned by guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moeplan import cli
from tests.sources.gguf_files import converted, write
from tests.sources.gguf_models import MODELS

Said = tuple[int, str, str]
Go = Callable[..., Said]
CARD = ("--gpus", "l40s", "--max-gpus", "2")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Go:
    monkeypatch.chdir(tmp_path)

    def go(*words: str) -> Said:
        code = cli._run(["plan", *words, "--offline"])
        return code, *capsys.readouterr()

    return go


def refused(said: Said) -> tuple[str, str]:
    """What is wrong and the way out, after checking that nothing else was said."""
    code, out, err = said
    assert (code, out) == (2, ""), err
    what, way_out = err.splitlines()
    assert what.startswith("error: ")
    assert way_out.startswith(" hint: ")
    assert len(way_out) > len(" hint: ")
    return what, way_out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("olmoe", "--gpus", "h1000"), "h1000", "moeplan gpus"),
        (("olmoe", *CARD, "--engine", "ollamba"), "ollamba", "sglang"),
        (("olmoe", *CARD, "--engine", "transformers"), "no server", "vllm"),
        (("olmoe", *CARD, "--quant", "fp9"), "fp9", "fp8"),
        (("olmoe", *CARD, "--rank", "beauty"), "beauty", "throughput"),
        (("olmoe", *CARD, "--pools", "none"), "none", "together"),
        (("olmoe", *CARD, "--fallback", "fire"), "fire", "rank-lost"),
        (("olmoe", *CARD, "--emit", "helm"), "helm", "compose"),
        (("olmoe", "--gpus", "l40s", "--max-gpus", "0"), "--max-gpus 0", "--max-gpus 16"),
        (("olmoe", "--gpus", "l40s", "--max-gpus", "-3"), "--max-gpus -3", "--max-gpus 16"),
        (("olmoe", "--gpus", "l40s", "--max-gpus", "100000"), "4,096", "--max-gpus 16"),
        (("olmoe", *CARD, "--skew", "-1"), "--skew -1", "0.3"),
        (("olmoe", *CARD, "--skew", "nan"), "--skew nan", "0.3"),
        (("olmoe", *CARD, "--context", "0"), "--context", "32k"),
        (("olmoe", *CARD, "--input", "0"), "--input", "32k"),
        (("olmoe", *CARD, "--output", "0"), "--output", "32k"),
        (("olmoe", *CARD, "--concurrency", "0"), "--concurrency", "16"),
        (("olmoe", *CARD, "--input", "9" * 30), "--input", "32k"),
        (("olmoe", *CARD, "--context", "1k", "--input", "2k"), "--input 2,000", "--context 2001"),
        (("olmoe", *CARD, "--tpot", "0"), "--tpot", "30ms"),
        (("olmoe", *CARD, "--ttft", "soon"), "--ttft", "2s"),
        (("olmoe", *CARD, "--arrival", "10/s"), "arrival rate", "--tpot 50ms"),
        (("olmoe", *CARD, "--kv-dtype", "fp3"), "fp3", "fp8"),
        (("olmoe", *CARD, "--dense", "no-such-model"), "no-such-model", "moeplan models"),
        (("no-such-model", *CARD), "no-such-model", "moeplan models"),
        (("olmoe", *CARD, "--profiles", "nowhere"), "nowhere", "hardware/"),
        (("olmoe", *CARD, "--workload", "nowhere.yaml"), "nowhere.yaml", ""),
        (("olmoe", "--gpus", "amd-mi300x"), "amd-mi300x: the price is not known", "--rank gpus"),
        (("olmoe", "--gpus", "amd-mi300x,l40s"), "amd-mi300x: the price is not known", "price_usd_per_hour"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_named_with_a_way_out(words: tuple[str, ...], message: str, hint: str, run: Go) -> None:
    what, way_out = refused(run(*words))
    assert message in what
    assert hint in way_out


def test_percentiles_out_of_order(run: Go, tmp_path: Path) -> None:
    (tmp_path / "load.yaml").write_text(
        "schema: moeplan.workload/1\nclasses:\n- name: chat\n  share: 100%\n"
        "  input_tokens: {p50: 500, p95: 400, p99: 900}\n  output_tokens: 100\n",
        encoding="utf-8",
    )
    what, way_out = refused(run("olmoe", *CARD, "--workload", "load.yaml"))
    assert "load.yaml:5" in what
    assert "400" in what
    assert "order" in way_out


def test_a_broken_profile_of_ones_own(run: Go, tmp_path: Path) -> None:
    (tmp_path / "own" / "hardware").mkdir(parents=True)
    (tmp_path / "own" / "hardware" / "broken.yaml").write_text("schema: 1\nname: [x\n", encoding="utf-8")
    what, _ = refused(run("olmoe", "--gpus", "broken", "--max-gpus", "1", "--profiles", "own"))
    assert "broken.yaml" in what
    # Among all profiles it is counted and named, and the others are planned with.
    code, out, err = run("olmoe", "--max-gpus", "1", "--profiles", "own", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    rows = [row for row in found["rejected"] if "broken" in row["cards"]]
    assert [row["term"] for row in rows] == ["profile"]
    assert "broken.yaml" in rows[0]["message"]
    assert found["searched"]["cards"] > 5


def test_a_model_that_no_server_takes(run: Go) -> None:
    """An encoder with a decoder: every engine says no, and the engines' own words are there."""
    code, out, err = run("switch-base-8", "--gpus", "h100-sxm", "--max-gpus", "2", "--context", "512")
    assert (code, err) == (1, "")
    assert "switch_transformers" in out
    assert "try" in out


def test_devices_beyond_a_models_layers_are_no_layout_and_no_error(run: Go) -> None:
    """Twelve layers and the output: llama.cpp leaves the fourteenth device empty."""
    words = ("switch-base-8", "--gpus", "h100-sxm", "--engine", "llamacpp", "--context", "512", "--json")
    found = [run(*words, "--max-gpus", str(most)) for most in (13, 16)]
    assert [(code, err) for code, _, err in found] == [(1, ""), (1, "")]
    few, many = (json.loads(out)["searched"]["layouts"] for _, out, _ in found)
    assert few == many


def test_a_gguf_file_is_planned_as_it_is_stored(run: Go, tmp_path: Path) -> None:
    model = MODELS["llama"]
    shapes, _ = converted(model.config, model.architecture)
    write(tmp_path / "tiny.gguf", model.architecture, model.values, shapes)
    code, out, err = run("tiny.gguf", "--gpus", "l40s", "--max-gpus", "1", "--context", "256", "--json")
    assert code in (0, 3), err
    found = json.loads(out)
    assert found["model"]["source_kind"] == "gguf"
    assert found["searched"]["formats"] == 1
    for plan in (*found["frontier"], *found["unmeasured"]):
        assert plan["format_origin"] == "stored"
