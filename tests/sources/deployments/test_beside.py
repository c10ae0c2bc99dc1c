"""Files of one folder that are read together, and files that another one names: never outside of its folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moeplan.core.deployed import Deployed, FileRead, Quote
from moeplan.sources.deployments.read import read_file, read_paths

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  template:
    spec:
      volumes:
      - name: config
        configMap: {name: engine}
      containers:
      - name: main
        image: nvcr.io/nvidia/tensorrt-llm/release:1.1.0
        command: [trtllm-serve, $(MODEL), --config, /config/engine.yaml, --tp_size, $(TP)]
        env:
        - name: MODEL
          valueFrom:
            configMapKeyRef: {name: names, key: model}
        envFrom:
        - configMapRef:
            name: sizes
        volumeMounts:
        - name: config
          mountPath: /config
"""
CONFIG_MAPS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: engine}
data:
  other.yaml: ""
  engine.yaml: |
    # many lines
    #
    kv_cache_config: {dtype: fp8}
    max_num_tokens: 4096
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: names}
  data: {model: org/name}
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: sizes}
  data: {TP: "4", HF_TOKEN: hf_abcdefghijklmnop}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "deploy").mkdir()
    monkeypatch.chdir(tmp_path / "deploy")
    return tmp_path / "deploy"


def read(*paths: str) -> dict[str, FileRead]:
    return {file.path: file for file in read_paths(paths or ["."])}


def line(deployed: Deployed) -> str:
    return " ".join(word.text for word in deployed.command)


def only(file: FileRead) -> Deployed:
    (deployed,) = file.deployments
    return deployed


def word(deployed: Deployed, text: str) -> Quote:
    return next(each for each in deployed.command if each.text == text)


# ConfigMaps ------------------------------------------------------------------------------------------------------


def test_config_maps_of_a_file_beside(here: Path) -> None:
    (here / "deployment.yaml").write_text(DEPLOYMENT)
    (here / "configmap.yaml").write_text(CONFIG_MAPS)
    files = read()
    deployed = only(files["deployment.yaml"])
    assert line(deployed) == (
        "trtllm-serve org/name --tp_size 4 --kv_cache_config.dtype fp8 --max_num_tokens 4096"
    )  # fmt: skip
    assert deployed.remarks == ()
    # What comes from the other file stands where this one refers to it, and says so.
    dtype, model, degree = word(deployed, "fp8"), word(deployed, "org/name"), word(deployed, "4")
    assert (dtype.why, dtype.spot.line) == ("ConfigMap engine in configmap.yaml", 23)
    assert (model.spot.line, degree.spot.line) == (13, 13)
    variables = deployed.variables
    assert (variables["MODEL"].why, variables["MODEL"].spot.line) == ("ConfigMap names in configmap.yaml", 15)
    assert (variables["TP"].why, variables["TP"].spot.line) == ("ConfigMap sizes in configmap.yaml", 20)
    # Nobody looks into the other file, which deploys nothing.
    assert variables["HF_TOKEN"].text == "***"
    assert [(each.name, each.spot.line) for each in files["deployment.yaml"].secrets] == [("HF_TOKEN", 20)]
    assert not files["configmap.yaml"].recognised


def test_a_script_of_a_file_beside(here: Path) -> None:
    script = ["#!/bin/bash", "", *["# more"] * 40, "vllm serve org/name --max-model-len $LEN"]
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: engine}\ndata:\n  start.sh: |\n"
    (here / "configmap.yaml").write_text(head + "".join(f"    {each}\n" for each in script))
    (here / "deployment.yaml").write_text("""\
apiVersion: v1
kind: Pod
metadata: {name: chat}
spec:
  volumes: [{name: config, configMap: {name: engine}}]
  containers:
  - name: main
    command: [bash, /config/start.sh]
    env: [{name: LEN, value: "8192"}]
    resources: {limits: {nvidia.com/gpu: 1}}
    volumeMounts:
    - name: config
      mountPath: /config
""")
    deployed = only(read()["deployment.yaml"])
    assert line(deployed) == "vllm serve org/name --max-model-len 8192"
    assert {each.spot.line for each in deployed.command} == {13}


def test_a_config_map_of_the_same_text_wins(here: Path) -> None:
    (here / "a.yaml").write_text(CONFIG_MAPS)
    (here / "b.yaml").write_text(
        CONFIG_MAPS.replace("fp8", "auto").replace("org/name", "org/own") + "---\n" + DEPLOYMENT
    )
    deployed = only(read()["b.yaml"])
    assert "org/own" in line(deployed)
    assert word(deployed, "auto").why == "ConfigMap engine"
    assert deployed.remarks == ()


def test_two_that_differ_leave_it_open(here: Path) -> None:
    (here / "deployment.yaml").write_text(DEPLOYMENT)
    (here / "a.yaml").write_text(CONFIG_MAPS)
    (here / "b.yaml").write_text(CONFIG_MAPS)
    assert only(read()["deployment.yaml"]).remarks == ()
    (here / "b.yaml").write_text(
        CONFIG_MAPS.replace("fp8", "auto").replace('"4"', '"8"').replace("org/name", "org/two")
    )
    deployed = only(read()["deployment.yaml"])
    assert [(each.code, each.spot.line) for each in deployed.remarks] == [
        ("config-map-unclear", 20),
        ("config-map-unclear", 15),
        ("config-map-unclear", 23),
    ]
    assert "ConfigMap names stands in a.yaml and in b.yaml" in deployed.remarks[1].message
    assert word(deployed, "$(MODEL)").unknown == ("$(MODEL)",)
    assert word(deployed, "$(TP)").unknown == ("$(TP)",)


def test_only_files_of_the_folder_that_are_read_count(here: Path) -> None:
    (here / "deployment.yaml").write_text(DEPLOYMENT)
    for name in ("below", "../above"):
        (here / name).mkdir()
        (here / name / "configmap.yaml").write_text(CONFIG_MAPS)
    (here / "configmap.txt").write_text(CONFIG_MAPS)
    for paths in ((".", "../above"), ("..",)):
        files = {Path(path).name: file for path, file in read(*paths).items() if "deployment" in path}
        assert [each.code for each in only(files["deployment.yaml"]).remarks] == ["config-map-missing"]
    (here / "configmap.yaml").write_text(CONFIG_MAPS)
    alone, together = read("deployment.yaml"), read("deployment.yaml", "./configmap.yaml")
    assert [each.code for each in only(alone["deployment.yaml"]).remarks] == ["config-map-missing"]
    assert only(together["deployment.yaml"]).remarks == ()
    (streamed,) = read_paths(["-"], stdin=DEPLOYMENT)
    assert [each.code for each in only(streamed).remarks] == ["config-map-missing"]


def test_a_broken_file_beside_changes_nothing(here: Path) -> None:
    (here / "deployment.yaml").write_text(DEPLOYMENT)
    (here / "a.yaml").write_text(CONFIG_MAPS + "---\nkind: ConfigMap\n  x: [\n")
    (here / "b.yaml").write_bytes(b"kind: ConfigMap\n\xff")
    (here / "c.yaml").symlink_to(here / "c.yaml")
    assert only(read()["deployment.yaml"]).remarks == ()
    (here / "a.yaml").write_text(CONFIG_MAPS.replace("{dtype: fp8}", "{dtype: ["))
    (remark,) = only(read()["deployment.yaml"]).remarks
    assert (remark.code, remark.spot.line) == ("file-broken", 23)
    assert remark.message.startswith("ConfigMap engine in a.yaml: not valid YAML")


# Files that compose names ----------------------------------------------------------------------------------------

COMPOSE = """\
services:
  chat:
    image: vllm/vllm-openai:v0.24.0
    command: --model ${MODEL} --max-model-len 4096
    env_file: FILE
    environment:
      VLLM_B: own
"""


def test_env_files(here: Path) -> None:
    (here / ".env").write_text("MODEL=org/name\nVLLM_A=0\n")
    (here / "gpu.env").write_text("VLLM_A=1\nVLLM_B=2\nVLLM_C=${MODEL}/$VLLM_A\nHF_TOKEN=hf_abcdefghijklmnop\n")
    (here / "more.env").write_text("VLLM_A='3' # three\n")
    text = COMPOSE.replace("FILE", "\n    - gpu.env\n    - {path: ./more.env}\n    - {path: none.env, required: false}")
    (here / "compose.yaml").write_text(text)
    file = read()["compose.yaml"]
    deployed = only(file)
    held = {name: (quote.text, quote.spot.line, quote.why) for name, quote in deployed.variables.items()}
    assert held["VLLM_A"] == ("3", 7, "the file more.env")
    assert held["VLLM_B"] == ("own", 10, "")
    assert held["VLLM_C"] == ("org/name/1", 6, "the file gpu.env, variable MODEL, variable VLLM_A")
    assert held["HF_TOKEN"][0] == "***"
    assert (file.secrets, deployed.remarks, line(deployed).split()[3]) == ((), (), "org/name")


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "pipe", "folder", "absent", "nested", "parent"])
def test_a_file_that_is_not_beside_is_told_and_not_read(kind: str, here: Path) -> None:
    outside = here.parent / "outside.env"
    outside.write_text("VLLM_A=1\n")
    name = {"above": "../outside.env", "absolute": str(outside), "nested": "in/x.env", "parent": ".."}.get(
        kind, "x.env"
    )
    (here / "in").mkdir()
    (here / "in" / "x.env").write_text("VLLM_A=1\n")
    if kind == "link":
        (here / "x.env").symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(here / "x.env")
    elif kind == "folder":
        (here / "x.env").mkdir()
    (here / "compose.yaml").write_text(COMPOSE.replace("FILE", name).replace("${MODEL}", "org/name"))
    deployed = only(read()["compose.yaml"])
    assert "VLLM_A" not in deployed.variables
    assert [(each.code, each.spot.line) for each in deployed.remarks] == [("env-file-elsewhere", 5)]
    extending = (
        f"services:\n  chat:\n    extends: {{file: {name}, service: base}}\n    image: vllm/vllm-openai:v0.24.0\n"
    )
    (here / "compose.yaml").write_text(extending + "    command: --model org/name\n")
    assert [(each.code, each.spot.line) for each in only(read()["compose.yaml"]).remarks] == [("extends-elsewhere", 3)]


def test_a_pipe_in_the_place_of_the_variables_is_not_waited_for(here: Path) -> None:
    os.mkfifo(here / ".env")
    (here / "compose.yaml").write_text(COMPOSE.replace("FILE", ".env"))
    assert "${MODEL}" in line(only(read()["compose.yaml"]))


def test_a_link_to_a_file_of_the_folder_is_followed(here: Path) -> None:
    (here / "real").write_text("MODEL=org/name\n")
    (here / ".env").symlink_to("real")
    (here / "compose.yaml").write_text(COMPOSE.replace("FILE", ".env"))
    deployed = only(read()["compose.yaml"])
    assert "org/name" in line(deployed)
    assert (deployed.variables["MODEL"].spot.line, deployed.variables["MODEL"].why) == (5, "the file .env")


COMMON = """\
# Many lines, so that those of one file are none of the other.
#
#
#
#
#
#
#
services:
  root:
    image: vllm/vllm-openai:v0.24.0
    environment: [VLLM_A=1, VLLM_B=2, HF_TOKEN=hf_abcdefghijklmnop]
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 2, capabilities: [gpu]}]}}}
  base:
    extends: root
    command: --model org/name
      --tensor-parallel-size 2
    environment: [VLLM_B=3]
"""
EXTENDING = """\
services:
  chat:
    extends:
      file: ./common.yaml
      service: base
    environment:
      VLLM_C: own
"""


def test_services_of_a_file_beside(here: Path) -> None:
    (here / "common.yaml").write_text(COMMON)
    (here / "compose.yaml").write_text(EXTENDING)
    files = read()
    deployed = only(files["compose.yaml"])
    assert line(deployed) == "vllm serve --model org/name --tensor-parallel-size 2"
    held = {name: (quote.text, quote.spot.line) for name, quote in deployed.variables.items()}
    assert held == {"VLLM_A": ("1", 3), "VLLM_B": ("3", 3), "VLLM_C": ("own", 7), "HF_TOKEN": ("***", 3)}
    assert {(each.spot.line, each.spot.path) for each in deployed.command} == {(3, "services.chat.extends")}
    assert word(deployed, "org/name").why == "service base of common.yaml"
    assert deployed.gang.gpus_per_pod is not None
    assert (deployed.gang.gpus_per_pod.spot.line, deployed.gang.gpus_per_engine) == (3, 2)
    assert deployed.variables["VLLM_C"].why == ""
    assert (files["compose.yaml"].secrets, len(files["common.yaml"].secrets)) == ((), 1)


def test_services_that_extend_each_other_in_circles(here: Path) -> None:
    (here / "common.yaml").write_text(COMMON.replace("extends: root", "extends: {file: compose.yaml, service: chat}"))
    (here / "compose.yaml").write_text(EXTENDING + "    image: vllm/vllm-openai:v0.24.0\n")
    assert "org/name" in line(only(read()["compose.yaml"]))


def test_a_text_alone_has_nothing_beside_it(here: Path) -> None:
    (here / "common.yaml").write_text(COMMON)
    (file,) = read_paths(
        ["-"], stdin=EXTENDING + "    image: vllm/vllm-openai:v0.24.0\n    command: --model org/name\n"
    )
    assert [each.code for each in only(file).remarks] == ["extends-elsewhere"]


# Time ------------------------------------------------------------------------------------------------------------


def test_many_objects_of_one_stream_cost_little() -> None:
    workload = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: dNUMBER}
spec: {template: {spec: {containers: [{name: m, image: 'vllm/vllm-openai:v0.24.0', args: [--model, org/name]}]}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hNUMBER}
spec: {scaleTargetRef: {kind: Deployment, name: dNUMBER}, maxReplicas: NUMBER}
"""
    documents = [workload.replace("NUMBER", str(number)) for number in range(600)]
    read_file("a.yaml", documents[0])
    start = time.process_time()
    found = read_file("a.yaml", "---\n".join(documents)).deployments
    assert time.process_time() - start < 4
    assert [each.gang.max_replicas.text for each in found if each.gang.max_replicas] == [str(n) for n in range(600)]


def test_a_folder_whose_config_maps_are_elsewhere_costs_little(here: Path) -> None:
    for number in range(150):
        (here / f"{number}.yaml").write_text(DEPLOYMENT.replace("chat", f"chat{number}"))
        (here / f"c{number}.yaml").write_text(CONFIG_MAPS.replace("name: ", f"name: x{number}"))
    start = time.process_time()
    assert sum(len(file.deployments) for file in read_paths(["."])) == 150
    assert time.process_time() - start < 6
