"""Families: which function reads a config of which `model_type`.

One row per family. The module is imported only when a config of that family is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention, ModelSpec, MoeFfn
from moeplan.sources.families.fields import Fields

FAMILIES: dict[str, str] = {
    # model_type: module.function
    "afmoe": "afmoe.afmoe",
    "arctic": "arctic.arctic",
    "axk1": "axk1.axk1",
    "bailing_hybrid": "bailing.bailing_hybrid",
    "bailing_moe": "bailing.bailing_moe",
    "bailing_moe_v2": "bailing.bailing_moe",
    "beam": "beam.beam",
    "cohere2_moe": "cohere.cohere2_moe",
    "dbrx": "dbrx.dbrx",
    "deepseek": "deepseek.deepseek",
    "deepseek_v2": "deepseek.deepseek_v2",
    "deepseek_v3": "deepseek.deepseek_v3",
    "deepseek_v32": "deepseek.deepseek_v32",
    "deepseek_v4": "deepseek.deepseek_v4",
    "dots1": "dots.dots1",
    "ernie4_5_moe": "ernie.ernie4_5_moe",
    "ernie4_5_vl_moe": "ernie.ernie4_5_vl_moe",
    "exaone_moe": "exaone.exaone_moe",
    "flex_olmo": "olmo.flex_olmo",
    "flint": "flint.flint",
    "gemma": "gemma.gemma",
    "gemma2": "gemma.gemma2",
    "gemma3": "gemma.gemma3",
    "gemma3_text": "gemma.gemma3_text",
    "gemma4": "gemma.gemma4",
    "gemma4_text": "gemma.gemma4_text",
    "glm4_moe": "glm.glm4_moe",
    "glm4_moe_lite": "glm.glm4_moe_lite",
    "glm4v_moe": "glm.glm4v_moe",
    "glm5_next": "glm.glm5_next",
    "glm_moe_dsa": "glm.glm_moe_dsa",
    "gpt_oss": "gpt_oss.gpt_oss",
    "granitemoe": "granite.granitemoe",
    "granitemoe_swa": "granite.granitemoe_swa",
    "granitemoehybrid": "granite.granitemoehybrid",
    "granitemoeshared": "granite.granitemoeshared",
    "grok-1": "grok.grok_1",
    "hunyuan": "hunyuan.hunyuan",
    "hunyuan_v1_moe": "hunyuan.hunyuan_v1_moe",
    "hy_v3": "hunyuan.hy_v3",
    "jamba": "jamba.jamba",
    "jetmoe": "jetmoe.jetmoe",
    "kimi_k2": "kimi.kimi_k2",
    "kimi_k25": "kimi.kimi_k25",
    "kimi_k3": "kimi.kimi_k3",
    "kimi_linear": "kimi.kimi_linear",
    "kolibri1": "kolibri.kolibri1",
    "laguna": "laguna.laguna",
    "lfm2_moe": "lfm2.lfm2_moe",
    "llama": "dense.llama",
    "llama4": "llama4.llama4",
    "llama4_text": "llama4.llama4_text",
    "longcat_flash": "longcat.longcat_flash",
    "mellum": "mellum.mellum",
    "mimo_v2_flash": "mimo.mimo_v2_flash",
    "minimax": "minimax.minimax",
    "minimax_m1": "minimax.minimax_text_01",
    "minimax_m2": "minimax.minimax_m2",
    "minimax_text_01": "minimax.minimax_text_01",
    "ministral": "dense.ministral",
    "ministral3": "dense.ministral3",
    "mistral": "dense.mistral",
    "mistral3": "mistral.mistral3",
    "mistral4": "mistral.mistral4",
    "mistral_large4": "mistral.mistral_large4",
    "mixtral": "mixtral.mixtral",
    "nemotron_h": "nemotron.nemotron_h",
    "nllb-moe": "nllb.nllb_moe",
    "olmo2": "dense.olmo2",
    "olmo3": "dense.olmo3",
    "olmoe": "olmo.olmoe",
    "openmoe": "openmoe.openmoe",
    "phi3": "dense.phi3",
    "phimoe": "phimoe.phimoe",
    "qwen2": "qwen.qwen2",
    "qwen2_moe": "qwen.qwen2_moe",
    "qwen3": "qwen.qwen3",
    "qwen3_5": "qwen.qwen3_5",
    "qwen3_5_moe": "qwen.qwen3_5_moe",
    "qwen3_5_moe_text": "qwen.qwen3_5_moe_text",
    "qwen3_5_text": "qwen.qwen3_5_text",
    "qwen3_moe": "qwen.qwen3_moe",
    "qwen3_next": "qwen.qwen3_next",
    "qwen3_omni_moe": "qwen_omni.qwen3_omni_moe",
    "qwen3_omni_moe_thinker": "qwen_omni.qwen3_omni_moe_thinker",
    "qwen3_vl": "qwen.qwen3_vl",
    "qwen3_vl_moe": "qwen.qwen3_vl_moe",
    "qwen3_vl_moe_text": "qwen.qwen3_vl_moe_text",
    "qwen3_vl_text": "qwen.qwen3_vl_text",
    "solar_open": "solar.solar_open",
    "step3p5": "step.step3p5",
    "step3p7": "step.step3p7",
    "switch_transformers": "switch.switch_transformers",
}


ARCHITECTURES: dict[str, str] = {
    # Checkpoints whose config borrows another family's model_type and says in `architectures` what they are.
    "OpenMoeForCausalLM": "openmoe.openmoe",
}

EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def read_config(config: Mapping[str, Any], where: str = "config") -> ModelSpec:
    """The model that a Hugging Face config describes.

    Raises ConfigError when the config is broken or does not determine the answer.
    """
    fields = Fields(config, where=where)
    model_type = fields.text("model_type") or ""
    named = config.get("architectures")
    architectures = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    by_architecture = next((ARCHITECTURES[name] for name in architectures if name in ARCHITECTURES), None)
    row = by_architecture or FAMILIES.get(model_type, "general.general")
    module, function = row.rsplit(".", 1)
    reader = getattr(import_module(f"moeplan.sources.families.{module}"), function)
    spec: ModelSpec = reader(fields)
    if module == "dense":
        _refuse_unread_experts(fields, model_type)
    _refuse_more_visits_than_experts(spec, where)
    _refuse_broken_groups(spec, where)
    return spec


def _refuse_broken_groups(spec: ModelSpec, where: str) -> None:
    for mixer in dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers):
        if isinstance(mixer, GroupedAttention) and mixer.num_heads % mixer.num_kv_heads:
            raise ConfigError(
                f"{where}: {mixer.num_heads} attention heads do not share out {mixer.num_kv_heads} key/value heads evenly",
                hint="correct num_attention_heads or num_key_value_heads",
            )


def _refuse_more_visits_than_experts(spec: ModelSpec, where: str) -> None:
    for ffn in dict.fromkeys(ffn for layer in spec.layers + spec.encoder_layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn) and ffn.experts_per_token > ffn.num_experts + ffn.num_zero_experts:
            raise ConfigError(
                f"{where}: a token cannot visit {ffn.experts_per_token} of {ffn.num_experts + ffn.num_zero_experts} experts",
                hint="correct the number of experts or of experts per token",
            )


def _refuse_unread_experts(fields: Fields, model_type: str) -> None:
    """A dense family must not swallow a config that states experts: the answer would be silently wrong."""
    for name in EXPERT_COUNTS:
        count = fields.values.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and count > 1:
            raise fields.wrong(name, f"is {count}, but `{model_type}` is read as a dense family")
