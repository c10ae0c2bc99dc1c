"""What was published of how a model uses its experts, from `profiles/routing/<model>.yaml`: assumed, never measured here.

A file states the models that it is of, the shape of their router, and figures: the exponent of the gates' skew and the growth
of distinct experts over neighbouring tokens, each with a band, the setting, how it follows from what was published, and the
source. A person's own files win; built-in ones are found by `index.json`, so that a model without one costs that look-up alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.expert_use import MOST_SKEW
from moeplan.sources.catalogue import name_key
from moeplan.sources.fitted_sets import needed
from moeplan.sources.profile_folders import builtin_folder, user_folders
from moeplan.sources.strict_yaml import Block, load

INDEX = "index.json"
PAGE = "docs/method.md"
MOST_GROWTH = 1.0
"""Neighbours that share nothing."""


class PublishedFigure(NamedTuple):
    """A figure with its band, as it follows from what was published."""

    value: float
    low: float
    high: float
    setting: str
    """Texts, engine and device that it was seen on."""
    derived: str
    """How it follows from the figures that were published."""
    source: str
    rows: tuple[str, ...]
    """Ids of benchmarks/data/routing.csv, or whatever a person calls theirs."""


class RoutingPrior(NamedTuple):
    """What was published of a model's routing; at least one of both figures."""

    model: str
    """That was published about."""
    models: tuple[str, ...]
    """Checkpoints of it, its own formats among them."""
    alike: tuple[str, ...]
    """Checkpoints of the same base, of which nothing was published."""
    model_type: str
    experts: int
    experts_per_token: int
    exponent: PublishedFigure | None
    """Of a Zipf law of the gates' weights."""
    growth: PublishedFigure | None
    """Exponent b of distinct experts over neighbouring tokens, k n^b."""
    path: Path

    def is_alike(self, model_id: str) -> bool:
        """Whether nothing was published of that checkpoint itself, only of another of its base."""
        return _key(model_id) in {_key(name) for name in self.alike}


def prior_of(model_id: str, model_type: str, folders: Sequence[str | Path] = ()) -> RoutingPrior | None:
    """What was published of the model of that id (the organisation does not matter) and type, or None.

    `folders` are those given with `--profiles`. InputError where a file that is meant is broken.
    """
    key = _key(model_id)
    if not key:
        return None
    for path in _own_files(folders):
        prior = read_prior(path)
        if prior.model_type == model_type and key in _keys(prior):
            return prior
    folder = builtin_folder("routing")
    stem = _read_index(folder).get(key)
    if stem is None:
        return None
    prior = read_prior(folder / f"{stem}.yaml")
    return prior if prior.model_type == model_type else None


def read_prior(path: Path) -> RoutingPrior:
    """One file. InputError names the file and the key that is wrong."""
    top = load(path, PAGE)
    models, alike = top.texts("models"), top.texts("alike")
    if not models:
        raise top.wrong("models", "is missing", "list the models that the figures were published of")
    model_type = needed(top, "model_type")
    experts, chosen = top.integer("experts", minimum=2), top.integer("experts_per_token", minimum=1)
    if experts is None or chosen is None or chosen > experts:
        raise top.wrong("experts", "and experts_per_token must both be there, and no more chosen than there are")
    exponent = _figure(top, "exponent", MOST_SKEW)
    growth = _figure(top, "growth", MOST_GROWTH)
    if exponent is None and growth is None:
        raise top.wrong("exponent", "is missing, and so is `growth`", "state at least one of them")
    top.done()
    return RoutingPrior(models[0], models, alike, model_type, experts, chosen, exponent, growth, path)


def _figure(top: Block, key: str, most: float) -> PublishedFigure | None:
    block = top.block(key)
    if block is None:
        return None
    value, low, high = block.number("value"), block.number("low"), block.number("high")
    if value is None or low is None or high is None or not low <= value <= high <= most:
        raise block.wrong("value", f"needs value, low and high around it, none above {most:g}")
    setting, derived, source = needed(block, "setting"), needed(block, "derived"), needed(block, "source")
    rows = block.texts("rows")
    block.done()
    return PublishedFigure(value, low, high, setting, derived, source, rows)


def index_text(folder: Path) -> str:
    """What `index.json` of a folder must hold: the file of every name. InputError when two files claim one name."""
    owners: dict[str, str] = {}
    for path in _files(folder):
        for key in _keys(read_prior(path)):
            if owners.setdefault(key, path.stem) != path.stem:
                raise InputError(f"{path}: {key!r} belongs to {owners[key]} too", hint="name it in one of them")
    return json.dumps(dict(sorted(owners.items())), indent=1) + "\n"


def _read_index(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: the index of routing priors is broken", hint="reinstall moeplan") from error


def _keys(prior: RoutingPrior) -> set[str]:
    return {_key(name) for name in (*prior.models, *prior.alike)}


def _key(name: str) -> str:
    """A model's name without its organisation, in small letters."""
    return name_key(name.rstrip("/").rpartition("/")[2])


def _own_files(folders: Sequence[str | Path]) -> list[Path]:
    return [path for folder in user_folders("routing", folders) for path in _files(folder.path)]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from error
