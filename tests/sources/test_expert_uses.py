"""Routing files as the use of experts: of which phase, and of which model they may be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.expert_use import EVEN, StepTokens
from moeplan.core.model import Remark
from moeplan.core.routing_profile import LayerRouting, Phase, Provenance, RoutingProfile
from moeplan.sources.expert_uses import measured_use, read_use
from moeplan.sources.models import find_model
from moeplan.sources.routing_files import write_profile

MODEL = "qwen3-30b-a3b"


def layer_of(number: int, chosen: int, *, second: float = 15.0) -> LayerRouting:
    return LayerRouting(
        number, 128, float(chosen), 1280, (10 * chosen,) * 128, ((1.0, 8.0), (2.0, second)) if chosen == 8 else ()
    )


def profile_of(chosen: int, layers: int) -> RoutingProfile:
    return RoutingProfile("m", None, Provenance(), {"all": tuple(layer_of(n, chosen) for n in range(layers))})


@pytest.mark.parametrize("chosen", [1, 4, 16])
def test_a_profile_of_a_router_that_chooses_fewer_or_more_is_of_another_model(tmp_path: Path, chosen: int) -> None:
    write_profile(tmp_path / "p.yaml", profile_of(chosen, 48))
    with pytest.raises(InputError, match=rf"{chosen} per token, and this model has 128, 8 per token") as caught:
        read_use(find_model(MODEL).spec, tmp_path / "p.yaml", None, [])
    assert caught.value.hint


def test_layers_that_were_not_counted_are_told(tmp_path: Path) -> None:
    codes = []
    for layers in (3, 48):
        notes = list[Remark]()
        write_profile(tmp_path / "p.yaml", profile_of(8, layers))
        read_use(find_model(MODEL).spec, tmp_path / "p.yaml", None, notes)
        codes.append([note.code for note in notes if note.severity == "warning"])
    assert codes == [["routing-layers-missing"], []]


def test_growth_is_that_of_prompts_and_the_experts_are_those_of_decoded_tokens() -> None:
    prompts, decoded = layer_of(0, 8, second=10.0), layer_of(0, 8, second=16.0)
    layers: dict[Phase, tuple[LayerRouting, ...]] = {"all": (decoded,), "decode": (decoded,)}
    assert measured_use(RoutingProfile("m", None, Provenance(), layers), (decoded,)).growth == pytest.approx(1.0)
    found = measured_use(RoutingProfile("m", None, Provenance(), layers | {"prefill": (prompts,)}), (decoded,))
    assert found.growth == pytest.approx(0.322, abs=0.001)


@pytest.mark.parametrize(("tokens", "few"), [(16, True), (850, True), (870, False)])
def test_a_profile_of_few_tokens_is_told(tmp_path: Path, tokens: int, few: bool) -> None:
    """Of 128 experts, 8 a token, half of one is missed by chance after 86 tokens: ten times as many tell something."""
    chance = random.Random(3)  # noqa: S311 - no secret
    layers = []
    for number in range(48):
        counts = [0] * 128
        for _ in range(tokens):
            for expert in chance.sample(range(128), 8):
                counts[expert] += 1
        layers.append(LayerRouting(number, 128, 8.0, tokens, tuple(counts)))
    notes = list[Remark]()
    write_profile(tmp_path / "p.yaml", RoutingProfile("m", None, Provenance(), {"all": tuple(layers)}))
    use = read_use(find_model(MODEL).spec, tmp_path / "p.yaml", None, notes)
    assert [note.code for note in notes if note.severity == "warning"] == ["routing-few-tokens"] * few
    # What is told of is real: even routing looks like a lighter step, by little where nothing is told.
    even, seen = (each.distinct(128, 8, 128, StepTokens(64)) for each in (EVEN, use))
    assert (seen < even * 0.997) == (tokens == 16)
