"""The public rows of MoE latency that the model is fitted to and judged on, as a lone clone holds them.

`data/moe-latency.txt.gz` lists measured times by kernel and shape; `data/moe-routing.csv` says what each was routed as
(`collector_routing`). Both are written by `fit_latency.py rows` from the shared table where it lies beside the checkout.
The figures are those of ai-dynamo/aiconfigurator (Apache-2.0, NVIDIA CORPORATION & AFFILIATES): data/moe-latency.md.
"""

from __future__ import annotations

import csv
import gzip
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

from benchmarks.collector_routing import Case, Routed, Router, router_of
from moeplan.core.hardware import Hardware
from moeplan.core.latency import Device, ExpertShape, Load, Work, device_of, value_bytes, work
from moeplan.sources.hardware_profiles import read_hardware
from moeplan.sources.profile_folders import builtin_folder

DATA = Path(__file__).resolve().parent / "data"
ROWS, ROUTING = DATA / "moe-latency.txt.gz", DATA / "moe-routing.csv"

PROFILES = {
    "a100_sxm": "nvidia-a100-sxm-80gb",
    "h100_sxm": "nvidia-h100-sxm",
    "b200_sxm": "nvidia-b200-sxm",
    "l40s": "nvidia-l40s",
}
"""Hardware profile of each system."""

MOST_RANKS = 8
"""Rows of larger expert groups are fitted to nothing and judged apart."""

RANGES = {"1-8": 8, "16-64": 64, "80-512": 512, "768-4096": 4096, "6144+": 10**12}
"""Ranges of tokens, each up to a number."""


class Group(NamedTuple):
    """Rows of one kernel."""

    system: str
    backend: str
    version: str
    dtype: str
    kernel: str

    @property
    def name(self) -> str:
        """As tables and files print it."""
        return " ".join(self)


class Row(NamedTuple):
    """One measurement."""

    group: Group
    model: str
    tp: int
    ranks: int
    tokens: int
    distribution: str
    seconds: float
    device: Device
    work: Work

    @property
    def range(self) -> str:
        """Name of its range of tokens."""
        return range_of(self.tokens)


def range_of(tokens: int) -> str:
    """Name of the range that a number of tokens falls into."""
    return next(name for name, most in RANGES.items() if tokens <= most)


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """All rows, in the order of the file."""
    models: dict[str, tuple[int, int, int, int]] = {}
    group, device = Group("", "", "", "", ""), Device(1, 1)
    found = []
    for line in gzip.decompress(ROWS.read_bytes()).decode().splitlines():
        kind, *cells = line.split("\t")
        if kind == "model":
            name, hidden, inter, experts, chosen = cells
            models[name] = (int(hidden), int(inter), int(experts), int(chosen))
        elif kind == "group":
            group = Group(*cells)
            device = _device(group.system, group.dtype)
        elif kind == "case":
            model, tp, ranks, distribution, times = cells
            for pair in times.split():
                tokens, micros = pair.split(":")
                load = _load(models[model], group, model, int(ranks), int(tokens), distribution)
                shape = _shape(models[model], group, int(tp), int(ranks))
                found.append(
                    Row(
                        group, model, int(tp), int(ranks), int(tokens), distribution, float(micros) * 1e-6, device,
                        work(shape, load),
                    )
                )  # fmt: skip
    return tuple(found)


@lru_cache(maxsize=1)
def groups() -> dict[Group, list[Row]]:
    """Rows by kernel, expert groups of up to 8 ranks."""
    found: dict[Group, list[Row]] = {}
    for row in rows():
        if row.ranks <= MOST_RANKS:
            found.setdefault(row.group, []).append(row)
    return found


def models_of(rows_of_group: list[Row]) -> list[str]:
    """Model shapes of some rows, sorted."""
    return sorted({row.model for row in rows_of_group})


@lru_cache(maxsize=64)
def _device(system: str, dtype: str) -> Device:
    """The card by its profile. The collector replays one layer without a flush, so the cache is warm."""
    return device_of(hardware_of(system), dtype, warm=True)


@lru_cache(maxsize=8)
def hardware_of(system: str) -> Hardware:
    """The profile of a system."""
    return read_hardware(builtin_folder("hardware") / f"{PROFILES[system]}.yaml")


def _shape(model: tuple[int, int, int, int], group: Group, tp: int, ranks: int) -> ExpertShape:
    hidden, inter, experts, chosen = model
    value = value_bytes(hardware_of(group.system), group.dtype)
    return ExpertShape(hidden, inter // tp, experts, experts // ranks, chosen, value)


def _load(
    model: tuple[int, int, int, int], group: Group, name: str, ranks: int, tokens: int, distribution: str
) -> Load:
    _, _, experts, chosen = model
    router = router_of(name, group.backend, group.version, ranks)
    found = _routing()[Case(experts, chosen, router, ranks, tokens, distribution)]
    return Load(found.tokens, found.distinct, found.rows)


@lru_cache(maxsize=1)
def _routing() -> dict[Case, Routed]:
    with ROUTING.open(encoding="utf-8", newline="") as file:
        return {
            Case(
                int(row["experts"]), int(row["experts_per_token"]), cast(Router, row["router"]), int(row["ranks"]),
                int(row["tokens"]), row["distribution"],
            ): Routed(float(row["tokens_seen"]), float(row["distinct"]), float(row["rows"]))
            for row in csv.DictReader(file)
        }  # fmt: skip
