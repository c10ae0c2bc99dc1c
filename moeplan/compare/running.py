"""How fast a model is on its fewest GPUs, and what that costs."""

from moeplan.compare.placing import Placed
from moeplan.compare.result import Cost, Speed
from moeplan.core.hardware import Hardware
from moeplan.core.price import usd_per_hour, usd_per_million_tokens

UNKNOWN = "speed-unknown"
"""Code of the estimate's note that says why."""


def speed(placed: Placed, hardware: Hardware | None) -> tuple[Speed | None, str | None]:
    """The estimate's speed, or why there is none."""
    if hardware is None:
        return None, "no GPU was named"
    if placed.num_gpus is None:
        return None, "it does not fit"
    found = placed.estimate.speed
    if found is None:
        told = (note.message for note in placed.estimate.notes if note.code == UNKNOWN)
        why = placed.no_load or next(told, "the estimate has none")
        return None, why.removeprefix("speed is not known: ")
    return Speed(
        found.ttft, found.tpot, found.output_tokens_per_s, found.binding, found.regime, found.extrapolated
    ), None


def cost(placed: Placed, hardware: Hardware | None, fast: Speed | None) -> tuple[Cost | None, str | None]:
    """List prices times devices, and shared out over the tokens of an hour; or why there is none.

    All models have the same price per device, so the order of their costs is that of devices and speed alone.
    """
    if hardware is None:
        return None, "no GPU was named"
    if placed.num_gpus is None:
        return None, "it does not fit"
    price = hardware.price
    if price is None:
        return None, f"the profile {hardware.profile} states no price"
    low, high = usd_per_hour(price, placed.num_gpus)
    if fast is None:
        return Cost(low, high, None, None), None
    tokens_per_s = fast.output_tokens_per_s.total.value
    return Cost(low, high, *(usd_per_million_tokens(usd, tokens_per_s) for usd in (low, high))), None
