"""The Python API: its names are pinned, and importing it costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys

import moeplan


def test_the_public_names_are_these() -> None:
    assert sorted(moeplan.__all__) == [
        "MoeplanError",
        "__version__",
        "check",
        "compare",
        "estimate",
        "gpus",
        "lock",
        "models",
        "offload",
        "plan",
        "profile",
        "record",
        "record_diff",
        "routing",
        "validate",
    ]
    assert list(inspect.signature(moeplan.estimate).parameters) == [
        "model", "gpu", "engine", "engine_version", "engine_args", "engine_files", "tp", "pp", "dp", "ep", "dp_attention", "dcp",
        "redundant_experts", "pp_layers", "nodes", "utilization", "context", "concurrency", "encoder_tokens", "input", "output",
        "ttft", "tpot", "arrival", "workload", "routing", "skew", "draft_tokens", "acceptance", "accept_length", "speed", "dtype",
        "quant", "kv_dtype", "revision", "offline", "headers", "file", "profiles", "strict", "curves", "progress", "find",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.compare).parameters) == [
        "models", "gpu", "engine", "engine_version", "context", "concurrency", "input", "output", "ttft", "tpot", "arrival",
        "workload", "encoder_tokens", "quant", "kv_dtype", "utilization", "offline", "headers", "profiles", "progress",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.validate).parameters) == [
        "model", "log", "gpu", "engine", "engine_version", "engine_args", "tolerance", "learn", "quant", "revision",
        "offline", "headers", "file", "device", "context", "concurrency", "layers", "seed", "profiles",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.record).parameters) == [
        "model", "measured", "figures", "quality", "quality_how", "quality_by", "log", "driver", "torch", "activations", "date",
        "progress", "asked",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.record_diff).parameters) == ["a", "b", "tolerance", "quality_tolerance"]


def test_the_functions_of_routing_are_these() -> None:
    assert sorted(moeplan.routing.__all__) == ["capture", "drift", "import_dump", "place", "profile", "report"]
    assert list(inspect.signature(moeplan.routing.report).parameters) == [
        "file", "phase", "prompt_class", "layers", "drop_bound", "step_tokens",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.routing.drift).parameters) == [
        "a", "b", "bound", "phase", "prompt_class", "layers",
    ]  # fmt: skip
    assert list(inspect.signature(moeplan.routing.place).parameters) == [
        "file", "ranks", "nodes", "redundant", "groups", "kept_groups", "live", "model", "quant", "skew", "step_tokens", "gpu", "engine",
        "tp", "concurrency", "context", "input", "output", "phase", "prompt_class", "layers", "offline", "profiles",
    ]  # fmt: skip


def test_each_public_name_is_there() -> None:
    for name in moeplan.__all__:
        assert getattr(moeplan, name)
    assert moeplan.models(search="mixtral").schema == "moeplan.models/1"
    assert moeplan.gpus("h100").schema == "moeplan.gpus/1"


def child(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_verb_stays_a_function_whatever_was_imported_before() -> None:
    assert child("import moeplan.estimate, moeplan; print(callable(moeplan.estimate))") == "True"
    assert (
        child("import moeplan; from moeplan.estimate.result import Estimate; print(callable(moeplan.estimate))")
        == "True"
    )


def test_a_command_of_routing_stays_a_function_whatever_was_imported_before() -> None:
    assert child("import moeplan.routing.report, moeplan; print(callable(moeplan.routing.report))") == "True"
    assert (
        child("import moeplan; print(callable(moeplan.routing.report), callable(moeplan.routing.drift))") == "True True"
    )


def test_a_command_of_routing_loads_no_reader_of_dumps() -> None:
    names = "sorted(name for name in sys.modules if name.startswith('moeplan.sources.routing_dumps'))"
    assert child(f"import sys, moeplan.routing.report; print({names})") == "[]"


def test_importing_the_package_loads_no_verb_and_the_command_line_nothing_heavy() -> None:
    loaded = child("import sys, moeplan; print(sorted(name for name in sys.modules if name.startswith('moeplan.')))")
    assert loaded == "['moeplan.version']"
    heavy = "{'torch', 'huggingface_hub', 'transformers', 'rich', 'yaml'}"
    assert child(f"import sys, moeplan.cli; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_an_offline_estimate_as_json_loads_neither_the_hub_nor_rich() -> None:
    run = "from moeplan.cli import _run; _run(['estimate', 'mixtral-8x7b', '--offline', '--json', '--quiet'])"
    heavy = "{'torch', 'huggingface_hub', 'transformers', 'rich'}"
    assert child(f"import sys; {run}; print(sorted({heavy} & set(sys.modules)))") == "[]"
