"""Access tokens in plain text: told by name and place, and never kept."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from moeplan.core.deployed import PlainSecret, Quote, Spot
from moeplan.core.secret_words import HIDDEN, is_secret_name, is_secret_value
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.shell_tokens import tokens

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_KEY = re.compile(
    r"(?:\w*[a-z0-9_])?(?:api[_-]?key|[_-]token|[a-z]Token|ApiKey|[_-]?password|passwd)|hf_?token", re.IGNORECASE
)
"""Keys of values files that hold a token themselves; `existingSecret` and `tokenSecretName` name where one is kept."""
_RANDOM = re.compile(r"[A-Za-z0-9]{12,}")
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:hf|gh[pos])_|(?:sk|glpat|xox[bp]|nvapi)-)(?=[A-Za-z0-9_-]*[A-Za-z0-9]{12})[A-Za-z0-9_-]{12,}"
)
_HINTS = re.compile(r"token|key|passw|secret|credential|bearer|hf_|sk-|gh[pos]_|glpat-|xox|nvapi-|eyJ", re.IGNORECASE)
"""A script without any of these holds no token."""
_SET = re.compile(r"(-?-?[A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_FLAG = re.compile(r"--?(?!-)")
"""More dashes draw a line."""
_STANDS_FOR_ONE = re.compile(
    r"\s*|\$.*|.*\{\{.*|<.*>|\[.*\]|\*+|(?:your|my|insert|replace|change|enter|put|add|example|sample|dummy|fake|test|todo)"
    r"(?:$|[-_ .].*)|change[-_ ]?(?:me|it)|x+(?:[-_]+x+)*|\.+|empty|none|null|nil|false|true|not[-_ ]?(?:used|needed|set)|"
    r"unused|n/?a|token-abc123|secret|token|password|(?:hf|sk)[-_](?:x+|\.+|\*+|your.*|token|<.*)|/.*|.*(?:secretKeyRef|"
    r"(?:_|-|^)(?:here|placeholder))|encrypted.*|ENC\[.*|vault:.*|(?:op|awssm|gcpsm)://.*|sops.*",
    re.IGNORECASE | re.DOTALL,
)
"""What stands where a token is to be put, or tells where it is kept."""


def is_plain_secret(name: str, value: str) -> bool:
    """True where `value` is a token, by its looks or by the name that it has, and not what stands for one."""
    if _STANDS_FOR_ONE.fullmatch(value):
        return False
    if is_secret_name(name):
        return not value.isdecimal()
    # `hf-token-secret` is the name of one: tokens are long and without words.
    return is_secret_value(value) and _RANDOM.search(value) is not None


def hidden(name: str, value: Quote) -> Quote:
    """The value of a variable as it may be kept."""
    return value._replace(text=HIDDEN) if _hides(name, value.text) else value


class Masked(NamedTuple):
    """Words without the tokens in them."""

    words: tuple[Quote, ...]
    secrets: tuple[PlainSecret, ...]


def without_secrets(words: Iterable[Quote]) -> Masked:
    """The words of a command without tokens: `--api-key X`, `--api-key=X`, `HF_TOKEN=X`, and what looks like one."""
    made: list[Quote] = []
    secrets: list[PlainSecret] = []
    flag = ""
    for word in words:
        found = _SET.fullmatch(word.text)
        name, value = (found.group(1), found.group(2)) if found else (flag, word.text)
        starts_flag = _FLAG.match(word.text) is not None
        if starts_flag and found is None:
            name = ""
        if is_plain_secret(name, value):
            secrets.append(PlainSecret(name.lstrip("-") or "a token", word.spot))
        if _hides(name, value):
            word = word._replace(text=f"{name}={HIDDEN}" if found else HIDDEN)  # noqa: PLW2901
        flag = word.text if starts_flag and found is None else ""
        made.append(word)
    return Masked(tuple(made), tuple(secrets))


def without_secret_values(variables: Mapping[str, Quote]) -> tuple[dict[str, Quote], tuple[PlainSecret, ...]]:
    """Variables without the tokens in them, and those tokens."""
    secrets = tuple(
        PlainSecret(name, value.spot) for name, value in variables.items() if is_plain_secret(name, value.text)
    )
    return {name: hidden(name, value) for name, value in variables.items()}, secrets


def has_token(text: str) -> bool:
    """True for a text with something in it that looks like an access token."""
    return _TOKEN.search(text) is not None


def scrubbed(value: Any) -> Any:
    """The same record without what looks like an access token in any of its texts, wherever a file put it."""
    if isinstance(value, str):
        return _TOKEN.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {scrubbed(name): scrubbed(item) for name, item in value.items()}
    if isinstance(value, tuple):
        items = map(scrubbed, value)
        return tuple(items) if type(value) is tuple else type(value)(*items)
    return value


def secrets_in_script(script: Quote) -> tuple[PlainSecret, ...]:
    """Tokens among the words of a script: `export HF_TOKEN=...`, `--api-key ...`, `-H "Authorization: Bearer ..."`."""
    if not _HINTS.search(script.text):
        return ()
    starts = [0, *(found.end() for found in re.finditer("\n", script.text))]
    words: list[Quote] = []
    secrets: list[PlainSecret] = []
    for token in tokens(script.text):
        if token.kind != "word":
            secrets += without_secrets(words).secrets
            words = []
            continue
        line = bisect_right(starts, token.start) - 1
        spot = Spot(script.spot.line + line, script.spot.column + token.start - starts[line], script.spot.path)
        words.append(Quote("".join(segment.text for segment in token.segments), spot))
    return (*secrets, *without_secrets(words).secrets)


def secrets_in_yaml(document: Node) -> Iterator[PlainSecret]:
    """Tokens anywhere in a document: `{name: HF_TOKEN, value: hf_...}`, `HF_TOKEN: hf_...`, words of lists, bare tokens."""
    waiting = [("", document)]
    while waiting:
        name, node = waiting.pop()
        if node.is_scalar:
            if _KEY.fullmatch(name):
                found = not _STANDS_FOR_ONE.fullmatch(node.text)
            else:
                found = is_plain_secret(name if _VARIABLE.fullmatch(name) else "", node.text)
            if found:
                yield PlainSecret(name or "a token", node.spot)
            elif " " in node.text or "\n" in node.text:
                yield from secrets_in_script(Quote(node.text, node.spot))
        elif node.kind == "list":
            words = [Quote(item.text, item.spot) for item in node.items if item.is_scalar]
            yield from without_secrets(words).secrets
            for word in words:
                if " " in word.text or "\n" in word.text:
                    yield from secrets_in_script(word)
            waiting += [(name, item) for item in reversed(node.items) if not item.is_scalar]
        else:
            listed = node.at("name").word()
            if listed and node.at("value").is_scalar:
                waiting.append((listed, node.at("value")))
            skipped = ("value", "name") if listed else ()
            waiting += [each for each in reversed(list(node.entries.items())) if each[0] not in skipped]


def _hides(name: str, value: str) -> bool:
    """True where the value may not be shown; what stands for a token may."""
    return bool(value) and not value.startswith("$") and (is_secret_name(name) or is_secret_value(value))
