"""The schemas of a check, its comparison, its policy, its lock file and its baseline, beside what is written and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from moeplan.check import result
from moeplan.check.baseline import baseline_text, read_baseline
from moeplan.check.rules import all_rules
from moeplan.core import policy
from moeplan.core.deployed import Role
from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.estimate.result import WayOut
from moeplan.report.as_json import as_json
from moeplan.sources.locked_models import Locked, lock_text
from moeplan.sources.policy import SEVERITIES, read_policy
from tests.report.check_examples import EXAMPLE, check, hostile, many
from tests.report.ci_logs import commands, foreign_commands
from tests.report.schemas import Schema, changed, without

CHECK, POLICY, LOCK, BASELINE = Schema("check"), Schema("policy"), Schema("lock"), Schema("baseline")
DIFF, LOCKED = Schema("check-diff"), Schema("lock-result")


@pytest.mark.parametrize("made", [EXAMPLE, check([]), many(3), hostile()])
def test_the_schema_describes_the_answer(made: result.Check) -> None:
    assert CHECK.complaints(as_json(made)) == []


def test_printed_it_holds_no_command_of_a_ci_machine() -> None:
    text = as_json(hostile())
    assert commands(text) == []
    assert foreign_commands(text) == []
    assert json.loads(text)["deployments"][0]["name"] == hostile().deployments[0].name


def test_it_has_the_fields_of_the_types() -> None:
    for path, record in (
        ((), result.Check),
        (("summary",), result.Summary),
        (("deployments", "*"), result.Judged),
        (("deployments", "*", "memory"), result.Memory),
        (("deployments", "*", "settings", "*"), result.Setting),
        (("findings", "*"), result.Finding),
        (("findings", "*", "ways_out", "*"), WayOut),
    ):
        CHECK.must_describe(path, record)


def test_it_has_their_words() -> None:
    judged, found = CHECK.at("deployments", "*")["properties"], CHECK.at("findings", "*")["properties"]
    assert judged["verdict"]["enum"] == list(get_args(result.Verdict))
    assert judged["role"]["enum"] == list(get_args(Role))
    assert found["level"]["enum"] == list(get_args(result.Level))
    assert found["state"]["enum"] == list(get_args(result.State))
    setting = CHECK.at("deployments", "*", "settings", "*")["properties"]
    assert setting["origin"]["enum"] == list(get_args(Origin))


def test_it_refuses_what_is_not_so() -> None:
    text = as_json(EXAMPLE)
    assert CHECK.complaints(without(text, "summary"))
    for path, value in (
        (("surprise",), 1),
        (("findings", 0, "level"), "fatal"),
        (("findings", 0, "line"), 0),
        (("findings", 0, "code"), "fit1"),
        (("deployments", 0, "verdict"), "unknown"),
        (("deployments", 0, "memory", "needed_bytes"), 1.5),
        (("deployments", 0, "tp"), 0),
        (("summary", "errors"), -1),
    ):
        assert CHECK.complaints(changed(text, path, value)), path


def test_every_code_is_one_for_the_schemas() -> None:
    code = jsonschema.Draft202012Validator(POLICY.document["$defs"]["code"])
    for rule in all_rules():
        assert not CHECK.complaints(changed(as_json(EXAMPLE), ("findings", 0, "code"), rule.code))
        assert all(code.is_valid(rule.code[:length]) for length in range(1, len(rule.code) + 1))
        assert code.is_valid(rule.code.lower())


def object_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = POLICY.document["$defs"][name]["properties"]
    return found


def test_the_policys_schema_has_every_key_that_is_read() -> None:
    assert tuple(object_of("limits")) == policy.Limits._fields
    assert tuple(object_of("require")) == policy.Required._fields
    assert tuple(object_of("allow")) == policy.Allowed._fields
    assert tuple(object_of("defaults")) == policy.Stead._fields
    assert POLICY.document["$defs"]["severity"]["additionalProperties"]["enum"] == list(SEVERITIES)


def test_nothing_else_is_allowed_anywhere() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "properties" in value:
                assert value["additionalProperties"] is False
                assert "object" in value["type"]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    for schema in (CHECK, POLICY, LOCK, BASELINE, DIFF, LOCKED):
        walk(schema.document)


FULL = """\
schema: 1
defaults: {gpu: h100-sxm, engine: vllm, engine_version: "0.23.0", model: m, revision: r, context: 32k, concurrency: 16}
limits:
  min_headroom_gib: 2
  min_headroom_percent: 2.5
  min_kv_tokens: 100k
  min_concurrency: 4
  min_context_tokens: 1_000
  max_context_tokens: 128K
  max_weights_gib_per_gpu: 60
  max_gpus_per_engine: 16
  max_total_gpus: 64
  max_usd_per_hour: 100.5
require: {pinned_revision: true, pinned_image: false, gpu_stated: true, engine_version_stated: true}
allow: {gpus: ["h100*"], engines: [vllm], models: ["org/*"], formats: [fp8], kv_dtypes: [auto]}
severity: {HYG001: error, fit: warning}
select: [FIT, ENG]
ignore: [HYG003]
models: {/model-cache/x: org/x@abc}
gpus: {pool-a: h100-sxm}
variables: {TP: 8, NAME: x}
prices: {h100-sxm: 2.5}
exclude: ["vendor/*"]
overrides:
- path: staging/*
  name: "*"
  defaults: {gpu: h200}
  limits: {min_headroom_gib: 0}
  require: {pinned_revision: false}
  allow: {gpus: ["*"]}
  ignore: [HYG]
  severity: {HYG002: info}
"""


def read(text: str, folder: Path) -> bool:
    """True where moeplan takes this policy."""
    (folder / "moeplan.yaml").write_text(text, encoding="utf-8")
    try:
        read_policy(folder / "moeplan.yaml")
    except InputError:
        return False
    return True


TAKEN = [
    "{}",
    FULL,
    "limits:",
    "overrides: {path: a}",
    "severity: {}",
    "exclude: []",
    "variables: {A: 1.5}",
    "select:\n",
]
REFUSED = [
    "surprise: 1", "schema: 2", "limits: {min_headroom: 2}", "limits: {min_headroom_gib: -1}", "limits: {min_kv_tokens: some}",
    "limits: {min_concurrency: 0}", "limits: {max_gpus_per_engine: 1.5}", "require: {pinned_image: 'yes'}",
    "allow: {gpus: h100}", "severity: {HYG001: fatal}", "select: FIT", "ignore: [1]", "models: [a]", "variables: {A: [1]}",
    "variables: {A: true}", "prices: {h100: cheap}", "exclude: ['']", "overrides: [1]", "overrides: [{file: a}]",
    "defaults: {context: much}", "defaults: {engine_version: 0.23}", "defaults: {gpu: ''}", "limits: 1", "[]",
    "overrides: [{limits: {x: 1}}]",
]  # fmt: skip


@pytest.mark.parametrize("text", TAKEN)
def test_what_moeplan_takes_an_editor_takes(text: str, tmp_path: Path) -> None:
    assert read(text, tmp_path)
    assert POLICY.complaints(json.dumps(yaml.safe_load(text))) == []


@pytest.mark.parametrize("text", REFUSED)
def test_what_moeplan_refuses_an_editor_marks(text: str, tmp_path: Path) -> None:
    assert not read(text, tmp_path)
    assert POLICY.complaints(json.dumps(yaml.safe_load(text)))


def test_the_full_policy_has_every_key() -> None:
    full = yaml.safe_load(FULL)
    assert list(full) == list(POLICY.document["properties"])
    assert list(full["overrides"][0]) == list(object_of("override"))
    for name in ("defaults", "limits", "require", "allow"):
        assert list(full[name]) == list(object_of(name))


def test_a_lock_file_is_described(tmp_path: Path) -> None:
    entry = Locked("org/x", None, "org/x", "0" * 40, "org/x", "config", "a" * 64, None, None, {"model_type": "x"}, None)
    text = lock_text([entry, entry._replace(model="org/y", headers_sha256="b" * 64, checkpoint_bytes=9, sidecar={})])
    assert LOCK.complaints(text) == []
    LOCK.must_describe(("models", "*"), Locked)
    for path, value in ((("surprise",), 1), (("schema",), "moeplan.lock/2"), (("models", 0, "config_sha256"), "x")):
        assert LOCK.complaints(changed(text, path, value)), path


def test_a_baseline_is_described(tmp_path: Path) -> None:
    text = baseline_text(EXAMPLE)
    assert BASELINE.complaints(text) == []
    assert BASELINE.complaints(changed(text, ("findings", 0, "fingerprint"), ""))
    assert BASELINE.complaints(without(text, "schema"))
    (tmp_path / "known.json").write_text(text, encoding="utf-8")
    assert len(read_baseline(tmp_path / "known.json")) == len(json.loads(text)["findings"]) == 7
