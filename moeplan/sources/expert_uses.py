"""How a model's tokens use its experts, as asked for: a routing file, a stated skew, or the light one that is assumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.coverage import SEQUENCE_GROWTH
from moeplan.core.errors import InputError
from moeplan.core.expert_use import LIGHT, ExpertUse, GateSkew, MeasuredUse
from moeplan.core.model import ModelSpec, MoeFfn, Remark

if TYPE_CHECKING:  # only who brings a routing file pays for reading it
    from moeplan.core.routing_profile import LayerRouting, RoutingProfile

MOST_SKEW = 4.0
"""An exponent at which one expert has nearly all."""


def read_use(spec: ModelSpec, routing: str | Path | None, skew: float | None, notes: list[Remark]) -> ExpertUse:
    """The use of the experts that `--routing FILE` or `--skew` says, or the light skew; `notes` takes the remarks.

    Raises InputError for both at once, for an absurd skew, for a dense model, and for a profile of another model.
    """
    if routing is not None and skew is not None:
        raise InputError(
            f"--routing {routing} and --skew {skew:g} both say how experts are used", hint="leave one of them out"
        )
    if skew is not None:
        if not 0 <= skew <= MOST_SKEW:
            raise InputError(f"--skew {skew:g} must be from 0 (even) to {MOST_SKEW:g}", hint="0.3 is light, 0.7 heavy")
        return GateSkew(skew, basis="stated")
    if routing is None:
        return LIGHT
    from moeplan.sources.routing_files import read_routing

    profile = read_routing(Path(routing))
    layers = _held_against(spec, profile, routing)
    notes.append(Remark("routing-profile", "info", _told(profile, layers, routing)))
    return measured_use(profile, layers)


def measured_use(profile: RoutingProfile, layers: tuple[LayerRouting, ...]) -> MeasuredUse:
    """Counts of layers as shares of tokens, and the laws that fit them."""
    from statistics import median

    from moeplan.core.routing_fit import growth_exponent, zipf_exponent

    chosen = round(layers[0].experts_per_token)
    shares = [[count / max(1, layer.tokens) for count in layer.counts] for layer in layers]
    growths = [growth_exponent(layer.in_sequence).exponent for layer in layers if len(layer.in_sequence) > 1]
    exponent = median(zipf_exponent(layer.counts, chosen).exponent for layer in layers)
    growth = median(growths) if growths else SEQUENCE_GROWTH
    return MeasuredUse(shares, chosen, exponent, growth, profile.provenance.source or profile.model)


def _held_against(spec: ModelSpec, profile: RoutingProfile, file: str | Path) -> tuple[LayerRouting, ...]:
    """The layers of a profile, those decoded where it knows them, if they can be this model's."""
    sparse = [ffn for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    if not sparse:
        raise InputError(f"--routing {file}: this model is dense, it routes nothing", hint="leave it out")
    layers = profile.layers.get("decode") or profile.layers["all"]
    layers = tuple(layer for layer in layers if layer.tokens)
    if not layers:
        raise InputError(f"--routing {file}: no token was counted", hint="capture it again, or name another file")
    experts, chosen = {ffn.num_experts for ffn in sparse}, {ffn.experts_per_token for ffn in sparse}
    for layer in layers:
        if layer.num_experts not in experts or layer.experts_per_token > max(chosen) + 1e-6:
            raise InputError(
                f"--routing {file}: layer {layer.layer} has {layer.num_experts} experts, {layer.experts_per_token:g} per "
                f"token, and this model has {_either(experts)}, {_either(chosen)} per token",
                hint="name a profile of this model",
            )
    if len(layers) > len(sparse):
        raise InputError(
            f"--routing {file}: it has {len(layers)} MoE layers, and this model has {len(sparse)}",
            hint="name a profile of this model",
        )
    return layers


def _told(profile: RoutingProfile, layers: tuple[LayerRouting, ...], file: str | Path) -> str:
    made = profile.provenance
    by = " ".join(part for part in (made.engine, made.engine_version) if part) or made.tool or "an unknown tool"
    when = f", {made.date}" if made.date else ""
    tokens = layers[0].tokens
    return (
        f"experts are used as {file} counted: {profile.model}, {len(layers)} layers, {tokens:,} tokens, by {by}{when}; "
        "other texts use them otherwise"
    )


def _either(values: set[int]) -> str:
    return " or ".join(str(value) for value in sorted(values))
