"""What a checkpoint's headers say: every tensor with its name, dtype, shape and bytes; no value of any of them."""

from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.model import Remark


class StoredTensor(NamedTuple):
    """One tensor as a file stores it."""

    name: str
    dtype: str
    """As the format writes it: `BF16`, `F8_E4M3`, `U8`, `I32` in safetensors; `Q4_K`, `F32` in GGUF."""
    shape: tuple[int, ...]
    """Outermost dimension first, also for GGUF, which stores it the other way round."""
    num_bytes: int
    file: str


class Checkpoint(NamedTuple):
    """All tensors of one variant of a model, in the order of their files."""

    tensors: tuple[StoredTensor, ...]
    files: tuple[str, ...]
    metadata: Mapping[str, str] = {}
    """What the files say about themselves (`format`, `total_size`)."""
    remarks: tuple[Remark, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors; headers and padding are not counted."""
        return sum(tensor.num_bytes for tensor in self.tensors)
