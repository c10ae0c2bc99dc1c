"""Plans as a page: the best one with its commands, all by cost and time per token, what was rejected, what to fall back on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moeplan.core.units import duration, gib_floor, per_second
from moeplan.estimate.speed_result import Time
from moeplan.plan.result import Deployment, Plan, PlanResult
from moeplan.report import plan_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, QUIET, figure, log_ticks
from moeplan.report.pages.markup import Html, element, listed, paragraph, shown
from moeplan.report.pages.shell import Section, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list, rows_table
from moeplan.report.printable import printable_record

MOST_CARDS = len(COLOURS) - 1
"""That have a colour of their own."""
OTHER_CARDS = "other cards"
OWN, OTHER = "the checkpoint's own format", "another format"
OTHER_FORMATS = "In other formats (what they do to quality is not known here)"


def plan_html(result: PlanResult) -> str:
    """The plans as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, result = result, printable_record(result)
    best = "The best plan" if result.best else "The nearest plan"
    return page_html(
        title=f"Plans for {result.model.id}",
        lead=_lead(result),
        sections=[
            Section("best", best, _best(result, whole.deployment)),
            Section(
                "plans", "Plans, by cost and speed" if _by_cost(result) else "Plans, by GPUs and speed", _plans(result)
            ),
            Section("fallback", "If it fails", _fallback(result)),
            Section("rejected", "Not among them", _rejected(result)),
            Section("notes", "Notes", [notes_list(result.notes)]),
        ],
        result=whole,
    )


def _lead(result: PlanResult) -> list[Html]:
    asked = [words.model_words(result), words.asked_words(result), words.searched_words(result)]
    best = result.best
    if best is None:
        state = headline(_none(result), "open" if result.unmeasured else "bad")
        return [*(paragraph(told) for told in asked), state]
    guessed, stored = words.guessed_words(result), words.stored_words(result)
    further = [*([f"Guessed: {guessed}."] if guessed else []), *([stored] if stored else [])]
    told = headline(
        f"{words.best_lead(best).upper()}{words.headline(best)}", "good" if best.certain else "open", further
    )
    return [*(paragraph(told) for told in asked), told, tiles(_tiles(result, best, "best"))]


def _none(result: PlanResult) -> str:
    """That nothing does, with its sign before the first colon."""
    told = words.nearest_words(result)
    return (
        told.replace("No plan:", "NO PLAN:", 1)
        if told.startswith("No plan:")
        else told.replace("No plan", "NO PLAN: none", 1)
    )


# The best plan ---------------------------------------------------------------------------------------------


def _tiles(result: PlanResult, best: Plan, path: str) -> list[Tile]:
    fullest = min(range(len(best.pools)), key=lambda number: best.pools[number].headroom_bytes)
    pool = best.pools[fullest]
    room = (
        "" if pool.max_concurrency is None else f"room for {pool.max_concurrency:,} sequences, {pool.sequences:,} asked"
    )
    found = [Tile("GPUs", shown(result, f"{path}.num_gpus", str), best.gpu)]
    if best.cost is not None:
        each = best.cost.usd_per_million_output_tokens
        per_token = "" if each is None else f"{each:,.2f} USD per million tokens out"
        found.append(Tile("cost, up to", shown(result, f"{path}.cost.usd_per_hour", "{:,.2f} USD/h".format), per_token))
    if best.speed is not None:
        speed = best.speed
        found += [
            Tile("time per token", shown(result, f"{path}.speed.tpot.value_s", duration), _band(speed.tpot)),
            Tile("first token", shown(result, f"{path}.speed.ttft.value_s", duration), _band(speed.ttft)),
            Tile(
                "tokens/s in all",
                shown(result, f"{path}.speed.output_tokens_per_s.value", per_second),
                f"{per_second(speed.tokens_per_s_per_user)} per user, {per_second(speed.tokens_per_s_per_gpu)} per GPU",
            ),
        ]
    found.append(
        Tile("free on the fullest GPU", shown(result, f"{path}.pools.{fullest}.headroom_bytes", gib_floor), room)
    )
    return found


def _band(time: Time) -> str:
    return f"{duration(time.low_s)} to {duration(time.high_s)}, {time.basis}"


def _best(result: PlanResult, deployment: Deployment | None) -> list[Html]:
    """With its commands, and its file line by line: `result` is printable, and has escapes for the ends of lines."""
    best = result.best or result.nearest
    if best is None:
        return []
    told = [] if result.best else [paragraph(words.headline(best)), tiles(_tiles(result, best, "nearest"))]
    told.append(listed(element("span", element("strong", lead), text) for lead, text in words.detail_words(best)))
    for lead, command in words.launch_lines(best):
        told += [element("h3", f"Start a {lead}"), _command(command)]
    if deployment is not None:
        told += [element("h3", f"As a deployment file ({deployment.kind})"), _command(deployment.text)]
    return told


def _command(told: str) -> Html:
    lines = [element("code", line) for line in told.rstrip("\n").splitlines()]
    return element("pre", *(Html(f"{line}\n") for line in lines))


# All plans -------------------------------------------------------------------------------------------------


def _plans(result: PlanResult) -> list[Html]:
    own, other = len(result.frontier), len(result.smaller_formats)
    signs = [str(number + 1) for number in range(own + other)]
    found = [_frontier(result)] if _drawn(result) else []
    for title, plans, mine in (
        (words.plans_title(result.request), result.frontier, signs[:own]),
        (OTHER_FORMATS, result.smaller_formats, signs[own:]),
        ("Fit, and their speed is not known", result.unmeasured, []),
    ):
        if plans:
            found.append(columns_table(_unbroken(words.plan_columns(plans, result.request, mine, None)), title))
            more = words.more_words(plans, None)
            found += [paragraph(more, "quiet")] if more else []
    return found


def _unbroken(columns: Sequence[Column]) -> list[Column]:
    """Names of formats are short words that would stand below each other in a narrow column."""
    return [
        column._replace(cells=tuple(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in column.cells))
        if column.title == "format"
        else column
        for column in columns
    ]


def _by_cost(result: PlanResult) -> bool:
    return result.request.rank == "cost"


def _price(result: PlanResult, plan: Plan) -> float | None:
    if not _by_cost(result):
        return plan.num_gpus
    return None if plan.cost is None else plan.cost.usd_per_hour


def _drawn(result: PlanResult) -> list[Mapping[str, Any]]:
    """A point for each plan that has both figures."""
    found: list[Mapping[str, Any]] = []
    for number, plan in enumerate((*result.frontier, *result.smaller_formats), 1):
        price = _price(result, plan)
        if plan.speed is not None and price is not None:
            tpot = plan.speed.tpot
            found.append(
                {
                    "number": str(number),
                    "price": price,
                    "tpot": 1e3 * tpot.value_s,
                    "low": 1e3 * tpot.low_s,
                    "high": 1e3 * tpot.high_s,
                    "card": words.card_words(plan.profile),
                    "format": OWN if number <= len(result.frontier) else OTHER,
                    "told": f"{number}: {words.plan_words(plan)}",
                }
            )
    return found


def _frontier(result: PlanResult) -> Html:
    values = [dict(value) for value in _drawn(result)]
    cards = list(dict.fromkeys(value["card"] for value in values))
    if len(cards) > len(COLOURS):
        for value in values:
            value["card"] = value["card"] if value["card"] in cards[:MOST_CARDS] else OTHER_CARDS
        cards = [*cards[:MOST_CARDS], OTHER_CARDS]
    what = "USD per hour" if _by_cost(result) else "GPUs"
    limit_s = result.workload.tpot_s
    colours = {"domain": cards, "range": list(COLOURS[: len(cards)])}
    shapes = {"domain": [OWN, OTHER], "range": ["circle", "diamond"]}
    at: dict[str, Any] = {"field": "tpot"}
    layers: list[dict[str, Any]] = [
        {
            "transform": [{"filter": {"field": "format", "equal": OWN}}],
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1, "strokeDash": [3, 3], "color": QUIET, "aria": False},
            "encoding": {"y": at},
        },
        {
            "mark": {"type": "rule", "opacity": 0.45, "aria": False},
            "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}, "color": {"field": "card"}},
        },
        {
            "mark": {"type": "point", "size": 90, "opacity": 1},
            "encoding": {
                "y": at,
                "color": {"field": "card", "title": None, "legend": {"columns": 3}, "scale": colours},
                "shape": {"field": "format", "title": None, "legend": {"orient": "top", "symbolFillColor": QUIET}, "scale": shapes},
                "description": {"field": "told"},
            },
        },
        {
            "mark": {"type": "text", "dx": 7, "dy": -8, "align": "left", "fontSize": 11, "color": INK, "aria": False},
            "encoding": {"y": at, "text": {"field": "number"}},
        },
    ]  # fmt: skip
    told_limit = ""
    if limit_s is not None:
        told_limit = f" The dashed line is the limit of {duration(limit_s)}."
        layers.append(
            {
                "data": {"values": [{"tpot": 1e3 * limit_s}]},
                "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False},
                "encoding": {"x": None, "y": {"field": "tpot"}},
            }
        )
    spec = {
        "data": {"values": values},
        "height": 380,
        "encoding": {
            "x": {
                "field": "price",
                "type": "quantitative",
                **_along(what, [value["price"] for value in values]),
            },
            "y": {
                "type": "quantitative",
                "title": "time per token (ms, logarithmic)",
                "scale": {"type": "log", "nice": False, "padding": 12},
                "axis": {
                    "format": ",~g",
                    "values": log_ticks([value[end] for value in values for end in ("low", "high")]),
                },
            },
        },
        "layer": layers,
    }
    first, last = values[0], min(values, key=lambda value: value["tpot"])
    times = [duration(value["tpot"] / 1e3) for value in (first, last)]
    description = (
        f"Each point is a plan, numbered as in the tables below; upright lines are the bands of the estimate, and the dotted line "
        f"is the frontier in {OWN}. The first costs {_figure(first['price'], result)} at {times[0]} per token; "
        f"the fastest is number {last['number']} with {times[1]} at {_figure(last['price'], result)}.{told_limit}"
    )
    return figure(
        spec, title=f"Time per token over {what}", description=description, table=_table(values, result, what)
    )


def _along(what: str, prices: Sequence[float]) -> dict[str, Any]:
    """The axis of prices, by logarithms unless a card costs nothing."""
    if min(prices) <= 0:
        return {"title": what, "scale": {"padding": 24}, "axis": {"grid": False}}
    axis = {"format": ",~g", "values": log_ticks(prices), "grid": False}
    return {"title": f"{what} (logarithmic)", "scale": {"type": "log", "nice": False, "padding": 24}, "axis": axis}


def _figure(price: float, result: PlanResult) -> str:
    return f"{price:,.2f} USD per hour" if _by_cost(result) else f"{price:,.0f} GPUs"


def _table(values: Sequence[Mapping[str, Any]], result: PlanResult, what: str) -> list[Column]:
    plans = (*result.frontier, *result.smaller_formats)
    mine = [(value, plans[int(value["number"]) - 1]) for value in values]
    times = [plan.speed.tpot for _, plan in mine if plan.speed is not None]
    return [
        Column("plan", tuple(value["number"] for value, _ in mine), right=False),
        Column("card", tuple(words.card_words(plan.profile) for _, plan in mine), right=False),
        Column(what, tuple(f"{value['price']:,.2f}" if _by_cost(result) else f"{value['price']}" for value, _ in mine)),
        Column("time per token", tuple(duration(time.value_s) for time in times)),
        Column("at least", tuple(duration(time.low_s) for time in times)),
        Column("at most", tuple(duration(time.high_s) for time in times)),
    ]


# What else is told -----------------------------------------------------------------------------------------


def _fallback(result: PlanResult) -> list[Html]:
    items = []
    for each in result.fallback:
        (lead, told), *rest = words.fallback_words(each)
        further = [element("p", f"{lead.strip()} {text}".strip()) for lead, text in rest]
        items.append(element("div", element("h3", lead.rstrip(": ")), paragraph(told), *further))
    return items


def _rejected(result: PlanResult) -> list[Html]:
    rows = [
        (words.TERMS[row.term], row.message, ", ".join(words.card_words(card) for card in row.cards))
        for row in result.rejected
    ]
    return [rows_table(("ended by", "why", "cards"), "<<<", rows, "Cards without a plan here")] if rows else []
