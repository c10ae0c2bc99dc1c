"""Running the command line: in this process for speed, as a child process where the process itself is in question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from moeplan import cli
from tests.golden.configs import BY_NAME

ROOT = Path(__file__).resolve().parents[2]


class Outcome(NamedTuple):
    """Exit code, and what was said where."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test: one folder with a config.json per model of `tests/golden/configs.py`."""
    for name, config in BY_NAME.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run moeplan in this process."""

    def go(*words: str) -> Outcome:
        code = cli._run(list(words))
        return Outcome(code, *capsys.readouterr())

    return go


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Environment of a child process that finds moeplan from any working directory."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def child(folder: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run moeplan as a process of its own; `env` adds to its environment, other options go to `subprocess.run`."""

    def go(*words: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"capture_output": True} | options
        done: Any = subprocess.run(
            [sys.executable, "-m", "moeplan", *words],
            check=False,
            cwd=folder,
            env=environment | (env or {}),
            timeout=120,
            **options,
        )
        return cast(subprocess.CompletedProcess[bytes], done)

    return go
