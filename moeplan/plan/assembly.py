"""What was found, as the result shows it: a candidate with its memory, cost, speed and the command that starts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import Launch
from moeplan.core.layout import Layout
from moeplan.core.price import usd_per_hour, usd_per_million_tokens
from moeplan.core.serving_speed import ServingSpeed
from moeplan.engines.command_line.writing import launch_command, launch_words
from moeplan.estimate.judge import Answer
from moeplan.estimate.speed_result import Rate, Time
from moeplan.plan.cells import Cell
from moeplan.plan.folds import Fold
from moeplan.plan.formats import STORED
from moeplan.plan.pools import Apart
from moeplan.plan.result import Deployment, Plan, PlannedCost, PlannedLayout, PlannedSpeed, Pool, Pooling
from moeplan.plan.search import Candidate, Option
from moeplan.sources.deployments.written import Kind, written
from moeplan.sources.loaded import LoadedModel


class Assembly:
    """Makes plans of one model."""

    def __init__(self, loaded: LoadedModel, context_tokens: int, kv_dtype: str | None) -> None:
        self._loaded = loaded
        self._kv_dtype = kv_dtype
        self._context_tokens = context_tokens
        self._launches: dict[Pool, Launch] = {}

    def joined(self, found: Candidate | Apart) -> Plan:
        """Whatever the search found."""
        return self._apart(found) if isinstance(found, Apart) else self._together(found)

    def _apart(self, found: Apart) -> Plan:
        cell = found.cell
        pools = (
            self.pool(cell, found.prefill, "prefill", found.prefill_replicas, 1),
            self.pool(cell, found.decode, "decode", found.decode_replicas, found.sequences),
        )
        return self.whole(cell, pools, "apart", found.speed, 1, ())

    def _together(self, found: Candidate) -> Plan:
        option = found.option
        pool = self.pool(found.cell, option.fold, "all", option.replicas, option.sequences)
        return self.whole(found.cell, (pool,), "together", found.speeds.speed, option.replicas, found.speeds.misses)

    def unmeasured(self, option: Option, cell: Cell) -> Plan:
        """What fits and has no known speed."""
        pool = self.pool(cell, option.fold, "all", option.replicas, option.sequences)
        return self.whole(cell, (pool,), "together", None, option.replicas, ())

    def pool(
        self, cell: Cell, fold: Fold, role: Literal["all", "prefill", "decode"], replicas: int, sequences: int
    ) -> Pool:
        """Replicas of one layout."""
        answer = cell.answer(fold, sequences)
        layout = cell.question(fold, sequences).deployment.layout  # with the nodes that the card's machines make of it
        verdict, launch = answer.verdict, self.launch(cell, answer, fold, layout, sequences)
        assert verdict.headroom_bytes is not None
        assert verdict.headroom_low_bytes is not None
        assert verdict.worst_rank is not None
        pool = Pool(
            role,
            replicas,
            _layout(layout),
            sequences,
            verdict.headroom_bytes,
            verdict.headroom_low_bytes,
            verdict.worst_rank,
            verdict.certain,
            _capacity(answer, layout),
            launch_words(launch),
        )
        self._launches[pool] = launch
        return pool

    def deployment(self, kind: str, plan: Plan, card: Hardware, question: str) -> Deployment:
        """A plan as a file of a kind. Raises InputError for what the kind, or a file alone, cannot say."""
        if plan.pooling == "apart":
            raise InputError(
                "the best plan serves prefill and decode apart, which takes a router beside the servers",
                hint="say --pools together",
            )
        if plan.format_origin == "other checkpoint":
            raise InputError(
                f"the best plan wants a checkpoint of {self._loaded.id} in {plan.format}, and that is not the one that was named",
                hint="name that checkpoint, or say --quant stored",
            )
        (pool,) = plan.pools
        text = written(cast(Kind, kind), self._launches[pool], card, pool.replicas, launch_command, question=question)
        return Deployment(kind, text)

    def launch(self, cell: Cell, answer: Answer, fold: Fold, layout: Layout, sequences: int) -> Launch:
        """What starts a replica."""
        on_load = cell.format.origin == "on load"
        return Launch(
            cell.engine,
            self._loaded.id,
            layout,
            self._context_tokens,
            sequences,
            engine_version=answer.layout.engine_version,
            revision=self._loaded.revision,
            kv_dtype=self._kv_dtype,
            quantization=cell.format.name if on_load else None,
            settings=cell.settings(fold),
        )

    def whole(
        self,
        cell: Cell,
        pools: Sequence[Pool],
        pooling: Pooling,
        speed: ServingSpeed | None,
        replicas: int,
        misses: tuple[str, ...],
    ) -> Plan:
        """All pools of a plan; `speed` is of one of `replicas`."""
        gpus = sum(pool.replicas * pool.layout.num_gpus for pool in pools)
        told = None if speed is None else _speed(speed, replicas, gpus)
        return Plan(
            gpu=cell.hardware.name,
            profile=cell.hardware.profile,
            num_gpus=gpus,
            engine=cell.engine,
            engine_version=cell.engine_version,
            format=stored_format(self._loaded) if cell.format.name == STORED else cell.format.name,
            format_origin=cell.format.origin,
            pooling=pooling,
            pools=tuple(pools),
            fits=all(pool.headroom_bytes >= 0 for pool in pools),
            certain=cell.card.memory.certain and all(pool.certain for pool in pools),
            speed=told,
            cost=cost(cell.hardware, gpus, told),
            meets=None if speed is None else not misses,
            misses=misses,
        )


def stored_format(loaded: LoadedModel) -> str:
    """Name of what the checkpoint stores."""
    return loaded.quantisation.name if loaded.quantisation is not None else loaded.spec.dtype


def cost(hardware: Hardware, gpus: int, speed: PlannedSpeed | None) -> PlannedCost | None:
    """At the highest list price of the profile, with the lowest beside it; None where no price is known."""
    price = hardware.price
    if price is None:
        return None
    lowest, hourly = usd_per_hour(price, gpus)
    per_million = None if speed is None else usd_per_million_tokens(hourly, speed.output_tokens_per_s.value)
    told = f"{hardware.profile}: {price.low_usd_per_hour:g} to {price.high_usd_per_hour:g} per GPU as of {price.as_of}"
    return PlannedCost(hourly, lowest, per_million, told)


def _speed(speed: ServingSpeed, replicas: int, gpus: int) -> PlannedSpeed:
    rate = speed.output_tokens_per_s
    total = Rate(rate.value * replicas, rate.low * replicas, rate.high * replicas, rate.basis)
    return PlannedSpeed(
        Time(*speed.ttft_s),
        Time(*speed.tpot_s),
        total,
        1 / speed.tpot_s.value,
        total.value / gpus,
        speed.binding,
        speed.regime,
        speed.extrapolated,
    )


def _layout(layout: Layout) -> PlannedLayout:
    return PlannedLayout(
        layout.tp, layout.pp, layout.dp, layout.ep, layout.dp_attention, layout.num_gpus, layout.num_nodes
    )


def _capacity(answer: Answer, layout: Layout) -> int | None:
    """Of a whole replica: the groups that its sequences are shared out over hold as many each."""
    each = answer.capacity.max_concurrency
    return None if each is None else each * layout.dp
