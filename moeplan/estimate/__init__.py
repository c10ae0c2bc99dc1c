"""`moeplan estimate`: what one model needs, on which hardware, under which engine.

The verb that all others ask. `stated` joins moeplan's options with the engine's command line, `question` reads what is
asked, `ledger` folds the one inventory into the memory of every rank, `judge` holds that against the hardware,
`ways_out` tries changes, `result` holds the types. Where a load is stated, `workload` reads it and `speed` tells how fast.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.deployment import Serving
from moeplan.core.errors import InputError
from moeplan.core.hardware import usable
from moeplan.core.kv_cache import cache_cost, stored_rows
from moeplan.core.layout import AskedLayout
from moeplan.core.model import ModelSpec, MoeFfn, Remark
from moeplan.core.quant import Holding, fold_bytes, holdings
from moeplan.core.units import gib, params
from moeplan.core.weights import Parameters, count_parameters, inventory, parameters
from moeplan.engines import ALSO_CALLED, ENGINES, load
from moeplan.estimate.judge import Answer, judge, over_context
from moeplan.estimate.learned import learned_notes
from moeplan.estimate.question import (
    Question,
    base_basis,
    drafts_by,
    make_question,
    read_formats,
    read_kv_dtype,
    read_limits,
)
from moeplan.estimate.result import (
    MEMORY_REASONS,
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
from moeplan.estimate.stated import Stated, engine_of, read_stated
from moeplan.sources.engine_constants import read_constants
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import QUANTISER_UNKNOWN, Asked, LoadedModel
from moeplan.sources.models import find_model

__all__ = ["Estimate", "estimate"]

ONLINE_FORMATS = {
    "fp8": "fp8-tensor",
    "fp8_per_tensor": "fp8-tensor",
    "fp8_per_channel": "fp8-channel",
    "mxfp8": "mxfp8",
}
"""What engines make of a plain checkpoint while they load it, by their `--quantization`, and our name for it."""
UNCERTAIN = (QUANTISER_UNKNOWN, "not-verified", "family-unknown", "provenance-class-default", "provenance-rebuilt")
"""Notes on the model after which a verdict is not certain."""


def estimate(
    model: str | Path | None = None,
    *,
    gpu: str | None = None,
    engine: str | None = None,
    engine_version: str | None = None,
    engine_args: str | Sequence[str] = (),
    engine_files: bool = True,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    ep: int | None = None,
    dp_attention: bool | None = None,
    dcp: int | None = None,
    redundant_experts: int | None = None,
    pp_layers: Sequence[int] | None = None,
    nodes: int | None = None,
    utilization: float | None = None,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    encoder_tokens: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    arrival: float | str | None = None,
    workload: str | Path | None = None,
    routing: str | Path | None = None,
    skew: float | None = None,
    draft_tokens: int | None = None,
    acceptance: float | str | None = None,
    accept_length: float | None = None,
    speed: bool = False,
    dtype: str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
    strict: bool = False,
    curves: bool = True,
    progress: Callable[[int, int], None] | None = None,
    find: Callable[[str, Asked], LoadedModel] = find_model,
) -> Estimate:
    """Estimate what `model` needs: parameters, weights, cache, memory of every GPU, and whether it fits `gpu`.

    `model` may be left out where `engine_args` names it. `context` and `concurrency` are numbers or texts such as `32k`.
    `input` and `output` are typical lengths, `ttft` and `tpot` limits (`2s`, `30ms`), `arrival` a rate (`12/s`), `workload` a
    file that says all of this; with any of them, or with `speed`, the answer has a `speed`. `routing` is a file of counted
    routing, `skew` the exponent of a Zipf law of the gates' weights: how experts are used. `draft_tokens` are drafted a step,
    by the model's own draft layers where it has some; `acceptance` is the probability that one is taken where all before it
    were, `accept_length` says it as the mean length that engines log (`moeplan.core.speculation`).
    `engine_args` is the engine's own command line, as a text or in words; what it says and a keyword says too must agree.
    `engine_files` False leaves files that it names (`--config`) unread, as for a command that is to run elsewhere.
    `headers` reads the checkpoint's headers from the Hub also for a model that the catalogue knows; `file` names one of
    several models in a repository or folder; `curves` False leaves out what only pages draw (`capacity.over_context`,
    `curves`), for who asks many questions; `progress` is told how many headers of how many are read; `find` reads the
    model, where it is not to be read afresh. Raises the errors of `moeplan.core.errors`.
    """
    words = shlex.split(engine_args) if isinstance(engine_args, str) else list(engine_args)
    asked_engine = engine_of(words) if engine is None else ALSO_CALLED.get(engine.lower(), engine)
    engine = next(iter(ENGINES)) if asked_engine is None else asked_engine
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}", hint=f"known engines: {', '.join(ENGINES)}")
    _check_texts(model=model or "", gpu=gpu, dtype=dtype, quant=quant, kv_dtype=kv_dtype, revision=revision, file=file)
    constants, told = read_constants(engine, engine_version)
    named = {
        "tp": tp, "pp": pp, "dp": dp, "ep": ep, "dp_attention": dp_attention, "dcp": dcp,
        "redundant_experts": redundant_experts, "pp_layers": None if pp_layers is None else tuple(pp_layers),
        "num_nodes": nodes, "utilization_fraction": utilization, "context_tokens": context, "concurrency": concurrency,
        "dtype": dtype, "kv_dtype": kv_dtype, "revision": revision,
    }  # fmt: skip
    stated = read_stated(engine, named, words, engine_files=engine_files)
    model = _model(model, stated)
    values: Mapping[str, Any] = stated.values
    share = values.get("utilization_fraction")
    if share is not None and not (isinstance(share, int | float) and 0 < share <= 1):
        raise InputError(f"utilization {share} must be above 0 and at most 1", hint="for instance --utilization 0.9")
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    loaded = find(str(model), Asked(values.get("revision"), offline, headers, file, folders, progress))
    notes = [*loaded.remarks, *told, *stated.notes, *_other_model(stated, str(model), loaded)]
    if asked_engine is None and gpu is not None:
        others = ", ".join(name for name in ENGINES if name != engine)
        notes.append(
            Remark("engine-default", "info", f"engine {engine}: moeplan's default; --engine takes {others} too")
        )
    hardware, num_devices = None, None
    if gpu is not None:
        hardware, num_devices = find_hardware(gpu, folders)
        notes += [Remark("gpu-reading", "info", text) for text in hardware.reading]
    quant = _online_format(stated.quantization, loaded, notes) if quant is None else quant
    spec, resident, checkpoint = read_formats(loaded, engine, hardware, values.get("dtype"), quant, notes)
    asks: dict[str, Any] = {
        "input": input,
        "output": output,
        "ttft": ttft,
        "tpot": tpot,
        "arrival": arrival,
        "file": workload,
    }
    load_asked = None
    asked_limits = (values.get("context_tokens"), values.get("concurrency"))
    drafting = {"draft_tokens": draft_tokens, "acceptance": acceptance, "accept_length": accept_length}
    if speed or any(value is not None for value in (routing, skew, *drafting.values(), *asks.values())):
        from moeplan.estimate.workload import make_workload

        load_asked = make_workload(
            spec, notes, context=asked_limits[0], concurrency=asked_limits[1], **asks,
            strict=strict, commanded=engine if words else None, flags=stated.flags,
        )  # fmt: skip
        asked_limits = (load_asked.context_tokens, load_asked.concurrency)
    limits, origins = read_limits(
        spec, *asked_limits, encoder_tokens, notes, strict=strict, commanded=engine if words else None
    )
    if load_asked is not None:
        origins |= {name: origin for name, origin in load_asked.origins.items() if name in origins}
    settings, drafts = stated.settings, None
    speculates = any(map(drafts_by, settings)) or any(value is not None for value in drafting.values())
    if load_asked is not None and speculates:
        from moeplan.estimate.drafts import read_speculation

        drafts, settings = read_speculation(engine, spec, settings, notes, **drafting)  # type: ignore[arg-type]
    matched = None
    if loaded.checkpoint is not None:
        from moeplan.estimate.headers import match_headers

        is_gguf = loaded.source_kind == "gguf"
        matched, told = match_headers(loaded.checkpoint, loaded.spec, checkpoint, is_gguf=is_gguf)
        notes += told
    asked = read_kv_dtype(values.get("kv_dtype"))
    deployment = limits._replace(
        engine=engine,
        kv_dtype=asked,
        utilization_fraction=share,
        stated=settings,
        flags=stated.flags,
    )
    memory = usable(hardware) if hardware else None
    if num_devices is None and hardware is not None and stated.layout == AskedLayout():
        num_devices = 1
    question = make_question(
        Serving(spec, inventory(spec), resident, deployment, hardware, memory, constants),
        load(engine),
        stated.layout,
        num_devices,
        "default" if engine_version is None else "stated",
        tuple(note for note in loaded.remarks if note.severity == "warning" and note.code in UNCERTAIN),
        matched,
        use_headers=quant is None,
    )
    question = question._replace(doubts=question.doubts + tuple(_unheeded(question)))
    notes += question.doubts
    notes += learned_notes(
        hardware, engine, question.serving.constants.version, question.deployment.layout.tp, loaded.id
    )
    origins |= {
        "quant": "stated" if quant else "inferred",
        "kv_dtype": "stated" if asked else "inferred",
        "dtype": "stated" if values.get("dtype") or spec.dtype_stated else "default",
        "engine": "default" if asked_engine is None else "stated",
    }
    times = use = None
    if load_asked is not None:
        from moeplan.estimate.speed import timed
        from moeplan.sources.expert_uses import read_use

        use = read_use(loaded.spec, routing, skew, notes, model=loaded.id, folders=folders)
        question, times = timed(question, load_asked, notes, use, drafts)
        if load_asked.concurrency is None:
            origins["concurrency"] = "inferred"
    answer = judge(question)
    if "context_tokens" in stated.left_open and context is None:
        question, answer = _longest(question, answer, notes)
    verdict = answer.verdict
    if verdict.fits is False and gpu is not None:
        from moeplan.estimate.ways_out import ways_out

        verdict = verdict._replace(ways_out=ways_out(question, gpu, answer.capacity))
    how_fast = drawn = None
    if load_asked is not None and times is not None:
        from moeplan.estimate.speed import speed_of

        how_fast = speed_of(question, times, load_asked, answer, notes)
    if curves and load_asked is not None and use is not None:
        from moeplan.estimate.curves import curves_of

        drawn = curves_of(question, None if how_fast is None else times, load_asked, use, answer.capacity)
    counted = matched if not any(note.code == QUANTISER_UNKNOWN for note in notes) else None
    owned = question.serving.owned
    counts = parameters(spec, owned) if counted is None else count_parameters(spec, counted.counted, "exact")
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
        weights=_weights(question, holdings(owned, checkpoint) if matched is None else matched.holdings),
        kv_cache=_kv_cache(question),
        layout=answer.layout,
        ranks=answer.ranks,
        capacity=answer.capacity._replace(over_context=over_context(question, answer.capacity) if curves else ()),
        verdict=verdict,
        speed=how_fast,
        curves=drawn,
        notes=tuple(dict.fromkeys(notes)),
    )


def _model(given: str | Path | None, stated: Stated) -> str | Path:
    """The model as given, else as the engine's command line names it."""
    if given is not None:
        return given
    if stated.model is None:
        raise InputError("no model was named", hint="name it: moeplan estimate MODEL --gpu h100")
    return stated.model


def _other_model(stated: Stated, given: str, loaded: LoadedModel) -> list[Remark]:
    """A note where the command line names another model than the one that is estimated."""
    if stated.model is None:
        return []
    names = {name.rstrip("/").rpartition("/")[2].lower() for name in (given, loaded.id, stated.model)}
    if len(names) == 1 or stated.model.lower() == loaded.id.lower():
        return []
    told = f"the engine's command line names {stated.model}; the estimate is of {loaded.id}"
    return [Remark("model-differs", "warning", told)]


def _unheeded(question: Question) -> list[Remark]:
    """Flags that were read and that matter to memory, but that this engine's arithmetic does not look at."""
    heeded = {option.flag for option in question.engine.settle(question.serving).options}
    left = [flag for flag in question.deployment.stated if flag not in heeded]
    told = "moeplan reads this flag, but what it does to memory is not modelled"
    return [Remark("flag-not-modelled", "warning", f"{flag}: {told}") for flag in left]


def _longest(question: Question, answer: Answer, notes: list[Remark]) -> tuple[Question, Answer]:
    """The same with the longest context that fits, where the length is left to the engine and the model's does not fit.

    Source: vLLM 0.33.0 v1/core/kv_cache_planning.py (_auto_fit_max_model_len).
    """
    longest = answer.capacity.max_context_tokens
    if any(reason.code not in MEMORY_REASONS for reason in answer.verdict.reasons):
        return question, answer
    if not longest or longest >= question.deployment.context_tokens:
        return question, answer
    told = f"the length is left to the engine: {longest:,} tokens are the longest that fit"
    notes.append(Remark("context-fitted", "info", told))
    question = question.at(question.deployment.with_context(longest))
    return question, judge(question)


def _check_texts(**given: object) -> None:
    for name, value in given.items():
        if isinstance(value, str) or (value is None and name != "model") or isinstance(value, Path):
            continue
        wrong = f"{name} is a {type(value).__name__}, not a text"
        raise InputError(wrong, hint='for instance estimate("mixtral-8x7b", gpu="h100")')


def _online_format(asked: str | None, loaded: LoadedModel, notes: list[Remark]) -> str | None:
    """The format that the engine's `--quantization` makes of a plain checkpoint; for others it names what is stored."""
    if asked is None:
        return None
    if loaded.quantisation is None and asked in ONLINE_FORMATS:
        notes.append(
            Remark("quantization-online", "info", f"--quantization {asked}: weights are quantised while loading")
        )
        return ONLINE_FORMATS[asked]
    if loaded.quantisation is None:
        told = f"--quantization {asked}: the checkpoint states no such format, so its weights are taken as they are"
        notes.append(Remark("quantization-unknown", "warning", f"{told}; --quant says what if they were another"))
        return None
    told = f"--quantization {asked} is taken as the name of what the checkpoint stores; --quant says what if it were another"
    notes.append(Remark("quantization-named", "info", told))
    return None


def _hardware_used(question: Question) -> HardwareUsed | None:
    hardware, memory = question.serving.hardware, question.serving.memory
    if hardware is None:
        return None
    return HardwareUsed(
        name=hardware.name,
        profile=hardware.profile,
        num_devices=question.num_devices or question.deployment.layout.num_gpus,
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
    # Draft layers that are loaded are resident like any other.
    loaded = (each._replace(part="text") if each.part == "mtp" else each for each in question.held)
    held, all_stored = fold_bytes(loaded), fold_bytes(stored)
    left_out: dict[str, int] = {}
    for each in stored:
        if each.part == "mtp" and question.drafts:
            continue
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
    ways = question.engine.window_accountings(question.serving, rules)
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
    hardware = question.serving.hardware
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
    layout, devices = question.deployment.layout, question.num_devices
    if devices is not None and layout.num_gpus < devices:
        told = f"the layout uses {layout.num_gpus} of {devices} GPUs: {devices - layout.num_gpus} stay idle"
        notes.append(Remark("gpus-idle", "warning", told))
    if question.asked_layout.tp is None and layout.tp > 1:
        told = f"{layout.tp} GPUs are taken as one tensor-parallel group"
        notes.append(Remark("tensor-parallel", "info", f"{told}; --tp, --pp, --dp and --ep say another layout"))
    memory = question.serving.memory
    if hardware is not None and memory is not None and not memory.certain:
        notes.append(
            Remark(
                "memory-uncertain",
                "warning",
                f"usable memory of {hardware.name} is not certain: {memory.why.formula}",
            )
        )
    return notes
