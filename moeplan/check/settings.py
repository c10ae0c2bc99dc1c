"""Every value that a verdict stands on, with the place that it comes from."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.result import Setting
from moeplan.check.subject import Known, Subject
from moeplan.core.deployed import Quote
from moeplan.engines import flags_of


def settings_of(outcome: Outcome) -> tuple[Setting, ...]:
    """Model, GPU, numbers of GPUs, layout, length, and the engine's settings with their defaults."""
    return tuple(_settings(outcome))


def _settings(outcome: Outcome) -> Iterator[Setting]:
    subject, found = outcome.subject, outcome.estimate
    for name in ("model", "revision", "gpu", "engine", "engine_version"):
        known: Known | None = getattr(subject, name)
        if known is not None:
            yield Setting(name, known.text, known.origin, known.where)
    gang = subject.deployed.gang
    for name in ("gpus_per_pod", "pods_per_engine", "replicas", "max_replicas"):
        quote: Quote | None = getattr(gang, name)
        if quote is not None:
            yield Setting(name, quote.text, quote.origin, f"{subject.file}:{quote.spot.line}")
    if found is None:
        return
    for name in ("tp", "pp", "dp", "ep", "dcp", "dp_attention"):
        value = getattr(found.layout, name)
        if name in subject.spots or (value not in (1, False) and name != "ep"):
            yield _of(subject, name, str(value).lower() if isinstance(value, bool) else str(value))
    if found.layout.ep > 1:
        where = next((each for each in ("ep", "expert_parallel") if each in subject.spots), "ep")
        yield _of(subject, where, str(found.layout.ep))._replace(name="ep")
    yield _of(subject, "context_tokens", str(found.request.context_tokens), f"{found.model.id}, the model's own length")
    rows = {name.lstrip("-"): flag for flag in flags_of(found.layout.engine) for name in flag.spellings}
    shown = {"context_tokens", "tp", "pp", "dp", "ep", "expert_parallel"}
    engine = f"{found.layout.engine} {found.layout.engine_version} default"
    for option in found.layout.options:
        row = rows.get(option.flag.lstrip("-"))
        if option.value is None or (row is not None and row.field in shown):
            continue
        also = (row.field or "", row.name) if row is not None else ()
        yield _of(subject, option.flag, _text(option.value), engine, *also)


def _of(subject: Subject, name: str, value: str, otherwise: str = "follows from the others", *also: str) -> Setting:
    """One value; a flag may stand in the command under what it sets, or under another spelling."""
    spot = next((subject.spots[each] for each in (name, *also) if each in subject.spots), None)
    if spot is not None:
        return Setting(name, value, "stated", f"{subject.file}:{spot.line}")
    return Setting(
        name, value, "default" if "default" in otherwise or "own length" in otherwise else "inferred", otherwise
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
