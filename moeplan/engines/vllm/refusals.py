"""Why vLLM would not start, beyond memory: each with the arithmetic, and a way out that was computed.

Sources: vLLM 0.33.0 config/model.py, config/parallel.py, model files, utils/fp8_utils.py:validate_fp8_block_shape,
v1/attention/backends/mla/*sparse*.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.layout import Layout
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import CompressedAttention, DenseFfn, GroupedAttention, LatentAttention, ModelSpec, MoeFfn
from moeplan.core.quant import block_shape

DROPPED = {"arctic": "0.28", "grok": "0.24", "minimax": "0.23"}
"""Families that vLLM served until this release (model_executor/models/registry.py:_PREVIOUSLY_SUPPORTED_MODELS)."""
NEVER = ("nllb_moe", "openmoe", "switch_transformers")
"""Families without a class in the registry; encoder-decoder models except Whisper were removed."""
LEAST_CAPABILITY = {"mxfp4": 8.0, "nvfp4": 7.5, "fp8": 7.5, "int4": 7.5, "awq": 7.5, "gptq": 6.0}
"""Lowest compute capability by format (model_executor/layers/quantization/*.py:get_min_capability)."""

STRETCHES = ("--hf-overrides", "--rope-scaling", "VLLM_ALLOW_LONG_MAX_MODEL_LEN")
"""Settings with which a length beyond the config's is taken."""
REFINES_EXPERT_BLOCKS = "0.18"
"""Since about this release shards of fp8 expert blocks are refined or padded (fused_moe/oracle/fp8.py); engines of 2025
refused them. Between the two the release is not known."""


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does."""
    spec, layout = serving.spec, serving.layout
    found = [*_unsupported(spec), *_by_card(serving)]
    generation = ((serving.hardware.compute_capability if serving.hardware else None) or "").partition(".")[0]
    if serving.deployment.kv_dtype == "nvfp4" and generation not in ("", "10"):
        found.append(
            Refusal("no-kernel", "an nvfp4 cache needs compute capability 10; leave out --kv-dtype, or use fp8")
        )
    if layout.tp > 1:
        found += indivisible(spec, layout.tp, layout.tp)
        found += _broken_blocks(serving)
    found += _experts(serving) + _context_parallel(spec, layout) + _pipeline(spec, layout) + _length(serving)
    return tuple(dict.fromkeys(found))


def _experts(serving: Serving) -> list[Refusal]:
    """Expert parallelism, redundancy, and the width of experts that are not spread as wholes."""
    spec, layout, found = serving.spec, serving.layout, []
    sparse = [ffn for layer in dict.fromkeys(spec.layers) for ffn in layer.ffns if isinstance(ffn, MoeFfn)]
    if not sparse:
        if layout.ep > 1:
            found.append(
                Refusal("ep-on-dense", "expert parallelism needs experts, and this model has none: leave it out")
            )
        if layout.redundant_experts:
            found.append(
                Refusal("ep-on-dense", "redundant experts need experts, and this model has none: leave them out")
            )
        return found
    experts = max(ffn.num_experts for ffn in sparse)
    if layout.redundant_experts and layout.ep == 1:
        told = f"{layout.redundant_experts} redundant experts need expert parallelism (--enable-expert-parallel --enable-eplb)"
        found.append(Refusal("redundancy-without-ep", told))
    physical = experts + layout.redundant_experts
    if layout.redundant_experts and layout.ep > 1 and physical % layout.ep:
        more = layout.redundant_experts + layout.ep - physical % layout.ep
        told = (
            f"{experts} experts + {layout.redundant_experts} redundant = {physical} do not divide over {layout.ep} ranks; "
            f"{more} redundant experts do"
        )
        found.append(Refusal("experts-not-divisible", told))
    if layout.ep > physical:
        told = f"{layout.ep} expert-parallel ranks outnumber {physical} experts; use at most {physical}"
        found.append(Refusal("ep-beyond-experts", told))
    over = layout.tp * layout.dp
    if layout.ep == 1 and over > 1:
        for width in sorted({ffn.expert_width for ffn in sparse}):
            if width % over:
                told = f"expert width {width} does not divide over {over} ranks; {fitting(width, over)}--enable-expert-parallel"
                found.append(Refusal("width-not-divisible", told + " does"))
    return found


def fitting(units: int, asked: int) -> str:
    """The nearest smaller number of ranks that divides, as the first half of a way out."""
    best = max((count for count in range(1, asked) if units % count == 0), default=1)
    return f"{best} ranks do, or "


def _context_parallel(spec: ModelSpec, layout: Layout) -> list[Refusal]:
    """Rules of config/parallel.py and config/model.py:verify_with_parallel_config."""
    dcp, tp = layout.dcp, layout.tp
    if dcp == 1:
        return []
    if tp % dcp:
        best = max(count for count in range(1, dcp) if tp % count == 0)
        return [
            Refusal(
                "dcp-not-dividing-tp",
                f"tensor parallel {tp} is not divisible by decode context parallel {dcp}; {best} is the nearest that divides",
            )
        ]
    found = []
    for mixer in mixers_of(spec):
        if isinstance(mixer, GroupedAttention) and mixer.window_tokens is not None:
            found.append(
                Refusal("dcp-with-windows", "decode context parallelism takes no sliding-window layers: leave it out")
            )
        if not isinstance(mixer, GroupedAttention) or mixer.window_tokens is not None:
            continue
        heads = mixer.num_kv_heads
        if tp <= heads:
            told = f"decode context parallel {dcp} needs more tensor-parallel ranks ({tp}) than the {heads} key/value heads"
            found.append(Refusal("dcp-too-few-ranks", f"{told}; use --tp {heads * dcp}, or leave it out"))
        elif dcp > tp // heads:
            told = f"decode context parallel {dcp} is more than {tp} ranks / {heads} key/value heads = {tp // heads}"
            found.append(Refusal("dcp-too-many", f"{told}; use at most {tp // heads}"))
        elif mixer.num_heads // heads % dcp:
            told = f"{mixer.num_heads} / {heads} = {mixer.num_heads // heads} query heads per key/value head do not divide by {dcp}"
            found.append(Refusal("dcp-too-many", f"{told}; leave --dcp out"))
    return found


def _pipeline(spec: ModelSpec, layout: Layout) -> list[Refusal]:
    if layout.pp > len(spec.layers):
        told = f"{layout.pp} pipeline stages outnumber the {len(spec.layers)} layers; use at most {len(spec.layers)}"
        return [Refusal("stages-beyond-layers", told)]
    return []


def _length(serving: Serving) -> list[Refusal]:
    """Longer than the model states, with nothing that stretches it (config/model.py:_get_and_verify_max_len)."""
    most, asked = serving.spec.max_context_tokens, serving.deployment.context_tokens
    if most is None or asked <= most or any(flag in serving.deployment.stated for flag in STRETCHES):
        return []
    told = f"max_model_len {asked:,} is beyond the {most:,} tokens that the model's config states"
    return [
        Refusal(
            "context-beyond-model", f"{told}; use --context {most}, or stretch it with --hf-overrides (rope scaling)"
        )
    ]


def _unsupported(spec: ModelSpec) -> list[Refusal]:
    if spec.family in DROPPED:
        return [Refusal("not-supported", f"vLLM served {spec.family} until {DROPPED[spec.family]}; 0.33.0 does not")]
    if spec.family in NEVER:
        return [Refusal("not-supported", f"vLLM 0.33.0 does not serve {spec.family}; try --engine transformers")]
    return []


def _by_card(serving: Serving) -> list[Refusal]:
    spec, quantisation, hardware = serving.spec, serving.quantisation, serving.hardware
    capability = float(hardware.compute_capability) if hardware and hardware.compute_capability else None
    if capability is None or hardware is None:
        return []
    found = []
    sparse = any(
        isinstance(mixer, CompressedAttention) or (isinstance(mixer, LatentAttention) and mixer.indexer is not None)
        for mixer in mixers_of(spec)
    )
    if sparse and int(capability) not in (9, 10, 12):
        found.append(
            Refusal(
                "no-kernel",
                f"sparse latent attention needs compute capability 9, 10 or 12; {hardware.name} has {capability}",
            )
        )
    for name in dict.fromkeys(rule.format.name for rule in quantisation.rules):
        least = next((least for start, least in LEAST_CAPABILITY.items() if name.startswith(start)), 0)
        if capability < least:
            told = f"{name} needs compute capability {least}; {hardware.name} has {capability}"
            found.append(Refusal("no-kernel", told))
    return found


def indivisible(spec: ModelSpec, tp: int, dense_tp: int) -> list[Refusal]:
    """Heads and dense widths that do not divide over the ranks, with the nearest number of ranks that does."""
    found = []
    for mixer in mixers_of(spec):
        for what, units in divided_units(mixer):
            if units % tp:
                told = f"{units} {what} do not divide over {tp} GPUs; {_nearest(units, tp)}"
                found.append(Refusal("heads-not-divisible", told))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % tp and tp % mixer.num_kv_heads:
            told = (
                f"{mixer.num_kv_heads} key/value heads and {tp} GPUs do not divide; {_nearest(mixer.num_kv_heads, tp)}"
            )
            found.append(Refusal("kv-heads-not-divisible", told))
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn) and ffn.width % dense_tp:
            told = (
                f"feed-forward width {ffn.width} does not divide over {dense_tp} GPUs; {_nearest(ffn.width, dense_tp)}"
            )
            found.append(Refusal("width-not-divisible", told))
    return found


def _nearest(units: int, asked: int) -> str:
    best = max((count for count in range(1, asked) if units % count == 0), default=1)
    return f"--tp {best} does"


def _broken_blocks(serving: Serving) -> list[Refusal]:
    """fp8 in two-dimensional blocks: the shard of every linear layer must be whole blocks.

    Shards of expert weights are refined or padded since 0.18; before, engines refused them as well
    (fused_moe: validate_fp8_block_shape_moe).
    """
    quantisation, tp = serving.quantisation, serving.layout.tp
    if not any(block_shape(rule.format) for rule in quantisation.rules):
        return []
    expert_ranks = 1 if serving.layout.ep > 1 else tp * serving.layout.dp
    strict = not serving.constants.at_least(REFINES_EXPERT_BLOCKS)
    for entry in serving.owned:
        weight = entry.weight
        if not weight.linear or weight.role in ("embedding", "lm_head") or entry.part != "text":
            continue
        routed = weight.role == "routed_experts"
        if routed and not strict:
            continue
        ranks = expert_ranks if routed else tp
        side = {"column": 0, "row": 1}.get(weight.split)
        name = entry.first_name
        if side is None or len(weight.shape) != 2 or weight.shape[side] % ranks:
            continue
        block = block_shape(quantisation.format_of(name, weight.role, linear=True))
        if block is not None and weight.shape[side] // ranks % block[side]:
            module = name.rpartition(".")[0]
            size = weight.shape[side]
            best = max((count for count in range(1, ranks) if size % (count * block[side]) == 0), default=1)
            told = f"{size} / {ranks} = {size // ranks} of {module} is not a multiple of the {block[side]} of its fp8 blocks"
            way = f"--tp {best} keeps them whole" + (", or --enable-expert-parallel" if routed else "")
            return [Refusal("block-not-divisible", f"{told}; {way}")]
    return []
