"""`moeplan validate MODEL`: a model run on this machine beside its estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import moeplan
from moeplan.core.errors import InputError, UnknownError
from moeplan.report.as_json import as_json
from moeplan.report.validate_markdown import validate_markdown
from moeplan.report.validate_table import validate_table
from moeplan.validate.result import Validation
from tests.cli.conftest import Run, folder, run  # noqa: F401 - fixtures
from tests.report.schemas import Schema

TINY = Path(__file__).parent / "profile" / "tiny-moe.json"


@pytest.fixture(scope="module")
def found() -> Validation:
    return moeplan.validate(TINY, device="cpu", context=64, concurrency=2, gpu="h100", offline=True)


def test_weights_and_cache_are_exact(found: Validation) -> None:
    rows = {row.quantity: row for row in found.comparisons}
    assert found.passed
    assert rows["weights_bytes"].error == rows["kv_bytes"].error == 0
    # By hand: two layers of keys and values, 2 heads of 16, 64 tokens of 2 sequences, 2 bytes.
    assert rows["kv_bytes"].observed == 2 * 2 * 2 * 16 * 64 * 2 * 2
    assert not rows["peak_bytes"].judged  # the CPU's allocator does not tell it


def test_a_wrong_estimate_is_found(tmp_path: Path) -> None:
    # The bar that every run is held to: one expert more or less is far beyond 0.1 %.
    from moeplan.estimate import estimate
    from moeplan.validate.machine import compare_machine, run_model

    config = json.loads(TINY.read_text(encoding="utf-8"))
    ran = run_model("tiny", config, batch=1, context_tokens=32, device="cpu")
    (tmp_path / "config.json").write_text(json.dumps(dict(ran.config) | {"num_local_experts": 9}), encoding="utf-8")
    other = estimate(tmp_path, engine="transformers", context=32, concurrency=1, offline=True)
    rows = {row.quantity: row for row in compare_machine(ran.points, other)}
    assert rows["weights_bytes"].within is False
    assert rows["kv_bytes"].within is True


def test_reports_of_a_run(found: Validation) -> None:
    assert Schema("validate").complaints(as_json(found)) == []
    for width in (40, 80, 120):
        assert max(map(len, validate_table(found, width=width, color=False, unicode=True).splitlines())) <= width
    text = validate_table(found, width=100, color=False, unicode=False)
    assert "run on " in text
    assert "measured" in text
    assert "line 0" not in text
    assert "| weights: parameters, buffers |" in validate_markdown(found)


def test_every_line_says_which_bar_it_was_held_to(found: Validation) -> None:
    rows = {row.quantity: row for row in found.comparisons}
    assert {name: row.tolerance for name, row in rows.items()} == {
        "weights_bytes": 0.001, "kv_bytes": 0.001, "activations_bytes": None, "peak_bytes": None,
    }  # fmt: skip
    stated = moeplan.validate(TINY, device="cpu", context=64, gpu="h100", tolerance=0.2, offline=True)
    assert {row.tolerance for row in stated.comparisons if row.judged} == {0.2}
    # As a GPU's run has it: the peak is judged too, by a bar of its own.
    peak = rows["peak_bytes"]._replace(judged=True, tolerance=0.03, within=True, error=0.02)
    mixed = found._replace(
        comparisons=tuple(peak if row.quantity == "peak_bytes" else row for row in found.comparisons)
    )
    text = " ".join(validate_table(mixed, width=200, color=False, unicode=True).split())
    assert "WITHIN 0.1% / 3%: 3 figures judged" in text
    assert "within 0.1%: weights: parameters, buffers · cache of all sequences; within 3%: peak with" in text
    beyond = mixed._replace(comparisons=(rows["weights_bytes"], peak._replace(within=False, error=0.05)), passed=False)
    assert "BEYOND 3%: 1 of 2 figures" in validate_table(beyond, width=80, color=False, unicode=True)


def test_the_band_of_a_guess_is_shown(found: Validation) -> None:
    rows = {row.quantity: row for row in found.comparisons}
    assert rows["weights_bytes"].predicted_low is rows["kv_bytes"].predicted_high is None
    activations, peak = rows["activations_bytes"], rows["peak_bytes"]
    assert activations.predicted is not None
    assert activations.predicted_low is not None
    assert peak.predicted is not None
    assert peak.predicted_low is not None
    # The band of the peak is that of its activations: weights and cache are exact.
    assert peak.predicted - peak.predicted_low == activations.predicted - activations.predicted_low > 0
    low = f"{activations.predicted_low / 1024:.1f}–"
    wide, narrow = (validate_table(found, width=width, color=False, unicode=True) for width in (80, 40))
    assert low in wide
    assert f"  band {low}" in narrow
    assert "…" not in wide
    assert f"| {low}" in validate_markdown(found)


def test_reasons_keep_their_labels_apart() -> None:
    bare = moeplan.validate(TINY, device="cpu", context=32, offline=True)
    text = validate_table(bare, width=200, color=False, unicode=True)
    assert "line by line: activations at the peak · peak with weights and cache" in text
    assert "band" not in text.splitlines()[4]


def test_beyond_the_models_maximum_there_is_a_note(tmp_path: Path) -> None:
    longer = moeplan.validate(_with(tmp_path, max_position_embeddings=48), device="cpu", context=64, offline=True)
    assert longer.passed
    assert ["64 is beyond the model's maximum of 48 tokens" in note.message for note in longer.notes].count(True) == 1
    within = moeplan.validate(_with(tmp_path, max_position_embeddings=48), device="cpu", offline=True)
    rows = {row.quantity: row for row in within.comparisons}
    assert rows["kv_bytes"].observed == 2 * 2 * 2 * 16 * 48 * 2  # without --context, the model's own maximum


def test_a_table_of_positions_has_an_end(tmp_path: Path) -> None:
    config = {
        "model_type": "gpt2", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="which ends at 64 tokens") as caught:
        moeplan.validate(tmp_path, device="cpu", context=65, offline=True)
    assert caught.value.hint == "--context 64 or less"
    assert moeplan.validate(tmp_path, device="cpu", context=64, offline=True).comparisons


def _free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    from moeplan.measure.session import Session

    monkeypatch.setattr(Session, "free_bytes", lambda _: free_bytes)


def test_what_has_no_room_says_by_how_much_and_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"device": "cpu", "context": 4096, "concurrency": 2, "offline": True}
    # The cache alone is 4 MiB: two layers of keys and values, 2 heads of 16, 4,096 tokens of 2 sequences, 2 bytes.
    _free(monkeypatch, 4 * 2**20)
    with pytest.raises(UnknownError, match="all its 2 layers with 2 x 4,096 tokens need") as caught:
        moeplan.validate(TINY, layers=2, **asked)
    assert "more than the 4.0 MiB that may be taken" in caught.value.message
    context = int(caught.value.hint.partition("--context ")[2].partition(",")[0])
    assert 16 <= context < 4096
    # What the hint says does run.
    assert moeplan.validate(TINY, layers=2, **asked | {"context": context}).passed
    # Without a number of layers one is enough, and not even that fits.
    with pytest.raises(UnknownError, match="even 1 of its 2 layers") as caught:
        moeplan.validate(TINY, **asked)
    assert caught.value.hint == f"--context {context}, or another --device"


def test_layers_that_fit_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    from moeplan.measure.model_build import needs

    torch = pytest.importorskip("torch")
    wanted = needs(json.loads(TINY.read_text(encoding="utf-8")), torch.bfloat16, 1, 64)
    asked: dict[str, Any] = {"device": "cpu", "context": 64, "offline": True}
    _free(monkeypatch, wanted.of(1))
    with pytest.raises(UnknownError, match="all its 2 layers") as caught:
        moeplan.validate(TINY, layers=2, **asked)
    assert caught.value.hint == "--layers 1, or another --device"
    ran = moeplan.validate(TINY, **asked)
    (told,) = (note.message for note in ran.notes if note.code == "layers-left-out")
    assert told.startswith("1 of 2 layers ran: that is what fits: all its 2 layers with 1 x 64 tokens need ")
    # Room for one layer with a shorter prompt only: both have to give way.
    _free(monkeypatch, wanted.of(1) - 1)
    with pytest.raises(UnknownError) as caught:
        moeplan.validate(TINY, layers=2, **asked)
    assert caught.value.hint == "--layers 1 --context 32, or another --device"
    assert moeplan.validate(TINY, layers=1, **asked | {"context": 32}).passed


def test_a_card_that_nobody_knows_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from moeplan.validate import here

    monkeypatch.setattr(here, "run_model", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(InputError, match="unknown GPU"):
        moeplan.validate(TINY, device="cpu", gpu="h10O", offline=True)


def test_on_the_command_line(run: Run) -> None:  # noqa: F811
    words = ("validate", str(TINY), "--device", "cpu", "--context", "32", "--layers", "1", "--json", "--offline")
    done = run(*words)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["log"]["engine"] == "transformers"
    assert any(note["code"] == "layers-left-out" for note in answer["notes"])


@pytest.mark.parametrize(
    ("words", "code", "wrong"),
    [
        ((), 2, "needs --log FILE or MODEL"),
        ((str(TINY), "--learn", "mine"), 2, "--learn needs --log"),
        ((str(TINY), "--device", "abacus"), 2, "device 'abacus'"),
        ((str(TINY), "--context", "4"), 2, "cannot be run"),
        ((str(TINY), "--device", "cpu", "--layers", "3"), 2, "has 2 layers"),
        (("--log", "x.log", "--device", "cpu"), 2, "--device is of a model that is run here"),
    ],
)
def test_bad_input(run: Run, words: tuple[str, ...], code: int, wrong: str) -> None:  # noqa: F811
    done = run("validate", *words, "--offline")
    assert (done.code, done.out) == (code, "")
    assert wrong in done.err
    assert len(done.err.splitlines()) == 2


def test_what_is_missing_has_a_name(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"device": "cpu", "context": 64, "offline": True}
    with pytest.raises(InputError, match="neither a log nor a model"):
        moeplan.validate()
    with pytest.raises(UnknownError, match="cannot be run here: even 1 of its 2 layers"):
        moeplan.validate(_with(tmp_path, hidden_size=2**22, num_local_experts=2**12), **asked)


def _with(folder_: Path, **fields: int) -> Path:
    config = json.loads(TINY.read_text(encoding="utf-8")) | fields
    path = folder_ / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
