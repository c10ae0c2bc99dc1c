"""KubeAI's Model: a model by its URL, an engine, and the name of a profile of resources with how many of it.

Source: substratusai/kubeai docs/reference/kubernetes-api.md and charts/kubeai/values.yaml, whose profiles hold one GPU each
and are called after it (`nvidia-gpu-h100`).
"""

from __future__ import annotations

import re

from moeplan.core.deployed import Deployed, Gang, Quote
from moeplan.sources.deployments.containers import words_of
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.model_names import trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.objects import named
from moeplan.sources.deployments.plain_secrets import without_secret_values, without_secrets
from moeplan.sources.deployments.record import moeplan_annotations, recorded
from moeplan.sources.deployments.stream import Found, Stream

KIND = "kubeai.model"
_ENGINES = {"VLLM": "vllm", "OLlama": "llamacpp"}
_MODEL_FLAGS = {"vllm": "--model", "llamacpp": "-m"}
_PROFILE = re.compile(r"(.+?)(?::(\d+))?")
_CARD = re.compile(r"(?:nvidia|amd)-gpu-(.+)")


def recognises(document: Node) -> bool:
    """By kind and API group."""
    return document.at("kind").word() == "Model" and document.at("apiVersion").word().startswith("kubeai.org/")


def read(document: Node, stream: Stream) -> Found:
    """One deployment; a model of another engine, or on processors, is passed over."""
    spec, name = document.at("spec"), named(document, stream)
    engine = _ENGINES.get(spec.at("engine").word())
    profile = spec.at("resourceProfile").quote()
    if engine is None or (profile is not None and profile.text.startswith("cpu")):
        return Found(passed_over=(name,))
    gpu, gpus = _cards(profile)
    replicas = spec.at("replicas").quote() or spec.at("minReplicas").quote()
    base = Deployed(
        KIND,
        name,
        document.key,
        image=spec.at("image").quote(),
        gpu=gpu,
        gang=Gang(gpus, None, replicas, spec.at("maxReplicas").quote()),
        annotations=moeplan_annotations(document.at("metadata", "annotations")),
    )
    url = spec.at("url").quote()
    traced = trace_model(url) if url is not None else None
    model = (Quote(_MODEL_FLAGS[engine], url.spot), url) if url is not None and traced is None else ()
    set_there = {key: Quote(value.text, value.spot) for key, value in spec.at("env").entries.items() if value.is_scalar}
    variables, secrets = without_secret_values(set_there)
    words, in_words = without_secrets(words_of(spec.at("args"), variables))
    found = recorded(base, (Run(engine, (*model, *words), variables),), Evidence(named=traced))
    return Found(found, secrets=(*secrets, *in_words))


def _cards(profile: Quote | None) -> tuple[Quote | None, Quote | None]:
    """The card, and how many of it: `nvidia-gpu-h100:2`."""
    found = _PROFILE.fullmatch(profile.text) if profile is not None else None
    if profile is None or found is None:
        return None, None
    card = _CARD.fullmatch(found.group(1))
    gpu = profile._replace(text=card.group(1), origin="inferred", why="resourceProfile") if card is not None else None
    return gpu, profile._replace(text=found.group(2) or "1", why="resourceProfile")
