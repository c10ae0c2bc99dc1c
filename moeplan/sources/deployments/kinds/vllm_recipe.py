"""A recipe of vllm-project/recipes: what a model is served with, for hardware and a strategy that are chosen elsewhere.

It is an entry of a catalogue and deploys nothing, so no deployment is read out of it.
"""

from __future__ import annotations

from moeplan.core.deployed import FileRemark
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.stream import Found, Stream


def recognises(document: Node) -> bool:
    """The keys `meta`, `model` with a `model_id`, and `variants` on top."""
    return document.at("meta").kind == "map" and "model_id" in document.at("model") and "variants" in document


def read(document: Node, stream: Stream) -> Found:
    """No deployment, and a remark that names the models."""
    model = document.at("model", "model_id")
    variants = [node.at("model_id").word() for node in document.at("variants").entries.values()]
    names = [name for name in dict.fromkeys((model.word(), *variants)) if name]
    told = f"a recipe for {', '.join(names) or 'a model'}: it deploys nothing by itself"
    hint = f"name the hardware: moeplan estimate {names[0]} --gpu GPU" if names else ""
    return Found(remarks=(FileRemark("recipe", told, model.spot, hint),))
