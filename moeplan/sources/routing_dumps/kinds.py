"""Which kind of dump a file or folder is, by what it begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from moeplan.core.errors import InputError
from moeplan.sources.routing_dumps.balance_lines import read_balance
from moeplan.sources.routing_dumps.numpy_arrays import MAGIC as NUMPY
from moeplan.sources.routing_dumps.trtllm import META
from moeplan.sources.strict_json import unreadable

Kind = Literal["sglang", "vllm", "trtllm", "imatrix", "returned"]
KINDS: tuple[Kind, ...] = ("sglang", "vllm", "trtllm", "imatrix", "returned")

READ = (
    "read are dumps of SGLang's recorder (.pt, or their folder), vLLM's load statistics (.jsonl), TensorRT-LLM's EXPERT_STATISTIC_PATH, "
    "importance matrices of llama.cpp (.gguf), and responses with routed_experts (.jsonl, .npy)"
)
_SAMPLE_BYTES = 1 << 16


def kind_of(path: Path) -> Kind:
    """What `path` holds. InputError for what is none of `KINDS`, with what it seems to be."""
    try:
        if path.is_dir():
            if (path / META).exists():
                return "trtllm"
            if any(path.glob("*.pt")):
                return "sglang"
            raise InputError(f"{path}: neither {META} nor files .pt in this folder", hint=READ)
        with path.open("rb") as file:
            head = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise InputError(f"{path} is empty", hint=READ)
    if head.startswith(b"PK\x03\x04"):
        return "sglang"
    if head.startswith(b"GGUF"):
        return "imatrix"
    if head.startswith(NUMPY):
        return "returned"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise InputError(
            f"{path}: refused: a pickle, which only running what it says would read",
            hint="save it with torch.save of a current torch, or as JSON lines; " + READ,
        )
    if path.name == META:
        return "trtllm"
    if path.suffix == ".safetensors":
        raise InputError(f"{path}: counts of one rank", hint=f"give their folder, with {META} in it")
    if head.lstrip()[:1] == b"{":
        return _kind_of_lines(path, head)
    if b"\0" in head:
        raise InputError(f"{path}: no dump of routing that is known", hint=READ)
    found = read_balance(path)
    if found is not None:
        raise InputError(
            f"{path}: {len(found.samples)} lines of {'vLLM' if found.engine == 'vllm' else 'SGLang'}'s balancedness "
            f"(median {found.median:.2f}), and no counts of experts",
            hint="such lines tell how even ranks were, not which experts are busy; " + READ,
        )
    raise InputError(f"{path}: no dump of routing that is known", hint=READ)


def _kind_of_lines(path: Path, head: bytes) -> Kind:
    first = head.lstrip().split(b"\n", 1)[0]
    if b'"moeplan.routing-' in first[:200]:
        raise InputError(f"{path}: is moeplan's own and needs no import", hint="use it as it is")
    if b'"record_type"' in head:
        return "vllm"
    if b'"choices"' in head or b'"meta_info"' in head or b'"routed_experts"' in head:
        return "returned"
    try:
        keys = ", ".join(map(repr, list(json.loads(first))[:5]))[:120]
    except ValueError:
        keys = "no JSON lines"
    raise InputError(f"{path}: no dump of routing that is known: {keys}", hint=READ)
