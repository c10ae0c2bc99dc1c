"""What `moeplan plan --ram` says: the result types, with the names of the JSON contract (`moeplan.offload/1`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moeplan.core.deployment import Origin
from moeplan.core.ledger import Line
from moeplan.core.model import Remark
from moeplan.core.workload import LoadAsked
from moeplan.estimate.speed_result import Rate, Time

SCHEMA = "moeplan.offload/1"

HostBasis = Literal["stated", "profile", "measured", "assumed"]
Sort = Literal["experts", "feed_forwards"]
Way = Literal["read_over_link", "copied_over_link", "computed_on_host"]


class OffloadRequest(NamedTuple):
    """What was asked, as it was read."""

    gpu: str
    """Name of the profile."""
    num_gpus: int
    ram_bytes: int
    host: str | None
    sockets: int
    formats: tuple[str, ...] | None
    """As asked for; None for all that llama.cpp has."""
    kv_dtype: str | None
    skew: float
    skew_basis: Literal["assumed", "stated", "measured"]
    origins: dict[str, Origin]


class OffloadHardware(NamedTuple):
    """The card; figures are of one."""

    name: str
    profile: str
    num_devices: int
    usable_bytes: int
    usable_low_bytes: int
    memory_bandwidth_bytes_per_s: int
    link_bytes_per_s: int | None
    """Of its PCIe link, one direction; None where the profile does not tell."""


class HostUsed(NamedTuple):
    """The machine around the card."""

    name: str | None
    """Name of a host profile; None where a bandwidth was stated or assumed."""
    ram_bytes: int
    system_bytes: int
    """That the operating system keeps: assumed."""
    system_low_bytes: int
    system_high_bytes: int
    sockets: int
    bandwidth_bytes_per_s: int
    """Nominal, of one socket."""
    bandwidth_low_bytes_per_s: int
    bandwidth_high_bytes_per_s: int
    basis: HostBasis
    source: str


class OffloadModel(NamedTuple):
    """The model, shortly; `moeplan estimate` has the rest."""

    id: str
    revision: str | None
    source: str
    source_kind: str
    total_params: int
    active_params: int
    stored_format: str
    num_layers: int
    num_moe_layers: int
    num_experts: int | None
    experts_per_token: int | None


class OffloadStep(NamedTuple):
    """One decode step of all sequences."""

    seconds: float
    device_s: float
    calls_s: float
    """Of it, calling kernels on the cards, whatever they read."""
    host_s: float
    wait_s: float
    """Handing activations over and back in every layer on the host."""


class OffloadSpeed(NamedTuple):
    """How fast: `high` of each rate, and `low_s` of each time, is a bound."""

    tokens_per_s: Rate
    """Of all sequences together."""
    tokens_per_s_per_user: Rate
    prompt_tokens_per_s: Rate | None
    """While one prompt alone is read; None where a link or a matrix rate is needed that is not known."""
    ttft: Time | None
    """Of that prompt."""
    device_read_bytes: int
    """Of a decode step, all devices together."""
    host_read_bytes: int
    host_copied: bool
    """Whether decoding copies what it needs of host memory to the card, and computes there: in batches of 32 sequences and more."""
    likely: OffloadStep
    bound: OffloadStep
    binding: str
    """What takes longest of a likely step."""


class Offloaded(NamedTuple):
    """One format, with as few layers in host memory as the cards need."""

    format: str
    format_origin: Literal["stored", "other file"]
    sort: Sort
    host_layers: int
    of_layers: int
    flag_layers: int | None
    """What the command's `--n-cpu-moe` or `--n-cpu-ffn` says: the first layers, with those among them that have nothing to move;
    None where none is moved, or where layers are named one by one."""
    fits: bool
    certain: bool
    """False where guesses decide whether it fits."""
    device_bytes: int
    """On the fullest card."""
    headroom_bytes: int
    headroom_low_bytes: int
    host_bytes: int
    host_high_bytes: int
    """With the prompts that the server keeps until its limits."""
    host_free_bytes: int
    """Beside the system's own; negative where that much is missing."""
    host_free_low_bytes: int
    missing_device_bytes: int
    missing_host_bytes: int
    refused: str | None
    """Why the engine would not start, where it is not memory."""
    speed: OffloadSpeed | None
    """None where it does not fit."""
    launch: tuple[str, ...] | None
    """Words of the command."""

    @property
    def has_margin(self) -> bool:
        """Whether it has room for all that is guessed, on the cards and in host memory."""
        return min(self.headroom_low_bytes, self.host_free_low_bytes) >= 0


class Memory(NamedTuple):
    """What one memory holds under the best placement, line by line."""

    device: Literal["gpu", "host"]
    """The fullest card, or the host with what its system keeps."""
    lines: tuple[Line, ...]
    free_bytes: int


class LayerPoint(NamedTuple):
    """The best format with another number of layers in host memory."""

    host_layers: int
    fits: bool
    headroom_bytes: int
    host_bytes: int
    tokens_per_s: Rate


class OtherWay(NamedTuple):
    """What another engine does with weights in host memory, in the format that the checkpoint stores."""

    engine: str
    engine_version: str
    way: Way
    format: str
    setting: str
    """The engine's own flag with its value."""
    fits: bool
    host_bytes: int
    missing_device_bytes: int
    """On the fullest card, with as much in host memory as the engine takes there."""
    missing_host_bytes: int
    refused: str | None
    tokens_per_s: Rate | None
    """None where it does not fit, or where a rate is not known."""
    bound_by: str


class HotPoint(NamedTuple):
    """A share of all experts on the cards, by how they are chosen."""

    device_fraction: float
    traffic_layers_fraction: float
    """Visits that the cards serve where whole layers are there (llama.cpp)."""
    traffic_any_fraction: float
    """Where any experts of each layer are."""
    traffic_hottest_fraction: float
    """Where the most chosen of each layer are."""
    tokens_per_s_layers: Rate
    tokens_per_s_any: Rate
    tokens_per_s_hottest: Rate


class HotExperts(NamedTuple):
    """Placement by frequency, as a routing profile counted it, beside placement by layers."""

    source: str
    experts_per_layer: int
    """That fit on the cards in the memory of the best placement by layers."""
    here: HotPoint
    """That placement."""
    curve: tuple[HotPoint, ...]


class Help(NamedTuple):
    """A change to the machine or the command, and what would then be the bound."""

    change: str
    tokens_per_s: Rate | None
    """None where the change does nothing for its bound."""
    prompt_tokens_per_s: Rate | None
    """Likewise."""


class Offload(NamedTuple):
    """The answer of `moeplan plan --ram`."""

    schema: str
    request: OffloadRequest
    workload: LoadAsked
    hardware: OffloadHardware
    host: HostUsed
    model: OffloadModel
    best: Offloaded | None
    missing: str | None
    """What is missing where nothing fits, in the format that comes nearest."""
    way_out: str | None
    formats: tuple[Offloaded, ...]
    """All that were tried, most bytes first."""
    memory: tuple[Memory, ...]
    """Of the best: a card and the host."""
    layers: tuple[LayerPoint, ...]
    """Of the best format; more in host memory is slower."""
    others: tuple[OtherWay, ...]
    hot_experts: HotExperts | None
    helps: tuple[Help, ...]
    """What would help most first."""
    notes: tuple[Remark, ...]
