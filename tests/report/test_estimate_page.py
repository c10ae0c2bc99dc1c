"""The page of an estimate, read by a parser: what it says of what does not fit, of limits, of layers, and of what nobody knows."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import moeplan
from moeplan.core.units import gib
from moeplan.estimate.result import Estimate
from moeplan.report.as_json import as_json
from moeplan.report.estimate_html import estimate_html
from moeplan.report.estimate_markdown import estimate_markdown
from tests.pages.routing_counts import EXPERTS, LAYERS, counts_file
from tests.report.read_pages import read

LOAD = {"concurrency": 64, "context": "8k", "input": "2k", "output": "500", "ttft": "2s", "tpot": "40ms"}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "no GPU": ("mixtral-8x7b", {}),
    "memory not known": ("deepseek-v3", {"gpu": "cpu-12ch-ddr5-6000", "concurrency": 4}),
    "no room for one": ("mixtral-8x7b", {"gpu": "h100-sxm", **LOAD}),
    "a limit missed": ("gpt-oss-120b", {"gpu": "2xh100-sxm", "tp": 2, **LOAD, "tpot": "1ms"}),
    "a dense model": ("llama-3.1-70b-instruct-fp8", {"gpu": "2xh100-sxm", "tp": 2, **LOAD}),
    "an encoder": ("nllb-moe-54b", {"gpu": "h100-sxm", "engine": "transformers", "encoder_tokens": 512}),
    "stages that differ": ("deepseek-v3", {"gpu": "16xh100-sxm", "tp": 8, "pp": 2, "nodes": 2, "pp_layers": [30, 31], "context": "4k"}),
    "weights in host memory": ("gpt-oss-120b", {"gpu": "rtx-4090", "engine": "llamacpp", "engine_args": ["--n-cpu-moe", "30"]}),
}  # fmt: skip
FIGURES = re.compile(r"\d[\d,]*(?:\.\d+)?(?: (?:GiB|MiB|KiB|ms|s|B)\b|%)?")


@cache
def answer(name: str) -> Estimate:
    model, asked = QUESTIONS[name]
    return moeplan.estimate(model, offline=True, **asked)


@cache
def page(name: str) -> str:
    return estimate_html(answer(name))


def spoken(markup: str) -> str:
    """All that is read, with a blank between cells."""
    bare = re.sub(r"<(script|style|svg).*?</\1>", " ", markup, flags=re.DOTALL)
    return re.sub(r"&#\w+;", " ", re.sub(r"<[^>]*>", " ", bare))


def state(markup: str) -> str:
    found = re.search(r'class="headline (\w+)"', markup)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_figure_of_the_markdown_stands_on_the_page(name: str) -> None:
    assert read(page(name)).told == json.loads(as_json(answer(name)))
    told = set(FIGURES.findall(estimate_markdown(answer(name))))
    assert len(told) > 15
    assert told <= set(FIGURES.findall(spoken(page(name))))


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "a dense model"])
def test_what_active_parameters_would_give_is_refuted_with_and_without_a_gpu(name: str) -> None:
    assert "Not so: " in read(page(name)).words


def test_who_named_a_device_is_not_told_to_name_one() -> None:
    assert "name one with --gpu" in read(page("no GPU")).words
    assert "name one with --gpu" not in read(page("memory not known")).words
    assert "how much memory the device has" in read(page("memory not known")).words


def test_a_missed_limit_stands_below_the_verdict_and_takes_its_green() -> None:
    missed = answer("a limit missed")
    assert missed.verdict.fits
    (told,) = (note.message for note in missed.notes if note.code == "limit-missed")
    assert f"MISSED: {told}" in read(page("a limit missed")).words
    assert state(page("a limit missed")) == "open"
    kept = missed._replace(notes=tuple(note for note in missed.notes if note.code != "limit-missed"))
    sure = kept._replace(verdict=kept.verdict._replace(certain=True))
    assert state(estimate_html(sure)) == "good"
    assert "MISSED: " not in read(estimate_html(sure)).words
    # Guesses decide: the words say so, and the colour is not that of a verdict.
    unsure = estimate_html(sure._replace(verdict=sure.verdict._replace(certain=False)))
    assert state(unsure) == "open"
    assert "FITS, PROBABLY" in read(unsure).words
    assert state(page("no room for one")) == "bad"


FRONTIER = "The frontier: each GPU against each user"


def test_one_point_is_no_frontier_and_what_has_no_room_is_not_said_to_fit() -> None:
    found = answer("no room for one")
    assert found.speed is not None
    assert len(found.speed.over_concurrency) == 1
    assert FRONTIER not in read(page("no room for one")).charts
    two = found.speed.over_concurrency[0]._replace(concurrency=128)
    many = found._replace(speed=found.speed._replace(over_concurrency=(*found.speed.over_concurrency, two)))
    made = estimate_html(many)
    assert len(read(made).charts[FRONTIER]) == 3  # two points and the limit
    assert "there is room for none of them" in read(made).words
    assert "of what fits" not in read(made).words
    assert "asked, no room" in made
    assert "there is room" not in legends(made)
    unknown = tuple(each._replace(fits=None) for each in many.speed.over_concurrency) if many.speed else ()
    made = estimate_html(many._replace(speed=found.speed._replace(over_concurrency=unknown)))
    assert "whether there is room is not known" in read(made).words
    assert "of what fits" not in read(made).words


def legends(markup: str) -> list[str]:
    return re.findall(r'class="mark-text role-legend-label".*?>([^<]+)</text>', markup)


def test_layers_are_the_models_own_and_the_skew_has_two_digits(tmp_path: Path) -> None:
    counts = counts_file(tmp_path)
    found = moeplan.estimate("deepseek-v3", gpu="8xh200-sxm", tp=8, concurrency=64, routing=counts, offline=True)
    made = read(estimate_html(found))
    marks = made.charts["How often each expert is chosen"]
    # The first three layers of DeepSeek-V3 are dense.
    assert [mark.partition(":")[0] for mark in marks] == [f"layer {3 + place}" for place in range(LAYERS)]
    assert [each["layer"] for each in made.told["curves"]["loads"]] == list(range(3, 3 + LAYERS))
    busiest = made.told["curves"]["loads"][1]["loads"]
    assert marks[1] == f"layer 4: expert {busiest.index(max(busiest))} has most, {max(busiest):.2f} times the mean"
    assert len(busiest) == EXPERTS
    exponent = made.told["speed"]["skew"]["exponent"]
    assert len(str(exponent)) > 5
    assert f"router skew {exponent:.2f} (measured)" in made.words
    assert str(exponent) not in made.words


def test_a_stated_skew_is_told_as_it_was_stated() -> None:
    found = moeplan.estimate("mixtral-8x7b", gpu="2xh100-sxm", tp=2, concurrency=4, skew=0.625, offline=True)
    assert "router skew 0.625 (stated)" in read(estimate_html(found)).words


def test_roofs_are_named_with_their_rates_and_where_memory_stops_bounding() -> None:
    found = answer("a dense model")
    assert found.curves is not None
    assert found.curves.roofline is not None
    # H100 SXM: 989 and 1,979 Tflop/s over 3.35 TB/s.
    made = page("a dense model")
    assert "From 295 (bf16) and 591 (fp8) on" in read(made).words
    assert re.findall(r">((?:bf16|fp8): [\d,]+ Tflop/s)<", made) == ["bf16: 989 Tflop/s", "fp8: 1,979 Tflop/s"]


def test_settings_that_nobody_stated_have_what_was_taken() -> None:
    rows = {row[0]: row[1:] for row in read(page("no room for one")).tables["The question, as it was read"]}
    assert rows["quant"] == ["as stored", "inferred"]
    assert rows["kv dtype"] == ["bfloat16", "inferred"]
    assert rows["dtype"] == ["as stated", "stated"]
    assert not any("–" in cell for row in rows.values() for cell in row)


def test_the_host_of_weights_has_its_band() -> None:
    host = next(rank for rank in answer("weights in host memory").ranks if rank.device == "host")
    ends = [gib(sum(getattr(line, end) for line in host.lines)) for end in ("low_bytes", "bytes", "high_bytes")]
    assert (
        f"of {ends[1]} (between {ends[0]} and {ends[2]}) that are needed there"
        in read(page("weights in host memory")).words
    )
