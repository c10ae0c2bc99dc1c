"""validate --learn: what a log teaches a profile, what it must not teach, and how later estimates use it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import moeplan
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.estimate.learned import learned_notes
from moeplan.estimate.result import Estimate
from moeplan.validate.result import Learned, Validation
from tests.sources.engine_logs.test_sglang import AUGUST_2026
from tests.test_validate import GIB, VLLM, validate

TIGHT = VLLM.replace("memory: 15.41 GiB", "memory: 14.00 GiB")
"""A machine on which the engine held 1.4 GiB more than obs-d-047 says: its tokens are left out, for they would not fit."""
TIGHT = "\n".join(line for line in TIGHT.splitlines() if "KV cache size" not in line and "Maximum" not in line) + "\n"


def learn(log: str = TIGHT, folder: Path | None = None, name: str = "my-h100", **asked: object) -> Validation:
    return validate(log, **{"profiles": folder or (), "learn": name, "tolerance": 0.2} | asked)


def learned(found: Validation) -> Learned:
    assert found.learned is not None, found.notes
    return found.learned


def refused(found: Validation) -> str:
    """Why nothing was learned."""
    assert found.learned is None
    (note,) = [note for note in found.notes if note.code == "not-learned"]
    assert note.severity == "warning"
    return note.message


def estimated(gpu: str, folder: Path, version: str = "0.19.0", **asked: object) -> Estimate:
    options: dict[str, Any] = {"utilization": 0.95, "context": 8192, "offline": True} | asked
    return moeplan.estimate("qwen3-30b-a3b", gpu=gpu, engine_version=version, profiles=folder, **options)


def pool(gpu: str, folder: Path, version: str = "0.19.0") -> int:
    size = estimated(gpu, folder, version).capacity.kv_pool_bytes
    assert size is not None
    return size


def blocks(folder: Path, name: str = "my-h100") -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = yaml.safe_load((folder / "hardware" / f"{name}.yaml").read_text(encoding="utf-8"))[
        "measured"
    ]
    return read


def test_what_was_learned_moves_the_next_estimate_onto_the_log(tmp_path: Path) -> None:
    before = pool("h100", tmp_path)
    assert learned(learn(folder=tmp_path)).residual_bytes == before - 14 * GIB
    assert pool("my-h100", tmp_path) == 14 * GIB
    assert pool("h100", tmp_path) == before  # the built-in profile is as it was
    line = next(entry for entry in estimated("my-h100", tmp_path).ranks[0].lines if entry.code == "measured_residual")
    assert (line.basis, line.label) == ("measured", "learned from logs on this machine")
    assert "my-h100" in line.why.source


def test_what_is_known_already_is_not_counted_twice(tmp_path: Path) -> None:
    first = learned(learn(folder=tmp_path)).residual_bytes
    # Another start of the same machine, half a GiB tighter: the estimate that it is held against counts the first.
    tighter = TIGHT.replace("memory: 14.00", "memory: 13.50")
    second = learned(learn(tighter, tmp_path, gpu="my-h100")).residual_bytes
    assert second - first == GIB // 2


def test_several_logs_give_a_median_and_a_band(tmp_path: Path) -> None:
    for printed in ("15.00", "14.00", "14.50"):
        learned(learn(TIGHT.replace("memory: 14.00", f"memory: {printed}"), tmp_path))
    assert pool("my-h100", tmp_path) == round(14.5 * GIB)
    line = next(entry for entry in estimated("my-h100", tmp_path).ranks[0].lines if entry.code == "measured_residual")
    assert line.high_bytes - line.low_bytes == GIB


def test_a_log_is_learned_once(tmp_path: Path) -> None:
    learned(learn(folder=tmp_path))
    later = TIGHT.replace("04-10 10:", "04-11 23:")  # times do not make it another one
    for log, gpu in ((TIGHT, "h100"), (later, "my-h100")):
        assert "knows a log with these figures" in refused(learn(log, tmp_path, gpu=gpu))
    assert len(blocks(tmp_path)) == 1


def test_the_name_of_a_built_in_card_is_refused(tmp_path: Path) -> None:
    # File name, alias, a shared name, names with a count: all of them are read by --gpu.
    for name in ("nvidia-h100-sxm", "h100", "h100-80gb-hbm3", "a100", "4xh100", "h100x4", "mi300x"):
        with pytest.raises(InputError, match="built-in profile") as refusal:
            learn(folder=tmp_path, name=name)
        assert "my-" in refusal.value.hint
    assert not list(tmp_path.rglob("*.yaml"))


def test_a_profile_of_another_card_is_refused(tmp_path: Path) -> None:
    learned(learn(folder=tmp_path))
    before = (tmp_path / "hardware" / "my-h100.yaml").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="is a profile of NVIDIA H100") as refusal:
        learn(folder=tmp_path, gpu="a100", tolerance=0.99)
    assert "--gpu my-h100" in refusal.value.hint
    assert (tmp_path / "hardware" / "my-h100.yaml").read_text(encoding="utf-8") == before


def test_figures_beyond_the_tolerance_are_not_learned_but_with_a_larger_one(tmp_path: Path) -> None:
    # The pool is a tenth above the 14 GiB: with the default of 5 % that is no matter of this machine alone.
    found = learn(folder=tmp_path, tolerance=0.05)
    assert found.passed is False
    told = refused(found)
    assert "left for the cache is off by +" in told
    assert not list(tmp_path.rglob("*.yaml"))
    way_out = re.search(r"--tolerance (\d+)% learns it", told)
    assert way_out is not None
    assert learned(learn(folder=tmp_path, tolerance=int(way_out[1]) / 100))


def test_no_tolerance_makes_a_card_of_twice_the_memory_learnable(tmp_path: Path) -> None:
    told = refused(learn(folder=tmp_path, gpu="h200", tolerance=0.99))
    assert "left for the cache is off by +4" in told  # 75 GiB for 14
    assert "--tolerance" not in told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"engine_version": "0.18.0"}, "as --engine-version says"),
        ({"engine_args": ["--gpu-memory-utilization", "0.94"]}, "the log says 0.95"),
        ({"model": "qwen3-30b-a3b-fp8", "tolerance": 0.99}, "names its model"),
    ],
)
def test_what_contradicts_the_log_teaches_nothing(asked: dict[str, Any], told: str, tmp_path: Path) -> None:
    assert told in refused(learn(folder=tmp_path, **asked))
    assert not list(tmp_path.rglob("*.yaml"))


def test_other_engines_and_degrees_learn_nothing_from_it(tmp_path: Path) -> None:
    learned(learn(folder=tmp_path))
    others: list[dict[str, Any]] = [{"engine": "transformers"}, {"tp": 2}]
    for asked in others:
        found = moeplan.estimate("qwen3-30b-a3b", gpu="my-h100", profiles=tmp_path, offline=True, **asked)
        assert not any(entry.code == "measured_residual" for rank in found.ranks for entry in rank.lines)


def test_a_note_says_where_it_was_learned_under_another_version_or_with_another_model(tmp_path: Path) -> None:
    learned(learn(folder=tmp_path))
    other = VLLM.replace("version 0.19.0", "version 0.20.0").replace("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-FP8")
    (note,) = [
        note for note in validate(other, gpu="my-h100", profiles=tmp_path).notes if note.code == "learned-elsewhere"
    ]
    assert "under vllm 0.19.0, and this is 0.20" in note.message
    assert "with Qwen/Qwen3-30B-A3B, and this is Qwen/Qwen3-30B-A3B-FP8" in note.message
    same = validate(VLLM, gpu="my-h100", profiles=tmp_path)
    assert "learned-elsewhere" not in {note.code for note in same.notes}


def test_notes_of_the_nearest_version_alone() -> None:
    block = {"kind": "engine_residual", "engine": "vllm", "tp": 1, "residual_bytes": 1, "model": "a/b"}
    measured = tuple(block | {"engine_version": version} for version in ("0.11.0", "0.33.0"))
    hardware = Hardware("mine", "Mine", measured=measured)
    assert learned_notes(hardware, "vllm", "0.33.0", 1, "a/b") == ()
    (note,) = learned_notes(hardware, "vllm", "0.12.0", 1, "a/b")
    assert "under vllm 0.11.0, and this is 0.12.0" in note.message
    assert learned_notes(None, "vllm", "0.12.0", 1, "a/b") == ()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("residual_bytes", "lots", "`measured[0].residual_bytes` is 'lots'"),
        ("residual_bytes", 1.5, "is 1.5"),
        ("residual_bytes", None, "`measured[0].residual_bytes` is missing"),
        ("tp", True, "`measured[0].tp` is True"),
        ("engine", None, "`measured[0].engine` is missing"),
    ],
)
def test_a_block_that_cannot_be_read_is_an_error_that_names_the_file(
    key: str, value: object, told: str, tmp_path: Path
) -> None:
    learned(learn(folder=tmp_path))
    path = tmp_path / "hardware" / "my-h100.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile["measured"][0][key] = value
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    for asks in (lambda: estimated("my-h100", tmp_path), lambda: moeplan.gpus("my-h100", profiles=tmp_path)):
        with pytest.raises(InputError) as refusal:
            asks()
        assert told in refusal.value.message
        assert "my-h100.yaml" in refusal.value.message


def test_the_profile_keeps_its_comments_and_what_stands_behind(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    path = tmp_path / "hardware" / "mine.yaml"
    text = (
        'schema: 1\nname: Mine\nvendor: nvidia\ncompute_capability: "9.0"\nmeasured: []  # nothing yet\n'
        "# the card in the corner\nmemory:\n  nominal_bytes: 85899345920\n  usable_bytes: 85029615043\n"
    )
    path.write_text(text, encoding="utf-8")
    for printed in ("15.41", "15.40"):
        learned(learn(VLLM.replace("memory: 15.41", f"memory: {printed}"), tmp_path, "mine", gpu="mine"))
    written = path.read_text(encoding="utf-8")
    assert "# the card in the corner" in written
    loaded = yaml.safe_load(written)
    assert loaded["memory"]["usable_bytes"] == 85_029_615_043
    assert len(loaded["measured"]) == 2
    assert {block["kind"] for block in loaded["measured"]} == {"engine_residual"}
    assert pool("mine", tmp_path)


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_entries_are_added_under_those_that_are_there(indent: str, tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    path = tmp_path / "hardware" / "mine.yaml"
    path.write_text(
        f"name: Mine\nmeasured:\n{indent}- kind: other\n{indent}  note: by hand\nmemory:\n  usable_bytes: 85029615043\n"
        '  nominal_bytes: 85899345920\nvendor: nvidia\ncompute_capability: "9.0"\n',
        encoding="utf-8",
    )
    learned(learn(folder=tmp_path, name="mine", gpu="mine"))
    assert [block["kind"] for block in blocks(tmp_path, "mine")] == ["other", "engine_residual"]
    assert pool("mine", tmp_path)


def test_sglang_prints_no_pool_so_that_its_keys_and_values_stand_for_it(tmp_path: Path) -> None:
    # obs-d-042: 17.99 GiB of keys and as much of values were allocated.
    found = moeplan.validate(log=AUGUST_2026.splitlines(), gpu="h100", offline=True, profiles=tmp_path, learn="my-h100")
    before = moeplan.estimate(
        "qwen3-30b-a3b-fp8", engine="sglang", gpu="h100", engine_args=found.command, offline=True
    ).capacity.kv_pool_bytes
    assert before is not None
    assert learned(found).residual_bytes == before - 2 * round(17.99 * GIB)


def test_every_key_of_a_block_is_documented(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "hardware-profiles.md").read_text(encoding="utf-8")
    section = text.partition("## What logs taught: `engine_residual`")[2].partition("\n## ")[0]
    example = re.search(r"^```yaml\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert example is not None
    learned(learn(folder=tmp_path))
    (block,) = blocks(tmp_path)
    assert list(yaml.safe_load(example[1])["measured"][0]) == list(block)
    assert all(f"`{key}`" in section for key in block if key != "kind")


def test_a_log_without_a_pool_teaches_nothing(tmp_path: Path) -> None:
    short = "\n".join(VLLM.splitlines()[:4]) + "\n"
    with pytest.raises(InputError, match="nothing to learn"):
        learn(short, tmp_path)
    with pytest.raises(InputError, match="no name of a profile"):
        learn(folder=tmp_path, name="../evil")
    buffers = "load_tensors:        CUDA0 model buffer size = 100.00 MiB\n"
    with pytest.raises(InputError, match=r"llama\.cpp tells its buffers"):
        learn(buffers, tmp_path, model="qwen3-30b-a3b", quant="q4_k_m")
    assert not list(tmp_path.rglob("*.yaml"))
