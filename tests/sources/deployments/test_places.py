"""Every word stands where it is said to, however YAML and shells fold, quote and expand the text that it was cut from."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.deployed import Deployed, FileRead
from moeplan.sources.deployments.folded_texts import Alignment
from moeplan.sources.deployments.nodes import compose
from moeplan.sources.deployments.read import read_file

HEAD = "services:\n  a:\n    image: vllm/vllm-openai:v0.24.0\n"
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  containers:
  - name: main
    image: vllm/vllm-openai:v0.24.0
    env: [{{name: LEN, value: "131072"}}, {{name: TP, value: "8"}}, {{name: ARGS, value: "--a 1 --b"}}]
    command: [/bin/sh, -c]
    args:
{args}
"""


def only(text: str) -> Deployed:
    (deployed,) = read_file("compose.yaml", text).deployments
    return deployed


def at(text: str, deployed: Deployed) -> list[str]:
    """What stands at the place of each word, up to the next blank."""
    lines = text.split("\n")
    return [lines[word.spot.line - 1][word.spot.column - 1 :].partition(" ")[0] for word in deployed.command]


# Texts that YAML folds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "    command: >\n      --model org/name\n      --max-model-len 8192 --tensor-parallel-size\n      8\n",
        "    command: >-\n\n      --model org/name\n\n\n      --max-model-len 8192\n        --tensor-parallel-size\n        8\n",
        "    command: --model org/name\n      --max-model-len 8192\n\n      --tensor-parallel-size\n      8\n",
        '    command: "--model org/name\n      --max-model-len\n      8192  \n\n      --tensor-parallel-size 8"\n',
        '    command: "--model \\\n      org/name --max-model-len\\\n      \\ 8192 --tensor-parallel-size 8"\n',
        "    command: '--model org/name\n      --max-model-len 8192\n      --tensor-parallel-size 8'\n",
        "    command: |\n      --model org/name\n        --max-model-len 8192\n      --tensor-parallel-size 8\n",
        "    command: [--model, org/name, --max-model-len, 8192, --tensor-parallel-size, 8]\n",
    ],
)
def test_every_style_of_a_text(command: str) -> None:
    text = HEAD + command
    deployed = only(text)
    words = [word.text for word in deployed.command][2:]
    assert words == ["--model", "org/name", "--max-model-len", "8192", "--tensor-parallel-size", "8"]
    assert [word.strip("\"'\\,]") for word in at(text, deployed)[2:]] == words


WORDS = st.lists(st.sampled_from(["--a", "8", "18", "--a-b", "x/y", "8192", "é", "it''s"]), min_size=1, max_size=12)
BREAKS = st.lists(st.sampled_from([" ", "  ", "\n      ", "\n\n      ", " \n\n\n      "]), min_size=12, max_size=12)


@given(WORDS, BREAKS, st.sampled_from(["", "'", '"', ">"]))
def test_characters_of_folded_texts(words: list[str], breaks: list[str], style: str) -> None:
    body = "w" + "".join(gap + word for gap, word in zip(breaks, words, strict=False))
    body = body.replace("'", "") if style != "'" else body
    written = f"a:\n  b: {body}\n" if not style else f"a:\n  b: {style}{body}{style}\n"
    if style == ">":
        written = f"a:\n  b: >\n      {body}\n"
    composed = compose(written)
    if not composed.folded:  # it has one line
        return
    (folded,) = composed.folded
    lines = written.split("\n")
    alignment = Alignment(folded, lines)
    for number, line in enumerate(folded.text.split("\n")):
        for column, sign in enumerate(line):
            if not sign.isspace():
                counted = folded.spot._replace(line=folded.spot.line + number, column=folded.spot.column + column)
                at_line, at_column = alignment.place(counted)
                assert lines[at_line][at_column] == sign, (folded, counted)


def test_a_shell_inside_of_a_folded_text() -> None:
    text = HEAD + (
        '    entrypoint: []\n    command: >\n      bash -c "vllm serve org/name --max-model-len 8192\n'
        "      --max-num-seqs 64 --served-model-name 'org/other'\n      --tensor-parallel-size 8\"\n"
    )
    deployed = only(text)
    assert [word.strip("\"'") for word in at(text, deployed)] == [word.text for word in deployed.command]
    assert [name.spot[:2] for name in deployed.served_names] == [(7, 46)]


def test_tokens_and_remarks_of_a_folded_text_stand_on_their_lines() -> None:
    text = HEAD + (
        "    entrypoint: [sh, -c]\n    command:\n    - >\n\n      export HF_TOKEN=hf_abcdefghijklmnop &&\n      vllm serve\n"
        "      /models/x-fp4 --served-model-name org/x\n"
    )
    found: FileRead = read_file("compose.yaml", text)
    assert {secret.spot.line for secret in found.secrets} == {8}
    (remark,) = found.deployments[0].remarks
    assert (remark.code, remark.spot.line) == ("served-name-differs", 10)


# Variables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve org/name --max-model-len $(LEN) --tensor-parallel-size $(TP) --port 80",
        "vllm serve org/name --max-model-len=$(LEN) $(ARGS) 2 --port 80",
        "echo $(ARGS); vllm serve org/name --max-model-len $LEN --x $(NONE) --port 80",
    ],
)
def test_words_behind_a_variable_keep_their_columns(script: str) -> None:
    for args in (f"    - {script}", f"    - |\n      # what {{}}\n      {script}", f'    - "{script}"'):
        text = POD.format(args=args)
        deployed = only(text)
        places = at(text, deployed)
        words = [word.text for word in deployed.command]
        for word in ("vllm", "serve", "org/name", "--port"):
            assert places[words.index(word)].strip('"') == word
        assert places[-1].strip('"') == "80"
        for place, word in zip(places, words, strict=True):
            assert place.strip('";').split("\n")[0] == word or "$" in place, (place, word)


def test_columns_behind_variables_of_compose() -> None:
    text = (
        HEAD
        + "    command: --model ${MODEL:-org/name} --max-model-len ${LEN:-131072} --max-num-seqs 64 --port $PORT 1\n"
    )
    deployed = only(text)
    words = [word.text for word in deployed.command]
    assert words[2:] == [
        "--model", "org/name", "--max-model-len", "131072", "--max-num-seqs", "64", "--port", "$PORT", "1",
    ]  # fmt: skip
    assert at(text, deployed)[2:] == [
        "--model", "${MODEL:-org/name}", "--max-model-len", "${LEN:-131072}", "--max-num-seqs", "64", "--port",
        "$PORT", "1",
    ]  # fmt: skip


def test_a_word_like_one_further_on_stays_where_it_is() -> None:
    text = POD.format(args="    - vllm serve org/name --tensor-parallel-size $(TP) --pipeline-parallel-size 8")
    deployed = only(text)
    assert at(text, deployed)[-4:] == ["--tensor-parallel-size", "$(TP)", "--pipeline-parallel-size", "8"]


def test_nobody_keeps_what_was_put_in() -> None:
    deployed = only(POD.format(args="    - vllm serve org/name --tensor-parallel-size $(TP)"))
    assert not [word for word in (*deployed.command, *deployed.variables.values()) if word.put_in]


@pytest.mark.parametrize("piece", ["$(TP) ", "${TP} ", "$(NONE)\n", "x\n", "'\n", '"\n'])
def test_long_texts_cost_little(piece: str) -> None:
    body = (piece * 20_000).replace("\n", "\n      ")
    start = time.process_time()
    for text in (
        HEAD + f"    command: >\n      --model {body}\n",
        POD.format(args=f"    - >\n      vllm serve m {body}"),
    ):
        read_file("compose.yaml", text)
    assert time.process_time() - start < 6
