"""The cache beside the library's own: elements per token beyond every window, and elements that do not grow.

`data/kv_oracle.csv` holds what transformers 5.23.0 kept for a sequence of 16,384 tokens after building each config on the
meta device (counts of elements, whatever their dtype); models are read from the built-in catalogue.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from moeplan.core.kv_cache import cache_cost, cache_rows
from moeplan.engines import transformers
from moeplan.sources.models import find_model

TABLE = Path(__file__).parent / "data" / "kv_oracle.csv"
CONTEXT_TOKENS = 16_384


def rows() -> list[tuple[str, float, int]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        read = csv.DictReader(lines)
        return [(row["id"], float(row["elements_per_token"]), int(row["elements_per_sequence"])) for row in read]


@pytest.mark.parametrize(("name", "per_token", "per_sequence"), rows())
def test_elements_of_the_librarys_cache(name: str, per_token: float, per_sequence: int) -> None:
    spec = find_model(name).spec
    rules = transformers.cache_rules(spec, asked=None, scheme=None, weight_dtype="bfloat16", capability=None)
    # One byte for each element, so that bytes count elements.
    rules = rules._replace(kv_dtype="fp8", state_dtype="fp8", conv_dtype="fp8")
    cost = cache_cost(cache_rows(spec), rules, CONTEXT_TOKENS)
    assert (float(cost.bytes_per_token), cost.bytes_per_sequence) == (per_token, per_sequence)


def test_the_table_is_that_of_the_figures_beside_the_checkout(shared: Path) -> None:
    with (shared / "data" / "param-oracle.csv").open(encoding="utf-8", newline="") as lines:
        theirs = {
            row["file"].removesuffix(".json").replace("--", "/"): row
            for row in csv.DictReader(lines)
            if row["kv_elements_per_token_long"]
        }
    ours = {name: (per_token, per_sequence) for name, per_token, per_sequence in rows()}
    assert ours == {
        name: (float(row["kv_elements_per_token_long"]), int(row["kv_fixed_elements_long"]))
        for name, row in theirs.items()
    }
