"""The full ledger of a rank: every line with size, band and basis, and behind each its formula, inputs and source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moeplan.core.ledger import Line, Why, band_bytes, total_bytes
from moeplan.core.units import gib
from moeplan.estimate.result import Estimate
from moeplan.report.pages.markup import Html, element, joined, shown, unfolding
from moeplan.report.pages.tables import scrolled
from moeplan.report.words import band_words, gib_signed


def ledger_table(estimate: Estimate, place: int, title: str) -> Html:
    """The ledger of `estimate.ranks[place]`, its sum, and on a device what the engine may use and what is left."""
    rank = estimate.ranks[place]
    rows = [_row(estimate, f"ranks.{place}.lines.{number}", line) for number, line in enumerate(rank.lines)]
    used, (low, high) = total_bytes(rank.lines), band_bytes(rank.lines)
    rows.append(_sum("needed", gib(used), band_words(low, high), ""))
    if rank.free_bytes is not None:
        who = "the host has" if rank.device == "host" else f"{estimate.layout.engine} may use"
        basis = estimate.hardware.usable_basis if estimate.hardware and rank.device == "gpu" else None
        rows.append(_sum(who, gib(used + rank.free_bytes), "", basis or ""))
        left = "left" if rank.free_bytes >= 0 else "missing"
        rows.append(_sum(left, shown(estimate, f"ranks.{place}.free_bytes", _left), "", ""))
    head = element(
        "thead",
        element(
            "tr",
            element("th", "line", scope="col"),
            element("th", "size", scope="col", class_="figure"),
            element("th", "band", scope="col", class_="figure"),
            element("th", "basis", scope="col"),
        ),
    )
    table = element("table", element("caption", title), head, element("tbody", *rows), class_="ledger")
    return scrolled(table, f"Ledger: {title}")


def why_list(why: Why) -> Html:
    """Formula, inputs and source."""
    parts = [element("dt", "formula"), element("dd", why.formula)]
    if why.inputs:
        parts += [element("dt", "with"), element("dd", joined(_inputs(why.inputs), ", "))]
    return element("dl", *parts, element("dt", "source"), element("dd", why.source), class_="why")


def _row(estimate: Estimate, path: str, line: Line) -> Html:
    return element(
        "tr",
        element("th", unfolding(line.label, why_list(line.why)), scope="row"),
        element("td", shown(estimate, f"{path}.bytes", gib), class_="figure"),
        element("td", band_words(line.low_bytes, line.high_bytes), class_="figure"),
        element("td", element("span", line.basis, class_=f"basis {line.basis}")),
    )


def _sum(label: str, size: str, band: str, basis: str) -> Html:
    mark = [element("span", basis, class_=f"basis {basis}")] if basis else []
    return element(
        "tr",
        element("th", label, scope="row"),
        element("td", size, class_="figure"),
        element("td", band, class_="figure"),
        element("td", *mark),
        class_="sum",
    )


def _inputs(inputs: Mapping[str, Any]) -> list[Html]:
    return [element("code", f"{name} = {_told(value)}") for name, value in inputs.items()]


def _told(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_told(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _left(size_bytes: int) -> str:
    return gib(-size_bytes) if size_bytes < 0 else gib_signed(size_bytes, floor=True)
