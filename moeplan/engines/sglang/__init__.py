"""SGLang, as read in its 0.5.23 sources; constants by version in `profiles/engines/sglang.yaml`.

registry      what it does by model
layout        degrees, and over how many ranks each part is divided
attention     attention kernels, their page and workspace
graphs        what is captured
fraction      the share of the card where nobody states one
settings      what steers memory, and what each setting is when nobody sets it
cache         how the cache is stored
windows, states, compressed, pools   what it holds for sequences, and what it prints of a pool
budget        what weights, runtime and cache may take
kernels       which kernels run the experts, and what they pad
copies        what is kept beside the checkpoint's weights: copies, padding, adapter slots
runtime       context, communicators, activations, workspaces, graphs
host          host memory, and the peak while loading
refusals, divisibility   why it would not start
doubts        what is not modelled
"""

from moeplan.engines.sglang.budget import budget_bytes
from moeplan.engines.sglang.cache import cache_rules, window_accountings
from moeplan.engines.sglang.copies import weight_lines
from moeplan.engines.sglang.doubts import doubts, leaves_out
from moeplan.engines.sglang.host import host_lines, host_share, load_peak_bytes
from moeplan.engines.sglang.kernels import expert_backend
from moeplan.engines.sglang.layout import division, resolve_layout
from moeplan.engines.sglang.pools import managed_cache_bytes, prints
from moeplan.engines.sglang.refusals import refusals
from moeplan.engines.sglang.runtime import runtime_lines
from moeplan.engines.sglang.settings import loaded_dtype, loads_drafts, settle

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
