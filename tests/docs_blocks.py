"""Fenced blocks of the papers, and the moeplan commands inside them."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples" / "README.md"])
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
OUTPUTS = ("text", "json", "markdown")
OPERATORS = {"&&", "||", "|", ";", "&"}


class Block(NamedTuple):
    """One fenced block, with what the paper shows right below it, and where both stand in the paper's text."""

    paper: str
    line: int
    language: str
    text: str
    shown: str | None
    shown_place: tuple[int, int]
    saved_as: str | None
    """The file that the sentence above tells the reader to save it as."""

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.paper}:{self.line}"


class Command(NamedTuple):
    """One call of moeplan in a block, in the words of the paper."""

    text: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    alone: bool
    """False where another program starts it, feeds it or takes its output."""


def blocks(paper: Path) -> list[Block]:
    """Blocks of one paper, in their order. A block of output belongs to the one above it where nothing stands between."""
    text = paper.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    made: list[Block] = []
    for fence, following in zip(found, [*found[1:], None][: len(found)], strict=True):
        below = (
            following if following is not None and not text[fence.end() : following.start("indent")].strip() else None
        )
        shows = below is not None and below["language"] in OUTPUTS
        made.append(
            Block(
                str(paper.relative_to(ROOT)),
                text.count("\n", 0, fence.start()) + 1,
                fence["language"],
                textwrap.dedent(fence["text"]),
                below["text"] if shows and below is not None else None,
                below.span("text") if shows and below is not None else (0, 0),
                _saved_as(text[: fence.start()]),
            )
        )
    return made


def _saved_as(above: str) -> str | None:
    told = re.search(r"[Ss]ave\s+this\s+as\s+`([^`]+)`:\s*\Z", above)
    return told[1] if told else None


def commands(block: Block) -> list[Command]:
    """Calls of moeplan in a block of shell."""
    return [command for line in block.text.replace("\\\n", " ").splitlines() for command in calls(line)]


def calls(line: str) -> list[Command]:
    """Calls of moeplan in one line of shell: `moeplan ...`, `path/moeplan ...`, `... -m moeplan ...`."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    parts: list[list[str]] = [[]]
    operators = [""]
    for word in reader:
        if word in OPERATORS:
            operators.append(word)
            parts.append([])
        else:
            parts[-1].append(word)
    found = []
    for place, words in enumerate(parts):
        piped = "|" in operators[place : place + 2]
        command = _command(words, piped=piped)
        if command is not None:
            found.append(command)
    return found


def _command(words: list[str], *, piped: bool) -> Command | None:
    environment = []
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment.append((name, value))
    start = next(
        (
            place
            for place, word in enumerate(words)
            if (place == 0 and word.rpartition("/")[2] == "moeplan")
            or (word == "moeplan" and place and words[place - 1] == "-m")
        ),
        None,
    )
    if start is None:
        return None
    called = words[start + 1 :]
    redirected = False
    for sign in ("<", ">"):
        if sign in called:
            redirected = True
            place = called.index(sign)
            del called[place : place + 2]
    alone = not piped and not redirected and start in {0, 2}
    return Command(shlex.join(["moeplan", *called]), tuple(called), tuple(environment), alone)
