"""Values that the file leaves open, and that decide nothing: they are told, and the verdict stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.check import check
from moeplan.check.result import Check

COMMAND = "vllm serve mistralai/Mixtral-8x7B-v0.1 -tp 4"


def checked(folder: Path, script: str) -> Check:
    (folder / "serve.sh").write_text(f"#!/bin/bash\n{script}\n")
    return check(folder / "serve.sh", gpu="h100", offline=True)


@pytest.mark.parametrize(
    "before",
    [
        "export VLLM_HOST_IP=$(hostname -I | cut -d' ' -f1)",
        "export VLLM_SOME_NEW_BOOTSTRAP_PORT=${PORTS[$i]}",
        "export CUDA_VISIBLE_DEVICES=${CARDS[$i]}",
        "export VLLM_LOGGING_LEVEL=$LEVEL",
    ],
)
def test_variables_that_say_nothing_about_memory(tmp_path: Path, before: str) -> None:
    found = checked(tmp_path, f"{before}\n{COMMAND}")
    assert [each.verdict for each in found.deployments] == ["pass"]
    assert not [each for each in found.findings if each.code in ("READ006", "HYG005")]


def test_a_variable_that_may_matter_is_missed_in_one_line(tmp_path: Path) -> None:
    found = checked(tmp_path, f"export VLLM_SOMETHING_NEW=$(cat <<EOF\none\ntwo\nEOF\n)\n{COMMAND}")
    assert [each.verdict for each in found.deployments] == ["cannot-verify"]
    (open_value,) = [each for each in found.findings if each.code == "READ006"]
    assert "\n" not in open_value.message
    assert open_value.hint == "say --set VLLM_SOMETHING_NEW=VALUE"


@pytest.mark.parametrize("value", ["$(cat kv.json)", "'{\"kv_role\": \"'$ROLE'\"}'"])
@pytest.mark.parametrize("sign", [" ", "="])
def test_a_flag_that_no_figure_depends_on(tmp_path: Path, value: str, sign: str) -> None:
    found = checked(tmp_path, f"{COMMAND} --kv-transfer-config{sign}{value} --max-num-seqs 64")
    (deployment,) = found.deployments
    assert deployment.verdict == "pass"
    assert "--max-num-seqs" in {each.name for each in deployment.settings}
    (told,) = [each for each in found.findings if each.code == "HYG005"]
    assert "not known from the file, and what it does to memory is not modelled" in told.message


def test_a_flag_that_figures_depend_on(tmp_path: Path) -> None:
    found = checked(tmp_path, f"{COMMAND} --max-model-len $LENGTH")
    assert [each.verdict for each in found.deployments] == ["cannot-verify"]


def test_an_engine_that_is_not_named_still_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {a: {build: ., command: --model org/name --tensor-parallel-size 2}}")
    found = check(tmp_path / "a.yaml", gpu="h100", offline=True)
    assert [(each.model, each.engine) for each in found.deployments] == [("org/name", None)]
    assert {each.code for each in found.findings if each.level == "unknown"} >= {"READ006"}
    assert "READ004" not in {each.code for each in found.findings}


def test_a_setting_has_its_place_however_it_is_spelled(tmp_path: Path) -> None:
    script = "trtllm-serve deepseek-ai/DeepSeek-R1 --tp_size 8 --kv_cache_free_gpu_memory_fraction 0.8\n"
    (tmp_path / "a.sh").write_text(script)
    (deployment,) = check(tmp_path / "a.sh", gpu="h200", offline=True).deployments
    found = {each.name: (each.value, each.origin, each.where.rpartition(":")[2]) for each in deployment.settings}
    assert found["--kv_cache_free_gpu_memory_fraction"] == ("0.8", "stated", "1")
    assert "--tp_size" not in found


@pytest.mark.parametrize("name", ["VLLM_ENABLE_V1_MULTIPROCESSING=0", "VLLM_KV_CACHE_LAYOUT=HND", "VLLM_X_TIMEOUT_S=9"])
def test_variables_of_kernels_servers_and_layouts_make_no_doubt(tmp_path: Path, name: str) -> None:
    found = checked(tmp_path, f"export {name}\n{COMMAND} --kernel-config.enable_flashinfer_autotune=False")
    assert not [each for each in found.findings if each.code == "HYG005"]
