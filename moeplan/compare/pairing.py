"""Two models of a comparison: where their order turns; and which of all has the least of each figure."""

from collections.abc import Callable, Iterator, Sequence

from moeplan.compare.reading import Reading
from moeplan.compare.result import Compared, Mark, Pair, ResidentTurn, Row, Turn
from moeplan.compare.turning import changes

MOST_BATCH = 4096
"""How far the order of two models is looked at over the batch of a step."""
MOST_CONTEXT_TOKENS = 2**20
"""The same over the length of a sequence, where neither model states a maximum."""
READS_BATCH = 64
"""At which bytes of two models are held against their parameters."""
ROWS: tuple[tuple[Row, Callable[[Compared], float | None]], ...] = (
    ("kv_bytes_per_token", lambda model: model.kv_cache.bytes_per_token),
    ("kv_bytes_at_context", lambda model: model.kv_cache.bytes_at_context),
    ("num_gpus", lambda model: model.gpus.num_gpus if model.gpus else None),
    ("ttft", lambda model: model.speed.ttft.value_s if model.speed else None),
    ("tpot", lambda model: model.speed.tpot.value_s if model.speed else None),
    # The most of these two is what is wanted.
    ("tokens_per_s_per_user", lambda model: -model.speed.output_tokens_per_s.per_user.value if model.speed else None),
    ("tokens_per_s_per_gpu", lambda model: -model.speed.output_tokens_per_s.per_gpu.value if model.speed else None),
    ("usd_per_hour", lambda model: model.cost.usd_per_hour_high if model.cost else None),
    (
        "usd_per_million_output_tokens",
        lambda model: model.cost.usd_per_million_output_tokens_high if model.cost else None,
    ),
)
"""Figures behind those of weights and reads."""


def pair(first: int, second: int, readings: Sequence[Reading], models: Sequence[Compared], concurrency: int) -> Pair:
    """The models at two places; `concurrency` sequences are held at once."""
    one, other = readings[first], readings[second]
    least = [_step_bytes(one)(1), _step_bytes(other)(1)]
    turns = changes(_step_bytes(one), _step_bytes(other), MOST_BATCH)
    at = [
        next(reads.bytes_per_token for reads in models[place].reads if reads.batch == READS_BATCH)
        for place in (first, second)
    ]
    return Pair(
        first=first,
        second=second,
        total_ratio=models[first].parameters.total / models[second].parameters.total,
        reads_ratio=at[0] / at[1],
        reads_batch=READS_BATCH,
        less_at_one=second if least[1] < least[0] else first,
        turns=tuple(Turn(change.at, second if change.second_is_less else first) for change in turns),
        most_batch=MOST_BATCH,
        resident=_resident(first, second, one, other, concurrency),
    )


def marks(models: Sequence[Compared], batches: Sequence[int]) -> Iterator[Mark]:
    """The models with the least of each figure, of tokens per second with the most; none where one alone has a figure."""
    yield _mark("resident_bytes", None, [model.resident_bytes for model in models])
    for number, batch in enumerate(batches):
        yield _mark("bytes_per_token", batch, [model.reads[number].bytes_per_token for model in models])
    for row, figure in ROWS:
        yield _mark(row, None, [figure(model) for model in models])


def _mark(row: Row, batch: int | None, figures: Sequence[float | None]) -> Mark:
    known = [figure for figure in figures if figure is not None]
    if len(set(known)) < 2:
        return Mark(row, batch, ())
    return Mark(row, batch, tuple(place for place, figure in enumerate(figures) if figure == min(known)))


def _step_bytes(reading: Reading) -> Callable[[int], float]:
    return lambda batch: reading.reads.at(batch).total_bytes


def _resident(first: int, second: int, one: Reading, other: Reading, concurrency: int) -> ResidentTurn:
    known = [each.spec.max_context_tokens for each in (one, other)]
    most = min((length for length in known if length is not None), default=MOST_CONTEXT_TOKENS)

    def held(reading: Reading) -> Callable[[int], float]:
        return lambda context: reading.weights_bytes + concurrency * reading.cache_bytes(context)

    less = second if held(other)(1) < held(one)(1) else first
    turn = next(changes(held(one), held(other), most), None)
    return ResidentTurn(less, turn.at if turn is not None else None, most)
