"""What the policy demands, held against the estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from moeplan.check.cost import usd_per_hour
from moeplan.check.estimates import Outcome
from moeplan.check.gangs import replicas_of, total_gpus
from moeplan.check.rules import Hit, Rule
from moeplan.core.units import gib

GIB = 2**30


def headroom(outcome: Outcome) -> Iterator[Hit]:
    """Less memory is left on the fullest GPU than the policy demands (`min_headroom_gib`, `min_headroom_percent`)."""
    limits, found = outcome.subject.terms.limits, outcome.estimate
    if found is None or not found.verdict.fits or found.verdict.headroom_bytes is None or found.hardware is None:
        return
    left, usable = found.verdict.headroom_bytes, found.hardware.usable_bytes
    demanded = [] if limits.min_headroom_gib is None else [round(limits.min_headroom_gib * GIB)]
    if limits.min_headroom_percent is not None and usable is not None:
        demanded.append(round(usable * limits.min_headroom_percent / 100))
    if demanded and left < max(demanded):
        told = f"{gib(left)} are left on the fullest GPU, and the policy demands {gib(max(demanded))}"
        yield Hit(told, outcome.subject.spot("utilization_fraction", "model"), gap_bytes=max(demanded) - left)


def tokens(outcome: Outcome) -> Iterator[Hit]:
    """The cache of one engine holds fewer tokens than the policy demands (`min_kv_tokens`)."""
    demanded, found = outcome.subject.terms.limits.min_kv_tokens, outcome.estimate
    held = found.capacity.kv_tokens if found is not None else None
    if demanded is not None and held is not None and held < demanded:
        told = f"the cache holds {held:,} tokens, and the policy demands {demanded:,}"
        yield Hit(told, outcome.subject.spot("utilization_fraction", "model"))


def concurrency(outcome: Outcome) -> Iterator[Hit]:
    """Fewer sequences of the full length fit at the same time than the policy demands (`min_concurrency`)."""
    demanded, found = outcome.subject.terms.limits.min_concurrency, outcome.estimate
    held = found.capacity.max_concurrency if found is not None else None
    if found is not None and demanded is not None and held is not None and held < demanded:
        told = f"{held:,} sequences of {found.request.context_tokens:,} tokens fit, and the policy demands {demanded:,}"
        yield Hit(told, outcome.subject.spot("context_tokens", "model"))


def context(outcome: Outcome) -> Iterator[Hit]:
    """The length that is served is shorter or longer than the policy allows, or shorter than its load."""
    limits, found = outcome.subject.terms.limits, outcome.estimate
    if found is None:
        return
    served, load = found.request.context_tokens, outcome.load
    spot = outcome.subject.spot("context_tokens", "model")
    if limits.min_context_tokens is not None and served < limits.min_context_tokens:
        yield Hit(f"serves {served:,} tokens, and the policy demands {limits.min_context_tokens:,}", spot)
    if limits.max_context_tokens is not None and served > limits.max_context_tokens:
        yield Hit(f"serves {served:,} tokens, and the policy allows {limits.max_context_tokens:,}", spot)
    if load is not None and load.request.context_tokens > served:
        expected = load.request.context_tokens
        yield Hit(f"serves {served:,} tokens, and the load that the policy expects has {expected:,}", spot)


def weights(outcome: Outcome) -> Iterator[Hit]:
    """More weights lie on the fullest GPU than the policy allows (`max_weights_gib_per_gpu`)."""
    allowed, found = outcome.subject.terms.limits.max_weights_gib_per_gpu, outcome.estimate
    if allowed is None or found is None or not found.ranks:
        return
    most = max(rank.weights_bytes for rank in found.ranks if rank.device == "gpu")
    if most > allowed * GIB:
        told = f"{gib(most)} of weights on a GPU, and the policy allows {allowed:g} GiB"
        yield Hit(told, outcome.subject.spot("model"), gap_bytes=most - round(allowed * GIB))


def number_of_gpus(outcome: Outcome) -> Iterator[Hit]:
    """More GPUs than the policy allows, for one engine or for all of its copies."""
    limits, subject = outcome.subject.terms.limits, outcome.subject
    used = subject.gpus_per_engine or (outcome.estimate.layout.num_gpus if outcome.estimate is not None else None)
    if used is not None and limits.max_gpus_per_engine is not None and used > limits.max_gpus_per_engine:
        told = f"one engine takes {used} GPUs, and the policy allows {limits.max_gpus_per_engine}"
        yield Hit(told, subject.spot("gpus", "tp"))
    total = total_gpus(outcome)
    if total is not None and limits.max_total_gpus is not None and total > limits.max_total_gpus:
        copies = replicas_of(subject)
        told = f"{copies} copies take {total} GPUs, and the policy allows {limits.max_total_gpus}"
        yield Hit(told, subject.spot("replicas", "gpus"))


def cost(outcome: Outcome) -> Iterator[Hit]:
    """All copies together cost more per hour than the policy allows (`max_usd_per_hour`).

    The price is the policy's (`prices`), else the highest that the hardware profile tells, with its date and source.
    """
    allowed = outcome.subject.terms.limits.max_usd_per_hour
    price = usd_per_hour(outcome)
    if allowed is not None and price is not None and price.usd_per_hour > allowed:
        told = f"{price.usd_per_hour:,.2f} USD per hour ({price.source}), and the policy allows {allowed:,.2f}"
        yield Hit(told, outcome.subject.spot("replicas", "gpus"))


def allowed_gpu(outcome: Outcome) -> Iterator[Hit]:
    """A GPU that the policy does not allow (`allow: gpus`)."""
    cards = outcome.cards
    if cards is not None:
        names = (cards.profile, cards.name, *cards.aliases)
        yield from _not_allowed(outcome, outcome.subject.terms.allowed.gpus, names, "GPU", "gpu", "gpus")


def allowed_engine(outcome: Outcome) -> Iterator[Hit]:
    """An engine that the policy does not allow (`allow: engines`)."""
    engine = outcome.subject.engine
    if engine is not None:
        yield from _not_allowed(outcome, outcome.subject.terms.allowed.engines, (engine.text,), "engine", "image")


def allowed_model(outcome: Outcome) -> Iterator[Hit]:
    """A model that the policy does not allow (`allow: models`)."""
    model = outcome.subject.model
    if model is not None:
        yield from _not_allowed(outcome, outcome.subject.terms.allowed.models, (model.text,), "model", "model")


def allowed_format(outcome: Outcome) -> Iterator[Hit]:
    """A format of weights or cache that the policy does not allow (`allow: formats`, `allow: kv_dtypes`)."""
    found, allowed = outcome.estimate, outcome.subject.terms.allowed
    if found is None:
        return
    main = max(found.weights.by_format, key=lambda name: found.weights.by_format[name], default=None)
    if main is not None:
        yield from _not_allowed(outcome, allowed.formats, (main,), "format of weights", "quantization", "model")
    yield from _not_allowed(outcome, allowed.kv_dtypes, (found.kv_cache.dtype,), "cache dtype", "kv_dtype", "model")


def _not_allowed(
    outcome: Outcome, allowed: Sequence[str] | None, names: Sequence[str], what: str, *places: str
) -> Iterator[Hit]:
    """A finding where no pattern meets any of the names that a thing has."""
    if allowed is None:
        return
    lowered = [name.lower() for name in names]
    if not any(fnmatchcase(name, pattern.lower()) for name in lowered for pattern in allowed):
        told = f"the {what} {names[0]} is not allowed; the policy allows {', '.join(allowed) or 'none'}"
        yield Hit(told, outcome.subject.spot(*places))


RULES = (
    Rule("LIM001", "headroom", "error", headroom),
    Rule("LIM002", "tokens of cache", "error", tokens),
    Rule("LIM003", "concurrency", "error", concurrency),
    Rule("LIM004", "length", "error", context),
    Rule("LIM005", "weights per GPU", "error", weights),
    Rule("LIM006", "number of GPUs", "error", number_of_gpus),
    Rule("LIM007", "cost per hour", "error", cost),
    Rule("LIM008", "GPU not allowed", "error", allowed_gpu),
    Rule("LIM009", "engine not allowed", "error", allowed_engine),
    Rule("LIM010", "model not allowed", "error", allowed_model),
    Rule("LIM011", "format not allowed", "error", allowed_format),
)
