"""How tokens reach experts on other ranks, and come back, where attention is data-parallel.

Four ways, each with the bytes that one device holds or sends for a layer (facts on routing, section 5):

    gather       every rank gets the tokens of all and sums up what all computed: an all-gather and a reduce-scatter of
                 tokens of all x hidden x 2 bytes, whatever the router says. vLLM's default; SGLang's and TensorRT-LLM's without
                 an all-to-all backend
    all_to_all   each token goes once to each rank that has one of its experts, in fp8 with scales, and comes back in 16 bit:
                 tokens x ranks touched x hidden x bytes of a value, over NCCL
    low_latency  each token goes to each of its experts (DeepEP's kernels for decode)
    by_node      each token goes once to each other node that has one of its experts, over the network, and from there to their
                 ranks over the link (DeepEP's kernels for prompts)
"""

from typing import Literal, NamedTuple

from moeplan.core.op_times import COMBINE_BYTES, DISPATCH_BYTES, OpTime, OpTimes

Way = Literal["gather", "all_to_all", "low_latency", "by_node"]

GATHERED_BYTES = 2
"""Of one value that is gathered: 16 bit (vLLM 0.33.0 distributed/device_communicators/all2all.py:AgRsAll2AllManager)."""


class Exchange(NamedTuple):
    """What is exchanged in one layer."""

    way: Way
    gpus: int
    """That take part: all ranks of a stage."""
    hidden: int
    experts: int
    experts_per_token: int


def way_of(way: Way, *, with_prompts: bool) -> Way:
    """The way of one step: kernels for decode are not those for prompts."""
    return "by_node" if way == "low_latency" and with_prompts else way


def exchange_times(asked: Exchange, times: OpTimes, device_tokens: float) -> tuple[OpTime, OpTime]:
    """There and back, for `device_tokens` of each device. UnknownError beyond one link, but for DeepEP's kernels."""
    gpus, hidden, experts, chosen = asked.gpus, asked.hidden, asked.experts, asked.experts_per_token
    match asked.way:
        case "gather":
            num_bytes = gathered_bytes(asked, device_tokens)
            return times.all_gather_s(gpus, num_bytes), times.reduce_scatter_s(gpus, num_bytes)
        case "all_to_all":
            out, back = sent_bytes(asked, device_tokens)
            return times.all_to_all_s(gpus, out), times.all_to_all_s(gpus, back)
        case "low_latency":
            return (
                times.expert_dispatch_s(gpus, device_tokens, hidden, experts, chosen),
                times.expert_combine_s(gpus, device_tokens, hidden, experts, chosen),
            )
        case "by_node":
            nodes = max(1, -(-gpus // times.domain_gpus))
            across = device_tokens * ranks_touched(experts, chosen, nodes) * (nodes - 1) / nodes * hidden
            within = device_tokens * ranks_touched(experts, chosen, gpus) * hidden
            return (
                times.spread_s(gpus, across * DISPATCH_BYTES, within * DISPATCH_BYTES),
                times.spread_s(gpus, across * COMBINE_BYTES, within * COMBINE_BYTES),
            )


def gathered_bytes(asked: Exchange, device_tokens: float) -> float:
    """Bytes that one device holds after the all-gather, and before the reduce-scatter."""
    return device_tokens * asked.gpus * asked.hidden * GATHERED_BYTES


def sent_bytes(asked: Exchange, device_tokens: float) -> tuple[float, float]:
    """Bytes that one device sends to all together, itself included: to the experts, and back."""
    copies = device_tokens * ranks_touched(asked.experts, asked.experts_per_token, asked.gpus) * asked.hidden
    return copies * DISPATCH_BYTES, copies * COMBINE_BYTES


def ranks_touched(experts: int, experts_per_token: int, ranks: int) -> float:
    """Expected distinct ranks of one token: R (1 - C(E - E/R, k) / C(E, k)), experts alike likely. Exact where R divides E."""
    others = experts - experts / ranks
    if experts_per_token > others:
        return float(ranks)
    missed = 1.0
    for i in range(experts_per_token):
        missed *= (others - i) / (experts - i)
    return min(float(experts_per_token), ranks * (1 - missed))
