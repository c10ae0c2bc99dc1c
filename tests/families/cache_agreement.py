"""Our reading of a config beside the cache that transformers makes for it: which layers hold what."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import GroupedAttention, Layer
from moeplan.sources.families import read_config


def assert_cache_layers_agree(config: dict[str, Any]) -> None:
    """Every layer is full, windowed (by as many tokens), recurrent or without a cache in both."""
    ours = [_kind(layer) for layer in read_config(config).layers]
    assert ours == _oracle_kinds(config)


def _kind(layer: Layer) -> str:
    (mixer,) = layer.mixers
    if not isinstance(mixer, GroupedAttention):
        return "recurrent"
    if mixer.shares_cache_of is not None:
        return "none"
    return "full" if mixer.window_tokens is None else f"window {mixer.window_tokens}"


def _oracle_kinds(config: dict[str, Any]) -> list[str]:
    import transformers

    values = {name: value for name, value in config.items() if name != "model_type"}
    loaded = transformers.AutoConfig.for_model(config["model_type"], **values)
    names = {"DynamicLayer": "full", "LinearAttentionLayer": "recurrent", "DummyLayer": "none"}
    return [
        f"window {layer.sliding_window}"
        if type(layer).__name__ == "DynamicSlidingWindowLayer"
        else names[type(layer).__name__]
        for layer in transformers.DynamicCache(config=loaded).layers
    ]
