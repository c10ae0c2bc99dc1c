"""Layouts and engines' own flags on the command line: what is read, what is refused, what is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Outcome, Run


def answer(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    return json.loads(outcome.out)


def said(outcome: Outcome, code: int = 2) -> tuple[str, str]:
    """What is wrong and the way out, after checking that nothing else was said."""
    assert (outcome.code, outcome.out) == (code, "")
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith(" hint: ")
    return first.removeprefix("error: "), second.removeprefix(" hint: ")


def test_the_command_of_the_issue(run: Run) -> None:
    found = answer(
        run(
            "estimate", "deepseek-v3", "--gpu", "h200", "--offline", "--json", "--", "--tensor-parallel-size", "8",
            "--enable-expert-parallel", "--max-model-len", "32K", "--kv-cache-dtype", "fp8",
        )
    )  # fmt: skip
    layout = found["layout"]
    assert (layout["engine"], layout["tp"], layout["ep"], layout["num_gpus"]) == ("vllm", 8, 8, 8)
    assert found["request"]["context_tokens"] == 32_768
    assert found["kv_cache"]["dtype"] == "fp8"
    assert found["hardware"]["num_devices"] == 8


def test_our_words_and_the_engines_give_the_same(run: Run) -> None:
    ours = answer(
        run("estimate", "deepseek-v3", "-g", "8xh200", "--tp", "1", "--dp", "8", "--ep", "8", "--json", "--offline")
    )
    theirs = answer(
        run(
            "estimate",
            "deepseek-v3",
            "-g",
            "8xh200",
            "--json",
            "--offline",
            "--",
            "-dp",
            "8",
            "-tp=1",
            "--enable_expert_parallel",
            "--max-model-len=32768",
        )
    )
    assert ours["ranks"] == theirs["ranks"]
    assert ours["verdict"] == theirs["verdict"]


def test_a_program_in_front_names_its_engine(run: Run) -> None:
    words = ["python", "-m", "sglang.launch_server", "--model-path", "deepseek-ai/DeepSeek-V3", "--tp", "8"]
    found = answer(run("estimate", "deepseek-v3", "-g", "8xh200", "--offline", "--json", "--", *words))
    assert found["layout"]["engine"] == "sglang"
    assert not [note for note in found["notes"] if note["code"] in ("model-differs", "flag-unknown")]


def test_context_of_llama_cpp_is_shared_out(run: Run) -> None:
    words = ["llama-server", "-c", "65536", "-np", "2", "-ctk", "q8_0", "-ctv", "q8_0"]
    found = answer(run("estimate", "gpt-oss-20b", "-g", "rtx-4090", "--offline", "--json", "--", *words))
    assert (found["request"]["context_tokens"], found["request"]["concurrency"]) == (32_768, 2)
    assert found["kv_cache"]["dtype"] == "q8_0"


def test_what_is_not_understood_is_a_note(run: Run) -> None:
    found = answer(run("estimate", "mixtral", "-g", "2xh100", "--json", "--", "--frobnicate", "7", "--port", "8000"))
    (note,) = [note for note in found["notes"] if note["code"] == "flag-unknown"]
    assert "--frobnicate 7" in note["message"]
    assert not any("--port" in note["message"] for note in found["notes"])


def test_an_unknown_version_is_a_note(run: Run) -> None:
    found = answer(run("estimate", "mixtral", "-g", "2xh100", "--json", "--engine-version", "0.13.1"))
    assert any(note["code"] == "engine-version" and "0.12.0" in note["message"] for note in found["notes"])
    assert (found["layout"]["engine_version"], found["layout"]["version_origin"]) == ("0.13.1", "stated")


@pytest.mark.parametrize(
    ("words", "wrong", "way_out"),
    [
        (["--tp", "0"], "--tp", "estimate --help"),
        (["--tp", "-2"], "--tp", "estimate --help"),
        (["--tp", "two"], "--tp", "estimate --help"),
        (["--pp-layers", "16,x"], "16,x", "30,31"),
        (["--pp", "2", "--pp-layers", "16,17"], "33 layers", "one number of layers per stage"),
        (["--engine-version", "newest"], "newest", "--engine-version"),
        (["--engine", "vlm"], "vlm", "vllm"),
        (["--tp", "2", "--", "--tensor-parallel-size", "4"], "--tp 2 and 4", "leave one of them out"),
        (["--context", "8k", "--", "--max-model-len", "16000"], "--context 8k and 16000", "leave one of them out"),
        (["--", "--tensor-parallel-size", "eight"], "eight", ""),
        (["--", "--gpu-memory-utilization", "1.5"], "1.5", ""),
        (["--tp", "2", "--ep", "3"], "--ep 3", "--ep 2"),
        (["--engine", "transformers", "--", "--tp", "2"], "no command line", "--engine vllm"),
        (["extra"], "extra", "estimate --help"),
    ],
)
def test_wrong_words_are_one_line_and_a_way_out(words: list[str], wrong: str, way_out: str, run: Run) -> None:
    what, hint = said(run("estimate", "mixtral", "--gpu", "h100-sxm", *words))
    assert wrong in what
    assert way_out in hint


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--gpu", "3xh100"], "heads-not-divisible"),
        (["--gpu", "2xh100", "--tp", "4"], "gpus-too-few"),
        (["--gpu", "16xh100", "--tp", "8", "--dp", "2", "--ep", "16"], "ep-beyond-experts"),
        (["--gpu", "8xh100", "--tp", "8", "--dcp", "2"], "dcp-too-few-ranks"),
        (["--gpu", "4xh100", "--context", "64K"], "context-beyond-model"),
    ],
)
def test_what_the_engine_refuses_is_a_verdict(words: list[str], code: str, run: Run) -> None:
    found = answer(run("estimate", "mixtral", *words, "--json"))
    assert code in [reason["code"] for reason in found["verdict"]["reasons"]]
    assert found["verdict"]["fits"] is False
    assert run("estimate", "mixtral", *words, "--quiet", "--require-fit").code == 1


def test_expert_parallelism_of_a_dense_model_is_refused(run: Run) -> None:
    found = answer(
        run("estimate", "llama-3.1-8b-instruct", "-g", "2xh100", "--tp", "2", "--ep", "2", "--json", "--offline")
    )
    assert [reason["code"] for reason in found["verdict"]["reasons"]] == ["ep-on-dense"]


def test_ranks_that_differ_are_listed_and_the_fullest_is_named(run: Run) -> None:
    outcome = run("estimate", "deepseek-v3", "-g", "16xh200", "--tp", "8", "--pp", "2", "--offline")
    assert "ranks 8-15, the fullest" in outcome.out
    assert "\nranks 0-7 " in outcome.out
    assert "TP 8 x PP 2 (31 or 30 layers)" in outcome.out


def test_refusals_need_no_gpu(run: Run) -> None:
    found = answer(run("estimate", "deepseek-v3", "--tp", "7", "--json", "--offline"))
    assert (found["verdict"]["fits"], found["verdict"]["certain"]) == (False, True)
    assert "attention heads" in found["verdict"]["reasons"][0]["message"]
    shown = run("estimate", "deepseek-v3", "--tp", "7", "--offline")
    assert "WOULD NOT START" in shown.out


def test_options_tell_who_stated_them(run: Run) -> None:
    words = ("--json", "--offline", "--", "--tensor-parallel-size", "8", "--max-model-len", "8192")
    found = answer(run("estimate", "deepseek-v3", "-g", "8xh200", *words))
    origins = {option["flag"]: option["origin"] for option in found["layout"]["options"]}
    assert origins["--tensor-parallel-size"] == origins["--max-model-len"] == "stated"
    plain = answer(run("estimate", "deepseek-v3", "-g", "8xh200", "--json", "--offline"))
    origins = {option["flag"]: option["origin"] for option in plain["layout"]["options"]}
    assert origins["--tensor-parallel-size"] == origins["--max-model-len"] == "inferred"


def test_a_length_left_to_the_engine_is_the_longest_that_fits(run: Run) -> None:
    shape = ("estimate", "qwen3-30b-a3b-instruct-2507", "-g", "h100", "--json", "--offline")
    found = answer(run(*shape, "--", "--max-model-len", "auto"))
    assert found["verdict"]["fits"] is True
    longest = found["request"]["context_tokens"]
    assert 0 < longest < 262_144
    assert any(note["code"] == "context-fitted" for note in found["notes"])
    longer = answer(run(*shape, "--", "--max-model-len", str(longest + 64)))
    assert longer["verdict"]["fits"] is False


def test_what_is_not_modelled_leaves_no_verdict_certain(run: Run) -> None:
    shape = (
        "estimate",
        "deepseek-v3",
        "-g",
        "16xh200",
        "--json",
        "--offline",
        "--",
        "-tp",
        "8",
        "--max-model-len",
        "8192",
    )
    assert answer(run(*shape))["verdict"]["certain"] is True
    found = answer(run(*shape, "--prefill-context-parallel-size", "2"))
    assert found["verdict"]["certain"] is False
    assert any(note["code"] == "flag-not-modelled" for note in found["notes"])


@pytest.mark.parametrize("option", ["--tp", "--pp", "--dp", "--ep", "--dcp", "--nodes"])
def test_absurd_degrees_are_an_error(run: Run, option: str) -> None:
    wrong, way = said(run("estimate", "mixtral", "-g", "h100", "--offline", option, "1000000000"))
    assert wrong == f"{option} 1000000000 is more than 65,536"
    assert way == f"for instance {option} 8"


def test_a_stage_without_layers_is_no_crash(run: Run) -> None:
    shape = ("deepseek-v4-flash", "-e", "sglang", "-g", "3xh100", "--tp", "5", "--pp", "100", "--offline")
    assert answer(run("estimate", *shape, "--json"))["verdict"]["fits"] is False
