"""The catalogue: config facts of well-known models, one YAML file per model, found by any of its names offline.

A question for one model reads the index (one line of JSON per built-in file) and that model's file, no more. Files in
the user's folders win over built-in ones, by file name or by any name in them; they have no index and are read when
there are any.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import ModelSpec, MoeFfn, Remark, RoutedAttention
from moeplan.sources.file_writing import replace_file
from moeplan.sources.profile_folders import Origin, builtin_folder, user_folders
from moeplan.sources.strict_yaml import Block, load

SCHEMA = 1
INDEX = "index.json"
MOST_NEAR = 3

Provenance = Literal["published", "class_default", "rebuilt"]
PROVENANCES: dict[str, str] = {
    "published": "",
    "class_default": "these are the defaults of the config class that documents the model, not its published config.json",
    "rebuilt": "this config was put together from stated shapes; it is not the published config.json",
}
"""Where the values of an entry come from, and what an estimate says about it."""

Convention = Literal["active", "active_without_embedding", "active_without_embedding_and_head"]
CONVENTIONS: tuple[str, ...] = Convention.__args__  # type: ignore[attr-defined]


class Card(NamedTuple):
    """What is published about the model's parameters, as it was written."""

    total: str | None
    active: str | None
    convention: Convention | None
    """Which `active` of ours the published one is, where its digits fit that one alone."""
    source: str | None


class Entry(NamedTuple):
    """One model of the catalogue."""

    id: str
    aliases: tuple[str, ...]
    provenance: Provenance
    source: str
    config: Mapping[str, Any]
    """The fields of config.json that shapes, formats and limits depend on, by their own names."""
    sidecar: Mapping[str, Any] | None
    """The same of hf_quant_config.json, where the checkpoint has one."""
    card: Card | None
    license: str | None
    remarks: tuple[Remark, ...]
    path: Path


class Summary(NamedTuple):
    """One line of a listing: what the config gives, without reading the file again (built-in ones are in the index)."""

    profile: str
    """Name of the file without its ending."""
    id: str
    aliases: tuple[str, ...]
    provenance: Provenance
    model_type: str
    family: str
    verified: bool
    """False where no independent build confirms the shapes of the family."""
    total_params: int
    active_params: int
    num_layers: int
    num_experts: int | None
    experts_per_token: int | None
    num_shared_experts: int
    max_context_tokens: int | None
    format: str
    """How the checkpoint stores its weights."""


class Listed(NamedTuple):
    """One model of a listing; `problem` says why a broken file has no `summary`."""

    profile: str
    summary: Summary | None
    path: Path
    origin: Origin
    problem: str | None = None


# Reading one file -------------------------------------------------------------------------------------------


def read_entry(path: Path, origin: Origin = "built-in") -> Entry:
    """The model of one catalogue file. InputError names the file and the key that is wrong."""
    top = load(path)
    if (schema := top.integer("schema")) not in (None, SCHEMA):
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    name = _needed(top, "id", "write the model's name, for instance org/name")
    provenance = _needed(top, "provenance", f"write one of {', '.join(PROVENANCES)}")
    if provenance not in PROVENANCES:
        raise top.wrong("provenance", f"is {provenance!r}", f"write one of {', '.join(PROVENANCES)}")
    config = _object(top, "config")
    if config is None:
        raise top.wrong("config", "is missing", "put the fields of the model's config.json under it")
    entry = Entry(
        id=name,
        aliases=top.texts("aliases"),
        provenance=cast(Provenance, provenance),
        source=_needed(top, "source", "write where the values come from"),
        config=config,
        sidecar=_object(top, "sidecar"),
        card=_card(top),
        license=top.text("license"),
        remarks=_remarks(name, provenance, top.texts("notes"), path, origin),
        path=path,
    )
    top.done()
    return entry


def _needed(top: Block, key: str, hint: str) -> str:
    text = top.text(key)
    if text is None:
        raise top.wrong(key, "is missing", hint)
    return text


def _object(top: Block, key: str) -> Mapping[str, Any] | None:
    block = top.block(key)
    return None if block is None else block.values


def _card(top: Block) -> Card | None:
    block = top.block("card")
    if block is None:
        return None
    convention = block.text("convention")
    if convention is not None and convention not in CONVENTIONS:
        raise block.wrong("convention", f"is {convention!r}", f"write one of {', '.join(CONVENTIONS)}, or null")
    card = Card(block.text("total"), block.text("active"), cast(Convention | None, convention), block.text("source"))
    block.done()
    return card


def _remarks(name: str, provenance: str, notes: Sequence[str], path: Path, origin: Origin) -> tuple[Remark, ...]:
    if origin == "built-in":
        taken = f"{name} is read from the built-in catalogue, without the network; hf://{name} asks the Hub"
    else:
        taken = f"{name} is read from {path}"
    remarks = [Remark("catalogue", "info", taken)]
    if doubt := PROVENANCES[provenance]:
        remarks.append(Remark(f"provenance-{provenance.replace('_', '-')}", "warning", f"{name}: {doubt}"))
    return (*remarks, *(Remark("catalogue-note", "info", note) for note in notes))


# Names ------------------------------------------------------------------------------------------------------


def name_key(text: str) -> str:
    """A name without case, with spaces and underscores as dashes: "Mixtral 8x7B" is "mixtral-8x7b"."""
    return re.sub(r"[\s_]+", "-", text.strip().lower())


def _keys(name: str, aliases: Sequence[str]) -> list[str]:
    """Keys of all names of a model: its id, the id without the organisation, its aliases."""
    return list(dict.fromkeys(map(name_key, (name, name.rpartition("/")[2], *aliases))))


# The index --------------------------------------------------------------------------------------------------


def summary(path: Path, origin: Origin = "built-in") -> Summary:
    """What a listing says of one file. InputError where the file or its config is wrong."""
    from moeplan.core.quant import BY_DTYPE
    from moeplan.core.weights import parameters
    from moeplan.sources.families import read_config
    from moeplan.sources.quantisation import read_quantisation

    entry = read_entry(path, origin)
    spec = read_config(entry.config, str(path))
    quantisation = read_quantisation(entry.config, entry.sidecar, str(path))
    counts = parameters(spec)
    num_experts, experts_per_token, num_shared = _experts(spec)
    return Summary(
        profile=path.stem,
        id=entry.id,
        aliases=entry.aliases,
        provenance=entry.provenance,
        model_type=spec.model_type,
        family=spec.family,
        verified=spec.verified,
        total_params=counts.total,
        active_params=counts.active,
        num_layers=len(spec.layers),
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        num_shared_experts=num_shared,
        max_context_tokens=spec.max_context_tokens,
        format=quantisation.name if quantisation else BY_DTYPE[spec.dtype].name,
    )


def _experts(spec: ModelSpec) -> tuple[int | None, int | None, int]:
    """Routed experts of the first sparse layer, how many a token visits, and shared ones; None in a dense model."""
    for layer in spec.layers + spec.encoder_layers:
        for ffn in layer.ffns:
            if isinstance(ffn, MoeFfn):
                return ffn.num_experts, ffn.experts_per_token, ffn.num_shared_experts
        for mixer in layer.mixers:
            if isinstance(mixer, RoutedAttention):
                return mixer.num_experts, mixer.experts_per_token, 0
    return None, None, 0


def index_text(folder: Path) -> str:
    """What `index.json` of a folder must hold: one line per file. InputError when two files claim one name."""
    owners: dict[str, str] = {}
    lines = []
    for path in _files(folder):
        row = summary(path)
        for key in _keys(row.id, row.aliases):
            if key in owners:
                raise InputError(
                    f"{path}: the name {key!r} belongs to {owners[key]} too", hint="give one of them another"
                )
            owners[key] = path.stem
        lines.append(json.dumps(row))
    joined = ",\n  ".join(lines)
    return f'{{\n "schema": {SCHEMA},\n "fields": {json.dumps(Summary._fields)},\n "models": [\n  {joined}\n ]\n}}\n'


def write_index(folder: Path | None = None) -> Path:
    """Write `index.json` of a folder of built-in models; to be run after one was added, changed or renamed."""
    folder = folder or builtin_folder("models")
    path = folder / INDEX
    replace_file(path, index_text(folder).encode())
    return path


def _read_index(folder: Path) -> list[Summary]:
    path = folder / INDEX
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["models"]
        return [Summary(*row)._replace(aliases=tuple(row[2])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: the index of models is broken", hint="reinstall moeplan") from error


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(
            (path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")), key=lambda path: path.stem
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from error


# Finding ----------------------------------------------------------------------------------------------------


def find_entry(text: str, folders: Sequence[str | Path] = ()) -> Entry | None:
    """The model that `text` names, or None where nobody has it.

    `folders` are those given with `--profiles`. A user's file wins, by its file name or by a name in it. InputError
    when the file that is meant is broken.
    """
    key = name_key(text)
    if not key:
        return None
    own = _user_files(folders)
    for path, origin in own:
        if name_key(path.stem) == key:
            return read_entry(path, origin)
    for path, origin in own:
        entry = _or_none(path, origin)
        if entry is not None and key in _keys(entry.id, entry.aliases):
            return entry
    folder = builtin_folder("models")
    for row in _read_index(folder):
        if key in _keys(row.id, row.aliases):
            return read_entry(folder / f"{row.profile}.yaml")
    return None


def near_names(text: str, folders: Sequence[str | Path] = ()) -> list[str]:
    """The nearest known names, at most three, each of another model; empty where nothing is near."""
    return list(_near(text, folders, 0.6).values())


def near_ids(text: str, folders: Sequence[str | Path] = ()) -> list[str]:
    """Ids of the models whose names are nearly this one, at most three: an id that is not known may well be right."""
    return list(_near(text, folders, 0.9))


def _near(text: str, folders: Sequence[str | Path], cutoff: float) -> dict[str, str]:
    """Ids of the nearest models with the name that is near, the nearest first."""
    import difflib

    names: dict[str, str] = {}
    for row in _read_index(builtin_folder("models")):
        names.update(dict.fromkeys(_keys(row.id, row.aliases), row.id))
    for path, origin in _user_files(folders):
        if (entry := _or_none(path, origin)) is not None:
            names.update(dict.fromkeys(_keys(entry.id, entry.aliases), entry.id))
    key = name_key(text)
    near = difflib.get_close_matches(key, names, n=3 * MOST_NEAR, cutoff=cutoff)
    near = near or [name for name in names if key and key in name]
    first_of_each = {names[name]: name for name in reversed(near)}
    nearest = sorted(first_of_each.items(), key=lambda pair: near.index(pair[1]))
    return dict(nearest[:MOST_NEAR])


def list_entries(folders: Sequence[str | Path] = ()) -> list[Listed]:
    """Every model, the user's in place of built-in ones of the same file name or id; broken files with their problem."""
    listed: dict[str, Listed] = {}
    own_ids = set()
    for path, origin in _user_files(folders):
        if path.stem in listed:
            continue
        try:
            row = summary(path, origin)
        except (InputError, ConfigError) as error:
            listed[path.stem] = Listed(path.stem, None, path, origin, error.message)
        else:
            own_ids.add(name_key(row.id))
            listed[path.stem] = Listed(path.stem, row, path, origin)
    folder = builtin_folder("models")
    for row in _read_index(folder):
        if row.profile not in listed and name_key(row.id) not in own_ids:
            listed[row.profile] = Listed(row.profile, row, folder / f"{row.profile}.yaml", "built-in")
    return list(listed.values())


def _user_files(folders: Sequence[str | Path]) -> list[tuple[Path, Origin]]:
    return [(path, folder.origin) for folder in user_folders("models", folders) for path in _files(folder.path)]


def _or_none(path: Path, origin: Origin) -> Entry | None:
    try:
        return read_entry(path, origin)
    except InputError:
        return None
