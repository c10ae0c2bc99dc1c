"""`moeplan check` as a pipeline runs it: exit codes, streams and files, formats, what is wrong usage, what is never shown."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from tests.check.repositories import commit, write
from tests.check.rule_examples import TP2, pod
from tests.cli.conftest import Outcome, Run
from tests.report.ci_logs import Command, commands
from tests.report.schemas import Schema
from tests.report.test_check_junit import complaints

Child = Callable[..., subprocess.CompletedProcess[bytes]]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")

PASSES = pod(*TP2)
WARNS = pod("--tensor-parallel-size", "2", "--max-model-len", "8192")
FAILS = pod("--max-model-len", "8192", gpus=1)
UNKNOWN = pod(*TP2, card=None)
FOREIGN = "a: 1\n"
BROKEN = "image: vllm/vllm-openai\nargs: [\n"
FILES = {
    "passes.yaml": PASSES, "warns.yaml": WARNS, "fails.yaml": FAILS, "unknown.yaml": UNKNOWN, "foreign.yaml": FOREIGN,
    "broken.yaml": BROKEN,
}  # fmt: skip
FORMATS = ("text", "json", "markdown", "github", "sarif", "junit")
SARIF = Path(__file__).resolve().parents[1] / "data" / "sarif_parts.schema.json"


@pytest.fixture(autouse=True)
def files(folder: Path) -> Path:
    """One file of each kind in the working folder."""
    return write(folder, FILES)


def check(run: Run, *words: str) -> Outcome:
    return run("check", "--offline", *words)


# Exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["passes"], 0), (["warns"], 0), (["fails"], 1), (["broken"], 1), (["unknown"], 3), (["foreign"], 2),
        (["passes", "unknown"], 3), (["passes", "fails"], 1), (["fails", "unknown"], 1), (["broken", "unknown"], 1),
        (["foreign", "passes"], 2), (["foreign", "fails"], 2), (["foreign", "unknown"], 2), (["foreign", "fails", "unknown"], 2),
    ],
)  # fmt: skip
def test_wrong_usage_before_findings_before_what_is_not_known(names: list[str], code: int, run: Run) -> None:
    paths = [f"{name}.yaml" for name in names]
    for asked in (paths, paths[::-1]):
        done = check(run, *asked)
        assert (done.code, done.err) == (code, "")
        assert done.out
        assert check(run, "--quiet", *asked) == (code, "", "")
        assert check(run, "--format", "json", *asked).code == code


@pytest.mark.parametrize(("level", "code"), [("error", 0), ("warning", 1), ("info", 1)])
def test_the_level_that_fails(level: str, code: int, run: Run) -> None:
    assert check(run, "warns.yaml", "--fail-on", level).code == code
    assert check(run, "passes.yaml", "--ignore", "READ009", "--fail-on", level).code == 0


def test_three_verdicts_kept_apart(run: Run) -> None:
    found = json.loads(check(run, "passes.yaml", "fails.yaml", "unknown.yaml", "--json").out)
    assert {each["file"]: each["verdict"] for each in found["deployments"]} == {
        "passes.yaml": "pass", "fails.yaml": "fail", "unknown.yaml": "cannot-verify",
    }  # fmt: skip
    assert [found["summary"][name] for name in ("passed", "failed", "cannot_verify")] == [1, 1, 1]
    assert found["summary"]["unknown"] == 1
    text = check(run, "passes.yaml", "fails.yaml", "unknown.yaml").out
    assert re.findall(r"^(pass|fail|cannot verify)  (\w+)\.yaml", text, re.MULTILINE) == [
        ("fail", "fails"), ("pass", "passes"), ("cannot verify", "unknown"),
    ]  # fmt: skip


def test_a_folder_and_what_is_passed_over_there(run: Run, files: Path) -> None:
    for name in ("fails", "unknown", "broken"):
        (files / f"{name}.yaml").unlink()
    done = check(run)
    assert done.code == 0
    assert "passed over: " in done.out
    (files / "passes.yaml").unlink()
    (files / "warns.yaml").unlink()
    done = check(run)
    assert done.code == 0
    assert "NOTHING TO JUDGE" in done.out
    assert "no deployment was found" in done.out
    assert check(run, "--pass-over", "foreign.yaml").code == 0


def test_the_process_ends_with_the_exit_code(child: Child) -> None:
    assert child("check", "fails.yaml", "--offline", "--quiet").returncode == 1
    assert child("check", "unknown.yaml", "--offline", "--quiet").returncode == 3


# Formats and files ------------------------------------------------------------------------------------------------

ASKED = [
    ["passes.yaml"],
    ["fails.yaml", "unknown.yaml", "warns.yaml", "passes.yaml"],
    ["broken.yaml", "foreign.yaml"],
    ["."],
    ["fails.yaml", "--gpu", "h200", "--select", "HYG"],
    ["fails.yaml", "--fail-on", "info", "--ignore", "FIT"],
]


@pytest.mark.parametrize("words", ASKED)
def test_real_answers_are_as_their_schemas_say(words: list[str], run: Run) -> None:
    assert Schema("check").complaints(check(run, *words, "--format", "json").out) == []
    sarif = jsonschema.Draft202012Validator(json.loads(SARIF.read_text(encoding="utf-8")))
    log = json.loads(check(run, *words, "--format", "sarif").out)
    assert [f"{error.json_path}: {error.message}" for error in sarif.iter_errors(log)] == []
    assert list(complaints(ET.fromstring(check(run, *words, "--format", "junit").out))) == []  # noqa: S314 - our own


def test_real_answers_with_a_baseline_and_a_policy_are_too(run: Run, files: Path) -> None:
    write(files, {"moeplan.yaml": "ignore: [HYG001]\nlimits: {max_usd_per_hour: 1}\nprices: {h100: 2}\n"})
    assert check(run, "fails.yaml", "--write-baseline", "known.json").code == 0
    words = ["fails.yaml", "warns.yaml", "--baseline", "known.json"]
    found = check(run, *words, "--format", "json").out
    assert Schema("check").complaints(found) == []
    assert {each["state"] for each in json.loads(found)["findings"]} == {"new", "known", "suppressed"}
    sarif = jsonschema.Draft202012Validator(json.loads(SARIF.read_text(encoding="utf-8")))
    assert list(sarif.iter_errors(json.loads(check(run, *words, "--format", "sarif").out))) == []
    assert list(complaints(ET.fromstring(check(run, *words, "--format", "junit").out))) == []  # noqa: S314 - our own
    assert Schema("baseline").complaints((files / "known.json").read_text()) == []


def test_several_at_once_each_with_its_file(run: Run, files: Path) -> None:
    words = [word for name in FORMATS for word in ("--format", name, "--output", f"out.{name}")]
    done = check(run, "fails.yaml", *words)
    assert done == (1, "", "")
    for name in FORMATS:
        assert (files / f"out.{name}").read_text(encoding="utf-8") == check(run, "fails.yaml", "--format", name).out
    # The last ones without a file go to the screen.
    done = check(run, "fails.yaml", "-f", "sarif", "-o", "again.sarif", "-f", "text")
    assert done.out == check(run, "fails.yaml").out
    assert (files / "again.sarif").read_bytes() == (files / "out.sarif").read_bytes()
    assert check(run, "fails.yaml", "-o", "plain.txt") == (1, "", "")
    assert (files / "plain.txt").read_text(encoding="utf-8") == (files / "out.text").read_text(encoding="utf-8")


def test_the_same_bytes_twice_and_in_another_place(
    run: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, {"moeplan.yaml": "defaults: {gpu: h100}\n", "sub/a.yaml": WARNS})
    once = {name: check(run, "--format", name).out for name in FORMATS}
    assert once == {name: check(run, "--format", name).out for name in FORMATS}
    shutil.copytree(files, tmp_path / "elsewhere" / "deeper")
    monkeypatch.chdir(tmp_path / "elsewhere" / "deeper")
    assert once == {name: check(run, "--format", name).out for name in FORMATS}
    for text in once.values():
        assert str(tmp_path) not in text


def test_names_for_code_hosts_are_the_repositorys(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(files, {"team/deploy/a.yaml": FAILS})

    def told(*paths: str) -> tuple[set[str], set[str], set[str]]:
        log = json.loads(check(run, *paths, "--format", "sarif").out)["runs"][0]["results"]
        uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in log}
        marks = {each["partialFingerprints"]["moeplan/v1"] for each in log}
        notes = commands(check(run, *paths, "--format", "github").out)
        return uris, {str(each.properties.get("file")) for each in notes}, marks

    whole = told("team/deploy/a.yaml")
    assert whole[:2] == ({"team/deploy/a.yaml"}, {"team/deploy/a.yaml"})
    for inside, path in (("team", "deploy"), ("team/deploy", "a.yaml"), ("team/deploy", "../..")):
        monkeypatch.chdir(files / inside)
        found = told(path)
        assert all(mine <= theirs for mine, theirs in zip(whole, found, strict=True))
    monkeypatch.chdir(files / "team")
    assert "deploy/a.yaml:1" in check(run).out  # people read names from where they are


@posix
def test_a_file_that_cannot_be_written(run: Run, files: Path) -> None:
    for place in ("nowhere/out.json", ".", "/proc/out.json"):
        done = check(run, "passes.yaml", "--format", "json", "--output", place)
        assert done.code == 2
        assert re.fullmatch(r"error: .*cannot be written.*\n hint: .*--output.*\n", done.err)
        done = check(run, "passes.yaml", "--quiet", "--write-baseline", place)
        assert done.code == 2
        assert re.fullmatch(r"error: .*cannot be written.*\n hint: .*--write-baseline.*\n", done.err)


@posix
def test_devices_and_pipes(child: Child, environment: dict[str, str], files: Path) -> None:
    words = ["check", "fails.yaml", "--offline"]
    done = child(*words, "-f", "text", "-o", "/dev/stdout", "-f", "junit", "-o", "out.xml")
    assert done.returncode == 1
    assert b"FAILS" in done.stdout
    assert (files / "out.xml").exists()
    with open("/dev/full", "wb") as full:
        done = child(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 2)
    for asked in (words, [*words, "--format", "json"], [*words, "--gpu", "nothing"]):
        # Nobody reads what it says, on neither stream.
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run(
            [sys.executable, "-m", "moeplan", *asked], cwd=files, env=environment, stdout=writer, stderr=writer, check=False
        )  # fmt: skip
        os.close(writer)
        assert ran.returncode == (2 if "nothing" in asked else 1)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_narrow_pages(columns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("fails.yaml", "unknown.yaml", "warns.yaml"):
        rows = check(run, name).out.splitlines()
        assert all(len(row) <= columns for row in rows)


def test_colour(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in check(run, "fails.yaml").out
    assert "\x1b[" in check(run, "fails.yaml", "--color", "always").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in check(run, "fails.yaml").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in check(run, "fails.yaml").out
    assert "\x1b[" in check(run, "fails.yaml", "--color", "always").out


# GitHub's Actions -------------------------------------------------------------------------------------------------


def annotated(text: str) -> list[Command]:
    return [each for each in commands(text) if each.name in ("error", "warning", "notice")]


def test_on_githubs_machines_text_comes_with_annotations_and_a_summary(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = check(run, "fails.yaml").out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(files / "summary.md"))
    write(files, {"summary.md": "before\n"})
    done = check(run, "fails.yaml")
    assert done.out.startswith(plain)
    first = annotated(done.out)[0]
    assert (first.name, first.properties["file"]) == ("error", "fails.yaml")
    assert int(first.properties["line"]) > 1
    assert (files / "summary.md").read_text().startswith("before\n<!-- moeplan check -->\n\n## moeplan check: fails")
    # A format that is asked for comes alone, and a file gets what was asked for it.
    assert annotated(check(run, "fails.yaml", "--format", "text").out) == []
    check(run, "fails.yaml", "--output", "out.txt")
    assert (files / "out.txt").read_text() == plain
    assert (files / "summary.md").read_text().count("<!-- moeplan check -->") == 3
    assert check(run, "fails.yaml", "--quiet").out == ""


@posix
def test_a_summary_that_cannot_be_written_is_a_note(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (str(files), "/proc/nowhere/summary.md"):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", place)
        done = check(run, "passes.yaml")
        assert done.code == 0
        assert re.fullmatch(r"note: the step summary cannot be written \(.*\)\n", done.err)


# Standard input ---------------------------------------------------------------------------------------------------


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_rendered_stream(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("passes", 0), ("fails", 1), ("unknown", 3), ("foreign", 2), ("broken", 1)):
        given(monkeypatch, FILES[f"{name}.yaml"].encode())
        done = check(run, "-")
        assert (done.code, "stdin" in done.out) == (code, True)
    given(monkeypatch, FAILS.encode())
    found = json.loads(check(run, "-", "unknown.yaml", "--json").out)
    assert [each["file"] for each in found["deployments"]] == ["-", "unknown.yaml"]
    given(monkeypatch, FAILS.encode())
    assert all("file" not in each.properties for each in annotated(check(run, "-", "--format", "github").out))


def test_a_stream_with_nothing_in_it(run: Run, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"\n \n"):
        given(monkeypatch, data)
        done = check(run, "-")
        assert done.code == 2
        assert "there is nothing in it" in done.out
    assert child("check", "-", "--offline", stdin=subprocess.DEVNULL).returncode == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_stream_that_is_no_text(encoding: str, child: Child) -> None:
    done = child("check", "-", "--offline", input=b"vllm: \xff\xfa\n", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 1
    assert b"not UTF-8 from line 1 on" in done.stdout
    umlauts = PASSES.replace("name: server", "name: sörver").encode()
    assert child("check", "-", "--offline", input=umlauts, env={"PYTHONIOENCODING": encoding}).returncode == 0


# Wrong usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told", "way"),
    [
        (["--format", "xml"], "unknown format 'xml'", "text, json, markdown, github, sarif, junit"),
        (["--select", "FIT9"], "--select FIT9", "FIT"),
        (["--ignore", "NOPE"], "--ignore NOPE", "docs/checks.md"),
        (["--fail-on", "fatal"], "--fail-on fatal", "error, warning, info"),
        (["nowhere.yaml"], "nowhere.yaml: no such file or folder", "`-`"),
        (["--policy", "nowhere.yaml"], "--policy nowhere.yaml", "moeplan.yaml"),
        (["--policy", "."], "--policy . is a folder", "moeplan.yaml"),
        (["--gpu", "h999"], "--gpu h999", "moeplan gpus"),
        (["--engine", "vlm"], "--engine vlm: no such engine; did you mean vllm?", "sglang"),
        (["--engine-version", "newest"], "--engine-version newest", "0.23.0"),
        (["--set", "TP"], "--set TP", "TP=8"),
        (["-o", "a", "-o", "b"], "2 outputs for one format", "--format"),
        (["-f", "json", "-f", "text", "-o", "a", "-o", "b", "-o", "c"], "3 outputs for 2 formats", "--format"),
        (["--baseline", "nowhere.json"], "--baseline nowhere.json", "--write-baseline"),
        (["--baseline", "."], "--baseline . cannot be read", "baseline"),
        (["--baseline", "passes.yaml"], "--baseline passes.yaml", "--write-baseline"),
        (["--locked"], "moeplan.lock: no such file", "moeplan lock"),
        (["--locked", "--lock", "passes.yaml"], "passes.yaml is no lock file", "moeplan lock"),
        (["--lock", "other.lock"], "--lock other.lock", "--locked"),
        (["--diff", "nowhere"], "--diff nowhere", "folder"),
        (["--diff", ".", "--format", "sarif"], "--diff", "--format"),
        (["--diff", ".", "-"], "--diff", "files"),
        (["--diff", ".", "--write-baseline", "b.json"], "--write-baseline does not go with --diff", "a run of its own"),
        (["--color", "blue"], "colour", "always"),
        (["--formt", "json"], "no such option --formt", "--format"),
    ],
)
def test_two_lines_say_what_is_wrong_and_the_way_out(words: list[str], told: str, way: str, run: Run) -> None:
    done = check(run, "passes.yaml", *words)
    assert (done.code, done.out) == (2, "")
    error, hint, end = done.err.split("\n")
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith(" hint: ")
    assert way in hint
    assert end == ""


def test_help_fits_on_80_columns_and_names_the_exit_codes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("check", "lock"):
        text = run(command, "--help").out
        assert all(len(row) <= 80 for row in text.splitlines())
        assert "Exit codes: 0 " in text
        assert f"  $ moeplan {command} deploy/\n" in text


# A baseline, and what a change does -------------------------------------------------------------------------------


def test_a_baseline_is_written_and_then_known(run: Run, files: Path) -> None:
    done = check(run, "fails.yaml", "unknown.yaml", "--write-baseline", "known.json")
    assert done.code == 0
    assert re.fullmatch(r"note: known.json is written: \d known findings\n", done.err)
    done = check(run, "fails.yaml", "unknown.yaml", "--baseline", "known.json")
    assert done.code == 0
    assert "NOTHING NEW FAILS" in done.out
    assert check(run, "fails.yaml", "unknown.yaml", "broken.yaml", "--baseline", "known.json").code == 1
    assert check(run, "fails.yaml", "--write-baseline", "known.json", "--quiet") == (0, "", "")
    # Wrong usage does not become known.
    assert check(run, "foreign.yaml", "--write-baseline", "known.json").code == 2
    assert json.loads((files / "known.json").read_text())["findings"] == []


def test_what_a_change_does(run: Run, files: Path) -> None:
    commit(files)
    write(files, {"passes.yaml": FAILS})
    done = check(run, "passes.yaml", "--diff", "HEAD")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("<!-- moeplan-check-diff -->\n\n## moeplan check: fails, against `HEAD`\n")
    assert "| server (passes.yaml) | changed | pass → **fail** |" in done.out
    assert Schema("check-diff").complaints(check(run, ".", "--diff", "HEAD", "--json").out) == []
    assert check(run, "passes.yaml", "--diff", "HEAD", "-o", "comment.md") == (1, "", "")
    assert (files / "comment.md").read_text() == done.out
    # The exit code is that of today, whatever was wrong before.
    commit(files)
    write(files, {"passes.yaml": PASSES})
    assert check(run, "passes.yaml", "--diff", "HEAD").code == 0
    assert check(run, "unknown.yaml", "--diff", "HEAD").code == 3


# Secrets ----------------------------------------------------------------------------------------------------------

TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
PASSWORD = "correct-horse-battery"
SECRETS = {
    "a.yaml": f"""\
# {TOKEN}
# moeplan: ignore[HYG001] because {TOKEN}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: one
  annotations: {{moeplan/revision: {TOKEN}, moeplan/ignore: "HYG002 because {TOKEN}", moeplan/gnu: {TOKEN}}}
spec:
  template:
    spec:
      nodeSelector: {{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
      containers:
        - name: engine
          image: user:{TOKEN}@registry.example.org/vllm/vllm-openai:v0.24.0
          env:
            - {{name: HF_TOKEN, value: {TOKEN}}}
            - {{name: VLLM_API_KEY, value: {PASSWORD}}}
            - {{name: VLLM_OTHER, value: {TOKEN}}}
          args: ["mistralai/Mixtral-8x7B-v0.1", "--api-key", "{PASSWORD}", "--hf-token={TOKEN}", "--max-model-len", "{TOKEN}",
            "--other=https://user:{TOKEN}@example.org", "--served-model-name", "{TOKEN}"]
          resources: {{limits: {{nvidia.com/gpu: 1}}}}
""",
    "b.sh": f"""\
export HF_TOKEN={TOKEN}
# moeplan: gpu={TOKEN}
vllm serve https://user:{TOKEN}@huggingface.co/org/name --api-key {PASSWORD} --hf-token={TOKEN} -tp {TOKEN}
vllm serve {TOKEN} --max-model-len $LENGTH --port $PORT
""",
    "c/compose.yaml": f"""\
services:
  {TOKEN}:
    image: vllm/vllm-openai:{TOKEN}
    command: --model $MODEL --quantization ${{QUANT}} --tensor-parallel-size {TOKEN} --api-key ${{KEY}}
    environment: [HF_TOKEN={TOKEN}, "VLLM_API_KEY=${{KEY}}", "VLLM_OTHER=${{QUANT}}"]
""",
    "c/.env": f"MODEL={TOKEN}\nQUANT={TOKEN}\nKEY={PASSWORD}\n",
    "moeplan.yaml": f'variables: {{LENGTH: "{TOKEN}"}}\n',
}  # fmt: skip


def test_no_token_is_ever_shown(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (files / name).unlink()
    commit(files, SECRETS)
    write(files, {"c/compose.yaml": SECRETS["c/compose.yaml"].replace("--quantization", "--dtype")})
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(files / "summary.md"))
    said = [
        *(check(run, ".", "--format", name, "--set", f"PORT={TOKEN}") for name in FORMATS),
        *(check(run, ".", "--diff", "HEAD", "--format", name) for name in ("json", "markdown")),
        check(run, ".", "--write-baseline", "known.json"),
        run("lock", "--offline", "."),
        run("lock", "--offline", ".", "--json"),
    ]
    written = [(files / name).read_text() for name in ("known.json", "summary.md")]
    for text, secret in product([*written, *(f"{each.out}{each.err}" for each in said)], (TOKEN, PASSWORD)):
        assert secret not in text
        assert TOKEN[3:15] not in text
    found = json.loads(said[1].out)
    assert {each["file"] for each in found["findings"] if each["code"] == "HYG007"} == {
        "a.yaml",
        "b.sh",
        "c/compose.yaml",
    }
    assert all(each.code in (1, 3) or each is said[8] for each in said)
