"""The questions behind a search: one model, read once, under every engine, in every format, on every card."""

from __future__ import annotations

from moeplan.core.deployment import Deployment, Serving
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware, Usable
from moeplan.core.layout import AskedLayout
from moeplan.core.model import ModelSpec, MoeFfn, Remark
from moeplan.core.quant import Holding
from moeplan.core.weights import Owned, inventory
from moeplan.core.workload import Workload
from moeplan.engines import load
from moeplan.estimate.question import Question, make_question, read_formats
from moeplan.plan.cards import Card
from moeplan.plan.cells import Cell
from moeplan.plan.formats import Format
from moeplan.sources.engine_constants import read_constants
from moeplan.sources.loaded import LoadedModel


class Questions:
    """Makes questions of one model and workload, each once."""

    def __init__(self, loaded: LoadedModel, workload: Workload, kv_dtype: str | None) -> None:
        self.loaded = loaded
        self._workload = workload
        self.kv_dtype = kv_dtype
        self._owned: dict[ModelSpec, tuple[Owned, ...]] = {}
        self._held: dict[tuple[Holding, ...], tuple[Holding, ...]] = {}
        self._cells: dict[tuple[str, str, str], Cell | None] = {}

    @property
    def sparse(self) -> bool:
        """True for a model with routed experts."""
        layers = dict.fromkeys(self.loaded.spec.layers)
        return any(isinstance(ffn, MoeFfn) for layer in layers for ffn in layer.ffns)

    def owned(self, spec: ModelSpec) -> tuple[Owned, ...]:
        """The model's inventory in the dtype of `spec`."""
        if spec not in self._owned:
            self._owned[spec] = inventory(spec)
        return self._owned[spec]

    def question(
        self, engine: str, form: Format, hardware: Hardware | None = None, memory: Usable | None = None
    ) -> Question:
        """One GPU, or none, under an engine in a format. Raises InputError for what does not go together."""
        notes: list[Remark] = []
        spec, resident, _ = read_formats(self.loaded, engine, hardware, None, form.quant, notes)
        constants, _ = read_constants(engine, None)
        deployment = Deployment(
            engine,
            self._workload.context_tokens,
            self._workload.concurrency or 1,
            self._workload.context_tokens if spec.is_encoder_decoder else 0,
            spec.is_encoder_decoder,
            kv_dtype=self.kv_dtype,
        )
        serving = Serving(spec, self.owned(spec), resident, deployment, hardware, memory, constants)
        question = make_question(serving, load(engine), AskedLayout(), None, "default", (), None, use_headers=False)
        # Weights that are the same are one object: what is worked out of them is then found again.
        return question._replace(held=self._held.setdefault(question.held, question.held))

    def cell(self, card: Card, engine: str, form: Format) -> Cell | None:
        """A card under an engine in a format; None where they do not go together."""
        key = card.hardware.profile, engine, form.name
        if key not in self._cells:
            try:
                question = self.question(engine, form, card.hardware, card.memory)
            except InputError:
                self._cells[key] = None
            else:
                self._cells[key] = Cell(card, engine, form, question)
        return self._cells[key]
