"""Makefiles: variables of make, recipes, and targets as names."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.kinds.makefile import read_text, recognises_text
from moeplan.sources.deployments.stream import Found, Stream
from tests.sources.deployments.reading import line, lines_of, named, only

MAKEFILE = """\
MODEL ?= org/M   # which one
TP = 2
TP := 4
FLAGS = --max-model-len 8192
FLAGS += --tensor-parallel-size $(TP)

.PHONY: serve
serve: build
\t@echo starting $@
\t@vllm serve $(MODEL) $(FLAGS) \\
\t  --port $$PORT

other:
\t-CUDA_VISIBLE_DEVICES=0 llama-server -m ${MODEL}.gguf -c $(shell nproc)
"""


def read(text: str, **variables: str) -> Found:
    outer = {name: Quote(value, Spot(99)) for name, value in variables.items()}
    return read_text("Makefile", text, Stream("Makefile", (), variables=outer))


def test_recipes_are_read_with_the_variables_of_make() -> None:
    found = named(read(MAKEFILE))
    serve = found["serve"]
    assert (serve.kind, serve.engine) == ("makefile", "vllm")
    assert line(serve.command) == "vllm serve org/M --max-model-len 8192 --tensor-parallel-size 4 --port $PORT"
    assert lines_of(serve.command, "org/M", "8192", "--port") == [10, 10, 11]
    assert not serve.command[-1].known
    assert found["other"].device_ids == ("0",)
    assert found["other"].command[-1].unknown


def test_the_environment_counts_before_a_question_mark() -> None:
    assert line(named(read(MAKEFILE, MODEL="org/N", TP="8"))["serve"].command).startswith(
        "vllm serve org/N --max-model-len 8192 --tensor-parallel-size 4"
    )


def test_variables_that_hold_each_other_end() -> None:
    deployed = only(read("A = $(B)\nB = $(A)\nx:\n\tvllm serve $(A)\n"))
    assert not deployed.command[-1].known


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("Makefile", "x:\n\tvllm serve m", True),
        ("sub/serve.mk", "x:\n\tvllm serve m", True),
        ("makefile.inc", "x:\n\tvllm serve m", True),
        ("Makefile", "x:\n\tcc a.c", False),
        ("make.txt", "x:\n\tvllm serve m", False),
    ],
)
def test_which_files_are_one(name: str, text: str, is_one: bool) -> None:
    assert recognises_text(name, text) is is_one
