"""A model read once: what it keeps and what its steps read, whole, under the engine that all are compared under."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from moeplan.core.deployment import Serving
from moeplan.core.hardware import Hardware, usable
from moeplan.core.kv_cache import cache_cost
from moeplan.core.layout import AskedLayout
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import fold_bytes
from moeplan.core.step_bytes import StepReads, cache_reads, step_reads
from moeplan.core.weights import inventory
from moeplan.engines import load
from moeplan.estimate.question import Question, make_question, read_formats, read_kv_dtype, read_limits
from moeplan.sources.catalogue import find_entry
from moeplan.sources.engine_constants import read_constants
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model


class Settings(NamedTuple):
    """What all models are asked under."""

    engine: str
    engine_version: str | None
    hardware: Hardware | None
    kv_dtype: str | None
    asked: Asked
    encoder_tokens: int | str | None


class Reading(NamedTuple):
    """One model, whole and on no card yet."""

    loaded: LoadedModel
    question: Question
    reads: StepReads
    license: str | None

    @property
    def spec(self) -> ModelSpec:
        """In the dtype that the engine runs it in."""
        return self.question.spec

    @property
    def weights_bytes(self) -> int:
        """That the engine keeps."""
        return fold_bytes(self.question.held).total_bytes

    def cache_bytes(self, context_tokens: int) -> int:
        """Of one sequence."""
        asked = self.question.deployment.with_context(context_tokens)
        return cache_cost(
            self.question.rows, self.question.rules, context_tokens, asked.encoder_tokens
        ).bytes_at_context


def remembering(progress: Callable[[int, int], None] | None) -> Callable[[str, Asked], LoadedModel]:
    """`find_model` that reads each model once."""

    @lru_cache(maxsize=64)
    def find(text: str, asked: Asked) -> LoadedModel:
        return find_model(text, asked._replace(progress=progress))

    return lambda text, asked: find(text, asked._replace(progress=None))


def read_model(loaded: LoadedModel, quant: str | None, context_tokens: int, settings: Settings) -> Reading:
    """The model in the format that is asked for. Raises InputError for a format or a cache dtype that is none."""
    unheard: list[Remark] = []  # `estimate` tells the same of the same model
    hardware = settings.hardware
    spec, resident, checkpoint = read_formats(loaded, settings.engine, hardware, None, quant, unheard)
    limits, _ = read_limits(spec, context_tokens, 1, settings.encoder_tokens, unheard, strict=False)
    matched = None
    if loaded.checkpoint is not None:
        from moeplan.estimate.headers import match_headers

        matched, _ = match_headers(loaded.checkpoint, loaded.spec, checkpoint, is_gguf=loaded.source_kind == "gguf")
    deployment = limits._replace(engine=settings.engine, kv_dtype=read_kv_dtype(settings.kv_dtype))
    constants, _ = read_constants(settings.engine, settings.engine_version)
    memory = usable(hardware) if hardware else None
    question = make_question(
        Serving(spec, inventory(spec), resident, deployment, hardware, memory, constants),
        load(settings.engine),
        AskedLayout(),
        1,
        "default",
        (),
        matched,
        use_headers=quant is None,
    )
    read = cache_reads(spec, question.rules, context_tokens, deployment.encoder_tokens)
    license_ = None
    if loaded.source_kind == "catalogue":
        entry = find_entry(loaded.id, settings.asked.profile_folders)
        license_ = entry.license if entry is not None else None
    return Reading(loaded, question, step_reads(spec, question.held, read), license_)
