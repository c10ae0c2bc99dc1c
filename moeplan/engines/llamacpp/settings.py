"""llama.cpp's settings that steer memory, as `llama-server` runs them.

Sources: llama.cpp b11312 common/arg.cpp, common/common.h, tools/server/server.cpp. Read there:

* `--ctx-size` is the context of all sequences together, which `--parallel` shares out. moeplan asks for a context per
  sequence, so `--ctx-size` is inferred: context x sequences. Nobody's `--parallel` would be four slots that share one
  context (`--kv-unified`); here it is the number of sequences that was asked for, each with its own.
* `--gpu-layers` is `auto`: all layers, and with `--fit on` (default) fewer where they leave less than 1 GiB free: then
  experts, later whole layers, stay in host memory. What is estimated here is all layers.
* `--flash-attn` is `auto`: on wherever the device has a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Option, Origin, Serving, Settings, Value
from moeplan.core.ledger import Line
from moeplan.core.model import ModelSpec
from moeplan.core.placement import RankView
from moeplan.engines.llamacpp.cache_types import TYPE_NAMES

BATCH_TOKENS, UBATCH_TOKENS = 2048, 512
"""Defaults of `--batch-size` and `--ubatch-size` (common/common.h)."""
PASSED_ON = (
    "--override-tensor", "--cpu-moe", "--n-cpu-moe", "--n-cpu-ffn", "--tensor-split", "--main-gpu", "--no-kv-offload",
    "--kv-offload", "--no-op-offload", "--op-offload", "--swa-full", "--load-mode", "--no-mmap", "--mlock", "--no-host",
    "--mmproj", "--no-mmproj", "--no-mmproj-offload", "--mmproj-offload", "--spec-type", "--spec-draft-model",
    "--spec-draft-n-max", "--cache-ram", "--ctx-checkpoints", "--fit-target", "--rpc", "--lora", "--device",
)  # fmt: skip
"""Settings without a default worth a row: shown when they are stated."""
DROPS_DRAFTS = ("deepseek_v2", "deepseek_v3", "deepseek_v4", "glm4_moe_lite", "kimi_k2", "kimi_k25", "longcat_flash")
"""Families whose converter leaves draft layers out of the file (conversion/deepseek.py, `skip_mtp` and V4)."""
ON, OFF = ("on", "true", "1", "yes", "enabled"), ("off", "false", "0", "no", "none", "disabled")


def on_cpu(serving: Serving) -> bool:
    """True where the named hardware is a processor: then there is one memory, and no device beside it."""
    return serving.hardware is not None and serving.hardware.vendor == "cpu"


def settle(serving: Serving) -> Settings:
    """The settings, each with its origin; the share of the device first, which llama.cpp does not limit."""
    deployment, stated = serving.deployment, serving.deployment.stated
    fraction = deployment.utilization_fraction
    share = serving.constants.of("utilization_fraction").value if fraction is None else fraction
    sequences = deployment.sequences_per_rank
    key, value = _cache_types(deployment.kv_dtype, stated)
    options = [
        Option("memory_fraction", share, "default" if fraction is None else "stated"),
        _settled("--gpu-layers", "auto", "default", stated),
        _settled("--fit", "on", "default", stated),
        _settled("--split-mode", "tensor" if serving.layout.tp > 1 else "layer", "default", stated),
        Option("--ctx-size", deployment.context_tokens * sequences, "inferred"),
        Option("--parallel", sequences, "inferred"),
        _settled("--kv-unified", False, "default", stated),
        _settled("--batch-size", BATCH_TOKENS, "default", stated),
        _settled("--ubatch-size", UBATCH_TOKENS, "default", stated),
        key,
        value,
        _settled("--flash-attn", "auto", "default", stated),
    ]
    options += [Option(flag, _one(stated[flag]), "stated") for flag in PASSED_ON if flag in stated]
    return Settings(tuple(options))


def chosen(settings: Settings) -> Mapping[str, Value]:
    """The settings by flag."""
    return {option.flag: option.value for option in settings.options}


def is_on(values: Mapping[str, Value], flag: str) -> bool:
    """A switch that is on by name (`--cpu-moe`), or whose word says so (`--fit on`)."""
    value = values.get(flag)
    return value.lower() in ON if isinstance(value, str) else bool(value)


def switched_off(values: Mapping[str, Value], flag: str) -> bool:
    """True for a switch that is on by default and was turned off, in either spelling (`--no-op-offload`)."""
    if values.get(flag) is not None:
        return not is_on(values, flag)
    return is_on(values, f"--no-{flag.removeprefix('--')}")


def flash_attention(spec: ModelSpec, settings: Settings) -> bool:
    """Whether attention runs without a matrix of all scores; `auto` is on. Grok is forced off (llama-context.cpp)."""
    text = str(settings.value("--flash-attn")).lower()
    return text not in OFF and spec.family != "grok"


def layers_in_file(spec: ModelSpec) -> int:
    """Blocks that llama.cpp counts: the model's layers, and draft layers where the converter keeps them."""
    drafts = 0 if spec.mtp is None or spec.family in DROPS_DRAFTS else len(spec.mtp.layers)
    return len(spec.layers) + drafts


def gpu_layers(spec: ModelSpec, values: Mapping[str, Value]) -> int:
    """Layers on devices, the output counted as one: as stated, else all (llama-model.cpp n_gpu_layers)."""
    every = layers_in_file(spec) + 1
    value = values.get("--gpu-layers")
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return every
    return min(int(value), every)


def ubatch_tokens(settings: Settings, context_tokens: int, sequences: int) -> int:
    """Tokens of one graph: `--ubatch-size`, at most the batch and the context of all sequences."""
    batch = min(settings.count("--batch-size") or BATCH_TOKENS, context_tokens * sequences)
    return max(1, min(batch, settings.count("--ubatch-size") or batch))


def loads_drafts(stated: Mapping[str, Value]) -> bool:
    """True for `--spec-type draft-mtp`, which runs the model's own draft layers (common/common.cpp load_mtp)."""
    return "mtp" in str(stated.get("--spec-type") or "")


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """llama.cpp loads GGUF alone, whose converter writes 16 bit: float32 becomes bfloat16 (convert_hf_to_gguf.py)."""
    return "bfloat16" if dtype == "float32" else dtype


def budget_bytes(
    serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...], rank: RankView | None = None
) -> int:
    """There is no target: all that the device reports."""
    return int(memory_bytes * settings.share("memory_fraction"))


def _cache_types(kv_dtype: str | None, stated: Mapping[str, Value]) -> tuple[Option, Option]:
    name = TYPE_NAMES.get(kv_dtype, kv_dtype) if kv_dtype else "f16"
    origin: Origin = "stated" if kv_dtype else "default"
    return _settled("--cache-type-k", name, origin, stated), _settled("--cache-type-v", name, origin, stated)


def _settled(flag: str, value: Value, origin: Origin, stated: Mapping[str, Value]) -> Option:
    if stated.get(flag) is not None:
        return Option(flag, _one(stated[flag]), "stated")
    return Option(flag, value, origin)


def _one(value: object) -> Value:
    """Repeated flags as one text."""
    if isinstance(value, tuple | list):
        return ",".join(str(each) for each in value)
    assert value is None or isinstance(value, str | int | float | bool)
    return value
