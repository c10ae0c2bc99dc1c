"""`moeplan plan --ram` as a user sees it: pages of every width, Markdown, JSON held to its schema, the command line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

import moeplan
from moeplan import cli
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.offload import result
from moeplan.report.as_json import as_json
from moeplan.report.offload_markdown import offload_markdown
from moeplan.report.offload_table import offload_table
from moeplan.report.offload_words import HELPS, WAYS, WHAT
from moeplan.sources.routing_files import write_profile
from tests.golden.configs import MIXTRAL
from tests.report.schemas import Schema, changed, without

SCHEMA = Schema("offload")
HOSTILE = "evil|`x`<b>_[y](z)#"
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "an MoE as stored": ("gpt-oss-120b", {"gpu": "rtx-5090", "ram": "64GiB", "context": "8k"}),
    "formats, a named host": (
        "deepseek-r1", {"gpu": "rtx-4090", "ram": "512GiB", "host": "8ch-ddr5-4800", "sockets": 2, "context": "8k",
                        "quants": ["q8_0", "q4_k_m"]},
    ),
    "a dense model": ("qwen3-32b", {"gpu": "rtx-4090", "ram": "64GiB", "quants": ["q6_k"], "context": "8k"}),
    "several cards, several users": ("gpt-oss-120b", {"gpu": "2xrtx-3090", "ram": "64GiB", "concurrency": 4, "context": "8k"}),
    "all of it fits": ("qwen3-30b-a3b", {"gpu": "rtx-5090", "ram": "32GiB", "quants": ["q4_k_m"], "context": "8k"}),
    "nothing fits": ("deepseek-r1", {"gpu": "rtx-4090", "ram": "64GiB", "quants": ["q4_k_m", "q2_k"], "context": "8k"}),
    "a link that is not known": ("qwen3-235b-a22b", {"gpu": "gh200-96gb", "ram": "480GiB", "quants": ["q8_0"], "context": "8k"}),
    "no engine": ("qwen3-30b-a3b", {"gpu": "gaudi2", "ram": "64GiB", "quants": ["stored"], "context": "8k"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, result.Offload]:
    found = {name: moeplan.offload(model, offline=True, **asked) for name, (model, asked) in QUESTIONS.items()}
    path = tmp_path_factory.mktemp("routing") / "p.yaml"
    counts = tuple(5 * (128 - place) for place in range(128))
    layers = tuple(LayerRouting(number, 128, 8.0, sum(counts) // 8, counts, ()) for number in range(48))
    write_profile(path, RoutingProfile("m", None, Provenance(), {"all": layers}))
    found["by frequency"] = moeplan.offload(
        "qwen3-30b-a3b", gpu="rtx-3090", ram="64GiB", quants=["q8_0"], context="8k", routing=path, offline=True
    )
    return found


NAMES = (*QUESTIONS, "by frequency")

# Looks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_the_page_but_the_command(
    name: str, width: int, answers: dict[str, result.Offload]
) -> None:
    answer = answers[name]
    text = offload_table(answer, width=width, color=False, unicode=True)
    launch = answer.best.launch if answer.best is not None else None
    command = shlex.join(launch) if launch is not None else None
    lines = text.splitlines()
    assert max(len(line) for line in lines if line.strip() != command) <= width
    assert (command in [line.strip() for line in lines]) == (command is not None)
    assert offload_table(answer, width=width, color=False, unicode=False).isascii()


def test_the_first_lines_say_what_a_reader_asks(answers: dict[str, result.Offload]) -> None:
    answer = answers["an MoE as stored"]
    assert answer.best is not None
    assert answer.best.speed is not None
    lines = offload_table(answer, width=80, color=False, unicode=True).splitlines()
    head = "\n".join(lines[:20])
    assert f"GOES: mxfp4 as stored, with the experts of {answer.best.host_layers} of 36 layers in host memory" in head
    assert (
        f"likely {answer.best.speed.tokens_per_s.value:.1f} tokens/s, at most {answer.best.speed.tokens_per_s.high:.1f}"
        in head
    )
    assert "binds: bandwidth of host memory" in head
    assert "llama-server --model MODEL.gguf" in head
    assert HELPS in lines


def test_a_model_that_fits_nowhere_says_by_how_much_and_what_to_do(answers: dict[str, result.Offload]) -> None:
    answer = answers["nothing fits"]
    assert answer.best is None
    smallest = min(answer.formats, key=lambda row: row.missing_host_bytes)
    for text in (offload_table(answer, width=100, color=False, unicode=True), offload_markdown(answer)):
        words = " ".join(text.replace("\\_", "_").split())
        assert (
            f"DOES NOT GO: {smallest.missing_host_bytes / 2**30:.1f} GiB of host memory are missing in {smallest.format}"
            in words
        )
        assert "--ram 212GiB" in words


def test_what_is_not_known_is_not_guessed(answers: dict[str, result.Offload]) -> None:
    answer = answers["a link that is not known"]
    assert answer.best is not None
    assert answer.best.speed is not None
    assert answer.best.speed.prompt_tokens_per_s is None
    assert answer.best.speed.ttft is None
    assert "link-unknown" in {note.code for note in answer.notes}
    assert "prompt: not known: the link to the host is not" in offload_table(
        answer, width=80, color=False, unicode=True
    )
    refused = answers["no engine"]
    assert refused.best is None
    assert refused.missing is not None
    assert "no backend for Intel Gaudi 2" in refused.missing


def test_a_model_that_fits_the_card_is_told_so(answers: dict[str, result.Offload]) -> None:
    text = offload_table(answers["all of it fits"], width=100, color=False, unicode=True)
    assert "GOES: all of it fits on the GPU in q4_k_m, no layer stays in host memory" in text
    assert "What would help" not in text
    assert "without it tell more" in " ".join(text.split())
    assert "stay there" not in text


def test_chosen_layers_are_named_where_cards_are_several(answers: dict[str, result.Offload]) -> None:
    best = answers["several cards, several users"].best
    assert best is not None
    assert best.launch is not None
    (pattern,) = [word for word in best.launch if word.endswith("=CPU")]
    numbers = re.findall(r"\d+", pattern.partition(")")[0])
    assert len(numbers) == best.host_layers
    assert f"'{pattern}'" in offload_table(answers["several cards, several users"], width=80, color=False, unicode=True)


def test_colour_adds_no_words(answers: dict[str, result.Offload]) -> None:
    found = answers["formats, a named host"]
    plain = offload_table(found, width=100, color=False, unicode=True)
    coloured = offload_table(found, width=100, color=True, unicode=True)
    assert "\x1b[" in coloured
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_a_hostile_name_stays_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    found = moeplan.offload(folder, gpu="rtx-4090", ram="128GiB", quants=["q4_k_m"], context="4k", offline=True)
    assert found.best is not None
    page = offload_markdown(found)
    prose = re.sub(r"(`+) .*? \1", "", page)
    assert "&lt;b&gt;" in page
    assert "<b>" not in prose
    assert "[y](z)" not in prose
    bad = found._replace(model=found.model._replace(id="evil\x1b[31m|\n<b>\u202e", stored_format="a|b"))
    assert "\x1b" not in offload_table(bad, width=80, color=False, unicode=True)
    assert "\u202e" not in offload_table(bad, width=80, color=False, unicode=True)
    assert "\n<b>" not in offload_markdown(bad)


def test_a_name_that_no_command_can_hold_is_answered_all_the_same(run: Go, tmp_path: Path) -> None:
    folder = tmp_path / "<b>|x\x1b[31m\u202e"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    words = (str(folder), "--gpu", "rtx-4090", "--ram", "128GiB", "--quant", "q4_k_m", "--context", "4k")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "llama-server --model MODEL.gguf" in out
    assert not {"\x1b", "\u202e"} & set(out)
    code, out, err = run(*words, "--format", "markdown")
    assert (code, err) == (0, "")
    assert "<b>" not in re.sub(r"(`+) .*? \1", "", out)
    assert not {"\x1b", "\u202e"} & set(out)


# JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_json_fits_its_schema(name: str, answers: dict[str, result.Offload]) -> None:
    assert SCHEMA.complaints(as_json(answers[name])) == []


RECORDS: dict[tuple[str, ...], type[NamedTuple]] = {
    (): result.Offload,
    ("request",): result.OffloadRequest,
    ("hardware",): result.OffloadHardware,
    ("host",): result.HostUsed,
    ("model",): result.OffloadModel,
    ("best",): result.Offloaded,
    ("formats", "*"): result.Offloaded,
    ("best", "speed"): result.OffloadSpeed,
    ("best", "speed", "likely"): result.OffloadStep,
    ("memory", "*"): result.Memory,
    ("layers", "*"): result.LayerPoint,
    ("others", "*"): result.OtherWay,
    ("hot_experts",): result.HotExperts,
    ("hot_experts", "here"): result.HotPoint,
    ("helps", "*"): result.Help,
}


@pytest.mark.parametrize("path", RECORDS)
def test_the_schema_describes_every_record(path: tuple[str, ...]) -> None:
    SCHEMA.must_describe(path, RECORDS[path])


def test_the_schema_and_the_words_know_every_word() -> None:
    assert tuple(SCHEMA.at("host")["properties"]["basis"]["enum"]) == get_args(result.HostBasis)
    assert tuple(SCHEMA.at("best")["properties"]["sort"]["enum"]) == get_args(result.Sort) == tuple(WHAT)
    assert set(SCHEMA.at("others", "*")["properties"]["way"]["enum"]) == set(get_args(result.Way)) == set(WAYS)
    assert SCHEMA.document["properties"]["schema"]["const"] == result.SCHEMA


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("winner",), "rtx-4090"),
        (("best", "host_layers"), 1.5),
        (("best", "speed", "tokens_per_s", "high"), None),
        (("host", "basis"), "guessed"),
        (("request", "ram_bytes"), 0),
        (("others", 0, "way"), "magic"),
        (("schema",), "moeplan.offload/2"),
    ],
)
def test_the_schema_refuses_what_is_wrong(
    path: tuple[str | int, ...], value: Any, answers: dict[str, result.Offload]
) -> None:
    text = as_json(answers["an MoE as stored"])
    assert SCHEMA.complaints(changed(text, path, value))
    assert SCHEMA.complaints(without(text, "notes"))


# The command line --------------------------------------------------------------------------------------------------

Said = tuple[int, str, str]
Go = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Go:
    """Run `moeplan plan --offline` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def go(*words: str) -> Said:
        code = cli._run(["plan", *words, "--offline"])
        return code, *capsys.readouterr()

    return go


SMALL = ("qwen3-30b-a3b", "--gpu", "rtx-3090", "--ram", "32GiB", "--quant", "q8_0", "--context", "8k")


def test_the_command_writes_the_same_json_as_python(run: Go, tmp_path: Path) -> None:
    assert run(*SMALL, "--json", "-o", "answer.json") == (0, "", "")
    whole = moeplan.offload("qwen3-30b-a3b", gpu="rtx-3090", ram="32GiB", quants=["q8_0"], context="8k", offline=True)
    assert (tmp_path / "answer.json").read_text(encoding="utf-8") == as_json(whole)


def test_exit_codes_and_formats(run: Go) -> None:
    code, out, err = run(*SMALL, "--format", "markdown")
    assert (code, err) == (0, "")
    assert out.startswith("## Qwen/Qwen3-30B-A3B\n")
    assert run(*SMALL, "--quiet") == (0, "", "")
    code, out, err = run("deepseek-r1", "--gpu", "rtx-4090", "--ram", "64GiB", "--quant", "q2_k", "--context", "8k")
    assert (code, err) == (1, "")
    assert "DOES NOT GO" in out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--gpu", "rtx-4090", "--ram", "0"), "--ram 0", "--ram 64GiB"),
        (("--gpu", "rtx-4090", "--ram", "64"), "--ram 64 is 64 B", "--ram 64GiB"),
        (("--gpu", "rtx-4090", "--ram", "lots"), "lots", "40GiB"),
        (("--gpu", "rtx-4090", "--ram", "-3GiB"), "-3GiB", "40GiB"),
        (("--gpu", "rtx-4090", "--ram", "100PiB"), "100PiB", "40GiB"),
        (("--gpu", "rtx-4090", "--ram", "100000GiB"), "--ram 100000GiB", "--ram 64GiB"),
        (("--ram", "64GiB"), "needs a card", "--gpu rtx-4090"),
        (("--gpu", "rtx-4090,rtx-3090", "--ram", "64GiB"), "one kind of card", "2xrtx-3090"),
        (("--gpu", "8ch-ddr5-4800", "--ram", "64GiB"), "8ch-ddr5-4800", "moeplan gpus"),
        (("--gpu", "cpu-8ch-ddr5-4800", "--ram", "64GiB"), "is a host", "--host"),
        (("--gpu", "apple-m4-max", "--ram", "64GiB"), "one memory", "leave --ram out"),
        (("--gpu", "dgx-spark", "--ram", "64GiB"), "one memory", "leave --ram out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--host", "9ch-ddr9"), "9ch-ddr9", "8ch-ddr5-4800"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--host", "2ch-ddr5-5600", "--ram-bandwidth", "80GB/s"), "both", "leave one"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--host", "rtx-3090"), "--host rtx-3090 is no profile of a host", "--gpu"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--host", "2x8ch-ddr5-4800"), "2x8ch-ddr5-4800", "--sockets"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--host", "a" * 999), "aaa", "8ch-ddr5-4800"),
        (("--gpu", "9xrtx-4090", "--ram", "64GiB"), "9xrtx-4090: --ram plans for one machine", "name 8 or fewer"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "fast"), "'fast' is no rate", "80GB/s"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "-80GB/s"), "'-80GB/s' is no rate", "80GB/s"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "640Gb/s"), "says bits", "large B"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "640Gbps"), "says bits", "large B"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "nan"), "'nan' is no rate", "80GB/s"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--ram-bandwidth", "0"), "--ram-bandwidth 0", "80GB/s"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--sockets", "0"), "--sockets 0", "--sockets 2"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--quant", "q4"), "q4", "q4_k_m"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--quant", "nvfp4"), "no GGUF file", "q4_k_m"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--engine", "vllm"), "--engine vllm", "leave --engine out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--rank", "gpus"), "--rank gpus", "leave --rank out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--pools", "apart"), "--pools apart", "leave --pools out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--max-gpus", "2"), "--max-gpus 2", "leave --max-gpus out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--fallback", "all"), "--fallback all", "leave --fallback out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--emit", "k8s"), "--emit k8s", "leave --emit out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--tpot", "50ms"), "--tpot 50ms", "leave --tpot out"),
        (("--gpu", "rtx-4090", "--ram", "64GiB", "--context", "0"), "--context", "32k"),
        (("--gpu", "rtx-4090", "--host", "2ch-ddr5-5600"), "without --ram", "--ram 128GiB"),
        (("--gpu", "rtx-4090", "--sockets", "2"), "without --ram", "--ram 128GiB"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_in_two_lines(
    words: tuple[str, ...], message: str, hint: str, run: Go
) -> None:
    code, out, err = run("qwen3-30b-a3b", *words)
    assert (code, out) == (2, ""), err
    what, way_out = err.splitlines()
    assert what.startswith("error: ")
    assert message in what
    assert way_out.startswith(" hint: ")
    assert hint in way_out


def test_a_plan_without_host_memory_does_not_load_this() -> None:
    names = (
        "sorted(name for name in sys.modules if 'offload' in name and 'engines' not in name and 'estimate' not in name)"
    )
    words = [
        "plan",
        "olmoe",
        "--gpus",
        "l40s",
        "--max-gpus",
        "1",
        "--quant",
        "stored",
        "--engine",
        "vllm",
        "--offline",
        "--quiet",
    ]
    code = f"import sys; from moeplan.cli import _run; _run({words!r}); print({names})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
