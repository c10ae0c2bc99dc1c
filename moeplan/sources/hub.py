"""config.json of a Hugging Face Hub repository, read at one commit: two small files and never a weight.

The Hub's client retries a dead Hub for some 20 s without a word (huggingface_hub 2.4.0 `file_download.py`). So each file
is asked for with one HEAD that fails at once, and the whole exchange runs against a deadline.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from moeplan.core.errors import ConfigError, InputError, MoeplanError, UnknownError
from moeplan.core.model import Remark
from moeplan.sources.config_files import CONFIG, MOST_BYTES, SIDECAR, read_json_object
from moeplan.version import __version__

ANSWER_S = 5
"""How long one answer may take."""
ALL_S = 7
"""How long everything may take: a Hub that hangs is reported in under 10 s, start-up included."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
# What git allows in no ref (git-check-ref-format), and what would lead out of the cache's folder.
_NO_REVISION = re.compile(r"[\s~^:?*\[\\\x00-\x1f\x7f]|\.\.|^/|/$|^$")
_LIBRARY = "moeplan"
_WITHOUT_HUB = "give a local config.json, or a name from `moeplan models`"


class FetchedConfig(NamedTuple):
    """A model's config as one commit of a repository holds it."""

    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None
    """None where the repository has none, or where only `remarks` says that this is not known."""
    commit: str | None
    """40 hexadecimal digits; None where the local cache does not tell."""
    source: str
    remarks: tuple[Remark, ...] = ()


def fetch_config(name: str, revision: str | None, *, offline: bool) -> FetchedConfig:
    """Read config.json, and hf_quant_config.json where there is one, of the Hub repository `name`.

    `revision` is a branch, a tag or a commit; None is the default branch. With `offline` or HF_HUB_OFFLINE no socket is
    opened: only the Hub's local cache is read. HF_ENDPOINT, HF_TOKEN, HF_HOME and the proxy variables hold as they do
    for the Hub's own client.

    Raises InputError for a wrong id or revision and for a repository without config.json, ConfigError for a config
    that is broken or absurdly large, UnknownError when the Hub cannot be asked or does not say.
    """
    started_s = time.monotonic()
    host = _host()
    # A config is all that is wanted: no list of agents, and no versions of other libraries to the Hub.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    _check_names(name, revision)
    kept_offline = "--offline" if offline else "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else None
    if kept_offline is not None or _COMMIT.fullmatch(revision or ""):
        cached = _from_cache(name, revision)
        if cached is not None and (kept_offline is not None or not cached.remarks):
            return cached
    if kept_offline is not None:
        at = f"{name}@{revision}" if revision else name
        raise UnknownError(
            f"{at}: its config is not in the local cache, and {kept_offline} forbids asking {host}",
            hint=f"run once without {kept_offline}, or {_WITHOUT_HUB}",
        )
    try:
        with _quiet_client():
            config_path, sidecar_path = _within(
                ALL_S - (time.monotonic() - started_s), lambda: _download(name, revision), host
            )
    except Exception as error:
        explained = error if isinstance(error, MoeplanError) else _explained(error, name, revision, host)
        if explained is None:  # a mistake of ours
            raise
        if isinstance(explained, UnknownError) and _is_cached(name, revision):
            explained.hint = f"`--offline` reads the copy in the local cache; or {explained.hint}"
        raise explained from None
    return _read(name, config_path, sidecar_path, "")


def _check_names(name: str, revision: str | None) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    try:
        hf_hub_url(name, CONFIG)
    except HFValidationError:
        raise InputError(
            f"{name!r} is no id of a Hub repository", hint="write org/name, as in the address of its page"
        ) from None
    if revision is not None and _NO_REVISION.search(revision):
        raise InputError(
            f"{name}: {revision!r} is no revision",
            hint="leave it out for the default branch, or give a branch, a tag or a full commit hash",
        )


def _host() -> str:
    """The Hub's host, as HF_ENDPOINT has it: without user and password."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in {"http", "https"}:
        raise InputError(
            "HF_ENDPOINT holds no web address", hint="set it to https://host, or unset it for huggingface.co"
        )
    return f"{host}:{port}" if port else host


def _address(path: str) -> str:
    from huggingface_hub import constants

    return f"{urlsplit(constants.ENDPOINT).scheme}://{_host()}/{path}"


# The local cache ---------------------------------------------------------------------------------------------


def _from_cache(name: str, revision: str | None) -> FetchedConfig | None:
    """What the local cache holds; None where it does not hold the config. Opens no socket.

    `hf_hub_download(local_files_only=True)` is not used: it builds headers, and an OAuth token that is about to expire
    would be renewed for them over the network.
    """
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, CONFIG, revision=revision)
    if config is None:
        return None
    if not isinstance(config, str):  # the cache knows that the repository has none
        raise _no_config(name, ())
    config_path = Path(config)
    sidecar = try_to_load_from_cache(name, SIDECAR, revision=config_path.parent.name)
    fetched = _read(name, config_path, Path(sidecar) if isinstance(sidecar, str) else None, " (local cache)")
    if sidecar is not None or "quantization_config" in fetched.config:
        return fetched
    remark = Remark(
        "sidecar-unknown",
        "warning",
        f"the local cache does not tell whether the repository has {SIDECAR}: if it has, weights are smaller than computed",
        f"{name} {SIDECAR}",
    )
    return fetched._replace(remarks=(remark,))


def _is_cached(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, CONFIG, revision=revision), str)


def _read(name: str, config_path: Path, sidecar_path: Path | None, note: str) -> FetchedConfig:
    folder = config_path.parent.name  # `snapshots/<commit>/config.json`
    commit = folder if _COMMIT.fullmatch(folder) else None
    at = f"{name}@{commit[:12]}" if commit else name
    config = read_json_object(config_path, f"{at} {CONFIG}")
    sidecar = read_json_object(sidecar_path, f"{at} {SIDECAR}") if sidecar_path else None
    return FetchedConfig(config, sidecar, commit, _address(f"{name}/blob/{commit or 'main'}/{CONFIG}") + note)


# The Hub -----------------------------------------------------------------------------------------------------


def _download(name: str, revision: str | None) -> tuple[Path, Path | None]:
    """Paths of both files in the cache, the second at the commit of the first; None for a sidecar that is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, RemoteEntryNotFoundError

    try:
        _check_size(name, CONFIG, revision)
    except RemoteEntryNotFoundError:
        raise _no_config(name, _file_names(name, revision)) from None
    config_path = _one_file(name, CONFIG, revision)
    commit = config_path.parent.name
    known = try_to_load_from_cache(name, SIDECAR, revision=commit)
    if known is not None:
        return config_path, Path(known) if isinstance(known, str) else None
    try:
        _check_size(name, SIDECAR, commit)
    except RemoteEntryNotFoundError:
        with suppress(EntryNotFoundError):
            _one_file(name, SIDECAR, commit)  # only so that the cache notes the absence, for a later run offline
        return config_path, None
    return config_path, _one_file(name, SIDECAR, commit)


def _check_size(name: str, file: str, revision: str | None) -> None:
    """One HEAD without retries: raises what is wrong at once, and refuses a file that is no config."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(
        hf_hub_url(name, file, revision=revision), timeout=ANSWER_S, library_name=_LIBRARY, library_version=__version__
    )
    if found.commit_hash is None or found.etag is None:
        raise UnknownError(
            f"{_host()} does not answer as a Hub does: no commit with {name} {file}",
            hint="check HF_ENDPOINT, and that no proxy or login page answers in its place",
        )
    if found.size is None:
        raise UnknownError(f"{_host()} does not say how large {name} {file} is", hint=_WITHOUT_HUB)
    if found.size > MOST_BYTES:
        raise ConfigError(
            f"{name} {file}: {found.size / 2**20:,.0f} MiB is no model config, so it was not downloaded",
            hint=_WITHOUT_HUB,
        )


def _one_file(name: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            name, file, revision=revision, etag_timeout=ANSWER_S, library_name=_LIBRARY, library_version=__version__
        )
    )


def _file_names(name: str, revision: str | None) -> tuple[str, ...]:
    """The repository's files, to say what it is instead of a model; empty where the Hub does not tell."""
    from huggingface_hub import HfApi

    try:
        api = HfApi(library_name=_LIBRARY, library_version=__version__)
        answer = api.model_info(name, revision=revision, timeout=ANSWER_S, expand=["siblings"])
        return tuple(sibling.rfilename for sibling in answer.siblings or ())
    except Exception:  # noqa: BLE001 - what is wrong is known already; this only explains it
        return ()


def _no_config(name: str, files: tuple[str, ...]) -> InputError:
    if any(file.lower().endswith(".gguf") for file in files):
        return InputError(
            f"{name} holds GGUF files and no {CONFIG}",
            hint="give the repository that they were made from (the model card names it), or a local config.json",
        )
    if "model_index.json" in files:
        return InputError(f"{name} is a diffusion pipeline: it holds no {CONFIG}", hint="give a language model")
    if "adapter_config.json" in files:
        return InputError(
            f"{name} is an adapter: it holds no {CONFIG}", hint="give the base model that its adapter_config.json names"
        )
    return InputError(
        f"{name} holds no {CONFIG}", hint=f"give the repository of a transformers model; or {_WITHOUT_HUB}"
    )


@contextmanager
def _quiet_client() -> Iterator[None]:
    """No progress bars and no notes of retries: one line of ours says what went wrong."""
    import logging

    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    client = logging.getLogger("huggingface_hub")
    level = client.level
    # HF_HUB_DISABLE_PROGRESS_BARS, where set, has the last word in the client, which warns when asked otherwise.
    bars = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    client.setLevel(logging.CRITICAL)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        client.setLevel(level)
        if bars:
            enable_progress_bars()


def _within(limit_s: float, work: Callable[[], tuple[Path, Path | None]], host: str) -> tuple[Path, Path | None]:
    """Do `work`, or give up after `limit_s`.

    Timeouts of single requests do not add up to one limit: name lookups have none, each address of a host gets its
    own, and a server that drips bytes never runs into one. The thread that is left behind ends with the process.
    """
    done: list[tuple[Path, Path | None]] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="moeplan-hub", daemon=True)
    thread.start()
    thread.join(max(limit_s, 0))
    if failed:
        raise failed[0]
    if not done:
        raise UnknownError(f"{host} did not finish its answer within {ALL_S} s", hint=_WITHOUT_HUB)
    return done[0]


# What went wrong, in words -----------------------------------------------------------------------------------


def _explained(error: Exception, name: str, revision: str | None, host: str) -> MoeplanError | None:
    """What an error of the client means; None for one that is not the client's.

    No text of `error` is passed on: it can hold headers, and with them the token.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client wraps what happened while it asked
    match error:
        case errors.GatedRepoError():  # a RepositoryNotFoundError too
            return _gated(name, host, signed_in=error.response.status_code != 401)
        case errors.DisabledRepoError():
            return UnknownError(f"{name}: {host} has disabled this repository", hint=_WITHOUT_HUB)
        case errors.RepositoryNotFoundError():
            return _missing_or_private(name, host)
        case errors.RevisionNotFoundError():
            return InputError(
                f"{name} has no revision {revision or 'main'!r}",
                hint="leave it out for the default branch, or give a branch, a tag or a full commit hash",
            )
        case errors.FileMetadataError():
            return UnknownError(
                f"{host} does not answer as a Hub does",
                hint="check HF_ENDPOINT, and that no proxy answers in its place",
            )
        case errors.HfHubHTTPError():
            return _status(error.response.status_code, error.response.headers, name, host)
        case UnicodeEncodeError():
            return _unsendable_token()
        case OSError() if error.errno is not None:
            return UnknownError(
                f"{error.filename or 'the local cache'}: {error.strerror}",
                hint="set HF_HOME to a folder that can be written",
            )
        case OSError():  # the client's check of a download's length
            return UnknownError(f"{host} sent only a part of {name} {CONFIG}", hint=f"try again, or {_WITHOUT_HUB}")
        case _:
            return _broken_connection(error, host)


def _gated(name: str, host: str, *, signed_in: bool) -> UnknownError:
    if signed_in:
        return UnknownError(
            f"{name} is gated, and the account of your token has no access to it",
            hint=f"ask for access at {_address(name)}, or set HF_TOKEN to a token of an account that has it",
        )
    return UnknownError(
        f"{name} is gated: {host} shows it only to accounts that were given access",
        hint=f"ask for access at {_address(name)}, then set HF_TOKEN or run `hf auth login`",
    )


def _missing_or_private(name: str, host: str) -> UnknownError:
    return UnknownError(
        f"{name}: {host} has no such model, or it is private",
        hint="check the spelling; for a private model set HF_TOKEN or run `hf auth login`",
    )


def _status(status: int, headers: Mapping[str, str], name: str, host: str) -> UnknownError:
    if status == 401 and headers.get("X-Error-Message") == "Invalid credentials in Authorization header":
        return UnknownError(
            f"{host} does not accept your token", hint="renew it in HF_TOKEN or with `hf auth login`, or unset it"
        )
    if status == 401:
        return _missing_or_private(name, host)
    if status == 403:
        return UnknownError(
            f"{name}: {host} refuses access (403)", hint="check that your token may read this repository"
        )
    if status == 429:
        wait_s = _wait_s(headers)
        wait = f"wait {wait_s} s" if wait_s is not None else "wait a few minutes"
        return UnknownError(
            f"{host} limits how often it may be asked (429)", hint=f"{wait} and try again, or {_WITHOUT_HUB}"
        )
    if status >= 500:
        return UnknownError(f"{host} has a fault of its own ({status})", hint=f"try again later, or {_WITHOUT_HUB}")
    return UnknownError(f"{name}: {host} answers {status}", hint=_WITHOUT_HUB)


def _wait_s(headers: Mapping[str, str]) -> int | None:
    """Seconds that a 429 asks to wait: `RateLimit: "resolvers";r=0;t=55`, or Retry-After in seconds."""
    found = re.search(r";\s*t\s*=\s*(\d+)", headers.get("RateLimit", "")) or re.fullmatch(
        r"\s*(\d+)\s*", headers.get("Retry-After", "")
    )
    return int(found[1]) if found else None


def _unsendable_token() -> InputError:
    return InputError(
        "the Hub's token holds characters that no token has", hint="correct HF_TOKEN, or run `hf auth login`"
    )


def _broken_connection(error: Exception, host: str) -> MoeplanError | None:
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith(("httpx", "huggingface_hub"))}
    if "LocalProtocolError" in kinds:  # its text is the whole header
        return _unsendable_token()
    if "ProxyError" in kinds or isinstance(error, (ImportError, ValueError)):
        # An ImportError or ValueError comes from a proxy address that the client cannot use.
        return UnknownError(
            f"{host} cannot be reached through the proxy", hint="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        )
    if not kinds:
        return None
    return UnknownError(f"{host} cannot be reached: {_reason(error, kinds)}", hint=_WITHOUT_HUB)


def _reason(error: Exception, kinds: set[str]) -> str:
    """Why there was no answer, in the words of the system where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if "TimeoutException" in kinds:
        return f"no answer within {ANSWER_S} s"
    if kinds & {"RemoteProtocolError", "NetworkError"}:
        return "the connection broke off"
    return type(error).__name__
