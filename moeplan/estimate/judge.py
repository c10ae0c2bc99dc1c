"""A question becomes a ledger per rank, a capacity and a verdict."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import NamedTuple

from moeplan.core.capacity import largest
from moeplan.core.deployment import Option, Refusal
from moeplan.core.kv_cache import CacheCost, cache_cost, entry_bytes
from moeplan.core.ledger import Line, Why, band_bytes, line, total_bytes
from moeplan.core.model import ROLES
from moeplan.core.placement import rank_share
from moeplan.core.quant import stored
from moeplan.core.units import gib
from moeplan.estimate.question import Question
from moeplan.estimate.result import Capacity, Layout, Rank, Verdict


class Answer(NamedTuple):
    """What `judge` found."""

    layout: Layout
    ranks: tuple[Rank, ...]
    capacity: Capacity | None
    verdict: Verdict


def judge(question: Question) -> Answer:
    """Hold the question against its hardware; without hardware the verdict is open."""
    deployment, hardware, memory = question.deployment, question.hardware, question.memory
    options: tuple[Option, ...] = ()
    if hardware is not None:
        options = question.engine.settle(deployment, hardware, question.constants)
    layout = Layout(
        engine=deployment.engine,
        engine_version=question.constants.version,
        version_origin="default",
        expert_backend=None,
        options=options,
        tp=deployment.tp,
        pp=1,
        pp_layers=None,
        dp=1,
        ep=1,
        dp_attention=False,
        dcp=1,
        redundant_experts=0,
        num_nodes=1,
        num_gpus=deployment.tp,
    )
    if hardware is None:
        reason = Refusal("no-gpu", "no GPU was named, so nothing was held against its memory")
        return Answer(layout, (), None, Verdict(None, False, None, None, None, (reason,), ()))
    if memory is None:
        reason = Refusal(
            "memory-unknown", f"the profile {hardware.profile} does not tell how much memory {hardware.name} has"
        )
        return Answer(layout, (), None, Verdict(None, False, None, None, None, (reason,), ()))
    fixed = _fixed_lines(question, options)
    cache = _cache_lines(question, options)
    lines = fixed + cache
    cost = _rank_cost(question)
    fraction = float(options[0].value or 0)
    budget, budget_low, budget_high = (
        ceil(size * fraction) for size in (memory.bytes, memory.low_bytes, memory.high_bytes)
    )
    low, high = band_bytes(lines)
    free, free_low, free_high = budget - total_bytes(lines), budget_low - high, budget_high - low
    rank = Rank(
        ranks=tuple(range(deployment.tp)),
        device="gpu",
        weights_bytes=sum(entry.bytes for entry in fixed if entry.code.startswith("weights.")),
        kv_cache_bytes=total_bytes(cache),
        kv_bytes_per_token=cost.bytes_per_token,
        kv_bytes_per_sequence=cost.bytes_per_sequence,
        load_peak_bytes=None,
        free_bytes=free,
        free_low_bytes=free_low,
        free_high_bytes=free_high,
        lines=lines,
    )
    refused = question.engine.refusals(question.spec, deployment)
    reasons = list(refused)
    if free < 0:
        per = " on each GPU" if deployment.tp > 1 else ""
        reasons.append(
            Refusal(
                "does-not-fit",
                f"needs {gib(budget - free)}{per}, {gib(-free)} more than the {gib(budget)} that {deployment.engine} may use",
            )
        )
    certain = memory.certain and (free_low >= 0) == (free_high >= 0)
    return Answer(
        layout,
        (rank,),
        _capacity(question, options, budget),
        Verdict(
            fits=free >= 0 and not refused,
            certain=certain or bool(refused),
            worst_rank=0,
            headroom_bytes=free,
            headroom_low_bytes=free_low,
            reasons=tuple(reasons),
            ways_out=(),
        ),
    )


def _fixed_lines(question: Question, options: tuple[Option, ...]) -> tuple[Line, ...]:
    """Weights by role and the engine's own lines: all that does not depend on the number of sequences."""
    assert question.hardware is not None
    num_ranks = question.deployment.tp
    by_role: dict[str, Fraction] = {}
    elements: dict[str, int] = {}
    formats: dict[str, dict[str, int]] = {}
    for entry in question.owned:
        if entry.part in ("mtp", "mtp_duplicate"):
            continue
        share = rank_share(entry.weight, num_ranks)
        role = entry.weight.role
        elements[role] = elements.get(role, 0) + entry.num_elements
        for part in stored(entry, question.quantisation):
            by_role[role] = by_role.get(role, Fraction(0)) + part.num_bytes * share
            held = formats.setdefault(role, {})
            held[part.format.name] = held.get(part.format.name, 0) + part.num_bytes
    divided = f" / {num_ranks} where tensor parallelism splits" if num_ranks > 1 else ""
    lines = tuple(
        line(
            f"weights.{role}",
            f"{role.replace('_', ' ')}",
            ceil(by_role[role]),
            "derived",
            Why(
                f"bytes of every tensor of this role in its format, scales included{divided}",
                {"elements": elements[role], "bytes_by_format": formats[role], "tensor_parallel": num_ranks},
                "shapes from the config, formats from its quantisation",
            ),
            role=role,
        )
        for role in ROLES
        if by_role.get(role)
    )
    stored_as = formats.get("routed_experts", {})
    experts = max(stored_as, key=lambda name: stored_as[name], default=None)
    return lines + question.engine.runtime_lines(
        question.spec,
        question.owned,
        question.deployment,
        options,
        question.hardware,
        question.constants,
        experts,
    )


def _rank_cost(question: Question) -> CacheCost:
    asked = question.deployment
    return cache_cost(question.rows, question.rules, asked.context_tokens, asked.encoder_tokens, asked.tp)


def _cache_lines(question: Question, options: tuple[Option, ...]) -> tuple[Line, ...]:
    """The cache of all sequences on one rank, and what the engine's way of handing out blocks adds."""
    asked, rules = question.deployment, question.rules
    cost = _rank_cost(question)
    size = asked.concurrency * cost.bytes_at_context
    why = Why(
        "concurrency x (bytes_per_token x context_tokens + bytes_per_sequence)",
        {
            "concurrency": asked.concurrency,
            "context_tokens": asked.context_tokens,
            "bytes_per_token": cost.bytes_per_token,
            "bytes_per_sequence": cost.bytes_per_sequence,
            "dtype": rules.kv_dtype,
            "kinds": sorted({row.kind for row in question.rows}),
        },
        f"{asked.engine} {question.constants.version}, cache of each layer kind",
    )
    lines = [line("kv_cache", "KV cache", size, "derived", why)]
    managed = _managed_bytes(question, options)
    if managed > size:
        lines.append(
            line(
                "kv_cache_blocks",
                "KV cache: blocks, tokens in flight",
                managed - size,
                "derived",
                Why(
                    "concurrency x (whole blocks, one more per window) + window layers x tokens of one batch - the cache itself",
                    {"block_tokens": question.constants.of("block_tokens").value},
                    "vLLM 0.33.0 v1/core/kv_cache_utils.py and v1/kv_cache_interface.py",
                ),
            )
        )
    return tuple(lines)


def _managed_bytes(question: Question, options: tuple[Option, ...]) -> int:
    """Bytes of all sequences as the engine's block manager holds them; window layers also hold one batch in flight."""
    asked = question.deployment
    ways = question.engine.window_accountings(question.rules, question.constants)
    rules = ways.get("hybrid_manager", question.rules)
    cost = cache_cost(question.rows, rules, asked.context_tokens, asked.encoder_tokens, asked.tp)
    batch = next((int(option.value or 0) for option in options if option.flag == "--max-num-batched-tokens"), 0)
    in_flight = min(batch, asked.concurrency * asked.context_tokens)
    windows = sum(
        row.count * entry_bytes(row, rules, asked.tp) for row in question.rows if row.window_tokens is not None
    )
    return asked.concurrency * cost.bytes_at_context + windows * in_flight


def _capacity(question: Question, options: tuple[Option, ...], budget: int) -> Capacity:
    """What is left for the cache, and how far it reaches."""
    asked = question.deployment
    pool = budget - total_bytes(_fixed_lines(question, options))

    def holds(context_tokens: int, concurrency: int) -> bool:
        deployment = asked._replace(context_tokens=context_tokens, concurrency=concurrency)
        other = question._replace(deployment=deployment)
        assert question.hardware is not None
        settled = question.engine.settle(deployment, question.hardware, question.constants)
        room = pool
        if context_tokens != asked.context_tokens or asked.engine == "transformers":
            room = budget - total_bytes(_fixed_lines(other, settled))
        return total_bytes(_cache_lines(other, settled)) <= room

    cost = _rank_cost(question)
    most_context = question.spec.max_context_tokens or 2**24
    tokens = int(max(0, pool) / cost.bytes_per_token) if cost.bytes_per_token else None
    return Capacity(
        kv_pool_bytes=max(0, pool),
        kv_tokens=tokens,
        max_concurrency=largest(lambda n: holds(asked.context_tokens, n), 2**20),
        max_context_tokens=largest(lambda n: holds(n, asked.concurrency), most_context),
        per="engine",
        engine_prints=None,
    )
