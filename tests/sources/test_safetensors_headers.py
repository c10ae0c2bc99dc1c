"""Headers of safetensors files: the safetensors library says what is right, and what each broken file is told."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save, save_file

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import InputError
from moeplan.sources.safetensors_headers import (
    DTYPE_BITS,
    INDEX,
    MOST_HEADER_BYTES,
    choose_files,
    choose_folder_files,
    header_length,
    index_file,
    parse_header,
    read_checkpoint_file,
    read_checkpoint_folder,
)


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_of(header: object, data_bytes: int) -> bytes:
    """A file by hand: length, header (bytes as they are, else as JSON), zeros."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data_bytes)


def parsed(content: bytes) -> tuple[list[StoredTensor], dict[str, str]]:
    length = header_length(content[:8], "it", len(content))
    return parse_header(content[8 : 8 + length], "it", data_bytes=len(content) - 8 - length)


def library_reads(content: bytes) -> dict[str, tuple[str, list[int]]]:
    """Name to dtype and shape. Raises SafetensorError for what it refuses."""
    return {name: (one["dtype"], one["shape"]) for name, one in deserialize(content)}  # type: ignore[no-untyped-call]


def write(path: Path, tensors: Mapping[str, int]) -> None:
    """A file of byte tensors with the given sizes."""
    header, position = {}, 0
    for name, size in tensors.items():
        header[name] = entry("U8", [size], position, position + size)
        position += size
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_of(header, position))


def write_index(folder: Path, weight_map: object, **metadata: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}), encoding="utf-8")


def codes(remarks: Any) -> list[str]:
    return [remark.code for remark in remarks]


# What the library writes -------------------------------------------------------------------------------------

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.uint32,
    torch.int64,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e8m0fnu,
]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)),
        max_size=8,
    ),
    st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=9), min_size=1, max_size=3),  # {}: broken JSON
)
def test_what_the_library_writes_is_read_back(
    wanted: dict[str, tuple[torch.dtype, list[int]]], metadata: dict[str, str] | None
) -> None:
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in wanted.items()}
    tensors_read, metadata_read = parsed(save(tensors, metadata))
    assert metadata_read == (metadata or {})
    assert {made.name: (made.shape, made.num_bytes) for made in tensors_read} == {
        name: (tuple(one.shape), one.nbytes) for name, one in tensors.items()
    }


def test_a_file_agrees_with_the_librarys_own_reading(tmp_path: Path) -> None:
    tensors = {f"t.{number}": torch.zeros(3, number + 1, dtype=dtype) for number, dtype in enumerate(DTYPES)}
    tensors["packed"] = torch.zeros(2, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    tensors["scalar"] = torch.tensor(1.5)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = read_checkpoint_file(path)
    with safe_open(path, "pt") as library:
        slices = {name: library.get_slice(name) for name in library.keys()}  # noqa: SIM118 (no mapping)
        assert {one.name: (one.dtype, list(one.shape)) for one in checkpoint.tensors} == {
            name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()
        }
    assert checkpoint.num_bytes == sum(one.nbytes for one in tensors.values())
    assert checkpoint.metadata == {"format": "pt"}
    assert checkpoint.files == ("model.safetensors",)
    assert {one.file for one in checkpoint.tensors} == {"model.safetensors"}


def test_four_bit_elements_are_counted_as_elements() -> None:
    packed = torch.zeros(2, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    [tensor], _ = parsed(save({"packed": packed}))
    assert (tensor.dtype, tensor.shape, tensor.num_bytes) == ("F4", (2, 8), 8)


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_every_dtype_has_the_librarys_size(dtype: str) -> None:
    right = file_of({"a": entry(dtype, [8], 0, DTYPE_BITS[dtype])}, DTYPE_BITS[dtype])
    assert library_reads(right) == {"a": (dtype, [8])}  # which refuses any other size
    assert parsed(right)[0] == [StoredTensor("a", dtype, (8,), DTYPE_BITS[dtype], "it")]


def test_tensors_come_in_the_order_of_the_data() -> None:
    header = {"b": entry("U8", [2], 2, 4), "empty": entry("U8", [0], 2, 2), "a": entry("U8", [2], 0, 2)}
    assert [made.name for made in parsed(file_of(header, 4))[0]] == ["a", "empty", "b"]


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}  \n',
        b'{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":[1.5]}}',
        '{"größe":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.encode(),
    ],
)
def test_unusual_but_right_headers(header: bytes) -> None:
    content = file_of(header, 0 if header == b"{}" else 1)
    assert [made.name for made in parsed(content)[0]] == list(library_reads(content))


# Broken files ------------------------------------------------------------------------------------------------

ONE = b'{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'

BROKEN = {
    "no JSON": (b'{"a":', 0, r"at byte 13: the header is broken JSON"),
    "nul behind": (b'{"a":' + ONE + b"}\0\0", 1, r"at byte 61: the header is broken JSON: Extra data"),
    "no object": (b"[1,2]", 0, r"at byte 8: the header is a JSON list, not an object"),
    "no UTF-8": (b'{"\xff\xff":1}', 0, r"at byte 10: the header is not UTF-8"),
    "entry is no object": ({"a": [1, 2]}, 0, r"at byte 9: tensor 'a': an entry needs dtype, shape and data_offsets"),
    "no offsets": ({"a": {"dtype": "U8", "shape": [1]}}, 1, r"an entry needs dtype"),
    "unknown dtype": ({"a": entry("I4", [2], 0, 1)}, 1, r"dtype 'I4' is not known"),
    "dtype is a list": ({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 1]}}, 1, r"dtype \[\] is not known"),
    "shape is a number": ({"a": {"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}}, 1, r"shape 1 is no list"),
    "negative dimension": ({"a": entry("U8", [-1, -1], 0, 1)}, 1, r"dimension -1 is no size"),
    "dimension 1.0": (b'{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', 1, r"dimension 1\.0 is no size"),
    "dimension true": (b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', 1, r"dimension True is no size"),
    "huge dimension": ({"a": entry("U8", [2**62, 2**62, 0], 0, 0)}, 0, r"is absurdly large"),
    "half a byte": ({"a": entry("F4", [3], 0, 2)}, 2, r"shape \[3\] of F4 does not fill whole bytes"),
    "one offset": ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, 1, r"data_offsets \[0\] are no two"),
    "offset true": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,true]}}', 1, r"are no two integers"),
    "wrong size": ({"a": entry("BF16", [2, 3], 0, 10)}, 10, r"do not hold the 12 bytes of BF16 \[2, 3\]"),
    "backwards": ({"a": entry("U8", [1], 1, 0)}, 1, r"data_offsets \[1, 0\] do not hold the 1 bytes"),
    "negative offset": ({"a": entry("U8", [1], -1, 0)}, 0, r"data_offsets \[-1, 0\] do not hold"),
    "overlap": (
        {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)},
        3,
        r"tensor 'b': data_offsets \[1, 3\] overlap the tensor before, which ends at 2",
    ),
    "hole": (
        {"b": entry("U8", [2], 5, 7), "a": entry("U8", [2], 0, 2)},
        7,
        r"tensor 'b': data_offsets \[5, 7\] leave a hole of 3 bytes before it",
    ),
    "hole in front": ({"a": entry("U8", [2], 1, 3)}, 3, r"leave a hole of 1 bytes"),
    "truncated": ({"a": entry("U8", [9], 0, 9)}, 4, r"at byte 72: shard is truncated: 72 of 77 bytes"),
    "data behind": ({"a": entry("U8", [2], 0, 2)}, 5, r"at byte 70: 3 bytes behind the last tensor belong to none"),
    "dtype twice": (b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1, r"'dtype' is in the"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, 0, r"at byte 9: __metadata__ holds more than texts"),
    "metadata is an empty list": ({"__metadata__": []}, 0, r"__metadata__ holds more than texts"),
    "metadata is a list": ({"__metadata__": ["a"]}, 0, r"__metadata__ holds more than texts"),
    "half a surrogate": (b'{"\\ud800":' + ONE + b"}", 1, r"the name is no Unicode text"),
    "deep JSON": (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", 0, r"nested too deeply"),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 0, r"nested too deeply"),
    "absurd number": (b'{"a":{"dtype":"U8","shape":[1' + b"0" * 9000 + b"]}}", 0, r"absurd numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_header_is_refused_as_the_library_refuses_it(case: str, tmp_path: Path) -> None:
    header, data_bytes, message = BROKEN[case]
    content = file_of(header, data_bytes)
    with pytest.raises(SafetensorError):
        library_reads(content)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_checkpoint_folder(tmp_path)
    assert str(path) in raised.value.message
    assert "at byte" in raised.value.message
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < len(str(path)) + 300
    assert raised.value.exit_code == 2
    assert raised.value.hint


def test_a_name_given_twice_is_refused_with_its_second_place() -> None:
    # The library takes the last of them without a word, so it is no oracle here.
    header = b'{"a":' + ONE + b',"a":' + ONE + b"}"
    place = 8 + header.rindex(b'"a"')
    with pytest.raises(InputError, match=rf"at byte {place}: 'a' is in the header twice"):
        parsed(file_of(header, 1))


def test_without_the_size_of_the_data_its_end_is_not_checked() -> None:
    header = json.dumps({"a": entry("U8", [9], 0, 9)}).encode()
    assert parse_header(header, "it", data_bytes=None)[0][0].num_bytes == 9
    with pytest.raises(InputError, match="truncated"):
        parse_header(header, "it", data_bytes=8)


@pytest.mark.parametrize(
    ("first_bytes", "file_bytes", "message"),
    [
        (b"", 0, "at byte 0: the file ends here"),
        (b"abc", None, "at byte 3: the file ends here"),
        (struct.pack("<Q", 2**63), 100, "at byte 0: states a header of 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 2**30), None, "at byte 0: states a header of 1,073,741,824 bytes, above the format's limit"),
        (struct.pack("<Q", MOST_HEADER_BYTES + 1), 2**40, "above the format's limit"),
        (struct.pack("<Q", 500), 100, "at byte 100: the header is cut: 92 of 500 bytes are there"),
        (struct.pack("<Q", 0), 100, "states a header of 0 bytes"),
        (b"version https://git-lfs", 130, "pointer of Git LFS"),
    ],
)
def test_absurd_header_lengths(first_bytes: bytes, file_bytes: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        header_length(first_bytes, "it", file_bytes)


def test_header_length_up_to_the_limits() -> None:
    assert header_length(struct.pack("<Q", 92), "it", 100) == 92
    assert header_length(struct.pack("<Q", MOST_HEADER_BYTES), "it", None) == MOST_HEADER_BYTES


@given(st.binary(max_size=60), st.integers(0, 80))
def test_any_bytes_are_read_or_refused_in_one_line(header: bytes, data_bytes: int) -> None:
    content = file_of(header, data_bytes)
    message = ""
    try:
        parsed(content)
    except InputError as error:
        message = error.message
    if message:
        assert "\n" not in message
    else:
        library_reads(content)  # what we read the library reads


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats(allow_nan=False) | st.sampled_from(["U8", "BF16", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ENTRY = st.builds(
    entry,
    st.sampled_from(["U8", "BF16", "F4", "X"]),
    st.lists(st.integers(-1, 3), max_size=2),
    *2 * [st.integers(0, 9)],
)


# The library also takes an entry as a list of its three values, which no writer makes and we refuse.
NO_LIST = JSON.filter(lambda value: not isinstance(value, list) or len(value) < 3)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), NO_LIST | ENTRY), st.integers(0, 9))
def test_any_json_is_judged_as_the_library_judges_it(header: object, data_bytes: int) -> None:
    content = file_of(header, data_bytes)
    try:
        theirs = library_reads(content)
    except SafetensorError:
        with pytest.raises(InputError):
            parsed(content)
    else:
        assert {one.name: (one.dtype, list(one.shape)) for one in parsed(content)[0]} == theirs


# Files and folders -------------------------------------------------------------------------------------------


def test_no_byte_of_data_is_read(tmp_path: Path) -> None:
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("the system does not count what a process reads")
    num_bytes = 2**40
    header = file_of({"a": entry("U8", [num_bytes], 0, num_bytes)}, 0)
    path = tmp_path / "model.safetensors"
    path.write_bytes(header)
    try:
        os.truncate(path, len(header) + num_bytes)
    except OSError:
        pytest.skip("the file system has no files of this size")
    counters.read_bytes()
    before = counters.read_text()
    checkpoint = read_checkpoint_file(path)
    after = counters.read_text()
    read_bytes = [int(text.split()[1]) for text in (before, after)]
    assert checkpoint.num_bytes == num_bytes
    assert read_bytes[1] - read_bytes[0] <= len(header) + 2 * len(after)  # reading the counters is counted too


def test_sharded_with_index(tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(4), "b": torch.zeros(3)}, tmp_path / "model-00001-of-00002.safetensors", {"format": "pt"}
    )
    save_file({"c": torch.zeros(5)}, tmp_path / "model-00002-of-00002.safetensors")
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    write_index(tmp_path, {"c": two, "a": one, "b": one}, total_size=48)
    checkpoint = read_checkpoint_folder(tmp_path)
    assert checkpoint is not None
    assert checkpoint.files == (one, two)
    assert [(made.name, made.file) for made in checkpoint.tensors] == [("a", one), ("b", one), ("c", two)]
    assert checkpoint.num_bytes == 48
    assert checkpoint.metadata == {"format": "pt", "total_size": "48"}
    assert checkpoint.remarks == ()


def test_index_that_differs_from_the_shards(tmp_path: Path) -> None:
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    write(tmp_path / one, {"a": 4, "extra": 7})
    write(tmp_path / two, {"b": 5})
    write_index(tmp_path, {"a": one, "b": one, "gone": two})
    checkpoint = read_checkpoint_folder(tmp_path)
    assert checkpoint is not None
    assert checkpoint.num_bytes == 16
    assert codes(checkpoint.remarks) == ["index-disagrees"] * 3
    unlisted, absent, elsewhere = (remark.message for remark in checkpoint.remarks)
    assert "1 tensors (7 bytes, counted)" in unlisted
    assert "'extra'" in unlisted
    assert "'gone'" in absent
    assert "'b'" in elsewhere


@pytest.mark.parametrize("owner", [0, 1])
def test_a_tensor_in_two_shards_counts_once_where_the_index_has_it(tmp_path: Path, owner: int) -> None:
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(tmp_path / files[0], {"a": 4, "twice": 3})
    write(tmp_path / files[1], {"b": 5, "twice": 2})
    write_index(tmp_path, {"a": files[0], "b": files[1], "twice": files[owner]})
    checkpoint = read_checkpoint_folder(tmp_path)
    assert checkpoint is not None
    assert codes(checkpoint.remarks) == ["tensors-twice"]
    assert [made.file for made in checkpoint.tensors if made.name == "twice"] == [files[owner]]
    assert checkpoint.num_bytes == 9 + (3, 2)[owner]


def test_an_old_index_beside_a_whole_model_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a": 4})
    write_index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    checkpoint = read_checkpoint_folder(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.files, checkpoint.num_bytes) == (("model.safetensors",), 4)
    assert codes(checkpoint.remarks) == ["index-disagrees"]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00002.safetensors", {"a": 4})
    write_index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    with pytest.raises(InputError, match=r"names model-00002-of-00002\.safetensors, which is missing") as raised:
        read_checkpoint_folder(tmp_path)
    assert str(tmp_path) in raised.value.message


def test_cut_shard_is_named(tmp_path: Path) -> None:
    for name in ("model-1-of-2.safetensors", "model-2-of-2.safetensors"):
        write(tmp_path / name, {name: 100})
    path = tmp_path / "model-2-of-2.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - 30)
    with pytest.raises(InputError, match=rf"model-2-of-2\.safetensors: at byte {size - 30}: shard is truncated: "):
        read_checkpoint_folder(tmp_path)
    os.truncate(path, 20)
    with pytest.raises(InputError, match=r"model-2-of-2\.safetensors: at byte 20: the header is cut: 12 of \d+ bytes"):
        read_checkpoint_folder(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b'{"weight_map": {"a": ', r"broken JSON"),
        (b"\xff\xfe", r"at byte 0: is not UTF-8"),
        (b"[" * 200_000, r"nested too deeply"),
        (b"{}", r"no weight_map"),
        (b'{"weight_map": {}}', r"no weight_map"),
        (b'{"weight_map": ["model.safetensors"]}', r"no weight_map"),
        (b'{"weight_map": {"a": 1}}', r"names '1', which is no safetensors file"),
        (
            b'{"weight_map": {"a": "../x.safetensors"}}',
            r"'\.\./x\.safetensors', which is no safetensors file beside it",
        ),
        (b'{"weight_map": {"a": "/etc/x.safetensors"}}', r"no safetensors file beside it"),
        (b'{"weight_map": {"a": "pytorch_model.bin"}}', r"no safetensors file beside it"),
    ],
)
def test_broken_index(tmp_path: Path, index: bytes, message: str) -> None:
    write(tmp_path / "model.safetensors", {"a": 4})
    (tmp_path / INDEX).write_bytes(index)
    with pytest.raises(InputError, match=message):
        read_checkpoint_folder(tmp_path)


def test_single_file_and_single_shard(tmp_path: Path) -> None:
    write(tmp_path / "any.safetensors", {"a": 4})
    assert read_checkpoint_file(tmp_path / "any.safetensors").remarks == ()
    write(tmp_path / "model-00002-of-00004.safetensors", {"a": 4})
    with pytest.raises(InputError, match="one of 4 shards"):
        read_checkpoint_file(tmp_path / "model-00002-of-00004.safetensors")
    write(tmp_path / "empty.safetensors", {})
    with pytest.raises(InputError, match="list no tensor"):
        read_checkpoint_file(tmp_path / "empty.safetensors")


def test_paths_that_hold_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.safetensors: no such file"):
        read_checkpoint_file(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match=r"gone: no such file"):
        read_checkpoint_folder(tmp_path / "gone")
    with pytest.raises(InputError, match=r"is no file"):
        read_checkpoint_file(tmp_path)
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"is no file"):
        read_checkpoint_folder(tmp_path)
    with pytest.raises(InputError, match=r"is no path"):
        read_checkpoint_file(Path("a\0b"))


def test_link_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        read_checkpoint_folder(tmp_path)


def test_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert read_checkpoint_folder(tmp_path) is None
    assert choose_folder_files(tmp_path) == ((), (), ())
    (tmp_path / "pytorch_model-00001-of-00002.bin").touch()
    assert read_checkpoint_folder(tmp_path) is None
    [remark] = choose_folder_files(tmp_path).remarks
    assert remark.code == "bin-only"
    assert "pytorch_model-00001-of-00002.bin" in remark.message


def test_index_without_any_shard_leaves_the_config_to_compute_from(tmp_path: Path) -> None:
    write_index(tmp_path, {"a": "model-00001-of-00001.safetensors"})
    assert read_checkpoint_folder(tmp_path) is None
    assert codes(choose_folder_files(tmp_path).remarks) == ["index-without-shards"]


def test_subfolders_are_seen(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a": 4})
    write(tmp_path / "fp8" / "model.safetensors", {"a": 2})
    write(tmp_path / ".cache" / "model.safetensors", {"a": 2})
    checkpoint = read_checkpoint_folder(tmp_path)
    assert checkpoint is not None
    assert checkpoint.num_bytes == 4
    assert "fp8/model.safetensors" in checkpoint.remarks[0].message
    assert choose_folder_files(tmp_path).alternatives == (("fp8/model.safetensors",),)


@pytest.mark.parametrize("field", ["base_model_name_or_path", "model"])
def test_adapter_names_its_base_model(tmp_path: Path, field: str) -> None:
    write(tmp_path / "adapter_model.safetensors", {"a.lora_A.weight": 4})
    (tmp_path / "adapter_config.json").write_text(json.dumps({field: "org/base"}))
    for read in (read_checkpoint_folder, lambda folder: read_checkpoint_file(folder / "adapter_model.safetensors")):
        with pytest.raises(InputError, match=r"adapter_model\.safetensors is an adapter of org/base") as raised:
            read(tmp_path)
        assert raised.value.hint == "give org/base instead"


# Which files are one checkpoint ------------------------------------------------------------------------------


def shards(stem: str, total: int) -> list[str]:
    return [f"{stem}-{number:05d}-of-{total:05d}.safetensors" for number in range(1, total + 1)]


def index_of(files: list[str]) -> dict[str, Any]:
    return {"weight_map": {f"t{number}": name for number, name in enumerate(files)}}


ALONE = {
    "one file": ["model.safetensors"],
    "one file of any name": ["gptq_model-4bit-128g.safetensors"],
    "shards": shards("model", 12),
    "shards without leading zeros": [f"model-{number}-of-61.safetensors" for number in range(1, 62)],
    "numbers of two widths": [f"model-{number:05d}-of-000163.safetensors" for number in range(1, 164)],
    "shards from 0": [f"model-{number:05d}-of-00003.safetensors" for number in range(3)],
    "suffix in the middle": [f"model.safetensors-{number:05d}-of-00002.safetensors" for number in (1, 2)],
    "variant shards": shards("model.fp16", 3),
    "variant behind": [f"model-{number:05d}-of-00002.fp16.safetensors" for number in (1, 2)],
    "consolidated": ["consolidated.safetensors"],
    "consolidated shards": shards("consolidated", 3),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_checkpoint_alone(case: str) -> None:
    beside = [
        "config.json",
        "tokenizer.json",
        "optimizer.safetensors",
        "training_args.bin",
        "original/model.safetensors",
    ]
    assert choose_files([*reversed(ALONE[case]), *beside], None) == (tuple(ALONE[case]), (), ())


@pytest.mark.parametrize("case", [case for case, files in ALONE.items() if len(files) > 1])
def test_each_missing_shard_is_an_error_that_names_it(case: str) -> None:
    files = ALONE[case]
    # Of shards that count from 0 the first tells that they do.
    for missing in {files[-1], files[len(files) // 2], files[1 if case == "shards from 0" else 0]}:
        left = [name for name in files if name != missing]
        with pytest.raises(InputError, match=r"is missing") as raised:
            choose_files(left, None, where="here")
        assert missing in raised.value.message
        assert raised.value.message.startswith("here: ")
        with pytest.raises(InputError, match=r"is missing") as raised:
            choose_files(left, index_of(files))
        assert missing in raised.value.message


def test_many_missing_shards_are_counted() -> None:
    files = shards("model", 163)
    with pytest.raises(InputError, match=r"model-00003-of-00163\.safetensors, .* and 156 more are missing"):
        choose_files(files[:2], None)
    with pytest.raises(InputError, match=r"161 of the 163 shards .* and 156 more"):
        choose_files(files[:2], index_of(files))


@pytest.mark.parametrize("total", ["99999999999999999999", "9" * 5000, "0"])
def test_hostile_shard_names(total: str) -> None:
    with pytest.raises(InputError, match="not complete"):
        choose_files([f"model-00001-of-{total}.safetensors"], None)


def test_two_files_with_one_number() -> None:
    with pytest.raises(InputError, match="3 files claim to be its 2 shards"):
        choose_files(["model-1-of-2.safetensors", "model-01-of-2.safetensors", "model-2-of-2.safetensors"], None)


@pytest.mark.parametrize(
    ("taken", "left", "severity"),
    [
        (shards("model", 2), ["consolidated.safetensors"], "info"),
        (shards("model", 2), shards("consolidated", 3), "info"),
        (["model.safetensors"], ["model.fp16.safetensors"], "info"),
        (["model.safetensors"], ["fp8/model.safetensors"], "info"),
        (["model.safetensors"], shards("model", 2), "warning"),
        (["model.safetensors"], ["mtp.safetensors"], "warning"),
        (["model.bf16.safetensors"], ["model.fp8.safetensors"], "warning"),
        (shards("model.fp16", 2), ["consolidated.safetensors"], "info"),
    ],
)
def test_one_of_several_checkpoints_is_counted_and_the_other_named(
    taken: list[str], left: list[str], severity: str
) -> None:
    chosen = choose_files(left + taken, None, where="here")
    assert chosen.files == tuple(taken)
    assert chosen.alternatives == (tuple(left),)
    [remark] = chosen.remarks
    assert (remark.code, remark.severity, remark.where) == ("other-checkpoints", severity, "here")
    assert left[0] in remark.message


def test_a_complete_index_decides() -> None:
    files = ["part-a.safetensors", "part-b.safetensors"]
    chosen = choose_files([*files, "model.safetensors", "consolidated.safetensors"], index_of(files))
    assert chosen.files == tuple(files)
    assert chosen.alternatives == (("model.safetensors",), ("consolidated.safetensors",))


@pytest.mark.parametrize(
    ("beside", "severity"),
    [("consolidated", "info"), ("fp8/model", "info"), ("model", "warning"), ("mtp", "warning")],
)
def test_what_the_index_leaves_out_is_named(beside: str, severity: str) -> None:
    files = shards("model", 2)
    [remark] = choose_files([*files, f"{beside}.safetensors"], index_of(files)).remarks
    assert (remark.code, remark.severity) == ("other-checkpoints", severity)
    assert f"{beside}.safetensors" in remark.message


def test_shards_that_the_index_leaves_out() -> None:
    files = shards("model", 3)
    chosen = choose_files(files, index_of(files[:2]))
    assert chosen.files == tuple(files[:2])
    assert codes(chosen.remarks) == ["index-disagrees"]
    assert files[2] in chosen.remarks[0].message


@pytest.mark.parametrize(
    "names",
    [
        ["model0-mp2.safetensors", "model1-mp2.safetensors"],
        ["bf16/model.safetensors", "fp8/model.safetensors"],
    ],
)
def test_nothing_is_chosen_where_nothing_tells_what_belongs_together(names: list[str]) -> None:
    chosen = choose_files(names, None)
    assert chosen.files == ()
    assert codes(chosen.remarks) == ["checkpoint-ambiguous"]
    assert chosen.alternatives == tuple((name,) for name in names)


def test_a_checkpoint_in_the_only_subfolder() -> None:
    chosen = choose_files(["config.json", *(f"weights/{name}" for name in shards("model", 2))], None)
    assert chosen.files == ("weights/model-00001-of-00002.safetensors", "weights/model-00002-of-00002.safetensors")
    assert codes(chosen.remarks) == ["in-subfolder"]


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["model_index.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"], "diffusion-pipeline"),
        (["vae/diffusion_pytorch_model.safetensors", "unet/model.safetensors"], "no-model-files"),
        (["optimizer.safetensors"], "no-model-files"),
        (["original/model.safetensors"], "no-model-files"),
        (["pytorch_model.bin", "training_args.bin"], "bin-only"),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"], "bin-only"),
        (["original/consolidated.00.pth", "consolidated.00.pth"], "bin-only"),
    ],
)  # fmt: skip
def test_repositories_without_a_checkpoint_to_read(names: list[str], code: str) -> None:
    chosen = choose_files(names, None)
    assert (chosen.files, codes(chosen.remarks)) == ((), [code])


def test_adapter_beside_its_model_is_left_out() -> None:
    chosen = choose_files(["adapter_config.json", "adapter_model.safetensors", "model.safetensors"], None)
    assert chosen.files == ("model.safetensors",)
    assert codes(chosen.remarks) == ["adapter-left-out"]


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "adapter_model.bin", "checkpoint-9/adapters.safetensors"]
)
def test_adapter_without_its_config(name: str) -> None:
    with pytest.raises(InputError, match="is an adapter, not a model, and names no base model"):
        choose_files([name], None)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["model.safetensors"], None),
        ([INDEX, "consolidated.safetensors.index.json"], INDEX),
        (["consolidated.safetensors.index.json", *shards("consolidated", 2)], "consolidated.safetensors.index.json"),
        (["consolidated.safetensors.index.json", "model.safetensors"], None),
        (["model.fp16.safetensors.index.json", "model.fp8.safetensors.index.json"], None),
        ([f"original/{INDEX}"], None),
    ],
)
def test_which_index_is_read(names: list[str], wanted: str | None) -> None:
    assert index_file(names) == wanted


def test_a_name_that_is_absurdly_long_is_refused_though_the_library_takes_it() -> None:
    # A million dots would make every comparison with the model's own names slow.
    parsed(file_of({"a" * 1024: entry("U8", [1], 0, 1)}, 1))
    with pytest.raises(InputError, match=r"a name of 1,000,000 characters"):
        parsed(file_of({"." * 1_000_000: entry("U8", [1], 0, 1)}, 1))
