"""The same thing said with moeplan's option, or with the engine's flag where it was stated behind `--`."""

from __future__ import annotations

from moeplan.core.own_words import OPTIONS, own_words, said, switched


def test_every_thing_that_can_be_stated_has_an_option() -> None:
    assert all(own_words({}, {name: 2}) == (f"{option} 2", "") for name, option in OPTIONS.items())


def test_what_stands_behind_the_dashes_is_changed_there() -> None:
    flags = {"tp": "--tensor-parallel-size", "context_tokens": "--max-model-len"}
    values = {"tp": 4, "ep": 4, "context_tokens": 8192}
    assert own_words(flags, values) == ("--ep 4", "--tensor-parallel-size 4 --max-model-len 8192")
    assert said(flags, values) == "--ep 4 --tensor-parallel-size 4 --max-model-len 8192"


def test_switches_have_no_value() -> None:
    assert own_words({}, {"dp": 8, "dp_attention": True}) == ("--dp 8 --dp-attention", "")
    flags = {"expert_parallel": "--enable-expert-parallel"}
    assert own_words(flags, {"expert_parallel": True}) == ("", "--enable-expert-parallel")
    assert own_words(flags, {"expert_parallel": False}) == ("", "--no-enable-expert-parallel")


def test_a_number_of_expert_ranks_is_the_switch_where_the_user_has_one() -> None:
    flags = {"expert_parallel": "--enable-expert-parallel"}
    assert switched(flags, {"tp": 4, "ep": 4}, spread=True) == {"tp": 4}
    assert switched(flags, {"tp": 4, "ep": 1}, spread=True) == {"tp": 4, "expert_parallel": False}
    assert switched(flags, {"ep": 8}, spread=False) == {"expert_parallel": True}
    assert switched({}, {"ep": 8}, spread=False) == {"ep": 8}
    assert switched(flags | {"ep": "--ep-size"}, {"ep": 8}, spread=True) == {"ep": 8}
