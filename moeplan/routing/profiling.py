"""`moeplan routing profile`: any file of routing folded to a profile; and what every command says of a file that it wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.routing_profile import PHASES, RoutingProfile
from moeplan.routing.result import WRITTEN_SCHEMA, Written
from moeplan.sources.routing_files import read_routing, write_counts, write_profile

_Kept = Literal["counts", "profile"]
_WRITERS: dict[str, tuple[_Kept, Callable[[Path, RoutingProfile], None]]] = {
    ".json": ("counts", write_counts),
    ".yaml": ("profile", write_profile),
    ".yml": ("profile", write_profile),
}
"""By the ending of a file: what it is, and how it is written."""


def profile(file: str | Path, *, output: str | Path) -> Written:
    """Read `file` and write what it folds to as YAML to `output`. Raises the errors of `moeplan.core.errors`."""
    path = Path(output).expanduser()
    if _WRITERS.get(path.suffix.lower(), ("counts",))[0] != "profile":
        raise InputError(f"--output {output}: a profile is a file that ends in .yaml", hint=f"name it {path.stem}.yaml")
    return keep(read_routing(Path(file).expanduser()), output)


def keep(found: RoutingProfile, output: str | Path) -> Written:
    """Write a profile to `output`: as counts (.json), windows and all, or folded (.yaml). InputError for other endings."""
    path = Path(output).expanduser()
    if path.suffix.lower() not in _WRITERS:
        raise InputError(
            f"--output {output}: by its ending it is no file of routing",
            hint="name it counts.json (all that is known) or profile.yaml (folded, for people)",
        )
    kind, write = _WRITERS[path.suffix.lower()]
    write(path, found)
    return written(str(output), kind, found)


def written(file: str, kind: Literal["capture", "counts", "profile"], found: RoutingProfile) -> Written:
    """What is said of a file that was made of `found`."""
    layers = found.layers["all"]
    return Written(
        schema=WRITTEN_SCHEMA,
        file=file,
        kind=kind,
        model=found.model,
        revision=found.revision,
        provenance=found.provenance,
        layers=tuple(layer.layer for layer in layers),
        num_experts=max(layer.num_experts for layer in layers),
        experts_per_token=max(layer.experts_per_token for layer in layers),
        tokens=max(layer.tokens for layer in layers),
        phases=tuple(name for name in PHASES if name in found.layers),
        classes=tuple(sorted(found.classes)),
        notes=tuple(Remark("routing-file", "warning", note) for note in found.notes),
    )
