"""Balancedness as engines log it, step by step: mean over maximum of the ranks' tokens. It has no counts, so it is no profile.

Sources: vllm-project/vllm, vllm/distributed/eplb/eplb_state.py: "EPLB step: avg_tokens=.., max_tokens=.., balancedness=.." at
0014ec6c, "EPLB step: 2500 for model NAME: avg_tokens=..." at 50feac95; sgl-project/sglang,
python/sglang/srt/eplb/expert_distribution.py at 02295fe5: "[Expert Balancedness] forward_pass_id=.. current_pass_balancedness=..
last_10_average_balancedness=.. gpu_physical_count_sum=..".

What vLLM logs is a ratio of sums over layers, where one bad layer drowns; and until pull request 51813 (August 2026) it took mean
and maximum over layers, not over ranks, so its lines told nothing of ranks. SGLang's is the mean over layers of each one's ratio.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from moeplan.core.errors import InputError
from moeplan.sources.engine_logs.lines import blocks_of, telling_lines
from moeplan.sources.strict_json import unreadable

WORDS = (b"EPLB step: ", b"[Expert Balancedness]")
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?)"
_VLLM = re.compile(
    rf"EPLB step: (?:(\d{{1,12}})(?: for model (\S{{1,200}}))?: )?avg_tokens={_NUMBER}, max_tokens=(\d{{1,15}}), balancedness={_NUMBER}"
)
_SGLANG = re.compile(
    rf"\[Expert Balancedness\] forward_pass_id=(\d{{1,12}}) current_pass_balancedness={_NUMBER} .{{0,500}}?"
    r"gpu_physical_count_sum=(\d{1,15})"
)
MOST_LINES = 1_000_000

LAYERS_NOT_RANKS = (
    "vLLM until pull request 51813 (August 2026) took mean and maximum over layers, not over ranks: "
    "its older lines tell nothing of ranks"
)
DROWNS = "vLLM's figure is a ratio of sums over layers: a single bad layer is hardly seen in it"


class BalanceSample(NamedTuple):
    """One line."""

    line: int
    step: int | None
    model: str | None
    balancedness: float
    """As the engine printed it."""
    choices: int | None
    """Tokens times experts of the step, over all layers; None where the engine does not say."""


class BalanceLog(NamedTuple):
    """What a log tells of balance."""

    engine: Literal["vllm", "sglang"]
    samples: tuple[BalanceSample, ...]
    """Of steps that had tokens, in the order of the log."""
    notes: tuple[str, ...]

    @property
    def median(self) -> float:
        """Of the samples' balancedness."""
        ordered = sorted(sample.balancedness for sample in self.samples)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def read_balance(path: Path) -> BalanceLog | None:
    """The lines of balancedness of a log; None where there are none. InputError for a file that is no log."""
    samples: list[BalanceSample] = []
    engines: set[Literal["vllm", "sglang"]] = set()
    try:
        with path.open("rb") as file:
            for number, text in telling_lines(blocks_of(file, str(path)), WORDS):
                sample = _sample(number, text)
                if sample is None:
                    continue
                engine, found = sample
                engines.add(engine)
                if found is not None:
                    samples.append(found)
                if len(samples) > MOST_LINES:
                    raise InputError(f"{path}: more than {MOST_LINES:,} lines of balancedness", hint="cut the log")
    except OSError as error:
        raise unreadable(path, error) from error
    if not samples:
        return None
    if len(engines) > 1:
        raise InputError(f"{path}: lines of vLLM and of SGLang", hint="give the log of one engine")
    engine = engines.pop()
    return BalanceLog(engine, tuple(samples), (LAYERS_NOT_RANKS, DROWNS) if engine == "vllm" else ())


def _sample(number: int, text: str) -> tuple[Literal["vllm", "sglang"], BalanceSample | None] | None:
    """Engine and sample of one line; no sample of a step without tokens."""
    if (found := _VLLM.search(text)) is not None:
        step = None if found[1] is None else int(found[1])
        if float(found[4]) == 0:
            return "vllm", None
        return "vllm", BalanceSample(number, step, found[2], float(found[5]), None)
    if (found := _SGLANG.search(text)) is not None:
        if int(found[3]) == 0:
            return "sglang", None
        return "sglang", BalanceSample(number, int(found[1]), None, float(found[2]), int(found[3]))
    return None
