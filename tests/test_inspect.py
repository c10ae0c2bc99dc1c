"""`gpus` and `models`: everything is listed, names are found, and the tables are clean on any page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.units import GIB
from moeplan.inspect import gpus, models
from moeplan.report.as_json import as_json
from moeplan.report.gpus_markdown import gpus_markdown
from moeplan.report.gpus_table import gpus_table
from moeplan.report.gpus_words import gpu_figures
from moeplan.report.models_markdown import models_markdown
from moeplan.report.models_table import models_table
from moeplan.sources.profile_folders import builtin_folder

NAMES = sorted(path.stem for path in builtin_folder("hardware").glob("*.yaml"))


# Verbs ------------------------------------------------------------------------------------------------------


def test_every_profile_and_every_model_is_listed() -> None:
    assert len(gpus().gpus) == len(list(builtin_folder("hardware").glob("*.yaml"))) >= 53
    assert len(models().models) == len(list(builtin_folder("models").glob("*.yaml"))) >= 60
    assert not gpus().notes
    assert not models().notes


def test_one_device_as_a_flag_would_read_it() -> None:
    result = gpus("h100")
    (gpu,) = result.gpus
    assert gpu.profile == "nvidia-h100-sxm"
    assert gpu.nominal_bytes == 80 * GIB
    assert any("it could also be" in note.message for note in result.notes)
    assert [found.profile for found in gpus("4xH100-SXM").gpus] == ["nvidia-h100-sxm"]


@pytest.mark.parametrize("name", NAMES)
def test_every_known_figure_has_a_source(name: str) -> None:
    (gpu,) = gpus(name).gpus
    figures = gpu_figures(gpu)
    assert [each.label for each in figures if each.value != "unknown" and not each.sources] == []
    assert [each.label for each in figures if each.value == "unknown" and each.sources] == []


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown GPU 'h10O'") as caught:
        gpus("h10O")
    assert "nvidia-h100" in caught.value.hint
    with pytest.raises(InputError, match="no model matches 'mixtrall'") as caught:
        models("mixtrall")
    assert "mixtral" in caught.value.hint


def test_search_wants_every_word() -> None:
    found = {model.id for model in models("qwen3 NVFP4").models}
    assert "nvidia/Qwen3-235B-A22B-NVFP4" in found
    assert all("Qwen3" in name and "NVFP4" in name for name in found)
    assert {model.num_experts for model in models("dense").models} == {None}
    assert "openai/gpt-oss-120b" in {model.id for model in models("mxfp4").models}


def test_figures_of_a_model() -> None:
    (model,) = models("mixtral-8x7b-v0.1").models
    assert (model.total, model.active) == (46_702_792_704, 12_879_925_248)
    assert (model.num_experts, model.experts_per_token, model.num_layers) == (8, 2, 32)
    assert model.provenance == "published"
    assert model.path is None


def test_own_profiles_are_listed_and_broken_ones_are_noted(tmp_path: Path) -> None:
    for kind in ("hardware", "models"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "broken.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    (tmp_path / "hardware" / "mine.yaml").write_text(
        "name: Mine\nmemory: {nominal_bytes: 1073741824}\n", encoding="utf-8"
    )
    devices = gpus(profiles=[tmp_path])
    assert [gpu.path for gpu in devices.gpus if gpu.path] == [str(tmp_path / "hardware" / "mine.yaml")]
    assert [note.where for note in devices.notes] == [str(tmp_path / "hardware" / "broken.yaml")]
    assert [note.where for note in models(profiles=[tmp_path]).notes] == [str(tmp_path / "models" / "broken.yaml")]


# Tables -----------------------------------------------------------------------------------------------------


def _tables(width: int, *, unicode: bool = True, color: bool = False) -> dict[str, str]:
    drawn = {name: gpus_table(gpus(name), width=width, color=color, unicode=unicode, detailed=True) for name in NAMES}
    drawn["gpus"] = gpus_table(gpus(), width=width, color=color, unicode=unicode, detailed=False)
    drawn["models"] = models_table(models(), width=width, color=color, unicode=unicode)
    return drawn


@pytest.mark.parametrize("width", [80, 100, 132, 200])
def test_no_line_is_wider_than_the_page_and_no_cell_is_cut(width: int) -> None:
    for name, text in _tables(width).items():
        assert max(map(len, text.splitlines())) <= width, name
        assert "…" not in text, name
        assert all(line == line.rstrip() for line in text.splitlines()), name


def test_a_listing_has_one_line_per_row() -> None:
    for width in (80, 200):
        tables = _tables(width)
        assert tables["gpus"].split("\n\n")[0].count("\n") == len(gpus().gpus)
        assert tables["models"].split("\n\n")[0].count("\n") == len(models().models)


def test_narrow_pages_lose_columns_before_figures() -> None:
    assert "weights" in _tables(120)["models"].splitlines()[0]
    narrow = _tables(50)
    for name in ("gpus", "models"):
        assert max(map(len, narrow[name].splitlines())) <= 50
    assert narrow["models"].splitlines()[0].split() == ["model", "total", "active"]


def test_plain_pages_are_ascii_without_colour() -> None:
    for text in _tables(80, unicode=False).values():
        assert text.isascii()
    assert "\x1b[" not in _tables(80)["models"]
    assert "\x1b[" in _tables(80, color=True)["models"]


def test_unknown_is_a_word_or_a_dash_and_never_a_nought() -> None:
    row = next(line for line in _tables(80)["gpus"].splitlines() if line.startswith("apple-m3-ultra "))
    assert row.split()[3:] == ["–", "–", "–", "–"]
    assert "memory bandwidth" in _tables(80)["apple-m3-ultra"]
    assert "unknown" in next(line for line in _tables(80)["apple-m3-ultra"].splitlines() if "bandwidth" in line)


def test_models_that_are_not_the_published_config_are_marked() -> None:
    rows = dict(line.split()[:2] for line in _tables(200)["models"].splitlines()[1:] if "/" in line.split(" ")[0])
    assert rows["mistralai/Mixtral-8x7B-v0.1"] == "46.7B"
    assert rows["mistralai/Mixtral-8x22B-v0.1"] == "~140.6B"


def test_markdown_tables_are_square() -> None:
    texts = (
        gpus_markdown(gpus(), detailed=False),
        gpus_markdown(gpus("h100"), detailed=True),
        models_markdown(models()),
    )
    for text in texts:
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) > 10
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_text_from_a_file_cannot_draw_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text('name: "A\\e[31mB|C"\nvendor: "x\\n|y"\n', encoding="utf-8")
    result = gpus("mine", [tmp_path])
    assert "\x1b" not in gpus_table(result, width=80, color=False, unicode=True, detailed=True)
    assert "\\|C" in gpus_markdown(result, detailed=True)


MEASURED = """\
name: Mine
memory: {nominal_bytes: 85899345920}
memory_bandwidth_bytes_per_s: 4000000000000
sources: {specification: [data sheet]}
measured:
- kind: profile
  date: 2026-03-01
  tool: moeplan 0
  method: moeplan profile, effort quick
  device: {name: Mine, torch_version: "2.10.0", driver_version: "570.1"}
  figures:
    copy_bytes_per_s: {value: 1.0e+12, low: 1.0e+12, high: 1.0e+12, unit: bytes/s, source: torch}
    context_bytes: {value: 536870912, low: 536870912, high: 536870912, unit: bytes, source: torch}
- kind: profile
  date: 2026-03-02
  time: "12:30:00Z"
  tool: moeplan 0
  method: moeplan profile, effort full
  device: {name: Mine, torch_version: "2.11.0", driver_version: "580.1"}
  figures:
    copy_bytes_per_s: {value: 3.0e+12, low: 2.85e+12, high: 3.03e+12, unit: bytes/s, source: torch}
    router_softmax_zero_experts_64_tokens_s: {value: 4.0e-5, low: 3.0e-5, high: 5.0e-5, unit: s, source: torch}
  kernels:
  - {backend: torch.grouped_mm, dtype: bfloat16, num_fitted: 40, num_held: 9, median_error: 0.051, worst_error: 0.5,
     r_squared_distinct: 0.99}
"""


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text(MEASURED, encoding="utf-8")
    return tmp_path


def test_what_was_measured_stands_beside_the_specification(measured: Path) -> None:
    text = gpus_table(gpus("mine", [measured]), width=80, color=False, unicode=True, detailed=True)
    rows = [line.split() for line in text.splitlines()]
    # 3 of 4 TB/s; the slow repeats 5 % below, the fast ones 1 % above.
    assert ["memory,", "copy", "3,000.0", "GB/s", "75%", "-5.0", "+1.0%", "2"] in rows
    assert ["context", "and", "libraries", "0.50", "GiB", "3"] in rows
    assert ["torch.grouped_mm", "bfloat16", "5.1%", "50.0%", "0.990", "2"] in rows
    assert "[2] 2026-03-02 12:30:00Z · moeplan 0 · effort full · torch 2.11.0 · driver 580.1" in text
    assert "[3] 2026-03-01 · moeplan 0 · effort quick · torch 2.10.0 · driver 570.1" in text
    assert "measured by moeplan profile" not in _tables(80)["nvidia-h100-sxm"]
    shown = gpus_markdown(gpus("mine", [measured]), detailed=True)
    assert "| memory, copy | 3,000.0 GB/s | 75% | -5.0 +1.0% | 2 |" in shown
    assert "2. 2026-03-02 12:30:00Z · moeplan 0 · effort full · torch 2.11.0 · driver 580.1" in shown


def test_a_total_that_was_measured_has_no_band(measured: Path) -> None:
    path = measured / "hardware" / "mine.yaml"
    path.write_text(MEASURED.replace("name: Mine, torch", "name: Mine, total_bytes: 80530636800, torch"), "utf-8")
    text = gpus_table(gpus("mine", [measured]), width=80, color=False, unicode=True, detailed=True)
    assert "75.0 GiB, measured" in text


@pytest.mark.parametrize("width", [40, 60, 72, 80, 132])
def test_no_page_is_too_narrow_for_what_was_measured(width: int, measured: Path) -> None:
    text = gpus_table(gpus("mine", [measured]), width=width, color=False, unicode=False, detailed=True)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.partition("measured by moeplan profile")[2].split())
    assert "~" not in told
    for cell in ("3,000.0 GB/s", "75%", "-5.0 +1.0%", "40.0 us", "-25 +25%", "0.990", "50.0%"):
        assert cell in told


def test_json_holds_the_same_as_the_result() -> None:
    read = json.loads(as_json(models("gpt-oss")))
    assert read["schema"] == "moeplan.models/1"
    assert [model["id"] for model in read["models"]] == [model.id for model in models("gpt-oss").models]
    device = json.loads(as_json(gpus("h100")))["gpus"][0]
    assert device["usable_bytes"] == gpus("h100").gpus[0].usable_bytes
    assert device["dense_flops_per_s"]["fp4"] is None


# Command line -----------------------------------------------------------------------------------------------


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-m", "moeplan", *words], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize(
    "words",
    [
        ("gpus",),
        ("gpus", "l40s"),
        ("models",),
        ("models", "--search", "qwen3 moe"),
        ("gpus", "h100", "--format", "markdown"),
    ],
    ids=" ".join,
)
def test_commands_print_and_exit_with_0(words: tuple[str, ...]) -> None:
    done = _run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert _run(*words, "--quiet").stdout == ""
    assert _run(*words).stdout == done.stdout


@pytest.mark.parametrize(
    "words", [("gpus", "h1oo"), ("models", "--search", "no such"), ("gpus", "--format", "pdf")], ids=" ".join
)
def test_what_is_not_known_is_two_lines_and_exit_code_2(words: tuple[str, ...]) -> None:
    done = _run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    what, way_out = done.stderr.splitlines()
    assert what.startswith("error: ")
    assert way_out.startswith(" hint: ")


def test_json_goes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    done = _run("models", "--json", "-o", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(path.read_text(encoding="utf-8"))["schema"] == "moeplan.models/1"
