"""What would make the best placement faster: one change each, worked out like the placement itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from moeplan.core.deployment import Value
from moeplan.core.errors import MoeplanError
from moeplan.core.units import GB
from moeplan.estimate.speed_result import Rate
from moeplan.offload.formats import Tried
from moeplan.offload.questions import Machine, Questions
from moeplan.offload.result import Help
from moeplan.offload.search import NO_MMAP, Placed, fewest, placed
from moeplan.offload.timing import Timing, copies, decode_rate, prompt_rate, read_seconds

LARGER_BATCHES = 2048
"""`--ubatch-size`: as many tokens as llama.cpp's `--batch-size` has."""
NO_COPIES = "--no-op-offload"
MORE_MEMORY = 2.0
WORTH = 1.02
"""What helps less is not told."""

Gain = tuple[str, Rate | None, Rate | None]
"""A change, and what it gives: tokens per second, and of prompts."""


def helps(
    best: Placed,
    form: Tried,
    smaller: tuple[Tried, Placed] | None,
    questions: Questions,
    timing: Timing,
    with_machine: Callable[[Machine], Questions],
) -> tuple[Help, ...]:
    """The changes that help, the most tokens per second first, then those that prompts gain from.

    `smaller` is the next smaller format, placed; `with_machine` asks the same of other cards. Nothing helps a model that is on
    its cards altogether.
    """
    if not best.host_layers:
        return ()
    now, read_now = decode_rate(best, timing), _read(best, timing)
    changes = list(_changes(best, form, questions, timing, with_machine))
    if smaller is not None:
        told = f"a file in {smaller[0].name}, the next smaller format"
        changes.append((told, decode_rate(smaller[1], timing), _read(smaller[1], timing)))
    found = []
    for change, tokens, read in changes:
        gains = tokens if tokens is not None and tokens.high > WORTH * now.high else None
        reads = read if read is not None and read_now is not None and read.high > WORTH * read_now.high else None
        if gains is not None or reads is not None:
            found.append(Help(change, gains, reads))
    return tuple(sorted(found, key=lambda each: (-_high(each.tokens_per_s), -_high(each.prompt_tokens_per_s))))


def _high(rate: Rate | None) -> float:
    return 0.0 if rate is None else rate.high


def _changes(
    best: Placed, form: Tried, questions: Questions, timing: Timing, with_machine: Callable[[Machine], Questions]
) -> Iterator[Gain]:
    rate = timing.host.used.bandwidth_bytes_per_s
    told = f"host memory twice as fast, {MORE_MEMORY * rate / GB:,.1f} GB/s (more channels)"
    yield told, decode_rate(best, timing, MORE_MEMORY), _read(best, timing, MORE_MEMORY)
    machine = questions.machine
    if not machine.hardware.slice:  # slices of a card form no group
        more = machine._replace(num_devices=machine.num_devices + 1)
        told = "a second card of the kind" if machine.num_devices == 1 else f"{more.num_devices} cards of the kind"
        yield (told, *_other(lambda: fewest(with_machine(more).question("llamacpp", form.quant)), timing))
    copied = copies(best.found.settings, timing.sequences)
    if copied:
        told = f"{NO_COPIES}: the host computes with its experts itself, also when prompts are read"
        without = _other(lambda: fewest(best.question, {NO_COPIES: True}), timing)[0]
        yield told, without, None
    whose = "" if copied else ", for prompts"
    pinned = placed(best.question, best.host_layers, {**best.settings, NO_MMAP: True})
    yield f"{NO_MMAP}: experts in pinned memory{whose}", decode_rate(pinned, timing), _read(pinned, timing)
    settings: Mapping[str, Value] = {"--ubatch-size": LARGER_BATCHES}
    larger = fewest(best.question, settings)
    if larger.verdict.fits and larger.host_bytes <= timing.host.room_bytes:
        layers = len(larger.host_layers)
        moved = "" if layers == len(best.host_layers) else f", with {layers} layers in host memory"
        yield (
            f"--ubatch-size {LARGER_BATCHES}: experts are read over the link less often{moved}",
            None,
            _read(larger, timing),
        )


def _other(make: Callable[[], Placed], timing: Timing) -> tuple[Rate | None, Rate | None]:
    try:
        found = make()
    except MoeplanError:
        return None, None
    if not found.verdict.fits or found.host_bytes > timing.host.room_bytes:
        return None, None
    return decode_rate(found, timing), _read(found, timing)


def _read(found: Placed, timing: Timing, memory_factor: float = 1.0) -> Rate | None:
    """Tokens per second of a prompt; None where it is not known, or has no bound."""
    seconds = read_seconds(found, timing, memory_factor)
    return None if seconds is None or not seconds.best else prompt_rate(seconds, timing)
