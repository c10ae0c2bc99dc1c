"""How people write a repository of the Hub: an id, hf://, or the address of one of its pages."""

import os
import re
from typing import NoReturn
from urllib.parse import unquote

from moeplan.core.errors import InputError
from moeplan.sources.loaded import WITH_HEADERS

_HUB_URL = re.compile(r"(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)(?:models/)?(.*)")
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
# Behind the address: `org/name`, then `@revision` (only these two kinds hold a slash, as in huggingface_hub 2.4.0
# `hf_file_system.py`) or a page that names one, then a file.
_HUB_TAIL = re.compile(
    r"(?P<name>[^/@]+/[^/@]+)(?:@(?P<at>refs/(?:pr|convert)/[^/]+|[^/]*)|/(?:tree|blob|resolve|raw)/(?P<page>[^/]+))?"
    r"(?:/(?P<file>.*))?"
)


def hub_address(text: str) -> str | None:
    """What stands behind the Hub's address, be it huggingface.co's or HF_ENDPOINT's; None for what is no such address."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if endpoint and text.startswith(f"{endpoint}/"):
        return text.removeprefix(f"{endpoint}/")
    url = _HUB_URL.fullmatch(text)
    return url.group(1) if url else None


def hub_reference(tail: str, typed: str) -> tuple[str, str | None, str | None]:
    """`org/name@revision` or `org/name/tree/revision/...` -> (org/name, revision, file).

    A file is one whose header says what the model is; others (a README, say) stand for the repository.
    """
    found = _HUB_TAIL.fullmatch(re.split(r"[?#]", tail, maxsplit=1)[0].strip("/"))
    if found is None:
        no_repository(typed)
    page = found["page"]
    file = unquote(found["file"] or "")
    return (
        found["name"],
        found["at"] if page is None else unquote(page),
        file if file.lower().endswith(WITH_HEADERS) else None,
    )


def no_repository(typed: str) -> NoReturn:
    """Raise InputError for what names no repository."""
    raise InputError(f"{typed!r} names no Hub repository", hint="write org/name, hf://org/name or org/name@revision")
