"""What is drafted, as options of moeplan and the engine's own flags say it.

Options become the engine's own settings, so that its rules for memory count draft layers and states; what the engine's command
line says already is read from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Holding
from moeplan.core.speculation import Drafts, acceptance_of
from moeplan.core.units import gib, parse_part
from moeplan.engines import ENGINES

MOST_DRAFT_TOKENS = 64
"""Drafted one after the other: engines' own defaults are 1 to 16, and what is taken falls with each."""


TAKEN_HINT = "0.8 or 80%: four of five drafted tokens are taken; --accept-length takes the mean length that engines log"


class Asked(NamedTuple):
    """What is drafted, and how much of it is taken."""

    drafts: Drafts
    acceptance: float | None
    """Probability that a drafted token is taken where all before it were; None where nobody said."""


def read_speculation(
    engine: str,
    spec: ModelSpec,
    settings: Mapping[str, Value],
    notes: list[Remark],
    *,
    draft_tokens: int | None,
    acceptance: float | str | None,
    accept_length: float | None,
) -> tuple[Asked | None, Mapping[str, Value]]:
    """What is drafted by options and the engine's own `settings`, and the settings that say so; None where nothing is.

    Raises InputError for numbers that are none of that kind, for contradictions, and for an engine that drafts nothing.
    """
    if isinstance(acceptance, str):
        acceptance = parse_part(acceptance, "--acceptance", TAKEN_HINT)
    _check(draft_tokens, acceptance, accept_length)
    module = _engine_module(engine)
    stated: Drafts | None = module.drafted(settings) if module is not None else None
    if draft_tokens is not None and module is None:
        raise InputError(
            f"--draft-tokens {draft_tokens}: a {engine} script has no setting for it",
            hint="name an engine that drafts, for instance --engine vllm",
        )
    if stated is not None and stated.tokens > MOST_DRAFT_TOKENS:
        raise InputError(
            f"{module and module.FLAG} of {stated.tokens:,} drafted tokens is more than {MOST_DRAFT_TOKENS}",
            hint="say a number that engines serve with, 1 to 16 or so",
        )
    if stated is not None and draft_tokens not in (None, stated.tokens):
        assert module is not None
        raise InputError(
            f"--draft-tokens {draft_tokens} and {stated.tokens} of {module.FLAG} behind `--` contradict each other",
            hint="leave one of them out",
        )
    if stated is None and draft_tokens is not None and module is not None:
        own = module.has_layers(spec)
        told: Mapping[str, Value] = module.speculate(draft_tokens, own_layers=own)
        settings = {**settings, **told}
        stated = module.drafted(settings)
        words = " ".join(f"{flag} {value}" for flag, value in told.items())
        notes.append(Remark("draft-settings", "info", f"--draft-tokens {draft_tokens}: {engine} is told {words}"))
    if stated is None:
        for name, value in (("--acceptance", acceptance), ("--accept-length", accept_length)):
            if value is not None:
                raise InputError(
                    f"{name} {value:g}: nothing is drafted",
                    hint="say --draft-tokens, or the engine's own flags for speculation behind `--`",
                )
        return None, settings
    if accept_length is not None:
        acceptance = _of_length(accept_length, stated.tokens)
    assert module is not None
    if stated.kind == "own_layers" and not module.has_layers(spec):
        stated = stated._replace(kind="other_model")
    notes += _told(engine, stated, from_options=draft_tokens is not None)
    return Asked(stated, acceptance), settings


def left_open(drafts: Drafts, held: Iterable[Holding], *, with_card: bool) -> Remark:
    """What is known of drafts where no times are: what their layers hold, and what would tell the rest."""
    told = f"{drafts.tokens} {'token' if drafts.tokens == 1 else 'tokens'} drafted a step: "
    layers_bytes = sum(each.num_bytes for each in held if each.part == "mtp")
    if drafts.kind == "own_layers" and layers_bytes:
        told += f"draft layers are {gib(layers_bytes)} of the weights; "
    if with_card:
        return Remark("drafts-left-open", "warning", f"{told}what they cost and give is not known where times are not")
    rest = "what drafts cost and give, and what their cache and states hold, is told with --gpu"
    return Remark("drafts-left-open", "warning", f"{told}{rest}")


def _check(draft_tokens: object, acceptance: object, accept_length: object) -> None:
    if draft_tokens is not None and not (
        isinstance(draft_tokens, int) and not isinstance(draft_tokens, bool) and 1 <= draft_tokens <= MOST_DRAFT_TOKENS
    ):
        raise InputError(
            f"--draft-tokens {draft_tokens} must be a whole number from 1 to {MOST_DRAFT_TOKENS}",
            hint="for instance --draft-tokens 2",
        )
    if acceptance is not None and accept_length is not None:
        raise InputError(
            f"--acceptance {acceptance} and --accept-length {accept_length} both say how many drafted tokens are taken",
            hint="leave one of them out",
        )
    if acceptance is not None and not (_is_number(acceptance) and 0 <= acceptance <= 1):  # type: ignore[operator]
        raise InputError(
            f"--acceptance {acceptance} must be from 0 to 1",
            hint=TAKEN_HINT,
        )
    if accept_length is not None and not (_is_number(accept_length) and accept_length >= 1):  # type: ignore[operator]
        raise InputError(
            f"--accept-length {accept_length} must be 1 or more",
            hint="it is the mean acceptance length that engines log, the model's own token among them: 2.4, say",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_length(length: float, drafted: int) -> float:
    found = acceptance_of(length, drafted)
    if found is None:
        raise InputError(
            f"--accept-length {length:g} is more than {drafted + 1}: a step drafts {drafted}, and one token is the model's own",
            hint=f"say 1 to {drafted + 1}, or more --draft-tokens",
        )
    return found


def _engine_module(engine: str) -> ModuleType | None:
    """The engine's rules of speculation: `drafted`, `has_layers`, `speculate` and `FLAG`; None for one that drafts nothing."""
    if engine == "transformers":
        return None
    return import_module(f"moeplan.engines.{ENGINES[engine]}.speculation")


def _told(engine: str, drafts: Drafts, *, from_options: bool) -> list[Remark]:
    """What is not known of the draft."""
    if drafts.kind == "other_model":
        named = f"the draft model {drafts.model}" if drafts.model else "the draft model"
        told = f"{named} is not read: what it takes is not counted, and what is told of speculation is a bound"
        return [Remark("draft-not-modelled", "warning", told)]
    if drafts.kind == "lookup" and from_options:
        told = (
            f"the model has no draft layers that {engine} would load: drafts are taken as looked up in the text, which costs "
            "nothing; what another draft model holds and takes is not counted"
        )
        return [Remark("draft-lookup", "warning", told)]
    return []
