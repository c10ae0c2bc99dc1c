"""Files of routing: what is written is read again, and whatever is broken or hostile is an error with its place."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import zlib
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import NO_EXPERT, CapturedLayer, CapturedPrompt, CaptureHeader
from moeplan.core.routing_profile import Curve, LayerRouting, Phase, Provenance, RoutingProfile
from moeplan.sources.routing_files import CaptureWriter, read_routing, write_counts, write_profile
from tests.routing.synthetic import EXAMPLES

HEADER = CaptureHeader(
    "org/small",
    "abc",
    (CapturedLayer(1, 8, 2), CapturedLayer(3, 4, 1)),
    Provenance(tool="moeplan", engine="transformers", dtype="bfloat16", prompts="f" * 64, seed=7, date="2026-01-02"),
)


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def choices(tokens: int, seed: int) -> list[list[list[int]]]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [[chance.sample(range(8), 2), [chance.randrange(4)]] for _ in range(tokens)]


def packed(rows: list[list[list[int]]]) -> bytes:
    return b"".join(expert.to_bytes(2, "little") for row in rows for layer in row for expert in [*layer, NO_EXPERT][:2])


def prompt(number: int, prefill: int = 5, decode: int = 3, **more: Any) -> CapturedPrompt:
    rows = choices(prefill + decode, number)
    return CapturedPrompt(sha(number), "code", prefill, decode, packed(rows), **more)


def captured(path: Path, count: int = 3) -> Path:
    with CaptureWriter(path, HEADER) as writer:
        for number in range(count):
            writer.append(prompt(number))
    return path


# Captures


def test_a_capture_is_read_as_what_was_chosen(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "c.jsonl", HEADER) as writer:
        writer.append(prompt(0, margins=(0.25, None), dropped=(2, 0)))
        writer.append(prompt(1)._replace(prompt_class="long"))
        writer.append(CapturedPrompt(sha(2), "malformed", 0, 0, problem="it is empty"))
    found = read_routing(tmp_path / "c.jsonl")
    rows = choices(8, 0) + choices(8, 1)
    assert (found.model, found.revision, found.provenance) == ("org/small", "abc", HEADER.provenance)
    for place, (number, experts) in enumerate(((1, 8), (3, 4))):
        hits = Counter(expert for row in rows for expert in row[place])
        layer = found.layers["all"][place]
        assert (layer.layer, layer.num_experts, layer.tokens) == (number, experts, 16)
        assert layer.counts == tuple(hits[expert] for expert in range(experts))
    assert {name: layers[0].tokens for name, layers in found.classes.items()} == {"code": 8, "long": 8}
    assert [found.layers[phase][0].tokens for phase in ("prefill", "decode")] == [10, 6]
    assert [layer.near_ties for layer in found.layers["all"]] == [0.25, None]
    assert [layer.dropped for layer in found.layers["all"]] == [2, 0]
    assert [layer.dropped for layer in found.layers["decode"]] == [0, 0]
    assert found.notes == (f"prompt {sha(2)[:12]} is not in these figures: it is empty",)


def test_a_capture_that_was_cut_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    whole = captured(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "cut.jsonl"
    for cut in (0, 10, 200, len(whole) - 1, len(whole) - 40):
        path.write_bytes(whole[:cut])
        with CaptureWriter(path, HEADER._replace(provenance=HEADER.provenance._replace(date="2026-01-03"))) as writer:
            before = set(writer.done)
            for number in range(3):
                if sha(number) not in writer.done:
                    writer.append(prompt(number))
        assert before == {sha(number) for number in range(whole[:cut].count(b"\n") - 1)}
        assert path.read_bytes().splitlines()[1:] == whole.splitlines()[1:]
        assert read_routing(path).layers == read_routing(tmp_path / "whole.jsonl").layers


def test_a_failed_prompt_may_be_captured_later(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with CaptureWriter(path, HEADER) as writer:
        writer.append(prompt(0))
        writer.append(CapturedPrompt(sha(1), "code", 0, 0, problem="no memory"))
    with CaptureWriter(path, HEADER) as writer:
        assert writer.done == {sha(0)}
        writer.append(prompt(1))
    assert read_routing(path).layers["all"][0].tokens == 16


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    for text in ("my notes, without a newline", '{"a": 1}\n', "x"):
        path.write_text(text)
        with pytest.raises(InputError, match="is there, and is no capture"):
            CaptureWriter(path, HEADER)
        assert path.read_text() == text
    captured(tmp_path / "c.jsonl")
    others = {
        "other layers": HEADER._replace(layers=(CapturedLayer(1, 16, 2),)),
        "model 'org/small', and this one has 'org/large'": HEADER._replace(model="org/large"),
        "dtype 'bfloat16', and": HEADER._replace(provenance=HEADER.provenance._replace(dtype="float32")),
    }
    for said, header in others.items():
        with pytest.raises(InputError, match=f"is another capture: it has {said}"):
            CaptureWriter(tmp_path / "c.jsonl", header)


def test_the_writer_refuses_choices_of_other_layers(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "c.jsonl", HEADER) as writer:
        with pytest.raises(ValueError, match="8 tokens of 2 layers have 64 bytes of choices, and 62 are there"):
            writer.append(prompt(0)._replace(experts=prompt(0).experts[:-2]))
        with pytest.raises(ValueError, match="3 shares of near ties for 2 layers"):
            writer.append(prompt(0, margins=(0.1, 0.1, 0.1)))
        writer.append(prompt(0))
    assert read_routing(tmp_path / "c.jsonl").layers["all"][0].tokens == 8
    with pytest.raises(InputError, match="layer 3 chooses 5 of 4 experts"):
        CaptureWriter(tmp_path / "d.jsonl", HEADER._replace(layers=(CapturedLayer(3, 4, 5),)))


def line_of(**change: Any) -> dict[str, Any]:
    words = {
        "prompt": sha(9),
        "class": "code",
        "prefill_tokens": 5,
        "decode_tokens": 3,
        "experts": base64.b64encode(zlib.compress(prompt(9).experts)).decode(),
        "margins": None,
        "dropped": None,
        "problem": None,
    }
    return words | change


def experts_of(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def changed(place: int, expert: int) -> str:
    numbers = array("H", prompt(9).experts)
    numbers[place] = expert
    return experts_of(numbers.tobytes())


BAD_LINES: dict[str, tuple[Any, str]] = {
    "bomb": (line_of(experts=experts_of(bytes(50 << 20))), "unpacks to more than 64 bytes, and its tokens have 64"),
    "short": (line_of(experts=experts_of(bytes(60))), "unpacks to 60 bytes, and its tokens have 64"),
    "tail": (
        line_of(experts=base64.b64encode(zlib.compress(prompt(9).experts) + b"more").decode()),
        "unpacks to 64 bytes, and its tokens have 64",
    ),
    "cut stream": (
        line_of(experts=base64.b64encode(zlib.compress(prompt(9).experts)[:-4]).decode()),
        "its tokens have 64",
    ),
    "no base64": (line_of(experts="!!"), "cannot be unpacked"),
    "no zlib": (line_of(experts="AAAA"), "cannot be unpacked"),
    "another model": (line_of(experts=changed(0, 8)), "layer 1 has experts 0 to 7, and 8 was chosen"),
    "second layer": (line_of(experts=changed(2, 4)), "layer 3 has experts 0 to 3, and 4 was chosen"),
    "twice": (
        line_of(experts=changed(0, array("H", prompt(9).experts)[1])),
        "layer 1: a token has the same expert twice",
    ),
    "too many": (
        line_of(experts=changed(3, (array("H", prompt(9).experts)[2] + 1) % 4)),
        "layer 3: a token has more than 1 experts",
    ),
    "tokens": (line_of(prefill_tokens=10**12), "`prefill_tokens` is 1000000000000"),
    "negative": (line_of(prefill_tokens=-5), "`prefill_tokens` is -5"),
    "fraction": (line_of(decode_tokens=2.5), "`decode_tokens` is 2.5"),
    "truth": (line_of(decode_tokens=True), "`decode_tokens` is True"),
    "nothing": (line_of(prefill_tokens=0, decode_tokens=0), "make 0"),
    "no choices": (line_of(experts=None), "`experts` is missing"),
    "text": (line_of(text="my secret"), "`text` is not a known key"),
    "prompt": (line_of(prompt="../../etc"), "not a SHA-256"),
    "upper": (line_of(prompt=sha(9).upper()), "not a SHA-256"),
    "class": (line_of(**{"class": "a\x1b[31m"}), "`class` is"),
    "long class": (line_of(**{"class": "a" * 65}), "at most 64 letters"),
    "margins": (line_of(margins=[0.1]), "1 shares of near ties for 2 layers"),
    "margin": (line_of(margins=[0.1, 1.5]), "not between 0 and 1"),
    "margin text": (line_of(margins=["a", 0.1]), "not a list of shares"),
    "dropped": (line_of(dropped=[17, 0]), "more choices were dropped than made"),
    "list": ([1, 2], "not an object with keys"),
    "again": (line_of(prompt=sha(0)), "stands there twice"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_have_their_place(case: str, tmp_path: Path) -> None:
    words, said = BAD_LINES[case]
    path = captured(tmp_path / "c.jsonl", 2)
    path.write_bytes(path.read_bytes() + json.dumps(words).encode() + b"\n")
    with pytest.raises(InputError) as caught:
        read_routing(path)
    assert caught.value.message.startswith(f"{path}:4: ")
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.hint


RAW_LINES = {
    "not json": (b"{", "not valid JSON"),
    "nan": (b'{"prompt": NaN}', "NaN is no number"),
    "infinite": (b'{"prompt": 1e999}', "too large a number"),
    "digits": (b'{"prompt": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "deep": (b"[" * 100_000, "nested too deep"),
    "twice": (b'{"prompt": 1, "prompt": 2}', "'prompt' is given twice"),
    "latin": (b'{"prompt": "\xff"}', "it is not UTF-8 text"),
}


@pytest.mark.parametrize("case", RAW_LINES)
def test_lines_that_are_no_json_have_their_place(case: str, tmp_path: Path) -> None:
    line, said = RAW_LINES[case]
    path = captured(tmp_path / "c.jsonl", 1)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(InputError) as caught:
        read_routing(path)
    assert caught.value.message.startswith(f"{path}:3: ")
    assert said in caught.value.message


def test_captures_that_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read_routing(path)
    CaptureWriter(path, HEADER).close()
    with pytest.raises(InputError, match=r"holds no prompt with its choices$"):
        read_routing(path)
    with CaptureWriter(path, HEADER) as writer:
        writer.append(CapturedPrompt(sha(0), "code", 0, 0, problem="it is empty"))
    with pytest.raises(InputError, match=r"no prompt with its choices: .* it is empty"):
        read_routing(path)
    path.write_bytes(captured(tmp_path / "d.jsonl").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"c\.jsonl:4: the line is cut short") as caught:
        read_routing(path)
    assert "takes up what is missing" in caught.value.hint


def test_lines_without_an_end_are_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # no bytes on the disk
    with pytest.raises(InputError, match=r"c\.jsonl:1: the line is longer than such a line can be \(1 MiB\)"):
        read_routing(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "moeplan.routing-counts/1"}, "is of the schema 'moeplan.routing-counts/1'"),
        ({"schema": None}, "has no `schema`"),
        ({"model": None}, "`model` is missing"),
        ({"layers": []}, "there is no layer with experts"),
        ({"layers": [{"layer": 0, "num_experts": 5000, "experts_per_token": 1}]}, "between 1 and 4096 are read"),
        ({"layers": [{"layer": 0, "num_experts": 4, "experts_per_token": 0}]}, "chooses 0 of 4 experts"),
        (
            {"layers": [{"layer": n, "num_experts": 4096, "experts_per_token": 64} for n in range(1024)]},
            "one token has",
        ),
        ({"layers": [{"layer": n, "num_experts": 4, "experts_per_token": 1} for n in range(1025)]}, "1025 layers"),
        ({"layers": [{"layer": 0, "num_experts": 4, "experts_per_token": 1}] * 2}, "its layers do not ascend"),
        ({"provenance": {"user": "me"}}, "`provenance.user` is not a known key"),
        ({"prompts": ["hello"]}, "`prompts` is not a known key"),
    ],
)
def test_bad_headers_have_their_place(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = captured(tmp_path / "c.jsonl")
    first, *rest = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([json.dumps(json.loads(first) | change).encode(), *rest, b""]))
    with pytest.raises(InputError) as caught:
        read_routing(path)
    assert caught.value.message.startswith(f"{path}:1: ")
    assert said in caught.value.message


# Profiles and counts

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda name: name.strip())


@st.composite
def layers_of(draw: st.DrawFn, experts: dict[int, int], windows: bool) -> tuple[LayerRouting, ...]:
    found = []
    for number, num_experts in experts.items():
        if windows:
            few = st.lists(st.integers(0, 10**6), min_size=num_experts, max_size=num_experts).map(tuple)
            parts = tuple(draw(st.lists(few, max_size=3)))
        else:
            parts = ()
        counts = tuple(map(sum, zip(*parts, strict=True))) or tuple(
            draw(st.lists(st.integers(0, 10**9), min_size=num_experts, max_size=num_experts))
        )
        if not sum(counts):
            counts, parts = tuple(range(1, num_experts + 1)), ()
        tokens = draw(st.integers(max(counts), sum(counts) * 10))  # a token chooses an expert once
        curve = curves(float(num_experts))
        found.append(
            LayerRouting(
                number,
                num_experts,
                sum(counts) / tokens,
                tokens,
                counts,
                draw(curve),
                draw(curve),
                draw(curves(1.0)),
                draw(st.none() | st.floats(0, 1)),
                draw(st.integers(0, sum(counts))),
                parts,
            )
        )
    return tuple(found)


def curves(most: float) -> st.SearchStrategy[Curve]:
    values = st.dictionaries(st.integers(1, 10**6), st.floats(0, most), max_size=5)
    return values.map(lambda found: tuple((float(key), value) for key, value in sorted(found.items())))


@st.composite
def profiles(draw: st.DrawFn, windows: bool) -> RoutingProfile:
    experts = draw(st.dictionaries(st.integers(0, 99), st.integers(1, 12), min_size=1, max_size=3))
    experts = dict(sorted(experts.items()))
    others: tuple[Phase, ...] = ("prefill", "decode")
    phases: list[Phase] = ["all", *draw(st.lists(st.sampled_from(others), unique=True))]
    classes = draw(st.lists(names, unique=True, max_size=2))
    return RoutingProfile(
        draw(names),
        draw(st.none() | names),
        Provenance(
            tool=draw(st.none() | names), source=draw(st.none() | names), seed=draw(st.none() | st.integers(0, 9))
        ),
        {phase: draw(layers_of(experts, windows)) for phase in phases},
        {name: draw(layers_of(experts, windows)) for name in classes},
        tuple(draw(st.lists(names, max_size=2))),
    )


def near(found: RoutingProfile, written: RoutingProfile) -> bool:
    """Alike but for the sixth digit of curves."""

    def rounded(layer: LayerRouting) -> LayerRouting:
        def curve(pairs: Curve) -> Curve:
            return tuple((n, float(f"{value:.6g}")) for n, value in pairs)

        return layer._replace(
            in_sequence=curve(layer.in_sequence), across=curve(layer.across), overlap=curve(layer.overlap)
        )

    def plain(profile: RoutingProfile) -> RoutingProfile:
        return profile._replace(
            layers={phase: tuple(map(rounded, layers)) for phase, layers in profile.layers.items()},
            classes={name: tuple(map(rounded, layers)) for name, layers in profile.classes.items()},
        )

    return plain(found) == plain(written)


@settings(max_examples=30, deadline=None)
@given(profiles(windows=False))
def test_a_profile_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, profile: RoutingProfile) -> None:
    path = tmp_path_factory.mktemp("p") / "p.yaml"
    write_profile(path, profile)
    assert near(read_routing(path), profile)


@settings(max_examples=30, deadline=None)
@given(profiles(windows=True))
def test_counts_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, profile: RoutingProfile
) -> None:
    path = tmp_path_factory.mktemp("c") / "c.json"
    write_counts(path, profile)
    assert read_routing(path) == profile


def test_the_largest_model_has_a_profile_of_bounded_size(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - no secret
    curve = tuple((float(2**n), chance.random()) for n in range(8))
    layers = tuple(
        LayerRouting(n, 384, 8.0, 384 * 10_000, (80_000,) * 384, curve, curve, curve, 0.1) for n in range(60)
    )
    phases: tuple[Phase, ...] = ("all", "prefill", "decode")
    profile = RoutingProfile(
        "k", None, Provenance(), dict.fromkeys(phases, layers), {str(n): layers for n in range(10)}
    )
    write_profile(tmp_path / "p.yaml", profile)
    assert near(read_routing(tmp_path / "p.yaml"), profile)


LAYER: dict[str, Any] = {"layer": 2, "num_experts": 4, "experts_per_token": 2, "tokens": 5, "counts": [1, 2, 3, 4]}

BAD_LAYERS: dict[str, tuple[dict[str, Any], str]] = {
    "zeros": ({"counts": [0, 0, 0, 0]}, "`phases.all.counts` are all zero"),
    "negative": ({"counts": [1, 2, 3, -4]}, "`phases.all.counts` holds -4"),
    "fraction": ({"counts": [1, 2, 3, 4.5]}, "`phases.all.counts` holds 4.5"),
    "huge": ({"counts": [1, 2, 3, 10**20]}, "`phases.all.counts` holds 1000"),
    "few": ({"counts": [1, 2, 7]}, "has 3 numbers for 4 experts"),
    "text": ({"counts": "1 2 x 4"}, "`phases.all.counts` holds 'x'"),
    "tokens": ({"tokens": 50}, "sum to 10, and 50 tokens of 2 experts make 100"),
    "no tokens": ({"tokens": 0}, "`phases.all.tokens` is 0"),
    "experts": ({"num_experts": 5000}, "must be between 1 and 4096"),
    "no experts": ({"num_experts": None}, "`phases.all.num_experts` is missing"),
    "chosen": ({"experts_per_token": 5}, "at most 4"),
    "none chosen": ({"experts_per_token": 0}, "must be above 0"),
    "curve": ({"in_sequence": "1:2 2:nan"}, "`phases.all.in_sequence` holds [2.0, nan]"),
    "descending": ({"across": [[2, 3], [1, 2]]}, "`phases.all.across` holds [1, 2]"),
    "beyond": ({"across": [[2, 5]]}, "a value of 0 to 4"),
    "overlap": ({"overlap": [[1, 1.5]]}, "a value of 0 to 1"),
    "pairs": ({"overlap": {"1": 0.5}}, "`phases.all.overlap` holds"),
    "ties": ({"near_ties": 2}, "a share is at most 1"),
    "dropped": ({"dropped": 11}, "must be between 0 and 10"),
    "windows": ({"windows": [[1, 2, 3, 3]]}, "`phases.all.windows` do not sum to `counts`"),
    "twice": ({"counts": [10, 0, 0, 0]}, "say that expert 0 was chosen 10 times by 5 tokens"),
    "ids": ({"input_ids": [5, 6]}, "`phases.all.input_ids` is not a known key"),
}


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layers_have_their_place(case: str, ending: str, tmp_path: Path) -> None:
    change, said = BAD_LAYERS[case]
    schema = {"json": "moeplan.routing-counts/1", "yaml": "moeplan.routing-profile/1"}[ending]
    path = tmp_path / f"p.{ending}"
    words = {"schema": schema, "model": "m", "phases": {"all": [LAYER | {"layer": 1}, LAYER | change]}}
    path.write_text(json.dumps(words, indent=1))  # JSON is YAML
    with pytest.raises(InputError) as caught:
        read_routing(path)
    message = caught.value.message
    assert message.startswith(f"{path}: " if ending == "json" else f"{path}:")
    assert said in message
    if ending == "yaml":  # a key that is absent has the line of the last one above it that is there
        line = path.read_text().splitlines()[int(message.removeprefix(f"{path}:").partition(":")[0]) - 1]
        key = message.partition("`")[2].partition("`")[0].rpartition(".")[2]
        assert line.strip().startswith(f'"{key}"') or change.get(key, "") is None
    assert caught.value.hint


def test_an_error_in_a_profile_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "schema: moeplan.routing-profile/1\nmodel: m\nphases:\n  all:\n"
        "  - {layer: 0, num_experts: 2, experts_per_token: 1, counts: 1 2}\n"
        "  - layer: 1\n    num_experts: 2\n    experts_per_token: 1\n    counts: 1 2 3\n"
    )
    with pytest.raises(InputError, match=r"p\.yaml:9: `phases.all.counts` has more than 2 numbers for 2 experts"):
        read_routing(path)
    path.write_text(path.read_text().replace("1 2 3", "0 3"))
    found = read_routing(path)
    assert [layer.counts for layer in found.layers["all"]] == [(1, 2), (0, 3)]
    assert [layer.tokens for layer in found.layers["all"]] == [3, 3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"phases": {"decode": [LAYER]}}, "`phases.all` is missing"),
        ({"phases": {"all": [LAYER, LAYER]}}, "is 2 behind 2; layers must ascend"),
        ({"phases": {"all": [LAYER], "decode": [LAYER | {"layer": 3}]}}, "`phases.decode` has layer 3, which"),
        (
            {"phases": {"all": [LAYER]}, "classes": {"code": [LAYER | {"num_experts": 5, "counts": [1, 2, 3, 4, 0]}]}},
            "`classes.code` says that layer 2 has 5 experts, and `phases.all` says 4",
        ),
        ({"phases": {"all": [LAYER], "both": [LAYER]}}, "`phases.both` is not a known key"),
        ({"phases": {"all": [LAYER]}, "notes": ["a" * 3000]}, "`notes` hold more"),
        ({"phases": {"all": [LAYER]}, "classes": {str(n): [LAYER] for n in range(65)}}, "`classes` are 65"),
        ({}, "`phases` is missing"),
    ],
)
def test_parts_of_a_file_agree(words: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"schema": "moeplan.routing-counts/1", "model": "m"} | words))
    with pytest.raises(InputError) as caught:
        read_routing(path)
    assert said in caught.value.message


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of routing by its ending"):
        read_routing(tmp_path / "a.pt")
    for ending in ("jsonl", "json", "yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            read_routing(tmp_path / f"absent.{ending}")
        (tmp_path / f"folder.{ending}").mkdir()
        with pytest.raises(InputError, match="is no ordinary file"):
            read_routing(tmp_path / f"folder.{ending}")
        with (tmp_path / f"large.{ending}").open("wb") as file:
            file.truncate(1 << 33)
        with pytest.raises(InputError, match=r"larger than such a file|longer than such a line"):
            read_routing(tmp_path / f"large.{ending}")
    with pytest.raises(InputError, match="cannot be written"):
        CaptureWriter(tmp_path / "absent" / "c.jsonl", HEADER)
    profile = RoutingProfile("m", None, Provenance(), {"all": ()})
    for write, name in ((write_profile, "p.yaml"), (write_counts, "c.json")):
        with pytest.raises(InputError, match="cannot be written"):
            write(tmp_path / "absent" / name, profile)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_broken_capture_is_an_error_or_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("b")
    whole = captured(folder / "w.jsonl", 2).read_bytes()
    first = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(first, min(len(whole), first + 30)))
    junk = data.draw(st.binary(max_size=8) | st.text(string.printable, max_size=8).map(str.encode))
    (folder / "b.jsonl").write_bytes(whole[:first] + junk + whole[end:])
    try:
        read_routing(folder / "b.jsonl")
    except InputError as error:
        assert str(folder / "b.jsonl") in error.message  # noqa: PT017 - either is right


# Files that lost their end ---------------------------------------------------------------------------------------


def test_a_profile_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write_profile(tmp_path / "whole.yaml", read_routing(EXAMPLES / "synthetic.yaml"))
    whole = (tmp_path / "whole.yaml").read_bytes()
    path = tmp_path / "cut.yaml"
    lines = [place for place, byte in enumerate(whole, 1) if byte == ord("\n")][:-1]
    for end in (*lines, *range(200, len(whole) - 1, 331), len(whole) - 2):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError) as caught:
            read_routing(path)
        assert caught.value.hint
        assert "another model" not in caught.value.hint
    path.write_bytes(whole[: lines[-1]])
    with pytest.raises(InputError, match="does not end with `layers_in_file`, so its end is missing"):
        read_routing(path)


def test_a_profile_that_lost_a_part_in_its_middle_is_refused(tmp_path: Path) -> None:
    text = (EXAMPLES / "synthetic.yaml").read_text(encoding="utf-8")
    start, end = text.index("  - layer: 3\n"), text.index("  - layer: 4\n")
    (tmp_path / "a.yaml").write_text(text[:start] + text[end:], encoding="utf-8")
    with pytest.raises(InputError, match=r"`layers_in_file` is 36, and the phases and classes have 35 layers"):
        read_routing(tmp_path / "a.yaml")


def test_a_profile_of_the_version_before_is_read_with_a_doubt(tmp_path: Path) -> None:
    text = (EXAMPLES / "synthetic.yaml").read_text(encoding="utf-8")
    older = text.replace("routing-profile/2", "routing-profile/1").replace("layers_in_file: 36\n", "")
    (tmp_path / "a.yaml").write_text(older, encoding="utf-8")
    found, now = read_routing(tmp_path / "a.yaml"), read_routing(EXAMPLES / "synthetic.yaml")
    assert found.layers == now.layers
    (note,) = found.notes
    assert "whether it is whole is not known" in note
    assert not now.notes
