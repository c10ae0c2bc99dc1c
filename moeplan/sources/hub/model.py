"""A model in a repository of the Hub: config and headers, or one of its GGUF files."""

from collections.abc import Mapping

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.hub.address import HUB_ID, no_repository
from moeplan.sources.loaded import (
    WITH_HEADERS,
    Asked,
    LoadedModel,
    SourceKind,
    check_file,
    derived,
    from_gguf,
    loaded_model,
    one_of,
)

_OTHER_COMMIT = "try another --revision; or give the model's config.json alone, to compute from the config"


def from_hub(name: str, asked: Asked, typed: str) -> LoadedModel:
    """A repository of the Hub at one commit: config and headers, or one of its GGUF files."""
    if not HUB_ID.match(name):
        no_repository(typed)
    if asked.file is not None:
        check_file(asked.file)
        if asked.file.lower().endswith(".gguf"):
            return _from_hub_gguf(name, asked.file, asked)
    from moeplan.sources.hub.config import fetch_config

    fetched = fetch_config(name, asked.revision, offline=asked.offline)
    checkpoint, told = _hub_checkpoint(name, fetched.commit, fetched.files, asked)
    at = _at_commit(name, asked, fetched.commit, fetched.remarks)
    kind: SourceKind = "config" if checkpoint is None else "headers"
    where = f"{name} config.json"
    return loaded_model(
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
        there = [file for file in files if file.endswith(WITH_HEADERS)]
        raise InputError(f"{name}@{commit[:12]} holds no file {asked.file}", hint=one_of(there))
    return None, derived(without_headers(name, commit, files))


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
    loaded = from_gguf(join_parts(parts), f"{name}/{file}", found.commit, f"{name}@{found.commit[:12]} {file}")
    at = _at_commit(name, asked, found.commit, found.remarks)
    return loaded._replace(remarks=at + found.remarks + loaded.remarks)
