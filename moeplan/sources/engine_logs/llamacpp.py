"""llama.cpp's log, 2024 to 2026, with the words of its relatives: ik_llama.cpp and ollama.

Wordings were read in the source that llama-cpp-python 0.3.36 vendors (src/llama-model.cpp, llama-context.cpp, llama-kv-cache*.cpp,
llama-memory-recurrent.cpp, ggml-cuda.cu) and, for older versions and the relatives, in public logs. Sizes are in MiB with two
digits; ollama's own engine prints one digit in KiB to GiB.
"""

from __future__ import annotations

import re

from moeplan.core.deployment import Value
from moeplan.core.engine_log import EngineLog, FailureKind
from moeplan.core.model import Remark
from moeplan.core.units import MIB
from moeplan.sources.engine_logs.arguments import safe_text
from moeplan.sources.engine_logs.ollama import forecast, promote
from moeplan.sources.engine_logs.starts import (
    MOST_TEXT,
    NUMBER,
    Figure,
    Start,
    Starts,
    figure,
    figures_in,
    log_of,
    worded,
)

WORDS = (
    b"iB", b"llama_context", b"llama_new_context", b"llama_init_from_model", b"general.name", b"loaded meta data",
    b"offloaded ", b"creating ", b"  Device ", b"ROCm devices", b"loading draft model", b"model loaded",
    b"server is listening on", b"starting runner", b"llama runner started", b"warming up the model", b"type overrid",
    b"failed to load model", b"failed to create", b"failed to allocate", b"unable to allocate", b"out of memory", b"build: ",
    b"(build ", b"build_info",
)  # fmt: skip
"""A line without any of these tells nothing."""

_CACHE = (
    worded("KV buffer size", r"(?P<device>\S{1,64}) KV buffer size = +<kv_buffer_bytes> MiB", "MiB"),
    worded("RS buffer size", r"(?P<device>\S{1,64}) RS buffer size = +<recurrent_buffer_bytes> MiB", "MiB"),
    worded(
        "state buffer size", r"(?P<device>\S{1,64}) DSV4 .{0,60}? state buffer size = +<recurrent_buffer_bytes> MiB", "MiB",
    ),
)  # fmt: skip
_CACHE_WHOLE = (
    worded(" cells,", r"size = +<kv_bytes> MiB \( *<kv_cells> cells, .{0,200}?\bK \(\w+\)", "MiB"),
    worded(" K (", r"\bK \(\w+\): +<kv_key_bytes> MiB, V \(\w+\): +<kv_value_bytes> MiB", "MiB"),
    worded("KV self size", r"KV self size += +<kv_bytes> MiB", "MiB"),
    worded(", R (", r"\( *<state_slots> cells, .{0,200}?\bR \(\w+\): +<conv_state_bytes> MiB, S \(\w+\): +<ssm_state_bytes> MiB", "MiB"),
)  # fmt: skip
_OTHERS = (
    worded(
        "load_tensors:",
        r"load_tensors: +(?P<device>\S{1,64})(?: model)? buffer size = +<model_buffer_bytes> MiB",
        "MiB",
    ),
    worded("output buffer size", r"(?P<device>\S{1,64}) +output buffer size = +<output_buffer_bytes> MiB", "MiB"),
    worded("compute buffer size", r"(?P<device>\S{1,64}) compute buffer size = +<compute_buffer_bytes> MiB", "MiB"),
    worded("LoRA buffer size", r"(?P<device>\S{1,64}) LoRA buffer size = +<lora_buffer_bytes> MiB", "MiB"),
    worded("offloaded ", r"offloaded <offloaded_layers>/\d+ layers to GPU"),
    worded(" size ", r"print_\w+: (?:model|file) size += +<model_file_bytes> MiB", "MiB"),
    worded(" size ", r"print_\w+: (?:model|file) size += +<model_file_bytes> GiB", "GiB"),
)
_FREE = (
    worded("using device", r"using device (?P<device>\S{1,64}) \(.*\) - <free_before_load_bytes> MiB free", "MiB"),
)
MOST_DEVICES = 256

_LOADED = re.compile(r"llama_model_loader: loaded meta data with .{0,100}? tensors from (?P<path>.{1,4096}?) \(version")
_NAME = re.compile(r"general\.name +(?:str +)?= (?P<name>.+)")
_SETTING = re.compile(
    r"(?:llama_context\w*|llama_new_context_with_model|llama_init_from_model): "
    r"(?P<name>n_ctx|n_seq_max|n_batch|n_ubatch|flash_attn|kv_unified) += (?P<value>\w{1,18})\b"
)
_FLAGS = {
    "n_ctx": "--ctx-size", "n_seq_max": "--parallel", "n_batch": "--batch-size", "n_ubatch": "--ubatch-size",
    "flash_attn": "--flash-attn", "kv_unified": "--kv-unified",
}  # fmt: skip
_COUNTS = {"n_ctx", "n_seq_max", "n_batch", "n_ubatch"}
_SWITCHES: dict[str, Value] = {"1": "on", "enabled": "on", "0": "off", "disabled": "off", "true": True, "false": False}
_OFFLOADED = re.compile(r"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")
_CACHE_TYPES = re.compile(r"\bK \((\w+)\): .*\bV \((\w+)\): ")
_LATENT_TYPE = re.compile(r"c\^KV \((\w+)\)")
_CREATING = re.compile(r"creating +(?P<name>[\w -]+?) KV cache")
_CREATING_NAMES = {"non-SWA": "full", "SWA": "window", "main": "full"}
_DEVICES = re.compile(r"found \d+ (\w+) devices")
_DEVICE = re.compile(r"\bDevice (\d+): (.+?), (?:compute capability|gfx)")
_DEVICE_MEMORY = re.compile(rf"VRAM: ({NUMBER}) MiB")
_USING = re.compile(r"using device \S+ \((.*?)\) (?:\(|-)")
_OVERRIDDEN = re.compile(
    r"[Tt]ensor blk\.(\d{1,5})\.(ffn_\w+_exps)\b.* buffer type overrid(?:d)?en to (?:CPU|\w*_?Host)"
)
# `build: 5466 (d74e94c1) with ...`, `version: 0.1 (build 11312, commit ...)`, `build_info: b6895-...`, llama-bench's reverse
# order. ik_llama.cpp counts builds of its own and words them in other ways.
_BUILD = re.compile(
    r"\bbuild: (?:(?P<first>\d{1,7}) \([0-9a-f]{6,}\)|[0-9a-f]{6,} \((?P<last>\d{1,7})\))|\(build (?P<since>\d{1,7}), commit|"
    r"\bbuild_info: b(?P<info>\d{1,7})-"
)
_VISION = ("reserve_compute_meta", "alloc_compute_meta", "clip_")
# Not the line that a port is open: servers listen before they load.
_UP = ("model loaded", "server is listening on", "llama runner started", "warming up the model")
_FAILURES: dict[str, FailureKind] = {
    "cudaMalloc failed": "memory",
    "out of memory": "memory",
    "failed to allocate compute": "memory",
    "failed to allocate buffer": "memory",
    "unable to allocate": "memory",
    "failed to load model": "other",
    "failed to create context": "other",
    "failed to create_context": "other",
}


class LlamaCppLog:
    """Reads llama.cpp's lines one by one."""

    words = WORDS

    def __init__(self) -> None:
        self.starts = Starts("llamacpp")
        self.draft_next = False
        self.draft = False
        self.cache: str | None = None
        self.in_context: set[tuple[str | None, str | None]] = set()
        self.backend = "CUDA"
        self.devices: dict[str, tuple[int, Figure]] = {}
        """Told before the load that they belong to opens, so they are no figures of the start before it."""
        self.gpu_name: str | None = None
        self.version: str | None = None
        """Told before the load, as the devices are."""

    def feed(self, number: int, text: str) -> None:
        """One line that holds one of `words`."""
        if "loading draft model" in text:
            self.draft_next = True
        elif "draft context" in text and "creating" in text:
            self.draft = True
        if loaded := _LOADED.search(text):
            self._load(number, loaded["path"])
        elif 'msg="starting runner"' in text:
            promote(self.starts.now)
            self.starts.begin(number, "runner")
        start = self.starts.now
        for found in self._figures(text):
            self.starts.recognised = True
            start.tell(found, number, add=found.quantity == "model_buffer_bytes")
        self._settings(start, text)
        self._device(number, text)
        forecast(start, number, text)
        if overridden := _OVERRIDDEN.search(text):
            start.on_host.setdefault(overridden[2], set()).add(int(overridden[1]))
        if any(words in text for words in _UP):
            start.up()
        else:
            start.fail(text, number, _FAILURES)
        if (build := _BUILD.search(text)) and (count := next(filter(None, build.groups()))) != "0":
            self.version = f"b{count}"

    def _load(self, number: int, path: str) -> None:
        """A model file is opened: a draft joins the start of its target, any other opens a start of its own."""
        self.draft, self.draft_next = self.draft_next, False
        if not self.draft:
            self.starts.begin(number, "load")
            self.starts.now.model = safe_text(path)

    def _figures(self, text: str) -> list[Figure]:
        if creating := _CREATING.search(text):
            name = creating["name"].strip()
            self.cache = _CREATING_NAMES.get(name, name.lower())
            return []
        if found := list(figures_in(text, _CACHE)):
            if (found[0].device, self.cache) in self.in_context and "KV buffer" in text:
                self.cache = f"{self.cache or 'cache'} 2"  # another cache, which this version does not name
            self.in_context.add((found[0].device, self.cache))
            return [each._replace(part=self._part(self.cache)) for each in found]
        if found := list(figures_in(text, _CACHE_WHOLE)):
            part, self.cache = self._part(self.cache), None
            return [each._replace(part=part) for each in found]
        vision = "vision" if any(words in text for words in _VISION) else None
        return [each._replace(part=vision or self._part(None)) for each in figures_in(text, _OTHERS)]

    def _part(self, name: str | None) -> str | None:
        return " ".join(word for word in ("draft" if self.draft else None, name) if word) or None

    def _settings(self, start: Start, text: str) -> None:
        """What the context was made with; its first line, `n_ctx`, begins a new one (benchmarks make several)."""
        if found := _SETTING.search(text):
            name, value = found["name"], found["value"]
            if name == "n_ctx":
                self.cache = None
                self.in_context.clear()
            if not self.draft and name not in _COUNTS:
                start.argue({_FLAGS[name]: _SWITCHES.get(value, value)})
            elif not self.draft and value.isdecimal():
                start.argue({_FLAGS[name]: int(value)})
        elif self.draft:
            return
        elif found := _NAME.search(text):
            start.name = found["name"].strip()
        elif found := _OFFLOADED.search(text):
            # Builds differ in which blocks they count, so that all of them are no number.
            start.argue({"--gpu-layers": "all" if found[1] == found[2] else int(found[1])})
        elif found := _CACHE_TYPES.search(text):
            start.argue({"--cache-type-k": found[1], "--cache-type-v": found[2]})
        elif found := _LATENT_TYPE.search(text):
            start.argue({"--cache-type-k": found[1], "--cache-type-v": found[1]})  # one cache for both

    def _device(self, number: int, text: str) -> None:
        if found := _DEVICES.search(text):
            self.backend = found[1]
        if found := _DEVICE.search(text):
            self.gpu_name = self.gpu_name or found[2]
            if (memory := _DEVICE_MEMORY.search(text)) and len(self.devices) < MOST_DEVICES:
                value, step = figure(memory[1], "MiB")
                name, words = f"{self.backend}{found[1]}", text[found.start() :][:MOST_TEXT]
                self.devices[f"total {name}"] = (number, Figure("total_memory_bytes", value, step, words, None, name))
        elif (found := _USING.search(text)) and len(self.devices) < MOST_DEVICES:
            self.gpu_name = self.gpu_name or found[1]
            self.devices |= {f"free {told.device}": (number, told) for told in figures_in(text, _FREE)}

    def log(self) -> EngineLog | None:
        """The last load; None where no figure was told."""
        promote(self.starts.now)
        start = self.starts.told()
        if start is None:
            return None
        start.gpu_name, start.version = self.gpu_name, self.version
        for number, told in self.devices.values():
            start.tell(told, number)
        self._placement(start)
        if start.name and (start.model is None or "/blobs/sha256" in start.model):
            start.model = start.name  # ollama's files have no names
        told_quantities = {reading.quantity for reading in start.readings.values()}
        complete = start.started is not None or "compute_buffer_bytes" in told_quantities
        cut = None if complete else "the log stops while llama.cpp loads; lines `compute buffer size` are missing"
        return log_of("llamacpp", start, {}, cut)

    def _placement(self, start: Start) -> None:
        """Where weights went, as flags: shares of the devices, which are those of their free memory, and overrides."""
        holding = {key[2] for key in start.readings if key[0] == "model_buffer_bytes"}
        free = [told for _, told in self.devices.values() if told.quantity == "free_before_load_bytes"]
        shares = [str(int(told.value) // MIB) for told in free if told.device in holding]
        if len(shares) > 1 and start.arguments.get("--gpu-layers") != 0:
            start.argue({"--tensor-split": ",".join(shares)})
        layers = sorted(set().union(*start.on_host.values()))
        if layers:
            message = f"experts of {len(layers)} layers, from {layers[0]} to {layers[-1]}, were put in host memory"
            start.notes.append(Remark("log-experts-on-host", "info", message))
            rules = (
                rf"blk\.({'|'.join(map(str, sorted(moved)))})\.{name}\.=CPU" for name, moved in start.on_host.items()
            )
            start.argue({"--override-tensor": ",".join(rules)})
