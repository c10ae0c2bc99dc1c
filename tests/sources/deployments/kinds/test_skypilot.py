"""SkyPilot tasks and services."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeplan.core.deployed import Quote, Spot
from tests.sources.deployments.reading import (
    example,
    line,
    lines_of,
    model_of,
    only,
    read,
    recognised,
    says,
)

TASK = """\
name: served
envs:
  MODEL: org/model
  LENGTH:
resources:
  image_id: docker:vllm/vllm-openai:v0.10.0
  accelerators: H100:8
num_nodes: 2
run: |
  if [ "$SKYPILOT_NODE_RANK" == "0" ]; then
    vllm serve $MODEL \\
      --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE \\
      --pipeline-parallel-size $SKYPILOT_NUM_NODES --max-model-len $LENGTH
  else
    vllm serve $MODEL --headless --node-rank $SKYPILOT_NODE_RANK
  fi
service:
  replica_policy: {min_replicas: 1, max_replicas: 3}
"""


def task(resources: str, run: str = "vllm serve org/model") -> str:
    return f"resources: {resources}\nrun: |\n  {run}\n"


def test_the_heads_engine_of_a_task_on_several_nodes() -> None:
    served = only(read("skypilot", TASK, LENGTH="8192"))
    assert (served.kind, served.name, served.engine) == ("skypilot", "served", "vllm")
    assert line(served.command) == (
        "vllm serve org/model --tensor-parallel-size 8 --pipeline-parallel-size 2 --max-model-len 8192"
    )
    assert lines_of(served.command, "vllm", "--tensor-parallel-size", "8192") == [11, 12, 13]
    assert served.gpu is not None
    assert (served.gpu.text, served.gpu.spot.line) == ("H100", 7)
    assert served.gang.gpus_per_pod == Quote("8", Spot(7, 17, "resources.accelerators"))
    assert served.gang.gpus_per_engine == 16
    assert served.gang.replicas is not None
    assert served.gang.max_replicas is not None
    assert (served.gang.replicas.text, served.gang.max_replicas.text) == ("1", "3")
    assert served.image is not None
    assert served.image.text == "vllm/vllm-openai:v0.10.0"
    assert served.engine_version is not None


def test_a_variable_that_only_the_command_line_gives_is_left_open() -> None:
    served = only(read("skypilot", TASK))
    assert served.command[-1].unknown == ("$LENGTH",)


@pytest.mark.parametrize(
    ("resources", "gpu", "number"),
    [
        ("{accelerators: 'H100:8'}", "H100", "8"),
        ("{accelerators: L4}", "L4", "1"),
        ("{accelerators: {A100-80GB: 4}}", "A100-80GB", "4"),
        # Without a space behind the colon YAML sees one word.
        ("{accelerators: {A100-80GB:4}}", "A100-80GB", "4"),
        ("{instance_type: p5.48xlarge}", "H100-SXM", "8"),
        ("{any_of: [{use_spot: true}, {use_spot: false}], accelerators: 'L4:2'}", "L4", "2"),
        ("{ordered: [{accelerators: 'L4:2'}, {accelerators: 'L4:2', use_spot: true}]}", "L4", "2"),
    ],
)
def test_one_kind_of_machine(resources: str, gpu: str, number: str) -> None:
    served = only(read("skypilot", task(resources)))
    assert served.gpu is not None
    assert served.gang.gpus_per_pod is not None
    assert (served.gpu.text, served.gang.gpus_per_pod.text) == (gpu, number)
    assert served.gpu.known


@pytest.mark.parametrize(
    ("resources", "gpus", "number"),
    [
        ("{accelerators: {H100:1, H200:1}}", ("H100", "H200"), 1),
        ("{accelerators: {L4, A10G}}", ("L4", "A10G"), 1),
        ("{accelerators: ['A100:8', 'H100:4']}", ("A100", "H100"), None),
        ("{any_of: [{accelerators: 'H100:8'}, {accelerators: 'A100:8'}]}", ("H100", "A100"), 8),
    ],
)
def test_choices_leave_the_card_open(resources: str, gpus: tuple[str, ...], number: int | None) -> None:
    served = only(read("skypilot", task(resources)))
    assert served.gpu is not None
    assert (served.gpu.origin, served.gpu.unknown) == ("unresolved", gpus)
    assert served.gang.gpus_per_pod is not None
    assert served.gang.gpus_per_pod.whole_number() == number


def test_the_number_of_gpus_is_what_nvidia_smi_counts() -> None:
    served = only(
        read("skypilot", task("{accelerators: 'H100:4'}", "vllm serve org/model -tp $(nvidia-smi -L | wc -l)"))
    )
    assert says(served.command, "-tp 4")


def test_a_version_that_the_setup_installs() -> None:
    text = (
        task("{accelerators: 'H100:8'}")
        + "setup: |\n  pip install requests==2.0\n  uv pip install 'vllm[audio]==0.9.1'\n"
    )
    served = only(read("skypilot", text))
    assert served.engine_version is not None
    assert (served.engine_version.text, served.engine_version.spot.line) == ("0.9.1", 6)


def test_tasks_of_one_file_are_counted() -> None:
    text = "name: pipeline\n---\n" + task("{accelerators: L4}") + "---\n" + task("{accelerators: H100}")
    found = read("skypilot", text, "tasks/serve.sky.yaml").deployments
    assert [(each.name, each.gpu.text if each.gpu else None) for each in found] == [
        ("serve-1", "L4"),
        ("serve-2", "H100"),
    ]


def test_a_task_without_engine_is_passed_over() -> None:
    found = read("skypilot", task("{accelerators: L4}", "python train.py"), "train.yaml")
    assert (found.deployments, found.passed_over) == ((), ("train",))


def test_tokens_are_hidden() -> None:
    token = "hf_" + "c" * 24
    found = read("skypilot", f"envs: {{HF_TOKEN: {token}, A: x}}\nsecrets: {{KEY: abcdefgh12345678}}\n{task('{}')}")
    assert {secret.name for secret in found.secrets} == {"HF_TOKEN", "KEY"}
    assert token not in repr(found)
    assert "abcdefgh12345678" not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TASK, True),
        ("run: echo\n", False),
        ("resources: {cpus: 2}\n", False),
        ("resources: {}\nrun: [a]\n", False),
        ("kind: Task\nresources: {}\nrun: x\n", False),
    ],
)
def test_it_is_recognised_by_its_script(text: str, expected: bool) -> None:
    assert recognised("skypilot", text) is expected


def test_kimi_example(shared: Path) -> None:
    text, facts = example(shared, "skypilot-kimi-k2.sky.yaml")
    served, (expected,) = only(read("skypilot", text, "skypilot-kimi-k2.sky.yaml")), facts["deployments"]
    assert (served.name, served.engine, model_of(served)) == ("skypilot-kimi-k2", expected["engine"], expected["model"])
    assert served.gpu is not None
    assert served.gpu.text == expected["gpu"]
    assert served.gang.gpus_per_engine == expected["gpus_per_engine"]
    assert served.gang.replicas is not None
    assert served.gang.replicas.whole_number() == expected["replicas"]
    assert expected["gpus_per_engine"] * expected["replicas"] == facts["total_gpus"]
    assert says(served.command, "--tensor-parallel-size 8", "--pipeline-parallel-size 2", "--max-model-len 32768")
    assert lines_of(served.command, "moonshotai/Kimi-K2-Instruct", "--max-model-len") == [12, 15]
