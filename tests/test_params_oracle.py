"""Parameter counts beside counts that another library made: total, active, and every role, to the last parameter.

`data/param_oracle.csv` holds counts made by building each config of the catalogue in transformers 5.23.0 (torch 2.13.0)
on the meta device and sorting its parameters by module name; `active` follows from them by arithmetic on the stated
number of experts, and is left out where experts are not told apart from attention (JetMoE) or their number per token
is no field (NLLB). Not in it: models that transformers cannot build (Arctic, Grok, DeepSeekMoE, Ling), Qwen3-Omni, whose
talker it does not build from a config, and LongCat-Flash, where it also builds matrices for experts that compute nothing
(see tests/families/test_longcat.py).
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from moeplan.core.weights import Parameters, parameters
from moeplan.sources.catalogue import find_entry
from moeplan.sources.families import read_config

TABLE = Path(__file__).parent / "data" / "param_oracle.csv"
FEWEST_ROWS = 100

SHARED_COLUMNS = {
    # column of the corpus beside the checkout: our role
    "embedding": "embedding",
    "lm_head": "lm_head",
    "attention": "attention",
    "linear_or_ssm": "recurrent",
    "router": "router",
    "routed_expert": "routed_experts",
    "moe_latent": "moe_latent",
    "shared_expert": "shared_experts",
    "dense_mlp": "dense_mlp",
    "norm": "norm",
    "side_modality": "towers",
    "other": "other",
}
SHARED_ROWS = 66
STEP = "stepfun-ai--Step-3.7-Flash.json"
STEP_VOCABULARY = (128_896, 128_815)
"""Stated in the file, and default of the config class. The file is flat, transformers looks for `text_config` and takes
every size from the class: the same ones, but for this. Built from a nested copy of the file, it agrees with us."""


def _table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _by_role(counts: Parameters) -> dict[str, int]:
    """Our counts in the oracle's roles, which do not tell an indexer from attention; zeros left out."""
    roles = dict(counts.by_role)
    roles["attention"] += roles.pop("indexer")
    return {role: elements for role, elements in roles.items() if elements}


def test_the_table_covers_the_catalogue() -> None:
    assert len(_table()) >= FEWEST_ROWS


@pytest.mark.parametrize("row", _table(), ids=lambda row: row["id"])
def test_catalogue_equals_what_transformers_builds(row: dict[str, str]) -> None:
    entry = find_entry(row["id"])
    assert entry is not None
    assert entry.id == row["id"]
    counts = parameters(read_config(entry.config, row["id"]))
    roles = {role: int(text) for role, text in row.items() if text and role not in ("id", "total", "active")}
    assert _by_role(counts) == roles
    assert counts.total == int(row["total"])
    if row["active"]:
        assert counts.active == int(row["active"])


def test_corpus_beside_the_checkout(shared: Path) -> None:
    with (shared / "data" / "param-oracle.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["error"]]
    assert len(rows) == SHARED_ROWS
    unlike = {}
    for row in rows:
        config = json.loads((shared / "model-configs" / row["file"]).read_text(encoding="utf-8"))
        counts = parameters(read_config(config, row["file"]))
        theirs = {role: int(row[column] or 0) for column, role in SHARED_COLUMNS.items()}
        totals = [int(row["total"]), int(row["text_total"]), int(row["text_active"])]
        if row["file"] == STEP:
            stated, built = STEP_VOCABULARY
            table = (stated - built) * config["hidden_size"]
            theirs["embedding"] += table
            theirs["lm_head"] += table
            totals = [total + 2 * table for total in totals]
        ours = {role: _by_role(counts).get(role, 0) for role in theirs}
        if ours != theirs or [counts.total, counts.text_total, counts.active] != totals:
            unlike[row["file"]] = (ours, theirs, totals)
    assert not unlike
