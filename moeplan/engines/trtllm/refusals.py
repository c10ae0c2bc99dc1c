"""Why TensorRT-LLM would not start, beyond memory."""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    Mamba2,
    Mixer,
    MoeFfn,
)
from moeplan.core.quant import block_shape
from moeplan.engines.trtllm.kernels import MARLIN_CAPABILITIES, expert_backend, expert_format, runs_on
from moeplan.engines.trtllm.layout import division, is_moe
from moeplan.engines.trtllm.registry import NOT_SERVED, ONE_STAGE
from moeplan.engines.trtllm.settings import FRACTION

UNREAD = ("gguf ", "bitsandbytes ", "gptq ", "awq ", "hqq ", "torchao ", "int4 ", "int8 ")
"""How names of formats begin that its loader does not know (_torch/model_config.py:load_hf_quant_config)."""
LEAST_CAPABILITY = 8.0
CACHE_CAPABILITIES = {"fp8": (8.9, "8.9"), "fp8_ds_mla": (9.0, "9"), "nvfp4": (10.0, "10")}
UNEVEN_SINCE = "1.3"
"""Since then the first expert-parallel ranks take one expert more (fused_moe/interface.py:_compute_ep_partition)."""


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does.

    Sources: TensorRT-LLM mapping.py, llmapi/llm_args.py, _torch/model_config.py, _torch/modules/attention.py,
    _torch/modules/linear.py, _torch/moe/fused_moe.
    """
    found = [
        *_unsupported(serving),
        *_by_card(serving, settings),
        *_experts(serving),
        *_indivisible(serving, settings),
        *_broken_blocks(serving, settings),
    ]
    if serving.layout.pp > len(serving.spec.layers):
        told = f"{serving.layout.pp} pipeline stages, and the model has {len(serving.spec.layers)} layers"
        found.append(Refusal("stages-beyond-layers", told))
    if settings.share(FRACTION) >= 1:
        found.append(Refusal("fraction-too-large", f"{FRACTION} {settings.share(FRACTION):g} must be below 1"))
    return tuple(dict.fromkeys(found))


def _unsupported(serving: Serving) -> list[Refusal]:
    spec, hardware, found = serving.spec, serving.hardware, []
    if spec.model_type in NOT_SERVED:
        told = f"TensorRT-LLM's PyTorch backend has no class for {spec.model_type}; try --engine vllm"
        found.append(Refusal("not-supported", told))
    if serving.layout.pp > 1 and spec.model_type in ONE_STAGE:
        told = f"TensorRT-LLM runs {spec.model_type} without pipeline stages; leave out --pp_size {serving.layout.pp}"
        found.append(Refusal("pp-not-supported", told))
    if hardware is not None and hardware.vendor not in (None, "nvidia"):
        found.append(Refusal("not-supported", f"TensorRT-LLM runs on NVIDIA GPUs, not on {hardware.name}"))
    names = (serving.quantisation.name, *(rule.format.name for rule in serving.quantisation.rules))
    for name in dict.fromkeys(names):
        if name.startswith(UNREAD):
            told = f"TensorRT-LLM does not read {name}; look for a checkpoint in fp8, nvfp4 or mxfp4"
            found.append(Refusal("not-supported", told))
    return found


def _by_card(serving: Serving, settings: Settings) -> list[Refusal]:
    hardware = serving.hardware
    capability = hardware.compute_capability if hardware else None
    if hardware is None or capability is None:
        return []
    number, found = float(capability), []
    if number < LEAST_CAPABILITY:
        told = f"TensorRT-LLM needs compute capability {LEAST_CAPABILITY}; {hardware.name} has {capability}"
        return [Refusal("no-kernel", told)]
    experts, backend = expert_format(serving), expert_backend(serving, settings)
    if experts is not None and runs_on(experts, capability, backend) is False:
        told = f"no kernels for {experts} experts on compute capability {capability} ({hardware.name})"
        if experts.startswith("nvfp4") and capability.startswith(MARLIN_CAPABILITIES):
            told += "; say moe_config.backend MARLIN"
        found.append(Refusal("no-kernel", told))
    dtype = serving.deployment.kv_dtype or serving.quantisation.kv_cache_dtype or ""
    least, shown = CACHE_CAPABILITIES.get(dtype, (0.0, ""))
    if number < least:
        told = f"a {dtype} cache needs compute capability {shown}; {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", told))
    sparse = any(
        isinstance(mixer, CompressedAttention) or (isinstance(mixer, LatentAttention) and mixer.indexer is not None)
        for mixer in mixers_of(serving.spec)
    )
    if sparse and int(number) not in (9, 10, 12):
        told = f"sparse latent attention needs compute capability 9, 10 or 12; {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", told))
    return found


def _experts(serving: Serving) -> list[Refusal]:
    """Expert-parallel degrees against tensor-parallel ranks, experts and slots."""
    layout, ranks = serving.layout, serving.layout.tp * serving.layout.dcp
    if layout.ep == 1:
        if layout.redundant_experts:
            return [
                Refusal("redundancy-without-ep", "the load balancer copies experts between --ep_size ranks; say it too")
            ]
        return []
    if not is_moe(serving.spec):
        return [Refusal("ep-on-dense", f"--ep_size {layout.ep}: the model has no experts")]
    if layout.ep > ranks:
        told = f"--ep_size {layout.ep} is more than the {ranks} ranks of a stage (tp_size)"
        return [Refusal("ep-beyond-tp", told)]
    if ranks % layout.ep:
        told = f"moe_tp x moe_ep must be tp_size: {ranks} ranks do not divide by --ep_size {layout.ep}"
        return [Refusal("ep-not-dividing-tp", told)]
    found = []
    for experts in dict.fromkeys(
        f.num_experts for lay in serving.spec.layers for f in lay.ffns if isinstance(f, MoeFfn)
    ):
        slots = experts + layout.redundant_experts
        if experts < layout.ep:
            found.append(Refusal("ep-beyond-experts", f"{experts} experts do not reach --ep_size {layout.ep} ranks"))
        elif layout.redundant_experts and slots % layout.ep:
            told = f"num_slots {slots} ({experts} experts and {layout.redundant_experts} copies) must divide by {layout.ep}"
            found.append(Refusal("experts-not-divisible", told))
        elif experts % layout.ep and not serving.constants.at_least(UNEVEN_SINCE):
            told = f"{experts} experts do not divide over --ep_size {layout.ep}; TensorRT-LLM {UNEVEN_SINCE} shares them unevenly"
            found.append(Refusal("experts-not-divisible", told))
    return found


def _indivisible(serving: Serving, settings: Settings) -> list[Refusal]:
    split, found = division(serving, settings), []
    ranks = split.attention
    for mixer in mixers_of(serving.spec):
        for what, units in _units(mixer):
            if units % ranks:
                found.append(Refusal("heads-not-divisible", f"{units} {what} do not divide over {ranks} GPUs"))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % ranks and ranks % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {ranks} GPUs do not divide"
            found.append(Refusal("kv-heads-not-divisible", told))
    for ffn in dict.fromkeys(ffn for layer in serving.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn):
            width, over, what = ffn.expert_width, split.expert_tp, "expert width"
        else:
            width, over, what = ffn.width, split.dense_mlp, "feed-forward width"
        if width % over:
            found.append(Refusal("width-not-divisible", f"{what} {width} does not divide over {over} GPUs"))
    return found


def _units(mixer: Mixer) -> tuple[tuple[str, int], ...]:
    """Units that must divide over the ranks of attention; groups of state-space layers are not copied here."""
    if isinstance(mixer, Mamba2):
        return (*divided_units(mixer), ("state-space groups", mixer.num_groups))
    return divided_units(mixer)


def _broken_blocks(serving: Serving, settings: Settings) -> list[Refusal]:
    """fp8 in two-dimensional blocks: scales are cut by whole blocks, so the shard of a weight must be whole blocks."""
    split = division(serving, settings)
    by_role = {
        "attention": split.attention,
        "recurrent": split.attention,
        "dense_mlp": split.dense_mlp,
        "shared_experts": split.shared_experts,
        "routed_experts": split.expert_tp,
    }
    found = []
    for entry in serving.owned:
        weight, ranks = entry.weight, by_role.get(entry.weight.role, 1)
        side = {"column": 0, "row": 1}.get(weight.split)
        if ranks == 1 or entry.part != "text" or not weight.linear or side is None or len(weight.shape) != 2:
            continue
        if weight.shape[side] % ranks:
            continue
        name = entry.first_name
        block = block_shape(serving.quantisation.format_of(name, weight.role, linear=True))
        if block is not None and weight.shape[side] // ranks % block[side]:
            told = f"{weight.shape[side]} / {ranks} of {name.rpartition('.')[0]} is not a multiple of the {block[side]}"
            more = "; give experts whole ranks with --ep_size" if weight.role == "routed_experts" else ""
            found.append(Refusal("block-not-divisible", f"{told} of its fp8 blocks{more}"))
    return found[:1]
