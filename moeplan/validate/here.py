"""A model run on this machine with random weights, beside its estimate: what `moeplan validate MODEL` does without a log."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.estimate.measured_run import BARS, ENGINE, estimate_of_run
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model
from moeplan.validate.machine import MachineRun, compare_machine, run_model
from moeplan.validate.result import SCHEMA, LogFacts, Validation

DECODE_TOKENS = 8
DEFAULT_CONTEXT_TOKENS = 1024


def validate_here(
    model: str | Path,
    *,
    gpu: str | None,
    device: str | None,
    context_tokens: int | None,
    concurrency: int,
    num_layers: int | None,
    seed: int,
    tolerance: float | None,
    offline: bool,
    folders: Sequence[Path],
) -> Validation:
    """Build the model of a config with random weights, run prompts and some decoding, and compare bytes line by line.

    Layers are left out until the rest fits, in both. `tolerance` None takes the bar of each figure
    (`estimate.measured_run.BARS`). Raises UnknownError where torch, transformers or the device is missing, or where the
    model or the layers that were asked for have no room; InputError for more layers or tokens than the model has.
    """
    loaded = find_model(str(model), Asked(None, offline, False, None, tuple(folders)))
    config = _config(loaded.config, loaded.id)
    most = loaded.spec.max_context_tokens
    context = context_tokens or min(DEFAULT_CONTEXT_TOKENS, most or DEFAULT_CONTEXT_TOKENS)
    if context <= DECODE_TOKENS or concurrency < 1:
        raise InputError(
            f"{concurrency} sequences of {context} tokens cannot be run",
            hint=f"at least one sequence, of more than {DECODE_TOKENS} tokens",
        )
    if gpu is not None:
        find_hardware(gpu, folders)  # a name that is none is told before anything runs
    ran = run_model(
        loaded.id,
        config,
        batch=concurrency,
        context_tokens=context,
        decode_tokens=DECODE_TOKENS,
        num_layers=num_layers,
        device=device,
        seed=seed,
    )
    card, notes = _card(gpu, ran, folders)
    found = estimate_of_run(ran.config, context_tokens=context, concurrency=concurrency, gpu=card, profiles=folders)
    # What it would say beyond its maximum means nothing; bytes are bytes.
    notes += tuple(note for note in found.notes if note.code == "context-beyond-maximum")
    comparisons = compare_machine(ran.points, found, tolerance)
    judged = [each for each in comparisons if each.judged]
    return Validation(
        schema=SCHEMA,
        log=LogFacts(f"run on {ran.device.name}", ENGINE, version(ENGINE), loaded.id, True, True),
        model=loaded.id,
        hardware=found.hardware.name if found.hardware else None,
        command="",
        tolerance=tolerance or max((each.tolerance or 0 for each in judged), default=max(BARS.values())),
        comparisons=comparisons,
        passed=all(each.within for each in judged) if judged and not _is_broken(ran) else None,
        worst_error=max((abs(each.error or 0) for each in judged), default=None),
        learned=None,
        notes=tuple(dict.fromkeys((*ran.notes, *notes))),
        engine_version=found.layout.engine_version,
    )


def _is_broken(ran: MachineRun) -> bool:
    """Whether the run ended before its last step: what was not seen cannot agree."""
    return any(point.section == "models" and point.problem is not None for point in ran.points)


def _config(config: Any, name: str) -> dict[str, Any]:
    if config is None:
        raise UnknownError(
            f"{name} has no config that transformers could build", hint="name a model with a config.json"
        )
    return dict(config)


def _card(gpu: str | None, ran: MachineRun, folders: Sequence[Path]) -> tuple[str | None, tuple[Remark, ...]]:
    """The card to estimate for: as named, else as the driver names it; None where no profile describes it."""
    if gpu is not None:
        return gpu, ()
    try:
        hardware, _ = find_hardware(ran.device.name, folders)
    except InputError:
        told = f"no profile describes {ran.device.name}: weights and cache are compared, and not what lies beside them"
        return None, (Remark("no-profile", "info", f"{told}; `moeplan profile` makes one"),)
    return hardware.profile, ()
