"""What a profile leaves in a hardware profile for later estimates; docs/hardware-profiles.md has the keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moeplan.core.measurement import MeasuredDevice
from moeplan.core.profiled import KIND
from moeplan.profile.result import Profile


def block_of(profile: Profile, points: Path) -> Mapping[str, Any]:
    """The block: who measured what, when and how, each figure with its spread, constants of kernels with their error."""
    return {
        "kind": KIND,
        "date": profile.date,
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
