"""Names and values on a command line that nobody else may see."""

from __future__ import annotations

import re

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:(?:api)?keys?|token|passwords?|passwd|passphrase|secrets?|credentials?|watermark[-_]config)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?:hf|sk|ghp|gho|ghs|glpat|xoxb|xoxp|nvapi)[-_][A-Za-z0-9_-]{8,}|Bearer .*|eyJ[\w-]{10,}.*"
)


def is_secret_name(name: str) -> bool:
    """True for `--api-key`, `HF_TOKEN` and the like; a number of `tokens` is none."""
    return bool(_SECRET_NAME.search(name))


def is_secret_value(text: str) -> bool:
    """True where a text looks like an access token, whatever it stands behind."""
    return bool(_SECRET_VALUE.fullmatch(text))
