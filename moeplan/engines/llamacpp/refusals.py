"""Why llama.cpp would not start, and where its ways are not modelled here.

Sources: llama.cpp b11312 src/llama-context.cpp:llama_init_from_model, src/llama.cpp, conversion/*.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.model import (
    CompressedAttention,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mixer,
    ModelSpec,
    Remark,
)
from moeplan.engines.llamacpp.buffers import is_file
from moeplan.engines.llamacpp.cache_types import CACHE_TYPES
from moeplan.engines.llamacpp.offload import overrides
from moeplan.engines.llamacpp.settings import OFF, chosen

NEVER = (
    "axk1", "beam", "flex_olmo", "flint", "jetmoe", "kolibri1", "longcat_flash", "mistral_large4", "nllb_moe",
    "openmoe", "switch_transformers",
)  # fmt: skip
"""Families without a converter (conversion/*.py)."""
READ = "b11312"
"""The build whose sources were read."""
MOST_SEQUENCES = 256
"""`LLAMA_MAX_SEQ` (llama-cparams.h)."""
SPLIT_MODES = ("none", "layer", "row", "tensor")
KEPT_FORMATS = ("gguf ", "bf16", "fp16", "fp32", "mxfp4", "nvfp4", "int64")
"""How the names of formats begin that a GGUF file has, or that the converter carries over bit by bit."""


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops llama.cpp before memory does."""
    found = [*_model(serving), *_cache(serving, settings), *_devices(serving, settings)]
    if serving.deployment.sequences_per_rank > MOST_SEQUENCES:
        told = f"{serving.deployment.sequences_per_rank} sequences; llama.cpp takes at most {MOST_SEQUENCES}"
        found.append(Refusal("sequences-too-many", f"{told}: --concurrency {MOST_SEQUENCES}"))
    return tuple(dict.fromkeys(found))


def doubts(serving: Serving, settings: Settings) -> tuple[Remark, ...]:
    """What is not modelled; each makes a verdict uncertain."""
    spec, values = serving.spec, chosen(settings)
    found = []
    if not serving.constants.at_least(READ):
        found.append(
            f"rules of the cache and of the layer split are those of llama.cpp {READ}: older builds "
            f"({serving.constants.version}) may differ"
        )
    devices = sorted({rule.device for rule in overrides(values) if not rule.on_host})
    if devices:
        found.append(
            f"--override-tensor to {', '.join(devices)}: such tensors are counted on the device of their layer"
        )
    mode = str(values.get("--split-mode"))
    if mode == "row":
        found.append("--split-mode row is counted as layers: that it shares out attention's matrices is not modelled")
    if mode == "tensor":
        found.append("--split-mode tensor is experimental: how it rounds shares and exchanges them is not modelled")
    if spec.towers:
        found.append(
            "the vision or audio encoder is a file of its own (--mmproj); it is counted on the first device, its compute "
            "buffer is not modelled"
        )
    if values.get("--spec-type") or values.get("--spec-draft-model"):
        found.append("speculation: the draft's own context, model and buffers are not modelled, but for draft layers' weights "
                     "and cache")  # fmt: skip
    if values.get("--rpc"):
        found.append("--rpc: devices of other machines are not modelled")
    if values.get("--lora"):
        found.append("--lora: adapters are not counted")
    mixers = _mixers(spec)
    if any(isinstance(mixer, LatentAttention) and mixer.indexer is not None for mixer in mixers):
        found.append("the compute buffer of a sparse indexer's scores is not modelled")
    if any(isinstance(mixer, CompressedAttention) for mixer in mixers):
        found.append("DeepSeek-V4: the compute buffers of its compressors and hyper-connections are not modelled")
    if any(isinstance(mixer, KimiDelta | LightningAttention) for mixer in mixers):
        found.append("the compute buffer of linear attention in chunks is not modelled")
    return tuple(Remark("not-modelled", "warning", told) for told in found)


def leaves_out(name: str) -> str | None:
    """Speech output of omni models; the converter drops it (conversion/qwenvl.py)."""
    return "speech parts that llama.cpp does not load" if name.startswith(("talker.", "code2wav.")) else None


def expert_backend(serving: Serving, settings: Settings) -> str | None:
    """One set of kernels: those of ggml."""
    return "ggml" if any(entry.visits is not None for entry in serving.owned) else None


def _model(serving: Serving) -> list[Refusal]:
    found = []
    if serving.spec.family in NEVER:
        found.append(
            Refusal("not-supported", f"llama.cpp {READ} does not know {serving.spec.family}; try another --engine")
        )
    formats = [rule.format.name for rule in serving.quantisation.rules]
    foreign = next((name for name in formats if not name.startswith(KEPT_FORMATS)), None)
    if foreign is not None and not is_file(serving):
        found.append(
            Refusal(
                "no-gguf-format",
                f"llama.cpp reads GGUF files, and these have no {foreign}; say --quant q8_0 or q4_k_m for the file that you "
                "convert to, or name the .gguf file itself",
            )
        )
    return found


def _cache(serving: Serving, settings: Settings) -> list[Refusal]:
    """Cache types: known, one for both of a latent, quantised values with flash attention alone, heads of whole blocks."""
    spec = serving.spec
    key, value = str(settings.value("--cache-type-k") or "f16"), str(settings.value("--cache-type-v") or "f16")
    found = []
    for flag, name in (("--cache-type-k", key), ("--cache-type-v", value)):
        if name not in CACHE_TYPES:
            found.append(Refusal("cache-type-unknown", f"{flag} {name}: llama.cpp has {', '.join(CACHE_TYPES)}"))
    if found:
        return found
    mixers = _mixers(spec)
    if key != value and any(isinstance(mixer, LatentAttention | CompressedAttention) for mixer in mixers):
        found.append(
            Refusal(
                "cache-types-differ",
                f"latent attention has one cache: --cache-type-k {key} and --cache-type-v {value} must be the same",
            )
        )
    flash = str(settings.value("--flash-attn")).lower() not in OFF and spec.family != "grok"
    if CACHE_TYPES[value].quantised and not flash:
        way = "leave out --flash-attn off" if spec.family != "grok" else "Grok runs without it: --cache-type-v f16"
        found.append(Refusal("values-need-flash-attention", f"--cache-type-v {value} needs flash attention; {way}"))
    if flash:
        found += _broken_rows(mixers, key, value)
    return found


def _broken_rows(mixers: tuple[Mixer, ...], key: str, value: str) -> list[Refusal]:
    found = []
    for mixer in mixers:
        widths: tuple[tuple[str, str, int], ...] = ()
        if isinstance(mixer, GroupedAttention):
            widths = (("--cache-type-k", key, mixer.key_head_dim), ("--cache-type-v", value, mixer.value_head_dim))
        elif isinstance(mixer, LatentAttention):
            widths = (("--cache-type-k", key, mixer.kv_lora_rank + mixer.qk_rope_head_dim),)
        for flag, name, width in widths:
            block = CACHE_TYPES[name].elements
            if width % block:
                told = f"{flag} {name} stores blocks of {block}, which heads of {width} do not fill; {flag} f16 does"
                found.append(Refusal("cache-block-not-divisible", told))
    return found


def _devices(serving: Serving, settings: Settings) -> list[Refusal]:
    values, hardware = chosen(settings), serving.hardware
    mode = str(values.get("--split-mode") or "layer")
    found = []
    if mode not in SPLIT_MODES:
        found.append(Refusal("split-mode-unknown", f"--split-mode {mode}: llama.cpp has {', '.join(SPLIT_MODES)}"))
    vendor = (hardware.vendor or "").lower() if hardware is not None else ""
    if mode == "row" and vendor in ("nvidia", "amd") and serving.constants.at_least(READ):
        told = f"llama.cpp {READ} has no split buffers for {vendor.upper()} devices"
        found.append(Refusal("split-mode-row", f"--split-mode row: {told}; use --split-mode layer, or tensor"))
    if mode == "tensor" and str(values.get("--flash-attn")).lower() in OFF:
        found.append(
            Refusal("split-mode-tensor", "--split-mode tensor needs flash attention; leave out --flash-attn off")
        )
    if hardware is not None and (vendor == "google" or (hardware.architecture or "").startswith("Gaudi")):
        found.append(Refusal("no-backend", f"llama.cpp has no backend for {hardware.name}"))
    return found


def _mixers(spec: ModelSpec) -> tuple[Mixer, ...]:
    return tuple(dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers))
