"""A trained MoE is captured: what its file says of it, and what happens to prompts and runs that go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.routing_capture import CapturedLayer, CapturedPrompt, CaptureHeader
from moeplan.core.routing_metrics import load_cv, noise_floor_cv
from moeplan.core.routing_profile import Provenance, RoutingProfile
from moeplan.routing.capture import capture
from moeplan.routing.prompts import SHIPPED, prompt_set, prompts
from moeplan.routing.result import Captured
from moeplan.sources.routing_files import CaptureWriter, read_prompts, read_routing
from tests.measure.routed_models import DENSE, NLLB, SWITCH, build
from tests.routing.small_moe import EXPERTS, LAYERS, TOP_K, Language, tokenizer, words_of

NEW_TOKENS = 12


def texts(count: int, words: int, topic: int | None = None, seed: int = 1) -> list[str]:
    language = Language(seed)
    return [language.text(words, topic) for _ in range(count)]


def write_jsonl(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"class": name, "text": text}) + "\n" for name, text in rows), encoding="utf-8")
    return path


def run(model: Path, prompt_file: Path | None, out: Path, **more: Any) -> Captured:
    return capture(model, prompt_file, out=out, device="cpu", **{"max_new_tokens": NEW_TOKENS, **more})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# What is captured ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captured(small_moe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty prompts of the model's own language, twenty of them about its rarest topic."""
    folder = tmp_path_factory.mktemp("capture")
    rows = [("mixed", text) for text in texts(20, 100)] + [("rare", text) for text in texts(20, 100, topic=7)]
    out = folder / "capture.jsonl"
    result = run(small_moe, write_jsonl(folder / "prompts.jsonl", rows), out)
    assert (result.captured, result.known, result.failed, result.complete) == (40, 0, 0, True)
    assert result.written is not None
    assert (result.written.tokens, result.written.classes) == (result.tokens, ("mixed", "rare"))
    return out


@pytest.fixture(scope="module")
def profile(captured: Path) -> RoutingProfile:
    return read_routing(captured)


def test_every_token_of_prompts_and_answers_is_there(captured: Path, profile: RoutingProfile) -> None:
    assert [layer.layer for layer in profile.layers["all"]] == list(range(LAYERS))
    for layer in profile.layers["prefill"]:
        assert (layer.num_experts, layer.tokens, sum(layer.counts)) == (EXPERTS, 40 * 100, 40 * 100 * TOP_K)
    decoded = sum(line["decode_tokens"] for line in lines(captured)[1:])
    assert profile.layers["decode"][0].tokens == decoded
    assert 0.9 * 40 * NEW_TOKENS < decoded <= 40 * NEW_TOKENS  # the model may end earlier
    assert profile.model == "small-moe"
    assert profile.provenance.engine == "transformers"
    assert profile.provenance.dtype == "float32"
    assert profile.provenance.prompts == hashlib.sha256((captured.parent / "prompts.jsonl").read_bytes()).hexdigest()


def test_routing_of_a_trained_model_is_uneven_far_above_what_chance_gives(profile: RoutingProfile) -> None:
    for layer in profile.layers["all"]:
        floor = noise_floor_cv(EXPERTS, TOP_K, layer.tokens)
        assert load_cv(layer.counts) > 10 * floor


def test_neighbours_share_experts_and_one_sequence_touches_fewer_than_many_do(profile: RoutingProfile) -> None:
    for layer in profile.layers["all"]:
        overlap, chance = dict(layer.overlap), TOP_K / EXPERTS
        assert overlap[1.0] > 2 * chance
        # An uneven load alone makes tokens alike: the sum of p_i squared, over K. Neighbours are more alike than that.
        shares = [count / layer.tokens for count in layer.counts]
        assert overlap[1.0] > sum(share * share for share in shares) / TOP_K
        within, across = dict(layer.in_sequence), dict(layer.across)
        assert within[1.0] == across[1.0] == TOP_K
        assert within[16.0] < across[16.0] < EXPERTS * (1 - (1 - chance) ** 16)


def test_topics_use_other_experts(profile: RoutingProfile) -> None:
    assert set(profile.classes) == {"mixed", "rare"}
    moved = []
    for mixed, rare in zip(profile.classes["mixed"], profile.classes["rare"], strict=True):
        pairs = zip(mixed.counts, rare.counts, strict=True)
        moved.append(sum(abs(a / mixed.tokens - b / rare.tokens) for a, b in pairs) / (2 * TOP_K))
    assert max(moved) > 0.3  # of all choices


def test_choices_are_those_of_the_model(small_moe: Path, captured: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    text = texts(1, 100)[0]
    words = tokenizer().get_vocab()
    ids = torch.tensor([[words[word] for word in text.split()]])
    model = AutoModelForCausalLM.from_pretrained(small_moe).eval()
    with torch.no_grad():
        logits = model(input_ids=ids, output_router_logits=True).router_logits
    header, there = read_prompts(captured)
    found = next(prompt for _, prompt in there if prompt.prompt == sha256(text))
    chosen = torch.frombuffer(bytearray(found.experts), dtype=torch.uint16).long().view(-1, LAYERS, TOP_K)
    assert header.layers == tuple(CapturedLayer(place, EXPERTS, TOP_K) for place in range(LAYERS))
    for place in range(LAYERS):
        want = logits[place].view(-1, EXPERTS).topk(TOP_K).indices.sort().values
        assert torch.equal(chosen[:100, place].sort().values, want)


def test_the_file_holds_no_text_and_no_ids(captured: Path) -> None:
    data = captured.read_bytes()
    for topic in range(8):
        assert not any(word.encode() in data for word in words_of(topic)[:3])
    keys = {"prompt", "class", "prefill_tokens", "decode_tokens", "experts", "margins", "dropped", "problem"}
    assert all(set(line) == keys for line in lines(captured)[1:])


def test_the_same_seed_gives_the_same_file_and_another_one_other_answers(small_moe: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "p.jsonl", [("a", text) for text in texts(3, 20)])
    for name, seed in (("one", 0), ("two", 0), ("three", 5)):
        run(small_moe, file, tmp_path / f"{name}.jsonl", seed=seed)
    one, two, three = (lines(tmp_path / f"{name}.jsonl")[1:] for name in ("one", "two", "three"))
    assert one == two
    assert [line["experts"] for line in one] != [line["experts"] for line in three]


# Taking it up again --------------------------------------------------------------------------------------------------------


def test_a_capture_is_taken_up_where_it_stopped(small_moe: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "p.jsonl", [("a", text) for text in texts(6, 20)])
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    run(small_moe, file, whole)
    kept = whole.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(kept[:4]) + kept[4][:100])  # three prompts, and a line that was cut short
    again = run(small_moe, file, part)
    assert (again.captured, again.known) == (3, 3)
    assert part.read_bytes() == whole.read_bytes()  # what is sampled depends on seed and text, not on what ran before
    nothing = run(small_moe, file, part)
    assert (nothing.captured, nothing.known, nothing.tokens) == (0, 6, 0)
    assert part.read_bytes() == whole.read_bytes()


def test_a_capture_of_something_else_is_not_taken_up(small_moe: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "p.jsonl", [("a", text) for text in texts(2, 10)])
    out = tmp_path / "out.jsonl"
    run(small_moe, file, out)
    before = out.read_bytes()
    with pytest.raises(InputError, match="is another capture: it has seed 0, and this one has 4"):
        run(small_moe, file, out, seed=4)
    with pytest.raises(InputError, match="is another capture: it has dtype 'float32', and this one has 'bfloat16'"):
        run(small_moe, file, out, dtype="bfloat16")
    other = write_jsonl(tmp_path / "q.jsonl", [("a", text) for text in texts(2, 11)])
    with pytest.raises(InputError, match="is another capture: it has prompts '"):
        run(small_moe, other, out)
    assert out.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_a_file_that_can_be_read_and_taken_up(small_moe: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "p.jsonl", [("a", text) for text in texts(400, 30)])
    out = tmp_path / "out.jsonl"
    script = (
        "import sys; from moeplan.routing.capture import capture\n"
        "result = capture(sys.argv[1], sys.argv[2], out=sys.argv[3], device='cpu', max_new_tokens=12)\n"
        "print(result.complete, result.captured)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(small_moe), str(file), str(out)], stdout=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and (not out.exists() or out.read_bytes().count(b"\n") < 4):
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        said, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    complete, count = said.split()
    assert complete == "False"
    assert 3 <= int(count) < 400
    assert read_routing(out).layers["prefill"][0].tokens == 30 * int(count)
    first = out.read_bytes()
    short = write_jsonl(tmp_path / "p2.jsonl", [("a", "bababa")])
    with pytest.raises(InputError, match="another capture"):
        run(small_moe, short, out)
    assert out.read_bytes() == first


# Prompts that are none -----------------------------------------------------------------------------------------------------


def test_bad_prompts_leave_a_record_and_the_run_goes_on(small_moe: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "p.txt", tmp_path / "out.jsonl"
    good = texts(2, 20)
    long = " ".join(["bababa"] * 600)
    odd = [b"", b"  ", b"ba\xff\xfeba", long.encode(), b"x" * 40_000, good[0].encode()]
    file.write_bytes(b"\n".join([good[0].encode(), *odd, good[1].encode()]) + b"\n")
    result = run(small_moe, file, out)
    assert (result.prompts, result.captured, result.known, result.failed) == (8, 2, 1, 5)
    problems = {line["prompt"]: line["problem"] for line in lines(out)[1:]}
    assert [problems[sha256(text)] for text in good] == [None, None]
    assert problems[sha256("")] == "line 2: empty"
    assert problems[hashlib.sha256(b"ba\xff\xfeba").hexdigest()] == "line 4: not UTF-8 at byte 3"
    assert problems[sha256(long)] == f"too long: 600 tokens, where {512 - NEW_TOKENS} may be"
    assert problems[sha256("x" * 40_000)] == f"too long: 40000 letters, where {512 - NEW_TOKENS} tokens may be"
    assert [note.message.partition(": ")[2] for note in result.notes] == [each for each in problems.values() if each]
    assert len(read_routing(out).notes) == 5
    before = out.read_bytes()
    again = run(small_moe, file, out)  # nothing is said twice
    assert (again.captured, again.known, again.failed) == (0, 3, 5)
    assert out.read_bytes() == before


def test_lines_of_json_that_are_no_prompts_are_told_apart(tmp_path: Path) -> None:
    rows = [
        b'\xef\xbb\xbf{"class": "code", "text": "one"}', b"", b"{broken", b"[1]", b'{"class": "code"}', b'{"class": 3, "text": "x"}',
        b'{"class": "code", "text": 3}', b'{"class": "\\n", "text": "x"}', b'{"class": "code", "text": "\\ud800"}',
        b'{"class": "code", "text": " "}', b"[" * 100_000,
        b'{"class": "l", "long": {"start": "S", "parts": ["p{n} {a} {b}", "q{n}"], "words": ["u", "v"], "times": 3, "end": "T"}}',
        b'{"class": "l", "long": {"start": "S", "parts": [], "words": ["u"], "times": 3, "end": "T"}}',
    ]  # fmt: skip
    file = tmp_path / "p.jsonl"
    file.write_bytes(b"\r\n".join(rows))
    found = list(prompts(file))
    assert [prompt.text for prompt in found if prompt.problem is None] == ["one", "S p1 u v q2 p3 u v T"]
    assert [prompt.problem for prompt in found if prompt.problem is not None] == [
        "line 2: empty", "line 3: no JSON", *(f'line {line}: no object with "class" and "text"' for line in range(4, 8)),
        'line 8: "class" is a name of 1 to 64 letters', "line 9: not UTF-8: half of a surrogate pair", "line 10: empty",
        "line 11: no JSON", 'line 13: "long" is no start, parts, words, times and end',
    ]  # fmt: skip


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    import tracemalloc

    file = tmp_path / "p.txt"
    with file.open("wb") as growing:
        for _ in range(40):
            growing.write(b"a" * (1 << 20))
        growing.write(b"\nshort\n")
    tracemalloc.start()
    first, second = prompts(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.problem == f"line 1: too long: {40 << 20} bytes, where {4 << 20} may be"
    assert first.sha256 == hashlib.sha256(b"a" * (40 << 20)).hexdigest()
    assert second.text == "short"
    assert peak < 12 << 20


def test_prompts_that_come_with_the_tool_are_of_seven_classes_all_different() -> None:
    found = list(prompts(SHIPPED))
    assert all(prompt.problem is None for prompt in found)
    assert prompt_set(SHIPPED).classes == ("easy", "average", "long", "code", "mathematics", "german", "malformed")
    assert len({prompt.sha256 for prompt in found}) == len(found) == 42
    lengths = {name: [len(p.text) for p in found if p.prompt_class == name] for name in prompt_set(SHIPPED).classes}
    assert {name: len(of) for name, of in lengths.items()} == dict.fromkeys(lengths, 6)
    assert min(lengths["long"]) > 10 * max(lengths["average"])
    for prompt in found:
        if prompt.prompt_class == "long":  # never twice the same sentence
            sentences = prompt.text.split(". ")
            assert len(set(sentences)) == len(sentences)


def test_the_shipped_prompts_run(small_moe: Path, tmp_path: Path) -> None:
    result = run(small_moe, None, tmp_path / "out.jsonl", max_new_tokens=0)
    assert (result.captured, result.failed) == (36, 6)  # the long ones: this model takes 512 tokens
    assert {note.message.split()[0] for note in result.notes} == {"long"}
    assert set(read_routing(tmp_path / "out.jsonl").layers) == {"all", "prefill"}


# Models, files and options that are none -----------------------------------------------------------------------------------


def save(config: dict[str, Any], folder: Path) -> Path:
    build(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def one_prompt(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "p.jsonl", [("a", "bababa bababe")])


def test_a_dense_model_is_refused_with_its_modules(one_prompt: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"LlamaForCausalLM has no routers: .*LlamaDecoderLayer"):
        run(save(DENSE, tmp_path / "dense"), one_prompt, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing", "nothing is no folder: a capture runs a checkpoint"),
        (lambda folder: folder, "no config that transformers .* can load"),
    ],
)
def test_a_folder_without_a_model_is_refused(one_prompt: Path, tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(make(tmp_path), one_prompt, tmp_path / "out.jsonl")


def test_a_model_without_its_tokenizer_is_refused(one_prompt: Path, tmp_path: Path) -> None:
    build(DENSE).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="no tokenizer that transformers"):
        run(tmp_path / "model", one_prompt, tmp_path / "out.jsonl")


def test_prompts_and_options_that_are_none_are_refused_before_anything_is_loaded(
    one_prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> Any:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("moeplan.measure.local_model.LocalModel.__init__", never)
    empty = tmp_path / "empty.txt"
    empty.touch()
    crowd = write_jsonl(tmp_path / "crowd.jsonl", [(f"class {number}", "x") for number in range(40)])
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "none.txt", {}, "none.txt is no file of prompts"),
        (tmp_path, {}, "is no file of prompts"),
        (empty, {}, "empty.txt holds no prompts"),
        (crowd, {}, "more than 32 classes of prompts"),
        (one_prompt, {"out": tmp_path / "out.json"}, "a capture is a file that ends in .jsonl"),
        (one_prompt, {"max_new_tokens": -1}, "-1 new tokens after prompts of up to 16384 cannot be run"),
    ]
    for file, more, message in cases:
        with pytest.raises(InputError, match=message):
            capture(tmp_path, file, **{"out": tmp_path / "out.jsonl", **more})


def test_a_device_that_is_not_there_is_told(small_moe: Path, one_prompt: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(UnknownError, match="device cuda is not there"):
        capture(small_moe, one_prompt, out=tmp_path / "out.jsonl", device="cuda")


# Encoder and decoder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SWITCH, NLLB], ids=["switch", "nllb"])
def test_encoder_decoder_models_tell_what_their_capacity_cuts(config: dict[str, Any], tmp_path: Path) -> None:
    wide = config | {"vocab_size": 347}
    file = write_jsonl(tmp_path / "p.jsonl", [("a", text) for text in texts(4, 40)])
    out = tmp_path / "out.jsonl"
    result = run(save(wide, tmp_path / "model"), file, out)
    assert (result.captured, result.failed) == (4, 0)
    found = read_routing(out).layers
    assert [layer.layer for layer in found["prefill"]] == [1]
    assert [layer.layer for layer in found["decode"]] == ([5, 7] if config is SWITCH else [2, 3])
    encoder = found["prefill"][0]
    # NLLB's encoder reads language and end marks too; this tokenizer adds none.
    assert (encoder.tokens, sum(encoder.counts)) == (4 * 40, 4 * 40 * encoder.experts_per_token)
    # Each expert has room for 6 (Switch, each sequence) or 12 (NLLB: 0.3 of 40) tokens of a prompt.
    room = 4 * 4 * (6 if config is SWITCH else 12)
    assert max(0, sum(encoder.counts) - room) <= encoder.dropped < sum(encoder.counts)
    assert encoder.dropped > 0
    assert all(layer.dropped == 0 for layer in found["decode"])


# Sizes ---------------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_tokens_of_48_layers_take_less_than_100_mb(tmp_path: Path) -> None:
    # Qwen3-30B-A3B: 48 layers, 8 of 128 experts. Choices at random, in no order, pack worst; real ones repeat.
    layers = tuple(CapturedLayer(layer, 128, 8) for layer in range(48))
    chance, tokens = random.Random(1), 500  # noqa: S311 - no secret
    rows = b"".join(
        b"".join(expert.to_bytes(2, "little") for expert in chance.sample(range(128), 8)) for _ in range(tokens * 48)
    )
    with CaptureWriter(tmp_path / "out.jsonl", CaptureHeader("m", None, layers, Provenance())) as file:
        file.append(CapturedPrompt("0" * 64, "a", tokens, 0, rows, (0.1234567,) * 48))
    assert (tmp_path / "out.jsonl").stat().st_size * 100_000 / tokens < 100e6
