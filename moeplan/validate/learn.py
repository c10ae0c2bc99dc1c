"""What the engine held beyond the estimate, stored in a hardware profile for the next estimate on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError
from moeplan.estimate import Estimate
from moeplan.estimate.learned import KIND
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.profile_writing import append_measured
from moeplan.validate.compare import pool_of, rank_of
from moeplan.validate.result import Learned
from moeplan.version import __version__


def learn(name: str, told: EngineLog, found: Estimate, log: str, folders: Sequence[Path]) -> Learned:
    """Append the residual of the rank with the largest one; raises InputError for a log without a pool."""
    residuals = []
    for reading in told.told("kv_pool_bytes"):
        rank = rank_of(found, reading.rank)
        if rank is not None:
            known = sum(entry.bytes for entry in rank.lines if entry.code == "measured_residual")
            residuals.append(pool_of(rank) + known - int(reading.value))
    if not residuals or found.hardware is None:
        raise InputError(
            f"{log} does not say how much memory was left for the cache, so there is nothing to learn",
            hint="log the engine's start at its usual level (INFO), or leave out --learn",
        )
    residual = max(residuals)
    hardware, _ = find_hardware(found.hardware.profile, tuple(folders))
    block = {
        "kind": KIND,
        "date": datetime.now(tz=UTC).date().isoformat(),
        "tool": f"moeplan {__version__}",
        "method": "engine log against the estimate",
        "source": log,
        "engine": told.engine,
        "engine_version": found.layout.engine_version,
        "model": found.model.id,
        "tp": found.layout.tp,
        "pp": found.layout.pp,
        "dp": found.layout.dp,
        "num_gpus": found.layout.num_gpus,
        "residual_bytes": residual,
        "ranks": len(residuals),
    }
    return Learned(name, str(append_measured(name, hardware, block, folders)), residual)
