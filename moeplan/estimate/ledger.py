"""The memory of every rank, line by line: weights placed by their split rules, runtime, cache, and what the engine may use."""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from moeplan.core.deployment import Settings
from moeplan.core.hardware import Usable
from moeplan.core.kv_cache import CacheCost, cache_cost, cache_rows
from moeplan.core.layout import Division, Place
from moeplan.core.ledger import Basis, Line, Why, band_bytes, line, total_bytes
from moeplan.core.model import ROLES, MoeFfn, Weight
from moeplan.core.placement import RankView, host_layers, places, rank_bytes, stage_spec
from moeplan.estimate.question import Question, base_basis, drafts_by


class RankLedger(NamedTuple):
    """What ranks that hold the same need, and what the engine may use of the device."""

    view: RankView
    weights: tuple[Line, ...]
    runtime: tuple[Line, ...]
    cache: tuple[Line, ...]
    cost: CacheCost
    budget_bytes: int
    budget_low_bytes: int
    budget_high_bytes: int

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, in the order in which reports show them."""
        return self.weights + self.runtime + self.cache

    @property
    def pool_bytes(self) -> int:
        """What is left for the cache; negative where not even the weights fit."""
        return self.budget_bytes - total_bytes(self.weights) - total_bytes(self.runtime)

    @property
    def free_bytes(self) -> int:
        """What is left of the budget; negative where it does not fit."""
        return self.budget_bytes - total_bytes(self.lines)

    @property
    def free_band_bytes(self) -> tuple[int, int]:
        """Free bytes when all guesses err to one side or to the other."""
        low, high = band_bytes(self.lines)
        return self.budget_low_bytes - high, self.budget_high_bytes - low


class Ledger(NamedTuple):
    """All ranks of a deployment under the engine's settings."""

    settings: Settings
    ranks: tuple[RankLedger, ...]

    @property
    def worst(self) -> RankLedger:
        """The rank with the least left."""
        return min(self.ranks, key=lambda rank: rank.free_bytes)


def ledger(question: Question, memory: Usable) -> Ledger:
    """Every rank; ranks that hold the same are counted once."""
    settings = question.engine.settle(question.serving)
    division = question.engine.division(question.serving, settings)
    on_host = question.engine.host_share(question.serving, settings)
    ranks = [_rank(question, memory, settings, division, place, on_host) for place in _places(question, division)]
    return Ledger(settings, tuple(ranks))


def rank_view(question: Question, division: Division, place: Place) -> RankView:
    """One rank without its weight lines."""
    spec = stage_spec(question.spec, place.stage, drafts=question.drafts)
    rows = question.rows if spec is question.spec else cache_rows(spec)
    return RankView(place, division, spec, rows)


def rank_cost(question: Question, view: RankView, context_tokens: int | None = None) -> CacheCost:
    """Cost of one sequence's cache on a rank."""
    asked, division = question.deployment, view.division
    context = asked.context_tokens if context_tokens is None else context_tokens
    return cache_cost(
        view.rows, question.rules, context, asked.encoder_tokens, division.attention, division.cache_tokens
    )


def managed_bytes(question: Question, settings: Settings, view: RankView, context_tokens: int, sequences: int) -> int:
    """Bytes of all sequences of a rank as the engine holds them."""
    return question.engine.managed_cache_bytes(
        question.serving, settings, view, question.rules, context_tokens, sequences
    )


def runtime_lines(question: Question, settings: Settings, view: RankView) -> tuple[Line, ...]:
    """Everything on a rank that is neither weights nor cache, and what was learned on this machine."""
    return question.engine.runtime_lines(question.serving, settings, view) + question.learned


def host_lines(question: Question, settings: Settings) -> tuple[Line, ...]:
    """Host memory of the whole deployment: weights that stay there, and what the engine adds."""
    on_host = question.engine.host_share(question.serving, settings)
    by_role: dict[str, int] = {}
    for holding in question.held if on_host is not None else ():
        assert on_host is not None
        layers = host_layers(holding, on_host)
        if layers:
            size = ceil(holding.num_bytes * layers / (len(holding.layers) or 1))
            by_role[holding.weight.role] = by_role.get(holding.weight.role, 0) + size
    why = Why("bytes of every tensor that stays in host memory, in its format", {}, "placement by the engine's flags")
    weights = tuple(
        line(f"weights.{role}", f"weights: {role.replace('_', ' ')}", by_role[role], "derived", why, role=role)
        for role in ROLES
        if by_role.get(role)
    )
    return weights + question.engine.host_lines(question.serving, settings)


def _places(question: Question, division: Division) -> tuple[Place, ...]:
    experts = {ffn.num_experts for layer in question.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)}
    return places(question.deployment.layout, division, len(question.spec.layers), max(experts, default=0))


def _rank(
    question: Question,
    memory: Usable,
    settings: Settings,
    division: Division,
    place: Place,
    on_host: Callable[[Weight, int | None], float] | None,
) -> RankLedger:
    engine, serving = question.engine, question.serving
    view = rank_view(question, division, place)
    weights = _weight_lines(question, view, on_host)
    view = view._replace(weights=weights)
    weights += engine.weight_lines(serving, settings, view)
    runtime = runtime_lines(question, settings, view)
    low_lines = tuple(entry._replace(bytes=entry.low_bytes) for entry in weights + runtime)
    high_lines = tuple(entry._replace(bytes=entry.high_bytes) for entry in weights + runtime)
    return RankLedger(
        view=view,
        weights=weights,
        runtime=runtime,
        cache=_cache_lines(question, settings, view),
        cost=rank_cost(question, view),
        budget_bytes=engine.budget_bytes(serving, settings, memory.bytes, weights + runtime, view),
        budget_low_bytes=engine.budget_bytes(serving, settings, memory.low_bytes, high_lines, view),
        budget_high_bytes=engine.budget_bytes(serving, settings, memory.high_bytes, low_lines, view),
    )


def _weight_lines(
    question: Question, view: RankView, on_host: Callable[[Weight, int | None], float] | None
) -> tuple[Line, ...]:
    """Weights of one rank by role."""
    by_role: dict[str, int] = {}
    formats: dict[str, dict[str, int]] = {}
    tied = question.spec.tied_embedding
    for holding in question.held:
        role = holding.weight.role
        size = rank_bytes(holding, view.place, view.division, tied_embedding=tied, on_host=on_host)
        if size:
            by_role[role] = by_role.get(role, 0) + size
            held = formats.setdefault(role, {})
            held[holding.format] = held.get(holding.format, 0) + size
    layout, stage = question.deployment.layout, view.place.stage
    shared = " that this rank holds" if layout.num_gpus > 1 else ""
    inputs: dict[str, object] = {"tensor_parallel": layout.tp}
    if layout.pp > 1:
        inputs["layers"] = f"{stage.first_layer} to {stage.end_layer - 1}"
    return tuple(
        line(
            f"weights.{role}",
            f"weights: {role.replace('_', ' ')}",
            by_role[role],
            base_basis(question, formats[role]),
            Why(
                f"bytes of every tensor of this role{shared}, in its format, scales included",
                {"bytes_by_format": formats[role], **inputs, **_expert_inputs(view, role)},
                "headers of the checkpoint"
                if question.matched
                else "shapes from the config, formats from its quantisation",
            ),
            role=role,
        )
        for role in ROLES
        if by_role.get(role)
    )


def _expert_inputs(view: RankView, role: str) -> dict[str, int]:
    division = view.division
    if role != "routed_experts" or division.expert_tp * division.expert_ep == 1:
        return {}
    return {
        "expert_parallel": division.expert_ep,
        "expert_width_ranks": division.expert_tp,
        "redundant_experts": division.redundant_experts,
    }


def _cache_lines(question: Question, settings: Settings, view: RankView) -> tuple[Line, ...]:
    """The cache of a rank's sequences, what the engine's way of handing out blocks adds, and what drafts add to both."""
    whole = managed_bytes(
        question, settings, view, question.deployment.context_tokens, question.deployment.sequences_per_rank
    )
    if not any(map(drafts_by, question.deployment.stated)):
        return _plain_cache_lines(question, view, whole)
    plain = _without_drafts(question)
    mine = rank_view(plain, view.division, view.place)._replace(weights=view.weights)
    plain_settings = plain.engine.settle(plain.serving)
    asked = plain.deployment
    bare = managed_bytes(plain, plain_settings, mine, asked.context_tokens, asked.sequences_per_rank)
    if bare >= whole:
        return _plain_cache_lines(question, view, whole)
    why = Why(
        "what the engine holds for these sequences with speculation, less what it would hold without: the cache of draft layers, "
        "a recurrent state more for each drafted token, wider convolutions, whole blocks or pages",
        {"sequences": asked.sequences_per_rank, "context_tokens": asked.context_tokens},
        f"{asked.engine} {question.serving.constants.version}, its cache manager; see docs/speculation.md",
    )
    lines = _plain_cache_lines(plain, mine, bare)
    return (*lines, line("kv_cache_drafts", "KV cache: drafts and their states", whole - bare, lines[0].basis, why))


def _without_drafts(question: Question) -> Question:
    stated = {flag: value for flag, value in question.deployment.stated.items() if not drafts_by(flag)}
    return question.at(question.deployment._replace(stated=stated))._replace(drafts=False)


def _plain_cache_lines(question: Question, view: RankView, managed: int) -> tuple[Line, ...]:
    """`managed` bytes as the cache of a rank's sequences, and what the engine's way of handing out blocks adds."""
    asked = question.deployment
    cost, sequences = rank_cost(question, view), asked.sequences_per_rank
    # An engine may also hold less: layers whose cache stays in host memory, other types than the rules say.
    size = min(managed, sequences * cost.bytes_at_context)
    why = Why(
        "sequences of this rank x (bytes_per_token x context_tokens + bytes_per_sequence)",
        {
            "sequences": sequences,
            "context_tokens": asked.context_tokens,
            "bytes_per_token": cost.bytes_per_token,
            "bytes_per_sequence": cost.bytes_per_sequence,
            "dtype": question.rules.kv_dtype,
            "kinds": sorted({row.kind for row in view.rows}),
        },
        f"{asked.engine} {question.serving.constants.version}, cache of each layer kind",
    )
    assumed = (
        not question.spec.dtype_stated and question.rules.kv_dtype == question.spec.dtype and asked.kv_dtype is None
    )
    basis: Basis = "assumed" if assumed else "derived"
    lines = [line("kv_cache", "KV cache", size, basis, why)]
    more = managed - size
    if more > 0:
        why = Why(
            "what the engine holds for these sequences by its own rules (whole blocks or pages, batches in flight, "
            "padded groups, further states), less the cache itself",
            {"sequences": sequences, "context_tokens": asked.context_tokens},
            f"{asked.engine} {question.serving.constants.version}, its cache manager; see docs/method.md",
        )
        lines.append(line("kv_cache_blocks", "KV cache: blocks, tokens in flight", more, basis, why))
    return tuple(lines)
