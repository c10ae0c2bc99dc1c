"""vLLM's log: V0 and V1, 0.6 to 0.33. Who tells a line, which lines open a start, what they say of the settings."""

from __future__ import annotations

import re

from moeplan.core.engine_log import EngineLog, FailureKind, LogRank
from moeplan.sources.engine_logs.arguments import Unreadable, flag_of, is_secret, pairs, safe_text, value_of
from moeplan.sources.engine_logs.starts import (
    TORCH_FAILURE_FIGURES,
    TORCH_FAILURES,
    Start,
    Starts,
    figures_in,
    log_of,
    rank_in,
)
from moeplan.sources.engine_logs.vllm_wordings import WORDINGS, WORDS

_TAG = re.compile(r"\((?P<name>[A-Za-z][\w ]*?)(?: rank=(?P<world>\d{1,5}))? pid=(?P<pid>\d+)")
_ASSIGNED = re.compile(
    r"rank (\d+) in world size (\d+) is assigned as DP rank (\d+), PP rank (\d+),.*?\bTP rank (\d+)(?:, EP rank (\d+))?"
)
_VERSION = re.compile(r"(Initializing an? (?:V\d )?LLM engine|(?:API )?server version)(?: \(v| )([\w.+-]+)")
_SERVING = re.compile(r"server version \S+, serving model (\S+)")
_ARGS = re.compile(r"non-default args: \{|\bargs: Namespace\(")
_CONFIG = re.compile(r"with config: ")
_UTILIZATION = re.compile(r"gpu_memory_utilization \((\d(?:\.\d+)?)\)|GPU memory utilization (?:is )?\((\d(?:\.\d+)?),")
_BATCHED = re.compile(r"max_num_batched_tokens=(\d{1,12})")
_AUTO_FIT = re.compile(r"Auto-fit max_model_len: (?:reduced from \d+ to|full model context length) (\d{1,12})")
_DEVICE = re.compile(r"device_name=([\w.-]+?)(?:,|\.json)")
_WORKERS = ("Worker", "VllmWorker", "RayWorker")
_FAILURES: dict[str, FailureKind] = {
    "KV cache is needed": "memory",
    "No available memory for the cache": "memory",
    "stored in KV cache (": "memory",
    "is less than desired": "busy",
    "exceed the desired GPU memory": "busy",
    "failed to start": "other",
    "Engine core initialization failed": "other",
    **TORCH_FAILURES,
}
# What the config line says that flags say too, and what of `Namespace(...)`, which prints all defaults, matters to memory.
_CONFIG_FLAGS = {
    "revision": "--revision", "dtype": "--dtype", "max_seq_len": "--max-model-len",
    "tensor_parallel_size": "--tensor-parallel-size", "pipeline_parallel_size": "--pipeline-parallel-size",
    "data_parallel_size": "--data-parallel-size", "decode_context_parallel_size": "--decode-context-parallel-size",
    "enforce_eager": "--enforce-eager", "kv_cache_dtype": "--kv-cache-dtype",
    "enable_prefix_caching": "--enable-prefix-caching", "enable_chunked_prefill": "--enable-chunked-prefill",
    "chunked_prefill_enabled": "--enable-chunked-prefill",
}  # fmt: skip
_NAMESPACE = frozenset({
    "revision", "dtype", "kv_cache_dtype", "max_model_len", "pipeline_parallel_size", "tensor_parallel_size",
    "data_parallel_size", "enable_expert_parallel", "block_size", "swap_space", "cpu_offload_gb",
    "gpu_memory_utilization", "num_gpu_blocks_override", "max_num_batched_tokens", "max_num_seqs", "quantization",
    "enforce_eager", "enable_lora", "max_loras", "max_lora_rank", "enable_prefix_caching", "enable_chunked_prefill",
    "speculative_config", "compilation_config", "hf_overrides",
})  # fmt: skip
_UNSTATED = {None, False, "auto", ""}
_NOT_FLAGS = {"model", "model_tag", "subparser", "config", "dispatch_function"}


class VllmLog:
    """Reads vLLM's lines one by one."""

    words = WORDS

    def __init__(self) -> None:
        self.starts = Starts("vllm")

    def feed(self, number: int, text: str) -> None:
        """One line that holds one of `words`."""
        process, front = _process_of(text)
        self._head(number, text, front)
        start = self.starts.now
        for found in figures_in(text, WORDINGS):
            self.starts.recognised = True
            start.tell(found, number, process)
        if assigned := _ASSIGNED.search(text):
            _assign(start, process, assigned)
        self._settings(start, text)
        if "startup complete" in text or "init engine (" in text:
            start.up()
            return
        start.fail(text, number, _FAILURES)
        if start.started is False and self.starts.recognised:
            for found in figures_in(text, TORCH_FAILURE_FIGURES):
                start.tell(found, number, process)

    def _head(self, number: int, text: str, front: str) -> None:
        """Lines that open a start; each process that prints one prints it once."""
        told_version = _VERSION.search(text)
        opening = _ARGS.search(text)
        if told_version is None and opening is None:
            return
        engine = told_version is not None and told_version[1].startswith("Initializing")
        self.starts.begin(number, front, shared=engine)
        start = self.starts.now
        if told_version:
            start.version = told_version[2]
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

    def log(self) -> EngineLog | None:
        """The last start; None where no figure was told."""
        start = self.starts.told()
        if start is None:
            return None
        told = {reading.quantity for reading in start.readings.values()}
        complete = start.started is not None or "kv_tokens" in told or "num_blocks" in told
        cut = None if complete else "the log stops before vLLM tells its cache; lines `GPU KV cache size` are missing"
        return log_of("vllm", start, _ranks(start), cut)


def _assign(start: Start, process: str, found: re.Match[str]) -> None:
    """`rank 1 in world size 2 is assigned as DP rank 0, PP rank 0, TP rank 1`: the rank of the process that tells it."""
    world, size, dp, pp, tp, ep = (int(number) if number else None for number in found.groups())
    if size == 1:
        return
    several = not process and "" in start.ranks  # without a name: whose lines are whose cannot be told
    start.ranks[process] = None if several else LogRank(dp, pp, tp, ep, world)


def _ranks(start: Start) -> dict[str, LogRank | None]:
    """The rank of each process that told a figure."""
    processes = {key[1] for key in start.readings}
    tp_size = start.arguments.get("--tensor-parallel-size")
    ranks: dict[str, LogRank | None] = {}
    nameless = []
    for process in sorted(processes):
        rank = start.ranks.get(process) or _rank_of(process, tp_size if isinstance(tp_size, int) else None)
        if rank is None and process:
            nameless.append(process)
        ranks[process] = rank
    if len(nameless) > 1:
        ranks |= {process: LogRank(process=process) for process in nameless}
    return ranks


def _config(start: Start, text: str, begin: int) -> None:
    """`... with config: model='x', max_seq_len=8192, ...`: settled, so it stands above what was stated (`auto`, -1)."""
    for name, spelled in pairs(text, begin):
        if name not in {"model", "quantization"} and name not in _CONFIG_FLAGS:
            continue
        try:
            value = value_of(spelled)
        except Unreadable:
            continue
        if name == "quantization":
            start.quantization = value if isinstance(value, str) else None
        elif name != "model":
            start.argue({_CONFIG_FLAGS[name]: value})
        elif isinstance(value, str):
            start.model = start.model or value


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
