"""Result files of serving benchmarks, recognised by what is in them.

content       the objects of a file, whole or by line
found         its fields, read strictly; what is left out is told
serving       `vllm bench serve --save-result` and SGLang's `bench_serving --output-file`
aiperf        AIPerf and GenAI-Perf
llama_bench   `llama-bench -o json` and `-o jsonl`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.record import Figure, Run
from moeplan.sources.bench_results import aiperf, llama_bench, serving
from moeplan.sources.bench_results.content import read_content
from moeplan.sources.bench_results.found import Found
from moeplan.sources.bench_results.repeats import together

__all__ = ["Found", "Results", "read_results"]

_READERS = (llama_bench, aiperf, serving)


class Results(NamedTuple):
    """What result files hold."""

    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    left_out: tuple[str, ...]
    """What was not taken and why, a sentence for each file and reason."""


def read_results(paths: list[Path]) -> Results:
    """Runs and figures of result files. Several runs of one load are repeats: a figure is their median, with least and most.

    Raises InputError for a file that cannot be read, that no known benchmark wrote, in which no request was answered, that holds
    a figure that cannot be, and for runs of several loads.
    """
    found: list[Found] = []
    for path in paths:
        content = read_content(path)
        reader = next((each for each in _READERS if each.is_mine(content.objects)), None)
        if reader is None:
            raise InputError(
                f"{path} is no result of a benchmark that moeplan knows",
                hint="read are files of `vllm bench serve --save-result`, SGLang's bench_serving --output-file, AIPerf, GenAI-Perf "
                "and llama-bench -o json; --set NAME=VALUE takes figures of others",
            )
        found += reader.read(content)
    return Results(tuple(each.run for each in found), together(found), tuple(_left_out(found)))


def _left_out(found: list[Found]) -> Iterator[str]:
    fields: dict[tuple[str, str], list[str]] = {}
    for each in found:
        for field, why in each.left_out:
            fields.setdefault((each.run.file, why), []).append(field)
    for (file, why), names in fields.items():
        yield f"{file}: {', '.join(f'`{name}`' for name in dict.fromkeys(names))} not taken: {why}"
