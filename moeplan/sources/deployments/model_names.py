"""A model as files name it: Hub ids, URIs, paths of the Hub's cache, mounted folders."""

from __future__ import annotations

import re
from typing import NamedTuple

from moeplan.core.deployed import Quote

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ID = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]+)|:([\w.-]+))?")
"""Hub ids have two parts; behind a colon stands the quantisation of a GGUF, behind an `@` a revision."""
_HUB = re.compile(
    rf"(?:hf://|(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/)(?:models/)?({_PART}/{_PART})"
    r"(?:/(?:tree|resolve|blob)/([\w.-]+)(?:/.*)?|@([\w./-]+)|:([\w.-]+))?/?"
)
_CLAIM = re.compile(rf"pvc\+hf://[^/]+/(?:.*/)?({_PART}/{_PART})/?")
"""llm-d: a Hub's model in a cache on a volume, by the path's last two parts."""
_CACHE = re.compile(r"(?:^|[/\\])models--([^/\\]+?)--([^/\\]+)(?:[/\\]snapshots[/\\]([^/\\]+))?(?=[/\\]|$)")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_STORE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEIGHT_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".engine", ".ggml")


class Traced(NamedTuple):
    """A Hub id, and the revision where the text names one."""

    model: Quote
    revision: Quote | None = None


def trace_model(quote: Quote) -> Traced | None:
    """`org/name`, `org/name@rev`, `hf://org/name[:rev|@rev]`, `.../models--ORG--NAME/snapshots/SHA`, `hf.co/org/name:QUANT`.

    None for local paths and other stores (`pvc://`, `s3://`), which name no model on the Hub. The `:QUANT` of a GGUF stays
    a part of the model's name, as llama.cpp takes it.
    """
    text = quote.text.strip()
    cached = _CACHE.search(text)
    if cached is not None:
        owner, name, revision = cached.groups()
        model = f"{owner}/{name}"
        if not _ID.fullmatch(model) or any(each in model for each in quote.unknown):
            return None
        sha = revision if revision and _COMMIT.fullmatch(revision) else None
        why = _and(quote.why, "a path of the Hub's cache")
        found = Quote(model, quote.spot, "inferred", (), why)
        return Traced(found, found._replace(text=sha) if sha else None)
    if not quote.known:
        return None
    hub = _HUB.fullmatch(text)
    if hub is not None:
        model, tree, at, colon = hub.groups()
        if colon and not text.startswith("hf://"):
            model, colon = f"{model}:{colon}", None
        return _traced(quote, model, tree or at or colon)
    claim = _CLAIM.fullmatch(text)
    if claim is not None:
        return _traced(quote, claim.group(1), None)
    plain = _ID.fullmatch(text)
    if plain is None or is_local(text):
        return None
    model, at, quant = plain.groups()
    return _traced(quote, f"{model}:{quant}" if quant else model, at)


def is_local(text: str) -> bool:
    """True for a path or a store other than the Hub."""
    text = text.strip()
    if _HUB.match(text) or _CLAIM.match(text):
        return False
    return (
        text.startswith(("/", "./", "../", "~", "\\", "."))
        or bool(_STORE.match(text))
        or "\\" in text
        or bool(re.match(r"[A-Za-z]:[/\\]", text))
        or text.count("/") > 1
        or text.lower().endswith(_WEIGHT_FILES)
    )


def _traced(quote: Quote, model: str, revision: str | None) -> Traced:
    return Traced(quote._replace(text=model), quote._replace(text=revision) if revision else None)


def _and(why: str, more: str) -> str:
    return f"{why}, {more}" if why else more
