from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.model import DenseFfn, GroupedAttention, LatentAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import norms, parameters


def model(hidden: int = 64, layers: int = 2, *, tied: bool = False, dense: bool = False, **experts: Any) -> ModelSpec:
    attention = GroupedAttention(num_heads=4, num_kv_heads=2, key_head_dim=16, value_head_dim=16)
    shape: dict[str, Any] = {"num_experts": 8, "experts_per_token": 2, "expert_width": 32}
    ffn = DenseFfn(32) if dense else MoeFfn(**(shape | experts))
    layer = Layer((attention,), (ffn,), norms(hidden, "input_layernorm", "post_attention_layernorm"))
    return ModelSpec(
        "test", "test", hidden, 100, (layer,) * layers, tied, 4096, "bfloat16", True, extras=norms(hidden, "model.norm")
    )


def test_a_small_model_by_hand() -> None:
    counts = parameters(model())
    attention = 2 * (4 * 16 * 64 + 2 * 2 * 16 * 64 + 64 * 4 * 16)
    experts = 2 * 8 * 3 * 64 * 32
    assert counts.by_role["attention"] == attention
    assert counts.by_role["routed_experts"] == experts
    assert counts.by_role["router"] == 2 * 8 * 64
    assert counts.total == 2 * 100 * 64 + attention + experts + 2 * 8 * 64 + 5 * 64
    assert counts.active == counts.total - experts * 6 // 8
    assert counts.active_without_embedding == counts.active - 6400
    assert counts.active_without_embedding_and_head == counts.active - 12800


def test_a_tied_table_counts_once_and_is_never_left_out_alone() -> None:
    # The convention: a tied table is not subtracted in the first and once in the second.
    tied = parameters(model(tied=True))
    assert tied.total == parameters(model()).total - 6400
    assert tied.active_without_embedding == tied.active
    assert tied.active_without_embedding_and_head == tied.active - 6400


def test_zero_computation_experts_give_a_mean_and_bounds() -> None:
    # 8 real and 8 zero experts, 4 chosen: between 0 and 4 real ones, 2 on average.
    counts = parameters(model(num_zero_experts=8, experts_per_token=4))
    per_expert = 2 * 3 * 64 * 32
    idle = counts.text_total - counts.active
    assert idle == 6 * per_expert
    assert counts.active_low == counts.text_total - 8 * per_expert
    assert counts.active_high == counts.text_total - 4 * per_expert


def test_correction_biases_are_buffers_and_not_parameters() -> None:
    with_bias, without = parameters(model(correction_bias=True)), parameters(model())
    assert with_bias.total == without.total
    assert with_bias.buffers == 2 * 8


def test_a_latent_without_query_rank_has_a_plain_query_projection() -> None:
    ranked = LatentAttention(4, 24, 32, 16, 8, 16)
    plain = ranked._replace(q_lora_rank=None)
    layer = Layer((plain,), (DenseFfn(32),))
    spec = model()._replace(layers=(layer,))
    assert parameters(spec).by_role["attention"] == 64 * 4 * 24 + 64 * (32 + 8) + 32 + 32 * 4 * 32 + 4 * 16 * 64
    spec = spec._replace(layers=(layer._replace(mixers=(ranked,)),))
    assert (
        parameters(spec).by_role["attention"] == 64 * 24 + 24 + 24 * 4 * 24 + 64 * 40 + 32 + 32 * 4 * 32 + 4 * 16 * 64
    )


sizes = st.integers(1, 64)


@given(
    hidden=sizes, layers=st.integers(1, 5), experts=st.integers(1, 32), width=sizes, chosen=st.integers(1, 32),
    shared=st.integers(0, 64), tied=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_roles_sum_to_the_total_and_top_k_moves_only_the_active(
    hidden: int, layers: int, experts: int, width: int, chosen: int, shared: int, tied: bool, bias: bool
) -> None:
    spec = model(
        hidden, layers, tied=tied, num_experts=experts, experts_per_token=min(chosen, experts), expert_width=width,
        shared_width=shared, correction_bias=bias,
    )  # fmt: skip
    counts = parameters(spec)
    assert sum(counts.by_role.values()) == counts.total == counts.text_total
    assert 0 < counts.active <= counts.total
    one = [
        layer._replace(ffns=tuple(ffn._replace(experts_per_token=1) for ffn in layer.ffns if isinstance(ffn, MoeFfn)))
        for layer in spec.layers
    ]
    fewer = parameters(spec._replace(layers=tuple(one)))
    assert fewer.total == counts.total
    assert fewer.by_role == counts.by_role
    assert fewer.active <= counts.active
