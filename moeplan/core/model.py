"""A model as a tuple of layers, and the closed kinds that layers are made of.

Widths are elements, lengths are tokens, counts are `num_`. Nothing here computes: `core.weights` folds
the kinds into tensors, `core.kv_cache` into cache entries. A new kind must be handled in every fold:
each ends in `assert_never`, so the type checker names the places.
"""

from typing import Literal, NamedTuple

Role = Literal[
    "embedding",
    "lm_head",
    "attention",
    "indexer",
    "recurrent",
    "router",
    "routed_experts",
    "moe_latent",
    "shared_experts",
    "dense_mlp",
    "norm",
    "towers",
    "other",
]
"""What a weight is for; the keys of `parameters.by_role`."""

ROLES: tuple[Role, ...] = Role.__args__  # type: ignore[attr-defined]

Split = Literal["replicated", "column", "row", "kv_heads", "vocabulary"]
"""How tensor parallelism splits a tensor: by output columns, by input rows, by key/value heads (replicated
once ranks outnumber heads), by vocabulary rows, or not at all."""


class Weight(NamedTuple):
    """`count` equal tensors of one `shape` that a block owns."""

    name: str
    """Checkpoint name within the block, or full where the block has none; `{expert}` stands for a number. Parts of
    one stored tensor (all experts in one, a fused projection) share its name."""
    role: Role
    shape: tuple[int, ...]
    """As stored: (out_features, in_features) for a linear weight."""
    split: Split = "replicated"
    units: int = 1
    """Number of units that a split may not cut: heads, columns, vocabulary rows."""
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which no record needs
    linear: bool = False
    """True for matrices that a weight quantiser may take."""
    buffer: bool = False
    """True for tensors in the checkpoint that are no parameters (router correction biases)."""

    @property
    def num_elements(self) -> int:
        """Elements of all `count` tensors together."""
        elements = self.count
        for size in self.shape:
            elements *= size
        return elements


# Mixers: what moves information between tokens -------------------------------------------------------------


class GroupedAttention(NamedTuple):
    """Multi-head, grouped-query or multi-query attention, full or windowed."""

    num_heads: int
    num_kv_heads: int
    key_head_dim: int
    value_head_dim: int
    window_tokens: int | None = None
    """Tokens a query may see; None sees all."""
    chunked: bool = False
    """True when the window is a fixed chunk (Llama 4) and not a sliding one."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    """RMS norm of queries and keys over one head's width, or over all heads' width."""
    gate: Literal["none", "elementwise", "headwise"] = "none"
    """Output gate: as many columns as queries inside `q_proj`, or one per head in `g_proj`."""
    sinks: bool = False
    """One learned sink logit per head."""
    value_is_key: bool = False
    """True when values are the keys' projection and there is no `v_proj` (both are still cached)."""
    shares_cache_of: int | None = None
    """Number of the layer whose cache this layer reads; such a layer owns no cache and no key or value projection."""
    extras: tuple[Weight, ...] = ()
    name: str = "self_attn"


class CrossAttention(NamedTuple):
    """A decoder's attention over the encoder's output: cached once per request, by encoder length."""

    num_heads: int
    head_dim: int
    bias: bool = False
    extras: tuple[Weight, ...] = ()
    name: str = "encoder_attn"


class RoutedAttention(NamedTuple):
    """Mixture of attention heads (JetMoE): query and output projections are experts, keys and values shared."""

    num_experts: int
    experts_per_token: int
    num_kv_heads: int
    head_dim: int
    extras: tuple[Weight, ...] = ()
    name: str = "self_attention"


class Indexer(NamedTuple):
    """Lightning indexer of sparse attention: scores cached tokens and keeps the best `top_k`."""

    num_heads: int
    head_dim: int
    top_k: int
    pooled: bool = False
    """True when keys are pooled before they are scored (GLM-5.3): a gate score per channel is cached beside the key."""

    @property
    def cached_elements(self) -> int:
        """Elements per token in the cache: the key; when pooled also its gate scores and one mark of validity
        (transformers 5.23.0 Glm5NextTextIndexer)."""
        return 2 * self.head_dim + 1 if self.pooled else self.head_dim


class LatentAttention(NamedTuple):
    """Multi-head latent attention (MLA): caches one latent and one rope key per token, never heads."""

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    indexer: Indexer | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    shares_cache_of: int | None = None
    """Number of the layer whose latent this layer reads; such a layer has no `kv_a_proj_with_mqa` and caches no
    latent, but where it has an indexer of its own it caches that one's keys."""
    extras: tuple[Weight, ...] = ()
    name: str = "self_attn"


class CompressedAttention(NamedTuple):
    """DeepSeek-V4 attention: a short window of one shared key/value head, beside entries that each stand for
    `tokens_per_entry` tokens. With an indexer (compressed sparse attention) windows overlap, so the
    compressor is twice as wide. `tokens_per_entry` 0 is the window alone."""

    num_heads: int
    head_dim: int
    rope_head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    window_tokens: int
    tokens_per_entry: int
    indexer: Indexer | None = None
    name: str = "self_attn"


class GatedDelta(NamedTuple):
    """Gated delta rule linear attention (Qwen3-Next, Qwen3.5): fixed state per sequence."""

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    fused_projections: bool = True
    """True for `in_proj_qkvz`/`in_proj_ba`, False for four separate matrices."""
    state_dtype: str | None = None
    """Dtype that the config asks for the state in, where it does."""
    name: str = "linear_attn"


class KimiDelta(NamedTuple):
    """Kimi delta attention: gated delta rule with a per-channel forget gate."""

    num_heads: int
    head_dim: int
    conv_kernel: int
    full_rank_gate: bool = False
    """True for an output gate of one matrix `g_proj` (Kimi K3), False for a product of two narrow ones."""
    full_rank_forget: bool = False
    """True for a forget gate of one matrix `f_proj` (Ling hybrid), False for a product of two narrow ones."""
    name: str = "self_attn"


class LightningAttention(NamedTuple):
    """Linear attention with a fixed decay (MiniMax-01 and kin): state of head_dim x head_dim per head."""

    num_heads: int
    head_dim: int
    extras: tuple[Weight, ...] = ()
    name: str = "self_attn"


class Mamba1(NamedTuple):
    """Selective state space, first form (Jamba)."""

    inner_size: int
    state_size: int
    conv_kernel: int
    time_step_rank: int
    conv_bias: bool = True
    projection_bias: bool = False
    inner_norms: bool = True
    name: str = "mamba"


class Mamba2(NamedTuple):
    """Selective state space, second form (Nemotron-H, Granite 4)."""

    num_heads: int
    head_dim: int
    state_size: int
    num_groups: int
    conv_kernel: int
    conv_bias: bool = True
    projection_bias: bool = False
    state_dtype: str | None = None
    """Dtype that the config asks for the state in, where it does."""
    name: str = "mixer"


class ShortConvolution(NamedTuple):
    """Gated short convolution (LFM2): the state is the last few columns."""

    channels: int
    conv_kernel: int
    bias: bool = False
    name: str = "conv"


Mixer = (
    GroupedAttention
    | CrossAttention
    | RoutedAttention
    | LatentAttention
    | CompressedAttention
    | GatedDelta
    | KimiDelta
    | LightningAttention
    | Mamba1
    | Mamba2
    | ShortConvolution
)


# Feed-forwards ---------------------------------------------------------------------------------------------


class DenseFfn(NamedTuple):
    """A plain feed-forward; `gated` has three matrices (gate, up, down), else two."""

    width: int
    gated: bool = True
    bias: bool = False
    extras: tuple[Weight, ...] = ()
    name: str = "mlp"


class MoeFfn(NamedTuple):
    """Routed experts with whatever stands beside them: shared experts, zero-computation experts, a latent."""

    num_experts: int
    experts_per_token: int
    expert_width: int
    gated: bool = True
    expert_bias: bool = False
    num_zero_experts: int = 0
    """Experts that compute nothing: they widen the router and lower the mean number of real visits."""
    num_shared_experts: int = 0
    shared_width: int = 0
    """Width of all shared experts together."""
    shared_gate: bool = False
    """One gate logit per token in front of the shared experts (Qwen)."""
    latent_size: int | None = None
    """Width of the experts' input when tokens are projected down first (Nemotron 3 Super)."""
    router_bias: bool = False
    correction_bias: bool = False
    """A buffer of one value per expert that steers the choice (`e_score_correction_bias`)."""
    extras: tuple[Weight, ...] = ()
    name: str = "mlp"
    router_name: str = "gate"
    shared_name: str = "shared_experts"


Ffn = DenseFfn | MoeFfn


class Layer(NamedTuple):
    """One decoder or encoder layer: its mixers and feed-forwards, and weights of the layer itself (norms)."""

    mixers: tuple[Mixer, ...]
    ffns: tuple[Ffn, ...]
    extras: tuple[Weight, ...] = ()


class Tower(NamedTuple):
    """A vision or audio encoder beside the text model, with its projector."""

    name: str
    weights: tuple[Weight, ...]


class Mtp(NamedTuple):
    """Layers that predict further tokens: in the checkpoint, not among `layers`, resident only when used."""

    layers: tuple[Layer, ...]
    extras: tuple[Weight, ...] = ()
    """Projections and norms of the MTP modules."""
    duplicates: tuple[Weight, ...] = ()
    """Tables that the checkpoint stores a second time (embedding, head)."""
    first_layer: int | None = None
    """Layer number under which the checkpoint stores the first module; None where it uses other names."""


class Remark(NamedTuple):
    """A doubt that travels with the data to every report (`notes` in JSON)."""

    code: str
    severity: Literal["info", "warning"]
    message: str
    where: str | None = None


class ModelSpec(NamedTuple):
    """A model as far as arithmetic needs it."""

    model_type: str
    family: str
    hidden_size: int
    vocab_size: int
    layers: tuple[Layer, ...]
    tied_embedding: bool
    max_context_tokens: int | None
    dtype: str
    """Weight dtype that the config states, or `bfloat16` with `dtype_stated` False."""
    dtype_stated: bool
    encoder_layers: tuple[Layer, ...] = ()
    extras: tuple[Weight, ...] = ()
    """Weights outside layers: final norm, learned positions; full names."""
    towers: tuple[Tower, ...] = ()
    mtp: Mtp | None = None
    card_convention: str | None = None
    """Which `active` the model's card uses, where that is known."""
    prefix: str = "model."
    """What the checkpoint puts in front of the text model's names."""
    lm_head_name: str = "lm_head.weight"
    embedding_name: str = "embed_tokens.weight"
    renames: tuple[tuple[str, str], ...] = ()
    """Canonical name part to the checkpoint's own, applied in order."""
    verified: bool = True
    """False for families whose shapes no independent build confirms."""
    remarks: tuple[Remark, ...] = ()

    @property
    def is_encoder_decoder(self) -> bool:
        """True when an encoder feeds the decoder (Switch, NLLB)."""
        return bool(self.encoder_layers)
