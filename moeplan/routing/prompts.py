"""Prompts by class: the set that ships, and files of the user's own, read one prompt at a time.

A file of JSON lines (.jsonl) has an object for each prompt: {"class": "code", "text": "..."}. Any other file has a prompt on
each line, all of the class `text`. Instead of "text" an object may have "long", which is written out here:

    {"class": "long", "long": {"start": S, "parts": [P, ...], "words": [W, ...], "times": N, "end": T}}

is S, then N sentences, then T, with blanks between. Sentence i (from 0) is part i modulo their number, its {n} replaced by
i + 1, its {a} by word i x i and its {b} by word 3 x i + 1, modulo the number of words: long, and never twice the same.

What cannot be a prompt is told apart from what is one, so that it stays in the result: lines that are empty, longer than
`MOST_BYTES`, not UTF-8 or no such object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from moeplan.core.errors import InputError

SHIPPED = Path(__file__).with_name("prompts.jsonl")
PLAIN_CLASS = "text"
MOST_BYTES = 4 << 20
"""Of one line."""

MOST_CLASSES = 32
MOST_CLASS_LETTERS = 64
_MOST_TIMES = 10_000
_PIECE_BYTES = 1 << 16


class Prompt(NamedTuple):
    """One line of a set."""

    sha256: str
    """Of the text in UTF-8, in hex; of the line's bytes where there is no text."""
    prompt_class: str
    text: str
    problem: str | None = None
    """Why it is no prompt; None where it is one."""


class PromptSet(NamedTuple):
    """What a file of prompts holds."""

    path: Path
    sha256: str
    """Of the file."""
    lines: int
    classes: tuple[str, ...]


def prompt_set(path: Path) -> PromptSet:
    """Look a file of prompts through once. InputError where it cannot be read, holds nothing, or has too many classes."""
    whole, lines = hashlib.sha256(), 0
    classes: dict[str, None] = {}
    for prompt in prompts(path, whole):
        lines += 1
        if prompt.problem is None:
            classes[prompt.prompt_class] = None
        if len(classes) > MOST_CLASSES:
            raise InputError(
                f"{path}: more than {MOST_CLASSES} classes of prompts", hint="put several classes under one name"
            )
    if not lines:
        raise InputError(f"{path} holds no prompts", hint="write a prompt on each line, or objects with class and text")
    return PromptSet(path, whole.hexdigest(), lines, tuple(classes))


def prompts(path: Path, whole: Any = None) -> Iterator[Prompt]:
    """The prompts of a file in their order, those that are none with their problem. `whole` is a hash fed with the file.

    Raises InputError where the file cannot be read.
    """
    in_json = path.suffix.lower() == ".jsonl"
    try:
        if not path.is_file():
            raise InputError(f"{path} is no file of prompts", hint="name a file with a prompt on each line")
        with path.open("rb") as file:
            for number, (line, digest, length) in enumerate(_lines(file, whole), 1):
                yield _prompt(number, line, digest, length, in_json=in_json)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="name another file of prompts") from error


def _lines(file: BinaryIO, whole: Any) -> Iterator[tuple[bytes, str, int]]:
    """Each line without its end, its SHA-256 and its length; of longer ones than `MOST_BYTES` only their begin."""
    while piece := file.readline(_PIECE_BYTES):
        kept, digest, length = bytearray(), hashlib.sha256(), 0
        while True:
            if whole is not None:
                whole.update(piece)
            bare = piece.rstrip(b"\r\n") if piece.endswith(b"\n") else piece
            digest.update(bare)
            length += len(bare)
            if len(kept) <= MOST_BYTES:
                kept += bare
            if piece.endswith(b"\n") or not (piece := file.readline(_PIECE_BYTES)):
                break
        yield bytes(kept), digest.hexdigest(), length


def _prompt(number: int, line: bytes, digest: str, length: int, *, in_json: bool) -> Prompt:
    def refused(problem: str, prompt_class: str = PLAIN_CLASS) -> Prompt:
        return Prompt(digest, prompt_class, "", f"line {number}: {problem}")

    if length > MOST_BYTES:
        return refused(f"too long: {length} bytes, where {MOST_BYTES} may be")
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return refused(f"not UTF-8 at byte {error.start + 1}")
    prompt_class = PLAIN_CLASS
    if in_json:
        found = _object(text)
        if isinstance(found, str):
            return refused(found)
        prompt_class, text = found
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        return refused("not UTF-8: half of a surrogate pair", prompt_class)
    if not text.strip():
        return refused("empty", prompt_class)
    return Prompt(hashlib.sha256(data).hexdigest(), prompt_class, text)


def _object(text: str) -> tuple[str, str] | str:
    """Class and text of a line of JSON, or what is wrong with it."""
    if not text.strip():
        return "empty"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(found, dict) or not isinstance(found.get("class"), str):
        return 'no object with "class" and "text"'
    name = found["class"]
    if not 0 < len(name) <= MOST_CLASS_LETTERS or not name.isprintable():
        return f'"class" is a name of 1 to {MOST_CLASS_LETTERS} letters'
    if set(found) == {"class", "text"} and isinstance(found["text"], str):
        return name, found["text"]
    if set(found) == {"class", "long"}:
        written = _written_out(found["long"])
        return (name, written) if written is not None else '"long" is no start, parts, words, times and end'
    return 'no object with "class" and "text"'


def _written_out(long: Any) -> str | None:
    """The text of a "long", as the head of this file says; None where it is none."""
    if not isinstance(long, dict) or set(long) != {"start", "parts", "words", "times", "end"}:
        return None
    start, end, parts, words, times = (long[key] for key in ("start", "end", "parts", "words", "times"))
    texts = isinstance(start, str) and isinstance(end, str) and _is_texts(parts) and _is_texts(words)
    if not texts or not isinstance(times, int) or not 0 < times <= _MOST_TIMES:
        return None
    made, size = [start], 0
    for i in range(times):
        sentence = parts[i % len(parts)].replace("{n}", str(i + 1))
        sentence = sentence.replace("{a}", words[i * i % len(words)]).replace("{b}", words[(3 * i + 1) % len(words)])
        made.append(sentence)
        size += len(sentence)
        if size > MOST_BYTES:
            return None
    return " ".join([*made, end])


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
