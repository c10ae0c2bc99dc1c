"""A plain transformers script: `generate()` on one batch of equal prompts, with that library's own cache."""

from __future__ import annotations

from typing import assert_never

from moeplan.core.deployment import Constants, Deployment, Option, Refusal
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.kv_cache import Accounting, CacheRow, CacheRules, cache_cost
from moeplan.core.ledger import Line, Why, line
from moeplan.core.model import DenseFfn, ModelSpec, MoeFfn, Remark
from moeplan.core.quant import Quantisation
from moeplan.core.weights import Owned

VOCABULARY_PADDING = 1
"""Tables are as the config states them."""


DTYPES = ("bfloat16", "float16", "float32")
"""Dtypes that the library's own cache can have: those of a model."""


def settle(deployment: Deployment, hardware: Hardware, constants: Constants) -> tuple[Option, ...]:
    """A script has one setting: how much of the device it may use."""
    fraction = deployment.utilization_fraction
    value = constants.of("utilization_fraction").value if fraction is None else fraction
    return (Option("memory_fraction", value, "default" if fraction is None else "stated"),)


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """As the checkpoint states it."""
    return dtype


def cache_rules(
    spec: ModelSpec, *, asked: str | None, scheme: str | None, weight_dtype: str, capability: str | None
) -> CacheRules:
    """The model's dtype throughout; windows keep one token less, convolutions every column.

    Source: transformers 5.23.0 cache_utils.py (DynamicSlidingWindowLayer, LinearAttentionLayer).
    """
    if asked is not None and asked not in DTYPES:
        raise InputError(
            f"a plain transformers script has no cache dtype {asked!r}",
            hint=f"its cache dtypes: auto, {', '.join(DTYPES)}",
        )
    return CacheRules(
        kv_dtype=asked or weight_dtype,
        state_dtype=weight_dtype,
        conv_dtype=weight_dtype,
        accounting="transformers",
        window_delta_tokens=-1,
        conv_columns_delta=0,
        stores_shared_key_twice=True,
        honours_stated_state_dtype=False,
    )


def managed_cache_bytes(
    rows: tuple[CacheRow, ...],
    rules: CacheRules,
    deployment: Deployment,
    options: tuple[Option, ...],
    constants: Constants,
) -> int:
    """The library has no block manager: the cache is what the sequences hold."""
    cost = cache_cost(rows, rules, deployment.context_tokens, deployment.encoder_tokens, deployment.tp)
    return deployment.concurrency * cost.bytes_at_context


def window_accountings(rules: CacheRules, constants: Constants) -> dict[Accounting, CacheRules]:
    """The library has one way of counting."""
    return {"transformers": rules}


def runtime_lines(
    spec: ModelSpec,
    deployment: Deployment,
    options: tuple[Option, ...],
    hardware: Hardware,
    constants: Constants,
    weights: tuple[Line, ...],
) -> tuple[Line, ...]:
    """Activations of one prefill of the whole batch, and the device context."""
    tokens = deployment.concurrency * deployment.context_tokens
    widest = 0
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        match ffn:
            case DenseFfn():
                widest = max(widest, 3 * ffn.width)
            case MoeFfn():
                widest = max(widest, ffn.experts_per_token * (3 * ffn.expert_width + 2 * spec.hidden_size))
            case _:
                assert_never(ffn)
    elements = tokens * (4 * spec.hidden_size + widest) + 2 * deployment.concurrency * spec.vocab_size
    context = constants.of("device_context_bytes")
    return (
        line(
            "activations",
            "activations (one prefill)",
            2 * elements,
            "assumed",
            Why(
                "2 B x (sequences x context x (4 h + widest feed-forward) + 2 x sequences x vocabulary)",
                {"tokens": tokens, "hidden_size": spec.hidden_size, "widest_feed_forward_elements": widest},
                "tensors alive in one layer of transformers 5.23.0; not yet measured, so half to double",
            ),
            low_bytes=elements,
            high_bytes=4 * elements,
        ),
        line(
            "device_context", "CUDA context and libraries", context.value, "assumed", Why("constant", {}, context.source),
            low_bytes=context.low, high_bytes=context.high,
        ),
    )  # fmt: skip


def refusals(
    spec: ModelSpec,
    owned: tuple[Owned, ...],
    quantisation: Quantisation,
    deployment: Deployment,
    hardware: Hardware | None,
) -> tuple[Refusal, ...]:
    """A plain script runs on one device."""
    if deployment.tp > 1:
        return (Refusal("one-device", f"a plain transformers script uses one device, not {deployment.tp}"),)
    return ()


def doubts(
    spec: ModelSpec, quantisation: Quantisation, hardware: Hardware | None, deployment: Deployment
) -> tuple[Remark, ...]:
    """Formats that the library may unpack on load."""
    if quantisation.name.startswith("mxfp4"):
        told = "transformers keeps mxfp4 packed only where its kernels run; elsewhere it unpacks the experts to 16 bit"
        return (Remark("not-modelled", "warning", told),)
    if any(
        name.startswith("gguf ") for name in (quantisation.name, *(rule.format.name for rule in quantisation.rules))
    ):
        told = "transformers unpacks GGUF to plain matrices on load: it holds several times the bytes that are shown"
        return (Remark("not-modelled", "warning", told),)
    return ()


def leaves_out(name: str) -> str | None:
    """Everything is loaded."""
    return None
