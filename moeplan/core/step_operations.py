"""Operations that a step computes on one rank, free of any device; a multiplication and an addition are two.

    operations = dense + attention + experts

    dense      2 rows x columns x depth of each matrix product
    attention  2 (key + value) for each head, query and token that the query sees
    experts    2 for each weight of an expert and row that is routed to it (`core/latency.work`)

They are those that the result needs: kernels compute more, where they pad rows to tiles. Recurrent states, norms and routing are
left out, as they are few beside these. The rank is the busiest, as in `core/step_time`.
"""

from __future__ import annotations

from moeplan.core.attention_latency import seen_tokens
from moeplan.core.expert_use import ExpertUse, StepTokens
from moeplan.core.latency import ExpertShape, work
from moeplan.core.step_time import StepLoad, StepModel, expert_load, prompt_shape, shape_of


def step_operations(model: StepModel, load: StepLoad, use: ExpertUse) -> float:
    """Of one step in which each decoding sequence gets one token."""
    decoding = -(-load.decoding // model.data_ranks)
    tokens = decoding + load.new_tokens
    reads = load.new_tokens > 0
    found = 0.0
    for product in model.products:
        rows = decoding + load.prompts * reads if product.role == "lm_head" else tokens
        rows *= min(product.groups, model.data_ranks)
        found += 2 * rows * product.columns * product.depth * product.count
    for each in model.attention:
        reach = min(each.window_tokens or float("inf"), each.chosen_tokens or float("inf"))
        shape = shape_of(each)
        seen = decoding * (min(load.context_tokens / model.cache_ranks, reach) + 1)
        operations = seen * shape.heads * (shape.key_dim + shape.value_dim)
        if reads:
            shape = prompt_shape(each)
            seen = load.new_tokens * seen_tokens(load.new_tokens / load.prompts, load.past_tokens, reach)
            operations += seen * shape.heads * (shape.key_dim + shape.value_dim)
        found += 2 * operations * each.count
    if model.kernel is not None:
        of_all = StepTokens(load.decoding, load.new_tokens * load.reading, max(1.0, load.prompts * load.reading))
        for experts in model.experts:
            asked = expert_load(experts, of_all, model.expert_ranks, use, balanced=model.balanced)
            one = ExpertShape(
                experts.hidden, experts.width, experts.experts, experts.experts_on_rank, experts.experts_per_token,
                model.kernel.values, experts.gated,
            )  # fmt: skip
            done = work(one, asked)
            found += done.flops_per_row * done.rows * experts.count
    return found
