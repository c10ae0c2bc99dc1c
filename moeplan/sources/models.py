"""MODEL as the user writes it -> a model that the arithmetic understands.

In this order: a path that exists; `hf://…`, a Hub URL or `org/name@revision` (the Hub); a catalogue name, also when it
looks like an id, unless a revision, a file or its headers are asked for; else the Hub.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn
from urllib.parse import unquote

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

_HUB_URL = re.compile(r"(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)(?:models/)?(.*)")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
# Behind the address: `org/name`, then `@revision` (only these two kinds hold a slash, as in huggingface_hub 2.4.0
# `hf_file_system.py`) or a page that names one, then a file.
_HUB_TAIL = re.compile(
    r"(?P<name>[^/@]+/[^/@]+)(?:@(?P<at>refs/(?:pr|convert)/[^/]+|[^/]*)|/(?:tree|blob|resolve|raw)/(?P<page>[^/]+))?"
    r"(?:/(?P<file>.*))?"
)
_WITH_HEADERS = (".gguf", ".safetensors")
_WITHOUT_HEADERS = (".bin", ".pt", ".pth")
_OTHER_COMMIT = "try another --revision; or give the model's config.json alone, to compute from the config"


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
        return _from_path(_named_file(path, asked, text), text)
    address = _hub_address(text)
    if address is not None:
        name, tag, file = _hub_reference(address, text)
        return _from_hub(name, _narrowed(asked, tag, file, text), text)
    if "://" in text:
        _no_repository(text)
    name, at, tag = text.partition("@")
    if at and _HUB_ID.match(name):
        return _from_hub(name, _narrowed(asked, tag, None, text), text)
    if not _looks_like_path(text):
        from moeplan.sources.catalogue import find_entry

        entry = find_entry(text, asked.profile_folders)
        if entry is not None and (asked.headers or asked.revision is not None or asked.file is not None):
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
    remarks = entry.remarks
    if _HUB_ID.match(entry.id):
        message = (
            "weights are derived from the config; --headers reads the checkpoint's headers on the Hub for exact ones"
        )
        remarks += (Remark("headers-not-asked", "info", message),)
    loaded = _loaded(entry.id, None, entry.source, "catalogue", entry.config, entry.sidecar, where, remarks)
    return loaded._replace(spec=loaded.spec._replace(card_convention=convention)) if convention else loaded


def _from_path(path: Path, text: str) -> LoadedModel:
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        from moeplan.sources.gguf.model import read_gguf

        return _from_gguf(read_gguf(path), text, None, str(path))
    if suffix in _WITHOUT_HEADERS:
        raise InputError(f"{text}: weights in this format have no header to read", hint="give the model's config.json")
    from moeplan.sources.config_files import CONFIG, read_config_folder

    checkpoint, remarks = _local_checkpoint(path)
    if suffix == ".safetensors":
        path = path.parent
        if not (path / CONFIG).exists():
            raise InputError(
                f"{text}: there is no {CONFIG} beside it, which says the model's shape", hint="put one there"
            )
    elif checkpoint is None and path.is_dir():
        remarks += _gguf_remarks(path, text, has_config=(path / CONFIG).exists())
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
        return None, _derived(choose_folder_files(path).remarks)
    return checkpoint, checkpoint.remarks


def _named_file(path: Path, asked: Asked, text: str) -> Path:
    """The path that is meant: `--file` in a folder. Raises InputError for options that a local path has no use for."""
    if asked.revision is not None:
        raise InputError(
            f"{text} is a local path, which has no revision {asked.revision!r}",
            hint="leave out --revision, or write hf://org/name for a repository on the Hub",
        )
    if asked.file is None:
        return path
    if not path.is_dir():
        raise InputError(f"{text} is a file itself: it holds no {asked.file}", hint="leave out --file")
    _check_file(asked.file)
    if not _exists(path / asked.file):
        there = [name for name in _sizes(path) if name.endswith(_WITH_HEADERS)]
        raise InputError(f"{text} holds no file {asked.file}", hint=_one_of(there))
    return path / asked.file


def _gguf_remarks(folder: Path, text: str, *, has_config: bool) -> tuple[Remark, ...]:
    """What a folder without safetensors holds in GGUF. Raises InputError where that is all that describes a model."""
    sizes = {name: size for name, size in _sizes(folder).items() if name.lower().endswith(".gguf")}
    if not sizes:
        return ()
    from moeplan.sources.hub.gguf import gguf_files, gguf_list

    models = gguf_list(gguf_files(sizes))
    if not has_config:
        raise InputError(f"{text} holds GGUF files and no config.json", hint=f"name one with --file: {models}")
    message = f"the folder holds its weights in GGUF: name one with --file to read it: {models}"
    return _derived((Remark("gguf-only", "warning", message, text),))


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files that can be read there."""
    sizes = {}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            with suppress(OSError):  # a link to nowhere
                sizes[path.name] = path.stat().st_size
    return sizes


def _check_file(file: str) -> None:
    """Raises InputError for a file that tells nothing by a header."""
    if file.lower().endswith(_WITHOUT_HEADERS):
        raise InputError(f"--file {file}: weights in this format have no header to read", hint="leave out --file")
    if not file.lower().endswith(_WITH_HEADERS):
        raise InputError(
            f"--file {file}: only .safetensors and .gguf files have headers to read", hint="leave out --file"
        )


def _one_of(files: list[str]) -> str:
    more = f" and {len(files) - 12} more" if len(files) > 12 else ""
    return f"give one of: {', '.join(files[:12])}{more}" if files else "leave out --file: there is none with headers"


_UNREAD = {"bin-only", "checkpoint-ambiguous", "gguf-only", "index-without-shards", "no-model-files"}


def _derived(remarks: tuple[Remark, ...]) -> tuple[Remark, ...]:
    """The remarks on why no headers were read, with what follows for the weights."""
    choose = {"checkpoint-ambiguous": "; --file reads one of them"}
    return tuple(
        remark._replace(message=f"weights are derived from the config: {remark.message}{choose.get(remark.code, '')}")
        if remark.code in _UNREAD
        else remark
        for remark in remarks
    )


def _from_gguf(file: "GgufFile", name: str, commit: str | None, source: str) -> LoadedModel:
    """A model as its GGUF file describes it; its formats are those of its tensors."""
    quant = file.checkpoint.metadata.get("general.file_type", "gguf").lower()
    spec = read_config(file.config, source)
    stored = Quantisation(f"gguf {quant}", BF16)
    return LoadedModel(name, commit, source, "gguf", spec, stored, file.remarks + spec.remarks, file.checkpoint)


def _from_hub(name: str, asked: Asked, typed: str) -> LoadedModel:
    """A repository of the Hub at one commit: config and headers, or one of its GGUF files."""
    if not _HUB_ID.match(name):
        _no_repository(typed)
    if asked.file is not None:
        _check_file(asked.file)
        if asked.file.lower().endswith(".gguf"):
            return _from_hub_gguf(name, asked.file, asked)
    from moeplan.sources.hub.config import fetch_config

    fetched = fetch_config(name, asked.revision, offline=asked.offline)
    checkpoint, told = _hub_checkpoint(name, fetched.commit, fetched.files, asked)
    at = _at_commit(name, asked, fetched.commit, fetched.remarks)
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
        at + fetched.remarks + told,
        checkpoint=checkpoint,
    )


def _hub_checkpoint(
    name: str, commit: str | None, files: Mapping[str, int | None] | None, asked: Asked
) -> tuple[Checkpoint | None, tuple[Remark, ...]]:
    """What the headers of a commit say; without them, why."""
    if commit is None:
        message = "weights are derived from the config: the local cache does not tell the commit"
        return None, (Remark("headers-not-read", "warning", message),)
    from moeplan.sources.checkpoint_files import DOWNLOAD_AGAIN, shard_total
    from moeplan.sources.hub.config import find_repository
    from moeplan.sources.hub.headers import fetch_checkpoint, without_headers
    from moeplan.sources.hub.requests import forbidden_by

    if asked.file is not None and (shard_total(asked.file) or 1) > 1:
        raise InputError(
            f"{name}: {asked.file} is one of {shard_total(asked.file)} shards, which are a model only together",
            hint="leave it out: the shards of the repository are read together",
        )
    try:
        checkpoint = fetch_checkpoint(
            name, commit, offline=asked.offline, files=files, only=asked.file, progress=asked.progress
        )
    except UnknownError as error:
        if forbidden_by(offline=asked.offline) is None or asked.headers or asked.file is not None:
            raise
        message = f"weights are derived from the config: {error.message}"
        return None, (Remark("headers-not-read", "warning", message),)
    except InputError as error:
        if error.hint == DOWNLOAD_AGAIN:  # nothing was downloaded
            error.hint = _OTHER_COMMIT
        raise
    if checkpoint is not None:
        return checkpoint, checkpoint.remarks
    files = files or find_repository(name, commit, offline=asked.offline).files
    if asked.file is not None:
        there = [file for file in files if file.endswith(_WITH_HEADERS)]
        raise InputError(f"{name}@{commit[:12]} holds no file {asked.file}", hint=_one_of(there))
    return None, _derived(without_headers(name, commit, files))


def _at_commit(name: str, asked: Asked, commit: str | None, told: tuple[Remark, ...]) -> tuple[Remark, ...]:
    """The commit that was read, unless `told` names it."""
    if commit is None or any(remark.code == "revision-remembered" for remark in told):
        return ()
    from moeplan.sources.hub.requests import forbidden_by

    if asked.revision == commit:
        message = f"{name} is read at commit {commit}"
    elif forbidden_by(offline=asked.offline) is None:
        message = f"{name}: {asked.revision or 'main'} is commit {commit}"
    else:
        message = f"{name}: {asked.revision or 'main'} was commit {commit} when the Hub was last asked"
    return (Remark("revision", "info", message, name),)


def _from_hub_gguf(name: str, file: str, asked: Asked) -> LoadedModel:
    """One GGUF model of a repository, by the name of any of its files; its parts are read by ranges."""
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
    at = _at_commit(name, asked, found.commit, found.remarks)
    return loaded._replace(remarks=at + found.remarks + loaded.remarks)


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


# Names on the Hub --------------------------------------------------------------------------------------------


def _hub_address(text: str) -> str | None:
    """What stands behind the Hub's address, be it huggingface.co's or HF_ENDPOINT's; None for what is no such address."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if endpoint and text.startswith(f"{endpoint}/"):
        return text.removeprefix(f"{endpoint}/")
    url = _HUB_URL.fullmatch(text)
    return url.group(1) if url else None


def _hub_reference(tail: str, typed: str) -> tuple[str, str | None, str | None]:
    """`org/name@revision` or `org/name/tree/revision/...` -> (org/name, revision, file).

    A file is one whose header says what the model is; others (a README, say) stand for the repository.
    """
    found = _HUB_TAIL.fullmatch(re.split(r"[?#]", tail, maxsplit=1)[0].strip("/"))
    if found is None:
        _no_repository(typed)
    page = found["page"]
    file = unquote(found["file"] or "")
    return (
        found["name"],
        found["at"] if page is None else unquote(page),
        file if file.lower().endswith(_WITH_HEADERS) else None,
    )


def _narrowed(asked: Asked, revision: str | None, file: str | None, typed: str) -> Asked:
    """What is asked with what MODEL says itself. Raises InputError where both say it, and not the same."""
    for option, stated, given in (("--revision", revision, asked.revision), ("--file", file, asked.file)):
        if stated is not None and given is not None and stated != given:
            raise InputError(f"{typed} names {stated!r}, and {option} names {given!r}", hint="leave out one of them")
    return asked._replace(
        revision=asked.revision if revision is None else revision, file=asked.file if file is None else file
    )


def _no_repository(typed: str) -> NoReturn:
    raise InputError(f"{typed!r} names no Hub repository", hint="write org/name, hf://org/name or org/name@revision")


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".json", ".gguf")) or "\\" in text or text.count("/") > 1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or with a null byte names no path
        return False
