"""From paths to texts: folders, what git ignores, encodings, and files that cannot be read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.errors import InputError
from moeplan.sources.deployments.files import MOST_BYTES, FoundFile, find_files, read_text
from moeplan.sources.deployments.gitignore import fits, parse


def made(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n", encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*paths: str) -> list[str]:
    return [file.path for file in find_files(paths)]


# Folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_files_that_may_be_deployments_sorted(here: Path) -> None:
    made(
        here, "b.yaml", "a/z.yml", "a/serve.sh", "a/notes.md", "a/x.py", "Dockerfile.gpu", "Makefile", "a/vllm.service"
    )
    made(here, "chart/templates/deploy.yaml", "chart/values.yaml", "Modelfile.qwen", "k.json", "package-lock.json")
    made(here, "a/dockerfile-stages.png", "Makefile.md", "Modelfile.txt")
    made(here, "moeplan.yaml", ".hidden.yaml", ".git/x.yaml", ".venv/x.yaml", "node_modules/x.yaml", "a/vendor/x.yaml")
    assert found(".") == [
        "Dockerfile.gpu", "Makefile", "Modelfile.qwen", "a/serve.sh", "a/vllm.service", "a/z.yml", "b.yaml",
        "chart/templates/deploy.yaml", "chart/values.yaml", "k.json",
    ]  # fmt: skip
    assert not any(file.named for file in find_files(["."]))


def test_a_named_file_is_read_whatever_it_is_called_and_once(here: Path) -> None:
    made(here, "a/notes.md", "a/b.yaml", "a/.gitignore")
    (here / "a" / ".gitignore").write_text("*\n")
    assert [(file.path, file.named) for file in find_files(["a/b.yaml", "./a", "a/notes.md", "a//b.yaml", "-"])] == [
        ("a/b.yaml", True),
        ("a/notes.md", True),
        ("-", True),
    ]


def test_a_file_that_was_met_and_is_named_counts_as_named(here: Path) -> None:
    made(here, "a/b.yaml")
    assert [(file.path, file.named) for file in find_files(["a", "a/b.yaml"])] == [("a/b.yaml", True)]


def test_paths_are_shown_relative_to_the_working_folder(here: Path) -> None:
    made(here, "a/b.yaml", "c/d.yaml")
    os.chdir(here / "a")
    assert found(str(here / "a"), "../c") == ["b.yaml", "../c/d.yaml"]


def test_a_path_that_is_not_there(here: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        find_files(["nowhere.yaml"])


def test_links(here: Path) -> None:
    made(here, "real/a.yaml", "outside/b.yaml", "top/c.yaml")
    (here / "top" / "folder").symlink_to(here / "top", target_is_directory=True)  # a loop
    (here / "top" / "other").symlink_to(here / "real", target_is_directory=True)
    (here / "top" / "b.yaml").symlink_to(here / "outside" / "b.yaml")
    (here / "top" / "same.yaml").symlink_to(here / "top" / "c.yaml")
    (here / "top" / "self.yaml").symlink_to(here / "top" / "self.yaml")
    (here / "top" / "gone.yaml").symlink_to(here / "nowhere")
    files = find_files(["top"])
    assert [file.path for file in files] == ["top/b.yaml", "top/c.yaml", "top/gone.yaml", "top/self.yaml"]
    codes = [[remark.code for remark in read_text(file).remarks] for file in files]
    assert codes == [[], [], ["file-unreadable"], ["link-loop"]]


def test_pipes_in_folders_are_not_opened(here: Path) -> None:
    os.mkfifo(here / "p.yaml")
    assert found(".") == []


# Texts -----------------------------------------------------------------------------------------------------------


def text_of(path: Path, data: bytes) -> tuple[str | None, list[str]]:
    path.write_bytes(data)
    read = read_text(FoundFile(path.name, str(path), named=True))
    return read.text, [remark.code for remark in read.remarks]


@pytest.mark.parametrize(
    ("data", "text", "codes"),
    [
        (b"a: 1\nb: 2\n", "a: 1\nb: 2\n", []),
        (b"a: 1\r\nb: 2\r\n", "a: 1\nb: 2\n", []),
        (b"a: 1\rb: 2", "a: 1\nb: 2", []),
        ("\ufeffa: é".encode(), "a: é", []),
        ("a: é\r\nb".encode("utf-16"), "a: é\nb", []),
        (b"\xfe\xff" + "a: é".encode("utf-16-be"), "a: é", []),
        (b"a: \x00\x01", None, ["file-binary"]),
        (b"a: b\nc: \xff\n", None, ["file-encoding"]),
        (b"", "", []),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, text: str | None, codes: list[str]) -> None:
    assert text_of(tmp_path / "a.yaml", data) == (text, codes)


def test_the_line_of_a_wrong_byte_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: b\nc: \xff\n")
    (remark,) = read_text(FoundFile("a.yaml", str(path), named=True)).remarks
    assert remark.spot.line == 2


def test_a_file_that_is_too_large_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * MOST_BYTES)
    assert text_of(path, path.read_bytes())[1] == []
    assert text_of(path, path.read_bytes() + b"#")[1] == ["file-too-large"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(here: Path) -> None:
    made(here, "a.yaml", "b.yaml")
    (here / "a.yaml").chmod(0)
    assert [[remark.code for remark in read_text(file).remarks] for file in find_files(["."])] == [
        ["file-unreadable"],
        [],
    ]


def test_standard_input_that_was_read_already() -> None:
    assert read_text(find_files(["-"])[0], "\ufeffa\r\nb").text == "a\nb"


# What git ignores ------------------------------------------------------------------------------------------------


def test_folders_and_files_that_git_ignores(here: Path) -> None:
    (here / ".git").mkdir()
    made(here, "build/a.yaml", "src/build/b.yaml", "src/c.yaml", "src/d.gen.yaml", "src/keep.gen.yaml", "src/x/e.yaml")
    (here / ".gitignore").write_text("# comment\n\n/build/\n*.gen.yaml\n!keep.gen.yaml\n", encoding="utf-8")
    (here / "src" / ".gitignore").write_text("x/*\n", encoding="utf-8")
    assert found(".") == ["src/build/b.yaml", "src/c.yaml", "src/keep.gen.yaml"]
    # The patterns of the repository hold in its folders; one that is named is looked into.
    assert found("src") == ["src/build/b.yaml", "src/c.yaml", "src/keep.gen.yaml"]
    assert found("build") == ["build/a.yaml"]


CASES = [
    ("a.yaml", ["a.yaml", "x/a.yaml"], ["b.yaml"]),
    ("/a.yaml", ["a.yaml"], ["x/a.yaml"]),
    ("x/a.yaml", ["x/a.yaml"], ["a.yaml", "y/x/a.yaml"]),
    ("*.yaml", ["a.yaml", "x/b.yaml"], ["a.yml"]),
    ("x/*.yaml", ["x/a.yaml"], ["x/y/a.yaml"]),
    ("**/x", ["x", "y/x", "y/z/x"], ["xy"]),
    ("x/**", ["x/a", "x/y/a"], ["y/a"]),
    ("x/**/a", ["x/a", "x/y/a", "x/y/z/a"], ["a", "x/ab"]),
    ("a?c", ["abc"], ["ac", "abbc"]),
    ("[ab].yaml", ["a.yaml", "b.yaml"], ["c.yaml"]),
    ("[!ab].yaml", ["c.yaml"], ["a.yaml"]),
    ("\\#a", ["#a"], ["a"]),
    ("\\!a", ["!a"], ["a"]),
    ("a\\*", ["a*"], ["ab"]),
    ("a  ", ["a"], ["a  "]),
]


@pytest.mark.parametrize(("pattern", "ignored", "kept"), CASES)
def test_patterns(pattern: str, ignored: list[str], kept: list[str]) -> None:
    (parsed,) = parse(pattern)
    assert [path for path in (*ignored, *kept) if fits(parsed.parts, path.split("/"))] == ignored


def test_patterns_are_what_git_says(tmp_path: Path) -> None:
    """The same cases, asked of git itself."""
    if subprocess.run(["git", "init", "-q", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("no git here")
    for pattern, ignored, kept in CASES:
        (tmp_path / ".gitignore").write_text(f"{pattern}\n", encoding="utf-8")
        asked = subprocess.run(
            ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "--stdin"],
            input="\n".join((*ignored, *kept)), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert asked.stdout.split("\n")[:-1] == ignored, pattern


@given(st.text(alphabet="ab*?[]!/\\ #", max_size=30), st.text(alphabet="ab/", min_size=1, max_size=200))
def test_no_pattern_fails(pattern: str, path: str) -> None:
    for each in parse(pattern):
        fits(each.parts, [part for part in path.split("/") if part] or ["a"])
