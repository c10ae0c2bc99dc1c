"""What is known beside a dump, and whether the dump is of that model."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import MOST_EXPERTS, MOST_LAYERS
from moeplan.core.routing_profile import LayerRouting, Phase, Provenance
from moeplan.version import __version__

NAMELESS = "unknown"
"""Model of a profile whose dump names none."""

OTHER_MODEL = "name the model that was served; without a model the dump is taken as it is"


class ModelLayers(NamedTuple):
    """Layers of a model as far as a dump can be held against them."""

    name: str
    revision: str | None
    num_layers: int
    """Dense ones counted."""
    experts: Mapping[int, int]
    """Of each MoE layer, how many."""
    chosen: Mapping[int, float]
    """Of each MoE layer, experts of a token."""


class Known(NamedTuple):
    """What the dump may not say itself."""

    model: ModelLayers | None = None
    experts_per_token: float | None = None
    """Where no model tells it."""
    phase: Phase = "all"
    """Which tokens were counted: a server of a split deployment has one phase alone."""

    def name(self, said: str | None = None) -> str:
        """Of the model; `said` is what the dump calls it."""
        return self.model.name if self.model is not None else said or NAMELESS

    @property
    def revision(self) -> str | None:
        """Of the model, where one was named."""
        return None if self.model is None else self.model.revision

    def chosen(self, layer: int, where: str, said: float | None = None) -> float:
        """Experts per token of a layer: the model's, what was stated, or what the dump says. InputError if none does."""
        found = self.model.chosen.get(layer) if self.model is not None else self.experts_per_token
        found = said if found is None else found
        if found is None:
            raise InputError(
                f"{where}: it does not say how many experts a token has",
                hint="name the model (--model), or say --experts-per-token",
            )
        return found


def layer_numbers(rows: int, num_experts: int, known: Known, where: str) -> dict[int, int]:
    """Of the rows of a dump that may be MoE layers: their number in the model. Without a model, rows are layers.

    A dump has a row for each layer, or for each MoE layer. InputError for one that has neither, or other experts.
    """
    check_size(rows, num_experts, where)
    model = known.model
    if model is None:
        return {row: row for row in range(rows)}
    moe = sorted(model.experts)
    if rows == model.num_layers:
        found = {layer: layer for layer in moe}
    elif rows == len(moe):
        found = dict(enumerate(moe))
    else:
        raise InputError(
            f"{where}: it has {rows} layers, and {model.name} has {model.num_layers}, of which {len(moe)} have experts",
            hint=OTHER_MODEL,
        )
    for layer in found.values():
        check_experts(layer, num_experts, known, where)
    return found


def check_experts(layer: int, num_experts: int, known: Known, where: str) -> None:
    """InputError unless the model, where one is named, has so many experts in that layer."""
    if known.model is None or known.model.experts.get(layer) == num_experts:
        return
    there = known.model.experts.get(layer)
    said = "is dense" if there is None and layer < known.model.num_layers else f"has {there or 'no such layer'}"
    raise InputError(
        f"{where}: layer {layer} has {num_experts} experts in it, and {known.model.name} {said}", hint=OTHER_MODEL
    )


def check_size(rows: int, num_experts: int, where: str) -> None:
    """InputError for more layers or experts than any model has, or none."""
    if not 1 <= rows <= MOST_LAYERS:
        raise InputError(
            f"{where}: {rows} layers; between 1 and {MOST_LAYERS} are read", hint="is it a dump of routing?"
        )
    if not 1 <= num_experts <= MOST_EXPERTS:
        raise InputError(
            f"{where}: {num_experts} experts in a layer; between 1 and {MOST_EXPERTS} are read",
            hint="is it a dump of routing?",
        )


def by_phase(layers: tuple[LayerRouting, ...], known: Known) -> dict[Phase, tuple[LayerRouting, ...]]:
    """Layers of a dump that does not tell phases apart: all tokens, and the phase that was stated."""
    return {"all": layers} if known.phase == "all" else {"all": layers, known.phase: layers}


def provenance(engine: str, path: Path, date: str | None = None) -> Provenance:
    """Where an imported profile comes from: the name of the file, without its folder."""
    return Provenance(
        tool="moeplan routing import", tool_version=__version__, engine=engine, date=date, source=path.resolve().name
    )
