"""What engines' logs on this very machine showed beyond the estimate, as ledger lines of basis `measured`.

`moeplan validate --log FILE --learn NAME` appends such blocks to a hardware profile; docs/hardware-profiles.md has
their keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from moeplan.core.deployment import Serving, version_key
from moeplan.core.hardware import Hardware
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import Remark
from moeplan.core.residual import Residual, residuals

CODE = "measured_residual"
"""Of the line."""


def learned_lines(serving: Serving) -> tuple[Line, ...]:
    """One line, or none: the median of what was measured under the same engine and tensor-parallel degree.

    Blocks of the very version count alone where there are any; else those of the nearest one. Raises InputError where
    the profile holds a block that is none.
    """
    hardware, tp = serving.hardware, serving.layout.tp
    blocks = _fitting(hardware, serving.deployment.engine, serving.constants.version, tp)
    if not blocks or hardware is None:
        return ()
    sizes = [block.residual_bytes for block in blocks]
    logs = "; ".join(f"{block.source} ({block.date})" for block in blocks)
    why = Why(
        "median of (pool that was estimated - pool that the engine printed)",
        {
            "logs": len(sizes),
            "engine_versions": _listed(block.engine_version for block in blocks),
            "models": _listed(block.model or "not told" for block in blocks),
            "tensor_parallel": tp,
        },
        f"{logs}; profile {hardware.profile}",
    )
    return (
        line(
            CODE, "learned from logs on this machine", round(median(sizes)), "measured", why,
            low_bytes=min(sizes), high_bytes=max(sizes),
        ),
    )  # fmt: skip


def learned_notes(hardware: Hardware | None, engine: str, version: str, tp: int, model: str) -> tuple[Remark, ...]:
    """A note where what is counted was learned under another version of the engine, or with other models than `model`."""
    blocks = _fitting(hardware, engine, version, tp)
    if not blocks or hardware is None:
        return ()
    versions = _listed(block.engine_version for block in blocks)
    models = [block.model for block in blocks if block.model]
    told = []
    if version_key(blocks[0].engine_version) != version_key(version):
        told.append(f"under {engine} {versions}, and this is {version}")
    if models and model not in models:
        told.append(f"with {_listed(models)}, and this is {model}")
    if not told:
        return ()
    lead = f"what {hardware.profile} learned from logs was learned {'; '.join(told)}"
    return (Remark("learned-elsewhere", "warning", f"{lead}: it may not hold here"),)


def _fitting(hardware: Hardware | None, engine: str, version: str, tp: int) -> list[Residual]:
    """The blocks of this engine and degree whose version is nearest."""
    blocks = residuals(hardware.measured, hardware.path) if hardware is not None else ()
    alike = [block for block in blocks if block.engine == engine and block.tp == tp]
    if not alike:
        return []
    mine = version_key(version)

    def distance(block: Residual) -> tuple[int, ...]:
        theirs = version_key(block.engine_version)
        width = max(len(mine), len(theirs))
        pairs = zip(mine + (0,) * (width - len(mine)), theirs + (0,) * (width - len(theirs)), strict=True)
        return tuple(abs(ours - other) for ours, other in pairs)

    nearest = min(map(distance, alike))
    return [block for block in alike if distance(block) == nearest]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
