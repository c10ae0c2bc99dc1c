"""What a comparison has to say beside its figures: what does not compare, what total parameters hide, what is not measured."""

from collections.abc import Iterator, Sequence

from moeplan.compare.result import Compared, Pair
from moeplan.core.model import Remark

QUALITY = (
    "no model is named best: each figure has its own least, and which of them counts depends on the work and on how good "
    "the answers are, which is not measured here"
)


def remarks(models: Sequence[Compared], pairs: Sequence[Pair]) -> Iterator[Remark]:
    """Notes on the comparison as a whole."""
    if any(model.kind == "moe" for model in models):
        timed = "; times take a light skew" if any(model.speed is not None for model in models) else ""
        told = "bytes take every expert as equally likely, which touches most of them: real routing reads somewhat less"
        yield Remark("routing-uniform", "info", f"{told}{timed}")
    for pair in pairs:
        yield from _beside_dense(models[pair.first], models[pair.second], pair)
    yield from _tokenisers(models)
    yield Remark("quality-not-measured", "info", QUALITY)


def ratio_words(ratio: float) -> str:
    """`3.2 times`, and with two digits where it is less: `0.66 times`, `0.0036 times`."""
    return f"{ratio:.1f} times" if ratio >= 1.05 else f"{ratio:.2f} times" if ratio >= 0.01 else f"{ratio:.2g} times"


def _beside_dense(first: Compared, second: Compared, pair: Pair) -> Iterator[Remark]:
    """An MoE beside a dense model: total parameters say one thing, bytes of a step another."""
    if {first.kind, second.kind} != {"moe", "dense"}:
        return
    moe, dense, total, reads = first, second, pair.total_ratio, pair.reads_ratio
    if first.kind == "dense":
        moe, dense, total, reads = second, first, 1 / total, 1 / reads
    one = _reads(moe, 1) / _reads(dense, 1)
    told = (
        f"{moe.label} has {ratio_words(total)} the parameters of {dense.label}; per token it reads {ratio_words(one)} as many "
        f"bytes at batch 1 and {ratio_words(reads)} as many at batch {pair.reads_batch}"
    )
    yield Remark("moe-beside-dense", "info", told)


def _reads(model: Compared, batch: int) -> int:
    return next(reads.bytes_per_token for reads in model.reads if reads.batch == batch)


def _tokenisers(models: Sequence[Compared]) -> Iterator[Remark]:
    sizes = {model.vocabulary for model in models}
    families = {model.family for model in models}
    if len(sizes) == 1 and len(families) == 1:
        return
    if len(sizes) > 1:
        why = "vocabularies are of " + " and ".join(f"{size:,}" for size in sorted(sizes)) + " tokens"
    else:
        why = f"families differ ({', '.join(sorted(families))}), and vocabularies of one size need not be the same"
    told = "a text is not as many tokens for each of them, so figures per token are not per text"
    yield Remark("tokenisers-differ", "warning", f"{why}: {told}")
