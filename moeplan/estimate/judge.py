"""A question becomes a ledger per rank, a capacity and a verdict."""

from math import ceil
from typing import NamedTuple

from moeplan.core.capacity import largest
from moeplan.core.deployment import Option, Refusal
from moeplan.core.hardware import Hardware, Usable
from moeplan.core.kv_cache import CacheCost, cache_cost
from moeplan.core.ledger import Basis, Line, Why, band_bytes, line, total_bytes
from moeplan.core.model import ROLES
from moeplan.core.placement import rank_bytes
from moeplan.core.units import gib
from moeplan.estimate.question import Question, base_basis
from moeplan.estimate.result import Capacity, Layout, Rank, Verdict

ENDLESS_CONTEXT_TOKENS = 2**24
"""How far the search for the largest context goes where the model states no maximum."""
MOST_SEQUENCES = 2**20


class Answer(NamedTuple):
    """What `judge` found."""

    layout: Layout
    ranks: tuple[Rank, ...]
    capacity: Capacity
    verdict: Verdict


class Ledger(NamedTuple):
    """The memory of one rank: what is needed, line by line, and what the engine may use."""

    options: tuple[Option, ...]
    weights: tuple[Line, ...]
    runtime: tuple[Line, ...]
    cache: tuple[Line, ...]
    budget_bytes: int
    budget_low_bytes: int
    budget_high_bytes: int

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, in the order in which reports show them."""
        return self.weights + self.runtime + self.cache

    @property
    def free_bytes(self) -> int:
        """What is left of the budget; negative where it does not fit."""
        return self.budget_bytes - total_bytes(self.lines)

    @property
    def free_band_bytes(self) -> tuple[int, int]:
        """Free bytes when all guesses err to one side or to the other."""
        low, high = band_bytes(self.lines)
        return self.budget_low_bytes - high, self.budget_high_bytes - low


def judge(question: Question) -> Answer:
    """Hold the question against its hardware; without hardware, or memory that is known, the verdict is open."""
    hardware, memory = question.hardware, question.memory
    if hardware is None:
        return _open(question, Refusal("no-gpu", "no GPU was named, so nothing was held against its memory"))
    if memory is None:
        told = f"the profile {hardware.profile} does not tell how much memory {hardware.name} has"
        return _open(question, Refusal("memory-unknown", told))
    found = ledger(question, hardware, memory)
    cost = _rank_cost(question)
    free_low, free_high = found.free_band_bytes
    rank = Rank(
        ranks=tuple(range(question.deployment.tp)),
        device="gpu",
        weights_bytes=total_bytes(found.weights),
        kv_cache_bytes=total_bytes(found.cache),
        kv_bytes_per_token=cost.bytes_per_token,
        kv_bytes_per_sequence=cost.bytes_per_sequence,
        load_peak_bytes=None,
        free_bytes=found.free_bytes,
        free_low_bytes=free_low,
        free_high_bytes=free_high,
        lines=found.lines,
    )
    return Answer(
        _layout(question, found.options),
        (rank,),
        _capacity(question, hardware, found),
        verdict(question, memory, found),
    )


def verdict(question: Question, memory: Usable, found: Ledger) -> Verdict:
    """Does it fit: enough memory, and nothing that the engine refuses."""
    deployment, free = question.deployment, found.free_bytes
    refused = question.engine.refusals(
        question.spec, question.owned, question.quantisation, deployment, question.hardware
    )
    reasons = list(refused)
    if free < 0:
        per = " on each GPU" if deployment.tp > 1 else ""
        budget = found.budget_bytes
        needs = f"needs {gib(budget - free)}{per}, {gib(-free)} more than the {gib(budget)}"
        reasons.append(Refusal("does-not-fit", f"{needs} that {deployment.engine} may use"))
    low, high = found.free_band_bytes
    return Verdict(
        fits=free >= 0 and not refused,
        certain=bool(refused) or (memory.certain and not question.doubts and (low >= 0) == (high >= 0)),
        worst_rank=0,
        headroom_bytes=free,
        headroom_low_bytes=low,
        reasons=tuple(reasons),
        ways_out=(),
    )


def ledger(question: Question, hardware: Hardware, memory: Usable) -> Ledger:
    """All lines of one rank, and the share of its device that the engine may use."""
    options = question.engine.settle(question.deployment, hardware, question.constants)
    weights = weight_lines(question)
    budget, low, high = (
        ceil(size * float(options[0].value or 0)) for size in (memory.bytes, memory.low_bytes, memory.high_bytes)
    )
    runtime = _runtime_lines(question, hardware, options, weights)
    return Ledger(options, weights, runtime, _cache_lines(question, options), budget, low, high)


def weight_lines(question: Question) -> tuple[Line, ...]:
    """Weights of one rank by role."""
    num_ranks, padding = question.deployment.tp, question.engine.VOCABULARY_PADDING
    by_role: dict[str, int] = {}
    formats: dict[str, dict[str, int]] = {}
    for weight, _, name, num_bytes in question.held:
        role = weight.role
        by_role[role] = by_role.get(role, 0) + rank_bytes(weight, num_bytes, num_ranks, padding)
        held = formats.setdefault(role, {})
        held[name] = held.get(name, 0) + num_bytes
    divided = f" / {num_ranks} where tensor parallelism splits" if num_ranks > 1 else ""
    return tuple(
        line(
            f"weights.{role}",
            f"weights: {role.replace('_', ' ')}",
            by_role[role],
            base_basis(question, formats[role]),
            Why(
                f"bytes of every tensor of this role in its format, scales included{divided}",
                {"bytes_by_format": formats[role], "tensor_parallel": num_ranks},
                "headers of the checkpoint"
                if question.matched
                else "shapes from the config, formats from its quantisation",
            ),
            role=role,
        )
        for role in ROLES
        if by_role.get(role)
    )


def _open(question: Question, reason: Refusal) -> Answer:
    return Answer(
        _layout(question, ()),
        (),
        Capacity(None, None, None, None, "engine", None),
        Verdict(None, False, None, None, None, (reason,), ()),
    )


def _layout(question: Question, options: tuple[Option, ...]) -> Layout:
    num_gpus = question.deployment.tp
    return Layout(
        engine=question.deployment.engine,
        engine_version=question.constants.version,
        version_origin="default",
        expert_backend=None,
        options=options,
        tp=num_gpus,
        pp=1,
        pp_layers=None,
        dp=1,
        ep=1,
        dp_attention=False,
        dcp=1,
        redundant_experts=0,
        num_nodes=1,
        num_gpus=num_gpus,
    )


def _runtime_lines(
    question: Question, hardware: Hardware, options: tuple[Option, ...], weights: tuple[Line, ...]
) -> tuple[Line, ...]:
    return question.engine.runtime_lines(
        question.spec, question.deployment, options, hardware, question.constants, weights
    )


def _rank_cost(question: Question) -> CacheCost:
    asked = question.deployment
    return cache_cost(question.rows, question.rules, asked.context_tokens, asked.encoder_tokens, asked.tp)


def _cache_lines(question: Question, options: tuple[Option, ...]) -> tuple[Line, ...]:
    """The cache of all sequences on one rank, and what the engine's way of handing out blocks adds."""
    asked = question.deployment
    cost = _rank_cost(question)
    size = asked.concurrency * cost.bytes_at_context
    why = Why(
        "concurrency x (bytes_per_token x context_tokens + bytes_per_sequence)",
        {
            "concurrency": asked.concurrency,
            "context_tokens": asked.context_tokens,
            "bytes_per_token": cost.bytes_per_token,
            "bytes_per_sequence": cost.bytes_per_sequence,
            "dtype": question.rules.kv_dtype,
            "kinds": sorted({row.kind for row in question.rows}),
        },
        f"{asked.engine} {question.constants.version}, cache of each layer kind",
    )
    assumed = (
        not question.spec.dtype_stated and question.rules.kv_dtype == question.spec.dtype and asked.kv_dtype is None
    )
    basis: Basis = "assumed" if assumed else "derived"
    lines = [line("kv_cache", "KV cache", size, basis, why)]
    more = _managed_bytes(question, options) - size
    if more > 0:
        why = Why(
            "what the block manager holds: whole blocks, one more per window, padded groups, two recurrent states, "
            "window layers also the batches in flight; less the cache itself",
            {"block_tokens": int(question.constants.of("block_tokens").value)},
            "vLLM 0.33.0 v1/core/kv_cache_planning.py, v1/kv_cache_interface.py, config/vllm.py",
        )
        lines.append(line("kv_cache_blocks", "KV cache: blocks, tokens in flight", more, basis, why))
    return tuple(lines)


def _managed_bytes(question: Question, options: tuple[Option, ...]) -> int:
    """Bytes of all sequences as the engine holds them, never less than the cache itself."""
    managed = question.engine.managed_cache_bytes(
        question.rows, question.rules, question.deployment, options, question.constants
    )
    return max(managed, question.deployment.concurrency * _rank_cost(question).bytes_at_context)


def _capacity(question: Question, hardware: Hardware, found: Ledger) -> Capacity:
    """What is left for the cache, and how far it reaches."""
    asked = question.deployment
    room = found.budget_bytes - total_bytes(found.weights)

    def holds(context_tokens: int, concurrency: int) -> bool:
        deployment = asked.with_context(context_tokens)._replace(concurrency=concurrency)
        other = question._replace(deployment=deployment)
        options = question.engine.settle(deployment, hardware, question.constants)
        runtime = _runtime_lines(other, hardware, options, found.weights)
        return _managed_bytes(other, options) + total_bytes(runtime) <= room

    pool = max(0, room - total_bytes(found.runtime))
    per_token = _rank_cost(question).bytes_per_token
    most_tokens = question.spec.max_context_tokens or ENDLESS_CONTEXT_TOKENS
    return Capacity(
        kv_pool_bytes=pool,
        kv_tokens=int(pool / per_token) if per_token else None,
        max_concurrency=largest(lambda sequences: holds(asked.context_tokens, sequences), MOST_SEQUENCES),
        max_context_tokens=largest(lambda tokens: holds(tokens, asked.concurrency), most_tokens),
        per="engine",
        engine_prints=None,
    )
