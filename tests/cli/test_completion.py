"""Shell completion, asked as bash asks: the words typed so far in the environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from moeplan.cli.completion import gpu_names
from moeplan.sources.hardware_profiles import find_hardware


def completed(*words: str) -> list[str]:
    environment = os.environ | {
        "_MOEPLAN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("moeplan", *words)),
        "COMP_CWORD": str(len(words)),
    }
    ran = subprocess.run(
        [sys.executable, "-c", "from moeplan.cli import main; main([])"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("est",), "estimate"),
        (("estimate", "mixtral-8x7b-v"), "mixtral-8x7b-v0.1"),
        (("estimate", "mixtral-8x7b", "--gpu", "nvidia-h200"), "nvidia-h200-sxm"),
        (("estimate", "mixtral-8x7b", "--engine", "tr"), "transformers"),
        (("check", "--gpu", "nvidia-h200"), "nvidia-h200-sxm"),
        (("check", "--format", "sa"), "sarif"),
        (("check", "--fail-on", "w"), "warning"),
        (("check", "--select", "FIT00"), "FIT001"),
        (("check", "--ignore", "HYG001,READ01"), "HYG001,READ010"),
        (("lock", "--che"), "--check"),
        (("routing", "rep"), "report"),
        (("routing", "place", "x", "--ra"), "--ranks"),
    ],
)
def test_names_complete(words: tuple[str, ...], expected: str) -> None:
    assert expected in completed(*words)


def test_every_gpu_that_is_offered_is_understood() -> None:
    for typed in ("nvidia-", "h1", "mi3", "rtx"):
        names = gpu_names(typed)
        assert names
        for name in names:
            assert name.startswith(typed)
            assert find_hardware(name)
