"""config.json of a Hugging Face Hub repository, read at one commit: at most three requests and never a weight.

A branch is resolved to a commit once, together with the list of files; everything else is read at that commit. What
was read is kept (`cache`). What the Hub's own client or another tool has downloaded is read from there.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import ConfigError, InputError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.config_files import CONFIG, MOST_BYTES, SIDECAR, parse_json_object, read_json_object
from moeplan.sources.hub.cache import REMEMBER_S, HeaderCache
from moeplan.sources.hub.errors import WITHOUT_HUB, hub_host, hub_page
from moeplan.sources.hub.gguf import gguf_files, gguf_list
from moeplan.sources.hub.requests import HubLine, Listing, check_names, forbidden_by, is_commit, prepare_client, run

ALL_S = 7
"""How long everything may take: a Hub that hangs is reported in under 10 s, start-up included."""
_ADAPTER = "adapter_config.json"


class FetchedConfig(NamedTuple):
    """A model's config as one commit of a repository holds it."""

    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None
    """None where the repository has none, or where only `remarks` says that this is not known."""
    commit: str | None
    """40 hexadecimal digits; None where the local cache does not tell."""
    source: str
    remarks: tuple[Remark, ...] = ()
    files: Mapping[str, int | None] | None = None
    """What the repository holds, with bytes where the Hub tells them; None where only a cache was read that lacks it."""


class FoundRepository(NamedTuple):
    """A repository at one commit, whether or not it holds a config: GGUF repositories have none."""

    commit: str
    files: Mapping[str, int | None]
    remarks: tuple[Remark, ...] = ()


def fetch_config(name: str, revision: str | None, *, offline: bool) -> FetchedConfig:
    """Read config.json, and hf_quant_config.json where there is one, of the Hub repository `name`.

    `revision` is a branch, a tag or a commit; None is the default branch. A commit that was read before is not asked
    for again, nor is a branch within an hour (REMEMBER_S): a remark says so then. With `offline` or HF_HUB_OFFLINE no
    socket is opened: only local caches are read. HF_ENDPOINT, HF_TOKEN, HF_HOME and the proxy variables hold as they
    do for the Hub's own client.

    Raises InputError for a wrong id or revision and for a repository without config.json, ConfigError for a config
    that is broken or absurdly large, UnknownError when the Hub cannot be asked or does not say.
    """
    started_s = time.monotonic()
    asked = _Asked(name, revision, offline=offline)
    if asked.forbidden is not None or asked.commit is not None:
        cached = _from_caches(asked)
        if cached is not None and (asked.forbidden is not None or not _doubtful(cached)):
            return cached
    if asked.forbidden is not None:
        raise asked.not_cached("its config")

    def work(line: HubLine) -> FetchedConfig:
        listing = asked.listing(line)
        _check_size(name, listing, CONFIG)
        _check_size(name, listing, SIDECAR)
        if CONFIG not in listing.files:
            raise _no_config(name, listing.files, _base_model(line, listing))
        fetched = _read(asked, listing, line)
        assert fetched is not None
        return fetched

    try:
        fetched = run(name, revision, work, limit_s=ALL_S, began_s=started_s)
    except UnknownError as error:
        if _is_cached(asked):
            error.hint = f"`--offline` reads the copy in the local cache; or {error.hint}"
        raise
    return fetched._replace(remarks=(*fetched.remarks, *asked.remarks, *asked.cache.remarks()))


def find_repository(name: str, revision: str | None, *, offline: bool) -> FoundRepository:
    """The commit of a revision and the files that it holds: one request, or none where `fetch_config` makes none.

    Raises InputError for a wrong id or revision, UnknownError when the Hub cannot be asked or does not say.
    """
    asked = _Asked(name, revision, offline=offline)
    known = asked.commit or (asked.recalled.commit if asked.recalled and asked.forbidden else None)
    listing = asked.cache.listing(known) if known else None
    if listing is None:
        if asked.forbidden is not None:
            raise asked.not_cached("the list of its files")
        listing = run(name, revision, asked.listing, limit_s=ALL_S)
    return FoundRepository(listing.commit, listing.files, (*asked.remarks, *asked.cache.remarks()))


class _Asked:
    """A question: which repository, at which revision, and what is known of it before the Hub is asked."""

    def __init__(self, name: str, revision: str | None, *, offline: bool) -> None:
        self.host = hub_host()
        prepare_client()
        check_names(name, revision)
        self.name = name
        self.revision = revision
        self.forbidden = forbidden_by(offline=offline)
        self.cache = HeaderCache(name)
        self.commit = revision if is_commit(revision) else None
        """The commit, where it need not be asked for."""
        self.recalled = None if self.commit else self.cache.recall(revision)
        self.remarks: tuple[Remark, ...] = ()
        if self.recalled is not None and self.recalled.age_s <= REMEMBER_S and self.forbidden is None:
            self.commit = self.recalled.commit
            minutes = max(round(self.recalled.age_s / 60), 0)
            ago = f"{minutes} min ago" if minutes else "less than a minute ago"
            message = (
                f"{revision or 'main'} was {self.commit} {ago}, and was not asked for again; "
                f"it is after {REMEMBER_S // 60} min, or once {self.cache.folder} is deleted"
            )
            self.remarks = (Remark("revision-remembered", "info", message, name),)

    def listing(self, line: HubLine) -> Listing:
        """The files of the commit, from the cache or from the Hub."""
        kept = self.cache.listing(self.commit) if self.commit else None
        if kept is not None:
            return kept
        listing = line.listing(self.commit or self.revision)
        self.cache.keep_listing(listing)
        if not is_commit(self.revision) and self.commit is None:
            self.cache.remember(self.revision, listing.commit)
        return listing

    def not_cached(self, what: str) -> UnknownError:
        """The error of a question that only the Hub could answer."""
        at = f"{self.name}@{self.revision}" if self.revision else self.name
        return UnknownError(
            f"{at}: {what} is not in the local cache, and {self.forbidden} forbids asking {self.host}",
            hint=f"run once without {self.forbidden}, or {WITHOUT_HUB}",
        )


def _read(asked: _Asked, listing: Listing, line: HubLine | None) -> FetchedConfig | None:
    """Both files of a commit; None where they are in no cache and there is no line to ask."""
    config = _file(asked, listing.commit, CONFIG, line)
    sidecar = _file(asked, listing.commit, SIDECAR, line) if SIDECAR in listing.files else None
    if config is None or (SIDECAR in listing.files and sidecar is None):
        return None
    source = _source(asked.name, listing.commit) + ("" if line else " (local cache)")
    return FetchedConfig(config, sidecar, listing.commit, source, (), listing.files)


def _file(asked: _Asked, commit: str, file: str, line: HubLine | None) -> dict[str, Any] | None:
    """A small file: from moeplan's cache, from the Hub's own, or else from the Hub."""
    where = f"{asked.name}@{commit[:12]} {file}"
    kept = asked.cache.file(commit, file)
    if kept is not None:
        return _parsed(kept, where)
    path = _hub_cached(asked.name, file, commit)
    if path is not None:
        return read_json_object(path, where)
    if line is None:
        return None
    data = line.file(commit, file, MOST_BYTES)
    asked.cache.keep_file(commit, file, data)
    return _parsed(data, where)


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        return parse_json_object(data.decode("utf-8-sig"), where)
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: is not UTF-8 text", hint=WITHOUT_HUB) from None


def _source(name: str, commit: str | None) -> str:
    return hub_page(f"{name}/blob/{commit or 'main'}/{CONFIG}")


def _check_size(name: str, listing: Listing, file: str) -> None:
    size = listing.files.get(file)
    if size is not None and size > MOST_BYTES:
        raise ConfigError(
            f"{name} {file}: {size / 2**20:,.0f} MiB is no model config, so it was not downloaded", hint=WITHOUT_HUB
        )


# Local caches ------------------------------------------------------------------------------------------------


def _from_caches(asked: _Asked) -> FetchedConfig | None:
    """What local caches hold; None where they do not hold the config. Opens no socket."""
    commit = asked.commit or (asked.recalled.commit if asked.recalled else None)
    listing = asked.cache.listing(commit) if commit else None
    if commit and listing is not None:
        if CONFIG not in listing.files:
            raise _no_config(asked.name, listing.files, None)
        fetched = _read(asked, listing, None)
        if fetched is not None:
            return fetched._replace(remarks=asked.remarks)
    return _from_hub_cache(asked, commit or asked.revision)


def _from_hub_cache(asked: _Asked, revision: str | None) -> FetchedConfig | None:
    """What the Hub's own client, or another tool that uses it, has downloaded.

    `hf_hub_download(local_files_only=True)` is not used: it builds headers, and an OAuth token that is about to expire
    would be renewed for them over the network.
    """
    from huggingface_hub import try_to_load_from_cache

    name = asked.name
    held = try_to_load_from_cache(name, CONFIG, revision=revision)
    if held is None:
        return None
    if not isinstance(held, str):  # the cache knows that the repository has none
        raise _no_config(name, {}, None)
    folder = Path(held).parent.name  # `snapshots/<commit>/config.json`
    commit = folder if is_commit(folder) else None
    at = f"{name}@{commit[:12]}" if commit else name
    config = read_json_object(Path(held), f"{at} {CONFIG}")
    sidecar_held = try_to_load_from_cache(name, SIDECAR, revision=folder)
    sidecar = read_json_object(Path(sidecar_held), f"{at} {SIDECAR}") if isinstance(sidecar_held, str) else None
    remarks = asked.remarks
    if sidecar_held is None and "quantization_config" not in config:
        message = (
            f"the local cache does not tell whether the repository has {SIDECAR}: if it has, weights are smaller than "
            "computed"
        )
        remarks = (*remarks, Remark("sidecar-unknown", "warning", message, f"{name} {SIDECAR}"))
    return FetchedConfig(config, sidecar, commit, f"{_source(name, commit)} (local cache)", remarks)


def _doubtful(fetched: FetchedConfig) -> bool:
    return any(remark.code == "sidecar-unknown" for remark in fetched.remarks)


def _hub_cached(name: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    held = try_to_load_from_cache(name, file, revision=revision)
    return Path(held) if isinstance(held, str) else None


def _is_cached(asked: _Asked) -> bool:
    commit = asked.commit or (asked.recalled.commit if asked.recalled else None)
    if commit and asked.cache.file(commit, CONFIG) is not None:
        return True
    return _hub_cached(asked.name, CONFIG, commit or asked.revision) is not None


# Repositories without a config -------------------------------------------------------------------------------


def _base_model(line: HubLine, listing: Listing) -> str | None:
    """The model that an adapter was made for, as its config names it."""
    if _ADAPTER not in listing.files:
        return None
    try:
        adapter = _parsed(line.file(listing.commit, _ADAPTER, MOST_BYTES), _ADAPTER)
    except ConfigError:
        return None
    base = adapter.get("base_model_name_or_path") or adapter.get("model")  # PEFT's field, MLX's field
    return base if isinstance(base, str) else None


def _no_config(name: str, files: Mapping[str, int | None], base: str | None) -> InputError:
    models = gguf_files(files)
    if models:
        count = "one GGUF model" if len(models) == 1 else f"{len(models)} GGUF models"
        return InputError(
            f"{name} holds {count} and no {CONFIG}",
            hint=f"name {'it' if len(models) == 1 else 'one'} with --file: {gguf_list(models)}",
        )
    if "model_index.json" in files:
        return InputError(f"{name} is a diffusion pipeline: it holds no {CONFIG}", hint="give a language model")
    if _ADAPTER in files:
        return InputError(
            f"{name} is an adapter{f' of {base}' if base else ''}: it holds no {CONFIG}",
            hint=f"give its base model {base or f'that {_ADAPTER} names'}",
        )
    return InputError(
        f"{name} holds no {CONFIG}", hint=f"give the repository of a transformers model; or {WITHOUT_HUB}"
    )
