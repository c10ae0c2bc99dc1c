"""Config and headers side by side: where they differ, the notes say by how much and in what."""

from __future__ import annotations

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.matching import Matched
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Quantisation, weight_bytes
from moeplan.core.units import gib, params
from moeplan.core.weights import count_parameters, inventory, parameters

TOLERATED = 0.005
"""Share by which config and headers may differ before the note becomes a warning."""
MOST_NAMED = 5


def agreement(
    spec: ModelSpec, quantisation: Quantisation | None, checkpoint: Checkpoint, matched: Matched
) -> tuple[Remark, ...]:
    """What the headers say beside what the config promises: bytes, parameters, and tensors on one side alone.

    Without a `quantisation` nothing is promised about bytes (GGUF states the format of each tensor, and that alone).
    """
    promised_bytes = (
        weight_bytes(inventory(spec), quantisation).checkpoint_bytes if quantisation else checkpoint.num_bytes
    )
    promised = parameters(spec).total
    counted = count_parameters(spec, matched.counted, "exact").total
    off_bytes = checkpoint.num_bytes / promised_bytes - 1
    off_params = counted / promised - 1
    differ = max(abs(off_bytes), abs(off_params)) > TOLERATED
    told = (
        f"headers: {len(checkpoint.tensors):,} tensors, {gib(checkpoint.num_bytes, 3)}, {params(counted)} parameters; "
        f"the config promises {gib(promised_bytes, 3)} ({off_bytes:+.2%}) and {params(promised)} ({off_params:+.2%})"
    )
    notes = [Remark("headers-differ" if differ else "headers", "warning" if differ else "info", told)]
    if matched.unmatched:
        size = sum(each.num_bytes for each in matched.unmatched)
        names = _named([each.name for each in matched.unmatched])
        told = f"{len(matched.unmatched)} tensors ({gib(size)}) that the config does not explain, counted as `other`: {names}"
        notes.append(Remark("tensors-unmatched", "warning", told))
    if matched.missing:
        told = f"the checkpoint lacks what the config promises: {_named(list(matched.missing))}"
        notes.append(Remark("tensors-missing", "warning", told))
    return tuple(notes)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
