"""MODEL as the user writes it -> a model that the arithmetic understands.

In this order: a path that exists; `hf://…`, a Hub URL or `org/name@revision` (the Hub); a catalogue name, also when it
looks like an id; else the Hub.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import BF16, Quantisation
from moeplan.sources.families import read_config
from moeplan.sources.quantisation import read_quantisation

if TYPE_CHECKING:  # only who asks for a GGUF file pays for its reader
    from moeplan.sources.catalogue import Entry
    from moeplan.sources.gguf.model import GgufFile

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


class Asked(NamedTuple):
    """How a model is to be read."""

    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    offline: bool = False
    """Open no connection."""
    headers: bool = False
    """Read the checkpoint even of a model that the catalogue knows."""
    file: str | None = None
    """One file of a folder or repository that holds several models."""
    profile_folders: tuple[Path, ...] = ()
    progress: Callable[[int, int], None] | None = None
    """Told how many headers of how many are read."""


AS_IT_COMES = Asked()


def find_model(text: str, asked: Asked = AS_IT_COMES) -> LoadedModel:
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
        return _from_path(path / asked.file if asked.file and path.is_dir() else path, text)
    url = _HUB_URL.match(text)
    if url:
        name, tagged = _hub_reference(url.group(1))
        return _from_hub(name, asked._replace(revision=asked.revision or tagged), text)
    name, at, tag = text.partition("@")
    if at and _HUB_ID.match(name):
        return _from_hub(name, asked._replace(revision=asked.revision or tag), text)
    if not _looks_like_path(text) and asked.revision is None and asked.file is None:
        from moeplan.sources.catalogue import find_entry

        entry = find_entry(text, asked.profile_folders)
        if entry is not None and asked.headers:
            return _from_hub(entry.id, asked, text)
        if entry is not None:
            return _from_catalogue(entry)
    if _looks_like_path(text):
        raise InputError(f"{text}: no such file or folder", hint="check the path, or give a name from `moeplan models`")
    if _HUB_ID.match(text):
        return _from_hub(text, asked, text)
    from moeplan.sources.catalogue import near_names

    near = near_names(text, asked.profile_folders)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        f"{text!r} is no file, no Hub id and no model of the catalogue",
        hint=f"{meant}`moeplan models` lists the catalogue",
    )


def _from_catalogue(entry: "Entry") -> LoadedModel:
    convention = entry.card.convention if entry.card else None
    where = f"catalogue entry {entry.id}"
    loaded = _loaded(entry.id, None, entry.source, "catalogue", entry.config, entry.sidecar, where, entry.remarks)
    return loaded._replace(spec=loaded.spec._replace(card_convention=convention)) if convention else loaded


def _from_path(path: Path, text: str) -> LoadedModel:
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        from moeplan.sources.gguf.model import read_gguf

        return _from_gguf(read_gguf(path), text, None, str(path))
    if suffix in (".bin", ".pt", ".pth"):
        raise InputError(f"{text}: weights in this format have no header to read", hint="give the model's config.json")
    from moeplan.sources.config_files import CONFIG, read_config_folder

    checkpoint, remarks = _local_checkpoint(path)
    if suffix == ".safetensors":
        path = path.parent
        if not (path / CONFIG).exists():
            raise InputError(
                f"{text}: there is no {CONFIG} beside it, which says the model's shape", hint="put one there"
            )
    config, sidecar, config_path = read_config_folder(path)
    where = str(config_path)
    kind: SourceKind = "config" if checkpoint is None else "headers"
    return _loaded(text, None, where, kind, config, sidecar, where, remarks, checkpoint=checkpoint)


def _local_checkpoint(path: Path) -> tuple[Checkpoint | None, tuple[Remark, ...]]:
    """What the headers of a folder's or a file's safetensors say; a config named by itself is read alone."""
    if not path.is_dir() and path.suffix.lower() != ".safetensors":
        return None, ()
    from moeplan.sources.safetensors_headers import choose_folder_files, read_checkpoint_file, read_checkpoint_folder

    checkpoint = read_checkpoint_folder(path) if path.is_dir() else read_checkpoint_file(path)
    if checkpoint is None:
        return None, choose_folder_files(path).remarks
    return checkpoint, checkpoint.remarks


def _from_gguf(file: "GgufFile", name: str, commit: str | None, source: str) -> LoadedModel:
    """A model as its GGUF file describes it; its formats are those of its tensors."""
    quant = file.checkpoint.metadata.get("general.file_type", "gguf").lower()
    spec = read_config(file.config, source)
    stored = Quantisation(f"gguf {quant}", BF16)
    return LoadedModel(name, commit, source, "gguf", spec, stored, file.remarks + spec.remarks, file.checkpoint)


def _from_hub(name: str, asked: Asked, typed: str) -> LoadedModel:
    """A repository of the Hub at one commit: config and headers, or one of its GGUF files."""
    if not _HUB_ID.match(name):
        raise InputError(
            f"{typed!r} names no Hub repository", hint="write org/name, hf://org/name or org/name@revision"
        )
    if asked.file is not None and asked.file.lower().endswith(".gguf"):
        return _from_hub_gguf(name, asked.file, asked)
    from moeplan.sources.hub.config import fetch_config, find_repository

    fetched = fetch_config(name, asked.revision, offline=asked.offline)
    checkpoint, remarks = None, fetched.remarks
    if fetched.commit is not None:
        from moeplan.sources.hub.headers import fetch_checkpoint, without_headers

        try:
            checkpoint = fetch_checkpoint(
                name,
                fetched.commit,
                offline=asked.offline,
                files=fetched.files,
                only=asked.file,
                progress=asked.progress,
            )
        except UnknownError as error:
            if not asked.offline or asked.headers:
                raise
            remarks += (Remark("headers-not-read", "warning", f"{error.message}: weights are derived from the config"),)
        else:
            if checkpoint is None:
                files = fetched.files or find_repository(name, fetched.commit, offline=asked.offline).files
                remarks += without_headers(name, fetched.commit, files)
            else:
                remarks += checkpoint.remarks
    kind: SourceKind = "config" if checkpoint is None else "headers"
    where = f"{name} config.json"
    return _loaded(
        name,
        fetched.commit,
        fetched.source,
        kind,
        fetched.config,
        fetched.sidecar,
        where,
        remarks,
        checkpoint=checkpoint,
    )


def _from_hub_gguf(name: str, file: str, asked: Asked) -> LoadedModel:
    """One GGUF model of a repository, by its first file's name; its parts are read by ranges."""
    from moeplan.sources.gguf.model import join_parts, part_names
    from moeplan.sources.gguf.part import read_part
    from moeplan.sources.hub.config import find_repository
    from moeplan.sources.hub.gguf import hub_range_reader

    found = find_repository(name, asked.revision, offline=asked.offline)
    parts = []
    for part in part_names(file):
        read, file_bytes = hub_range_reader(name, found.commit, part, offline=asked.offline, files=found.files)
        parts.append(read_part(read, file_bytes, f"{name}/{part}", file=part))
    loaded = _from_gguf(join_parts(parts), f"{name}/{file}", found.commit, f"{name}@{found.commit[:12]} {file}")
    return loaded._replace(remarks=found.remarks + loaded.remarks)


def _loaded(
    name: str,
    revision: str | None,
    source: str,
    kind: SourceKind,
    config: Mapping[str, Any],
    sidecar: Mapping[str, Any] | None,
    where: str,
    remarks: tuple[Remark, ...],
    checkpoint: Checkpoint | None = None,
) -> LoadedModel:
    spec = read_config(config, where)
    quantisation = read_quantisation(config, sidecar, where)
    return LoadedModel(name, revision, source, kind, spec, quantisation, remarks + spec.remarks, checkpoint)


def _hub_reference(tail: str) -> tuple[str, str | None]:
    """`org/name@rev` or `org/name/tree/rev/...` -> (org/name, revision)."""
    parts = tail.split("?", maxsplit=1)[0].strip("/").split("/")
    tagged: str | None = None
    if len(parts) >= 4 and parts[2] in ("tree", "blob", "resolve"):
        tagged = parts[3]
    name, _, at = "/".join(parts[:2]).partition("@")
    return name, tagged or at or None


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".json", ".gguf")) or "\\" in text or text.count("/") > 1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or with a null byte names no path
        return False
