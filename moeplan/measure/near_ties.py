"""Near ties: tokens whose last chosen expert and first refused one are closer than rounding, so that kernels may differ.

Which scores a router compares is not asked of its code: scores that may be meant are tried on real logits, and those stay
under which every reported choice is the best one. Letters of shapes: T tokens, E experts, K experts per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.measure.routers import RouterOptions, only_best_groups, scores_sigmoid, scores_softmax, scores_sqrtsoftplus

BIASES = ("e_score_correction_bias", "expert_bias", "balancing_biases")
"""Names under which a router, or the block around it, keeps what it adds to scores for the choice alone."""

_SLACK = 2e-6
"""Relative; scores are compared in float32, the module may have computed them in another order."""

_LOG_RANGE = 80.0


class Leads(NamedTuple):
    """What a batch of tokens says."""

    near: Tensor
    """[T] bool: rounding of both logits could swap the last chosen and the first refused expert."""
    wrong: Tensor
    """[T] bool: a refused expert scores more than a chosen one, beyond rounding: these are not the router's scores."""


Judge = Callable[[Tensor, Tensor, float], Leads]
"""(logits [T, E], experts [T, K] int64, unit roundoff) -> leads. The unit roundoff is half the dtype's epsilon: the largest
relative error of a number that is rounded to it."""


def judges(router: Any, block: Any) -> Iterator[Judge]:
    """What this router may compare, the likeliest first. `block` is the module around it.

    A router that looks its experts up by token id (`tid2eid`) compares nothing, so that nothing is near.
    """
    if hasattr(router, "tid2eid"):
        yield _looked_up
        return
    bias = _bias_of(router, block)
    groups, kept = _number(router, "num_group", "n_group"), _number(router, "topk_group")
    options = RouterOptions(1, num_groups=groups, kept_groups=kept)
    if bias is None:
        # Softmax, sigmoid and the root of softplus rise with the logit: the logits themselves tell the order.
        yield partial(_leads, _same, _moved, None, options, 1)
    else:
        for scores, shifted in (
            (scores_sigmoid, _moved_sigmoid),
            (scores_softmax, _moved_softmax),
            (scores_sqrtsoftplus, _moved_sqrtsoftplus),
            (_same, _moved),
        ):
            yield partial(_leads, scores, shifted, bias, options, 2)


def _leads(
    scores_of: Callable[[Tensor], Tensor],
    moved: Callable[[Tensor, Tensor, Tensor], Tensor],
    bias: Tensor | None,
    options: RouterOptions,
    best_of_group: int,
    logits: Tensor,
    experts: Tensor,
    roundoff: float,
) -> Leads:
    if experts.shape[-1] >= logits.shape[-1]:
        return _nothing(experts)
    logits = logits.float()
    scores = scores_of(logits)
    choice = scores if bias is None else scores + bias
    taken = choice.gather(-1, experts)
    refused = choice.scatter(-1, experts, float("-inf"))
    if options.kept_groups < options.num_groups:
        best = choice.unflatten(-1, (options.num_groups, -1)).topk(best_of_group, dim=-1).values.sum(dim=-1)
        refused = only_best_groups(refused, best, options)
    last, place = taken.min(dim=-1, keepdim=True)
    first, other = refused.max(dim=-1, keepdim=True)
    chosen = experts.gather(-1, place)
    low = _shift(moved, logits, scores, chosen, -roundoff) + last
    high = _shift(moved, logits, scores, other, roundoff) + first
    best_low = _shift(moved, logits, scores, chosen, roundoff) + last
    best_high = _shift(moved, logits, scores, other, -roundoff) + first
    slack = _SLACK * torch.maximum(last.abs(), first.abs())
    # With all groups but the chosen ones closed there may be no refused expert: `first` is minus infinity then.
    return Leads((high >= low).squeeze(-1), (best_high > best_low + slack).squeeze(-1))


def _shift(
    moved: Callable[[Tensor, Tensor, Tensor], Tensor], logits: Tensor, scores: Tensor, expert: Tensor, error: float
) -> Tensor:
    """How much the score of one expert per token [T, 1] changes when its logit is off by a relative error."""
    logit, score = logits.gather(-1, expert), scores.gather(-1, expert)
    return moved(logit, score, error * logit.abs()) - score


def _same(logits: Tensor) -> Tensor:
    return logits


def _moved(logit: Tensor, score: Tensor, by: Tensor) -> Tensor:
    return score + by


def _moved_sigmoid(logit: Tensor, score: Tensor, by: Tensor) -> Tensor:
    return scores_sigmoid(logit + by)


def _moved_softmax(logit: Tensor, score: Tensor, by: Tensor) -> Tensor:
    return score * by.clamp(-_LOG_RANGE, _LOG_RANGE).exp()


def _moved_sqrtsoftplus(logit: Tensor, score: Tensor, by: Tensor) -> Tensor:
    return scores_sqrtsoftplus(logit + by)


def _looked_up(logits: Tensor, experts: Tensor, roundoff: float) -> Leads:
    return _nothing(experts)


def _nothing(experts: Tensor) -> Leads:
    none = torch.zeros(len(experts), dtype=torch.bool, device=experts.device)
    return Leads(none, none)


def _bias_of(router: Any, block: Any) -> Tensor | None:
    for owner in (router, block, getattr(router, "moe_statics", None)):
        for name in BIASES:
            found = getattr(owner, name, None)
            if isinstance(found, Tensor):
                return found.detach().float().flatten()
    return None


def _number(owner: Any, *names: str) -> int:
    found = (getattr(owner, name, None) for name in names)
    return next((each for each in found if isinstance(each, int)), 1)
