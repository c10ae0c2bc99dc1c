from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure import experts
from moeplan.measure.experts import grouped, reference, scaled, vllm
from moeplan.measure.experts.layer import run_layer
from moeplan.measure.experts.permutation import combine, permute
from moeplan.measure.experts.tensors import (
    ExpertWeights,
    Routing,
    activate,
    around_params,
    copy_of,
    expert_params,
    random_weights,
    routing_of,
)  # fmt: skip
from moeplan.measure.routing_draws import draw
from moeplan.measure.session import NotMeasuredError, Session, open_session

TORCH_BACKENDS = ("loop", "batched", "torch.grouped_mm")
HAS_CUDA = torch.cuda.is_available() and not torch.version.hip

SHAPE = MoeShape("tiny", 32, 16, 8, 2)
SHAPES = (
    SHAPE,
    SHAPE._replace(gated=False),
    SHAPE._replace(experts_per_token=1),
    SHAPE._replace(experts_per_token=8),
    SHAPE._replace(num_experts=64, experts_per_token=6),
    SHAPE._replace(latent_size=16, shared_width=48, gated=False),
    SHAPE._replace(hidden_size=30, expert_width=10),  # grouped matmuls refuse strides of 60 and 20 bytes
    SHAPE._replace(hidden_size=33, expert_width=7, gated=False),
)
ROUTINGS = (
    ("uniform", 1),  # one token
    ("uniform", 17),
    ("balanced", 40),
    ("zipf:2", 33),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these tensors are too small for more, which would wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 0)


def device_of(kind: str, capability: str | None) -> MeasuredDevice:
    unknown: dict[str, Any] = dict.fromkeys(MeasuredDevice._fields)
    return MeasuredDevice(**{**unknown, "kind": kind, "compute_capability": capability})


def by_hand(weights: ExpertWeights, x: Tensor, chosen: Tensor, gate: Tensor) -> Tensor:
    """Token by token and expert by expert in float64: sum of gate x w2 (silu(w1 x) * (w3 x)), or w2 relu(w1 x)^2."""
    out = torch.zeros(x.shape, dtype=torch.float64)
    width = weights.w2_EDF.shape[2]
    for token in range(len(x)):
        for place, expert in enumerate(chosen[token].tolist()):
            first = weights.w13_EGD[expert, :width].double() @ x[token].double()
            if weights.gated:
                middle = (
                    first / (1 + torch.exp(-first)) * (weights.w13_EGD[expert, width:].double() @ x[token].double())
                )
            else:
                middle = torch.where(first > 0, first * first, 0.0)
            out[token] += gate[token, place].double() * (weights.w2_EDF[expert].double() @ middle)
    return out


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


def routed_input(shape: MoeShape, dtype: str, session: Session, tokens: int) -> Tensor:
    return session.random((tokens, shape.latent_size or shape.hidden_size), dtype, "x")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("routing", "tokens"), ROUTINGS)
def test_the_loop_is_the_formula(shape: MoeShape, routing: str, tokens: int, session: Session) -> None:
    weights = random_weights(shape, "float32", session, layer=False)
    x = routed_input(shape, "float32", session, tokens)
    way = routing_of(draw(routing, tokens, shape.num_experts, shape.experts_per_token, 1), session)
    want = by_hand(weights, x, way.experts_TK, way.gate_TK)
    assert error(reference.run(weights, x, way), want) < 1e-6


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 3e-3)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("routing", "tokens"), ROUTINGS)
def test_each_backend_agrees_with_the_loop_in_float32(
    backend: str, dtype: str, tolerance: float, shape: MoeShape, routing: str, tokens: int, session: Session
) -> None:
    module = experts.load(backend)
    assert module.available(session.device, dtype) is None
    weights = random_weights(shape, dtype, session, layer=False)
    x = routed_input(shape, dtype, session, tokens)
    way = routing_of(draw(routing, tokens, shape.num_experts, shape.experts_per_token, 1), session)
    with torch.no_grad():
        got = module.run(module.prepare(weights, dtype), x, way)
    assert got.shape == x.shape
    assert got.dtype == x.dtype
    assert error(got, reference.loop(weights, x.float(), way.experts_TK, way.gate_TK)) < tolerance


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
@pytest.mark.parametrize("expert", [0, 3, 7])
def test_all_tokens_may_go_to_one_expert_and_the_rest_stay_empty(backend: str, expert: int, session: Session) -> None:
    module, weights = experts.load(backend), random_weights(SHAPE, "float32", session, layer=False)
    x = routed_input(SHAPE, "float32", session, 20)
    way = Routing(torch.full((20, 1), expert), torch.ones(20, 1), 1, 20)
    got = module.run(module.prepare(weights, "float32"), x, way)
    gate, up = (x @ weights.w13_EGD[expert].T).chunk(2, dim=-1)
    assert error(got, (functional.silu(gate) * up) @ weights.w2_EDF[expert].T) < 1e-6


@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_weights_of_a_routing_scale_each_expert(backend: str, session: Session) -> None:
    module, weights = experts.load(backend), random_weights(SHAPE, "float32", session, layer=False)
    x, ids = routed_input(SHAPE, "float32", session, 5), torch.tensor([[2, 6]]).repeat(5, 1)
    both = [module.run(module.prepare(weights, "float32"), x, Routing(ids, torch.tensor([each]).repeat(5, 1), 2, 5))
            for each in ([1.0, 0.0], [0.0, 1.0], [0.25, 3.0])]  # fmt: skip
    assert error(both[2], 0.25 * both[0] + 3.0 * both[1]) < 1e-6


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[5], SHAPE._replace(shared_width=24)])
@pytest.mark.parametrize("backend", TORCH_BACKENDS)
def test_a_layer_adds_shared_experts_and_projects_latents(shape: MoeShape, backend: str, session: Session) -> None:
    module, weights = experts.load(backend), random_weights(shape, "float32", session, layer=True)
    x = session.random((9, shape.hidden_size), "float32", "x")
    way = routing_of(draw("uniform", 9, shape.num_experts, shape.experts_per_token, 1), session)
    got = run_layer(module.run, module.prepare(weights, "float32"), weights, x, way)
    down, up = weights.latent_down_DH, weights.latent_up_HD
    latent = x if down is None else x @ down.T
    want = by_hand(weights, latent, way.experts_TK, way.gate_TK).float()
    want = want if up is None else want @ up.T
    if weights.shared_w13_UH is not None and weights.shared_w2_HS is not None:
        want = want + activate(x @ weights.shared_w13_UH.T, shape.gated) @ weights.shared_w2_HS.T
    assert error(got, want) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_matrices(shape: MoeShape, session: Session) -> None:
    weights = random_weights(shape, "float32", session, layer=True)
    assert shape.num_experts * expert_params(shape) == weights.w13_EGD.numel() + weights.w2_EDF.numel()
    beside = (weights.shared_w13_UH, weights.shared_w2_HS, weights.latent_down_DH, weights.latent_up_HD)
    assert around_params(shape) == sum(each.numel() for each in beside if each is not None)
    copy = copy_of(weights)
    assert torch.equal(copy.w13_EGD, weights.w13_EGD)
    assert copy.w13_EGD.data_ptr() != weights.w13_EGD.data_ptr()


@pytest.mark.parametrize("name", ["uniform", "distinct:3", "zipf:2"])
def test_a_permutation_sorts_rows_by_expert_and_leads_back(name: str) -> None:
    ids = draw(name, 21, 9, 3, 0).experts
    way = permute(ids, 9)
    chosen = ids.flatten().tolist()
    assert way.expert_A.tolist() == sorted(chosen)
    # Ends of experts: how many assignments go to this expert or one before it.
    assert way.ends_E.tolist() == [sum(each <= expert for each in chosen) for expert in range(9)]
    assert way.ends_E.dtype == torch.int32
    x = torch.arange(21.0).unsqueeze(1)
    assert torch.equal(x[way.token_A][way.row_TK].squeeze(-1), torch.arange(21.0).unsqueeze(1).expand(21, 3))
    gate = torch.rand(21, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(combine(x[way.token_A], way.row_TK, gate), x * gate.sum(-1, keepdim=True))


def test_the_grouped_matmul_pads_only_what_it_refuses(session: Session) -> None:
    even = random_weights(SHAPE, "bfloat16", session, layer=False)
    assert grouped.prepare(even, "bfloat16").w13_EDG.data_ptr() == even.w13_EGD.data_ptr()
    odd = random_weights(
        SHAPES[6], "bfloat16", session, layer=False
    )  # 30 wide, 10 within: the next eights are 32 and 16
    made = grouped.prepare(odd, "bfloat16")
    assert tuple(made.w13_EDG.shape) == (8, 32, 32)
    assert tuple(made.w2_EFD.shape) == (8, 16, 32)
    x = routed_input(SHAPES[6], "bfloat16", session, 4)
    ends = torch.full((8,), 4, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="multiple of 16 bytes"):
        functional.grouped_mm(x, odd.w13_EGD.transpose(1, 2), offs=ends)


@pytest.mark.parametrize(
    ("backend", "dtype", "kind", "capability", "why"),
    [
        ("loop", "float8_e4m3fn", "cuda", "9.0", "does not take float8_e4m3fn"),
        ("batched", "int8", "cpu", None, "does not take int8"),
        ("torch.grouped_mm", "bfloat16", "cuda", "7.5", "compute capability 8.0"),
        ("torch.grouped_mm", "float8_e4m3fn", "cuda", "9.0", "does not take float8_e4m3fn"),
        ("torch.grouped_mm", "bfloat16", "cuda", "8.0", None),
        ("torch.grouped_mm", "bfloat16", "rocm", "gfx942", None),
        ("torch.scaled_grouped_mm", "bfloat16", "cuda", "9.0", "is for float8_e4m3fn"),
        ("torch.scaled_grouped_mm", "float8_e4m3fn", "cpu", None, "needs a CUDA device"),
        ("torch.scaled_grouped_mm", "float8_e4m3fn", "cuda", "8.9", "9.0 alone"),
        ("torch.scaled_grouped_mm", "float8_e4m3fn", "cuda", "10.0", "9.0 alone"),
        ("torch.scaled_grouped_mm", "float8_e4m3fn", "cuda", "9.0", None),
    ],
)
def test_backends_say_why_they_cannot_run(
    backend: str, dtype: str, kind: str, capability: str | None, why: str | None
) -> None:
    got = experts.load(backend).available(device_of(kind, capability), dtype)
    assert got is None if why is None else why in str(got)


@pytest.mark.parametrize(
    ("dtype", "kind", "capability", "captures"),
    [
        ("bfloat16", "cuda", "9.0", True),
        ("bfloat16", "cuda", "10.0", True),
        ("bfloat16", "cuda", "8.9", False),  # torch loops over experts on the host
        ("float16", "cuda", "9.0", False),
        ("bfloat16", "rocm", "gfx942", False),
        ("float16", "cpu", None, True),
    ],
)
def test_only_the_fast_path_can_be_captured(dtype: str, kind: str, capability: str | None, captures: bool) -> None:
    assert grouped.captures(device_of(kind, capability), dtype) is captures


def test_grouped_says_that_torch_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(functional, "grouped_mm", raising=False)
    monkeypatch.delattr(torch, "_grouped_mm", raising=False)
    assert "no grouped matmul; 2.9 has" in str(grouped.available(device_of("cpu", None), "bfloat16"))


def test_vllm_is_skipped_with_the_reason_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    hopper = device_of("cuda", "9.0")
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    assert vllm.available(hopper, "bfloat16") == "vllm is not installed"
    monkeypatch.setattr(vllm, "find_spec", lambda _: "there")
    assert vllm.available(hopper, "bfloat16") is None
    assert "CUDA or ROCm" in str(vllm.available(device_of("cpu", None), "bfloat16"))
    assert "float8" in str(vllm.available(hopper, "float8_e4m3fn"))


def test_vllm_gets_weights_ids_and_activation_as_it_takes_them(session: Session) -> None:
    seen: dict[str, Any] = {}

    def kernel(hidden: Tensor, w1: Tensor, w2: Tensor, weights: Tensor, ids: Tensor, *, activation: str) -> Tensor:
        # vllm 0.33.0: w1 [E, 2N or N, K], w2 [E, K, N], weights float32, ids int32, contiguous hidden states
        assert hidden.is_contiguous()
        seen.update(w1=tuple(w1.shape), w2=tuple(w2.shape), weights=weights.dtype, ids=ids.dtype, activation=activation)
        return hidden

    weights, x = random_weights(SHAPE, "bfloat16", session, layer=False), routed_input(SHAPE, "bfloat16", session, 3)
    way = routing_of(draw("uniform", 3, 8, 2, 0), session)
    vllm.run(vllm.Prepared(weights, kernel, "silu"), x, way)
    assert seen == {
        "w1": (8, 32, 32),
        "w2": (8, 32, 16),
        "weights": torch.float32,
        "ids": torch.int32,
        "activation": "silu",
    }


def test_rows_are_quantised_to_the_largest_float8(session: Session) -> None:
    values = session.random((5, 64), "bfloat16", "values")
    rows, scale = scaled.quantise_rows(values)
    assert rows.dtype == torch.float8_e4m3fn
    back = rows.float() * scale.unsqueeze(-1)
    # Three bits of mantissa: at most 1/16 off, relative to the value; below the smallest normal number half a step of it.
    assert bool(((back - values.float()).abs() <= values.float().abs() / 16 + scale.unsqueeze(-1) * 2**-10).all())
    assert torch.equal(rows.float().abs().amax(-1), torch.full((5,), 448.0))
    assert bool(scaled.quantise_rows(torch.zeros(2, 16))[0].float().isfinite().all())


def test_float8_needs_widths_in_sixteens(session: Session) -> None:
    weights = random_weights(SHAPE._replace(expert_width=24), "bfloat16", session, layer=False)
    with pytest.raises(NotMeasuredError, match="widths that 16 divides: 32 and 24"):
        scaled.prepare(weights, "float8_e4m3fn")


def test_quantised_weights_multiply_to_nearly_the_same(session: Session) -> None:
    # The kernel itself needs a GPU; what it is given can be multiplied here in float32.
    weights = random_weights(SHAPE, "bfloat16", session, layer=False)
    made = scaled.prepare(weights, "float8_e4m3fn")
    assert made.w13_EDG.stride(1) == 1  # inputs contiguous
    assert error(made.w13_EDG.float().transpose(1, 2) * made.w13_scale_EG.unsqueeze(-1), weights.w13_EGD) < 0.04
    assert error(made.w2_EFD.float().transpose(1, 2) * made.w2_scale_ED.unsqueeze(-1), weights.w2_EDF) < 0.04


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("backend", [*TORCH_BACKENDS, "torch.scaled_grouped_mm", "vllm.fused_moe"])
@pytest.mark.parametrize("shape", [MoeShape("small", 256, 128, 16, 4), MoeShape("plain", 256, 128, 16, 4, gated=False)])
@pytest.mark.parametrize("tokens", [1, 33, 300])
def test_each_backend_agrees_with_the_loop_on_a_gpu(backend: str, shape: MoeShape, tokens: int) -> None:
    session, module = open_session("cuda", 0), experts.load(backend)
    dtype = "float8_e4m3fn" if "scaled" in backend else "bfloat16"
    if (why := module.available(session.device, dtype)) is not None:
        pytest.skip(why)
    weights = random_weights(shape, "bfloat16", session, layer=False)
    x = routed_input(shape, "bfloat16", session, tokens)
    way = routing_of(draw("zipf:1", tokens, shape.num_experts, shape.experts_per_token, 1), session)
    with torch.no_grad():
        got = module.run(module.prepare(weights, dtype), x, way)
    assert error(got, reference.loop(weights, x.float(), way.experts_TK, way.gate_TK)) < (
        0.1 if "scaled" in backend else 2e-2
    )
