"""A model run on this machine beside the estimate of the same model: weights, cache, peak, and what the device says.

What is compared with what is in `estimate/measured_run`; here the model is run, and its figures are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from moeplan.core.errors import UnknownError
from moeplan.core.measurement import MeasuredDevice, Point, Task
from moeplan.core.model import Remark
from moeplan.estimate import Estimate
from moeplan.estimate.measured_run import RunLine, lines_of_run
from moeplan.validate.result import Comparison

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
    with_context: bool = True,
) -> MachineRun:
    """Build the model of `config` on a device with random weights, run prompts and some decoding, and read memory.

    `context_tokens` are those of each of `batch` sequences at the end, the decoded ones included. Layers are left out
    until the rest fits. Raises UnknownError where torch or the device is missing or nothing of the model could be run,
    and InputError for a device of another name.
    """
    if find_spec("torch") is None:
        raise UnknownError("torch is not installed, so nothing can be run here", hint=CAPTURE)
    from moeplan.measure import memory, models
    from moeplan.measure.model_build import built_config
    from moeplan.measure.session import open_session

    session = open_session(device, seed)
    steps = min(decode_tokens, context_tokens - 1)
    points = []
    if session.device.kind in ("cuda", "rocm"):  # on the CPU it would be the size of a process
        points.append(memory.measure(Task("memory", "torch", "any", {"what": "context"}), session))
    task = models.model_task(name, config, batch, context_tokens - steps, steps, num_layers, dtype=dtype)
    point = models.measure(task, session)
    if "parameter_bytes" not in point.values:
        missing = "moeplan[capture]" in (point.problem or "")
        way = CAPTURE if missing else "a smaller model or --context, or another --device"
        raise UnknownError(f"{name} could not be run here: {point.problem}", hint=way)
    layers, whole = int(point.values["layers"]), int(point.values["layers_of_model"])
    notes = [Remark("machine", "info", told) for told in session.remarks]
    if layers < whole:
        asked = "as asked" if layers == num_layers else "that is what fits with the prompts"
        told = f"{layers} of {whole} layers ran: {asked}; the estimate is of as many"
        notes.append(Remark("layers-left-out", "info", told))
    points.append(point)
    notes += [
        Remark("not-measured", "warning", f"{each.case.get('model', 'context of the device')}: {each.problem}")
        for each in points
        if each.problem is not None
    ]
    built = built_config(config, layers) | {"dtype": dtype}
    return MachineRun(session.device, built, tuple(points), tuple(notes))


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
        error=line.error,
        judged=bar is not None,
        within=None if bar is None or line.error is None else abs(line.error) <= bar,
        line_number=0,
        why_not=line.why_not,
    )
