"""The lines of a log that may tell something, out of gigabytes that do not.

Whole blocks are searched for a few words, in C; only lines that hold one become text. What is in memory at one time is a
block and the longest line that is kept, whatever the size of the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from typing import IO, cast

from moeplan.core.errors import InputError

BLOCK_BYTES = 2**20
LONGEST_LINE_BYTES = 2**16
_SAMPLE_BYTES = 2**12
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"BZh": "bzip2"}
# A log holds none of these, but for the odd one that a crash left.
_NO_TEXT = bytes(set(range(32)) - set(b"\a\b\t\n\v\f\r\x1b")) + b"\x7f"
_CONTROL = re.compile("\x1b(?:\\[[0-9;:?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\))")
# Where the log drivers of docker, journald, Google Cloud and the engines' own JSON loggers put the line.
_JSON_FIELDS = ("log", "message", "MESSAGE", "msg", "textPayload")


def blocks_of(file: BufferedReader, name: str) -> Iterator[bytes]:
    """The bytes of an open log in blocks: gzip is unpacked, UTF-16 (what PowerShell's `>` writes) turned into UTF-8.

    Raises InputError for an empty file and for one that is no text.
    """
    head = file.peek(_SAMPLE_BYTES)[:_SAMPLE_BYTES]
    if head.startswith(_GZIP):
        import gzip

        file = cast(BufferedReader, gzip.GzipFile(fileobj=file))
        head = file.peek(_SAMPLE_BYTES)[:_SAMPLE_BYTES]
    if not head:
        raise _empty(name)
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise InputError(f"{name}: is packed with {kind}", hint="unpack it first, or pipe it in with `--log -`")
    if head.startswith(_UTF16):
        yield from _from_utf16(file)
        return
    if (len(head) - len(head.translate(None, _NO_TEXT))) * 50 > len(head):
        raise InputError(
            f"{name}: is no text",
            hint="give the engine's log, not a model or an archive; null bytes that a log rotation left go with tr -d '\\0'",
        )
    while block := file.read(BLOCK_BYTES):
        yield block


def blocks_of_lines(lines: Iterable[str], name: str) -> Iterator[bytes]:
    """Lines of text, with or without their ends, as blocks. Raises InputError where there are none."""
    held: list[bytes] = []
    size = 0
    empty = True
    for line in lines:
        empty = False
        held.append(line.rstrip("\n").encode("utf-8", "replace"))
        size += len(held[-1]) + 1
        if size >= BLOCK_BYTES:
            yield b"\n".join(held) + b"\n"
            held, size = [], 0
    if empty:
        raise _empty(name)
    if held:
        yield b"\n".join(held) + b"\n"


def _empty(name: str) -> InputError:
    return InputError(f"{name}: the log is empty", hint="give what the engine's output went to, errors included")


def telling_lines(blocks: Iterable[bytes], words: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Number and text of each line with one of `words` in it, clean of colours and of a log driver's JSON."""
    number = 1
    for piece in _whole_lines(blocks):
        at = 0
        for start, end in _spans(piece, words):
            number += piece.count(b"\n", at, start)
            at = start
            text = piece[start : min(end, start + LONGEST_LINE_BYTES)].decode("utf-8", "replace")
            yield number, _clean(text)
        number += piece.count(b"\n", at)


def _spans(piece: bytes, words: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where the lines with a word begin and end, in order. A carriage return ends a line too: progress bars use it."""
    spans: dict[int, int] = {}
    for word in words:
        found = piece.find(word)
        while found >= 0:
            feed = piece.rfind(b"\n", 0, found) + 1
            start = max(feed, piece.rfind(b"\r", feed, found) + 1)
            feed = piece.find(b"\n", found)
            end = feed if feed >= 0 else len(piece)
            back = piece.find(b"\r", found, end)
            end = spans[start] = back if back >= 0 else end
            found = piece.find(word, end)
    return sorted(spans.items())


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes cut at ends of lines; of a line longer than the limit the head is kept."""
    rest = b""
    for block in blocks:
        cut = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:][:LONGEST_LINE_BYTES]
        elif len(rest) < LONGEST_LINE_BYTES:
            rest = (rest + block)[:LONGEST_LINE_BYTES]
    if rest:
        yield rest


def _clean(line: str) -> str:
    text = line.strip()
    if text.startswith("{"):
        text = _unwrapped(text)
    return _CONTROL.sub("", text) if "\x1b" in text else text


def _unwrapped(line: str) -> str:
    """The line inside a log driver's JSON; the line itself where there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    for field in _JSON_FIELDS:
        text = record.get(field)
        if isinstance(text, str):
            process = record.get("processName")  # vLLM's JSON logger tells the rank there
            return f"({process} pid={record.get('process', 0)}) {text}" if isinstance(process, str) else text.strip()
    return line


def _from_utf16(file: IO[bytes]) -> Iterator[bytes]:
    import codecs

    decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
    while block := file.read(BLOCK_BYTES):
        yield decoder.decode(block).encode("utf-8", "replace")
