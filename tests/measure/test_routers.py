from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from moeplan.measure.routers import ROUTERS, SCORES, RouterOptions, sparsemixer

# Every function is held against the module of transformers that it names. A gate whose weight is the identity passes hidden
# states on as logits, so that both see the same numbers.

TOKENS, EXPERTS, TOP_K = 64, 16, 4

Module = Callable[[Tensor], tuple[Tensor, Tensor]]


def logits_of(seed: int = 0, experts: int = EXPERTS, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(TOKENS, experts, generator=torch.Generator().manual_seed(seed))


def bias_of(experts: int = EXPERTS) -> Tensor:
    return 0.3 * torch.randn(experts, generator=torch.Generator().manual_seed(7))


def module_of(family: str, name: str, config: str, **fields: Any) -> Any:
    """A router of transformers with an identity for its gate."""
    from importlib import import_module

    folder = f"transformers.models.{family}"
    settings = getattr(import_module(f"{folder}.configuration_{family}"), config)(hidden_size=EXPERTS, **fields)
    module = getattr(import_module(f"{folder}.modeling_{family}"), name)(settings)
    for each in module.parameters():
        if each.shape == (EXPERTS, EXPERTS):
            each.data = torch.eye(EXPERTS)
        else:
            each.data.zero_()
    return module.eval()


def last_two(module: Any, *more: Any) -> Module:
    def call(logits: Tensor) -> tuple[Tensor, Tensor]:
        _, weights, experts = module(logits, *more)
        return weights, experts

    return call


def dense(weights: Tensor, experts: Tensor, count: int) -> Tensor:
    """[T, E] weights by expert, minus one where an expert was not chosen: the same whatever order experts come in."""
    assert experts.dtype == torch.int64
    assert weights.dtype == torch.float32
    return torch.full((len(experts), count), -1.0).scatter(-1, experts, weights)


def agree(name: str, options: RouterOptions, module: Module, logits: Tensor) -> None:
    with torch.no_grad():
        want_weights, want_experts = module(logits)
    weights, experts = ROUTERS[name](logits, options)
    assert experts.shape == (len(logits), options.top_k)
    assert all(len(set(row)) == options.top_k for row in experts.tolist())
    count = logits.shape[1]
    torch.testing.assert_close(
        dense(weights, experts, count), dense(want_weights.float(), want_experts.long(), count), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_softmax_topk_is_mixtrals(seed: int) -> None:
    module = module_of(
        "mixtral", "MixtralTopKRouter", "MixtralConfig", num_local_experts=EXPERTS, num_experts_per_tok=TOP_K
    )
    agree("softmax_topk", RouterOptions(TOP_K), last_two(module), logits_of(seed))


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("family", ["qwen3_moe", "olmoe"])
def test_softmax_topk_renormalises_where_the_config_says_so(family: str, renormalize: bool) -> None:
    name, config = {"qwen3_moe": ("Qwen3MoeTopKRouter", "Qwen3MoeConfig"), "olmoe": ("OlmoeTopKRouter", "OlmoeConfig")}[
        family
    ]
    fields = {"num_experts": EXPERTS, "num_experts_per_tok": TOP_K, "norm_topk_prob": renormalize}
    module = module_of(family, name, config, **fields)
    agree("softmax_topk", RouterOptions(TOP_K, renormalize=renormalize), last_two(module), logits_of())


def test_topk_softmax_is_that_of_gpt_oss_and_granite() -> None:
    gpt = module_of("gpt_oss", "GptOssTopKRouter", "GptOssConfig", num_local_experts=EXPERTS, num_experts_per_tok=TOP_K)
    agree("topk_softmax", RouterOptions(TOP_K), last_two(gpt), logits_of())
    fields = {"num_local_experts": EXPERTS, "num_experts_per_tok": TOP_K}
    granite = module_of("granitemoe", "GraniteMoeTopKRouter", "GraniteMoeConfig", **fields)
    agree("topk_softmax", RouterOptions(TOP_K), last_two(granite), logits_of())


def test_topk_softmax_equals_softmax_topk_renormalised() -> None:
    # exp(a) / sum over all, divided by the sum of the chosen ones, is exp(a) / sum of exp over the chosen ones.
    logits, options = logits_of(), RouterOptions(TOP_K)
    one, other = (dense(*ROUTERS[name](logits, options), EXPERTS) for name in ("softmax_topk", "topk_softmax"))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("top_k", [1, 2])
def test_topk_sigmoid_is_llama_4s(top_k: int) -> None:
    from transformers.models.llama4.configuration_llama4 import Llama4TextConfig
    from transformers.models.llama4.modeling_llama4 import Llama4Router

    config = Llama4TextConfig(hidden_size=EXPERTS, num_local_experts=EXPERTS, num_experts_per_tok=top_k)
    module = Llama4Router(config)
    module.weight.data = torch.eye(EXPERTS)

    def call(logits: Tensor) -> tuple[Tensor, Tensor]:
        scores, _ = module(logits)  # 0 where an expert was not chosen
        weights, experts = scores.topk(top_k, dim=-1)
        return weights, experts

    agree("topk_sigmoid", RouterOptions(top_k), call, logits_of())


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_sigmoid_bias_is_minimaxs_lfm2s_and_afmoes(scale: float) -> None:
    bias, options = bias_of(), RouterOptions(TOP_K, bias=bias_of(), scale=scale)
    chosen = {"num_experts_per_tok": TOP_K}
    if scale == 1.0:
        module = module_of("minimax_m2", "MiniMaxM2TopKRouter", "MiniMaxM2Config", num_local_experts=EXPERTS, **chosen)
        agree("sigmoid_bias", options, last_two(module, bias), logits_of())
    fields = {"num_experts": EXPERTS, "use_expert_bias": True, "norm_topk_prob": True, "routed_scaling_factor": scale}
    lfm2 = module_of("lfm2_moe", "Lfm2MoeTopKRouter", "Lfm2MoeConfig", **fields, **chosen)
    agree("sigmoid_bias", options, last_two(lfm2, bias), logits_of())
    afmoe = module_of(
        "afmoe", "AfmoeTokenChoiceRouter", "AfmoeConfig", num_experts=EXPERTS, route_scale=scale, **chosen
    )
    agree("sigmoid_bias", options, lambda logits: last_two(afmoe, bias)(logits.unsqueeze(0)), logits_of())


@pytest.mark.parametrize(("groups", "kept"), [(1, 1), (4, 2), (8, 4), (8, 8)])
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("family", ["deepseek_v3", "nemotron_h", "glm4_moe"])
def test_sigmoid_bias_groups_is_deepseek_v3s(family: str, groups: int, kept: int, renormalize: bool) -> None:
    name, config = {
        "deepseek_v3": ("DeepseekV3TopkRouter", "DeepseekV3Config"),
        "nemotron_h": ("NemotronHTopkRouter", "NemotronHConfig"),
        "glm4_moe": ("Glm4MoeTopkRouter", "Glm4MoeConfig"),
    }[family]
    module = module_of(
        family, name, config, n_routed_experts=EXPERTS, num_experts_per_tok=TOP_K, n_group=groups, topk_group=kept,
        norm_topk_prob=renormalize, routed_scaling_factor=2.5,
    )  # fmt: skip
    module.e_score_correction_bias.copy_(bias_of())
    options = RouterOptions(TOP_K, renormalize, 2.5, bias_of(), groups, kept)
    agree("sigmoid_bias_groups", options, last_two(module), logits_of())


def test_the_two_best_of_a_group_are_summed_not_its_best_one() -> None:
    # Groups of two: sigmoid(3) + sigmoid(-9) = 0.953, sigmoid(1) + sigmoid(1) = 1.462: the second wins in V3, the first in V2.
    logits, options = torch.tensor([[3.0, -9.0, 1.0, 1.0]]), RouterOptions(1, num_groups=2, kept_groups=1)
    assert ROUTERS["sigmoid_bias_groups"](logits, options)[1].item() in (2, 3)
    assert ROUTERS["group_limited_greedy"](logits, options)[1].item() == 0


@pytest.mark.parametrize(
    ("method", "groups", "kept"), [("greedy", 1, 1), ("group_limited_greedy", 4, 2), ("group_limited_greedy", 8, 3)]
)
def test_group_limited_greedy_is_deepseek_v2s(method: str, groups: int, kept: int) -> None:
    module = module_of(
        "deepseek_v2", "DeepseekV2TopkRouter", "DeepseekV2Config", n_routed_experts=EXPERTS, num_experts_per_tok=TOP_K,
        topk_method=method, n_group=groups, topk_group=kept, routed_scaling_factor=16.0, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    options = RouterOptions(TOP_K, renormalize=False, scale=16.0, num_groups=groups, kept_groups=kept)
    agree("softmax_topk" if method == "greedy" else method, options, last_two(module), logits_of())


def test_sqrtsoftplus_bias_is_deepseek_v4s() -> None:
    module = module_of("deepseek_v4", "DeepseekV4TopKRouter", "DeepseekV4Config", **V4)
    module.e_score_correction_bias.copy_(bias_of())
    agree("sqrtsoftplus_bias", RouterOptions(TOP_K, scale=1.5, bias=bias_of()), last_two(module), logits_of())


V4 = {
    "n_routed_experts": EXPERTS, "num_experts_per_tok": TOP_K, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5,
    "vocab_size": 32,
}  # fmt: skip


def test_hash_by_token_is_deepseek_v4s() -> None:
    generator = torch.Generator().manual_seed(3)
    table = torch.rand(32, EXPERTS, generator=generator).topk(TOP_K).indices
    ids = torch.randint(32, (TOKENS,), generator=generator)
    module = module_of("deepseek_v4", "DeepseekV4HashRouter", "DeepseekV4Config", **V4)
    module.tid2eid.copy_(table)
    options = RouterOptions(TOP_K, scale=1.5, token_ids=ids, expert_table=table)
    agree("hash_by_token", options, last_two(module, ids), logits_of())
    _, experts = ROUTERS["hash_by_token"](logits_of(5), options)  # other logits, same text
    assert torch.equal(experts, table[ids])
    with pytest.raises(ValueError, match="token_ids"):
        ROUTERS["hash_by_token"](logits_of(), RouterOptions(TOP_K))


def test_softmax_zero_experts_is_longcats() -> None:
    real, zero = 10, 6
    module = module_of(
        "longcat_flash", "LongcatFlashTopkRouter", "LongcatFlashConfig", n_routed_experts=real, zero_expert_num=zero,
        moe_topk=TOP_K, routed_scaling_factor=6.0,
    )  # fmt: skip
    module.e_score_correction_bias.copy_(bias_of())
    options = RouterOptions(TOP_K, scale=6.0, bias=bias_of())
    agree("softmax_zero_experts", options, last_two(module), logits_of())
    chosen_real = (ROUTERS["softmax_zero_experts"](logits_of(), options)[1] < real).sum(-1)
    assert chosen_real.min() < TOP_K  # zero slots are chosen too, so that tokens differ in real experts


@pytest.mark.parametrize("floor", [1e-12, 0.9])
def test_softmax_bias_is_ernies(floor: float) -> None:
    module = module_of(
        "ernie4_5_moe",
        "Ernie4_5_MoeTopKRouter",
        "Ernie4_5_MoeConfig",
        moe_num_experts=EXPERTS,
        moe_k=TOP_K,
        moe_norm_min=floor,
    )
    module.moe_statics.e_score_correction_bias.data.copy_(bias_of().unsqueeze(0))
    agree("softmax_bias", RouterOptions(TOP_K, bias=bias_of(), norm_floor=floor), last_two(module), logits_of())


@pytest.mark.parametrize("jitter", [0.01, 0.3])
@pytest.mark.parametrize("shift", [0.0, -8.0])
def test_sparsemixer_is_phis(jitter: float, shift: float) -> None:
    fields = {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "router_jitter_noise": jitter}
    module = module_of("phimoe", "PhimoeTopKRouter", "PhimoeConfig", **fields)
    agree("sparsemixer", RouterOptions(2, jitter=jitter), last_two(module), logits_of() + shift)
    with pytest.raises(ValueError, match="2 experts, not 3"):
        sparsemixer(logits_of(), RouterOptions(3))


def options_for(name: str) -> RouterOptions:
    top_k = 2 if name == "sparsemixer" else TOP_K
    table = torch.arange(TOP_K).repeat(8, 1)
    return RouterOptions(
        top_k, num_groups=4, kept_groups=2, token_ids=torch.zeros(TOKENS, dtype=torch.int64), expert_table=table
    )


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_dtype_of_logits_gives_weights_in_float32(name: str, dtype: torch.dtype) -> None:
    weights, experts = ROUTERS[name](logits_of().to(dtype), options_for(name))
    assert (weights.dtype, experts.dtype) == (torch.float32, torch.int64)
    assert bool((weights > 0).all())


@pytest.mark.parametrize("name", ROUTERS)
def test_ties_and_padding_still_give_distinct_experts_and_finite_weights(name: str) -> None:
    # A padding token has hidden state 0, so that all of its logits are 0.
    weights, experts = ROUTERS[name](torch.zeros(TOKENS, EXPERTS), options_for(name))
    assert all(len(set(row)) == experts.shape[1] for row in experts.tolist())
    assert bool(weights.isfinite().all())


def test_scores_belong_to_routers() -> None:
    assert set(SCORES) <= set(ROUTERS)
    for name, score in SCORES.items():
        scored = score(logits_of())
        assert scored.shape == (TOKENS, EXPERTS), name
        assert bool((scored >= 0).all()), name
