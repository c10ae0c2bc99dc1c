"""What a pipeline stage is made of: stages with as many layers of each sort hold and compute the same."""

from collections import Counter
from collections.abc import Hashable

from moeplan.core.kept import Kept
from moeplan.core.layout import Stage
from moeplan.core.model import ModelSpec
from moeplan.core.quant import Holding

_layers, _stages = Kept(256), Kept(4096)


def stage_sort(spec: ModelSpec, held: tuple[Holding, ...], stage: Stage) -> Hashable:
    """A key that is equal for stages that hold equal weights and run equal layers; found again for the same objects."""

    def made() -> Hashable:
        sorts = _layers.of((spec, held), (), lambda: _layer_sorts(spec, held))
        counts = Counter(sorts[stage.first_layer : stage.end_layer])
        return tuple(sorted(counts.items())), stage.is_first, stage.is_last

    return _stages.of((spec, held), (stage.first_layer, stage.end_layer, stage.is_first, stage.is_last), made)


def _layer_sorts(spec: ModelSpec, held: tuple[Holding, ...]) -> tuple[int, ...]:
    """A number for each layer, the same for layers of one kind that own the same weights."""
    owners: list[list[int]] = [[] for _ in spec.layers]
    for number, holding in enumerate(held):
        if holding.part == "text":
            for layer in holding.layers:
                owners[layer].append(number)
    alike: dict[Hashable, int] = {}
    kinds = [alike.setdefault(layer, len(alike)) for layer in spec.layers]
    numbers: dict[Hashable, int] = {}
    return tuple(
        numbers.setdefault((kind, tuple(mine)), len(numbers)) for kind, mine in zip(kinds, owners, strict=True)
    )
