"""What is missing where nothing fits, in the format that comes nearest, and a way out that is one."""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.core.units import GIB, gib
from moeplan.offload.formats import Tried
from moeplan.offload.questions import Machine
from moeplan.offload.result import Offloaded
from moeplan.offload.search import Placed, movable_layers, placed
from moeplan.offload.timing import Timing
from moeplan.sources.gguf.mixes import IQ_MIXES

SHORT_CONTEXT_TOKENS = 512
"""Of one sequence: where not even that fits, no shorter context is a way out."""
WIDE_CACHES = (None, "auto", "float32", "float16", "bfloat16", "f32", "f16", "bf16")
SMALLEST = IQ_MIXES[-1]
"""Of llama.cpp's mixes."""
BY_HAND = "files mixed by hand, named UD or dynamic, may be smaller: a .gguf file or its repository on the Hub is read exactly"
WHAT = {"experts": "experts", "feed_forwards": "feed-forwards"}


def missing_words(
    tried: Sequence[tuple[Tried, Placed]],
    shown: Sequence[Offloaded],
    timing: Timing,
    machine: Machine,
    quants: Sequence[str],
) -> tuple[str, str]:
    """Of formats of which none fits; `quants` are those that were asked for, if any."""
    possible = [(found, row) for (_, found), row in zip(tried, shown, strict=True) if row.refused is None]
    if not possible:
        return (
            f"llama.cpp would not start: {shown[-1].refused}",
            "leave --ram out: `moeplan plan` looks at other engines",
        )
    found, near = min(possible, key=lambda each: each[1].missing_host_bytes + each[1].missing_device_bytes)
    told = []
    if near.missing_device_bytes:
        told.append(
            f"{gib(near.missing_device_bytes)} of GPU memory are missing in {near.format}, with the {WHAT[near.sort]} of all layers in "
            "host memory"
        )
    if near.missing_host_bytes:
        used, form = timing.host.used, "" if told else f" in {near.format}"
        told.append(
            f"{gib(near.missing_host_bytes)} of host memory are missing{form}: {gib(near.host_bytes)} stay there, and of "
            f"{gib(used.ram_bytes)} the system keeps some {gib(used.system_bytes)}"
        )
    smaller = bool(quants) and SMALLEST not in {name.lower() for name in quants}
    formats = ["a smaller --quant"] if smaller else []
    ways = [*_ways_of_card(found, near, machine, formats), *_ways_of_host(near, timing, machine, formats)]
    way_out = "; and ".join(f"say {way}" for way in ways)
    smallest = any(form.name == SMALLEST for form, _ in tried)
    return "; ".join(told), f"{way_out}; {BY_HAND}" if smallest else way_out


def _ways_of_card(found: Placed, near: Offloaded, machine: Machine, formats: Sequence[str]) -> list[str]:
    if not near.missing_device_bytes:
        return []
    asked = found.question.deployment
    short = asked._replace(context_tokens=min(asked.context_tokens, SHORT_CONTEXT_TOKENS), concurrency=1)
    least = placed(found.question.at(short), movable_layers(found.question.spec))
    if (least.verdict.headroom_bytes or 0) < 0:
        more = [] if machine.hardware.slice else ["more of them"]
        return [_either([*formats, "another --gpu", *more]) + ": not even a short context of one request fits"]
    told = ["a shorter --context"] if asked.context_tokens > SHORT_CONTEXT_TOKENS else []
    told += ["fewer --concurrency"] if asked.concurrency > 1 else []
    told += ["--kv-dtype q8_0"] if asked.kv_dtype in WIDE_CACHES else []
    return [_either([*told, *formats, "another --gpu"])]


def _ways_of_host(near: Offloaded, timing: Timing, machine: Machine, formats: Sequence[str]) -> list[str]:
    if not near.missing_host_bytes:
        return []
    needed = near.host_bytes + timing.host.used.system_bytes
    # As many cards as a machine takes, were all of their memory for what is missing.
    further = 0 if machine.hardware.slice else max((*machine.hardware.node_sizes, 1)) - machine.num_devices
    holds = further * machine.memory.bytes >= near.missing_host_bytes
    cards = ["more cards"] if holds and near.host_layers and not near.missing_device_bytes else []
    return [_either([f"--ram {-(-needed // GIB)}GiB at least", *cards, *formats])]


def _either(ways: Sequence[str]) -> str:
    """`a, b or c`."""
    *first, last = ways
    return f"{', '.join(first)} or {last}" if first else last
