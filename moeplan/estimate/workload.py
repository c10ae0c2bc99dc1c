"""The workload that is asked for: options and a file as one, each value once, defaults named in notes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.units import parse_rate, parse_seconds
from moeplan.core.workload import Lengths, RequestClass, Workload
from moeplan.estimate.question import read_context, read_count
from moeplan.sources.workloads import MOST_LENGTH_TOKENS, read_workload

DEFAULT_LENGTH_TOKENS = 1024
"""Of a prompt and of an answer where nobody said: the usual lengths of public serving benchmarks, in this project's own data
too (benchmarks/data/throughput.csv)."""
ALL = "all"
"""Name of the one class where no file names others."""


def make_workload(
    spec: ModelSpec,
    notes: list[Remark],
    *,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    arrival: float | str | None = None,
    file: str | Path | None = None,
    strict: bool = False,
    commanded: str | None = None,
    flags: Mapping[str, str] | None = None,
) -> Workload:
    """What options (as typed) and the file of `--workload` say, and defaults for the rest; `notes` takes the remarks.

    `commanded` and `flags` are those of an engine's command line, as `read_limits` and `Deployment` have them. Lengths are
    typical ones: of all requests where there is no file. InputError for values that are none, that contradict each other, or
    that reach beyond the context or the model.
    """
    written = None if file is None else read_workload(file)
    flags = flags or {}
    origins: dict[str, Origin] = {}
    found: dict[str, float | None] = {}
    for field, key, value in (
        ("concurrency", "concurrency", concurrency),
        ("arrival_per_s", "arrival", arrival),
        ("ttft_s", "ttft", ttft),
        ("tpot_s", "tpot", tpot),
    ):
        option = flags.get(field) or f"--{key}"
        theirs: float | None = getattr(written, field, None)
        typed = None
        if value is not None:
            typed = _read(str(value), key, option, notes)
            _agree(f"{option} {value}", typed, key, theirs, file)
        found[field] = theirs if typed is None else typed
        if found[field] is not None:
            origins[field] = "stated"
    if found["concurrency"] is None and found["arrival_per_s"] is None:
        found["concurrency"], origins["concurrency"] = 1, "default"
        told = "concurrency 1: moeplan's default, one request at a time; say --concurrency for more"
        notes.append(Remark("workload-default", "info", told))
    asked = {
        name: _length(spec, read_count(value, f"--{name}", notes), f"--{name} {value}")
        for name, value in (("input", input), ("output", output))
        if value is not None
    }
    context_option = flags.get("context_tokens") or "--context"
    if written is None:
        least = sum(asked.values()) + DEFAULT_LENGTH_TOKENS * (len(asked) == 1)
        least = min(least, spec.max_context_tokens or least)
        context_tokens, origins["context_tokens"] = read_context(
            spec, context, notes, strict=strict, commanded=commanded, least_tokens=least
        )
        classes: tuple[RequestClass, ...] = (_one_class(asked, context_tokens, context_option, notes),)
        for name in ("input", "output"):
            origins[f"{name}_tokens"] = "stated" if name in asked else "default"
    else:
        _no_other_lengths(written, asked, file)
        classes = written.classes
        origins |= {"input_tokens": "stated", "output_tokens": "stated"}
        context_tokens, origins["context_tokens"] = _context(
            spec, notes, written, file, context, context_option, strict=strict, commanded=commanded
        )
        _check_classes(spec, classes, context_tokens, file, notes)
    whole = found["concurrency"]
    return Workload(
        classes,
        context_tokens,
        None if whole is None else int(whole),
        found["arrival_per_s"],
        found["ttft_s"],
        found["tpot_s"],
        origins,
    )


def _read(text: str, key: str, option: str, notes: list[Remark]) -> float:
    match key:
        case "concurrency":
            return read_count(text, option, notes)
        case "arrival":
            return parse_rate(text, option)
        case _:
            return parse_seconds(text, option)


def _agree(said: str, mine: float | None, key: str, theirs: float | None, file: str | Path | None) -> None:
    """Raise InputError where an option and the file say different things."""
    if mine is None or theirs is None or abs(mine - theirs) <= 1e-9 * theirs:
        return
    raise InputError(
        f"{said} and `{key}` {theirs:,.10g} of {file} contradict each other",
        hint=f"leave the option out, or `{key}` of the file",
    )


def _context(
    spec: ModelSpec,
    notes: list[Remark],
    written: Workload,
    file: str | Path | None,
    context: int | str | None,
    option: str,
    *,
    strict: bool,
    commanded: str | None,
) -> tuple[int, Origin]:
    """The context of the option, the file, the engine's command line or the classes, in that order."""
    in_file = written.origins["context_tokens"] == "stated"
    if context is None and not in_file and commanded is None:
        tokens, _ = read_context(spec, written.context_tokens, notes, strict=strict)
        told = f"context {tokens:,} tokens: the longest class of {file}, prompt and answer at their 99th percentiles"
        notes.append(Remark("workload-default", "info", f"{told}; say --context for another"))
        return tokens, "inferred"
    if context is None:
        stated = written.context_tokens if in_file else None
        return read_context(spec, stated, notes, strict=strict, commanded=commanded)
    tokens, origin = read_context(spec, context, notes, strict=strict)
    _agree(f"{option} {context}", tokens, "context", written.context_tokens if in_file else None, file)
    return tokens, origin


def _one_class(asked: Mapping[str, int], context_tokens: int, context_option: str, notes: list[Remark]) -> RequestClass:
    """All requests alike: the lengths that were asked for; defaults leave each other half of the context at least."""
    prompt, answer = asked.get("input"), asked.get("output")
    stated = sum(asked.values())
    if stated + (len(asked) == 1) > context_tokens:
        told = " and ".join(f"--{name} {count:,}" for name, count in asked.items())
        needs = f"{stated:,} tokens" if len(asked) == 2 else "with at least one token beside it"
        raise InputError(
            f"{told}: {needs}, more than {context_option} {context_tokens:,} holds",
            hint=f"shorten them, or say {context_option} {stated + (len(asked) == 1)}",
        )
    room = context_tokens - stated
    defaults = []
    if prompt is None:
        prompt = max(1, min(DEFAULT_LENGTH_TOKENS, room if answer is not None else room // 2))
        defaults.append(f"input {prompt:,}")
    if answer is None:
        answer = max(1, min(DEFAULT_LENGTH_TOKENS, context_tokens - prompt))
        defaults.append(f"output {answer:,}")
    if defaults:
        options = " and ".join(f"--{text.split()[0]}" for text in defaults)
        told = f"{' and '.join(defaults)} tokens: moeplan's default, the usual lengths of public benchmarks of serving"
        notes.append(Remark("workload-default", "info", f"{told}; say {options} for other lengths"))
    return RequestClass(ALL, 1.0, Lengths(prompt, prompt, prompt), Lengths(answer, answer, answer), None, None)


def _no_other_lengths(written: Workload, asked: Mapping[str, int], file: str | Path | None) -> None:
    """Raise InputError where options state lengths that are not those of the file's classes."""
    for name, count in asked.items():
        lengths = {getattr(each, f"{name}_tokens") for each in written.classes}
        if lengths != {Lengths(count, count, count)}:
            raise InputError(
                f"--{name} {count:,} and `{name}_tokens` of the classes of {file} contradict each other",
                hint=f"leave --{name} out, or change the file",
            )


def _check_classes(
    spec: ModelSpec,
    classes: tuple[RequestClass, ...],
    context_tokens: int,
    file: str | Path | None,
    notes: list[Remark],
) -> None:
    """Refuse lengths beyond the model or the context; a tail that reaches beyond the context is a remark."""
    for each in classes:
        _length(spec, each.input_tokens.p99, f"{file}: `input_tokens` of {each.name}, {each.input_tokens.p99:,},")
        _length(spec, each.output_tokens.p99, f"{file}: `output_tokens` of {each.name}, {each.output_tokens.p99:,},")
        middle = each.input_tokens.p50 + each.output_tokens.p50
        if middle > context_tokens:
            raise InputError(
                f"{file}: class {each.name} has {middle:,} tokens at the median, more than the context of {context_tokens:,}",
                hint=f"shorten the class, or say --context {middle}",
            )
        longest = each.input_tokens.p99 + each.output_tokens.p99
        if longest > context_tokens:
            told = f"class {each.name}: prompt and answer at their 99th percentiles are {longest:,} tokens"
            beyond = f"{told}, beyond the context of {context_tokens:,}: the engine would refuse or cut them"
            notes.append(Remark("workload-beyond-context", "warning", beyond))


def _length(spec: ModelSpec, count: int, said: str) -> int:
    """The length, where a model may be asked for it."""
    most = spec.max_context_tokens
    if count > MOST_LENGTH_TOKENS:
        raise InputError(
            f"{said} is more than {MOST_LENGTH_TOKENS:,} tokens", hint="say a length that a model can hold"
        )
    if most is not None and count > most:
        raise InputError(
            f"{said} is beyond the model's maximum of {most:,} tokens",
            hint=f"say at most {most}, or name another model",
        )
    return count
