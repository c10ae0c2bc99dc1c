"""Priors of catalogue models, `profiles/routing/*.yaml`, from the published figures of `data/routing.csv`.

    python benchmarks/routing_priors.py          prints them
    python benchmarks/routing_priors.py write    writes the files and their index
    python benchmarks/routing_priors.py check    exit 1 where they are not what this computes

The exponent of the gates' skew is the one at which moeplan's own closed forms give the published figure; several figures of a model
give a band, and its middle is the value.

The growth b of distinct experts, k n^b over n neighbouring tokens, is what the published window gives. One window does not tell
how overlap goes on, so the band spans two ways between which it does, each fitted to the figure, over windows that do not yet
touch half of the experts:

    chain        the next token keeps a share, whatever was before (`core/coverage.py:distinct_kept`)
    favourites   a text has its own experts, of a Zipf law, and its tokens choose among them independently
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.routing_observed import JUDGES, Row, at_least_one, rows, solved  # noqa: E402
from moeplan.core.coverage import (  # noqa: E402
    SEQUENCE_GROWTH_HIGH,
    SEQUENCE_GROWTH_LOW,
    distinct_kept,
    distinct_uniform,
    distinct_weighted,
    inclusion_of,
    zipf,
)
from moeplan.core.expert_use import MOST_SKEW, GateSkew  # noqa: E402
from moeplan.core.routing_fit import growth_exponent  # noqa: E402
from moeplan.sources.routing_priors import INDEX, index_text  # noqa: E402

FOLDER = ROOT / "profiles" / "routing"
WINDOWS = (2, 4, 8, 16, 32, 64, 128)


class Asked(NamedTuple):
    """A prior that is to be made."""

    stem: str
    models: tuple[str, ...]
    """What the figures were published of, and the same weights in other formats."""
    alike: tuple[str, ...]
    """Other checkpoints of the same base."""
    model_type: str
    setting: str
    """In short: notes show it."""
    growth: tuple[str, ...] = ()
    """Ids of rows that give it."""
    exponent: tuple[str, ...] = ()


class Derived(NamedTuple):
    """A figure with its band."""

    value: float
    low: float
    high: float
    derived: str
    of: tuple[Row, ...]


ASKED = (
    Asked(
        "deepseek-r1",
        ("deepseek-ai/DeepSeek-R1", "nvidia/DeepSeek-R1-FP4"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3-0324"),
        "deepseek_v3",
        "decode of machine translation on 32 GB200, EP32, no load balancer, mean over layers and iterations",
        exponent=("trt-r1-rank-imb-none", "trt-r1-expert-imb-none", "trt-r1-rank-std-none", "trt-r1-expert-std-none"),
    ),
    Asked(
        "deepseek-v4-flash",
        ("deepseek-ai/DeepSeek-V4-Flash", "nvidia/DeepSeek-V4-Flash-NVFP4"),
        (),
        "deepseek_v4",
        "neighbouring tokens of one decode stream, roughly; 3 of 43 layers route by token",
        growth=("dsv4flash-overlap-lag1",),
    ),
    Asked(
        "glm-4.7-flash",
        ("zai-org/GLM-4.7-Flash",),
        (),
        "glm4_moe_lite",
        "96 greedy decode steps, 46 MoE layers",
        growth=("glm47flash-overlap-lag1",),
    ),
    Asked(
        "glm-5",
        ("zai-org/GLM-5", "zai-org/GLM-5-FP8", "nvidia/GLM-5-NVFP4"),
        ("zai-org/GLM-5.1", "zai-org/GLM-5.1-FP8", "zai-org/GLM-5.2", "zai-org/GLM-5.2-FP8"),
        "glm_moe_dsa",
        "decode of 4 prompts, 128 tokens each, 75 MoE layers",
        growth=("glm5-overlap-lag1",),
    ),
    Asked(
        "gpt-oss-120b",
        ("openai/gpt-oss-120b",),
        (),
        "gpt_oss",
        "140,600 tokens of wikitext, code and chat, median layer",
        exponent=("oss-cv-layer", "oss-gini-layer"),
    ),
    Asked(
        "mixtral-8x7b-v0.1",
        ("mistralai/Mixtral-8x7B-v0.1",),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1",),
        "mixtral",
        "The Pile, layers 0, 15 and 31",
        growth=tuple(row.id for row in rows() if row.judge == "next_shares_one"),
    ),
    Asked(
        "olmoe-1b-7b-0924",
        ("allenai/OLMoE-1B-7B-0924", "allenai/OLMoE-1B-7B-0924-Instruct"),
        (),
        "olmoe",
        "busiest expert of a prefill of 2,048 tokens, and of seconds of chat and of mixed prompts under vLLM",
        exponent=("olmoe-16k-rows-max", "olmoe-domain-chat", "olmoe-domain-mixed"),
    ),
    Asked(
        "qwen3-30b-a3b",
        ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-FP8"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507"),
        "qwen3_moe",
        "verify windows of 2 tokens, mean of layers",
        growth=("qwen3-30b-reuse-n2",),
    ),
    Asked(
        "qwen3.5-35b-a3b",
        ("Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.6-35B-A3B"),
        (),
        "qwen3_5_moe",
        "383 tokens of real text, one stream, windows of 128, mean of layers",
        growth=("qwen35-35b-window128",),
    ),
)

# Skew -------------------------------------------------------------------------------------------------------


def exponent_of(row: Row, value: float) -> float:
    """The exponent at which the closed form gives a figure; each of these rises with the skew."""
    return solved(lambda exponent: JUDGES[row.judge](row, GateSkew(exponent)), value, 0.0, MOST_SKEW)


def exponent(some: Sequence[Row]) -> Derived:
    """Of all figures of a model: their middle, and the lowest and highest."""
    each = [(row, sorted({exponent_of(row, row.value), exponent_of(row, row.upto)})) for row in some]
    found = [one for _, ends in each for one in ends]
    told = ", ".join(f"{_named(row)} {' to '.join(f'{end:.2f}' for end in ends)}" for row, ends in each)
    told = f"exponent at which each is as published: {told}"
    if taken := "; ".join(dict.fromkeys(row.taken for row in some if row.taken)):
        told += f"; taken are {taken}"
    return Derived((min(found) + max(found)) / 2, min(found), max(found), told, tuple(some))


def _named(row: Row) -> str:
    """What a figure is of, in a word or two."""
    of = "experts" if row.ranks == row.experts else "ranks"
    at = f"{row.value:g} to {row.upto:g}" if row.upto > row.value else f"{row.value:g}"
    match row.judge:
        case "busiest_excess":
            return f"(max - mean) / mean of {of} {at}:"
        case "busiest_over_mean":
            return f"max / mean of {of} {at}:"
        case "busiest_rows":
            return f"rows of the busiest of {of} {at} on a mean of {row.mean_rows:g}:"
        case "rows_deviation":
            return f"standard deviation of {of} {at} on a mean of {row.mean_rows:g}:"
        case "variation":
            return f"standard deviation over mean {at}:"
        case _:
            return f"{row.judge} {at}:"


# Growth -----------------------------------------------------------------------------------------------------


def favourites(experts: int, chosen: int, skew: float, tokens: float) -> float:
    """Distinct experts where a text's tokens choose independently by weights of a Zipf law of its own."""
    return distinct_weighted(inclusion_of(zipf(experts, skew), chosen), tokens)


def distinct_published(row: Row) -> float:
    """Distinct experts of the row's window."""
    match row.judge:
        case "distinct_in_sequence":
            return row.value
        case "shared_by_next":
            return row.experts_per_token * (2 - row.value)
        case "next_shares_one":
            return row.experts_per_token * (2 - shared_given_one(row.experts, row.experts_per_token, row.value))
        case _:
            raise ValueError(f"{row.id} tells nothing of a window")


def shared_given_one(experts: int, chosen: int, probability: float) -> float:
    """Share of a token's experts that the next one takes, where it takes at least one with that probability."""
    return solved(lambda shared: at_least_one(experts, chosen, shared), probability, 1e-9, 1 - 1e-9)


def growth_over(distinct: float, chosen: int, tokens: float) -> float:
    """b of k n^b."""
    return growth_exponent(((1.0, float(chosen)), (float(tokens), distinct))).exponent


def ways(row: Row) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Distinct experts over tokens by the chain and by favourites, both with what was published of the row's window."""
    experts, chosen, window, found = row.experts, row.experts_per_token, row.tokens, distinct_published(row)
    kept = solved(lambda kept: -distinct_kept(experts, chosen, window, kept), -found, 0.0, 1.0)
    skew = solved(lambda skew: -favourites(experts, chosen, skew, window), -found, 0.0, 6.0)
    return (
        lambda tokens: distinct_kept(experts, chosen, tokens, kept),
        lambda tokens: favourites(experts, chosen, skew, tokens),
    )


def growths(row: Row) -> list[float]:
    """b over the row's own window first, then by both ways over windows in which strangers touch less than half of the experts."""
    experts, chosen = row.experts, row.experts_per_token
    found = [growth_over(distinct_published(row), chosen, row.tokens)]
    short = [window for window in WINDOWS if distinct_uniform(experts, chosen, window) < experts / 2]
    return found + [growth_over(way(window), chosen, window) for way in ways(row) for window in short]


def growth(some: Sequence[Row]) -> Derived:
    """Of all figures of a model: the mean over their own windows; the band no wider than that of all models that were observed."""
    each = [growths(row) for row in some]
    value = fmean(found[0] for found in each)
    low = max(min(map(min, each)), min(value, SEQUENCE_GROWTH_LOW))
    high = min(max(map(max, each)), max(value, SEQUENCE_GROWTH_HIGH))
    first = some[0]
    if len(some) == 1:
        told = f"{distinct_published(first):.4g} distinct experts of {first.tokens} neighbouring tokens, {first.experts_per_token} each"
        if first.judge == "shared_by_next":
            told = f"the next token takes {first.value:g} of a token's experts: {told}"
    else:
        ends = sorted(row.value for row in some)
        told = (
            f"the next token takes at least one of a token's experts in {ends[0]:g} to {ends[-1]:g} of all cases, {len(some)} "
            "layers and texts; how many it takes follows by the law of chance with that share"
        )
    return Derived(
        value, low, high, f"{told}; band: overlap goes on as a chain, or as a text's favourites", tuple(some)
    )


# Files ------------------------------------------------------------------------------------------------------


def derived(asked: Asked) -> tuple[Derived | None, Derived | None]:
    """Exponent and growth of a prior."""
    by_id = {row.id: row for row in rows()}
    return (
        exponent([by_id[name] for name in asked.exponent]) if asked.exponent else None,
        growth([by_id[name] for name in asked.growth]) if asked.growth else None,
    )


def text_of(asked: Asked) -> str:
    """The file of a prior."""
    skew, over_tokens = derived(asked)
    first = (skew or over_tokens or _none()).of[0]
    lines = [
        f"# Published figures of how {asked.models[0].rpartition('/')[2]} uses its experts, as priors: assumed, not measured by",
        "# moeplan. Written by benchmarks/routing_priors.py from benchmarks/data/routing.csv; keys: docs/method.md.",
        f"models: {json.dumps(list(asked.models))}",
        *([f"alike: {json.dumps(list(asked.alike))}"] if asked.alike else []),
        f"model_type: {asked.model_type}",
        f"experts: {first.experts}",
        f"experts_per_token: {first.experts_per_token}",
    ]
    for name, found in (("exponent", skew), ("growth", over_tokens)):
        if found is not None:
            lines += [f"{name}:", *(f"  {line}" for line in _figure(asked.setting, found))]
    return "\n".join(lines) + "\n"


def _figure(setting: str, found: Derived) -> Iterator[str]:
    yield f"value: {found.value:.2f}"
    yield f"low: {floor(found.low * 100 + 1e-9) / 100:.2f}"
    yield f"high: {ceil(found.high * 100 - 1e-9) / 100:.2f}"
    for name, value in (
        ("setting", setting),
        ("derived", found.derived),
        ("source", "; ".join(dict.fromkeys(row.source for row in found.of))),
    ):
        yield f"{name}: {json.dumps(value, ensure_ascii=False)}"
    yield f"rows: {json.dumps([row.id for row in found.of])}"


def _none() -> Derived:
    raise ValueError("a prior needs a figure")


def texts() -> dict[str, str]:
    """All files by their names, without the index."""
    return {f"{asked.stem}.yaml": text_of(asked) for asked in ASKED}


def stale() -> list[str]:
    """Names of files that are missing, that are too many, or that say something else."""
    wanted, there = texts(), {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    wrong = [name for name in sorted({*wanted, *there}) if wanted.get(name) != there.get(name)]
    index = FOLDER / INDEX
    if not wrong and (not index.exists() or index.read_text(encoding="utf-8") != index_text(FOLDER)):
        wrong.append(INDEX)
    return wrong


def write() -> None:
    """Write the files and their index; files that are no longer made go."""
    FOLDER.mkdir(exist_ok=True)
    wanted = texts()
    for path in FOLDER.glob("*.yaml"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    (FOLDER / INDEX).write_text(index_text(FOLDER), encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """Print, write or check."""
    if list(words) == ["write"]:
        write()
        return 0
    if list(words) == ["check"]:
        wrong = stale()
        print(
            "profiles/routing is what the figures say" if not wrong else f"not what the figures say: {', '.join(wrong)}"
        )
        return int(bool(wrong))
    for asked in ASKED:
        for name, found in zip(("exponent", "growth"), derived(asked), strict=True):
            if found is not None:
                print(
                    f"{asked.stem:<20} {name:<9} {found.value:.3f} ({found.low:.3f} to {found.high:.3f})  {found.derived}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
