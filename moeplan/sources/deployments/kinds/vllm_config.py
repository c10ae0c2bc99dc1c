"""vLLM's `--config` file: long option names as keys of one flat mapping.

Source: vLLM 0.33.0 utils/argparse_utils.py, FlexibleArgumentParser.load_config_file. SGLang reads its own in the same way
(srt/server_args_config_parser.py).
"""

from __future__ import annotations

import json
import re

from moeplan.core.deployed import Deployed, Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import without_secrets
from moeplan.sources.deployments.stream import Found, Stream

KIND = "vllm.config"

OWN = {
    "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "data-parallel-size-local",
    "enable-expert-parallel", "decode-context-parallel-size", "max-model-len", "max-num-seqs",
    "max-num-batched-tokens", "gpu-memory-utilization", "kv-cache-dtype", "kv-cache-memory-bytes",
    "num-gpu-blocks-override", "enforce-eager", "enable-prefix-caching", "enable-chunked-prefill",
    "speculative-config", "compilation-config", "cudagraph-capture-sizes", "max-cudagraph-capture-size",
    "kv-transfer-config", "hf-overrides", "limit-mm-per-prompt", "enable-eplb", "eplb-config", "served-model-name",
    "distributed-executor-backend", "swap-space", "cpu-offload-gb", "enable-lora", "max-lora-rank", "max-loras",
    "async-scheduling", "tool-call-parser", "enable-auto-tool-choice", "reasoning-parser", "attention-backend",
    "moe-backend", "all2all-backend", "disable-log-requests", "override-generation-config",
    "disable-hybrid-kv-cache-manager", "stream-interval", "language-model-only", "mm-encoder-tp-mode",
    "quantization-config",
}  # fmt: skip
"""Options that a file of another program hardly has."""
SHARED = {
    "model", "revision", "dtype", "quantization", "tokenizer", "tokenizer-mode", "trust-remote-code", "load-format",
    "download-dir", "block-size", "seed", "host", "port", "api-key", "uvicorn-log-level", "chat-template",
    "max-logprobs", "generation-config", "optimization-level", "nnodes", "disable-log-stats",
    "disable-custom-all-reduce",
}  # fmt: skip
"""Options that other programs have too."""
_KEY = re.compile(r"[A-Za-z][\w.-]*")


def recognises(document: Node) -> bool:
    """A mapping with two options of vLLM's own at least, whose keys are options for the greater part."""
    if document.kind != "map" or document.at("apiVersion").there or document.at("kind").there:
        return False
    names = [_option(key) for key in document.entries]
    own = sum(name in OWN for name in names)
    return own >= 2 and 2 * sum(name in OWN or name in SHARED for name in names) >= len(names)


def read(document: Node, stream: Stream) -> Found:
    """One engine, whose command is the file's options; the model may be left to the command that reads the file."""
    words, secrets = without_secrets(option_words(document))
    names = served_names(document)
    deployed = Deployed(KIND, stream.stem, document.key, engine="vllm", command=words, served_names=names)
    return Found((deployed,), secrets=secrets)


def served_names(document: Node) -> tuple[Quote, ...]:
    """One name or several."""
    served = document.first("served-model-name", "served_model_name")
    found = [node.quote() for node in (served, *served.items)]
    return tuple(name for name in found if name is not None)


def option_words(node: Node, *, negated: bool = True) -> tuple[Quote, ...]:
    """The words that the file stands for, each with the place of its value: they belong before a command line's own.

    A list is several words, a mapping one of JSON. What is `false` becomes `--no-KEY` where the parser has opposites
    (`negated`), and is left out where it has not.
    """
    words: list[Quote] = []
    for key, value in node.entries.items():
        if _KEY.fullmatch(key):
            words += _words(key, value, negated=negated)
    return tuple(words)


def _words(key: str, value: Node, *, negated: bool) -> list[Quote]:
    flag = Quote(f"--{key}", value.spot)
    match value.kind:
        case "flag" if value.on:
            return [flag]
        case "flag":
            return [Quote(f"--no-{key}", value.spot)] if negated and not _is_negation(key) else []
        case "map":
            return [flag, Quote(json.dumps(value.plain(), separators=(",", ":")), value.spot)]
        case "list":
            found = [Quote(item.text, item.spot) for item in value.items if item.is_scalar and item.text]
            return [flag, *found] if found else []
        case "null":
            return []
        case _ if value.text.startswith("-"):
            return [Quote(f"--{key}={value.text}", value.spot)]
        case _:
            return [flag, Quote(value.text, value.spot)] if value.text.strip() else []


def _option(key: str) -> str:
    """The option that a key is about: dashes for underscores, without the `no-` that switches off."""
    return key.replace("_", "-").removeprefix("no-")


def _is_negation(key: str) -> bool:
    return key.startswith(("no-", "no_"))
