"""`moeplan validate`: the estimate beside what an engine said at start, line by line, with signed error.

result          the types
named           model and card as the log names them
flags           the log's settings joined with the caller's
contradictions  where the caller says one thing and the log another
compare         figures paired; `pairs` says what each is held against, `buffers` is llama.cpp's
machine, here   a model run on this machine instead of a log
outcome         whether the engine came up as the estimate says
learn           what is left over, stored for later estimates
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError
from moeplan.engines import ALSO_CALLED
from moeplan.estimate import Estimate, estimate
from moeplan.estimate.learned import learned_notes
from moeplan.sources.engine_logs import read_log, read_log_lines
from moeplan.validate.compare import compare
from moeplan.validate.contradictions import contradictions
from moeplan.validate.flags import joined
from moeplan.validate.learn import Target
from moeplan.validate.learn import learn as store
from moeplan.validate.named import card_of, model_of
from moeplan.validate.outcome import no_figures, start_agrees, start_notes
from moeplan.validate.result import SCHEMA, Comparison, Learned, LogFacts, Validation

__all__ = ["Comparison", "Validation", "validate"]

DEFAULT_TOLERANCE = 0.05


def validate(
    model: str | Path | None = None,
    *,
    log: str | Path | Iterable[str] | None = None,
    gpu: str | None = None,
    engine: str | None = None,
    engine_version: str | None = None,
    engine_args: str | Sequence[str] = (),
    tolerance: float | None = None,
    learn: str | None = None,
    quant: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    device: str | None = None,
    context: int | None = None,
    concurrency: int = 1,
    layers: int | None = None,
    seed: int = 0,
    profiles: str | Path | Sequence[str | Path] = (),
) -> Validation:
    """Hold the estimate of a deployment against the log of its engine's start, or that of a model against a run of it here.

    Without `log` the model is built with random weights on `device`, run with transformers over `concurrency` sequences of
    `context` tokens, and its bytes are compared; `layers` are run where not all are wanted (`validate/here`).

    Model, engine, version, flags and card are taken from the log as far as it tells; what is given here comes first.
    `log` is a file, or lines of text. `tolerance` is the largest relative error that passes (5 % for a log); `learn` names the hardware
    profile of the user's own that keeps what the engine held beyond the estimate, unless that would teach what is not so
    (a note `not-learned` then says why). Raises the errors of `moeplan.core.errors`: UnknownError where neither log nor
    caller says which model or card it was, InputError for a profile that cannot be learned into.
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise InputError(f"tolerance {tolerance} must be between 0 and 1", hint="for instance --tolerance 5%")
    folders = tuple(Path(each) for each in ([profiles] if isinstance(profiles, str | Path) else profiles))
    if log is None:
        if model is None:
            raise InputError(
                "there is neither a log nor a model to validate", hint="moeplan validate --log FILE, or MODEL"
            )
        from moeplan.validate.here import validate_here

        return validate_here(
            model,
            gpu=gpu,
            device=device,
            context_tokens=context,
            concurrency=concurrency,
            num_layers=layers,
            seed=seed,
            tolerance=tolerance,
            offline=offline,
            folders=folders,
        )
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    path = str(log) if isinstance(log, str | Path) else "standard input"
    engine = None if engine is None else ALSO_CALLED.get(engine.lower(), engine)
    told = read_log(log, engine) if isinstance(log, str | Path) else read_log_lines(log, path, engine)
    name = Path(path).name
    flags = joined(told, shlex.split(engine_args) if isinstance(engine_args, str) else list(engine_args))
    stated = flags.model if model is None else str(model)
    named = model_of(told, path, folders) if stated is None else stated
    card = card_of(told, gpu, path, folders)
    target = Target(learn, card.hardware, folders) if learn is not None else None

    def estimated(*more: str) -> Estimate:
        return estimate(
            named,
            gpu=card.text,
            engine=told.engine,
            engine_version=engine_version or told.version,
            engine_args=[*flags.words, *more],
            quant=quant,
            revision=revision,
            offline=offline,
            headers=headers,
            file=file,
            profiles=profiles,
            curves=False,
        )

    found = estimated()
    comparisons = compare(told, found, tolerance, lambda pool: _with_pool(told, pool, estimated))
    doubts = flags.doubts + contradictions(
        told, found, folders, version=engine_version, count=card.num_named, model_given=stated is not None
    )
    notes = [*told.notes, *flags.notes, *doubts, *start_notes(told, found)]
    notes += [note for note in found.notes if note.severity == "warning"]
    used = found.layout
    notes += learned_notes(card.hardware, told.engine, used.engine_version, used.tp, found.model.id)
    learned = None
    if target is not None:
        kept = store(target, told, found, name, comparisons, doubts)
        learned = kept if isinstance(kept, Learned) else None
        notes += [] if isinstance(kept, Learned) else [kept]
    agrees = start_agrees(told, found)
    judged = [each for each in comparisons if each.judged]
    passed = _passed(told, judged, agrees)
    if passed is None:
        notes.append(no_figures(told))
    failed = told.failure.text if told.failure is not None else None
    return Validation(
        schema=SCHEMA,
        log=LogFacts(name, told.engine, told.version, told.model, told.started, told.complete, failed),
        model=found.model.id,
        hardware=found.hardware.name if found.hardware else None,
        command=shlex.join(flags.words),
        tolerance=tolerance,
        comparisons=comparisons,
        passed=passed,
        worst_error=max((abs(each.error or 0) for each in judged), default=None),
        learned=learned,
        notes=tuple(dict.fromkeys(notes)),
        engine_version=used.engine_version,
        version_stated=used.version_origin == "stated",
        given=flags.given,
        start_agrees=agrees,
    )


def _passed(told: EngineLog, judged: Sequence[Comparison], agrees: bool | None) -> bool | None:
    """A failed start that was foreseen is an answer too, where the log has no figure."""
    if agrees is False:
        return False
    if judged:
        return all(each.within for each in judged)
    return True if agrees and told.started is False else None


def _with_pool(told: EngineLog, pool_bytes: int, estimated: Callable[..., Estimate]) -> Estimate | None:
    """The same estimate with the pool that the log names: what the engine's rule makes of it, apart from the rest."""
    return estimated("--kv-cache-memory-bytes", str(pool_bytes)) if told.engine == "vllm" else None
