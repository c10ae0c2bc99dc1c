"""`docs/glossary.md` has the words of the field that outputs and help use."""

from __future__ import annotations

import json
import re
from typing import get_args

from moeplan.core.deployment import Origin
from moeplan.core.kv_cache import Accounting, CacheKind
from moeplan.core.ledger import Basis
from moeplan.core.model import Role
from moeplan.estimate.speed_result import SpeedBasis
from tests.docs_blocks import PAPERS, ROOT, blocks

TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = re.findall(r"^\| (.+?) \| .+ \|$", TEXT, re.MULTILINE)[1:]
ABBREVIATION = re.compile(r"(?<![\w./-])[A-Z][A-Za-z]*[A-Z][A-Za-z]*(?![\w/-])")

EVERYDAY = {
    "CI", "CPU", "GPU", "GPUs", "GitHub", "JSON", "NVIDIA", "PC", "SGLang", "TensorRT", "URL", "USD", "YAML", "HTML", "CSV",
    "AIPerf", "AWS", "SkyPilot", "OLMoE", "SXM", "RAM", "RTX",
    "GeForce",
}  # fmt: skip
"""Names, and what everyone who types commands knows."""

SAID_LOUD = {
    "FITS", "DOES", "NOT", "FIT", "PROBABLY", "WOULD", "START", "JUDGED", "PASSES", "FAILS", "WITHIN", "BEYOND", "THE",
    "BOUND", "UNEVEN", "SAME", "PROMPTS", "GOES", "GO",
}  # fmt: skip
"""Verdicts, which are words in capitals."""


def test_words_stand_in_their_order_and_once() -> None:
    keys = [re.sub(r"[^a-z0-9 ]", "", word.casefold()) for word in WORDS]
    assert keys == sorted(set(keys))


def test_every_value_of_the_closed_kinds_is_explained() -> None:
    values = {value for kind in (Basis, SpeedBasis, Origin, Accounting, CacheKind, Role) for value in get_args(kind)}
    assert not {value for value in values if f"`{value}`" not in TEXT}


def test_every_degree_of_a_layout_is_explained() -> None:
    schema = json.loads((ROOT / "moeplan/report/schemas/estimate.schema.json").read_text(encoding="utf-8"))
    plain = {
        "engine",
        "engine_version",
        "version_origin",
        "expert_backend",
        "options",
        "pp_layers",
        "num_nodes",
        "num_gpus",
    }
    degrees = schema["properties"]["layout"]["properties"].keys() - plain
    assert {"tp", "ep", "dp_attention"} <= degrees
    assert not {degree for degree in degrees if f"`{degree}`" not in TEXT}


def test_abbreviations_of_help_and_outputs_are_explained() -> None:
    shown = [block.shown for paper in PAPERS for block in blocks(paper) if block.language == "sh" and block.shown]
    found = {word for text in shown for word in ABBREVIATION.findall(text)}
    placeholders = {word for text in shown if text.startswith("Usage:") for word in re.findall(r"\b[A-Z]{2,}\b", text)}
    unknown = found - EVERYDAY - SAID_LOUD - (placeholders - {"TP", "PP", "EP", "DP", "KV", "TTFT", "TPOT"})
    assert {"KV", "TP", "MoE"} <= unknown
    assert not {word for word in unknown if not re.search(rf"\b{word}\b", TEXT)}
