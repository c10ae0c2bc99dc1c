"""The questions behind an offload: one model on one kind of card under an engine in a format, as `estimate` asks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployment import Deployment, Serving, Value
from moeplan.core.hardware import Hardware, Usable
from moeplan.core.layout import AskedLayout
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.weights import Owned, inventory
from moeplan.core.workload import Workload
from moeplan.engines import load
from moeplan.estimate import UNCERTAIN
from moeplan.estimate.headers import match_headers
from moeplan.estimate.question import Question, make_question, read_formats
from moeplan.sources.engine_constants import read_constants
from moeplan.sources.loaded import LoadedModel


class Machine(NamedTuple):
    """The cards."""

    hardware: Hardware
    memory: Usable
    num_devices: int


class Questions:
    """Makes questions of one model and workload."""

    def __init__(self, loaded: LoadedModel, workload: Workload, kv_dtype: str | None, machine: Machine) -> None:
        self.loaded = loaded
        self.machine = machine
        self.kv_dtype = kv_dtype
        self._workload = workload
        self._owned: dict[ModelSpec, tuple[Owned, ...]] = {}

    def question(
        self,
        engine: str,
        quant: str | None,
        stated: Mapping[str, Value] | None = None,
        asked: AskedLayout = AskedLayout(),  # noqa: B008
        notes: list[Remark] | None = None,
    ) -> Question:
        """All cards under an engine in a format, None as it is stored; `notes` takes remarks on that format.

        Raises InputError for what does not go together.
        """
        notes = [] if notes is None else notes
        loaded, machine = self.loaded, self.machine
        spec, resident, checkpoint = read_formats(loaded, engine, machine.hardware, None, quant, notes)
        if spec not in self._owned:
            self._owned[spec] = inventory(spec)
        encoder_tokens = self._workload.context_tokens if spec.is_encoder_decoder else 0
        deployment = Deployment(
            engine, self._workload.context_tokens, self._workload.concurrency or 1, encoder_tokens, spec.is_encoder_decoder,
            kv_dtype=self.kv_dtype, stated=stated or {},
        )  # fmt: skip
        serving = Serving(
            spec, self._owned[spec], resident, deployment, machine.hardware, machine.memory, read_constants(engine, None)[0]
        )  # fmt: skip
        matched = None
        if loaded.checkpoint is not None:
            is_gguf = loaded.source_kind == "gguf"
            matched, _ = match_headers(loaded.checkpoint, loaded.spec, checkpoint, is_gguf=is_gguf)
        uncertain = tuple(note for note in loaded.remarks if note.severity == "warning" and note.code in UNCERTAIN)
        return make_question(
            serving, load(engine), asked, machine.num_devices, "default", uncertain, matched, use_headers=quant is None
        )  # fmt: skip


def with_settings(question: Question, stated: Mapping[str, Value]) -> Question:
    """The same with these settings of the engine alone."""
    return question.at(question.deployment._replace(stated=stated))
