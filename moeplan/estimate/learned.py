"""What engines' logs on this very machine showed beyond the estimate, as ledger lines of basis `measured`.

`moeplan validate --log FILE --learn NAME` appends such blocks to a hardware profile; docs/hardware-profiles.md has
their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from moeplan.core.deployment import Serving, version_key
from moeplan.core.ledger import Line, Why, line

KIND = "engine_residual"


def learned_lines(serving: Serving) -> tuple[Line, ...]:
    """One line, or none: the median of what was measured under the same engine and tensor-parallel degree.

    Blocks of the very version count alone where there are any; else those of the nearest one.
    """
    blocks = _fitting(serving)
    if not blocks:
        return ()
    sizes = [int(block["residual_bytes"]) for block in blocks]
    versions = ", ".join(dict.fromkeys(str(block.get("engine_version")) for block in blocks))
    logs = "; ".join(f"{block.get('source')} ({block.get('date')})" for block in blocks)
    assert serving.hardware is not None
    why = Why(
        "median of (pool that was estimated - pool that the engine printed)",
        {"logs": len(sizes), "engine_versions": versions, "tensor_parallel": serving.layout.tp},
        f"{logs}; profile {serving.hardware.profile}",
    )
    return (
        line(
            "measured_residual", "measured here beyond all this", round(median(sizes)), "measured", why,
            low_bytes=min(sizes), high_bytes=max(sizes),
        ),
    )  # fmt: skip


def _fitting(serving: Serving) -> list[Mapping[str, Any]]:
    if serving.hardware is None:
        return []
    alike = [
        block
        for block in serving.hardware.measured
        if block.get("kind") == KIND
        and block.get("engine") == serving.deployment.engine
        and block.get("tp") == serving.layout.tp
        and isinstance(block.get("residual_bytes"), int)
    ]
    if not alike:
        return []
    mine = version_key(serving.constants.version)

    def distance(block: Mapping[str, Any]) -> tuple[int, ...]:
        theirs = version_key(str(block.get("engine_version", "")))
        width = max(len(mine), len(theirs))
        pairs = zip(mine + (0,) * (width - len(mine)), theirs + (0,) * (width - len(theirs)), strict=True)
        return tuple(abs(ours - other) for ours, other in pairs)

    nearest = min(map(distance, alike))
    return [block for block in alike if distance(block) == nearest]
