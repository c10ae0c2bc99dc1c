"""Router functions: from the logits of a gate to the experts of each token and their weights.

Letters of shapes: T tokens, E experts (with zero-computation slots where a model has them), K experts per token,
N groups of experts, V entries of a vocabulary. Every function takes logits [T, E] and gives weights [T, K] in float32
and experts [T, K] in int64, in no promised order along K; between equal scores the choice is torch's. Sources are the
modules of transformers 5.23.0, named by function; the tests hold each against them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253


class RouterOptions(NamedTuple):
    """What a config or a checkpoint adds to the logits; each function reads those that it names."""

    top_k: int
    """K: `num_experts_per_tok`, `moe_topk`, `moe_k`."""
    renormalize: bool = True
    """Weights divided by their sum: `norm_topk_prob`."""
    scale: float = 1.0
    """Factor on all weights: `routed_scaling_factor`, `route_scale`."""
    bias: Tensor | None = None
    """[E] float32, added to scores for the choice alone: `e_score_correction_bias`, `expert_bias`."""
    num_groups: int = 1
    """N: `n_group`. It divides E."""
    kept_groups: int = 1
    """`topk_group`. Their experts must be K or more."""
    norm_floor: float = 1e-20
    """Least sum that weights are divided by: `moe_norm_min` of Ernie, and what keeps others from dividing by 0."""
    jitter: float = 0.01
    """Half the relative distance within which sparsemixer lets experts share the softmax: `router_jitter_noise`."""
    token_ids: Tensor | None = None
    """[T] int64: the text itself, for routing by hash."""
    expert_table: Tensor | None = None
    """[V, K] int64: experts of each token id, frozen: `tid2eid`."""


Router = Callable[[Tensor, RouterOptions], tuple[Tensor, Tensor]]
"""(logits [T, E], options) -> (weights [T, K] float32, experts [T, K] int64)."""


def softmax_topk(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """The K largest of a softmax over all experts, divided by their sum or not.

    Options: top_k, renormalize, scale. Sources: MixtralTopKRouter (renormalised always), Qwen3MoeTopKRouter and
    OlmoeTopKRouter (by `norm_topk_prob`), DeepseekV2TopkRouter with `topk_method` "greedy" (scaled only).
    """
    weights, experts = scores_softmax(logits).topk(options.top_k, dim=-1)
    return _finish(weights, options), experts


def topk_softmax(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """The K largest logits, and a softmax over those alone.

    Options: top_k, scale. In exact arithmetic the same as `softmax_topk` renormalised.
    Source: GptOssTopKRouter (whose gate has a bias of its own, part of the logits), GraniteMoeTopKRouter.
    """
    chosen, experts = logits.float().topk(options.top_k, dim=-1)
    return chosen.softmax(dim=-1) * options.scale, experts


def topk_sigmoid(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """The K largest logits (K is 1 in the released models), and the sigmoid of each.

    Options: top_k, scale. Source: Llama4Router. Llama 4 multiplies an expert's input by the weight, not its output.
    """
    chosen, experts = logits.float().topk(options.top_k, dim=-1)
    return chosen.sigmoid() * options.scale, experts


def sigmoid_bias(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Chosen by sigmoid plus correction bias, weighted by the sigmoid alone.

    Options: top_k, bias, renormalize, scale. Sources: MiniMaxM2TopKRouter, Lfm2MoeTopKRouter, AfmoeTokenChoiceRouter.
    """
    return _biased_topk(scores_sigmoid(logits), options)


def sigmoid_bias_groups(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """As `sigmoid_bias` within the best groups, a group being as good as the sum of its two best biased scores.

    Options: top_k, bias, num_groups, kept_groups, renormalize, scale. A group has two experts or more. DeepSeek's configs
    call it "noaux_tc". Sources: DeepseekV3TopkRouter, Glm4MoeTopkRouter, NemotronHTopkRouter.
    """
    scores = scores_sigmoid(logits)
    choice = scores if options.bias is None else scores + options.bias
    grouped = choice.unflatten(-1, (options.num_groups, -1))  # [T, N, E/N]
    choice = only_best_groups(choice, grouped.topk(2, dim=-1).values.sum(dim=-1), options)
    experts = choice.topk(options.top_k, dim=-1).indices
    return _finish(scores.gather(-1, experts), options), experts


def group_limited_greedy(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """The K largest of a softmax within the best groups, a group being as good as its best expert.

    Options: top_k, num_groups, kept_groups, renormalize (false in the released models), scale.
    Source: DeepseekV2TopkRouter with `topk_method` "group_limited_greedy".
    """
    scores = scores_softmax(logits)
    best = scores.unflatten(-1, (options.num_groups, -1)).amax(dim=-1)  # [T, N]
    experts = only_best_groups(scores, best, options).topk(options.top_k, dim=-1).indices
    return _finish(scores.gather(-1, experts), options), experts


def sqrtsoftplus_bias(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Chosen by the root of softplus plus bias, weighted by the root alone.

    Options: top_k, bias, renormalize, scale. Source: DeepseekV4TopKRouter with `scoring_func` "sqrtsoftplus".
    """
    return _biased_topk(scores_sqrtsoftplus(logits), options)


def softmax_bias(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Chosen by softmax plus bias, weighted by the softmax, divided by its sum but never by less than `norm_floor`.

    Options: top_k, bias, renormalize, norm_floor, scale. Source: Ernie4_5_MoeTopKRouter.
    """
    return _biased_topk(scores_softmax(logits), options)


def softmax_zero_experts(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Softmax over experts and zero-computation slots, chosen with bias; weights are scaled, never renormalised.

    Options: top_k, bias, scale. The last `zero_expert_num` of the E slots give their input back: ids from there on cost
    nothing, and a token has between 0 and K real experts. Source: LongcatFlashTopkRouter.
    """
    return _biased_topk(scores_softmax(logits), options._replace(renormalize=False))


def hash_by_token(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Experts by a frozen table of token ids; the logits only weight them.

    Options: token_ids, expert_table (its K columns), renormalize, scale. Raises ValueError without either.
    Source: DeepseekV4HashRouter, for layers that `mlp_layer_types` calls "hash_moe".
    """
    if options.token_ids is None or options.expert_table is None:
        raise ValueError("routing by hash needs token_ids and expert_table")
    experts = options.expert_table[options.token_ids].long()
    return _finish(scores_sqrtsoftplus(logits).gather(-1, experts), options), experts


def sparsemixer(logits: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """Two largest logits, one after the other, each weighted by a softmax over those near it.

    Near means: relative distance to the largest of at most twice the jitter. The first expert is out of the second
    softmax. Options: jitter; top_k must be 2, else ValueError. Weights do not sum to 1.
    Source: `sparsemixer` of PhimoeTopKRouter, without the noise and gradients of training; arXiv 2409.12136.
    """
    if options.top_k != 2:
        raise ValueError(f"sparsemixer chooses 2 experts, not {options.top_k}")
    scores, left = logits.float(), logits.float()
    weights, experts = [], []
    for _ in range(2):
        best, expert = left.max(dim=-1, keepdim=True)
        distance = (best - scores) / scores.abs().clamp(min=best)
        near = left.masked_fill(distance > 2 * options.jitter, float("-inf")).softmax(dim=-1)
        weights.append(near.gather(-1, expert))
        experts.append(expert)
        left = left.scatter(-1, expert, float("-inf"))
    return torch.cat(weights, dim=-1), torch.cat(experts, dim=-1)


ROUTERS: dict[str, Router] = {
    "softmax_topk": softmax_topk,
    "topk_softmax": topk_softmax,
    "topk_sigmoid": topk_sigmoid,
    "sigmoid_bias": sigmoid_bias,
    "sigmoid_bias_groups": sigmoid_bias_groups,
    "group_limited_greedy": group_limited_greedy,
    "sqrtsoftplus_bias": sqrtsoftplus_bias,
    "softmax_bias": softmax_bias,
    "softmax_zero_experts": softmax_zero_experts,
    "hash_by_token": hash_by_token,
    "sparsemixer": sparsemixer,
}
"""What `MoeShape.router` may say."""


# Scores over all experts: the elementwise part, timed apart from the choice ------------------------------------


def scores_softmax(logits: Tensor) -> Tensor:
    """[T, E] to [T, E], in float32."""
    return logits.softmax(dim=-1, dtype=torch.float32)


def scores_sigmoid(logits: Tensor) -> Tensor:
    """[T, E] to [T, E], in float32."""
    return logits.float().sigmoid()


def scores_sqrtsoftplus(logits: Tensor) -> Tensor:
    """[T, E] to [T, E], in float32. Source: `SqrtSoftplus` of transformers' activations."""
    return F.softplus(logits.float()).sqrt()


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax_topk": scores_softmax,
    "sigmoid_bias": scores_sigmoid,
    "sigmoid_bias_groups": scores_sigmoid,
    "group_limited_greedy": scores_softmax,
    "sqrtsoftplus_bias": scores_sqrtsoftplus,
    "softmax_bias": scores_softmax,
    "softmax_zero_experts": scores_softmax,
    "hash_by_token": scores_sqrtsoftplus,
}
"""Score function of each router that scores all experts; those that score only the chosen ones are not in it."""


# Parts ---------------------------------------------------------------------------------------------------------


def _biased_topk(scores: Tensor, options: RouterOptions) -> tuple[Tensor, Tensor]:
    """The K largest of scores plus bias, with the scores themselves as weights."""
    choice = scores if options.bias is None else scores + options.bias
    experts = choice.topk(options.top_k, dim=-1).indices
    return _finish(scores.gather(-1, experts), options), experts


def only_best_groups(choice: Tensor, group_scores: Tensor, options: RouterOptions) -> Tensor:
    """Scores [T, E] with those outside the best `kept_groups` of the groups [T, N] at minus infinity."""
    kept = group_scores.topk(options.kept_groups, dim=-1).indices
    dropped = torch.ones_like(group_scores, dtype=torch.bool).scatter(-1, kept, False)  # [T, N]
    return choice.unflatten(-1, (options.num_groups, -1)).masked_fill(dropped.unsqueeze(-1), float("-inf")).flatten(-2)


def _finish(weights: Tensor, options: RouterOptions) -> Tensor:
    """Weights [T, K] divided by their sum where asked for, and scaled."""
    if options.renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=options.norm_floor)
    return weights * options.scale
