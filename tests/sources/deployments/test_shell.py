"""Scripts as words: what bash would hand to the engine, and where each word stands, worked out by hand."""

from __future__ import annotations

import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.nodes import compose
from moeplan.sources.deployments.shell import read_script, unwrapped
from moeplan.sources.deployments.shell_tokens import tokens


def held(**values: str) -> dict[str, Quote]:
    return {name: Quote(text, Spot(99)) for name, text in values.items()}


def commands(script: str, **values: str) -> list[list[str]]:
    found = read_script(Quote(script, Spot(1)), held(**values), Quote("4", Spot(98)))
    return [[word.text for word in command.words] for command in found]


def only(script: str, **values: str) -> list[str]:
    """The words of the one command that the script has."""
    (found,) = commands(script, **values)
    return found


# Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("vllm serve a/b --tp 8", ["vllm", "serve", "a/b", "--tp", "8"]),
        ("vllm \\\n  serve \\\n  m", ["vllm", "serve", "m"]),
        ("vllm se\\\nrve", ["vllm", "serve"]),
        ("a 'b  c' \"d  e\" f\\ g", ["a", "b  c", "d  e", "f g"]),
        ("a --x='{\"k\": 1}'", ["a", '--x={"k": 1}']),
        ('a "{\\"k\\": 1}"', ["a", '{"k": 1}']),
        ("a '' \"\"", ["a", "", ""]),
        ("a $'x\\ty'", ["a", "x\ty"]),
        ("a # b", ["a"]),
        ("a b#c", ["a", "b#c"]),
        ("a '#b'", ["a", "#b"]),
        ("a\t b\r\n", ["a", "b"]),
        ("a b > out 2>&1 < in", ["a", "b"]),
        ("a &> out b 2> /dev/null", ["a", "b"]),
        ("a 2 > out", ["a", "2"]),
        ("a <<< word b", ["a", "b"]),
        ("a <(b c) d", ["a", "<(b c)", "d"]),
        # YAML that folds lines leaves the backslashes that joined them.
        ("vllm serve m \\ --tp 8 \\ --pp 2", ["vllm", "serve", "m", "--tp", "8", "--pp", "2"]),
        ("vllm serve m \\", ["vllm", "serve", "m"]),
        # No shell would take these; words are read all the same.
        ("a don't b", ["a", "don't", "b"]),
        ('a 5" b', ["a", '5"', "b"]),
        ("a $ b", ["a", "$", "b"]),
    ],
)
def test_words(script: str, expected: list[str]) -> None:
    assert only(script) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a $X", ["a", "1", "2"]),
        ('a "$X"', ["a", "1 2"]),
        ("a '$X'", ["a", "$X"]),
        ("a x$X", ["a", "x1", "2"]),
        ("a ${X}y", ["a", "1", "2y"]),
        ("a $EMPTY b", ["a", "b"]),
        ('a "$EMPTY" b', ["a", "", "b"]),
        ("a x$EMPTY", ["a", "x"]),
        ("a $SPACES b", ["a", "b"]),
        ("a x$SPACES$X", ["a", "x", "1", "2"]),
        # A shell splits what a variable holds, and leaves the quotes in it alone.
        ("a $Q", ["a", "'b", "c'"]),
        ("eval a $Q", ["a", "b c"]),
        ('eval "a $Q"', ["a", "b c"]),
        ("a --n $(nvidia-smi -L | wc -l)", ["a", "--n", "4"]),
        ("a --n `nvidia-smi -L | wc -l`", ["a", "--n", "4"]),
        ("a $(( 2 * 4 ))", ["a", "8"]),
        ("a ${NONE:-x y}", ["a", "x", "y"]),
        ('a "${NONE:-x y}"', ["a", "x y"]),
        ('a ${X:+--x "$X"}', ["a", "--x", "1", "2"]),
    ],
)
def test_variables_in_words(script: str, expected: list[str]) -> None:
    assert only(script, X="1 2", EMPTY="", SPACES="  ", Q="'b c'") == expected


def test_what_is_open_stays_one_word() -> None:
    (command,) = read_script(Quote("a --h $(hostname -i) $NONE", Spot(1)), {})
    assert [word.text for word in command.words] == ["a", "--h", "$(hostname -i)", "$NONE"]
    assert [word.unknown for word in command.words] == [(), (), ("$(hostname -i)",), ("$NONE",)]
    assert command.words[3].origin == "unresolved"


def test_each_word_has_its_place() -> None:
    script = "export A=1\nvllm serve \\\n  m --tp  $A 'x\ny' z\n"
    (command,) = read_script(Quote(script, Spot(11, 5, "run")), {})
    assert [(word.text, *word.spot) for word in command.words] == [
        ("vllm", 12, 5, "run"),
        ("serve", 12, 10, "run"),
        ("m", 13, 7, "run"),
        ("--tp", 13, 9, "run"),
        ("1", 13, 15, "run"),
        ("x\ny", 13, 18, "run"),
        ("z", 14, 8, "run"),
    ]


def test_places_in_a_block_of_yaml_are_those_of_the_file() -> None:
    text = "args:\n  - |\n    exec vllm serve m \\\n      --tp 8\n"
    script = compose(text).documents[0].at("args", 0).quote()
    assert script is not None
    (command,) = read_script(script, {})
    lines = text.split("\n")
    for word in command.words:
        assert lines[word.spot.line - 1].startswith(word.text, word.spot.column - 1)
        assert word.spot.path == "args[0]"


# Commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a; b && c || d | e & f\ng", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"], ["g"]]),
        ("(a; b)", [["a"], ["b"]]),
        ("{ a; b; }", [["a"], ["b"]]),
        ("if a; then b; elif c; then d; else e; fi", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("while a; do b; done", [["a"], ["b"]]),
        ("for i in 1 2; do a; done", [["a"]]),
        ("case $X in\n  a|b) c ;;\n  *) d;;\nesac\ne", [["c"], ["d"], ["e"]]),
        ("case $X in a) c;; esac; e", [["c"], ["e"]]),
        ("f() { a; }\nf", [["a"], ["f"]]),
        ("f () {\n a\n}", [["a"]]),
        ("function f {\n a\n}", [["a"]]),
        ("! a", [["a"]]),
        ("cat <<EOF > f\nvllm serve no\nEOF\na", [["cat"], ["a"]]),
        ("cat <<-'E'\n\tvllm serve no\n\tE\na", [["cat"], ["a"]]),
        ("[[ a && ( b || c ) ]] && d", [["[[", "a", "b", "c", "]]"], ["d"]]),
        ("# a\n\n  # b\nc", [["c"]]),
        ("A=1", []),
        ("", []),
    ],
)
def test_commands(script: str, expected: list[list[str]]) -> None:
    assert commands(script) == expected


@pytest.mark.parametrize(
    "script",
    [
        "sh -c 'vllm serve m'",
        "/bin/bash -c 'vllm serve m'",
        "bash -lc -- 'vllm serve m'",
        "bash -euxo pipefail -c 'vllm serve m'",
        "bash -c 'exec vllm serve m'",
        "sh -c \"bash -c 'vllm serve m'\"",
        "exec vllm serve m",
        "exec -a name vllm serve m",
        "nohup vllm serve m &",
        "time vllm serve m",
        "env -u X A=1 vllm serve m",
        'env "$DEVICES=0" B=1 "X_${KIND}_ID=2" vllm serve m',
        "timeout --signal=KILL 30m vllm serve m",
        "tini -g -- vllm serve m",
        "numactl --cpunodebind=0 --membind=0 vllm serve m",
        "stdbuf -oL -eL vllm serve m",
        "sudo -u vllm -E vllm serve m",
        "uv run --with vllm vllm serve m",
        "conda run -n vllm vllm serve m",
        "mpirun -n 8 --allow-run-as-root vllm serve m",
        "kubectl exec -it pod -- bash -c 'vllm serve m'",
        "docker exec -it box vllm serve m",
        "docker exec -d box bash -c 'vllm serve m'",
        "systemd-run --user --scope -p MemoryMax=90% vllm serve m",
        "screen -dmS name vllm serve m",
        "tmux new-session -d -s name 'vllm serve m'",
        "ssh node 'vllm serve m'",
        "ray job submit -- vllm serve m",
        "shifter --image=image:tag vllm serve m",
        "numactl -N 0 timeout 5 sh -c 'exec env A=1 vllm serve m'",
    ],
)
def test_what_stands_around_a_command_is_taken_off(script: str) -> None:
    assert only(script) == ["vllm", "serve", "m"]


def test_arguments_of_a_script() -> None:
    argv = [Quote(text, Spot(1)) for text in ("sh", "-c", 'exec vllm serve "$1" "$@"', "name", "m", "x y")]
    (command,) = unwrapped(argv, {})
    assert [word.text for word in command.words] == ["vllm", "serve", "m", "m", "x y"]


@pytest.mark.parametrize("script", ['exec vllm serve m "$@"', 'eval "vllm serve m $@"'])
def test_a_shell_that_is_given_no_arguments_has_none(script: str) -> None:
    (found,) = unwrapped([Quote(text, Spot(1)) for text in ("bash", "-c", script, "--")], {})
    assert [word.text for word in found.words] == ["vllm", "serve", "m"]
    # Of a script by itself nobody knows them.
    (found,) = read_script(Quote(script, Spot(1)), {})
    assert found.words[-1].unknown == ("$@",)


def test_words_that_are_no_shell_stay() -> None:
    argv = [Quote(text, Spot(1)) for text in ("vllm", "serve", "$(X) a;b")]
    (command,) = unwrapped(argv, {})
    assert command.words == tuple(argv)


def test_shells_in_shells_end() -> None:
    script = "vllm serve m"
    for _ in range(10):
        script = f"sh -c {shlex.quote(script)}"
    assert only(script)[0] == "sh"


# Variables of a script -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("A=1 B=$A\nx $A $B", ["x", "1", "1"]),
        ("export A=1 B='2 3'\nx $A \"$B\"", ["x", "1", "2 3"]),
        ("A=1; A=$A$A; x $A", ["x", "11"]),
        ("A=1; A+=2; x $A", ["x", "12"]),
        ("A=1; unset A; x $A", ["x", "$A"]),
        ("A=1; unset A; x ${A:-7}", ["x", "7"]),
        ("L=(a 'b c' \\\n d)\nx \"${L[@]}\"", ["x", "a", "b c", "d"]),
        ('L=(a)\nL+=(b "$T")\nx "${L[@]}" ${L[0]}', ["x", "a", "b", "8", "a"]),
        ('L=()\nx "${L[@]}" y', ["x", "y"]),
        ("declare -a L=(a b)\nx ${L[@]}", ["x", "a", "b"]),
        # Branches: what they agree on, and what only one of them sets.
        ("if c; then A=1; else A=1; fi; x $A", ["x", "1"]),
        ("if c; then A=1; else A=2; fi; x $A", ["x", "${A}"]),
        ("if c; then A=1; fi; x $A", ["x", "1"]),
        ("if c; then T=1; fi; x $T", ["x", "${T}"]),
        ("if c; then T=1; x $T; fi", ["x", "1"]),
        ("if c; then T=1; else x $T; fi", ["x", "8"]),
        ('if [ -z "$T" ]; then T=1; fi; x $T', ["x", "8"]),
        ('if [ -z "$A" ]; then A=1; fi; x $A', ["x", "1"]),
        ('[ -z "$T" ] && T=1; x $T', ["x", "8"]),
        ('[ -n "$T" ] || T=1; x $T', ["x", "${T}"]),
        ("cd /y && T=1 && x $T", ["x", "1"]),
        (": ${A:=5}; x $A", ["x", "5"]),
        (": ${T:=5}; x $T", ["x", "8"]),
        ("case $Q in a) A=1;; b) A=2;; esac; x $A", ["x", "${A}"]),
        ("case $Q in a) T=1;; *) T=1;; esac; x $T", ["x", "1"]),
        ("for i in a b; do x $i; done", ["x", "${i}"]),
        ("for i in a; do x $i; done", ["x", "a"]),
        # Flags that a branch adds are open; those before stay.
        ("F='--a 1'; if c; then F=\"$F --b\"; fi; x $F", ["x", "--a", "1", "${F}"]),
        ('F=(--a 1); if c; then F+=(--b); fi; x "${F[@]}"', ["x", "--a", "1", "${F[@]}"]),
        ('F=(--a 1); if c; then F=(--b); fi; x "${F[@]}"', ["x", "${F[@]}"]),
    ],
)
def test_variables_of_a_script(script: str, expected: list[str]) -> None:
    assert [words for words in commands(script, T="8") if words[0] == "x"] == [expected]


def test_the_environment_of_a_command() -> None:
    script = "A=1\nexport B=2\nC=3 x\nset -a\nD=4\ny"
    one, two = (command for command in read_script(Quote(script, Spot(1)), held(OUT="0")))
    assert {name: value.text for name, value in one.variables.items()} == {"OUT": "0", "B": "2", "C": "3"}
    assert {name: value.text for name, value in two.variables.items()} == {"OUT": "0", "A": "1", "B": "2", "D": "4"}
    assert one.variables["C"].spot == Spot(3, 3)


def test_words_of_a_list_keep_their_places() -> None:
    (command,) = read_script(Quote('L=(\n  --tp 8\n)\nx "${L[@]}"', Spot(1)), {})
    assert [word.spot[:2] for word in command.words] == [(4, 1), (2, 3), (2, 8)]


# Whatever comes --------------------------------------------------------------------------------------------------

SIGNS = "ab =$(){}[]`'\"\\|&;<>#\n\t-*+:@!"


@given(st.text(alphabet=SIGNS, max_size=80) | st.text(max_size=40))
def test_nothing_makes_it_fail_and_places_lie_inside(script: str) -> None:
    lines = script.split("\n")
    for token in tokens(script):
        assert 0 <= token.start <= token.end <= len(script)
    for command in read_script(Quote(script, Spot(1)), held(a="1 2", b="")):
        for word in command.words:
            assert 1 <= word.spot.line <= len(lines)
            assert all(each in word.text for each in word.unknown)


@given(st.lists(st.text(alphabet="abc012 '\"\\$#;|&<>()*~{}\n-=", max_size=8), min_size=1, max_size=6))
def test_quoted_words_come_back(words: list[str]) -> None:
    """What shlex quotes, a shell reads as it was; `x` in front, so that none is a word of the shell's own."""
    assert only(shlex.join(["x", *words])) == ["x", *words]


@given(st.text(alphabet="abc 01'\"-_./:,=", max_size=40))
def test_simple_texts_are_split_as_shlex_splits_them(text: str) -> None:
    try:
        expected = shlex.split(f"x {text}")
    except ValueError:  # a quote that is never closed
        return
    assert only(f"x {text}") == expected


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(piece, id=repr(piece))
        for piece in (
            "'", '"', "$(", "${", "`", "\\", "(", "<(", "<<a\n", "if ", "case a in ", "a;", "A=1\n", "a $A ", "$A$A",
            "export A=1; b; ", "L+=(a)\n", "\\ a", "$'", "# a\n", 'sh -c "', "[[ ", "x=(",
        )
    ],
)  # fmt: skip
def test_long_scripts_take_time_in_proportion(piece: str) -> None:
    script = piece * (100_000 // len(piece))
    start = time.process_time()
    commands(script, A="y" * 1000)
    assert time.process_time() - start < 5


def test_variables_that_grow_are_left_alone() -> None:
    script = "A=" + "x" * 5000 + "\n" + "A=$A$A\n" * 40 + "a $A $A $A\n" * 50
    assert sum(len(word) for words in commands(script) for word in words) < 20_000_000


# Conditions and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "tp"),
    [
        ('[ "$A" = 2 ]', "4"),
        ('[ "$A" != 2 ]', "8"),
        ("[[ $A -gt 1 ]]", "4"),
        ("test $A -ge 3", "8"),
        ('[ -n "$A" ] && [ -z "$EMPTY" ]', "4"),
        ('[ "$A" = 3 ] || [ $A -lt 3 ]', "4"),
        ('[ "$A" = 3 ] && [ -f x ]', "8"),
        ("true", "4"),
        # Not to be known.
        ("[ -f x ]", None),
        ('[ "$UNSET" = 2 ]', None),
        ('! [ "$A" = 2 ]', None),
        ("[[ $A == 2* ]]", None),
        ("nvidia-smi", None),
        ("echo $A | grep -q 2", None),
    ],
)
def test_a_branch_whose_condition_is_known(condition: str, tp: str | None) -> None:
    script = f"A=2\nEMPTY=\nTP=1\nif {condition}; then TP=4; else TP=8; fi\nvllm serve m -tp $TP"
    found = read_script(Quote(script, Spot(1)), {})[-1]
    assert (found.words[-1].text if found.words[-1].known else None) == tp


def test_a_branch_that_does_not_run_changes_nothing() -> None:
    script = (
        'N=1\nARGS="-tp 2"\nif [ $N -gt 1 ]; then ARGS="-tp 8"; fi\n'
        "if [ $N = 0 ]; then L=1; elif [ $N = 1 ]; then L=2; elif [ -f x ]; then L=3; else L=4; fi\n"
        "vllm serve m $ARGS --max-model-len $L"
    )
    assert commands(script)[-1] == ["vllm", "serve", "m", "-tp", "2", "--max-model-len", "2"]


@pytest.mark.parametrize(
    "begin",
    ["cat > ./a/x.yml <<EOF", "cat <<EOF >a/x.yml", "tee a/x.yml <<EOF >/dev/null", "sudo tee a/../a/x.yml << EOF"],
)
def test_files_that_a_script_writes(begin: str) -> None:
    script = f"N=8\n{begin}\nsize: $N\nname: 'x'\nEOF\nvllm serve m --config a/x.yml"
    found = read_script(Quote(script, Spot(1)), {})[-1]
    assert {path: (text.text, text.spot.line) for path, text in found.files.items()} == {
        "a/x.yml": ("size: 8\nname: 'x'\n", 3)
    }


def test_a_here_document_may_be_literal_or_for_somebody_else() -> None:
    script = "cat > x <<'EOF'\nsize: $N\nEOF\npython - <<EOF > y\nprint()\nEOF\nvllm serve m"
    assert {path: text.text for path, text in read_script(Quote(script, Spot(1)), {})[-1].files.items()} == {
        "x": "size: $N\n"
    }
