"""SGLang's speculation: what its settings say, and how it is told to.

`--speculative-num-draft-tokens` counts the tokens that a step verifies, the last one among them; with one branch they are one
more than the steps of the draft. Source: SGLang 0.5.23 srt/arg_groups/speculative_hook.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Value
from moeplan.core.model import ModelSpec
from moeplan.core.speculation import DraftKind, Drafts
from moeplan.engines.sglang.settings import DRAFT_MODEL, draft_tokens, loads_drafts

FLAG = "--speculative-num-steps"
ALGORITHM, BRANCHES, VERIFIED = (
    "--speculative-algorithm", "--speculative-eagle-topk", "--speculative-num-draft-tokens",
)  # fmt: skip
LOOKUPS = ("NGRAM", "SUFFIX")


def drafted(stated: Mapping[str, Value]) -> Drafts | None:
    """What the settings say; None without speculation."""
    algorithm = str(stated.get(ALGORITHM) or "").upper()
    if not algorithm:
        return None
    kind: DraftKind = "own_layers" if loads_drafts(stated) else "lookup" if algorithm in LOOKUPS else "other_model"
    steps, branches, verified = stated.get(FLAG), stated.get(BRANCHES), draft_tokens(stated)
    wide = branches if isinstance(branches, int) and branches > 1 and kind != "lookup" else 1
    tokens = steps if isinstance(steps, int) and steps and kind != "lookup" else max(1, verified - 1)
    if wide == 1:
        verified = tokens + 1
    model = stated.get(DRAFT_MODEL)
    return Drafts(tokens, verified, kind, wide, str(model) if kind == "other_model" and model else None)


def has_layers(spec: ModelSpec) -> bool:
    """Whether the model's own draft layers are in what is loaded."""
    return spec.mtp is not None


def speculate(tokens: int, *, own_layers: bool) -> Mapping[str, Value]:
    """Settings that draft so many tokens one after the other, by draft layers or else by lookup."""
    if not own_layers:
        return {ALGORITHM: "NGRAM", VERIFIED: tokens + 1}
    return {ALGORITHM: "NEXTN", FLAG: tokens, BRANCHES: 1, VERIFIED: tokens + 1}
