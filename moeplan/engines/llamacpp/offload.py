"""What llama.cpp keeps in host memory: input tables, layers that `--gpu-layers` leaves there, overridden tensors.

Sources: llama.cpp b11312 src/llama-model.cpp:load_tensors, src/llama-arch.cpp (LLM_TENSOR_LAYER_INPUT), common/common.h.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.gguf_names import gguf_names
from moeplan.core.model import Weight
from moeplan.engines.llamacpp.layout import Placed, placed
from moeplan.engines.llamacpp.settings import chosen, is_on, on_cpu, switched_off

EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
DENSE = r"\.ffn_(up|down|gate)\."
"""Tensors that `--cpu-moe` and `--n-cpu-ffn` name (common/common.h)."""


class Override(NamedTuple):
    """Tensors whose name a pattern finds go to a device."""

    pattern: re.Pattern[str]
    on_host: bool
    device: str


def overrides(values: Mapping[str, Value]) -> tuple[Override, ...]:
    """In the order in which llama.cpp tries them; the first pattern that is found in a name decides.

    It keeps the order of the command line, which is not known here: `--override-tensor` comes first. Raises InputError
    for an override that is none.
    """
    value: object = values.get("--override-tensor")
    texts = value if isinstance(value, tuple | list) else [value] if value else []
    found = []
    for text in texts:
        for part in re.split(r"[;,]", str(text)):
            pattern, sign, device = part.partition("=")
            if not sign or not pattern:
                raise InputError(
                    f"--override-tensor {part!r} is no <pattern>=<device>",
                    hint=r'for instance --override-tensor "\.ffn_.*_exps\.=CPU"',
                )
            found.append(Override(_compiled(pattern), device.strip().upper() == "CPU", device.strip()))
    if is_on(values, "--cpu-moe"):
        found.append(Override(_compiled(EXPERTS), True, "CPU"))
    for flag, pattern in (("--n-cpu-moe", EXPERTS), ("--n-cpu-ffn", DENSE)):
        count = values.get(flag)
        if isinstance(count, int) and count:
            # A pattern for each layer, as llama.cpp makes them: all say the same, so that they are tried as one.
            layers = "|".join(map(str, range(count)))
            found.append(Override(_compiled(rf"blk\.(?:{layers}){pattern}"), True, "CPU"))
    return tuple(found)


def host_share(serving: Serving, settings: Settings) -> Callable[[Weight, int | None], float] | None:
    """Input tables stay on the host always (a tied one is copied to the device of the output, see `weight_lines`).

    Of a weight that llama.cpp stores as several tensors the parts that stay count. None on a processor alone.
    """
    if on_cpu(serving):
        return None
    values = chosen(settings)
    towers_on_host = switched_off(values, "--mmproj-offload") or is_on(values, "--no-mmproj")
    return _shares(placed(serving, values), overrides(values), towers_on_host)


@lru_cache(maxsize=64)
def _shares(
    on_device: Placed, rules: tuple[Override, ...], towers_on_host: bool
) -> Callable[[Weight, int | None], float]:
    """The shares of one setting, each worked out once: a ledger asks for those of every weight in every layer, many times."""
    known: dict[tuple[Weight, int | None], float] = {}

    def share(weight: Weight, layer: int | None) -> float:
        if weight.role == "embedding":
            return 1.0
        if weight.role == "towers":
            return float(towers_on_host)
        plain = not on_device.output if layer is None else layer < on_device.host_layers
        if not rules:
            return float(plain)
        found = known.get((weight, layer))
        if found is None:
            names = gguf_names(weight, layer)
            here = [_on_host(name, rules, plain) for name in names]
            found = known[weight, layer] = sum(here) / len(names) if names else float(plain)
        return found

    return share


def _on_host(name: str, rules: tuple[Override, ...], plain: bool) -> bool:
    return next((rule.on_host for rule in rules if rule.pattern.search(name)), plain)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"--override-tensor {pattern!r} is no regular expression: {error}",
            hint=r'for instance --override-tensor "\.ffn_.*_exps\.=CPU"',
        ) from None
