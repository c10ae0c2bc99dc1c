"""An engine that a container starts, whichever kind of file says so."""

from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployed import Quote


class Run(NamedTuple):
    """An engine that a container starts."""

    engine: str
    command: tuple[Quote, ...]
    """Program, model and flags."""
    variables: Mapping[str, Quote]
