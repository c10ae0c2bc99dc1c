"""Whether the engine came up as the estimate says."""

from __future__ import annotations

from moeplan.core.deployment import Refusal
from moeplan.core.engine_log import EngineLog, LogEngine
from moeplan.core.model import Remark
from moeplan.estimate import Estimate
from moeplan.estimate.result import MEMORY_REASONS

OF_THE_CALLER = ("gpus-too-few",)
"""Reasons that are about what the caller said, not about the engine."""
JUDGED: dict[LogEngine, str] = {
    "vllm": "`Model loading took`, `Available KV cache memory`, `GPU KV cache size`",
    "sglang": "`Load weight end`, `KV Cache is allocated`, `max_total_num_tokens`",
    "llamacpp": "`model buffer size`, `KV buffer size`, `compute buffer size`",
}
"""Lines with figures that are judged."""


def start_agrees(told: EngineLog, found: Estimate) -> bool | None:
    """Whether the estimate says of the start what became of it.

    None where one of them says nothing, where the start failed for another reason than memory, and where the estimate
    leaves it open: what happened is within its band.
    """
    reasons = reasons_of(told, found)
    if found.verdict.fits is None or told.started is None:
        return None
    if told.started:
        if not reasons:
            return True
        sure = any(each.code not in MEMORY_REASONS for each in reasons) or any(high < 0 for _, high in _bands(found))
        return False if sure else None
    if told.failure is None or told.failure.kind != "memory":
        return None
    if reasons:
        return True
    return False if all(low >= 0 for low, _ in _bands(found)) else None


def reasons_of(told: EngineLog, found: Estimate) -> tuple[Refusal, ...]:
    """Why the engine would not start. SGLang starts with any pool, however short the longest request must be."""
    reasons = tuple(each for each in found.verdict.reasons if each.code not in OF_THE_CALLER)
    if told.engine == "sglang" and (found.capacity.kv_pool_bytes or 0) > 0:
        return tuple(each for each in reasons if each.code not in MEMORY_REASONS)
    return reasons


def start_notes(told: EngineLog, found: Estimate) -> tuple[Remark, ...]:
    """What became of the start beside what the estimate says of it; nothing where it came up as it should."""
    agrees = start_agrees(told, found)
    reasons = "; ".join(each.message for each in reasons_of(told, found))
    if told.started is None:
        if not told.complete:
            return ()
        message = "the log ends before the engine says that it is up, or why not: what came later is not known"
        return (Remark("log-open-end", "info", message),)
    if told.started:
        if agrees or found.verdict.fits is None or not reasons:
            return ()
        band = "" if agrees is False else ", though not for certain"
        message = f"the engine started, but the estimate says{band} that it would not: {reasons}"
        return (Remark("log-contradicts", "warning", message),)
    line = f" (line {told.failure.line_number}: {told.failure.text})" if told.failure is not None else ""
    if agrees:
        return (Remark("log-failed", "info", f"the engine did not start{line}; the estimate agrees: {reasons}"),)
    kind = told.failure.kind if told.failure is not None else "other"
    if kind == "other":
        message = f"the engine did not start{line}; the log does not say that memory was the reason"
        return (Remark("log-failed", "warning", message),)
    if kind == "busy":
        message = f"the engine did not start{line}: less was free than it may use, so others held memory of the card"
        return (Remark("log-failed", "warning", message),)
    if found.verdict.fits is None:
        return (Remark("log-failed", "warning", f"the engine did not start{line}"),)
    band = "but the estimate says that it would fit" if agrees is False else "and in the estimate's band it may not fit"
    return (Remark("log-contradicts", "warning", f"the engine did not start{line}, {band}"),)


def no_figures(told: EngineLog) -> Remark:
    """What to do with a log that could not be judged."""
    message = f"lines that are judged hold {JUDGED[told.engine]}: give the log from the engine's first line on, at its usual level"
    return Remark("log-no-figures", "info", message)


def _bands(found: Estimate) -> list[tuple[int, int]]:
    return [
        (each.free_low_bytes or 0, each.free_high_bytes or 0) for each in found.ranks if each.device == "gpu"
    ]  # fmt: skip
