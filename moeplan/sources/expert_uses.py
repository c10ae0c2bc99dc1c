"""How a model's tokens use its experts, as asked for: a routing file, a stated skew, or the light one that is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.coverage import SEQUENCE_GROWTH, SEQUENCE_GROWTH_HIGH, SEQUENCE_GROWTH_LOW
from moeplan.core.errors import InputError
from moeplan.core.expert_use import LIGHT, MOST_SKEW, ExpertUse, GateSkew, MeasuredUse
from moeplan.core.model import ModelSpec, MoeFfn, Remark

if (
    TYPE_CHECKING
):  # only who brings a routing file pays for reading it, and only a model with routed experts asks for priors
    from moeplan.core.routing_profile import LayerRouting, RoutingProfile
    from moeplan.sources.routing_priors import PublishedFigure, RoutingPrior

GROWTH_BAND = SEQUENCE_GROWTH_LOW, SEQUENCE_GROWTH_HIGH
CHOSEN_DIFFER = 0.25
"""Share by which counts may fall short of a router's experts per token: some tokens may choose fewer."""


def read_use(
    spec: ModelSpec,
    routing: str | Path | None,
    skew: float | None,
    notes: list[Remark],
    *,
    model: str = "",
    folders: Sequence[str | Path] = (),
) -> ExpertUse:
    """The use of the experts that `--routing FILE` or `--skew` says, or the light skew; `notes` takes the remarks.

    What was published of the `model` of that id (in `folders` of profiles, or built in) takes the place of the default growth.
    Its skew is told in a note and not taken. Raises InputError for both options at once, for an absurd skew, for a dense
    model, and for a profile of another model.
    """
    if routing is not None and skew is not None:
        raise InputError(
            f"--routing {routing} and --skew {skew:g} both say how experts are used", hint="leave one of them out"
        )
    if skew is not None and not 0 <= skew <= MOST_SKEW:
        raise InputError(f"--skew {skew:g} must be from 0 (even) to {MOST_SKEW:g}", hint="0.3 is light, 0.7 heavy")
    prior = published_of(spec, model, folders)
    if routing is None:
        use = LIGHT if skew is None else GateSkew(skew, basis="stated")
        return use if prior is None else _with_prior(use, prior, model, notes)
    from moeplan.sources.routing_files import read_routing

    profile = read_routing(Path(routing))
    layers = _held_against(spec, profile, routing)
    notes.append(Remark("routing-profile", "info", _told(profile, layers, routing)))
    few = _few_tokens(layers)
    if few is not None:
        told = (
            f"{routing} has {few[0]:,} tokens; below {few[1]:,} chance alone makes experts look unevenly used, "
            "and steps lighter than they are"
        )
        notes.append(Remark("routing-few-tokens", "warning", told))
    sparse = sum(any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) for layer in spec.layers)
    if len(layers) < sparse:
        told = (
            f"{routing} counts {len(layers)} of {sparse} MoE layers; the others are taken to be like these on average"
        )
        notes.append(Remark("routing-layers-missing", "warning", told))
    growth, band = SEQUENCE_GROWTH, GROWTH_BAND
    if (
        prior is not None
        and prior.growth is not None
        and not any(len(layer.in_sequence) > 1 for layer in _neighbours(profile, layers))
    ):
        growth, band = prior.growth.value, (prior.growth.low, prior.growth.high)
        notes.append(Remark("routing-published", "info", _growth_told(prior, prior.growth, model)))
    return measured_use(profile, layers, growth, band)


def published_of(spec: ModelSpec, model: str, folders: Sequence[str | Path] = ()) -> RoutingPrior | None:
    """What was published of the routing of a model of that id, if its router has the same shape; None for a dense one."""
    shapes = {
        (ffn.num_experts, ffn.experts_per_token)
        for layer in spec.layers
        for ffn in layer.ffns
        if isinstance(ffn, MoeFfn)
    }
    if not shapes or not model:
        return None
    from moeplan.sources.routing_priors import prior_of

    prior = prior_of(model, spec.model_type, folders)
    return prior if prior is not None and (prior.experts, prior.experts_per_token) in shapes else None


def _with_prior(use: GateSkew, prior: RoutingPrior, model: str, notes: list[Remark]) -> GateSkew:
    """The use with the published growth; a published skew is told where none was stated."""
    if prior.exponent is not None and use.basis == "assumed":
        told = (
            f"published of {_whose(prior, model)}: router skew of exponent {_figure(prior.exponent)}; a light skew of "
            f"{use.exponent:g} is assumed all the same, --skew takes another"
        )
        notes.append(Remark("routing-published", "info", told))
    if prior.growth is None:
        return use
    told = _growth_told(prior, prior.growth, model)
    notes.append(Remark("routing-published", "info", told))
    return use._replace(
        growth=prior.growth.value, growth_why=told, growth_low=prior.growth.low, growth_high=prior.growth.high
    )


def _growth_told(prior: RoutingPrior, growth: PublishedFigure, model: str) -> str:
    return f"as published of {_whose(prior, model)}, distinct experts of neighbouring tokens grow with exponent {_figure(growth)}"


def _whose(prior: RoutingPrior, model: str) -> str:
    """The model that was published about, and where the one asked for is only of the same base."""
    return prior.model + (f" (of whose base {model} is another checkpoint)" if prior.is_alike(model) else "")


def _figure(figure: PublishedFigure) -> str:
    return f"{figure.value:g} ({figure.low:g} to {figure.high:g}) on {figure.setting} ({figure.source})"


def measured_use(
    profile: RoutingProfile,
    layers: tuple[LayerRouting, ...],
    growth: float = SEQUENCE_GROWTH,
    growth_band: tuple[float, float] = GROWTH_BAND,
) -> MeasuredUse:
    """Counts of layers as shares of tokens, and the laws that fit them; `growth` and its band where the profile has no curves of
    sequences."""
    from statistics import median

    from moeplan.core.routing_fit import growth_exponent, zipf_exponent

    chosen = max(1, round(layers[0].experts_per_token))
    shares = [[count / max(1, layer.tokens) for count in layer.counts] for layer in layers]
    growths = [
        growth_exponent(layer.in_sequence, layer.num_experts).exponent
        for layer in _neighbours(profile, layers)
        if len(layer.in_sequence) > 1
    ]
    exponent = median(zipf_exponent(layer.counts, max(1, round(layer.experts_per_token))).exponent for layer in layers)
    if growths:
        growth = median(growths)
        growth_band = growth, growth
    source, places = profile.provenance.source or profile.model, [layer.layer for layer in layers]
    return MeasuredUse(shares, chosen, exponent, growth, source, growth_band, places)


def _few_tokens(layers: Sequence[LayerRouting]) -> tuple[int, int] | None:
    """Tokens of the layer with fewest, and how many it takes, where these are too few to tell experts that are never chosen."""
    from moeplan.core.routing_metrics import tokens_to_judge

    tokens, needed = min(
        ((layer.tokens, tokens_to_judge(layer.num_experts, layer.experts_per_token)) for layer in layers),
        key=lambda pair: pair[0] / pair[1],
    )
    return (tokens, needed) if tokens < needed else None


def _neighbours(profile: RoutingProfile, layers: tuple[LayerRouting, ...]) -> tuple[LayerRouting, ...]:
    """The layers that tell how neighbours share experts: growth is asked for prompts, so theirs where they have curves."""
    prompts = profile.layers.get("prefill", ())
    return prompts if any(len(layer.in_sequence) > 1 for layer in prompts) else layers


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
    # Of slots that a token chooses, some compute nothing: how many is not told by the model.
    fewest = 0.0 if any(ffn.num_zero_experts for ffn in sparse) else min(chosen) * (1 - CHOSEN_DIFFER)
    for layer in layers:
        if layer.num_experts not in experts or not fewest <= layer.experts_per_token <= max(chosen) + 1e-6:
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
