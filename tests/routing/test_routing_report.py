"""What `moeplan routing report` finds in choices that were made so: skew, favourites, neighbours that share, dead experts."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import NO_EXPERT, CapturedLayer, CapturedPrompt, CaptureHeader
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.routing import report
from moeplan.routing.result import Report
from moeplan.sources.routing_files import CaptureWriter, write_counts, write_profile
from tests.routing.synthetic import PLAIN, Made, header, profile, write_capture


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("routing") / "skewed.jsonl"
    write_capture(path, sequences=24)
    return report(path)


def counted(tmp_path: Path, *layers: LayerRouting) -> Path:
    """A file of counts alone."""
    path = tmp_path / "counts.json"
    write_counts(path, RoutingProfile("m", None, Provenance(), {"all": layers}))
    return path


def layer(number: int, counts: tuple[int, ...], chosen: int = 1, dropped: int = 0) -> LayerRouting:
    return LayerRouting(number, len(counts), chosen, sum(counts) // chosen, counts, dropped=dropped)


def test_skew_is_above_what_chance_explains_and_grows_as_it_was_made(skewed: Report) -> None:
    assert skewed.uneven_layers == PLAIN.layers == len(skewed.layers)
    assert skewed.tokens == 24 * 48
    first, *_, last = skewed.layers
    for each in skewed.layers:
        assert each.load_cv > each.load_cv_floor
        assert each.gini > each.gini_floor
        assert each.busiest_over_mean > each.busiest_floor > 1
        assert 1 - each.normalised_entropy > 0
        assert each.independent_tokens < each.tokens  # neighbours share experts
    assert last.load_cv > 2 * first.load_cv  # made with three times the exponent
    assert last.effective_experts < first.effective_experts
    assert first.skew is not None
    assert last.skew is not None
    # Made with 0.3 and 0.9, and each sequence's favourites on top of that.
    assert 0.25 < first.skew.zipf_exponent < 0.6
    assert 0.8 < last.skew.zipf_exponent < 1.2


def test_neighbours_share_more_than_chance_and_touch_fewer(skewed: Report) -> None:
    for each in skewed.layers:
        after_one = each.overlap[0]
        assert after_one.distance_tokens == 1
        assert after_one.fraction > 2 * after_one.chance_fraction == 2 * 4 / 32
        within = {at.tokens: at for at in each.in_sequence}
        across = {at.tokens: at for at in each.across}
        assert within[1].distinct == across[1].distinct == 4
        for tokens in (2, 4, 8, 16):
            assert within[tokens].distinct < across[tokens].distinct < across[tokens].uniform
            # Across sequences tokens are independent: what counts alone tell is right.
            assert across[tokens].distinct == pytest.approx(across[tokens].by_counts, rel=0.05)
        assert each.in_sequence_growth is not None
        assert each.across_growth is not None
        assert 0.5 < each.in_sequence_growth.exponent < each.across_growth.exponent < 1
        assert each.in_sequence_growth.low <= each.in_sequence_growth.exponent <= each.in_sequence_growth.high
        assert each.kept_fraction == pytest.approx(after_one.fraction, abs=0.05)


def test_even_choices_are_called_even(tmp_path: Path) -> None:
    write_profile(tmp_path / "even.yaml", profile(Made(skew=0, own=0, kept=0), sequences=48))
    found = report(tmp_path / "even.yaml")
    assert found.uneven_layers == 0
    for each in found.layers:
        assert each.load_cv == pytest.approx(each.load_cv_floor, rel=0.5)
        assert each.in_sequence[3].distinct == pytest.approx(each.in_sequence[3].uniform, rel=0.03)


def test_the_layers_that_stand_out_are_named_with_what_others_have(skewed: Report) -> None:
    worst = {each.metric: each for each in skewed.worst}
    assert worst["load_cv"].layer == 6
    spreads = sorted(each.load_cv for each in skewed.layers)
    assert (worst["load_cv"].value, worst["load_cv"].best) == (spreads[-1], spreads[0])
    assert worst["load_cv"].median == pytest.approx((spreads[2] + spreads[3]) / 2)
    assert worst["near_tie_fraction"].layer == 6
    assert worst["near_tie_fraction"].value == pytest.approx(0.006)
    assert worst["effective_experts_fraction"].value == min(each.effective_experts for each in skewed.layers) / 32
    assert worst["overlap_fraction"].floor == 4 / 32
    assert "dead_experts" not in worst
    assert "drop_fraction" not in worst


def test_dead_experts_are_called_so_only_after_enough_tokens(tmp_path: Path) -> None:
    made = Made(dead=3, kept=0)
    write_profile(tmp_path / "long.yaml", profile(made, sequences=96))
    write_profile(tmp_path / "short.yaml", profile(made, sequences=2))
    long, short = (report(tmp_path / f"{name}.yaml") for name in ("long", "short"))
    dead = long.layers[-1].dead
    assert len(dead.experts) == 3
    assert dead.judged
    assert all(not each.dead.experts for each in long.layers[:-1])
    assert next(each for each in long.worst if each.metric == "dead_experts").layer == 6
    assert set(dead.experts) <= set(short.layers[-1].dead.experts)
    assert not short.layers[-1].dead.judged
    assert all(each.metric != "dead_experts" for each in short.worst)


def test_hand_values_of_three_histograms(tmp_path: Path) -> None:
    # Even, one of four takes all, a ramp of 1 to 4.
    found = report(counted(tmp_path, layer(0, (25,) * 4), layer(1, (100, 0, 0, 0)), layer(2, (10, 20, 30, 40))))
    even, one, ramp = found.layers
    assert (even.load_cv, even.gini, even.busiest_over_mean, even.normalised_entropy) == (0, 0, 1, 1)
    assert even.effective_experts == pytest.approx(4)
    assert (one.busiest_over_mean, one.effective_experts, one.normalised_entropy) == (4, 1, 0)
    assert one.load_cv == pytest.approx(3**0.5)
    assert one.gini == pytest.approx(0.75)
    assert (one.coverage_fraction, one.dead.experts) == (0.25, (1, 2, 3))
    assert ramp.gini == pytest.approx(0.25)
    assert ramp.busiest_over_mean == pytest.approx(1.6)
    assert ramp.load_cv == pytest.approx(5**0.5 / 5)
    assert not even.uneven
    assert one.uneven
    assert [note.code for note in found.notes] == ["routing-counts-alone"]
    assert even.in_sequence == ()
    assert even.in_sequence_growth is None


def test_drops_and_the_factor_that_would_prevent_them(tmp_path: Path) -> None:
    path = counted(tmp_path, layer(0, (40, 20, 20, 20), dropped=15))
    found = report(path, drop_bound=0.05, step_tokens=1000)
    (only,) = found.layers
    assert only.drop_fraction == pytest.approx(0.15)
    # A large step drops what is above the capacity: at factor 1 every expert takes 25 % of the tokens, one is asked for 40 %.
    assert only.capacity.drop_at_one_fraction == pytest.approx(0.15, abs=0.005)
    # 40 % less 5 % is 1.4 times a quarter.
    assert only.capacity.factor == pytest.approx(1.4, abs=0.02)
    assert report(path, drop_bound=0.01).layers[0].capacity.factor > only.capacity.factor


def test_a_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_capture(path, sequences=12)
    assert [each.tokens for each in report(path, phase="decode").layers] == [12 * 8] * 6
    assert [each.tokens for each in report(path, phase="prefill").layers] == [12 * 40] * 6
    assert report(path, prompt_class="code").tokens == 4 * 48
    assert report(path, layers=["2", "4-5"]).selection.layers == (2, 4, 5)
    assert report(path, layers=["2,6"]).selection.layers == (2, 6)
    assert report(path, layers=[3]).selection.layers == (3,)
    assert report(path, layers=["5-99"]).selection.layers == (5, 6)


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"phase": "training"}, "unknown phase 'training'", "all, prefill, decode"),
        ({"prompt_class": "poetry"}, "no class 'poetry'", "code, easy, mathematics"),
        ({"prompt_class": "code", "phase": "decode"}, "both phases together", "leave one"),
        ({"layers": ["x"]}, "--layer 'x' is no layer", "10-20"),
        ({"layers": ["40-50"]}, "has no layer 40-50", "1 to 6"),
        ({"drop_bound": 1.5}, "--drop-bound", "1%"),
        ({"step_tokens": 0}, "--step-tokens", "4096"),
    ],
)
def test_a_part_that_is_not_there(asked: dict[str, object], message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_capture(path, sequences=3)
    with pytest.raises(InputError) as raised:
        report(path, **asked)  # type: ignore[arg-type]
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_phases_that_a_file_does_not_tell_apart(tmp_path: Path) -> None:
    path = counted(tmp_path, layer(0, (1, 2)))
    with pytest.raises(InputError, match="does not tell the phase decode apart"):
        report(path, phase="decode")
    with pytest.raises(InputError, match="no class 'code'") as raised:
        report(path, prompt_class="code")
    assert "leave --class out" in raised.value.hint


def test_layers_that_chose_nobody_are_left_out_and_named(tmp_path: Path) -> None:
    # A router with zero-computation experts may choose those alone.
    head = CaptureHeader("m", None, (CapturedLayer(0, 4, 1), CapturedLayer(4, 4, 1)), Provenance())
    path = tmp_path / "a.jsonl"
    with CaptureWriter(path, head) as writer:
        writer.append(
            CapturedPrompt("0" * 64, "easy", 3, 0, array("H", [0, NO_EXPERT, 1, NO_EXPERT, 3, 65535]).tobytes())
        )
    found = report(path)
    assert [each.layer for each in found.layers] == [0]
    assert "1 of 2 layers chose no expert and are left out: 4" in found.notes[0].message
    with pytest.raises(InputError, match="no token was counted"):
        report(path, layers=[4])


def test_what_the_file_says_of_itself_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_capture(path, sequences=3)
    with CaptureWriter(path, header()) as writer:
        writer.append(CapturedPrompt("f" * 64, "easy", 0, 0, problem="the prompt is empty"))
    (note,) = report(path).notes
    assert (note.code, note.severity) == ("routing-file", "warning")
    assert "ffffffffffff" in note.message
    assert "the prompt is empty" in note.message
