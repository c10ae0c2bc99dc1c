"""A file read forwards in a few growing chunks, and never more of it than the file has.

Every length that the file claims is held against the file's size before a byte is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from moeplan.core.errors import InputError

FIRST_CHUNK_BYTES = 1 << 20
MOST_CHUNK_BYTES = 4 << 20
MOST_HEADER_BYTES = 256 << 20
"""Published headers end below 30 MB, nearly all of it vocabulary."""

Read = Callable[[int, int], bytes]
"""read(offset, length): exactly `length` bytes of the file from `offset` on."""


class Forward:
    """The position in a file, and the window around it that was fetched. What is skipped is not fetched."""

    def __init__(self, read: Read, file_bytes: int, where: str) -> None:
        self.file_bytes = file_bytes
        self.where = where
        self.position = 0
        self.order = "<"
        """Byte order of numbers, as `struct` writes it."""
        self._read = read
        self._window = b""
        self._window_start = 0
        self._chunk_bytes = FIRST_CHUNK_BYTES

    def broken(self, reason: str, offset: int | None = None) -> InputError:
        """The error for a file that does not hold what it says, at `offset` (or here)."""
        at = self.position if offset is None else offset
        return InputError(
            f"{self.where}: broken GGUF file at byte {at}: {reason}",
            hint="download or convert the file again, and compare its size with the original's",
        )

    def left_bytes(self) -> int:
        """Bytes from here to the end of the file."""
        return self.file_bytes - self.position

    def need(self, length: int, what: str) -> None:
        """Raise InputError unless `length` more bytes exist and belong to a header of possible size."""
        if length > self.left_bytes():
            raise self.broken(f"{what} needs {length} bytes, but the file ends after {max(0, self.left_bytes())} more")
        if self.position + length > MOST_HEADER_BYTES:
            raise self.broken(f"{what} reaches beyond {MOST_HEADER_BYTES >> 20} MiB; no header is that long")

    def take(self, length: int, what: str) -> bytes:
        """The next `length` bytes."""
        self._fetch(length, what)
        at = self.position - self._window_start
        self.position += length
        return self._window[at : at + length]

    def skip(self, length: int, what: str) -> None:
        """Leave out `length` bytes."""
        self.need(length, what)
        self.position += length

    def number(self, code: str, what: str) -> int | float:
        """The next number of the kind that `struct` calls `code`."""
        value: int | float = struct.unpack(self.order + code, self.take(struct.calcsize(code), what))[0]
        return value

    def unsigned(self, code: str, what: str) -> int:
        """The next whole number of the kind that `struct` calls `code`."""
        return int(self.number(code, what))

    def skip_strings(self, count: int, what: str) -> None:
        """Leave out `count` strings, each a 64-bit length and so many bytes. Only lengths are looked at."""
        self.need(8 * count, what)
        unpack = struct.Struct(f"{self.order}Q").unpack_from
        while count:
            self._fetch(8, what)
            window, at = self._window, self.position - self._window_start
            last = len(window) - 8
            while count and at <= last:
                at += 8 + unpack(window, at)[0]
                count -= 1
            start, self.position = self.position, self._window_start + at
            if self.position > self.file_bytes:
                self.position = start
                raise self.broken(f"a string of {what} reaches beyond the end of the file")
            self.need(0, what)

    def _fetch(self, length: int, what: str) -> None:
        self.need(length, what)
        at = self.position - self._window_start
        if at + length <= len(self._window):
            return
        kept = self._window[at:] if at < len(self._window) else b""
        start = self.position + len(kept)
        wanted = min(max(length - len(kept), self._chunk_bytes), self.file_bytes - start)
        fetched = self._read(start, wanted)
        if len(fetched) != wanted:
            raise self.broken(f"asked for {wanted} bytes and got {len(fetched)}", start)
        self._window, self._window_start = kept + fetched, self.position
        self._chunk_bytes = min(2 * self._chunk_bytes, MOST_CHUNK_BYTES)
