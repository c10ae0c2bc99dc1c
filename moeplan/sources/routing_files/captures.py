"""Captures of choices in JSON lines: written prompt by prompt, taken up again where they stopped, read as a profile."""

from __future__ import annotations

import base64
import binascii
import json
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import (
    CapturedLayer,
    CapturedPrompt,
    CaptureHeader,
    RoutingFold,
    header_problem,
    prompt_problem,
)
from moeplan.core.routing_profile import Provenance, RoutingProfile
from moeplan.sources.routing_files.facts import (
    check_schema,
    json_object,
    provenance_of,
    provenance_words,
    required_integer,
    required_text,
    unwritable,
)
from moeplan.sources.strict_json import unreadable
from moeplan.sources.strict_yaml import Block, shown

SCHEMA = "moeplan.routing-capture/1"

MOST_PROMPT_BYTES = 64 << 20
"""Choices of one prompt, unpacked: 68,000 tokens of 61 layers with 8 experts."""

MOST_LINE_BYTES = 96 << 20
"""One line: such a prompt packed badly, in base64."""

MOST_HEADER_BYTES = 1 << 20
MOST_PROMPTS = 1 << 18
MOST_CLASS_LETTERS = 64
MOST_PROBLEM_LETTERS = 500

AGAIN = "run the capture into this file again: it takes up what is missing; or delete that line"

_START = b'{"schema":"' + SCHEMA.encode() + b'"'
"""What a capture begins with, even one whose header was cut short: nobody else's file is written over."""

_NOT_SAME = ("date", "tool_version")
"""Of the provenance: what may differ where a capture is taken up again."""


class CaptureWriter:
    """A capture that grows by a line per prompt. A file that is there is taken up, its incomplete last line dropped.

    Raises InputError where the file is a capture of something else, is broken, or cannot be written.
    """

    done: set[str]
    """Prompts that stand in the file with their choices: no need to run them again."""

    failed: dict[str, str]
    """Prompts that stand in the file with a problem, each with its last one: no need to say the same again."""

    def __init__(self, path: Path, header: CaptureHeader) -> None:
        wrong = header_problem(header)
        if wrong is not None:
            raise InputError(f"{header.model} cannot be captured: {wrong}", hint="is it a model with experts?")
        self.path = path
        self.header = header
        self.done, self.failed = set(), {}
        self._size_bytes = self._resume() if path.exists() else 0
        try:
            # Unbuffered: a line that was cut short by a full disk can be taken back.
            self._file: FileIO = FileIO(path, "r+" if self._size_bytes else "w")
            self._file.truncate(self._size_bytes)
            self._file.seek(self._size_bytes)
            if not self._size_bytes:
                self._write(_header_words(header))
        except OSError as error:
            raise unwritable(path, error) from error

    def append(self, prompt: CapturedPrompt) -> None:
        """Add one prompt, on the disk when this returns. InputError where it cannot be written.

        Raises ValueError for choices that are not those of the header's layers, or too many for one line.
        """
        words: dict[str, Any] = {
            "prompt": prompt.prompt,
            "class": prompt.prompt_class,
            "prefill_tokens": prompt.prefill_tokens,
            "decode_tokens": prompt.decode_tokens,
            "experts": None,
            "margins": prompt.margins,
            "dropped": prompt.dropped,
            "problem": None if prompt.problem is None else prompt.problem[:MOST_PROBLEM_LETTERS],
        }
        if prompt.problem is None:
            wrong = prompt_problem(self.header, prompt)
            if wrong is None and len(prompt.experts) > MOST_PROMPT_BYTES:
                wrong = f"its choices have {len(prompt.experts)} bytes; no more than {MOST_PROMPT_BYTES} are kept of a prompt"
            if wrong is not None:
                raise ValueError(wrong)
            words["experts"] = base64.b64encode(zlib.compress(prompt.experts, 1)).decode()
        try:
            self._write(words)
        except OSError as error:
            raise unwritable(self.path, error) from error
        if words["problem"] is None:
            self.done.add(prompt.prompt)
        else:
            self.failed[prompt.prompt] = words["problem"]

    def close(self) -> None:
        """Close the file. Nothing was held back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, words: dict[str, Any]) -> None:
        line = json.dumps(words, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        left = memoryview(line)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
            self._size_bytes += len(line)
        except BaseException:  # a full disk, and Ctrl-C in the middle of a line
            with suppress(OSError):
                self._file.truncate(self._size_bytes)
                self._file.seek(self._size_bytes)
            raise

    def _resume(self) -> int:
        """Bytes of the whole lines that stand in the file; 0 where not even the header does."""
        kept = 0
        for number, line in _lines(self.path):
            where = f"{self.path}:{number}"
            if number == 1 and line[: len(_START)] != _START[: len(line)]:
                raise InputError(f"{self.path} is there, and is no capture", hint="name another file")
            if not line.endswith(b"\n"):
                break
            if number == 1:
                self._check_header(_read_header(line, where))
            else:
                block = json_object(line, where)
                name, problem = required_text(block, "prompt"), block.text("problem")
                if problem is None:
                    self.done.add(name)
                else:
                    self.failed[name] = problem
            kept += len(line)
        return kept

    def _check_header(self, there: CaptureHeader) -> None:
        pairs: list[tuple[str, Any, Any]] = [
            ("model", there.model, self.header.model),
            ("revision", there.revision, self.header.revision),
            ("layers", there.layers, self.header.layers),
        ]
        for key in Provenance._fields:
            if key not in _NOT_SAME:
                pairs.append((key, getattr(there.provenance, key), getattr(self.header.provenance, key)))
        for key, old, new in pairs:
            if old != new:
                said = "other layers" if key == "layers" else f"{key} {shown(old)}, and this one has {shown(new)}"
                raise InputError(
                    f"{self.path} is another capture: it has {said}", hint="name another file, or delete this one"
                )


def read_capture(path: Path) -> RoutingProfile:
    """The profile that a capture folds to. InputError, with file and line, where it is broken, cut short or holds nothing."""
    header, prompts = read_prompts(path)
    fold = RoutingFold(header)
    for where, prompt in prompts:
        try:
            fold.add(prompt)
        except ValueError as error:
            raise InputError(f"{where}: {error}", hint="is it a capture of another model? capture again") from error
    if not fold.sequences:
        problems = fold.profile().notes
        why = f": {problems[0]}" if problems else ""
        raise InputError(f"{path} holds no prompt with its choices{why}", hint="capture again, with other prompts")
    return fold.profile()


def read_prompts(path: Path) -> tuple[CaptureHeader, Iterator[tuple[str, CapturedPrompt]]]:
    """A capture's header and its prompts, one at a time, each with its file and line. InputError as `read_capture`."""
    lines = _lines(path)
    number, line = next(lines, (1, b""))
    if not line:
        raise InputError(f"{path} is empty", hint="capture again, or name another file")
    where = f"{path}:{number}"
    _check_whole(line, where)
    header = _read_header(line, where)
    return header, _prompts(path, header, lines)


def _prompts(
    path: Path, header: CaptureHeader, lines: Iterator[tuple[int, bytes]]
) -> Iterator[tuple[str, CapturedPrompt]]:
    seen: set[bytes] = set()
    for number, line in lines:
        where = f"{path}:{number}"
        _check_whole(line, where)
        prompt = _read_prompt(json_object(line, where), header)
        if prompt.problem is None:
            key = bytes.fromhex(prompt.prompt)
            if key in seen:
                raise InputError(
                    f"{where}: the prompt {prompt.prompt[:12]} stands there twice", hint="delete that line"
                )
            if len(seen) == MOST_PROMPTS:
                raise InputError(f"{where}: no more than {MOST_PROMPTS} prompts are read", hint="split the file")
            seen.add(key)
        yield where, prompt


def _check_whole(line: bytes, where: str) -> None:
    if not line.endswith(b"\n"):
        raise InputError(f"{where}: the line is cut short", hint=AGAIN)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their number from 1, each of bounded length; what is behind the last newline comes as it is."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is no ordinary file", hint="name a capture")
        with path.open("rb") as file:
            number, most = 1, MOST_HEADER_BYTES
            while line := file.readline(most + 1):
                if len(line) > most:
                    raise InputError(
                        f"{path}:{number}: the line is longer than such a line can be ({most >> 20} MiB)",
                        hint="is it a capture? name another file, or delete that line",
                    )
                yield number, line
                number, most = number + 1, MOST_LINE_BYTES
    except OSError as error:
        raise unreadable(path, error) from error


def _header_words(header: CaptureHeader) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": header.model,
        "revision": header.revision,
        "layers": [layer._asdict() for layer in header.layers],
        "provenance": provenance_words(header.provenance),
    }


def _read_header(line: bytes, where: str) -> CaptureHeader:
    block = json_object(line, where)
    check_schema(block, SCHEMA)
    layers = []
    for below in block.blocks("layers"):
        numbers = [required_integer(below, key, 0, 10**6) for key in CapturedLayer._fields]
        below.done()
        layers.append(CapturedLayer(*numbers))
    header = CaptureHeader(
        required_text(block, "model"), block.text("revision"), tuple(layers), provenance_of(block.block("provenance"))
    )
    block.done()
    wrong = header_problem(header)
    if wrong is not None:
        raise InputError(f"{where}: {wrong}", hint="capture again, or name another file")
    return header


def _read_prompt(block: Block, header: CaptureHeader) -> CapturedPrompt:
    name = required_text(block, "prompt")
    if len(name) != 64 or name.strip("0123456789abcdef"):
        raise block.wrong("prompt", f"is {shown(name)}, not a SHA-256 in hex", AGAIN)
    prompt_class = required_text(block, "class")
    if len(prompt_class) > MOST_CLASS_LETTERS or not prompt_class.isprintable():
        raise block.wrong("class", f"is {shown(prompt_class)}; a name has at most {MOST_CLASS_LETTERS} letters")
    most = MOST_PROMPT_BYTES // header.row_bytes
    prefill = required_integer(block, "prefill_tokens", 0, most)
    decode = required_integer(block, "decode_tokens", 0, most)
    problem = block.text("problem")
    if problem is not None and len(problem) > MOST_PROBLEM_LETTERS:
        raise block.wrong("problem", f"has more than {MOST_PROBLEM_LETTERS} letters")
    packed = block.text("experts")
    margins, dropped = _shares(block), _dropped(block)
    block.done()
    experts = b""
    if problem is None:
        if packed is None:
            raise block.wrong("experts", "is missing, and no `problem` says why", AGAIN)
        num_bytes = (prefill + decode) * header.row_bytes
        if num_bytes == 0 or num_bytes > MOST_PROMPT_BYTES:
            raise block.wrong(
                "prefill_tokens", f"and `decode_tokens` make {prefill + decode}; 1 to {most} are read", AGAIN
            )
        experts = _unpacked(block, packed, num_bytes)
    found = CapturedPrompt(name, prompt_class, prefill, decode, experts, margins, dropped, problem)
    wrong = prompt_problem(header, found) if problem is None else None
    if wrong is not None:
        raise InputError(f"{block.where}: {wrong}", hint=AGAIN)
    return found


def _unpacked(block: Block, packed: str, num_bytes: int) -> bytes:
    """The choices, unpacked to no more than the line's tokens have."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(packed, validate=True), num_bytes + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise block.wrong("experts", f"cannot be unpacked: {error}", AGAIN) from error
    if len(data) != num_bytes or not unpacker.eof or unpacker.unused_data:
        size = f"more than {num_bytes}" if len(data) > num_bytes else str(len(data))
        raise block.wrong("experts", f"unpacks to {size} bytes, and its tokens have {num_bytes}", AGAIN)
    return data


def _shares(block: Block) -> tuple[float | None, ...] | None:
    items = block.raw("margins")
    if items is None:
        return None
    numbers = isinstance(items, list) and all(
        item is None or (isinstance(item, int | float) and not isinstance(item, bool)) for item in items
    )
    if not numbers:
        raise block.wrong("margins", f"is {shown(items)}, not a list of shares", AGAIN)
    return tuple(None if item is None else float(item) for item in items)


def _dropped(block: Block) -> tuple[int, ...] | None:
    if block.raw("dropped") is None:
        return None
    return block.integers("dropped", 0)
