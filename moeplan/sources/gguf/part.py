"""One GGUF file: its metadata, and the name, type, shape and bytes of every tensor; never a weight.

Source of the format: the public definition (ggml docs/gguf.md), versions 2 and 3, and the limits that llama.cpp
checks when it loads a file (ggml/src/gguf.cpp, GGML_MAX_DIMS, general.alignment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import InputError
from moeplan.sources.gguf.bytes import Forward, Read
from moeplan.sources.gguf.metadata import Unkept, Value
from moeplan.sources.gguf.types import REMOVED_TYPES, TENSOR_TYPES, block

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


class Part(NamedTuple):
    """What one file says: a whole model, or one part of a split one."""

    file: str
    where: str
    """The file in messages."""
    version: int
    big_endian: bool
    values: Mapping[str, Value]
    tensors: tuple[StoredTensor, ...]
    starts: tuple[int, ...]
    """The file's byte at which each tensor begins."""


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
    tensors, starts = _tensors(forward, num_tensors, values, name)
    return Part(name, where, version, forward.order == ">", values, tensors, starts)


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


def _tensors(
    forward: Forward, count: int, values: Mapping[str, Value], file: str
) -> tuple[tuple[StoredTensor, ...], tuple[int, ...]]:
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
    data_start = _check_data(forward, tensors, offsets, _alignment(forward, values))
    return tuple(tensors), tuple(data_start + offset for offset in offsets)


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


def _check_data(forward: Forward, tensors: Sequence[StoredTensor], offsets: Sequence[int], alignment: int) -> int:
    """The file's byte at which the data begins. InputError where tensors overlap or do not fit."""
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
    return data_start
