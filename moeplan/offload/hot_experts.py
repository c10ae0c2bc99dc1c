"""Placement by frequency: the most chosen experts of each layer on the cards, in the memory that whole layers would take.

KTransformers places single experts (`--kt-num-gpu-experts`, `--kt-expert-placement-strategy frequency`). llama.cpp keeps the
experts of a layer in one tensor, so that it places whole layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.core.expert_use import MeasuredUse, StepTokens
from moeplan.core.model import MoeFfn
from moeplan.core.offload import bytes_at, on_device, seconds_of, steps
from moeplan.estimate.speed_result import Rate
from moeplan.offload.result import HotExperts, HotPoint
from moeplan.offload.search import Placed, movable_layers
from moeplan.offload.timing import Timing, call_ends, device_rate, rate_of, reads, wait_ends

FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of all experts on the cards, as KTransformers' own table has them."""


def hot_experts(best: Placed, timing: Timing, use: MeasuredUse) -> HotExperts | None:
    """What the cards serve by frequency, beside the best placement by layers; None where that is no placement of experts."""
    experts = max(
        (ffn.num_experts for layer in best.question.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)),
        default=0,
    )
    layers = len(movable_layers(best.question.spec))
    inclusions = [layer for layer in use.inclusions if len(layer) == experts]
    if not experts or not inclusions:
        return None
    kept_fraction = (layers - len(best.host_layers)) / layers
    count = int(kept_fraction * experts)
    return HotExperts(
        use.source,
        count,
        _point(best, timing, inclusions, kept_fraction, layers),
        tuple(_point(best, timing, inclusions, fraction, layers) for fraction in FRACTIONS),
    )


def _point(
    best: Placed, timing: Timing, inclusions: Sequence[Sequence[float]], fraction: float, layers: int
) -> HotPoint:
    count = int(fraction * len(inclusions[0]) + 1e-9)
    some, hottest = (on_device(inclusions, count, hottest=each) for each in (False, True))
    # On whole layers a token waits for the host in the others alone.
    return HotPoint(
        fraction,
        fraction,
        some.traffic_fraction,
        hottest.traffic_fraction,
        *(
            _rate(best, timing, traffic, waits)
            for traffic, waits in (
                (fraction, layers * (1 - fraction)),
                (some.traffic_fraction, layers * (1 - some.all_fraction ** timing.sequences)),
                (hottest.traffic_fraction, layers * (1 - hottest.all_fraction ** timing.sequences)),
            )
        ),
    )  # fmt: skip


def _rate(best: Placed, timing: Timing, traffic: float, waits: float) -> Rate:
    """With so much of the experts' traffic on the cards, the rest computed on the host; everything else as it is."""
    _, mine = reads(best.question, best.found.settings, timing)
    tokens = StepTokens(timing.sequences)
    rest = bytes_at(mine.device._replace(experts=()), tokens, timing.use)
    experts = bytes_at(mine.device, tokens, timing.use) - rest + bytes_at(mine.host, tokens, timing.use)
    # A layer calls its experts' kernel on the card unless all of its experts are on the host.
    calls = call_ends(best.question, timing, float(traffic > 0))
    device_s = seconds_of(rest + traffic * experts, device_rate(best.question, timing)).plus(calls)
    on_host = seconds_of((1 - traffic) * experts, timing.host.rate())
    return rate_of(steps(device_s, on_host, waits, wait_ends(timing)), timing.sequences)
