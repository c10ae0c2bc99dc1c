"""A report of routing as comma-separated values: a line per layer, a column per figure, unknown ones empty."""

import csv
from collections.abc import Mapping
from io import StringIO

from moeplan.core.routing_capture import DISTANCES, WINDOWS
from moeplan.routing.result import LayerReport, Report


def routing_report_csv(report: Report) -> str:
    """The layers of the report. Columns are the names of the JSON; those of lists have the distance or the tokens behind.

    The columns are the same for every report, so that files of several can be put one below the other.
    """
    stream = StringIO()
    rows = [_row(layer) for layer in report.layers]
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(layer: LayerReport) -> Mapping[str, object]:
    overlap = {each.distance_tokens: each for each in layer.overlap}
    in_sequence = {each.tokens: each for each in layer.in_sequence}
    across = {each.tokens: each for each in layer.across}
    within, between, skew = layer.in_sequence_growth, layer.across_growth, layer.skew
    return {
        "layer": layer.layer,
        "num_experts": layer.num_experts,
        "experts_per_token": layer.experts_per_token,
        "tokens": layer.tokens,
        "load_cv": layer.load_cv,
        "load_cv_floor": layer.load_cv_floor,
        "uneven": str(layer.uneven).lower(),
        "normalised_entropy": layer.normalised_entropy,
        "effective_experts": layer.effective_experts,
        "gini": layer.gini,
        "gini_floor": layer.gini_floor,
        "busiest_over_mean": layer.busiest_over_mean,
        "coverage_fraction": layer.coverage_fraction,
        "dead_experts": len(layer.dead.experts),
        "dead_by_chance": layer.dead.by_chance,
        "dead_judged": str(layer.dead.judged).lower(),
        "near_tie_fraction": layer.near_tie_fraction,
        **{f"overlap_fraction_{distance}": _of(overlap.get(distance), "fraction") for distance in DISTANCES},
        "overlap_chance_fraction": layer.overlap[0].chance_fraction if layer.overlap else None,
        "kept_fraction": layer.kept_fraction,
        **{f"in_sequence_distinct_{tokens}": _of(in_sequence.get(tokens), "distinct") for tokens in WINDOWS},
        "in_sequence_exponent": within and within.exponent,
        "in_sequence_exponent_low": within and within.low,
        "in_sequence_exponent_high": within and within.high,
        **{f"across_distinct_{tokens}": _of(across.get(tokens), "distinct") for tokens in WINDOWS},
        "across_exponent": between and between.exponent,
        "across_exponent_low": between and between.low,
        "across_exponent_high": between and between.high,
        "zipf_exponent": skew and skew.zipf_exponent,
        "lognormal_sigma": skew and skew.lognormal_sigma,
        "drop_fraction": layer.drop_fraction,
        "drop_at_one_fraction": layer.capacity.drop_at_one_fraction,
        "capacity_factor": layer.capacity.factor,
    }


def _of(point: object, name: str) -> float | None:
    return None if point is None else getattr(point, name)
