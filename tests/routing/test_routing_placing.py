"""What `moeplan routing place` makes of counts: evenness before and after, on other counts, memory, groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.routing import place
from moeplan.sources.routing_files import write_counts, write_profile
from tests.routing.synthetic import PLAIN, Made, profile

# The two layers of the balancer's own example (deepseek-ai/EPLB, README.md at d52c72d5), 12 experts each.
EXAMPLE = ((90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86), (20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27))


def counts(path: Path, *layers: tuple[int, ...], chosen: int = 1, first: int = 0, model: str = "m") -> Path:
    found = tuple(
        LayerRouting(first + number, len(layer), chosen, sum(layer) // chosen, layer)
        for number, layer in enumerate(layers)
    )
    write_counts(path, RoutingProfile(model, None, Provenance(), {"all": found}))
    return path


def test_the_balancers_own_example(tmp_path: Path) -> None:
    path = counts(tmp_path / "a.json", *EXAMPLE)
    found = place(path, ranks=8, nodes=2, redundant=4, groups=4)
    # Loads of the ranks as published beside the example.
    assert sorted(found.layers[0].after.tokens_by_rank) == sorted((121.5, 86.5, 125, 113, 147.5, 131.5, 156, 152))
    assert sorted(found.layers[1].after.tokens_by_rank) == sorted((173, 179.5, 120.5, 172, 123, 152, 118.5, 117.5))
    assert found.after.mean == pytest.approx((0.828 + 0.805) / 2, abs=0.001)
    assert (found.after.worst_layer, found.slots_per_rank, found.kept_groups) == (1, 2, 4)
    assert found.notes == ()


def test_copies_even_out_what_placement_alone_cannot(tmp_path: Path) -> None:
    write_profile(tmp_path / "a.yaml", profile(Made(skew=0.8), sequences=48))
    alone = place(tmp_path / "a.yaml", ranks=8)
    copies = place(tmp_path / "a.yaml", ranks=8, redundant=8)
    assert alone.before.mean < alone.after.mean < copies.after.mean
    assert copies.after.worst > 0.95
    for each in alone.layers:
        assert each.after.balancedness <= each.most_without_copies + 1e-9
        assert sorted(expert for rank in each.experts_by_rank for expert in rank) == list(range(PLAIN.experts))
        loads = each.after.tokens_by_rank
        assert each.after.busiest_over_mean == pytest.approx(max(loads) * 8 / sum(loads))
    for each in copies.layers:
        assert len({len(rank) for rank in each.experts_by_rank}) == 1
        assert sum(each.after.tokens_by_rank) == pytest.approx(48 * 48 * PLAIN.chosen)


def test_other_counts_judge_the_same_placement(tmp_path: Path) -> None:
    write_profile(tmp_path / "a.yaml", profile(Made(skew=0.8), sequences=48))
    write_profile(tmp_path / "b.yaml", profile(Made(skew=0.8, moved=3), sequences=48))
    found = place(tmp_path / "a.yaml", ranks=8, redundant=8, live=tmp_path / "b.yaml")
    assert found.live is not None
    assert found.live.mean < found.after.mean
    assert found.live.worst_layer in {4, 5, 6}  # those that moved
    evenness = [each.live.balancedness for each in found.layers if each.live]
    before = [each.live_before.balancedness for each in found.layers if each.live_before]
    assert found.live_before is not None
    assert (found.live.mean, found.live_before.mean) == pytest.approx((sum(evenness) / 6, sum(before) / 6))
    for each in found.layers:
        assert each.live is not None
        assert each.live_before is not None
        # Half of the layers moved; a plan of the old counts still does for the others.
        assert (each.live.balancedness > 0.85) == (each.layer < 4)


def test_live_counts_judge_both_placements_by_hand(tmp_path: Path) -> None:
    # In their order the ranks have 18 and 2; placed, each has a heavy one, 10 and 10. Of the live loads 2 and 12 become 10 and 4.
    planned, live = counts(tmp_path / "a.json", (9, 9, 1, 1)), counts(tmp_path / "b.json", (1, 1, 9, 3))
    (layer,) = place(planned, ranks=2, live=live).layers
    assert layer.before.balancedness == pytest.approx(10 / 18)
    assert layer.after.tokens_by_rank == (10, 10)
    assert layer.live_before is not None
    assert layer.live_before.tokens_by_rank == (2, 12)
    assert layer.live is not None
    assert sorted(layer.live.tokens_by_rank) == [4, 10]
    assert layer.most_without_copies == 1
    # Of four experts one is chosen: a token visits one rank, wherever it lies.
    assert layer.ranks_per_token == pytest.approx(1)


def test_a_class_of_prompts_is_placed_by_its_own_counts(tmp_path: Path) -> None:
    write_profile(tmp_path / "a.yaml", profile(PLAIN, sequences=24))
    whole, code = place(tmp_path / "a.yaml", ranks=8), place(tmp_path / "a.yaml", ranks=8, prompt_class="code")
    assert code.selection.prompt_class == "code"
    for one, other in zip(whole.layers, code.layers, strict=True):
        assert sum(other.after.tokens_by_rank) == pytest.approx(sum(one.after.tokens_by_rank) / 3)


def test_single_steps_are_less_even_than_their_sum(tmp_path: Path) -> None:
    windows = ((30, 10, 10, 10), (10, 30, 10, 10), (10, 10, 30, 10), (10, 10, 10, 30))
    layer = LayerRouting(0, 4, 1.0, 240, (60,) * 4, windows=windows)
    write_counts(tmp_path / "a.json", RoutingProfile("m", None, Provenance(), {"all": (layer,)}))
    (found,) = place(tmp_path / "a.json", ranks=2).layers
    assert found.after.balancedness == 1
    assert found.after.by_windows == pytest.approx(30 / 40)


def test_memory_of_copies_of_a_model_in_its_own_format(tmp_path: Path) -> None:
    # DeepSeek-V3 in FP8: one expert more in 58 layers is 58 x 44.0 MB = 2.55 GB (facts on routing, section 4).
    path = counts(tmp_path / "v3.json", *[(100,) * 256] * 58, chosen=8, first=3, model="deepseek-ai/DeepSeek-V3")
    found = place(path, ranks=32, redundant=32, model="deepseek-v3", offline=True)
    assert found.memory is not None
    assert found.memory.expert_bytes == pytest.approx(44.0e6, rel=0.002)
    assert found.memory.per_rank_bytes == pytest.approx(2.55e9, rel=0.002)
    assert found.memory.all_ranks_bytes == 32 * 58 * found.memory.expert_bytes
    few = place(path, ranks=32, redundant=32, model="deepseek-v3", layers=["3-4"], offline=True)
    assert few.memory is not None
    assert few.memory.per_rank_bytes == 2 * found.memory.expert_bytes
    half = place(path, ranks=32, redundant=32, model="deepseek-v3", quant="nvfp4", offline=True)
    assert half.memory is not None
    assert 0.5 < half.memory.expert_bytes / found.memory.expert_bytes < 0.6
    with pytest.raises(InputError, match=r"layer 3 has 256 experts in .* and has 8 in mistralai/Mixtral"):
        place(path, ranks=32, model="mixtral-8x7b", offline=True)
    with pytest.raises(InputError, match="--quant needs --model"):
        place(path, ranks=32, quant="fp8")


def test_groups_of_the_router_bound_the_nodes_of_a_token(tmp_path: Path) -> None:
    # 256 experts, 8 a token, on 8 nodes: 5.29 of them for plain top-k, 3.96 where a token keeps 4 of 8 groups (section 5).
    path = counts(tmp_path / "v3.json", (100,) * 256, chosen=8, first=3)
    plain = place(path, ranks=64, nodes=8)
    grouped = place(path, ranks=64, nodes=8, groups=8, kept_groups=4)
    assert plain.layers[0].nodes_per_token == pytest.approx(5.29, rel=0.01)
    assert grouped.layers[0].nodes_per_token == pytest.approx(3.96, rel=0.02)
    assert [note.code for note in plain.notes] == ["placement-ignores-nodes"]


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"ranks": 8, "redundant": 3}, "32 experts and 3 spare slots do not divide over 8 ranks", "0 or 8"),
        ({"ranks": 0}, "--ranks 0", "how many ranks"),
        ({"ranks": 8, "nodes": 3}, "8 ranks do not divide over 3 nodes", "divides the ranks"),
        ({"ranks": 8, "groups": 5}, "32 experts do not divide over 5 groups", "n_group"),
        ({"ranks": 8, "groups": 4, "kept_groups": 9}, "--groups 4 and --kept-groups 9", "topk_group"),
        ({"ranks": 8, "layers": ["9"]}, "no layer 9", "1 to 6"),
        ({"ranks": 2, "redundant": 10**12}, "on each of 2 ranks there are", "or fewer"),
    ],
)
def test_placements_that_cannot_be(asked: dict[str, int], message: str, hint: str, tmp_path: Path) -> None:
    write_profile(tmp_path / "a.yaml", profile(PLAIN, sequences=3))
    with pytest.raises(InputError) as raised:
        place(tmp_path / "a.yaml", **asked)  # type: ignore[arg-type]
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_counts_of_another_model_judge_nothing(tmp_path: Path) -> None:
    first, other = counts(tmp_path / "a.json", (1, 2, 3, 4)), counts(tmp_path / "b.json", (1, 2))
    with pytest.raises(InputError, match=r"layer 0 has 4 experts in .* and 2 in"):
        place(first, ranks=2, live=other)
