"""What vLLM keeps beside the checkpoint's weights: 16-bit copies, padding of kernels, adapter slots, a draft's own table;
less what it offloads or does not load."""

from __future__ import annotations

from moeplan.core.adapters import ROLES, adapter_elements, table_elements
from moeplan.core.deployment import Serving, Settings
from moeplan.core.layout import Division, Place
from moeplan.core.ledger import Line, Why, line
from moeplan.core.mixers import absorbed_elements
from moeplan.core.model import MoeFfn
from moeplan.core.placement import RankView, places, rank_bytes
from moeplan.core.quant import Holding, holdings
from moeplan.engines.vllm.doubts import leaves_out
from moeplan.engines.vllm.kernels import MXFP4_PADDING, Padding, expert_backend, expert_format, padded_share, padding
from moeplan.engines.vllm.layout import division
from moeplan.engines.vllm.settings import loads_drafts

COPY_ELEMENT_BYTES = 2

OFFLOADS_TOWERS = "0.33"
"""Since this release, or an earlier one that was not read, towers are offloaded too (models/interfaces.py)."""
ADAPTS_EXPERTS = "0.11.1"
"""Since this release or the next routed experts have adapter slots (PR 21229, lora/layers/fused_moe.py)."""
TABLE_SLOTS = (
    "exaone4", "exaone_moe", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "jamba", "lfm2", "lfm2_moe",
    "llama", "llama4", "mixtral", "nemotron", "nemotron_h", "phi3", "phimoe", "qwen3", "qwen3_5", "qwen3_5_moe",
    "qwen3_moe", "qwen3_omni_moe", "qwen3_vl_moe",
)  # fmt: skip
"""Model types whose class has slots for input table and head too (`embedding_modules` in model_executor/models, or in the
class that theirs is made of)."""


def weight_lines(serving: Serving, settings: Settings, rank: RankView) -> tuple[Line, ...]:
    """All such lines of one rank; they count as weights, as in the engine's own `Model loading took`."""
    found = (
        _absorbed(rank),
        _expert_padding(serving, settings, rank),
        _adapters(serving, settings, rank),
        _draft_table(serving, rank),
        _left_out_towers(settings, rank),
        _offloaded(serving, settings, rank),
    )
    return tuple(entry for entry in found if entry is not None)


def _absorbed(rank: RankView) -> Line | None:
    elements = absorbed_elements(rank.spec, rank.division.attention)
    if not elements:
        return None
    why = Why(
        "layers x kv_lora_rank x heads / tp x (qk_nope_head_dim + v_head_dim) x 2 B",
        {"elements": elements},
        "vLLM 0.33.0 layers/attention/mla_attention.py: W_UK and W_UV stay beside kv_b_proj",
    )
    size = COPY_ELEMENT_BYTES * elements
    return line("absorbed_projections", "latent attention, 16-bit copies", size, "derived", why, role="attention")


def _expert_padding(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """What kernels add to experts whose sizes they cannot take; a band where it was not stated which kernels run."""
    held = next((entry for entry in rank.weights if entry.role == "routed_experts"), None)
    ffn = next((ffn for layer in rank.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), None)
    experts = expert_format(serving)
    if held is None or ffn is None or experts is None:
        return None
    hidden = ffn.latent_size or rank.spec.hidden_size
    backend = expert_backend(serving, settings)
    ranks = rank.division.expert_tp

    def added(pad: Padding) -> float:
        return held.bytes * (padded_share(ffn, hidden, ranks, pad) - 1)

    likely = added(padding(experts, backend, hidden))
    stated = settings.text("--moe-backend") not in (None, "auto")
    others = [likely]
    if experts.startswith("mxfp4"):
        amd = serving.hardware is not None and serving.hardware.vendor == "amd"
        others = [0.0, *(added(pad) for name, pad in MXFP4_PADDING.items() if (name == "aiter") == amd)]
    if not any((likely, *others)):
        return None
    why = Why(
        "expert bytes x (width of one rank and hidden size as the kernels round them up, over their sizes - 1)",
        {
            "expert_bytes": held.bytes,
            "hidden_size": hidden,
            "expert_width": ffn.expert_width,
            "width_ranks": ranks,
            "backend": backend,
        },
        "vLLM 0.33.0 fused_moe/oracle/*.py, quantization/utils/marlin_utils*.py; "
        + ("the kernels were stated" if stated else "the kernels were inferred from card and format"),
    )
    return line(
        "expert_padding", "padding of expert kernels", likely, "derived" if stated else "assumed", why,
        role="routed_experts",
        low_bytes=likely if stated else min(likely, *others),
        high_bytes=likely if stated else max(likely, *others),
    )  # fmt: skip


def _adapters(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    """Slots of LoRA adapters, allocated whole at start for every module that takes adapters: linear ones with the
    router's, routed experts, and input table and head of some classes.

    The low end leaves out all but plain linear modules, as for a model whose class takes no adapters on them. Sources:
    vLLM 0.33.0 lora/utils.py:get_supported_lora_modules, lora/model_manager.py:_create_lora_modules (no adapters on the
    router of Nemotron-H), lora/layers.
    """
    if not settings.on("--enable-lora"):
        return None
    spec, owned = serving.spec, serving.owned
    slots = settings.count("--max-loras") or 1
    width = settings.count("--max-lora-rank") or 16
    replicated = () if spec.model_type == "nemotron_h" else ("router",)
    least, _ = adapter_elements(owned, rank, width)
    plain, experts = adapter_elements(owned, rank, width, (*ROLES, "moe_latent", *replicated))
    tables = table_elements(spec, rank, width) if spec.model_type in TABLE_SLOTS else 0
    most = plain + experts + tables
    middle = most if serving.constants.at_least(ADAPTS_EXPERTS) else most - experts
    size = COPY_ELEMENT_BYTES * slots
    why = Why(
        "max_loras x max_lora_rank x (in + out features of every module that takes adapters, on this rank) x 2 B",
        {
            "max_loras": slots,
            "max_lora_rank": width,
            "routed_expert_bytes": size * experts,
            "table_bytes": size * tables,
        },
        "vLLM 0.33.0 lora/utils.py and lora/layers; the low end has slots for plain linear modules alone",
    )
    return line(
        "adapter_slots", "LoRA adapter slots", size * middle, "derived", why,
        low_bytes=size * least, high_bytes=size * most,
    )  # fmt: skip


def _draft_table(serving: Serving, rank: RankView) -> Line | None:
    """The draft layers' own input table, which they share with the model only where there is one stage.

    Source: vLLM 0.33.0 v1/spec_decode/llm_base_proposer.py:_maybe_share_embeddings, v1/worker/gpu/spec_decode/eagle/
    utils.py:maybe_share_target_embed. The head is shared: it stands on the draft's own stage.
    """
    spec, stage, division = serving.spec, rank.place.stage, rank.division
    if spec.mtp is None or serving.layout.pp == 1 or not stage.is_last or not loads_drafts(serving.deployment.stated):
        return None
    padded = -(-spec.vocab_size // division.vocabulary_padding) * division.vocabulary_padding
    size = COPY_ELEMENT_BYTES * -(-padded // division.embedding) * spec.hidden_size
    why = Why(
        "padded vocabulary / tp x hidden size x 2 B",
        {"vocab_size": spec.vocab_size, "tensor_parallel": division.embedding, "hidden_size": spec.hidden_size},
        "vLLM 0.33.0 v1/spec_decode/llm_base_proposer.py: shared with the model without pipeline stages alone",
    )
    return line("draft_embedding", "draft layers, own input table", size, "derived", why, role="embedding")


def _left_out_towers(settings: Settings, rank: RankView) -> Line | None:
    """`--language-model-only` loads no tower (vLLM 0.33.0 config/multimodal.py, models/interfaces.py)."""
    size = sum(entry.bytes for entry in rank.weights if entry.role == "towers")
    if not size or not settings.on("--language-model-only"):
        return None
    why = Why("bytes of all towers", {}, "vLLM 0.33.0 config/multimodal.py: language_model_only")
    return line("towers_left_out", "towers that are not loaded", -size, "derived", why, role="towers")


def _offloaded(serving: Serving, settings: Settings, rank: RankView) -> Line | None:
    size = offloaded_bytes(serving, settings, rank.place, rank.division)
    if not size:
        return None
    why = Why(
        "min(cpu_offload_gb per GPU, weights of the layers on this rank)",
        {"cpu_offload_bytes": settings.count("--cpu-offload-gb")},
        "vLLM 0.33.0 config/offload.py, model_executor/offloader/uva.py",
    )
    return line("offloaded_weights", "weights kept in host memory", -size, "derived", why)


def offloaded_bytes(serving: Serving, settings: Settings, place: Place, of: Division) -> int:
    """Bytes that one rank keeps in host memory: what is stated, at most the weights of its layers.

    Input table, head and final norm stay on the device, and so do the draft layers: only what `make_layers` builds, and
    towers, is wrapped. Source: vLLM 0.33.0 model_executor/offloader/uva.py:wrap_modules, models/utils.py:make_layers.
    """
    asked = settings.count("--cpu-offload-gb")
    if not asked:
        return 0
    wrapped = (each for each in holdings(serving.owned, serving.quantisation) if _is_wrapped(serving, settings, each))
    return min(asked, sum(rank_bytes(each, place, of) for each in wrapped))


def all_offloaded_bytes(serving: Serving, settings: Settings) -> int:
    """The same of all ranks together."""
    if not settings.count("--cpu-offload-gb"):
        return 0
    layers = serving.spec.layers
    experts = (ffn.num_experts for layer in layers for ffn in layer.ffns if isinstance(ffn, MoeFfn))
    of = division(serving, settings)
    return sum(
        len(place.ranks) * offloaded_bytes(serving, settings, place, of)
        for place in places(serving.layout, of, len(layers), max(experts, default=0))
    )


def _is_wrapped(serving: Serving, settings: Settings, holding: Holding) -> bool:
    if holding.part == "text":
        return bool(holding.layers)
    return (
        holding.part == "tower"
        and serving.constants.at_least(OFFLOADS_TOWERS)
        and not settings.on("--language-model-only")
        and leaves_out(holding.weight.name) is None
    )
