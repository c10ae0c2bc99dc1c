"""Files of torch.save are read as torch itself reads them, and what could run code is refused without running."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.torch_files import Tensor, TorchFile


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def plain(file: TorchFile, value: Any) -> Any:
    """Tensors as lists of numbers with their shape, the rest as it is."""
    if isinstance(value, Tensor):
        return list(value.shape), list(file.whole_numbers(value))
    if isinstance(value, dict):
        return {key: plain(file, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(file, item) for item in value)
    return value


def as_torch_has_it(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return list(value.shape), value.flatten().tolist()
    if isinstance(value, dict):
        return {key: as_torch_has_it(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_torch_has_it(item) for item in value)
    return value


BASE = torch.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_every_width_of_whole_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    content = {"a": (BASE % 100).to(dtype), "b": -torch.ones(3, dtype=dtype)}
    with TorchFile(saved(tmp_path / "a.pt", content)) as file:
        assert plain(file, file.content) == as_torch_has_it(torch.load(tmp_path / "a.pt", weights_only=True))


@pytest.mark.parametrize(
    "view",
    [
        BASE[1:3],
        BASE[:, 2],
        BASE[..., ::2],
        BASE.transpose(0, 2),
        BASE[2, 3, 4],
        BASE[:0],
        BASE[:, :0],
        torch.tensor(7),
        torch.tensor([9])[None, :, None],
    ],
    ids=range(9),
)
def test_views_lie_as_torch_lays_them(tmp_path: Path, view: torch.Tensor) -> None:
    with TorchFile(saved(tmp_path / "a.pt", view)) as file:
        assert plain(file, file.content) == as_torch_has_it(view)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_whatever_else_a_dump_holds(tmp_path: Path, protocol: int) -> None:
    content: dict[str, Any] = {
        "none": None,
        "yes": True,
        "no": False,
        "float": 0.625,
        "negative": -70_000,
        "large": 2**40,
        "text": "forward_pass ü",
        "long list": list(range(5000)),
        "records": [
            {"id": at, "lens": [at, at + 1], "pair": (at, "a"), "triple": (1, 2, 3), "four": (1, 2, 3, 4)}
            for at in range(1500)
        ],
        "empty": [[], {}, ()],
        "ordered": OrderedDict(),
    }
    with TorchFile(saved(tmp_path / "a.pt", content, pickle_protocol=protocol)) as file:
        assert file.content == content


def test_big_endian_files(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", torch.tensor([1, 2, 3], dtype=torch.int32))
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            if name.endswith("data/0"):
                data = b"".join(number.to_bytes(4, "big") for number in (1, 2, 3))
            new.writestr(name, data)
    with TorchFile(tmp_path / "b.pt") as file:
        assert list(file.whole_numbers(file.content)) == [1, 2, 3]


# Hostile -------------------------------------------------------------------------------------------------------


class Runs:
    """Unpickled, it would leave a file behind."""

    def __init__(self, leaves: Path, how: str) -> None:
        self.leaves, self.how = leaves, how

    def __reduce__(self) -> tuple[Any, ...]:
        command = f"touch {self.leaves}"
        return (os.system, (command,)) if self.how == "system" else (eval, (f"__import__('os').system({command!r})",))


@pytest.mark.parametrize("how", ["system", "eval"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_and_not_run(tmp_path: Path, how: str, protocol: int) -> None:
    left = tmp_path / "ran"
    content = {"logical_count": Runs(left, how)}
    saved(tmp_path / "a.pt", content, pickle_protocol=protocol)
    with pytest.raises(
        InputError, match=r"refused: reading it would call (posix\.system|builtins\.eval|__builtin__\.eval|nt\.system)"
    ) as caught:
        TorchFile(tmp_path / "a.pt")
    assert "nothing of a file is ever run" in caught.value.hint
    assert not left.exists()


def archive(path: Path, pickled: bytes, *, storage: bytes | None = None, compress: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/version", b"3\n")
        if storage is not None:
            file.writestr("a/data/0", storage)
    return path


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor(
    offset: int = 0, shape: Any = (2,), stride: Any = (1,), elements: Any = 2, key: str = "0", kind: str = "IntStorage"
) -> bytes:
    """A pickle of one tensor, with whatever numbers."""
    parts = [b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n", kind.encode(), b"\n"]
    parts += [b"X", len(key).to_bytes(4, "little"), key.encode(), b"X\x03\x00\x00\x00cpu"]
    parts += [number(elements), b"tQ", number(offset)]
    for numbers in (shape, stride):
        parts += [b"(", *map(number, numbers), b"t"]
    parts += [b"\x89ccollections\nOrderedDict\n)RtR."]
    return b"".join(parts)


def test_a_tensor_by_hand(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", tensor(), storage=(5).to_bytes(4, "little") + (6).to_bytes(4, "little"))
    with TorchFile(path) as file:
        assert list(file.whole_numbers(file.content)) == [5, 6]
    assert torch.load(path, weights_only=True).tolist() == [5, 6]


@pytest.mark.parametrize(
    "pickled",
    [
        tensor(offset=1),
        tensor(offset=-1),
        tensor(shape=(3,)),
        tensor(shape=(2_000_000_000,), stride=(0,)),
        tensor(shape=(2,), stride=(-1,)),
        tensor(shape=(1, 2)),
        tensor(shape=(1,) * 9, stride=(1,) * 9),
        tensor(elements=-1),
        tensor(key="../0"),
        tensor(key="²"),
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02K\x01",
        b"\x80\x02]q\x00h\x07.",
        b"\x80\x02}(K\x01.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02]]s.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02)R.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x02\x8a\x05abc.",
        b"\x80\x02" + b"]" * 2_000_000 + b".",
        b"\x80\x02" + b"K\x01" * 100_000 + b".",
        b"\xff\xfe\x00",
    ],
    ids=range(27),
)
def test_pickles_that_make_no_sense_are_broken(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(InputError, match="broken torch file"):
        TorchFile(archive(tmp_path / "a.pt", pickled, storage=bytes(8)))


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (tensor(kind="FloatStorage"), "2 elements of torch.FloatStorage"),
        (tensor(kind="HalfStorage"), "2 elements of torch.HalfStorage"),
        (pickle.dumps(bytearray(8), protocol=5), "instruction BYTEARRAY8"),
        (pickle.dumps({1, 2}, protocol=4), "instruction EMPTY_SET"),
        (b"\x80\x02c__main__\nA\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x02\x8b\x10\x00\x00\x00" + bytes(16) + b".", "instruction LONG4"),
    ],
)
def test_instructions_that_no_dump_needs_are_refused(tmp_path: Path, pickled: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TorchFile(archive(tmp_path / "a.pt", pickled, storage=bytes(8)))


def test_archives_that_torch_never_writes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is compressed or locked"):
        TorchFile(archive(tmp_path / "a.pt", tensor(), storage=bytes(8), compress=zipfile.ZIP_DEFLATED))
    with TorchFile(archive(tmp_path / "a.pt", tensor())) as file, pytest.raises(InputError, match="data/0 is missing"):
        file.whole_numbers(file.content)
    with (
        TorchFile(archive(tmp_path / "a.pt", tensor(), storage=bytes(4))) as file,
        pytest.raises(InputError, match="1 of 2 elements"),
    ):
        file.whole_numbers(file.content)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as several:
        several.writestr("a/data.pkl", tensor())
        several.writestr("b/data.pkl", tensor())
    with pytest.raises(InputError, match=r"2 entries data\.pkl"):
        TorchFile(tmp_path / "a.pt")
    torch.save(torch.ones(3, dtype=torch.int32), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"no file that torch\.save wrote"):
        TorchFile(tmp_path / "a.pt")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        TorchFile(tmp_path / "none.pt")
    with pytest.raises(InputError, match="no ordinary file"):
        TorchFile(tmp_path)


def test_cut_and_changed_files_are_errors_or_read(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"records": [{"ids": [1, 2, 3], "t": torch.arange(6).reshape(2, 3)}], "map": torch.arange(4)}, whole)
    data, chance, path = whole.getvalue(), random.Random(1), tmp_path / "a.pt"  # noqa: S311
    read = 0
    for turn in range(600):
        changed = bytearray(data)
        if turn % 2:
            del changed[chance.randrange(len(data)) :]
        else:
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(changed)
        with suppress(InputError), TorchFile(path) as file:
            plain(file, file.content)
            read += 1
    assert read < 500
