"""Figures and scores that are given by hand: `ttft_p95=180ms`, `mmlu=0.712±0.004:higher`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from moeplan.core.errors import InputError
from moeplan.core.record import Figure, Score
from moeplan.core.record_figures import FIGURES, Better, order_of, usual_better
from moeplan.core.units import parse_bytes, parse_count, parse_seconds

BY_HAND = "given by hand"
MOST = 1e15
_UNITS = ("_s", "_bytes", "_tokens", "_fraction")
"""What may be left out at the end of a name."""
_SCORE = re.compile(
    r"(?P<value>[^±:%]*?)(?P<unit>%)?(?:(?:±|\+-|\+/-)(?P<spread>[^:%]*)(?P<last>%)?)?(?::(?P<better>.*))?", re.DOTALL
)


def figures_of(stated: Mapping[str, str | float] | Iterable[str]) -> tuple[Figure, ...]:
    """Figures by name, as texts `NAME=VALUE` or as a mapping, whose numbers are in the unit of the figure's name.

    InputError for a name that no figure has, one that is given twice, and a value that is none.
    """
    found: dict[str, float] = {}
    for name, value in _pairs(stated, "--set", "ttft_p95=180ms"):
        known = _known(name)
        if known in found:
            raise InputError(f"--set {name} is given twice", hint="give it once")
        found[known] = _value(known, f"--set {name}", value)
    return tuple(Figure(name, found[name], None, None, "stated", BY_HAND) for name in sorted(found, key=order_of))


def scores_of(stated: Mapping[str, str | float] | Iterable[str], how: str | None, by: str | None) -> tuple[Score, ...]:
    """Scores by name: `NAME=VALUE`, with its own noise (`±0.004` or `+-0.004`), `%`, and `:higher` or `:lower`.

    InputError for a value that is none, and a name that is given twice.
    """
    found: dict[str, Score] = {}
    for name, value in _pairs(stated, "--quality", "mmlu=0.712"):
        if name in found:
            raise InputError(f"--quality {name} is given twice", hint="give it once")
        found[name] = _score(name, str(value), how, by)
    return tuple(found[name] for name in sorted(found))


def _pairs(
    stated: Mapping[str, str | float] | Iterable[str], option: str, example: str
) -> Iterable[tuple[str, str | float]]:
    if isinstance(stated, str):
        stated = (stated,)
    if isinstance(stated, Mapping):
        yield from stated.items()
        return
    for text in stated:
        name, sign, value = str(text).partition("=")
        if not sign or not name.strip() or not value.strip():
            raise InputError(f"{option} {text!r} is no NAME=VALUE", hint=f"for instance {option} {example}")
        yield name.strip(), value.strip()


def _known(name: str) -> str:
    for candidate in (name, *(name + unit for unit in _UNITS)):
        if candidate in FIGURES:
            return candidate
    from difflib import get_close_matches

    near = get_close_matches(name, FIGURES, n=2, cutoff=0.6)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"--set {name}: a record has no such figure",
        hint=f"{meant}names: ttft, tpot, itl, e2e with _mean, _p50, _p90, _p95, _p99; "
        + ", ".join(each for each, kind in FIGURES.items() if kind.unit != "s"),
    )


def _value(name: str, what: str, value: str | float) -> float:
    kind = FIGURES[name]
    if isinstance(value, str):
        match kind.unit:
            case "s":
                return parse_seconds(value, what)
            case "bytes":
                return parse_bytes(value, what)
            case "tokens" | "sequences":
                return parse_count(value, what).value
            case "fraction":
                return _share(_plain(value.removesuffix("%"), what) / (100 if value.endswith("%") else 1), what, value)
            case _:
                return _plain(value, what)
    if isinstance(value, bool) or not math.isfinite(value) or not 0 <= value < MOST:
        raise InputError(
            f"{what}={value} is not a figure", hint=f"give a number of zero or more, in the unit of {name}"
        )
    return _share(value, what, value) if kind.unit == "fraction" else value


def _share(share: float, what: str, said: object) -> float:
    if share > 1:
        raise InputError(f"{what}={said} is more than all", hint=f"for instance {what}=0.5%")
    return share


def _plain(text: str, what: str) -> float:
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not 0 <= value < MOST:
        raise InputError(f"{what}={text} is not a number of zero or more", hint=f"for instance {what}=42.5")
    return value


def _score(name: str, text: str, how: str | None, by: str | None) -> Score:
    told = _SCORE.fullmatch(text)
    option = f"--quality {name}={text}"
    hint = f"for instance --quality {name[:40]}=0.712, {name[:40]}=0.712+-0.004 or {name[:40]}=6.1:lower"
    if told is None:
        raise InputError(f"{option}: no score", hint=hint)
    try:
        value = float(told["value"])
        spread = None if told["spread"] is None else float(told["spread"])
    except ValueError:
        raise InputError(f"{option}: no score", hint=hint) from None
    if not (abs(value) < MOST and (spread is None or 0 <= spread < MOST)):
        raise InputError(f"{option}: no score", hint=hint)
    stated = told["better"]
    if stated not in (None, "higher", "lower"):
        raise InputError(f"{option}: {stated!r} is neither higher nor lower", hint=hint)
    better: Better = usual_better(name) if stated is None else "lower" if stated == "lower" else "higher"
    return Score(
        name, value, spread, told["unit"] or told["last"], better, "default" if stated is None else "stated", how, by
    )
