"""Files that a deployment's command names lie where the command runs, not where it is checked: none of them is opened."""

from __future__ import annotations

from pathlib import Path

from moeplan.check import check


def test_a_file_of_settings_is_not_opened(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("tensor-parallel-size: [broken\n")
    (tmp_path / "serve.sh").write_text(f"vllm serve mistralai/Mixtral-8x7B-v0.1 -tp 4 --config {settings}\n")
    found = check(tmp_path / "serve.sh", gpu="h100", offline=True)
    (deployment,) = found.deployments
    assert deployment.memory is not None
    assert [finding.line for finding in found.findings if "does not read this file" in finding.message] == [1]
