"""A workload as people write it down: classes of requests, their lengths, limits. Every problem names file, line and key."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.core.units import parse_count, parse_rate, parse_seconds
from moeplan.core.workload import Lengths, RequestClass, Workload
from moeplan.sources.strict_yaml import Block, load, shown

SCHEMA = "moeplan.workload/1"
PAGE = "docs/workload.md"
MOST_LENGTH_TOKENS = 10**8
"""No model reads or writes more in one request."""
SHARES_DIFFER = 0.005
"""How far shares may be from their sum: thirds are written as 33.3 %."""


def read_workload(path: str | Path) -> Workload:
    """The workload of a file; lengths and times as numbers or as `32k`, `30ms`, `12/s`.

    A context that the file does not state is its longest class with prompt and answer at their 99th percentiles. InputError
    for everything that cannot be meant.
    """
    path = Path(path)
    top = load(path, PAGE, lines=True)
    _only(top, "schema", "context", "concurrency", "arrival", "ttft", "tpot", "classes")
    if (schema := top.text("schema")) not in (None, SCHEMA):
        raise top.wrong("schema", f"is {shown(schema)}, and this moeplan reads {SCHEMA}", "update moeplan")
    context = _count(top, "context")
    concurrency = _count(top, "concurrency")
    arrival = _read(top, "arrival", parse_rate)
    ttft, tpot = _read(top, "ttft", parse_seconds), _read(top, "tpot", parse_seconds)
    blocks = top.blocks("classes")
    if not blocks:
        hint = "see docs/workload.md; for requests of one kind --input and --output say as much"
        raise InputError(f"{path}: it has no `classes`, so no lengths of requests", hint=hint)
    classes = _shared_out([_class(block) for block in blocks], blocks)
    for block, each in zip(blocks, classes, strict=True):
        if context is not None and each.input_tokens.p50 + each.output_tokens.p50 > context:
            told = (
                f"and `output_tokens` are {each.input_tokens.p50:,} and {each.output_tokens.p50:,} at the median, and"
            )
            raise block.wrong("input_tokens", f"{told} `context` is {context:,}", "shorten one, or raise `context`")
    origins: dict[str, Origin] = {"context_tokens": "inferred" if context is None else "stated"}
    stated = {"concurrency": concurrency, "arrival_per_s": arrival, "ttft_s": ttft, "tpot_s": tpot}
    origins |= {name: "stated" for name, value in stated.items() if value is not None}
    origins |= {"input_tokens": "stated", "output_tokens": "stated"}
    longest = max(each.input_tokens.p99 + each.output_tokens.p99 for each in classes)
    return Workload(classes, context or longest, concurrency, arrival, ttft, tpot, origins)


def _class(block: Block) -> tuple[RequestClass, bool]:
    """A class with its share as it stands, and whether that was a percentage."""
    _only(block, "name", "share", "input_tokens", "output_tokens", "ttft", "tpot")
    name = block.text("name")
    if name is None:
        raise block.wrong("name", "is missing", "any name will do: easy, average, long-context")
    share, is_percentage = _share(block, name)
    return RequestClass(
        name,
        share,
        _lengths(block, "input_tokens"),
        _lengths(block, "output_tokens"),
        _read(block, "ttft", parse_seconds),
        _read(block, "tpot", parse_seconds),
    ), is_percentage


def _only(block: Block, *keys: str) -> None:
    """Refuse other keys before anything else: a key that is misspelt would be called missing."""
    for key in keys:
        block.raw(key)
    block.done()


def _share(block: Block, name: str) -> tuple[float, bool]:
    """0 where it is not given."""
    value = block.raw("share")
    if value is None:
        return 0.0, False
    told = str(value).strip()
    try:
        number = float(told.removesuffix("%"))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not 0 < number <= 100:
        raise block.wrong("share", f"of {name} is {shown(value)}, not a share above 0", "for instance 60% or 0.6")
    return (number / 100, True) if told.endswith("%") else (number, False)


def _shared_out(read: list[tuple[RequestClass, bool]], blocks: tuple[Block, ...]) -> tuple[RequestClass, ...]:
    """The classes with shares that sum to 1."""
    names: set[str] = set()
    for block, (each, _) in zip(blocks, read, strict=True):
        if each.name in names:
            raise block.wrong("name", f"{each.name} is given twice", "give each class its own name")
        names.add(each.name)
        if not each.share_fraction and len(read) > 1:
            raise block.wrong("share", f"of {each.name} is missing", "for instance 60% or 0.6")
    if len(read) == 1 and not read[0][0].share_fraction:
        return (read[0][0]._replace(share_fraction=1.0),)
    total = sum(each.share_fraction for each, _ in read)
    percentages = any(percentage for _, percentage in read)
    # Plain numbers may be percentages too, where they sum to 100.
    if min(abs(total - 1), abs(total / 100 - 1) if not percentages else math.inf) > SHARES_DIFFER:
        told = f"{100 * total:.4g} %, not to 100 %" if percentages else f"{total:.4g}, not to 1 or 100"
        raise blocks[-1].wrong("share", f"is the last one, and all of them sum to {told}", "correct the shares")
    return tuple(each._replace(share_fraction=each.share_fraction / total) for each, _ in read)


def _lengths(block: Block, key: str) -> Lengths:
    value = block.raw(key)
    if value is None:
        raise block.wrong(key, "is missing", "a number, or percentiles: {p50: 512, p95: 2k, p99: 4k}")
    if not isinstance(value, dict):
        count = _length(block, key)
        return Lengths(count, count, count)
    below = block.block(key)
    assert below is not None
    _only(below, *Lengths._fields)
    found = [_length(below, name) for name in Lengths._fields]
    for lower, upper, name, least in zip(found, found[1:], Lengths._fields, Lengths._fields[1:], strict=False):
        if lower > upper:
            raise below.wrong(least, f"is {upper:,}, below {name} of {lower:,}", "put the percentiles in order")
    return Lengths(*found)


def _length(block: Block, key: str) -> int:
    count = _count(block, key)
    if count is None:
        raise block.wrong(key, "is missing", "state p50, p95 and p99, or one number instead")
    return count


def _count(block: Block, key: str) -> int | None:
    count = _read(block, key, lambda text, what: float(parse_count(text, what).value))
    if count is not None and count > MOST_LENGTH_TOKENS:
        raise block.wrong(key, f"is {count:,.0f}, more than {MOST_LENGTH_TOKENS:,}", "correct that key")
    return None if count is None else int(count)


def _read(block: Block, key: str, parse: Callable[[str, str], float]) -> float | None:
    """A value with its unit, by the parser of that kind."""
    value = block.raw(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise block.wrong(key, f"is {shown(value)}, not a number", "for instance 32k, 30ms or 12/s")
    try:
        return parse(str(value), "it")
    except InputError as error:
        problem = error.message.removeprefix(f"it {str(value)!r} ")
        raise block.wrong(key, f"is {shown(value)}: it {problem}", error.hint) from None
