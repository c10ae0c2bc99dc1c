"""GGUF files, whole or split, local or by range requests: metadata and tensor sizes, never a weight.

Source of the format: the public definition (ggml docs/gguf.md), versions 2 and 3, and the limits that llama.cpp
checks when it loads a file (ggml/src/gguf.cpp, GGML_MAX_DIMS, general.alignment). Split files: llama.cpp gguf-split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.sources.gguf_bytes import Forward, Read
from moeplan.sources.gguf_config import gguf_config
from moeplan.sources.gguf_metadata import Unkept, Value
from moeplan.sources.gguf_types import FILE_TYPES, REMOVED_TYPES, TENSOR_TYPES, block

MAGIC = b"GGUF"
OLD_MAGICS = (b"lmgg", b"tjgg", b"algg", b"fmgg", b"GGML", b"ggml", b"ggjt", b"ggla")
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types that are numbers, with their `struct` codes."""
STRING, ARRAY, BOOL = 8, 9, 7
NUMBER_BYTES = {
    kind: {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "Q": 8, "q": 8, "d": 8}.get(c, 4) for kind, c in NUMBERS.items()
}

MOST_KEYS = 10_000
MOST_TENSORS = 200_000
MOST_NAME_BYTES = 1024
MOST_DIMENSIONS = 4
MOST_TEXT_BYTES = 4096
"""Longer texts (chat templates, licenses) are not kept."""
MOST_ITEMS = 10_000
"""Longer arrays are not kept: an array with one item per layer is shorter, one with an item per token longer."""
DEFAULT_ALIGNMENT = 32

SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
KEPT_TEXTS = ("general.architecture", "general.name", "general.size_label", "general.basename")


class Part(NamedTuple):
    """What one file says: a whole model, or one part of a split one."""

    file: str
    where: str
    """The file in messages."""
    version: int
    big_endian: bool
    values: Mapping[str, Value]
    tensors: tuple[StoredTensor, ...]


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
    first = _read_local(path)
    names = part_names(path.name)
    if _stated_count(first) <= 1:
        return join_parts((first,))
    if len(names) != _stated_count(first):
        return join_parts((first,))  # which says what is wrong
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise _missing(first.where, missing, len(names))
    return join_parts(tuple(first if name == path.name else _read_local(path.parent / name) for name in names))


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
    missing = [name for name in names if name not in {part.file for part in parts}]
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


# One file --------------------------------------------------------------------------------------------------


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


def read_part(read: Read, file_bytes: int, where: str, file: str | None = None) -> Part:
    """What one file says, without its other parts. `file` is its name in the checkpoint, the end of `where` if None."""
    forward = Forward(read, file_bytes, where)
    version = _version(forward)
    num_tensors = _count(forward, "number of tensors", 24, MOST_TENSORS)
    num_keys = _count(forward, "number of metadata keys", 13, MOST_KEYS)
    values: dict[str, Value] = {}
    for _ in range(num_keys):
        start = forward.position
        key = _name(forward, "a metadata key")
        if key in values:
            raise forward.broken(f"metadata key {key!r} appears twice", start)
        values[key] = _value(forward, key)
    name = where.rsplit("/", 1)[-1] if file is None else file
    tensors = _tensors(forward, num_tensors, values, name)
    return Part(name, where, version, forward.order == ">", values, tensors)


def _version(forward: Forward) -> int:
    magic = forward.take(min(4, forward.file_bytes), "the magic number")
    if magic != MAGIC:
        raise _no_gguf(forward.where, magic)
    raw = forward.take(4, "the version")
    version = int.from_bytes(raw, "little")
    if version and version & 0xFFFF == 0:
        forward.order = ">"
        version = int.from_bytes(raw, "big")
    if version == 1:
        raise InputError(
            f"{forward.where}: GGUF version 1, which llama.cpp wrote for a few weeks of 2023 and no longer reads",
            hint="convert the model again; versions 2 and 3 are read",
        )
    if version not in VERSIONS:
        raise InputError(
            f"{forward.where}: GGUF version {version} at byte 4 is not known",
            hint="versions 2 and 3 are read; a newer moeplan may know more",
        )
    return version


def _no_gguf(where: str, magic: bytes) -> InputError:
    if magic in OLD_MAGICS:
        hint = "it is a GGML file from before GGUF: convert the model again"
    elif magic == b"vers":
        hint = "it looks like a Git LFS pointer: fetch the file itself (git lfs pull)"
    else:
        hint = "give a .gguf file; other formats are a folder of safetensors or a config.json"
    return InputError(f"{where}: not a GGUF file: it begins with {magic!r}, not {MAGIC!r} (byte 0)", hint=hint)


def _count(forward: Forward, what: str, least_bytes: int, most: int) -> int:
    start = forward.position
    count = forward.unsigned("Q", f"the {what}")
    if count > most:
        raise forward.broken(f"the {what} is {count}; no model comes near {most}", start)
    if count * least_bytes > forward.left_bytes():
        raise forward.broken(f"the {what} is {count}, more than fit into the file", start)
    return count


def _name(forward: Forward, what: str) -> str:
    start = forward.position
    length = forward.unsigned("Q", f"the length of {what}")
    if length > MOST_NAME_BYTES:
        raise forward.broken(f"{what} of {length} bytes; names are at most {MOST_NAME_BYTES} bytes long", start)
    raw = forward.take(length, what)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise forward.broken(f"{what} is not UTF-8", start) from None


# Values ----------------------------------------------------------------------------------------------------


def _value(forward: Forward, key: str) -> Value:
    start = forward.position
    kind = forward.unsigned("I", f"the type of {key!r}")
    if kind == STRING:
        length = forward.unsigned("Q", f"the length of {key!r}")
        if length > MOST_TEXT_BYTES:
            forward.skip(length, f"the text {key!r}")
            return Unkept(length, "bytes of text")
        return forward.take(length, f"the text {key!r}").decode(errors="replace")
    if kind == ARRAY:
        return _array(forward, key)
    if kind not in NUMBERS:
        raise forward.broken(f"metadata key {key!r} has the unknown type {kind}", start)
    if kind == BOOL:
        return _truth(forward, key)
    return forward.number(NUMBERS[kind], f"the value of {key!r}")


def _truth(forward: Forward, key: str) -> bool:
    start = forward.position
    value = forward.unsigned("B", f"the value of {key!r}")
    if value > 1:
        raise forward.broken(f"{key!r} holds {value}, neither true (1) nor false (0)", start)
    return value == 1


def _array(forward: Forward, key: str) -> Value:
    start = forward.position
    kind = forward.unsigned("I", f"the item type of {key!r}")
    if kind == ARRAY:
        raise forward.broken(f"{key!r} is an array of arrays, which no reader supports", start)
    if kind != STRING and kind not in NUMBERS:
        raise forward.broken(f"the items of {key!r} have the unknown type {kind}", start)
    count = forward.unsigned("Q", f"the number of items of {key!r}")
    if kind == STRING:
        forward.skip_strings(count, f"the array {key!r}")
        return Unkept(count, "texts")
    if count > MOST_ITEMS or key.startswith("tokenizer."):
        forward.skip(count * NUMBER_BYTES[kind], f"the array {key!r}")
        return Unkept(count, "numbers")
    if kind == BOOL:
        return tuple(_truth(forward, key) for _ in range(count))
    return tuple(forward.number(NUMBERS[kind], f"the array {key!r}") for _ in range(count))


# Tensors ---------------------------------------------------------------------------------------------------


def _tensors(forward: Forward, count: int, values: Mapping[str, Value], file: str) -> tuple[StoredTensor, ...]:
    tensors: list[StoredTensor] = []
    offsets: list[int] = []
    names: set[str] = set()
    for _ in range(count):
        start = forward.position
        name = _name(forward, "a tensor name")
        if name in names:
            raise forward.broken(f"tensor {name!r} appears twice", start)
        names.add(name)
        shape = _shape(forward, name)
        type_name, num_bytes = _size(forward, name, shape)
        offsets.append(forward.unsigned("Q", f"the offset of tensor {name!r}"))
        tensors.append(StoredTensor(name, type_name, shape, num_bytes, file))
    _check_data(forward, tensors, offsets, _alignment(forward, values))
    return tuple(tensors)


def _shape(forward: Forward, name: str) -> tuple[int, ...]:
    start = forward.position
    num_dimensions = forward.unsigned("I", f"the number of dimensions of tensor {name!r}")
    if num_dimensions > MOST_DIMENSIONS:
        raise forward.broken(f"tensor {name!r} has {num_dimensions} dimensions; at most {MOST_DIMENSIONS} exist", start)
    innermost_first = [forward.unsigned("Q", f"the shape of tensor {name!r}") for _ in range(num_dimensions)]
    if 0 in innermost_first:
        raise forward.broken(f"tensor {name!r} has a dimension of size 0", start)
    return tuple(reversed(innermost_first))


def _size(forward: Forward, name: str, shape: tuple[int, ...]) -> tuple[str, int]:
    start = forward.position
    number = forward.unsigned("I", f"the type of tensor {name!r}")
    type_name = TENSOR_TYPES.get(number)
    if type_name is None:
        removed = REMOVED_TYPES.get(number)
        known = f"{removed}, which llama.cpp no longer reads" if removed else "not known (llama.cpp's own types are)"
        raise InputError(
            f"{forward.where}: tensor {name!r} at byte {start} has type {number}: {known}",
            hint="give a file made by a current llama.cpp",
        )
    sizes = block(type_name)
    if sizes is None:
        raise InputError(
            f"{forward.where}: tensor {name!r} at byte {start} has type {type_name} ({number}), whose block size is not known",
            hint="a newer moeplan may know it; other types of the same model can be read",
        )
    elements, block_bytes = sizes
    innermost = shape[-1] if shape else 1
    if innermost % elements:
        raise forward.broken(
            f"rows of tensor {name!r} have {innermost} elements, no multiple of {elements} ({type_name})", start
        )
    num_elements = 1
    for size in shape:
        num_elements *= size
    return type_name, num_elements // elements * block_bytes


def _alignment(forward: Forward, values: Mapping[str, Value]) -> int:
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment <= 0 or alignment & (alignment - 1):
        raise forward.broken(f"general.alignment is {str(alignment)[:40]}, no power of two")
    return alignment


def _check_data(forward: Forward, tensors: Sequence[StoredTensor], offsets: Sequence[int], alignment: int) -> None:
    data_start = -(-forward.position // alignment) * alignment
    end_of_last, last_name = 0, ""
    for offset, tensor in sorted(zip(offsets, tensors, strict=True), key=lambda pair: pair[0]):
        at = data_start + offset
        if offset % alignment:
            raise forward.broken(f"tensor {tensor.name!r} begins off the alignment of {alignment} bytes", at)
        if offset < end_of_last:
            raise forward.broken(f"tensor {tensor.name!r} overlaps tensor {last_name!r}", at)
        end_of_last, last_name = offset + tensor.num_bytes, tensor.name
        if data_start + end_of_last > forward.file_bytes:
            raise forward.broken(
                f"tensor {tensor.name!r} needs {tensor.num_bytes} bytes from here, but the file has {forward.file_bytes} "
                "bytes (an incomplete download?)",
                at,
            )
