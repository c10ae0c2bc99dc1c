"""Dumps as SGLang's recorder writes them: by torch.save, in the shapes of its source.

Fixtures follow sgl-project/sglang, python/sglang/srt/eplb/expert_distribution.py at 02295fe5: `_StatAccumulator.dump`,
`_DetailAccumulator.dump`, `_DetailSinglePassGatherer.collect` (eight places per token, -1 where nothing is).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.routing_dumps.known import Known, ModelLayers
from moeplan.sources.routing_dumps.sglang import read_sglang
from tests.sources.routing_dumps import choices
from tests.sources.routing_dumps.choices import Ids

LAYERS, EXPERTS, CHOSEN = 3, 16, 4
DENSE = 1
"""Dense layers in front: the recorder has a row for each layer of the model."""
MODEL = ModelLayers(
    "tests/moe",
    None,
    LAYERS + DENSE,
    {n + DENSE: EXPERTS for n in range(LAYERS)},
    {n + DENSE: CHOSEN for n in range(LAYERS)},
)
KNOWN = Known(MODEL)
PLAIN = [list(range(EXPERTS))] * (LAYERS + DENSE)
COPIED = [[*range(EXPERTS), 3, 3], [*range(EXPERTS), 0, 1], [5, 5, *range(EXPERTS)], [*range(EXPERTS), 2, 7]]
PLACES = 8


def rows(counted: Ids) -> Ids:
    """With the dense layers, which count nothing."""
    return np.concatenate([np.zeros((DENSE, counted.shape[1]), dtype=counted.dtype), counted])


def stat(path: Path, steps: Sequence[Ids], *, ranks: int = 1, buffer: int = 0) -> Path:
    """`steps` [layers, experts] each; `ranks` with the same tokens are added up, and a ring of steps is zero where unused."""
    size = max(buffer, len(steps))
    logical = torch.zeros((size, LAYERS + DENSE, EXPERTS), dtype=torch.int32)
    for at, step in enumerate(steps):
        logical[at] = torch.from_numpy(rows(step) * ranks)
    torch.save({"rank": 0, "logical_count": logical, "average_utilization_rate_over_window": None}, path)
    return path


def record(
    ids: Ids, pass_id: int, *, mode: int, lengths: list[int] | None, rank: int = 0, homes: Any = PLAIN
) -> dict[str, Any]:
    """One forward pass of tokens with `ids` [tokens, layers, k]."""
    tokens = len(ids)
    physical = choices.slots(ids, homes[DENSE:], seed=pass_id)
    topk = torch.full((LAYERS + DENSE, tokens + 5, PLACES), -1, dtype=torch.int32)
    topk[DENSE:, :tokens, :CHOSEN] = torch.from_numpy(physical.transpose(1, 0, 2).copy())
    counted = [np.bincount(physical[:, layer].ravel(), minlength=len(homes[0])) for layer in range(LAYERS)]
    return {
        "forward_pass_id": pass_id,
        "rank": rank,
        "gatherer_key": "primary",
        "input_ids": [random.Random(pass_id).randrange(100_000) for _ in range(tokens)],  # noqa: S311
        "positions": list(range(tokens)),
        "extend_seq_lens": lengths,
        "forward_mode": mode,
        "topk_ids_of_layer": topk[:, :tokens, :].clone().cpu(),
        "misc_objects": [],
        "global_physical_count": torch.from_numpy(rows(np.array(counted))).int(),
    }


def details(path: Path, records: list[dict[str, Any]], *, homes: Any = PLAIN, tokens: bool = True) -> Path:
    """A file of one rank: per_token, or per_pass, which has counts alone."""
    kept = ("forward_pass_id", "rank", "gatherer_key", "global_physical_count")
    if not tokens:
        records = [{key: one[key] for key in kept} for one in records]
    torch.save({"records": records, "last_physical_to_logical_map": torch.tensor(homes)}, path)
    return path


def counted(profile: RoutingProfile, phase: Any = "all") -> Ids:
    return np.array([layer.counts for layer in profile.layers[phase]])


# stat ----------------------------------------------------------------------------------------------------------


def test_counts_of_steps_are_those_of_the_choices(tmp_path: Path) -> None:
    steps = [choices.draw(LAYERS, EXPERTS, CHOSEN, 50 + at, seed=7) for at in range(6)]
    path = stat(
        tmp_path / "expert_distribution_recorder_1747000000.25.pt", [choices.counts(one, EXPERTS) for one in steps]
    )
    found = read_sglang(path, KNOWN)
    assert (counted(found) == sum(choices.counts(one, EXPERTS) for one in steps)).all()
    assert [layer.layer for layer in found.layers["all"]] == [1, 2, 3]
    assert {layer.tokens for layer in found.layers["all"]} == {sum(map(len, steps))}
    assert {layer.experts_per_token for layer in found.layers["all"]} == {float(CHOSEN)}
    first = found.layers["all"][0]
    assert len(first.windows) == 6
    assert first.windows[2] == tuple(choices.counts(steps[2], EXPERTS)[0])
    assert found.provenance.engine == "sglang"
    assert found.provenance.date == "2025-05-11"
    assert found.provenance.source == path.name
    assert found.model == "tests/moe"
    assert set(found.layers) == {"all"}


def test_counts_of_a_gpu_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The recorder saves what lies on its GPU; torch.load would ask for one.
    monkeypatch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
    step = choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 50, seed=1), EXPERTS)
    assert (counted(read_sglang(stat(tmp_path / "a.pt", [step]), KNOWN)) == step).all()


def test_a_ring_of_steps_is_zero_where_none_was(tmp_path: Path) -> None:
    steps = [choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 20, seed=at), EXPERTS) for at in range(3)]
    found = read_sglang(stat(tmp_path / "a.pt", steps, buffer=1000), KNOWN)
    assert (counted(found) == sum(steps)).all()
    assert len(found.layers["all"][0].windows) == 3


def test_ranks_of_one_tensor_parallel_group_count_the_same_tokens(tmp_path: Path) -> None:
    steps = [choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 31, seed=at), EXPERTS) for at in range(4)]
    found = read_sglang(stat(tmp_path / "a.pt", steps, ranks=8), KNOWN)
    assert (counted(found) == sum(steps)).all()
    assert any("multiples of 8" in note for note in found.notes)


def test_many_steps_become_windows_that_sum_to_all(tmp_path: Path) -> None:
    steps = [choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 5, seed=at), EXPERTS) for at in range(300)]
    layer = read_sglang(stat(tmp_path / "a.pt", steps), KNOWN).layers["all"][1]
    assert 32 <= len(layer.windows) <= 64
    assert tuple(map(sum, zip(*layer.windows, strict=True))) == layer.counts
    assert layer.windows[0] == tuple(sum(step[1] for step in steps[:8]))


def test_steps_of_a_decode_server_tell_what_a_batch_touches(tmp_path: Path) -> None:
    drawn = [choices.draw(LAYERS, EXPERTS, CHOSEN, n, seed=11) for n in (1, 1, 8, 8, 9)]
    steps = [choices.counts(one, EXPERTS) for one in drawn]
    found = read_sglang(stat(tmp_path / "a.pt", steps), Known(MODEL, phase="decode"))
    assert set(found.layers) == {"all", "decode"}
    alone, several = found.layers["decode"][0].across
    assert alone == (1.0, CHOSEN)
    touched = [len(np.unique(one[:, 0])) for one in drawn[2:]]
    assert several == pytest.approx((25 / 3, sum(touched) / 3))
    assert not read_sglang(tmp_path / "a.pt", KNOWN).layers["all"][0].across


def test_without_a_model_rows_are_layers_and_k_must_be_said(tmp_path: Path) -> None:
    step = choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 50, seed=1), EXPERTS)
    path = stat(tmp_path / "a.pt", [step])
    with pytest.raises(InputError, match="does not say how many experts a token has") as caught:
        read_sglang(path, Known())
    assert "--experts-per-token" in caught.value.hint
    found = read_sglang(path, Known(experts_per_token=CHOSEN))
    assert [layer.layer for layer in found.layers["all"]] == [1, 2, 3]
    assert found.model == "unknown"


# per_pass ------------------------------------------------------------------------------------------------------


def test_slots_become_experts(tmp_path: Path) -> None:
    passes = [choices.draw(LAYERS, EXPERTS, CHOSEN, 40, seed=at) for at in range(4)]
    made = [record(ids, at, mode=2, lengths=None, homes=COPIED) for at, ids in enumerate(passes)]
    found = read_sglang(details(tmp_path / "a.pt", made, homes=COPIED, tokens=False), KNOWN)
    assert (counted(found) == sum(choices.counts(ids, EXPERTS) for ids in passes)).all()
    assert any("last map of experts" in note for note in found.notes)


def test_ranks_are_added_up_by_forward_pass(tmp_path: Path) -> None:
    ids = [[choices.draw(LAYERS, EXPERTS, CHOSEN, 10, seed=4 * at + rank) for rank in range(2)] for at in range(3)]
    for rank in range(2):
        made = [record(ids[at][rank], at, mode=2, lengths=None, rank=rank) for at in range(3)]
        details(tmp_path / f"expert_distribution_recorder_1.5_{rank}.pt", made, tokens=False)
    found = read_sglang(tmp_path, KNOWN)
    assert (counted(found) == sum(choices.counts(one, EXPERTS) for step in ids for one in step)).all()
    assert len(found.layers["all"][0].windows) == 3


# per_token -----------------------------------------------------------------------------------------------------


def test_prompts_and_decode_steps_are_told_apart(tmp_path: Path) -> None:
    prompts = [choices.draw(LAYERS, EXPERTS, CHOSEN, n, seed=n) for n in (64, 32)]
    steps = [choices.draw(LAYERS, EXPERTS, CHOSEN, 8, seed=100 + at) for at in range(5)]
    made = [record(np.concatenate(prompts), 0, mode=1, lengths=[64, 32], homes=COPIED)]
    made += [record(ids, 1 + at, mode=2, lengths=None, homes=COPIED) for at, ids in enumerate(steps)]
    found = read_sglang(details(tmp_path / "a.pt", made, homes=COPIED), KNOWN)
    assert (counted(found, "prefill") == sum(choices.counts(ids, EXPERTS) for ids in prompts)).all()
    assert (counted(found, "decode") == sum(choices.counts(ids, EXPERTS) for ids in steps)).all()
    assert (counted(found) == counted(found, "prefill") + counted(found, "decode")).all()
    prefill, decode, everything = (found.layers[phase][1] for phase in ("prefill", "decode", "all"))
    assert dict(prefill.in_sequence)[32] == pytest.approx(
        (2 * choices.distinct(prompts[0], 1, 32) + choices.distinct(prompts[1], 1, 32)) / 3
    )
    assert dict(decode.across)[8] == pytest.approx(np.mean([choices.distinct(ids, 1, 8) for ids in steps]))
    assert dict(prefill.overlap)[1] == pytest.approx(
        (63 * choices.kept(prompts[0], 1, 1) + 31 * choices.kept(prompts[1], 1, 1)) / 94
    )
    assert not decode.in_sequence
    assert not decode.overlap
    assert everything.in_sequence == prefill.in_sequence
    assert everything.across == decode.across
    assert everything.tokens == 96 + 40


def test_token_ids_stay_behind(tmp_path: Path) -> None:
    ids = choices.draw(LAYERS, EXPERTS, CHOSEN, 16, seed=3)
    made = [record(ids, 0, mode=1, lengths=[16])]
    found = read_sglang(details(tmp_path / "a.pt", made), KNOWN)
    text = repr(found)
    assert not any(str(token) in text for token in made[0]["input_ids"] if token > 9999)


def test_the_same_tokens_of_another_rank_are_taken_once(tmp_path: Path) -> None:
    ids = choices.draw(LAYERS, EXPERTS, CHOSEN, 16, seed=3)
    for rank in range(4):
        details(tmp_path / f"a_{rank}.pt", [record(ids, 5, mode=1, lengths=[16], rank=rank)])
    found = read_sglang(tmp_path, KNOWN)
    assert (counted(found) == choices.counts(ids, EXPERTS)).all()
    assert any("3 records were of tokens that another rank recorded too" in note for note in found.notes)


def test_ranks_of_data_parallel_attention_step_together(tmp_path: Path) -> None:
    ids = [choices.draw(LAYERS, EXPERTS, CHOSEN, 4, seed=rank) for rank in range(2)]
    for rank in range(2):
        details(tmp_path / f"a_{rank}.pt", [record(ids[rank], 5, mode=2, lengths=None, rank=rank)])
    layer = read_sglang(tmp_path, KNOWN).layers["decode"][0]
    assert dict(layer.across)[8] == choices.distinct(np.concatenate(ids), 0, 8)


def test_chunks_beside_decoding_and_drafts(tmp_path: Path) -> None:
    chunk, single, drafts = (choices.draw(LAYERS, EXPERTS, CHOSEN, n, seed=n) for n in (16, 3, 6))
    made = [
        record(np.concatenate([chunk, single]), 0, mode=3, lengths=[16, 1, 1, 1]),
        record(drafts, 1, mode=5, lengths=None),
    ]
    found = read_sglang(details(tmp_path / "a.pt", made), KNOWN)
    assert (counted(found, "prefill") == choices.counts(chunk, EXPERTS)).all()
    assert (counted(found, "decode") == choices.counts(single, EXPERTS)).all()
    assert found.layers["all"][0].tokens == 25
    assert any("1 forward passes verify drafts" in note for note in found.notes)


# Another model, and files that are none ------------------------------------------------------------------------


def test_a_dump_of_another_model_is_refused(tmp_path: Path) -> None:
    step = choices.counts(choices.draw(LAYERS, EXPERTS, CHOSEN, 50, seed=1), EXPERTS)
    path = stat(tmp_path / "a.pt", [step])
    for model, said in (
        (MODEL._replace(experts=dict.fromkeys(MODEL.experts, 8)), "layer 1 has 16 experts in it, and tests/moe has 8"),
        (MODEL._replace(num_layers=48), "it has 4 layers, and tests/moe has 48, of which 3 have experts"),
        (MODEL._replace(chosen=dict.fromkeys(MODEL.chosen, 9.0)), "was chosen"),
    ):
        with pytest.raises(InputError, match=said):
            read_sglang(path, Known(model))


def test_an_expert_that_is_no_slot_is_refused(tmp_path: Path) -> None:
    made = [record(choices.draw(LAYERS, EXPERTS, CHOSEN, 8, seed=1), 0, mode=1, lengths=[8])]
    made[0]["topk_ids_of_layer"][2, 3, 1] = EXPERTS
    with pytest.raises(InputError, match="a token chose slot 16, and there are 16") as caught:
        read_sglang(details(tmp_path / "a.pt", made), KNOWN)
    assert "--disable-shared-experts-fusion" in caught.value.hint


def test_an_expert_twice_is_refused(tmp_path: Path) -> None:
    made = [record(choices.draw(LAYERS, EXPERTS, CHOSEN, 8, seed=1), 0, mode=1, lengths=[8])]
    made[0]["topk_ids_of_layer"][2, 3, 1] = made[0]["topk_ids_of_layer"][2, 3, 0]
    with pytest.raises(InputError, match="forward pass 0 of rank 0: layer 2: a token has the same expert twice"):
        read_sglang(details(tmp_path / "a.pt", made), KNOWN)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rank": 0, "logical_count": torch.zeros((4, 4, 16), dtype=torch.int32)}, "nothing was counted"),
        (
            {"rank": 0, "logical_count": torch.full((4, 4, 16), -1, dtype=torch.int32)},
            "step 0: layer 0, expert 0 has a count of -1",
        ),
        ({"rank": 0, "logical_count": torch.ones((4, 16), dtype=torch.int32)}, "2 dimensions"),
        (
            {"rank": 0, "logical_count": torch.ones((4, 4, 16))},
            "64|256 elements of torch.FloatStorage; counts are whole",
        ),
        ({"state_dict": 1}, "it holds 'state_dict'"),
        ([1, 2], "it holds list"),
        ({"records": [], "last_physical_to_logical_map": torch.tensor(PLAIN)}, "no forward pass was recorded"),
        ({"records": [1], "last_physical_to_logical_map": torch.tensor(PLAIN)}, "record 0 is no dictionary"),
        ({"records": [{"rank": 0}], "last_physical_to_logical_map": torch.tensor(PLAIN)}, "no forward_pass_id"),
        (
            {"records": [{}], "last_physical_to_logical_map": torch.tensor([[0, 0, 2]])},
            "does not hold each of 16 experts",
        ),
    ],
)
def test_what_holds_no_counts_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=said) as caught:
        read_sglang(tmp_path / "a.pt", KNOWN)
    assert caught.value.hint


def test_files_of_several_dumps_do_not_mix(tmp_path: Path) -> None:
    ids = choices.draw(LAYERS, EXPERTS, CHOSEN, 8, seed=1)
    stat(tmp_path / "a.pt", [choices.counts(ids, EXPERTS)])
    details(tmp_path / "b.pt", [record(ids, 0, mode=1, lengths=[8])])
    with pytest.raises(InputError, match="dumps of several modes: per_token, stat"):
        read_sglang(tmp_path, KNOWN)
    details(tmp_path / "a.pt", [record(ids, 0, mode=1, lengths=[8])])
    with pytest.raises(InputError, match="forward pass 0 of rank 0 is there twice"):
        read_sglang(tmp_path, KNOWN)
    details(tmp_path / "a.pt", [record(ids, 0, mode=1, lengths=[8], rank=1, homes=COPIED)], homes=COPIED)
    with pytest.raises(InputError, match="map of slots to experts is not that of"):
        read_sglang(tmp_path, KNOWN)
    for one in tmp_path.iterdir():
        one.unlink()
    with pytest.raises(InputError, match=r"0 files \.pt in it"):
        read_sglang(tmp_path, KNOWN)
