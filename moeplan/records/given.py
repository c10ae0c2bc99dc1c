"""Figures and scores that are given by hand: `ttft_p95=180ms`, `mmlu=0.712±0.004:higher`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from moeplan.core.errors import InputError
from moeplan.core.record import Figure, Score
from moeplan.core.record_figures import FIGURES, Better, order_of, usual_better
from moeplan.core.units import MOST_SECONDS, parse_bytes, parse_count, parse_seconds

BY_HAND = "given by hand"
MOST, LEAST = 1e15, 1e-9
"""What is beyond is no figure of anything, and what is above 0 and below neither."""
_UNITS = ("_s", "_bytes", "_tokens", "_fraction")
"""What may be left out at the end of a name."""
_WHOLE = ("bytes", "tokens", "sequences")
_MORE_LIKELY_MS = 10
"""Times without a unit that are below this are first asked back as seconds."""
_SCORE = re.compile(
    r"(?P<value>[^±:%]*?)(?P<unit>%)?(?:(?:±|\+-|\+/-)(?P<spread>[^:%]*)(?P<last>%)?)?(?::(?P<better>.*))?", re.DOTALL
)


def figures_of(stated: Mapping[str, str | float] | Iterable[str]) -> tuple[Figure, ...]:
    """Figures by name, as texts `NAME=VALUE` or as a mapping, whose numbers are in the unit of the figure's name.

    InputError for a name that no figure has, one that is given twice, a value that is none, and a time or a size that has its unit
    neither behind its value nor in its name.
    """
    found: dict[str, float] = {}
    for name, value in _pairs(stated, "--set", "ttft_p95=180ms"):
        known = _known(name)
        if known in found:
            raise InputError(f"--set {name} is given twice", hint="give it once")
        what = f"--set {name}"
        if name != known and FIGURES[known].unit in ("s", "bytes"):
            _check_unit(known, what, value)
        found[known] = _value(known, what, value)
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


def _check_unit(known: str, what: str, value: str | float) -> None:
    """Raise InputError for a number alone: 180 may be milliseconds, and is no seconds then."""
    try:
        number = float(value.replace(",", "").replace("_", "")) if isinstance(value, str) else float(value)
    except ValueError:
        return
    if not 0 < number < MOST or isinstance(value, bool):
        return  # refused as what it is
    if FIGURES[known].unit == "bytes":
        ways = f"{what}={value}GiB or {what}_bytes={value}"
    elif number < _MORE_LIKELY_MS:
        ways = f"{what}={number:g}s or {what}={number * 1e3:g}ms"
    else:
        ways = f"{what}={number:g}ms or {what}={number / 1e3:g}s"
    raise InputError(f"{what}={value} has no unit", hint=f"say which: {ways}")


def _value(name: str, what: str, value: str | float) -> float:
    kind = FIGURES[name]
    if not isinstance(value, str):
        return _number(name, what, value)
    match kind.unit:
        case "s":
            try:
                return parse_seconds(value, what)
            except InputError as error:
                raise InputError(error.message, hint=f"for instance {what}=180ms or {what}=0.18s") from None
        case "bytes":
            return parse_bytes(value, what)
        case "tokens" | "sequences":
            return parse_count(value, what).value
        case "fraction":
            return _share(_plain(value.removesuffix("%"), what) / (100 if value.endswith("%") else 1), what, value)
        case _:
            return _plain(value, what)


def _number(name: str, what: str, value: float) -> float:
    """A number as Python has it, in the unit of the figure's name."""
    unit = FIGURES[name].unit
    if isinstance(value, bool) or not math.isfinite(value) or not (value == 0 or LEAST <= value < MOST):
        raise InputError(
            f"{what}={value} is not a figure", hint=f"give a number of zero or more, in the unit of {name}"
        )
    if unit == "s" and not 0 < value <= MOST_SECONDS:
        raise InputError(f"{what}={value} is no time", hint="give seconds above 0 and at most a day")
    if unit in _WHOLE and value != int(value):
        raise InputError(f"{what}={value} is not a whole number", hint=f"give whole {unit}")
    return _share(value, what, value) if unit == "fraction" else value


def _share(share: float, what: str, said: object) -> float:
    if share > 1:
        raise InputError(f"{what}={said} is more than all", hint=f"for instance {what}=0.5%")
    return share


def _plain(text: str, what: str) -> float:
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not (value == 0 or LEAST <= value < MOST):
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
