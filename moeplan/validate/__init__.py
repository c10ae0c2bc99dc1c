"""`moeplan validate`: the estimate beside what an engine said at start, line by line, with signed error.

`result` holds the types, `compare` pairs figures, `learn` stores what is left over for later estimates.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from moeplan.core.deployment import Value
from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.estimate import Estimate, estimate
from moeplan.sources.engine_logs import read_log, read_log_lines
from moeplan.validate.compare import compare
from moeplan.validate.learn import learn as store
from moeplan.validate.result import SCHEMA, Comparison, LogFacts, Validation

__all__ = ["Comparison", "Validation", "validate"]

DEFAULT_TOLERANCE = 0.05


def validate(
    model: str | Path | None = None,
    *,
    log: str | Path | Iterable[str],
    gpu: str | None = None,
    engine: str | None = None,
    engine_version: str | None = None,
    engine_args: str | Sequence[str] = (),
    tolerance: float = DEFAULT_TOLERANCE,
    learn: str | None = None,
    quant: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
) -> Validation:
    """Hold the estimate of a deployment against the log of its engine's start.

    Model, engine, version, flags and card are taken from the log as far as it tells; what is given here comes first.
    `log` is a file, or lines of text. `tolerance` is the largest relative error that passes; `learn` names the hardware
    profile that keeps what the engine held beyond the estimate. Raises the errors of `moeplan.core.errors`: UnknownError
    where neither log nor caller says which model or card it was.
    """
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance {tolerance} must be between 0 and 1", hint="for instance --tolerance 5%")
    name = str(log) if isinstance(log, str | Path) else "standard input"
    told = read_log(log, engine) if isinstance(log, str | Path) else read_log_lines(log, name, engine)
    named = str(model) if model is not None else told.model
    if named is None:
        raise UnknownError(
            f"{name} does not tell which model it served", hint="name it: moeplan validate MODEL --log ..."
        )
    card = gpu or told.gpu_name
    if card is None:
        raise UnknownError(
            f"{name} does not tell which GPU it ran on", hint="name it with --gpu, for instance --gpu h100"
        )
    given = shlex.split(engine_args) if isinstance(engine_args, str) else list(engine_args)
    words = [*_flags(told.arguments, given), *given]

    def estimated(*more: str) -> Estimate:
        return estimate(
            named,
            gpu=card,
            engine=told.engine,
            engine_version=engine_version or told.version,
            engine_args=[*words, *more],
            quant=quant,
            revision=revision,
            offline=offline,
            headers=headers,
            file=file,
            profiles=profiles,
        )

    found = estimated()
    comparisons = compare(told, found, tolerance, lambda pool: _with_pool(told, pool, estimated))
    judged = [each for each in comparisons if each.judged]
    kept = None
    if learn is not None:
        folders = tuple(Path(each) for each in ([profiles] if isinstance(profiles, str | Path) else profiles))
        kept = store(learn, told, found, Path(name).name, folders)
    return Validation(
        schema=SCHEMA,
        log=LogFacts(Path(name).name, told.engine, told.version, told.model, told.started, told.complete),
        model=found.model.id,
        hardware=found.hardware.name if found.hardware else None,
        command=shlex.join(words),
        tolerance=tolerance,
        comparisons=comparisons,
        passed=all(each.within for each in judged) if judged else None,
        worst_error=max((abs(each.error or 0) for each in judged), default=None),
        learned=kept,
        notes=tuple(dict.fromkeys((*told.notes, *_notes(told, found)))),
    )


def _flags(arguments: Mapping[str, Value], given: Sequence[str]) -> list[str]:
    """The log's settings as words, less those that the caller states anew."""
    stated = {word.partition("=")[0].replace("_", "-") for word in given if word.startswith("-")}
    words: list[str] = []
    for flag, value in arguments.items():
        if flag in stated or value is None:
            continue
        if isinstance(value, bool):
            words += [flag] if value else [f"--no-{flag.removeprefix('--')}"]
        else:
            words += [flag, str(value)]
    return words


def _with_pool(told: EngineLog, pool_bytes: int, estimated: Callable[..., Estimate]) -> Estimate | None:
    """The same estimate with the pool that the log names: what the engine's rule makes of it, apart from the rest."""
    return estimated("--kv-cache-memory-bytes", str(pool_bytes)) if told.engine == "vllm" else None


def _notes(told: EngineLog, found: Estimate) -> tuple[Remark, ...]:
    """Warnings of the estimate, and a verdict that the log contradicts."""
    notes = [note for note in found.notes if note.severity == "warning"]
    if told.started and found.verdict.fits is False:
        reasons = "; ".join(reason.message for reason in found.verdict.reasons)
        notes.append(
            Remark("log-contradicts", "warning", f"the engine started, but the estimate says it would not: {reasons}")
        )
    if told.started is False and found.verdict.fits:
        notes.append(
            Remark("log-contradicts", "warning", "the engine did not start, but the estimate says it would fit")
        )
    return tuple(notes)
