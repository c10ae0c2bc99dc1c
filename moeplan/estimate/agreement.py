"""Config and headers side by side: where they differ, the notes say by how much and in what."""

from __future__ import annotations

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.matching import Matched, Recognised
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Quantisation, WeightBytes, fold_bytes, holdings
from moeplan.core.units import gib, params
from moeplan.core.weights import count_parameters, inventory, parameters

TOLERATED = 0.005
"""Share by which config and headers may differ before the note becomes a warning."""
MOST_NAMED = 5
MOST_ROLES = 3

_RECOGNISED = {
    # kind: code, severity, what is told
    "tower": ("tower-in-headers", "info", "of a tower that the config does not describe, counted as towers"),
    "mtp": ("mtp-in-headers", "info", "of draft layers (MTP) that the config does not describe, not loaded"),
    "second_table": ("table-twice", "info", "hold the embedding or the head once more, not loaded"),
    "computed": ("tables-computed", "info", "hold what models compute from their config, no parameters"),
    "surplus": ("tensors-surplus", "warning", "more than the config explains, counted with the module they are in"),
    "other_names": (
        "names-of-another-code-base",
        "info",
        "named as another code base does, told apart by a table of equal words",
    ),
}


def agreement(
    spec: ModelSpec, quantisation: Quantisation | None, checkpoint: Checkpoint, matched: Matched
) -> tuple[Remark, ...]:
    """What the headers say beside what the config promises: bytes, parameters, and tensors on one side alone.

    Draft layers (MTP) that the config promises and the checkpoint leaves out are no difference, but told. Without a
    `quantisation` nothing is promised about bytes (GGUF states the format of each tensor, and that alone).
    """
    stored = fold_bytes(matched.holdings)
    promise = fold_bytes(holdings(inventory(spec), quantisation)) if quantisation else stored
    promised, counted = parameters(spec).total, count_parameters(spec, matched.counted, "exact").total
    promised_bytes = promise.checkpoint_bytes if quantisation else checkpoint.num_bytes
    notes = []
    drafts = promise.mtp_bytes + promise.mtp_duplicate_bytes
    if drafts and not stored.mtp_bytes + stored.mtp_duplicate_bytes:
        promised_bytes -= drafts
        told = f"the checkpoint has no draft layers (MTP); the config promises {gib(drafts, 3)} of them, left out here"
        notes.append(Remark("mtp-not-stored", "info", told))
    if not drafts:  # a tied table that is stored twice is told by itself, and is no difference
        promised_bytes += stored.mtp_duplicate_bytes
    off_bytes = checkpoint.num_bytes / promised_bytes - 1
    off_params = counted / promised - 1
    differ = max(abs(off_bytes), abs(off_params)) > TOLERATED
    bytes_promised = f"{gib(promised_bytes, 3)} ({off_bytes:+.2%}) and " if quantisation else ""
    told = (
        f"headers: {len(checkpoint.tensors):,} tensors, {gib(checkpoint.num_bytes, 3)}, {params(counted)} parameters; "
        f"the config promises {bytes_promised}{params(promised)} ({off_params:+.2%})"
    )
    if differ and (where := _where(promise, stored)):
        told += f"; they differ in {where}"
    notes.insert(0, Remark("headers-differ" if differ else "headers", "warning" if differ else "info", told))
    notes += [_recognised(each) for each in matched.recognised]
    if matched.unmatched:
        size = sum(each.num_bytes for each in matched.unmatched)
        named = _named([f"{each.name} ({each.num_bytes:,} bytes)" for each in matched.unmatched])
        told = (
            f"{len(matched.unmatched):,} tensors ({gib(size, 3)}) that the config does not explain, counted as `other`: "
            f"{named}"
        )
        notes.append(Remark("tensors-unmatched", "warning", told))
    if matched.missing:
        told = f"the checkpoint lacks what the config promises: {_named(list(matched.missing))}"
        notes.append(Remark("tensors-missing", "warning", told))
    return tuple(notes)


def _where(promise: WeightBytes, stored: WeightBytes) -> str:
    """The roles that differ most, with the difference in bytes."""
    off: dict[str, int] = {role: stored.by_role[role] - size for role, size in promise.by_role.items()}
    off["draft layers"] = stored.mtp_bytes - promise.mtp_bytes if stored.mtp_bytes else 0
    most = sorted((role for role in off if off[role]), key=lambda role: -abs(off[role]))[:MOST_ROLES]
    return ", ".join(f"{role} ({'+' if off[role] > 0 else '-'}{gib(abs(off[role]), 3)})" for role in most)


def _recognised(each: Recognised) -> Remark:
    code, severity, told = _RECOGNISED[each.kind]
    return Remark(
        code,
        "warning" if severity == "warning" else "info",
        f"{each.num_tensors:,} tensors ({gib(each.num_bytes, 3)}) {told}; the first is {each.first}",
    )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
