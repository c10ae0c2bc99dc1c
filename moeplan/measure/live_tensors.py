"""Bytes of the tensors that are alive on a device, and their peak: what allocators of the CPU do not tell.

Every operation of torch passes a dispatch mode, so a tensor is known by its storage from its birth to its end. What a
kernel allocates inside (workspaces of cuBLAS, blocks of a fused attention) is no tensor and is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.overrides import TorchFunctionMode  # noqa: TID253
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253


class LiveTensors(TorchDispatchMode):  # type: ignore[misc]  # torch's classes are Any
    """Counts the tensors of one kind of device that are made while it is on, each storage once; not those of before.

    Use under `torch.no_grad()`: in inference mode operations that are made of others arrive whole, and what these make
    in between is missed.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.now_bytes = 0
        """Of the tensors that are alive."""
        self.peak_bytes = 0
        """The most of it since `begin`."""
        self._sizes: dict[int, int] = {}
        """Storage to bytes that count; 0 for one that was there before, which shows when an operation is given it."""

    def begin(self) -> None:
        """The peak counts from here."""
        self.peak_bytes = self.now_bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts what it hands back."""
        for storage in self._storages((*args, *(kwargs or {}).values())):
            self._know(storage, 0)
        result = func(*args, **(kwargs or {}))
        for storage in self._storages(result if isinstance(result, list | tuple) else (result,)):
            self._know(storage, int(storage.nbytes()))
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        return result

    def _storages(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            for each in value if isinstance(value, list | tuple) else (value,):
                if isinstance(each, Tensor) and each.device.type == self.device_type:
                    yield each.untyped_storage()

    def _know(self, storage: Any, size: int) -> None:
        key = id(storage)  # torch keeps one Python object for each storage as long as that lives
        if key not in self._sizes:
            self._sizes[key] = size
            self.now_bytes += size
            weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.now_bytes -= self._sizes.pop(key)


class FusedAttention(TorchFunctionMode):  # type: ignore[misc]  # torch's classes are Any
    """Attention as one kernel that makes its result alone, for shapes without data.

    On the meta device torch would take it apart into whole matrices of scores, which no fused kernel makes.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The shape of `scaled_dot_product_attention`; everything else as it is."""
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the elements, each tensor once; views of one storage count what they show."""
    once = {id(each): each for each in tensors}.values()
    return sum(each.numel() * each.element_size() for each in once)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind the tensors, each storage once: what a view keeps alive counts whole."""
    storages = [each.untyped_storage() for each in tensors]
    return sum({id(storage): storage.nbytes() for storage in storages}.values())
