"""`moeplan routing` as a user sees it: every width, colours, ASCII, Markdown, CSV, JSON held to its schemas, golden outputs, errors.

To write the golden files anew after a wanted change: `UPDATE_GOLDEN=1 python -m pytest tests/routing/test_routing_output.py`,
and read the difference before you commit it.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import moeplan
from moeplan import cli
from moeplan.core.model import Remark
from moeplan.core.routing_fit import Growth
from moeplan.core.routing_metrics import DeadExperts
from moeplan.core.routing_profile import LayerRouting, Provenance, RoutingProfile
from moeplan.report.as_json import as_json
from moeplan.report.routing_captured_markdown import routing_captured_markdown
from moeplan.report.routing_captured_table import routing_captured_table
from moeplan.report.routing_drift_markdown import routing_drift_markdown
from moeplan.report.routing_drift_table import routing_drift_table
from moeplan.report.routing_placement_markdown import routing_placement_markdown
from moeplan.report.routing_placement_table import routing_placement_table
from moeplan.report.routing_report_csv import routing_report_csv
from moeplan.report.routing_report_markdown import routing_report_markdown
from moeplan.report.routing_report_table import routing_report_table
from moeplan.report.routing_written_markdown import routing_written_markdown
from moeplan.report.routing_written_table import routing_written_table
from moeplan.routing import result, spare_result
from moeplan.sources.routing_files import write_counts
from tests.report.schemas import Schema, changed, without
from tests.routing.synthetic import EXAMPLES, MODEL

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parent / "golden"
CAPTURE, FP8 = "examples/routing/synthetic.jsonl", "examples/routing/synthetic-fp8.jsonl"
PROFILE, LATER = "examples/routing/synthetic.yaml", "examples/routing/synthetic-later.yaml"
PLACE = ["place", PROFILE, "--ranks", "8", "--redundant", "8", "--live", LATER]
LAW = [
    "place", "--model", "deepseek-v3", "--skew", "0.65", "--ranks", "32", "--gpu", "h200", "--concurrency", "2048", "--input", "2000",
    "--output", "500", "--context", "4000", "--offline",
]  # fmt: skip

OUTPUTS: dict[str, tuple[list[str], dict[str, str], int]] = {
    "report-pipe.txt": (["report", CAPTURE], {}, 0),
    "report-80-columns.txt": (["report", CAPTURE], {"COLUMNS": "80"}, 0),
    "report-40-columns.txt": (["report", CAPTURE, "--layer", "5-6"], {"COLUMNS": "40"}, 0),
    "report-decode.txt": (["report", CAPTURE, "--phase", "decode"], {"COLUMNS": "80"}, 0),
    "report.md": (["report", CAPTURE, "--format", "markdown"], {}, 0),
    "report.csv": (["report", CAPTURE, "--format", "csv"], {}, 0),
    "drift-captures.txt": (["drift", CAPTURE, FP8, "--phase", "prefill"], {"COLUMNS": "80"}, 0),
    "drift-beyond.txt": (["drift", PROFILE, LATER, "--bound", "0.1"], {}, 1),
    "drift-untold.txt": (["drift", CAPTURE, PROFILE, "--bound", "0.05"], {"COLUMNS": "60"}, 3),
    "drift.md": (["drift", PROFILE, LATER, "--format", "markdown"], {}, 0),
    "place-live.txt": (PLACE, {}, 0),
    "place-40-columns.txt": (["place", PROFILE, "--ranks", "8"], {"COLUMNS": "40"}, 0),
    "place.md": ([*PLACE, "--format", "markdown"], {}, 0),
    "place-timed.txt": ([*LAW, "--redundant", "0,32"], {"COLUMNS": "120"}, 0),
    "place-timed.md": ([*LAW, "--redundant", "0,32", "--format", "markdown"], {}, 0),
}

Said = tuple[int, str, str]
Run = Callable[..., Said]
Drawn = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `moeplan routing` in this process, in the repository."""
    monkeypatch.chdir(ROOT)

    def go(*words: str, **environment: str) -> Said:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = cli._run(["routing", *words])
        return code, *capsys.readouterr()

    return go


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_the_golden_one(name: str, run: Run) -> None:
    words, environment, expected = OUTPUTS[name]
    code, out, err = run(*words, **environment)
    assert (code, err) == (expected, "")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(out, encoding="utf-8")
    assert out == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_golden_file_has_its_command() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(OUTPUTS)


# Looks -----------------------------------------------------------------------------------------------------

Tables: dict[str, tuple[Drawn, Drawn]] = {
    "report": (routing_report_table, routing_report_markdown),
    "counts": (routing_report_table, routing_report_markdown),
    "large": (routing_report_table, routing_report_markdown),
    "drift": (routing_drift_table, routing_drift_markdown),
    "paired": (routing_drift_table, routing_drift_markdown),
    "place": (routing_placement_table, routing_placement_markdown),
    "law": (routing_placement_table, routing_placement_markdown),
    "written": (routing_written_table, routing_written_markdown),
    "captured": (routing_captured_table, routing_captured_markdown),
    "interrupted": (routing_captured_table, routing_captured_markdown),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A result of every kind."""
    folder = tmp_path_factory.mktemp("routing")
    ask = moeplan.routing

    def counted(name: str, *layers: LayerRouting) -> Path:
        write_counts(folder / name, RoutingProfile("org/model", "abc", Provenance(), {"all": layers}))
        return folder / name

    one = LayerRouting(0, 4, 1.0, 100, (100, 0, 0, 0), dropped=7, windows=((50, 0, 0, 0), (50, 0, 0, 0)))
    wide = tuple(LayerRouting(n, 384, 8.0, 10**6, (20834,) * 383 + (20578,)) for n in (1, 60))
    made = ask.profile(EXAMPLES / "synthetic.jsonl", output=folder / "made.yaml")
    failed = Remark("prompt-failed", "warning", "long 5f7d5bb681bd: too long: 1450 tokens, where 496 may be", "p.txt")
    return {
        "report": ask.report(EXAMPLES / "synthetic.jsonl"),
        "counts": ask.report(counted("one.json", one)),
        "large": ask.report(counted("wide.json", *wide)),
        "drift": ask.drift(EXAMPLES / "synthetic.yaml", EXAMPLES / "synthetic-later.yaml", bound=0.1),
        "paired": ask.drift(EXAMPLES / "synthetic.jsonl", EXAMPLES / "synthetic-fp8.jsonl"),
        "place": ask.place(
            counted("v3.json", *[LayerRouting(n, 256, 8.0, 3200, (100,) * 256) for n in range(3, 61)]),
            ranks=64, nodes=8, redundant=64, model="deepseek-v3", offline=True, live=folder / "v3.json",
        ),
        "law": ask.place(
            ranks=8, redundant=[0, 8], model="deepseek-v3", skew=0.65, offline=True, gpu="h200", concurrency=64, input=512,
            output=128, context=1024,
        ),
        "written": made,
        "captured": result.Captured(result.CAPTURED_SCHEMA, made._replace(kind="capture"), 60, 58, 1, 1, 12480, True, (failed,)),
        "interrupted": result.Captured(result.CAPTURED_SCHEMA, None, 60, 0, 0, 1, 0, False, (failed,)),
    }  # fmt: skip


@pytest.mark.parametrize("name", Tables)
@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_page(name: str, width: int, answers: dict[str, Any]) -> None:
    draw, _ = Tables[name]
    text = draw(answers[name], width=width, color=False, unicode=True)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    assert draw(answers[name], width=width, color=False, unicode=False).isascii()


@pytest.mark.parametrize("name", Tables)
def test_colour_repeats_the_words_and_no_more(name: str, answers: dict[str, Any]) -> None:
    draw, _ = Tables[name]
    plain = draw(answers[name], width=80, color=False, unicode=True)
    coloured = draw(answers[name], width=80, color=True, unicode=True)
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == plain.splitlines()


@pytest.mark.parametrize("name", Tables)
def test_names_from_outside_stay_in_their_place(name: str, answers: dict[str, Any]) -> None:
    draw, page = Tables[name]
    evil = "evil\x1b[31m|\n<b>`x`"
    found = answers[name]
    if name == "captured":
        found = found._replace(written=found.written._replace(model=evil))
    elif name == "interrupted":
        found = found._replace(notes=(Remark("prompt-failed", "warning", evil),))
    else:
        found = _named(found, evil)
    text = draw(found, width=100, color=False, unicode=True)
    assert "\x1b" not in text
    assert "evil" in text
    markdown = page(found)
    assert "<b>" not in markdown
    assert "\x1b" not in markdown


def _named(found: Any, evil: str) -> Any:
    if hasattr(found, "a"):
        return found._replace(a=found.a._replace(model=evil))
    if hasattr(found, "model"):
        return found._replace(model=evil)
    return found._replace(source=found.source._replace(model=evil))


def test_every_layer_has_its_line_in_every_table(answers: dict[str, Any]) -> None:
    lines = routing_report_table(answers["report"], width=100, color=False, unicode=True).splitlines()
    for layer in answers["report"].layers:
        # The map, and four tables.
        assert sum(line.lstrip().startswith(f"{layer.layer}  ") for line in lines) == 5


def test_what_a_file_does_not_tell_takes_no_column(answers: dict[str, Any]) -> None:
    text = routing_report_table(answers["counts"], width=100, color=False, unicode=True)
    assert "near ties" not in text
    assert "Distinct experts" not in text
    assert "counts alone" in text
    assert "7.0 %" in text  # dropped
    assert "25.0 %" in text  # used, and by step


def test_markdown_tables_have_one_width(answers: dict[str, Any]) -> None:
    for name, (_, page) in Tables.items():
        for block in page(answers[name]).split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("|")]
            assert len({row.count("|") - row.count("\\|") for row in rows}) <= 1, name


# Files that are made ---------------------------------------------------------------------------------------


def eplb(path: Path) -> Path:
    """Load statistics of vLLM for two steps of qwen3-30b-a3b: 48 layers of 128 experts, a hot one in each."""
    loads = [[[41 if expert == step else 9 for expert in range(128)] for _ in range(48)] for step in range(2)]
    records = [
        {"record_type": "eplb_load_stats", "version": 1, "step": step, "expert_load": load, "p2l_map": [list(range(128))] * 48}
        for step, load in enumerate(loads)
    ]  # fmt: skip
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "kind"), [("counts.json", "counts"), ("profile.yaml", "profile")])
def test_a_dump_becomes_a_file_that_all_commands_read(name: str, kind: str, run: Run, tmp_path: Path) -> None:
    made = str(tmp_path / name)
    shown = {"counts": "counts", "profile": "a profile"}[kind]
    dump = ["import", str(eplb(tmp_path / "eplb.jsonl")), "--model", "qwen3-30b-a3b", "--offline", "-o", made]
    code, out, err = run(*dump)
    assert (code, err) == (0, "")
    assert f"is written: {shown} of Qwen/Qwen3-30B-A3B" in " ".join(out.split())
    assert "48 layers of 128 experts, 8 per token" in " ".join(out.split())
    said = json.loads(run(*dump, "--json")[1])
    assert Schema("routing-written").complaints(json.dumps(said)) == []
    assert (said["kind"], said["tokens"], len(said["layers"])) == (kind, 2 * (127 * 9 + 41) // 8, 48)
    report = json.loads(run("report", made, "--json")[1])
    assert report["layers"][0]["busiest_over_mean"] == pytest.approx(50 / (2 * (127 * 9 + 41) / 128))
    # Only counts keep the steps: each has a hot expert of its own.
    placed = json.loads(run("place", made, "--ranks", "8", "--json")[1])
    assert (placed["layers"][0]["after"]["by_windows"] is None) == (kind == "profile")
    assert run("drift", made, made, "--bound", "0.2")[0] == 0


def test_a_dump_of_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    dump = str(eplb(tmp_path / "eplb.jsonl"))
    code, out, err = run("import", dump, "--model", "mixtral-8x7b", "--offline", "-o", str(tmp_path / "a.json"))
    assert (code, out) == (2, "")
    assert "does not hold each of 8 experts" in err
    assert not (tmp_path / "a.json").exists()


def test_what_was_read_is_a_profile_once_folded(run: Run, tmp_path: Path) -> None:
    made = str(tmp_path / "profile.yaml")
    assert run("profile", CAPTURE, "-o", made)[0] == 0
    # Six digits of a curve, and no steps: otherwise the report of a capture and of its profile are the same.
    first, second = (json.loads(run("report", file, "--json")[1]) for file in (CAPTURE, made))
    assert [layer["tokens_by_expert"] for layer in first["layers"]] == [
        layer["tokens_by_expert"] for layer in second["layers"]
    ]
    assert [each["layer"] for each in first["worst"]] == [each["layer"] for each in second["worst"]]
    assert first["layers"][0]["overlap"][0]["fraction"] == pytest.approx(
        second["layers"][0]["overlap"][0]["fraction"], rel=1e-5
    )


# CSV -------------------------------------------------------------------------------------------------------


def test_csv_has_a_line_per_layer_and_the_same_columns_for_every_file(answers: dict[str, Any]) -> None:
    full, short = (list(csv.reader(StringIO(routing_report_csv(answers[name])))) for name in ("report", "counts"))
    assert full[0] == short[0]
    assert len(full) == 1 + 6
    row = dict(zip(full[0], full[6], strict=True))
    layer = answers["report"].layers[5]
    assert int(row["layer"]) == 6
    assert float(row["load_cv"]) == layer.load_cv
    assert float(row["overlap_fraction_1"]) == layer.overlap[0].fraction
    assert float(row["in_sequence_distinct_8"]) == layer.in_sequence[3].distinct
    assert row["across_distinct_128"] == ""
    assert row["uneven"] == "true"
    assert dict(zip(short[0], short[1], strict=True))["near_tie_fraction"] == ""
    # Nothing in it can be read as a formula.
    assert not any(cell.startswith(("=", "+", "@")) for line in full for cell in line)


def test_csv_is_for_the_report_alone(run: Run) -> None:
    code, out, err = run("drift", CAPTURE, FP8, "--format", "csv")
    assert (code, out) == (2, "")
    assert "unknown format 'csv'" in err
    assert "formats: table, json, markdown, html\n" in err
    assert "formats: table, json, markdown, csv, html\n" in run("report", CAPTURE, "--format", "xml")[2]


# JSON ------------------------------------------------------------------------------------------------------

SCHEMAS = {
    "report": "report",
    "counts": "report",
    "large": "report",
    "drift": "drift",
    "paired": "drift",
    "place": "placement",
    "law": "placement",
    "written": "written",
    "captured": "captured",
    "interrupted": "captured",
}
RECORDS: dict[str, dict[tuple[str, ...], type[NamedTuple]]] = {
    "report": {
        (): result.Report,
        ("source",): result.RoutingSource,
        ("source", "provenance"): Provenance,
        ("selection",): result.Selection,
        ("worst", "*"): result.WorstLayer,
        ("layers", "*"): result.LayerReport,
        ("layers", "*", "dead"): DeadExperts,
        ("layers", "*", "overlap", "*"): result.OverlapAt,
        ("layers", "*", "in_sequence", "*"): result.DistinctAt,
        ("layers", "*", "across_growth"): Growth,
        ("layers", "*", "skew"): result.Skew,
        ("layers", "*", "capacity"): result.CapacityNeed,
    },
    "drift": {
        (): result.Drift,
        ("a",): result.RoutingSource,
        ("layers", "*"): result.LayerDrift,
        ("layers", "*", "moved", "*"): result.Moved,
        ("layers", "*", "agreement"): result.AgreementAt,
        ("agreement",): result.Agreement,
    },
    "placement": {
        (): result.PlacementReport,
        ("layers", "*"): result.PlacedLayer,
        ("layers", "*", "after"): result.RankLoads,
        ("live",): spare_result.Balances,
        ("memory",): result.MemoryPaid,
        ("skew",): spare_result.SkewUsed,
        ("sweep",): spare_result.Sweep,
        ("sweep", "in_order"): spare_result.InOrder,
        ("sweep", "served"): spare_result.Served,
        ("sweep", "spare", "*"): spare_result.SpareSlots,
        ("sweep", "spare", "*", "decode"): spare_result.Worth,
    },
    "written": {(): result.Written},
    "captured": {(): result.Captured, ("written",): result.Written},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_fits_its_schema(name: str, answers: dict[str, Any]) -> None:
    assert Schema(f"routing-{SCHEMAS[name]}").complaints(as_json(answers[name])) == []


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in RECORDS.items() for path in paths])
def test_the_schemas_describe_every_record(name: str, path: tuple[str, ...]) -> None:
    Schema(f"routing-{name}").must_describe(path, RECORDS[name][path])


def test_the_schema_knows_every_metric() -> None:
    metrics = Schema("routing-report").at("worst", "*")["properties"]["metric"]["enum"]
    assert tuple(metrics) == result.Metric.__args__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("report", ("verdict",), "uneven"),
        ("report", ("layers", 0, "load_cv"), None),
        ("report", ("layers", 0, "tokens"), 1.5),
        ("report", ("layers", 0, "gini"), 1.5),
        ("report", ("selection", "phase"), "training"),
        ("report", ("schema",), "moeplan.routing-report/2"),
        ("drift", ("layers", 0, "distance"), -0.1),
        ("drift", ("passed",), "yes"),
        ("place", ("memory", "expert_bytes"), 0.5),
        ("place", ("layers", 0, "experts_by_rank", 0, 0), -1),
        ("law", ("sweep", "spare", 0, "decode", "verdict"), "perhaps"),
        ("law", ("sweep", "spare", 1, "per_rank_bytes"), 0.5),
        ("law", ("sweep", "served", "dp"), 0),
        ("law", ("skew", "basis"), "measured"),
        ("written", ("kind",), "table"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(
    name: str, path: tuple[str | int, ...], value: Any, answers: dict[str, Any]
) -> None:
    schema, text = Schema(f"routing-{SCHEMAS[name]}"), as_json(answers[name])
    assert schema.complaints(changed(text, path, value))
    assert schema.complaints(without(text, "notes"))


def test_the_command_writes_the_same_json_as_python(run: Run, tmp_path: Path) -> None:
    code, out, err = run("report", CAPTURE, "--json", "-o", str(tmp_path / "answer.json"))
    assert (code, out, err) == (0, "", "")
    said = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    whole = json.loads(as_json(moeplan.routing.report(CAPTURE)))
    assert said == whole
    assert said["source"]["model"] == MODEL


# Errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["report", "nowhere.yaml"], "nowhere.yaml cannot be read", "check the file"),
        (["report", "README.md"], "is no file of routing by its ending", "moeplan routing import"),
        (["report", "examples"], "is no file of routing", "capture (.jsonl)"),
        (["report", CAPTURE, "--drop-bound", "5"], "--drop-bound 5", "did you mean 5%?"),
        (["report", CAPTURE, "--step-tokens", "none"], "--step-tokens 'none'", "32k"),
        (["report", CAPTURE, "--class", "poetry"], "no class 'poetry'", "classes: code, easy, mathematics"),
        (["report", CAPTURE, "--layer", "0"], "has no layer 0 with experts", "1 to 6"),
        (["drift", CAPTURE, PROFILE, "--bound", "2"], "--bound 2", "0.1"),
        (["place", PROFILE, "--ranks", "5", "--redundant", "0"], "32 experts and 0 spare slots do not divide", "take 3 spare slots"),
        (["place", PROFILE, "--ranks", "8", "--model", "mixtral-8x7b", "--offline"], "layer 1 has 32 experts", MODEL),
        (["place", PROFILE, "--ranks", "8", "--model", "qwen3-8b", "--offline"], "layer 1 has 32 experts", MODEL),
        (["place", PROFILE, "--ranks", "8", "--quant", "fp8"], "--quant needs --model", "weights"),
        (["place", PROFILE, "--ranks", "8", "--redundant", "8,9"], "32 experts and 9 spare slots do not divide", "take 8 or 16"),
        (["place", PROFILE, "--ranks", "8", "--redundant", "8,many"], "--redundant 'many' is no number", "0,32,64"),
        (["place", PROFILE, "--ranks", "8", "--redundant", "-8"], "--redundant '-8' is no number", "0,32,64"),
        (["place", PROFILE, "--ranks", "8", "--skew", "0.6"], f"{PROFILE} and --skew 0.6 both", "leave one of them out"),
        (["place", PROFILE, "--ranks", "8", "--gpu", "h200"], "--gpu h200 needs --model", "a model on a card"),
        (["place", PROFILE, "--ranks", "8", "--context", "4k"], "--context 4k needs --gpu", "what load"),
        (["place", PROFILE, "--ranks", "8", "--step-tokens", "0"], "--step-tokens '0' must be", "32768"),
        (["place", "--ranks", "8"], "neither a FILE of routing nor a model", "--model deepseek-v3 --skew 0.65"),
        (["place", "--ranks", "8", "--skew", "0.6"], "neither a FILE of routing nor a model", "--model"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "--skew", "5"], "--skew 5 must be from 0", "0.7 heavy"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "--skew", "nan"], "--skew nan must be from 0", "0.7 heavy"),
        (["place", "--ranks", "8", "--model", "qwen3-8b", "--skew", "0.6"], "Qwen/Qwen3-8B is dense", "with experts"),
        (["place", "--ranks", "8", "--model", "qwen3-30b-a3b"], "nothing was published of how unevenly", "--skew 0.3 is light"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "--live", LATER], "--live needs a FILE", "other counts"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "--layer", "3"], "--layer needs a FILE", "a skew says nothing"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "-g", "h200", "--tp", "3"], "--tp 3 does not divide the 8 ranks", "--tp 1"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "-g", "h200", "-e", "llamacpp"], "--engine llamacpp places no", "vllm"),
        (["place", "--ranks", "8", "--model", "deepseek-v3", "-g", "h900"], "h900", ""),
        (["capture", "nowhere", "-o", "a.jsonl"], "nowhere is no folder", "config.json"),
        (["capture", "examples", "-o", "a.json"], "a capture is a file that ends in .jsonl", "a.jsonl"),
        (["profile", CAPTURE, "-o", "a.txt"], "--output a.txt", "a.yaml"),
        (["profile", CAPTURE, "-o", "nowhere/a.yaml"], "cannot be written", "file that you can write"),
        (["import", "README.md", "-o", "a.json"], "README.md: no dump of routing that is known", "SGLang"),
        (["import", "nowhere", "-o", "a.json"], "nowhere", "check the file"),
        (["import", "README.md", "--kind", "tgi", "-o", "a.json"], "unknown kind of dump 'tgi'", "sglang, vllm"),
        (["profile", CAPTURE], "moeplan routing profile needs --output", "file to write"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_a_way_out(words: list[str], message: str, hint: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith(" hint: ")
    assert hint in second
