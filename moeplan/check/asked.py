"""What a run is asked for by options and policy, held against what there is: codes of rules, levels, engines, GPUs.

What a deployment file names wrongly is a finding; what the command line or the policy names wrongly is wrong usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.check.result import Level
from moeplan.check.rules import unknown_code
from moeplan.check.subject import SERVING, Options
from moeplan.core.deployment import version_key
from moeplan.core.errors import InputError
from moeplan.core.policy import Policy
from moeplan.sources.hardware_profiles import find_hardware

FAIL_ON: tuple[Level, ...] = ("error", "warning", "info")


class Word(NamedTuple):
    """Something that somebody named."""

    text: str
    where: str
    """`--gpu foo`, or the policy and its key."""


def check_asked(
    options: Options,
    select: Sequence[str],
    ignore: Sequence[str],
    fail_on: str,
    policy: Policy,
    folders: Sequence[Path],
) -> None:
    """Raises InputError for the first word that names nothing that there is."""
    if fail_on not in FAIL_ON:
        raise InputError(f"--fail-on {fail_on}: no such level", hint=f"levels: {', '.join(FAIL_ON)}")
    _check_codes([*_words("--select", select), *_words("--ignore", ignore), *_policy_codes(policy)])
    for word in (*_words("--engine", [options.engine]), *_defaults(policy, "engine")):
        if word.text not in SERVING:
            raise InputError(f"{word.where}: no such engine{_near(word.text, SERVING)}", hint=_one_of(SERVING))
    for word in (*_words("--engine-version", [options.engine_version]), *_defaults(policy, "engine_version")):
        if not version_key(word.text.strip().removeprefix("v")):
            raise InputError(f"{word.where}: no version of an engine", hint="write it as 0.23.0")
    _check_gpus([*_words("--gpu", [options.gpu]), *_defaults(policy, "gpu"), *_mapped_gpus(policy)], policy, folders)


def _check_codes(words: Iterable[Word]) -> None:
    for word in words:
        hint = unknown_code(word.text)
        if hint is not None:
            raise InputError(f"{word.where}: no rule has this code, and none begins so", hint=hint)


def _check_gpus(words: Iterable[Word], policy: Policy, folders: Sequence[Path]) -> None:
    for word in words:
        try:
            find_hardware(policy.gpus.get(word.text, word.text), folders)
        except InputError as error:
            raise InputError(f"{word.where}: {error.message}", hint=error.hint) from None


def _words(option: str, texts: Iterable[str | None]) -> Iterator[Word]:
    return (Word(text, f"{option} {text}") for text in texts if text is not None)


def _policy_codes(policy: Policy) -> Iterator[Word]:
    for key, codes in (
        ("severity", policy.terms.severity), ("select", policy.terms.select), ("ignore", policy.terms.ignore),
        *(("overrides.severity", each.severity) for each in policy.overrides),
        *(("overrides.ignore", each.ignore) for each in policy.overrides),
    ):  # fmt: skip
        yield from (Word(code, f"{policy.path}: `{key}`: {code}") for code in codes)


def _defaults(policy: Policy, name: str) -> Iterator[Word]:
    """What stands in for a value that files leave out, in the policy and its overrides."""
    rows = [("defaults", getattr(policy.terms.stead, name))]
    rows += [("overrides.defaults", each.terms.get("stead", {}).get(name)) for each in policy.overrides]
    for key, text in rows:
        if isinstance(text, str):
            yield Word(text, f"{policy.path}: `{key}.{name}`: {text}")


def _mapped_gpus(policy: Policy) -> Iterator[Word]:
    return (Word(text, f"{policy.path}: `gpus.{name}`: {text}") for name, text in policy.gpus.items())


def _near(text: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(text.lower(), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_of(known: Iterable[str]) -> str:
    return f"engines: {', '.join(known)}"
