"""A record: it holds what the estimate says and what was measured, its bytes are the same again, and only records are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moeplan
from moeplan.core.errors import InputError
from moeplan.core.record import Record, figure_of
from moeplan.core.record_figures import FIGURES
from moeplan.records.places import name_of, without_folders
from moeplan.records.public import without_secrets
from moeplan.report.as_json import as_json, plain
from moeplan.sources.records import read_record
from tests.records.result_files import SGLANG, VLLM, check_two_lines, written

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LOAD: dict[str, Any] = {"concurrency": 16, "context": "8k", "input": "2k", "output": 500}
DAY: dict[str, Any] = {"date": "2026-11-22"}
ASKED: dict[str, Any] = {"gpu": "2xh100", **DAY, **LOAD}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("record")
    made = moeplan.record(
        "qwen3-30b-a3b",
        **ASKED,
        measured=written(folder, "result.json", VLLM),
        figures=["used_bytes=70GiB"],
        quality=["mmlu=0.712+-0.004", "wikitext_ppl=6.1"],
        quality_how="lm-eval 0.4.9, 5-shot",
        quality_by="A. Person",
        driver="580.65",
        engine_args="--enforce-eager --scheduling-policy priority --api-key sk-abcdefgh12345 --port 8001",
    )
    assert isinstance(made, Record)
    return made


def test_estimates_are_those_of_estimate(full: Record) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "date"}
    found = moeplan.estimate("qwen3-30b-a3b", **asked, engine_args="--enforce-eager")
    worst = found.ranks[0]
    assert found.speed is not None
    told = {figure.name: figure for figure in full.estimates.figures}
    assert told["weights_bytes"].value == worst.weights_bytes
    assert told["headroom_bytes"][1:4] == (worst.free_bytes, worst.free_low_bytes, worst.free_high_bytes)
    assert told["kv_tokens"].value == found.capacity.kv_tokens
    assert (told["ttft_mean_s"].value, told["ttft_mean_s"].low) == (found.speed.ttft.value_s, found.speed.ttft.low_s)
    assert full.workload == found.speed.load
    assert full.estimates.fits is found.verdict.fits is True
    lines = [
        (line.code, line.bytes, line.low_bytes, line.high_bytes, line.basis, line.why.source) for line in worst.lines
    ]
    gpu = [each for each in full.assumptions if each.device == "gpu"]
    assert [(each.code, each.bytes, each.low_bytes, each.high_bytes, each.basis, each.source) for each in gpu] == lines


def test_cost_is_that_of_compare(full: Record) -> None:
    models = ("qwen3-30b-a3b:fp8", "qwen3-30b-a3b")
    compared = moeplan.compare(models, gpu="h100", **LOAD).models[0].cost
    made = moeplan.record("qwen3-30b-a3b", gpu="h100", quant="fp8", date="2026-11-22", **LOAD)
    hourly = figure_of(made.estimates.figures, "usd_per_hour")
    per_million = figure_of(made.estimates.figures, "usd_per_million_output_tokens")
    assert compared is not None
    assert hourly is not None
    assert per_million is not None
    assert (hourly.low, hourly.value, per_million.low, per_million.value) == tuple(compared)
    # 990 tokens per second at 2 x 6.88 USD per hour: 13.76 / (990 x 3600) x 10**6.
    measured = figure_of(full.measured.figures, "usd_per_million_output_tokens")
    assert measured is not None
    assert measured.value == pytest.approx(13.76 / (990 * 3600) * 1e6)


def test_what_was_measured_stands_apart_from_estimates(full: Record) -> None:
    p95 = figure_of(full.measured.figures, "ttft_p95_s")
    assert p95 is not None
    assert (p95.value, p95.basis, p95.source) == (0.18, "measured", "result.json")
    assert figure_of(full.estimates.figures, "ttft_p95_s") is None
    used = figure_of(full.measured.figures, "used_bytes")
    assert used is not None
    assert (used.value, used.basis) == (70 * 2**30, "stated")
    assert [(each.name, each.value, each.spread, each.better, each.how, each.by) for each in full.quality] == [
        ("mmlu", 0.712, 0.004, "higher", "lm-eval 0.4.9, 5-shot", "A. Person"),
        ("wikitext_ppl", 6.1, None, "lower", "lm-eval 0.4.9, 5-shot", "A. Person"),
    ]


def test_settings_stand_as_resolved_and_secrets_nowhere(full: Record) -> None:
    options = {option.flag: (option.value, option.origin) for option in full.engine.options}
    assert options["--enforce-eager"] == (True, "stated")
    assert options["--tensor-parallel-size"] == (2, "inferred")
    assert [tuple(each) for each in full.engine.other_flags] == [("--scheduling-policy", "priority")]
    assert "abcdefgh" not in as_json(full)
    assert (full.software.driver, full.software.torch) == ("580.65", None)


def test_tokens_and_passwords_stand_nowhere_in_a_record() -> None:
    """However an engine is told them: as a value, in JSON, in an address, in a variable, in a name."""
    words = [
        "HF_TOKEN=hf_tokenAAAAAAAA1", "VLLM_API_KEY=tokenAAAAAAAA2", "vllm", "serve", "qwen3-30b-a3b", "--api-key", "tokenAAAAAAAA3",
        "--hf-token=tokenAAAAAAAA4", "--kv-transfer-config",
        '{"kv_connector":"X","kv_connector_extra_config":{"api_key":"tokenAAAAAAAA5","url":"redis://me:tokenAAAAAAAA6@host:1"}}',
        "--otlp-traces-endpoint", "http://me:tokenAAAAAAAA7@host/v1?sig=tokenAAAAAAAA8&x=1", "--unheard-of",
        "Bearer tokenAAAAAAAA9", "--hf-overrides", '{"a":[{"password":"tokenAAAAAAAA10"}]}', "--other-token", "tokenAAAAAAAA11",
    ]  # fmt: skip
    made = moeplan.record(engine_args=words, gpu="2xh100", quality=["m=1"], quality_how="key hf_tokenAAAAAAAA12", **DAY)
    text = as_json(made)
    assert "tokenAAAAAAAA" not in text
    assert "http://***@host/v1?sig=***&x=1" in text
    assert "redis://***@host:1" in text
    # Names and revisions are no secrets.
    assert (
        without_secrets("hf://org/name@main, https://host/a@b:c?tokens=3")
        == "hf://org/name@main, https://host/a@b:c?tokens=3"
    )


def test_places_of_a_machine_are_named_without_folders() -> None:
    for text, told in (
        ("log /home/me/logs/vllm.log (2026)", "log vllm.log (2026)"), ("~/a/b.json: bad", "b.json: bad"),
        (r"C:\Users\me\b.json", "b.json"), ("see https://host/a/b and hf://org/name", "see https://host/a/b and hf://org/name"),
        ("tokens/s, a/b.py", "tokens/s, a/b.py"),
    ):  # fmt: skip
        assert without_folders(text) == told
    assert without_folders("/my models/a b/c.yaml: x", ["/my models/a b/c.yaml"]) == "c.yaml: x"
    assert [name_of(name) for name in ("/data/m/Qwen3", "org/name", None)] == ["Qwen3", "org/name", None]


def test_one_model_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.golden.configs import MIXTRAL

    folder = tmp_path / "diff"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    monkeypatch.chdir(folder)
    named = [moeplan.record(name, **DAY).model.id for name in (folder, ".", "./config.json", "config.json", "../diff")]
    assert named == ["diff"] * 5
    monkeypatch.chdir(tmp_path)
    assert [moeplan.record(name, **DAY).model.id for name in ("diff", "./diff")] == ["diff"] * 2


def test_the_model_of_a_run_is_named_without_its_place(tmp_path: Path) -> None:
    run = written(tmp_path, "r.json", VLLM | {"model_id": "/data/models/Qwen3-30B-A3B"})
    made = moeplan.record("qwen3-30b-a3b", **ASKED, measured=run)
    assert made.measured.runs[0].model == "Qwen3-30B-A3B"
    assert "measured-other-model" not in {note.code for note in made.notes}


@pytest.mark.parametrize("options", [{"engine": "llamacpp", "gpu": "rtx-4090"}, {"gpu": None}, {"gpu": "16xh100"}])
def test_the_load_is_recorded_also_where_no_speed_is_known(options: dict[str, Any]) -> None:
    known, made = (moeplan.record("qwen3-30b-a3b", **ASKED | other) for other in ({}, options))
    assert figure_of(made.estimates.figures, "ttft_mean_s") is None
    assert made.workload == known.workload
    assert made.workload is not None
    assert (made.workload.input_tokens, made.workload.origins["input_tokens"]) == (2000, "stated")
    bare = moeplan.record("qwen3-30b-a3b", gpu="h100", **DAY)
    assert bare.workload is None
    rated = moeplan.record("qwen3-30b-a3b", **DAY, engine="llamacpp", workload=EXAMPLES / "workload.yaml")
    assert rated.workload is not None
    assert len(rated.workload.classes) > 1


def test_bytes_are_the_same_again_and_are_read_back(full: Record, tmp_path: Path) -> None:
    text = as_json(full)
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    assert as_json(read_record(path)) == text
    assert read_record(path) == full


def test_a_record_says_nothing_of_the_machine_that_it_was_made_on(tmp_path: Path) -> None:
    from tests.golden.configs import MIXTRAL

    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")
    load = tmp_path / "load.yaml"
    load.write_text((EXAMPLES / "workload.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    made = moeplan.record(
        folder, gpu="4xh100", workload=load, date="2026-11-22", measured=written(tmp_path, "r.json", VLLM)
    )
    assert str(tmp_path) not in json.dumps(plain(made))
    assert made.request.asked["workload"] == "load.yaml"
    assert made.model.id == "my-model"


def test_the_date_is_stated_or_of_the_epoch_or_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1763769600")  # 2025-11-22T00:00:00Z
    made = moeplan.record("mixtral-8x7b", date="2024-02-29")
    assert (made.date, made.date_origin) == ("2024-02-29", "stated")
    made = moeplan.record("mixtral-8x7b")
    assert (made.date, made.date_origin) == ("2025-11-22", "source-date-epoch")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert moeplan.record("mixtral-8x7b").date_origin == "clock"
    for wrong in ("2026-02-30", "22.11.2026", "2026-11-22T10:00", ""):
        with pytest.raises(InputError):
            moeplan.record("mixtral-8x7b", date=wrong)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError):
        moeplan.record("mixtral-8x7b")


def test_a_run_under_another_load_or_model_is_told(tmp_path: Path) -> None:
    other = VLLM | {"max_concurrency": 32, "model_id": "org/other"}
    made = moeplan.record("qwen3-30b-a3b", **ASKED, measured=written(tmp_path, "r.json", other))
    told = {note.code: note.message for note in made.notes}
    assert told["measured-other-load"] == (
        "the run had 32 requests in flight; the record is of 16 requests in flight, and so are its estimates; "
        "--concurrency 32 makes both the same"
    )
    assert "org/other" in told["measured-other-model"]
    assert "2 requests" in told["measured-failures"]
    bare = moeplan.record("qwen3-30b-a3b", gpu="2xh100", **DAY, measured=written(tmp_path, "b.json", VLLM))
    assert {note.code: note.message for note in bare.notes}["measured-other-load"] == (
        "the run had 16 requests in flight, prompts of 2,000 tokens and answers of 500 tokens; the record is of 1 request in flight "
        "and prompts and answers of no stated length, and so are its estimates; --concurrency 16 --input 2000 --output 500 make "
        "both the same"
    )
    same = moeplan.record("qwen3-30b-a3b", **ASKED, measured=written(tmp_path, "s.json", VLLM))
    assert not {"measured-other-load", "measured-other-model"} & {note.code for note in same.notes}


def test_a_figure_told_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ttft_p95_s"):
        moeplan.record("qwen3-30b-a3b", measured=written(tmp_path, "r.json", VLLM), figures=["ttft_p95=180ms"])


def test_an_engine_log_tells_its_version_and_memory(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "INFO 10-01 10:00:00 [api_server.py:1896] vLLM API server version 0.11.0\n"
        "INFO 10-01 10:01:00 [gpu_model_runner.py:2653] Model loading took 56.9344 GiB and 24.1 seconds\n"
        "INFO 10-01 10:02:00 [gpu_worker.py:298] Available KV cache memory: 12.34 GiB\n"
        "INFO 10-01 10:02:01 [kv_cache_utils.py:1087] GPU KV cache size: 134,752 tokens\n",
        encoding="utf-8",
    )
    made = moeplan.record("qwen3-30b-a3b", gpu="h100", log=log, date="2026-11-22")
    assert (made.engine.version, made.engine.version_origin) == ("0.11.0", "log")
    told = {figure.name: figure.value for figure in made.measured.figures}
    assert told["weights_bytes"] == pytest.approx(56.9344 * 2**30, rel=1e-4)
    assert told["kv_tokens"] == 134752
    assert told["kv_pool_bytes"] == pytest.approx(12.34 * 2**30, rel=1e-3)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (["ttft_p95"], "no NAME=VALUE"),
        (["=1"], "no NAME=VALUE"),
        (["ttft_p96=1s"], "no such figure"),
        (["ttft_p95=fast"], "no duration|not a duration"),
        (["ttft_p95=-1s"], "duration"),
        (["used_bytes=many"], "not a size"),
        (["output_tokens_per_s=nan"], "not a number"),
        (["ttft_p95=1s", "ttft_p95_s=2s"], "given twice"),
        ({"ttft_p95_s": float("inf")}, "not a figure"),
        ({"ttft_p95_s": True}, "not a figure"),
        (["failed=101%"], "more than all"),
        ({"failed_fraction": 2}, "more than all"),
        (["ttft_p95=180"], "has no unit"),
        (["used=70"], "has no unit"),
        ({"ttft_p95": 0.18}, "has no unit"),
        ({"ttft_p95_s": 0}, "no time"),
        ({"kv_tokens": 1.5}, "whole number"),
        (["output_tokens_per_s=1e-320"], "not a number"),
        (["ttft_p50=300ms", "ttft_p95=180ms"], r"ttft_p95_s 180 ms \(given by hand\) is below ttft_p50_s 300 ms"),
    ],
)
def test_figures_by_hand_are_strict(figures: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        moeplan.record("mixtral-8x7b", figures=figures)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("ttft_p95=180", "--set ttft_p95=180ms or --set ttft_p95=0.18s"),
        ("ttft_p95=1.5", "--set ttft_p95=1.5s or --set ttft_p95=1500ms"),
        ("used=70", "--set used=70GiB or --set used_bytes=70"),
    ],
)
def test_a_figure_without_a_unit_is_asked_back_in_both(text: str, way_out: str) -> None:
    with pytest.raises(InputError) as caught:
        moeplan.record("mixtral-8x7b", figures=[text])
    assert way_out in caught.value.hint
    for way in way_out.replace("--set ", "").split(" or "):
        assert moeplan.record("mixtral-8x7b", figures=[way], **DAY).measured.figures


def test_figures_by_hand_take_units_and_leave_them_out() -> None:
    figures = ["ttft_p95=180ms", "tpot_p95_s=0.02", "failed=2%", "used=1GiB", "weights_bytes=1000"]
    made = moeplan.record("mixtral-8x7b", figures=figures, date="2026-11-22")
    assert {each.name: each.value for each in made.measured.figures} == {
        "ttft_p95_s": pytest.approx(0.18), "tpot_p95_s": 0.02, "failed_fraction": 0.02, "used_bytes": 2**30, "weights_bytes": 1000,
    }  # fmt: skip


def test_percentiles_by_hand_and_of_a_file_are_in_order(tmp_path: Path) -> None:
    some = {key: value for key, value in VLLM.items() if key != "p95_ttft_ms"}
    path = written(tmp_path, "r.json", some)
    with pytest.raises(InputError, match=r"ttft_p95_s 100 ms \(given by hand\) is below ttft_p90_s 170 ms \(r.json\)"):
        moeplan.record("qwen3-30b-a3b", **ASKED, measured=path, figures=["ttft_p95=100ms"])
    made = moeplan.record("qwen3-30b-a3b", **ASKED, measured=path, figures=["ttft_p95=180ms"])
    assert figure_of(made.measured.figures, "ttft_p95_s") is not None


def test_what_is_not_taken_of_a_result_is_a_note(tmp_path: Path) -> None:
    path = written(tmp_path, "r.json", VLLM | {"mean_ttft_ms": float("nan")})
    made = moeplan.record("qwen3-30b-a3b", **ASKED, measured=path)
    told = [note.message for note in made.notes if note.code == "measured-not-taken"]
    assert told == ["r.json: `mean_ttft_ms` not taken: NaN, so nothing was measured"]


@pytest.mark.parametrize("text", ["mmlu", "mmlu=high", "mmlu=0.7:best", "mmlu=0.7+-x", "mmlu=nan", "=0.7", "mmlu=0.7:"])
def test_scores_are_strict(text: str) -> None:
    with pytest.raises(InputError):
        moeplan.record("mixtral-8x7b", quality=[text])
    with pytest.raises(InputError):
        moeplan.record("mixtral-8x7b", quality=["mmlu=0.7", "mmlu=0.8"])


def test_a_score_has_its_direction_stated_or_as_its_name_usually_has() -> None:
    made = moeplan.record("mixtral-8x7b", quality=["a=71.2%±0.4%:higher", "ppl=6.1", "own=-3:lower"])
    found = {each.name: (each.value, each.spread, each.unit, each.better, each.better_origin) for each in made.quality}
    assert found == {
        "a": (71.2, 0.4, "%", "higher", "stated"),
        "ppl": (6.1, None, None, "lower", "default"),
        "own": (-3.0, None, None, "lower", "stated"),
    }
    assert "ppl lower" in next(note.message for note in made.notes if note.code == "quality-direction")


# Reading ----------------------------------------------------------------------------------------------------


def test_other_files_are_refused_by_name(tmp_path: Path, full: Record) -> None:
    path = tmp_path / "other.json"
    text = as_json(full)
    for content, told in (
        (as_json(moeplan.estimate("mixtral-8x7b")), "moeplan.estimate/1"),
        (json.dumps(VLLM), "has no `schema`"),
        (text.replace('"moeplan.record/1"', '"moeplan.record/2"'), "this moeplan reads moeplan.record/1"),
        (text.replace('"date": "2026-11-22"', '"date": "2026-13-22"'), "`date`"),
        (text.replace('"ttft_mean_s"', '"ttft_mean"', 1), "no figure that moeplan knows"),
        (text.replace('"value": 0.01,', '"value": 1.5,', 1), "failed_fraction above 1"),
        (text.replace('"value": 0.18,', '"value": 0.018,', 1), "ttft_p95_s below ttft_p90_s"),
        (text.replace('"fits": true', '"fits": true, "fits": true', 1), "given twice"),
        (text.replace('"fits": true', '"fits": 1', 1), "estimates.fits"),
        (text.replace('"tp": 2', '"tp": 0', 1), "degree below 1"),
        (text.replace('"fits": true,', "", 1), "`estimates.fits` is missing"),
        (text.replace('"fits": true', '"fitz": 1, "fits": true', 1), "`estimates.fitz` is not a known key"),
        ("[1]", "not an object"),
        ("", "not valid JSON"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError) as caught:
            read_record(path)
        assert told in caught.value.message, caught.value.message
        assert caught.value.hint
        assert "\n" not in caught.value.message
    for missing in (tmp_path / "none.json", tmp_path, ""):
        with pytest.raises(InputError):
            read_record(missing)


@given(st.data())
def test_cut_and_changed_records_never_crash(
    full: Record, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = as_json(full).encode()
    path = tmp_path_factory.getbasetemp() / "changed-record.json"
    place = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        changed = text[:place]
    else:
        changed = (
            text[:place] + data.draw(st.binary(min_size=0, max_size=4)) + text[place + data.draw(st.integers(0, 4)) :]
        )
    path.write_bytes(changed)
    _read_and_compare(path, full)


ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6), st.just([]), st.just({})
)


@given(st.data())
def test_records_with_a_value_of_another_kind_never_crash(
    full: Record, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = json.loads(as_json(full))
    place: Any = changed
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        below = place[key]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            break
        place = below
    if data.draw(st.booleans()):
        place[key] = data.draw(ODD)
    else:
        del place[key]
    path = tmp_path_factory.getbasetemp() / "odd-record.json"
    path.write_text(json.dumps(changed), encoding="utf-8")
    _read_and_compare(path, full)


def _read_and_compare(path: Path, full: Record) -> None:
    """Refused in two lines, or a record that every report can show and that can be held against another."""
    from moeplan.report.record_diff_table import record_diff_table
    from moeplan.report.record_table import record_table

    try:
        found = read_record(path)
    except InputError as error:
        check_two_lines(error)
        return
    assert all(figure.name in FIGURES for figure in found.measured.figures)
    record_table(found, width=80, color=False, unicode=True)
    for pair in ((found, full), (full, found)):
        record_diff_table(moeplan.record_diff(*pair), width=80, color=False, unicode=True)


def test_sglang_has_records_too(tmp_path: Path) -> None:
    made = moeplan.record("qwen3-30b-a3b", engine="sglang", **ASKED, measured=written(tmp_path, "r.jsonl", [SGLANG]))
    assert made.engine.name == "sglang"
    assert made.measured.runs[0].kind == "sglang bench_serving"
