"""The formats that llama.cpp may run a model in: what is stored, if it reads that, and its own mixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moeplan.core.deployment import Refusal
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.quant import fold_bytes
from moeplan.estimate.question import Question
from moeplan.offload.questions import Questions
from moeplan.offload.search import sort_of
from moeplan.sources.gguf.mixes import ALL_MIXES, IQ_MIXES, MIXES

STORED = "stored"
OF_EXPERTS = "mxfp4_moe"
"""A mix of experts' formats, which is q8_0 in a dense model."""
FOREIGN = "no-gguf-format"
"""llama.cpp's refusal of a format that no GGUF file has."""


class Tried(NamedTuple):
    """A format with its question, nothing offloaded."""

    name: str
    quant: str | None
    """None for what the checkpoint stores."""
    question: Question
    num_bytes: int
    """Of all weights."""
    notes: tuple[Remark, ...]
    """On how it was worked out."""


def formats(questions: Questions, asked: Sequence[str] | None) -> tuple[Tried, ...]:
    """Those asked for, else the stored one and every mix of `MIXES` that is smaller; most bytes first.

    A GGUF file is its own format. Raises InputError for a name that is not known, and for a stored format that
    llama.cpp does not read, where that was asked for.
    """
    is_gguf = questions.loaded.source_kind == "gguf"
    stored = _tried(questions, STORED, None)
    read = not any(reason.code == FOREIGN for reason in _refusals(stored.question))
    if asked is not None:
        names = tuple(dict.fromkeys(name.lower() for name in asked))
        if STORED in names and not read:
            told = _refusals(stored.question)[0].message
            raise InputError(f"--quant stored: {told}", hint=f"--quant takes {', '.join(ALL_MIXES)} too")
        other = next(
            (name for name in names if name != STORED and (is_gguf or name not in (*ALL_MIXES, "bf16", "fp16"))), None
        )
        if other is not None and is_gguf:
            raise InputError(
                f"--quant {other}: a GGUF file has its own format",
                hint="leave --quant out, or name the model it was made of",
            )
        if other is not None:
            _tried(questions, other, other)  # says what is wrong with the name
            raise InputError(
                f"--quant {other}: no GGUF file has it",
                hint=f"with --ram, --quant takes stored, {', '.join(ALL_MIXES)}",
            )
        found = [stored if name == STORED else _tried(questions, name, name) for name in names]
        return tuple(sorted(found, key=lambda each: -each.num_bytes))
    if is_gguf:
        return (stored,)
    dense = sort_of(stored.question.spec) != "experts"
    mixes = [_tried(questions, name, name) for name in MIXES if not (dense and name == OF_EXPERTS)]
    # What is stored in few bits gains none from a larger file.
    kept = [stored, *(each for each in mixes if each.num_bytes < stored.num_bytes)] if read else mixes
    return tuple(sorted(kept, key=lambda each: -each.num_bytes))


def smaller_formats(questions: Questions, tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Mixes of fewer bits than all that were tried, most bytes first: none of a GGUF file, which has its own format."""
    if questions.loaded.source_kind == "gguf":
        return ()
    least = min(each.num_bytes for each in tried)
    found = (_tried(questions, name, name) for name in IQ_MIXES)
    return tuple(sorted((each for each in found if each.num_bytes < least), key=lambda each: -each.num_bytes))


def _tried(questions: Questions, name: str, quant: str | None) -> Tried:
    notes: list[Remark] = []
    question = questions.question("llamacpp", quant, notes=notes)
    return Tried(name, quant, question, fold_bytes(question.held).total_bytes, tuple(notes))


def _refusals(question: Question) -> tuple[Refusal, ...]:
    return question.engine.refusals(question.serving, question.engine.settle(question.serving))
