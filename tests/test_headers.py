"""Checkpoints held against configs: what transformers would save for every family it builds, what publishers did save,
and what is said where the two differ. Names and shapes never come from our own inventory (`checkpoint_stubs`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.matching import Matched, match
from moeplan.core.model import ROLES, ModelSpec, Remark
from moeplan.core.quant import BF16, FP32, Quantisation, fold_bytes, holdings
from moeplan.core.weights import count_parameters, inventory, parameters
from moeplan.estimate.agreement import agreement
from moeplan.sources.families import FAMILIES, read_config
from moeplan.sources.quantisation import read_quantisation
from tests.checkpoint_stubs import (
    Published,
    auto_class,
    checkpoint,
    published,
    published_names,
    saved_by_transformers,
    stub,
    tensor,
    transformers_cases,
)
from tests.families import test_qwen
from tests.families.agreement import oracle_tensors
from tests.families.test_mixtral import SMALL as MIXTRAL

PLAIN = Quantisation("fp32", FP32)
INSIDE_WRAPPERS = {"qwen3_vl_text", "qwen3_vl_moe_text", "step3p5"}
"""Model types of text models that transformers builds with a head inside their wrappers alone, which are tested."""
FEWEST = 120
CASES = transformers_cases()


def _matched(saved: Checkpoint, spec: ModelSpec, quantisation: Quantisation) -> Matched:
    return match(saved, inventory(spec), quantisation, tied_embedding=spec.tied_embedding)


# What transformers saves -----------------------------------------------------------------------------------


def test_every_family_that_transformers_builds_is_here() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert len(CASES) >= FEWEST
    tested = {config["model_type"] for config in CASES.values()}
    assert set(FAMILIES) & set(CONFIG_MAPPING_NAMES) == tested | INSIDE_WRAPPERS


@pytest.mark.parametrize("label", CASES)
def test_headers_say_what_the_config_says(label: str) -> None:
    config = CASES[label]
    saved = stub(config)
    spec = read_config(config)
    matched = _matched(saved, spec, PLAIN)
    assert matched.unmatched == ()
    assert matched.missing == ()

    promised, counted = parameters(spec), count_parameters(spec, matched.counted, "exact")
    # transformers builds no MTP layers.
    assert counted == promised._replace(mtp_unique=0, mtp_duplicate=0, basis="exact")

    promised_bytes = fold_bytes(holdings(inventory(spec), PLAIN)).by_role
    # Tables of expert numbers are int64, and some models save tables that they compute (MiniMax' decays).
    promised_bytes["router"] += sum(each.num_bytes // 2 for each in saved.tensors if each.dtype == "I64")
    promised_bytes["other"] += sum(each.num_bytes for each in matched.recognised if each.kind == "computed")
    assert fold_bytes(matched.holdings).by_role == promised_bytes
    assert sum(promised_bytes.values()) == saved.num_bytes


@pytest.mark.parametrize(
    "label", ["mixtral.SMALL", "gpt_oss.SMALL", "qwen.WITH_TOWERS[qwen3_vl_moe]", "nllb.SMALL", "flex_olmo"]
)
def test_the_stub_is_what_save_pretrained_writes(label: str, tmp_path: Path) -> None:
    config = CASES[label]
    written = oracle_tensors(config, tmp_path, auto_class(config))
    assert {each.name: each.num_bytes // 4 for each in stub(config).tensors} == written


# What publishers save --------------------------------------------------------------------------------------

FORMATS = {
    "deepseek-v3": {"bf16", "fp8 128x128 block", "fp32"},
    "deepseek-v3-awq": {"fp16", "awq int4 g64"},
    "gpt-oss-20b": {"bf16", "mxfp4"},
    "gpt-oss-120b": {"bf16", "mxfp4"},
    "kimi-k2-thinking": {"bf16", "fp32", "int4 g32"},
    "llama-4-scout-fp8-dynamic": {"bf16", "fp8 per channel"},
    "mistral-7b-consolidated": {"bf16"},
    "mixtral-8x7b": {"bf16"},
    "qwen3-235b-nvfp4": {"bf16", "nvfp4"},
    "qwen3-30b-gptq": {"bf16", "gptq int4 g128"},
}


def _read(layout: Published) -> tuple[ModelSpec, Quantisation]:
    spec = read_config(layout.config, layout.name)
    return spec, read_quantisation(layout.config, layout.sidecar) or Quantisation("bf16", BF16)


def test_every_layout_has_its_formats_stated() -> None:
    assert set(FORMATS) == set(published_names())


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_layout_is_read_to_the_byte(name: str) -> None:
    layout = published(name)
    spec, quantisation = _read(layout)
    matched = _matched(layout.checkpoint, spec, quantisation)
    assert matched.unmatched == ()
    assert matched.missing == ()

    stored = fold_bytes(matched.holdings)
    assert stored.checkpoint_bytes == layout.checkpoint.num_bytes
    if layout.total_bytes is not None:
        assert stored.checkpoint_bytes == layout.total_bytes
    if layout.num_tensors is not None:
        assert len(layout.checkpoint.tensors) == layout.num_tensors
    assert set(stored.by_format) == FORMATS[name]

    promised, counted = parameters(spec), count_parameters(spec, matched.counted, "exact")
    assert counted == promised._replace(basis="exact")
    promised_bytes = fold_bytes(holdings(inventory(spec), quantisation))
    expected = dict(promised_bytes.by_role)
    if layout.differs is not None:
        role, off = layout.differs
        expected[role] += off
    assert stored.by_role == expected
    assert (stored.mtp_bytes, stored.mtp_duplicate_bytes) == (
        promised_bytes.mtp_bytes,
        promised_bytes.mtp_duplicate_bytes,
    )
    (first, *_) = agreement(spec, quantisation, layout.checkpoint, matched)
    assert (first.code, first.severity) == ("headers", "info")


def test_files_of_deepseek_v3_are_its_tensors_and_their_headers() -> None:
    """A header spends 70 bytes on a tensor's dtype, shape and offsets, and its name on top."""
    layout = published("deepseek-v3")
    names = sum(len(each.name) for each in layout.checkpoint.tensors)
    assert layout.file_bytes is not None
    headers = layout.file_bytes - layout.checkpoint.num_bytes
    assert 60 < (headers - names) / len(layout.checkpoint.tensors) < 80


def test_mtp_and_its_second_tables_are_told_apart_by_name() -> None:
    layout = published("deepseek-v3")
    spec, quantisation = _read(layout)
    matched = _matched(layout.checkpoint, spec, quantisation)
    layer = [each for each in layout.checkpoint.tensors if each.name.startswith("model.layers.61.")]
    tables = [each for each in layer if "embed_tokens" in each.name or "shared_head.head" in each.name]
    stored = fold_bytes(matched.holdings)
    assert stored.mtp_duplicate_bytes == sum(each.num_bytes for each in tables) == 2 * 129_280 * 7_168 * 2
    assert stored.mtp_bytes == sum(each.num_bytes for each in layer) - stored.mtp_duplicate_bytes


def test_names_of_another_code_base_are_matched_and_told() -> None:
    layout = published("mistral-7b-consolidated")
    spec, quantisation = _read(layout)
    notes = agreement(spec, quantisation, layout.checkpoint, _matched(layout.checkpoint, spec, quantisation))
    (renamed,) = [note for note in notes if note.code == "names-of-another-code-base"]
    assert renamed.severity == "info"
    assert "tok_embeddings.weight" in renamed.message


def test_matching_ninety_thousand_tensors_is_quick() -> None:
    layout = published("deepseek-v3")
    spec, quantisation = _read(layout)
    assert len(layout.checkpoint.tensors) > 90_000
    seconds = []
    for _ in range(3):
        start = time.process_time()
        _matched(layout.checkpoint, spec, quantisation)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


# Where they differ -----------------------------------------------------------------------------------------


def _notes(config: Mapping[str, Any], saved: Checkpoint) -> tuple[Matched, dict[str, Remark]]:
    spec = read_config(config)
    matched = _matched(saved, spec, PLAIN)
    return matched, {note.code: note for note in agreement(spec, PLAIN, saved, matched)}


def _mixtral() -> Checkpoint:
    return saved_by_transformers(MIXTRAL)


@pytest.mark.parametrize(
    ("off", "code", "severity"), [(0.004, "headers", "info"), (0.006, "headers-differ", "warning")]
)
def test_a_difference_is_told_and_above_half_a_percent_it_is_a_warning(off: float, code: str, severity: str) -> None:
    """The same tensors and one more, of 0.4 % and of 0.6 % of their bytes."""
    saved = _mixtral()
    extra = tensor("model.layers.0.adapter.weight", "F32", (round(saved.num_bytes * off / 4),))
    matched, notes = _notes(MIXTRAL, checkpoint((*saved.tensors, extra)))
    assert notes[code].severity == severity
    assert f"({off:+.2%})" in notes[code].message
    assert ("headers" in notes) != ("headers-differ" in notes)
    assert ("other (+" in notes[code].message) == (severity == "warning")
    assert [each.name for each in matched.unmatched] == [extra.name]


def test_what_nothing_explains_is_listed_and_kept() -> None:
    strange = [tensor(f"model.layers.{number}.adapter.weight", "F32", (3, 5)) for number in range(2)]
    saved = checkpoint((*_mixtral().tensors, *strange))
    matched, notes = _notes(MIXTRAL, saved)
    assert [(each.name, each.num_bytes) for each in matched.unmatched] == [
        ("model.layers.0.adapter.weight", 60),
        ("model.layers.1.adapter.weight", 60),
    ]
    assert "model.layers.1.adapter.weight (60 bytes)" in notes["tensors-unmatched"].message
    stored = fold_bytes(matched.holdings)
    assert stored.by_role["other"] == 120
    assert stored.checkpoint_bytes == saved.num_bytes


def test_what_is_missing_is_named() -> None:
    gone = {
        "lm_head.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.0.block_sparse_moe.experts.3.w2.weight",
    }
    saved = checkpoint(each for each in _mixtral().tensors if each.name not in gone)
    matched, notes = _notes(MIXTRAL, saved)
    assert matched.missing == (
        "lm_head.weight",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2.weight (1 of 5 in layers 0)",
        "model.layers.{layer}.self_attn.q_proj.weight (in layers 1)",
    )
    assert notes["tensors-missing"].severity == "warning"
    assert "lm_head.weight" in notes["tensors-missing"].message


def test_missing_layers_are_named_once() -> None:
    saved = checkpoint(each for each in _mixtral().tensors if ".layers.1." not in each.name)
    matched, _ = _notes(MIXTRAL, saved)
    assert matched.missing == ("model.layers.{1} (whole layers)",)


def test_a_tower_that_the_config_leaves_out_is_told_as_one() -> None:
    config = test_qwen.WITH_TOWERS["qwen3_vl_moe"]
    saved = saved_by_transformers(config, "AutoModelForImageTextToText")
    blind = {name: value for name, value in config.items() if name != "vision_config"}
    matched, notes = _notes(blind, saved)
    tower = [each for each in saved.tensors if ".visual." in each.name]
    assert matched.unmatched == ()
    assert fold_bytes(matched.holdings).by_role["towers"] == sum(each.num_bytes for each in tower) > 0
    assert f"{len(tower)} tensors" in notes["tower-in-headers"].message


def test_draft_layers_that_only_one_side_has_are_told() -> None:
    layout = published("deepseek-v3")
    spec, quantisation = _read(layout)
    without = read_config({**layout.config, "num_nextn_predict_layers": 0})
    matched = _matched(layout.checkpoint, without, quantisation)
    stored, promised = fold_bytes(matched.holdings), fold_bytes(holdings(inventory(spec), quantisation))
    assert matched.unmatched == ()
    drafts = promised.mtp_bytes + promised.mtp_duplicate_bytes
    assert stored.mtp_bytes + stored.mtp_duplicate_bytes == drafts
    codes = {note.code for note in agreement(without, quantisation, layout.checkpoint, matched)}
    assert "mtp-in-headers" in codes

    text = checkpoint(each for each in layout.checkpoint.tensors if ".layers.61." not in each.name)
    notes = agreement(spec, quantisation, text, _matched(text, spec, quantisation))
    assert [note.code for note in notes] == ["headers", "mtp-not-stored"]


def test_a_head_that_the_config_ties_is_a_second_table() -> None:
    config = MIXTRAL | {"tie_word_embeddings": True}
    matched, notes = _notes(config, _mixtral())
    assert matched.unmatched == ()
    assert fold_bytes(matched.holdings).mtp_duplicate_bytes == 97 * 48 * 4
    assert "lm_head.weight" in notes["table-twice"].message
    spec = read_config(config)
    counted = count_parameters(spec, matched.counted, "exact")
    assert counted.total == parameters(spec).total


def test_roles_are_all_kept() -> None:
    """The comparison by role in this file covers every role."""
    assert set(fold_bytes(()).by_role) == set(ROLES)
