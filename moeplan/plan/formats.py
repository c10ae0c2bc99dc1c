"""The formats that a search tries on a card: what the checkpoint stores, and smaller ones that the card has units for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from moeplan.core.hardware import Hardware
from moeplan.core.quant import Quantisation, fold_bytes, holdings
from moeplan.core.weights import Owned
from moeplan.sources.loaded import LoadedModel
from moeplan.sources.quantisation import what_if

STORED = "stored"
FormatOrigin = Literal["stored", "on load", "other checkpoint"]

SMALLER = ("fp8", "nvfp4", "int4")
"""What servers run beside the stored format, by the names of `--quant`."""
OF_LLAMACPP = ("bf16", "q8_0", "q4_k_m")
"""What a GGUF file is usually made in, from all of it to the most common mix."""
ON_LOAD, LOADERS = {"fp8": "fp8-tensor"}, ("vllm", "sglang")
"""Formats that engines make of a 16-bit checkpoint while they load it (`--quantization`), and what that is: a scale for each
tensor."""


class Format(NamedTuple):
    """A format under an engine."""

    name: str
    """As `--quant` takes it, or `stored`."""
    origin: FormatOrigin
    quant: str | None
    """What the weights are then held in, as `--quant` says it; None for what the checkpoint stores."""


AS_STORED = Format(STORED, "stored", None)


def formats(
    engine: str, loaded: LoadedModel, owned: tuple[Owned, ...], asked: Sequence[str] | None
) -> tuple[Format, ...]:
    """Formats to try under an engine: those asked for, else the stored one and all that are smaller.

    InputError for a name that is not known.
    """
    gguf, spec = loaded.source_kind == "gguf", loaded.spec
    if asked is not None:
        named = [_named(name, engine, loaded) for name in dict.fromkeys(asked)]
        # llama.cpp cannot read what other servers do; what it has no units for, it refuses itself.
        return tuple(each for each in named if gguf or engine != "llamacpp" or each.name != STORED)
    if gguf:
        return (AS_STORED,)
    if engine == "llamacpp":
        return tuple(Format(name, "other checkpoint", name) for name in OF_LLAMACPP)
    stored = _size(owned, loaded.quantisation or what_if("bf16", spec))
    smaller = [name for name in SMALLER if _size(owned, what_if(name, spec)) < 0.95 * stored]
    return (AS_STORED, *(_named(name, engine, loaded) for name in smaller))


def runs(hardware: Hardware, name: str) -> bool:
    """True where the card has matrix units for a format, or the format is unpacked to 16 bit on the way to them."""
    rates = hardware.dense_flops_per_s
    match name:
        case "fp8":
            return rates.fp8 is not None
        case "nvfp4":
            return rates.fp4 is not None
        case _:
            return True


def _named(name: str, engine: str, loaded: LoadedModel) -> Format:
    if name == STORED:
        return AS_STORED
    what_if(name, loaded.spec)  # says what is wrong with the name
    made = ON_LOAD.get(name) if loaded.quantisation is None and engine in LOADERS else None
    return Format(name, "other checkpoint", name) if made is None else Format(name, "on load", made)


def _size(owned: tuple[Owned, ...], quantisation: Quantisation) -> int:
    return fold_bytes(holdings(owned, quantisation)).total_bytes
