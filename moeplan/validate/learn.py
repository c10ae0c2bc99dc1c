"""What the engine held beyond the estimate, stored in a hardware profile for the next estimate on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from moeplan.core.engine_log import EngineLog, LogRank, Reading
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.model import Remark
from moeplan.core.residual import KIND, residuals
from moeplan.estimate import Estimate
from moeplan.estimate.learned import CODE
from moeplan.sources.profile_writing import append_measured, own_profile
from moeplan.validate.compare import pool_of, rank_of
from moeplan.validate.result import Comparison, Learned
from moeplan.version import __version__

STATES = ("conv_state_bytes", "ssm_state_bytes", "conv_intermediate_bytes", "ssm_intermediate_bytes")


class Target:
    """The profile that is learned into: looked at before the estimate, so that a wrong name costs nothing."""

    def __init__(self, name: str, hardware: Hardware, folders: Sequence[Path]) -> None:
        """Raises InputError where `name` cannot be learned into for this card."""
        self.name, self.hardware, self.folders = name, hardware, tuple(folders)
        self.there = own_profile(name, hardware, self.folders)


def learn(
    target: Target,
    told: EngineLog,
    found: Estimate,
    log: str,
    comparisons: Iterable[Comparison],
    doubts: Sequence[Remark],
) -> Learned | Remark:
    """Append the residual of the rank with the largest one; a remark where the log would teach what is not so.

    `doubts` are where the log and the caller contradict each other. Raises InputError for a log without a pool.
    """
    pools = _pools(told)
    residual = max((_residual(found, rank, size) for rank, size in pools.items()), default=None)
    if residual is None:
        if told.engine == "llamacpp":
            raise InputError(
                f"{log}: llama.cpp tells its buffers and no pool that is left over, so there is nothing to learn",
                hint="leave out --learn",
            )
        raise InputError(
            f"{log} does not say how much memory was left for the cache, so there is nothing to learn",
            hint="log the engine's start at its usual level (INFO), or leave out --learn",
        )
    mark = fingerprint(told)
    why_not = _why_not(target, mark, comparisons, doubts)
    if why_not is not None:
        return Remark("not-learned", "warning", f"nothing was learned: {why_not}")
    block = {
        "kind": KIND,
        "date": datetime.now(tz=UTC).date().isoformat(),
        "tool": f"moeplan {__version__}",
        "method": "engine log against the estimate",
        "source": log,
        "fingerprint": mark,
        "engine": told.engine,
        "engine_version": found.layout.engine_version,
        "model": found.model.id,
        "tp": found.layout.tp,
        "pp": found.layout.pp,
        "dp": found.layout.dp,
        "num_gpus": found.layout.num_gpus,
        "residual_bytes": residual,
        "ranks": len(pools),
    }
    return Learned(target.name, str(append_measured(target.name, target.hardware, block, target.folders)), residual)


def fingerprint(told: EngineLog) -> str:
    """What tells logs apart: engine, settings and figures. Times and names of files do not count."""
    figures = [(each.quantity, each.value, each.rank, each.device, each.part) for each in told.readings]
    said = (told.engine, told.version, told.model, sorted(told.arguments.items()), figures)
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]


def _why_not(target: Target, mark: str, comparisons: Iterable[Comparison], doubts: Sequence[Remark]) -> str | None:
    if doubts:
        return "; ".join(each.message for each in doubts)
    known = residuals(target.there.measured, target.there.path) if target.there is not None else ()
    same = next((each for each in known if each.fingerprint == mark), None)
    if same is not None:
        return f"{target.name} knows a log with these figures and settings already ({same.source}, {same.date})"
    beyond = {each.label: each.error or 0 for each in comparisons if each.within is False}
    if not beyond:
        return None
    worst = max(beyond, key=lambda label: abs(beyond[label]))
    lead = f"{worst} is off by {beyond[worst]:+.1%}, so what is left over may be no matter of this machine"
    most = -(-abs(beyond[worst]) // 0.1) * 10
    way = f"; where all of that is right, --tolerance {most:.0f}% learns it all the same" if most < 100 else ""
    return f"{lead}; check model, --gpu and flags{way}"


def _residual(found: Estimate, rank: LogRank | None, pool_bytes: int) -> int:
    mine = rank_of(found, rank)
    if mine is None:
        raise InputError(
            "nothing was held against hardware, so nothing can be learned", hint="name the card with --gpu"
        )
    known = sum(entry.bytes for entry in mine.lines if entry.code == CODE)
    return pool_of(mine) + known - pool_bytes


def _pools(told: EngineLog) -> dict[LogRank | None, int]:
    """What was left for the cache by rank: as the engine says, else what it allocated of it, to the last token."""
    said = {each.rank: int(each.value) for each in told.told("kv_pool_bytes")}
    if said or told.engine != "sglang":
        return said
    ranks = dict.fromkeys(each.rank for each in told.readings)
    pools = {rank: _allocated([each for each in told.readings if each.rank == rank]) for rank in ranks}
    return {rank: size for rank, size in pools.items() if size is not None}


def _allocated(readings: Sequence[Reading]) -> int | None:
    """Keys, values and states of one rank; where their sum is told for several pools, that stands for them."""
    caches = [each for each in readings if each.quantity in ("kv_bytes", "kv_key_bytes", "kv_value_bytes")]
    if any(each.quantity == "kv_bytes" and each.part is None for each in caches):
        caches = [each for each in caches if each.quantity == "kv_bytes" or (each.part or "").startswith("draft")]
    if not caches:
        return None
    states = [each for each in readings if each.quantity in STATES]
    return sum(int(each.value) for each in (*caches, *states))
