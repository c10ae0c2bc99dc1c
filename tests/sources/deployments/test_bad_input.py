"""Whatever lies beside a good deployment, that one is judged, and the bad one is told with its line, in little time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check, Finding
from moeplan.check.summary import exit_code
from moeplan.sources.deployments import files as files_of_deployments
from moeplan.sources.deployments import nodes
from tests.check.rule_examples import GOOD

MOST_S = 15
"""Of any one of them, on a machine that does other things too."""
ENGINE = "image: vllm/vllm-openai:v0.24.0\n"
"""A line that makes a file a likely deployment."""
UNKNOWN_KIND = f"apiVersion: example.com/v1\nkind: Elephant\nspec:\n  {ENGINE}"


def chained(first: str, link: str) -> str:
    """Anchors that stand for nine of the one before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {link.replace('*', ','.join([f'*a{n - 1}'] * 9))}" for n in range(1, 30)]
    return ENGINE + "\n".join(lines) + "\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD.text)
    return tmp_path


def judged(*paths: str) -> Check:
    """A check in which the good one passes, in time."""
    start = time.process_time()
    found = check(list(paths) or ".", offline=True)
    assert time.process_time() - start < MOST_S
    (good,) = (each for each in found.deployments if each.file == "good.yaml")
    assert (good.name, good.verdict) == ("server", "pass")
    assert not [each for each in found.findings if each.file == "good.yaml" and each.level in ("error", "unknown")]
    return found


def of_bad(found: Check, name: str = "bad.yaml") -> list[Finding]:
    return [each for each in found.findings if each.file == name]


# Broken YAML -----------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, int | None, int | None]] = {
    "never closed": (ENGINE + "args: [\n", 3, 1),
    "a bracket too many": (ENGINE + "a: 1\nargs: [1]]\n", 3, 10),
    "no mapping": (ENGINE + "a: 1\n b: 2\n", 3, 3),
    "a quote that never ends": (ENGINE + "a: 'x\nb: 1\n", 4, 1),
    "tabs": (f"spec:\n\t{ENGINE}", 2, 1),
    "tabs further on": (f"{ENGINE}spec:\n  a: 1\n\tb: 2\n", 4, 1),
    "no such anchor": (ENGINE + "a: *nowhere\n", 2, 4),
    "a sign of control": (ENGINE + "a: é\nbb: \x07\n", 3, 5),
    "JSON cut off": ('{"image": "vllm/vllm-openai",\n "args": [', 2, None),
    "brackets without end": (ENGINE + "x: " + "[" * 100_000, 2, None),
    "brackets that end": (ENGINE + "x: " + "[" * 50_000 + "]" * 50_000, 2, None),
    "keys inside of keys": (ENGINE + "".join(f"{' ' * n}a:\n" for n in range(1500)), None, None),
    "an anchor that holds itself": (ENGINE + "services: &a\n  a: *a\n", 2, 11),
    "a list that holds itself": (ENGINE + "x: &a [*a]\n", 2, 4),
    "a merge that holds itself": (ENGINE + "services: &a\n  <<: *a\n", 2, 11),
    "anchors that stand for billions": (chained("[x, x]", "[*]"), None, None),
    "merges of billions": (chained("{x: 1}", "{<<: [*]}"), None, None),
    "merges of billions of nothing": (chained("{}", "{<<: [*]}"), None, None),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_yaml(kind: str, here: Path) -> None:
    text, line, column = BROKEN[kind]
    (here / "bad.yaml").write_text(text)
    found = judged()
    (broken,) = of_bad(found)
    assert (broken.code, broken.level) == ("READ001", "error")
    assert broken.line == line if line is not None else 1 < broken.line <= text.count("\n")
    assert column in (None, broken.column)
    assert (exit_code(found), found.summary.failed) == (1, 0)


def test_what_stands_before_the_break_is_judged(here: Path) -> None:
    (here / "bad.yaml").write_text(
        GOOD.text + "---\n" + GOOD.text.replace("name: server", "name: second") + "  broken: [\n"
    )
    found = judged()
    assert [(each.file, each.name) for each in found.deployments] == [("bad.yaml", "server"), ("good.yaml", "server")]
    assert [each.code for each in of_bad(found) if each.level == "error"] == ["READ001"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ENGINE + "".join(f"k{n}: v\n" for n in range(300_000)), id="many keys"),
        pytest.param(ENGINE + "x: [" + "1," * 4_000_000 + "]\n", id="a long list"),
        pytest.param(ENGINE + "---\nmodel: x\n" * 500_000, id="many documents"),
    ],
)
def test_more_than_any_deployment_has(text: str, here: Path) -> None:
    (here / "bad.yaml").write_text(text)
    (broken,) = of_bad(judged())
    assert broken.code == "READ001"
    assert "more than" in broken.message
    assert 1 < broken.line <= text.count("\n") + 1


def test_a_long_text_that_has_little_in_it_is_read(here: Path) -> None:
    padding = "# words about the model and its GPU\n" * 60_000
    assert len(padding) > nodes.MOST_OF_TEXT
    (here / "bad.yaml").write_text(padding + GOOD.text)
    assert [each.file for each in judged().deployments] == ["bad.yaml", "good.yaml"]


# Files that are no texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "told"),
    [
        (b"\x7fELF\x02\x01\x01\x00" * 100, 1, "a binary file"),
        (ENGINE.encode() + b"a: 1\nb: \xff\xfe\n", 3, "not UTF-8 from line 3 on"),
        (b"\xff\xfea\x00:\x00 \x00b", 1, "not UTF-16 from line 1 on"),
    ],
)
def test_what_is_no_text(data: bytes, line: int, told: str, here: Path) -> None:
    (here / "bad.yaml").write_bytes(data)
    found = judged()
    (broken,) = of_bad(found)
    assert (broken.code, broken.line) == ("READ001", line)
    assert broken.message.startswith(told)
    assert found.summary.files_passed_over == 0


def test_a_manifest_of_fifty_megabytes(here: Path) -> None:
    with (here / "bad.yaml").open("w") as file:
        for _ in range(50):
            file.write(f"{ENGINE}# {'x' * 1024 * 1024}\n")
    (broken,) = of_bad(judged())
    assert (broken.code, broken.line, "more than 20 MiB" in broken.message) == ("READ001", 1, True)
    assert files_of_deployments.MOST_BYTES == 20 * 1024**2


def test_links_that_lead_nowhere_or_to_themselves(here: Path) -> None:
    (here / "bad.yaml").symlink_to(here / "bad.yaml")
    (here / "one.yaml").symlink_to(here / "two.yaml")
    (here / "two.yaml").symlink_to(here / "one.yaml")
    (here / "gone.yaml").symlink_to(here / "nowhere.yaml")
    (here / "folder").symlink_to(here, target_is_directory=True)
    (here / "folder.yaml").symlink_to(here, target_is_directory=True)
    found = judged()
    told = {each.file: (each.code, each.message) for each in found.findings if each.level == "error"}
    assert told == {
        "bad.yaml": ("READ001", "a link that leads to itself"),
        "one.yaml": ("READ001", "a link that leads to itself"),
        "two.yaml": ("READ001", "a link that leads to itself"),
        "gone.yaml": ("READ001", "cannot be read: No such file or directory"),
    }
    assert len(found.deployments) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission(here: Path) -> None:
    (here / "bad.yaml").write_text(GOOD.text)
    (here / "bad.yaml").chmod(0)
    (here / "closed").mkdir(mode=0)
    found = judged()
    assert {(each.file, each.code) for each in found.findings if each.level == "error"} == {
        ("bad.yaml", "READ001"),
        ("closed", "READ001"),
    }


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no such file on this system")
def test_a_file_that_opens_and_cannot_be_read(here: Path) -> None:
    (here / "bad.yaml").symlink_to("/proc/self/mem")
    (broken,) = of_bad(judged())
    assert (broken.code, broken.message) == ("READ001", "cannot be read: Input/output error")


def test_pipes_are_not_waited_for(here: Path) -> None:
    os.mkfifo(here / "bad.yaml")
    os.mkfifo(here / ".env")
    assert of_bad(judged()) == []


# Other programs' files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "name: CI\non: push\njobs: {build: {runs-on: gpu}}\n",
        UNKNOWN_KIND,
        "",
        "\n\n---\n...\n",
        "# nothing but a comment about vllm\n",
        "just words about a model\n",
        "- vllm\n- sglang\n",
        "? [a, b]\n: vllm\n",
        "<<: 3\nmodel: x\n",
        "!!python/object:os.system {model: x}\n",
        "models: [\n",
    ],
)
def test_files_of_other_programs_are_counted_and_an_error_where_they_are_named(text: str, here: Path) -> None:
    (here / "bad.yaml").write_text(text)
    met = judged()
    assert (of_bad(met), met.summary.files_passed_over, met.passed_over) == ([], 1, ("bad.yaml",))
    assert exit_code(met) == 0
    named = judged("bad.yaml", "good.yaml")
    (finding,) = of_bad(named)
    if text == "models: [\n":  # whoever names it means that it can be read
        assert (finding.code, finding.line, exit_code(named)) == ("READ001", 2, 1)
    else:
        assert (finding.code, finding.line, exit_code(named)) == ("READ010", 1, 2)


# Odd, and good ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xef\xbb\xbf" + GOOD.text.encode(), id="a byte order mark"),
        pytest.param(GOOD.text.encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.text.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(GOOD.text.replace("\n", "\r").encode(), id="CR"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.text.replace("\n", "\r\n").encode(), id="both"),
        pytest.param(GOOD.text.rstrip("\n").encode(), id="no line break at the end"),
        pytest.param(GOOD.text.replace("\n", "  \t\n").encode(), id="blanks at ends"),
    ],
)
def test_what_editors_do_to_a_file(data: bytes, here: Path) -> None:
    (here / "bad.yaml").write_bytes(data)
    found = judged()
    odd, good = found.deployments
    assert (odd.file, odd.verdict) == ("bad.yaml", "pass")
    assert odd._replace(file=good.file, settings=()) == good._replace(settings=())
    places = [[setting.where.rpartition(":")[2] for setting in each.settings if setting.where] for each in (odd, good)]
    assert places[0] == places[1]


def test_keys_that_are_given_twice(here: Path) -> None:
    (here / "bad.yaml").write_text(GOOD.text.replace("  replicas: 1\n", "  replicas: 1\n  replicas: 2\n"))
    found = judged()
    assert [(each.code, each.line) for each in of_bad(found) if each.code == "HYG008"] == [("HYG008", 7)]
    assert found.deployments[0].replicas == 2


def test_a_template_that_is_not_rendered(here: Path) -> None:
    (here / "bad.yaml").write_text(GOOD.text.replace("replicas: 1", "replicas: {{ .Values.replicas }}"))
    found = judged()
    assert [(each.code, each.line) for each in of_bad(found)] == [("READ002", 6)]
    assert exit_code(found) == 3


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve \"org/name\nfoo 'bar\n" * 2_000,
        "vllm serve org/name $((" * 10_000,
        "vllm serve org/name <<EOF\n" * 2_000,
        "if then else vllm serve org/name fi done esac )\n" * 2_000,
        "A=$A$A; " * 5_000 + "vllm serve $A\n",
    ],
)
def test_scripts_that_no_shell_could_read(text: str, here: Path) -> None:
    (here / "bad.sh").write_text(text)
    assert all(each.line <= text.count("\n") + 1 for each in of_bad(judged(), "bad.sh"))


def test_all_of_them_in_one_folder(here: Path) -> None:
    for number, (text, _, _) in enumerate(BROKEN.values()):
        (here / f"broken{number}.yaml").write_text(text)
    (here / "other.yaml").write_text(UNKNOWN_KIND)
    (here / "self.yaml").symlink_to(here / "self.yaml")
    (here / "binary.yaml").write_bytes(b"\x00")
    found = judged()
    assert (len(found.deployments), found.summary.errors) == (1, len(BROKEN) + 2)
    assert {each.file for each in found.findings if each.code == "READ001"} == {
        "self.yaml",
        "binary.yaml",
        *(f"broken{number}.yaml" for number in range(len(BROKEN))),
    }
