"""A model as files name it: Hub ids, URIs, paths of the Hub's cache, mounted folders."""

from __future__ import annotations

from typing import NamedTuple

from moeplan.core.deployed import Quote


class Traced(NamedTuple):
    """A Hub id, and the revision where the text names one."""

    model: Quote
    revision: Quote | None = None


def trace_model(quote: Quote) -> Traced | None:
    """`org/name`, `org/name@rev`, `hf://org/name[:rev|@rev]`, `.../models--ORG--NAME/snapshots/SHA`, `hf.co/org/name:QUANT`.

    None for local paths and other stores (`pvc://`, `s3://`), which name no model on the Hub.
    """
    raise NotImplementedError


def is_local(text: str) -> bool:
    """True for a path or a store other than the Hub."""
    raise NotImplementedError
