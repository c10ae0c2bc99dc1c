"""What went wrong on the Hub, in words: one line and a way out for each, and never the text of the client's error.

That text can hold headers, and with them the token.
"""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from moeplan.core.errors import InputError, MoeplanError, UnknownError

ANSWER_S = 5
"""How long the Hub may be silent within one answer."""
WITHOUT_HUB = "give a local config.json, or a name from `moeplan models`"
_ANOTHER_REVISION = "leave it out for the default branch, or give a branch, a tag or a full commit hash"


def hub_host() -> str:
    """The Hub's host, as HF_ENDPOINT has it: without user and password. Raises InputError where it has none."""
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


def hub_page(path: str) -> str:
    """The address of a page of the Hub."""
    from huggingface_hub import constants

    return f"{urlsplit(constants.ENDPOINT).scheme}://{hub_host()}/{path}"


def explained(error: Exception, name: str, revision: str | None) -> MoeplanError | None:
    """What an error of the client means for repository `name`; None for one that is not the client's."""
    from huggingface_hub import errors

    if isinstance(error, MoeplanError):
        return error
    host = hub_host()
    match error:
        case errors.GatedRepoError():  # a RepositoryNotFoundError too
            return _gated(name, host, signed_in=error.response.status_code != 401)
        case errors.DisabledRepoError():
            return UnknownError(f"{name}: {host} has disabled this repository", hint=WITHOUT_HUB)
        case errors.RepositoryNotFoundError():
            return _missing_or_private(name, host)
        case errors.RevisionNotFoundError():
            return InputError(f"{name} has no revision {revision or 'main'!r}", hint=_ANOTHER_REVISION)
        case errors.HfHubHTTPError():
            return _status(error.response.status_code, error.response.headers, name, host)
        case UnicodeEncodeError():
            return _unsendable_token()
        case OSError() if error.errno is not None:
            return UnknownError(
                f"{error.filename or 'the local cache'}: {error.strerror}",
                hint="set HF_HOME to a folder that can be read",
            )
        case _:
            return _broken_connection(error, host)


def no_hub(host: str) -> UnknownError:
    """Something answers that does not speak the Hub's protocol."""
    return UnknownError(
        f"{host} does not answer as a Hub does",
        hint="check HF_ENDPOINT, and that no proxy or login page answers in its place",
    )


def wait_s(headers: Mapping[str, str]) -> int | None:
    """Seconds that a 429 asks to wait: `RateLimit: "resolvers";r=0;t=55`, or Retry-After in seconds.

    The Hub sends RateLimit with every answer; only with nothing remaining (r=0) is it the reason
    (huggingface_hub 2.4.0 `utils/_http.py`).
    """
    found = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", headers.get("RateLimit", "")) or re.fullmatch(
        r"\s*(\d{1,9})\s*", headers.get("Retry-After", "")
    )
    return int(found[1]) if found else None


def kinds_of(error: Exception) -> set[str]:
    """Names of the error's classes that are the HTTP client's: which client that is changes between Hub versions."""
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith(("httpx", "huggingface_hub"))}


def _gated(name: str, host: str, *, signed_in: bool) -> UnknownError:
    if signed_in:
        return UnknownError(
            f"{name} is gated, and the account of your token has no access to it",
            hint=f"ask for access at {hub_page(name)}, or set HF_TOKEN to a token of an account that has it",
        )
    return UnknownError(
        f"{name} is gated: {host} shows it only to accounts that were given access",
        hint=f"ask for access at {hub_page(name)}, then set HF_TOKEN or run `hf auth login`",
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
        asked_s = wait_s(headers)
        wait = f"wait {asked_s} s" if asked_s is not None else "wait a few minutes"
        return UnknownError(
            f"{host} limits how often it may be asked (429)", hint=f"{wait} and try again, or {WITHOUT_HUB}"
        )
    if status >= 500:
        return UnknownError(f"{host} has a fault of its own ({status})", hint=f"try again later, or {WITHOUT_HUB}")
    return UnknownError(f"{name}: {host} answers {status}", hint=WITHOUT_HUB)


def _unsendable_token() -> InputError:
    return InputError(
        "the Hub's token holds characters that no token has", hint="correct HF_TOKEN, or run `hf auth login`"
    )


def _broken_connection(error: Exception, host: str) -> MoeplanError | None:
    kinds = kinds_of(error)
    if "LocalProtocolError" in kinds:  # its text is the whole header
        return _unsendable_token()
    if "ProxyError" in kinds or isinstance(error, (ImportError, ValueError)):
        # An ImportError or ValueError comes from a proxy address that the client cannot use.
        return UnknownError(
            f"{host} cannot be reached through the proxy", hint="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        )
    if not kinds:
        return None
    return UnknownError(f"{host} cannot be reached: {_reason(error, kinds)}", hint=WITHOUT_HUB)


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
