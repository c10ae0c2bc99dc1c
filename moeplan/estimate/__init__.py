"""`moeplan estimate`: what one model needs, on which hardware, under which engine.

The verb that all others ask. `question` reads what is asked, `judge` folds the one inventory into a ledger and a
verdict, `ways_out` tries changes, `result` holds the types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.kv_cache import cache_cost, stored_rows
from moeplan.core.model import ModelSpec, MoeFfn, Remark
from moeplan.core.quant import Holding, fold_bytes, holdings
from moeplan.core.units import gib, params
from moeplan.core.weights import Parameters, count_parameters, parameters
from moeplan.engines import ENGINES
from moeplan.estimate.judge import judge
from moeplan.estimate.question import Question, base_basis, make_question, read_formats, read_kv_dtype, read_limits
from moeplan.estimate.result import (
    SCHEMA,
    Estimate,
    HardwareUsed,
    KvCache,
    LeftOut,
    ModelFacts,
    Request,
    WeightBytes,
    WindowCost,
)
from moeplan.estimate.ways_out import ways_out
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import QUANTISER_UNKNOWN, Asked, LoadedModel
from moeplan.sources.models import find_model

__all__ = ["Estimate", "estimate"]

UNCERTAIN = (QUANTISER_UNKNOWN, "not-verified", "family-unknown", "provenance-class-default", "provenance-rebuilt")
"""Notes on the model after which a verdict is not certain."""


def estimate(
    model: str | Path,
    *,
    gpu: str | None = None,
    engine: str | None = None,
    utilization: float | None = None,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    encoder_tokens: int | str | None = None,
    dtype: str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Estimate what `model` needs: parameters, weights, cache, memory per GPU, and whether it fits `gpu`.

    `context` and `concurrency` are numbers or texts such as `32k`. `headers` reads the checkpoint's headers from the
    Hub also for a model that the catalogue knows; `file` names one of several models in a repository or folder;
    `progress` is told how many headers of how many are read. Raises the errors of `moeplan.core.errors`.
    """
    asked_engine, engine = engine, next(iter(ENGINES)) if engine is None else engine
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}", hint=f"known engines: {', '.join(ENGINES)}")
    given: dict[str, object] = {
        "model": str(model) if isinstance(model, Path) else model,
        "gpu": gpu, "dtype": dtype, "quant": quant, "kv_dtype": kv_dtype, "revision": revision, "file": file,
    }  # fmt: skip
    for name, value in given.items():
        if not isinstance(value, str) and (value is not None or name == "model"):
            wrong = f"{name} is a {type(value).__name__}, not a text"
            raise InputError(wrong, hint='for instance estimate("mixtral-8x7b", gpu="h100")')
    share: object = utilization
    if share is not None and not (isinstance(share, int | float) and 0 < share <= 1):
        raise InputError(f"utilization {share} must be above 0 and at most 1", hint="for instance --utilization 0.9")
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    loaded = find_model(str(model), Asked(revision, offline, headers, file, folders, progress))
    notes = list(loaded.remarks)
    if asked_engine is None and gpu is not None:
        others = ", ".join(name for name in ENGINES if name != engine)
        notes.append(
            Remark("engine-default", "info", f"engine {engine}: moeplan's default; --engine takes {others} too")
        )
    hardware, num_devices = None, 1
    if gpu is not None:
        hardware, count = find_hardware(gpu, folders)
        num_devices = count or 1
        notes += [Remark("gpu-reading", "info", text) for text in hardware.reading]
    spec, resident, checkpoint = read_formats(loaded, engine, hardware, dtype, quant, notes)
    limits, origins = read_limits(spec, context, concurrency, encoder_tokens, notes, strict=strict)
    matched = None
    if loaded.checkpoint is not None:
        from moeplan.estimate.headers import match_headers

        is_gguf = loaded.source_kind == "gguf"
        matched, told = match_headers(loaded.checkpoint, loaded.spec, checkpoint, is_gguf=is_gguf)
        notes += told
    asked = read_kv_dtype(kv_dtype)
    question = make_question(
        spec,
        resident,
        engine,
        hardware,
        num_devices,
        limits._replace(kv_dtype=asked, utilization_fraction=utilization),
        tuple(note for note in loaded.remarks if note.severity == "warning" and note.code in UNCERTAIN),
        matched,
        use_headers=quant is None,
    )
    notes += question.doubts
    origins |= {
        "quant": "stated" if quant else "inferred",
        "kv_dtype": "stated" if asked else "inferred",
        "dtype": "stated" if dtype or spec.dtype_stated else "default",
        "engine": "default" if asked_engine is None else "stated",
    }
    answer = judge(question)
    verdict = answer.verdict
    if verdict.fits is False and gpu is not None:
        verdict = verdict._replace(ways_out=ways_out(question, gpu, answer.capacity))
    counted = matched if not any(note.code == QUANTISER_UNKNOWN for note in notes) else None
    counts = parameters(spec, question.owned) if counted is None else count_parameters(spec, counted.counted, "exact")
    notes += _doubts(question, counts)
    deployment = question.deployment
    return Estimate(
        schema=SCHEMA,
        request=Request(
            context_tokens=deployment.context_tokens,
            concurrency=deployment.concurrency,
            encoder_tokens=deployment.encoder_tokens or None,
            quant=quant,
            kv_dtype=asked,
            origins=origins,
        ),
        hardware=_hardware_used(question),
        model=_model_facts(loaded, spec),
        parameters=counts,
        weights=_weights(question, holdings(question.owned, checkpoint) if matched is None else matched.holdings),
        kv_cache=_kv_cache(question),
        layout=answer.layout,
        ranks=answer.ranks,
        capacity=answer.capacity,
        verdict=verdict,
        speed=None,
        notes=tuple(dict.fromkeys(notes)),
    )


def _hardware_used(question: Question) -> HardwareUsed | None:
    hardware, memory = question.hardware, question.memory
    if hardware is None:
        return None
    return HardwareUsed(
        name=hardware.name,
        profile=hardware.profile,
        num_devices=question.deployment.tp,
        usable_bytes=memory.bytes if memory else None,
        usable_low_bytes=memory.low_bytes if memory else None,
        usable_high_bytes=memory.high_bytes if memory else None,
        usable_basis=memory.basis if memory else None,
        host_bytes=hardware.host_bytes,
    )


def _model_facts(loaded: LoadedModel, spec: ModelSpec) -> ModelFacts:
    stacks = spec.layers + spec.encoder_layers
    sparse = [ffn for layer in stacks for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    first = sparse[0] if sparse else None
    return ModelFacts(
        id=loaded.id,
        revision=loaded.revision,
        source=loaded.source,
        source_kind=loaded.source_kind,
        model_type=spec.model_type,
        family=spec.family,
        num_layers=len(spec.layers),
        num_encoder_layers=len(spec.encoder_layers),
        num_moe_layers=sum(any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) for layer in stacks),
        num_experts=first.num_experts if first else None,
        num_zero_experts=first.num_zero_experts if first else 0,
        experts_per_token=first.experts_per_token if first else None,
        num_shared_experts=first.num_shared_experts if first else 0,
        max_context_tokens=spec.max_context_tokens,
    )


def _weights(question: Question, stored: tuple[Holding, ...]) -> WeightBytes:
    """Bytes that the checkpoint stores, and those that the engine keeps (in other formats where it was asked to)."""
    held, all_stored = fold_bytes(question.held), fold_bytes(stored)
    left_out: dict[str, int] = {}
    for each in stored:
        if each.part == "mtp":
            why = "MTP layers, resident only with speculation"
        elif each.part == "mtp_duplicate":
            why = "tables stored a second time (by MTP layers, or beside a tied one)"
        else:
            why = question.engine.leaves_out(each.weight.name) or ""
        if why:
            left_out[why] = left_out.get(why, 0) + each.num_bytes
    return WeightBytes(
        checkpoint_bytes=all_stored.checkpoint_bytes,
        resident_bytes=held.total_bytes,
        by_role=held.by_role,
        by_format=held.by_format,
        left_out=tuple(LeftOut(what, size) for what, size in left_out.items()),
        basis=base_basis(question, held.by_format),
    )


def _kv_cache(question: Question) -> KvCache:
    asked, rules = question.deployment, question.rules
    cost = cache_cost(question.rows, rules, asked.context_tokens, asked.encoder_tokens)
    alternatives: dict[str, WindowCost] = {}
    ways = question.engine.window_accountings(rules, question.constants)
    if any(row.window_tokens is not None for row in question.rows) or len(ways) == 1:
        for name, way in ways.items():
            other = cache_cost(question.rows, way, asked.context_tokens, asked.encoder_tokens)
            alternatives[name] = WindowCost(other.bytes_per_token, other.bytes_per_sequence)
    return KvCache(
        dtype=rules.kv_dtype,
        accounting=rules.accounting,
        alternatives=alternatives,
        bytes_per_token=cost.bytes_per_token,
        bytes_per_sequence=cost.bytes_per_sequence,
        bytes_at_context=cost.bytes_at_context,
        bytes_total=asked.concurrency * cost.bytes_at_context,
        layers=stored_rows(question.rows, rules, asked.encoder_tokens or None),
    )


def _doubts(question: Question, counts: Parameters) -> list[Remark]:
    """Remarks that belong to the question as a whole."""
    notes = []
    hardware = question.hardware
    if counts.active != counts.text_total:
        held = fold_bytes(question.held)
        routed, idle = counts.by_role["routed_experts"], counts.text_total - counts.active
        # What is not visited are routed experts, in whatever format these are; towers serve no text token.
        active_bytes = held.total_bytes - held.by_role["towers"] - held.by_role["routed_experts"] * idle // routed
        notes.append(
            Remark(
                "naive-active",
                "info",
                f"the {params(counts.active)} active parameters alone would be {gib(active_bytes)}; the next token may choose "
                f"other experts, so all {params(counts.total)} stay resident: {gib(held.total_bytes)}",
            )
        )
    if question.deployment.tp > 1 and question.deployment.engine != "transformers":
        notes.append(
            Remark(
                "tensor-parallel",
                "info",
                f"{question.deployment.tp} GPUs are taken as one tensor-parallel group; figures are per GPU",
            )
        )
    if hardware is not None and question.memory is not None and not question.memory.certain:
        notes.append(
            Remark(
                "memory-uncertain",
                "warning",
                f"usable memory of {hardware.name} is not certain: {question.memory.why.formula}",
            )
        )
    return notes
