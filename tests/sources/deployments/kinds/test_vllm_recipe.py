"""Recipes of vllm-project/recipes deploy nothing, and are not taken for something that does."""

from __future__ import annotations

from tests.sources.deployments.reading import read, recognised

RECIPE = """\
meta:
  title: M
model:
  model_id: org/M
  base_args: []
variants:
  default: {precision: bf16}
  fp8:
    model_id: org/M-FP8
"""


def test_a_recipe_deploys_nothing_and_names_its_models() -> None:
    found = read("vllm_recipe", RECIPE)
    assert not found.deployments
    (remark,) = found.remarks
    assert (remark.code, remark.spot.line) == ("recipe", 4)
    assert "org/M, org/M-FP8" in remark.message
    assert "moeplan estimate org/M " in remark.hint


def test_other_files_are_none() -> None:
    assert not recognised("vllm_recipe", "meta: {}\nmodel: org/M\nvariants: {}")
    assert not recognised("vllm_recipe", "model: {model_id: org/M}\nvariants: {}")
