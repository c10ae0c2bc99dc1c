"""The catalogue in words, as a table and as Markdown show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from moeplan.core.units import params
from moeplan.inspect import Model, Models
from moeplan.report.page import UNKNOWN, Column


def models_legend(result: Models) -> str:
    """How many there are, and how the columns are read."""
    count = f"{len(result.models)} model{'s' * (len(result.models) != 1)}"
    return (
        f"{count}. Active: parameters that one token uses. Experts: routed / visited per token + shared. Context in tokens, "
        "K is 1024. ~ stands before values that are not from the published config. "
        "`moeplan estimate NAME` takes a name with or without its organisation, in any case."
    )


def model_columns(models: Sequence[Model], *, organisation: bool) -> list[Column]:
    """The listing: one row per model, by its id with or without the organisation."""

    def column(title: str, cell: Callable[[Model], str], rank: int = 0, *, right: bool = True) -> Column:
        return Column(title, tuple(cell(model) for model in models), rank, right)

    return [
        column("model", lambda model: model.id if organisation else model.id.rpartition("/")[2], right=False),
        column("total", lambda model: f"{'' if model.provenance == 'published' else '~'}{params(model.total)}"),
        column("active", lambda model: params(model.active)),
        column("experts", _experts, 1),
        column("context", lambda model: _context(model.max_context_tokens), 2),
        column("weights", lambda model: _formats(model.format), 3, right=False),
    ]


def _experts(model: Model) -> str:
    if model.num_experts is None:
        return "dense"
    shared = f"+{model.num_shared_experts}" if model.num_shared_experts else ""
    return f"{model.num_experts}/{model.experts_per_token}{shared}"


def _context(tokens: int | None) -> str:
    if tokens is None:
        return UNKNOWN
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def _formats(text: str) -> str:
    """`fp8 128x128 block, experts mxfp4` as `fp8+mxfp4`."""
    kinds = dict.fromkeys(re.findall(r"[a-z]*(?:fp|int|nf)\d+|bf16", text))
    return "+".join(kinds) or text
