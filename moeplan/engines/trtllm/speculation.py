"""TensorRT-LLM's speculation: what its settings say, and how it is told to.

Source: TensorRT-LLM tensorrt_llm/llmapi/llm_args.py (DecodingBaseConfig and its kinds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Value
from moeplan.core.model import ModelSpec
from moeplan.core.speculation import DraftKind, Drafts
from moeplan.engines.trtllm.settings import SPECULATION, loads_drafts

FLAG = SPECULATION
LOOKUPS = ("NGRAM", "LOOKAHEAD", "SA")
LENGTHS = ("num_nextn_predict_layers", "max_draft_len", "max_total_draft_tokens")
MODELS = ("speculative_model", "speculative_model_dir", "pytorch_weights_path")


def drafted(stated: Mapping[str, Value]) -> Drafts | None:
    """What the settings say; None without speculation."""
    config: dict[str, Value] = {}
    text = stated.get(SPECULATION)
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if isinstance(found, dict):
        config |= found
    lead = f"{SPECULATION}."
    config |= {name.removeprefix(lead): value for name, value in stated.items() if name.startswith(lead)}
    if not config:
        return None
    lookup = str(config.get("decoding_type")).upper() in LOOKUPS
    kind: DraftKind = "own_layers" if loads_drafts(stated) else "lookup" if lookup else "other_model"
    lengths = [value for name in LENGTHS if isinstance(value := config.get(name), int) and value > 0]
    tokens = lengths[0] if lengths else 1
    model = next((str(config[name]) for name in MODELS if config.get(name)), None)
    return Drafts(tokens, tokens + 1, kind, model=model if kind == "other_model" else None)


def has_layers(spec: ModelSpec) -> bool:
    """Whether the model's own draft layers are in what is loaded."""
    return spec.mtp is not None


def speculate(tokens: int, *, own_layers: bool) -> Mapping[str, Value]:
    """Settings that draft so many tokens, by draft layers or else by lookup."""
    config: dict[str, Value] = {"decoding_type": "NGram", "max_draft_len": tokens}
    if own_layers:
        config = {"decoding_type": "MTP", "num_nextn_predict_layers": tokens}
    return {SPECULATION: json.dumps(config, separators=(",", ":"))}
