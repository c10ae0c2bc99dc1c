"""One model of a comparison: what it holds and reads, on how many GPUs it runs, and what that takes."""

from collections.abc import Sequence

from moeplan.compare.placing import Placed, needed, operations
from moeplan.compare.reading import Reading
from moeplan.compare.result import ActiveByCard, Cache, Compared, ParameterCounts, Reads
from moeplan.compare.running import cost, speed
from moeplan.core.hardware import Hardware
from moeplan.core.step_bytes import StepReads
from moeplan.core.weights import Parameters


def column(
    label: str,
    quant: str | None,
    reading: Reading,
    placed: Placed,
    batches: Sequence[int],
    hardware: Hardware | None,
    budget_gpus: int | None,
) -> Compared:
    """The model under the workload; `hardware` None leaves out what only a card tells."""
    found, spec = placed.estimate, reading.spec
    formats = found.weights.by_format
    fast, why_not_fast = speed(placed, hardware)
    dear, why_not_dear = cost(placed, hardware, fast)
    return Compared(
        label=label,
        id=found.model.id,
        revision=found.model.revision,
        source=found.model.source,
        source_kind=found.model.source_kind,
        family=spec.family,
        kind="dense" if found.model.num_experts is None and not reading.reads.experts else "moe",
        num_experts=found.model.num_experts,
        experts_per_token=found.model.experts_per_token,
        quant=quant,
        format=max(formats, key=lambda name: formats[name]),
        parameters=_parameters(found.parameters),
        resident_bytes=found.weights.resident_bytes,
        reads=tuple(_reads(reading.reads, batch) for batch in batches),
        kv_cache=Cache(found.kv_cache.dtype, found.kv_cache.bytes_per_token, found.kv_cache.bytes_at_context),
        vocabulary=spec.vocab_size,
        license=reading.license,
        max_context_tokens=spec.max_context_tokens,
        gpus=None if hardware is None else needed(placed),
        speed=fast,
        speed_unknown=why_not_fast,
        cost=dear,
        cost_unknown=why_not_dear,
        operations=None if budget_gpus is None else operations(placed, budget_gpus),
        notes=found.notes,
    )


def _parameters(counts: Parameters) -> ParameterCounts:
    convention = counts.card_convention
    by_card = None if convention is None else ActiveByCard(getattr(counts, convention), convention)
    return ParameterCounts(counts.total, counts.active, by_card)


def _reads(reads: StepReads, batch: int) -> Reads:
    found = reads.at(batch)
    dense, experts, cache = (round(part / batch) for part in (found.dense_bytes, found.expert_bytes, found.cache_bytes))
    return Reads(batch, dense, experts, cache, dense + experts + cache)
