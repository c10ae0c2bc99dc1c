"""Offloads in words and rows: the same on the screen and in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import pairwise

from moeplan.core.units import GB, duration, gib, gib_floor, params, per_second
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS as COPIED_FROM_TOKENS
from moeplan.estimate.speed_result import Rate
from moeplan.offload.result import HotExperts, HotPoint, Offload, Offloaded, OffloadSpeed, OtherWay, Sort
from moeplan.report.page import UNKNOWN, Column

WHAT: dict[Sort, str] = {"experts": "experts", "feed_forwards": "feed-forwards"}
HELPS = "What would help most, in the same format unless one is named"
FORMATS = "Formats (what they do to quality is not known here)"
OTHERS = "Other engines' own ways, as stored"
HOT = "Placed by frequency"
WAYS = {
    "computed_on_host": "computes experts on the host",
    "read_over_link": "reads what a step needs over the link",
    "copied_over_link": "copies all of it to the card in every step",
}
ALL_ON_CARD = (
    "with every layer on its cards a model needs no --ram: `moeplan plan` and `moeplan estimate` without it tell more, of other "
    "engines, more users and latency"
)
BASES = {"stated": "as stated", "profile": "", "measured": "measured", "assumed": "assumed"}


def model_words(result: Offload) -> str:
    """`116.8B parameters · 5.13B active per token · 4 of 128 experts · stored as mxfp4`."""
    model = result.model
    parts = [f"{params(model.total_params)} parameters"]
    if model.num_experts is not None:
        parts += [
            f"{params(model.active_params)} active per token",
            f"{model.experts_per_token} of {model.num_experts} experts",
        ]
    else:
        parts.append("dense")
    return " · ".join([*parts, f"stored as {model.stored_format}"])


def machine_words(result: Offload) -> str:
    """The cards, host memory and the link between them."""
    host, hardware = result.host, result.hardware
    sockets = "" if host.sockets == 1 else f" per socket, {host.sockets} sockets"
    known = host.name.removeprefix("cpu-") if host.name else BASES[host.basis]
    memory = f"{gib(host.ram_bytes, 0)} of host memory, {host.bandwidth_bytes_per_s / GB:,.1f} GB/s{sockets} ({known})"
    link = "link not known" if hardware.link_bytes_per_s is None else f"link {hardware.link_bytes_per_s / GB:,.1f} GB/s"
    return " · ".join([f"{hardware.num_devices} x {hardware.name}", memory, link])


def asked_words(result: Offload) -> str:
    """What it is for."""
    load = result.workload
    count = load.concurrency or 1
    requests = "1 request" if count == 1 else f"{count:,} requests"
    return " · ".join(
        [
            f"{requests} in flight",
            f"{load.input_tokens:,.0f} tokens in and {load.output_tokens:,.0f} out",
            f"room for {load.context_tokens:,} tokens each",
        ]
    )


def verdict_words(result: Offload) -> str:
    """Does it go, in one sentence."""
    best = result.best
    if best is None:
        return f"DOES NOT GO: {result.missing}"
    form = f"{best.format}{' as stored' if best.format_origin == 'stored' else ''}"
    lead = "GOES" if is_sure(best) else "GOES, PROBABLY"
    if not best.host_layers:
        return f"{lead}: all of it fits on {_cards(result)} in {form}, no layer stays in host memory"
    what = WHAT[best.sort]
    return f"{lead}: {form}, with the {what} of {best.host_layers} of {best.of_layers} layers in host memory"


def is_sure(best: Offloaded) -> bool:
    """True where no guess decides whether it goes."""
    return best.certain and best.has_margin


def detail_words(result: Offload) -> Iterator[tuple[str, str]]:
    """The best placement in full, each line behind its lead."""
    best = result.best
    if best is None or best.speed is None:
        return
    speed = best.speed
    each = speed.tokens_per_s_per_user
    users = "" if (result.workload.concurrency or 1) == 1 else f" ({per_second(each.value)} per user)"
    rate = speed.tokens_per_s
    yield (
        "decode: ",
        f"likely {per_second(rate.value)} tokens/s{users}, at most {per_second(rate.high)}, perhaps as few as {per_second(rate.low)}",
    )
    yield "prompt: ", prompt_words(result, speed)
    yield "binds: ", binding_words(best, speed)
    if best.flag_layers is not None and best.flag_layers > best.host_layers:
        others = best.flag_layers - best.host_layers
        first = f"the first {best.flag_layers} layers"
        yield (
            "layers: ",
            f"the command names {first}, of which {others} {'has' if others == 1 else 'have'} no experts: {best.host_layers} with",
        )
    free = f"{gib_floor(best.headroom_bytes)} free ({at_least(best.headroom_low_bytes)})"
    yield "GPU: ", f"{gib(best.device_bytes)} on {fullest(result)}, {free}"
    free = f"{gib_floor(best.host_free_bytes)} free beside {gib(result.host.system_bytes)} for the system"
    yield (
        "host: ",
        f"{gib(best.host_bytes)} {'stay there' if best.host_layers else 'for input tables and buffers'}, {free}",
    )
    if not best.host_layers:
        yield "more: ", ALL_ON_CARD


def prompt_words(result: Offload, speed: OffloadSpeed) -> str:
    """How fast one prompt is read."""
    best, prompt, first = result.best, speed.prompt_tokens_per_s, speed.ttft
    if prompt is None or first is None:
        there = best is not None and best.host_layers
        return f"not known: {'the link to the host' if there else 'the matrix rate of the GPU'} is not"
    alone = "" if (result.workload.concurrency or 1) == 1 else ", one at a time"
    reach = f"likely {per_second(prompt.value)} tokens/s{alone}, at most {per_second(prompt.high)}"
    copied = best is not None and best.host_layers and result.workload.input_tokens >= COPIED_FROM_TOKENS
    how = f", with {WHAT[best.sort]} copied to the GPU" if copied and best is not None else ""
    return f"{reach}{how}; first token after {duration(first.low_s)} at the earliest"


def binding_words(best: Offloaded, speed: OffloadSpeed) -> str:
    """What a likely token waits for longest, and where its time goes."""
    step = speed.likely
    calls = f" ({duration(step.calls_s)} of it calling kernels)" if step.calls_s else ""
    parts = [f"{duration(step.device_s)} on the GPU{calls}"]
    if best.host_layers:
        verb = "copying" if speed.host_copied else "reading"
        parts += [
            f"{duration(step.host_s)} {verb} {_decimal(speed.host_read_bytes)} of host memory",
            f"{duration(step.wait_s)} handing over",
        ]
    whole = "token" if speed.tokens_per_s == speed.tokens_per_s_per_user else "step of all"
    return f"{speed.binding}; of {duration(step.seconds)} for a likely {whole} {', '.join(parts)}"


def launch_words(result: Offload) -> tuple[str, str] | None:
    """What the command is, and the command as it is typed."""
    best = result.best
    if best is None or best.launch is None:
        return None
    other = best.format_origin == "other file" or result.model.source_kind != "gguf"
    lead = f"command, with a GGUF file of the model in {best.format} as MODEL.gguf" if other else "command"
    return lead, shlex.join(best.launch)


def help_rows(result: Offload) -> Iterator[tuple[str, str]]:
    """What would help, each with the bound that it gives."""
    for each in result.helps:
        told = []
        if each.tokens_per_s is not None:
            told.append(f"likely {_likely(each.tokens_per_s)} tokens/s, at most {_most(each.tokens_per_s)}")
        if each.prompt_tokens_per_s is not None:
            told.append(
                f"prompts likely {_likely(each.prompt_tokens_per_s)}, at most {_most(each.prompt_tokens_per_s)}"
            )
        yield f"{each.change}: ", "; ".join(told)


def layers_title(result: Offload) -> str:
    """Over numbers of layers: more of them are slower, unless host memory is as fast as the card's."""
    rates = [point.tokens_per_s for point in result.layers]
    slower = all(b.value < a.value and b.high < a.high for a, b in pairwise(rates))
    return "Layers in host memory: each one more is slower" if slower else "Layers in host memory"


def layer_marks(result: Offload) -> list[str]:
    """What is to be said of each number of layers: the best one, too little memory, no margin, or nothing."""
    best = result.best
    assert best is not None
    return [
        "best"
        if point.host_layers == best.host_layers
        else "too little"
        if not point.fits
        # A layer that fits and is no best one leaves less than the margin.
        else "no margin"
        if point.host_layers < best.host_layers
        else ""
        for point in result.layers
    ]


def layer_columns(result: Offload) -> list[Column]:
    """Numbers of layers in host memory, and what each gives."""
    best, points = result.best, result.layers
    assert best is not None
    marks = layer_marks(result)
    return [
        Column("layers there", tuple(f"{point.host_layers} of {best.of_layers}" for point in points), right=False),
        Column("GPU free", tuple(signed(point.headroom_bytes) for point in points), 2),
        Column("host", tuple(gib(point.host_bytes) for point in points), 3),
        Column("tok/s likely", tuple(per_second(point.tokens_per_s.value) for point in points)),
        Column("at most", tuple(per_second(point.tokens_per_s.high) for point in points), 2),
        Column("", tuple(marks), 1, right=False),
    ]


def format_mark(result: Offload, row: Offloaded) -> str:
    """What is to be said of a format: the answer, why it is none, or nothing."""
    if row == result.best:
        return "best"
    if not row.fits:
        return "too little" if row.refused is None else "no start"
    # It fits by the likely figures alone, or something common to all is not known.
    return "" if row.has_margin else "no margin"


def format_columns(result: Offload) -> list[Column]:
    """All formats that were tried."""
    rows = result.formats
    return [
        Column("format", tuple(row.format for row in rows), right=False),
        Column("layers there", tuple(f"{row.host_layers} of {row.of_layers}" for row in rows), 3),
        Column("GPU free", tuple(signed(row.headroom_bytes) for row in rows), 4),
        Column("host", tuple(gib(row.host_bytes) for row in rows), 5),
        Column("host free", tuple(signed(row.host_free_bytes) for row in rows), 2),
        Column("tok/s likely", tuple(_likely(row.speed.tokens_per_s if row.speed else None) for row in rows)),
        Column("at most", tuple(_most(row.speed.tokens_per_s if row.speed else None) for row in rows), 2),
        Column("", tuple(format_mark(result, row) for row in rows), 1, right=False),
    ]


def other_rows(result: Offload) -> Iterator[tuple[str, str]]:
    """Other engines, each with its flag and its bound."""
    for row in result.others:
        yield f"{row.engine} {row.setting}: ", _other(row)


def hot_words(hot: HotExperts) -> str:
    """What placement by frequency serves in the memory of the best placement by layers."""
    here = hot.here
    return (
        f"in the GPU memory of the best placement, {hot.experts_per_layer} experts of each layer: whole layers serve "
        f"{_per_cent(here.traffic_layers_fraction)} of all visits to experts, the most chosen experts "
        f"{_per_cent(here.traffic_hottest_fraction)} (likely {per_second(here.tokens_per_s_layers.value)} and "
        f"{per_second(here.tokens_per_s_hottest.value)} tokens/s, computed on the host). llama.cpp places whole "
        "layers; KTransformers and SGLang place experts (--kt-num-gpu-experts)"
    )


def hot_columns(hot: HotExperts) -> list[Column]:
    """Shares of experts on the cards, the traffic that they serve, and how fast that is."""
    points: tuple[HotPoint, ...] = hot.curve
    return [
        Column("experts on GPU", tuple(_per_cent(point.device_fraction) for point in points)),
        Column("visits, any", tuple(_per_cent(point.traffic_any_fraction) for point in points), 2),
        Column("visits, hottest", tuple(_per_cent(point.traffic_hottest_fraction) for point in points)),
        Column("likely: layers", tuple(per_second(point.tokens_per_s_layers.value) for point in points), 1),
        Column("any", tuple(per_second(point.tokens_per_s_any.value) for point in points), 2),
        Column("hottest", tuple(per_second(point.tokens_per_s_hottest.value) for point in points)),
    ]


def _other(row: OtherWay) -> str:
    told = f"{WAYS[row.way]}, {row.format}"
    if row.refused is not None:
        return f"{told}: would not start ({row.refused})"
    missing = ((row.missing_device_bytes, "GPU memory"), (row.missing_host_bytes, "host memory"))
    short = [f"{gib(size)} of {where}" for size, where in missing if size]
    if short:
        return f"{told}: {' and '.join(short)} missing"
    if row.tokens_per_s is None:
        return f"{told}: speed not known"
    return f"{told}: likely {_likely(row.tokens_per_s)} tokens/s, at most {_most(row.tokens_per_s)}, {gib(row.host_bytes)} in host memory"


def _cards(result: Offload) -> str:
    return "the GPU" if result.hardware.num_devices == 1 else f"{result.hardware.num_devices} GPUs"


def fullest(result: Offload) -> str:
    """The only card, or the fullest."""
    return "it" if result.hardware.num_devices == 1 else "the fullest"


def at_least(size_bytes: int) -> str:
    """What is left were all guesses to err one way."""
    return f"{gib_floor(size_bytes)} at least" if size_bytes >= 0 else f"or {gib(-size_bytes)} missing"


def signed(size_bytes: int) -> str:
    """A size that may be missing."""
    return gib_floor(size_bytes) if size_bytes >= 0 else f"-{gib(-size_bytes)}"


def _decimal(size_bytes: int) -> str:
    return f"{size_bytes / GB:,.2f} GB"


def _most(rate: Rate | None) -> str:
    return UNKNOWN if rate is None else per_second(rate.high)


def _likely(rate: Rate | None) -> str:
    return UNKNOWN if rate is None else per_second(rate.value)


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"
