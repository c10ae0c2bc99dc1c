"""What import-linter cannot see: which modules are really loaded at start-up."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"huggingface_hub", "rich", "torch", "transformers"}


def loaded_after(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after `code`."""
    tail = "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    child = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def test_the_probe_sees_a_heavy_import() -> None:
    assert "huggingface_hub" in loaded_after("import huggingface_hub")


def test_the_command_line_starts_without_heavy_libraries() -> None:
    loaded = loaded_after("import moeplan.cli")
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_no_module_loads_a_heavy_library_when_imported() -> None:
    # Sections of `measure` are all torch, and are imported when something is measured.
    every_module = """
import importlib, pkgutil, moeplan
for found in pkgutil.walk_packages(moeplan.__path__, "moeplan."):
    if found.name != "moeplan.__main__" and not found.name.startswith("moeplan.measure."):
        importlib.import_module(found.name)
"""
    loaded = loaded_after(every_module)
    assert "moeplan" in loaded
    assert not loaded & HEAVY
