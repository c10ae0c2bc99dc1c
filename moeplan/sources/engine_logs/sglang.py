"""SGLang's log: 2025 to 0.5.23.

Wordings were read in the source of 0.5.23 (srt/model_executor/model_runner.py, model_runner_components/cuda_graph_setup.py and
kv_pool_runtime.py, mem_cache/memory_pool.py, swa_memory_pool.py, kv_cache_configurator.py, managers/scheduler.py) and, for older
versions, in public logs. SGLang prints GB and divides by 2**30. Two digits.
"""

from __future__ import annotations

import re

from moeplan.core.engine_log import EngineLog, FailureKind
from moeplan.sources.engine_logs.arguments import Unreadable, flag_of, pairs, value_of
from moeplan.sources.engine_logs.starts import (
    TORCH_FAILURE_FIGURES,
    TORCH_FAILURES,
    Figure,
    Start,
    Starts,
    figures_in,
    log_of,
    rank_in,
    worded,
)

WORDS = (
    b"GB", b"server_args=", b"max_total_num_tokens=", b"The server is fired up", b"Not enough memory", b"Not enough GPU memory",
    b"Scheduler hit an exception", b"Received sigquit", b"device_name=", b"OutOfMemoryError", b"out of memory. Tried",
)  # fmt: skip
"""A line without any of these tells nothing."""

_LOAD = (
    worded("Load weight begin", r"Load weight begin\. avail mem=<free_before_load_bytes> GB", "GB", 2),
    worded("Load weight end", r"Load weight end\..{0,200}? avail mem=<free_after_load_bytes> GB", "GB", 2),
    worded("Load weight end", r"Load weight end\..{0,200}? mem usage=<weights_bytes> GB", "GB", 2),
)
_POOL = (
    worded(
        "K size", r"KV Cache is allocated\..{0,200}?#tokens: <kv_tokens>, K size: <kv_key_bytes> GB, V size: <kv_value_bytes> GB",
        "GB", 2,
    ),
    worded("KV size", r"KV Cache is allocated\..{0,200}?#tokens: <kv_tokens>, KV size: <kv_bytes> GB", "GB", 2),
)  # fmt: skip
# Pools that are sized after graph capture: what was told before was a bound on addresses, this is the allocation.
_RESIZED = (
    worded("KV cache allocated", r"(?<!draft )KV cache allocated\..{0,200}?#tokens: <kv_tokens>, KV size: <kv_bytes> GB", "GB", 2),
    worded("draft KV cache", r"draft KV cache allocated\..{0,200}?#tokens: <kv_tokens>, KV size: <kv_bytes> GB", "GB", 2, "draft"),
)  # fmt: skip
_WORDINGS = (
    worded("Memory baseline", r"Memory baseline taken\. mem usage=<collectives_bytes> GB", "GB", 2),
    worded("torch distributed ends", r"Init torch distributed ends\..{0,200}?mem usage=<collectives_bytes> GB", "GB", 2),
    worded("SWAKVPool mem", r"SWAKVPool mem usage: <kv_bytes> GB", "GB", 2),
    worded("SWAKVPool mem", r"SWAKVPool mem usage: .{0,200}?swa size: <kv_tokens>", part="window"),
    worded("SWAKVPool mem", r"SWAKVPool mem usage: .{0,200}?full size: <kv_tokens>", part="full"),
    worded(
        "Mamba Cache",
        r"Mamba Cache is allocated\. max_mamba_cache_size: <state_slots>, conv_state size: <conv_state_bytes> ?GB, "
        r"ssm_state size: <ssm_state_bytes> ?GB", "GB", 2,
    ),
    worded("intermediate_ssm", r"intermediate_ssm_state_cache size: <ssm_intermediate_bytes> ?GB", "GB", 2),
    worded("intermediate_conv", r"intermediate_conv_window_cache size: <conv_intermediate_bytes> ?GB", "GB", 2),
    worded("available_bytes=", r"available_bytes=<kv_pool_bytes> GB", "GB", 2),
    worded("unified-memory-pool", r"total_bytes=<kv_pool_bytes> \(="),
    worded("Memory pool end", r"Memory pool end\. avail mem=<free_after_pool_bytes> GB", "GB", 2),
    worded("max_total_num_tokens=", r"max_total_num_tokens=<kv_tokens>, chunked_prefill_size="),
    worded("available_gpu_mem=", r"available_gpu_mem=<free_when_ready_bytes> GB", "GB", 2),
)  # fmt: skip
_GRAPHS = re.compile(r"Capture (?P<of>[\w ]{0,60}?) ?graph end\.")
_GRAPHS_TAIL = (
    worded("mem usage=", r"mem usage=<cuda_graphs_bytes> GB", "GB", 2),
    worded("avail mem=", r"avail mem=<free_after_graphs_bytes> GB", "GB", 2),
)
_POOL_NAME = re.compile(r"(?:^|\] )(?P<name>[\w. -]{0,60}?) ?KV Cache is allocated")
_POOL_NAMES = {"": None, "Full": "full", "SWA": "window"}
_PLAIN_GRAPHS = {"cuda", "npu", "target", "decode", "verify", "xpu", "cpu"}

_PREFIX = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?P<rank>(?: [A-Z_]+\d+)*)\]")
_ARGS = re.compile(r"server_args=(?:ServerArgs\(|\{)")
_SETTLED = re.compile(r"\b(chunked_prefill_size|max_prefill_tokens|max_running_requests)=(\d{1,12})")
_CONTEXT = re.compile(r"\bcontext_len=(\d{1,12})")
_DEVICE = re.compile(r"device_name=([\w.-]+?)(?:,|\.json)")
_FAILURES: dict[str, FailureKind] = {
    "Not enough memory": "memory",
    "Not enough GPU memory": "memory",
    "Scheduler hit an exception": "other",
    "Received sigquit": "other",
    **TORCH_FAILURES,
}
# `server_args` holds every argument with its default; these are the ones that move memory.
_MATTERS = frozenset({
    "revision", "dtype", "kv_cache_dtype", "context_length", "tp_size", "pp_size", "dp_size", "ep_size", "nnodes",
    "attn_cp_size", "dcp_size", "enable_dp_attention", "enable_dp_lm_head", "moe_dense_tp_size", "mem_fraction_static",
    "max_running_requests", "max_total_tokens", "chunked_prefill_size", "max_prefill_tokens", "page_size",
    "swa_full_tokens_ratio", "disable_hybrid_swa_memory", "disable_radix_cache", "disable_cuda_graph", "cuda_graph_max_bs",
    "cuda_graph_bs", "cuda_graph_max_bs_decode", "disable_piecewise_cuda_graph", "enable_symm_mem", "cpu_offload_gb",
    "attention_backend", "moe_runner_backend", "moe_a2a_backend", "ep_num_redundant_experts", "enable_eplb",
    "max_mamba_cache_size", "mamba_full_memory_ratio", "mamba_ssm_dtype", "mamba_scheduler_strategy",
    "speculative_algorithm", "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens",
    "speculative_draft_model_path", "enable_lora", "max_lora_rank", "max_loras_per_batch", "enable_multimodal",
    "enable_hierarchical_cache", "hicache_ratio", "hicache_size", "disable_shared_experts_fusion", "json_model_override_args",
    "kt_num_gpu_experts", "quantize_and_serve", "torchao_config",
})  # fmt: skip
_UNSTATED = {None, False, "", "auto", "{}"}


class SglangLog:
    """Reads SGLang's lines one by one."""

    words = WORDS

    def __init__(self) -> None:
        self.starts = Starts("sglang")

    def feed(self, number: int, text: str) -> None:
        """One line that holds one of `words`."""
        if opening := _ARGS.search(text):
            self.starts.begin(number, "server_args")
            _arguments(self.starts.now, text, opening.end())
            return
        start = self.starts.now
        prefix = _PREFIX.search(text)
        process = prefix["rank"].strip() if prefix else ""
        for found in _figures(start, process, text):
            self.starts.recognised = True
            start.tell(found, number, process)
        if "max_total_num_tokens=" in text:
            start.argue({flag_of(name): int(value) for name, value in _SETTLED.findall(text)})
            if context := _CONTEXT.search(text):
                start.argue({"--context-length": int(context[1])})
        if device := _DEVICE.search(text):
            start.gpu_name = device[1].replace("_", " ")
        if "The server is fired up" in text:
            self.starts.recognised = True
            start.up()
            return
        start.fail(text, number, _FAILURES)
        if start.started is False and self.starts.recognised:
            for found in figures_in(text, TORCH_FAILURE_FIGURES):
                start.tell(found, number, process)

    def log(self) -> EngineLog | None:
        """The last start; None where no figure was told."""
        start = self.starts.told()
        if start is None:
            return None
        told = {reading.quantity for reading in start.readings.values()}
        complete = start.started is not None or "kv_tokens" in told
        cut = (
            None
            if complete
            else "the log stops before SGLang tells its cache; lines `KV Cache is allocated` are missing"
        )
        ranks = {key[1]: rank_in(key[1].split()) for key in start.readings}
        return log_of("sglang", start, ranks, cut)


def _figures(start: Start, process: str, text: str) -> list[Figure]:
    """The figures of a line. A rank that loads, or allocates, a second time does so for its draft model."""
    if graphs := _GRAPHS.search(text):
        name = " ".join(word for word in graphs["of"].lower().split() if word not in _PLAIN_GRAPHS)
        return [found._replace(part=name or None) for found in figures_in(text, _GRAPHS_TAIL)]
    if found := list(figures_in(text, _RESIZED)):
        return found
    for quantity, wordings in (("free_after_load_bytes", _LOAD), ("free_after_pool_bytes", _POOL)):
        if found := list(figures_in(text, wordings)):
            named = _POOL_NAME.search(text)
            pool = _POOL_NAMES.get(named["name"], named["name"]) if named else None
            draft = _draft(start, quantity, process)
            part = " ".join(word for word in (draft, pool) if word) or None
            return [figure._replace(part=figure.part or part) for figure in found]
    found = list(figures_in(text, _WORDINGS))
    if "SWAKVPool mem" in text:  # its two pools were told before; older versions do not say which is which
        start.forget(("kv_key_bytes", "kv_value_bytes"), process)
    if "max_total_num_tokens=" not in text:
        draft = _draft(start, "free_after_pool_bytes", process)
        found = [figure._replace(part=" ".join(filter(None, (draft, figure.part))) or None) for figure in found]
    return found


def _draft(start: Start, closing: str, process: str) -> str | None:
    """`draft` where this process has told `closing`, the last figure of the phase, before."""
    return "draft" if (closing, process, None, None) in start.readings else None


def _arguments(start: Start, text: str, begin: int) -> None:
    for name, spelled in pairs(text, begin):
        if name not in _MATTERS and name not in {"model_path", "quantization"}:
            continue
        try:
            value = value_of(spelled)
        except Unreadable:
            start.unread.add(flag_of(name))
            continue
        if name == "model_path":
            start.model = value if isinstance(value, str) else None
        elif name == "quantization":
            start.quantization = value if isinstance(value, str) else None
        elif value not in _UNSTATED:
            start.argue({flag_of(name): value})
