"""TensorRT-LLM with its PyTorch backend, as read in copies of its sources of 2025 and 2026; constants by version in
`profiles/engines/trtllm.yaml`. Not yet measured: one public log holds against some of it.

settings    what steers memory, what each setting is when nobody sets it, and the share of what is left
layout      degrees, and over how many ranks each part is divided
cache       how the cache is stored
blocks      what the cache manager holds, and what the engine prints of it
kernels     which kernels run the experts, and what they pad
copies      what is kept beside the checkpoint's weights: copies, padding
runtime     workspaces, activations, graphs, context
host        host memory, and the peak while loading
registry    which model types it serves
refusals    why it would not start
doubts      what is not modelled
"""

from moeplan.engines.trtllm.blocks import managed_cache_bytes, prints
from moeplan.engines.trtllm.cache import cache_rules, window_accountings
from moeplan.engines.trtllm.copies import weight_lines
from moeplan.engines.trtllm.doubts import doubts, leaves_out
from moeplan.engines.trtllm.host import host_lines, host_share, load_peak_bytes
from moeplan.engines.trtllm.kernels import expert_backend
from moeplan.engines.trtllm.layout import division, resolve_layout
from moeplan.engines.trtllm.refusals import refusals
from moeplan.engines.trtllm.runtime import runtime_lines
from moeplan.engines.trtllm.settings import budget_bytes, loaded_dtype, loads_drafts, settle

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
