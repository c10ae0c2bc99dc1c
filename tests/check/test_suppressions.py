"""What somebody ignores: by a comment, an annotation or the policy, with a reason, counted, and never verified by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check
from moeplan.check.summary import exit_code
from tests.check.repositories import deployment, findings, write
from tests.check.rule_examples import TP2, pod

WITHOUT_GPU = pod(*TP2, card=None)
TOO_LARGE = pod("--max-model-len", "8192", gpus=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged(text: str, policy: str = "{}\n", **options: object) -> Check:
    write(Path(), {"deploy.yaml": text, "moeplan.yaml": policy})
    return check("deploy.yaml", offline=True, **options)  # type: ignore[arg-type]


def annotated(text: str, annotation: str) -> str:
    return text.replace("name: server", f"name: server\n  annotations: {{moeplan/ignore: {annotation}}}", 1)


@pytest.mark.parametrize(
    ("text", "policy", "by", "reason"),
    [
        (TOO_LARGE.replace("apiVersion", "# moeplan: ignore[FIT001] not used\napiVersion", 1), "", "comment", "not used"),
        (TOO_LARGE.replace('8x7B-v0.1"', '8x7B-v0.1" # moeplan: ignore[fit] not used'), "", "comment", "not used"),
        (annotated(TOO_LARGE, '"FIT001,HYG001 not used"'), "", "annotation", "not used"),
        (annotated(TOO_LARGE, '"HYG001, FIT001: not used, yet"'), "", "annotation", "not used, yet"),
        (annotated(TOO_LARGE, "FIT"), "", "annotation", ""),
        (TOO_LARGE, "ignore: [FIT001]\n", "policy", ""),
        (TOO_LARGE, "overrides: [{name: serv*, ignore: [FIT]}]\n", "policy", ""),
        (TOO_LARGE, "overrides: [{path: deploy.yaml, ignore: [FIT]}]\n", "policy", ""),
    ],
)  # fmt: skip
def test_it_is_told_who_ignores_and_why_and_counted(text: str, policy: str, by: str, reason: str) -> None:
    assert exit_code(judged(TOO_LARGE)) == 1
    found = judged(text, policy)
    (ignored,) = findings(found, "FIT001")
    assert (ignored.state, ignored.suppressed_by, ignored.state_reason) == ("suppressed", by, reason)
    assert found.summary.suppressed == sum(each.state == "suppressed" for each in found.findings)
    assert found.summary.errors == 0
    assert (deployment(found).verdict, exit_code(found)) == ("pass", 0)


def test_another_rule_is_not_ignored() -> None:
    found = judged(annotated(TOO_LARGE, '"HYG, TOP"'))
    assert [each.state for each in findings(found, "FIT001")] == ["new"]
    assert [each.state for each in findings(found, "HYG001")] == ["suppressed"]
    assert exit_code(found) == 1


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (annotated(WITHOUT_GPU, "READ005 the cluster picks"), ""),
        (WITHOUT_GPU, "ignore: [READ]\n"),
        ("# moeplan: ignore[READ005] why\n" + WITHOUT_GPU, ""),
    ],
)
def test_what_is_unknown_is_silent_and_stays_unverified(text: str, policy: str) -> None:
    assert exit_code(judged(WITHOUT_GPU)) == 3
    found = judged(text, policy)
    assert [each.state for each in findings(found, "READ005")] == ["suppressed"]
    assert exit_code(found) == 0
    assert deployment(found).verdict == "cannot-verify"
    assert found.summary.passed == 0


def test_an_annotation_is_about_its_object_alone(folder: Path) -> None:
    text = annotated(TOO_LARGE, "FIT001") + "---\n" + TOO_LARGE.replace("name: server", "name: other")
    found = judged(text)
    assert {each.deployment: each.state for each in findings(found, "FIT001")} == {
        "server": "suppressed", "other": "new",
    }  # fmt: skip


def test_a_comment_above_everything_is_about_the_whole_file() -> None:
    text = "# moeplan: ignore[FIT001] both\n" + TOO_LARGE + "---\n" + TOO_LARGE.replace("name: server", "name: other")
    assert {each.state for each in findings(judged(text), "FIT001")} == {"suppressed"}


def test_rules_that_are_not_asked_are_not_counted() -> None:
    found = judged(TOO_LARGE, ignore=["FIT001"])
    assert findings(found, "FIT001") == []
    assert found.summary.suppressed == 0
