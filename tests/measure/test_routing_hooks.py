"""What hooks record, beside what the experts of the same models are called with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from moeplan.core.routing_capture import NO_EXPERT, NOT_HERE
from moeplan.measure.near_ties import Judge, judges
from moeplan.measure.routers import RouterOptions, only_best_groups
from moeplan.measure.routing_hooks import Choices, RoutersNotFoundError, RoutingHooks
from tests.measure.routed_models import DENSE, JETMOE, LLAMA4, NLLB, ROUTED, SWITCH, ZAYA, build

TOKENS = 64


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def ids_of(tokens: int = TOKENS, seed: int = 3) -> Tensor:
    return torch.randint(2, 96, (1, tokens), generator=torch.Generator().manual_seed(seed))


def hooked(model: Any, ids: Tensor) -> RoutingHooks:
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return RoutingHooks(model, lambda: model(input_ids=ids, **more), ids.shape[1])


def table(choices: Choices, hooks: RoutingHooks) -> Tensor:
    """[tokens, layers, K]"""
    flat = torch.frombuffer(bytearray(choices.experts), dtype=torch.uint16)
    return flat.long().view(choices.tokens, len(hooks.layers), -1)


def sets(chosen: Tensor) -> list[set[int]]:
    """Of [tokens, K], without what is no expert."""
    return [set(row) - {NO_EXPERT, NOT_HERE} for row in chosen.tolist()]


def run(model: Any, hooks: RoutingHooks, ids: Tensor) -> Choices:
    with hooks:
        model(input_ids=ids)
    return hooks.take()


def outputs_of(hooks: RoutingHooks) -> dict[int, list[Any]]:
    """What the routers give back from now on, by their place among the layers."""
    given: dict[int, list[Any]] = {place: [] for place in range(len(hooks.routers))}

    def keep(place: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            given[place].append(output)

        return hook

    for place, router in enumerate(hooks.routers):
        router.module.register_forward_hook(keep(place))
    return given


# Every kind of router ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROUTED)
def test_recorded_choices_are_what_experts_are_called_with(name: str) -> None:
    model, ids = build(ROUTED[name]), ids_of()
    hooks = hooked(model, ids)
    called: dict[int, Tensor] = {}

    def keep(place: int) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            called[place] = given[1].reshape(TOKENS, -1)

        return hook

    for place, router in enumerate(hooks.routers):
        router.block.experts.register_forward_pre_hook(keep(place))
    choices = run(model, hooks, ids)
    chosen = table(choices, hooks)
    assert choices.tokens == TOKENS
    assert choices.dropped is None
    assert len(called) == len(hooks.layers)
    for place, layer in enumerate(hooks.layers):
        want = [{expert for expert in row if expert < layer.num_experts} for row in called[place].tolist()]
        assert sets(chosen[:, place]) == want, layer
        assert len(set().union(*want)) > layer.experts_per_token  # not one choice for all
    # Random weights in float32: scores were understood, and nothing is as near as 1e-7.
    assert choices.margins == (0.0,) * len(hooks.layers)


def test_layers_are_those_of_the_config() -> None:
    hooks = hooked(build(ROUTED["deepseek_v3"]), ids_of())
    assert [tuple(layer) for layer in hooks.layers] == [(1, 16, 3), (2, 16, 3)]  # the first is dense
    hooks = hooked(build(ROUTED["longcat_flash"]), ids_of())
    assert [tuple(layer) for layer in hooks.layers] == [(0, 6, 3), (1, 6, 3)]  # zero-computation experts are none


def test_a_token_may_have_fewer_experts_where_some_compute_nothing() -> None:
    model, ids = build(ROUTED["longcat_flash"]), ids_of()
    hooks = hooked(model, ids)
    counts = {len(row) for row in sets(table(run(model, hooks, ids), hooks)[:, 0])}
    assert min(counts) < 3
    model = build(ZAYA)
    for router in (each.module for each in hooked(model, ids).routers):
        router.balancing_biases.data[-1] = 0.15  # the skip expert
    hooks = hooked(model, ids)
    choices = run(model, hooks, ids)
    chosen = table(choices, hooks)
    assert hooks.layers[0].num_experts == 5
    skipped = [sum(not row for row in sets(chosen[:, place])) for place in range(len(hooks.layers))]
    assert 0 < sum(skipped) < chosen.shape[0] * chosen.shape[1]
    assert choices.margins == (0.0,) * len(hooks.layers)


def test_llama_4_applies_its_one_expert() -> None:
    model, ids = build(LLAMA4), ids_of()
    hooks = hooked(model, ids)
    outputs = outputs_of(hooks)
    chosen = table(run(model, hooks, ids), hooks)
    for place, given in outputs.items():
        scores = given[0][0]
        assert sets(chosen[:, place]) == [set(row.nonzero().flatten().tolist()) for row in scores]


def test_jetmoe_has_routers_of_attention_too_which_are_left_out() -> None:
    model, ids = build(JETMOE), ids_of()
    hooks = hooked(model, ids)
    assert [router.name for router in hooks.routers] == ["model.layers.0.mlp.router", "model.layers.1.mlp.router"]
    outputs = outputs_of(hooks)
    chosen = table(run(model, hooks, ids), hooks)
    for place, layer in enumerate(hooks.layers):
        sizes = outputs[place][0][3]
        assert torch.bincount(chosen[:, place].flatten(), minlength=layer.num_experts).tolist() == sizes


# Capacity, encoder and decoder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SWITCH, NLLB], ids=["switch", "nllb"])
def test_capacity_models_record_what_was_wanted_and_count_what_was_cut(config: dict[str, Any]) -> None:
    model, ids = build(config), ids_of(40)
    hooks = hooked(model, ids)
    top_k = hooks.layers[0].experts_per_token
    assert top_k == (1 if config is SWITCH else 2)
    outputs = outputs_of(hooks)
    with hooks:
        model(input_ids=ids, decoder_input_ids=ids[:, :9])
    choices = hooks.take()
    chosen = table(choices, hooks)
    assert choices.tokens == 49
    assert choices.dropped is not None
    for place, router in enumerate(hooks.routers):
        # Tokens of the prompt come to encoder layers alone, those of the answer to decoder layers alone.
        here, away = (chosen[:40], chosen[40:]) if router.in_encoder else (chosen[40:], chosen[:40])
        assert bool((away[:, place] == NOT_HERE).all())
        logits = torch.cat([output[2].reshape(-1, 4) for output in outputs[place]])
        assert sets(here[:, place]) == [set(row) for row in logits.topk(top_k).indices.tolist()]
        kept = sum(int((output[1 if top_k == 2 else 0] != 0).sum()) for output in outputs[place])
        assert choices.dropped[place] == top_k * len(here) - kept
    assert choices.dropped[0] > 0
    num_encoder = 4 if config is SWITCH else 2
    assert [layer.layer for layer in hooks.layers] == sorted(
        int(router.name.split(".")[2 if config is SWITCH else 3]) + (0 if router.in_encoder else num_encoder)
        for router in hooks.routers
    )


# Sequences ---------------------------------------------------------------------------------------------------------------


def test_prefill_and_decoded_tokens_come_in_order_whatever_the_steps() -> None:
    model, ids = build(ROUTED["qwen3_moe"]), ids_of(300)
    hooks = hooked(model, ids)
    whole = table(run(model, hooks, ids), hooks)
    with hooks:
        cache = model(input_ids=ids[:, :20], use_cache=True).past_key_values
        for token in range(20, 300):
            model(input_ids=ids[:, token : token + 1], past_key_values=cache, use_cache=True)
    stepwise = table(hooks.take(), hooks)
    assert [sets(stepwise[:, place]) for place in range(3)] == [sets(whole[:, place]) for place in range(3)]
    assert hooks.take().tokens == 0  # nothing is left over


def test_what_is_kept_while_the_model_runs_is_two_bytes_for_each_choice() -> None:
    model, ids = build(ROUTED["olmoe"]), ids_of(1024)
    hooks = hooked(model, ids)
    with hooks:
        model(input_ids=ids)
    for record in hooks._records:
        assert not record._waiting
        assert sum(each.numel() * each.element_size() for each in record._ids) == 1024 * 2 * 2
    hooks.forget()
    assert hooks.take().tokens == 0
    model(input_ids=ids)  # no hook is left
    assert hooks.take().tokens == 0


# What cannot be read -----------------------------------------------------------------------------------------------------


def test_a_dense_model_is_refused_with_the_modules_that_were_looked_at() -> None:
    with pytest.raises(
        RoutersNotFoundError, match="LlamaForCausalLM has no routers: no module of its Embedding, "
    ) as caught:
        hooked(build(DENSE), ids_of())
    assert "LlamaMLP" in caught.value.looked_at


class StrangeRouter(nn.Module):  # type: ignore[misc]
    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.known = known

    def forward(self, hidden: Tensor) -> Any:
        logits, weights, experts = self.known(hidden)
        return Answer(logits[:, :1], weights.sum(), experts.sum())


class Answer(tuple[Any, ...]):
    __slots__ = ()

    def __new__(cls, *parts: Any) -> Self:
        return super().__new__(cls, parts)


def test_a_router_with_other_outputs_is_named_with_them() -> None:
    model = build(ROUTED["mixtral"])
    block = model.model.layers[1].mlp
    block.gate = StrangeRouter(block.gate)
    block.forward = lambda hidden: (block.gate(hidden.reshape(-1, 32)), hidden)[1]
    with pytest.raises(RoutersNotFoundError) as caught:
        hooked(model, ids_of())
    assert str(caught.value) == (
        "MixtralForCausalLM has a router that cannot be read: model.layers.1.mlp.gate (StrangeRouter) gave "
        "(float32 [64, 1], float32 [], int64 []) for 64 tokens"
    )
    assert "model.layers.0.mlp.gate (MixtralTopKRouter)" in caught.value.looked_at


# Near ties ---------------------------------------------------------------------------------------------------------------

HALF = torch.finfo(torch.bfloat16).eps / 2


def judge(**fields: Any) -> Judge:
    """The first one that is tried for a router with these fields."""
    return next(judges(SimpleNamespace(**fields), SimpleNamespace()))


def test_near_is_by_hand() -> None:
    # bfloat16 keeps 8 bits: numbers between 4 and 8 are rounded by up to 1/64. Two such logits swap if less than 1/32 apart.
    logits = torch.tensor([[5.0, 4.99, 1.0], [5.0, 4.9, 1.0], [5.0, 1.0, 1.0]])
    best = torch.tensor([[0], [0], [0]])
    assert judge()(logits, best, HALF).near.tolist() == [True, False, False]
    assert judge()(logits, best, torch.finfo(torch.float32).eps / 2).near.tolist() == [False] * 3
    pair = torch.tensor([[0, 1], [0, 1], [0, 2]])
    found = judge()(logits, pair, HALF)
    assert found.near.tolist() == [False, False, True]  # 1.0 and 1.0
    assert found.wrong.tolist() == [False] * 3
    assert judge()(logits, torch.tensor([[1], [1], [1]]), HALF).wrong.tolist() == [False, True, True]
    assert judge()(logits, torch.tensor([[0, 1, 2]] * 3), HALF).near.tolist() == [False] * 3  # nobody is refused
    assert judge(tid2eid=torch.zeros(1))(logits, pair, HALF).near.tolist() == [False] * 3  # nothing is compared


@pytest.mark.parametrize("kind", ["logits", "sigmoid", "groups", "softmax"])
def test_tokens_whose_experts_change_when_logits_are_rounded_were_near(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20_000, 16, generator=generator)
    bias = 0.2 * torch.randn(16, generator=generator)
    fields: dict[str, Any] = {} if kind == "logits" else {"e_score_correction_bias": bias}
    options = RouterOptions(1, num_groups=4, kept_groups=2)
    if kind == "groups":
        fields |= {"num_group": 4, "topk_group": 2}

    def experts_of(given: Tensor) -> Tensor:
        if kind == "logits":
            return given.topk(4).indices
        choice = (given.softmax(-1) if kind == "softmax" else given.sigmoid()) + bias
        if kind == "groups":
            choice = only_best_groups(choice, choice.unflatten(-1, (4, 4)).topk(2).values.sum(-1), options)
        return choice.topk(4).indices

    experts = experts_of(logits)
    tried = judges(SimpleNamespace(**fields), SimpleNamespace())
    found = next(leads for each in tried if not (leads := each(logits, experts, HALF)).wrong.any())
    changed = experts.sort().values != experts_of(logits.bfloat16().float()).sort().values
    flips = changed.any(dim=-1)
    assert int(flips.sum()) > 40
    share = float((flips & found.near).sum() / flips.sum())
    # A group that swaps with another is a tie between groups, which is not looked at.
    assert share >= (0.5 if kind == "groups" else 0.99)
    # Near is what the worst rounding could swap: several times what one rounding does, and not hundreds of times.
    assert float(found.near.float().mean()) < 12 * float(flips.float().mean())


def test_scores_that_no_judge_knows_are_no_guess() -> None:
    model, ids = build(ROUTED["mixtral"]), ids_of()

    def second_and_third(module: nn.Module, given: Any, output: Any) -> Any:
        return output[0], output[1], output[0].topk(3).indices[:, 1:]

    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(second_and_third)
    hooks = hooked(model, ids)
    assert run(model, hooks, ids).margins == (None, None)


# Overhead ----------------------------------------------------------------------------------------------------------------


def test_hooks_cost_less_than_a_tenth_of_the_forward_pass(small_moe: Path) -> None:
    from transformers import AutoModelForCausalLM

    # The hardest case: a model so small that its whole step takes 3 ms. Time of the process, so that neighbours do not count.
    model, ids = AutoModelForCausalLM.from_pretrained(small_moe).eval(), ids_of(256)
    hooks = hooked(model, ids[:, :64])

    def seconds() -> float:
        begun = time.process_time()
        cache = model(input_ids=ids, use_cache=True).past_key_values
        for token in range(32):
            model(input_ids=ids[:, token : token + 1], past_key_values=cache, use_cache=True)
        return time.process_time() - begun

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds()
        bare, watched = [], []
        for _ in range(9):
            bare.append(seconds())
            with hooks:
                begun = time.process_time()
                seconds()
                hooks.take()
                watched.append(time.process_time() - begun)
    finally:
        torch.set_num_threads(threads)
    assert min(statistics.median(watched) / statistics.median(bare), min(watched) / min(bare)) < 1.10
