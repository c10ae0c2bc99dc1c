"""What the engine itself refuses: it stops at start, whatever memory there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.rules import Hit, Rule

SHARDS = ("heads-not-divisible", "kv-heads-not-divisible", "width-not-divisible")
BLOCKS = ("block-not-divisible",)
EXPERTS = (
    "experts-not-divisible", "ep-beyond-experts", "ep-beyond-tp", "ep-not-dividing-tp", "ep-on-dense", "moe-dense-tp-size",
    "redundancy-without-ep", "redundancy-without-eplb",
)  # fmt: skip
DEGREES = (
    "pp-not-supported", "stages-beyond-layers", "dp-lm-head-without-dp", "dp-not-dividing-tp", "dp-over-nodes",
    "dcp-not-dividing-tp", "dcp-not-supported", "dcp-too-few-ranks", "dcp-too-many", "dcp-with-windows", "one-device",
    "split-mode-row", "split-mode-tensor", "split-mode-unknown",
)  # fmt: skip
LENGTH = ("context-beyond-model",)
KERNELS = ("no-kernel", "no-backend")
CACHE = (
    "cache-type-unknown", "cache-types-differ", "values-need-flash-attention", "cache-block-not-divisible",
    "hybrid-manager-needed", "chunk-not-in-pages", "sequences-too-many", "fraction-too-large",
)  # fmt: skip
SUPPORT = ("not-supported", "no-gguf-format")
ELSEWHERE = (
    "does-not-fit", "request-does-not-fit", "host-memory-too-small", "gpus-too-few", "slices-apart", "no-gpu",
    "memory-unknown",
)  # fmt: skip
"""Reasons that the families fit, topology and reading tell."""


def shards(outcome: Outcome) -> Iterator[Hit]:
    """Heads or widths of the model do not divide over the tensor-parallel ranks.

    Attention heads and the widths of dense layers are cut into equal shares. Another degree, or expert parallelism for
    the widths of experts, takes it away; the message names those that do.
    """
    yield from _refused(outcome, SHARDS, "tp")


def blocks(outcome: Outcome) -> Iterator[Hit]:
    """The shard of a weight is not whole blocks of its quantisation.

    Scales of block-quantised weights belong to blocks of, for instance, 128 columns. A shard of 192 has one and a half of
    them, and the engine stops. Expert parallelism or fewer tensor-parallel ranks keep blocks whole.
    """
    yield from _refused(outcome, BLOCKS, "tp")


def experts(outcome: Outcome) -> Iterator[Hit]:
    """Expert parallelism that the model, the layout or the engine does not allow."""
    yield from _refused(outcome, EXPERTS, "ep", "expert_parallel", "redundant_experts", "tp")


def degrees(outcome: Outcome) -> Iterator[Hit]:
    """Degrees of parallelism that the engine does not run together, or not for this model."""
    yield from _refused(outcome, DEGREES, "pp", "dp", "dcp", "--split-mode", "tp")


def length(outcome: Outcome) -> Iterator[Hit]:
    """The length that is served is beyond what the model's config allows, without a rope override."""
    yield from _refused(outcome, LENGTH, "context_tokens")


def kernels(outcome: Outcome) -> Iterator[Hit]:
    """The engine has no kernel for this format of weights or cache on this card."""
    yield from _refused(outcome, KERNELS, "quantization", "kv_dtype", "gpu", "model")


def cache(outcome: Outcome) -> Iterator[Hit]:
    """Settings of cache and scheduler that the engine does not accept together."""
    yield from _refused(outcome, CACHE, "kv_dtype", "--cache-type-v", "--chunked-prefill-size", "utilization_fraction")


def support(outcome: Outcome) -> Iterator[Hit]:
    """The engine does not serve this model, or not on this hardware."""
    told = (*SHARDS, *BLOCKS, *EXPERTS, *DEGREES, *LENGTH, *KERNELS, *CACHE, *ELSEWHERE)
    yield from _hits(outcome, lambda code: code not in told, "model")


def command(outcome: Outcome) -> Iterator[Hit]:
    """The engine would not accept its command: a value that is none, or two that contradict each other."""
    if outcome.problem is not None:
        yield Hit(outcome.problem.message, outcome.subject.spot("model"), outcome.problem.hint)


def _refused(outcome: Outcome, codes: tuple[str, ...], *places: str) -> Iterator[Hit]:
    yield from _hits(outcome, lambda code: code in codes, *places)


def _hits(outcome: Outcome, meant: Callable[[str], bool], *places: str) -> Iterator[Hit]:
    if outcome.estimate is None:
        return
    for reason in outcome.estimate.verdict.reasons:
        if meant(reason.code):
            yield Hit(reason.message, outcome.subject.spot(*places), reason=reason.code)


RULES = (
    Rule("ENG001", "heads or widths do not divide", "error", shards),
    Rule("ENG002", "quantisation blocks do not divide", "error", blocks),
    Rule("ENG003", "expert parallelism refused", "error", experts),
    Rule("ENG004", "layout refused", "error", degrees),
    Rule("ENG005", "length beyond the model", "error", length),
    Rule("ENG006", "no kernel on this card", "error", kernels),
    Rule("ENG007", "cache or scheduler settings refused", "error", cache),
    Rule("ENG008", "model not supported", "error", support),
    Rule("ENG009", "command not accepted", "error", command),
)
