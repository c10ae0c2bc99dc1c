"""Memory as engines logged it, held against estimates of the same deployments: the rows of data/observed-memory.yaml."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

from moeplan.estimate import Estimate, estimate
from moeplan.estimate.result import Rank

DATA = Path(__file__).resolve().parent / "data" / "observed-memory.yaml"
GIB = 2**30
MIB = 2**20

BOUNDS = {
    # judge: unit, largest median, largest of all
    "weights": ("share", 0.003, 0.01),
    "cache": ("share", 0.005, 0.005),
    "end": ("GiB", 0.5, 1.5),
}
"""What the rows that are counted have to keep."""


class Outcome(NamedTuple):
    """One row with what moeplan says."""

    row: dict[str, Any]
    observed: str
    predicted: str
    error: float
    """A share for weights and cache, GiB for what is left; 0 or 1 for a refusal that came or did not."""
    unit: str
    verdict: str
    """What the estimate says of the whole deployment."""
    contradicts: bool
    """True where the engine ran and the estimate says that it would not."""

    @property
    def counted(self) -> bool:
        """Whether it counts for the bounds."""
        return bool(self.row.get("counted", True))


def rows() -> list[dict[str, Any]]:
    """The rows that can be judged, in their order."""
    found: list[dict[str, Any]] = _data()["rows"]
    return found


def not_judged() -> dict[str, str]:
    """The other observations, with the reason why they cannot be judged."""
    found: dict[str, str] = _data()["not_judged"]
    return found


def outcomes() -> list[Outcome]:
    """Every row judged."""
    return [_judged(row) for row in rows()]


def summary(found: list[Outcome]) -> list[tuple[str, int, float, float, str, bool]]:
    """Per sort of row: how many, median and worst error, the bounds in words, and whether they are kept."""
    told = []
    for judge, (unit, most_median, worst) in BOUNDS.items():
        errors = [abs(each.error) for each in found if each.row["judge"] == judge and each.counted]
        shown = (
            f"median {most_median:.1%}, worst {worst:.1%}"
            if unit == "share"
            else f"median {most_median} GiB, worst {worst} GiB"
        )
        kept = median(errors) <= most_median and max(errors) <= worst
        told.append((judge, len(errors), median(errors), max(errors), shown, kept))
    return told


def passes(found: list[Outcome]) -> bool:
    """All bounds kept, what was refused is refused, and nothing that ran is called impossible."""
    refused = all(each.error == 0 for each in found if each.row["judge"] == "refused")
    return refused and all(kept for *_, kept in summary(found)) and not any(each.contradicts for each in found)


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return data


@lru_cache(maxsize=64)
def _estimate(
    model: str,
    gpu: str,
    engine: str,
    version: str | None,
    quant: str | None,
    layers: tuple[int, ...] | None,
    flags: str,
) -> Estimate:
    return estimate(
        model, gpu=gpu, engine=engine, engine_version=version, quant=quant, pp_layers=layers, engine_args=flags,
        offline=True,
    )  # fmt: skip


def _judged(row: dict[str, Any]) -> Outcome:
    observed, flags = row["observed"], row["flags"].strip()
    asked = _asked(row)
    found = _estimate(*asked, flags)
    verdict = {True: "fits", False: "does not start", None: "not judged"}[found.verdict.fits]
    ran = row["judge"] != "refused"
    common: dict[str, Any] = {"row": row, "verdict": verdict, "contradicts": ran and found.verdict.fits is False}
    rank = _rank(found, row.get("rank"))
    match row["judge"]:
        case "weights":
            mine = rank.weights_bytes / GIB
            return _share(mine, observed["weights_gib"], "GiB", **common)
        case "cache" if "pool_gib" in observed:
            pool = round(observed["pool_gib"] * GIB)
            again = _estimate(*asked, f"{flags} --kv-cache-memory-bytes {pool}")
            prints = again.capacity.engine_prints
            assert prints is not None
            return _share(float(prints.kv_tokens or 0), observed["tokens"], "tokens", **common)
        case "cache":
            # All ranks of a pipeline hold their layers' part; the log sums its devices.
            ranks = [each for each in found.ranks if each.device == "gpu"]
            stages = ranks if row["engine"] == "llamacpp" else ranks[:1]
            if row["engine"] == "llamacpp":
                mine = sum(each.kv_cache_bytes for each in stages) / GIB
            else:
                mine = rank.kv_bytes_per_token * observed["tokens"] / GIB
            return _share(mine, observed["bytes_gib"], "GiB", **common)
        case "devices":
            host = sum(each.weights_bytes for each in found.ranks if each.device == "host")
            ours = [each.weights_bytes / MIB for each in found.ranks if each.device == "gpu"] + [host / MIB]
            buffers = [*observed["devices_mib"], observed["host_mib"]]
            errors = [mine / other - 1 for mine, other in zip(ours, buffers, strict=True)]
            worst = max(errors, key=abs)
            place = errors.index(worst)
            return Outcome(
                observed=f"{sum(buffers):,.2f} MiB on {len(buffers)}",
                predicted=f"{sum(ours):,.2f} MiB; {ours[place]:,.2f} for {buffers[place]:,.2f}",
                error=worst,
                unit="share",
                **common,
            )
        case "terms":
            label, theirs, mine = terms(Outcome(row, "", "", 0, "GiB", verdict, contradicts=False))[0]
            return Outcome(
                observed=f"{theirs:.2f} GiB of {label}", predicted=f"{mine:.2f} GiB", error=mine - theirs, unit="GiB",
                **common,
            )  # fmt: skip
        case "end":
            mine = (rank.kv_cache_bytes + (rank.free_bytes or 0)) / GIB
            theirs = observed["pool_gib"]
            return Outcome(
                observed=f"{theirs:.2f} GiB", predicted=f"{mine:.2f} GiB", error=mine - theirs, unit="GiB", **common
            )
        case "refused":
            mine = rank.kv_cache_bytes / GIB
            told = f"needs {observed['needed_gib']} GiB, has {observed['pool_gib']}"
            return Outcome(
                observed=told,
                predicted=f"needs {mine:.2f} GiB: {verdict}",
                error=float(found.verdict.fits is not False),
                unit="refusal",
                **common,
            )
        case other:
            raise ValueError(f"{row['id']}: unknown judge {other!r}")


TERMS = {
    # observed: label, codes of the ledger's lines; none for all that counts as weights
    "weights_gib": ("weights", ()),
    "activation_gib": ("activations, with the experts' workspace", ("activations", "expert_workspace")),
    "non_torch_gib": ("outside torch", ("device_context",)),
}


def terms(outcome: Outcome) -> list[tuple[str, float, float]]:
    """Label, GiB as the log tells, GiB as estimated, of every term that the log of an `end` or `terms` row tells apart."""
    row = outcome.row
    if row["judge"] not in ("end", "terms"):
        return []
    rank = _rank(_estimate(*_asked(row), row["flags"].strip()), row.get("rank"))
    found = []
    for name, (label, codes) in TERMS.items():
        if name in row["observed"]:
            size = sum(entry.bytes for entry in rank.lines if entry.code in codes) if codes else rank.weights_bytes
            found.append((label, float(row["observed"][name]), size / GIB))
    return found


def _asked(row: dict[str, Any]) -> tuple[str, str, str, str | None, str | None, tuple[int, ...] | None]:
    layers = tuple(row["layers"]) if "layers" in row else None
    return row["model"], row["gpu"], row["engine"], row.get("version"), row.get("quant"), layers


def _share(mine: float, theirs: float, unit: str, **common: Any) -> Outcome:
    digits = ",.0f" if unit == "tokens" else ",.3f"
    return Outcome(
        observed=f"{theirs:{digits}} {unit}",
        predicted=f"{mine:{digits}} {unit}",
        error=mine / theirs - 1,
        unit="share",
        **common,
    )


def _rank(found: Estimate, asked: str | None) -> Rank:
    ranks = [each for each in found.ranks if each.device == "gpu"]
    return ranks[-1] if asked == "last" else ranks[0]
