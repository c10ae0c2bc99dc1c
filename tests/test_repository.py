"""The README and the other papers say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moeplan.core import errors

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def tree() -> set[str]:
    """Paths that the README's file tree names, folders with a slash behind."""
    block = re.search(r"## File structure.*?^```text\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    paths: set[str] = set()
    folders: list[str] = []
    for line in block[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name = line.split()[0]
        del folders[depth:]
        paths.add("".join(folders) + name)
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_readme_opens_with_two_commands_that_bring_their_own_environment() -> None:
    estimate, tests = shell_blocks(README)[:2]
    for block in (estimate, tests):
        assert block.startswith("python3 -m venv ")
    assert "moeplan estimate" in estimate
    assert "--offline" in estimate
    assert "pytest" in tests


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = shell_blocks(README)[1].strip()
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f'test_command="{command}"' in script.splitlines()
    assert 'bash -c "$test_command"' in script.splitlines()


def test_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    table = README.partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    assert documented == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_links_between_papers_lead_somewhere(paper: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", paper.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (paper.parent / target).exists(), f"{paper.name} links to {target}"


def test_file_tree_names_only_what_exists() -> None:
    gone = [path for path in sorted(tree()) if not (ROOT / path).exists()]
    assert not gone


def test_file_tree_names_every_module_of_the_upper_floors_and_of_core() -> None:
    folders = ("moeplan", "moeplan/core", "moeplan/sources", "moeplan/report", "moeplan/engines")
    modules = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).glob("*.py")}
    modules = {module for module in modules if not module.endswith("__init__.py")}
    unnamed = sorted(modules - tree())
    assert not unnamed
