"""vLLM, as read in its 0.33.0 sources; constants in `profiles/engines/vllm.yaml`.

settings    what steers memory, and what each setting is when nobody sets it
cache       how the cache is stored, and what the block manager hands out
runtime     copies, workspaces, activations, graphs, context
refusals    why it would not start, and what is not modelled
"""

from moeplan.engines.vllm.cache import cache_rules, managed_cache_bytes, window_accountings
from moeplan.engines.vllm.refusals import doubts, leaves_out, refusals
from moeplan.engines.vllm.runtime import runtime_lines
from moeplan.engines.vllm.settings import VOCABULARY_PADDING, loaded_dtype, settle

__all__ = [
    "VOCABULARY_PADDING",
    "cache_rules",
    "doubts",
    "leaves_out",
    "loaded_dtype",
    "managed_cache_bytes",
    "refusals",
    "runtime_lines",
    "settle",
    "window_accountings",
]
