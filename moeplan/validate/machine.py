"""A model run on this machine beside the estimate of the same model: weights, cache, peak, and what the device says.

What is compared with what is in `estimate/measured_run`; here the model is run, and its figures are judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.measurement import MeasuredDevice, Point, Task
from moeplan.core.model import Remark
from moeplan.core.units import gib
from moeplan.estimate import Estimate
from moeplan.estimate.measured_run import RunLine, lines_of_run
from moeplan.validate.result import Comparison

if TYPE_CHECKING:
    from moeplan.measure.models import Fit
    from moeplan.measure.session import Session

CAPTURE = "pip install 'moeplan[capture]'"


class MachineRun(NamedTuple):
    """One model that ran here."""

    device: MeasuredDevice
    config: Mapping[str, Any]
    """As it was built, with its dtype: what the estimate of the same has to read."""
    points: tuple[Point, ...]
    """The context of a GPU, and the model."""
    notes: tuple[Remark, ...]


def run_model(
    name: str,
    config: Mapping[str, Any],
    *,
    batch: int,
    context_tokens: int,
    decode_tokens: int = 8,
    num_layers: int | None = None,
    dtype: str = "bfloat16",
    device: str | None = None,
    seed: int = 0,
) -> MachineRun:
    """Build the model of `config` on a device with random weights, run prompts and some decoding, and read memory.

    `context_tokens` are those of each of `batch` sequences at the end, the decoded ones included. Without `num_layers`
    layers are left out until the rest fits. Raises UnknownError where torch or the device is missing, where the layers that
    were asked for (or one, if none were) have no room with their prompts, or where nothing of the model could be run; and
    InputError for a device of another name, more layers than there are, and more tokens than a table of positions has.
    """
    if find_spec("torch") is None:
        raise UnknownError("torch is not installed, so nothing can be run here", hint=CAPTURE)
    from moeplan.measure import memory, models
    from moeplan.measure.model_build import built_config
    from moeplan.measure.session import open_session

    session = open_session(device, seed)
    steps = min(decode_tokens, context_tokens - 1)
    task = models.model_task(name, config, batch, context_tokens - steps, steps, num_layers, dtype=dtype)
    fit = _fit(task, session, num_layers)
    points = []
    if session.device.kind in ("cuda", "rocm"):  # on the CPU it would be the size of a process
        points.append(memory.context_once(session))
    point = models.measure(task, session)
    if "parameter_bytes" not in point.values:
        missing = "moeplan[capture]" in (point.problem or "")
        way = CAPTURE if missing else "a smaller model or --context, or another --device"
        raise UnknownError(f"{name} could not be run here: {point.problem}", hint=way)
    layers, whole = int(point.values["layers"]), int(point.values["layers_of_model"])
    notes = [Remark("machine", "info", told) for told in session.remarks]
    if layers < whole:
        told = f"{layers} of {whole} layers ran: {'as asked' if layers == num_layers else 'that is what fits'}"
        if fit is not None and fit.layers < fit.layers_asked:
            way = f"; --context {fit.tokens} leaves room for all" if fit.tokens is not None else ""
            told = f"{told}: {_shortage(fit, task, fit.layers_asked)}{way}"
        notes.append(Remark("layers-left-out", "info", f"{told}; the estimate is of as many"))
    points.append(point)
    notes += [
        Remark("not-measured", "warning", f"{each.case.get('model', 'context of the device')}: {each.problem}")
        for each in points
        if each.problem is not None
    ]
    built = built_config(config, layers) | {"dtype": dtype}
    return MachineRun(session.device, built, tuple(points), tuple(notes))


def _fit(task: Task, session: Session, num_layers: int | None) -> Fit | None:
    """What has room, asked before anything is built; None where shapes alone cannot tell, so that the run has to.

    Raises InputError for what the model does not have, and UnknownError for what does not fit.
    """
    from moeplan.measure import models
    from moeplan.measure.model_build import num_layers_of

    name, batch = task.case["model"], int(task.case["batch"] or 0)
    tokens = int(task.case["prompt_tokens"] or 0) + int(task.case["decode_tokens"] or 0)
    try:
        whole = num_layers_of(json.loads(str(task.case["config"])))
    except Exception:  # noqa: BLE001 - a config that cannot be built is told by the run, in the library's words
        return None
    if num_layers is not None and num_layers > whole:
        raise InputError(
            f"--layers {num_layers}: {name} has {whole} layers",
            hint=f"--layers 1 to {whole}, or leave it out to run as many as fit",
        )
    try:
        fit = models.fit(task, session)
    except Exception:  # noqa: BLE001 - as above
        return None
    if fit.most_tokens is not None and fit.most_tokens < tokens:
        raise InputError(
            f"--context {tokens:,}: {name} has a table of positions, which ends at {fit.most_tokens:,} tokens",
            hint=f"--context {fit.most_tokens} or less",
        )
    if fit.layers == fit.layers_asked or (fit.layers and num_layers is None):
        return fit
    ways = [f"--layers {fit.layers}"] if fit.layers else []
    ways += [f"--context {fit.tokens}"] if fit.tokens is not None else []
    if not ways and fit.fewer is not None:
        layers, shorter = fit.fewer
        ways = [f"--context {shorter}" if num_layers is None else f"--layers {layers} --context {shorter}"]
    if not ways:
        ways = ["fewer sequences"] if batch > 1 else ["a smaller model"]
    raise UnknownError(
        f"{name} cannot be run here: {_shortage(fit, task, 1 if num_layers is None else fit.layers_asked)}",
        hint=", or ".join([*ways, "another --device"]),
    )


def _shortage(fit: Fit, task: Task, num_layers: int) -> str:
    """`all its 16 layers with 4 x 1,024 tokens need 13.40 GiB, 1.20 GiB more than the 12.20 GiB that may be taken`."""
    tokens = int(task.case["prompt_tokens"] or 0) + int(task.case["decode_tokens"] or 0)
    prompts = f"with {task.case['batch']} x {tokens:,} tokens"
    if num_layers == 1 < fit.layers_of_model:
        needed, told = fit.least_bytes, f"even 1 of its {fit.layers_of_model} layers {prompts} needs"
    else:
        some = "all" if num_layers == fit.layers_of_model else f"{num_layers} of"
        needed, told = fit.needed_bytes, f"{some} its {fit.layers_of_model} layers {prompts} need"
    short = needed - fit.room_bytes
    return f"{told} {gib(needed, 2)}, {gib(short, 2)} more than the {gib(fit.room_bytes, 2)} that may be taken"


def compare_machine(points: Iterable[Point], found: Estimate, tolerance: float | None = None) -> tuple[Comparison, ...]:
    """Every figure of the points that an estimate has a line for, in the order of a run.

    `tolerance` is the largest relative error that passes; None takes the bar of each figure (`BARS`). A model that ran
    with other sequences, tokens or layers than were estimated is shown, and says so instead of being compared.
    """
    return tuple(_row(line, tolerance) for point in points for line in lines_of_run(point, found))


def _row(line: RunLine, tolerance: float | None) -> Comparison:
    bar = line.bar if line.bar is None or tolerance is None else tolerance
    return Comparison(
        quantity=line.quantity,
        label=line.label,
        unit="bytes",
        rank=None,
        device=None,
        observed=line.observed,
        predicted=line.predicted,
        predicted_low=None if line.band is None else line.band[0],
        predicted_high=None if line.band is None else line.band[1],
        error=line.error,
        judged=bar is not None,
        tolerance=bar,
        within=None if bar is None or line.error is None else abs(line.error) <= bar,
        line_number=0,
        why_not=line.why_not,
    )
