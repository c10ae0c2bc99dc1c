"""TensorRT-LLM's settings that steer memory, with their defaults, and the share of what is left that the cache gets."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moeplan.core.deployment import Option, Origin, Serving, Settings, Value
from moeplan.core.kv_cache import cache_cost, cache_rows
from moeplan.core.ledger import Line, total_bytes
from moeplan.core.mixers import mixers_of
from moeplan.core.model import LatentAttention
from moeplan.core.placement import RankView, stage_spec, stages
from moeplan.engines.trtllm.cache import cache_rules

FRACTION = "--kv_cache_free_gpu_memory_fraction"
BATCH = "--max_batch_size"
TOKENS = "--max_num_tokens"
BLOCK = "kv_cache_config.tokens_per_block"
MAX_TOKENS = "kv_cache_config.max_tokens"
MAX_BYTES = "kv_cache_config.max_gpu_total_bytes"
SPECULATION = "speculative_config"
PASSED_ON = (
    MAX_TOKENS, MAX_BYTES, "kv_cache_config.max_attention_window", "kv_cache_config.enable_block_reuse",
    "kv_cache_config.host_cache_size", "kv_cache_config.use_kv_cache_manager_v2",
    "kv_cache_config.mamba_ssm_cache_dtype", "moe_tensor_parallel_size", "moe_config.backend",
    "moe_config.max_num_tokens", "moe_config.load_balancer", "cuda_graph_config", "cuda_graph_config.max_batch_size",
    "--enable_chunked_prefill", "--max_beam_width", "--context_parallel_size", "--moe_cluster_parallel_size",
    "enable_lm_head_tp_in_adp",
    "allreduce_strategy", "enable_lora", "lora_config", SPECULATION, "speculative_config.decoding_type",
)  # fmt: skip
"""Settings without a default worth a row: shown when they are stated."""


def settle(serving: Serving) -> Settings:
    """The settings. Batch limits are per rank, also with attention data parallelism.

    More sequences than the default limit are taken as asked for with `--max_batch_size`: else they would wait.
    Source: TensorRT-LLM tensorrt_llm/llmapi/llm_args.py (KvCacheConfig, BaseLlmArgs).
    """
    deployment, stated, layout = serving.deployment, serving.deployment.stated, serving.layout
    fraction, of = deployment.utilization_fraction, serving.constants.of
    sequences = int(of("max_batch_size").value)
    many = deployment.sequences_per_rank > sequences

    def settled(flag: str, value: Value, origin: Origin) -> Option:
        said = stated.get(flag)
        return Option(flag, value, origin) if said is None else Option(flag, said, "stated")

    options = [
        Option(
            FRACTION,
            of("free_gpu_memory_fraction").value if fraction is None else fraction,
            "default" if fraction is None else "stated",
        ),
        Option("--max_seq_len", deployment.context_tokens, "inferred"),
        settled(TOKENS, int(of("max_num_tokens").value), "default"),
        settled(
            BATCH, deployment.sequences_per_rank if many else sequences, "inferred" if many else "default"
        ),
        settled(BLOCK, block_tokens(serving), "default"),
        Option("--tp_size", layout.tp, "inferred"),
        Option("--pp_size", layout.pp, "inferred"),
        Option("--ep_size", layout.ep, "inferred"),
        Option("--enable_attention_dp", layout.dp_attention, "inferred"),
    ]  # fmt: skip
    options += [Option(flag, stated[flag], "stated") for flag in PASSED_ON if flag in stated]
    return Settings(tuple(options))


def block_tokens(serving: Serving) -> int:
    """Tokens of a block when nobody says: 32; 64 for latents on compute capability 9 (FlashMLA), for sparse attention
    and for Kimi's delta models.

    Sources: TensorRT-LLM llmapi/llm_args.py (tokens_per_block), _torch/pyexecutor/py_executor_creator.py
    (enable_flash_mla), attention/backends/sparse/dsa (indexer blocks of 64), models/modeling_kimi_linear.py.
    """
    latents = [mixer for mixer in mixers_of(serving.spec) if isinstance(mixer, LatentAttention)]
    capability = (serving.hardware.compute_capability if serving.hardware else None) or ""
    wide = any(mixer.indexer is not None for mixer in latents) or serving.spec.model_type.startswith("kimi_linear")
    flash = any(mixer.kv_lora_rank == 512 and mixer.qk_rope_head_dim == 64 for mixer in latents)
    wide = wide or (flash and capability.startswith("9."))
    return int(serving.constants.of("latent_block_tokens" if wide else "block_tokens").value)


def budget_bytes(
    serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...], rank: RankView | None = None
) -> int:
    """What is used, and the fraction of what that leaves; `max_tokens` and `max_gpu_total_bytes` cap the cache.

    (total - peak of the profiling pass + cache allocated for it) x free_gpu_memory_fraction, where the peak holds
    weights, workspaces, graphs and context; the cache of the pass cancels out.
    Source: TensorRT-LLM _torch/pyexecutor/_util.py:KvCacheCreator._cal_max_memory, configure_kv_cache_capacity.
    """
    used = total_bytes(lines)
    if used >= memory_bytes:
        return memory_bytes
    pool = int((memory_bytes - used) * settings.share(FRACTION))
    if settings.count(MAX_TOKENS):
        pool = min(pool, int(settings.count(MAX_TOKENS) * _token_bytes(serving)))
    if settings.count(MAX_BYTES):
        pool = min(pool, settings.count(MAX_BYTES))
    return used + pool


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """As the config states it; float32 is taken as bfloat16, which is the default without one (llm_args.py: dtype)."""
    return "bfloat16" if dtype == "float32" else dtype


def loads_drafts(stated: Mapping[str, Value]) -> bool:
    """True for the decoding type that runs the model's own draft layers."""
    text = stated.get(SPECULATION)
    try:
        config = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        config = None
    kind = config.get("decoding_type") if isinstance(config, dict) else stated.get(f"{SPECULATION}.decoding_type")
    return str(kind).upper() == "MTP"


def _token_bytes(serving: Serving) -> float:
    """Bytes of one token on the stage that keeps most."""
    spec, layout, hardware = serving.spec, serving.layout, serving.hardware
    capability = hardware.compute_capability if hardware else None
    rules = cache_rules(
        spec,
        asked=serving.deployment.kv_dtype,
        scheme=serving.quantisation.kv_cache_dtype,
        weight_dtype=loaded_dtype(spec.dtype, capability),
        capability=capability,
    )
    ranks = 1 if layout.dp_attention else layout.tp
    return max(
        cache_cost(cache_rows(stage_spec(spec, stage)), rules, 1, 0, ranks, layout.dcp).bytes_per_token
        for stage in stages(layout, len(spec.layers))
    )
