"""What all reports of routing say alike: whose file it is, which part of it, shares and factors in figures."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moeplan.core.routing_profile import Phase, Provenance
from moeplan.report.page import UNKNOWN, Column
from moeplan.routing.result import RoutingSource, Selection

PHASES: dict[Phase, str] = {"all": "prompts and answers", "prefill": "prompts alone", "decode": "answers alone"}


class Section(NamedTuple):
    """A table of layers, with what its columns mean."""

    title: str
    columns: tuple[Column, ...]
    told: tuple[tuple[str, str], ...]
    """By title of a column, what it is."""


def legend_words(told: Iterable[tuple[str, str]], columns: Sequence[Column]) -> str:
    """What the columns that are there mean, each with its title."""
    titles = {column.title for column in columns}
    return "; ".join(f"{title}: {text}" for title, text in told if title in titles)


def known_columns(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Those with a figure anywhere."""
    return tuple(column for column in columns if set(column.cells) != {UNKNOWN})


def source_words(source: RoutingSource) -> str:
    """`capture.jsonl · moeplan 0.1 on cuda, bfloat16 · 2026-05-01`: what is known of where a file comes from."""
    return " · ".join([source.file, *provenance_words(source.provenance)])


def selection_words(selection: Selection, source: RoutingSource) -> str:
    """`prompts and answers, class code`."""
    told = PHASES[selection.phase]
    if selection.phase == "all" and source.phases == ("all",):
        told = "prompts and answers not told apart"
    return told if selection.prompt_class is None else f"{told}, class {selection.prompt_class}"


def layers_words(layers: Sequence[int]) -> str:
    """`layer 3`, `layers 1, 4-7`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    told = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer {told}" if len(layers) == 1 else f"layers {told}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """`4.1 %`; a share that rounds to nothing is `below 0.1 %`, and none at all is `0 %`."""
    if fraction is None:
        return UNKNOWN
    if fraction == 0:
        return "0 %"
    least = 10**-digits
    if 0 < 100 * fraction < least / 2:
        return f"<{least:.{digits}f} %"
    return f"{100 * fraction:.{digits}f} %"


def figure(value: float | None, digits: int = 2) -> str:
    """A plain figure; None is a dash."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    """`2.13 x`: how many times the mean."""
    return UNKNOWN if value is None else f"{value:,.2f} x"


def over_mean(loads: Sequence[float]) -> list[float]:
    """Loads over their mean; 0 where there are none."""
    mean = sum(loads) / len(loads)
    return [load / mean if mean else 0.0 for load in loads]


def counted(number: int, one: str, many: str) -> str:
    """`1 layer`, `12 layers`."""
    return f"{number:,} {one if number == 1 else many}"


def provenance_words(made: Provenance) -> list[str]:
    """What is known of how a file was made, in parts."""
    tool = " ".join(filter(None, (made.tool, made.tool_version)))
    engine = " ".join(filter(None, (made.engine, made.engine_version)))
    where = ", ".join(filter(None, (made.device, made.dtype)))
    return [part for part in (made.source, tool, engine, where, made.date) if part]
