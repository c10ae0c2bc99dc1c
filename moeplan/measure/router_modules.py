"""The routers of a model of transformers: which of its modules they are, and how to read what they give back.

Modules are found by the names of their classes, and are believed only when what they return has the shapes of routing:

    (logits [T, E], weights [T, K], experts [T, K], ...)    most families; Gemma 4 gives probabilities for logits
    (scores [T, E], logits [T, E])                          Llama 4: the K largest logits
    (..., logits [T, E])                                    JetMoe, whose experts come sorted
    logits [T, E]                                           DBRX, and gates that are plain linear layers
    (mask [T, E], weights, logits [T, E])                   Switch and NLLB, which have a capacity

Read in transformers 5.23.0. Letters of shapes: T tokens, E columns of the logits, K experts per token.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

TOP_K = ("top_k", "num_experts_per_tok", "moe_top_k", "num_selected_experts", "moe_topk", "moe_k", "top_k_experts")
NUM_EXPERTS = ("num_routed_experts", "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

_ROUTER = re.compile(r"(Router|Gating|MoE\w*Gate|\dGate)$")
_GATE = re.compile(r"(^|\.)(gate|router|wg)$")
_ATTENTION = re.compile(r"(^|\.)\w*(attn|attention)\w*\.")
_LAYER = re.compile(r"\.(\d+)\.")
_ENCODER = re.compile(r"(^|\.)encoder\.")


class Seen(NamedTuple):
    """One call of a router."""

    logits: Tensor
    """[T, E], any float dtype."""
    experts: Tensor | None
    """[T, K] in any integer dtype, as the router chose them before a capacity cut any; None: the K largest logits."""
    kept: Tensor | None = None
    """[T, E], 0 where a token is not computed: of routers with a capacity alone."""


class Candidate(NamedTuple):
    """A module that may be a router."""

    name: str
    """Its path in the model."""
    module: Any
    block: Any
    """The module around it."""
    layer: int
    in_encoder: bool


class Router(NamedTuple):
    """A module that is one."""

    name: str
    module: Any
    block: Any
    layer: int
    """Place among all layers, from 0; those of a decoder follow those of its encoder."""
    in_encoder: bool
    num_experts: int
    """Those that compute; zero-computation experts are not among them."""
    top_k: int
    read: Callable[[Any], Seen]


def candidates(model: Any) -> list[Candidate]:
    """Modules whose names are those of routers, the outermost of each nest, in the order of the model.

    Routers of attention (JetMoe's mixture of attention heads) are left out: they choose no feed-forward expert.
    """
    modules = dict(model.named_modules())
    num_encoder = 1 + max(
        (int(place[1]) for name in modules if _ENCODER.search(name) and (place := _LAYER.search(name + "."))),
        default=-1,
    )
    found: list[Candidate] = []
    for name, module in modules.items():
        block = modules[name.rpartition(".")[0]]
        place = _LAYER.search(name)
        if place is None or _ATTENTION.search(name) or any(name.startswith(f"{each.name}.") for each in found):
            continue
        named = _ROUTER.search(type(module).__name__) is not None
        plain = isinstance(module, torch.nn.Linear) and _GATE.search(name) and hasattr(block, "experts")
        if named or plain:
            in_encoder = _ENCODER.search(name) is not None
            layer = int(place[1]) + (0 if in_encoder or not _has_decoder(name) else num_encoder)
            found.append(Candidate(name, module, block, layer, in_encoder))
    return found


def as_router(candidate: Candidate, output: Any, num_tokens: int) -> Router | str:
    """The router that a candidate is, by what it gave back for `num_tokens`; else what it gave, in words."""
    module, block = candidate.module, candidate.block
    read = _reader(candidate, output, num_tokens)
    if read is None:
        return shapes_in_words(output)
    seen = read(output)
    columns = seen.logits.shape[-1]
    top_k = seen.experts.shape[-1] if seen.experts is not None else _top_k(candidate)
    if top_k is None:
        return f"{shapes_in_words(output)}, and nothing says how many experts a token has"
    experts = getattr(block, "experts", None)
    real = _int_of((experts, module, block), NUM_EXPERTS)
    num_experts = real if real is not None and 0 < real <= columns else columns
    return Router(
        candidate.name, module, block, candidate.layer, candidate.in_encoder, num_experts, min(top_k, num_experts), read
    )


def shapes_in_words(output: Any) -> str:
    """`(float32 [4, 8], int64 [4, 2])`: what a module gave back, for a message."""
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}"
    if isinstance(output, tuple | list):
        return f"({', '.join(map(shapes_in_words, output))})"
    return type(output).__name__


def _reader(candidate: Candidate, output: Any, num_tokens: int) -> Callable[[Any], Seen] | None:
    """How to read the outputs of a module, by the shapes of one of them; None where they are not those of routing."""
    if isinstance(output, Tensor):
        return _read_logits if _is_table(output, num_tokens) else None
    if not isinstance(output, tuple):
        return None
    tables = [place for place, each in enumerate(output) if _is_table(each, num_tokens) and each.shape[-1] > 1]
    if not tables:
        return None
    if hasattr(candidate.module, "expert_capacity"):
        if len(output) != 3 or tables[-1] != 2:
            return None
        return _read_nllb if output[1].shape == output[2].shape else _read_switch
    if tables[0] == 0 and len(output) >= 3 and _is_ids(output[2], num_tokens):
        renamed = getattr(candidate.module, "num_router_classes", 0) > getattr(candidate.module, "num_experts", 0)
        return _read_zaya if renamed else _read_triple
    last = tables[-1]
    return lambda given: Seen(_flat(given[last]), None)


def _is_table(value: Any, num_tokens: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim >= 2
        and value.numel() == num_tokens * value.shape[-1]
    )


def _is_ids(value: Any, num_tokens: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype in (torch.int64, torch.int32)
        and value.ndim >= 2
        and value.numel() == num_tokens * value.shape[-1]
    )


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _read_logits(output: Any) -> Seen:
    return Seen(_flat(output), None)


def _read_triple(output: Any) -> Seen:
    return Seen(_flat(output[0]), _flat(output[2]))


def _read_zaya(output: Any) -> Seen:
    # The skip expert, last column of the logits, is told as expert 0 with weight 0 (ZayaRouter).
    logits, weights, experts = (_flat(output[part]) for part in range(3))
    return Seen(logits, experts.masked_fill(weights == 0, logits.shape[-1] - 1))


def _read_switch(output: Any) -> Seen:
    logits = _flat(output[2])
    # By probabilities, as the module does: in half precision two logits may round to the same one.
    wanted = logits.softmax(dim=-1).to(output[1].dtype).argmax(dim=-1, keepdim=True)
    return Seen(logits, wanted, kept=_flat(output[0]))


def _read_nllb(output: Any) -> Seen:
    return Seen(_flat(output[2]), _flat(output[2]).topk(2, dim=-1).indices, kept=_flat(output[1]))


def _top_k(candidate: Candidate) -> int | None:
    return _int_of((candidate.module, candidate.block, getattr(candidate.block, "config", None)), TOP_K)


def _int_of(owners: tuple[Any, ...], names: tuple[str, ...]) -> int | None:
    for owner in owners:
        for name in names:
            if isinstance(found := getattr(owner, name, None), int):
                return found
    return None


def _has_decoder(name: str) -> bool:
    return re.search(r"(^|\.)decoder\.", name) is not None
