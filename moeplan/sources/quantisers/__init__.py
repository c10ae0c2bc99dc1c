"""Quantisers: which function reads the settings of which `quant_method`.

One row per method. The module is imported only when such a checkpoint is read. A reader takes the method's own object
and what stands around it, and gives the rules of `core.quant`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from moeplan.core.quant import Quantisation
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.settings import Around

Reader = Callable[[Fields, Around], Quantisation]

READERS: dict[str, str] = {
    # quant_method: module.function
    "auto-round": "gptq.auto_round",
    "awq": "gptq.awq",
    "bitsandbytes": "on_load.bitsandbytes",
    "compressed-tensors": "compressed_tensors.compressed_tensors",
    "fbgemm-fp8": "fp8.fbgemm_fp8",
    "fp8": "fp8.fp8",
    "gptq": "gptq.gptq",
    "hqq": "on_load.hqq",
    "modelopt": "modelopt.modelopt",
    "modelopt-fp4": "modelopt.modelopt",
    "mxfp4": "fp8.mxfp4",
    "quark": "quark.quark",
    "torchao": "on_load.torchao",
}


def reader(method: str) -> Reader:
    """The function that reads `method`, a key of `READERS`."""
    module, function = READERS[method].rsplit(".", 1)
    found: Reader = getattr(import_module(f"moeplan.sources.quantisers.{module}"), function)
    return found
