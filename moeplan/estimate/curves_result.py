"""The `curves` block of an estimate: what pages draw of steps, with the names of the JSON contract."""

from typing import Literal, NamedTuple


class Touched(NamedTuple):
    """Distinct experts of one layer that a step of so many tokens touches, each of another sequence: expected ones."""

    tokens: int
    experts: float
    even: float
    """Were all alike likely: no use of the experts touches more."""
    doubled: float | None
    """With twice the skew; None where it was counted, and not guessed."""


class Coverage(NamedTuple):
    """Of the kind of MoE layer that the model has most of."""

    num_experts: int
    experts_per_token: int
    num_layers: int
    """Of this kind."""
    basis: Literal["assumed", "stated", "measured"]
    """Of the skew."""
    points: tuple[Touched, ...]


class Roof(NamedTuple):
    """A rate of dense matrix products that parts of the step can run at."""

    format: str
    flops_per_s: int


class OperatingPoint(NamedTuple):
    """One step on the busiest rank."""

    kind: Literal["decode", "prefill"]
    sequences: int
    """In flight, over the whole layout; 1 where a prompt is read."""
    tokens: int
    """Of the step, on the rank."""
    operations: float
    bytes: float
    """Read: weights, touched experts, cache."""
    seconds: float
    operations_per_byte: float
    operations_per_s: float
    of_roof_fraction: float
    """Of what the highest roof allows at so many operations per byte."""


class Roofline(NamedTuple):
    """Steps of one GPU beside what its memory and its matrix units allow."""

    bandwidth_bytes_per_s: int
    roofs: tuple[Roof, ...]
    """Lowest first."""
    points: tuple[OperatingPoint, ...]


class LayerLoads(NamedTuple):
    """How often each expert of a layer is chosen, over the mean of the layer, to a thousandth."""

    layer: int
    """Its place among all layers of the model, dense ones counted, from 0: as in the routing profile."""
    loads: tuple[float, ...]


class Curves(NamedTuple):
    """None where something is not known: a dense model has no coverage, a device that was not measured no roofline."""

    coverage: Coverage | None
    roofline: Roofline | None
    loads: tuple[LayerLoads, ...]
    """Empty without a routing profile."""
