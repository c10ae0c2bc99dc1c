"""`moeplan profile` on the command line: exit codes, streams, an interrupt."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.cli.conftest import Run

WORDS = ("profile", "--device", "cpu", "--quick", "--section", "layer", "--name", "here")


def test_json_and_table(run: Run, tmp_path: Path) -> None:
    found = run(*WORDS, "--profiles", str(tmp_path), "--json")
    assert (found.code, found.err) == (0, "")
    answer = json.loads(found.out)
    assert (answer["schema"], answer["complete"], answer["profile"]) == ("moeplan.profile/1", True, "here")
    assert (tmp_path / "hardware" / "here.yaml").is_file()
    shown = run(*WORDS, "--profiles", str(tmp_path), "--resume")
    assert shown.code == 0
    assert "fixed time of an MoE layer" in shown.out
    assert "MEASURED EARLIER: 3 cases" in shown.out
    assert "everything was measured already on" in shown.out
    listed = run("gpus", "--profiles", str(tmp_path))
    assert "here" in listed.out


@pytest.mark.parametrize(
    ("words", "code", "wrong"),
    [
        (("--quick", "--full"), 2, "--quick and --full contradict each other"),
        (("--section", "kitchen"), 2, "'kitchen' is no section of a profile"),
        (("--device", "cuda:99"), 3, "device cuda:99 is not there"),
        (("--seed", "-1"), 2, "'--seed'"),
        (("--against", "nobody"), 2, "unknown GPU 'nobody'"),
    ],
)
def test_bad_input(run: Run, words: tuple[str, ...], code: int, wrong: str, tmp_path: Path) -> None:
    found = run("profile", "--profiles", str(tmp_path), *words)
    assert (found.code, found.out) == (code, "")
    first, second = found.err.splitlines()
    assert first.startswith("error: ")
    assert wrong in first
    assert second.startswith(" hint: ")


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = run(*WORDS, "--profiles", str(tmp_path / "file"))
    assert found.code == 2
    assert "cannot be written" in found.err or "no folder" in found.err


def test_output_into_a_file_says_on_stderr_where_the_profile_is(run: Run, tmp_path: Path) -> None:
    words = (*WORDS, "--profiles", str(tmp_path), "--json", "-o", str(tmp_path / "out.json"))
    found = run(*words)
    assert (found.code, found.out) == (0, "")
    kept = tmp_path / "hardware" / "here.yaml"
    assert found.err.splitlines()[0] == f"kept in {kept}: --gpu here uses it"
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["path"] == str(kept)
    assert run(*words, "--quiet") == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("after_s", [0.2, 0.3, 0.4, 0.5, 1, 2, 4])
def test_ctrl_c_at_any_moment(after_s: float, tmp_path: Path, environment: dict[str, str]) -> None:
    # While typer is loaded, while torch is loaded, while measuring.
    command = [
        sys.executable,
        "-m",
        "moeplan",
        "profile",
        "--device",
        "cpu",
        "--name",
        "cut",
        "--profiles",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        time.sleep(after_s)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, [line.split()[0] for line in err.splitlines()]) == (130, ["error:", "hint:"]), err
    assert err.startswith("error: interrupted\n")
    assert not list(tmp_path.rglob("*.yaml"))
    assert "INTERRUPTED" in out or not list(tmp_path.rglob("*.gz"))


CUT_IN_EXEC = """
import sys
import moeplan.cli as cli

def verb(words, **options):
    exec("raise KeyboardInterrupt")  # as dataclasses run the code that they make

cli.application = lambda asked: verb
cli.main(["profile"])
"""


def test_ctrl_c_within_code_of_exec_has_our_exit_code(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "cut.py").write_text(CUT_IN_EXEC, encoding="utf-8")
    command = [sys.executable, "-m", "cut"]  # as `-m moeplan`; what runs by its path is not asked
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("error: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [
        sys.executable, "-m", "moeplan", "profile", "--device", "cpu", "--name", "cut", "--section", "matmul",
        "--section", "experts", "--profiles", str(tmp_path),
    ]  # fmt: skip
    points = tmp_path / "hardware" / "cut.points.partial.json.gz"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        deadline = time.monotonic() + 120
        while not points.exists() and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "INTERRUPTED" in out
    assert "Traceback" not in err
    assert points.exists()
    assert not points.with_name("cut.yaml").exists()
