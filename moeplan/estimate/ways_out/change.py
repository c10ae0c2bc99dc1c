"""One change of what was asked: judged as if the user had typed it, and written in the user's own words."""

import re
from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.own_words import own_words
from moeplan.core.quant import fold_bytes
from moeplan.estimate.judge import verdict
from moeplan.estimate.learned import learned_lines
from moeplan.estimate.ledger import Ledger, ledger
from moeplan.estimate.question import Question, find_layout, read_kv_dtype, requantised
from moeplan.estimate.result import Verdict
from moeplan.sources.quantisation import what_if

SAID = (
    "tp", "pp", "dp", "dp_attention", "ep", "expert_parallel", "dcp", "redundant_experts",
    "context_tokens", "concurrency", "kv_dtype", "utilization_fraction",
)  # fmt: skip
"""What is changed, in the order in which it is said."""
CACHE_TYPES = ("--cache-type-k", "--cache-type-v")
"""llama.cpp's flags for the dtype of the cache."""


class Change(NamedTuple):
    """What is stated anew; the rest stays as it was."""

    quant: str | None = None
    num_gpus: int | None = None
    layout: Mapping[str, int | bool] = {}
    """Fields of `AskedLayout`."""
    limits: Mapping[str, int | float | str] = {}
    """Context, concurrency, cache dtype and share, as somebody types them."""
    settings: Mapping[str, Value] = {}
    """The engine's own flags."""
    engine: Question | None = None
    """The same question under another engine."""

    @property
    def parts(self) -> frozenset[tuple[str, object]]:
        """All that it states."""
        name = self.engine.deployment.engine if self.engine is not None else None
        whole = {"quant": self.quant, "num_gpus": self.num_gpus, "engine": name}
        stated = {**self.layout, **self.limits, **self.settings, **whole}
        return frozenset((part, value) for part, value in stated.items() if value is not None)


class Trial(NamedTuple):
    """A changed question and its ledger."""

    question: Question
    ledger: Ledger

    @property
    def verdict(self) -> Verdict:
        """The verdict, computed anew."""
        memory = self.question.serving.memory
        assert memory is not None
        return verdict(self.question, memory, self.ledger)

    @property
    def room_bytes(self) -> int | None:
        """What is left on the fullest rank; None where it does not fit, or is refused."""
        if self.ledger.worst.free_bytes < 0:
            return None
        outcome = self.verdict
        return outcome.headroom_bytes if outcome.fits else None


def tried(question: Question, change: Change) -> Trial:
    """The changed question with its ledger. Raises InputError where it cannot be asked."""
    other = asked(question, change)
    memory = other.serving.memory
    assert memory is not None
    return Trial(other, ledger(other, memory))


def asked(question: Question, change: Change) -> Question:
    """The question with the change. Raises InputError where it contradicts what else was asked."""
    other = question if change.engine is None else change.engine
    if change.quant is not None:
        other = requantised(other, what_if(change.quant, other.spec))
    limits = dict(change.limits)
    deployment = other.deployment._replace(stated={**other.deployment.stated, **change.settings})
    context = limits.pop("context_tokens", None)
    if isinstance(context, int):
        deployment = deployment.with_context(context)
    kv_dtype = limits.pop("kv_dtype", None)
    if isinstance(kv_dtype, str):
        deployment = deployment._replace(kv_dtype=read_kv_dtype(kv_dtype))
    other = other.at(deployment._replace(**limits))  # type: ignore[arg-type]
    if kv_dtype is not None:
        cached = requantised(other, other.serving.quantisation)
        other = cached._replace(held=other.held, matched=other.matched, as_stored=other.as_stored)
    if change.num_gpus is None and not change.layout:
        return other
    layout = other.asked_layout._replace(**change.layout)  # type: ignore[arg-type]
    num_devices = other.num_devices if change.num_gpus is None else change.num_gpus
    used = find_layout(other.engine, other.serving, layout, num_devices)
    other = other.at(other.deployment._replace(layout=used))
    return other._replace(asked_layout=layout, num_devices=num_devices, learned=learned_lines(other.serving))


def least_gpus(question: Question) -> int:
    """The fewest GPUs that have room for the weights alone; 1 where some stay in host memory."""
    serving, memory = question.serving, question.serving.memory
    if memory is None or question.engine.host_share(serving, question.engine.settle(serving)) is not None:
        return 1
    return -(-fold_bytes(question.held).total_bytes // max(1, memory.bytes))


def words(question: Question, gpu: str, change: Change) -> str:
    """The change as it is typed: moeplan's options, then `--` and the engine's flags.

    What was stated behind `--` is changed there, in the engine's own flag: its value replaces the one that stands there.
    `gpu` is what the user wrote for the device.
    """
    deployment = question.deployment
    flags, values = deployment.flags, {**change.layout, **_as_flags(question, change.limits)}
    settings = " ".join(f"{flag} {value}" for flag, value in change.settings.items())
    if settings and not flags and not deployment.stated and "context_tokens" not in values:
        # With a command of its own the engine would take the model's whole length where nobody states one.
        values["context_tokens"] = deployment.context_tokens
    if not change.settings.keys().isdisjoint(CACHE_TYPES):
        values.pop("kv_dtype", None)  # these flags say it
    ours, engines = own_words(flags, {name: values[name] for name in SAID if name in values})
    parts = [
        f"--engine {change.engine.deployment.engine}" if change.engine is not None else "",
        f"--quant {change.quant}" if change.quant is not None else "",
        f"--gpu {quote(f'{change.num_gpus}x{device_name(gpu, question.num_devices)}')}" if change.num_gpus else "",
        ours,
        "--" if engines or settings else "",
        engines,
        settings,
    ]
    return " ".join(part for part in parts if part)


def given_up(question: Question, change: Change) -> str | None:
    """What the change has less of than was asked for: `sequences of 8,704 tokens, not 32,768`."""
    deployment, told = question.deployment, []
    context, concurrency = change.limits.get("context_tokens"), change.limits.get("concurrency")
    if isinstance(context, int) and context < deployment.context_tokens:
        told.append(f"sequences of {context:,} tokens, not {deployment.context_tokens:,}")
    if isinstance(concurrency, int) and concurrency < deployment.concurrency:
        told.append(
            f"{concurrency:,} {'sequence' if concurrency == 1 else 'sequences'}, not {deployment.concurrency:,}"
        )
    return "; ".join(told) or None


def device_name(gpu: str, num_devices: int | None) -> str:
    """The device without its number: `h100` of `8xh100`, `8 x h100` and `h100:8`; `rtx 4090` stays whole."""
    name = gpu.strip()
    number = rf"0*{num_devices}"
    for pattern in (
        rf"{number}\s*[x\u00d7*]\s*(.+)",
        rf"{number}\s+(.+)",
        rf"(.+?)\s*:\s*{number}\s*",
        rf"(.+?)\s*[x\u00d7*]\s*{number}",
    ):
        if found := re.fullmatch(pattern, name, re.IGNORECASE):
            name = found[1]
    return name


def _as_flags(question: Question, limits: Mapping[str, int | float | str]) -> dict[str, int | float | str]:
    """Limits as their flags count them: llama.cpp states one length for all sequences together."""
    deployment, values = question.deployment, dict(limits)
    together = deployment.engine == "llamacpp" and {"context_tokens", "concurrency"} <= set(deployment.flags)
    if together and not values.keys().isdisjoint(("context_tokens", "concurrency")):
        each, sequences = (
            int(values.get(name, getattr(deployment, name))) for name in ("context_tokens", "concurrency")
        )
        values["context_tokens"] = each * sequences
    return values
