"""Types that llama.cpp can store a cache in, and the bytes of a row in each."""

from __future__ import annotations

from typing import NamedTuple


class CacheType(NamedTuple):
    """Elements and bytes of one block."""

    elements: int
    bytes: int

    @property
    def quantised(self) -> bool:
        """True for types that need whole blocks."""
        return self.elements > 1


CACHE_TYPES: dict[str, CacheType] = {
    # common/arg.cpp kv_cache_types; blocks by the size asserts of ggml-common.h
    "f32": CacheType(1, 4),
    "f16": CacheType(1, 2),
    "bf16": CacheType(1, 2),
    "q8_0": CacheType(32, 34),
    "q4_0": CacheType(32, 18),
    "q4_1": CacheType(32, 20),
    "iq4_nl": CacheType(32, 18),
    "q5_0": CacheType(32, 22),
    "q5_1": CacheType(32, 24),
}
TYPE_NAMES: dict[str, str] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""What moeplan calls a dtype, by llama.cpp's name for it."""


def row_bytes(type_name: str, elements: int) -> int:
    """Bytes of one row; llama.cpp refuses rows that are no whole blocks, so the last block is filled up."""
    kind = CACHE_TYPES.get(type_name, CACHE_TYPES["f16"])
    return -(-elements // kind.elements) * kind.bytes
