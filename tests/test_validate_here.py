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
    assert "| weights: parameters and buffers |" in validate_markdown(found)


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
    with pytest.raises(UnknownError, match="could not be run here"):
        moeplan.validate(_with(tmp_path, hidden_size=2**22, num_local_experts=2**12), **asked)


def _with(folder_: Path, **fields: int) -> Path:
    config = json.loads(TINY.read_text(encoding="utf-8")) | fields
    path = folder_ / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
