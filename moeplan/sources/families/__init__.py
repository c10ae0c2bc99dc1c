"""Families: which function reads a config of which `model_type`.

One row per family. The module is imported only when a config of that family is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from moeplan.core.model import ModelSpec
from moeplan.sources.families.fields import Fields

FAMILIES: dict[str, str] = {
    # model_type: module.function
    "deepseek_v3": "deepseek.deepseek_v3",
    "mixtral": "mixtral.mixtral",
}


def read_config(config: Mapping[str, Any], where: str = "config") -> ModelSpec:
    """The model that a Hugging Face config describes.

    Raises ConfigError when the config is broken or does not determine the answer.
    """
    fields = Fields(config, where=where)
    model_type = fields.text("model_type")
    row = FAMILIES.get(model_type or "", "general.general")
    module, function = row.rsplit(".", 1)
    reader = getattr(import_module(f"moeplan.sources.families.{module}"), function)
    spec: ModelSpec = reader(fields)
    return spec
