"""The schema of an estimate beside real output, and beside the types that the output is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

import moeplan
from moeplan.core import deployment, kv_cache, latency, ledger, model, step_time, weights
from moeplan.core.capacity import EnginePrints
from moeplan.core.errors import MoeplanError
from moeplan.estimate import curves_result, result, speed_result
from moeplan.report.as_json import as_json
from moeplan.sources.catalogue import Convention
from moeplan.sources.loaded import SourceKind
from tests.golden.configs import BY_NAME
from tests.report.schemas import Schema, changed, without

SCHEMA = Schema("estimate")

EXAMPLE = str(Path(__file__).resolve().parents[2] / "examples" / "workload.yaml")
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("llama", {"gpu": "h100-sxm"}),
    "sparse, does not fit": ("mixtral", {"gpu": "h100-sxm"}),
    "sparse, four GPUs": ("mixtral", {"gpu": "4xh100-sxm", "context": "8k", "concurrency": 16}),
    "latent with indexer": ("deepseek", {"gpu": "8xh200"}),
    "windows": ("gpt-oss", {"gpu": "rtx-4090", "kv_dtype": "fp8", "utilization": 0.8}),
    "gated delta": ("qwen-next", {"gpu": "2xh200", "quant": "fp8"}),
    "Mamba": ("jamba", {"gpu": "2xa100-80gb"}),
    "encoder and decoder": ("switch", {"gpu": "l4", "engine": "transformers", "encoder_tokens": 512}),
    "transformers": ("gpt-oss", {"gpu": "rtx-4090", "engine": "transformers", "dtype": "float16"}),
    "no GPU": ("mixtral", {}),
    "memory not certain": ("llama", {"gpu": "intel-gaudi3"}),
    "speed": (
        "mixtral",
        {"gpu": "4xh100-sxm", "concurrency": 16, "input": 2000, "output": 500, "ttft": 1, "arrival": 2},
    ),
    "speed of a dense model": ("llama", {"gpu": "h200", "speed": True, "context": "8k"}),
    "speed of classes": ("mixtral", {"gpu": "4xh100-sxm", "workload": EXAMPLE, "tpot": "50ms"}),
    "speculation": ("deepseek", {"gpu": "8xh200", "draft_tokens": 2, "acceptance": 0.8, "context": "8k"}),
    "speculation of a dense model": ("llama", {"gpu": "h200", "draft_tokens": 4, "context": "8k"}),
    "speculation by another model": (
        "mixtral",
        {
            "gpu": "4xh100-sxm",
            "accept_length": 1.1,
            "engine_args": ["--speculative-config", '{"model":"o/d","num_speculative_tokens":64}'],
        },
    ),
    "speed where memory is not certain": ("llama", {"gpu": "intel-gaudi3", "speed": True}),
}


def asked(folder: Path, name: str, options: dict[str, Any]) -> result.Estimate:
    path = folder / "config.json"
    path.write_text(json.dumps(BY_NAME[name]), encoding="utf-8")
    answer = moeplan.estimate(str(path), **options)
    assert isinstance(answer, result.Estimate)
    return answer


@pytest.mark.parametrize("question", QUESTIONS)
def test_output_fits_the_schema(question: str, tmp_path: Path) -> None:
    name, options = QUESTIONS[question]
    assert not SCHEMA.complaints(as_json(asked(tmp_path, name, options)))


def test_output_of_the_whole_corpus_fits_the_schema(shared: Path) -> None:
    read = 0
    for path in sorted((shared / "model-configs").glob("*.json")):
        if path.name.endswith(".hf_quant_config.json"):
            continue
        try:
            answer = moeplan.estimate(str(path), gpu="8xh200", context=4096)
        except MoeplanError:
            continue  # whether it can be read is another test's question
        read += 1
        assert not SCHEMA.complaints(as_json(answer)), path.name
    assert read > 60


# The schema must be able to say no: each of these is one wrong thing in a right answer.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("weights", "resident_bytes"), 1.5),
        (("weights", "resident_bytes"), "87 GiB"),
        (("model", "num_layers"), None),
        (("verdict", "fits"), "yes"),
        (("kv_cache", "accounting"), "guess"),
        (("ranks", 0, "lines", 0, "basis"), "felt"),
        (("ranks", 0, "lines", 0, "bytes"), 1.5),
        (("ranks", 0, "weights_bytes"), -1),
        (("parameters", "by_role", "router"), True),
        (("request", "origins", "context_tokens"), "dreamt"),
        (("schema",), "moeplan.estimate/2"),
        (("surplus",), 1),
        (("layout", "surplus"), 1),
    ],
)
def test_schema_refuses(path: tuple[str | int, ...], value: Any, tmp_path: Path) -> None:
    answer = as_json(asked(tmp_path, "mixtral", {"gpu": "h100-sxm"}))
    assert not SCHEMA.complaints(answer)
    assert SCHEMA.complaints(changed(answer, path, value))


def test_schema_wants_every_name(tmp_path: Path) -> None:
    answer = as_json(asked(tmp_path, "mixtral", {"gpu": "h100-sxm"}))
    for name in result.Estimate._fields:
        assert SCHEMA.complaints(without(answer, name)), name


TYPES: list[tuple[tuple[str, ...], type[NamedTuple]]] = [
    ((), result.Estimate),
    (("request",), result.Request),
    (("hardware",), result.HardwareUsed),
    (("model",), result.ModelFacts),
    (("parameters",), weights.Parameters),
    (("weights",), result.WeightBytes),
    (("weights", "left_out", "*"), result.LeftOut),
    (("kv_cache",), result.KvCache),
    (("kv_cache", "layers", "*"), kv_cache.StoredRow),
    (("layout",), result.LayoutUsed),
    (("layout", "options", "*"), deployment.Option),
    (("ranks", "*"), result.Rank),
    (("ranks", "*", "lines", "*"), ledger.Line),
    (("ranks", "*", "lines", "*", "why"), ledger.Why),
    (("capacity",), result.Capacity),
    (("capacity", "engine_prints"), EnginePrints),
    (("capacity", "over_context", "*"), result.AtContext),
    (("verdict",), result.Verdict),
    (("verdict", "reasons", "*"), deployment.Refusal),
    (("verdict", "ways_out", "*"), result.WayOut),
    (("speed",), speed_result.Speed),
    (("speed", "skew"), speed_result.Skew),
    (("speed", "ttft"), speed_result.Time),
    (("speed", "output_tokens_per_s"), speed_result.Rates),
    (("speed", "output_tokens_per_s", "total"), speed_result.Rate),
    (("speed", "over_concurrency", "*"), speed_result.AtConcurrency),
    (("speed", "decode_step"), speed_result.Step),
    (("speed", "decode_step", "parts", "*"), step_time.StepPart),
    (("speed", "classes", "*"), speed_result.ClassSpeed),
    (("speed", "meets"), speed_result.Meets),
    (("speed", "speculation"), speed_result.Speculation),
    (("speed", "speculation", "plain"), speed_result.DecodeStep),
    (("speed", "speculation", "draft"), speed_result.Time),
    (("speed", "speculation", "speed_up"), speed_result.Gain),
    (("speed", "speculation", "without"), speed_result.LoadFigures),
    (("speed", "speculation", "without", "output_tokens_per_s"), speed_result.Rates),
    (("speed", "speculation", "under_load"), speed_result.LoadGain),
    (("speed", "speculation", "under_load", "ttft"), speed_result.Gain),
    (("speed", "speculation", "break_even_acceptance"), speed_result.Needed),
    (("speed", "speculation", "over_concurrency", "*"), speed_result.SpeculationAt),
    (("curves",), curves_result.Curves),
    (("curves", "coverage"), curves_result.Coverage),
    (("curves", "coverage", "points", "*"), curves_result.Touched),
    (("curves", "roofline"), curves_result.Roofline),
    (("curves", "roofline", "roofs", "*"), curves_result.Roof),
    (("curves", "roofline", "points", "*"), curves_result.OperatingPoint),
    (("curves", "loads", "*"), curves_result.LayerLoads),
    (("notes", "*"), model.Remark),
]


@pytest.mark.parametrize(("path", "record"), TYPES, ids=lambda value: getattr(value, "__name__", None))
def test_property_names_are_the_fields_of_the_types(path: tuple[str, ...], record: type[NamedTuple]) -> None:
    SCHEMA.must_describe(path, record)


def test_window_costs_have_the_fields_of_their_type() -> None:
    described = SCHEMA.at("kv_cache")["properties"]["alternatives"]["additionalProperties"]
    assert tuple(described["properties"]) == result.WindowCost._fields


def test_enums_are_the_closed_kinds_of_the_code() -> None:
    def values(literal: Any) -> list[str]:
        return list(literal.__args__)

    kinds = SCHEMA.document["$defs"]
    layers = SCHEMA.at("kv_cache", "layers", "*")["properties"]
    assert kinds["basis"]["enum"] == values(ledger.Basis)
    assert kinds["origin"]["enum"] == values(deployment.Origin)
    assert kinds["accounting"]["enum"] == values(kv_cache.Accounting)
    assert list(kinds["by_role"]["properties"]) == list(model.ROLES)
    assert layers["kind"]["enum"] == values(kv_cache.CacheKind)
    assert layers["split"]["enum"] == values(kv_cache.CacheSplit)
    assert SCHEMA.at("model")["properties"]["source_kind"]["enum"] == values(SourceKind)
    assert SCHEMA.at("parameters")["properties"]["card_convention"]["enum"] == [*values(Convention), None]
    parts = SCHEMA.at("speed", "decode_step", "parts", "*")["properties"]
    assert kinds["speed_basis"]["enum"] == values(speed_result.SpeedBasis) == values(step_time.PartBasis)
    assert parts["name"]["enum"] == values(step_time.PartName)
    assert parts["binding"]["enum"] == [*values(latency.Binding), "link"]
    assert SCHEMA.at("notes", "*")["properties"]["severity"]["enum"] == values(get_type_hints(model.Remark)["severity"])
