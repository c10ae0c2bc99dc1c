"""A check as SARIF: valid by the standard, the same bytes every time, paths that a code host can match."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.check.result import Check
from moeplan.check.rules import all_rules
from moeplan.report import check_sarif as module
from moeplan.report.check_sarif import check_sarif
from moeplan.version import __version__
from tests.report.check_examples import (
    COMMAND,
    EVIL,
    EXAMPLE,
    IGNORED,
    KNOWN,
    MOVING,
    NO_GPU,
    TOO_LARGE,
    check,
    finding,
    hostile,
    many,
)
from tests.report.ci_logs import commands, foreign_commands

OWN = Path(__file__).resolve().parents[1] / "data" / "sarif_parts.schema.json"
"""The parts that we write, by hand from the standard."""
WHOLE = os.environ.get("SARIF_SCHEMA")
"""A copy of the standard's own schema (sarif-schema-2.1.0.json), where there is one."""
CASES = {
    "one of everything": EXAMPLE,
    "nothing": check([]),
    "hostile": hostile(),
    "braces and links": hostile("{0} [a](1) ${TP}"),
    "many": many(30),
}


def run(made: Check) -> dict[str, Any]:
    (found,) = json.loads(check_sarif(made))["runs"]
    assert isinstance(found, dict)
    return found


def results(made: Check) -> dict[str, dict[str, Any]]:
    """Results by the codes of their rules."""
    return {each["ruleId"]: each for each in run(made)["results"]}


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_standard_says_of_the_parts_that_we_write(name: str) -> None:
    schema = json.loads(OWN.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(json.loads(check_sarif(CASES[name])))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_standards_own_schema_says(name: str) -> None:
    if WHOLE is None:
        pytest.skip("SARIF_SCHEMA names no copy of sarif-schema-2.1.0.json")
    schema = json.loads(Path(WHOLE).read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)
    errors = validator(schema, format_checker=validator.FORMAT_CHECKER).iter_errors(
        json.loads(check_sarif(CASES[name]))
    )
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_our_schema_of_the_parts_refuses_what_the_standard_forbids() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(OWN.read_text(encoding="utf-8")))
    for path, value in (
        (("results", 0, "level"), "none"),  # 3.27.9: a failure has a severity
        (("results", 2, "level"), "warning"),  # and what is open has none
        (("results", 0, "locations", 0, "physicalLocation", "artifactLocation", "uri"), "/abs.yaml"),
        (("results", 0, "message", "text"), "see [here](1)"),
        (("results", 0, "surprise"), 1),
    ):
        log = json.loads(check_sarif(EXAMPLE))
        place = log["runs"][0]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert list(schema.iter_errors(log)), path


def test_the_driver_names_itself_and_all_rules() -> None:
    driver = run(EXAMPLE)["tool"]["driver"]
    assert (driver["name"], driver["version"], driver["semanticVersion"]) == ("moeplan", __version__, __version__)
    assert driver["rules"] == run(check([]))["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in driver["rules"]] == [rule.code for rule in all_rules()]
    by_id = {rule["id"]: rule for rule in driver["rules"]}
    assert by_id["FIT001"]["name"] == "DoesNotFit"
    assert by_id["FIT001"]["shortDescription"]["text"] == "Does not fit."
    assert by_id["FIT001"]["defaultConfiguration"] == {"level": "error"}
    assert by_id["HYG003"]["defaultConfiguration"] == {"level": "note"}
    assert by_id["READ005"]["defaultConfiguration"] == {"level": "warning"}
    for rule in driver["rules"]:
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", rule["name"])
        assert f"# moeplan: ignore[{rule['id']}] reason" in rule["help"]["text"]
        assert rule["id"] in rule["help"]["markdown"]


def test_a_result_says_where_what_and_what_helps() -> None:
    found = results(EXAMPLE)["FIT001"]
    assert (found["kind"], found["level"]) == ("fail", "error")
    assert found["message"]["text"] == (
        "decode: needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB. Gap: 13.0 GiB on the fullest GPU. It fits with any "
        "one of: --tensor-parallel-size 16 (leaves 21.0 GiB per GPU); gpu: h200 (leaves 50.0 GiB per GPU)."
    )
    assert found["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "deploy/r1.yaml", "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": 30, "startColumn": 15},
            },
            "logicalLocations": [{"name": "decode", "fullyQualifiedName": "spec.template.spec.containers[0].args[0]"}],
        }
    ]
    assert found["partialFingerprints"] == {"moeplan/v1": TOO_LARGE.fingerprint}
    rules = run(EXAMPLE)["tool"]["driver"]["rules"]
    assert all(rules[each["ruleIndex"]]["id"] == code for code, each in results(EXAMPLE).items())


def test_what_is_unknown_is_open_and_has_no_severity() -> None:
    found = results(check([], [NO_GPU]))["READ005"]
    assert (found["kind"], found["level"]) == ("open", "none")


def test_levels_are_those_of_the_standard() -> None:
    assert {code: each["level"] for code, each in results(EXAMPLE).items()} == {
        "FIT001": "error", "READ001": "error", "LIM001": "warning", "READ005": "none", "HYG001": "warning",
        "HYG002": "warning", "HYG008": "warning", "HYG003": "note",
    }  # fmt: skip


def test_suppressions_and_states_are_of_all_results_or_none() -> None:
    found = results(EXAMPLE)
    assert found["HYG001"]["suppressions"] == [{"kind": "inSource", "justification": "a mirror of ours"}]
    assert found["LIM001"]["baselineState"] == "unchanged"
    others = [each for code, each in found.items() if code not in ("HYG001", "LIM001")]
    assert all(each["suppressions"] == [] and each["baselineState"] == "new" for each in others)
    policy = results(check([], [IGNORED._replace(suppressed_by="policy", state_reason="policy")]))["HYG001"]
    assert policy["suppressions"] == [{"kind": "external", "justification": "policy"}]
    assert "baselineState" not in policy
    plain = results(check([], [MOVING]))["HYG002"]
    assert not {"suppressions", "baselineState"} & set(plain)
    assert "suppressions" not in results(check([], [KNOWN]))["LIM001"]


def test_the_exit_code_and_notes_are_told() -> None:
    (found,) = run(EXAMPLE)["invocations"]
    assert found["exitCode"] == 1
    assert [each["message"]["text"] for each in found["toolExecutionNotifications"]] == ["made by hand"]
    assert run(check([]))["invocations"] == [{"executionSuccessful": True, "exitCode": 0}]
    assert run(check([], [NO_GPU]))["invocations"][0]["exitCode"] == 3


def test_a_run_holds_no_more_than_a_code_host_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MOST_RESULTS == 25_000
    monkeypatch.setattr(module, "MOST_RESULTS", 3)
    found = run(EXAMPLE)
    # By severity first, then by file: two errors and what could not be verified.
    assert [each["ruleId"] for each in found["results"]] == ["FIT001", "READ005", "READ001"]
    (note,) = [each["message"]["text"] for each in found["invocations"][0]["toolExecutionNotifications"][1:]]
    assert note.startswith("5 findings are left out")


def test_paths_are_relative_and_escaped() -> None:
    def artifact(file: str) -> dict[str, str]:
        (found,) = run(check([], [finding("FIT001", "x", file=file)]))["results"]
        place = found["locations"][0]["physicalLocation"]["artifactLocation"]
        assert isinstance(place, dict)
        return place

    assert artifact("-") == {"uri": "stdin"}
    assert artifact("a b/ü#1.yaml") == {"uri": "a%20b/%C3%BC%231.yaml", "uriBaseId": "%SRCROOT%"}
    assert artifact("a:b.yaml")["uri"] == "a%3Ab.yaml"  # else `a` would be a scheme
    assert artifact("../up.yaml") == {"uri": "../up.yaml"}
    assert artifact("bytes-\udcff.yaml")["uri"] == "bytes-%FF.yaml"


@given(st.text(min_size=1).filter(lambda text: not text.startswith(("/", "../")) and text != "-"))
def test_a_uri_leads_back_to_its_file(file: str) -> None:
    (found,) = run(check([], [finding("FIT001", "x", file=file)]))["results"]
    uri = found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.isascii()
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote(uri) == file


def test_the_same_bytes_in_any_order_and_on_any_machine() -> None:
    turned = EXAMPLE._replace(deployments=EXAMPLE.deployments[::-1], findings=EXAMPLE.findings[::-1])
    assert check_sarif(turned) == check_sarif(EXAMPLE)
    assert str(Path.cwd()) not in check_sarif(EXAMPLE)
    assert check_sarif(EXAMPLE).endswith("}\n")


@pytest.mark.parametrize("text", [EVIL, COMMAND, "[click](http://x)", "\\[a](1)"])
def test_names_from_outside_are_text(text: str) -> None:
    made = check_sarif(hostile(text))
    made.encode()
    assert not set(made) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\u202e"}
    for each in json.loads(made)["runs"][0]["results"]:
        assert "](" not in each["message"]["text"]
        assert len(each["message"]["text"].splitlines()) == 1
    assert commands(made) == []
    assert foreign_commands(made) == []


def test_what_a_message_says_ends_sentences_once() -> None:
    (found,) = run(check([], [finding("FIT001", "stopped!", hint="do this.")]))["results"]
    assert found["message"]["text"] == "stopped! Do this."
