"""`moeplan plan --ram`: what of a model stays in host memory so that the rest fits, with which command, and how fast at most.

host         the machine around the card, and what its memory gives
questions    one model on the cards, as `estimate` asks
formats      what llama.cpp may run it in
search       the fewest layers in host memory
calls        what calling kernels costs on the cards, whatever they read
timing       tokens per second and prompts, as a bound with a band
least_use    the fewest experts that tokens may touch, which bounds take
others       other engines' own ways
hot_experts  placement by frequency, from a routing profile
helps        what would make it faster
missing      what is missing where nothing fits, and a way out
remarks      what has to be said of an answer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from moeplan.core.deployment import Origin, Value
from moeplan.core.errors import InputError
from moeplan.core.expert_use import MeasuredUse
from moeplan.core.hardware import pcie_bytes_per_s, usable
from moeplan.core.launch import Launch
from moeplan.core.ledger import Why, line
from moeplan.core.model import MoeFfn, Remark
from moeplan.core.quant import BY_DTYPE
from moeplan.core.units import MIB
from moeplan.core.weights import inventory, parameters
from moeplan.core.workload import Workload
from moeplan.engines.command_line.writing import launch_words
from moeplan.estimate.question import read_kv_dtype
from moeplan.estimate.workload import make_workload
from moeplan.offload.formats import STORED, Tried, formats, smaller_formats
from moeplan.offload.helps import helps
from moeplan.offload.host import Host, read_host
from moeplan.offload.hot_experts import hot_experts
from moeplan.offload.least_use import least_use
from moeplan.offload.missing import missing_words
from moeplan.offload.others import other_ways
from moeplan.offload.questions import Machine, Questions
from moeplan.offload.remarks import remarks
from moeplan.offload.result import (
    SCHEMA,
    Help,
    LayerPoint,
    Memory,
    Offload,
    Offloaded,
    OffloadHardware,
    OffloadModel,
    OffloadRequest,
)
from moeplan.offload.search import KEEPS_PROMPTS, Placed, fewest, first_layers, movable_layers, placed, sort_of
from moeplan.offload.timing import Timing, decode_rate, speed_of
from moeplan.sources.expert_uses import read_use
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.host_constants import host_constants
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model

__all__ = ["Offload", "offload"]

CURVE_POINTS = 6
PLACEHOLDER = "MODEL.gguf"
"""In the command, the file that is to be found or made in the format."""


def offload(
    model: str | Path,
    *,
    gpu: str | Sequence[str],
    ram: int | str,
    host: str | None = None,
    ram_bandwidth: float | str | None = None,
    sockets: int = 1,
    quants: Sequence[str] = (),
    kv_dtype: str | None = None,
    routing: str | Path | None = None,
    skew: float | None = None,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
    find: Callable[[str, Asked], LoadedModel] = find_model,
) -> Offload:
    """Plan `model` on cards that are too small for it, with what does not fit in `ram` (`128GiB`) of host memory.

    `gpu` is one kind of card (`rtx-4090`, `2xrtx-3090`). How fast host memory is says `host` (`2ch-ddr5-5600`, a profile) or
    `ram_bandwidth` (`80GB/s`, of one of `sockets`); else it is assumed, with a note. `quants` are llama.cpp's formats, the stored
    one and all smaller where empty. `routing` is a file of counted routing, `skew` how unevenly experts are chosen; the load is
    stated as in `estimate`. Raises the errors of `moeplan.core.errors`.
    """
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    notes: list[Remark] = []
    machine = _machine(gpu, folders, notes)
    constants = host_constants()
    around = read_host(
        machine.hardware,
        constants,
        ram=ram,
        host=host,
        bandwidth=ram_bandwidth,
        sockets=sockets,
        folders=folders,
    )
    loaded = find(str(model), Asked(revision, offline, headers, file, folders, None))
    notes[:0] = loaded.remarks
    asked = make_workload(loaded.spec, notes, context=context, concurrency=concurrency, input=input, output=output)
    use = read_use(loaded.spec, routing, skew, notes, model=loaded.id, folders=folders)
    kv = read_kv_dtype(kv_dtype)
    questions = Questions(loaded, asked, kv, machine)
    timing = Timing(around, asked, use, least_use(use))
    tried = [(form, _fitted(form, around)) for form in formats(questions, tuple(quants) or None)]
    shown = [_offloaded(form, found, timing, questions, model) for form, found in tried]
    if not quants and not any(row.fits and row.has_margin for row in shown):
        further = [(form, _fitted(form, around)) for form in smaller_formats(questions, [form for form, _ in tried])]
        tried += further
        shown += [_offloaded(form, found, timing, questions, model) for form, found in further]
    chosen = _chosen(tried, shown)
    points = () if chosen is None else _layers(chosen[1], timing)
    notes += remarks(timing, machine, chosen, points)
    missing, way_out = (None, None) if chosen else missing_words(tried, shown, timing, machine, quants)
    origins: dict[str, Origin] = {
        "formats": "stated" if quants else "default",
        "host": "default" if around.used.basis in ("assumed", "measured") else "stated",
        "skew": "default" if skew is None and routing is None else "stated",
    }
    hardware = machine.hardware
    assert hardware.memory_bandwidth_bytes_per_s is not None
    return Offload(
        schema=SCHEMA,
        request=OffloadRequest(
            hardware.profile, machine.num_devices, around.used.ram_bytes, around.used.name, sockets, tuple(quants) or None, kv,
            use.exponent, use.basis, origins,
        ),
        workload=asked.echo(),
        hardware=OffloadHardware(
            hardware.name, hardware.profile, machine.num_devices, machine.memory.bytes, machine.memory.low_bytes,
            hardware.memory_bandwidth_bytes_per_s, None if hardware.pcie is None else pcie_bytes_per_s(hardware.pcie),
        ),
        host=around.used,
        model=_model(loaded),
        best=None if chosen is None else chosen[2],
        missing=missing,
        way_out=way_out,
        formats=tuple(shown),
        memory=() if chosen is None else _memory(chosen, timing),
        layers=points,
        others=tuple(other_ways(questions, timing)) if loaded.source_kind != "gguf" else (),
        hot_experts=hot_experts(chosen[1], timing, use) if chosen is not None and isinstance(use, MeasuredUse) else None,
        helps=() if chosen is None else _helps(tried, shown, chosen, questions, timing, asked),
        notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _chosen(
    tried: Sequence[tuple[Tried, Placed]], shown: Sequence[Offloaded]
) -> tuple[Tried, Placed, Offloaded] | None:
    """The first that has room for all that is guessed, on the cards and in host memory, else the first that fits.

    Formats stand most bytes first; a stored one that llama.cpp reads is the first.
    """
    fitting = [(form, found, row) for (form, found), row in zip(tried, shown, strict=True) if row.fits]
    sure = (each for each in fitting if each[2].has_margin)
    return next(sure, next(iter(fitting), None))


def _helps(
    tried: Sequence[tuple[Tried, Placed]],
    shown: Sequence[Offloaded],
    chosen: tuple[Tried, Placed, Offloaded],
    questions: Questions,
    timing: Timing,
    asked: Workload,
) -> tuple[Help, ...]:
    """What would help the chosen one; the next smaller format is the first behind it that fits."""
    form, best, _ = chosen
    behind = (pair for pair, row in zip(tried, shown, strict=True) if row.fits and pair[0].num_bytes < form.num_bytes)

    def with_machine(machine: Machine) -> Questions:
        return Questions(questions.loaded, asked, questions.kv_dtype, machine)

    return helps(best, form, next(behind, None), questions, timing, with_machine)


def _machine(gpu: str | Sequence[str], folders: Sequence[Path], notes: list[Remark]) -> Machine:
    """The cards. InputError for several kinds, for a host, and for a device that has no memory beside its own."""
    names = [gpu] if isinstance(gpu, str) else list(gpu)
    if len(names) != 1:
        told = f"--ram goes with one kind of card, and {len(names)} were named" if names else "--ram needs a card"
        raise InputError(told, hint="say, for instance, --gpu rtx-4090 --ram 128GiB; 2xrtx-3090 for two of a kind")
    hardware, count = find_hardware(names[0], folders)
    notes += [Remark("gpu-reading", "info", text) for text in hardware.reading]
    if hardware.vendor == "cpu":
        raise InputError(
            f"{hardware.name} is a host, not a card", hint="name the card with --gpu, and the host with --host"
        )
    if hardware.unified_memory:
        raise InputError(
            f"{hardware.name} has one memory for processor and graphics: there is no other to move experts to",
            hint="leave --ram out: `moeplan plan` and `moeplan estimate` count all of its memory",
        )
    most = max(hardware.node_sizes, default=count or 1)
    if (count or 1) > most:
        raise InputError(
            f"{names[0]}: --ram plans for one machine, which takes {most} of these at most",
            hint=f"name {most} or fewer",
        )
    memory = usable(hardware)
    if memory is None or hardware.memory_bandwidth_bytes_per_s is None:
        raise InputError(
            f"the profile {hardware.profile} lacks its memory, or that memory's bandwidth",
            hint="write both into a profile of your own",
        )
    if hardware.slice and (count or 1) > 1:
        raise InputError(f"{names[0]}: slices of a card form no group", hint="name one")
    return Machine(hardware, memory, count or 1)


def _fitted(form: Tried, around: Host) -> Placed:
    """The fewest layers in host memory; where kept prompts may not fit beside them and all that is guessed, with a limit on those:
    no format is passed over for what the server may do without."""
    found = fewest(form.question)
    spare = around.room_bytes - found.host_bytes
    kept = next((entry.high_bytes for entry in found.lines if entry.code == "host.prompt_cache"), 0)
    least = around.used.ram_bytes - around.used.system_high_bytes - (found.host_high_bytes - kept)
    if spare >= 0 and least < kept:
        room = least if least > 0 else spare
        return placed(form.question, found.host_layers, {KEEPS_PROMPTS: room // 2 // MIB * MIB})
    return found


def _offloaded(form: Tried, found: Placed, timing: Timing, questions: Questions, model: str | Path) -> Offloaded:
    around, told = timing.host, found.verdict
    free = around.room_bytes - found.host_bytes
    low = around.used.ram_bytes - around.used.system_high_bytes - found.host_high_bytes
    headroom, headroom_low = told.headroom_bytes or 0, told.headroom_low_bytes or 0
    fits = bool(told.fits) and free >= 0
    return Offloaded(
        format=form.question.serving.quantisation.name if form.name == STORED else form.name,
        format_origin="stored" if form.name == STORED else "other file",
        sort=sort_of(form.question.spec),
        host_layers=len(found.host_layers),
        of_layers=len(movable_layers(form.question.spec)),
        flag_layers=found.flag_layers,
        fits=fits,
        certain=told.certain and (low >= 0 or free < 0),
        device_bytes=found.device_bytes,
        headroom_bytes=headroom,
        headroom_low_bytes=headroom_low,
        host_bytes=found.host_bytes,
        host_high_bytes=found.host_high_bytes,
        host_free_bytes=free,
        host_free_low_bytes=low,
        missing_device_bytes=max(0, -headroom),
        missing_host_bytes=max(0, -free),
        refused=found.refused,
        speed=speed_of(found, timing) if fits else None,
        launch=_launch(found, questions, model) if fits else None,
    )


def _launch(found: Placed, questions: Questions, model: str | Path) -> tuple[str, ...]:
    """The words of `llama-server`; a GGUF file by its own path, of other checkpoints one in the format as `PLACEHOLDER`."""
    loaded, asked = questions.loaded, found.question.deployment
    name = loaded.id if loaded.source_kind == "gguf" else PLACEHOLDER
    if loaded.source_kind == "gguf":  # the file itself, also where a folder and --file named it
        files = (path for path in (str(model), loaded.source) if path.endswith(".gguf") and Path(path).is_file())
        name = next(files, name)
    settings: dict[str, Value] = dict(found.settings)
    return launch_words(
        Launch(
            "llamacpp", name, asked.layout, asked.context_tokens, asked.concurrency,
            engine_version=found.question.serving.constants.version, kv_dtype=questions.kv_dtype, settings=settings,
        )
    )  # fmt: skip


def _memory(chosen: tuple[Tried, Placed, Offloaded], timing: Timing) -> tuple[Memory, ...]:
    """The ledger of the fullest card, and of the host with what its system keeps."""
    _, found, row = chosen
    used, source = timing.host.used, timing.host.constants["system_bytes"].source
    system = line(
        "host.system", "operating system", used.system_bytes, "assumed", Why("a constant", {}, source),
        low_bytes=used.system_low_bytes, high_bytes=used.system_high_bytes,
    )  # fmt: skip
    return (
        Memory("gpu", tuple(found.found.worst.lines), row.headroom_bytes),
        Memory("host", (*found.lines, system), row.host_free_bytes),
    )


def _layers(best: Placed, timing: Timing) -> tuple[LayerPoint, ...]:
    """A few numbers of layers, from one that is too few to all."""
    mine, every = len(best.host_layers), len(movable_layers(best.question.spec))
    counts = {mine, every, max(0, mine - 1)}
    counts |= {mine + (every - mine) * step // (CURVE_POINTS - 2) for step in range(1, CURVE_POINTS - 2)}
    more = {name: value for name, value in best.settings.items() if name == KEEPS_PROMPTS}
    points = []
    for count in sorted(counts):
        found = best if count == mine else placed(best.question, first_layers(best.question, count), more)
        fits = bool(found.verdict.fits) and found.host_bytes <= timing.host.room_bytes
        points.append(
            LayerPoint(count, fits, found.verdict.headroom_bytes or 0, found.host_bytes, decode_rate(found, timing))
        )
    return tuple(points)


def _model(loaded: LoadedModel) -> OffloadModel:
    spec = loaded.spec
    counts = parameters(spec, inventory(spec))
    sparse = [ffn for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    return OffloadModel(
        loaded.id,
        loaded.revision,
        loaded.source,
        loaded.source_kind,
        counts.total,
        counts.active,
        loaded.quantisation.name if loaded.quantisation else BY_DTYPE[spec.dtype].name,
        len(spec.layers),
        len(sparse),
        sparse[0].num_experts if sparse else None,
        sparse[0].experts_per_token if sparse else None,
    )
