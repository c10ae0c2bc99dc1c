"""A program of its own, run in a fresh process: what a process costs on a device before it holds any tensor.

    python -P fresh_context.py cuda:0

Prints one line of JSON. On a CUDA device: `free_bytes` after the context, after the first kernel and after a set of
kernels that a model needs (matmul, attention, sort, softmax), each with what torch has reserved by then. On the CPU:
resident bytes before torch is imported, after it, and after a first matmul.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def on_cuda(device: str) -> dict[str, int]:
    """`<step>_free_bytes` and `<step>_reserved_bytes`, step by step."""
    import torch

    torch.cuda.set_device(device)
    found: dict[str, int] = {}

    def read(step: str) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        found[f"{step}_free_bytes"], found[f"{step}_reserved_bytes"] = int(free), int(torch.cuda.memory_reserved())

    torch.cuda.init()
    read("context")
    one = torch.zeros(1, device=device) + 1
    read("kernel")
    matrix = one.expand(256, 256).to(torch.bfloat16).contiguous()
    heads = matrix.view(1, 4, 64, 256).contiguous()
    torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    (matrix @ matrix).float().softmax(-1).topk(8).values.flatten().sort()
    read("kernels")
    return found


def on_host() -> dict[str, int]:
    """`<step>_resident_bytes`, step by step."""
    found = {"start_resident_bytes": _resident_bytes()}
    import torch

    found["import_resident_bytes"] = _resident_bytes()
    matrix = torch.ones(256, 256)
    torch.mm(matrix, matrix)  # starts threads and libraries
    found["kernel_resident_bytes"] = _resident_bytes()
    return found


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str]) -> dict[str, Any]:
    """The readings of the device that is named."""
    device = arguments[0] if arguments else "cpu"
    return on_host() if device == "cpu" else on_cuda(device)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
