"""A report of routing in words: the verdict, the worst layers, and a row per layer in three tables."""

from collections.abc import Callable, Sequence

from moeplan.core.routing_capture import WINDOWS
from moeplan.report.heat_map import HeatRow
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.routing_words import (
    Section,
    counted,
    figure,
    known_columns,
    percent,
    selection_words,
    source_words,
    times,
)
from moeplan.routing.result import DistinctAt, LayerReport, Metric, Report, WorstLayer

WITHIN_CHANCE = "~"
"""Behind the spread of a layer that chance explains."""


def head_words(report: Report) -> list[str]:
    """What was looked at: the layers, the tokens, the file."""
    experts = sorted({layer.num_experts for layer in report.layers})
    chosen = sorted({round(layer.experts_per_token, 2) for layer in report.layers})
    num = " or ".join(f"{count:,}" for count in experts)
    each = f"{chosen[0]:g}" if len(chosen) == 1 else f"{chosen[0]:g} to {chosen[-1]:g}"
    return [
        f"{counted(len(report.layers), 'layer', 'layers')} of {num} experts, {each} per token",
        f"{counted(report.tokens, 'token', 'tokens')} of {selection_words(report.selection, report.source)}",
        source_words(report.source),
    ]


def verdict_words(report: Report) -> str:
    """Whether chance explains the spread, in one sentence that needs no colour."""
    all_layers, uneven = len(report.layers), report.uneven_layers
    if not uneven:
        return "EVEN: chance alone explains how experts are used in every layer"
    many = "the layer" if all_layers == 1 else f"{uneven} of {all_layers} layers"
    return f"UNEVEN: in {many} experts are used less evenly than chance explains"


def worst_columns(report: Report) -> list[Column]:
    """The layer that stands out by each figure, beside the median and the best layer."""
    rows = [(METRICS[each.metric], each) for each in report.worst]
    return [
        Column("worst layers", tuple(label for (label, _), _ in rows), right=False),
        Column("layer", tuple(str(each.layer) for _, each in rows)),
        Column("there", tuple(shown(each.value) for (_, shown), each in rows)),
        Column("by chance", tuple(_floor_cell(shown, each) for (_, shown), each in rows), 2),
        Column("median", tuple(shown(each.median) for (_, shown), each in rows), 1),
        Column("best", tuple(shown(each.best) for (_, shown), each in rows), 3),
    ]


def sections(report: Report) -> list[Section]:
    """All figures of all layers; columns that nobody has are left out, and tables without any."""
    found = [_load(report), _choices(report), _distinct(report), _capacity(report)]
    return [section for section in found if len(section.columns) > 1]


def heat_rows(report: Report) -> list[HeatRow]:
    """The map: a row per layer, with its busiest expert's load behind it."""
    return [
        HeatRow(str(layer.layer), layer.tokens_by_expert, times(layer.busiest_over_mean)) for layer in report.layers
    ]


# Tables ----------------------------------------------------------------------------------------------------


def _load(report: Report) -> Section:
    layers = report.layers
    columns = known_columns(
        (
            _labels(layers),
            _column("spread", layers, _spread_cell),
            _column("by chance", layers, lambda layer: figure(layer.load_cv_floor)),
            _column("busiest", layers, lambda layer: times(layer.busiest_over_mean)),
            _column("effective", layers, _effective_cell, 1),
            _column("Gini", layers, lambda layer: figure(layer.gini), 2),
            _column("entropy", layers, lambda layer: figure(layer.normalised_entropy), 3),
            _column("used", layers, lambda layer: percent(layer.coverage_fraction), 5),
            _column("by step", layers, lambda layer: percent(layer.window_coverage_fraction), 4),
            _column("dead", layers, _dead_cell, 1),
        )
    )
    even = f"; {WITHIN_CHANCE} chance explains it" if any(not layer.uneven for layer in layers) else ""
    dead = "experts without a token"
    if any(layer.dead.experts and not layer.dead.judged for layer in layers):
        most = max(layer.dead.tokens_to_judge for layer in layers)
        dead += f"; ? too few independent tokens to call them dead, it takes {most:,}"
    told = (
        ("spread", f"standard deviation of tokens by expert over their mean{even}"),
        ("busiest", "the busiest expert over the mean"),
        ("effective", "as many experts, used alike, have the same entropy"),
        ("entropy", "over ln E"),
        ("used", "experts that any token came to"),
        ("by step", "the same of one step or window, on average"),
        ("dead", dead),
    )
    return Section("How evenly experts are used", columns, told)


def _choices(report: Report) -> Section:
    layers = report.layers
    distances = sorted({each.distance_tokens for layer in layers for each in layer.overlap})
    columns = known_columns(
        (
            _labels(layers),
            _column("near ties", layers, lambda layer: percent(layer.near_tie_fraction, 2)),
            *(
                _column(
                    "next" if distance == 1 else f"+{distance}",
                    layers,
                    _overlap_cell(distance),
                    0 if distance == 1 else 1 + number,
                )
                for number, distance in enumerate(distances)
            ),
            _column("by chance", layers, _chance_cell),
            _column("kept", layers, lambda layer: percent(layer.kept_fraction, 0), 1),
            _column("Zipf", layers, lambda layer: figure(layer.skew and layer.skew.zipf_exponent)),
            _column("sigma", layers, lambda layer: figure(layer.skew and layer.skew.lognormal_sigma), 2),
        )
    )
    told = (
        ("near ties", "tokens whose choice rounding may turn"),
        ("next", "share of a token's experts that the next token chooses too"),
        ("+2", "that the token so many places behind chooses too"),
        ("kept", "the same as a Markov chain of neighbours fits it"),
        ("Zipf", "exponent of a law of the gates' weights that fits the counts"),
        ("sigma", "of a log-normal law"),
    )
    return Section("What tokens choose", columns, told)


def _distinct(report: Report) -> Section:
    layers = report.layers
    there = {each.tokens for layer in layers for each in (*layer.in_sequence, *layer.across)} & set(WINDOWS[1:])
    stays = 8 if 8 in there else max(there, default=0)
    columns = known_columns(
        (
            _labels(layers),
            *(
                _column(
                    f"{tokens} tokens",
                    layers,
                    _distinct_cell(tokens),
                    0 if tokens == stays else _RANKS[tokens],
                )
                for tokens in WINDOWS[1:]
            ),
            _column("b", layers, _growth_cell),
            _column("b across", layers, lambda layer: figure(layer.across_growth and layer.across_growth.exponent), 1),
        )
    )
    told = (
        (
            f"{stays} tokens",
            "distinct experts of so many neighbouring tokens of one sequence / of as many different sequences",
        ),
        ("b", "exponent of k n^b within a sequence, with its band"),
        ("b across", "the same across sequences"),
    )
    return Section("Distinct experts", columns, told)


def _capacity(report: Report) -> Section:
    layers = report.layers
    columns = known_columns(
        (
            _labels(layers),
            _column("dropped", layers, lambda layer: percent(layer.drop_fraction) if layer.drop_fraction else UNKNOWN),
            _column("at factor 1", layers, lambda layer: percent(layer.capacity.drop_at_one_fraction)),
            _column("factor", layers, lambda layer: figure(layer.capacity.factor)),
        )
    )
    told = (
        ("dropped", "share of choices that the model's capacity cut"),
        ("at factor 1", f"share of choices that C = n k / E drops of a step of n = {report.step_tokens:,} tokens"),
        ("factor", f"the least that keeps it within {percent(report.drop_bound_fraction)}"),
    )
    return Section("If each expert had a capacity", columns, told)


_RANKS = {2: 4, 4: 3, 8: 2, 16: 3, 32: 1, 64: 2, 128: 1}
"""Which sizes go first where the page is narrow."""


def _labels(layers: Sequence[LayerReport]) -> Column:
    return Column("layer", tuple(str(layer.layer) for layer in layers))


def _column(title: str, layers: Sequence[LayerReport], cell: Callable[[LayerReport], str], rank: int = 0) -> Column:
    return Column(title, tuple(map(cell, layers)), rank)


def _floor_cell(shown: Callable[[float], str], each: WorstLayer) -> str:
    return UNKNOWN if each.floor is None else shown(each.floor)


# Cells -----------------------------------------------------------------------------------------------------


def _spread_cell(layer: LayerReport) -> str:
    return f"{figure(layer.load_cv)}{' ' if layer.uneven else WITHIN_CHANCE}"


def _effective_cell(layer: LayerReport) -> str:
    return f"{layer.effective_experts:,.1f} of {layer.num_experts:,}"


def _dead_cell(layer: LayerReport) -> str:
    return f"{len(layer.dead.experts):,}{'?' if layer.dead.experts and not layer.dead.judged else ' '}"


def _overlap_cell(distance: int) -> Callable[[LayerReport], str]:
    def cell(layer: LayerReport) -> str:
        return percent(next((each.fraction for each in layer.overlap if each.distance_tokens == distance), None), 0)

    return cell


def _chance_cell(layer: LayerReport) -> str:
    return percent(layer.overlap[0].chance_fraction, 0) if layer.overlap else UNKNOWN


def _distinct_cell(tokens: int) -> Callable[[LayerReport], str]:
    def cell(layer: LayerReport) -> str:
        within, across = _at(layer.in_sequence, tokens), _at(layer.across, tokens)
        return UNKNOWN if within is None and across is None else f"{figure(within, 1)} / {figure(across, 1)}"

    return cell


def _at(curve: Sequence[DistinctAt], tokens: int) -> float | None:
    return next((each.distinct for each in curve if each.tokens == tokens), None)


def _growth_cell(layer: LayerReport) -> str:
    growth = layer.in_sequence_growth
    return UNKNOWN if growth is None else f"{growth.exponent:.2f} ({growth.low:.2f}–{growth.high:.2f})"


METRICS: dict[Metric, tuple[str, Callable[[float], str]]] = {
    "load_cv": ("widest spread", figure),
    "busiest_over_mean": ("busiest over the mean", times),
    "gini": ("largest Gini", figure),
    "effective_experts_fraction": ("fewest effective, of all", lambda value: percent(value, 0)),
    "dead_experts": ("most dead experts", lambda value: f"{value:,.0f}"),
    "near_tie_fraction": ("most near ties", lambda value: percent(value, 2)),
    "overlap_fraction": ("most shared with next", lambda value: percent(value, 0)),
    "in_sequence_growth": ("slowest growth, b", figure),
    "drop_fraction": ("most dropped", percent),
    "capacity_factor": ("largest capacity factor", figure),
}
