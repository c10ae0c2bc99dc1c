"""The starts of an engine that a log holds: one is being told, of those before it the last that told a figure is kept."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from moeplan.core.deployment import Value
from moeplan.core.engine_log import (
    QUANTITIES,
    EngineLog,
    Failure,
    FailureKind,
    LogEngine,
    LogRank,
    Quantity,
    Reading,
)
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.units import GIB, KIB, MIB

NUMBER = r"-?\d[\d,]{0,20}(?:\.\d{1,9})?"
"""A figure as engines print it; longer ones are noise."""

MOST_READINGS = 100_000
MOST_TEXT = 300
MOST_FAILURE = 160
"""Characters of the engine's own words that are shown."""
# No engine here prints decimal gigabytes, whatever it calls them.
_UNITS = {"GiB": GIB, "GB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}
# Who tells a line, and when: `(EngineCore_DP0 pid=9) ERROR 04-02 10:01:10 [core.py:708] `, `[2026-08-01 10:00:00 TP0] `.
_PREFIX = re.compile(
    r"^(?:\([\w ]{1,60}(?: rank=\d+)? pid=\d+\) ?)*(?:[A-Z]{4,8} \d\d-\d\d [\d:.]+ )?(?:\[[\w./]{1,80}:\d+\] |\[\d{4}-[^\]]{1,60}\] )?"
)
_RANK_WORD = re.compile(r"(DP|PP|TP|EP)(\d{1,5})")


class Wording(NamedTuple):
    """How an engine words figures: the name of each group is the quantity."""

    word: str
    """Part of the line; looked for before the pattern is tried."""
    pattern: re.Pattern[str]
    unit: str = "B"
    """Of the quantities in bytes."""
    digits: int = 0
    """Digits that the engine rounds to where it does not print zeros at the end."""
    part: str | None = None


def worded(word: str, pattern: str, unit: str = "B", digits: int = 0, part: str | None = None) -> Wording:
    """A wording, with `<quantity>` in the pattern for its figure."""
    groups = re.sub(r"(?<!P)<(\w+)>", lambda name: f"(?P<{name[1]}>{NUMBER})", pattern)
    return Wording(word, re.compile(groups), unit, digits, part)


TORCH_FAILURES: dict[str, FailureKind] = {"OutOfMemoryError": "memory", "out of memory. Tried": "memory"}
"""What PyTorch says when an allocation fails, whatever engine runs on it."""
TORCH_FAILURE_FIGURES = (
    worded("total capac", r"has a total capaci?ty of <total_memory_bytes> GiB", "GiB", 2),
)  # fmt: skip
_WEIGHT: dict[FailureKind, int] = {"other": 0, "busy": 1, "memory": 2}
"""Of several lines about one failure the one that says most of memory counts; engines repeat it in general words."""


class Figure(NamedTuple):
    """One figure of a line."""

    quantity: Quantity
    value: int | float
    resolution: float
    text: str
    part: str | None
    device: str | None


def figures_in(text: str, wordings: tuple[Wording, ...]) -> Iterator[Figure]:
    """All figures of a line. A group called `device` names the device that it is told of."""
    for wording in wordings:
        if wording.word not in text:
            continue
        found = wording.pattern.search(text)
        if found is None:
            continue
        groups = found.groupdict()
        words = " ".join(found.group().split())[:MOST_TEXT]
        for name, spelled in groups.items():
            if spelled is not None and name in QUANTITIES:
                value, step = figure(spelled, wording.unit if name.endswith("_bytes") else "", wording.digits)
                yield Figure(cast(Quantity, name), value, step, words, wording.part, groups.get("device"))


def figure(spelled: str, unit: str, digits: int = 0) -> tuple[int | float, float]:
    """Value and rounding step of a printed number; in bytes where there is a unit."""
    plain = spelled.replace(",", "")
    printed = len(plain.partition(".")[2])
    size = _UNITS[unit] if unit else 1
    step = size / 10 ** max(printed, digits)
    if size > 1:
        return round(float(plain) * size), step
    return (float(plain) if printed else int(plain)), step


class Start:
    """One start, as it is being told."""

    def __init__(self, line_number: int) -> None:
        self.line_number = line_number
        self.heads: set[str] = set()
        self.version: str | None = None
        self.model: str | None = None
        self.gpu_name: str | None = None
        self.quantization: str | None = None
        self.started: bool | None = None
        self.failure: Failure | None = None
        self.arguments: dict[str, Value] = {}
        self.unread: set[str] = set()
        self.notes: list[Remark] = []
        self.ranks: dict[str, LogRank | None] = {}
        """By process, where a line of its own tells it."""
        self.name: str | None = None
        self.on_host: dict[str, set[int]] = {}
        """Experts' tensors that were put in host memory: names, and their layers."""
        self.estimates: dict[tuple[Quantity, str], Reading] = {}
        self.readings: dict[tuple[str, str, str | None, str | None], Reading] = {}

    def tell(self, found: Figure, line_number: int, process: str = "", *, add: bool = False) -> None:
        """A figure of `process`. Told a second time it replaces the first, or is added to it; of two that are the same
        but for their rounding the finer stays.

        Raises InputError where there are more figures than an engine could tell.
        """
        key = (found.quantity, process, found.device, found.part)
        value, step, text = found.value, found.resolution, found.text
        before = self.readings.get(key)
        if before is not None:
            if add:
                value, step = before.value + value, before.resolution + step
                text = f"{text} (added to the lines before it)"
            elif before.resolution < step and abs(before.value - value) <= (before.resolution + step) / 2:
                return
            del self.readings[key]
        if len(self.readings) >= MOST_READINGS:
            raise InputError(
                f"the log holds more than {MOST_READINGS:,} figures of one start",
                hint="give the log of one engine alone",
            )
        self.readings[key] = Reading(
            found.quantity, value, step, None, found.device, line_number, text, found.part
        )  # fmt: skip

    def forget(self, quantities: tuple[Quantity, ...], process: str = "") -> None:
        """Drops figures of no named part that a later line shows to be no whole."""
        for quantity in quantities:
            self.readings.pop((quantity, process, None, None), None)

    @property
    def tells(self) -> bool:
        """Whether it told anything about memory: a figure, or that it failed."""
        return bool(self.readings) or self.started is False

    def up(self) -> None:
        """The start came up: failures before were tries."""
        self.started, self.failure = True, None

    def fail(self, text: str, line_number: int, failures: Mapping[str, FailureKind]) -> None:
        """A line that may say that the start failed, by the engine's words for that, and why.

        What happens to an engine that is up is no matter of its start.
        """
        if self.started:
            return
        kinds = [kind for words, kind in failures.items() if words in text]
        kind = max(kinds, key=_WEIGHT.__getitem__, default=None)
        if kind is None:
            return
        self.started = False
        if self.failure is None or _WEIGHT[kind] > _WEIGHT[self.failure.kind]:
            words = " ".join(_PREFIX.sub("", text, count=1).split())
            self.failure = Failure(
                kind, words if len(words) <= MOST_FAILURE else f"{words[: MOST_FAILURE - 1]}…", line_number
            )

    def argue(self, read: Mapping[str, Value]) -> None:
        """Takes flags; what is None or told empty is no flag."""
        self.arguments.update({flag: value for flag, value in read.items() if value not in {None, ""}})


class Starts:
    """All starts of one engine in a log."""

    def __init__(self, engine: LogEngine) -> None:
        self.engine = engine
        self.now = Start(1)
        self.before: Start | None = None
        self.passed = 0
        self.recognised = False

    def begin(self, line_number: int, head: str, *, shared: bool = False) -> None:
        """A line that opens a start, where the one before has told something. Processes that share a start may each print
        a `shared` head, at any time; then only a second one from the same process opens another start."""
        self.recognised = True
        now = self.now
        again = not shared or head in now.heads or not now.heads
        if again and (now.readings or now.started is not None):
            self.before = now if now.tells else self.before
            self.passed += 1
            self.now = Start(line_number)
        self.now.heads.add(head)

    def told(self) -> Start | None:
        """The last start with a figure or a failure, with a note where it is not the only one; None where there is none.

        Words of failure alone make no log of this engine: PyTorch's are the same under all.
        """
        start = self.now if self.now.tells else self.before
        if start is not None and not start.readings and not self.recognised:
            return None
        if start is not None and self.passed:
            which = "the last" if start is self.now else "the last that tells a figure"
            message = f"the log holds {self.passed + 1} starts; {which}, from line {start.line_number} on, is read"
            start.notes.append(Remark("log-restarts", "info", message))
        return start


def log_of(engine: LogEngine, start: Start, ranks: Mapping[str, LogRank | None], cut: str | None) -> EngineLog:
    """A start as a log. `ranks` by process; `cut` says what is missing where the log stops too early."""
    readings = [reading._replace(rank=ranks.get(key[1])) for key, reading in start.readings.items()]
    ranked = {(reading.quantity, reading.part, reading.value) for reading in readings if reading.rank}
    told = [  # without what a front end repeats of its workers' words
        reading for reading in readings if reading.rank or (reading.quantity, reading.part, reading.value) not in ranked
    ]
    notes = list(start.notes)
    if cut is not None:
        notes.append(Remark("log-cut", "warning", cut))
    if start.unread:
        flags = ", ".join(sorted(start.unread))
        notes.append(Remark("log-arguments-unread", "info", f"the log does not spell out the values of {flags}"))
    return EngineLog(
        engine, start.version, start.model, dict(start.arguments), tuple(told), start.started, start.gpu_name,
        tuple(notes), cut is None, start.quantization, start.failure,
    )  # fmt: skip


def rank_in(words: list[str]) -> LogRank | None:
    """The rank that words such as `DP0`, `TP3` tell; None where they tell none."""
    told = {found[1].lower(): int(found[2]) for word in words if (found := _RANK_WORD.fullmatch(word))}
    return LogRank(told.get("dp"), told.get("pp"), told.get("tp"), told.get("ep")) if told else None
