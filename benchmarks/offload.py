"""Published speeds of models whose experts stay in host memory, each beside the bound that moeplan gives for its machine.

    python benchmarks/offload.py           prints the table and the constants; exit 1 where a bound does not hold
    python benchmarks/offload.py --write   writes both into docs/offload.md

A row's `judge` in `benchmarks/data/offload.csv`: `best` is the best that was published of its machine and setting, whose bound is
not below it and at most twice as high; under `second` (another implementation, or placement, on the same machine), `at least` (a
figure that is a lower limit), `open` (something that it depends on is not stated) and `no host` (nothing is in host memory) the
bound is not below it. `constant` rows are constants of
`profiles/host/offload.yaml` themselves. The others are not predicted, and say why.

Shares of the host's bandwidth are worked out of the decode rows, none of which is fitted to moeplan's own measurements.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from moeplan.core.coverage import inclusion_of, zipf  # noqa: E402
from moeplan.core.expert_use import LIGHT, LIGHT_SKEW, StepTokens  # noqa: E402
from moeplan.core.hardware import usable  # noqa: E402
from moeplan.core.layout import AskedLayout  # noqa: E402
from moeplan.core.model import Ffn, MoeFfn  # noqa: E402
from moeplan.core.offload import Ends, OnDevice, bytes_at, micro_batches, on_device, seconds_of, steps  # noqa: E402
from moeplan.engines.llamacpp.settings import UBATCH_TOKENS  # noqa: E402
from moeplan.estimate.workload import make_workload  # noqa: E402
from moeplan.offload.host import read_host  # noqa: E402
from moeplan.offload.least_use import least_use  # noqa: E402
from moeplan.offload.others import KT, kt_reads  # noqa: E402
from moeplan.offload.questions import Machine, Questions, with_settings  # noqa: E402
from moeplan.offload.search import first_layers, placed  # noqa: E402
from moeplan.offload.timing import Timing, call_ends, device_rate, rate_of, read_seconds, reads, wait_ends  # noqa: E402
from moeplan.sources.hardware_profiles import find_hardware  # noqa: E402
from moeplan.sources.host_constants import host_constants  # noqa: E402
from moeplan.sources.loaded import Asked  # noqa: E402
from moeplan.sources.models import find_model  # noqa: E402

DATA = ROOT / "benchmarks" / "data" / "offload.csv"
PAGE = ROOT / "docs" / "offload.md"
PREDICTED = ("best", "second", "at least", "open", "no host")
FACTOR = 2.0
"""How far a bound may lie above the best that was published."""
UNSTATED = {"oss-ncmoe24-tg": 76_800_000_000, "oss-ncmoe36-tg": 76_800_000_000}
"""Bytes per second of the slowest memory that a machine may have whose source does not state it: two channels of DDR5-4800."""
INPUT_TOKENS = 512
PROMPT_TOKENS = {"llamacpp-dsv32-pp": 512}
"""Of a prompt whose speed was published; of others 2,048."""
BEHIND_TOKENS = {
    "gpu-oss20-pro6000": 64, "gpu-oss20-2xpro6000": 64, "gpu-oss20-5090": 8448, "gpu-oss20-4090": 64, "gpu-oss20-3090": 256,
    "gpu-oss20-3090-2025": 2048, "gpu-qwen30-5090": 8448, "gpu-qwen30-4090": 2048, "gpu-qwen30-4090-tg": 64,
    "gpu-dsv2lite-4090": 64, "gpu-dsv2lite-3090": 256,
}  # fmt: skip
"""That a token remembers on average, in the middle of a run; of others 576."""


class Row(NamedTuple):
    """A published figure."""

    id: str
    judge: str
    model: str
    quantity: str
    value: str
    unit: str
    host_format: str
    device_format: str
    gpu: str
    host: str
    sockets: str
    host_layers: str
    device_fraction: str
    placing: str
    experts_per_token: str
    setting: str
    taken: str
    source: str

    @property
    def published(self) -> float:
        """The figure."""
        return float(self.value)


class Outcome(NamedTuple):
    """A row with what moeplan says."""

    row: Row
    low: float
    likely: float
    bound: float

    @property
    def ratio(self) -> float:
        """The bound over the published figure."""
        return self.bound / self.row.published

    @property
    def holds(self) -> bool:
        """Whether the row is what its judge asks for."""
        return 1 <= self.ratio <= (FACTOR if self.row.judge == "best" else float("inf"))


class Parts(NamedTuple):
    """What the time of a step is made of."""

    device_s: Ends
    host_bytes: float
    waits: float
    timing: Timing


@cache
def rows() -> tuple[Row, ...]:
    """All of them."""
    lines = [line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return tuple(Row(**each) for each in csv.DictReader(lines))


def predicted() -> list[Row]:
    """Rows that a bound is held against."""
    return [row for row in rows() if row.judge in PREDICTED]


@cache
def questions_of(row: Row) -> tuple[Questions, Timing]:
    """The row's model, cards and machine."""
    loaded = find_model(row.model, Asked(offline=True))
    if row.experts_per_token:
        chosen = int(row.experts_per_token)

        def fewer(ffn: Ffn) -> Ffn:
            return ffn._replace(experts_per_token=chosen) if isinstance(ffn, MoeFfn) else ffn

        layers = tuple(layer._replace(ffns=tuple(map(fewer, layer.ffns))) for layer in loaded.spec.layers)
        loaded = loaded._replace(spec=loaded.spec._replace(layers=layers))
    hardware, count = find_hardware(row.gpu)
    memory = usable(hardware)
    assert memory is not None
    prompt, output = prompt_tokens(row) if row.quantity == "prompt" else INPUT_TOKENS, 128
    if row.id in BEHIND_TOKENS:
        prompt, output = BEHIND_TOKENS[row.id], 0
    workload = make_workload(loaded.spec, [], context=max(4096, 2 * prompt), input=prompt, output=max(1, output))
    bandwidth = row.host if row.host.endswith("/s") else None
    host = read_host(
        hardware, host_constants(), ram="2TiB", host=None if bandwidth else row.host, bandwidth=bandwidth,
        sockets=int(row.sockets), folders=(),
    )  # fmt: skip
    timing = Timing(host, workload, LIGHT, least_use(LIGHT))
    return Questions(loaded, workload, None, Machine(hardware, memory, count or 1)), timing


def prompt_tokens(row: Row) -> int:
    """Of the row's prompt."""
    return PROMPT_TOKENS.get(row.id, 2048)


def _quant(name: str) -> str | None:
    return None if name == "stored" else name


def served(row: Row, experts: int, chosen: int) -> OnDevice:
    """What the cards serve of the experts, by the row's placing; the hottest by the light skew that is assumed everywhere."""
    fraction = float(row.device_fraction)
    if row.placing == "layers":
        return OnDevice(fraction, fraction)
    skew = LIGHT_SKEW if row.placing == "hottest" else 0.0
    law = inclusion_of(zipf(experts, skew), chosen)
    return on_device([law], round(fraction * experts), hottest=row.placing == "hottest")


@cache
def parts(row: Row) -> Parts:
    """The step of a decode row."""
    questions, timing = questions_of(row)
    if row.gpu.startswith("4x"):
        return _parts_of_sglang(row, questions, timing)
    device = questions.question("llamacpp", _quant(row.device_format))
    host = questions.question("llamacpp", _quant(row.host_format))
    sparse = [
        number for number, layer in enumerate(device.spec.layers) if any(isinstance(ffn, MoeFfn) for ffn in layer.ffns)
    ]
    layers = int(row.host_layers) if row.host_layers else len(sparse)
    here, there = (placed(question, first_layers(question, layers)) for question in (device, host))
    tokens = StepTokens(1)
    on_card = bytes_at(reads(here.question, here.found.settings, timing)[1].device, tokens, LIGHT)
    on_host = bytes_at(reads(there.question, there.found.settings, timing)[1].host, tokens, LIGHT)
    if row.device_fraction:
        moved = float(row.device_fraction) * on_host
        on_card, on_host = on_card + moved, on_host - moved
    called = 1.0 if float(row.device_fraction or 0) > 0 else 1 - layers / len(sparse) if sparse else 0.0
    device_s = seconds_of(on_card, device_rate(device, timing)).plus(call_ends(device, timing, called))
    return Parts(device_s, on_host, layers, timing)


def _parts_of_sglang(row: Row, questions: Questions, timing: Timing) -> Parts:
    ranks = questions.machine.num_devices
    question = questions.question("sglang", _quant(row.host_format), asked=AskedLayout(tp=ranks))
    sparse = next(ffn for layer in question.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn))
    layers = sum(any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) for layer in question.spec.layers)
    count = round(float(row.device_fraction) * sparse.num_experts)
    settled = with_settings(question, {KT: count} if count < sparse.num_experts else {})
    found = served(row, sparse.num_experts, sparse.experts_per_token)
    device_s, on_host = kt_reads(settled, timing, found.traffic_fraction)
    return Parts(device_s, on_host, layers * (1 - found.all_fraction), timing)


def outcome(row: Row) -> Outcome:
    """The band and the bound of a row's figure."""
    if row.quantity == "prompt":
        questions, timing = questions_of(row)
        question = questions.question("llamacpp", _quant(row.host_format))
        seconds = read_seconds(placed(question, first_layers(question, int(row.host_layers))), timing)
        assert seconds is not None
        return Outcome(row, *(prompt_tokens(row) / each for each in seconds))
    mine = parts(row)
    host_s = seconds_of(mine.host_bytes, mine.timing.host.rate())
    rate = rate_of(steps(mine.device_s, host_s, mine.waits, wait_ends(mine.timing)), 1)
    return Outcome(row, rate.low, rate.value, rate.high)


def outcomes() -> list[Outcome]:
    """All that are predicted."""
    return [outcome(row) for row in predicted()]


# What the rows say of the constants --------------------------------------------------------------------------------


class Implied(NamedTuple):
    """The share of its machine's host bandwidth that a decode row reached, at each end of everything else."""

    row: Row
    least: float
    """Were cards, waits and the second socket as slow as they may be: nothing of the latter."""
    likely: float
    most: float
    """That the bound has to allow: cards at their full rate, no waits, the most of a second socket, the slowest memory."""


def implied() -> list[Implied]:
    """Of every decode row that has all experts of its layers on the host: where few are, other things take as long."""
    found = []
    for row in predicted():
        if row.quantity != "decode" or float(row.device_fraction or 0) > 0:
            continue
        mine = parts(row)
        if not mine.host_bytes:
            continue
        constants, used = mine.timing.host.constants, mine.timing.host.used
        wait, more = constants["host_layer_s"], constants["second_socket_fraction"]
        ends = []
        for device_s, wait_s, gain, nominal in (
            (mine.device_s.likely, wait.value, more.low, used.bandwidth_bytes_per_s),
            (mine.device_s.likely, wait.value, more.value, used.bandwidth_bytes_per_s),
            (mine.device_s.best, wait.low, more.high, UNSTATED.get(row.id, used.bandwidth_bytes_per_s)),
        ):
            left = 1 / row.published - device_s - mine.waits * wait_s
            ends.append(mine.host_bytes / left / (nominal * (1 + gain * (used.sockets - 1))))
        # llama.cpp does not cut experts over sockets: what it gains of a second one is nothing, if not less.
        least = ends[0] if "llama.cpp" in row.setting else ends[1]
        found.append(Implied(row, least, ends[1], ends[2]))
    return found


def host_share(found: Sequence[Implied]) -> Ends:
    """Low, middle and high of the share: the least of all rows, the middle of the best of each machine, the most of all."""
    best = [each.likely for each in found if each.row.judge == "best"]
    return Ends(min(each.least for each in found), median(best), max(each.most for each in found))


def without_each() -> Iterator[tuple[str, Ends]]:
    """The same without one row: what the band would be had it not been published."""
    found = implied()
    for left in found:
        yield left.row.id, host_share([each for each in found if each is not left])


def wait_seconds() -> float:
    """A layer's handing over: least squares of the placements that choose no experts, time = a + b host bytes + c waits."""
    mine = [row for row in predicted() if row.gpu.startswith("4x") and row.placing == "any"]
    table = []
    for row in mine:
        one = parts(row)
        table.append(((1.0, one.host_bytes, one.waits), 1 / row.published))
    return _least_squares(table)[2]


def _least_squares(table: Sequence[tuple[tuple[float, float, float], float]]) -> list[float]:
    """Coefficients of three columns, by the normal equations; columns are scaled to their largest."""
    scale = [max(abs(cells[place]) for cells, _ in table) for place in range(3)]
    scaled = [(tuple(cell / of for cell, of in zip(cells, scale, strict=True)), value) for cells, value in table]
    matrix = [
        [sum(cells[i] * cells[j] for cells, _ in scaled) for j in range(3)]
        + [sum(cells[i] * value for cells, value in scaled)]
        for i in range(3)
    ]
    for i in range(3):
        pivot = max(range(i, 3), key=lambda line: abs(matrix[line][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        for line in range(3):
            if line != i:
                factor = matrix[line][i] / matrix[i][i]
                matrix[line] = [a - factor * b for a, b in zip(matrix[line], matrix[i], strict=True)]
    return [matrix[i][3] / matrix[i][i] / scale[i] for i in range(3)]


def call_factors() -> dict[str, float]:
    """How much longer calls of llama.cpp's kernels took than the measured ones that stand in for them, of each row with everything
    on the card: what is left of a step without its bytes, at the likely share of the card's bandwidth."""
    found = {}
    for row in predicted():
        if row.judge == "no host" and row.quantity == "decode" and row.host_layers:
            questions, timing = questions_of(row)
            question = questions.question("llamacpp", _quant(row.device_format))
            called = call_ends(question, timing, 1.0).likely / timing.host.constants["device_call_factor"].value
            found[row.id] = (
                1 / row.published - (parts(row).device_s.likely - call_ends(question, timing, 1.0).likely)
            ) / called
    return found


def pageable_rate() -> float:
    """Bytes per second of the copies of the desktop's prompt, were they all that it waited for, and of every expert."""
    row = next(row for row in predicted() if row.id == "oss-prefill-ub512")
    questions, timing = questions_of(row)
    question = questions.question("llamacpp", _quant(row.host_format))
    found = placed(question, first_layers(question, int(row.host_layers)))
    whole = sum(holding.num_bytes for holding in reads(question, found.found.settings, timing)[0].host)
    batches = len(micro_batches(prompt_tokens(row), UBATCH_TOKENS))
    return whole * batches / (prompt_tokens(row) / row.published)


# The page ----------------------------------------------------------------------------------------------------------


def table() -> str:
    """All predicted rows as Markdown."""
    lines = [
        "| row | machine | published | low | likely | bound | bound / published | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for each in outcomes():
        row = each.row
        sockets = "" if row.sockets == "1" else f", {row.sockets} sockets"
        where = (
            f", {float(row.device_fraction):.0%} of experts on cards".replace("%", " %") if row.device_fraction else ""
        )
        where = f", {row.host_layers} layers in host memory" if row.host_layers else where
        told = "" if row.judge == "best" else row.judge
        machine = f"{row.model}, {row.gpu}, {row.host}{sockets}{where}"
        figures = f"{row.published:g} | {each.low:.1f} | {each.likely:.1f} | {each.bound:.1f} | {each.ratio:.2f}"
        lines.append(f"| {row.id} | {machine} | {figures} | {told} |")
    return "\n".join(lines)


def constants_table() -> str:
    """Shares that the rows imply, and what they would be without one."""
    whole = host_share(implied())
    lines = [
        "| without | low | likely | high |",
        "|---|---:|---:|---:|",
        f"| none | {whole.slow:.2f} | {whole.likely:.2f} | {whole.best:.2f} |",
    ]
    lines += [
        f"| {name} | {ends.slow:.2f} | {ends.likely:.2f} | {ends.best:.2f} |"
        for name, ends in without_each()
        if any(round(a, 2) != round(b, 2) for a, b in zip(ends, whole, strict=True))
    ]
    return "\n".join(lines)


def unpredicted_table() -> str:
    """Rows without a prediction, and why."""
    lines = ["| row | why |", "|---|---|"]
    lines += [f"| {row.id} | {row.taken} |" for row in rows() if row.judge == "not predicted"]
    return "\n".join(lines)


def calls_table() -> str:
    """Factors of calls that the rows imply."""
    factors = call_factors()
    lines = ["| row | calls, over those of measured kernels |", "|---|---:|"]
    lines += [f"| {name} | {factor:.2f} |" for name, factor in factors.items()]
    return "\n".join([*lines, f"| middle | {median(factors.values()):.2f} |"])


BLOCKS = {"bounds": table, "constants": constants_table, "calls": calls_table, "unpredicted": unpredicted_table}


def written(page: str) -> str:
    """The page with its tables anew."""
    for name, make in BLOCKS.items():
        before, mark, rest = page.partition(f"<!-- {name} -->")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{mark}\n\n{make()}\n\n{end}{after}"
    return page


def main(arguments: Sequence[str]) -> int:
    """Print everything, or write it into the page."""
    if "--write" in arguments:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    print(*(make() for make in BLOCKS.values()), sep="\n\n")
    print(f"\nwait per layer: {wait_seconds() * 1e6:.0f} us; pageable copies: {pageable_rate() / 1e9:.1f} GB/s")
    broken = [each.row.id for each in outcomes() if not each.holds]
    if broken:
        print("\nbounds that do not hold: " + ", ".join(broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
