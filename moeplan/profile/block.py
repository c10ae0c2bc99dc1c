"""What a profile leaves in a hardware profile for later estimates; docs/hardware-profiles.md has the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.measurement import MeasuredDevice
from moeplan.core.profiled import KIND
from moeplan.profile.changes import figures_of
from moeplan.profile.result import Figure, Profile
from moeplan.sources.hardware_profiles import read_hardware


def block_of(profile: Profile, points: Path) -> Mapping[str, Any]:
    """The block: who measured what, when and how, each figure with its spread, constants of kernels with their error."""
    return {
        "kind": KIND,
        "date": profile.date,
        "time": profile.time,
        "tool": profile.tool,
        "method": f"moeplan profile, effort {profile.effort}",
        "seed": profile.seed,
        "device": profile.device._asdict(),
        "points": points.name,
        "num_points": profile.num_points,
        "figures": {
            figure.name: {
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "unit": figure.unit,
                "source": figure.source,
            }
            for figure in profile.figures
        },
        "kernels": [kernel._asdict() for kernel in profile.kernels],
    }


def is_run(block: Mapping[str, Any], figures: Sequence[Figure], when: str) -> bool:
    """Whether a block is of a run: it has its time, or its very figures, to the last digit."""
    if f"{block.get('date')}T{block.get('time')}" == when:
        return True
    there = {name: each.get("value") for name, each in figures_of(block).items() if isinstance(each, Mapping)}
    common = [figure for figure in figures if figure.name in there]
    return bool(common) and all(there[figure.name] == figure.value for figure in common)


def holds(path: Path, figures: Sequence[Figure], when: str, points: Path) -> bool:
    """Whether the profile at `path` has a block of this very run already, whose points are in that file."""
    blocks = read_hardware(path).measured if path.exists() else ()
    mine = [block for block in blocks if block.get("kind") == KIND and block.get("points") == points.name]
    return any(is_run(block, figures, when) for block in mine)


def new_profile_text(device: MeasuredDevice) -> str:
    """A hardware profile for a device that nobody described yet: what was asked of it, and nothing else."""
    import yaml

    shared = device.kind in ("cpu", "mps")
    content: dict[str, Any] = {
        "schema": 1,
        "name": device.name,
        "vendor": {"cuda": "nvidia", "rocm": "amd", "mps": "apple", "cpu": "cpu"}[device.kind],
        "compute_capability": device.compute_capability if device.kind == "cuda" else None,
        "memory": {"unified": shared, "nominal_bytes": None, "visible_bytes": None, "usable_bytes": None},
        "memory_bandwidth_bytes_per_s": None,
        "host_bytes": None if shared else device.host_bytes,
        "notes": ["Begun by moeplan profile: the specification is unknown, what was measured stands below."],
        "measured": [],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
