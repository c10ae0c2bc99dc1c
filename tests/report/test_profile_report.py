"""A profile as JSON, table and Markdown: the schema describes it, tables stay within their width, units are the field's."""

from __future__ import annotations

import json

import pytest

from moeplan.core.measurement import MeasuredDevice
from moeplan.core.model import Remark
from moeplan.profile import result
from moeplan.profile.result import Against, Change, Figure, KernelFit, Problem, Profile, Timed
from moeplan.report.amounts import amount
from moeplan.report.as_json import as_json
from moeplan.report.profile_html import profile_html
from moeplan.report.profile_markdown import profile_markdown
from moeplan.report.profile_table import profile_table
from moeplan.report.profile_words import outcome_words
from tests.report.read_pages import read
from tests.report.schemas import Schema, changed, without

SCHEMA = Schema("profile")
FOUND = Profile(
    schema=result.SCHEMA,
    device=MeasuredDevice(
        "cuda",
        "A GPU",
        "2.11.0",
        "13.0",
        "580.1",
        "9.0",
        150 * 2**30,
        149 * 2**30,
        2**26,
        132,
        1980,
        3201,
        700.0,
        2**40,
        None,
    ),
    effort="full",
    seed=0,
    date="2026-11-25",
    time="12:34:56Z",
    tool="moeplan 0",
    rank=0,
    complete=True,
    num_points=1234,
    num_taken=0,
    figures=(
        Figure(
            "copy_bytes_per_s",
            "memory, copy",
            "bytes/s",
            4.1e12,
            4.0e12,
            4.2e12,
            "torch.copy_, float32, bytes 1",
            4.8e12,
        ),
        Figure(
            "matmul_bfloat16_flops_per_s",
            "matmul, bfloat16",
            "flop/s",
            7.1e14,
            7.0e14,
            7.2e14,
            "torch.matmul, m 8192",
            9.9e14,
        ),
        Figure("layer_fixed_s", "fixed time of a layer", "s", 21e-6, 20e-6, 22e-6, "torch.graph, tokens 1"),
        Figure("context_bytes", "context and libraries", "bytes", 5e8, 5e8, 5e8, "torch, one process"),
    ),
    kernels=(KernelFit("torch.grouped_mm", "bfloat16", 4e12, 7e14, {"fixed_s": 2e-5}, 40, 160, 0.051, 0.31, 0.991),),
    problems=(
        Problem("experts", "vllm.fused_moe", "tokens 1", "vllm is not installed", "bfloat16"),
        Problem("memory", "vllm.fused_moe", "tokens 64", "vllm is not installed", "bfloat16"),
        Problem("experts", "torch.scaled", "tokens 1", "needs another device", "bfloat16", "device"),
        Problem("experts", "torch.other", "tokens 1", "needs another device", "bfloat16", "device"),
        Problem("experts", "loop", "tokens 1", "does not take it", "float8_e4m3fn", "dtype"),
    ),
    profile="a-gpu",
    path="/x/a-gpu.yaml",
    points_path="/x/a-gpu.points.json.gz",
    against=Against("older", "2026-11-01", "01:02:03Z", "moeplan 0", "2.9.0", "570.1", 1, 2),
    changes=(
        Change(
            "copy_bytes_per_s",
            "memory, copy",
            "bytes/s",
            4e12,
            4.1e12,
            0.025,
            beyond_noise=True,
            band_fraction=None,
            same_case=True,
        ),
        Change(
            "layer_fixed_s",
            "fixed time",
            "s",
            2e-5,
            2.1e-5,
            0.05,
            beyond_noise=False,
            band_fraction=None,
            same_case=True,
        ),
        Change(
            "context_bytes", "context", "bytes", 5e8, 5e8, 0.0, beyond_noise=False, band_fraction=0.01, same_case=False
        ),
    ),
    notes=(Remark("measured", "warning", "others use this device"),),
    timed=(
        Timed("matmul", "torch.matmul", "bfloat16", "n 4096, k 4096", 1, None, 9e-6, 8e-6, 1e-5, 3.7e12, 3.7e12),
        Timed("matmul", "torch.matmul", "bfloat16", "n 4096, k 4096", 4096, None, 2e-4, 1.9e-4, 2.1e-4, 6.9e14, 5e11),
        Timed(
            "experts", "torch.grouped_mm", "bfloat16", "olmoe, uniform", 1, 8.0, 3e-5, 2.9e-5, 3.2e-5, 3.3e12, 3.3e12
        ),
        Timed(
            "experts", "torch.grouped_mm", "bfloat16", "olmoe, uniform", 64, 63.7, 2e-4, 1.9e-4, 2.2e-4, 3.2e13, 4e12
        ),
        Timed("experts", "loop", "bfloat16", "olmoe, uniform", 64, 63.7, 3e-3, 2.9e-3, 3.2e-3, 2.1e12, 2.7e11),
        Timed(
            "experts", "torch.grouped_mm", "bfloat16", "olmoe, zipf:1", 64, 40.0, 1.5e-4, 1.4e-4, 1.6e-4, 4.3e13, 3.4e12
        ),
    ),
)


def test_the_schema_describes_the_answer() -> None:
    assert SCHEMA.complaints(as_json(FOUND)) == []
    for path, record in (
        ((), result.Profile),
        (("device",), MeasuredDevice),
        (("figures", "*"), result.Figure),
        (("kernels", "*"), result.KernelFit),
        (("problems", "*"), result.Problem),
        (("against",), result.Against),
        (("changes", "*"), result.Change),
        (("timed", "*"), result.Timed),
    ):
        SCHEMA.must_describe(path, record)


def test_the_schema_refuses_what_is_not_so() -> None:
    text = as_json(FOUND)
    assert SCHEMA.complaints(without(text, "device"))
    assert SCHEMA.complaints(changed(text, ("surprise",), 1))
    assert SCHEMA.complaints(changed(text, ("figures", 0, "unit"), "GB"))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_tables_stay_within_their_width(width: int) -> None:
    text = profile_table(FOUND, width=width, color=False, unicode=True)
    assert max(map(len, text.splitlines())) <= width
    assert "4,100.0 GB/s" in text


def test_what_the_table_says() -> None:
    text = profile_table(FOUND, width=120, color=False, unicode=False)
    assert text.isascii()
    assert "MEASURED: 1,231 cases, 2 of them without a figure (1 reason), effort full, seed 0" in text
    assert "710.00 TFLOP/s" in text
    assert "vllm.fused_moe (experts, memory, 2 cases): vllm is not installed" in text
    assert "5.1%" in text
    assert "0.991" in text
    assert "compared with older of 2026-11-01 01:02:03Z (moeplan 0, torch 2.9.0, driver 570.1)" in text
    assert "+2.5%" in text
    assert "fixed time  " not in text  # unchanged: counted, not listed
    counted = "2 unchanged, within the spreads of both runs; no spread is known of context, and 1% to each side"
    assert counted in " ".join(text.split())
    assert "of another case" not in text  # of what is unchanged nobody asks
    assert FOUND.changes is not None
    other = FOUND._replace(changes=(FOUND.changes[0]._replace(same_case=False),))
    told = " ".join(profile_table(other, width=120, color=False, unicode=False).split())
    assert "of another case than then, so no plain change: memory, copy" in told
    assert "not on this device: torch.scaled, torch.other\n" in text
    assert "not in float8_e4m3fn: loop\n" in text
    assert "--gpu a-gpu uses it" in text
    assert "others use this device" in text


def test_markdown_has_the_same_tables() -> None:
    text = profile_markdown(FOUND)
    assert "| memory, copy | 4,100.0 GB/s | 4,000.0 GB/s to 4,200.0 GB/s | torch.copy\\_ |" in text
    assert "**Warning:** others use this device" in text


def test_an_interrupted_run_says_how_to_go_on() -> None:
    assert outcome_words(FOUND._replace(complete=False)).startswith("INTERRUPTED after 1,231 cases")
    nothing = FOUND._replace(complete=False, num_points=0, problems=(), points_path=None)
    assert outcome_words(nothing) == "INTERRUPTED before the first case was measured: nothing is kept"
    earlier = FOUND._replace(num_taken=1229)
    assert outcome_words(earlier).startswith("MEASURED EARLIER: 1,231 cases")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (1.5e9, "bytes/s", "1.5 GB/s"),
        (2e12, "flop/s", "2.00 TFLOP/s"),
        (2**30, "bytes", "1.00 GiB"),
        (1e-6, "s", "1.0 µs"),
    ],
)
def test_amounts(value: float, unit: str, words: str) -> None:
    assert amount(value, unit) == words


def test_the_page_has_figures_beside_the_specification_and_every_timed_product() -> None:
    page = read(profile_html(FOUND))
    assert page.told == json.loads(as_json(FOUND))
    assert [row[0] for row in page.tables["All figures"]] == [figure.label for figure in FOUND.figures]
    assert page.tables["All figures"][0][3] == "4,800.0 GB/s"
    assert "Most of that reaches memory, copy: 85% of 4,800.0 GB/s; least matmul, bfloat16: 72%" in page.words
    assert page.charts["Measured beside the specification"] == [
        "memory, copy: 4,100.0 GB/s, 85% of 4,800.0 GB/s",
        "matmul, bfloat16: 710.00 TFLOP/s, 72% of 990.00 TFLOP/s",
    ]
    assert len(page.charts["Timed products under the roofs of this device"]) == len(FOUND.timed)
    latency = next(marks for title, marks in page.charts.items() if title.startswith("Seconds of the routed experts"))
    assert len(latency) == 3  # even routing alone
    assert all("olmoe, uniform" in mark for mark in latency)


def test_a_page_without_what_charts_need_has_the_rest() -> None:
    bare = FOUND._replace(
        figures=tuple(figure._replace(nominal=None) for figure in FOUND.figures), timed=(), kernels=(), against=None,
        changes=None, problems=(), notes=(), complete=False,
    )  # fmt: skip
    page = read(profile_html(bare))
    assert page.charts == {}
    assert "INTERRUPTED" in page.words
    assert len(page.tables["All figures"]) == len(bare.figures)
    assert read(profile_html(bare._replace(figures=()))).tables == {}
