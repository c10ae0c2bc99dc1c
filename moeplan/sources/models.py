"""MODEL as the user writes it -> a model that the arithmetic understands.

In this order: a path that exists; `hf://…`, a Hub URL or `org/name@revision` (the Hub); a catalogue name, also when it
looks like an id; else the Hub.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Quantisation
from moeplan.sources.families import read_config
from moeplan.sources.quantisation import read_quantisation

SourceKind = Literal["catalogue", "config", "headers", "gguf"]

_HUB_URL = re.compile(r"^(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)(?:models/)?(.+)$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


class LoadedModel(NamedTuple):
    """A model, how its checkpoint stores weights, and where that was read."""

    id: str
    revision: str | None
    source: str
    source_kind: SourceKind
    spec: ModelSpec
    quantisation: Quantisation | None
    """None where the checkpoint is stored in its plain dtype."""
    remarks: tuple[Remark, ...]
    checkpoint: Checkpoint | None = None
    """Tensors of the checkpoint's headers, where they were read."""


def find_model(
    text: str, *, revision: str | None = None, offline: bool = False, profile_folders: Sequence[Path] = ()
) -> LoadedModel:
    """Read the model that `text` names.

    Raises InputError for names and files that are wrong, ConfigError for configs that do not determine the
    answer, UnknownError when the Hub would have to be asked and cannot be.
    """
    text = text.strip()
    if not text:
        raise InputError(
            "MODEL is empty", hint="give a folder, a config.json, an org/name or a name from `moeplan models`"
        )
    path = Path(text).expanduser()
    if _exists(path):
        return _from_path(path, text)
    url = _HUB_URL.match(text)
    if url:
        return _from_hub(*_hub_reference(url.group(1), revision), offline=offline, typed=text)
    name, at, tagged = text.partition("@")
    if at and _HUB_ID.match(name):
        return _from_hub(name, revision or tagged, offline=offline, typed=text)
    if not _looks_like_path(text) and revision is None:
        from moeplan.sources.catalogue import find_entry

        entry = find_entry(text, profile_folders)
        if entry is not None:
            return _loaded(
                entry.id,
                None,
                entry.source,
                "catalogue",
                entry.config,
                entry.sidecar,
                f"catalogue entry {entry.id}",
                entry.remarks,
                entry.card.convention if entry.card else None,
            )
    if _looks_like_path(text):
        raise InputError(f"{text}: no such file or folder", hint="check the path, or give a name from `moeplan models`")
    if _HUB_ID.match(text):
        return _from_hub(text, revision, offline=offline, typed=text)
    from moeplan.sources.catalogue import near_names

    near = near_names(text, profile_folders)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        f"{text!r} is no file, no Hub id and no model of the catalogue",
        hint=f"{meant}`moeplan models` lists the catalogue",
    )


def _from_path(path: Path, text: str) -> LoadedModel:
    from moeplan.sources.config_files import read_config_folder

    if path.suffix.lower() in (".gguf", ".safetensors", ".bin"):
        raise InputError(
            f"{text}: reading weights' headers is not built yet", hint="give the model's folder or its config.json"
        )
    config, sidecar, config_path = read_config_folder(path)
    where = str(config_path)
    checkpoint = _folder_checkpoint(path)
    if checkpoint is None:
        return _loaded(text, None, where, "config", config, sidecar, where, ())
    return _loaded(text, None, where, "headers", config, sidecar, where, checkpoint.remarks, checkpoint=checkpoint)


def _folder_checkpoint(path: Path) -> Checkpoint | None:
    """What the headers of a folder's safetensors say; a config named by itself is read alone."""
    if not path.is_dir():
        return None
    from moeplan.sources.safetensors_headers import read_checkpoint_folder

    return read_checkpoint_folder(path)


def _from_hub(name: str, revision: str | None, *, offline: bool, typed: str) -> LoadedModel:
    if not _HUB_ID.match(name):
        raise InputError(
            f"{typed!r} names no Hub repository", hint="write org/name, hf://org/name or org/name@revision"
        )
    from moeplan.sources.hub import fetch_config

    fetched = fetch_config(name, revision, offline=offline)
    return _loaded(
        name,
        fetched.commit,
        fetched.source,
        "config",
        fetched.config,
        fetched.sidecar,
        f"{name} config.json",
        fetched.remarks,
    )


def _loaded(
    name: str,
    revision: str | None,
    source: str,
    kind: SourceKind,
    config: Mapping[str, Any],
    sidecar: Mapping[str, Any] | None,
    where: str,
    remarks: tuple[Remark, ...],
    card_convention: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> LoadedModel:
    spec = read_config(config, where)
    if card_convention is not None:
        spec = spec._replace(card_convention=card_convention)
    quantisation = read_quantisation(config, sidecar, where)
    return LoadedModel(name, revision, source, kind, spec, quantisation, remarks + spec.remarks, checkpoint)


def _hub_reference(tail: str, revision: str | None) -> tuple[str, str | None]:
    """`org/name@rev` or `org/name/tree/rev/...` -> (org/name, revision)."""
    parts = tail.split("?", maxsplit=1)[0].strip("/").split("/")
    tagged: str | None = None
    if len(parts) >= 4 and parts[2] in ("tree", "blob", "resolve"):
        tagged = parts[3]
    name, _, at = "/".join(parts[:2]).partition("@")
    return name, revision or tagged or at or None


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".json", ".gguf")) or "\\" in text or text.count("/") > 1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or with a null byte names no path
        return False
