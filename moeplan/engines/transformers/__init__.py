"""A plain transformers script: `generate()` on one batch of equal prompts, with that library's own cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Option, Refusal, Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRules, cache_cost
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.ledger import Line, Why, line, total_bytes
from moeplan.core.model import GatedDelta, KimiDelta, Mamba1, Mamba2, ModelSpec, Remark, Weight
from moeplan.core.placement import RankView, even_stages
from moeplan.core.profiled import context_bytes
from moeplan.engines.transformers.activations import TRACED, held_window_bytes, prefill_peak

SCANS = (GatedDelta, KimiDelta, Mamba1, Mamba2)
"""Mixers whose states the library computes and keeps in float32."""

DTYPES = ("bfloat16", "float16", "float32")
"""Dtypes that the library's own cache can have: those of a model."""


def resolve_layout(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    """One device holds all; degrees that were stated are kept, for `refusals` to tell."""
    tp = asked.tp or num_devices or 1
    pp, dp = asked.pp or 1, asked.dp or 1
    return Layout(
        tp=tp, pp=pp, dp=dp, ep=asked.ep or 1, pp_layers=(len(spec.layers),) if pp == 1 else even_stages(len(spec.layers), pp),
        num_gpus=tp * pp * dp,
    )  # fmt: skip


def settle(serving: Serving) -> Settings:
    """A script has one setting: how much of the device it may use."""
    fraction = serving.deployment.utilization_fraction
    value = serving.constants.of("utilization_fraction").value if fraction is None else fraction
    return Settings((Option("memory_fraction", value, "default" if fraction is None else "stated"),))


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """As the checkpoint states it."""
    return dtype


def cache_rules(
    spec: ModelSpec,
    *,
    asked: str | None,
    scheme: str | None,
    weight_dtype: str,
    capability: str | None,
    stated: Mapping[str, Value] | None = None,
) -> CacheRules:
    """The model's dtype; windows keep one token less, convolutions every column. Recurrent states are float32, whatever
    the config asks for: each model hands over the final state of its scan in float32 and `LinearAttentionLayer` keeps its
    dtype. MiniMax-01's decayed sums and DeepSeek-V4's carried windows stay in the model's dtype.

    Source: transformers 5.23.0 cache_utils.py (DynamicSlidingWindowLayer, LinearAttentionLayer), and models that ran.
    """
    if asked is not None and asked not in DTYPES:
        raise InputError(
            f"a plain transformers script has no cache dtype {asked!r}",
            hint=f"its cache dtypes: auto, {', '.join(DTYPES)}",
        )
    return CacheRules(
        kv_dtype=asked or weight_dtype,
        state_dtype="float32"
        if any(isinstance(mixer, SCANS) for layer in spec.layers for mixer in layer.mixers)
        else weight_dtype,
        conv_dtype=weight_dtype,
        accounting="transformers",
        window_delta_tokens=-1,
        conv_columns_delta=0,
        stores_shared_key_twice=True,
        honours_stated_state_dtype=False,
    )


def division(serving: Serving, settings: Settings) -> Division:
    """Nothing is divided; several devices are refused, and shown as if they shared heads evenly."""
    tp = serving.layout.tp
    return Division(tp, tp, tp, tp, tp, tp)


def managed_cache_bytes(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, context_tokens: int, sequences: int
) -> int:
    """The library has no block manager: the cache is what the sequences hold."""
    encoder = serving.deployment.encoder_tokens
    return sequences * cache_cost(rank.rows, rules, context_tokens, encoder, rank.division.attention).bytes_at_context


def window_accountings(serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
    """The library has one way of counting."""
    return {"transformers": rules}


def budget_bytes(
    serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...], rank: RankView | None = None
) -> int:
    """What the device reports, times the share."""
    return -int(-memory_bytes * settings.share("memory_fraction") // 1)


def prints(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
) -> EnginePrints | None:
    """A script prints nothing."""
    return None


def expert_backend(serving: Serving, settings: Settings) -> str | None:
    """Not chosen here."""
    return None


def host_share(serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
    """All weights are on the device."""
    return None


def host_lines(serving: Serving, settings: Settings) -> tuple[Line, ...]:
    """Nothing that stays: `from_pretrained` maps the files and copies tensor by tensor."""
    return ()


def load_peak_bytes(serving: Serving, settings: Settings, rank: RankView) -> int | None:
    """Tensors are read one by one into their place."""
    return total_bytes(rank.weights)


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """Weights are as the checkpoint states them."""
    return ()


def runtime_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """Activations of one prefill of the whole batch, and the device context."""
    spec, deployment = serving.spec, serving.deployment
    sequences, tokens = deployment.concurrency, deployment.context_tokens
    value_bytes = 4 if spec.dtype == "float32" else 2
    peak = prefill_peak(spec, sequences, tokens, value_bytes)
    traced = spec.model_type in TRACED
    told = "tensors alive in transformers 5.23.0, traced on shapes alone; not yet measured on a GPU"
    lines = [
        line(
            "activations",
            "activations (one prefill)",
            peak.bytes,
            "assumed",
            Why(
                f"tensors alive at the widest step of any layer: {peak.step}",
                {"sequences": sequences, "context_tokens": tokens, "value_bytes": value_bytes},
                told if traced else f"{told}, and not for this model: half to double",
            ),
            low_bytes=peak.bytes * (0.95 if traced else 0.5),
            high_bytes=peak.bytes * (1.1 if traced else 2),
        )
    ]
    rules = cache_rules(spec, asked=deployment.kv_dtype, scheme=None, weight_dtype=spec.dtype, capability=None)
    held = held_window_bytes(rank.rows, rules, sequences, tokens)
    if held:
        why = Why(
            "sequences x layers x bytes of an entry x (context - window kept)",
            {"sequences": sequences, "context_tokens": tokens},
            "transformers 5.23.0 cache_utils.py: the window is a view of the whole prompt until the next token",
        )
        lines.append(line("window_prompts", "window layers: whole prompts", held, "derived", why))
    return (
        *lines,
        _context(serving),
    )


def _context(serving: Serving) -> Line:
    """What the process takes before it holds a tensor: as measured on this device, else a constant."""
    measured = context_bytes(serving.hardware.measured if serving.hardware else ())
    if measured is not None:
        why = Why("bytes of a process that holds no tensor", {}, measured.source)
        return line(
            "device_context", "context and libraries", measured.bytes, "measured", why,
            low_bytes=measured.low_bytes, high_bytes=measured.high_bytes,
        )  # fmt: skip
    context = serving.constants.of("device_context_bytes")
    card = serving.hardware is None or serving.hardware.vendor == "nvidia"
    label = "CUDA context and libraries" if card else "context and libraries"
    return line(
        "device_context", label, context.value, "assumed", Why("constant", {}, context.source),
        low_bytes=context.low, high_bytes=context.high,
    )  # fmt: skip


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """A plain script runs on one device."""
    if serving.layout.num_gpus > 1:
        told = f"a plain transformers script uses one device, not {serving.layout.num_gpus}; ask for 1 GPU, or another --engine"
        return (Refusal("one-device", told),)
    return ()


def doubts(serving: Serving, settings: Settings) -> tuple[Remark, ...]:
    """Formats that the library may unpack on load."""
    quantisation = serving.quantisation
    if quantisation.name.startswith("mxfp4"):
        told = "transformers keeps mxfp4 packed only where its kernels run; elsewhere it unpacks the experts to 16 bit"
        return (Remark("not-modelled", "warning", told),)
    if any(
        name.startswith("gguf ") for name in (quantisation.name, *(rule.format.name for rule in quantisation.rules))
    ):
        told = "transformers unpacks GGUF to plain matrices on load: it holds several times the bytes that are shown"
        return (Remark("not-modelled", "warning", told),)
    return ()


def loads_drafts(stated: Mapping[str, Value]) -> bool:
    """The library drops draft layers."""
    return False


def leaves_out(name: str) -> str | None:
    """Everything is loaded."""
    return None
