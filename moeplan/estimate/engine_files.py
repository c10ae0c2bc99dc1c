"""Files of settings that an engine's command line names (`--config FILE`), as words of that command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Quote, Spot
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.programs import take_program
from moeplan.engines import flags_of
from moeplan.engines.command_line import Owner, owners
from moeplan.sources.deployments.kinds.trtllm_engine import engine_words
from moeplan.sources.deployments.kinds.vllm_config import option_words
from moeplan.sources.deployments.nodes import Node, compose

CONFIG = "--config"
MOST_CHARACTERS = 1_000_000


class _Manner(NamedTuple):
    """How an engine reads its file."""

    words: Callable[[Node], tuple[Quote, ...]]
    file_counts: bool
    """True where the file overrules flags; else flags overrule the file."""
    attached: bool
    """True where it reads `--config=FILE` too."""


_MANNERS = {
    # vLLM 0.33.0 utils/argparse_utils.py: _pull_args_from_config looks for the word `--config` alone.
    "vllm": _Manner(option_words, file_counts=False, attached=False),
    # SGLang 0.5.23 srt/server_args.py: prepare_server_args.
    "sglang": _Manner(lambda node: option_words(node, negated=False), file_counts=False, attached=False),
    # TensorRT-LLM llmapi/llm_args.py: update_llm_args_with_extra_dict of 0.17 to 1.2.
    "trtllm": _Manner(engine_words, file_counts=True, attached=True),
}


def with_files(engine: str, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Remark, ...]]:
    """The words with those of the files that they name in place, so that the last of several counts as the engine has it;
    and a note for each file.

    Raises InputError for a file that is there and cannot be read.
    """
    manner = _MANNERS.get(engine)
    if manner is None:
        return tuple(words), ()
    found = owners(flags_of(engine), words)
    kept: list[str] = []
    read: list[str] = []
    notes: list[Remark] = []
    place = 0
    while place < len(words):
        path, taken = _path(words, found, place)
        if path is None:
            kept.append(words[place])
        else:
            settings, note = _settings(manner, words[place], path, attached=taken == 1)
            read += settings
            notes.append(note)
        place += taken
    if manner.file_counts:
        return (*kept, *read), tuple(notes)
    if any(owner.field == "model" for owner in found):
        read = _without_model(engine, read)
    first = len(kept) - len(take_program(kept).words)
    return (*kept[:first], *read, *kept[first:]), tuple(notes)


def _path(words: Sequence[str], found: Sequence[Owner], place: int) -> tuple[str | None, int]:
    """The file that a word names, where it is the flag for one, and how many words say so."""
    owner = found[place]
    if owner.part != "flag" or owner.name != CONFIG:
        return None, 1
    _, sign, attached = words[place].partition("=")
    if sign:
        return attached, 1
    return (words[place + 1], 2) if found[place + 1 : place + 2] == (owner._replace(part="value"),) else (None, 1)


def _settings(manner: _Manner, word: str, path: str, *, attached: bool) -> tuple[list[str], Remark]:
    """What a file says, and the note that it was read, or why not."""
    named = word if attached else f"{word} {path}"
    if attached and not manner.attached:
        told = f"{named}: the engine reads this file only where flag and name are two words; it is left out"
        return [], Remark("flag-file", "warning", told)
    if not os.path.isfile(path):
        told = f"{named}: no such file here; what it sets is left out, unless flags state it"
        return [], Remark("flag-file", "warning", told)
    told = "counts where a flag says something else (TensorRT-LLM to 1.2; newer sources let the flag count)"
    told = told if manner.file_counts else "a flag counts where both say something"
    words = [quote.text for quote in manner.words(_mapping(path))]
    return words, Remark("flag-file", "info", f"{named}: the file is read; {told}")


def _mapping(path: str) -> Node:
    """The file's keys."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path}: cannot be read ({problem})", hint="name a file that you can read") from None
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{path}: too long for a file of settings", hint="name the engine's own YAML file")
    composed = compose(text)
    broken = next((remark for remark in composed.remarks if remark.code == "file-broken"), None)
    if broken is not None:
        raise InputError(f"{path}, line {broken.spot.line}: {broken.message}", hint=broken.hint)
    node = composed.documents[0] if composed.documents else Node("null", Spot(1))
    if node.kind not in ("map", "null"):
        raise InputError(f"{path}: holds no settings", hint="one setting a line: max_num_tokens: 8192")
    return node


def _without_model(engine: str, read: list[str]) -> list[str]:
    """The command line's model counts, however it names it."""
    found = owners(flags_of(engine), read)
    return [word for word, owner in zip(read, found, strict=True) if owner.field != "model"]
