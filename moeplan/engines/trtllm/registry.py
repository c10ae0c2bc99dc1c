"""Which model types TensorRT-LLM's PyTorch backend has a class for.

Source: TensorRT-LLM _torch/models/_arch_index.py (a copy of 2026, between 1.3 release candidates).
"""

SERVED = (
    "afmoe", "cohere2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "exaone_moe", "gemma3", "gemma3_text", "gemma4",
    "gemma4_text", "glm4_moe", "glm_moe_dsa", "gpt_oss", "hunyuan", "hunyuan_v1_moe", "kimi_k2", "kimi_k25", "kimi_k3",
    "kimi_linear", "laguna", "llama", "llama4", "llama4_text", "minimax_m2", "minimax_m3", "mistral", "mistral3",
    "mistral_large_3", "mixtral", "nemotron_h", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_moe", "qwen3_moe",
    "qwen3_next", "qwen3_vl_moe", "step3p5", "step3p7",
)  # fmt: skip

NOT_SERVED = (
    "arctic", "bailing_hybrid", "bailing_moe", "dbrx", "deepseek", "deepseek_v2", "dots1", "ernie4_5_moe", "gemma2",
    "glm4_moe_lite", "glm4v_moe", "granitemoe", "granitemoehybrid", "grok-1", "jamba", "jetmoe", "lfm2_moe",
    "longcat_flash", "mimo_v2_flash", "minimax_m1", "minimax_text_01", "nllb-moe", "olmo2", "olmoe", "openmoe",
    "phimoe", "qwen3_omni_moe", "solar_open", "switch_transformers",
)  # fmt: skip
"""Model types that were public when the index was read and are not in it; all others are a doubt."""

ONE_STAGE = ("gemma4", "kimi_k3", "kimi_linear")
"""Model types whose class refuses pipeline stages (models/modeling_gemma4.py, modeling_kimi_linear.py)."""
