"""Sizes that ranks may cut only at certain places: weights whose scales belong to two-dimensional blocks."""

from typing import NamedTuple

from moeplan.core.deployment import Serving
from moeplan.core.model import Role
from moeplan.core.quant import block_shape


class BlockSide(NamedTuple):
    """The side of a weight that ranks share, in whole blocks or not at all."""

    role: Role
    module: str
    size: int
    block: int

    def is_broken(self, ranks: int) -> bool:
        """Whether a shard is no whole number of blocks; a size that does not divide at all is another matter."""
        return ranks > 1 and self.size % ranks == 0 and self.size // ranks % self.block != 0

    def told(self, ranks: int) -> str:
        """The arithmetic of a broken shard."""
        shard = f"{self.size} / {ranks} = {self.size // ranks} of {self.module}"
        return f"{shard} is not a multiple of the {self.block} of its fp8 blocks"


def block_sides(serving: Serving) -> tuple[BlockSide, ...]:
    """Of every matrix in such a format that is divided by columns or rows."""
    quantisation = serving.quantisation
    if not any(block_shape(each) for each in (quantisation.base, *(rule.format for rule in quantisation.rules))):
        return ()
    found = []
    for entry in serving.owned:
        weight, name = entry.weight, entry.first_name
        side = {"column": 0, "row": 1}.get(weight.split)
        if entry.part != "text" or not weight.linear or side is None or len(weight.shape) != 2:
            continue
        block = block_shape(quantisation.format_of(name, weight.role, linear=True))
        if block is not None:
            found.append(BlockSide(weight.role, name.rpartition(".")[0], weight.shape[side], block[side]))
    return tuple(found)
