"""What each quantiser takes, and what it leaves alone without saying so, with where that is known from."""

from typing import NamedTuple

from moeplan.core.model import Role
from moeplan.core.quant import MATRIX_ROLES, Rule, WeightFormat


class LeftAlone(NamedTuple):
    """What a quantiser takes and what it leaves without naming it."""

    roles: tuple[Role, ...]
    """Roles that it takes."""
    patterns: tuple[str, ...]
    """Names that it leaves all the same."""
    source: str


_SMALL = ("indexer.weights_proj", "shared_expert_gate")
LEFT_ALONE: dict[str, LeftAlone] = {
    "fp8": LeftAlone(
        MATRIX_ROLES,
        _SMALL,
        "deepseek-ai inference/model.py of V3 and V3.2-Exp: router, embedding, head, norms and indexer.weights_proj "
        "are 16-bit; eh_proj and shared_expert_gate are built without a quantiser in vLLM 0.33.0",
    ),
    "mxfp4": LeftAlone(
        ("routed_experts",), (), "transformers 5.23.0 integrations/mxfp4.py: only the expert module is replaced"
    ),
    "compressed-tensors": LeftAlone(
        (*MATRIX_ROLES, "lm_head", "towers", "other"),
        ("indexer.weights_proj",),
        "vLLM 0.33.0 compressed_tensors: every Linear that `ignore` does not name; routers and embeddings are none",
    ),
    "modelopt": LeftAlone(
        MATRIX_ROLES,
        _SMALL,
        "vLLM 0.33.0 modelopt.py: vision is left by name; router, embedding and norms are no quantised modules",
    ),
    "awq": LeftAlone(MATRIX_ROLES, _SMALL, "transformers 5.23.0 AwqConfig: head and embeddings are skipped by default"),
    "gptq": LeftAlone(MATRIX_ROLES, _SMALL, "transformers 5.23.0 GPTQConfig: the linear layers of the decoder blocks"),
    "bitsandbytes": LeftAlone(
        (*MATRIX_ROLES, "towers", "other"),
        (),
        "transformers 5.23.0 quantizers/base.py: every Linear but the output head and what is tied to it",
    ),
}  # fmt: skip
LEFT_ALONE["fbgemm_fp8"] = LEFT_ALONE["hqq"] = LEFT_ALONE["torchao"] = LEFT_ALONE["quark"] = LEFT_ALONE["modelopt"]
LEFT_ALONE["auto-round"] = LEFT_ALONE["gptq"]


def taken(method: str, weight_format: WeightFormat) -> tuple[Rule, ...]:
    """The rule that stores what `method` takes by habit in `weight_format`."""
    return (Rule(weight_format, LEFT_ALONE[method].roles),)
