"""The schemas of `gpus` and `models` beside real output, and beside the types that the output is made of."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest

from moeplan import inspect
from moeplan.core import hardware, ledger, model, profiled_figures
from moeplan.report.as_json import as_json
from moeplan.sources.catalogue import PROVENANCES
from moeplan.sources.profile_folders import builtin_folder
from tests.report.schemas import Schema, changed, without

GPUS, MODELS = Schema("gpus"), Schema("models")

FULL = """\
name: Full
vendor: acme
architecture: first
compute_capability: "1.0"
memory: {kind: HBM, nominal_bytes: 85899345920, visible_bytes: 85520809984, usable_bytes: 85000000000}
memory_bandwidth_bytes_per_s: 3350000000000
l2_bytes: 52428800
dense_flops_per_s: {fp32: 1, tf32: 2, bf16: 3, fp16: 4, fp8: 5, int8: 6, fp4: 7}
links:
  scale_up: {kind: wire, bytes_per_s_per_direction: 1000, domain_devices: 2}
  pcie: {generation: 5, lanes: 16}
power_w: 700
node_sizes: [1, 8]
devices_per_card: 2
host_bytes: 1099511627776
price_usd_per_hour: {low: 0, high: 2.5, as_of: 2026-03, sources: [a list]}
aliases: [also-full]
shared_names: [fullish]
default_for: [fullish]
sources: {specification: [one], memory_visible: [two], memory_usable: [three, four]}
notes: [a remark]
measured:
- {device: this one, driver: "1"}
- kind: profile
  date: 2026-03-01
  tool: moeplan 0
  method: moeplan profile, effort full
  device: {name: Full, torch_version: "2.11.0", driver_version: "580.1"}
  figures:
    copy_bytes_per_s: {value: 3e+12, low: 2.9e+12, high: 3.1e+12, unit: bytes/s, source: torch}
    context_bytes: {value: 5, low: 5, high: 5, unit: bytes, source: torch}
  kernels:
  - {backend: loop, dtype: int8, num_fitted: 40, num_held: 9, median_error: 0.1, worst_error: 0.5, r_squared_distinct: 0.9}
"""
"""A profile that states everything; the built-in ones leave some blocks out."""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a full, an empty and a broken profile of a device, and a broken entry of a model."""
    for kind in ("hardware", "models"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "broken.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    (tmp_path / "hardware" / "full.yaml").write_text(FULL, encoding="utf-8")
    (tmp_path / "hardware" / "empty.yaml").write_text("name: Nothing known\n", encoding="utf-8")
    return tmp_path


def test_listings_fit_their_schemas(own: Path) -> None:
    assert not GPUS.complaints(as_json(inspect.gpus()))
    assert not MODELS.complaints(as_json(inspect.models()))
    assert not MODELS.complaints(as_json(inspect.models("qwen3 moe")))
    assert not GPUS.complaints(as_json(inspect.gpus(profiles=[own])))
    assert not MODELS.complaints(as_json(inspect.models(profiles=[own])))


@pytest.mark.parametrize("name", ["h100", *sorted(path.stem for path in builtin_folder("hardware").glob("*.yaml"))])
def test_one_device_fits_the_schema(name: str) -> None:
    assert not GPUS.complaints(as_json(inspect.gpus(name)))


def test_blocks_that_were_edited_by_hand_are_still_json(own: Path) -> None:
    block = "measured: [{kind: profile, date: 2026-03-01, at: 2026-03-01 10:00:00, figures: {a: {value: .inf}}, 1: !!set {x}}]\n"
    (own / "hardware" / "edited.yaml").write_text(f"name: Edited\n{block}", encoding="utf-8")
    answer = as_json(inspect.gpus("edited", [own]))
    assert not GPUS.complaints(answer)
    assert '"date": "2026-03-01"' in answer


def test_own_profiles_that_state_all_or_nothing_fit_the_schema(own: Path) -> None:
    full, empty = (inspect.gpus(name, [own]) for name in ("full", "empty"))
    assert not GPUS.complaints(as_json(full))
    assert not GPUS.complaints(as_json(empty))
    # Between them every field is seen with a value and every one that may be null without.
    assert [name for name, value in full.gpus[0]._asdict().items() if value in (None, (), {})] == []
    unknown = {name for name, value in empty.gpus[0]._asdict().items() if value is None}
    assert unknown == {name for name, kind in get_type_hints(inspect.Gpu).items() if NoneType in get_args(kind)} - {
        "path"
    }


# The schemas must be able to say no: each of these is one wrong thing in a right answer.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "moeplan.gpus/2"),
        (("surplus",), 1),
        (("gpus", 0, "surplus"), 1),
        (("gpus", 0, "profile"), None),
        (("gpus", 0, "nominal_bytes"), "80 GiB"),
        (("gpus", 0, "usable_bytes"), 1.5),
        (("gpus", 0, "usable_low_bytes"), -1),
        (("gpus", 0, "usable_basis"), "felt"),
        (("gpus", 0, "usable_why", "source"), None),
        (("gpus", 0, "dense_flops_per_s", "fp8"), 0),
        (("gpus", 0, "dense_flops_per_s", "fp6"), 1),
        (("gpus", 0, "scale_up", "kind"), None),
        (("gpus", 0, "pcie", "lanes"), "16"),
        (("gpus", 0, "node_sizes", 0), 0),
        (("gpus", 0, "price", "low_usd_per_hour"), "free"),
        (("gpus", 0, "sources", "hearsay"), []),
        (("gpus", 0, "sources", "specification"), "one"),
        (("gpus", 0, "measured"), [1]),
        (("gpus", 0, "measured_figures", 0, "value"), 0),
        (("gpus", 0, "measured_figures", 0, "nominal"), "3 TB/s"),
        (("gpus", 0, "measured_figures", 0, "surplus"), 1),
        (("gpus", 0, "measured_kernels", 0, "num_held"), 0),
        (("gpus", 0, "measured_kernels", 0, "dtype"), None),
        (("notes",), [{"code": "x", "severity": "error", "message": "y", "where": None}]),
    ],
)
def test_schema_of_gpus_refuses(path: tuple[str | int, ...], value: Any, own: Path) -> None:
    answer = as_json(inspect.gpus("full", [own]))
    assert not GPUS.complaints(answer)
    assert GPUS.complaints(changed(answer, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "moeplan.models/2"),
        (("search",), 1),
        (("surplus",), 1),
        (("models", 0, "surplus"), 1),
        (("models", 0, "id"), None),
        (("models", 0, "aliases"), "mixtral"),
        (("models", 0, "verified"), "yes"),
        (("models", 0, "provenance"), "dreamt"),
        (("models", 0, "total"), 46.7),
        (("models", 0, "active"), -1),
        (("models", 0, "num_layers"), 0),
        (("models", 0, "num_experts"), 0),
        (("models", 0, "num_shared_experts"), None),
        (("models", 0, "max_context_tokens"), "32K"),
        (("models", 0, "format"), None),
        (("notes",), [{"code": "x", "severity": "info", "message": "y"}]),
    ],
)
def test_schema_of_models_refuses(path: tuple[str | int, ...], value: Any) -> None:
    answer = as_json(inspect.models("mixtral"))
    assert not MODELS.complaints(answer)
    assert MODELS.complaints(changed(answer, path, value))


@pytest.mark.parametrize(
    ("schema", "answer"),
    [(GPUS, inspect.gpus("h100")), (MODELS, inspect.models("mixtral"))],
    ids=["gpus", "models"],
)
def test_schemas_want_every_name(schema: Schema, answer: inspect.Gpus | inspect.Models) -> None:
    for name in answer._fields:
        assert schema.complaints(without(as_json(answer), name)), name


TYPES: list[tuple[Schema, tuple[str, ...], type[NamedTuple]]] = [
    (GPUS, (), inspect.Gpus),
    (GPUS, ("gpus", "*"), inspect.Gpu),
    (GPUS, ("gpus", "*", "usable_why"), ledger.Why),
    (GPUS, ("gpus", "*", "dense_flops_per_s"), hardware.DenseRates),
    (GPUS, ("gpus", "*", "scale_up"), hardware.ScaleUp),
    (GPUS, ("gpus", "*", "pcie"), hardware.Pcie),
    (GPUS, ("gpus", "*", "price"), hardware.Price),
    (GPUS, ("gpus", "*", "measured_figures", "*"), profiled_figures.NewestFigure),
    (GPUS, ("gpus", "*", "measured_kernels", "*"), profiled_figures.NewestKernels),
    (GPUS, ("notes", "*"), model.Remark),
    (MODELS, (), inspect.Models),
    (MODELS, ("models", "*"), inspect.Model),
    (MODELS, ("notes", "*"), model.Remark),
]


@pytest.mark.parametrize(("schema", "path", "record"), TYPES, ids=lambda value: getattr(value, "__name__", None))
def test_property_names_are_the_fields_of_the_types(
    schema: Schema, path: tuple[str, ...], record: type[NamedTuple]
) -> None:
    schema.must_describe(path, record)


def test_enums_are_the_closed_kinds_of_the_code() -> None:
    bases: Any = ledger.Basis
    assert GPUS.document["$defs"]["basis"]["enum"] == list(bases.__args__)
    assert MODELS.at("models", "*")["properties"]["provenance"]["enum"] == list(PROVENANCES)


def test_schemas_name_the_version_that_the_code_writes() -> None:
    assert GPUS.at()["properties"]["schema"] == {"const": inspect.GPUS_SCHEMA}
    assert MODELS.at()["properties"]["schema"] == {"const": inspect.MODELS_SCHEMA}
