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
