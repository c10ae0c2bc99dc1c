"""Variables: what the kubelet, a shell and docker compose make of them, worked out by hand from their manuals."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.deployed import Quote, Spot
from moeplan.core.deployment import Origin
from moeplan.sources.deployments.variables import arithmetic, expand_compose, expand_kubernetes, expand_shell

HERE = Spot(7, 3, "args[0]")


def held(**values: str) -> dict[str, Quote]:
    return {name: Quote(text, Spot(line)) for line, (name, text) in enumerate(values.items(), 1)}


def shell(text: str, gpus: str | None = None, **values: str) -> Quote:
    return expand_shell(Quote(text, HERE), held(**values), None if gpus is None else Quote(gpus, Spot(20)))


# The kubelet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("--tp=$(TP)", "--tp=8", ()),
        ("$(TP)$(TP)", "88", ()),
        # Escapes of the Kubernetes reference: `$$(VAR)` is the text `$(VAR)`, whatever VAR holds.
        ("$$(TP)", "$(TP)", ()),
        ("$$$(TP)", "$8", ()),
        ("$(NOT_TOLD)", "$(NOT_TOLD)", ("$(NOT_TOLD)",)),
        # Neither a shell's variables nor its commands are the kubelet's.
        ("$TP ${TP}", "$TP ${TP}", ()),
        ("$(nvidia-smi -L | wc -l)", "$(nvidia-smi -L | wc -l)", ()),
        ("$(TP", "$(TP", ()),
        ("cost: 5$", "cost: 5$", ()),
    ],
)
def test_the_kubelet(text: str, expected: str, unknown: tuple[str, ...]) -> None:
    found = expand_kubernetes(Quote(text, HERE), held(TP="8"))
    assert (found.text, found.unknown, found.spot) == (expected, unknown, HERE)
    assert found.origin == ("unresolved" if unknown else "stated")


def test_a_variable_is_named_where_it_was_used() -> None:
    assert expand_kubernetes(Quote("$(TP)", HERE), held(TP="8")).why == "variable TP"


@pytest.mark.parametrize("origin", ["stated", "inferred"])
def test_what_follows_from_a_number_that_was_inferred_is_inferred(origin: Origin) -> None:
    size = Quote("2", Spot(1), origin)
    for found in (
        expand_kubernetes(Quote("--nnodes=$(SIZE)", HERE), {"SIZE": size}),
        expand_shell(Quote("--nnodes=$SIZE", HERE), {"SIZE": size}),
    ):
        assert (found.text, found.origin) == ("--nnodes=2", origin)


def test_what_is_open_in_a_variable_stays_open() -> None:
    open_value = Quote("$(X)/y", Spot(1), "unresolved", ("$(X)",))
    found = expand_kubernetes(Quote("--model=$(M)", HERE), {"M": open_value})
    assert (found.text, found.unknown, found.origin) == ("--model=$(X)/y", ("$(X)",), "unresolved")
    assert not found.known


# A shell ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$TP", "8"),
        ("${TP}x", "8x"),
        ("a$TP.b", "a8.b"),
        ("${TP:-4}", "8"),
        ("${NONE:-4}", "4"),
        ("${EMPTY:-4}", "4"),
        ("${EMPTY-4}", ""),
        ("${NONE-}", ""),
        ("${NONE:=5}/$NONE", "5/5"),
        ("${NONE:-${ALSO:-$TP}}", "8"),
        ('${NONE:-"a b"}', "a b"),
        ("${TP:+--tp $TP}", "--tp 8"),
        ("${NONE:+--tp $NONE}", ""),
        ("${TP:?not set}", "8"),
        (r"\$TP", "$TP"),
        (r"\a", r"\a"),
        ("it's $TP", "it's 8"),
        ("$((TP * 2 + 1))", "17"),
        ("$(( $TP / 3 ))", "2"),
        ("$(( ${TP} % 3 * (1 + 1) ))", "4"),
        ("$((-TP + 10))", "2"),
        ("${MODEL##*/}", "name"),
        ("${MODEL%/*}", "org"),
        ("${MODEL#org/}", "name"),
        ("${MODEL,,}", "org/name"),
        ("price 5$", "price 5$"),
        ("${unclosed", "${unclosed"),
    ],
)
def test_a_shell(text: str, expected: str) -> None:
    found = shell(text, TP="8", EMPTY="", MODEL="org/name")
    assert (found.text, found.unknown) == (expected, ())


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("$NONE", "$NONE"),
        ("${NONE}", "${NONE}"),
        ("${NONE:?tell me}", "${NONE:?tell me}"),
        ("$(hostname -i)", "$(hostname -i)"),
        ('$(awk "{print $1}" f)', '$(awk "{print $1}" f)'),
        ("`hostname`", "`hostname`"),
        ("$((NONE * 2))", "$((NONE * 2))"),
        ("$((TP ** 2))", "$((TP ** 2))"),
        ("$((TP / 0))", "$((TP / 0))"),
        ("$(nvidia-smi -L | wc -l)", "$(nvidia-smi -L | wc -l)"),
        ("${#TP}", "${#TP}"),
        ("${TP//8/9}", "${TP//8/9}"),
        ("$1", "$1"),
        ("$@", "$@"),
    ],
)
def test_what_a_shell_alone_knows_stays_as_it_stands(text: str, unknown: str) -> None:
    found = shell(f"a {text} b", TP="8")
    assert (found.text, found.unknown, found.origin) == (f"a {text} b", (unknown,), "unresolved")


@pytest.mark.parametrize(
    "text",
    [
        "$(nvidia-smi -L | wc -l)",
        "$( nvidia-smi --list-gpus | wc -l )",
        "`nvidia-smi -L | wc -l`",
        "$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)",
        "$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | wc -l)",
    ],
)
def test_the_cards_of_the_pod_are_counted(text: str) -> None:
    found = shell(text, gpus="4")
    assert (found.text, found.origin, found.why) == ("4", "inferred", "the number of GPUs")
    assert shell(f"$(({text} / 2))", gpus="4").text == "2"


def test_a_count_of_gpus_that_is_open_stays_open() -> None:
    found = expand_shell(
        Quote("$(nvidia-smi -L | wc -l)", HERE), {}, Quote("{{ n }}", Spot(1), "unresolved", ("{{ n }}",))
    )
    assert not found.known


def test_the_places_stay() -> None:
    assert shell("$TP", TP="8").spot == HERE


def test_variables_that_double_each_other_stop_growing() -> None:
    values = held(A="x" * 10)
    for _ in range(64):
        values["A"] = expand_shell(Quote("$A$A", HERE), values)
    assert len(values["A"].text) < 300_000
    assert not values["A"].known


@pytest.mark.parametrize("sign", ["${", "$(", "`", "${A:-", "$((", '"$('])
def test_openings_without_end_cost_little(sign: str) -> None:
    start = time.process_time()
    shell(sign * 100_000)
    assert time.process_time() - start < 3


# Docker compose --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("${TP:-2}", "8", ()),
        ("${NONE:-2}", "2", ()),
        ("${NONE:-${TP}}", "8", ()),
        ("${NONE-}", "", ()),
        ("$TP", "8", ()),
        ("$$TP", "$TP", ()),
        ("${NONE}", "${NONE}", ("${NONE}",)),
        ("${NONE:?say it}", "${NONE:?say it}", ("${NONE:?say it}",)),
        # Commands are a shell's matter: compose runs none, and takes no backslash away.
        ("$(nproc)", "$(nproc)", ()),
        (r"\$TP", r"\8", ()),
        ('\'{"a": "b"}\'', '\'{"a": "b"}\'', ()),
    ],
)
def test_docker_compose(text: str, expected: str, unknown: tuple[str, ...]) -> None:
    found = expand_compose(Quote(text, HERE), held(TP="8"))
    assert (found.text, found.unknown) == (expected, unknown)


# Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * (3 + 4) / 4", 3),
        ("7 / -2", -3),  # towards zero, as C and shells do
        ("-7 % 2", -1),
        ("2 - 3 - 4", -5),
        ("--2", 2),
        ("", None),
        ("()", None),
        ("1 2", None),
        ("1 +", None),
        ("(1", None),
        ("1)", None),
        ("08", None),
        ("1 << 40", None),
        ("999999999999 * 999999999999", None),
        pytest.param("(" * 30_000 + "1" + ")" * 30_000, 1, id="deep"),
    ],
)
def test_arithmetic(text: str, expected: int | None) -> None:
    assert arithmetic(text) == expected


@given(st.recursive(st.integers(0, 999).map(str), lambda s: st.tuples(s, st.sampled_from("+-*"), s).map(" ".join)))
def test_arithmetic_agrees_with_python(text: str) -> None:
    expected = eval(text)  # noqa: S307 (digits and three signs)
    assert arithmetic(text) == (expected if abs(expected) <= 10**15 else arithmetic(text))


@given(st.text(alphabet="$(){}`'\"\\:-+*/%#AB1 \n", max_size=60))
def test_nothing_makes_them_fail(text: str) -> None:
    quote = Quote(text, HERE)
    values = held(A="x", B="")
    for found in (expand_shell(quote, values), expand_compose(quote, values), expand_kubernetes(quote, values)):
        assert all(each in found.text for each in found.unknown)
        assert found.known == (found.origin != "unresolved")
