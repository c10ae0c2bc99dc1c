"""`moeplan routing profile`: any file of routing folded to a profile, short enough to be kept beside a model."""

from pathlib import Path
from typing import Literal

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.routing_profile import PHASES, RoutingProfile
from moeplan.routing.result import WRITTEN_SCHEMA, Written
from moeplan.sources.routing_files import read_routing, write_profile

ENDINGS = (".yaml", ".yml")


def profile(file: str | Path, *, output: str | Path) -> Written:
    """Read `file` and write what it folds to as YAML to `output`. Raises the errors of `moeplan.core.errors`."""
    path = Path(output).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"--output {output}: a profile is a file that ends in .yaml", hint=f"name it {path.stem}.yaml")
    found = read_routing(Path(file).expanduser())
    write_profile(path, found)
    return written(str(output), "profile", found)


def written(file: str, kind: Literal["capture", "counts", "profile"], found: RoutingProfile) -> Written:
    """What a file says that was made of `found`."""
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
