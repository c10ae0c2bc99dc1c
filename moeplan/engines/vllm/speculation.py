"""vLLM's speculation: what its settings say, and how it is told to.

Source: vLLM 0.33.0 config/speculative.py (SpeculativeConfig).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Option, Settings, Value
from moeplan.core.model import ModelSpec
from moeplan.core.speculation import DraftKind, Drafts
from moeplan.engines.vllm.settings import draft_tokens, loads_drafts, speculation

FLAG = "--speculative-config"
LOOKUPS = ("ngram", "suffix")
"""Methods that draft from the text, by the beginning of their names; older releases had `[ngram]` for a model."""


def drafted(stated: Mapping[str, Value]) -> Drafts | None:
    """What the settings say; None without speculation."""
    settings = Settings((Option(FLAG, stated.get(FLAG), "stated"),))
    config = speculation(settings)
    if not config:
        return None
    method, model = str(config.get("method") or ""), config.get("model")
    kind: DraftKind = "other_model"
    if loads_drafts(stated):
        kind = "own_layers"
    elif method.startswith(LOOKUPS) or str(model or "").strip("[]").startswith(LOOKUPS):
        kind = "lookup"
    tokens = draft_tokens(settings)
    return Drafts(tokens, tokens + 1, kind, model=str(model) if kind == "other_model" and model else None)


def has_layers(spec: ModelSpec) -> bool:
    """Whether the model's own draft layers are in what is loaded."""
    return spec.mtp is not None


def speculate(tokens: int, *, own_layers: bool) -> Mapping[str, Value]:
    """Settings that draft so many tokens, by draft layers or else by lookup."""
    config = {"method": "mtp" if own_layers else "ngram", "num_speculative_tokens": tokens}
    return {FLAG: json.dumps(config, separators=(",", ":"))}
