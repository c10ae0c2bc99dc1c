"""What devices cost: list prices by the hour, and shared out over the tokens that come in an hour."""

from moeplan.core.hardware import Price

SECONDS_PER_HOUR = 3600


def usd_per_hour(price: Price, num_gpus: int) -> tuple[float, float]:
    """US dollars per hour of so many devices, at the lowest and at the highest list price."""
    return price.low_usd_per_hour * num_gpus, price.high_usd_per_hour * num_gpus


def usd_per_million_tokens(hourly_usd: float, tokens_per_s: float) -> float:
    """US dollars per million tokens: dollars per hour / tokens of an hour x 10**6. `tokens_per_s` is above 0."""
    return hourly_usd / (tokens_per_s * SECONDS_PER_HOUR) * 1e6
