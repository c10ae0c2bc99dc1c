"""Priors of routing are found by a model's name, read strictly, made of the published figures, and never taken for measured."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from benchmarks import routing_priors as made
from benchmarks.routing_observed import BAR, JUDGES, rows
from benchmarks.throughput import asked_runs
from moeplan import estimate
from moeplan.core.coverage import SEQUENCE_GROWTH, SEQUENCE_GROWTH_HIGH, SEQUENCE_GROWTH_LOW, distinct_kept
from moeplan.core.errors import InputError
from moeplan.core.expert_use import LIGHT, GateSkew, MeasuredUse
from moeplan.core.model import Remark
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.core.serving_speed import serving_speed
from moeplan.sources import routing_priors
from moeplan.sources.catalogue import find_entry, name_key
from moeplan.sources.expert_uses import published_of, read_use
from moeplan.sources.families import read_config
from moeplan.sources.models import find_model
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.routing_files import write_profile
from moeplan.sources.routing_priors import RoutingPrior, index_text, prior_of, read_prior

FOLDER = builtin_folder("routing")
BUILT_IN = sorted(FOLDER.glob("*.yaml"))
OWN = {
    "models": ["acme/Qwen3-30B-A3B"],
    "model_type": "qwen3_moe",
    "experts": 128,
    "experts_per_token": 8,
    "growth": {
        "value": 0.9, "low": 0.8, "high": 1.0, "setting": "our chats", "derived": "counted", "source": "our report",
        "rows": ["ours"],
    },
}  # fmt: skip


def own(folder: Path, **changed: object) -> Path:
    """A folder of profiles with one prior of one's own."""
    path = folder / "routing" / "ours.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**OWN, **changed}), encoding="utf-8")
    return folder


# Built-in files ---------------------------------------------------------------------------------------------


def test_files_are_what_the_published_figures_say() -> None:
    assert made.stale() == [], "run python benchmarks/routing_priors.py write"
    assert {path.stem for path in BUILT_IN} == {asked.stem for asked in made.ASKED}


def test_the_index_is_current() -> None:
    assert (FOLDER / "index.json").read_text(encoding="utf-8") == index_text(FOLDER)


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_a_prior_is_of_a_model_of_the_catalogue_and_names_rows_that_exist(path: Path) -> None:
    prior = read_prior(path)
    assert find_entry(prior.model) is not None
    known = {row.id: row for row in rows()}
    for name in (*prior.models, *prior.alike):
        entry = find_entry(name)
        if entry is not None:
            spec = read_config(entry.config, entry.id)
            assert published_of(spec, entry.id) == prior, name
    for figure in (prior.exponent, prior.growth):
        if figure is not None:
            assert figure.rows
            assert all(known[row].source in figure.source for row in figure.rows)


@pytest.mark.parametrize(
    ("model", "growth"),
    [
        # facts on routing, 2c, worked out by hand: log2(2 - 0.35), log2(2 - 0.257), log2(2 - 0.13), log2(12.42 / 8),
        # ln(131 / 8) / ln 128
        ("glm-5", 0.7225),
        ("glm-4.7-flash", 0.8016),
        ("deepseek-v4-flash", 0.9030),
        ("qwen3-30b-a3b", 0.6346),
        ("qwen3.5-35b-a3b", 0.5762),
    ],
)
def test_growths_follow_from_the_published_windows(model: str, growth: float) -> None:
    figure = read_prior(FOLDER / f"{model}.yaml").growth
    assert figure is not None
    assert figure.value == pytest.approx(growth, abs=0.0051)
    assert SEQUENCE_GROWTH_LOW <= figure.low < figure.value <= figure.high <= SEQUENCE_GROWTH_HIGH


def test_the_default_band_is_that_of_the_growths_and_no_wider_than_rounding() -> None:
    found = [figure.value for asked in made.ASKED for figure in made.derived(asked)[1:] if figure is not None]
    assert 0 <= min(found) - SEQUENCE_GROWTH_LOW < 0.01
    assert 0 <= SEQUENCE_GROWTH_HIGH - max(found) < 0.01


def test_all_figures_of_deepseek_r1_agree_on_a_skew() -> None:
    # facts on routing, 3c: a simulation gave 0.65 to 0.70 for three of these four.
    figure = read_prior(FOLDER / "deepseek-r1.yaml").exponent
    assert figure is not None
    assert figure.low >= 0.64
    assert figure.high <= 0.72


def test_the_second_neighbour_lies_between_the_two_ways_in_which_overlap_may_go_on() -> None:
    """GLM-5's trace also tells the token after the next: 2.287 of 8 experts. No prior was made of it."""
    (row,) = [row for row in rows() if row.id == "glm5-overlap-lag1"]
    q = 8 / 256
    as_chain = q + (row.value - q) ** 2 / (1 - q)
    assert as_chain < 2.287 / 8 < row.value  # favourites keep the overlap of the next token at every distance


def test_both_ways_give_the_published_window() -> None:
    for row in rows():
        if row.judge in ("distinct_in_sequence", "shared_by_next"):
            for way in made.ways(row):
                assert way(row.tokens) == pytest.approx(made.distinct_published(row), rel=1e-6), row.id
                assert way(1) == pytest.approx(row.experts_per_token)
    assert distinct_kept(256, 8, 2, 0.35) == pytest.approx(13.2)


def test_an_exponent_is_where_the_form_gives_the_figure() -> None:
    for asked in made.ASKED:
        for row in rows():
            if row.id in asked.exponent:
                found = made.exponent_of(row, row.value)
                assert JUDGES[row.judge](row, GateSkew(found)) == pytest.approx(row.value, rel=1e-6), row.id


def test_a_changed_figure_makes_the_files_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuple(row._replace(value=row.value * 1.1) if row.id == BAR else row for row in rows())
    monkeypatch.setattr(made, "rows", lambda: changed)
    assert made.stale() == ["qwen3.5-35b-a3b.yaml"]
    assert made.main(["check"]) == 1


# Finding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b", "acme/QWEN3_30B_A3B", "models/qwen3-30b-a3b/"])
def test_the_organisation_and_the_case_do_not_matter(name: str) -> None:
    prior = prior_of(name, "qwen3_moe")
    assert prior is not None
    assert prior.model == "Qwen/Qwen3-30B-A3B"
    assert not prior.is_alike(name)
    assert prior.is_alike("Qwen/Qwen3-30B-A3B-Instruct-2507")


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("", "qwen3_moe"), ("/", "qwen3_moe"), ("Qwen/Qwen3-30B-A3B", "llama"), ("Qwen/Qwen3-235B-A22B", "qwen3_moe")],
)
def test_other_models_have_none(name: str, model_type: str) -> None:
    assert prior_of(name, model_type) is None


def test_a_model_without_a_prior_costs_one_look_into_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> RoutingPrior:
        raise AssertionError(path)

    monkeypatch.setattr(routing_priors, "read_prior", refuse)
    assert prior_of("kimi-k2-instruct", "kimi_k2") is None


def test_another_router_under_the_same_name_has_none() -> None:
    entry = find_entry("qwen3-30b-a3b")
    assert entry is not None
    spec = read_config({**entry.config, "num_experts": 64}, "narrower")
    assert published_of(spec, "Qwen/Qwen3-30B-A3B") is None
    assert published_of(find_model("llama-3.1-8b-instruct").spec, "Qwen/Qwen3-30B-A3B") is None


def test_ones_own_file_wins(tmp_path: Path) -> None:
    prior = prior_of("Qwen/Qwen3-30B-A3B", "qwen3_moe", [own(tmp_path)])
    assert prior is not None
    assert prior.growth is not None
    assert (prior.model, prior.growth.value, prior.growth.source) == ("acme/Qwen3-30B-A3B", 0.9, "our report")
    assert prior_of("glm-5", "glm_moe_dsa", [tmp_path]) == prior_of("glm-5", "glm_moe_dsa")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"models": []}, "`models` is missing"),
        ({"model_type": None}, "`model_type` is missing"),
        ({"experts": 4}, "`experts` and experts_per_token must both be there"),
        ({"experts_per_token": None}, "`experts` and experts_per_token must both be there"),
        ({"growth": None}, "`exponent` is missing, and so is `growth`"),
        ({"growth": {**OWN["growth"], "high": 1.2}}, "`growth.value` needs value, low and high around it, none above 1"),  # type: ignore[dict-item]
        ({"growth": {**OWN["growth"], "low": 0.95}}, "`growth.value` needs value, low and high around it"),  # type: ignore[dict-item]
        ({"growth": {**OWN["growth"], "source": None}}, "`growth.source` is missing"),  # type: ignore[dict-item]
        ({"growth": {**OWN["growth"], "value": "much"}}, "`growth.value` is 'much', not a number"),  # type: ignore[dict-item]
        ({"growth": {**OWN["growth"], "basis": "measured"}}, "`growth.basis` is not a known key"),  # type: ignore[dict-item]
        ({"skew": 0.4}, "`skew` is not a known key"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_says_where(tmp_path: Path, changed: dict[str, object], told: str) -> None:
    with pytest.raises(InputError) as caught:
        prior_of("qwen3-30b-a3b", "qwen3_moe", [own(tmp_path, **changed)])
    assert told in caught.value.message
    assert "ours.yaml" in caught.value.message
    assert caught.value.hint


def test_a_name_belongs_to_one_file(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "routing" / "theirs.yaml").write_text(yaml.safe_dump(OWN), encoding="utf-8")
    with pytest.raises(InputError, match="'qwen3-30b-a3b' belongs to ours too"):
        index_text(tmp_path / "routing")


def test_a_broken_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text("[", encoding="utf-8")
    monkeypatch.setattr(routing_priors, "builtin_folder", lambda _: tmp_path)
    with pytest.raises(InputError, match="the index of routing priors is broken"):
        prior_of("glm-5", "glm_moe_dsa")


def test_published_skews_are_not_taken_since_serving_runs_do_not_ask_for_them() -> None:
    """docs/method.md, Priors of routing: time per token with the light skew and with the published one, against public runs."""

    def off(card: str, model: str, prior: str) -> tuple[float, float]:
        figure = read_prior(FOLDER / f"{prior}.yaml").exponent
        assert figure is not None
        errors = [
            [serving_speed(stages, load, use).tpot_s.value / run.tpot_s - 1 for use in (LIGHT, GateSkew(figure.value))]
            for run, stages, load in asked_runs()
            if (run.card, run.model) == (card, model)
        ]
        light, published = (fmean(map(abs, some)) for some in zip(*errors, strict=True))
        return light, published

    light, published = off("h200_sxm", "deepseek-ai/DeepSeek-R1", "deepseek-r1")
    assert published > light
    light, published = off("h100_sxm", "openai/gpt-oss-120b", "gpt-oss-120b")
    assert published > light
    light, published = off("b200_sxm", "openai/gpt-oss-120b", "gpt-oss-120b")
    assert published < light


# Use --------------------------------------------------------------------------------------------------------


def use_of(name: str, skew: float | None = None, **more: Path) -> tuple[GateSkew, list[Remark]]:
    loaded, notes = find_model(name), list[Remark]()
    use = read_use(loaded.spec, None, skew, notes, model=loaded.id, folders=list(more.values()))
    assert isinstance(use, GateSkew)
    return use, notes


def test_a_published_growth_takes_the_place_of_the_default_and_stays_assumed() -> None:
    use, (note,) = use_of("qwen3-30b-a3b")
    assert (use.exponent, use.growth, use.basis) == (LIGHT.exponent, 0.63, "assumed")
    assert note.code == "routing-published"
    assert note.message == use.growth_why
    for part in ("as published of Qwen/Qwen3-30B-A3B", "0.63 (0.6 to 0.72)", "Ilcoach/loom"):
        assert part in use.growth_why


def test_another_checkpoint_of_the_base_is_told_apart() -> None:
    use, _ = use_of("qwen3-30b-a3b-instruct-2507")
    assert use.growth == 0.63
    assert "of whose base Qwen/Qwen3-30B-A3B-Instruct-2507 is another checkpoint" in use.growth_why


def test_a_published_skew_is_told_and_not_taken() -> None:
    use, (note,) = use_of("deepseek-r1")
    assert use == LIGHT
    assert note.code == "routing-published"
    for part in ("exponent 0.68 (0.64 to 0.72)", "32 GB200", "NVIDIA/TensorRT-LLM", "a light skew of 0.3", "--skew"):
        assert part in note.message


def test_a_stated_skew_keeps_the_published_growth_and_needs_no_hint() -> None:
    assert use_of("deepseek-r1", 0.7) == (GateSkew(0.7, basis="stated"), [])
    use, notes = use_of("glm-5", 0.0)
    assert (use.exponent, use.growth, use.basis) == (0.0, 0.72, "stated")
    assert len(notes) == 1


def test_a_model_without_a_prior_is_used_as_ever() -> None:
    assert use_of("minimax-m2") == (LIGHT, [])
    assert LIGHT.growth == SEQUENCE_GROWTH


@pytest.mark.parametrize("curves", [False, True])
def test_a_profile_of_counts_alone_takes_the_published_growth(tmp_path: Path, *, curves: bool) -> None:
    in_sequence = ((1.0, 8.0), (2.0, 15.0)) if curves else ()
    layer = LayerRouting(0, 128, 8.0, 160, (10,) * 128, in_sequence)
    profile = RoutingProfile("Qwen/Qwen3-30B-A3B", None, Provenance(tool="made here"), {"all": (layer,)})
    write_profile(tmp_path / "counts.yaml", profile)
    loaded, notes = find_model("qwen3-30b-a3b"), list[Remark]()
    use = read_use(loaded.spec, tmp_path / "counts.yaml", None, notes, model=loaded.id)
    assert isinstance(use, MeasuredUse)
    assert use.growth == pytest.approx(0.907 if curves else 0.63, abs=0.001)
    codes = [
        "routing-profile",
        "routing-few-tokens",
        "routing-layers-missing",
        *([] if curves else ["routing-published"]),
    ]
    assert [note.code for note in notes] == codes
    assert "1 of 48 MoE layers" in notes[2].message


def test_an_estimate_says_what_growth_it_took_and_a_larger_one_takes_longer(tmp_path: Path) -> None:
    def asked(*folders: Path) -> tuple[float, str, float]:
        found = estimate("qwen3-30b-a3b", gpu="h100-sxm", concurrency=1, input=32, output=64, profiles=folders)
        assert found.speed is not None
        assert found.speed.skew is not None
        assert found.speed.skew.basis == "assumed"
        return found.speed.skew.growth, found.speed.skew.why, found.speed.ttft.value_s

    growth, why, ttft_s = asked()
    assert growth == 0.63
    assert "published of Qwen/Qwen3-30B-A3B" in why
    growth, why, more_s = asked(own(tmp_path))
    assert growth == 0.9
    assert "our report" in why
    assert more_s > ttft_s * 1.02


def test_without_a_load_no_prior_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(routing_priors, "prior_of", refuse)
    assert estimate("glm-5", gpu="8xh200").speed is None


def test_the_index_holds_every_name_once() -> None:
    index = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    names = [name for path in BUILT_IN for prior in [read_prior(path)] for name in (*prior.models, *prior.alike)]
    assert sorted(index) == sorted(name_key(name.rpartition("/")[2]) for name in names)
