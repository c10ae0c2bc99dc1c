"""Which model an engine's words serve: by a Hub id, a path that is traced to one, or at last the name that it is served under."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from moeplan.core.deployed import FileRemark, Quote
from moeplan.sources.deployments.model_names import Traced, trace_model
from moeplan.sources.deployments.words import program_length, value_of, values_of

_QUANTISED = re.compile(
    r"(?<![a-z0-9])(?:(?:nv|mx)?fp4|fp8|awq|gptq|gguf|int[48]|w[48]a(?:16|8|4)|[48]bit|bnb)(?![a-z0-9])", re.IGNORECASE
)
"""Words in the name of a checkpoint that say how its weights are stored."""

MODEL_FLAGS = ("--model", "--model-path")
SERVED_NAME_FLAGS = ("--served-model-name",)


class Weights(NamedTuple):
    """Weights that are laid under a path before the engine starts."""

    path: str
    source: Quote
    """`hf://org/name@rev` or `org/name`."""
    revision: Quote | None = None
    """Where the source has its own key for it."""


class Evidence(NamedTuple):
    """What a file says of a model outside the engine's words."""

    named: Traced | None = None
    """The model that a key of the file names as the one to load."""
    weights: tuple[Weights, ...] = ()
    hinted: Traced | None = None
    """A model that the file names without saying that the engine loads it."""
    served_as: Quote | None = None
    """The served name, where a key holds it."""


NO_EVIDENCE = Evidence()


class Identity(NamedTuple):
    """What is known of a model beside the words of the command."""

    model: Quote | None = None
    """The Hub id where the command's own word is none; None leaves it to the command, or nothing is known."""
    revision: Quote | None = None
    served_names: tuple[Quote, ...] = ()
    remarks: tuple[FileRemark, ...] = ()


def identify(command: Sequence[Quote], evidence: Evidence = NO_EVIDENCE) -> Identity:
    """The model by the strongest evidence: the command's word, what the file names beside it, weights under its path, and at
    last the name that it is served under.

    A served name without the quantisation word of the path (`/models/deepseek-r1-fp4` as `deepseek-ai/DeepSeek-R1`) is
    another checkpoint's: it is no evidence, and a remark says so.
    """
    word = model_word(command)
    names = values_of(command, *SERVED_NAME_FLAGS)
    if not names and evidence.served_as is not None:
        names = (evidence.served_as,)
    traced = trace_model(word) if word is not None and word.known else None
    if traced is not None and word is not None:
        plain = traced.model.text == word.text
        return Identity(None if plain else traced.model, traced.revision, names)
    found = evidence.named or _laid_under(word, evidence.weights) or evidence.hinted
    if found is not None:
        return Identity(found.model, found.revision, names)
    return _by_served_name(word, names)


def model_word(command: Sequence[Quote]) -> Quote | None:
    """The word that names the model: the one behind the program, or the value of `--model`."""
    length = program_length(command)
    behind = command[length:]
    if length and behind and behind[0].text and not behind[0].text.startswith("-"):
        return behind[0]
    return value_of(behind, *MODEL_FLAGS)


def _laid_under(word: Quote | None, weights: Sequence[Weights]) -> Traced | None:
    """The source of the weights that lie where the word points; of several the one with the longest path."""
    if word is None or not word.known:
        return None
    for each in sorted(weights, key=lambda each: -len(each.path)):
        path = each.path.rstrip("/")
        if word.text.rstrip("/") == path or word.text.startswith(f"{path}/"):
            traced = trace_model(each.source)
            if traced is None:
                return None
            model = traced.model._replace(origin="inferred", why=f"weights mounted at {path}")
            return Traced(model, each.revision or traced.revision)
    return None


def _by_served_name(word: Quote | None, names: tuple[Quote, ...]) -> Identity:
    """The served name as the model, where nothing better is known."""
    hub_like = next((name for name in names if name.known and "/" in name.text and trace_model(name)), None)
    if hub_like is None:
        return Identity(served_names=names)
    lacking = _quantisation_that_lacks(word, hub_like)
    if word is not None and lacking:
        told = f"{word.text} is served as {hub_like.text}, which names no {lacking} checkpoint: the model is not known"
        hint = "state the model: a comment `# moeplan: model=ORG/NAME` above, or `models` in the policy"
        return Identity(served_names=names, remarks=(FileRemark("served-name-differs", told, word.spot, hint),))
    model = hub_like._replace(origin="inferred", why="served name")
    return Identity(model, None, names)


def _quantisation_that_lacks(word: Quote | None, name: Quote) -> str:
    """The quantisation word at the end of a path that a served name lacks; empty where it lacks none."""
    if word is None:
        return ""
    last = word.text.rstrip("/").rpartition("/")[2].replace("_", "-")
    said = {_family(found) for found in _QUANTISED.findall(name.text.replace("_", "-"))}
    return next((found.lower() for found in _QUANTISED.findall(last) if _family(found) not in said), "")


def _family(word: str) -> str:
    """`fp4` for its kinds: a name may say one where the path says the other."""
    return "fp4" if word.lower().endswith("fp4") else word.lower()
