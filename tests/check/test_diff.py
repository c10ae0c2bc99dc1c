"""What a change does: figures before and after, findings that came and went, against a revision of git or a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from moeplan.check.diff import Changed, Diff, diff
from moeplan.check.summary import exit_code
from moeplan.core.errors import InputError
from tests.check.repositories import commit, git, write
from tests.check.rule_examples import COMMIT, TP2, pod

TWO = pod(*TP2)
FOUR = pod("--tensor-parallel-size", "4", "--max-model-len", "8192", "--revision", COMMIT, gpus=4)
COMPOSE = """\
services:
  llm:
    image: vllm/vllm-openai:v0.24.0
    command: --model mistralai/Mixtral-8x7B-v0.1 --tensor-parallel-size ${TP} --max-model-len 8192
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 4, capabilities: [gpu]}]}}}
"""
posix = pytest.mark.skipif(os.name != "posix", reason="links of POSIX")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one deployment that is committed, and is the working folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    commit(folder, {"deploy/a.yaml": TWO})
    monkeypatch.chdir(folder)
    return folder


def compared(base: str = "HEAD", *paths: str, **asked: object) -> Diff:
    return diff(base, paths or (".",), offline=True, **asked)


def one(found: Diff) -> Changed:
    (changed,) = found.deployments
    return changed


def figure(changed: Changed, name: str) -> tuple[float | None, float | None]:
    ((base, head),) = [(each.base, each.head) for each in changed.figures if each.name == name]
    return base, head


# Figures ----------------------------------------------------------------------------------------------------------


def test_figures_before_and_after(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": FOUR, "moeplan.yaml": "prices: {h100: 2}\n"})
    found = compared()
    changed = one(found)
    assert (changed.change, changed.base_verdict, changed.head_verdict) == ("changed", "pass", "pass")
    # 46.7 billion parameters of two bytes, on two cards and on four; routers and norms lie whole on each.
    base, head = figure(changed, "weights_bytes")
    assert base == pytest.approx(46.70e9 * 2 / 2, rel=0.001)
    assert head == pytest.approx(46.70e9 * 2 / 4, rel=0.001)
    assert figure(changed, "gpus_per_engine") == (2, 4)
    assert figure(changed, "usd_per_hour") == (4, 8)
    assert figure(changed, "context_tokens") == (8192, 8192)
    base, head = figure(changed, "kv_tokens")
    assert base is not None
    assert head is not None
    assert head > 2 * base  # each rank holds half of the heads, and has more room
    assert [(each.name, each.base, each.head) for each in changed.moved] == [("layout", "tp 2", "tp 4")]
    assert (found.findings, found.gone) == ((), ())


def test_nothing_changes_where_only_words_do(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": f"# a word\n{TWO}"})
    found = compared()
    assert (one(found).change, one(found).moved, found.findings, found.gone) == ("same", (), (), ())


def test_added_and_removed(folder: Path) -> None:
    (folder / "deploy" / "a.yaml").unlink()
    write(folder, {"deploy/b.yaml": TWO.replace("name: server", "name: other")})
    assert [(each.file, each.name, each.change, each.base_verdict, each.head_verdict) for each in compared().deployments] == [
        ("deploy/b.yaml", "other", "added", None, "pass"),
        ("deploy/a.yaml", "server", "removed", "pass", None),
    ]  # fmt: skip


def test_several_of_one_name_are_told_apart(folder: Path) -> None:
    commit(folder, {"deploy/a.yaml": f"{TWO}---\n{TWO}"})
    write(folder, {"deploy/a.yaml": f"{TWO}---\n{FOUR}"})
    assert [each.change for each in compared().deployments] == ["same", "changed"]


def test_findings_that_came_and_went(folder: Path) -> None:
    commit(folder, {"deploy/a.yaml": pod("--max-model-len", "8192", gpus=1)})
    write(folder, {"deploy/a.yaml": TWO.replace("v0.24.0", "latest")})
    found = compared()
    assert {each.code for each in found.findings} == {"HYG002", "HYG003", "READ009"}
    assert {each.code for each in found.gone} == {"FIT001", "HYG001"}
    assert exit_code(found.head) == 0
    assert (one(found).base_verdict, one(found).head_verdict) == ("fail", "pass")


def test_what_is_ignored_is_not_new(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": TWO.replace("v0.24.0", "latest # moeplan: ignore[HYG] ours")})
    assert compared().findings == ()


# What holds on both sides -----------------------------------------------------------------------------------------


def test_the_policy_of_today_judges_both_sides(folder: Path) -> None:
    # It was not there yet, and its globs are relative to where it is.
    policy = "limits: {min_kv_tokens: 100m}\noverrides: [{path: deploy/b.yaml, limits: {min_kv_tokens: 1}}]\n"
    commit(folder, {"deploy/b.yaml": TWO})
    write(folder, {"moeplan.yaml": policy})
    found = compared()
    assert [(each.file, each.base_verdict, each.head_verdict) for each in found.deployments] == [
        ("deploy/a.yaml", "fail", "fail"),
        ("deploy/b.yaml", "pass", "pass"),
    ]
    assert found.findings == found.gone == ()


def test_one_that_lies_above_holds_from_inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"moeplan.yaml": "overrides: [{path: deploy/a.yaml, limits: {min_kv_tokens: 100m}}]\n"})
    monkeypatch.chdir(folder / "deploy")
    assert (one(compared()).base_verdict, one(compared()).file) == ("fail", "a.yaml")


def test_variables_of_then_and_of_now(folder: Path) -> None:
    commit(folder, {"c/compose.yaml": COMPOSE, "c/.env": "TP=2\n"})
    write(folder, {"c/.env": "TP=4\n"})
    for paths in (("c",), ("c/compose.yaml",)):
        moved = one(compared("HEAD", *paths, gpu="h100")).moved
        assert [(each.name, each.base, each.head) for each in moved] == [("layout", "tp 2", "tp 4")]


def test_files_beside_of_then_and_of_now(folder: Path) -> None:
    extending = "services: {llm: {extends: {file: base.yaml, service: llm}, env_file: sizes.env}}\n"
    base = COMPOSE.replace("command: --model", "entrypoint: [sh, -c]\n    command: [vllm serve").replace(
        "${TP}", "$$TP"
    )
    base = base.replace("8192\n", "8192]\n")
    commit(folder, {"c/compose.yaml": extending, "c/base.yaml": base, "c/sizes.env": "TP=2\n"})
    write(folder, {"c/sizes.env": "TP=4\n"})
    moved = one(compared("HEAD", "c/compose.yaml", gpu="h100")).moved
    assert [(each.name, each.base, each.head) for each in moved] == [("layout", "tp 2", "tp 4")]


def test_the_working_folder_stays_where_it_is(folder: Path) -> None:
    compared()
    assert Path.cwd() == folder
    with pytest.raises(InputError):
        compared("nowhere")
    assert Path.cwd() == folder


# The base ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "paths"),
    [
        (".", ()), (".", ("deploy",)), (".", ("deploy/a.yaml",)), ("deploy", ()), ("deploy", ("a.yaml",)), ("other", ("../deploy",)),
        ("..", ("repository",)), ("..", ("repository/deploy/a.yaml",)),
    ],
)  # fmt: skip
def test_from_every_folder(inside: str, paths: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other").mkdir()
    write(folder, {"deploy/a.yaml": FOUR})
    monkeypatch.chdir(folder / inside)
    changed = one(compared("HEAD", *paths))
    assert (changed.change, figure(changed, "gpus_per_engine")) == ("changed", (2, 4))
    assert (Path.cwd() / changed.file).samefile(folder / "deploy" / "a.yaml")


def test_whole_paths(folder: Path) -> None:
    write(folder, {"deploy/a.yaml": FOUR})
    assert one(compared("HEAD", str(folder / "deploy"))).change == "changed"


@posix
def test_over_a_link_of_the_machine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"deploy/a.yaml": FOUR})
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert one(compared("HEAD", "link/deploy")).change == "changed"


@pytest.mark.parametrize("name", ["HEAD", "main", "v1", "before", "HEAD~0"])
def test_revisions_of_all_kinds(name: str, folder: Path) -> None:
    git(folder, "tag", "v1")
    git(folder, "branch", "before")
    write(folder, {"deploy/a.yaml": FOUR})
    assert one(compared(name)).change == "changed"
    assert one(compared(git(folder, "rev-parse", "--short", name).strip())).change == "changed"


def test_a_folder_stands_for_this_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "then")
    write(folder, {"deploy/a.yaml": FOUR})
    assert one(compared(str(tmp_path / "then"))).change == "changed"
    assert one(compared("../then", "deploy")).change == "changed"
    monkeypatch.chdir(folder / "deploy")
    assert one(compared("../../then/deploy")).change == "changed"


def test_files_are_read_as_git_keeps_them(folder: Path) -> None:
    # Attributes leave a file out of an archive, and filters change one that is checked out.
    attributes = "deploy/a.yaml export-ignore\n*.yaml filter=broken\n"
    commit(folder, {".gitattributes": attributes, "deploy/ä ö.yaml": TWO})
    git(folder, "config", "filter.broken.smudge", "false")
    git(folder, "config", "filter.broken.required", "true")
    assert [each.change for each in compared().deployments] == ["same", "same"]


def test_what_is_ignored_here_is_ignored_there(folder: Path) -> None:
    commit(folder, {"deploy/local.yaml": TWO, ".gitignore": "local.yaml\n"})
    assert [each.file for each in compared("HEAD", "deploy").deployments] == ["deploy/a.yaml"]


@posix
def test_links(folder: Path) -> None:
    (folder / "prod").mkdir()
    (folder / "prod" / "inside.yaml").symlink_to("../shared/b.yaml")
    (folder / "prod" / "out.yaml").symlink_to("/etc/hostname")
    (folder / "prod" / "up.yaml").symlink_to("../../../../etc/hostname")
    commit(folder, {"shared/b.yaml": TWO})
    write(folder, {"shared/b.yaml": FOUR})
    changed = [each for each in compared("HEAD", "prod").deployments if each.file == "prod/inside.yaml"]
    assert [each.change for each in changed] == ["changed"]


def test_a_submodule_is_no_file(folder: Path) -> None:
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{git(folder, 'rev-parse', 'HEAD').strip()},deploy/sub")
    git(folder, "commit", "--quiet", "--message", "a submodule")
    assert one(compared("HEAD", "deploy")).change == "same"


# What is none -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["nowhere", "HEAD~9", "-x", "--output=x", "HEAD:deploy"])
def test_a_revision_that_is_none(base: str, folder: Path) -> None:
    with pytest.raises(InputError) as raised:
        compared(base)
    assert base in raised.value.message
    assert "revision" in raised.value.message
    assert raised.value.hint
    assert not (folder / "x").exists()


def test_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(write(tmp_path, {"a.yaml": TWO}))
    with pytest.raises(InputError, match="no git repository"):
        compared("HEAD")


def test_without_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(InputError, match="there is no git"):
        compared("HEAD")


def test_paths_of_two_repositories(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/a.yaml": TWO})
    with pytest.raises(InputError, match="outside of the repository"):
        compared("HEAD", "deploy", str(tmp_path / "elsewhere"))


def test_a_folder_that_holds_none_of_the_paths(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "then").mkdir()
    with pytest.raises(InputError, match="holds none of deploy"):
        compared(str(tmp_path / "then"), "deploy")


def test_standard_input(folder: Path) -> None:
    with pytest.raises(InputError, match="standard input"):
        compared("HEAD", "-")
