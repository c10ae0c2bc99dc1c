"""What the model is made of: parameters by role and by convention, weights by format, the kinds of cache."""

from __future__ import annotations

from typing import Any

from moeplan.core.units import gib, params
from moeplan.estimate.result import Estimate
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.pages.charts import figure
from moeplan.report.pages.markup import Html, joined, shown
from moeplan.report.pages.tables import rows_table
from moeplan.report.words import parameter_rows


def roles_figure(estimate: Estimate) -> Html:
    """Parameters by role as bars, the largest first."""
    counts = estimate.parameters
    roles = sorted(((role, count) for role, count in counts.by_role.items() if count), key=lambda item: -item[1])
    resident = estimate.weights.by_role
    values = [
        {
            "role": role.replace("_", " "), "count": count, "label": f"{params(count)}, {_share(count / counts.total)}",
            "told": f"{role.replace('_', ' ')}: {params(count)} parameters, {_share(count / counts.total)}",
        }
        for role, count in roles
    ]  # fmt: skip
    y = {"field": "role", "type": "nominal", "title": None, "sort": [each["role"] for each in values]}
    x = {
        "field": "count",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, roles[0][1] * 1.25], "nice": False},
    }
    spec: dict[str, Any] = {
        "data": {"values": values},
        "height": {"step": 26},
        "encoding": {"y": y, "x": x},
        "layer": [
            {"mark": {"type": "bar", "height": {"band": 0.62}}, "encoding": {"description": {"field": "told"}}},
            {
                "mark": {"type": "text", "align": "left", "dx": 6, "aria": False},
                "encoding": {"text": {"field": "label"}},
            },
        ],
    }
    largest, most = roles[0]
    return figure(
        spec,
        title="Parameters by role",
        description=f"{largest.replace('_', ' ').capitalize()} are {most / counts.total:.0%} of {params(counts.total)}.",
        table=[
            Column("role", tuple(role.replace("_", " ") for role, _ in roles), right=False),
            Column("parameters", tuple(shown(estimate, f"parameters.by_role.{role}", params) for role, _ in roles)),
            Column("exact count", tuple(f"{count:,}" for _, count in roles)),
            Column("resident", tuple(gib(resident[role]) if role in resident else "" for role, _ in roles)),
        ],
    )


def conventions_table(estimate: Estimate) -> Html:
    """Parameters as model cards count them."""
    rows = [
        (label, shown(estimate, f"parameters.{name}", params), f"{count:,}")
        for name, label, count in parameter_rows(estimate.parameters)
    ]
    return rows_table(
        ("parameters", "rounded", "exact count"), "<>>", rows, f"Parameters by convention ({estimate.parameters.basis})"
    )


def formats_table(estimate: Estimate) -> Html:
    """Resident weights by format, and what the engine leaves in the file."""
    weights = estimate.weights
    formats = sorted(weights.by_format.items(), key=lambda item: -item[1])
    rows: list[tuple[str, str]] = [(name, gib(size)) for name, size in formats]
    rows.append(("all that stays resident", shown(estimate, "weights.resident_bytes", gib)))
    rows += [(f"not loaded: {each.what}", gib(each.bytes)) for each in weights.left_out]
    rows.append(("the checkpoint", shown(estimate, "weights.checkpoint_bytes", gib)))
    return rows_table(("weights of the whole model", "size"), "<>", rows, f"Weights by format ({weights.basis})")


def cache_table(estimate: Estimate) -> Html:
    """What each kind of layer remembers of a sequence."""
    cache = estimate.kv_cache
    rows = [
        (
            layer.kind.replace("_", " "),
            f"{layer.count:,}",
            layer.dtype or UNKNOWN,
            _size(layer.entry_bytes),
            f"{layer.tokens_per_entry:,}" if layer.entry_bytes else "",
            "all" if layer.window_tokens is None else f"{layer.window_tokens:,}",
            _size(layer.state_bytes),
            layer.split,
        )
        for layer in cache.layers
    ]
    heads = ("kind", "layers", "dtype", "an entry", "tokens of an entry", "tokens kept", "state", "split")
    table = rows_table(heads, "<><>>>><", rows, f"Cache of the whole model, unsharded, in {cache.dtype}")
    sums: list[tuple[str, str]] = [
        ("for each further token", shown(estimate, "kv_cache.bytes_per_token", "{:,.10g} B".format)),
        ("of a sequence, whatever its length", shown(estimate, "kv_cache.bytes_per_sequence", gib)),
        ("of a sequence at the asked context", shown(estimate, "kv_cache.bytes_at_context", gib)),
        ("of all sequences", shown(estimate, "kv_cache.bytes_total", gib)),
    ]
    return joined([table, rows_table(("cache", "size"), "<>", sums, "What sequences need", hide_caption=True)])


def _share(fraction: float) -> str:
    return "under 0.1%" if fraction < 0.001 else f"{fraction:.1%}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes:,} B" if size_bytes else ""
