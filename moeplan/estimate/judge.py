"""A question becomes a ledger per rank, a capacity and a verdict."""

from collections.abc import Callable
from typing import NamedTuple

from moeplan.core.capacity import EnginePrints, largest
from moeplan.core.deployment import Refusal, Settings
from moeplan.core.hardware import Usable
from moeplan.core.ledger import band_bytes, total_bytes
from moeplan.core.own_words import said
from moeplan.core.units import gib
from moeplan.estimate.ledger import Ledger, RankLedger, host_lines, ledger, managed_bytes, runtime_lines
from moeplan.estimate.question import Question
from moeplan.estimate.result import AtContext, Capacity, LayoutUsed, Rank, Verdict

ENDLESS_CONTEXT_TOKENS = 2**24
"""How far the search for the largest context goes where the model states no maximum."""
MOST_SEQUENCES = 2**20
SHORTEST_CONTEXT_TOKENS = 1024
"""Where room over the context begins."""


class Answer(NamedTuple):
    """What `judge` found."""

    layout: LayoutUsed
    ranks: tuple[Rank, ...]
    capacity: Capacity
    verdict: Verdict


def judge(question: Question) -> Answer:
    """Hold the question against its hardware; without hardware, or memory that is known, the verdict is open."""
    hardware, memory = question.serving.hardware, question.serving.memory
    if hardware is None:
        return _open(question, Refusal("no-gpu", "no GPU was named, so nothing was held against its memory"))
    if memory is None:
        told = f"the profile {hardware.profile} does not tell how much memory {hardware.name} has"
        return _open(question, Refusal("memory-unknown", told))
    found = ledger(question, memory)
    ranks = tuple(_rank(question, found.settings, rank) for rank in found.ranks)
    capacity = _capacity(question, found)
    return Answer(
        _layout(question, found.settings),
        ranks + _host(question, found.settings),
        capacity,
        verdict(question, memory, found, capacity),
    )


def over_context(question: Question, capacity: Capacity) -> tuple[AtContext, ...]:
    """How many sequences fit at 1,024 tokens and at every doubling up to the model's maximum, at what was asked, and at the
    longest that fits; nothing where the memory is not known."""
    memory = question.serving.memory
    if memory is None or capacity.max_concurrency is None:
        return ()
    holds = _room(question, ledger(question, memory))
    asked, longest = question.deployment.context_tokens, capacity.max_context_tokens or 0
    most = question.spec.max_context_tokens or max(asked, longest)
    doubled = (SHORTEST_CONTEXT_TOKENS << power for power in range(most.bit_length()))
    found = [AtContext(asked, capacity.max_concurrency)]
    near = capacity.max_concurrency * asked
    for context in sorted({each for each in (*doubled, longest, most) if 0 < each <= most} - {asked}):
        sequences = largest(lambda count, context=context: holds(context, count), MOST_SEQUENCES, near // context)  # type: ignore[misc]
        near = sequences * context or near
        found.append(AtContext(context, sequences))
    return tuple(sorted(found))


def verdict(question: Question, memory: Usable, found: Ledger, capacity: Capacity | None = None) -> Verdict:
    """Does it fit: enough memory on every rank, and nothing that the engine refuses."""
    worst = found.worst
    refused = _refusals(question, found.settings)
    reasons = list(refused)
    if worst.free_bytes < 0:
        reasons += _shortage(question, found, worst, capacity)
    bands = [rank.free_band_bytes for rank in found.ranks]
    sure = any(high < 0 for _, high in bands) or all(low >= 0 for low, _ in bands)
    return Verdict(
        fits=not reasons,
        certain=bool(refused) or (memory.certain and not question.doubts and sure),
        worst_rank=worst.view.place.ranks[0],
        headroom_bytes=worst.free_bytes,
        headroom_low_bytes=min(low for low, _ in bands),
        reasons=tuple(reasons),
        ways_out=(),
    )


def _refusals(question: Question, settings: Settings) -> tuple[Refusal, ...]:
    """What the engine refuses, and a layout that wants more GPUs than there are."""
    layout, devices = question.deployment.layout, question.num_devices
    found = question.engine.refusals(question.serving, settings)
    if devices is not None and layout.num_gpus > devices:
        degrees = [("tp", layout.tp), ("pp", layout.pp), ("dp", layout.num_gpus // (layout.tp * layout.pp))]
        product = " x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1)
        told = (
            f"{product} = {layout.num_gpus} GPUs, but {devices} were named; name {layout.num_gpus}, or lower a degree"
        )
        found += (Refusal("gpus-too-few", told),)
    hardware = question.serving.hardware
    if hardware is not None and hardware.slice and layout.num_gpus > 1:
        told = f"slices of a card do not reach each other's memory, so {layout.num_gpus} of them form no group; use one"
        found += (Refusal("slices-apart", f"{told}, or whole cards"),)
    return found + _host_shortage(question, settings)


def _host_shortage(question: Question, settings: Settings) -> tuple[Refusal, ...]:
    """What stays in host memory and does not fit there; files being read are in the page cache, which gives way."""
    room = _host_room(question)
    needed = total_bytes(entry for entry in host_lines(question, settings) if entry.code != "host.loading")
    if room is None or needed <= room:
        return ()
    told = f"host memory: {gib(needed)} stay there, and the profile tells of {gib(room)}"
    return (Refusal("host-memory-too-small", f"{told}; keep fewer weights there, or a smaller format"),)


def _host_room(question: Question) -> int | None:
    """Host memory of all nodes together; None where the profile does not tell."""
    hardware = question.serving.hardware
    if hardware is None or hardware.host_bytes is None:
        return None
    return hardware.host_bytes * question.deployment.layout.num_nodes


def _shortage(question: Question, found: Ledger, worst: RankLedger, capacity: Capacity | None) -> list[Refusal]:
    """Not enough memory on a rank: for the sequences that were asked for, or even for a single one."""
    asked, free, budget = question.deployment, worst.free_bytes, worst.budget_bytes
    where = rank_words(question, worst)
    needs = f"needs {gib(budget - free)}{where}, {gib(-free)} more than the {gib(budget)}"
    reasons = [Refusal("does-not-fit", f"{needs} that {asked.engine} may use")]
    pool = worst.pool_bytes
    one = managed_bytes(question, found.settings, worst.view, asked.context_tokens, 1)
    least = managed_bytes(question, found.settings, worst.view, 1, 1)
    # Where not even one token fits, what stands in the way is a stated pool, or what any request holds.
    if least <= pool < one and asked.engine != "transformers":
        # Engines stop at start where not even one request of the full length fits.
        reach = capacity.max_context_tokens if capacity is not None and asked.sequences_per_rank == 1 else None
        way = f"; {said(asked.flags, {'context_tokens': reach})} is the longest that fits" if reach else ""
        # llama.cpp has no pool: the cache of all sequences is taken when it starts.
        room = f"{gib(pool, 2)} are left for it" if asked.engine == "llamacpp" else f"the pool is {gib(pool, 2)}"
        told = f"one request of {asked.context_tokens:,} tokens needs {gib(one, 2)} of cache{where}, and {room}"
        reasons.append(Refusal("request-does-not-fit", told + way))
    return reasons


def rank_words(question: Question, rank: RankLedger) -> str:
    """` on each GPU`, or which of them where they differ; empty for one GPU."""
    num_gpus, ranks = question.deployment.layout.num_gpus, rank.view.place.ranks
    if num_gpus == 1:
        return ""
    if len(ranks) == num_gpus:
        return " on each GPU"
    return f" on {ranks_words(ranks)}"


def ranks_words(ranks: tuple[int, ...]) -> str:
    """`rank 3`, `ranks 0-7`, `ranks 0, 2, 4 and 5 more`."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if ranks == tuple(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]}-{ranks[-1]}"
    shown = ", ".join(str(rank) for rank in ranks[:3])
    return f"ranks {shown} and {len(ranks) - 3} more" if len(ranks) > 3 else f"ranks {shown}"


def _rank(question: Question, settings: Settings, found: RankLedger) -> Rank:
    low, high = found.free_band_bytes
    return Rank(
        ranks=found.view.place.ranks,
        device="gpu",
        weights_bytes=total_bytes(found.weights),
        kv_cache_bytes=total_bytes(found.cache),
        kv_bytes_per_token=found.cost.bytes_per_token,
        kv_bytes_per_sequence=found.cost.bytes_per_sequence,
        load_peak_bytes=question.engine.load_peak_bytes(question.serving, settings, found.view),
        free_bytes=found.free_bytes,
        free_low_bytes=low,
        free_high_bytes=high,
        lines=found.lines,
    )


def _host(question: Question, settings: Settings) -> tuple[Rank, ...]:
    """Host memory of all ranks together, where the deployment uses any that is counted."""
    lines = host_lines(question, settings)
    if not lines:
        return ()
    room = _host_room(question)
    low, high = band_bytes(lines)
    weights = tuple(entry for entry in lines if entry.code.startswith("weights."))
    return (
        Rank(
            ranks=tuple(range(question.deployment.layout.num_gpus)),
            device="host",
            weights_bytes=total_bytes(weights),
            kv_cache_bytes=0,
            kv_bytes_per_token=0,
            kv_bytes_per_sequence=0,
            load_peak_bytes=None,
            free_bytes=None if room is None else room - total_bytes(lines),
            free_low_bytes=None if room is None else room - high,
            free_high_bytes=None if room is None else room - low,
            lines=lines,
        ),
    )


def _open(question: Question, reason: Refusal) -> Answer:
    """Memory has no answer; what the engine refuses on any GPU is one."""
    settings = question.engine.settle(question.serving)
    refused = question.engine.refusals(question.serving, settings)
    return Answer(
        _layout(question, settings),
        (),
        Capacity(None, None, None, None, _per(question), None),
        Verdict(False if refused else None, bool(refused), None, None, None, refused or (reason,), ()),
    )


def _layout(question: Question, settings: Settings) -> LayoutUsed:
    layout, asked = question.deployment.layout, question.deployment
    stated = set(asked.flags.values())
    return LayoutUsed(
        engine=asked.engine,
        engine_version=question.serving.constants.version,
        version_origin=question.version_origin,
        expert_backend=question.engine.expert_backend(question.serving, settings),
        options=tuple(
            option._replace(origin="stated") if option.flag in stated else option for option in settings.options
        ),
        tp=layout.tp,
        pp=layout.pp,
        pp_layers=layout.pp_layers if layout.pp > 1 else None,
        dp=layout.dp,
        ep=layout.ep,
        dp_attention=layout.dp_attention,
        dcp=layout.dcp,
        redundant_experts=layout.redundant_experts,
        num_nodes=layout.num_nodes,
        num_gpus=layout.num_gpus,
    )


def _per(question: Question) -> str:
    layout = question.deployment.layout
    return "attention_dp_rank" if layout.dp > 1 and layout.dp_attention else "engine"


def _capacity(question: Question, found: Ledger) -> Capacity:
    """What is left for the cache on the rank that holds the fewest tokens, and how far it reaches."""
    asked = question.deployment
    scarce = min(found.ranks, key=lambda rank: rank.pool_bytes / (rank.cost.bytes_per_token or 1))
    pool, per_token = max(0, scarce.pool_bytes), scarce.cost.bytes_per_token
    holds = _room(question, found)
    most_tokens = question.spec.max_context_tokens or ENDLESS_CONTEXT_TOKENS
    sequences = asked.sequences_per_rank
    # Were the cache all that counts, and all of it by the token, this is how far it would reach.
    tokens = int(pool / per_token) if per_token else None
    near = tokens or 0
    return Capacity(
        kv_pool_bytes=pool,
        kv_tokens=tokens,
        max_concurrency=largest(
            lambda count: holds(asked.context_tokens, count), MOST_SEQUENCES, near // asked.context_tokens
        ),
        max_context_tokens=largest(lambda length: holds(length, sequences), most_tokens, near // sequences),
        per=_per(question),
        engine_prints=_prints(question, found),
    )


def _room(question: Question, found: Ledger) -> Callable[[int, int], bool]:
    """Whether there is room for sequences of so many tokens, so many on each data-parallel rank."""
    asked, layout = question.deployment, question.deployment.layout

    def holds(context_tokens: int, sequences: int) -> bool:
        deployment = asked.with_context(context_tokens)._replace(concurrency=sequences * layout.dp)
        other = question.at(deployment)
        settings = question.engine.settle(other.serving)
        return all(_fits(other, settings, rank) for rank in found.ranks)

    return holds


def _fits(question: Question, settings: Settings, rank: RankLedger) -> bool:
    """Whether a rank has room for other limits: what depends on them is computed anew, its weights are not."""
    serving, view = question.serving, rank.view
    runtime = runtime_lines(question, settings, view)
    assert serving.memory is not None
    budget = question.engine.budget_bytes(serving, settings, serving.memory.bytes, rank.weights + runtime, view)
    asked = question.deployment
    cache = managed_bytes(question, settings, view, asked.context_tokens, asked.sequences_per_rank)
    return cache + total_bytes(runtime) + total_bytes(rank.weights) <= budget


def _prints(question: Question, found: Ledger) -> EnginePrints | None:
    """What the engine prints: the least over its ranks."""
    printed = [
        question.engine.prints(question.serving, found.settings, rank.view, question.rules, max(0, rank.pool_bytes))
        for rank in found.ranks
    ]
    known = [each for each in printed if each is not None]
    return min(known, key=lambda each: each.kv_tokens or 0) if known else None
