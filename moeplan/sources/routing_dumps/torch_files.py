"""Files of torch.save, of which nothing is run: tensors of whole numbers, and lists, dictionaries, numbers and text.

Such a file is a zip archive without compression: `data.pkl`, a pickle that says how tensors lie in `data/0`, `data/1`, ... A pickle
is a program, so it is not given to `pickle`: its few harmless instructions are followed here, one by one, and any other is an
error. Source of the format: pytorch/pytorch, torch/serialization.py (`_save`) and torch/_utils.py (`_rebuild_tensor_v2`).
"""

from __future__ import annotations

import pickletools
import stat
import sys
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from moeplan.core.errors import InputError

MOST_PICKLE_BYTES = 64 << 20
MOST_STEPS = 8_000_000
"""Instructions of a pickle: a dump of two million tokens has half as many."""
MOST_STACK = 1 << 16
"""pickle writes lists and dictionaries in batches of 1,000."""
MOST_CONTAINERS = 1 << 20
MOST_ENTRIES = 1 << 20
MOST_DIMENSIONS = 8

CODES = {"ByteStorage": "B", "CharStorage": "b", "ShortStorage": "h", "IntStorage": "i", "LongStorage": "q"}
"""Storages of whole numbers, with their `array` codes."""

AGAIN = "dump again, and copy the file whole"
REFUSED = "nothing of a file is ever run: give a dump as the engine wrote it"


class Tensor(NamedTuple):
    """Where a tensor lies: elements `offset` + sum of index x `stride` of the storage `key`."""

    key: str
    code: str
    """As `array` calls its elements."""
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    elements: int
    """Of the storage."""


class _Storage(NamedTuple):
    key: str
    code: str
    elements: int


class _Name(NamedTuple):
    """A name that the pickle would import. Only what is listed in `_called` has a meaning."""

    text: str


class _Mark(NamedTuple):
    """Where a list of arguments begins."""


class TorchFile:
    """An open file: `content` is what was saved, with `Tensor` for tensors; `whole_numbers` reads one."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path} is no ordinary file", hint="name a dump")
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror or error}", hint="check the file and its permissions"
            ) from error
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def whole_numbers(self, tensor: Tensor) -> Sequence[int]:
        """All elements in order, the last dimension first. InputError where the file does not hold them."""
        data = array(tensor.code, self._entry(f"data/{tensor.key}", tensor.elements * array(tensor.code).itemsize))
        if len(data) != tensor.elements:
            raise self.broken(f"storage {tensor.key} has {len(data)} of {tensor.elements} elements")
        if self._big_endian != (sys.byteorder == "big"):
            data.byteswap()
        if _is_dense(tensor):
            size = _size(tensor.shape)
            return data if size == len(data) else data[tensor.offset : tensor.offset + size]
        found = array(tensor.code)
        for row in _rows(data, tensor):
            found.extend(row)
        return found

    def broken(self, reason: str) -> InputError:
        """The error for a file that does not hold what it says."""
        return InputError(f"{self.where}: broken torch file: {reason}", hint=AGAIN)

    def _open(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self._file)
            entries = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise InputError(
                f"{self.where}: no file that torch.save wrote, or cut short: {error}", hint=AGAIN
            ) from error
        pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(entries) > MOST_ENTRIES or len(pickles) != 1:
            raise self.broken(f"{len(pickles)} entries data.pkl among {len(entries):,}; a saved file has one")
        self._folder = pickles[0].removesuffix("data.pkl")
        self._entries = {entry.filename: entry for entry in entries}
        order = self._entry("byteorder", 16) if f"{self._folder}byteorder" in self._entries else b"little"
        self._big_endian = order == b"big"
        self.content: Any = _followed(self._entry("data.pkl", MOST_PICKLE_BYTES), self)

    def _entry(self, name: str, most_bytes: int) -> bytes:
        """One file of the archive. Stored as it is, so it has no more bytes than the archive."""
        entry = self._entries.get(self._folder + name)
        if entry is None:
            raise self.broken(f"{name} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise self.broken(f"{name} is compressed or locked, which torch.save never does")
        if entry.file_size > most_bytes:
            raise self.broken(f"{name} has {entry.file_size:,} bytes; {most_bytes:,} are read")
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise self.broken(f"{name} cannot be read ({error})") from error


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _is_dense(tensor: Tensor) -> bool:
    step = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True


def _rows(data: array[int], tensor: Tensor) -> Iterator[array[int]]:
    """The last dimension's rows of a tensor that is a view, in order."""
    starts = [tensor.offset]
    for length, stride in zip(tensor.shape[:-1], tensor.stride[:-1], strict=True):
        starts = [start + index * stride for start in starts for index in range(length)]
    length, stride = tensor.shape[-1], tensor.stride[-1]
    for start in starts:
        if stride:
            yield data[start : start + (length - 1) * stride + 1 : stride] if length else array(data.typecode)
        else:
            yield data[start : start + 1] * length


# The pickle --------------------------------------------------------------------------------------------------


def _followed(text: bytes, file: TorchFile) -> Any:
    """What the instructions build. InputError for one that could run code, or that torch.save never writes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    containers = 0
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(BytesIO(text))):
            name = opcode.name
            if steps > MOST_STEPS or len(stack) > MOST_STACK or containers > MOST_CONTAINERS:
                raise file.broken("its pickle is larger than that of any dump")
            if name in ("BININT1", "BININT2", "BININT", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT", "LONG1"):
                stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT"):
                assert isinstance(argument, int)
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                assert isinstance(argument, int)
                stack.append(memo[argument])
            elif name == "MARK":
                stack.append(_Mark())
            elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
                containers += 1
                stack.append([] if name == "EMPTY_LIST" else {} if name == "EMPTY_DICT" else ())
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                containers += 1
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == "TUPLE":
                containers += 1
                stack.append(tuple(_since_mark(stack)))
            elif name == "APPEND":
                item = stack.pop()
                _list(stack).append(item)
            elif name == "APPENDS":
                items = _since_mark(stack)
                _list(stack).extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
                _set(_dict(stack), items)
            elif name == "GLOBAL":
                stack.append(_Name(str(argument).replace(" ", ".")))
            elif name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_Name(f"{module}.{attribute}"))
            elif name == "BINPERSID":
                stack.append(_storage(stack.pop(), file))
            elif name == "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_called(called, arguments, file))
            elif name == "STOP":
                (content,) = stack
                return content
            elif name not in ("PROTO", "FRAME"):
                raise InputError(
                    f"{file.where}: its pickle has the instruction {name}, which no dump needs", hint=REFUSED
                )
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise file.broken(f"its pickle cannot be followed ({error})") from error
    raise file.broken("its pickle has no end")


def _since_mark(stack: list[Any]) -> list[Any]:
    items = []
    while not isinstance(item := stack.pop(), _Mark):
        items.append(item)
    items.reverse()
    return items


def _list(stack: list[Any]) -> list[Any]:
    if not isinstance(stack[-1], list):
        raise TypeError("items for what is no list")
    return stack[-1]


def _dict(stack: list[Any]) -> dict[Any, Any]:
    if not isinstance(stack[-1], dict):
        raise TypeError("keys for what is no dictionary")
    return stack[-1]


def _set(into: dict[Any, Any], items: Sequence[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):
            raise TypeError("a key that is no name")
        into[key] = value


def _storage(named: Any, file: TorchFile) -> _Storage:
    kind, of, key, _, elements = named
    if kind != "storage" or not isinstance(of, _Name) or not isinstance(key, str):
        raise TypeError("a reference that is no storage")
    if type(elements) is not int or elements < 0:
        raise ValueError(f"a storage of {str(elements)[:20]} elements")
    code = CODES.get(of.text.removeprefix("torch."))
    if code is None:
        raise InputError(
            f"{file.where}: it holds {elements} elements of {of.text}; counts are whole numbers",
            hint="is it a dump of routing? give the file of the engine's recorder",
        )
    if not key.isascii() or not key.isdigit():
        raise ValueError(f"a storage called {key[:20]!r}")
    return _Storage(key, code, elements)


def _called(called: Any, arguments: Any, file: TorchFile) -> Any:
    if not isinstance(called, _Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of what is no name")
    if called.text == "collections.OrderedDict" and not arguments:
        return {}
    if called.text != "torch._utils._rebuild_tensor_v2":
        raise InputError(
            f"{file.where}: refused: reading it would call {called.text[:80]}, which no dump of routing needs",
            hint=REFUSED,
        )
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError("a tensor of no storage")
    if len(shape) != len(stride) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions and {len(stride)} strides")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    # A view repeats elements where a stride is 0: no dump has more elements than its storage.
    if _size(shape) > storage.elements or (_size(shape) and last >= storage.elements):
        raise ValueError(f"a tensor of {_size(shape):,} elements in a storage of {storage.elements:,}")
    return Tensor(storage.key, storage.code, offset, tuple(shape), tuple(stride), storage.elements)
