"""What a run leaves behind: exit code, streams, files; and how it ends when something breaks."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from moeplan import __version__, cli
from moeplan.cli.record import record
from moeplan.cli.routing import routing
from tests.cli.conftest import Run

Child = Callable[..., subprocess.CompletedProcess[bytes]]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files and signals")


# Exit codes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "plain", "required"),
    [
        (["mixtral", "--gpu", "h100-sxm"], 0, 1),
        (["mixtral", "--gpu", "4xh100-sxm"], 0, 0),
        (["mixtral"], 0, 3),
    ],
    ids=["does not fit", "fits", "cannot be told"],
)
def test_require_fit_turns_the_verdict_into_the_exit_code(
    words: list[str], plain: int, required: int, run: Run
) -> None:
    assert run("estimate", *words).code == plain
    outcome = run("estimate", *words, "--require-fit")
    assert outcome.code == required
    assert outcome.out  # the estimate is still shown
    assert outcome.err == ""


def test_process_ends_with_the_exit_code(child: Child) -> None:
    assert child("estimate", "mixtral", "--gpu", "h100-sxm", "--require-fit", "--quiet").returncode == 1
    assert child("estimate", "mixtral", "--context", "0").returncode == 2


# Help and version -------------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"moeplan {__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(flag: str, run: Run) -> None:
    code, out, err = run(flag)
    assert (code, err) == (0, "")
    assert all(name in out for name in cli.COMMANDS)


def commands() -> list[str]:
    """All of them, those of a group with the name of the group before."""
    groups = {"routing": routing, "record": record}
    names = [f"{name} {command.name}" for name, group in groups.items() for command in group.registered_commands]
    return sorted([*(name for name in cli.COMMANDS if name not in groups), *names])


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command: str, run: Run) -> None:
    code, out, err = run(*command.split(), "-h")
    assert (code, err) == (0, "")
    assert f"moeplan {command}" in out
    assert "--format" in out


def test_no_arguments_show_help_as_wrong_usage(run: Run) -> None:
    # As typer does: exit code 2, and on stderr, because help that was not asked for is no data.
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == run("--help").out.rstrip("\n") + "\n"


def test_a_group_of_commands_without_one_shows_its_help_as_wrong_usage(run: Run) -> None:
    code, out, err = run("routing")
    assert (code, out) == (2, "")
    assert err == run("routing", "--help").out.rstrip("\n") + "\n"
    assert all(name in err for name in ("report", "drift", "place"))


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("routing", "reprot", "x"), "no such command 'routing reprot'", "did you mean report?"),
        (("routing", "report"), "moeplan routing report needs FILE", "capture (.jsonl)"),
        (("routing", "place", "x"), "moeplan routing place needs --ranks", "ranks that share the experts"),
        (("routing", "report", "x", "--phases", "all"), "no such option --phases", "did you mean --phase?"),
        (("routing", "--json", "report"), "no such option --json", "moeplan routing --help"),
    ],
)
def test_mistakes_in_a_group_name_the_command_of_the_group(
    words: tuple[str, ...], what: str, hint: str, run: Run
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert what in first
    assert hint in second


def test_completion_script_is_shown(child: Child) -> None:
    done = child("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.returncode == 0
    assert b"_MOEPLAN_COMPLETE" in done.stdout


def test_completion_offers_commands_and_options(child: Child) -> None:
    def completed(words: str) -> list[str]:
        number = str(len(words.split(" ")) - 1)
        bash = {"_MOEPLAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
        return child(env=bash).stdout.decode().split()

    assert completed("moeplan est") == ["estimate"]
    assert "--context" in completed("moeplan estimate --con")


# Streams and files ------------------------------------------------------------------------------------------


def test_quiet_prints_nothing(run: Run) -> None:
    assert run("estimate", "mixtral", "--gpu", "h100-sxm", "--require-fit", "--quiet") == (1, "", "")


def test_quiet_does_not_hide_errors(run: Run) -> None:
    outcome = run("estimate", "mixtral", "--context", "0", "--quiet")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 2


@pytest.mark.parametrize("format_name", ["table", "json", "markdown"])
def test_output_file_holds_what_the_screen_would_show(format_name: str, run: Run, folder: Path) -> None:
    words = ["estimate", "gpt-oss", "--gpu", "rtx-4090", "--format", format_name]
    shown = run(*words)
    assert run(*words, "-o", "out") == (0, "", "")
    assert (folder / "out").read_bytes().decode() == shown.out


def test_names_of_formats(run: Run) -> None:
    def out(*words: str) -> str:
        return run("estimate", "mixtral", *words).out

    assert out() == out("--format", "table") == out("-f", "text")
    assert out("--json") == out("--format", "json")
    assert out("--format", "md") == out("--format", "markdown")
    assert json.loads(out("--json"))["schema"] == "moeplan.estimate/1"


@posix
def test_output_file_has_the_usual_rights_and_keeps_those_it_had(run: Run, folder: Path) -> None:
    old = os.umask(0o027)
    try:
        run("estimate", "mixtral", "-o", "new")
        assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o640
        (folder / "new").chmod(0o600)
        run("estimate", "mixtral", "-o", "new")
        assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o600
    finally:
        os.umask(old)


@posix
def test_output_through_a_link_leaves_the_link(run: Run, folder: Path) -> None:
    (folder / "target").write_text("older", encoding="utf-8")
    (folder / "link").symlink_to("target")
    assert run("estimate", "mixtral", "--json", "-o", "link").code == 0
    assert (folder / "link").is_symlink()
    assert json.loads((folder / "target").read_text(encoding="utf-8"))["model"]["id"] == "mixtral"


@posix
def test_output_into_a_pipe_does_not_replace_it(child: Child, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with subprocess.Popen(["cat", "pipe"], cwd=folder, stdout=subprocess.PIPE) as reader:
        done = child("estimate", "mixtral", "--json", "-o", "pipe")
        heard, _ = reader.communicate(timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(heard)["model"]["id"] == "mixtral"
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


@posix
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["estimate", "-h"],
        ["estimate", "gpt-oss", "--gpu", "rtx-4090", "--explain", "--json"],
        ["estimate", "mixtral"],
    ],
)
def test_closed_pipe_is_silent(words: list[str], child: Child) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = child(*words, stdout=write, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(write)
    assert done.stderr == b""
    assert done.returncode == 0


@posix
def test_closed_pipe_keeps_the_verdict(child: Child) -> None:
    read, write = os.pipe()
    os.close(read)
    words = ["estimate", "mixtral", "--gpu", "h100-sxm", "--require-fit"]
    done = child(*words, stdout=write, stderr=subprocess.PIPE, capture_output=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_disk_is_an_error_line(child: Child) -> None:
    with Path("/dev/full").open("wb") as full:
        done = child("estimate", "mixtral", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2
    assert len(done.stderr.decode().splitlines()) == 2


@posix
def test_closed_streams_do_not_break_it(folder: Path, environment: dict[str, str]) -> None:
    command = f"exec {sys.executable} -m moeplan estimate mixtral --gpu h100-sxm --require-fit >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], check=False, cwd=folder, env=environment, timeout=60)
    assert done.returncode == 1


# Colour, width and character set ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "color", "coloured"),
    [
        ({}, "auto", False),
        ({}, "always", True),
        ({}, "never", False),
        ({"FORCE_COLOR": "1"}, "auto", True),
        ({"CLICOLOR_FORCE": "1"}, "auto", True),
        ({"FORCE_COLOR": "1"}, "never", False),
        ({"NO_COLOR": "1"}, "always", True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": "", "FORCE_COLOR": ""}, "auto", False),
    ],
)
def test_colour_in_a_pipe(
    env: dict[str, str], color: str, coloured: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    out = run("estimate", "mixtral", "--gpu", "h100-sxm", "--color", color).out
    assert ("\x1b[" in out) == coloured


def test_forced_colour_stays_out_of_files(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    run("estimate", "mixtral", "-o", "out")
    assert "\x1b" not in (folder / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize("format_name", ["json", "markdown"])
def test_colour_is_for_tables_alone(format_name: str, run: Run) -> None:
    assert "\x1b" not in run("estimate", "mixtral", "--color", "always", "--format", format_name).out


@posix
@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal(env: dict[str, str], coloured: bool, child: Child) -> None:
    import pty

    master, slave = pty.openpty()
    try:
        done = child(
            "estimate",
            "mixtral",
            env={"TERM": "xterm"} | env,
            stdout=slave,
            stderr=subprocess.PIPE,
            capture_output=False,
        )
        shown = os.read(master, 65536)
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == 0, done.stderr
    assert (b"\x1b[" in shown) == coloured


@pytest.mark.parametrize("columns", ["40", "60", "80", "100", "200"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("color", ["never", "always"])
def test_table_is_as_wide_as_it_may_be(
    columns: str, term: str, color: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", term)
    out = run("estimate", "gpt-oss", "--gpu", "2xrtx-4090", "--explain", "--color", color).out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert max(map(len, plain.splitlines())) <= int(columns)


@pytest.mark.parametrize("columns", ["", "0", "-5", "wide", "²", "9" * 5000, "1e3"])
def test_width_that_is_none_is_passed_over(columns: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = run("estimate", "mixtral")
    monkeypatch.setenv("COLUMNS", columns)
    assert run("estimate", "mixtral") == usual


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("format_name", ["table", "json", "markdown"])
def test_every_character_set_can_hold_the_answer(encoding: str, format_name: str, child: Child, folder: Path) -> None:
    name = "模型-é-🙂"
    (folder / "mixtral").rename(folder / name)
    done = child("estimate", name, "--format", format_name, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    if format_name == "json":
        assert json.loads(text)["model"]["id"] == name
    if encoding == "utf-8":
        assert name in text


# When it breaks ---------------------------------------------------------------------------------------------

BROKEN = textwrap.dedent("""
    import sys, types
    from moeplan import cli

    def broken() -> int:
        raise ZeroDivisionError("line one\\nline two \\x1b[31m")

    module = types.ModuleType("moeplan.cli.broken")
    module.broken = broken
    sys.modules[module.__name__] = module
    cli.COMMANDS["broken"] = "a command with a bug"
    cli.main(["broken"])
    """)
"""moeplan with one more command, which has a bug."""


@pytest.mark.parametrize("debug", [False, True])
def test_bug_is_one_line_and_how_to_report_it(debug: bool, folder: Path, environment: dict[str, str]) -> None:
    env = environment | ({"MOEPLAN_DEBUG": "1"} if debug else {})
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], check=False, cwd=folder, env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 70
    assert done.stdout == b""
    *before, what, way_out = done.stderr.decode().splitlines()
    assert what == r"error: internal error: ZeroDivisionError: line one\nline two \x1b[31m"
    assert way_out.startswith(" hint: ")
    assert "MOEPLAN_DEBUG=1 moeplan broken" in way_out
    assert ("Traceback (most recent call last):" in before) == debug
    assert bool(before) == debug


@posix
def test_interrupt_is_130_without_a_traceback(folder: Path, environment: dict[str, str]) -> None:
    os.mkfifo(folder / "never.json")  # opening it waits for a writer that does not come
    command = [sys.executable, "-m", "moeplan", "estimate", "./never.json"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        writer = _wait_for_reader(folder / "never.json", process)
        process.send_signal(signal.SIGINT)
        # A signal that comes just before the read begins does not end it: the end of the file does.
        os.close(writer)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert len(err.decode().splitlines()) == 2
    assert b"Traceback" not in err


def _wait_for_reader(pipe: Path, process: subprocess.Popen[bytes]) -> int:
    """A descriptor on the pipe that writes nothing, as soon as the process reads from it."""
    import time

    for _ in range(600):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            assert process.poll() is None
            time.sleep(0.05)
    raise AssertionError("the process never opened the file")


# Start-up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "import moeplan.cli",
        "import moeplan.cli as c; c._run(['--help'])",
        "import moeplan.cli as c; c._run(['estimate', 'mixtral', '--json'])",
        "import moeplan.cli as c; c._run(['estimate', 'mixtral', '--format', 'markdown'])",
    ],
)
def test_command_line_imports_nothing_heavy(statement: str, folder: Path, environment: dict[str, str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=folder, env=environment, capture_output=True, timeout=60
    )
    loaded = set(done.stderr.decode().split())
    assert "moeplan.cli" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "rich", "numpy", "pydantic", "httpx"}
    if "estimate" not in statement:
        assert not loaded & {"yaml", "moeplan.estimate"}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["plan", "olmoe", "--offline"], "nothing was written; run it again"),
        (["routing", "report", "a.jsonl"], "nothing was written; run it again"),
        (["profile", "--device", "cpu"], "what was measured is kept; run it again with --resume to go on"),
        (["routing", "capture", "./olmoe"], "prompts that were captured are kept; run it again to go on"),
    ],
)
def test_ctrl_c_says_what_this_command_keeps(
    words: list[str], kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(asked: str | None) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "application", stopped)
    assert cli._run(words) == 130
    assert capsys.readouterr().err == f"error: interrupted\n hint: {kept}\n"


# Names of files ---------------------------------------------------------------------------------------------


def test_an_empty_name_of_a_file_is_told_before_anything_is_computed(run: Run) -> None:
    for words in (["estimate", "olmoe", "-o", ""], ["estimate", "olmoe", "--output", "."], ["gpus", "-o", ""]):
        outcome = run(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("error: --output is empty, or this folder: it cannot be written\n hint: ")


def test_a_name_that_promises_another_format_is_noted(run: Run, folder: Path) -> None:
    told = run("estimate", "olmoe", "--offline", "-o", "g.html")
    assert (told.code, told.out) == (0, "")
    assert told.err == "note: g.html holds a table; --format html writes what its name says\n"
    assert (folder / "g.html").read_text(encoding="utf-8").startswith("allenai/OLMoE")
    for words in (
        ["estimate", "olmoe", "--offline", "-o", "g.txt"],
        ["estimate", "olmoe", "--offline", "--json", "-o", "g.html"],
        ["estimate", "olmoe", "--offline", "--quiet", "-o", "g.html"],
        ["gpus", "-o", "g.html"],  # has no page
    ):
        assert run(*words).err == "", words
