"""Router functions that look at more than one token: experts with a capacity, experts that choose, balanced assignment, noise.

Letters of shapes: T tokens in their order, E experts, K choices of a token, C places of an expert. Logits and scores are
[T, E] in any float dtype; weights come in float32, experts and tokens in int64. Between equal scores the expert with the
lower number is taken, and between equal tokens the earlier one. Models of today route each token for itself (see
`routers`); of those that transformers 5.23.0 runs, Switch and NLLB cut at a capacity, and the tests hold these functions
against their modules. The others are here to be compared with: nothing is timed with them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253

Overflow = Literal["drop", "next_best", "spill"]
"""What becomes of a choice whose expert is full: it is computed by nobody; it goes to the best-scored expert that has room,
or to the emptiest one, whatever its score."""

NOWHERE = -1
"""Expert of a choice that nobody computes."""


class Routed(NamedTuple):
    """Where tokens went, and where they wanted to go."""

    weights: Tensor
    """[T, K] float32; 0 where a choice went nowhere."""
    experts: Tensor
    """[T, K] int64; `NOWHERE` for a choice that was cut, for padding, and for a second expert that a policy left out."""
    wanted: Tensor
    """[T, K] int64: as `experts` before the capacity cut any."""

    @property
    def dropped(self) -> int:
        """Choices that were cut."""
        return int(((self.wanted != NOWHERE) & (self.experts == NOWHERE)).sum())


def places(num_tokens: int, num_experts: int, top_k: int, factor: float) -> int:
    """C: places of each expert, ceil(factor x T x K / E), with `factor` the capacity factor.

    Source: Switch Transformers, arXiv 2101.03961, section 2.2 (K is 1 there). Configs of `switch_transformers` carry C
    itself as `expert_capacity`, for each sequence.
    """
    return math.ceil(factor * num_tokens * top_k / num_experts)


def switch_top1(logits: Tensor, capacity: int, *, overflow: Overflow = "drop") -> Routed:
    """The largest of a softmax, weighted by it, as long as the expert has places: tokens are served in their order.

    Logits [T, E] of one sequence: each sequence has places of its own. K is 1. Padding takes places, as in the module.
    "next_best" is the paper's "no token left behind" (appendix B): what overflows asks its next expert, again and again.
    Source: SwitchTransformersTop1Router; arXiv 2101.03961.
    """
    scores = logits.softmax(dim=-1, dtype=torch.float32)
    wanted = scores.argmax(dim=-1, keepdim=True)
    experts = _placed(scores, wanted, capacity, overflow)
    return Routed(_weights(scores, experts), experts, wanted)


def top2_capacity(
    logits: Tensor,
    capacity: int,
    *,
    overflow: Overflow = "drop",
    renormalize_first: bool = False,
    second: Literal["all", "sampling", "random"] = "all",
    prioritized: bool = False,
    padding: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Routed:
    """The two largest of a softmax, divided by their sum; all first choices are served before any second one.

    Logits [T, E] of a whole batch, flat: places are shared by its sequences. `renormalize_first` divides by the
    sum of the two that were wanted (`normalize_router_prob_before_dropping`): a token that lost one expert keeps the other's
    share, else that one gets weight 1. `second` is `second_expert_policy`: "sampling" adds Gumbel noise to the logits for the
    second choice, "random" keeps it with probability of twice its score; both draw from `generator`. (With "random" and
    `renormalize_first` together the module leaves the second one undivided; here it is divided.) `prioritized` serves tokens by
    their best score rather than in their order (`batch_prioritized_routing`). `padding` [T] bool: True tokens are not
    routed and take no place.
    At inference NLLB has ceil(`moe_eval_capacity_token_fraction` x T) places, which at the default of 1 cuts nothing.
    Sources: NllbMoeTop2Router; GShard, arXiv 2006.16668, algorithm 1.
    """
    scores = logits.softmax(dim=-1, dtype=torch.float32)
    first = scores.argmax(dim=-1, keepdim=True)
    others = logits.float()
    if second == "sampling":
        uniform = torch.rand(others.shape, generator=generator, device=logits.device)
        others = others - (-uniform.clamp(min=torch.finfo(uniform.dtype).tiny).log()).log()
    next_one = others.scatter(-1, first, float("-inf")).argmax(dim=-1, keepdim=True)
    pair = scores.gather(-1, torch.cat([first, next_one], dim=-1)).sum(dim=-1, keepdim=True)
    if second == "random":
        drawn = torch.rand(next_one.shape, generator=generator, device=logits.device)
        next_one = next_one.masked_fill(2 * scores.gather(-1, next_one) <= drawn, NOWHERE)
    wanted = torch.cat([first, next_one], dim=-1)
    if padding is not None:
        wanted = wanted.masked_fill(padding.unsqueeze(-1), NOWHERE)
    order = (-scores.amax(dim=-1)).argsort(stable=True) if prioritized else None
    experts = _placed(scores, wanted, capacity, overflow, order)
    weights = _weights(scores, experts)
    total = pair if renormalize_first else weights.sum(dim=-1, keepdim=True)
    return Routed(weights / total.clamp(min=torch.finfo(torch.float32).eps), experts, wanted)


def expert_choice(logits: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """Each expert takes the C tokens that score highest for it: load is even, experts of a token vary from 0 to E.

    Gives weights [E, C] float32 (a softmax over experts, unscaled) and tokens [E, C] int64, best first. C is at most T, else
    ValueError. It needs the whole batch, later tokens too: it cannot decode.
    Source: Zhou et al. 2022, arXiv 2202.09368, section 3.2, with C = T x (mean experts of a token) / E.
    """
    if not 0 < capacity <= logits.shape[0]:
        raise ValueError(f"{capacity} places for {logits.shape[0]} tokens: an expert takes a token once")
    weights, tokens = logits.softmax(dim=-1, dtype=torch.float32).T.sort(dim=-1, descending=True, stable=True)
    return weights[:, :capacity], tokens[:, :capacity]


def balanced_assignment(scores: Tensor) -> Tensor:
    """One expert for each token, [T] int64, so that every expert has T / E and the sum of scores is the largest there is.

    Tokens come one at a time; each takes the path of the largest gain through experts that pass one of theirs on, which
    keeps the sum the largest after every token (successive paths of a transport problem). Exact in float64, and slow: T
    steps of O(T E + E^3), 0.4 s for 512 tokens and 16 experts on one CPU core. Raises ValueError where E does not divide T.
    Source: BASE layers, Lewis et al. 2021, arXiv 2103.16716, section 3.1, which solve it by an auction up to a tolerance.
    """
    num_tokens, num_experts = scores.shape
    if num_tokens % num_experts:
        raise ValueError(f"{num_tokens} tokens are no multiple of {num_experts} experts")
    values = scores.double()
    room = torch.full((num_experts,), num_tokens // num_experts, device=scores.device)
    chosen = torch.full((num_tokens,), NOWHERE, device=scores.device)
    for token in range(num_tokens):
        passing, movers = _best_moves(values, chosen)
        gain, before = values[token].clone(), torch.full((num_experts,), NOWHERE, device=scores.device)
        for _ in range(num_experts - 1):  # Bellman-Ford: a path visits an expert once
            through = gain.unsqueeze(-1) + passing  # [from, to]
            best, came_from = through.max(dim=0)
            better = best > gain + 1e-12
            if not bool(better.any()):
                break
            gain, before = torch.where(better, best, gain), torch.where(better, came_from, before)
        expert = int(gain.masked_fill(room == 0, float("-inf")).argmax())
        room[expert] -= 1
        while (source := int(before[expert])) != NOWHERE:
            chosen[movers[source, expert]] = expert
            expert = source
        chosen[token] = expert
    return chosen


def noisy_topk(
    logits: Tensor, noise_logits: Tensor, top_k: int, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The K largest of logits plus normal noise of a learned width, and a softmax over those: weights and experts [T, K].

    `noise_logits` [T, E] come from a second gate; the width is their softplus. Noise belongs to training: without it this is
    `routers.topk_softmax`. Source: Shazeer et al. 2017, arXiv 1701.06538, equations 3 to 5.
    """
    drawn = torch.randn(logits.shape, generator=generator, device=logits.device)
    noisy = logits.float() + drawn * F.softplus(noise_logits.float())
    chosen, experts = noisy.topk(top_k, dim=-1)
    return chosen.softmax(dim=-1), experts


# Parts ---------------------------------------------------------------------------------------------------------


def _placed(scores: Tensor, wanted: Tensor, capacity: int, overflow: Overflow, order: Tensor | None = None) -> Tensor:
    """Experts [T, K] of the choices `wanted` [T, K] under a capacity: column after column, each in `order` of its tokens."""
    served = torch.arange(len(scores), device=scores.device) if order is None else order
    scores, left = scores[served], wanted[served].clone()
    experts = torch.full_like(left, NOWHERE)
    load = torch.zeros(scores.shape[-1], dtype=torch.int64, device=scores.device)
    for column in range(left.shape[-1]):
        load = _fill(left, experts, column, load, capacity)
        while overflow != "drop":
            waiting = (left[:, column] != NOWHERE) & (experts[:, column] == NOWHERE)
            # Closed: experts that are full, and those that compute this token already.
            closed = _hit(experts, scores.shape[-1]) | (load >= capacity)
            waiting &= ~closed.all(dim=-1)
            if not bool(waiting.any()):
                break
            liking = scores if overflow == "next_best" else -load.expand_as(scores).float()
            asked = liking.masked_fill(closed, float("-inf")).argmax(dim=-1)
            left[:, column] = torch.where(waiting, asked, left[:, column])
            load = _fill(left, experts, column, load, capacity)
    return torch.empty_like(experts).index_copy(0, served, experts)


def _fill(left: Tensor, experts: Tensor, column: int, load: Tensor, capacity: int) -> Tensor:
    """Serves the open choices of one column from the first token on, while their experts have places; the new load [E]."""
    asks = (left[:, column] != NOWHERE) & (experts[:, column] == NOWHERE)
    asks &= (left[:, column : column + 1] != experts).all(dim=-1)  # an earlier choice may have come here instead
    mask = F.one_hot(left[:, column].clamp(min=0), len(load)) * asks.unsqueeze(-1)  # [T, E]
    served = (mask.cumsum(dim=0) + load <= capacity) & mask.bool()
    experts[:, column] = torch.where(served.any(dim=-1), left[:, column], experts[:, column])
    return load + served.sum(dim=0)


def _hit(experts: Tensor, num_experts: int) -> Tensor:
    """[T, E] bool: experts that compute a token."""
    return (F.one_hot(experts.clamp(min=0), num_experts).bool() & (experts != NOWHERE).unsqueeze(-1)).any(dim=1)


def _weights(scores: Tensor, experts: Tensor) -> Tensor:
    """Scores of the chosen experts [T, K], 0 where a choice went nowhere."""
    return scores.gather(-1, experts.clamp(min=0)).masked_fill(experts == NOWHERE, 0.0)


def _best_moves(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """For experts i, j: the most that passing one token of i on to j changes the sum, and that token; both [E, E]."""
    num_experts = values.shape[-1]
    change = torch.full((num_experts, num_experts), float("-inf"), dtype=values.dtype, device=values.device)
    movers = torch.full((num_experts, num_experts), NOWHERE, device=values.device)
    for expert in range(num_experts):
        tokens = (chosen == expert).nonzero().squeeze(-1)
        if len(tokens):
            best, place = (values[tokens] - values[tokens, expert].unsqueeze(-1)).max(dim=0)
            change[expert], movers[expert] = best, tokens[place]
    change.fill_diagonal_(float("-inf"))
    return change, movers
