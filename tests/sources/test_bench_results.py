"""Results of serving benchmarks: what each file tells, in whose words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.errors import InputError
from moeplan.core.record import Figure, Run
from moeplan.core.record_figures import FIGURES
from moeplan.sources.bench_results import read_results
from tests.records.result_files import AIPERF, LLAMA, SGLANG, VLLM, check_two_lines, llama_test, written


def values(figures: tuple[Figure, ...]) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures}


def read(folder: Path, name: str, content: Any) -> tuple[Run, dict[str, float]]:
    runs, figures, _ = read_results([written(folder, name, content)])
    return runs[0], values(figures)


def test_vllm(tmp_path: Path) -> None:
    run, found = read(tmp_path, "result.json", VLLM)
    assert run._replace(sha256="") == Run(
        "vllm bench serve", "result.json", "", "Qwen/Qwen3-30B-A3B", "20261122-101500", 16, None, 198, 2, 100.0, 2000.0, 500.0
    )  # fmt: skip
    assert found == pytest.approx(
        {
            "ttft_mean_s": 0.15, "ttft_p50_s": 0.14, "ttft_p90_s": 0.17, "ttft_p95_s": 0.18, "ttft_p99_s": 0.22,
            "tpot_mean_s": 0.016, "tpot_p50_s": 0.0155, "tpot_p99_s": 0.02, "itl_mean_s": 0.0161, "itl_p50_s": 0.015,
            "itl_p99_s": 0.044, "e2e_mean_s": 8.1, "e2e_p50_s": 8.0, "e2e_p99_s": 9.0, "output_tokens_per_s": 990.0,
            "total_tokens_per_s": 4950.0, "requests_per_s": 1.98, "failed_fraction": 0.01,
        }
    )  # fmt: skip


def test_vllm_of_a_release_that_counts_no_failures(tmp_path: Path) -> None:
    old = {key: value for key, value in VLLM.items() if key != "failed"}
    run, found = read(tmp_path, "result.json", old)
    assert run.failed == 2
    assert found["failed_fraction"] == pytest.approx(0.01)


def test_sglang(tmp_path: Path) -> None:
    run, found = read(tmp_path, "online.jsonl", [SGLANG])
    assert (run.kind, run.model, run.concurrency, run.request_rate_per_s) == ("sglang bench_serving", None, 16, None)
    assert (run.completed, run.failed, run.input_tokens, run.output_tokens) == (160, None, 2000.0, 500.0)
    assert found["e2e_p99_s"] == pytest.approx(8.8)
    assert found["itl_p95_s"] == pytest.approx(0.030)
    assert found["prompt_tokens_per_s"] == 4000
    assert "failed_fraction" not in found


def test_sglang_with_details_and_newer_names(tmp_path: Path) -> None:
    newer = {key: value for key, value in SGLANG.items() if not key.startswith("total_")}
    newer |= {"total_input": 160000, "total_output": 40000, "total_throughput": 5000.0, "errors": ["", "timeout", ""]}
    run, found = read(tmp_path, "online.jsonl", [newer])
    assert (run.input_tokens, run.output_tokens, run.failed) == (1000.0, 250.0, 1)
    assert found["total_tokens_per_s"] == 5000
    assert found["failed_fraction"] == pytest.approx(1 / 161)


def test_aiperf_calls_the_time_per_token_of_a_request_inter_token_latency(tmp_path: Path) -> None:
    run, found = read(tmp_path, "profile_export_aiperf.json", AIPERF)
    assert (run.kind, run.model, run.concurrency, run.completed, run.failed) == (
        "aiperf",
        "openai/gpt-oss-20b",
        100,
        200,
        5,
    )
    assert (run.input_tokens, run.output_tokens, run.duration_s) == (550.0, 96.85, 15.2)
    assert found["tpot_mean_s"] == pytest.approx(0.05176)
    assert not any(name.startswith("itl_") for name in found)
    assert found["ttft_p95_s"] == pytest.approx(4.051)
    assert found["failed_fraction"] == pytest.approx(5 / 205)


def test_genai_perf_has_a_flat_configuration(tmp_path: Path) -> None:
    # triton-inference-server/perf_analyzer genai-perf/tests/test_exporters/test_json_exporter.py
    left_out = (
        "aiperf_version",
        "schema_version",
        "benchmark_duration",
        "request_count",
        "error_summary",
        "was_cancelled",
    )
    older = {key: value for key, value in AIPERF.items() if key not in left_out}
    older["input_config"] = {"model": ["test_model"], "endpoint": None, "concurrency": 8, "request_rate": None}
    run, found = read(tmp_path, "profile_export_genai_perf.json", older)
    assert (run.kind, run.model, run.concurrency, run.completed, run.failed) == (
        "genai-perf",
        "test_model",
        8,
        None,
        None,
    )
    assert found["e2e_p95_s"] == pytest.approx(8.98)


def test_aiperf_believes_its_unit(tmp_path: Path) -> None:
    seconds = AIPERF | {"time_to_first_token": {"unit": "s", "avg": 1.5}}
    assert read(tmp_path, "a.json", seconds)[1]["ttft_mean_s"] == 1.5
    with pytest.raises(InputError, match="fortnights"):
        read(tmp_path, "b.json", AIPERF | {"time_to_first_token": {"unit": "fortnights", "avg": 1.5}})


@pytest.mark.parametrize("name", ["bench.json", "bench.jsonl"])
def test_llama_bench(name: str, tmp_path: Path) -> None:
    runs, figures, _ = read_results([written(tmp_path, name, LLAMA)])
    assert (runs[0].kind, runs[0].model, runs[0].concurrency) == ("llama-bench", "Qwen3-30B-A3B-Q4_K_M.gguf", 1)
    assert (runs[0].input_tokens, runs[0].output_tokens) == (512.0, 128.0)
    found = {figure.name: (figure.value, figure.low, figure.high) for figure in figures}
    assert found["prompt_tokens_per_s"] == (7100.0, 7000.0, 7200.0)
    assert found["output_tokens_per_s"] == (110.0, 100.0, 120.0)
    assert found["tpot_mean_s"][0] == pytest.approx(1 / 110)


def test_repeats_of_one_load_are_a_median_with_least_and_most(tmp_path: Path) -> None:
    repeats = [SGLANG | {"mean_ttft_ms": time} for time in (130.0, 100.0, 190.0)]
    runs, figures, _ = read_results([written(tmp_path, "online.jsonl", repeats)])
    assert len(runs) == 3
    ttft = next(figure for figure in figures if figure.name == "ttft_mean_s")
    assert (ttft.value, ttft.low, ttft.high) == (0.13, 0.1, 0.19)
    # The same from files of one run each.
    files = [written(tmp_path, f"{place}.jsonl", [each]) for place, each in enumerate(repeats)]
    assert [figure[:5] for figure in read_results(files)[1]] == [figure[:5] for figure in figures]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"max_concurrency": 32}, "16 and 32 requests in flight"),
        ({"request_rate": 4.0}, "no bound and 4 requests per second"),
        ({"total_input_tokens": 640000}, "prompts of 2,000 and 4,000 tokens"),
    ],
)
def test_runs_of_other_loads_are_no_repeats(other: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_results([written(tmp_path, "online.jsonl", [SGLANG, SGLANG | other])])
    assert "a record for each" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (VLLM | {"completed": 0}, "no request of this run was answered"),
        (AIPERF | {"was_cancelled": True}, "cancelled"),
        ({"schema": "moeplan.estimate/1"}, "no result of a benchmark"),
        ([], "is empty"),
        ([1, 2], "no result of a benchmark"),
        ("text", "no result of a benchmark"),
        ([*LLAMA, llama_test(0, 256, [90.0])], "several tests of a kind"),
        ([llama_test(512, 128, [90.0])], "several tests of a kind"),
        ([llama_test(0, 128, [0.0])], "no rate above 0"),
        ([llama_test(0, 128, [5e-324])], "`avg_ts` is 5e-324, too small or too large"),
    ],
)
def test_what_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_results([written(tmp_path, "r.json", content)])
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"completed": 1' + b"9" * 5000 + b"}", b"{}\n{"]
)
def test_broken_files_are_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(InputError):
        read_results([path])
    with pytest.raises(InputError):
        read_results([tmp_path / "nowhere.json"])
    with pytest.raises(InputError):
        read_results([tmp_path])


def test_what_says_that_nothing_was_measured_is_left_out_and_told(tmp_path: Path) -> None:
    # What benchmarks write where a backend does not stream: numpy's mean of nothing.
    odd = {
        "mean_ttft_ms": 0.0,
        "mean_tpot_ms": 0,
        "p99_ttft_ms": float("nan"),
        "request_rate": "trace",
        "num_prompts": 9,
    }
    path = written(tmp_path, "r.json", VLLM | odd | {"failed": None, "p50_itl_ms": None, "model_id": 7})
    runs, figures, left_out = read_results([path])
    told = {figure.name for figure in figures}
    assert not told & {"ttft_mean_s", "tpot_mean_s", "ttft_p99_s", "failed_fraction"}
    assert (runs[0].request_rate_per_s, runs[0].failed, runs[0].model) == (None, None, None)
    assert left_out == (
        "r.json: `num_prompts` not taken: 9 are fewer than the 198 that were answered",
        "r.json: `mean_ttft_ms`, `mean_tpot_ms` not taken: 0, as benchmarks write where nothing was measured",
        "r.json: `p99_ttft_ms` not taken: NaN, so nothing was measured",
        "r.json: `model_id` not taken: 7 is no text",
        "r.json: `request_rate` not taken: 'trace' is no number above zero",
    )
    for whole in (VLLM, SGLANG, AIPERF):
        assert read_results([written(tmp_path, "whole.json", whole)]).left_out == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (VLLM | {"p95_ttft_ms": 1}, "`p95_ttft_ms` is 1, below `p90_ttft_ms` with 170"),
        (VLLM | {"p95_ttft_ms": -1}, "`p95_ttft_ms` is -1"),
        (VLLM | {"output_throughput": -3.5}, "`output_throughput` is -3.5"),
        (VLLM | {"mean_ttft_ms": "fast"}, "`mean_ttft_ms` is 'fast'"),
        (VLLM | {"mean_ttft_ms": float("inf")}, "`mean_ttft_ms` is inf"),
        (VLLM | {"mean_ttft_ms": True}, "`mean_ttft_ms` is True"),
        (VLLM | {"output_throughput": 1e-320}, "`output_throughput` is 1e-320, too small or too large"),
        (VLLM | {"median_ttft_ms": 139.0}, "they are one figure"),
        (VLLM | {"failed": -1}, "`failed` is -1"),
        (VLLM | {"completed": 2.5}, "`completed` is 2.5"),
        (VLLM | {"total_input_tokens": "many"}, "`total_input_tokens`"),
        (SGLANG | {"p99_itl_ms": 29.0}, "`p99_itl_ms` is 29, below `p95_itl_ms` with 30"),
        (AIPERF | {"time_to_first_token": {"unit": "ms", "p50": 9, "p99": 8}}, "`time_to_first_token.p99` is 8"),
        (AIPERF | {"time_to_first_token": 3}, "`time_to_first_token` is 3"),
        (AIPERF | {"output_token_throughput": {"avg": "high"}}, "`output_token_throughput.avg` is 'high'"),
        (AIPERF | {"error_summary": [{"count": -2}]}, "`error_summary.count` is -2"),
        (AIPERF | {"error_summary": [7]}, "`error_summary`"),
        ([LLAMA[1] | {"avg_ts": 99.0}], "`avg_ts` is 99, outside of its `samples_ts` from 100 to 120"),
        ([LLAMA[1] | {"samples_ts": [100.0, "x"]}], "`samples_ts` is 'x'"),
        ([LLAMA[1] | {"n_prompt": None}], "`n_prompt`"),
    ],
)
def test_figures_that_cannot_be_are_refused_by_file_and_field(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_results([written(tmp_path, "r.json", content)])
    assert "r.json: " in caught.value.message
    assert told in caught.value.message, caught.value.message
    check_two_lines(caught.value)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["avg", "unit", "p99"]), st.one_of(st.floats(), st.text(max_size=2)), max_size=2),
)  # fmt: skip


@given(st.sampled_from(["vllm", "sglang", "aiperf", "llama"]), st.data())
def test_values_that_are_none_never_crash_and_never_become_figures(which: str, data: st.DataObject) -> None:
    import tempfile

    base: Any = {"vllm": VLLM, "sglang": SGLANG, "aiperf": AIPERF, "llama": LLAMA[1]}[which]
    key = data.draw(st.sampled_from(sorted(base)))
    content = base | {key: data.draw(ODD)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.json"
        path.write_text(json.dumps([content] if which == "llama" else content), encoding="utf-8")
        try:
            runs, figures, _ = read_results([path])
        except InputError as error:
            check_two_lines(error)
            return
    assert len(runs) == 1
    for figure in figures:
        assert figure.name in FIGURES
        assert 0 <= figure.value < float("inf")
