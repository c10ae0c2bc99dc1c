"""llama.cpp's speculation: what its settings say, and how it is told to.

Source: llama.cpp b11312 common/speculative.cpp, tools/server/README.md (`--spec-type`, `--spec-draft-n-max`).
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Value
from moeplan.core.model import ModelSpec
from moeplan.core.speculation import DraftKind, Drafts
from moeplan.engines.llamacpp.settings import DROPS_DRAFTS, loads_drafts

FLAG = "--spec-draft-n-max"
TYPE, MODELS = "--spec-type", ("--spec-draft-model", "--spec-draft-hf")


def drafted(stated: Mapping[str, Value]) -> Drafts | None:
    """What the settings say; None without speculation, and where nobody says how many tokens."""
    model = next((str(stated[name]) for name in MODELS if stated.get(name)), None)
    kind: DraftKind = "own_layers" if loads_drafts(stated) else "other_model" if model else "lookup"
    tokens = stated.get(FLAG)
    if not (stated.get(TYPE) or model) or not isinstance(tokens, int) or tokens < 1:
        return None
    return Drafts(tokens, tokens + 1, kind, model=model if kind == "other_model" else None)


def has_layers(spec: ModelSpec) -> bool:
    """Whether the model's own draft layers are in what is loaded: the converter drops those of some families."""
    return spec.mtp is not None and spec.family not in DROPS_DRAFTS


def speculate(tokens: int, *, own_layers: bool) -> Mapping[str, Value]:
    """Settings that draft so many tokens, by draft layers or else by lookup."""
    return {TYPE: "draft-mtp" if own_layers else "ngram-simple", FLAG: tokens}
