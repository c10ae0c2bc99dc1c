"""`moeplan routing import`: what an engine wrote of its routing, as a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.errors import InputError
from moeplan.core.model import MoeFfn
from moeplan.core.routing_profile import PHASES, RoutingProfile
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model

if TYPE_CHECKING:  # readers of dumps are loaded by who imports one, not by every command of routing
    from moeplan.sources.routing_dumps.kinds import Kind
    from moeplan.sources.routing_dumps.known import Known, ModelLayers


def import_dump(
    path: str | Path,
    *,
    kind: str | None = None,
    model: str | None = None,
    experts_per_token: float | None = None,
    phase: str = "all",
    offline: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
) -> RoutingProfile:
    """Read a dump of SGLang, vLLM, TensorRT-LLM or llama.cpp, or responses with their choices; no token ids are kept.

    `kind` is one of sglang, vllm, trtllm, imatrix, returned, else found out. `model`, as every command takes it, names the layers, tells
    experts per token and is held against the dump; `experts_per_token` stands in where no model is named. `phase` says what
    was counted where that is one phase alone. Raises InputError for files that are broken, hostile or of another model, and
    what `find_model` raises.
    """
    place = Path(path).expanduser()
    if phase not in PHASES:
        raise InputError(f"unknown phase {phase!r}", hint=f"phases: {', '.join(PHASES)}")
    if experts_per_token is not None and not experts_per_token > 0:
        raise InputError(
            f"--experts-per-token {experts_per_token:g} must be above 0", hint="say how many experts a token has"
        )
    taken = _kind(kind, place)
    layers = None
    if model is not None:
        folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
        layers = model_layers(find_model(model, Asked(None, offline, False, None, folders)))
    from moeplan.sources.routing_dumps.known import Known

    known = Known(layers, experts_per_token, next(name for name in PHASES if name == phase))
    return _reader(taken)(place, known)


def model_layers(loaded: LoadedModel) -> ModelLayers:
    """Layers with experts of a model, as dumps are held against them. InputError for a dense model."""
    from moeplan.sources.routing_dumps.known import ModelLayers

    experts: dict[int, int] = {}
    chosen: dict[int, float] = {}
    for number, layer in enumerate(loaded.spec.layers):
        for ffn in layer.ffns:
            if isinstance(ffn, MoeFfn):
                experts[number] = ffn.num_experts
                # Of the slots that a token chooses, those that compute something: all slots taken as alike likely.
                share = ffn.num_experts / (ffn.num_experts + ffn.num_zero_experts)
                chosen[number] = ffn.experts_per_token * share
    if not experts:
        raise InputError(f"{loaded.id} has no experts", hint="name the model that the dump is of")
    return ModelLayers(loaded.id, loaded.revision, len(loaded.spec.layers), experts, chosen)


def _kind(said: str | None, path: Path) -> Kind:
    from moeplan.sources.routing_dumps.kinds import KINDS, READ, kind_of

    if said is None:
        return kind_of(path)
    for known in KINDS:
        if said == known:
            return known
    raise InputError(f"unknown kind of dump {said!r}", hint=f"kinds: {', '.join(KINDS)}; {READ}")


def _reader(kind: Kind) -> Callable[[Path, Known], RoutingProfile]:
    match kind:
        case "sglang":
            from moeplan.sources.routing_dumps.sglang import read_sglang

            return read_sglang
        case "vllm":
            from moeplan.sources.routing_dumps.vllm import read_vllm

            return read_vllm
        case "trtllm":
            from moeplan.sources.routing_dumps.trtllm import read_trtllm

            return read_trtllm
        case "imatrix":
            from moeplan.sources.routing_dumps.imatrix import read_imatrix

            return read_imatrix
        case "returned":
            from moeplan.sources.routing_dumps.returned import read_returned

            return read_returned
