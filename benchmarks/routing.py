"""The loop of routing: a small MoE is trained, captured and planned with, and its decode steps are timed on this machine.

    python benchmarks/routing.py [--batches 4,16,64]

A model with skewed routing touches fewer experts in a step than evenly drawn ones would, and so its steps are shorter. What a
profile of its capture says is held beside what fresh texts touch, and beside the light skew that is assumed without one;
the same steps with experts drawn evenly are timed beside the model's own. Exit 1 where the profile is not the nearer one, or
where steps that touch fewer experts are not shorter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import moeplan  # noqa: E402
from moeplan.core.expert_use import LIGHT, StepTokens  # noqa: E402
from moeplan.sources.expert_uses import measured_use  # noqa: E402
from moeplan.sources.routing_files import read_routing  # noqa: E402
from tests.routing.small_moe import EXPERTS, TOP_K, Language, train  # noqa: E402

BATCHES = (4, 16, 64)
PAST_TOKENS = 48
FRESH_SEED = 977
"""Of texts that the capture has not seen."""
PROMPTS, WORDS = 48, 64
STEPS, WARM_UP, REPEATS = 6, 3, 20
CARD = "h100-sxm"


class Step(NamedTuple):
    """A decode step of a batch: distinct experts of a layer, and seconds; or the mean and the median over several."""

    distinct: float
    seconds: float


class Steps(NamedTuple):
    """Steps in pairs, one with the model's own routing and one with even routing right beside it."""

    own: Step
    even: Step
    ratio: float
    """Median of the pairs' times, own over even: what else the machine does falls on both of a pair."""


class Row(NamedTuple):
    """A batch of sequences that each decode one token."""

    batch: int
    steps: Steps
    assumed: float
    """Distinct experts by the light skew."""
    profiled: float
    """By the profile."""
    planned_s: tuple[float, float]
    """Seconds per token of the plan on `CARD`: without the profile and with it."""

    @property
    def nearer(self) -> bool:
        """Whether the profile is nearer to what was counted."""
        counted = self.steps.own.distinct
        return abs(self.profiled - counted) < abs(self.assumed - counted)

    @property
    def turns_right(self) -> bool:
        """Whether steps that touch fewer experts are shorter, here and in the plan."""
        return self.steps.ratio < 1 and self.planned_s[1] <= self.planned_s[0]


def captured(folder: Path, out: Path) -> Path:
    """The model's routing on texts of its language, prompts and answers."""
    language, prompts = Language(seed=5), out.with_suffix(".txt")
    prompts.write_text("\n".join(language.text(WORDS) for _ in range(PROMPTS)) + "\n", encoding="utf-8")
    from moeplan.routing import capture

    capture(folder, prompts, out=out, max_new_tokens=16, device="cpu")
    return out


def rows(folder: Path, profile: Path, batches: Sequence[int]) -> Iterator[Row]:
    """A row for each batch."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = read_routing(profile)
    layers = tuple(layer for layer in found.layers["decode"] if layer.tokens)
    use = measured_use(found, layers)
    for batch in batches:
        asked = StepTokens(batch)
        yield Row(
            batch,
            steps(model, batch),
            LIGHT.distinct(EXPERTS, TOP_K, EXPERTS, asked),
            use.distinct(EXPERTS, TOP_K, EXPERTS, asked),
            (planned_s(folder, batch, None), planned_s(folder, batch, profile)),
        )


def steps(model: Any, batch: int) -> Steps:
    """Decode steps of fresh texts, one token of each sequence after `PAST_TOKENS` others."""
    import torch

    language, chance = Language(seed=FRESH_SEED), torch.Generator().manual_seed(FRESH_SEED)
    seen: list[int] = []
    even = False

    def watch(module: Any, given: Any, result: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        logits, weights, experts = result
        # Drawn in both kinds of steps: the draw takes time too.
        drawn = torch.rand(logits.shape, generator=chance).topk(experts.shape[-1], dim=-1).indices
        experts = drawn if even else experts
        seen.append(len(experts.unique()))
        return logits, weights, experts

    handles: list[Any] = []
    kinds: dict[bool, list[Step]] = {False: [], True: []}
    for _ in range(STEPS):
        ids = language.draw(batch, PAST_TOKENS + 1)
        with torch.inference_mode():
            past = model(input_ids=ids[:, :-1], use_cache=True).past_key_values
            handles = [
                each.register_forward_hook(watch) for name, each in model.named_modules() if name.endswith(".gate")
            ]
            for number in range(2 * WARM_UP + 2 * REPEATS):
                # Each kind comes first in every other pair.
                even = (number % 2 == 1) != (number // 2 % 2 == 1)
                seen.clear()
                started = time.perf_counter()
                model(input_ids=ids[:, -1:], past_key_values=past, use_cache=True)
                took = time.perf_counter() - started
                past.crop(-1)
                if number >= 2 * WARM_UP:
                    kinds[even].append(Step(fmean(seen), took))
            for handle in handles:
                handle.remove()
    pairs = list(zip(kinds[False], kinds[True], strict=True))
    own, evenly = (
        Step(fmean(each.distinct for each in kind), median(each.seconds for each in kind)) for kind in kinds.values()
    )
    return Steps(own, evenly, median(mine.seconds / other.seconds for mine, other in pairs))


def planned_s(folder: Path, batch: int, profile: Path | None) -> float:
    """Seconds per token of one GPU with the model, as `plan` has them."""
    found = moeplan.plan(
        folder, gpus=[CARD], max_gpus=1, engines=["vllm"], quants=["stored"], rank="gpus", pools="together",
        context=512, concurrency=batch, input=PAST_TOKENS, output=64, routing=profile, offline=True,
    )  # fmt: skip
    assert found.best is not None
    assert found.best.speed is not None
    return found.best.speed.tpot.value_s


def table(found: Sequence[Row]) -> Iterator[str]:
    """The rows as text."""
    yield "distinct experts of a layer in a decode step (of 16, 2 per token), and its time on this machine"
    yield (
        f"{'batch':>5} {'counted':>8} {'profile':>8} {'assumed':>8} {'even':>6}   {'own step':>9} {'even step':>10} "
        f"{'ratio':>6}   {'planned, assumed':>16} {'profile':>9}"
    )
    for row in found:
        before, after = (seconds * 1e6 for seconds in row.planned_s)
        own, even, ratio = row.steps
        yield (
            f"{row.batch:>5} {own.distinct:>8.2f} {row.profiled:>8.2f} {row.assumed:>8.2f} {even.distinct:>6.2f}   "
            f"{own.seconds * 1e3:>6.2f} ms {even.seconds * 1e3:>7.2f} ms {ratio:>6.2f}   "
            f"{before:>13.1f} us {after:>6.1f} us"
        )
    nearer, right = sum(row.nearer for row in found), sum(row.turns_right for row in found)
    yield f"the profile is nearer in {nearer} of {len(found)}; fewer experts are shorter steps in {right} of {len(found)}"


def main() -> int:
    """Print the table; exit 1 where the loop does not close."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="sequences of a step")
    batches = [int(each) for each in parser.parse_args().batches.split(",")]
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "small-moe"
        before, after = train(folder)
        print(f"trained: loss {before:.2f} to {after:.2f}")
        found = list(rows(folder, captured(folder, Path(room) / "capture.jsonl"), batches))
    print(*table(found), sep="\n")
    return int(not all(row.nearer and row.turns_right for row in found))


if __name__ == "__main__":
    sys.exit(main())
