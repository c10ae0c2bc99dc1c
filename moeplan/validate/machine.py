"""A model run on this machine beside the estimate of the same model: weights, cache, peak, and what the device says.

The estimate has to be of what ran: `--engine transformers`, the config that `MachineRun.config` holds (layers that did
not fit are left out there too), as many sequences, and as many tokens as prompt and decoding have together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from moeplan.core.errors import UnknownError
from moeplan.core.ledger import total_bytes
from moeplan.core.measurement import MeasuredDevice, Point, Task
from moeplan.core.model import Remark
from moeplan.estimate import Estimate
from moeplan.validate.result import Comparison

BARS: dict[str, float] = {"weights_bytes": 0.001, "loaded_bytes": 0.001, "kv_bytes": 0.001, "peak_bytes": 0.03}
"""Largest relative error of each figure that is judged, where the caller states no tolerance."""

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
    rows: list[Comparison] = []
    for point in points:
        if point.section == "models":
            rows += _of_model(point, found, tolerance)
        elif point.section == "memory" and point.case.get("what") == "context" and "first_kernel_bytes" in point.values:
            predicted = _lines(found, "device_context")
            rows.append(_row("context_bytes", "context of the device", point.values["context_bytes"], predicted, None))
    return tuple(rows)


def _of_model(point: Point, found: Estimate, tolerance: float | None) -> list[Comparison]:
    seen, other = point.values, _otherness(point, found)
    weights, cache, beside = _predicted(found)
    whole = None if beside is None else weights + cache + beside
    rows: list[tuple[str, str, float | None, float | None]] = [
        ("weights_bytes", "weights: parameters and buffers", _sum(seen, "parameter_bytes", "buffer_bytes"), weights),
        ("loaded_bytes", "weights as torch allocated them", _gain(seen, "load_allocated_bytes"), weights),
        ("kv_bytes", "cache of all sequences", seen.get("decode_cache_bytes"), cache),
        ("activations_bytes", "activations at the peak", _activations(seen), beside),
        ("peak_bytes", "peak: weights, cache, activations", _peak(seen), whole),
        ("reserved_bytes", "reserved by torch at the end", _gain(seen, "decode_reserved_bytes"), whole),
        ("device_bytes", "taken on the device at the end", _gain(seen, "decode_device_bytes"), whole),
    ]
    compared = []
    for quantity, label, observed, predicted in rows:
        if observed is None:
            continue
        bar = BARS.get(quantity) if tolerance is None or quantity not in BARS else tolerance
        if quantity == "peak_bytes" and "decode_peak_bytes" not in seen:
            bar = None  # counted tensors miss what kernels take, and other kernels run on the CPU
        row = _row(quantity, label, observed, None if other else predicted, bar)
        compared.append(row._replace(why_not=other) if other else row)
    return compared


def _otherness(point: Point, found: Estimate) -> str | None:
    """Why the estimate is not of what ran; None where it is."""
    case = point.case
    batch, tokens = int(case["batch"] or 0), int(case["prompt_tokens"] or 0) + int(case["decode_tokens"] or 0)
    asked, layers = found.request, int(point.values.get("layers", 0))
    if found.layout.engine != "transformers":
        return f"the estimate is for {found.layout.engine}, and transformers ran"
    if layers != found.model.num_layers:
        return f"the estimate is of {found.model.num_layers} layers, and {layers} ran"
    if (batch, tokens) != (asked.concurrency, asked.context_tokens):
        estimated = f"{asked.concurrency} x {asked.context_tokens:,} tokens"
        return f"the estimate is for {estimated}, and {batch} x {tokens:,} ran"
    return None


def _predicted(found: Estimate) -> tuple[float, float, float | None]:
    """Weights, cache, and what is beside them on the device; the last is None where no GPU was named."""
    rank = next((each for each in found.ranks if each.device == "gpu"), None)
    if rank is None:
        return found.weights.resident_bytes, found.kv_cache.bytes_total, None
    beside = total_bytes(rank.lines) - rank.weights_bytes - rank.kv_cache_bytes - (_lines(found, "device_context") or 0)
    return rank.weights_bytes, rank.kv_cache_bytes, beside


def _lines(found: Estimate, code: str) -> int | None:
    lines = [line for rank in found.ranks[:1] for line in rank.lines if line.code == code]
    return total_bytes(lines) if lines else None


def _sum(seen: Mapping[str, float], *names: str) -> float | None:
    return sum(seen[name] for name in names) if all(name in seen for name in names) else None


def _gain(seen: Mapping[str, float], name: str) -> float | None:
    """A level less what it was before the model was loaded; None where the device tells none."""
    if name not in seen:
        return None
    return seen[name] - seen["start" + name[name.index("_") :]]


def _peak(seen: Mapping[str, float]) -> float | None:
    """What torch had allocated at most in prefill and decoding; of tensors where there is no such figure."""
    if "decode_tensor_bytes" not in seen:
        return None
    if "decode_peak_bytes" in seen:
        return max(seen["prefill_peak_bytes"], seen["decode_peak_bytes"]) - seen["start_allocated_bytes"]
    return max(seen["prefill_peak_tensor_bytes"], seen["decode_peak_tensor_bytes"])


def _activations(seen: Mapping[str, float]) -> float | None:
    """The peak beyond weights and the cache that is kept."""
    peak, weights = _peak(seen), _sum(seen, "parameter_bytes", "buffer_bytes")
    return None if peak is None or weights is None else peak - weights - seen["decode_cache_bytes"]


def _row(quantity: str, label: str, observed: float, predicted: float | None, bar: float | None) -> Comparison:
    error = (predicted - observed) / observed if predicted is not None and observed else None
    judged = bar is not None and error is not None
    return Comparison(
        quantity=quantity,
        label=label,
        unit="bytes",
        rank=None,
        device=None,
        observed=float(observed),
        predicted=None if predicted is None else float(predicted),
        error=error,
        judged=judged,
        within=abs(error) <= bar if judged and error is not None and bar is not None else None,
        line_number=0,
        why_not=None if predicted is not None else "no GPU was named, so memory was not estimated line by line",
    )
