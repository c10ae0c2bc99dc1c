"""llama.cpp's host memory beside the weights that stay there.

With `--load-mode mmap` (default) the file is mapped whole: what is on devices is page cache that the system may take
back, and is not counted. Without, weights pass through four buffers of 1 MiB (llama-model-loader.cpp), not counted either.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import cache_cost, cache_rows
from moeplan.core.ledger import Line, Why, line
from moeplan.engines.llamacpp.buffers import logits_line
from moeplan.engines.llamacpp.cache import cache_rules, layers_bytes
from moeplan.engines.llamacpp.graph import FLOAT_BYTES, graph
from moeplan.engines.llamacpp.layout import is_pipelined, kv_on_host, placed
from moeplan.engines.llamacpp.offload import overrides
from moeplan.engines.llamacpp.settings import chosen, on_cpu, ubatch_tokens

CHECKPOINTS, CHECKPOINT_TOKENS = 32, 8192
"""Context checkpoints per slot, and how far apart they are at least (common/common.h)."""


def host_lines(serving: Serving, settings: Settings) -> tuple[Line, ...]:
    """Pinned compute and output buffers, the cache of layers on the host, and what the server keeps of prompts.

    None on a processor alone, where all of it is in the one memory.
    """
    if on_cpu(serving):
        return ()
    spec, deployment = serving.spec, serving.deployment
    values = chosen(settings)
    context, sequences = deployment.context_tokens, deployment.sequences_per_rank
    tokens = ubatch_tokens(settings, context, sequences)
    source = f"llama.cpp {serving.constants.version}, src/llama-context.cpp"
    copies = int(serving.constants.of("pipeline_copies").value) if is_pipelined(serving, values) else 1
    hidden = FLOAT_BYTES * tokens * spec.hidden_size
    whole = graph(serving, settings, spec.layers)
    # Layers, or experts, on the host run there too, but for matrices that the device computes with a copy of.
    on_host = placed(serving, values).host_layers
    runs = whole.activations if on_host or overrides(values) else 0
    idle = copies * (whole.masks + hidden) + hidden
    found = [
        line(
            "host.compute_buffer", "compute buffer of the host", idle + runs, "assumed" if runs else "derived",
            Why(
                "copies x (masks + embeddings) + embeddings, and activations of what runs on the host",
                {"copies": copies, "ubatch_tokens": tokens, "activations_bytes": runs}, source,
            ),
            low_bytes=idle, high_bytes=idle + runs,
        ),
        logits_line(serving),
    ]  # fmt: skip
    layers = spec.layers if kv_on_host(values) else spec.layers[:on_host]
    cached = layers_bytes(serving, settings, layers, context, sequences)
    if cached:
        why = Why("cache of the layers that stay on the host", {"layers": len(layers)}, source)
        found.append(line("host.kv_cache", "KV cache in host memory", cached, "derived", why))
    found += _prompt_lines(serving, settings)
    return tuple(found)


def _prompt_lines(serving: Serving, settings: Settings) -> list[Line]:
    """Prompts and checkpoints that the server keeps for later requests: limits, which it reaches in time."""
    limit = serving.constants.of("prompt_cache_bytes")
    stated = settings.value("--cache-ram")
    most = int(limit.value) if stated is None else max(0, settings.count("--cache-ram"))
    found = []
    if most:
        why = Why("--cache-ram, a limit: nothing at start", {}, limit.source)
        found.append(line("host.prompt_cache", "prompt cache (limit)", 0, "assumed", why, low_bytes=0, high_bytes=most))
    most = checkpoint_bytes(serving, settings)
    if most:
        why = Why(
            "sequences x checkpoints x (windows + recurrent states), a limit: nothing at start",
            {"checkpoints": _checkpoints(serving, settings)},
            f"llama.cpp {serving.constants.version}, common/common.h n_ctx_checkpoints, checkpoint_min_step",
        )
        found.append(
            line("host.checkpoints", "context checkpoints (limit)", 0, "assumed", why, low_bytes=0, high_bytes=most)
        )
    return found


def checkpoint_bytes(serving: Serving, settings: Settings) -> int:
    """Most bytes of context checkpoints: copies of what does not grow with the context, windows and states."""
    spec, deployment = serving.spec, serving.deployment
    rules = cache_rules(spec, asked=None, scheme=None, weight_dtype=spec.dtype, capability=None)
    fixed = cache_cost(cache_rows(spec), rules, deployment.context_tokens).bytes_per_sequence
    return deployment.sequences_per_rank * _checkpoints(serving, settings) * fixed


def _checkpoints(serving: Serving, settings: Settings) -> int:
    stated = settings.value("--ctx-checkpoints")
    most = CHECKPOINTS if stated is None else settings.count("--ctx-checkpoints")
    return min(most, serving.deployment.context_tokens // CHECKPOINT_TOKENS)
