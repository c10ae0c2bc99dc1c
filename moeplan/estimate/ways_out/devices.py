"""Other numbers of GPUs of the same kind, and other engines."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.errors import InputError
from moeplan.core.layout import Layout
from moeplan.engines import ENGINES, load
from moeplan.estimate.question import Question, make_question
from moeplan.estimate.ways_out.change import Change, least_gpus
from moeplan.estimate.ways_out.layouts import SPREADING, kept_ranks, stating
from moeplan.sources.engine_constants import read_constants

GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)


def other_counts(question: Question, quant: str | None = None) -> Iterator[Change]:
    """The next smaller numbers first, which may help where a division was refused, then the larger ones.

    More GPUs are more tensor-parallel ranks, or devices of llama.cpp; stated degrees of other kinds stay. A plain script
    has one GPU.
    """
    deployment, asked, now = question.deployment, question.asked_layout, question.deployment.layout
    named = question.num_devices or now.num_gpus
    if deployment.engine not in SPREADING:
        for count in _counts(named, named):
            stages = {"pp": count} if asked.pp is not None else {}
            if count == 1 or deployment.engine != "transformers":
                yield Change(quant, count, stages)
        return
    per_rank, least = max(1, now.num_gpus // now.tp), 1 if quant is not None else least_gpus(question)
    for count in _counts(named, now.num_gpus):
        tp = count // per_rank
        if count % per_rank or count < least:
            continue
        dp = tp if deployment.engine == "trtllm" and now.dp_attention else now.dp
        stated = {"tp": tp, "dp": dp, "ep": kept_ranks(question, tp, dp)}
        degrees = {name: value for name, value in stated.items() if getattr(asked, name) is not None}
        yield stating(question, **degrees)._replace(quant=quant, num_gpus=count)


def _counts(named: int, wanted: int) -> list[int]:
    """Usual numbers of GPUs but `named`, and as many as the layout wants."""
    counts = sorted({*GPU_COUNTS, wanted} - {named})
    return [count for count in reversed(counts) if count < named] + [count for count in counts if count > named]


def other_engines(question: Question) -> Iterator[Change]:
    """The same under the other engines, where nobody stated a version, or flags of this one; a plain script on one GPU."""
    deployment = question.deployment
    if deployment.flags or deployment.stated or question.version_origin == "stated":
        return
    for name in ENGINES:
        if name != deployment.engine and (other := _under(question, name)) is not None:
            alone = name == "transformers" and question.num_devices not in (None, 1)
            yield Change(engine=other, num_gpus=1 if alone else None)


def _under(question: Question, name: str) -> Question | None:
    """The question under another engine; None where its dtype, layout or cache is none for that engine."""
    engine, serving, hardware = load(name), question.serving, question.serving.hardware
    capability = hardware.compute_capability if hardware else None
    lost = question.matched is None and question.beyond  # tensors that only the headers told of
    if lost or engine.loaded_dtype(question.spec.dtype, capability) != question.spec.dtype:
        return None
    constants, _ = read_constants(name, None)
    deployment = serving.deployment._replace(engine=name, layout=Layout())
    try:
        return make_question(
            serving._replace(deployment=deployment, constants=constants),
            engine,
            question.asked_layout,
            question.num_devices,
            "default",
            (),
            question.matched,
            use_headers=question.matched is not None,
        )
    except InputError:
        return None
