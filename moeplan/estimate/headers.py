"""The checkpoint's headers as the answer to what the weights are, and the notes on where they differ from the config."""

from __future__ import annotations

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.matching import Matched, match
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Quantisation
from moeplan.core.weights import inventory
from moeplan.estimate.agreement import agreement


def match_headers(
    checkpoint: Checkpoint, spec: ModelSpec, stored: Quantisation, *, is_gguf: bool
) -> tuple[Matched, tuple[Remark, ...]]:
    """The checkpoint's tensors by the inventory; `stored` is what the config says of their formats."""
    owned = inventory(spec)
    if not is_gguf:
        matched = match(checkpoint, owned, stored, tied_embedding=spec.tied_embedding)
        return matched, agreement(spec, stored, checkpoint, matched)
    from moeplan.core.role_matching import match_by_role
    from moeplan.sources.gguf.names import gguf_roles, is_gguf_buffer

    names = [tensor.name for tensor in checkpoint.tensors]
    matched = match_by_role(checkpoint, owned, gguf_roles(names), {name for name in names if is_gguf_buffer(name)})
    return matched, agreement(spec, None, checkpoint, matched)
