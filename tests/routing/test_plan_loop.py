"""The loop of routing closes: what a captured profile says of decode steps is nearer to fresh texts than what is assumed."""

from __future__ import annotations

from pathlib import Path

import pytest

import moeplan
from benchmarks.routing import captured, planned_s, steps
from moeplan.core.expert_use import LIGHT, StepTokens
from moeplan.sources.expert_uses import measured_use
from moeplan.sources.routing_files import read_routing
from tests.routing.small_moe import EXPERTS, TOP_K


@pytest.fixture(scope="module")
def capture(small_moe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captured(small_moe, tmp_path_factory.mktemp("captured") / "capture.jsonl")


@pytest.mark.parametrize("batch", [4, 16])
def test_a_profile_is_nearer_to_fresh_texts_than_the_light_skew(small_moe: Path, capture: Path, batch: int) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(small_moe).eval()
    found = read_routing(capture)
    use = measured_use(found, found.layers["decode"])
    own, even, _ = steps(model, batch)
    tokens = StepTokens(batch)
    assumed, profiled = (each.distinct(EXPERTS, TOP_K, EXPERTS, tokens) for each in (LIGHT, use))
    assert abs(profiled - own.distinct) < 0.5 * abs(assumed - own.distinct)
    # Drawn evenly, the same steps touch about what is assumed: the difference is the model's own.
    assert even.distinct == pytest.approx(assumed, rel=0.05)


def test_a_plan_with_the_profile_moves_the_same_way(small_moe: Path, capture: Path) -> None:
    assert planned_s(small_moe, 16, capture) < planned_s(small_moe, 16, None)
    found = moeplan.estimate(
        small_moe, gpu="h100-sxm", concurrency=16, context=512, input=48, output=64, routing=capture, offline=True
    )
    assert found.speed is not None
    assert found.speed.skew is not None
    assert found.speed.skew.basis == "measured"
    assert any(note.code == "routing-profile" for note in found.notes)
