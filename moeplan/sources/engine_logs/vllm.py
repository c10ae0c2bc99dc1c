"""vLLM's log: V0 and V1, 0.6 to 0.33.

Wordings were read in the source of 0.33.0 (v1/worker/gpu_worker.py, gpu_model_runner.py, v1/core/kv_cache_utils.py and
kv_cache_planning.py, utils/mem_utils.py) and, for older versions, in public logs. vLLM prints GiB; versions up to 0.8 called
it GB and divided by 2**30 all the same. Two digits, without zeros at the end.
"""

from __future__ import annotations

import re

from moeplan.core.engine_log import EngineLog, LogRank
from moeplan.sources.engine_logs.arguments import Unreadable, flag_of, is_secret, pairs, safe_text, value_of
from moeplan.sources.engine_logs.starts import Start, Starts, figures_in, log_of, rank_in, worded

WORDS = (
    b"GiB", b" GB and ", b"took ", b"KV cache size", b"Maximum concurrency", b" blocks: ", b"num_gpu_blocks", b"args: ",
    b"LLM engine (v", b"server version", b"is assigned as", b"max_num_batched_tokens=", b"device_name=", b"block size to",
    b"startup complete", b"No available memory for the cache", b"failed to start", b"max seq len", b"Auto-fit max_model_len",
    b"kv cache memory in use",
)  # fmt: skip
"""A line without any of these tells nothing."""

_WORDINGS = (
    worded("took", r"(?:Model loading|Loading model weights) took <weights_bytes> Gi?B", "GiB", 2),
    worded("Peak GPU memory", r"Peak GPU memory after loading weights: <load_peak_bytes> GiB", "GiB", 2),
    worded("weights take", r"model weights take <weights_bytes>GiB", "GiB", 2),
    worded("non_torch_memory", r"non_torch_memory takes <non_torch_bytes>GiB", "GiB", 2),
    worded("activation peak", r"PyTorch activation peak memory takes <activation_peak_bytes>GiB", "GiB", 2),
    worded("reserved for KV", r"memory reserved for KV Cache is <kv_pool_bytes>GiB", "GiB", 2),
    worded("total_gpu_memory", r"total_gpu_memory \(<total_memory_bytes>GiB\) x .*? = <budget_bytes>GiB", "GiB", 2),
    # The profiler's own summary, at debug level; the older one tells torch and the rest apart.
    worded(
        "non-torch forward increase",
        r"torch peak memory increase: <activation_peak_bytes>GiB; non-torch forward increase memory: <non_torch_bytes>GiB; "
        r"weights memory: <weights_bytes>GiB",
        "GiB", 2,
    ),
    worded(
        "total consumed", r"total consumed \(.*?\): <consumed_bytes>GiB; weights memory: <weights_bytes>GiB", "GiB", 2
    ),
    worded(
        "Requested memory",
        r"Initial free memory: <free_before_load_bytes> GiB; Requested memory: \S+ \(util\), <budget_bytes> GiB", "GiB", 2,
    ),
    worded("requested memory: ", r"worker requested memory: <budget_bytes>GiB", "GiB", 2),
    worded("Available KV", r"Available KV cache memory: <kv_pool_bytes> GiB", "GiB", 2),
    worded(
        "as specified by kv_cache_memory_bytes",
        r"Initial free memory <free_before_load_bytes> GiB, reserved <kv_pool_bytes> GiB memory for KV Cache", "GiB", 2,
    ),
    worded("KV cache size", r"KV cache size: <kv_tokens> tokens"),
    worded(
        "Maximum concurrency",
        r"Maximum concurrency for <concurrency_context_tokens> tokens per request: <max_concurrency>x",
    ),
    worded(" blocks: ", r"# (?!CPU)\w+ blocks: <num_blocks>"),
    worded("num_gpu_blocks is", r"num_gpu_blocks is: <num_blocks>"),
    worded("num_gpu_blocks_override", r"num_gpu_blocks_override=<num_blocks>"),
    worded("block size to", r"Setting (?:attention|kv cache) block size to <block_tokens>"),
    worded("Graph capturing", r"Graph capturing finished in .*? took <cuda_graphs_bytes> GiB", "GiB", 2),
    worded(
        "Encoder graph", r"Encoder graph capturing finished in .*? took <cuda_graphs_bytes> GiB", "GiB", 2, "encoder"
    ),
    worded("Estimated CUDA graph", r"Estimated CUDA graph memory: <cuda_graphs_estimate_bytes> GiB", "GiB", 2),
    worded(
        "CUDA graph pool",
        r"CUDA graph pool memory: <cuda_graphs_bytes> GiB \(actual\), <cuda_graphs_estimate_bytes> GiB \(estimated\)",
        "GiB", 2,
    ),
    worded(
        "Free memory on device",
        r"Free memory on device[^(]*\(<free_before_load_bytes>/<total_memory_bytes> GiB\) on startup", "GiB", 2,
    ),
    worded("GPU memory utilization", r"GPU memory utilization (?:is )?\([\d.]+, <budget_bytes> GiB\)", "GiB", 2),
    worded(
        "for weight",
        r"Actual usage(?: is|:) <weights_bytes> GiB for weights?, <activation_peak_bytes> GiB for peak activation, "
        r"<non_torch_bytes> GiB for non-torch memory, (?:and )?<cuda_graphs_bytes> GiB for", "GiB", 2,
    ),
    # Since 2026 the estimate for graphs is in the activation peak of this line (gpu_worker.py: peak_activation_memory).
    worded(
        "for consumed memory",
        r"Actual usage is <consumed_bytes> GiB for consumed memory \(.*?\), <activation_and_graphs_bytes> GiB for peak "
        r"activation, and <cuda_graphs_bytes> GiB for", "GiB", 2,
    ),
    worded("in use is", r"kv cache memory in use is <kv_pool_bytes> GiB", "GiB", 2),
    worded("in use is", r"kv cache memory in use is <kv_pool_bytes> bytes"),
    worded(
        "KV cache is needed",
        r"max seq len \(\d+\), \(?<kv_needed_bytes> GiB KV cache is needed, which is larger than the available KV cache "
        r"memory \(<kv_pool_bytes> GiB\)", "GiB", 2,
    ),
    worded("estimated maximum model length", r"estimated maximum model length is <kv_max_context_tokens>"),
    worded("stored in KV cache", r"tokens that can be stored in KV cache \(<kv_tokens>\)"),
)  # fmt: skip

_TAG = re.compile(r"\((?P<name>[A-Za-z][\w ]*?)(?: rank=(?P<world>\d{1,5}))? pid=(?P<pid>\d+)")
_ASSIGNED = re.compile(
    r"rank (\d+) in world size (\d+) is assigned as DP rank (\d+), PP rank (\d+),.*?\bTP rank (\d+)(?:, EP rank (\d+))?"
)
_VERSION = re.compile(r"(?:LLM engine \(v|(?:API )?server version )([\w.+-]+)")
_SERVING = re.compile(r"server version \S+, serving model (\S+)")
_ARGS = re.compile(r"non-default args: \{|\bargs: Namespace\(")
_CONFIG = re.compile(r"with config: ")
_UTILIZATION = re.compile(r"gpu_memory_utilization \(([\d.]+)\)|GPU memory utilization (?:is )?\(([\d.]+),")
_BATCHED = re.compile(r"max_num_batched_tokens=(\d{1,12})")
_AUTO_FIT = re.compile(r"Auto-fit max_model_len: (?:reduced from \d+ to|full model context length) (\d{1,12})")
_DEVICE = re.compile(r"device_name=([\w.-]+?)(?:,|\.json)")
_WORKERS = ("Worker", "VllmWorker", "RayWorker")
_FAILURES = (
    "KV cache is needed", "No available memory for the cache", "failed to start", "out of memory", "OutOfMemoryError",
    "stored in KV cache", "is less than desired", "exceed the desired GPU memory",
)  # fmt: skip
# What the config line says that flags say too, and what of `Namespace(...)`, which prints all defaults, matters to memory.
_CONFIG_FLAGS = {
    "revision": "--revision", "dtype": "--dtype", "max_seq_len": "--max-model-len",
    "tensor_parallel_size": "--tensor-parallel-size", "pipeline_parallel_size": "--pipeline-parallel-size",
    "data_parallel_size": "--data-parallel-size", "decode_context_parallel_size": "--decode-context-parallel-size",
    "enforce_eager": "--enforce-eager", "kv_cache_dtype": "--kv-cache-dtype",
    "enable_prefix_caching": "--enable-prefix-caching", "enable_chunked_prefill": "--enable-chunked-prefill",
    "chunked_prefill_enabled": "--enable-chunked-prefill",
}  # fmt: skip
_NAMESPACE = frozenset(
    "revision dtype kv_cache_dtype max_model_len pipeline_parallel_size tensor_parallel_size data_parallel_size "
    "enable_expert_parallel block_size swap_space cpu_offload_gb gpu_memory_utilization num_gpu_blocks_override "
    "max_num_batched_tokens max_num_seqs quantization enforce_eager enable_lora max_loras max_lora_rank "
    "enable_prefix_caching enable_chunked_prefill speculative_config compilation_config hf_overrides".split()
)
_UNSTATED = {None, False, "auto", ""}
_NOT_FLAGS = {"model", "model_tag", "subparser", "config", "dispatch_function"}


class VllmLog:
    """Reads vLLM's lines one by one."""

    def __init__(self) -> None:
        self.starts = Starts("vllm")
        self.assigned: dict[str, LogRank] = {}
        self.stated: dict[str, set[str]] = {}

    def feed(self, number: int, text: str) -> None:
        """One line that holds one of `WORDS`."""
        process, front = _process_of(text)
        self._head(number, text, front)
        start = self.starts.now
        for found in figures_in(text, _WORDINGS):
            self.starts.recognised = True
            start.tell(found, number, process)
        if assigned := _ASSIGNED.search(text):
            self._assign(process, assigned)
        self._settings(start, text)
        if "startup complete" in text or "init engine (" in text:
            start.end(up=True)
        elif any(words in text for words in _FAILURES):
            start.end(up=False)

    def _head(self, number: int, text: str, front: str) -> None:
        """Lines that open a start; each process that prints one prints it once."""
        told_version = _VERSION.search(text)
        opening = _ARGS.search(text)
        if told_version is None and opening is None:
            return
        self.starts.begin(number, f"{'args' if opening else told_version and told_version[0][:10]} {front}")
        start = self.starts.now
        if told_version:
            start.version = told_version[1]
        if serving := _SERVING.search(text):
            start.model = safe_text(serving[1])
        if opening:
            self._arguments(start, text, opening)
        elif config := _CONFIG.search(text):
            _config(start, text, config.end())

    def _arguments(self, start: Start, text: str, opening: re.Match[str]) -> None:
        all_defaults = "Namespace" in opening[0]
        for name, spelled in pairs(text, opening.end()):
            if is_secret(name):
                continue
            try:
                value = value_of(spelled)
            except Unreadable:
                if not all_defaults or name in _NAMESPACE:
                    start.unread.add(flag_of(name))
                continue
            if name == "model" and isinstance(value, str):
                start.model = value
            elif all_defaults and (name not in _NAMESPACE or value in _UNSTATED):
                continue
            elif name not in _NOT_FLAGS:
                start.argue({flag_of(name): value})

    def _settings(self, start: Start, text: str) -> None:
        """Settings that other lines tell in passing."""
        if found := _UTILIZATION.search(text):
            start.argue({"--gpu-memory-utilization": float(found[1] or found[2])})
        if "Chunked prefill" in text and (found := _BATCHED.search(text)):
            start.argue({"--max-num-batched-tokens": int(found[1])})
        if found := _AUTO_FIT.search(text):
            start.argue({"--max-model-len": int(found[1])})
        if found := _DEVICE.search(text):
            start.gpu_name = found[1].replace("_", " ")

    def _assign(self, process: str, found: re.Match[str]) -> None:
        world, size, dp, pp, tp, ep = (int(number) if number else None for number in found.groups())
        if process in self.assigned and not process:
            del self.assigned[process]  # several ranks without a name: whose lines are whose cannot be told
        elif size != 1:
            self.assigned[process] = LogRank(dp, pp, tp, ep, world)

    def log(self) -> EngineLog | None:
        """The last start; None where no figure was told."""
        start = self.starts.told()
        if start is None:
            return None
        told = {reading.quantity for reading in start.readings.values()}
        complete = start.started is not None or "kv_tokens" in told or "num_blocks" in told
        cut = None if complete else "the log stops before vLLM tells its cache; lines `GPU KV cache size` are missing"
        return log_of("vllm", start, self._ranks(start), cut)

    def _ranks(self, start: Start) -> dict[str, LogRank | None]:
        processes = {key[1] for key in start.readings}
        nameless = [process for process in processes if " pid=" in process and process not in self.assigned]
        ranks: dict[str, LogRank | None] = {}
        tp_size = start.arguments.get("--tensor-parallel-size")
        for process in processes:
            rank = self.assigned.get(process) or _rank_of(process, tp_size if isinstance(tp_size, int) else None)
            if rank is None and process in nameless and len(nameless) > 1:
                rank = LogRank(process=process)
            ranks[process] = rank
        return ranks


def _config(start: Start, text: str, begin: int) -> None:
    """The settled settings: `... with config: model='x', max_seq_len=8192, ...`; what was stated before stays."""
    for name, spelled in pairs(text, begin):
        if name not in {"model", "quantization"} and name not in _CONFIG_FLAGS:
            continue
        try:
            value = value_of(spelled)
        except Unreadable:
            continue
        if name == "model":
            start.model = start.model or (value if isinstance(value, str) else None)
        elif name == "quantization":
            start.quantization = value if isinstance(value, str) and value != "None" else None
        elif value != "None":
            start.arguments.setdefault(_CONFIG_FLAGS[name], value)
            if start.arguments[_CONFIG_FLAGS[name]] is None:
                del start.arguments[_CONFIG_FLAGS[name]]


def _process_of(text: str) -> tuple[str, str]:
    """Who tells the line: a name that tells ranks apart, and the name alone. Empty where the line names nobody."""
    process = front = ""
    for tag in _TAG.finditer(text[:400]):
        name = front = tag["name"].strip()
        if tag["world"]:
            process = f"{name} rank={tag['world']}"
        elif rank_in(re.split(r"[_ ]", name)) or name.startswith("EngineCore_"):
            process = name
        elif name.startswith(_WORKERS):
            process = f"{name} pid={tag['pid']}"
    return process, front


def _rank_of(process: str, tp_size: int | None) -> LogRank | None:
    name, _, world = process.partition(" rank=")
    if world:
        number = int(world)
        if tp_size:
            return LogRank(pp=number // tp_size, tp=number % tp_size, world=number)
        return LogRank(world=number)
    if name.startswith("EngineCore_") and name[11:].isdigit():
        return LogRank(dp=int(name[11:]))
    return rank_in(re.split(r"[_ ]", name))
