"""The share of the card that SGLang gives to weights and cache where nobody states one (`--mem-fraction-static`).

Until 0.4.7 a table by tensor-parallel ranks, until 0.5.2 one by card, since 0.5.3 what is left after a reserve for
activations and graphs. The card counts with what nvidia-smi shows as total; sizes are MiB here, as in the engine.
Sources: SGLang 0.5.23 srt/arg_groups/memory_hook.py; srt/server_args.py of 0.4.6, 0.4.7, 0.4.8, 0.5.2, 0.5.3, 0.5.9,
0.5.14 and 0.5.19.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving
from moeplan.core.model import ModelSpec, Tower, Weight
from moeplan.core.units import MIB
from moeplan.engines.sglang.attention import attention_backend
from moeplan.engines.sglang.graphs import decode_graphs, prefill_graph_sizes, prefill_graphs_planned
from moeplan.engines.sglang.layout import a2a_backend, attention_dp
from moeplan.engines.sglang.registry import is_latent, is_multimodal

BY_CARD, BY_TOWER, BY_RESERVE = "0.4.8", "0.5.1", "0.5.3"
AITER_LONG_CONTEXT = 0.85
"""With aiter, the kernels of AMD cards, beyond 8192 tokens (arg_groups/attention_hook.py)."""
LEAST_ACTIVATION_TOKENS = 2048
MIB_PER_ACTIVATION_TOKEN = 1.5
BASE_MIB = 512
LARGE_CARD_MIB, LARGE_CARD_RESERVE_MIB = 60 * 1024, 10 * 1024
PREFILL_GRAPH_MIB, LATENT_PREFILL_GRAPHS_MIB, DEEPEP_PREFILL_GRAPHS_MIB = 8, 1.5 * 1024, 1024
DEEPEP_MIB, DEEPEP_RESERVE_SINCE = 2048, "0.5.15"
TOWER_LAYERS, TOWER_WIDTH = 24, 1024
"""The vision tower that others are held against, and what counts where the config uses other names."""
STATES_LAYERS = ("gemma3", "gemma4", "llama4", "mistral_large4")
"""Models whose vision config says `num_hidden_layers`; the others say `depth`, and count as 24."""


def card_mib(serving: Serving) -> int | None:
    """Total of the card as nvidia-smi prints it; None where no card is known."""
    hardware = serving.hardware
    if hardware is None:
        return None
    size = hardware.visible_bytes or hardware.nominal_bytes or (serving.memory.bytes if serving.memory else 0)
    return size // MIB or None


def default_fraction(serving: Serving, chunk_tokens: int, graph_batch: int) -> float:
    """The share, for the chunk of all data-parallel groups together and the largest batch with a graph."""
    constants, total = serving.constants, card_mib(serving)
    if not constants.at_least(BY_CARD):
        share = _by_ranks(serving, total)
    elif total is None:
        share = 0.95 if constants.at_least("0.5.20") else 0.88
    else:
        newest = constants.at_least(BY_RESERVE)
        reserved = _reserve(serving, total, chunk_tokens, graph_batch) if newest else _card_reserve(serving, total)
        share = round((total - reserved) / total, 3)
    if constants.at_least(BY_TOWER) and runs_towers(serving):
        share *= tower_factor(serving.spec)
    return max(0.0, share)


def taken_off(serving: Serving) -> float:
    """What the share is multiplied with in any case, stated or not: aiter's workspace, and towers until 0.5.0."""
    factor = 1.0
    if attention_backend(serving) == "aiter" and serving.deployment.context_tokens > 8192:
        factor *= AITER_LONG_CONTEXT
    if runs_towers(serving) and not serving.constants.at_least(BY_TOWER):
        factor *= 0.9
    return factor


def runs_towers(serving: Serving) -> bool:
    """Whether pictures or sound are served too."""
    stated = serving.deployment.stated
    alone = stated.get("--language-only") or stated.get("--language-model-only")
    return is_multimodal(serving.spec) and not alone


def graphs_mib(serving: Serving, chunk_tokens: int, graph_batch: int, *, prefill: bool) -> float:
    """What the formula sets aside for graphs of decode and prefill (memory_hook.py:reserve_for_graph_mb)."""
    reserved = 2.0 * graph_batch if decode_graphs(serving) else 0.0
    if prefill:
        if is_latent(serving.spec):
            reserved += LATENT_PREFILL_GRAPHS_MIB
        else:
            reserved += PREFILL_GRAPH_MIB * prefill_graph_sizes(serving, chunk_tokens)
        if a2a_backend(serving.deployment.stated) == "deepep" and serving.constants.at_least(DEEPEP_RESERVE_SINCE):
            reserved += DEEPEP_PREFILL_GRAPHS_MIB
    return reserved


def dp_padding_mib(serving: Serving, graph_batch: int) -> float:
    """What the same formula adds for attention data parallelism: batches of all groups are padded to the largest."""
    dp = attention_dp(serving.layout)
    if dp == 1 or serving.deployment.stated.get("--disaggregation-mode") == "prefill":
        return 0.0
    return graph_batch * dp * (4.5 if graph_batch > 300 else 3)


def tower_factor(spec: ModelSpec) -> float:
    """How much less a model with a vision tower takes (memory_hook.py:adjust_mem_fraction_for_vlm)."""
    tower = next((tower for tower in spec.towers if tower.name == "vision"), None)
    if tower is None or spec.model_type == "qwen3_omni_moe":
        return 1.0  # its vision config stands deeper than the engine looks
    layers, width = _tower_size(spec, tower)
    size = layers * width**2 / (TOWER_LAYERS * TOWER_WIDTH**2)
    return 0.95 * max(0.8, min(1.05, 1.0 - 0.1 * (size - 1.0)))


def _reserve(serving: Serving, total: int, chunk_tokens: int, graph_batch: int) -> float:
    layout, constants = serving.layout, serving.constants
    reserved = BASE_MIB + MIB_PER_ACTIVATION_TOKEN * max(chunk_tokens, LEAST_ACTIVATION_TOKENS)
    reserved += layout.tp * layout.pp / 8 * 1024
    planned = prefill_graphs_planned(serving)
    reserved += graphs_mib(serving, chunk_tokens, graph_batch, prefill=planned) + dp_padding_mib(serving, graph_batch)
    if total > LARGE_CARD_MIB:
        reserved = max(reserved, LARGE_CARD_RESERVE_MIB)
    deepep = a2a_backend(serving.deployment.stated) == "deepep"
    if deepep and decode_graphs(serving) and constants.at_least(DEEPEP_RESERVE_SINCE):
        reserved += DEEPEP_MIB
    return reserved + _draft_reserve(serving)


def _draft_reserve(serving: Serving) -> int:
    """Until 0.5.14 the draft model's weights and cache came out of the reserve."""
    algorithm = str(serving.deployment.stated.get("--speculative-algorithm") or "").upper()
    if not algorithm or serving.constants.at_least("0.5.15"):
        return 0
    if algorithm == "STANDALONE":
        return 6 * 1024
    if algorithm == "NGRAM":
        return 0
    return 4 * 1024 if serving.constants.at_least("0.5.10") else 2 * 1024


def _card_reserve(serving: Serving, total: int) -> float:
    """0.4.8 to 0.5.2."""
    ranks = serving.layout.tp * serving.layout.pp
    if total < 35 * 1024:
        reserved = (2.8 + ranks / 10) * 1024
    elif total < 90 * 1024:
        reserved = (9.5 + ranks / 2) * 1024
    elif total < 160 * 1024:
        reserved = (12 + ranks / 2) * 1024
    else:
        reserved = 32 * 1024
    reserved += 2 * 1024 if serving.deployment.stated.get("--speculative-algorithm") else 0
    return reserved + (4 * 1024 if serving.layout.dp_attention else 0)


def _by_ranks(serving: Serving, total: int | None) -> float:
    """Until 0.4.7."""
    newer, drafts = serving.constants.at_least("0.4.7"), bool(serving.deployment.stated.get("--speculative-algorithm"))
    ranks = serving.layout.tp * (serving.layout.pp if newer else 1)
    if total is not None and total > 81920 and not newer:
        return (total - 13 * 1024) / total
    share = 0.88
    if total is not None and total <= 81920:
        share = next((s for least, s in ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87)) if ranks >= least), share)
    if total is not None and total > 180 * 1000:
        return 0.79
    if total is not None and total > 96 * 1024:
        return min(share + 48 * 1024 * (1 - share) / total, (total - (20 if drafts else 18) * 1024) / total)
    return share * 0.95 if newer and drafts else share


def _tower_size(spec: ModelSpec, tower: Tower) -> tuple[int, int]:
    """Layers and hidden size that the engine finds in the vision config: norms of its layers are as wide."""
    norms = [weight for weight in tower.weights if _is_layer_norm(weight)]
    if not norms or spec.model_type == "kimi_k25":
        return TOWER_LAYERS, TOWER_WIDTH  # Kimi-K2.5 writes vt_hidden_size
    layers = max(weight.count for weight in norms) if spec.model_type in STATES_LAYERS else TOWER_LAYERS
    return layers, max(weight.shape[0] for weight in norms)


def _is_layer_norm(weight: Weight) -> bool:
    return len(weight.shape) == 1 and weight.count > 1 and weight.name.endswith(".weight")
