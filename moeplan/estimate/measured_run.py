"""A model that ran on this machine beside the estimate of the same: each figure of the run, and what the estimate says of it.

The estimate has to be of what ran: `--engine transformers`, the config as it was built (layers that did not fit are left
out there too), as many sequences, and as many tokens as prompt and decoding have together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from moeplan.core.ledger import Line, band_bytes, total_bytes
from moeplan.core.measurement import Point
from moeplan.estimate import Estimate, estimate
from moeplan.estimate.result import Rank

ENGINE = "transformers"

BARS: dict[str, float] = {"weights_bytes": 0.001, "loaded_bytes": 0.001, "kv_bytes": 0.001, "peak_bytes": 0.03}
"""Largest relative error of each figure that is judged; others have a wide band, and are shown alone."""


class RunLine(NamedTuple):
    """One figure of a run, in bytes, beside the estimate's."""

    quantity: str
    label: str
    observed: float
    predicted: float | None
    """None where the estimate has no figure for it; `why_not` says why."""
    band: tuple[float, float] | None
    """Low and high end of the prediction; None where it is no guess."""
    bar: float | None
    """Of `BARS`; None where the figure is shown and not judged."""
    why_not: str | None

    @property
    def error(self) -> float | None:
        """(predicted - observed) / observed."""
        return None if self.predicted is None or not self.observed else (self.predicted - self.observed) / self.observed


class _Predicted(NamedTuple):
    """Bytes with their band."""

    bytes: float
    low: float
    high: float


def estimate_of_run(
    config: Mapping[str, Any],
    *,
    context_tokens: int,
    concurrency: int,
    gpu: str | None,
    profiles: Sequence[Path] = (),
) -> Estimate:
    """The estimate of a model as it was built, `config` with its dtype. Raises the errors of `estimate`."""
    with TemporaryDirectory(prefix="moeplan-") as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(dict(config)), encoding="utf-8")
        return estimate(
            path,
            gpu=gpu,
            engine=ENGINE,
            context=context_tokens,
            concurrency=concurrency,
            offline=True,
            profiles=tuple(profiles),
        )


def lines_of_run(point: Point, found: Estimate | None) -> tuple[RunLine, ...]:
    """Every figure of a point of the sections `models` and `memory` that an estimate has a line for.

    A model that ran with other sequences, tokens or layers than were estimated, or could not be estimated at all, has
    figures without predictions.
    """
    if point.section == "models":
        return _of_model(point, found)
    if point.section == "memory" and point.case.get("what") == "context" and "first_kernel_bytes" in point.values:
        rank = _rank(found)
        predicted = None if rank is None else _sum_of(line for line in rank.lines if line.code == "device_context")
        return (_line("context_bytes", "context of the device", point.values["context_bytes"], predicted, None),)
    return ()


def _of_model(point: Point, found: Estimate | None) -> tuple[RunLine, ...]:
    seen, other = point.values, _otherness(point, found)
    weights, cache, beside = (None, None, None) if found is None else _predicted(found)
    whole = None
    if weights is not None and cache is not None and beside is not None:
        whole = _Predicted(*map(sum, zip(weights, cache, beside, strict=True)))
    rows: list[tuple[str, str, float | None, _Predicted | None]] = [
        ("weights_bytes", "weights: parameters, buffers", _sum(seen, "parameter_bytes", "buffer_bytes"), weights),
        ("loaded_bytes", "weights as torch holds them", _gain(seen, "load_allocated_bytes"), weights),
        ("kv_bytes", "cache of all sequences", seen.get("decode_cache_bytes"), cache),
        ("activations_bytes", "activations at the peak", _activations(seen), beside),
        ("peak_bytes", "peak with weights and cache", _peak(seen), whole),
        ("reserved_bytes", "reserved by torch at the end", _gain(seen, "decode_reserved_bytes"), whole),
        ("device_bytes", "on the device at the end", _gain(seen, "decode_device_bytes"), whole),
    ]
    lines = [_line(*row[:2], row[2], row[3], other) for row in rows if row[2] is not None]
    if "decode_peak_bytes" in seen:
        return tuple(lines)
    # Counted tensors miss what kernels take, and other kernels run on the CPU.
    return tuple(line._replace(bar=None) if line.quantity == "peak_bytes" else line for line in lines)


def _line(
    quantity: str, label: str, observed: float | None, predicted: _Predicted | None, why_not: str | None
) -> RunLine:
    assert observed is not None
    if why_not is not None:
        predicted = None
    elif predicted is None:
        why_not = "no GPU was named, so memory was not estimated line by line"
    band = None if predicted is None or predicted.low == predicted.high else (predicted.low, predicted.high)
    size = None if predicted is None else float(predicted.bytes)
    bar = BARS.get(quantity) if size is not None and observed else None
    return RunLine(quantity, label, float(observed), size, band, bar, why_not)


def _otherness(point: Point, found: Estimate | None) -> str | None:
    """Why the estimate is not of what ran; None where it is."""
    if found is None:
        return "the model could not be estimated"
    case = point.case
    batch, tokens = int(case["batch"] or 0), int(case["prompt_tokens"] or 0) + int(case["decode_tokens"] or 0)
    asked, layers = found.request, int(point.values.get("layers", 0))
    if found.layout.engine != ENGINE:
        return f"the estimate is for {found.layout.engine}, and {ENGINE} ran"
    if layers != found.model.num_layers:
        return f"the estimate is of {found.model.num_layers} layers, and {layers} ran"
    if (batch, tokens) != (asked.concurrency, asked.context_tokens):
        estimated = f"{asked.concurrency} x {asked.context_tokens:,} tokens"
        return f"the estimate is for {estimated}, and {batch} x {tokens:,} ran"
    return None


def _predicted(found: Estimate) -> tuple[_Predicted, _Predicted, _Predicted | None]:
    """Weights, cache, and what is beside them on the device; the last is None where no GPU was named."""
    rank = _rank(found)
    if rank is None:
        return _exact(found.weights.resident_bytes), _exact(found.kv_cache.bytes_total), None
    weights, cache = _exact(rank.weights_bytes), _exact(rank.kv_cache_bytes)
    context = _sum_of(line for line in rank.lines if line.code == "device_context")
    parts = zip(_sum_of(rank.lines), weights, cache, context, strict=True)
    return weights, cache, _Predicted(*(whole - sum(others) for whole, *others in parts))


def _exact(size_bytes: float) -> _Predicted:
    return _Predicted(size_bytes, size_bytes, size_bytes)


def _rank(found: Estimate | None) -> Rank | None:
    """The one device; None where no GPU was named."""
    return None if found is None else next((each for each in found.ranks if each.device == "gpu"), None)


def _sum_of(lines: Iterable[Line]) -> _Predicted:
    added = tuple(lines)
    return _Predicted(total_bytes(added), *band_bytes(added))


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
