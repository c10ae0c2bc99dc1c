"""Findings that are known: the same after lines and figures moved and from every folder; new ones are still new."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.baseline import baseline_text
from moeplan.check.result import Check
from moeplan.check.summary import exit_code
from moeplan.core.errors import InputError
from tests.check.repositories import deployment, findings, write
from tests.check.rule_examples import TP2, pod

LARGE = pod("--max-model-len", "8192", gpus=1, image="vllm/vllm-openai:latest")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    write(tmp_path, {"deploy/a.yaml": LARGE})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "known.json").write_text(baseline_text(check("deploy", offline=True)))
    return tmp_path


def again(path: str = "deploy", baseline: str = "known.json", **options: object) -> Check:
    return check(path, offline=True, baseline=baseline, **options)  # type: ignore[arg-type]


def test_what_is_known_does_not_end_a_run_and_is_no_pass(folder: Path) -> None:
    assert exit_code(check("deploy", offline=True)) == 1
    found = again()
    assert {each.state for each in found.findings} == {"known"}
    assert {each.suppressed_by for each in found.findings} == {"baseline"}
    assert found.summary.known == len(found.findings) == 4
    assert found.summary.errors == 0
    assert exit_code(found) == exit_code(again(fail_on="info")) == 0
    assert deployment(found).verdict == "fail"
    assert found.baseline == "known.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"# one\n\n# two\n{text}",
        lambda text: text.replace("8192", "9000"),
        lambda text: text.replace("spec:\n  replicas", "spec:\n  paused: false\n  replicas", 1),
        lambda text: f"kind: Other\n---\n{text}",
    ],
    ids=["lines", "figures", "a key", "a document"],
)
def test_it_is_known_after_lines_and_figures_moved(change: Callable[[str], str], folder: Path) -> None:
    write(folder, {"deploy/a.yaml": change(LARGE)})
    assert {each.state for each in again().findings} == {"known"}


def test_new_ones_fail(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": LARGE.replace("8192", "99999")})
    found = again()
    assert [each.code for each in found.findings if each.state == "new"] == ["ENG005"]
    assert exit_code(found) == 1
    write(folder, {"deploy/a.yaml": LARGE, "deploy/b.yaml": LARGE})
    found = again()
    assert {each.file for each in found.findings if each.state == "new"} == {"deploy/b.yaml"}
    write(folder, {"deploy/a.yaml": LARGE + "---\n" + LARGE.replace("name: server", "name: other")})
    (folder / "deploy" / "b.yaml").unlink()
    assert {each.deployment for each in again().findings if each.state == "new"} == {"other"}


def test_the_same_from_every_folder_of_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "deploy")
    assert {each.state for each in again("a.yaml", "../known.json").findings} == {"known"}
    monkeypatch.chdir(folder.parent)
    assert {each.state for each in again(f"{folder.name}/deploy", f"{folder.name}/known.json").findings} == {"known"}
    assert {each.state for each in again(str(folder), str(folder / "known.json")).findings} == {"known"}


def test_what_is_ignored_is_not_written_and_what_is_unknown_is(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": pod(*TP2, card=None, image="vllm/vllm-openai:latest  # moeplan: ignore[HYG002] x")})
    found = check("deploy", offline=True)
    (folder / "known.json").write_text(baseline_text(found))
    codes = [each["code"] for each in json.loads((folder / "known.json").read_text())["findings"]]
    assert "HYG002" not in codes
    assert "READ005" in codes
    found = again()
    assert exit_code(found) == 0
    assert deployment(found).verdict == "cannot-verify"


def test_wrong_usage_is_not_known_away(folder: Path) -> None:
    write(folder, {"other.yaml": "a: 1\n"})
    found = check("other.yaml", offline=True)
    assert findings(found, "READ010")
    (folder / "known.json").write_text(baseline_text(found))
    assert exit_code(again("other.yaml")) == 2


def test_the_same_check_writes_the_same_baseline(folder: Path) -> None:
    text = (folder / "known.json").read_text()
    write(folder, {"deploy/a.yaml": f"# lines\n{LARGE}"})
    assert baseline_text(check("deploy", offline=True)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not JSON", "no JSON"),
        ("[]", "no baseline"),
        ('{"findings": []}', "no baseline"),
        ('{"schema": "moeplan.baseline/1"}', "no baseline"),
        ('{"schema": "moeplan.baseline/2", "findings": []}', "moeplan.baseline/2"),
        ('{"schema": "moeplan.baseline/1", "findings": [{}]}', "fingerprint"),
        ('{"schema": "moeplan.baseline/1", "findings": [{"fingerprint": 1}]}', "fingerprint"),
        ('{"version": "2.1.0", "runs": []}', "no baseline"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_none_is_wrong_usage(text: str | None, told: str, folder: Path) -> None:
    if text is None:
        (folder / "known.json").unlink()
    else:
        (folder / "known.json").write_text(text)
    with pytest.raises(InputError, match=r"known\.json") as raised:
        again()
    assert told in raised.value.message
    assert raised.value.hint
