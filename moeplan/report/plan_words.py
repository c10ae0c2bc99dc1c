"""Plans in words and rows: the same on the screen and in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from moeplan.core.units import duration, gib, gib_floor, params, per_second
from moeplan.estimate.speed_result import Time
from moeplan.plan.result import Fallback, Plan, PlannedLayout, PlanRequest, PlanResult, Pool, Rejected, Term
from moeplan.report.page import UNKNOWN, Column

MOST_ROWS = 10
"""Plans of a table; JSON has all of them."""
MOST_NAMES = 6
"""Cards of a row of rejections."""
RANKINGS = {
    "cost": "cost",
    "gpus": "number of GPUs",
    "latency": "time per token",
    "throughput": "tokens per second and GPU",
}
TERMS: dict[Term, str] = {
    "beaten": "beaten",
    "rate": "requests per second",
    "tpot": "time per token",
    "ttft": "time to first token",
    "speed": "speed",
    "memory": "memory",
    "cache": "cache",
    "weights": "weights",
    "engine": "engine",
    "price": "price",
    "profile": "profile",
    "kept": "shown",
}

ORIGINS = {"stored": "", "on load": ", made while loading", "other checkpoint": ", another checkpoint"}


def model_words(result: PlanResult) -> str:
    """`671.0B parameters · 37.6B active per token · 8 of 256 experts · stored as fp8 128x128 block`."""
    model = result.model
    parts = [f"{params(model.total_params)} parameters"]
    if model.num_experts is not None:
        parts += [
            f"{params(model.active_params)} active per token",
            f"{model.experts_per_token} of {model.num_experts} experts",
        ]
    else:
        parts.append("dense")
    return " · ".join([*parts, f"stored as {model.stored_format}"])


def asked_words(result: PlanResult) -> str:
    """What the plans are for."""
    load = result.workload
    count = load.concurrency or 1
    requests = "1 request" if count == 1 else f"{count:,} requests"
    told = [
        f"{requests} in flight",
        f"{load.input_tokens:,.0f} tokens in and {load.output_tokens:,.0f} out",
        f"room for {load.context_tokens:,} tokens each",
    ]
    if load.ttft_s is not None:
        told.append(f"first token within {duration(load.ttft_s)}")
    if load.tpot_s is not None:
        told.append(f"further tokens within {duration(load.tpot_s)}")
    return " · ".join(told)


def searched_words(result: PlanResult) -> str:
    """How much was looked at, and by what it is ranked."""
    seen, asked = result.searched, result.request
    return (
        f"{_count(seen.plans, 'plan')} on {_count(seen.cards, 'card')}, {_count(seen.layouts, 'layout')}, "
        f"{_count(seen.formats, 'format')} and {_count(seen.engines, 'engine')}, of at most {_count(asked.max_gpus, 'GPU')}; "
        f"ranked by {RANKINGS[asked.rank]}"
    )


def headline(plan: Plan) -> str:
    """`8 x NVIDIA H200 SXM · sglang 0.5.23 · fp8 128x128 block · TP 8`."""
    form = f"{plan.format}{ORIGINS[plan.format_origin]}"
    parts = [f"{plan.num_gpus} x {plan.gpu}", f"{plan.engine} {plan.engine_version}", form]
    return " · ".join([*parts, pools_words(plan)])


def pools_words(plan: Plan, *, roles: bool = True) -> str:
    """`2 x TP 8`, or both pools, prefill first."""
    if plan.pooling == "together":
        return _replicas(plan.pools[0])
    return " + ".join(f"{pool.role} {_replicas(pool)}" if roles else _replicas(pool) for pool in plan.pools)


def layout_words(layout: PlannedLayout) -> str:
    """`TP 4 x PP 2 x DP 8, EP 16`; `TP 8, DP 4 attention` where data-parallel ranks are among the tensor-parallel ones."""
    within = layout.dp > 1 and layout.num_gpus < layout.tp * layout.pp * layout.dp
    degrees = (("TP", layout.tp), ("PP", layout.pp), ("DP", 1 if within else layout.dp))
    told = " x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1) or "1 GPU"
    if within:
        told += f", DP {layout.dp} attention"
    return f"{told}, EP {layout.ep}" if layout.ep > 1 else told


def best_lead(best: Plan) -> str:
    """What stands before the best plan: a verdict, or one that guesses decide."""
    return "Best: " if best.certain else "Best, if guesses hold: "


def guessed_words(result: PlanResult) -> str | None:
    """What of the best plan is a guess, and the first of those shown that does without; None where it is none."""
    best = result.best
    if best is None:
        return None
    nodes = max(pool.layout.num_nodes for pool in best.pools)
    guesses = [] if best.certain else ["that it fits"]
    if nodes > 1:
        guesses.append(f"how fast the network between its {nodes} nodes is")
    if not guesses:
        return None
    surer = next(
        (
            plan
            for plan in (*result.frontier, *result.smaller_formats)
            if plan.certain and (nodes == 1 or all(pool.layout.num_nodes == 1 for pool in plan.pools))
        ),
        None,
    )
    without = (
        "no plan below does without" if surer is None else f"the first below that does without is {plan_words(surer)}"
    )
    return f"{', and '.join(guesses)}; {without}"


def detail_words(plan: Plan) -> Iterator[tuple[str, str]]:
    """A plan in full, each line behind its lead."""
    speed = plan.speed
    if speed is not None:
        yield (
            "speed: ",
            (
                f"first token {_figure(speed.ttft)}, further tokens {_figure(speed.tpot)}; "
                f"{per_second(speed.output_tokens_per_s.value)} tokens/s in all, "
                f"{per_second(speed.tokens_per_s_per_user)} per user, {per_second(speed.tokens_per_s_per_gpu)} per GPU "
                f"({speed.tpot.basis})"
            ),
        )
        yield "binds: ", f"{speed.binding}; {speed.regime}"
    else:
        yield "speed: ", "not known"
    if plan.cost is not None:
        cost = plan.cost
        each = cost.usd_per_million_output_tokens
        tokens = "" if each is None else f", {each:,.2f} USD per million tokens out"
        yield "cost: ", f"up to {cost.usd_per_hour:,.2f} USD per hour{tokens} ({cost.source}; an example, prices move)"
    for pool in plan.pools:
        lead = "memory: " if plan.pooling == "together" else f"memory, {pool.role}: "
        yield lead, _memory(pool, plan)
    if speed is not None and speed.extrapolated:
        yield "extrapolated: ", "; ".join(speed.extrapolated)
    if plan.pooling == "apart":
        yield "not in the commands: ", "the router in front, and the engine's options that hand caches over"


def launch_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """What starts a replica of each pool, as it is typed, and how often."""
    for pool in plan.pools:
        times = "" if pool.replicas == 1 else f" ({pool.replicas} times)"
        nodes = pool.layout.num_nodes
        on_each = "" if nodes == 1 else f", on each of {nodes} nodes with its own rank"
        role = "" if plan.pooling == "together" else f"{pool.role} "
        other = (
            f", with a checkpoint in {plan.format} in place of the name"
            if plan.format_origin == "other checkpoint"
            else ""
        )
        yield f"{role}replica{times}{on_each}{other}", shlex.join(pool.launch)


def plan_columns(
    plans: Sequence[Plan],
    request: PlanRequest,
    signs: Sequence[str] = (),
    most: int | None = MOST_ROWS,
    *,
    narrow: bool = False,
) -> list[Column]:
    """A row for each of the first plans; what decides is kept longest on a narrow page: the format too, where it is not the
    checkpoint's own. `signs` are what they have in a chart; a `narrow` page has no room for both that and the time per token."""
    rows = [_cells(plan) for plan in plans[:most]]
    if signs:
        rows = [(f"{sign} {card}", *rest) for sign, (card, *rest) in zip(signs, rows, strict=False)]
    card = "  card" if signs else "card"
    heads = (card, "GPUs", "layout", "engine", "format", "USD/h", "first token", "per token", "tok/s GPU", "free")
    own = all(plan.format_origin == "stored" for plan in plans)
    layout, form, first, per_token = (1, 3, 2, 0) if own else (2, 0, 3, int(narrow))
    ranks = (0, 0, layout, 5, form, 0 if request.rank == "cost" else 6, first, per_token, 7, 8)
    left = (0, 2, 3, 4)
    columns = zip(heads, zip(*rows, strict=True), ranks, strict=True)
    return [Column(head, cells, rank, right=place not in left) for place, (head, cells, rank) in enumerate(columns)]


def more_words(plans: Sequence[Plan], most: int | None = MOST_ROWS) -> str | None:
    """What a table leaves out, and how it shows two pools."""
    told = []
    if any(plan.pooling == "apart" for plan in plans[:most]):
        told.append("x + y: prefill on x, decode on y")
    if most is not None and len(plans) > most:
        told.append(f"{len(plans) - most} more: --json has all")
    return "; ".join(told) or None


def plans_title(request: PlanRequest) -> str:
    """What a frontier is, by what plans were compared."""
    return f"Plans: each {'dearer one' if request.rank == 'cost' else 'one with more GPUs'} is faster"


def rejection_rows(rejected: Sequence[Rejected]) -> Iterator[tuple[str, str]]:
    """`weights: no layout has room for the weights`, with the cards."""
    for row in rejected:
        names = ", ".join(card_words(name) for name in row.cards[:MOST_NAMES])
        more = f" and {len(row.cards) - MOST_NAMES} more" if len(row.cards) > MOST_NAMES else ""
        yield f"{TERMS[row.term]}: ", f"{row.message} ({names}{more})"


def fallback_words(each: Fallback) -> Iterator[tuple[str, str]]:
    """A failure, what it means, and where to go."""
    yield f"{each.failure}: ", each.told
    if each.survives is True:
        yield "  ", "the best plan does all that is asked even so"
        return
    if each.survives is False:
        yield "  ", f"the best plan does not survive it: {each.why}"
    if each.plan is not None:
        yield "  go to: ", plan_words(each.plan)
    elif each.survives is None:
        yield "  ", f"no plan does all that is asked: {each.why}"
    else:
        yield "  ", "no plan that was searched survives it"


def plan_words(plan: Plan) -> str:
    """A plan in one line."""
    told = headline(plan)
    if plan.speed is not None:
        told += f"; {duration(plan.speed.tpot.value_s)} per token"
    if plan.cost is not None:
        told += f", {plan.cost.usd_per_hour:,.2f} USD per hour"
    return told


def nearest_words(result: PlanResult) -> str:
    """Where nothing does all that is asked."""
    near, missing = result.nearest, result.missing or ""
    if result.searched.cards == 0:
        return "No plan: none of the cards can be planned with."
    if result.unmeasured:
        return "No plan is known to keep the limits: where it fits, speed is not known."
    if near is None:
        return "No plan: no engine takes the model in this format."
    if near.speed is None and near.fits:
        return f"No plan: what has room for it does not start. {near.engine}, for one: {missing}."
    return f"No plan does all that is asked. Nearest: {plan_words(near)}. Missing: {missing}."


def stored_words(result: PlanResult) -> str | None:
    """That the checkpoint as it is does not do, where nobody asked for another format and the best plan is one."""
    best = result.best
    if best is None or best.speed is None or best.format_origin == "stored" or result.request.formats is not None:
        return None
    return f"no plan does all that is asked in the checkpoint's own format, {result.model.stored_format}"


def _cells(plan: Plan) -> tuple[str, ...]:
    speed = plan.speed
    return (
        card_words(plan.profile),
        str(plan.num_gpus),
        pools_words(plan, roles=False),
        plan.engine,
        plan.format,
        UNKNOWN if plan.cost is None else f"{plan.cost.usd_per_hour:,.2f}",
        UNKNOWN if speed is None else duration(speed.ttft.value_s),
        UNKNOWN if speed is None else duration(speed.tpot.value_s),
        UNKNOWN if speed is None else per_second(speed.tokens_per_s_per_gpu),
        gib_floor(min(pool.headroom_bytes for pool in plan.pools)),
    )


def _memory(pool: Pool, plan: Plan) -> str:
    left = pool.headroom_bytes
    told = f"{gib_floor(left)} free" if left >= 0 else f"{gib(-left)} missing"
    most = pool.max_concurrency
    room = "" if most is None else f"; room for {_count(most, 'sequence')}, {pool.sequences:,} asked"
    sure = "" if pool.certain else "; guesses decide whether it fits"
    each = " of each replica" if pool.replicas > 1 else ""
    gpu = "the GPU" if pool.layout.num_gpus == 1 else "the fullest GPU"
    return f"{told} on {gpu}{each}{room}{sure}"


def _figure(figure: Time) -> str:
    return f"{duration(figure.value_s)} ({duration(figure.low_s)} to {duration(figure.high_s)})"


def _replicas(pool: Pool) -> str:
    told = layout_words(pool.layout)
    if pool.replicas == 1:
        return told
    return f"{pool.replicas} x ({told})" if " x " in told or "," in told else f"{pool.replicas} x {told}"


def card_words(profile: str) -> str:
    """A card's profile without its vendor, where that is the usual one."""
    return profile.removeprefix("nvidia-")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
