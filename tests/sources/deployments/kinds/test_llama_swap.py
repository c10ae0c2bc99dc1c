"""llama-swap: macros, words of Windows, and which models run beside each other."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Deployed
from tests.sources.deployments.reading import line, lines_of, named, only, read, recognised

MACROS = """\
startPort: 9000
macros:
  server: |
    /opt/llama-server
    --port ${PORT}
  ctx: 4096
  common: "--ctx-size ${ctx} -fa on"
models:
  first:
    macros:
      ctx: 8192
    cmd: |
      # what is served
      ${server} ${common}
      -m /models/a.gguf \\
      --alias ${MODEL_ID}
    aliases: [one, {id: two}]
    env:
      - CUDA_VISIBLE_DEVICES=0,1
  second:
    cmd: ${server} -m ${env.HOME}/b.gguf --temp "0.5"
  speech:
    cmd: whisper-server -m small.bin
"""


def test_macros_are_replaced_and_keep_their_places() -> None:
    """llama-swap internal/config/load.go: those of a model count before those of the file."""
    found = read("llama_swap", MACROS, "swap.yaml")
    first = named(found)["first"]
    assert (first.kind, first.engine, first.host) == ("llama-swap", "llamacpp", "llama-swap")
    assert line(first.command) == (
        "/opt/llama-server --port 9000 --ctx-size 8192 -fa on -m /models/a.gguf --alias first"
    )
    assert lines_of(first.command, "/opt/llama-server", "--port", "9000", "--ctx-size", "8192") == [4, 5, 1, 7, 11]
    assert lines_of(first.command, "-m", "/models/a.gguf", "--alias") == [15, 15, 16]
    assert next(word.spot.column for word in first.command if word.text == "-m") == 7
    assert first.device_ids == ("0", "1")
    assert first.gang.gpus_per_engine == 2
    assert [(name.text, name.spot.line) for name in first.served_names] == [("first", 9), ("one", 17), ("two", 17)]
    assert first.spot.line == 9
    assert found.passed_over == ("speech",)


def test_a_variable_of_the_machine_is_open() -> None:
    second = named(read("llama_swap", MACROS))["second"]
    assert line(second.command).endswith("-m ${env.HOME}/b.gguf --temp 0.5")
    assert [word.unknown for word in second.command if not word.known] == [("${env.HOME}",)]
    told = named(read("llama_swap", MACROS.replace("env.HOME", "env.MODELS"), MODELS="/m"))["second"]
    assert line(told.command).endswith("-m /m/b.gguf --temp 0.5")


def test_backslashes_of_windows_stay() -> None:
    text = """\
models:
  a:
    cmd: |
      C:\\apps\\llama-server.exe --port ${PORT}
      -m "F:\\my models\\a.gguf" -c 4096
"""
    deployed = only(read("llama_swap", text))
    assert line(deployed.command) == "C:\\apps\\llama-server.exe --port 5800 -m F:\\my models\\a.gguf -c 4096"
    assert lines_of(deployed.command, "5800", "F:\\my models\\a.gguf", "4096") == [4, 5, 5]


def test_quotes_of_other_systems() -> None:
    text = """\
models:
  a: {cmd: "llama-server -m '/a b.gguf' --override-kv \\"x=\\\\\\"y\\\\\\"\\" -c\\\\ 5"}
"""
    words = [word.text for word in only(read("llama_swap", text)).command]
    assert words == ["llama-server", "-m", "/a b.gguf", "--override-kv", 'x="y"', "-c 5"]


def test_a_container() -> None:
    text = """\
models:
  a:
    cmd: |
      docker run --rm --gpus device=1 -p ${PORT}:8080 -v /m:/m ghcr.io/ggml-org/llama.cpp:server-cuda
      -m /m/a.gguf -c 8192
"""
    deployed = only(read("llama_swap", text))
    assert line(deployed.command).endswith("-m /m/a.gguf -c 8192")
    assert deployed.engine == "llamacpp"
    assert deployed.device_ids == ("1",)
    assert deployed.image is not None
    assert deployed.image.text == "ghcr.io/ggml-org/llama.cpp:server-cuda"


def test_a_macro_that_holds_itself_ends() -> None:
    text = "macros: {a: '${b}', b: '${a}'}\nmodels: {m: {cmd: 'llama-server -m x.gguf ${a}'}}\n"
    assert not only(read("llama_swap", text)).command[-1].known


MODELS = "models: {a: {cmd: llama-server -m a}, b: {cmd: llama-server -m b}, c: {cmd: llama-server -m c}, "
MODELS += "d: {cmd: llama-server -m d}}\n"


def at_once(deployed: Deployed, other: Deployed) -> bool:
    """Whether two engines may hold memory of one machine at the same time."""
    if deployed.host != other.host:
        return False
    return not deployed.not_at_once or deployed.not_at_once != other.not_at_once


@pytest.mark.parametrize(
    ("groups", "together"),
    [
        ("", set()),
        # Members of a group without swapping run together; the others one at a time, and never beside them.
        ("groups: {g: {swap: false, members: [a, b]}}", {"ab"}),
        # Those of a group that stays run beside all others.
        ("groups: {g: {persistent: true, swap: false, members: [a, b]}}", {"ab", "ac", "ad", "bc", "bd"}),
        ("groups: {g: {exclusive: false, members: [a, b]}}", {"ac", "ad", "bc", "bd"}),
        ("groups: {g: {members: [a, b]}, h: {members: [c, d]}}", set()),
        ("routing: {router: {settings: {groups: {g: {swap: false, members: [a, b]}}}}}", {"ab"}),
    ],
)
def test_which_models_run_beside_each_other(groups: str, together: set[str]) -> None:
    """llama-swap internal/config/config.go: `swap` and `exclusive` are on unless they are switched off."""
    models = named(read("llama_swap", MODELS + groups))
    pairs = [(one, other) for one in "abcd" for other in "abcd" if one < other]
    assert {one + other for one, other in pairs if at_once(models[one], models[other])} == together


def test_a_matrix_is_told() -> None:
    found = read("llama_swap", MODELS + "matrix: {vars: {x: a, y: b}, sets: {s: x & y}}")
    assert [remark.code for remark in found.remarks] == ["swap-matrix"]
    assert not at_once(found.deployments[0], found.deployments[1])


def test_which_files_are_one() -> None:
    assert recognised("llama_swap", "models: {a: {cmd: x}}")
    assert not recognised("llama_swap", "models: {a: {path: x}}")
    assert not recognised("llama_swap", "models: [a]")
    assert not recognised("llama_swap", "apiVersion: v1\nmodels: {a: {cmd: x}}")
