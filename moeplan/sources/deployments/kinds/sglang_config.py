"""SGLang's `--config` file: long option names as keys of one flat mapping, as vLLM's.

Source: SGLang 0.5.23 srt/server_args.py (prepare_server_args), srt/server_args_config_parser.py.
"""

from __future__ import annotations

from moeplan.core.deployed import Deployed
from moeplan.sources.deployments.kinds.vllm_config import OWN as VLLM_OWN
from moeplan.sources.deployments.kinds.vllm_config import SHARED, option_words, served_names
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import without_secrets
from moeplan.sources.deployments.stream import Found, Stream

KIND = "sglang.config"

OWN = {
    "model-path", "mem-fraction-static", "context-length", "max-running-requests", "chunked-prefill-size",
    "enable-dp-attention", "tp-size", "pp-size", "dp-size", "ep-size", "max-total-tokens", "cuda-graph-max-bs",
    "moe-a2a-backend", "moe-runner-backend", "speculative-algorithm", "speculative-num-draft-tokens",
    "disaggregation-mode", "schedule-policy", "schedule-conservativeness", "disable-radix-cache", "enable-metrics",
    "attn-dp-size", "page-size", "deepep-mode", "enable-hierarchical-cache",
}  # fmt: skip
"""Options that neither vLLM nor another program's flat file has."""


def recognises(document: Node) -> bool:
    """A mapping with options of SGLang's own, whose keys are options for the greater part."""
    if document.kind != "map" or document.at("apiVersion").there or document.at("kind").there:
        return False
    names = [key.replace("_", "-") for key in document.entries]
    known = [name for name in names if name in OWN or name in VLLM_OWN or name in SHARED]
    return any(name in OWN for name in names) and len(known) >= 2 and 2 * len(known) >= len(names)


def read(document: Node, stream: Stream) -> Found:
    """One engine, whose command is the file's options; its switches have no opposites, so what is `false` is left out."""
    words, secrets = without_secrets(option_words(document, negated=False))
    names = served_names(document)
    deployed = Deployed(KIND, stream.stem, document.key, engine="sglang", command=words, served_names=names)
    return Found((deployed,), secrets=secrets)
