"""What `moeplan routing drift` says of files that were made alike, moved, too short, or of the same prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.routing import drift
from moeplan.sources.routing_files import write_counts, write_profile
from tests.routing.synthetic import PLAIN, Made, profile, write_capture


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles and captures of the made-up model."""
    folder = tmp_path_factory.mktemp("routing")
    write_profile(folder / "first.yaml", profile(PLAIN, sequences=96))
    write_profile(folder / "moved.yaml", profile(Made(moved=2), sequences=96))
    write_profile(folder / "short.yaml", profile(PLAIN, sequences=3))
    write_capture(folder / "bf16.jsonl", PLAIN, sequences=12)
    write_capture(folder / "fp8.jsonl", Made(flips=0.1), sequences=12)
    write_capture(folder / "longer.jsonl", PLAIN, sequences=15)
    return folder


def test_layers_that_moved_are_told_apart_from_those_that_did_not(files: Path) -> None:
    found = drift(files / "first.yaml", files / "moved.yaml", bound=0.1)
    assert found.passed is False
    assert found.beyond_bound == found.above_noise == (5, 6)
    assert found.untold == ()
    assert set(found.farthest[:2]) == {5, 6}
    for each in found.layers:
        assert each.above_noise == (each.layer in {5, 6})
        assert each.beyond_bound == (each.layer in {5, 6})
        assert each.distance > 0.3 if each.layer in {5, 6} else each.distance < 0.05
    moved = found.layers[-1].moved[0]
    counts = {
        name: profile(made, sequences=96).layers["all"][-1].counts
        for name, made in (("a", PLAIN), ("b", Made(moved=2)))
    }
    assert moved.a_fraction == pytest.approx(counts["a"][moved.expert] / sum(counts["a"]))
    assert moved.b_fraction == pytest.approx(counts["b"][moved.expert] / sum(counts["b"]))
    others = range(PLAIN.experts)
    assert abs(moved.a_fraction - moved.b_fraction) == pytest.approx(
        max(abs(counts["a"][e] / sum(counts["a"]) - counts["b"][e] / sum(counts["b"])) for e in others)
    )


def test_without_a_bound_everything_passes(files: Path) -> None:
    found = drift(files / "first.yaml", files / "moved.yaml")
    assert found.passed is True
    assert found.above_noise == (5, 6)
    assert found.beyond_bound == ()
    assert all(each.beyond_bound is None for each in found.layers)


def test_too_few_tokens_are_no_verdict(files: Path) -> None:
    found = drift(files / "first.yaml", files / "short.yaml", bound=0.05)
    assert found.passed is None
    assert found.untold
    assert found.above_noise == ()


def test_the_same_prompts_are_compared_token_by_token(files: Path) -> None:
    found = drift(files / "bf16.jsonl", files / "fp8.jsonl", bound=0.1)
    assert found.agreement is not None
    assert (found.agreement.prompts, found.agreement.other_prompts, found.agreement.tokens) == (12, 0, 12 * 40)
    # One token in ten has another last expert, one of four.
    assert found.agreement.equal_fraction == pytest.approx(0.9, abs=0.02)
    assert found.agreement.shared_fraction == pytest.approx(1 - 0.1 / 4, abs=0.005)
    equal = {each.layer: each.agreement.equal_fraction for each in found.layers if each.agreement}
    assert min(equal, key=lambda layer: equal[layer]) == found.agreement.worst_layer
    # Answers are drawn, and may be other texts: they keep their noise.
    assert all(each.noise > each.floor > 0 for each in found.layers)
    assert found.notes == ()


def test_the_tokens_of_the_same_prompts_are_not_drawn_anew(files: Path) -> None:
    found = drift(files / "bf16.jsonl", files / "fp8.jsonl", bound=0.1, phase="prefill")
    # What moved, moved, and the bound is judged however few the tokens.
    assert found.passed is True
    assert all(each.noise == 0 for each in found.layers)
    assert [note.code for note in found.notes] == ["drift-same-prompts"]


def test_the_same_capture_twice_is_the_same(files: Path) -> None:
    found = drift(files / "bf16.jsonl", files / "bf16.jsonl", bound=0.001, phase="prefill")
    assert found.passed is True
    assert found.above_noise == ()
    assert found.agreement is not None
    assert found.agreement.equal_fraction == found.agreement.shared_fraction == 1
    assert all(each.distance == 0 for each in found.layers)


def test_captures_with_other_prompts_too_keep_their_noise(files: Path) -> None:
    found = drift(files / "bf16.jsonl", files / "longer.jsonl")
    assert found.agreement is not None
    assert (found.agreement.prompts, found.agreement.other_prompts) == (12, 3)
    assert found.agreement.equal_fraction == 1
    assert all(each.noise > each.floor > 0 for each in found.layers)


def test_a_class_of_prompts_is_compared_with_itself(files: Path) -> None:
    found = drift(files / "bf16.jsonl", files / "fp8.jsonl", prompt_class="code", layers=[2])
    assert found.agreement is not None
    assert (found.agreement.prompts, found.agreement.tokens) == (4, 4 * 40)
    assert [each.layer for each in found.layers] == [2]


def test_why_tokens_are_not_compared(files: Path) -> None:
    assert "only two captures" in str(drift(files / "first.yaml", files / "bf16.jsonl").agreement_unknown)
    assert "answers" in str(drift(files / "bf16.jsonl", files / "fp8.jsonl", phase="decode").agreement_unknown)


def test_files_of_two_models_are_refused_where_it_shows(tmp_path: Path, files: Path) -> None:
    def counts(name: str, *layers: LayerRouting, model: str = "m") -> Path:
        write_counts(tmp_path / name, RoutingProfile(model, None, Provenance(), {"all": layers}))
        return tmp_path / name

    four = LayerRouting(0, 4, 1.0, 100, (25,) * 4)
    first = counts("a.json", four)
    with pytest.raises(InputError, match=r"layer 0 has 4 experts in .* and 8 in"):
        drift(first, counts("b.json", LayerRouting(0, 8, 1.0, 80, (10,) * 8)))
    with pytest.raises(InputError, match="layer 1 is in one of them alone"):
        drift(first, counts("c.json", four, four._replace(layer=1)))
    found = drift(first, counts("d.json", four, model="another/name"))
    assert [note.code for note in found.notes] == ["drift-models-differ"]
    for bound in (0.0, 1.0, 5.0):
        with pytest.raises(InputError, match="--bound"):
            drift(first, first, bound=bound)
