"""`moeplan compare`: the same workload on two or more models, dense, MoE or quantised, side by side.

`named` reads models and formats, `reading` folds each once, `placing` finds the fewest GPUs by asking `estimate`, `turning`
where the order of two turns, `told` says what does not compare, `result` holds the types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from moeplan.compare.column import column
from moeplan.compare.named import Named, labels, no_twins, read_names
from moeplan.compare.pairing import marks, pair
from moeplan.compare.placing import Degrees, Placed, place
from moeplan.compare.reading import Settings, read_model, remembering
from moeplan.compare.result import SCHEMA, Asked, Card, Comparison
from moeplan.compare.told import remarks
from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.workload import Workload
from moeplan.engines import ALSO_CALLED, ENGINES
from moeplan.estimate import Estimate, estimate
from moeplan.estimate.ways_out.change import device_name
from moeplan.estimate.workload import make_workload
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import Asked as AskedModel

__all__ = ["Comparison", "compare"]

BATCHES = (1, 8, 64, 256)
"""Sequences of the steps whose bytes are counted, beside the asked concurrency."""


def compare(
    models: Sequence[str | Path],
    *,
    gpu: str | None = None,
    engine: str | None = None,
    engine_version: str | None = None,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    arrival: float | str | None = None,
    workload: str | Path | None = None,
    encoder_tokens: int | str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    utilization: float | None = None,
    offline: bool = False,
    headers: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare what `models` need and read under one workload, and on one kind of `gpu` how fast and how dear they are.

    A model is named as `estimate` takes it, or as `MODEL:FORMAT` in another weight format; `quant` is the format of those
    that name none. `gpu` may state a number, which is then the most that each may have, and what all of them share out
    into replicas. Without it memory and bytes alone are compared. `context`, `concurrency`, `input` and `output` are numbers
    or texts such as `32k`, `ttft` and `tpot` limits (`2s`, `30ms`), `workload` is a file with classes of requests. Raises the
    errors of `moeplan.core.errors`.
    """
    named = read_names([models] if isinstance(models, str | Path) else models, quant)
    name = next(iter(ENGINES)) if engine is None else ALSO_CALLED.get(engine.lower(), engine)
    if name not in ENGINES:
        raise InputError(f"unknown engine {engine!r}", hint=f"known engines: {', '.join(ENGINES)}")
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    notes: list[Remark] = []
    hardware, num_devices = None, None
    if gpu is not None:
        hardware, num_devices = find_hardware(gpu, folders)
        notes += [Remark("gpu-reading", "info", text) for text in hardware.reading]
    if gpu is not None and engine is None:
        others = ", ".join(other for other in ENGINES if other != name)
        notes.append(Remark("engine-default", "info", f"engine {name}: moeplan's default; --engine takes {others} too"))
    find = remembering(progress)
    how_read = AskedModel(None, offline, headers, None, folders)
    loaded = [find(each.model, how_read) for each in named]
    asked = make_workload(
        _judge_of_lengths([each.spec for each in loaded], stated=context is not None or workload is not None),
        notes,
        context=context,
        concurrency=concurrency,
        input=input,
        output=output,
        ttft=ttft,
        tpot=tpot,
        arrival=arrival,
        file=workload,
    )
    # Each model says itself that a length is beyond it.
    notes = [note for note in notes if note.code != "context-beyond-maximum"]
    if gpu is None:  # no speed, so lengths change nothing
        notes = [note for note in notes if "--input" not in note.message and "--output" not in note.message]
    sequences = _at_once(asked, workload)
    settings = Settings(name, engine_version, hardware, kv_dtype, how_read, encoder_tokens)
    readings = [
        read_model(each, one.quant, asked.context_tokens, settings) for each, one in zip(loaded, named, strict=True)
    ]
    no_twins(named, [(each.loaded.id, each.loaded.revision, each.question.held) for each in readings])

    (first, *_) = asked.classes
    lengths = (input, output) if workload is not None else (first.input_tokens.p50, first.output_tokens.p50)
    load: dict[str, Any] = {
        "input": lengths[0],
        "output": lengths[1],
        "ttft": ttft,
        "tpot": tpot,
        "arrival": arrival,
        "workload": workload,
        "speed": True,
    }

    def ask(one: Named, count: int | None, degrees: Degrees, *, loaded: bool = False) -> Estimate:
        return estimate(
            one.model,
            gpu=None if count is None or gpu is None else f"{count}x{device_name(gpu, num_devices)}",
            engine=name,
            engine_version=engine_version,
            utilization=utilization,
            context=asked.context_tokens,
            concurrency=sequences,
            encoder_tokens=encoder_tokens,
            quant=one.quant,
            kv_dtype=kv_dtype,
            offline=offline,
            headers=headers,
            profiles=folders,
            curves=False,
            find=find,
            **degrees,  # type: ignore[arg-type]
            **(load if loaded else {}),
        )

    def placed(one: Named) -> Placed:
        if hardware is None:
            return Placed(ask(one, None, {}), {}, ())
        there = place(lambda count, degrees: ask(one, count, degrees), num_devices)
        if there.num_gpus is None:
            return there
        try:  # the same under the load, which tells how fast
            return there._replace(estimate=ask(one, there.tried[-1], there.degrees, loaded=True))
        except InputError as error:
            return there._replace(no_load=error.message)

    places = [placed(one) for one in named]
    counts = [each.num_gpus for each in places if each.num_gpus is not None]
    budget = max(counts, default=None) if num_devices is None else num_devices
    batches = tuple(sorted({*BATCHES, sequences}))
    names = labels([(one.quant, each.loaded.id) for one, each in zip(named, readings, strict=True)])
    models_found = tuple(
        column(label, one.quant, reading, there, batches, hardware, budget)
        for label, one, reading, there in zip(names, named, readings, places, strict=True)
    )
    pairs = tuple(
        pair(first, second, readings, models_found, sequences) for first, second in combinations(range(len(named)), 2)
    )
    notes += remarks(models_found, pairs)
    return Comparison(
        schema=SCHEMA,
        request=Asked(
            context_tokens=asked.context_tokens,
            concurrency=sequences,
            input_tokens=asked.mean_input_tokens,
            output_tokens=asked.mean_output_tokens,
            engine=name,
            engine_version=readings[0].question.serving.constants.version,
            kv_dtype=kv_dtype,
            batches=batches,
            origins={**asked.origins, "engine": "default" if engine is None else "stated"},
        ),
        hardware=Card(hardware.name, hardware.profile, num_devices, budget, hardware.price) if hardware else None,
        models=models_found,
        pairs=pairs,
        marks=tuple(marks(models_found, batches)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _judge_of_lengths(specs: Sequence[ModelSpec], *, stated: bool) -> ModelSpec:
    """The model that a length is held against: for a default the one with the shortest maximum, so that all can have it; for
    a stated one the one with the longest, since each of the others says itself that it is beyond its own."""
    pick = max if stated else min
    return pick(specs, key=lambda spec: spec.max_context_tokens or float("inf"))


def _at_once(asked: Workload, file: str | Path | None) -> int:
    if asked.concurrency is None:
        raise InputError(
            f"{file}: the workload states a rate and no concurrency, and sequences at once are compared",
            hint="say --concurrency",
        )
    return asked.concurrency
