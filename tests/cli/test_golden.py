"""Whole outputs, byte for byte.

To write them anew after a wanted change: `UPDATE_GOLDEN=1 python -m pytest tests/cli/test_golden.py`, and read
the difference before you commit it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
UPDATE = "UPDATE_GOLDEN"

Child = Callable[..., subprocess.CompletedProcess[bytes]]

FITS_NOT = ["mixtral", "--gpu", "h100-sxm"]
FITS = ["gpt-oss", "--gpu", "rtx-4090", "--context", "32K", "--concurrency", "4"]
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "mixtral-80-columns.txt": (FITS_NOT, {"COLUMNS": "80"}),
    "mixtral-60-columns.txt": (FITS_NOT, {"COLUMNS": "60"}),
    "mixtral-no-gpu.txt": (["mixtral"], {"COLUMNS": "80"}),
    "mixtral.md": ([*FITS_NOT, "--format", "markdown"], {}),
    "mixtral-colour.txt": ([*FITS_NOT, "--color", "always"], {"COLUMNS": "80"}),
    "gpt-oss-80-columns.txt": (FITS, {"COLUMNS": "80"}),
    "gpt-oss-pipe.txt": (FITS, {}),
    "gpt-oss-ascii.txt": (FITS, {"COLUMNS": "80", "PYTHONIOENCODING": "ascii"}),
    "gpt-oss-explain.txt": ([*FITS, "--explain"], {"COLUMNS": "80"}),
    "gpt-oss.json": ([*FITS, "--json"], {}),
    "gpt-oss-explain.md": ([*FITS, "--explain", "--format", "markdown"], {}),
    "switch-transformers.txt": (["switch", "--engine", "transformers", "--gpu", "l4"], {"COLUMNS": "80"}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_the_golden_one(name: str, child: Child) -> None:
    words, environment = COMMANDS[name]
    done = child("estimate", *words, env=environment)
    assert done.stderr == b""
    assert done.returncode == 0
    path = GOLDEN / name
    if os.environ.get(UPDATE):
        path.write_bytes(done.stdout)
    assert done.stdout.decode() == path.read_bytes().decode()


def test_every_golden_file_has_its_command() -> None:
    assert {path.name for path in GOLDEN.iterdir() if path.suffix in {".txt", ".md", ".json"}} == set(COMMANDS)


def test_same_question_gives_the_same_bytes(child: Child) -> None:
    first, second = (child("estimate", *FITS, "--json", env={"PYTHONHASHSEED": seed}) for seed in ("1", "2"))
    assert first.stdout == second.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "mixtral-colour.txt"])
def test_golden_outputs_are_clean(name: str) -> None:
    text = (GOLDEN / name).read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    for row in text.splitlines():
        assert row == row.rstrip(), row


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.endswith("columns.txt")])
def test_golden_tables_stay_within_their_width(name: str) -> None:
    width = int(COMMANDS[name][1]["COLUMNS"])
    text = (GOLDEN / name).read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert "…" not in text


def test_ascii_output_says_the_same_as_the_other() -> None:
    plain = (GOLDEN / "gpt-oss-ascii.txt").read_text(encoding="ascii")
    full = (GOLDEN / "gpt-oss-80-columns.txt").read_text(encoding="utf-8")
    keep = re.compile(r"[^A-Za-z0-9,:\s]")  # no points: lines of charts are made of them
    assert keep.sub("", plain.replace("-", "")).split() == keep.sub("", full.replace("-", "")).split()


def test_colour_only_repeats_the_words() -> None:
    coloured = (GOLDEN / "mixtral-colour.txt").read_text(encoding="utf-8")
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [row.rstrip() for row in plain.splitlines()] == (GOLDEN / "mixtral-80-columns.txt").read_text(
        encoding="utf-8"
    ).splitlines()


def test_first_screen_holds_shape_parameters_and_verdict() -> None:
    head = (GOLDEN / "mixtral-80-columns.txt").read_text(encoding="utf-8").splitlines()[:8]
    assert any("8 experts, 2 per token" in row for row in head)
    assert any(
        "46.7B parameters" in row and "12.9B active" in row for row in head
    )  # mistral.ai/news/mixtral-of-experts
    assert any(row.startswith("DOES NOT FIT") for row in head)
