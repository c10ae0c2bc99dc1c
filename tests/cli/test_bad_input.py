"""Bad input: one line of what is wrong, one line of a way out, exit code 2 (3 for the Hub), nothing on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Outcome, Run
from tests.golden.configs import MIXTRAL


def said(outcome: Outcome, code: int = 2) -> tuple[str, str]:
    """What is wrong and the way out, after checking that nothing else was said."""
    assert outcome.out == ""
    what, way_out = outcome.err.splitlines()
    assert outcome.err.endswith("\n")
    assert what.startswith("error: ")
    assert way_out.startswith(" hint: ")
    assert outcome.code == code, outcome.err
    assert len(what) > len("error: ")
    assert len(way_out) > len(" hint: ")
    return what, way_out


# Files ------------------------------------------------------------------------------------------------------


def test_missing_file(run: Run) -> None:
    what, _ = said(run("estimate", "nowhere/config.json"))
    assert "nowhere/config.json" in what


def test_folder_without_a_config(run: Run, folder: Path) -> None:
    (folder / "empty").mkdir()
    what, way_out = said(run("estimate", "empty"))
    assert "empty" in what
    assert "config.json" in way_out


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"[1, 2]",
        b'"mixtral"',
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a": NaN}',
        b"{}",
        b'{"model_type": 7}',
        b'{"model_type": "mixtral", "vocab_size": ' + b"9" * 5000 + b"}",
    ],
    ids=[
        "broken",
        "empty",
        "list",
        "text",
        "null",
        "not-text",
        "nested",
        "nan",
        "no-fields",
        "type-7",
        "absurd-digits",
    ],
)
def test_content_that_is_no_config(content: bytes, run: Run, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    what, _ = said(run("estimate", "config.json"))
    assert "config.json" in what


def test_nested_model_inside_itself(run: Run, folder: Path) -> None:
    deep: dict[str, Any] = dict(MIXTRAL)
    for _ in range(60):
        deep = {"model_type": "mistral3", "text_config": deep}
    (folder / "config.json").write_text(json.dumps(deep), encoding="utf-8")
    said(run("estimate", "config.json"))


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", "unet": ["diffusers", "UNet2DConditionModel"]},
        {"_class_name": "UNet2DConditionModel", "in_channels": 4, "block_out_channels": [320, 640]},
        {"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224},
        {"model_type": "clip", "text_config": {"hidden_size": 512}, "vision_config": {"hidden_size": 768}},
        {"model_type": "whisper", "d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "vocab_size": 51865},
    ],
    ids=["diffusion-pipeline", "diffusion-unet", "vision", "vision-and-text", "speech"],
)  # fmt: skip
def test_config_of_another_kind_of_model(config: dict[str, Any], run: Run, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    said(run("estimate", "config.json"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", None),
        ("hidden_size", -4096),
        ("hidden_size", 0),
        ("hidden_size", "4096"),
        ("hidden_size", 4096.5),
        ("hidden_size", 10**30),
        ("hidden_size", [4096]),
        ("hidden_size", {"a": 1}),
        ("num_hidden_layers", None),
        ("num_hidden_layers", 10**9),
        ("num_local_experts", None),
        ("num_local_experts", -8),
        ("num_experts_per_tok", None),
        ("num_experts_per_tok", 9),
        ("intermediate_size", None),
        ("vocab_size", True),
        ("torch_dtype", 16),
        ("quantization_config", "awq"),
        ("quantization_config", {"quant_method": "tealeaves"}),
    ],
)
def test_value_that_no_model_has(field: str, value: Any, run: Run, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(MIXTRAL | {field: value}), encoding="utf-8")
    what, _ = said(run("estimate", "config.json", "--gpu", "h100-sxm"))
    assert "config.json" in what


def test_missing_field_is_named(run: Run, folder: Path) -> None:
    config = {name: value for name, value in MIXTRAL.items() if name != "hidden_size"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "hidden_size" in " ".join(said(run("estimate", "config.json")))


def test_huge_file_is_refused_unread(run: Run, folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(100 * 2**20)
    what, _ = said(run("estimate", "config.json"))
    assert "100 MiB" in what


def test_unreadable_names(run: Run, folder: Path) -> None:
    said(run("estimate", ""))
    said(run("estimate", "   "))
    said(run("estimate", "x" * 5000))
    (folder / "loop").symlink_to("loop")
    said(run("estimate", "./loop"))


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "near"), [("h10", "h100"), ("H100-SMX", "h100"), ("rtx4091", "4090"), ("mi300", "mi300x")]
)
def test_unknown_gpu_names_the_nearest(typed: str, near: str, run: Run) -> None:
    outcome = run("estimate", "mixtral", "--gpu", typed)
    if outcome.code == 0:
        assert near in outcome.out.lower()  # a family's name may stand for its default
        return
    what, way_out = said(outcome)
    assert typed in what
    assert near in way_out


@pytest.mark.parametrize("typed", ["0xh100", "h100:0", "h100:-1", "2xh100:4", "999999xh100", "", "x", ":", "nonsense"])
def test_gpu_that_is_none(typed: str, run: Run) -> None:
    said(run("estimate", "mixtral", "--gpu", typed))


def test_unknown_catalogue_name_names_the_nearest(run: Run) -> None:
    what, way_out = said(run("estimate", "mixtral-8x77b"))
    assert "mixtral-8x77b" in what
    assert "mixtral-8x7b" in way_out.lower()


def test_hub_that_cannot_be_reached_is_3(run: Run) -> None:
    said(run("estimate", "hf://nobody/no-such-model"), code=3)
    said(run("estimate", "hf://nobody/no-such-model", "--offline"), code=3)


@pytest.mark.parametrize(
    ("option", "typed", "known"),
    [
        ("--engine", "vlm", "vllm"),
        ("--format", "jsn", "json"),
        ("--quant", "fp9", "fp8"),
        ("--quant", "", "fp8"),
        ("--dtype", "bf17", "bfloat16"),
        ("--kv-dtype", "fp9", "fp8"),
        ("--color", "sometimes", "always"),
    ],
)
def test_unknown_value_names_the_known(option: str, typed: str, known: str, run: Run) -> None:
    what, way_out = said(run("estimate", "mixtral", "--gpu", "h100-sxm", option, typed))
    assert typed in what
    assert known in way_out


# Numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["0", "-1", "-4k", "1.5", "1e30", "9" * 400, "abc", "", "32kb", "0x10", "nan", "inf", "32 768 tokens"]
)
@pytest.mark.parametrize("option", ["--context", "--concurrency"])
def test_count_that_is_none(option: str, value: str, run: Run) -> None:
    what, _ = said(run("estimate", "mixtral", "--gpu", "h100-sxm", option, value))
    assert option in what


@pytest.mark.parametrize("value", ["0", "-0.5", "1.01", "90", "nan", "inf", "much", ""])
def test_utilization_that_is_none(value: str, run: Run) -> None:
    what, _ = said(run("estimate", "mixtral", "--gpu", "h100-sxm", "--utilization", value))
    assert "utilization" in what


@pytest.mark.parametrize("option", ["--context", "--concurrency", "--encoder-tokens"])
def test_huge_but_possible_counts_are_answered(option: str, run: Run) -> None:
    outcome = run("estimate", "switch", "--gpu", "h100-sxm", option, "1000000000000", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["verdict"]["fits"] is False


def test_context_beyond_the_maximum_is_a_note_and_with_strict_an_error(run: Run) -> None:
    outcome = run("estimate", "mixtral", "--context", "64K", "--json")
    assert outcome.code == 0
    notes = {note["code"]: note for note in json.loads(outcome.out)["notes"]}
    assert notes["context-beyond-maximum"]["severity"] == "warning"
    what, way_out = said(run("estimate", "mixtral", "--context", "64K", "--strict"))
    assert "65,536" in what
    assert "32768" in way_out


# Usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong", "way_out"),
    [
        (["estimate"], "MODEL", "config.json"),
        (["estimat", "mixtral"], "estimat", "estimate"),
        (["frobnicate"], "frobnicate", "estimate"),
        (["estimate", "mixtral", "--contxt", "8k"], "--contxt", "--context"),
        (["estimate", "mixtral", "--util", "0.5"], "--util", "--help"),
        (["estimate", "mixtral", "--zzz"], "--zzz", "--help"),
        (["estimate", "mixtral", "-x"], "-x", "--help"),
        (["estimate", "mixtral", "surplus"], "surplus", "--help"),
        (["estimate", "mixtral", "--gpu"], "--gpu", "--help"),
        (["estimate", "mixtral", "--json=1"], "--json", "--help"),
        (["--gpu", "h100", "estimate", "mixtral"], "--gpu", "moeplan estimate"),
        (["--nonsense"], "--nonsense", "--help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage(words: list[str], wrong: str, way_out: str, run: Run) -> None:
    what, hint = said(run(*words))
    assert wrong in what
    assert way_out in hint


# Output -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["no/such/folder/out.txt", ".", "mixtral", "mixtral/config.json/out.txt", "", "x" * 300]
)
def test_output_that_cannot_be_written_leaves_nothing(target: str, run: Run, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said(run("estimate", "mixtral", "-o", target))
    assert sorted(folder.rglob("*")) == before


def test_error_leaves_an_older_output_alone(run: Run, folder: Path) -> None:
    (folder / "out.txt").write_text("older", encoding="utf-8")
    said(run("estimate", "mixtral", "--context", "0", "-o", "out.txt"))
    assert (folder / "out.txt").read_text(encoding="utf-8") == "older"


@pytest.mark.parametrize("target", ["--profiles"])
def test_profiles_folder_that_is_none(target: str, run: Run) -> None:
    what, _ = said(run("estimate", "mixtral", "--gpu", "h100-sxm", target, "no-such-folder"))
    assert "no-such-folder" in what


# Names that carry control characters ------------------------------------------------------------------------

EVIL = "\x1b[31mred\x07\u202egnp\u2028\x9b1m"


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", f"./{EVIL}"],
        ["estimate", EVIL],
        ["estimate", "mixtral", "--gpu", EVIL],
        ["estimate", "mixtral", "--engine", EVIL],
        ["estimate", "mixtral", "--quant", EVIL],
        ["estimate", "mixtral", "--context", EVIL],
        ["estimate", "mixtral", f"--{EVIL}"],
        ["estimate", "mixtral", EVIL],
        [EVIL],
        ["estimate", "line\nbreak"],
    ],
)
def test_errors_show_control_characters_as_escapes(words: list[str], run: Run) -> None:
    said_once = "".join(said(run(*words)))
    assert said_once.isprintable()


@pytest.mark.parametrize("format_name", ["table", "markdown", "json"])
def test_outputs_show_control_characters_as_escapes(format_name: str, run: Run, folder: Path) -> None:
    place = folder / "\x1b[2J\x07 | `x` <b>"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    outcome = run("estimate", place.name, "--gpu", "h100-sxm", "--explain", "--format", format_name)
    assert outcome.code == 0, outcome.err
    assert outcome.out.replace("\n", "").isprintable()
    if format_name == "json":
        assert json.loads(outcome.out)["model"]["id"] == place.name
    else:
        assert "\\x1b[2J" in outcome.out.replace("\\\\", "\\").replace("\\[", "[")


def test_model_type_with_control_characters(run: Run, folder: Path) -> None:
    config = MIXTRAL | {"model_type": EVIL}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    outcome = run("estimate", "config.json")
    assert (outcome.out + outcome.err).replace("\n", "").isprintable()
    assert outcome.code in {0, 2}


def test_path_that_is_no_text(folder: Path, child: Callable[..., Any]) -> None:
    place = folder / "b\udcffd"  # a byte that is no UTF-8, as Python carries it
    try:
        place.mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    (place / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    for format_name in ("table", "json", "markdown"):
        done = child("estimate", place.name, "--format", format_name)
        assert done.returncode == 0, done.stderr
        assert b"udcff" in done.stdout
    assert child("estimate", place.name, "-o", "out.txt").returncode == 0


def test_a_mistyped_id_has_the_near_models_in_its_way_out(run: Run) -> None:
    _, hint = said(run("estimate", "Qwen/Qwen3-30B-A3C", "--offline"), code=3)
    assert hint.startswith(" hint: did you mean Qwen/Qwen3-30B-A3B? run once without --offline")
    _, hint = said(run("estimate", "nobody/no-such-model", "--offline"), code=3)
    assert "did you mean" not in hint
