"""Weights of one MoE layer and the routing that a backend is given; the legend of the letters in names.

T tokens, K experts per token, A = T x K assignments, E experts, H hidden size, D input width of the experts (H, or the
latent size), F width of one expert, G = 2F where experts are gated (gate above up, in one matrix) and F where not,
S width of all shared experts together, U = 2S or S likewise.
"""
# ruff: noqa: N802, N803, N806, N815 - names end in the letters of their shapes

from typing import NamedTuple

from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253

from moeplan.core.measurement import MoeShape
from moeplan.measure.routing_draws import Draw
from moeplan.measure.session import Session


class ExpertWeights(NamedTuple):
    """Matrices as checkpoints have them: output rows before input columns, so that x @ w.T is contiguous in both."""

    w13_EGD: Tensor
    w2_EDF: Tensor
    gated: bool
    shared_w13_UH: Tensor | None = None
    shared_w2_HS: Tensor | None = None
    latent_down_DH: Tensor | None = None
    latent_up_HD: Tensor | None = None

    @property
    def w1_EFD(self) -> Tensor:
        """Gate projection; the only one into an expert that is not gated."""
        return self.w13_EGD[:, : self.w2_EDF.shape[2]]

    @property
    def w3_EFD(self) -> Tensor:
        """Up projection; empty where experts are not gated."""
        return self.w13_EGD[:, self.w2_EDF.shape[2] :]


class Routing(NamedTuple):
    """Who goes where, and what the host knows of it without asking the device."""

    experts_TK: Tensor
    """int64, on the device."""
    gate_TK: Tensor
    """Weights, float32, on the device."""
    distinct: int
    busiest: int


def random_weights(shape: MoeShape, dtype: str, session: Session, *, layer: bool) -> ExpertWeights:
    """Seeded normal weights with a standard deviation of 1 / sqrt(input width), so that outputs stay of the size of inputs.

    `layer` adds shared experts and latent projections where the shape has them.
    """

    def matrix(name: str, *sizes: int) -> Tensor:
        return session.random(sizes, dtype, shape, name, scale=sizes[-1] ** -0.5)

    hidden, width, wide = shape.hidden_size, shape.expert_width, 2 if shape.gated else 1
    latent, shared = shape.latent_size, shape.shared_width
    into = input_width(shape)
    return ExpertWeights(
        matrix("w13", shape.num_experts, wide * width, into),
        matrix("w2", shape.num_experts, into, width),
        shape.gated,
        matrix("shared w13", wide * shared, hidden) if layer and shared else None,
        matrix("shared w2", hidden, shared) if layer and shared else None,
        matrix("latent down", latent, hidden) if layer and latent else None,
        matrix("latent up", hidden, latent) if layer and latent else None,
    )


def copy_of(weights: ExpertWeights) -> ExpertWeights:
    """The same values at another place, so that taking turns keeps them out of the cache."""
    tensors = {name: each.clone() for name, each in weights._asdict().items() if isinstance(each, Tensor)}
    return weights._replace(**tensors)


def routing_of(drawn: Draw, session: Session) -> Routing:
    """A drawn routing on the device, with random weights that sum to 1 for each token."""
    experts_TK = drawn.experts.to(session.torch_device)
    gate_TK = session.random(tuple(experts_TK.shape), "float32", "gate", drawn.seed).softmax(dim=-1)
    return Routing(experts_TK, gate_TK, drawn.distinct, drawn.busiest)


def activate(up_AG: Tensor, gated: bool) -> Tensor:
    """[A, F]: silu(gate) x up, or the squared positive part where experts are not gated (Nemotron's `relu2`)."""
    if not gated:
        return F.relu(up_AG).square()
    gate_AF, up_AF = up_AG.chunk(2, dim=-1)
    return F.silu(gate_AF) * up_AF


def input_width(shape: MoeShape) -> int:
    """D of a shape."""
    return shape.latent_size or shape.hidden_size


def expert_params(shape: MoeShape) -> int:
    """Parameters of one routed expert."""
    return (3 if shape.gated else 2) * input_width(shape) * shape.expert_width


def around_params(shape: MoeShape) -> int:
    """Parameters that every token meets beside the routed experts: shared experts and latent projections."""
    shared = (3 if shape.gated else 2) * shape.hidden_size * shape.shared_width
    return shared + 2 * shape.hidden_size * (shape.latent_size or 0)
