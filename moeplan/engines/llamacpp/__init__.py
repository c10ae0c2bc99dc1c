"""llama.cpp's server, as read in its sources at build b11312; constants in `profiles/engines/llamacpp.yaml`.

settings      what steers memory, and what each setting is when nobody sets it
layout        which layers are on which device
offload       what stays in host memory
cache_types   types of a cache, and the bytes of a row
cache         cells of keys and values, recurrent states
graph         sizes of one graph: activations, scores, masks
buffers       compute buffers, copies of weights, the device's context
host          host memory beside the weights that stay there
refusals      why it would not start, and what is not modelled
"""

from moeplan.engines.llamacpp.buffers import load_peak_bytes, runtime_lines, weight_lines
from moeplan.engines.llamacpp.cache import cache_rules, managed_cache_bytes, prints, window_accountings
from moeplan.engines.llamacpp.host import host_lines
from moeplan.engines.llamacpp.layout import division, resolve_layout
from moeplan.engines.llamacpp.offload import host_share
from moeplan.engines.llamacpp.refusals import doubts, expert_backend, leaves_out, refusals
from moeplan.engines.llamacpp.settings import budget_bytes, loaded_dtype, loads_drafts, settle

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
