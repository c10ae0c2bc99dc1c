"""What a profile says, with the names of its JSON (`moeplan.profile/1`)."""

from typing import Literal, NamedTuple

from moeplan.core.measurement import Effort, MeasuredDevice
from moeplan.core.model import Remark

SCHEMA = "moeplan.profile/1"


class Figure(NamedTuple):
    """One measured figure of the device, with the spread of its repeats or of its cases."""

    name: str
    """As in the measured block: `copy_bytes_per_s`."""
    label: str
    unit: str
    """`bytes/s`, `flop/s`, `bytes`, `s`, `fraction`."""
    value: float
    low: float
    high: float
    source: str
    """Backend, dtype and case that it comes from."""
    nominal: float | None = None
    """What the specification of the device's profile promises of it; None where it promises nothing, or nobody has written it down."""


class Timed(NamedTuple):
    """One timed product: of two matrices, or of the routed experts of a layer."""

    section: Literal["matmul", "experts"]
    backend: str
    dtype: str
    case: str
    """Shape and routing: `n 4096, k 4096`, `olmoe, uniform`."""
    tokens: int
    """Rows of the input."""
    distinct: float | None
    """Experts that were touched, on average; None for a product of two matrices."""
    seconds: float
    low_s: float
    high_s: float
    flops_per_s: float
    bytes_per_s: float
    """Over the weights that were touched; of a product of two matrices over input and output too."""


class KernelFit(NamedTuple):
    """The latency model's constants for one backend and dtype on this device, and how far off they are."""

    backend: str
    dtype: str
    bandwidth_bytes_per_s: float
    """Best of this machine; constants are shares of it."""
    flops_per_s: float
    """Best of this machine in this dtype."""
    constants: dict[str, float]
    """All of `core.latency.KernelConstants`: those of `core.latency_fit.REFITTED` are fitted here, the others as they start."""
    num_fitted: int
    num_held: int
    """Points that were predicted by a fit which they took no part in."""
    median_error: float | None
    """On the points that were held back: |predicted / measured - 1|."""
    worst_error: float | None
    r_squared_distinct: float | None
    """Of time over distinct experts at fixed tokens; None where too few points vary them alone."""


class Problem(NamedTuple):
    """A case without a figure."""

    section: str
    backend: str
    case: str
    problem: str
    dtype: str = ""
    not_for: Literal["device", "dtype"] | None = None
    """Where the backend is not for this device, or not for this dtype on it: nothing went wrong. None is a real problem."""


class Change(NamedTuple):
    """A figure beside that of an older profile."""

    name: str
    label: str
    unit: str
    before: float
    now: float
    change: float
    """now / before - 1."""
    beyond_noise: bool
    """True where the two spreads do not meet."""
    band_fraction: float | None
    """Stands for the spread of a side that has none, to each side of its value; None where both have one."""
    same_case: bool
    """False where the best case is another one than then, or where the older profile does not tell."""


class Against(NamedTuple):
    """The older run that figures are compared with; what it does not tell is None."""

    profile: str
    date: str | None
    time: str | None
    tool: str | None
    torch_version: str | None
    driver_version: str | None
    num_changed: int
    num_unchanged: int
    """Differences within the noise."""


class Profile(NamedTuple):
    """The answer of `moeplan profile`."""

    schema: str
    device: MeasuredDevice
    effort: Effort
    seed: int
    date: str
    """Of the last case that was measured, in UTC."""
    time: str
    """`12:34:56Z`."""
    tool: str
    rank: int
    """Of this process under torchrun; 0 without it."""
    complete: bool
    """False where it was interrupted: what was measured is kept."""
    num_points: int
    num_taken: int
    """Of them, those that an earlier run measured (`--resume`)."""
    figures: tuple[Figure, ...]
    kernels: tuple[KernelFit, ...]
    problems: tuple[Problem, ...]
    profile: str | None
    """Name to use with --gpu; None where nothing was written."""
    path: str | None
    points_path: str | None
    """None where there is no case to keep."""
    against: Against | None
    """None where nothing was to be compared with."""
    changes: tuple[Change, ...] | None
    notes: tuple[Remark, ...]
    timed: tuple[Timed, ...] = ()
    """Products by which the device's rates can be seen; every other case is in the file of points."""

    @property
    def first(self) -> bool:
        """True for the process that tells and writes: rank 0 of a torchrun, and the only one without."""
        return self.rank == 0
