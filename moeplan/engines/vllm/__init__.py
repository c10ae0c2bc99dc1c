"""vLLM, as read in its 0.33.0 sources; constants by version in `profiles/engines/vllm.yaml`.

settings    what steers memory, and what each setting is when nobody sets it
budget      the share of the card, or what a stated pool makes of it
layout      degrees, and over how many ranks each part is divided
cache       how the cache is stored
blocks      what the block manager hands out, and what the engine prints of it
kernels     which kernels run the experts, and what they pad
copies      what is kept beside the checkpoint's weights, and what of these is offloaded or not loaded
runtime     workspaces, activations, graphs, context
host        host memory, and the peak while loading
refusals    why it would not start
doubts      what is not modelled
"""

from moeplan.engines.vllm.blocks import managed_cache_bytes, prints
from moeplan.engines.vllm.budget import budget_bytes
from moeplan.engines.vllm.cache import cache_rules, window_accountings
from moeplan.engines.vllm.copies import weight_lines
from moeplan.engines.vllm.doubts import doubts, leaves_out
from moeplan.engines.vllm.host import host_lines, host_share, load_peak_bytes
from moeplan.engines.vllm.kernels import expert_backend
from moeplan.engines.vllm.layout import division, resolve_layout
from moeplan.engines.vllm.refusals import refusals
from moeplan.engines.vllm.runtime import runtime_lines
from moeplan.engines.vllm.settings import loaded_dtype, loads_drafts, settle

__all__ = [
    "budget_bytes",
    "cache_rules",
    "division",
    "doubts",
    "expert_backend",
    "host_lines",
    "host_share",
    "leaves_out",
    "load_peak_bytes",
    "loaded_dtype",
    "loads_drafts",
    "managed_cache_bytes",
    "prints",
    "refusals",
    "resolve_layout",
    "runtime_lines",
    "settle",
    "weight_lines",
    "window_accountings",
]
