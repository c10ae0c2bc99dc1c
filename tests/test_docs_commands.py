"""Every moeplan command of the papers is run where it can be, parsed where it cannot, and never passed over.

A paper is run word for word and from top to bottom, in this process, in a copy of the examples with stand-ins for the reader's
own files. Where output stands right below, it is compared: `UPDATE_GOLDEN=1 python -m pytest tests/test_docs_commands.py`
writes it. So `docs/commands.md` has the help that there is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from moeplan import cli
from moeplan.sources.catalogue import find_entry
from tests.docs_blocks import PAPERS, ROOT, Block, Command, blocks, calls, commands

NOT_RUN = {
    "moeplan profile": "measures this machine, with torch",
    "moeplan profile --quick": "measures this machine, with torch",
    "moeplan profile --model qwen3-30b-a3b --name my-h200": "measures a GPU",
    "moeplan profile --against my-h200": "measures a GPU",
    "moeplan profile --section links": "measures eight GPUs, started by torchrun",
    "moeplan validate olmoe-1b-7b --context 4k --concurrency 8": "runs a model, with torch",
    "moeplan validate qwen3-30b-a3b --layers 8": "runs a model, with torch",
    "moeplan routing capture ./my-model --prompts prompts.jsonl -o capture.jsonl": "runs a model, with torch",
    "moeplan routing capture ./olmoe --prompts prompts.jsonl -o capture.jsonl": "runs a model, with torch",
    "moeplan routing place capture.jsonl --ranks 32 --redundant 32 --model deepseek-v3": "a capture of that model",
    "moeplan estimate deepseek-v3 --gpu 8xh200 --concurrency 64 --routing capture.jsonl": "a capture of that model",
    "moeplan estimate MODEL --gpu h100-sxm --concurrency 64 --routing profile.yaml": "the reader's own model",
    "moeplan routing import expert_distribution_recorder_1.pt --model deepseek-v3 -o counts.json": "an engine's dump",
    "moeplan check -": "what another program renders",
    "moeplan check --diff origin/main -o comment.md": "a branch of the reader's repository",
    "moeplan check deploy --locked --diff origin/main -o comment.md": "a branch of the reader's repository",
}
"""Commands that need what a machine that tests has not, each with what that is. They are parsed."""

CODES = {
    "moeplan estimate mixtral-8x7b --gpu a100-80gb --format json -o estimate.json --require-fit": 1,
    "moeplan check too-long.yaml": 1,
    "moeplan check deploy.yaml --gpu h100-sxm --fail-on warning": 1,
    "moeplan routing drift last-week.yaml today.yaml --bound 0.1": 1,
    "moeplan routing drift examples/routing/synthetic.yaml examples/routing/synthetic-later.yaml --bound 0.2": 1,
    "moeplan plan qwen3-235b-a22b --gpu rtx-4090 --ram 64GiB --context 8k --quant q4_k_m --offline": 1,
    "moeplan plan deepseek-v3 --gpus h100-sxm --max-gpus 8 --concurrency 16 --context 8k --quant stored --offline": 1,
    "moeplan record diff before.json after.json": 1,
    "moeplan record diff before.json after.json --format markdown -o comment.md": 1,
}
"""Exit codes of commands that do not end with 0, and that the papers do not promise to."""

STAND_INS = {
    "vllm.log": "logs/vllm.log",
    "capture.jsonl": "routing/synthetic.jsonl",
    "last-week.yaml": "routing/synthetic.yaml",
    "today.yaml": "routing/synthetic-later.yaml",
    "deploy": "deploy",
    "deploy.yaml": "deploy/gpt-oss-120b.yaml",
}
"""What papers call the reader's own, and the example that stands for it. `config.json` and `lab/` are made."""

NOTES_LEFT_OUT = "…\n"
"""The last line of shown output that says so."""

SHELL = ("sh", "bash")
IDS = {paper: str(paper.relative_to(ROOT)) for paper in PAPERS}
WITH_COMMANDS = [
    paper for paper in PAPERS if any(commands(block) for block in blocks(paper) if block.language in SHELL)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's working directory, with 100 columns and a configuration folder of its own."""
    examples = ROOT / "examples"
    shutil.copytree(examples, tmp_path / "examples")
    for name, example in STAND_INS.items():
        copy = shutil.copytree if (examples / example).is_dir() else shutil.copyfile
        copy(examples / example, tmp_path / name)
    entry = find_entry("mixtral-8x7b")
    assert entry is not None
    (tmp_path / "config.json").write_text(json.dumps(entry.config), encoding="utf-8")
    profile = next(block for block in blocks(ROOT / "docs" / "hardware-profiles.md") if block.language == "yaml")
    (tmp_path / "lab" / "hardware").mkdir(parents=True)
    (tmp_path / "lab" / "hardware" / "e1.yaml").write_text(profile.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.mark.parametrize("paper", WITH_COMMANDS, ids=IDS.get)
def test_commands_do_what_the_paper_says(
    paper: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[str] = []
    new: list[tuple[Block, str]] = []
    for block in blocks(paper):
        if block.saved_as is not None:
            (folder / block.saved_as).write_text(block.text, encoding="utf-8")
        called = commands(block) if block.language in SHELL else []
        known = len(faults)
        out = ""
        for command in called:
            parse(command)
            capsys.readouterr()  # --help and --version answer while they are parsed
            if command.text in NOT_RUN:
                assert block.shown is None, f"{block.place}: shows what was not compared"
                continue
            assert command.alone, f"{block.place}: {command.text} depends on another program: list it in NOT_RUN"
            with monkeypatch.context() as patch:
                for name, value in command.environment:
                    patch.setenv(name, value)
                code = cli._run(list(command.words))
            printed = capsys.readouterr()
            out += printed.out + printed.err
            if code != CODES.get(command.text, 0):
                faults.append(f"{block.place}: {command.text} ended with {code}: {printed.err}")
        if called and block.shown is not None and len(faults) == known and in_part(out, block) != block.shown:
            new.append((block, in_part(out, block)))
    if os.environ.get("UPDATE_GOLDEN"):
        rewrite(paper, new)
    else:
        faults += [f"{block.place} shows other lines:\n{differing(block, out)}" for block, out in new]
    assert not faults, "\n".join(faults)


def differing(block: Block, out: str) -> str:
    """Lines of the paper with -, those that were printed with +."""
    lines = unified_diff((block.shown or "").splitlines(), out.splitlines(), "paper", "printed", lineterm="", n=1)
    return "\n".join(lines)


def in_part(out: str, block: Block) -> str:
    """What is printed, up to the notes where the paper says that it leaves them out."""
    if block.shown is None or not block.shown.endswith(NOTES_LEFT_OUT):
        return out
    return re.split(r"^(?=[·!] )", out, maxsplit=1, flags=re.MULTILINE)[0] + NOTES_LEFT_OUT


def rewrite(paper: Path, new: list[tuple[Block, str]]) -> None:
    """Put what was printed into the paper, from the end on, so that places stay right."""
    text = paper.read_text(encoding="utf-8")
    for block, out in reversed(new):
        start, end = block.shown_place
        text = text[:start] + out + text[end:]
    if new:
        paper.write_text(text, encoding="utf-8")


# Parsing ---------------------------------------------------------------------------------------------------


def parse(command: Command) -> None:
    """Hold a command against the options and arguments that there are, as the command line itself does, and run nothing.

    Raises typer's usage errors. What commands read by themselves, such as an engine's flags, is left to a run.
    """
    asked = next((word for word in command.words if not word.startswith("-")), None)
    words, engine_words = cli._split(list(command.words), asked)
    known = get_command(cli.application(asked))
    with suppress(typer.Exit):
        context = known.make_context("moeplan", words, obj=engine_words)
        while hasattr(known, "resolve_command"):
            name, known, rest = known.resolve_command(context, [*context._protected_args, *context.args])
            context = known.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    "wrong",
    [
        "moeplan profile --quik",
        "moeplan profiles",
        "moeplan routing capture --prompts prompts.jsonl",
        "moeplan routing captures ./olmoe",
        "moeplan validate qwen3-30b-a3b --layers eight",
    ],
)
def test_what_is_only_parsed_cannot_be_wrong_either(wrong: str) -> None:
    with pytest.raises(cli._ClickException):
        parse(calls(wrong)[0])


def test_lists_name_only_commands_of_the_papers() -> None:
    found = {
        command.text
        for paper in WITH_COMMANDS
        for block in blocks(paper)
        if block.language in SHELL
        for command in commands(block)
    }
    assert not (NOT_RUN.keys() | CODES.keys()) - found


def test_no_line_that_calls_moeplan_is_lost_on_the_way() -> None:
    for paper in PAPERS:
        for block in blocks(paper):
            if block.language in SHELL:
                lines = [line for line in block.text.splitlines() if re.search(r"(^|[ /])moeplan (?!\.)", f"{line} ")]
                assert len(commands(block)) >= len(lines), block.place
            else:
                called = rf"^(\$ )?moeplan ({'|'.join(cli.COMMANDS)})\b"
                assert not re.search(called, block.text, re.MULTILINE), f"{block.place}: is this a block of sh?"


# Sentences, help, Python -----------------------------------------------------------------------------------

INLINE = re.compile(r"(?<!`)`moeplan ([a-z]+)((?: [^`]*)?)`(?!`)")


def test_commands_and_options_inside_sentences_exist() -> None:
    for paper in PAPERS:
        for name, rest in INLINE.findall(paper.read_text(encoding="utf-8").replace("\n", " ")):
            known = options(name, rest.split())
            for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest.partition(" -- ")[0]):
                assert option in known, f"{IDS[paper]}: `moeplan {name}{rest}`"


def options(name: str, rest: list[str]) -> set[str]:
    """Options of `moeplan NAME`, or of `moeplan GROUP NAME` where the first of the other words is in that group."""
    assert name in cli.COMMANDS, name
    command = get_command(cli.application(name)).commands[name]  # type: ignore[attr-defined]
    group = getattr(command, "commands", {})
    command = group.get(rest[0] if rest else "", command)
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def test_the_page_of_commands_has_the_help_of_each() -> None:
    """A new command gets a heading and two blocks by hand; `UPDATE_GOLDEN=1` fills the second."""
    page = ROOT / "docs" / "commands.md"
    shown = [command.text for block in blocks(page) if block.shown is not None for command in commands(block)]
    wanted = ["moeplan --help"]
    for name in cli.COMMANDS:
        wanted.append(f"moeplan {name} --help")
        command = get_command(cli.application(name)).commands[name]  # type: ignore[attr-defined]
        wanted += [f"moeplan {name} {inner} --help" for inner in getattr(command, "commands", {})]
    assert shown == wanted


def test_examples_inside_the_help_are_right() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    examples = re.findall(r"^ +\$ (moeplan .+)$", page, flags=re.MULTILINE)
    assert examples
    for example in examples:
        for command in calls(example):
            parse(command)


PYTHON_NOT_RUN = {
    "docs/recipes/add-a-model.md": "a function of moeplan itself",
    "docs/hardware-profiles.md": "asks a GPU, with torch",
    "docs/routing.md": "runs a model, with torch; tests/test_docs_routing.py looks its functions up",
}


@pytest.mark.parametrize(
    "paper", [paper for paper in PAPERS if any(block.language == "python" for block in blocks(paper))], ids=IDS.get
)
def test_python_of_the_papers_runs(paper: Path, folder: Path) -> None:
    for block in blocks(paper):
        if block.language == "python":
            code = compile(block.text, block.place, "exec")
            if block.paper not in PYTHON_NOT_RUN:
                exec(code, {})  # noqa: S102 - our own papers
