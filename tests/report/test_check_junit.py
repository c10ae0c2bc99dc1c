"""A check as JUnit XML: what fails fails, what is unknown does not pass, and any name is XML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.check.result import Check
from moeplan.report.check_junit import check_junit
from tests.report.check_examples import COMMAND, EVIL, EXAMPLE, OPEN, check, finding, hostile, judged, many
from tests.report.ci_logs import commands, foreign_commands

XSD = os.environ.get("JUNIT_XSD")
"""A copy of a schema of JUnit's XML, where there is one: junit-10.xsd of Jenkins' xUnit plugin."""
CASES = {
    "one of everything": EXAMPLE,
    "nothing": check([]),
    "hostile": hostile(),
    "commands": hostile(COMMAND),
    "many": many(30),
}
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "system-out": set(),
}
"""Elements and attributes of junit-10.xsd that we write; `timestamp`, `hostname` and `properties` are not among them."""
INSIDE = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error", "system-out"},
}


def root(made: Check) -> ET.Element:
    return ET.fromstring(check_junit(made))  # noqa: S314 - of our own making


def cases(made: Check) -> dict[tuple[str | None, str | None], ET.Element]:
    return {(case.get("classname"), case.get("name")): case for case in root(made).iter("testcase")}


def complaints(element: ET.Element) -> Iterator[str]:
    """What is not as junit-10.xsd and its readers want it."""
    if set(element.attrib) != ATTRIBUTES.get(element.tag):
        yield f"{element.tag} has the attributes {sorted(element.attrib)}"
    for child in element:
        if child.tag not in INSIDE.get(element.tag, set()):
            yield f"{child.tag} stands in {element.tag}"
        yield from complaints(child)
    if element.tag == "testcase" and len(element) > 1:
        yield "a case has several outcomes, and readers take the first"
    for tag, name in (("failure", "failures"), ("error", "errors"), ("testcase", "tests")):
        if name in element.attrib and int(element.get(name, "")) != len(list(element.iter(tag))):
            yield f"{element.tag} counts {element.get(name)} {name}"


@pytest.mark.parametrize("name", CASES)
def test_it_is_built_as_its_readers_want_it(name: str) -> None:
    assert list(complaints(root(CASES[name]))) == []


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_a_schema_says(name: str) -> None:
    if XSD is None:
        pytest.skip("JUNIT_XSD names no copy of junit-10.xsd")
    xmlschema = pytest.importorskip("xmlschema")
    assert [str(error) for error in xmlschema.XMLSchema(XSD).iter_errors(check_junit(CASES[name]))] == []


def test_one_suite_for_each_file_and_one_case_for_each_deployment() -> None:
    made = root(EXAMPLE)
    assert (made.get("tests"), made.get("failures"), made.get("errors")) == ("5", "2", "1")
    assert [suite.get("name") for suite in made] == ["deploy/r1.yaml", "deploy/small.yaml", "deploy/torn.yaml"]
    assert list(cases(EXAMPLE)) == [
        ("deploy/r1.yaml", "decode"), ("deploy/r1.yaml", "prefill"), ("deploy/small.yaml", "file"),
        ("deploy/small.yaml", "chat"), ("deploy/torn.yaml", "file"),
    ]  # fmt: skip


def test_a_failure_carries_code_and_numbers() -> None:
    (failure,) = cases(EXAMPLE)["deploy/r1.yaml", "decode"]
    assert failure.tag == "failure"
    assert failure.attrib == {"type": "FIT001", "message": "needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB"}
    text = failure.text or ""
    for told in (
        "FIT001 error at deploy/r1.yaml:30:15: needs 85.0 GiB",
        "- gap: 13.0 GiB on the fullest GPU",
        "--tensor-parallel-size 16 (leaves 21.0 GiB per GPU)",
        "HYG002 warning at deploy/r1.yaml:28:18",
        "tp=8 (deploy/r1.yaml:34)",
    ):
        assert told in text


def test_what_cannot_be_verified_is_an_error_and_never_passes() -> None:
    (error,) = cases(EXAMPLE)["deploy/r1.yaml", "prefill"]
    assert (error.tag, error.get("type")) == ("error", "cannot-verify")
    assert error.get("message") == "READ005 the file does not tell the type of the GPU"
    (alone,) = cases(check([OPEN]))["deploy/r1.yaml", "prefill"]
    assert (alone.tag, alone.get("message")) == ("error", "nothing could be held against a GPU")


def test_what_a_file_brings_is_named() -> None:
    broken = finding("READ003", "half of it is not there", level="unknown")
    made = cases(check([judged("a", line=5, verdict="cannot-verify")], [broken]))
    assert made["deploy/r1.yaml", "file"][0].get("message") == "READ003 half of it is not there"
    assert made["deploy/r1.yaml", "a"][0].get("message") == "because of what was found of its file"


def test_what_passes_has_no_outcome_and_tells_its_warnings() -> None:
    (told,) = cases(EXAMPLE)["deploy/small.yaml", "file"]
    assert told.tag == "system-out"
    assert "HYG008 warning" in (told.text or "")
    assert len(cases(check([judged("a")]))["deploy/r1.yaml", "a"]) == 0


def test_two_of_one_name_are_told_apart() -> None:
    made = cases(check([judged("a", line=1), judged("a", line=9), judged("b", line=20)]))
    assert [name for _, name in made] == ["a (line 1)", "a (line 9)", "b"]


def test_no_clock_and_the_same_bytes_in_any_order() -> None:
    turned = EXAMPLE._replace(deployments=EXAMPLE.deployments[::-1], findings=EXAMPLE.findings[::-1])
    assert check_junit(turned) == check_junit(EXAMPLE)
    assert {each.get("time") for each in root(EXAMPLE).iter() if "time" in each.attrib} == {"0"}


@pytest.mark.parametrize("text", [EVIL, COMMAND, "\ufffe\uffff\x00", "]]><x/>"])
def test_names_from_outside_are_text(text: str) -> None:
    made = check_junit(hostile(text))
    made.encode()
    assert list(complaints(root(hostile(text)))) == []
    assert commands(made) == []
    assert foreign_commands(made) == []
    for forbidden in "\x00\x1b\u202e\ufffe\uffff":
        assert forbidden not in made


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_name_is_xml(text: str) -> None:
    made = root(hostile(text))
    assert [case.tag for suite in made for case in suite] == ["testcase"] * 4
