"""A measured figure in the unit that people say it in."""

from moeplan.core.units import gib


def amount(value: float, unit: str) -> str:
    """`4,100.0 GB/s`, `710.00 TFLOP/s`, `0.49 GiB`, `21.0 µs`: GB/s and TFLOP/s are decimal, GiB is not."""
    if unit == "bytes/s":
        return f"{value / 1e9:,.1f} GB/s"
    if unit == "flop/s":
        return f"{value / 1e12:,.2f} TFLOP/s"
    if unit == "bytes":
        return gib(round(value), 2)
    return f"{value * 1e6:,.1f} µs" if unit == "s" else f"{value:.3g}"
