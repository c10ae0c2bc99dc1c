"""The policy: where it is found, what of it holds for whom, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check
from moeplan.core.errors import InputError
from tests.check.repositories import deployment, findings, write
from tests.check.rule_examples import COMMIT, TP2, pod

FITS = pod(*TP2)
LONG = "limits: {min_kv_tokens: 100M}\n"
"""More tokens than any card holds."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged(policy: str, text: str = FITS, **options: object) -> Check:
    write(Path(), {"deploy.yaml": text, "moeplan.yaml": policy})
    return check("deploy.yaml", offline=True, **options)  # type: ignore[arg-type]


# Where it is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [".", "team", "team/prod"])
@pytest.mark.parametrize("asked", ["/", "team", "team/prod", "team/prod/deploy.yaml"])
def test_the_nearest_above_the_first_path_holds(
    where: str, asked: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"team/prod/deploy.yaml": FITS, "moeplan.yaml": "limits: {min_kv_tokens: 1}\n"})
    write(folder, {"team/moeplan.yaml": LONG})
    monkeypatch.chdir(folder / where)
    found = check(folder / asked.lstrip("/"), offline=True)
    # Asked from the top, the policy of the top holds.
    assert bool(findings(found, "LIM002")) == (asked != "/")
    assert found.policy is not None
    assert not found.policy.startswith("/")


def test_a_table_of_a_pyproject_counts_and_one_without_is_passed_by(folder: Path) -> None:
    write(folder, {"team/deploy.yaml": FITS, "team/pyproject.toml": "[project]\n", "moeplan.yaml": LONG})
    assert findings(check("team", offline=True), "LIM002")
    write(folder, {"team/pyproject.toml": "[tool.moeplan.limits]\nmin_kv_tokens = 1\n"})
    found = check("team", offline=True)
    assert (found.policy, findings(found, "LIM002")) == ("team/pyproject.toml", [])


def test_one_above_the_repository_does_not_hold(folder: Path) -> None:
    write(folder, {"inner/.git/HEAD": "", "inner/deploy.yaml": FITS, "moeplan.yaml": LONG})
    assert check("inner", offline=True).policy is None


def test_one_that_is_named_holds_and_its_globs_are_relative_to_it(folder: Path) -> None:
    write(folder, {"deploy.yaml": FITS, "policies/strict.yaml": LONG, "moeplan.yaml": ""})
    found = check("deploy.yaml", policy="policies/strict.yaml", offline=True)
    assert (found.policy, len(findings(found, "LIM002"))) == ("policies/strict.yaml", 1)
    override = "overrides: [{path: ../deploy.yaml, limits: {min_kv_tokens: 1}}]\n"
    write(folder, {"policies/strict.yaml": LONG + override})
    assert findings(check("deploy.yaml", policy="policies/strict.yaml", offline=True), "LIM002") == []


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_one_demands_nothing(text: str) -> None:
    assert deployment(judged(text)).verdict == "pass"


# What of it holds -------------------------------------------------------------------------------------------------


def test_later_overrides_win_by_path_and_by_name(folder: Path) -> None:
    policy = (
        "limits: {min_kv_tokens: 100M}\n"
        "overrides:\n"
        '  - {path: "staging/*", limits: {min_kv_tokens: 1}}\n'
        '  - {name: "canary-*", ignore: [LIM002]}\n'
        '  - {path: "staging/strict.yaml", limits: {min_kv_tokens: 90m}}\n'
    )
    canary = FITS.replace("name: server", "name: canary-1")
    write(folder, {"moeplan.yaml": policy, "prod/a.yaml": FITS, "prod/canary.yaml": canary, "staging/a.yaml": FITS})
    write(folder, {"staging/strict.yaml": FITS})
    found = check(".", offline=True)
    limited = {each.file: (each.state, "90,000,000" in each.message) for each in findings(found, "LIM002")}
    assert limited == {
        "prod/a.yaml": ("new", False),
        "prod/canary.yaml": ("suppressed", False),
        "staging/strict.yaml": ("new", True),
    }


def test_the_longest_prefix_gives_the_severity() -> None:
    unpinned = pod("--tensor-parallel-size", "2", "--max-model-len", "8192", image="vllm/vllm-openai:latest")
    found = judged("severity: {HYG: info, HYG002: error}\n", unpinned)
    assert {each.code: each.level for each in found.findings} == {"HYG001": "info", "HYG002": "error", "HYG003": "info"}
    assert deployment(found).verdict == "fail"
    assert found.summary.errors == 1


def test_what_is_unknown_has_no_severity() -> None:
    found = judged("severity: {READ: info}\n", pod(*TP2, card=None))
    assert [each.level for each in findings(found, "READ005")] == ["unknown"]
    assert deployment(found).verdict == "cannot-verify"


@pytest.mark.parametrize(
    ("demand", "code", "text"),
    [
        ("pinned_revision", "HYG001", pod("--tensor-parallel-size", "2", "--max-model-len", "8192")),
        ("pinned_image", "HYG002", FITS),
        ("engine_version_stated", "HYG003", pod(*TP2, image="vllm/vllm-openai:main")),
    ],
)
def test_a_demand_makes_an_error(demand: str, code: str, text: str) -> None:
    assert all(each.level != "error" for each in findings(judged("{}\n", text), code))
    assert [each.level for each in findings(judged(f"require: {{{demand}: true}}\n", text), code)] == ["error"]


def test_a_gpu_by_default_is_not_enough_where_it_must_be_stated() -> None:
    policy = "defaults: {gpu: h100-sxm}\nrequire: {gpu_stated: true}\n"
    assert [each.level for each in findings(judged(policy, pod(*TP2, card=None)), "HYG009")] == ["error"]
    assert findings(judged(policy, FITS), "HYG009") == []


def test_prices_are_for_all_copies_and_their_limit_is_kept() -> None:
    # Two cards for each of three copies at 2.5 are 15.
    text = pod(*TP2, replicas=3)
    found = judged("prices: {h100-sxm: 2.5}\nlimits: {max_usd_per_hour: 14}\n", text)
    assert deployment(found).usd_per_hour == 15
    assert [each.level for each in findings(found, "LIM007")] == ["error"]
    assert findings(judged("prices: {h100: 2.5}\nlimits: {max_usd_per_hour: 15}\n", text), "LIM007") == []


def test_excluded_files_are_not_read(folder: Path) -> None:
    write(folder, {"third/a.yaml": FITS, "own/a.yaml": FITS, "moeplan.yaml": 'exclude: ["third/*"]\n'})
    assert {each.file for each in check(".", offline=True).deployments} == {"own/a.yaml"}


def test_rules_of_the_policy_and_those_of_the_command_line() -> None:
    text = pod("--max-model-len", "8192", gpus=1)
    assert {each.code for each in judged("select: [FIT]\n", text).findings} == {"FIT001"}
    # The command line's are asked in the place of the policy's.
    assert {each.code for each in judged("select: [FIT]\n", text, select=["hyg"]).findings} == {"HYG001"}
    # Of two prefixes that meet a rule the longer counts.
    asked = judged("{}\n", text, select=["HYG", "FIT001"], ignore=["HYG001", "FIT"])
    assert {each.code for each in asked.findings} == {"FIT001"}


@pytest.mark.parametrize("options", [{"select": ["FIT"]}, {"ignore": ["READ"]}])
def test_what_is_not_asked_does_not_pass_where_it_is_not_known(options: dict[str, object]) -> None:
    for text in (pod(*TP2, card=None), pod(*TP2[:2], "--max-model-len", "$(LENGTH)", "--revision", COMMIT)):
        found = judged("{}\n", text, **options)
        assert deployment(found).verdict == "cannot-verify"
        assert found.findings == ()


# What it may not say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "way"),
    [
        ("limts: {a: 1}\n", "limts", "limits"),
        ("limits: {min_kv_token: 1}\n", "limits.min_kv_token", "min_kv_tokens"),
        ("limits: {min_kv_tokens: many}\n", "limits.min_kv_tokens", "32k"),
        ("limits: {min_kv_tokens: -1}\n", "limits.min_kv_tokens", ""),
        ("limits: {min_context_tokens: 9, max_context_tokens: 8}\n", "limits.min_context_tokens", ""),
        ("require: {pinned_image: yes please}\n", "require.pinned_image", ""),
        ("allow: {gpus: h100}\n", "allow.gpus", ""),
        ("defaults: {context: 0}\n", "defaults.context", ""),
        ("defaults: {gpu: h999}\n", "defaults.gpu", "moeplan gpus"),
        ("defaults: {engine: vlm}\n", "defaults.engine", "vllm"),
        ("defaults: {engine_version: newest}\n", "defaults.engine_version", ""),
        ("gpus: {pool: h999}\n", "gpus.pool", "moeplan gpus"),
        ("prices: {h999: 1}\n", "prices.h999", "moeplan gpus"),
        ("prices: {h100: cheap}\n", "prices.h100", ""),
        ("severity: {HYG001: fatal}\n", "severity.HYG001", "error, warning, info"),
        ("severity: {HYG9: error}\n", "severity", "HYG009"),
        ("ignore: [NOPE]\n", "ignore", "docs/checks.md"),
        ("select: [NOPE]\n", "select", "docs/checks.md"),
        ("overrides: [{pth: a}]\n", "overrides.pth", "path"),
        ("overrides: [{ignore: [NOPE]}]\n", "overrides.ignore", "docs/checks.md"),
        ("overrides: [{defaults: {gpu: h999}}]\n", "overrides.defaults.gpu", "moeplan gpus"),
        ("schema: 2\n", "schema", "update"),
        ("- a list\n", "keys", "docs/checks.md"),
        ("limits: [\n", "YAML", ""),
        ("limits: {}\nlimits: {}\n", "limits", ""),
    ],
)
def test_what_cannot_be_meant_names_file_key_and_way_out(
    text: str, key: str, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"team/deploy.yaml": FITS, "moeplan.yaml": text})
    for inside, name in ((".", "moeplan.yaml"), ("team", "../moeplan.yaml")):
        monkeypatch.chdir(folder / inside)
        with pytest.raises(InputError) as raised:
            check(folder / "team", offline=True)
        assert raised.value.message.startswith(name)
        assert key in raised.value.message
        assert raised.value.hint
        assert way in raised.value.hint
        assert "\n" not in raised.value.message + raised.value.hint


def test_a_broken_pyproject_counts_only_where_it_speaks_of_us(folder: Path) -> None:
    write(folder, {"deploy.yaml": FITS, "pyproject.toml": "[project\n"})
    assert check("deploy.yaml", offline=True).policy is None
    write(folder, {"pyproject.toml": "[tool.moeplan\n"})
    with pytest.raises(InputError, match=r"pyproject\.toml"):
        check("deploy.yaml", offline=True)
    write(folder, {"pyproject.toml": "tool = 1\n"})
    assert check("deploy.yaml", offline=True).policy is None
