"""What a comment `# moeplan:` is about: the deployment that it stands above or in, its document, the line behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.check import check, deployments_of
from moeplan.check.result import Check
from tests.check.rule_examples import COMMIT, pod

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
COMPOSE = """\
services:
  proxy: {image: nginx}
  # moeplan: gpu=h100-sxm
  # It has one card.

  one:
    image: vllm/vllm-openai:v0.24.0
    command: --model org/one
  # moeplan: gpu=h200
  two:
    # moeplan: context=1024
    image: vllm/vllm-openai:v0.24.0
    command: --model org/two
"""
VALUES = """\
multinode: false
modelArtifacts:
  # moeplan: model=org/name
  uri: pvc://claim/name
decode: # moeplan: gpu=h200
  replicas: 1
  containers: [{name: vllm, image: 'vllm/vllm-openai:v0.24.0', modelCommand: vllmServe}]
# moeplan: gpu=h100-sxm
prefill:
  replicas: 1
  containers: [{name: vllm, image: 'vllm/vllm-openai:v0.24.0', modelCommand: vllmServe}]
"""


def stated(folder: Path, text: str, name: str = "deploy.yaml") -> dict[str, tuple[str | None, str | None]]:
    """Model and GPU of each deployment."""
    (folder / name).write_text(text)
    subjects, _ = deployments_of(folder / name)
    return {
        each.deployed.name: (each.model.text if each.model else None, each.gpu.text if each.gpu else None)
        for each in subjects
    }


def test_comments_above_keys(tmp_path: Path) -> None:
    assert stated(tmp_path, COMPOSE) == {"one": ("org/one", "h100-sxm"), "two": ("org/two", "h200")}


def test_what_stands_before_all_deployments_of_a_document_is_about_each(tmp_path: Path) -> None:
    assert stated(tmp_path, VALUES) == {"decode": ("org/name", "h200"), "prefill": ("org/name", "h100-sxm")}


@pytest.mark.parametrize(
    "above",
    [
        "---\n# moeplan: gpu=h200\n",
        "---\n# moeplan: gpu=h200\n# for long texts\n\n# and many\n",
        "# moeplan: gpu=h200\n---\n",
        "# moeplan: gpu=h200\n# Source: chart\n---\n# Source: chart\n\n",
        "--- # moeplan: gpu=h200\n",
    ],
)
def test_comments_above_a_later_document(above: str, tmp_path: Path) -> None:
    first = pod("--max-model-len", "8192", card=None).replace("name: server", "name: first")
    second = pod("--max-model-len", "8192", card=None)
    gpus = {name: gpu for name, (_, gpu) in stated(tmp_path, first + above + second).items()}
    assert gpus == {"first": None, "server": "h200"}


def test_a_comment_of_another_document_is_about_nothing_here(tmp_path: Path) -> None:
    text = pod("--max-model-len", "8192", card=None) + "---\n" + SERVICE + "# moeplan: gpu=h200\nspec: {}\n"
    assert stated(tmp_path, text)["server"][1] is None


def test_a_comment_above_a_document_is_about_all_that_it_deploys(tmp_path: Path) -> None:
    service = """\
# moeplan: gpu=h200
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: s}
spec:
  model: {uri: "hf://org/name"}
  # moeplan: gpu=h100-sxm
  prefill: {replicas: 3}
"""
    found = stated(tmp_path, SERVICE + "---\n" + service)
    assert {name: gpu for name, (_, gpu) in found.items()} == {"s-decode": "h200", "s-prefill": "h100-sxm"}


# Findings that are ignored ---------------------------------------------------------------------------------------


def judged(folder: Path, text: str) -> Check:
    (folder / "deploy.yaml").write_text(text)
    return check(folder / "deploy.yaml", offline=True)


def state(found: Check, code: str) -> dict[str | None, str]:
    return {each.deployment: each.state for each in found.findings if each.code == code}


LATEST = pod(
    "--tensor-parallel-size", "2", "--max-model-len", "8192", "--revision", COMMIT, image="vllm/vllm-openai:latest"
)


@pytest.mark.parametrize(
    ("old", "new", "suppressed"),
    [
        ("image:", "# moeplan: ignore[HYG002] why\n          # more\n\n          image:", True),
        ("latest", "latest # moeplan: ignore[HYG002] why", True),
        ("apiVersion", "kind: Other\n---\n# moeplan: ignore[HYG002] why\n# more\napiVersion", True),
        ("apiVersion", "kind: Other # moeplan: ignore[HYG002] why\n---\napiVersion", False),
        # Behind something, a comment is not about the next line.
        ("- name: engine", "- name: engine # moeplan: ignore[HYG002] why", False),
        ("replicas: 1", "replicas: 1 # moeplan: ignore[HYG002] why", False),
    ],
)
def test_what_an_ignored_finding_stands_at(old: str, new: str, suppressed: bool, tmp_path: Path) -> None:
    found = state(judged(tmp_path, LATEST.replace(old, new, 1)), "HYG002")
    assert found == {"server": "suppressed" if suppressed else "new"}


def test_a_comment_above_a_key_ignores_for_one_deployment(tmp_path: Path) -> None:
    text = COMPOSE.replace("v0.24.0", "latest").replace("org/", "mistralai/")
    text = text.replace("# moeplan: gpu=h200", "# moeplan: ignore[HYG002] why\n  # moeplan: gpu=h200")
    assert state(judged(tmp_path, text), "HYG002") == {"one": "new", "two": "suppressed"}


def test_what_is_told_of_a_deployment_beside_its_rules_is_ignored_above_it(tmp_path: Path) -> None:
    service = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: s}
spec:
  baseRefs: [{name: elsewhere}]
  model: {uri: "hf://mistralai/Mixtral-8x7B-v0.1"}
"""
    text = SERVICE + "---\n" + service
    assert state(judged(tmp_path, text), "READ003") == {"s": "new"}
    ignored = text.replace("---\n", "---\n# moeplan: ignore[READ003] it sets nothing of memory\n\n")
    assert state(judged(tmp_path, ignored), "READ003") == {"s": "suppressed"}
