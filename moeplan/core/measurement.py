"""What was measured on a device: one point per case, with its spread, and facts about the device.

Seconds are of one call, bytes of one device. A case that failed is a point too, with the reason; nothing is left out.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Section = Literal[
    "device", "bandwidth", "host", "matmul", "router", "experts", "attention", "layer", "memory", "models", "links"
]
"""Parts of a profile, in the order in which they run."""

SECTIONS: tuple[Section, ...] = Section.__args__  # type: ignore[attr-defined]

CaseValue = str | int | float | bool | None


class Spread(NamedTuple):
    """How repeated runs of one case lie."""

    median_s: float
    low_s: float
    """Tenth percentile."""
    high_s: float
    """Ninetieth percentile."""
    samples: int


class Point(NamedTuple):
    """One case of one section."""

    section: Section
    backend: str
    """What ran: `torch.grouped_mm`, `loop`, `nccl`; never blank."""
    dtype: str
    case: Mapping[str, CaseValue]
    """What identifies the case: shape, tokens, routing; and what was recorded of it, such as distinct experts."""
    spread: Spread | None = None
    """None where nothing was timed: a size, or a failure."""
    values: Mapping[str, float] = {}
    """What follows: `bytes_per_s`, `flops_per_s`, `relative_error`, sizes in bytes."""
    problem: str | None = None
    """Why there is no figure: out of memory, unsupported, wrong against the reference."""

    @property
    def key(self) -> tuple[str, str, str, tuple[tuple[str, CaseValue], ...]]:
        """What tells two cases apart; `values` and figures do not."""
        return self.section, self.backend, self.dtype, tuple(sorted(self.case.items()))


class MeasuredDevice(NamedTuple):
    """The device as its driver and torch tell it; None is unknown."""

    kind: Literal["cuda", "rocm", "mps", "cpu"]
    name: str
    torch_version: str
    runtime_version: str | None
    """CUDA or ROCm that torch was built with."""
    driver_version: str | None
    compute_capability: str | None
    total_bytes: int | None
    """What the runtime reports as total: what engines divide up."""
    free_bytes: int | None
    """Before anything was allocated; much less than the total where others use the device."""
    l2_bytes: int | None
    multiprocessors: int | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_limit_w: float | None
    host_bytes: int | None
    num_threads: int | None
    """Of torch on the CPU."""


Effort = Literal["quick", "default", "full"]
"""About 20 seconds, under three minutes, as long as it takes."""


class MoeShape(NamedTuple):
    """One MoE layer as kernels see it, on one rank."""

    name: str
    hidden_size: int
    expert_width: int
    num_experts: int
    experts_per_token: int
    router: str = "softmax_topk"
    """Name of the routing function, as `measure.routers` has it."""
    shared_width: int = 0
    """Width of all shared experts together; 0 without any."""
    latent_size: int | None = None
    """Width of the experts' input where tokens are projected down first."""
    gated: bool = True


class Task(NamedTuple):
    """A case that is to be measured: what a `Point` will say of it, and roughly how long it takes."""

    section: Section
    backend: str
    dtype: str
    case: Mapping[str, CaseValue]
    expected_s: float = 0.1
    """With preparation, on a fast GPU; only for the progress bar and for leaving things out."""
