"""The catalogue: what is in it, how names find it, and that short entries mean what the published files say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from moeplan.core.errors import InputError
from moeplan.core.model import ModelSpec
from moeplan.core.quant import Quantisation
from moeplan.core.weights import inventory, parameters
from moeplan.sources import catalogue
from moeplan.sources.catalogue import (
    CONVENTIONS,
    INDEX,
    find_entry,
    index_text,
    list_entries,
    near_names,
    read_entry,
)
from moeplan.sources.families import read_config
from moeplan.sources.models import find_model
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.quantisation import read_quantisation
from moeplan.sources.strict_yaml import Block, load

FOLDER = builtin_folder("models")
FILES = sorted(FOLDER.glob("*.yaml"))
OWN = """
id: my-org/My-Mixtral
aliases: [own, mixtral-8x7b]
provenance: published
source: my own training
config:
  model_type: mixtral
  hidden_size: 64
  intermediate_size: 32
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  num_local_experts: 4
  num_experts_per_tok: 2
  vocab_size: 100
  tie_word_embeddings: false
  sliding_window: null
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of profiles with one own model."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(OWN, encoding="utf-8")
    return tmp_path


# What is in it ----------------------------------------------------------------------------------------------


def test_there_are_many_models() -> None:
    assert len(FILES) >= 60


def test_the_index_is_current() -> None:
    found = (FOLDER / INDEX).read_text(encoding="utf-8")
    assert found == index_text(FOLDER), "run moeplan.sources.catalogue.write_index()"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_entry_reads_and_says_where_it_is_from(path: Path) -> None:
    entry = read_entry(path)
    codes = {remark.code for remark in entry.remarks}
    assert "catalogue" in codes
    doubted = {code for code in codes if code.startswith("provenance-")}
    assert doubted == (
        set() if entry.provenance == "published" else {f"provenance-{entry.provenance.replace('_', '-')}"}
    )
    counts = parameters(read_config(entry.config, str(path)))
    assert counts.total > 0
    if entry.card is not None and entry.card.active is not None:
        fitting = [name for name in CONVENTIONS if _printed_as(getattr(counts, name), entry.card.active)]
        assert entry.card.convention == (fitting[0] if len(fitting) == 1 else None)


def _printed_as(count: int, text: str) -> bool:
    """True when `count` rounds to the digits of `text`, such as 12.9B."""
    number, unit = text[:-1], {"M": 1e6, "B": 1e9, "T": 1e12}[text[-1]]
    return f"{count / unit:.{len(number.partition('.')[2])}f}" == number


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_totals_are_near_ours(path: Path) -> None:
    # Cards round, count MTP in or leave a tower out: a tenth tells a wrong shape from that.
    entry = read_entry(path)
    if entry.card is None or entry.card.total is None:
        pytest.skip("no published total")
    stated = float(entry.card.total[:-1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[entry.card.total[-1]]
    counts = parameters(read_config(entry.config, str(path)))
    rounding = (
        10.0 ** -len(entry.card.total[:-1].partition(".")[2]) * {"M": 1e6, "B": 1e9, "T": 1e12}[entry.card.total[-1]]
    )
    allowed = max(0.1 * stated, rounding)
    side = 0 if "Omni" not in entry.id else sum(n for role, n in counts.by_role.items() if role == "towers")
    assert abs(counts.total - side - stated) <= allowed


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("Mixtral 8x7B", "mistralai/Mixtral-8x7B-v0.1"),
        ("mixtral_8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"),
        ("qwen/qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("gpt-oss-120b", "openai/gpt-oss-120b"),
        ("deepseek-v3", "deepseek-ai/DeepSeek-V3"),
        ("deepseek-r1", "deepseek-ai/DeepSeek-R1"),
        ("kimi-k2", "moonshotai/Kimi-K2-Instruct"),
        ("glm-4.5", "zai-org/GLM-4.5"),
        ("llama-4-scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ],
)
def test_names_that_people_type(typed: str, meant: str) -> None:
    entry = find_entry(typed)
    assert entry is not None
    assert entry.id == meant


@pytest.mark.parametrize("name", ["", "  ", "no-such-model", "other-org/Qwen3-30B-A3B", "mixtral"[:-1]])
def test_other_names_find_nothing(name: str) -> None:
    assert find_entry(name) is None


def test_near_names_are_of_different_models() -> None:
    near = near_names("mixtrall-8x7b")
    assert near[0] == "mixtral-8x7b"
    found = [find_entry(name) for name in near]
    assert len({entry.id for entry in found if entry is not None}) == len(near) <= 3
    assert near_names("zzzz") == []


def test_one_question_reads_the_index_and_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def watched(path: Path) -> Block:
        read.append(path)
        return load(path)

    monkeypatch.setattr(catalogue, "load", watched)
    find_entry("deepseek-v3")
    assert [path.stem for path in read] == ["deepseek-v3"]


def test_two_files_may_not_claim_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(OWN, encoding="utf-8")
    with pytest.raises(InputError, match="belongs to one too"):
        index_text(tmp_path)


# The user's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine", "my-org/My-Mixtral", "MY-MIXTRAL", "own", "mixtral-8x7b"])
def test_own_entries_win(own: Path, name: str) -> None:
    entry = find_entry(name, [own])
    assert entry is not None
    assert entry.id == "my-org/My-Mixtral"
    assert str(own) in entry.remarks[0].message


def test_own_entries_are_listed_among_the_built_in_ones(own: Path) -> None:
    listed = {each.profile: each for each in list_entries([own])}
    mine = listed["mine"].summary
    assert len(listed) == len(FILES) + 1
    assert mine is not None
    assert (mine.num_experts, mine.experts_per_token, mine.num_layers) == (4, 2, 2)


def test_a_broken_own_file_matters_only_when_it_is_meant(own: Path) -> None:
    (own / "models" / "broken.yaml").write_text("id: [", encoding="utf-8")
    assert find_entry("own", [own]) is not None
    assert find_entry("glm-4.5", [own]) is not None
    with pytest.raises(InputError, match="not valid YAML"):
        find_entry("broken", [own])
    problems = [each for each in list_entries([own]) if each.problem]
    assert [each.profile for each in problems] == ["broken"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("provenance: published", "provenance: guessed"), "`provenance` is 'guessed'"),
        (("provenance: published\n", ""), "`provenance` is missing"),
        (("source: my own training\n", ""), "`source` is missing"),
        (("id: my-org/My-Mixtral\n", ""), "`id` is missing"),
        (("aliases:", "alias:"), "`alias` is not a known key"),
        (("config:", "config: 3\nother:"), "`config` is 3, not a block"),
        (("source:", "card: {convention: total}\nsource:"), "`card.convention` is 'total'"),
        (("source:", "schema: 99\nsource:"), "`schema` is 99"),
    ],
)
def test_files_are_read_strictly(own: Path, change: tuple[str, str], problem: str) -> None:
    (own / "models" / "mine.yaml").write_text(OWN.replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(problem)) as caught:
        find_entry("mine", [own])
    assert "mine.yaml" in caught.value.message
    assert caught.value.hint


# Into an estimate -------------------------------------------------------------------------------------------


def test_a_catalogue_model_says_so_and_brings_what_its_card_means() -> None:
    loaded = find_model("gpt-oss-120b")
    assert (loaded.id, loaded.source_kind) == ("openai/gpt-oss-120b", "catalogue")
    assert loaded.spec.card_convention == "active_without_embedding"
    assert "catalogue" in {remark.code for remark in loaded.remarks}
    assert loaded.quantisation is not None


def test_what_is_not_the_published_file_is_a_warning() -> None:
    remarks = find_model("mixtral-8x22b").remarks
    assert {remark.severity for remark in remarks if remark.code == "provenance-rebuilt"} == {"warning"}


# Beside the published files ---------------------------------------------------------------------------------


def _manifest(shared: Path) -> list[dict[str, Any]]:
    listed = yaml.safe_load((shared / "model-configs" / "manifest.yaml").read_text(encoding="utf-8"))
    configs: list[dict[str, Any]] = listed["configs"]
    return configs


def test_entries_mean_what_the_files_beside_the_checkout_say(shared: Path) -> None:
    unlike = []
    rows = _manifest(shared)
    assert len(rows) >= 60
    for row in rows:
        config = _json(shared, row["file"])
        sidecar = _json(shared, row["sidecar"]) if row.get("sidecar") else None
        entry = find_entry(row["hf_repo"])
        assert entry is not None, row["hf_repo"]
        spec = read_config(config, "config")
        quantisation = read_quantisation(config, sidecar)
        if read_config(entry.config, "config") != spec:
            unlike.append((entry.id, "shape"))
        own = read_quantisation(entry.config, entry.sidecar)
        if (quantisation is None) != (own is None):
            unlike.append((entry.id, "quantised or not"))
        if quantisation is None or own is None:
            continue
        if (own.kv_cache_dtype, own.base, own.name) != (
            quantisation.kv_cache_dtype,
            quantisation.base,
            quantisation.name,
        ):
            unlike.append((entry.id, "cache dtype, base or name"))
        for weight in _weights(spec):
            if _format(own, *weight) != _format(quantisation, *weight):
                unlike.append((entry.id, weight[0]))
                break
    assert not unlike


def _json(shared: Path, name: str) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads((shared / "model-configs" / name).read_text(encoding="utf-8"))
    return read


def _format(quantisation: Quantisation, name: str, role: Any, linear: Any, buffer: Any) -> object:
    return quantisation.format_of(name, role, linear, buffer)


def _weights(spec: ModelSpec) -> Iterator[tuple[str, Any, bool, bool]]:
    """Every tensor by its full name: numbers of layers and experts put in."""
    for entry in inventory(spec):
        weight = entry.weight
        numbered = entry.layers or range(weight.count if "{layer}" in weight.name else 1)
        for layer in numbered:
            for expert in range(weight.count if "{expert}" in weight.name else 1):
                name = weight.name.replace("{layer}", str(layer)).replace("{expert}", str(expert))
                yield name, weight.role, weight.linear, weight.buffer
