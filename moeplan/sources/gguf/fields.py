"""Config fields that many architectures of GGUF files share, under the names that a family reads."""

from __future__ import annotations

from typing import Any

from moeplan.sources.gguf.metadata import Described

Config = dict[str, Any]
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def put(config: Config, name: str, value: object) -> None:
    """A field, where its value is known."""
    if value is not None:
        config[name] = value


def common_fields(d: Described) -> Config:
    """Fields that nearly every family reads by the same names."""
    config: Config = {}
    hidden, heads = d.number("embedding_length", 1), d.number("attention.head_count")
    put(config, "hidden_size", hidden)
    config["num_hidden_layers"] = d.num_layers
    put(config, "num_attention_heads", heads or None)
    kv_heads = d.number("attention.head_count_kv") if d.numbers("attention.head_count_kv") else heads
    put(config, "num_key_value_heads", kv_heads or None)
    head_dim = d.number("attention.key_length", 1)
    if head_dim is None and hidden and heads:
        head_dim = hidden // heads  # llama.cpp's rule
    put(config, "head_dim", head_dim or None)
    put(config, "intermediate_size", d.number("feed_forward_length") or None)
    put(config, "vocab_size", vocab_size(d))
    put(config, "max_position_embeddings", d.number("context_length", 1))
    config["tie_word_embeddings"] = "output.weight" not in d.shapes
    d.told_by_tensors("tie_word_embeddings")
    return config


def vocab_size(d: Described) -> int | None:
    """Rows of the table; the tokenizer's list may be shorter than the padded table."""
    table, stated = d.shapes.get("token_embd.weight"), d.number("vocab_size", 1)
    if table is None:
        return stated
    if stated is None:
        d.told_by_tensors("vocab_size")
    elif stated != table[0]:
        d.doubts.append(f"vocab_size is {stated}, but the table has {table[0]} rows: the table is taken")
    return table[0]


def put_presence(d: Described, config: Config, **parts: str) -> None:
    """Fields that are true where some layer has a tensor of that name."""
    for field, part in parts.items():
        config[field] = d.any_layer(part)
        d.told_by_tensors(field)


def expert_width(d: Described) -> int | None:
    """Width of one routed expert."""
    stated = d.number("expert_feed_forward_length")
    if stated:
        return stated
    down = d.shape_in_layers("ffn_down_exps.weight", "ffn_down.0.weight")
    if down is None:
        return None
    d.told_by_tensors("expert_feed_forward_length")
    return down[-1]


def shared_width(d: Described) -> int:
    """Width of all shared experts together; 0 where there are none."""
    down = d.shape_in_layers("ffn_down_shexp.weight")
    if down is None:
        return 0
    d.told_by_tensors("shared expert width")
    return down[-1]


def put_experts(d: Described, config: Config, count: str, width: str, per_token: str = "num_experts_per_tok") -> bool:
    """Routed experts under a family's names; False where the model has none."""
    num_experts = d.number("expert_count")
    if not num_experts:
        return False
    config[count] = num_experts
    put(config, per_token, d.number("expert_used_count") or None)
    put(config, width, expert_width(d))
    return True


def put_shared_experts(d: Described, config: Config, name: str) -> None:
    """Number of shared experts, each as wide as a routed one."""
    count, width = d.number("expert_shared_count"), expert_width(d)
    if count is None and width:
        count = shared_width(d) // width
    config[name] = count or 0


def sparse_layers(d: Described) -> tuple[bool, ...]:
    """Of each layer, whether it routes."""
    return d.layers_with("ffn_gate_inp.weight")


def put_dense_first(d: Described, config: Config) -> None:
    """Which layers are sparse: the ones with a router."""
    sparse = sparse_layers(d)
    first = sparse.index(True) if True in sparse else len(sparse)
    if all(sparse[first:]):
        config["first_k_dense_replace"] = first
    else:
        config["mlp_layer_types"] = ["sparse" if is_sparse else "dense" for is_sparse in sparse]
    d.told_by_tensors("sparse layers")


def put_mtp(d: Described, config: Config, name: str = "num_nextn_predict_layers") -> None:
    """Number of layers in the file that predict further tokens, 0 too: some families assume one."""
    config[name] = d.num_nextn_layers


def put_kinds(
    d: Described, config: Config, beginning: str, kind: str, otherwise: str, name: str = "layer_types"
) -> None:
    """A list of layer kinds: `kind` where a block has a tensor whose name begins so."""
    config[name] = [kind if is_kind else otherwise for is_kind in d.layers_with(beginning)]
    d.told_by_tensors(name)


def put_windows(d: Described, config: Config) -> None:
    """`sliding_window`, and which layers have it where the file lists them."""
    put(config, "sliding_window", d.number("attention.sliding_window") or None)
    key = "attention.sliding_window_pattern"
    if not d.is_array(key):
        put(config, "sliding_window_pattern", d.number(key) or None)
        return
    pattern = d.per_layer(key) or ()
    config["layer_types"] = [SLIDING if is_windowed else FULL for is_windowed in pattern]


def period_and_offset(d: Described, which: tuple[bool, ...], what: str) -> tuple[int, int]:
    """(period, offset) of the layers that are true in `which`."""
    numbers = [number for number, is_one in enumerate(which) if is_one]
    if not numbers:
        raise d.wrong("blk.*", f"no block has {what}")
    period = numbers[1] - numbers[0] if len(numbers) > 1 else len(which)
    if numbers != list(range(numbers[0], len(which), period)):
        raise d.wrong("blk.*", f"the blocks with {what} do not follow one another at one distance")
    return period, numbers[0]


def put_latent(d: Described, c: Config) -> None:
    """Widths of latent attention. Files since llama.cpp absorbs the up-projection (2025) say `key_length_mla`; before
    that `key_length` was the width of a whole head."""
    rope = d.number("rope.dimension_count")
    key = d.number("attention.key_length_mla") or d.number("attention.key_length")
    value = d.number("attention.value_length_mla") or d.number("attention.value_length")
    for name in ("head_dim", "num_key_value_heads"):
        c.pop(name, None)
    put(c, "kv_lora_rank", d.number("attention.kv_lora_rank") or None)
    put(c, "q_lora_rank", d.number("attention.q_lora_rank") or None)
    put(c, "qk_rope_head_dim", rope or None)
    if rope and key and key > rope:
        c["qk_nope_head_dim"] = key - rope
    put(c, "v_head_dim", value or None)
    if d.number("attention.indexer.head_count"):
        put(c, "index_n_heads", d.number("attention.indexer.head_count"))
        put(c, "index_head_dim", d.number("attention.indexer.key_length"))
        put(c, "index_topk", d.number("attention.indexer.top_k"))
