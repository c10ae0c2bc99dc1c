"""A deployment's estimate: of the engine as it starts, and of the load that the policy expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.check.subject import Missing, Subject
from moeplan.core.errors import InputError, MoeplanError
from moeplan.core.hardware import Hardware
from moeplan.core.model import Remark
from moeplan.engines import flags_of
from moeplan.engines.command_line import owners
from moeplan.estimate import estimate
from moeplan.estimate.result import Estimate
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.loaded import Asked, LoadedModel

Find = Callable[[str, Asked], LoadedModel]
PROGRAMS = {"vllm": "vllm serve", "sglang": "sglang serve", "trtllm": "trtllm-serve", "llamacpp": "llama-server"}
"""What each engine's command begins with: a deployment without flags is a command all the same."""

DEGREES = {
    "vllm": ("--tensor-parallel-size", "--pipeline-parallel-size"),
    "sglang": ("--tensor-parallel-size", "--pipeline-parallel-size"),
    "trtllm": ("--tensor_parallel_size", "--pipeline_parallel_size"),
}
"""Flags of tensor and pipeline parallelism, 1 unless stated."""


class Outcome(NamedTuple):
    """What the arithmetic says of one deployment."""

    subject: Subject
    cards: Hardware | None = None
    """The profile of its GPUs; None where they are not known."""
    estimate: Estimate | None = None
    """The engine at start, with one request of full length; None where something that it needs is not known."""
    load: Estimate | None = None
    """The load that the policy expects; None where it expects none."""
    unread: MoeplanError | None = None
    """Why its model cannot be read."""
    problem: MoeplanError | None = None
    """Why its engine would not accept its command."""
    usd_per_hour_of_gpu: float | None = None
    """The policy's price for this card."""
    notes: tuple[Remark, ...] = ()


class Estimator:
    """Estimates of one run: equal questions are asked once, models are read once."""

    def __init__(self, find: Find, profiles: Sequence[str], prices: Mapping[str, float], *, offline: bool) -> None:
        self.find = find
        self.profiles = tuple(profiles)
        self.prices = prices
        self.cards: dict[str, tuple[Hardware, int | None] | InputError] = {}
        self.models: dict[tuple[str, Asked], LoadedModel | MoeplanError] = {}
        self.offline = offline
        self.known: dict[tuple[object, ...], Estimate | MoeplanError] = {}

    def outcome(self, subject: Subject) -> Outcome:
        """The estimates of a deployment. Without a GPU what an engine refuses on any card is still found."""
        cards, unknown = self._cards(subject)
        if unknown is not None:
            subject = subject._replace(gpu=None, missing=(*subject.missing, unknown))
        elif (
            cards is not None and subject.gpu is not None and subject.gpus_per_engine and self._count(subject.gpu.text)
        ):
            # `--gpu 8xh100` is about files that state no number.
            subject = subject._replace(gpu=subject.gpu._replace(text=cards.profile))
        found = Outcome(subject, cards)
        if cards is not None:
            found = found._replace(usd_per_hour_of_gpu=self.prices.get(cards.profile))
        if subject.model is not None:
            unread = self._unread(subject)
            if unread is not None:
                return found._replace(unread=unread)
        if any(missing.what != "gpu" for missing in subject.missing) or subject.engine is None:
            return found
        start, notes = self._asked(subject, None, None)
        if isinstance(start, MoeplanError):
            return found._replace(problem=start, notes=notes)
        stead = subject.terms.stead
        load: Estimate | MoeplanError | None = None
        if subject.gpu is not None and (stead.context or stead.concurrency):
            load, _ = self._asked(subject, stead.context or str(start.request.context_tokens), stead.concurrency or "1")
        return found._replace(estimate=start, load=load if isinstance(load, Estimate) else None, notes=notes)

    def _cards(self, subject: Subject) -> tuple[Hardware | None, Missing | None]:
        """The profile of the GPU that is named, or what is wrong with its name."""
        if subject.gpu is None:
            return None, None
        name = subject.gpu.text
        if name not in self.cards:
            try:
                self.cards[name] = find_hardware(name, tuple(Path(folder) for folder in self.profiles))
            except InputError as error:
                self.cards[name] = error
        found = self.cards[name]
        if isinstance(found, InputError):
            told = f"{found.message}: no hardware profile answers to that name"
            hint = f"map it in the policy (gpus: {{{subject.gpu.text}: h100-sxm}}); {found.hint}"
            return None, Missing("gpu", told, hint, subject.gpu.spot or subject.deployed.spot)
        return found[0], None

    def _count(self, name: str) -> int | None:
        found = self.cards[name]
        return None if isinstance(found, InputError) else found[1]

    def _unread(self, subject: Subject) -> MoeplanError | None:
        """What keeps the model from being read; None where it is."""
        assert subject.model is not None
        revision = subject.revision.text if subject.revision is not None else None
        folders = tuple(Path(folder) for folder in self.profiles)
        try:
            self._find(subject.model.text, Asked(revision, self.offline, profile_folders=folders))
        except MoeplanError as error:
            return error
        return None

    def _find(self, text: str, asked: Asked) -> LoadedModel:
        """The model, read once for all deployments of it."""
        key = (text, asked)
        if key not in self.models:
            try:
                self.models[key] = self.find(text, asked)
            except MoeplanError as error:
                self.models[key] = error
        found = self.models[key]
        if isinstance(found, MoeplanError):
            raise found
        return found

    def _asked(
        self, subject: Subject, context: str | None, concurrency: str | None
    ) -> tuple[Estimate | MoeplanError, tuple[Remark, ...]]:
        """One estimate; a version that is none is left out with a note."""
        version = subject.engine_version.text if subject.engine_version is not None else None
        found = self._once(subject, version, context, concurrency)
        if isinstance(found, InputError) and version is not None and "is no version of" in found.message:
            where = subject.engine_version.where if subject.engine_version is not None else ""
            told = f"{version} ({where}) names no version of {subject.engine.text if subject.engine else 'the engine'}"
            return self._once(subject, None, context, concurrency), (Remark("version-unread", "warning", told),)
        return found, ()

    def _once(
        self, subject: Subject, version: str | None, context: str | None, concurrency: str | None
    ) -> Estimate | MoeplanError:
        gpu = None if subject.gpu is None else subject.gpu.text
        count = subject.gpus_per_engine
        if gpu is not None and count:
            gpu = f"{count}x{gpu}"
        words = _as_started(subject, subject.words if context is None else _without_length(subject))
        assert subject.engine is not None
        model = subject.model.text if subject.model is not None else None
        revision = subject.revision.text if subject.revision is not None else None
        engine = subject.engine.text
        key = (model, revision, gpu, engine, version, subject.variables, words, context, concurrency)
        if key not in self.known:
            try:
                self.known[key] = estimate(
                    model,
                    gpu=gpu,
                    engine=engine,
                    engine_version=version,
                    engine_args=(*subject.variables, *PROGRAMS[engine].split(), *words),
                    engine_files=False,
                    context=context,
                    concurrency=concurrency,
                    revision=revision,
                    offline=self.offline,
                    profiles=self.profiles,
                    curves=False,
                    find=self._find,
                )
            except MoeplanError as error:
                self.known[key] = error
        return self.known[key]


def _as_started(subject: Subject, words: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the degrees that an engine starts with where none is stated: it does not look how many GPUs it has.

    llama.cpp does: it spreads a model over all devices that it sees.
    """
    if subject.engine is None or subject.engine.text not in DEGREES:
        return words
    tensor, pipeline = DEGREES[subject.engine.text]
    more = ((tensor, "1") if "tp" not in subject.spots else ()) + ((pipeline, "1") if "pp" not in subject.spots else ())
    return (*words, *more)


def _without_length(subject: Subject) -> tuple[str, ...]:
    """The command without its length and number of sequences: the load states them."""
    assert subject.engine is not None
    parts = owners(flags_of(subject.engine.text), subject.words)
    dropped = ("context_tokens", "concurrency")
    return tuple(word for word, part in zip(subject.words, parts, strict=True) if part.field not in dropped)
