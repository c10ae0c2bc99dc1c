"""TensorRT-LLM's engine file: what `trtllm-serve --config`, `--extra_llm_api_options` and Dynamo's `--extra-engine-args` take.

The file names no model: the command that reads it does. Its keys become words of `engines/trtllm/flags.py`, one for each
value at the bottom: `kv_cache_config: {dtype: fp8}` is `--kv_cache_config.dtype fp8`. Source of the keys: TensorRT-LLM
tensorrt_llm/llmapi/llm_args.py, 0.17 to 1.3.
"""

from __future__ import annotations

import json
import re

from moeplan.core.deployed import Deployed, Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.stream import Found, Stream

KIND = "trtllm.engine"

OWN = {
    "kv_cache_config", "moe_config", "cuda_graph_config", "cache_transceiver_config", "moe_expert_parallel_size",
    "moe_tensor_parallel_size", "moe_cluster_parallel_size", "enable_attention_dp", "pytorch_backend_config",
    "attention_dp_config", "torch_compile_config", "disable_overlap_scheduler", "print_iter_log", "moe_backend",
    "use_cuda_graph", "enable_lm_head_tp_in_adp", "peft_cache_config", "allreduce_strategy",
}  # fmt: skip
"""Keys that no other program's flat file has."""
_SHARED = {
    "tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size", "max_batch_size", "max_num_tokens",
    "max_seq_len", "max_beam_width", "speculative_config", "backend", "enable_chunked_prefill", "trust_remote_code",
    "free_gpu_memory_fraction", "stream_interval", "gpus_per_node", "quant_config", "build_config", "enable_autotuner",
}  # fmt: skip
_LIFTED = ("pytorch_backend_config",)
"""Up to 0.20 these keys held others that stand on top since."""
_OFF_BY_NULL = ("cuda_graph_config",)
"""Objects that a null switches off; elsewhere a null leaves the default."""
_KEY = re.compile(r"[A-Za-z_]\w*")


def recognises(document: Node) -> bool:
    """A mapping with a key of TensorRT-LLM's own, and a second key that it knows, or known keys below the first."""
    if document.kind != "map" or document.at("apiVersion").there or document.at("kind").there:
        return False
    own = OWN & set(document.entries)
    known = own | (_SHARED & set(document.entries))
    cache = document.at("kv_cache_config")
    return bool(own) and (len(known) > 1 or "free_gpu_memory_fraction" in cache or "dtype" in cache)


def read(document: Node, stream: Stream) -> Found:
    """One engine, whose command is the file's settings alone."""
    deployed = Deployed(KIND, stream.stem, document.key, engine="trtllm", command=engine_words(document))
    return Found((deployed,))


def engine_words(node: Node) -> tuple[Quote, ...]:
    """The words that say what an engine file says, each with the place of its value.

    Where a command reads the file these words belong behind its own: up to 1.2 the file counts where both say something
    (llmapi/llm_args.py: update_llm_args_with_extra_dict).
    """
    words: list[Quote] = []
    for key, value in node.entries.items():
        if key in _LIFTED:
            words += engine_words(value)
        elif _KEY.fullmatch(key):
            words += _top(key, value)
    return tuple(words)


def _top(key: str, value: Node) -> list[Quote]:
    if value.kind == "flag":
        return [Quote(f"--{key}" if value.on else f"--no-{key}", value.spot)]
    if not value.there:
        return _words(f"--{key}", "null", value) if key in _OFF_BY_NULL else []
    return _below(f"--{key}", value)


def _below(flag: str, value: Node) -> list[Quote]:
    """The words of one value, and of all that it holds."""
    match value.kind:
        case "map":
            found = [word for key, inner in value.entries.items() for word in _below(f"{flag}.{key}", inner)]
            return found or _words(flag, "{}", value)
        case "list":
            return _words(flag, json.dumps(value.plain(), separators=(",", ":")), value)
        case "null":
            return []
        case "flag":
            return _words(flag, "true" if value.on else "false", value)
        case _:
            return _words(flag, value.text, value) if value.text.strip() else []


def _words(flag: str, text: str, value: Node) -> list[Quote]:
    """Flag and value; in one word where the value looks like a flag itself."""
    if text.startswith("-"):
        return [Quote(f"{flag}={text}", value.spot)]
    return [Quote(flag, value.spot), Quote(text, value.spot)]
