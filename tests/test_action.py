"""The GitHub action's entry point, the pre-commit hook and the repository's own examples, run as a pipeline runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moeplan.sources.locked_models import read_lock
from tests.check.rule_examples import TP2, pod

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "action" / "check.sh"


def act(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The action's step with these inputs; its outputs and its summary lie in `folder`."""
    names = {f"MOEPLAN_{name.upper()}": value for name, value in inputs.items()}
    places = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **names, **places, "RUNNER_TEMP": str(folder), "PATH": path, "GITHUB_ACTIONS": "true"}
    return subprocess.run(
        ["bash", str(SCRIPT)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_examples_pass_with_their_own_lock_file(tmp_path: Path) -> None:
    done = act(tmp_path, paths=str(ROOT / "examples"), locked="true", sarif=str(tmp_path / "out.sarif"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 deployments" in done.stdout
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"
    assert "exit-code=0" in (tmp_path / "output").read_text()
    assert "| pass |" in (tmp_path / "summary.md").read_text()


def test_the_lock_file_of_the_examples_is_not_stale() -> None:
    run = [sys.executable, "-m", "moeplan", "lock", "examples", "--check", "--offline"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_lock(ROOT / "examples" / "moeplan.lock")) == 5


def test_a_deployment_that_fails_fails_the_job_with_annotations(tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(pod("--max-model-len", "8192", gpus=1))
    done = act(tmp_path, paths="deploy.yaml")
    assert done.returncode == 1
    assert re.search(r"^::error title=FIT001[^\n]*file=deploy.yaml,line=\d+", done.stdout, re.MULTILINE)
    assert "exit-code=1" in (tmp_path / "output").read_text()


@pytest.mark.parametrize(("asked", "code"), [("fail", 3), ("pass", 0)])
def test_what_cannot_be_verified_fails_unless_it_may_pass(asked: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(pod(*TP2, card=None))
    done = act(tmp_path, paths="deploy.yaml", cannot_verify=asked)
    assert done.returncode == code
    assert "exit-code=3" in (tmp_path / "output").read_text()
    assert "cannot verify" in done.stdout


def test_a_comparison_is_a_comment_and_part_of_the_summary(tmp_path: Path) -> None:
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "before"]):
        (tmp_path / "deploy.yaml").write_text(pod(*TP2))
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        subprocess.run(git, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "deploy.yaml").write_text(pod("--tensor-parallel-size", "2", "--max-model-len", "16384"))
    done = act(tmp_path, paths="deploy.yaml", diff="HEAD")
    assert done.returncode == 0, done.stdout + done.stderr
    (comment,) = re.findall(r"comment=(.*)", (tmp_path / "output").read_text())
    text = Path(comment).read_text()
    assert text.startswith("<!-- moeplan-check-diff -->")
    assert "| length, tokens | 8,192 | 16,384 | +8,192 |" in text
    assert text in (tmp_path / "summary.md").read_text()


def test_a_push_has_no_base_to_compare_with(tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(pod(*TP2))
    done = act(tmp_path, paths="deploy.yaml", diff="origin/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "comment=" not in (tmp_path / "output").read_text()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_log_that_is_a_file_is_written_on_and_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(pod(*TP2))
    run = [sys.executable, "-m", "moeplan", "check", "deploy.yaml", "--offline", "--output", name]
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        subprocess.run(run, cwd=tmp_path, stdout=log, check=True)
        log.write("after\n")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert any(line.startswith("PASSES") for line in lines)


def test_inputs_are_words_and_never_code(tmp_path: Path) -> None:
    done = act(tmp_path, paths="$(touch owned) `touch owned`", gpu="$(touch owned)", policy="; touch owned")
    assert done.returncode == 2
    assert not (tmp_path / "owned").exists()


def test_the_action_hands_over_every_input_that_it_has() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    used = set(re.findall(r"inputs\.([a-z-]+)", str(action["runs"])))
    assert used == set(action["inputs"])
    assert set(step["env"]) == set(re.findall(r"MOEPLAN_[A-Z_]+", SCRIPT.read_text())) - {"MOEPLAN_*"}


def test_the_hook_runs_a_command_that_there_is(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (tmp_path / "other.yaml").write_text("name: another program's\n")
    (tmp_path / "deploy.yaml").write_text(pod(*TP2))
    command = hook["entry"].split()
    assert command[0] == "moeplan"
    run = [sys.executable, "-m", *command, "other.yaml", "deploy.yaml"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
