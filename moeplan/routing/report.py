"""`moeplan routing report`: how evenly the experts of each layer are used, beside what chance alone would do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from moeplan.core.coverage import distinct_uniform, distinct_weighted
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.routing_fit import (
    Growth,
    growth_exponent,
    kept_fraction,
    lognormal_sigma,
    zipf_exponent,
    zipf_noise_floor,
)
from moeplan.core.routing_metrics import (
    beyond_chance,
    busiest_over_mean,
    capacity_factor,
    capacity_tokens,
    coverage_fraction,
    dead_experts,
    drop_fraction,
    effective_experts,
    expected_drop_fraction,
    gini,
    independent_tokens,
    load_cv,
    mean_coverage,
    noise_floor_busiest,
    noise_floor_cv,
    noise_floor_entropy,
    noise_floor_gini,
    normalised_entropy,
)
from moeplan.core.routing_profile import Curve, LayerRouting
from moeplan.routing.reading import read_part
from moeplan.routing.result import (
    REPORT_SCHEMA,
    CapacityNeed,
    DistinctAt,
    LayerReport,
    Metric,
    OverlapAt,
    Report,
    Skew,
    WorstLayer,
)

BEYOND_CHANCE_SIGMAS = 3.0
"""From here on chance does not explain a spread: one even layer in 700 looks so."""

STEP_TOKENS = 4096
"""Of the step that a capacity is worked out for, where none is stated: a full step of prompts."""

MOST_STEP_TOKENS = 1 << 20


def report(
    file: str | Path,
    *,
    phase: str = "all",
    prompt_class: str | None = None,
    layers: Sequence[str | int] = (),
    drop_bound: float = 0.01,
    step_tokens: int = STEP_TOKENS,
) -> Report:
    """Every layer of `file` with all its figures, and the layers that stand out.

    `phase` is all, prefill or decode, `prompt_class` a class of prompts, `layers` numbers and ranges such as `10-20`. A capacity
    factor keeps the drops of a step of `step_tokens` under the share `drop_bound`. Raises the errors of `moeplan.core.errors`.
    """
    if not 0 <= drop_bound < 1:
        raise InputError(f"--drop-bound {drop_bound:g} must be a share below 1", hint="for instance --drop-bound 1%")
    if not 1 <= step_tokens <= MOST_STEP_TOKENS:
        raise InputError(
            f"--step-tokens {step_tokens} must be from 1 to {MOST_STEP_TOKENS:,}",
            hint="the tokens of one forward step: 4096",
        )
    part = read_part(file, phase=phase, prompt_class=prompt_class, layers=layers)
    notes = list(part.notes)
    found = tuple(_layer(layer, drop_bound, step_tokens) for layer in part.layers)
    if not any(layer.in_sequence for layer in found):
        notes.append(
            Remark(
                "routing-counts-alone",
                "info",
                "the file has counts alone: nothing is known of neighbouring tokens; `moeplan routing capture` tells it",
            )
        )
    return Report(
        schema=REPORT_SCHEMA,
        source=part.source,
        selection=part.selection,
        drop_bound_fraction=drop_bound,
        step_tokens=step_tokens,
        tokens=max(layer.tokens for layer in found),
        uneven_layers=sum(layer.uneven for layer in found),
        worst=tuple(_worst(found)),
        layers=found,
        notes=tuple(notes),
    )


def _layer(layer: LayerRouting, drop_bound: float, step_tokens: int) -> LayerReport:
    experts, chosen, counts = layer.num_experts, layer.experts_per_token, layer.counts
    whole = max(1, round(chosen))
    inclusion = [count / layer.tokens for count in counts]
    chance = chosen / experts
    independent = independent_tokens(layer.tokens, layer.overlap, chance)
    beyond = beyond_chance(counts, chosen, independent)
    at_one = expected_drop_fraction(inclusion, step_tokens, capacity_tokens(1, step_tokens, chosen, experts))
    return LayerReport(
        layer=layer.layer,
        num_experts=experts,
        experts_per_token=chosen,
        tokens=layer.tokens,
        independent_tokens=independent,
        tokens_by_expert=counts,
        load_cv=load_cv(counts),
        load_cv_floor=noise_floor_cv(experts, chosen, independent),
        beyond_chance_sigmas=beyond,
        uneven=beyond > BEYOND_CHANCE_SIGMAS,
        normalised_entropy=normalised_entropy(counts),
        entropy_floor=noise_floor_entropy(experts, chosen, independent),
        effective_experts=effective_experts(counts),
        gini=gini(counts),
        gini_floor=noise_floor_gini(experts, chosen, independent),
        busiest_over_mean=busiest_over_mean(counts),
        busiest_floor=noise_floor_busiest(experts, whole, independent),
        coverage_fraction=coverage_fraction(counts),
        window_coverage_fraction=mean_coverage(layer.windows),
        dead=dead_experts(counts, chosen, independent),
        near_tie_fraction=layer.near_ties,
        overlap=tuple(OverlapAt(round(distance), share, chance) for distance, share in layer.overlap),
        kept_fraction=_kept(layer.in_sequence, experts, whole),
        in_sequence=_distinct(layer.in_sequence, layer, inclusion),
        in_sequence_growth=_growth(layer.in_sequence, experts),
        across=_distinct(layer.across, layer, inclusion),
        across_growth=_growth(layer.across, experts),
        skew=_skew(counts, whole, independent),
        drop_fraction=drop_fraction(counts, layer.dropped),
        capacity=CapacityNeed(step_tokens, at_one, capacity_factor(inclusion, step_tokens, drop_bound)),
    )


def _distinct(curve: Curve, layer: LayerRouting, inclusion: Sequence[float]) -> tuple[DistinctAt, ...]:
    return tuple(
        DistinctAt(
            tokens=round(tokens),
            distinct=distinct,
            uniform=distinct_uniform(layer.num_experts, layer.experts_per_token, tokens),
            by_counts=distinct_weighted(inclusion, tokens),
        )
        for tokens, distinct in curve
    )


def _growth(curve: Curve, experts: int) -> Growth | None:
    if len(curve) < 2 or curve[0][1] <= 0 or not any(value > 0 for _, value in curve[1:]):
        return None
    return growth_exponent(curve, experts)


def _kept(curve: Curve, experts: int, chosen: int) -> float | None:
    return kept_fraction(curve, experts, chosen) if any(tokens > 1 for tokens, _ in curve) else None


def _skew(counts: Sequence[int], chosen: int, tokens: float) -> Skew | None:
    """None where all experts are chosen by every token: gates have no skew then."""
    if chosen >= len(counts):
        return None
    zipf, lognormal = zipf_exponent(counts, chosen), lognormal_sigma(counts, chosen)
    floor = zipf_noise_floor(len(counts), chosen, tokens)
    return Skew(zipf.exponent, zipf.error, floor, lognormal.sigma, lognormal.error)


# Layers that stand out -------------------------------------------------------------------------------------


class _Ranking(NamedTuple):
    """A figure by which layers are ranked."""

    metric: Metric
    figure: Callable[[LayerReport], float | None]
    """None where it is not known, or nothing to rank by."""
    floor: Callable[[LayerReport], float | None] = lambda _: None
    """What chance alone gives."""
    less_is_worse: bool = False


_RANKINGS = (
    _Ranking("load_cv", lambda layer: layer.load_cv, lambda layer: layer.load_cv_floor),
    _Ranking("busiest_over_mean", lambda layer: layer.busiest_over_mean, lambda layer: layer.busiest_floor),
    _Ranking("gini", lambda layer: layer.gini, lambda layer: layer.gini_floor),
    _Ranking(
        "effective_experts_fraction", lambda layer: layer.effective_experts / layer.num_experts, less_is_worse=True
    ),
    _Ranking(
        "dead_experts",
        lambda layer: float(len(layer.dead.experts)) if layer.dead.judged else None,
        lambda layer: layer.dead.by_chance,
    ),
    _Ranking("near_tie_fraction", lambda layer: layer.near_tie_fraction or None),
    _Ranking(
        "overlap_fraction",
        lambda layer: layer.overlap[0].fraction if layer.overlap else None,
        lambda layer: layer.overlap[0].chance_fraction,
    ),
    _Ranking(
        "in_sequence_growth",
        lambda layer: layer.in_sequence_growth and layer.in_sequence_growth.exponent,
        less_is_worse=True,
    ),
    _Ranking("drop_fraction", lambda layer: layer.drop_fraction or None),
    _Ranking("capacity_factor", lambda layer: layer.capacity.factor),
)


def _worst(layers: Sequence[LayerReport]) -> list[WorstLayer]:
    found = []
    for ranking in _RANKINGS:
        known = [(value, layer) for layer in layers if (value := ranking.figure(layer)) is not None]
        if not known or (ranking.metric == "dead_experts" and not any(value for value, _ in known)):
            continue
        sign = 1 if ranking.less_is_worse else -1
        ordered = sorted(known, key=lambda each: (sign * each[0], each[1].layer))
        (value, layer), middle = ordered[0], median(each for each, _ in known)
        found.append(WorstLayer(ranking.metric, layer.layer, value, middle, ordered[-1][0], ranking.floor(layer)))
    return found
