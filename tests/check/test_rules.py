"""Every rule has a deployment that it finds fault with, and one that it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import moeplan
from moeplan.check import check
from moeplan.check.result import Check
from moeplan.check.rules import all_rules, engine
from tests.check.rule_examples import RULES, Example


def judged(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    for name, text in {example.name: example.text, **example.beside}.items():
        (folder / name).write_text(text)
    if example.policy:
        (folder / "moeplan.yaml").write_text(example.policy)
    monkeypatch.chdir(folder)
    return check(example.name, offline=True, **example.options)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [rule.code for rule in all_rules()])
def test_each_rule_has_a_failing_and_a_passing_example(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = RULES[code]
    for name in ("failing", "passing"):
        (tmp_path / name).mkdir()
    found = judged(pair.failing, tmp_path / "failing", monkeypatch)
    mine = [finding for finding in found.findings if finding.code == code]
    assert mine, [(finding.code, finding.message) for finding in found.findings]
    assert all(1 <= finding.line <= pair.failing.text.count("\n") + 1 for finding in mine)
    assert all(finding.message and "\n" not in finding.message for finding in mine)
    clean = judged(pair.passing, tmp_path / "passing", monkeypatch)
    assert clean.deployments, "a passing example is a deployment"
    assert not [finding for finding in clean.findings if finding.code == code]


def test_no_example_is_of_a_rule_that_there_is_not() -> None:
    assert set(RULES) <= {rule.code for rule in all_rules()}


def test_every_refusal_of_an_engine_has_its_rule() -> None:
    package = Path(moeplan.__file__).parent
    written = re.compile(r"(?:Refusal|Problem)\(\s*\"([a-z-]+)\"")
    codes = {code for path in package.rglob("*.py") for code in written.findall(path.read_text(encoding="utf-8"))}
    told = {
        *engine.SHARDS, *engine.BLOCKS, *engine.EXPERTS, *engine.DEGREES, *engine.LENGTH, *engine.KERNELS, *engine.CACHE,
        *engine.SUPPORT, *engine.ELSEWHERE,
    }  # fmt: skip
    assert len(codes) > 40
    assert codes == told
