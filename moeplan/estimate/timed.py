"""A question whose operations have times: asked again and again for other loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.expert_use import LIGHT, ExpertUse
from moeplan.core.serving_speed import Figure, ServedLoad, ServingSpeed, serving_speed
from moeplan.core.step_time import StepModel

if TYPE_CHECKING:  # only who speculates pays for it
    from moeplan.core.speculation import Drafting, Speculating


class Timed(NamedTuple):
    """A question that times are known for."""

    stages: tuple[StepModel, ...]
    step_tokens: int
    copies: int
    """Replicas within the layout: data-parallel ranks that share nothing."""
    use: ExpertUse = LIGHT
    """How tokens use experts."""
    speculating: Speculating | None = None
    """None where nothing is drafted."""

    def at(self, concurrency: int, input_tokens: float, output_tokens: float) -> ServingSpeed:
        """The speed of the whole layout; copies share the requests. Raises UnknownError beyond what was measured."""
        drafting = self.speculating.drafting if self.speculating is not None and self.speculating.counts else None
        return self.with_drafts(drafting, concurrency, input_tokens, output_tokens)

    def with_drafts(
        self, drafting: Drafting | None, concurrency: int, input_tokens: float, output_tokens: float
    ) -> ServingSpeed:
        """The same with other drafts than were asked for, or with none."""
        each = -(-concurrency // self.copies)
        load = ServedLoad(each, input_tokens, output_tokens, self.step_tokens)
        found = serving_speed(self.stages, load, self.use, drafting)
        of_one, times = found.output_tokens_per_s, concurrency / each
        total = Figure(of_one.value * times, of_one.low * times, of_one.high * times, of_one.basis)
        return found._replace(output_tokens_per_s=total)
