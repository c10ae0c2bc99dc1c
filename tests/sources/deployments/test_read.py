"""Whole files and folders: what is recognised, what is told, and where."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from moeplan.core.deployed import FileRead, Quote, Spot
from moeplan.core.errors import InputError
from moeplan.sources.deployments.kinds import sglang_config, trtllm_engine, vllm_config
from moeplan.sources.deployments.read import may_deploy, read_file, read_paths

DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: main
        image: vllm/vllm-openai:v0.23.0
        args: [--model, Qwen/Qwen3-30B-A3B]
        resources: {limits: {nvidia.com/gpu: "2"}}
"""
NGINX = DEPLOYMENT.replace("vllm/vllm-openai:v0.23.0", "nginx").replace("--model, Qwen/Qwen3-30B-A3B", "-g")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def codes(file: FileRead) -> list[str]:
    return [remark.code for remark in file.remarks]


def test_a_deployment() -> None:
    found = read_file("a.yaml", DEPLOYMENT)
    assert (found.path, found.recognised, found.remarks, found.secrets) == ("a.yaml", True, (), ())
    (deployed,) = found.deployments
    assert (deployed.engine, deployed.gang.gpus_per_engine) == ("vllm", 2)


def test_a_script() -> None:
    found = read_file("serve.sh", "#!/bin/sh\nMODEL=org/name\nvllm serve $MODEL --tensor-parallel-size 2\n")
    (deployed,) = found.deployments
    assert [word.text for word in deployed.command] == ["vllm", "serve", "org/name", "--tensor-parallel-size", "2"]
    assert deployed.command[2].spot[:2] == (3, 12)


def test_variables_from_outside() -> None:
    found = read_file("serve.sh", "vllm serve $MODEL\n", {"MODEL": Quote("org/name", Spot(1))})
    assert found.deployments[0].command[-1].text == "org/name"
    assert not read_file("serve.sh", "vllm serve $MODEL\n").deployments[0].command[-1].known


def test_standard_input_may_hold_yaml_or_a_script() -> None:
    assert len(read_file("-", DEPLOYMENT + "---\n" + DEPLOYMENT).deployments) == 2
    assert len(read_file("-", "#!/bin/bash\nvllm serve org/name\n").deployments) == 1


@pytest.mark.parametrize("name", ["deploy", "deploy.txt", "deploy.yaml", "deploy.json"])
def test_a_named_file_may_be_called_anything(name: str) -> None:
    assert len(read_file(name, DEPLOYMENT).deployments) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "name: CI\non: push\n"),
        ("a.yaml", "model: car\ncolour: blue\n"),
        ("a.yaml", ""),
        ("a.yaml", "just words about a model\n"),
        ("a.sh", "echo model\n"),
        ("notes.md", "# A model\n\nRun `vllm serve`: it works.\n"),
        ("a.json", '{"name": "gpu", "version": 1}'),
        # What is no YAML by its name is no broken YAML, whatever it begins like.
        ("a.sh", "#!/bin/bash\nPIDS: 1\n\techo: vllm: [\n"),
        ("Dockerfile.cpu", "FROM ubuntu\nRUN echo a: b: {{c}} && pip install vllm\n"),
        ("run", "#!/bin/bash\nkey: a: b\n# vllm\n"),
    ],
)
def test_files_of_other_programs(name: str, text: str) -> None:
    named = read_file(name, text)
    assert (named.recognised, named.deployments, codes(named)) == (False, (), ["nothing-recognised"])
    met = read_file(name, text, named=False)
    assert (met.recognised, met.remarks) == (False, ())


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("trtllm", "tensor_parallel_size: 4\nenable_attention_dp: true\nmax_batch_size: 64\n"),
        ("trtllm", '{"kv_cache_config": {"dtype": "fp8"}, "max_num_tokens": 4096}'),
        ("vllm", "max-num-seqs: 8\nno-enable-prefix-caching: true\n"),
        ("vllm", "tensor_parallel_size: 2\nenforce_eager: true\n"),
        ("sglang", "tp-size: 8\nmem-fraction-static: 0.8\n"),
    ],
)
def test_settings_of_an_engine_that_name_nothing(engine: str, text: str) -> None:
    (deployed,) = read_file("settings.yaml", text, named=False).deployments
    assert deployed.engine == engine


def test_every_option_of_an_engines_own_is_known_for_one() -> None:
    """A file of it is not passed over before a reader sees it."""
    for module in (vllm_config, sglang_config, trtllm_engine):
        for name in module.OWN:
            for spelled in (name, name.replace("-", "_")):
                for text in (
                    f"{spelled}: 1\n",
                    f"x: 1\n{spelled} : 1\n",
                    f"{{x: 1,{spelled}: 1}}",
                    f'{{"{spelled}":1}}',
                ):
                    assert may_deploy(text), text


def test_a_service_of_another_file_alone() -> None:
    found = read_file("compose.yaml", "services: {a: {extends: {file: base.yaml, service: a}}}\n", named=False)
    assert (found.recognised, found.passed_over) == (True, ("a",))


def test_json_may_be_indented_by_tabs() -> None:
    text = """{
\t"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat"},
\t"spec": {"template": {"spec": {"containers": [
\t\t{"name": "main", "image": "vllm/vllm-openai:v0.23.0", "args": ["--model", "org/name"]}]}}}
}"""
    (deployed,) = read_file("a.json", text).deployments
    assert deployed.command[-1].text == "org/name"


@pytest.mark.parametrize("begin", ["", "---\n", "# rendered\n---\n"])
def test_a_long_stream_keeps_its_lines(begin: str) -> None:
    other = "kind: CustomResourceDefinition\n" + "about: words and more words\n" * 500
    stream = begin + "---\n".join([other] * 30) + "---\n" + DEPLOYMENT + "---\n" + other
    assert len(stream) > 256 * 1024
    (deployed,) = read_file("-", stream).deployments
    assert stream.split("\n")[deployed.spot.line - 1] == "apiVersion: apps/v1"


def test_objects_made_for_engines_are_recognised_where_they_start_none() -> None:
    text = "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceServiceConfig\nmetadata: {name: base}\nspec: {}\n"
    found = read_file("a.yaml", text + "# model\n")
    assert (found.recognised, found.deployments, found.remarks) == (True, (), ())


# What cannot be read ---------------------------------------------------------------------------------------------


def test_broken_yaml_is_told_and_what_stands_before_it_is_read() -> None:
    found = read_file("a.yaml", DEPLOYMENT + "---\nkind: [\n")
    assert len(found.deployments) == 1
    assert codes(found) == ["file-broken"]
    assert found.remarks[0].spot.line == DEPLOYMENT.count("\n") + 3


def test_broken_yaml_of_others_is_passed_over() -> None:
    assert read_file("a.yaml", "models: [\n", named=False).remarks == ()
    assert codes(read_file("a.yaml", "models: [\n")) == ["file-broken"]
    assert codes(read_file("a.yaml", "image: vllm/vllm-openai\nargs: [\n", named=False)) == ["file-broken"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("replicas: 2", "replicas: {{ .Values.replicas }}", 5),
        ("image: vllm/vllm-openai:v0.23.0", 'image: "vllm/vllm-openai:{{ .Values.tag }}"', 10),
        ("image: vllm/vllm-openai:v0.23.0", "image: vllm/vllm-openai:{{ .Values.tag }}", 10),
        ("spec:\n  replicas", "{{- if .Values.on }}\nspec:\n  replicas", 4),
        ("metadata: {name: chat}", "{% if on %}\nmetadata: {name: chat}\n{% endif %}", 3),
        ("        resources:", "        {{- with .Values.resources }}\n        resources:", 12),
    ],
)
def test_templates_that_are_not_rendered(old: str, new: str, line: int) -> None:
    found = read_file("chart/templates/deploy.yaml", DEPLOYMENT.replace(old, new, 1), named=False)
    assert found.deployments == ()
    assert codes(found) == ["not-rendered"]
    assert found.remarks[0].spot.line == line
    assert "helm template" in found.remarks[0].hint


def test_templates_of_other_programs_are_passed_over() -> None:
    text = NGINX.replace("replicas: 2", "replicas: {{ .Values.replicas }}").replace("nvidia.com/gpu", "cpu")
    assert read_file("a.yaml", text + "# model\n", named=False).remarks == ()


def test_a_template_in_a_longer_text_is_a_text() -> None:
    text = (
        DEPLOYMENT
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  chat.jinja: |\n    {{ bos }}\n    x\n"
    )
    found = read_file("a.yaml", text)
    assert (len(found.deployments), found.remarks) == (1, ())


def test_a_template_in_settings_is_resolved_or_named() -> None:
    text = """modelArtifacts: {name: org/name, uri: "hf://{{ .Values.modelArtifacts.name }}"}
decode:
  replicas: 1
  containers:
  - image: vllm/vllm-openai:v0.23.0
    modelCommand: vllmServe
    args: [--max-model-len, "{{ .Values.length }}"]
"""
    found = read_file("values.yaml", text)
    (deployed,) = found.deployments
    assert "org/name" in [word.text for word in deployed.command]
    (length,) = [word for word in deployed.command if "{{" in word.text]
    assert (length.unknown, length.origin) == (("{{ .Values.length }}",), "unresolved")


def test_overlays_are_told_where_they_stand_beside_an_engine(here: Path) -> None:
    for folder, text in (("a", DEPLOYMENT), ("b", NGINX)):
        (here / folder).mkdir()
        (here / folder / "deploy.yaml").write_text(text)
        (here / folder / "kustomization.yaml").write_text("resources: [deploy.yaml]\n")
    files = read_paths(["."])
    told = {file.path: codes(file) for file in files if file.remarks}
    assert told == {"a/kustomization.yaml": ["kustomization"]}
    (remark,) = next(file for file in files if file.path == "a/kustomization.yaml").remarks
    assert "kustomize build a | moeplan check -" in remark.hint


# Beside ----------------------------------------------------------------------------------------------------------


def test_comments_and_tokens_are_gathered() -> None:
    text = (
        "# moeplan: gpu=h200\n" + DEPLOYMENT + "        env:\n        - {name: HF_TOKEN, value: hf_abcdefghijklmnop}\n"
    )
    text += '        - {name: X, value: "--api-key opensesame"}\n'
    found = read_file("a.yaml", text)
    assert found.directives[0].settings == {"gpu": "h200"}
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 15), ("api-key", 16)]
    assert "hf_abcdefghijklmnop" not in repr(found)


def test_tokens_of_a_script_are_told_once_and_kept_nowhere() -> None:
    script = (
        "export HF_TOKEN=hf_abcdefghijklmnop\n# API_KEY=nothing\nvllm serve org/name --api-key opensesame --port 80\n"
    )
    found = read_file("serve.sh", script)
    assert [(secret.name, secret.spot.line) for secret in found.secrets] == [("HF_TOKEN", 1), ("api-key", 3)]
    assert "hf_abcdefghijklmnop" not in repr(found)
    assert "opensesame" not in repr(found)


def test_a_line_that_is_drawn_is_no_flag() -> None:
    text = DEPLOYMENT + '        env: [{name: X, value: "------Inter-token Latency------ ---API-key nothing"}]\n'
    assert read_file("a.yaml", text).secrets == ()


@pytest.mark.parametrize("old", ["chat", "replicas: 2", "Qwen/Qwen3-30B-A3B", "v0.23.0", "main", '"2"'])
def test_a_token_in_an_odd_place_is_kept_nowhere(old: str) -> None:
    new = "replicas: hf_abcdefghijklmnop" if old.startswith("replicas") else "hf_abcdefghijklmnop"
    found = read_file("a.yaml", "# moeplan: gpu=hf_abcdefghijklmnop\n" + DEPLOYMENT.replace(old, new, 1))
    assert found.recognised
    assert "abcdefghijklmnop" not in repr(found)


def test_config_maps_of_the_text_are_known() -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {M: org/name}\n---\n"
    text = DEPLOYMENT.replace("Qwen/Qwen3-30B-A3B", "$(M)") + "        envFrom: [{configMapRef: {name: c}}]\n"
    (deployed,) = read_file("a.yaml", config + text).deployments
    assert deployed.command[-1].text == "org/name"
    listed = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: c}\n  data: {M: x/y}\n---\n"
    (deployed,) = read_file("a.yaml", listed + text).deployments
    assert deployed.command[-1].text == "x/y"


def test_variables_of_the_env_file_beside_compose(here: Path) -> None:
    compose = (
        "services:\n  a:\n    image: vllm/vllm-openai:v0.23.0\n    command: --model ${MODEL} --max-model-len ${LEN}\n"
    )
    (here / "compose.yaml").write_text(compose)
    (here / ".env").write_text("# x\nMODEL='org/name'\nexport LEN=4096 # tokens\n")
    (file,) = read_paths(["compose.yaml"])
    assert [word.text for word in file.deployments[0].command][-4:] == [
        "--model",
        "org/name",
        "--max-model-len",
        "4096",
    ]
    (file,) = read_paths(["compose.yaml"], {"LEN": Quote("8192", Spot(1))})
    assert file.deployments[0].command[-1].text == "8192"


def test_places_lie_inside_the_file_where_yaml_folds_lines() -> None:
    folded = """        command: [/bin/sh, -c]
        args:
        - >-
          vllm serve org/name
          --tensor-parallel-size 2
          --max-model-len 4096
"""
    text = DEPLOYMENT.replace("        args: [--model, Qwen/Qwen3-30B-A3B]\n", folded)
    (deployed,) = read_file("a.yaml", text).deployments
    lines = text.split("\n")
    for word in deployed.command:
        assert lines[word.spot.line - 1].startswith(word.text, word.spot.column - 1), word
    assert [word.spot.line for word in deployed.command] == [14, 14, 14, 15, 15, 16, 16]


# Folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_no_file_stops_the_others(here: Path) -> None:
    (here / "a.yaml").write_text(DEPLOYMENT)
    (here / "b.yaml").write_bytes(b"\x00")
    (here / "c.yaml").write_text("image: vllm/vllm-openai\nargs: [")
    (here / "d.sh").write_text("vllm serve org/name\n")
    (here / "e.yaml").write_text("on: push\n")
    files = read_paths(["."])
    assert [file.path for file in files] == ["a.yaml", "b.yaml", "c.yaml", "d.sh", "e.yaml"]
    assert [codes(file) for file in files] == [[], ["file-binary"], ["file-broken"], [], []]
    assert [len(file.deployments) for file in files] == [1, 0, 0, 1, 0]
    assert [file.path for file in files if not file.recognised] == ["b.yaml", "e.yaml"]


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no such file"):
        read_paths(["/nowhere/at/all"])


def test_a_hundred_files_take_little_time(here: Path) -> None:
    for number in range(100):
        (here / f"{number}.yaml").write_text(DEPLOYMENT)
        (here / f"x{number}.yaml").write_text("name: CI\non: push\n")
    read_file("a.yaml", DEPLOYMENT)  # the readers are loaded
    start = time.process_time()
    assert sum(len(file.deployments) for file in read_paths(["."])) == 100
    assert time.process_time() - start < 3
