"""The kinds of files that are read, in the order in which they are tried.

A reader of YAML documents has `recognises(document) -> bool` and `read(document, stream) -> Found`; a reader of plain texts
has `recognises_text(name, text) -> bool` and `read_text(name, text, stream) -> Found`.
"""

DOCUMENT_READERS: tuple[str, ...] = (
    "kubernetes",
    "leader_worker_set",
    "role_based_group",
    "kserve_llm",
    "kserve_inference",
    "kubeai_model",
    "ray",
    "dynamo",
    "production_stack",
    "llm_d",
    "compose",
    "skypilot",
    "truss",
    "llama_swap",
    "vllm_recipe",
    "trtllm_engine",
    "sglang_config",
    "vllm_config",
)
"""Modules of this package; a file of flat keys is asked about last."""

TEXT_READERS: tuple[str, ...] = ("modelfile", "dockerfile", "makefile", "systemd_unit", "shell_script")
