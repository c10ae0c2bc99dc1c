"""GGUF files, whole or split, local or by range requests: metadata and tensor sizes, never a weight.

Source of how files are split: llama.cpp gguf-split. One file is read by `part`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.gguf.bytes import Read
from moeplan.sources.gguf.config import gguf_config
from moeplan.sources.gguf.part import Part, read_part
from moeplan.sources.gguf.types import FILE_TYPES

SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
KEPT_TEXTS = ("general.architecture", "general.name", "general.size_label", "general.basename")


class GgufFile(NamedTuple):
    """A model as its GGUF file describes it."""

    config: Mapping[str, Any]
    """In Hugging Face field names, for `families.read_config`."""
    checkpoint: Checkpoint
    architecture: str
    """As the file calls it (`general.architecture`)."""
    remarks: tuple[Remark, ...]
    """Everything doubtful, that of `checkpoint.remarks` too."""


# Whole models ----------------------------------------------------------------------------------------------


def read_gguf(path: Path) -> GgufFile:
    """The model in a local file; any part of a split model stands for all of them, which lie beside it.

    Raises InputError for a file that is missing, broken, no model, or lacks its other parts.
    """
    asked = _read_local(path)
    names = part_names(path.name)
    if len(names) != _stated_count(asked):
        return join_parts((asked,))  # whole, or without a name that says which part it is
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise _missing(asked.where, missing, len(names))
    return join_parts(tuple(asked if name == path.name else _read_local(path.parent / name) for name in names))


def read_gguf_ranges(read: Read, file_bytes: int, where: str) -> GgufFile:
    """The model in one file of `file_bytes` bytes, of which `read(offset, length)` gives any part.

    For a split model read each file with `read_part` and put them together with `join_parts`. A vocabulary of
    150,000 tokens takes three to four calls of `read`. Raises InputError as `read_gguf` does.
    """
    return join_parts((read_part(read, file_bytes, where),))


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of the split model that a file named `name` belongs to; that name alone if it is whole."""
    match = SPLIT_NAME.fullmatch(name)
    if match is None:
        return (name,)
    return tuple(
        f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)
    )


def join_parts(parts: Sequence[Part]) -> GgufFile:
    """One model from all its files, in order. Raises InputError where they do not make up one model."""
    first = parts[0]
    count = _stated_count(first)
    if count > 1 or len(parts) > 1:
        _check_parts(parts, count)
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    owners: dict[str, str] = {}
    for tensor in tensors:
        if tensor.name in owners:
            raise InputError(
                f"{first.where}: tensor {tensor.name!r} is in {owners[tensor.name]} and again in {tensor.file}",
                hint="keep the parts of one model apart from those of another",
            )
        owners[tensor.name] = tensor.file
    if not tensors:
        raise InputError(
            f"{first.where}: the file holds no tensors, only metadata (a vocabulary?)",
            hint="give the file that holds the weights",
        )
    config, architecture, doubts = gguf_config(first.values, tensors, first.where)
    remarks = _remarks(first, count)
    checkpoint = Checkpoint(tensors, tuple(part.file for part in parts), _metadata(first), remarks)
    return GgufFile(config, checkpoint, architecture, remarks + doubts)


def _stated_count(part: Part) -> int:
    count = part.values.get("split.count", 1)
    return count if isinstance(count, int) else 1


def _check_parts(parts: Sequence[Part], count: int) -> None:
    first = parts[0]
    names = part_names(first.file)
    if len(names) != count:
        raise InputError(
            f"{first.where}: the file is one of {count} parts, but its name does not say which",
            hint=f"keep the names that the parts were published under (NAME-00001-of-{count:05}.gguf)",
        )
    given = {part.file for part in parts}
    missing = [name for name in names if name not in given]
    if missing:
        raise _missing(first.where, missing, count)
    for number, part in enumerate(parts):
        stated = (_stated_count(part), part.values.get("split.no"))
        if stated != (count, number):
            raise InputError(
                f"{part.where}: the file should be part {number + 1} of {count}, but says split.count {stated[0]} "
                f"and split.no {stated[1]}",
                hint="download that part again under its own name",
            )
    total = first.values.get("split.tensors.count")
    found = sum(len(part.tensors) for part in parts)
    if isinstance(total, int) and total != found:
        raise InputError(
            f"{first.where}: the {count} parts hold {found} tensors, but split.tensors.count is {total}",
            hint="download all parts of one revision",
        )


def _missing(where: str, missing: Sequence[str], count: int) -> InputError:
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return InputError(
        f"{where}: {len(missing)} of {count} parts are missing: {shown}",
        hint="put all parts into one folder; only together they are the model",
    )


def _metadata(part: Part) -> dict[str, str]:
    told = {"format": "gguf", "version": str(part.version)}
    for key in KEPT_TEXTS:
        value = part.values.get(key)
        if isinstance(value, str):
            told[key] = value
    file_type = part.values.get("general.file_type")
    if isinstance(file_type, int):
        # llama.cpp sets this bit where it guessed the mix from the tensors.
        told["general.file_type"] = FILE_TYPES.get(file_type & ~1024, f"file type {file_type}")
    return told


def _remarks(part: Part, count: int) -> tuple[Remark, ...]:
    remarks: tuple[Remark, ...] = ()
    if part.big_endian:
        message = "the file is big-endian: llama.cpp loads it only on a big-endian machine"
        remarks += (Remark("gguf-big-endian", "warning", message, part.file),)
    if count <= 1 and len(part_names(part.file)) > 1:
        message = (
            "the file's name says that it is one part of several, its metadata says that it is whole: read as whole"
        )
        remarks += (Remark("gguf-split-name", "warning", message, part.file),)
    file_type = part.values.get("general.file_type")
    if isinstance(file_type, int) and file_type & ~1024 not in FILE_TYPES:
        message = f"general.file_type {file_type} is not known; sizes are read tensor by tensor and do not need it"
        remarks += (Remark("gguf-file-type-unknown", "info", message, part.file),)
    return remarks


def _read_local(path: Path) -> Part:
    try:
        with path.open("rb") as file:
            return read_part(_reader(file), path.stat().st_size, str(path), path.name)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}",
            hint="check the path and its permissions",
        ) from None


def _reader(file: BinaryIO) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read
