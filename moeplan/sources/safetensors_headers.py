"""Headers of safetensors files: names, dtypes, shapes and bytes of all tensors, and never a byte of their values.

A file is 8 bytes with the header's length, little-endian; the header, a JSON object; the data. Offsets in the header
count from the start of the data. What is refused here the safetensors library 0.8.0 refuses too (`Metadata::validate`),
except for names that occur twice, of which it silently takes the last.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.checkpoint_files import (
    ADAPTER_CONFIG,
    DOWNLOAD_AGAIN,
    INDEX,
    MOST_INDEX_BYTES,
    ChosenFiles,
    choose_files,
    index_file,
    is_adapter,
    parse_index,
    shard_total,
    weight_map,
)
from moeplan.sources.config_files import read_json_object

__all__ = [
    "INDEX",
    "LENGTH_BYTES",
    "MOST_HEADER_BYTES",
    "ChosenFiles",
    "choose_files",
    "choose_folder_files",
    "header_length",
    "index_file",
    "join_headers",
    "parse_header",
    "parse_index",
    "read_checkpoint_file",
    "read_checkpoint_folder",
]

LENGTH_BYTES = 8
"""How many bytes in front of the header state its length."""
MOST_HEADER_BYTES = 100_000_000
"""The longest header that the safetensors library 0.8.0 reads (`MAX_HEADER_SIZE`)."""
DTYPE_BITS: Mapping[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one element (safetensors 0.8.0 `Dtype::bitsize`)."""

_METADATA = "__metadata__"
_MOST_ELEMENTS = 2**58  # their bits fit into the 64-bit integers of every reader
_MOST_NAME_CHARACTERS = 1024  # published names stay below 200; longer ones would cost time and say nothing
_LFS_POINTER = b"version "
_SHOWN_CHARACTERS = 80

Header = tuple[Sequence[StoredTensor], Mapping[str, str]]


# One header --------------------------------------------------------------------------------------------------


def header_length(first_bytes: bytes, where: str, file_bytes: int | None) -> int:
    """Bytes of the header, from the first 8 bytes of a file of `file_bytes` (None: not known).

    Raises InputError for a length that no safetensors file has, or that reaches beyond the file.
    """
    if len(first_bytes) < LENGTH_BYTES:
        raise _broken(
            where, len(first_bytes), f"the file ends here; its header's length alone takes {LENGTH_BYTES} bytes"
        )
    first = first_bytes[:LENGTH_BYTES]
    if first == _LFS_POINTER:
        raise InputError(f"{where}: is a pointer of Git LFS, not the file itself", hint="run `git lfs pull`")
    length = int.from_bytes(first, "little")
    if length > MOST_HEADER_BYTES:
        raise _broken(
            where,
            0,
            f"states a header of {length:,} bytes, above the format's limit of {MOST_HEADER_BYTES:,}: "
            "no safetensors file, or a broken one",
        )
    if length < len("{}"):
        raise _broken(where, 0, f"states a header of {length} bytes, which holds no JSON object")
    if file_bytes is not None and LENGTH_BYTES + length > file_bytes:
        raise _broken(
            where, file_bytes, f"the header is cut: {file_bytes - LENGTH_BYTES:,} of {length:,} bytes are there"
        )
    return length


def parse_header(
    header: bytes, where: str, *, data_bytes: int | None, file: str | None = None
) -> tuple[list[StoredTensor], dict[str, str]]:
    """Tensors in the order of the file's data, and `__metadata__`, from the JSON of one header.

    `data_bytes` is what the file holds behind the header; None where that is not known. `where` names the file in
    messages, `file` (default: `where`) in the tensors.

    Raises InputError, with the file's byte and the reason, for whatever makes the file unreadable: no JSON object, JSON
    nested too deeply, a name given twice, an unknown dtype, dimensions that are negative or absurd, offsets that do not
    match dtype and shape, overlap, leave a hole or end elsewhere than the data.
    """
    text, entries = _parsed(header, where)
    file = sys.intern(file or where)
    metadata = entries.pop(_METADATA, None)
    if metadata is None:  # the library takes null for none, too
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(where, _position(text, _METADATA), "__metadata__ holds more than texts")

    spans: list[tuple[int, int, StoredTensor]] = []
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # experts share few shapes: one object each
    for name, entry in entries.items():
        try:
            spans.append(_span(name, entry, file, shapes))
        except _EntryError as error:
            raise _broken(where, _position(text, name), f"tensor {_shown(name)}: {error}") from None
    spans.sort(key=itemgetter(0, 1))

    data_start = LENGTH_BYTES + len(header)
    position = 0
    for begin, end, tensor in spans:
        if begin != position:
            fault = (
                f"overlap the tensor before, which ends at {position:,}"
                if begin < position
                else f"leave a hole of {begin - position:,} bytes before it"
            )
            raise _broken(
                where, data_start + begin, f"tensor {_shown(tensor.name)}: data_offsets [{begin}, {end}] {fault}"
            )
        position = end
    if data_bytes is not None and position != data_bytes:
        have, needed = data_start + data_bytes, data_start + position
        if position > data_bytes:
            raise _broken(where, have, f"shard is truncated: {have:,} of {needed:,} bytes")
        raise _broken(where, needed, f"{have - needed:,} bytes behind the last tensor belong to none")
    return [tensor for _, _, tensor in spans], metadata


class _EntryError(Exception):
    """What is wrong with one tensor's entry."""


class _DuplicateError(Exception):
    """A name that one JSON object has twice."""


def _parsed(header: bytes, where: str) -> tuple[str, dict[str, Any]]:
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(where, LENGTH_BYTES + error.start, "the header is not UTF-8 text") from None
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _broken(where, _bytes_before(text, error.pos), f"the header is broken JSON: {error.msg}") from None
    except _DuplicateError as error:
        quoted = _quoted(str(error))
        again = text.rfind(quoted) if text.count(quoted) == 2 else 0  # else nothing tells which one it is
        raise _broken(where, _bytes_before(text, again), f"{_shown(str(error))} is in the header twice") from None
    except RecursionError:
        raise _broken(where, LENGTH_BYTES, "the header's JSON is nested too deeply") from None
    except ValueError:  # an integer of thousands of digits
        raise _broken(where, LENGTH_BYTES, "the header's JSON holds absurd numbers") from None
    if not isinstance(entries, dict):
        raise _broken(where, LENGTH_BYTES, f"the header is a JSON {type(entries).__name__}, not an object")
    return text, entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateError(name)
            seen.add(name)
    return made


def _span(
    name: str, entry: Any, file: str, shapes: dict[tuple[int, ...], tuple[int, ...]]
) -> tuple[int, int, StoredTensor]:
    """Start and end in the data, and the tensor, with an equal shape of `shapes` where there is one."""
    try:
        dtype, dims, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError):
        raise _EntryError("an entry needs dtype, shape and data_offsets") from None
    bits = DTYPE_BITS.get(dtype) if type(dtype) is str else None
    if bits is None:
        raise _EntryError(f"dtype {_shown(dtype)} is not known")
    if type(dims) is not list:
        raise _EntryError(f"shape {_shown(dims)} is no list")
    for dim in dims:
        if type(dim) is not int or dim < 0:  # True is an int to isinstance
            raise _EntryError(f"dimension {_shown(dim)} is no size")
        bits *= dim
        if bits > 64 * _MOST_ELEMENTS:
            raise _EntryError(f"shape {_shown(dims)} is absurdly large")
    if bits % 8:
        raise _EntryError(f"shape {_shown(dims)} of {dtype} does not fill whole bytes")
    if type(offsets) is not list or len(offsets) != 2 or type(offsets[0]) is not int or type(offsets[1]) is not int:
        raise _EntryError(f"data_offsets {_shown(offsets)} are no two integers")
    begin, end = offsets
    num_bytes = bits // 8
    if begin < 0 or end - begin != num_bytes:
        raise _EntryError(
            f"data_offsets {_shown(offsets)} do not hold the {num_bytes:,} bytes of {dtype} {_shown(dims)}"
        )
    if len(name) > _MOST_NAME_CHARACTERS:
        raise _EntryError(f"a name of {len(name):,} characters is no tensor's")
    if not name.isascii() and not _is_text(name):
        raise _EntryError("the name is no Unicode text")
    shape = tuple(dims)
    return begin, end, StoredTensor(name, sys.intern(dtype), shapes.setdefault(shape, shape), num_bytes, file)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return False
    return True


def _broken(where: str, at_byte: int, reason: str) -> InputError:
    return InputError(f"{where}: at byte {at_byte:,}: {reason}", hint=DOWNLOAD_AGAIN)


def _position(text: str, name: str) -> int:
    """The file's byte at which a name stands; the header's first where it is written with escapes."""
    return _bytes_before(text, max(text.find(_quoted(name)), 0))


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _bytes_before(text: str, position: int) -> int:
    return LENGTH_BYTES + len(text[:position].encode("utf-8"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


# Several headers ---------------------------------------------------------------------------------------------


def join_headers(
    chosen: ChosenFiles, headers: Sequence[Header], index: Mapping[str, Any] | None, where: str = "the checkpoint"
) -> Checkpoint:
    """One checkpoint from the headers of `chosen.files`, one for each, in that order; `index` as `choose_files` had it.

    A tensor that two files hold counts once: the one that the index names, else the first. Remarks tell that
    (`tensors-twice`) and where files and index differ (`index-disagrees`). The metadata is that of the first file to
    have a key, and `total_size` of the index.
    """
    listed = weight_map(index, where) if index is not None else {}
    used = not set(chosen.files).isdisjoint(listed.values())
    if not used:
        listed = {}
    metadata: dict[str, str] = {}
    counted: dict[str, StoredTensor] = {}
    twice: list[str] = []
    twice_bytes = 0
    for tensors, own in headers:
        for key, value in own.items():
            metadata.setdefault(key, value)
        for tensor in tensors:
            other = counted.setdefault(tensor.name, tensor)
            if other is not tensor:
                if listed.get(tensor.name) == tensor.file:
                    counted[tensor.name], tensor = tensor, other  # noqa: PLW2901 (the one that does not count)
                twice.append(tensor.name)
                twice_bytes += tensor.num_bytes
    if not counted:
        raise InputError(
            f"{where}: the headers list no tensor", hint="give the model's config.json alone, or other files"
        )
    remarks = list(chosen.remarks)
    if twice:
        message = (
            f"{len(twice):,} tensors are in two files ({twice_bytes:,} bytes counted once), first {_shown(twice[0])}"
        )
        remarks.append(Remark("tensors-twice", "warning", message, where))
    if used and index is not None:
        remarks += _disagreements(counted, listed, where)
        about = index.get("metadata")
        if isinstance(about, Mapping) and type(about.get("total_size")) is int:
            metadata["total_size"] = str(about["total_size"])
    return Checkpoint(tuple(counted.values()), chosen.files, metadata, tuple(remarks))


def _disagreements(counted: Mapping[str, StoredTensor], listed: Mapping[str, str], where: str) -> list[Remark]:
    unlisted = [name for name in counted if name not in listed]
    absent = [name for name in listed if name not in counted]
    elsewhere = [name for name, tensor in counted.items() if listed.get(name, tensor.file) != tensor.file]
    made = []
    if unlisted:
        num_bytes = sum(counted[name].num_bytes for name in unlisted)
        made.append(
            f"the shards hold {len(unlisted):,} tensors ({num_bytes:,} bytes, counted) that the index does not list, "
            f"first {_shown(unlisted[0])}"
        )
    if absent:
        made.append(f"the index lists {len(absent):,} tensors that no shard holds, first {_shown(absent[0])}")
    if elsewhere:
        made.append(
            f"{len(elsewhere):,} tensors are in another shard than the index says, first {_shown(elsewhere[0])}"
        )
    return [Remark("index-disagrees", "warning", message, where) for message in made]


# Local files -------------------------------------------------------------------------------------------------


def read_checkpoint_file(path: Path) -> Checkpoint:
    """The tensors of one safetensors file. Reads its header and nothing behind it.

    Raises InputError for a file that cannot be read or is broken, for one shard of several, and for an adapter.
    """
    where = str(path)
    headers = [_read_header(path, path.name)]
    if is_adapter(path.name):
        choose_files([path.name], None, where=where, adapter_config=_adapter_config(path.parent))
    total = shard_total(path.name)
    if total is not None and total > 1:
        raise InputError(f"{where} is one of {total} shards, which are a model only together", hint="give their folder")
    return join_headers(ChosenFiles((path.name,)), headers, None, where)


def choose_folder_files(folder: Path) -> ChosenFiles:
    """`choose_files` for a folder on disk: tells also why a folder has no checkpoint. Raises InputError as that does."""
    return _choose_in(folder)[0]


def read_checkpoint_folder(folder: Path) -> Checkpoint | None:
    """The checkpoint of a model folder with safetensors; None where it has none (`choose_folder_files` tells why).

    Reads the index and the headers, nothing behind them. Raises InputError for missing, cut or broken shards, a broken
    index, an adapter without its model, and what cannot be read.
    """
    chosen, index = _choose_in(folder)
    if not chosen.files:
        return None
    headers = [_read_header(folder / name, name) for name in chosen.files]
    return join_headers(chosen, headers, index, str(folder))


def _choose_in(folder: Path) -> tuple[ChosenFiles, Mapping[str, Any] | None]:
    where = str(folder)
    names = _names(folder)
    index = None
    if name := index_file(names):
        path = folder / name
        index = parse_index(_first_bytes(path, MOST_INDEX_BYTES + 1), str(path))
    return choose_files(names, index, where=where, adapter_config=_adapter_config(folder)), index


def _adapter_config(folder: Path) -> Mapping[str, Any] | None:
    with suppress(InputError):  # only a name is wanted of it
        return read_json_object(folder / ADAPTER_CONFIG)
    return None


def _names(folder: Path) -> list[str]:
    """Files of the folder and of the folders in it, but not deeper: what a model is published with."""
    names: list[str] = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if not entry.is_dir():
                names.append(entry.name)
            elif not entry.name.startswith("."):
                with suppress(PermissionError), os.scandir(entry.path) as inside:  # another's folder, not the model's
                    names += sorted(f"{entry.name}/{one.name}" for one in inside if not one.is_dir())
    except OSError as error:
        raise _unreadable(str(folder), error) from None
    return names


def _read_header(path: Path, file: str) -> tuple[list[StoredTensor], dict[str, str]]:
    where = str(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would keep us waiting
            raise InputError(f"{where}: is no file", hint="give a model's folder, or one of its safetensors files")
        with open(path, "rb", buffering=0) as raw:  # a buffer would read on into the data
            file_bytes = os.fstat(raw.fileno()).st_size
            length = header_length(_read(raw, LENGTH_BYTES), where, file_bytes)
            header = _read(raw, length)
    except OSError as error:
        raise _unreadable(where, error) from None
    except ValueError:  # a null byte
        raise InputError(f"{where!r} is no path", hint="give a model's folder") from None
    if len(header) != length:  # cut since its size was asked for
        raise _broken(where, LENGTH_BYTES + len(header), f"the header is cut: {len(header):,} of {length:,} bytes")
    return parse_header(header, where, data_bytes=file_bytes - LENGTH_BYTES - length, file=file)


def _read(raw: Any, num_bytes: int) -> bytes:
    parts = []
    while num_bytes and (part := raw.read(num_bytes)):  # one read may bring less than asked for
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


def _first_bytes(path: Path, num_bytes: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as raw:
            return _read(raw, num_bytes)
    except OSError as error:
        raise _unreadable(str(path), error) from None


def _unreadable(where: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{where}: no such file", hint=DOWNLOAD_AGAIN)
    return InputError(f"{where}: cannot be read ({error.strerror or error})", hint="check its permissions")
